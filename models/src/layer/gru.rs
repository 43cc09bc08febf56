//! A gated recurrent unit as in `PyTorch`: gates in the order reset, update, new, and two biases.
//!
//! ```text
//! r = sigmoid(W_ir x + b_ir + W_hr h + b_hr);   z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
//! n = tanh(W_in x + b_in + r (W_hn h + b_hn));  h' = (1 - z) n + z h        arXiv 1406.1078
//! ```

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};

/// One step of the recurrence.
///
/// # Shapes
/// - input `[B, inputs]`, hidden state and output `[B, D]`
#[derive(Module, Debug)]
pub(crate) struct GruCell {
    /// `W_i*` and `b_i*`, the three gates side by side.
    input: Linear,
    /// `W_h*` and `b_h*`.
    hidden: Linear,
}

impl GruCell {
    pub(crate) fn new(inputs: usize, width: usize, device: &Device) -> Self {
        Self {
            input: LinearConfig::new(inputs, 3 * width).init(device),
            hidden: LinearConfig::new(width, 3 * width).init(device),
        }
    }

    pub(crate) fn forward(&self, input: Tensor<2>, hidden: Tensor<2>) -> Tensor<2> {
        let width = hidden.dims()[1];
        let from_input = self.input.forward(input);
        let from_hidden = self.hidden.forward(hidden.clone());
        let gate = |all: &Tensor<2>, index: usize| {
            all.clone().slice_dim(1, index * width..(index + 1) * width)
        };
        let sigmoid = |i| activation::sigmoid(gate(&from_input, i) + gate(&from_hidden, i));
        let (reset, update) = (sigmoid(0), sigmoid(1));
        let new = (gate(&from_input, 2) + reset * gate(&from_hidden, 2)).tanh();
        // (1 - z) n + z h with one product less.
        new.clone() + update * (hidden - new)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;

    use super::*;

    #[test]
    fn one_step_worked_out_by_hand() {
        let device = Device::flex();
        let mut cell = GruCell::new(1, 1, &device);
        let matrix = |row: [f32; 3]| Param::from_tensor(Tensor::<2>::from_floats([row], &device));
        let vector = |row: [f32; 3]| Param::from_tensor(Tensor::<1>::from_floats(row, &device));
        cell.input.weight = matrix([1.0, 0.0, 2.0]);
        cell.input.bias = Some(vector([0.0, 1.0, 0.5]));
        cell.hidden.weight = matrix([0.0, 0.0, 1.0]);
        cell.hidden.bias = Some(vector([-1.0, 0.0, 3.0]));
        let one = || Tensor::<2>::ones([1, 1], &device);
        let output: f32 = cell.forward(one(), one() * 2.0).into_scalar();
        // r = sigmoid(1 - 1) = 0.5, z = sigmoid(1), n = tanh(2 + 0.5 + 0.5 * (2 + 3)) = tanh(5).
        let (z, n) = (1.0 / (1.0 + (-1f64).exp()), 5f64.tanh());
        let expected = (1.0 - z) * n + z * 2.0;
        assert!(
            (f64::from(output) - expected).abs() < 1e-6,
            "{output} {expected}"
        );
    }
}
