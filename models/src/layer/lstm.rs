//! A long short-term memory cell as in `PyTorch`: gates in the order input, forget, cell, output, and two biases.
//!
//! ```text
//! i, f, o = sigmoid(W x + b + U h + d);   g = tanh(..);   c' = f c + i g;   h' = o tanh(c')
//! ```

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};

/// Hidden state and memory, `[B, D]` each.
#[derive(Debug, Clone)]
pub(crate) struct LstmState {
    pub hidden: Tensor<2>,
    cell: Tensor<2>,
}

/// One step of the recurrence.
///
/// # Shapes
/// - input `[B, inputs]`; state `[B, D]` twice
#[derive(Module, Debug)]
pub(crate) struct LstmCell {
    /// The four gates side by side.
    input: Linear,
    hidden: Linear,
}

impl LstmCell {
    pub(crate) fn new(inputs: usize, width: usize, device: &Device) -> Self {
        Self {
            input: LinearConfig::new(inputs, 4 * width).init(device),
            hidden: LinearConfig::new(width, 4 * width).init(device),
        }
    }

    /// The state before the first step.
    pub(crate) fn start(&self, batch: usize, device: &Device) -> LstmState {
        let [width, _] = self.hidden.weight.lazy_shape().dims();
        let zeros = Tensor::zeros([batch, width], device);
        LstmState {
            hidden: zeros.clone(),
            cell: zeros,
        }
    }

    pub(crate) fn forward(&self, input: Tensor<2>, state: LstmState) -> LstmState {
        let width = state.cell.dims()[1];
        let gates = self.input.forward(input) + self.hidden.forward(state.hidden);
        let gate = |index: usize| {
            gates
                .clone()
                .slice_dim(1, index * width..(index + 1) * width)
        };
        let sigmoid = |index| activation::sigmoid(gate(index));
        let cell = sigmoid(1) * state.cell + sigmoid(0) * gate(2).tanh();
        LstmState {
            hidden: sigmoid(3) * cell.clone().tanh(),
            cell,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;

    use super::*;

    #[test]
    fn two_steps_worked_out_by_hand() {
        let device = Device::flex();
        let mut cell = LstmCell::new(1, 1, &device);
        let matrix = |row: [f32; 4]| Param::from_tensor(Tensor::<2>::from_floats([row], &device));
        let vector = |row: [f32; 4]| Param::from_tensor(Tensor::<1>::from_floats(row, &device));
        cell.input.weight = matrix([1.0, 0.0, 2.0, 0.5]);
        cell.input.bias = Some(vector([0.0, 1.0, 0.0, 0.0]));
        cell.hidden.weight = matrix([0.0, 0.0, 1.0, 0.0]);
        cell.hidden.bias = Some(vector([0.0, 0.0, 0.5, 0.0]));
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let step = |x: f64, (h, c): (f64, f64)| {
            let memory = sigmoid(1.0) * c + sigmoid(x) * (2.0 * x + h + 0.5).tanh();
            (sigmoid(0.5 * x) * memory.tanh(), memory)
        };
        let expected = step(-0.4, step(0.7, (0.0, 0.0)));
        let input = |x: f32| Tensor::<2>::from_floats([[x]], &device);
        let state = cell.forward(input(0.7), cell.start(1, &device));
        let state = cell.forward(input(-0.4), state);
        let found = |x: Tensor<2>| f64::from(x.into_scalar::<f32>());
        assert!((found(state.hidden) - expected.0).abs() < 1e-6);
        assert!((found(state.cell) - expected.1).abs() < 1e-6);
    }
}
