//! Residual connection whose branch is gated per frame (models.md section 2.4).
//!
//! ```text
//! y = x + gate * branch
//! ```
//!
//! Composed of a product and a sum with broadcast it takes two passes over memory forward and five backward; here it
//! is one each.

mod kernel;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients as GradientStore;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::flat::{floats, tensor};
use crate::device::has_fused_operations;

/// `skip + gate * branch`.
///
/// # Shapes
/// - `skip`, `branch`, output: `[B, T N, D]`; `gate`: `[B, T, D]`, one per frame
pub(crate) fn gated_sum(skip: Tensor<3>, gate: Tensor<3>, branch: Tensor<3>) -> Tensor<3> {
    assert_eq!(skip.dims(), branch.dims(), "the branch is like its input");
    let ([batch, tokens, width], [frames_of, frames, channels]) = (skip.dims(), gate.dims());
    assert!(
        [batch, width] == [frames_of, channels] && tokens.is_multiple_of(frames),
        "gates {:?} of tokens {:?}",
        gate.dims(),
        skip.dims()
    );
    if !has_fused_operations(&skip.device()) {
        return plain(skip, gate, branch);
    }
    Tensor::from_dispatch(<Dispatch as GateOps>::gated_sum(
        skip.into_dispatch(),
        gate.into_dispatch(),
        branch.into_dispatch(),
    ))
}

/// [`gated_sum`], made of the back end's own operations.
pub(crate) fn plain(skip: Tensor<3>, gate: Tensor<3>, branch: Tensor<3>) -> Tensor<3> {
    let ([batch, tokens, width], frames) = (skip.dims(), gate.dims()[1]);
    let of_frames = branch.reshape([batch, frames, tokens / frames, width]);
    let gated = of_frames * gate.reshape([batch, frames, 1, width]);
    skip + gated.reshape([batch, tokens, width])
}

/// Operations that the CPU back end runs as one.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait GateOps: Backend {
    /// See [`gated_sum`].
    fn gated_sum(
        skip: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        branch: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// Gate and branch in contiguous memory.
#[derive(Debug, Clone)]
struct Saved {
    gate: FlexTensor,
    branch: FlexTensor,
}

impl Saved {
    /// Width, and rows per gate.
    fn sizes(&self) -> (usize, usize) {
        let (gate, branch) = (self.gate.shape(), self.branch.shape());
        (gate[2], branch[1] / gate[1])
    }

    fn forward(&self, skip: &FlexTensor) -> FlexTensor {
        let (width, rows) = self.sizes();
        let skip = skip.to_contiguous();
        let [gate, branch] = [&self.gate, &self.branch].map(floats);
        let output = kernel::forward(width, rows, floats(&skip), gate, branch);
        tensor(output, skip.shape())
    }
}

impl GateOps for Flex {
    fn gated_sum(
        skip: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        branch: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [gate, branch] = [gate, branch].map(|x| x.to_contiguous());
        Saved { gate, branch }.forward(&skip)
    }
}

/// Backward pass of the gated sum.
#[derive(Debug)]
struct GateBackward;

impl Backward<Flex, 3> for GateBackward {
    type State = Saved;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut GradientStore,
        _checkpointer: &mut Checkpointer,
    ) {
        let [skip, gate, branch] = ops.parents;
        let grad = grads.consume::<Flex>(&ops.node).to_contiguous();
        let saved = ops.state;
        let (width, rows) = saved.sizes();
        if gate.is_some() || branch.is_some() {
            let operands = [&saved.gate, &saved.branch].map(floats);
            let (of_gate, of_branch) =
                kernel::backward(width, rows, operands[0], operands[1], floats(&grad));
            if let Some(node) = gate {
                grads.register::<Flex>(node.id, tensor(of_gate, saved.gate.shape()));
            }
            if let Some(node) = branch {
                grads.register::<Flex>(node.id, tensor(of_branch, saved.branch.shape()));
            }
        }
        if let Some(node) = skip {
            grads.register::<Flex>(node.id, grad);
        }
    }
}

impl<C: CheckpointStrategy> GateOps for Autodiff<Flex, C> {
    fn gated_sum(
        skip: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        branch: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [skip.node(), gate.node(), branch.node()];
        let skip = skip.into_primitive();
        let [gate, branch] = [gate, branch].map(|x| x.into_primitive().to_contiguous());
        let saved = Saved { gate, branch };
        let output = saved.forward(&skip);
        match GateBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(saved, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn the_gated_sum_equals_the_plain_one_in_values_and_gradients() {
        let device = Device::flex().autodiff();
        device.seed(13);
        let random = |dims: [usize; 3]| {
            Tensor::<3>::random(dims, Distribution::Normal(0.0, 1.0), &device).require_grad()
        };
        let (skip, gate, branch) = (random([2, 35, 19]), random([2, 5, 19]), random([2, 35, 19]));
        let fused = gated_sum(skip.clone(), gate.clone(), branch.clone());
        let reference = plain(skip.clone(), gate.clone(), branch.clone());
        // One rounding less, and sums of seven products in another order.
        let close = |what: &str, fused: Tensor<3>, plain: Tensor<3>| {
            let difference = (fused - plain).abs().max().into_scalar::<f32>();
            assert!(difference <= 2e-6, "{what}: {difference}");
        };
        close("output", fused.clone().inner(), reference.clone().inner());
        let direction = random([2, 35, 19]).detach();
        let of_fused = (fused * direction.clone()).sum().backward();
        let of_plain = (reference * direction).sum().backward();
        for (what, of) in [("skip", skip), ("gate", gate), ("branch", branch)] {
            close(
                what,
                of.grad(&of_fused).unwrap(),
                of.grad(&of_plain).unwrap(),
            );
        }
    }
}
