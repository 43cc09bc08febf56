//! Perceptrons with ReLU between their layers, one network or a batch of independent ones.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};

/// Sizes of an [`Mlp`] or a [`BatchedMlp`]: inputs, hidden widths, outputs.
#[derive(Debug, Clone)]
pub(crate) struct MlpConfig {
    pub widths: Vec<usize>,
}

impl MlpConfig {
    pub(crate) fn init(&self, device: &Device) -> Mlp {
        let layers = self
            .widths
            .windows(2)
            .map(|w| LinearConfig::new(w[0], w[1]).init(device));
        Mlp {
            layers: layers.collect(),
        }
    }

    /// `copies` networks that share nothing.
    pub(crate) fn init_batch(&self, copies: usize, device: &Device) -> BatchedMlp {
        let layers = self.widths.windows(2).map(|w| BatchedLinear {
            weight: Param::from_tensor(Tensor::zeros([copies, w[0], w[1]], device)),
            bias: Param::from_tensor(Tensor::zeros([copies, 1, w[1]], device)),
        });
        BatchedMlp {
            layers: layers.collect(),
        }
    }
}

/// Linear layers with ReLU between them and none after the last.
///
/// # Shapes
/// - input `[B, inputs]`, output `[B, outputs]`
#[derive(Module, Debug)]
pub(crate) struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    pub(crate) fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let last = self.layers.len() - 1;
        self.layers.iter().enumerate().fold(input, |x, (i, layer)| {
            let y = layer.forward(x);
            if i < last { activation::relu(y) } else { y }
        })
    }
}

/// `E` perceptrons of the same sizes, run as one batched product.
///
/// # Shapes
/// - input `[E, B, inputs]`, output `[E, B, outputs]`
#[derive(Module, Debug)]
pub(crate) struct BatchedMlp {
    layers: Vec<BatchedLinear>,
}

/// One layer of every network: weight `[E, inputs, outputs]`, bias `[E, 1, outputs]`.
#[derive(Module, Debug)]
struct BatchedLinear {
    weight: Param<Tensor<3>>,
    bias: Param<Tensor<3>>,
}

impl BatchedMlp {
    pub(crate) fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let last = self.layers.len() - 1;
        self.layers.iter().enumerate().fold(input, |x, (i, layer)| {
            let y = x.matmul(layer.weight.val()) + layer.bias.val();
            if i < last { activation::relu(y) } else { y }
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tolerance;

    use super::*;
    use crate::layer::init::initialise;

    #[test]
    fn a_batch_of_networks_computes_what_each_would_alone() {
        let device = Device::flex();
        let config = MlpConfig {
            widths: vec![3, 8, 2],
        };
        let batch = initialise(config.init_batch(2, &device), 5);
        let random = burn::tensor::Distribution::Normal(0.0, 1.0);
        let input = Tensor::<3>::random([2, 4, 3], random, &device);
        let together = batch.forward(input.clone());
        for member in 0..2 {
            let of = |t: Tensor<3>| t.narrow(0, member, 1).squeeze_dim::<2>(0);
            let mut x = of(input.clone());
            for (i, layer) in batch.layers.iter().enumerate() {
                x = x.matmul(of(layer.weight.val())) + of(layer.bias.val());
                if i == 0 {
                    x = activation::relu(x);
                }
            }
            let alone = of(together.clone()).into_data();
            alone.assert_approx_eq::<f32>(&x.into_data(), Tolerance::absolute(1e-6));
        }
    }
}
