//! GELU in its exact form: `x * 0.5 * (1 + erf(x / sqrt 2))` (arXiv 1606.08415). The tanh form differs by about
//! 1e-3 and is used by none of the models here.
//!
//! The back end calls `erf` number by number, which takes 24 times as long as `PyTorch`'s GELU (burn.md section 2).
//! Here value and derivative come from one polynomial ([`super::elementary`]). The forward pass leaves the derivative
//! in the memory of its input when nothing else needs that, so the backward pass is one product.

mod kernel;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients as GradientStore;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::flat::{floats, floats_mut, own, tensor};
use crate::device::has_fused_operations;

/// GELU of every element, of any shape.
pub(crate) fn gelu<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    if !has_fused_operations(&input.device()) {
        return plain(input);
    }
    Tensor::from_dispatch(<Dispatch as GeluOps>::exact_gelu(input.into_dispatch()))
}

/// [`gelu`], made of the back end's own operation.
pub(crate) fn plain<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    burn::tensor::activation::gelu(input)
}

/// Operations that the CPU back end runs as one.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait GeluOps: Backend {
    /// See [`gelu`].
    fn exact_gelu(input: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl GeluOps for Flex {
    fn exact_gelu(input: FloatTensor<Self>) -> FloatTensor<Self> {
        let mut values = own(input);
        kernel::values(floats_mut(&mut values));
        values
    }
}

/// Backward pass; its state is the derivative.
#[derive(Debug)]
struct GeluBackward;

impl Backward<Flex, 1> for GeluBackward {
    type State = FlexTensor;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut GradientStore,
        _checkpointer: &mut Checkpointer,
    ) {
        let [input] = ops.parents;
        let mut grad = own(grads.consume::<Flex>(&ops.node));
        if let Some(node) = input {
            kernel::multiply(floats_mut(&mut grad), floats(&ops.state));
            grads.register::<Flex>(node.id, grad);
        }
    }
}

impl<C: CheckpointStrategy> GeluOps for Autodiff<Flex, C> {
    fn exact_gelu(input: FloatTensor<Self>) -> FloatTensor<Self> {
        let (input, node) = input.into_parts();
        match GeluBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let shape = input.shape();
                let mut derivative = own(input);
                let values = kernel::values_and_derivatives(floats_mut(&mut derivative));
                prep.finish(derivative, tensor(values, shape))
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::exact_gelu(input)),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Tolerance};

    use super::*;

    #[test]
    fn the_fused_gelu_equals_the_plain_one_in_values_and_gradients() {
        let device = Device::flex().autodiff();
        device.seed(3);
        let normal = Distribution::Normal(0.0, 2.0);
        let input = Tensor::<3>::random([3, 37, 400], normal, &device).require_grad();
        // A view that is not contiguous: its memory must stay as it is.
        let turned = || input.clone().swap_dims(1, 2);
        let (fused, reference) = (gelu(turned()), plain(turned()));
        // The plain one multiplies the rounded 1 + erf by x: 1e-7 of |x|, here up to 10.
        let tolerance = Tolerance::<f32>::absolute(2e-6);
        fused
            .to_data()
            .assert_approx_eq::<f32>(&reference.to_data(), tolerance);
        let direction = Tensor::<3>::random(fused.dims(), normal, &device);
        let of_fused = (fused * direction.clone()).sum().backward();
        let of_plain = (reference * direction).sum().backward();
        let grad = |grads| input.grad(grads).unwrap().into_data();
        let tolerance = Tolerance::<f32>::absolute(5e-6);
        grad(&of_fused).assert_approx_eq::<f32>(&grad(&of_plain), tolerance);
    }

    #[test]
    fn a_shared_input_keeps_its_numbers() {
        let device = Device::flex().autodiff();
        let numbers = [-1.0f32, 0.5, 2.0];
        let leaf = Tensor::<1>::from_floats(numbers, &device).require_grad();
        let input = leaf.clone() * 1.0;
        let kept = input.clone();
        let output = gelu(input);
        assert_eq!(kept.into_data().try_to_vec::<f32>().unwrap(), numbers);
        // Both uses of the leaf count: gelu'(0.5) = Phi(0.5) + 0.5 phi(0.5) = 0.691462 + 0.176033, and 1.
        let grads = (output + leaf.clone()).sum().backward();
        let grad = leaf
            .grad(&grads)
            .unwrap()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        assert!((grad[1] - 1.867_495).abs() < 1e-5, "{grad:?}");
        assert_eq!(leaf.into_data().try_to_vec::<f32>().unwrap(), numbers);
    }

    #[test]
    fn without_gradients_it_is_the_same_function() {
        let device = Device::flex();
        let input = Tensor::<1>::from_floats([-3.0, -0.1, 0.0, 0.1, 3.0], &device);
        let tracked = Tensor::<1>::from_data(input.to_data(), &device.autodiff()).require_grad();
        let with = gelu(tracked);
        assert_eq!(gelu(input).into_data(), with.into_data());
    }
}
