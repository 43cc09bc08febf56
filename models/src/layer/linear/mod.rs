//! Linear layers whose gradient is one product, whatever the number of leading dimensions.
//!
//! The back end multiplies `[B, L, in]` by the weight sample by sample; its gradient of the weight is then `B` products,
//! all written out and summed. Here leading dimensions are rows, the bias is what the product is added to, and both
//! passes are written by hand.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients as GradientStore;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::flat::{floats, tensor};
use super::matrix::{Matrix, multiply_rows, product, repeated};
use crate::device::has_fused_operations;

/// `input * weight + bias` over the last dimension.
///
/// # Shapes
/// - input `[.., in]`, output `[.., out]`
pub(crate) fn linear<const D: usize>(layer: &Linear, input: Tensor<D>) -> Tensor<D> {
    if !has_fused_operations(&input.device()) {
        return layer.forward(input);
    }
    let (weight, dims) = (layer.weight.val(), input.dims());
    assert_eq!(dims[D - 1], weight.dims()[0], "inputs of the layer");
    let bias = match &layer.bias {
        Some(bias) => bias.val(),
        None => Tensor::zeros([weight.dims()[1]], &input.device()),
    };
    Tensor::from_dispatch(<Dispatch as LinearOps>::rows_times_weight(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    ))
}

/// Operations that the CPU back end runs as one.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait LinearOps: Backend {
    /// See [`linear`].
    fn rows_times_weight(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// Rows whose gradients are summed together; a fixed number, so that the sum does not depend on threads.
const ROWS: usize = 64;

/// Tensors in contiguous memory.
#[derive(Debug, Clone)]
struct Saved {
    input: FlexTensor,
    weight: FlexTensor,
}

impl Saved {
    /// Rows, inputs, outputs.
    fn sizes(&self) -> [usize; 3] {
        let weight = self.weight.shape();
        let inputs = weight[0];
        [
            self.input.shape().num_elements() / inputs,
            inputs,
            weight[1],
        ]
    }

    fn matrices(&self) -> [Matrix<'_>; 2] {
        let [rows, inputs, outputs] = self.sizes();
        [
            Matrix::row_major(floats(&self.input), rows, inputs),
            Matrix::row_major(floats(&self.weight), inputs, outputs),
        ]
    }

    fn forward(&self, bias: &FlexTensor) -> FlexTensor {
        let [rows, _, outputs] = self.sizes();
        let [input, weight] = self.matrices();
        let mut output = repeated(floats(&bias.to_contiguous()), rows);
        multiply_rows(&mut output, input, weight);
        let mut shape = self.input.shape();
        let last = shape.num_dims() - 1;
        shape[last] = outputs;
        tensor(output, shape)
    }
}

/// Sum over the rows.
fn sum_of_rows(values: &[f32], width: usize) -> Vec<f32> {
    let add = |mut total: Vec<f32>, row: &[f32]| {
        for (total, value) in total.iter_mut().zip(row) {
            *total += value;
        }
        total
    };
    let blocks: Vec<Vec<f32>> = values
        .par_chunks(ROWS * width)
        .map(|block| block.chunks_exact(width).fold(vec![0.0; width], add))
        .collect();
    let rows = blocks.iter().map(Vec::as_slice);
    rows.fold(vec![0.0; width], add)
}

impl LinearOps for Flex {
    fn rows_times_weight(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [input, weight] = [input, weight].map(|x| x.to_contiguous());
        Saved { input, weight }.forward(&bias)
    }
}

/// Backward pass of the layer.
#[derive(Debug)]
struct LinearBackward;

impl Backward<Flex, 3> for LinearBackward {
    type State = Saved;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut GradientStore,
        _checkpointer: &mut Checkpointer,
    ) {
        let [input, weight, bias] = ops.parents;
        let grad = grads.consume::<Flex>(&ops.node).to_contiguous();
        let saved = ops.state;
        let [rows, _, outputs] = saved.sizes();
        let [of_input, of_weight] = saved.matrices();
        let rows = Matrix::row_major(floats(&grad), rows, outputs);
        if let Some(node) = input {
            let values = product(rows, of_weight.transposed());
            grads.register::<Flex>(node.id, tensor(values, saved.input.shape()));
        }
        if let Some(node) = weight {
            let values = product(of_input.transposed(), rows);
            grads.register::<Flex>(node.id, tensor(values, saved.weight.shape()));
        }
        if let Some(node) = bias {
            let values = sum_of_rows(floats(&grad), outputs);
            grads.register::<Flex>(node.id, tensor(values, [outputs]));
        }
    }
}

impl<C: CheckpointStrategy> LinearOps for Autodiff<Flex, C> {
    fn rows_times_weight(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), weight.node(), bias.node()];
        let bias = bias.into_primitive();
        let [input, weight] = [input, weight].map(|x| x.into_primitive().to_contiguous());
        let saved = Saved { input, weight };
        let output = saved.forward(&bias);
        match LinearBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(saved, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, Distribution};

    use super::*;

    /// Fused and plain layer on the same numbers.
    fn compare(layer: &Linear, input: &Tensor<3>) {
        // Sums of up to 222 products in another order, relative to the largest number.
        fn close<const D: usize>(what: &str, fused: Tensor<D>, plain: Tensor<D>) {
            let largest = plain.clone().abs().max().into_scalar::<f32>();
            let difference = (fused - plain).abs().max().into_scalar::<f32>();
            assert!(
                difference <= 2e-6 * largest,
                "{what}: {difference} of {largest}"
            );
        }
        // A view that is not contiguous.
        let view = || input.clone().swap_dims(0, 1);
        let (fused, plain) = (linear(layer, view()), layer.forward(view()));
        close("output", fused.clone().inner(), plain.clone().inner());
        let normal = Distribution::Normal(0.0, 1.0);
        let direction = Tensor::<3>::random(fused.dims(), normal, &fused.device());
        let of_fused = (fused * direction.clone()).sum().backward();
        let of_plain = (plain * direction).sum().backward();
        let grad = |grads| input.grad(grads).unwrap();
        close("input", grad(&of_fused), grad(&of_plain));
        let weight = layer.weight.val();
        let grad = |grads| weight.grad(grads).unwrap();
        close("weight", grad(&of_fused), grad(&of_plain));
        if let Some(bias) = &layer.bias {
            let grad = |grads| bias.val().grad(grads).unwrap();
            close("bias", grad(&of_fused), grad(&of_plain));
        }
    }

    #[test]
    fn the_fused_layer_equals_the_plain_one_in_values_and_gradients() {
        let device = Device::flex().autodiff();
        device.seed(17);
        let normal = Distribution::Normal(0.0, 1.0);
        let input = Tensor::<3>::random([37, 6, 19], normal, &device).require_grad();
        let config = LinearConfig::new(19, 23);
        compare(&config.init(&device), &input);
        compare(&config.with_bias(false).init(&device), &input);
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let device = Device::flex().autodiff();
        device.seed(19);
        let normal = Distribution::Normal(0.0, 1.0);
        let layer = LinearConfig::new(200, 300).init(&device);
        let numbers = Tensor::<2>::random([500, 200], normal, &device).into_data();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let input = Tensor::<2>::from_data(numbers.clone(), &device).require_grad();
                let output = linear(&layer, input.clone());
                let grads = (output.clone() * output.clone()).sum().backward();
                let weight = layer.weight.val().grad(&grads).unwrap();
                let bias = layer.bias.as_ref().unwrap().val().grad(&grads).unwrap();
                let input = input.grad(&grads).unwrap();
                (
                    output.into_data(),
                    input.into_data(),
                    weight.into_data(),
                    bias.into_data(),
                )
            })
        };
        assert_eq!(run(1), run(3));
    }
}
