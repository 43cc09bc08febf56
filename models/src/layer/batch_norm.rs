//! Batch norm over the rows of a matrix.
//!
//! ```text
//! y = (x - mean) / sqrt(var + eps) * gamma + beta        arXiv 1502.03167
//! ```
//!
//! While the layer learns, `mean` and `var` (divided by `n`) are those of the batch, and the running
//! statistics move towards them (the running variance divides by `n - 1`, as in `PyTorch`); otherwise they
//! are the running ones. A layer learns where its parameters ask for gradients. burn's layer keeps its newest statistics aside until the next forward pass, so a
//! checkpoint would miss one step; here they are in place as soon as the forward pass has run.

use burn::module::{Module, Param, RunningState};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

/// Share of the newest batch in the running statistics (`PyTorch`'s default).
const MOMENTUM: f64 = 0.1;

/// # Shapes
/// - input and output: `[n, width]`; `n >= 2` while training
#[derive(Module, Debug)]
pub(crate) struct BatchNorm {
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
    running_mean: RunningState<Tensor<1>>,
    running_var: RunningState<Tensor<1>>,
    epsilon: f64,
}

impl BatchNorm {
    pub(crate) fn new(width: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            gamma: Initializer::Ones.init([width], device),
            beta: Initializer::Zeros.init([width], device),
            running_mean: RunningState::new(Tensor::zeros([width], device)),
            running_var: RunningState::new(Tensor::ones([width], device)),
            epsilon,
        }
    }

    pub(crate) fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let (centred, variance) = if self.gamma.val().is_require_grad() {
            self.by_batch(input)
        } else {
            let variance = self.running_var.value().unsqueeze();
            (input - self.running_mean.value().unsqueeze(), variance)
        };
        let normed = centred / (variance + self.epsilon).sqrt();
        normed * self.gamma.val().unsqueeze() + self.beta.val().unsqueeze()
    }

    /// The input without its mean, and its variance `[1, width]`; both enter the running statistics.
    fn by_batch(&self, input: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let count = input.dims()[0] as f64;
        let mean = input.clone().mean_dim(0);
        let centred = input - mean.clone();
        let variance = centred.clone().square().mean_dim(0);
        follow(&self.running_mean, mean.detach());
        follow(
            &self.running_var,
            variance.clone().detach() * (count / (count - 1.0)),
        );
        (centred, variance)
    }
}

/// Moves a running statistic towards the batch's, `[1, width]`.
fn follow(running: &RunningState<Tensor<1>>, batch: Tensor<2>) {
    let old = running.value_sync();
    running.update((old * (1.0 - MOMENTUM) + batch.squeeze_dim::<1>(0) * MOMENTUM).detach());
    running.value_sync();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn training_uses_the_batch_and_inference_what_has_been_seen() {
        let device = Device::flex();
        let layer = BatchNorm::new(1, 0.0, &device.clone().autodiff());
        let batch = Tensor::<2>::from_floats([[1.0], [3.0]], &device.clone().autodiff());
        // Mean 2, variance 1 (divided by 2).
        assert_eq!(values(layer.forward(batch)), [-1.0, 1.0]);
        // Running mean 0.9 * 0 + 0.1 * 2; running variance 0.9 * 1 + 0.1 * 2 (divided by 1).
        let input = Tensor::<2>::from_floats([[1.248_808_8]], &device);
        let output = values(layer.valid().forward(input));
        assert!(
            (output[0] - 1.048_808_8 / 1.1f32.sqrt()).abs() < 1e-6,
            "{output:?}"
        );
    }

    #[test]
    fn running_statistics_are_in_place_without_another_forward_pass() {
        let device = Device::flex().autodiff();
        let layer = BatchNorm::new(1, 1e-5, &device);
        layer.forward(Tensor::<2>::from_floats([[1.0], [3.0]], &device));
        assert_eq!(values(layer.running_mean.value()), [0.2]);
        assert_eq!(values(layer.running_var.value()), [1.1]);
    }
}
