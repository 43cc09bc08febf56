//! Layer norm over the last dimension, with its scale and shift or without.
//!
//! ```text
//! y = (x - mean) / sqrt(var + eps) * gamma + beta        var divides by n
//! ```

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, module};

/// Layer norm with scale and shift; its parameters are called `gamma` and `beta`.
#[derive(Module, Debug)]
pub(crate) struct LayerNorm {
    pub gamma: Param<Tensor<1>>,
    pub beta: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNorm {
    /// Over `width` numbers; models.md states `epsilon` for every model, and it matters.
    pub(crate) fn new(width: usize, epsilon: f64, device: &Device) -> Self {
        let ones = Initializer::Ones.init([width], device);
        let zeros = Initializer::Zeros.init([width], device);
        Self {
            gamma: ones,
            beta: zeros,
            epsilon,
        }
    }

    /// # Shapes
    /// - input and output: `[.., width]`
    pub(crate) fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        module::layer_norm(input, self.gamma.val(), Some(self.beta.val()), self.epsilon)
    }
}

/// Layer norm without parameters (models.md sections 1.7 and 7.2).
pub(crate) fn plain_norm<const D: usize>(input: Tensor<D>, epsilon: f64) -> Tensor<D> {
    let width = input.dims()[D - 1];
    let gamma = Tensor::<1>::ones([width], &input.device());
    module::layer_norm(input, gamma, None, epsilon)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_gets_mean_zero_and_variance_one_by_its_own_count() {
        let device = Device::flex();
        let input = Tensor::<2>::from_floats([[1.0, 3.0, 5.0, 7.0]], &device);
        // Mean 4, variance 5 (divided by 4): (1 - 4) / sqrt(5) = -1.3416408.
        let values = plain_norm(input.clone(), 0.0)
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        for (value, expected) in
            values
                .iter()
                .zip([-1.341_640_8, -0.447_213_6, 0.447_213_6, 1.341_640_8])
        {
            assert!((value - expected).abs() < 1e-6, "{values:?}");
        }
        // A large epsilon counts: sqrt(5 + 4) = 3.
        let values = LayerNorm::new(4, 4.0, &device).forward(input);
        let values = values.into_data().try_to_vec::<f32>().unwrap();
        assert!((values[0] + 1.0).abs() < 1e-6, "{values:?}");
    }
}
