//! Layer norm over the last dimension, with its scale and shift or without, and modulated per frame.
//!
//! ```text
//! y = (x - mean) / sqrt(var + eps) * gamma + beta        var divides by n
//! ```
//!
//! Stock autodiff composes it of ten operations, which takes five times as long as `PyTorch` (burn.md section 2). Here
//! both passes are written by hand ([`kernel`]): each reads and writes its rows once.

mod kernel;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients as GradientStore;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, module};
use burn_flex::FlexTensor;

use super::flat::{floats, floats_mut, own, tensor};
use crate::device::has_fused_operations;
use kernel::{Affine, GroupSums, Groups, RowStatistics};

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
        fused(input, self.gamma.val(), self.beta.val(), self.epsilon)
    }

    /// The norm, then shifted and scaled by the action of each token's frame (models.md section 2.4):
    /// `forward(x) * (1 + scale) + shift`.
    ///
    /// # Shapes
    /// - input and output: `[B, T N, D]`; `shift`, `scale`: `[B, T, D]`, one per frame
    pub(crate) fn modulated(
        &self,
        input: Tensor<3>,
        shift: Tensor<3>,
        scale: Tensor<3>,
    ) -> Tensor<3> {
        assert_eq!(
            shift.dims(),
            scale.dims(),
            "one shift and one scale per frame"
        );
        let ([batch, tokens, width], [frames_of, frames, _]) = (input.dims(), shift.dims());
        assert!(
            batch == frames_of && tokens.is_multiple_of(frames),
            "{tokens} tokens of {frames} frames, {batch} and {frames_of} times"
        );
        assert_eq!(shift.dims()[2], width, "a shift for every channel");
        if !has_fused_operations(&input.device()) {
            return plain_modulated(self, input, shift, scale);
        }
        Tensor::from_dispatch(<Dispatch as NormOps>::modulated_norm(
            input.into_dispatch(),
            self.gamma.val().into_dispatch(),
            self.beta.val().into_dispatch(),
            shift.into_dispatch(),
            scale.into_dispatch(),
            self.epsilon,
        ))
    }
}

/// Layer norm without parameters (models.md sections 1.7 and 7.2).
pub(crate) fn plain_norm<const D: usize>(input: Tensor<D>, epsilon: f64) -> Tensor<D> {
    let (width, device) = (input.dims()[D - 1], input.device());
    let gamma = Tensor::<1>::ones([width], &device);
    let beta = Tensor::<1>::zeros([width], &device);
    fused(input, gamma, beta, epsilon)
}

fn fused<const D: usize>(
    input: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    assert_eq!(input.dims()[D - 1], gamma.dims()[0], "width of the norm");
    if !has_fused_operations(&input.device()) {
        return module::layer_norm(input, gamma, Some(beta), epsilon);
    }
    Tensor::from_dispatch(<Dispatch as NormOps>::norm(
        input.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        epsilon,
    ))
}

/// [`LayerNorm::forward`], made of the back end's own operation.
fn plain<const D: usize>(norm: &LayerNorm, input: Tensor<D>) -> Tensor<D> {
    module::layer_norm(input, norm.gamma.val(), Some(norm.beta.val()), norm.epsilon)
}

/// [`LayerNorm::modulated`] of it.
fn plain_modulated(
    norm: &LayerNorm,
    input: Tensor<3>,
    shift: Tensor<3>,
    scale: Tensor<3>,
) -> Tensor<3> {
    let ([batch, tokens, width], frames) = (input.dims(), shift.dims()[1]);
    let of_frames = plain(norm, input).reshape([batch, frames, tokens / frames, width]);
    let per_frame = |x: Tensor<3>| x.reshape([batch, frames, 1, width]);
    (of_frames * (per_frame(scale) + 1.0) + per_frame(shift)).reshape([batch, tokens, width])
}

/// Operations that the CPU back end runs as one.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait NormOps: Backend {
    /// See [`LayerNorm::forward`].
    fn norm(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;

    /// See [`LayerNorm::modulated`].
    fn modulated_norm(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;
}

/// Rows of a plain norm that are summed together; a fixed number, so that sums do not depend on threads.
const ROWS: usize = 64;

/// Tensors in contiguous memory, and what the forward pass found out.
#[derive(Debug, Clone)]
struct Saved {
    input: FlexTensor,
    gamma: FlexTensor,
    beta: FlexTensor,
    /// Shift and scale of every frame.
    modulation: Option<[FlexTensor; 2]>,
    groups: Groups,
    statistics: Vec<RowStatistics>,
}

impl Saved {
    fn new(
        input: &FlexTensor,
        gamma: &FlexTensor,
        beta: &FlexTensor,
        modulation: Option<[&FlexTensor; 2]>,
        epsilon: f64,
    ) -> Self {
        let width = gamma.shape()[0];
        let rows = match modulation {
            Some([shift, _]) => input.shape()[1] / shift.shape()[1],
            None => ROWS,
        };
        Self {
            input: input.to_contiguous(),
            gamma: gamma.to_contiguous(),
            beta: beta.to_contiguous(),
            modulation: modulation.map(|both| both.map(FlexTensor::to_contiguous)),
            groups: Groups {
                width,
                rows,
                epsilon: epsilon as f32,
            },
            statistics: Vec::new(),
        }
    }

    /// Scale and shift of all groups together: `gamma (1 + scale)` and `beta (1 + scale) + shift`.
    fn affine(&self) -> [Vec<f32>; 2] {
        let (gamma, beta) = (floats(&self.gamma), floats(&self.beta));
        let Some([shift, scale]) = &self.modulation else {
            return [gamma.to_vec(), beta.to_vec()];
        };
        let (shift, scale) = (floats(shift), floats(scale));
        let each = scale.iter().zip(gamma.iter().zip(beta).cycle());
        let scales = each
            .clone()
            .map(|(scale, (gamma, _))| gamma * (1.0 + scale));
        let shifts = each
            .zip(shift)
            .map(|((scale, (_, beta)), shift)| beta * (1.0 + scale) + shift);
        [scales.collect(), shifts.collect()]
    }

    fn forward(&mut self) -> FlexTensor {
        let [scale, shift] = self.affine();
        let affine = Affine {
            scale: &scale,
            shift: &shift,
        };
        let (output, statistics) = kernel::forward(self.groups, floats(&self.input), affine);
        self.statistics = statistics;
        tensor(output, self.input.shape())
    }

    /// Turns the gradient of the output into that of the input; returns the sums of the groups.
    fn backward(&self, grad: &mut FlexTensor) -> GroupSums {
        let [scale, shift] = self.affine();
        let affine = Affine {
            scale: &scale,
            shift: &shift,
        };
        let input = floats(&self.input);
        kernel::backward(
            self.groups,
            input,
            &self.statistics,
            affine,
            floats_mut(grad),
        )
    }

    /// Gradients of `gamma` and `beta`: sums over the groups, in their order.
    fn parameter_gradients(&self, sums: &GroupSums) -> [Vec<f32>; 2] {
        let width = self.groups.width;
        let scale = self.modulation.as_ref().map(|[_, scale]| floats(scale));
        [&sums.scale, &sums.shift].map(|rows| {
            let mut total = vec![0.0; width];
            for (group, row) in rows.chunks_exact(width).enumerate() {
                let scale = scale.map(|scale| &scale[group * width..][..width]);
                for (i, (total, value)) in total.iter_mut().zip(row).enumerate() {
                    *total += value * (1.0 + scale.map_or(0.0, |scale| scale[i]));
                }
            }
            total
        })
    }

    /// Gradient of the scale of every frame.
    fn scale_gradient(&self, sums: &GroupSums) -> Vec<f32> {
        let parameters = floats(&self.gamma).iter().zip(floats(&self.beta)).cycle();
        let of_groups = sums.scale.iter().zip(&sums.shift).zip(parameters);
        of_groups
            .map(|((along, plain), (gamma, beta))| gamma * along + beta * plain)
            .collect()
    }
}

impl NormOps for Flex {
    fn norm(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        Saved::new(&input, &gamma, &beta, None, epsilon).forward()
    }

    fn modulated_norm(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let modulation = Some([&shift, &scale]);
        Saved::new(&input, &gamma, &beta, modulation, epsilon).forward()
    }
}

/// Backward pass of the norm.
#[derive(Debug)]
struct NormBackward;

impl Backward<Flex, 3> for NormBackward {
    type State = Saved;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut GradientStore,
        _checkpointer: &mut Checkpointer,
    ) {
        let [input, gamma, beta] = ops.parents;
        let mut grad = own(grads.consume::<Flex>(&ops.node));
        let saved = ops.state;
        let sums = saved.backward(&mut grad);
        let [of_gamma, of_beta] = saved.parameter_gradients(&sums);
        if let Some(node) = input {
            grads.register::<Flex>(node.id, grad);
        }
        for (node, values) in [(gamma, of_gamma), (beta, of_beta)] {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(values, [saved.groups.width]));
            }
        }
    }
}

/// Backward pass of the modulated norm.
#[derive(Debug)]
struct ModulatedBackward;

impl Backward<Flex, 5> for ModulatedBackward {
    type State = Saved;

    fn backward(
        self,
        ops: Ops<Self::State, 5>,
        grads: &mut GradientStore,
        _checkpointer: &mut Checkpointer,
    ) {
        let [input, gamma, beta, shift, scale] = ops.parents;
        let mut grad = own(grads.consume::<Flex>(&ops.node));
        let saved = ops.state;
        let sums = saved.backward(&mut grad);
        let [of_gamma, of_beta] = saved.parameter_gradients(&sums);
        let of_scale = saved.scale_gradient(&sums);
        if let Some(node) = input {
            grads.register::<Flex>(node.id, grad);
        }
        for (node, values) in [(gamma, of_gamma), (beta, of_beta)] {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(values, [saved.groups.width]));
            }
        }
        let Some([frames, _]) = &saved.modulation else {
            unreachable!("a modulated norm saves its modulation");
        };
        for (node, values) in [(shift, sums.shift), (scale, of_scale)] {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(values, frames.shape()));
            }
        }
    }
}

impl<C: CheckpointStrategy> NormOps for Autodiff<Flex, C> {
    fn norm(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), gamma.node(), beta.node()];
        let [input, gamma, beta] = [input, gamma, beta].map(<FloatTensor<Self>>::into_primitive);
        let mut saved = Saved::new(&input, &gamma, &beta, None, epsilon);
        match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let output = saved.forward();
                prep.finish(saved, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(saved.forward()),
        }
    }

    fn modulated_norm(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let parts = [input, gamma, beta, shift, scale];
        let nodes = parts.each_ref().map(<FloatTensor<Self>>::node);
        let [input, gamma, beta, shift, scale] = parts.map(<FloatTensor<Self>>::into_primitive);
        let mut saved = Saved::new(&input, &gamma, &beta, Some([&shift, &scale]), epsilon);
        match ModulatedBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let output = saved.forward();
                prep.finish(saved, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(saved.forward()),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Gradients, Tolerance};

    use super::*;

    fn random<const D: usize>(dims: [usize; D], device: &Device) -> Tensor<D> {
        Tensor::random(dims, Distribution::Normal(0.3, 1.5), device).require_grad()
    }

    /// A norm whose scale and shift are not 1 and 0.
    fn norm(width: usize, device: &Device) -> LayerNorm {
        LayerNorm {
            gamma: Param::from_tensor(random([width], device)),
            beta: Param::from_tensor(random([width], device)),
            epsilon: 1e-6,
        }
    }

    /// Relative to the largest number: sums of up to 444 products have their rounding.
    fn close<const D: usize>(what: &str, fused: Tensor<D>, plain: Tensor<D>) {
        let largest = plain.clone().abs().max().into_scalar::<f32>();
        let difference = (fused - plain).abs().max().into_scalar::<f32>();
        assert!(
            difference <= 3e-6 * largest,
            "{what}: {difference} of {largest}"
        );
    }

    fn close_gradients<const D: usize>(
        what: &str,
        of: &Tensor<D>,
        fused: &Gradients,
        plain: &Gradients,
    ) {
        close(what, of.grad(fused).unwrap(), of.grad(plain).unwrap());
    }

    #[test]
    fn the_fused_norm_equals_the_plain_one_in_values_and_gradients() {
        let device = Device::flex().autodiff();
        device.seed(7);
        // 111 rows: more than one group, and a rest; 100 numbers: a rest of a register.
        let (norm, input) = (norm(100, &device), random([3, 37, 100], &device));
        // A view that is not contiguous.
        let view = || input.clone().swap_dims(0, 1);
        let (fused, reference) = (norm.forward(view()), plain(&norm, view()));
        close("output", fused.clone().inner(), reference.clone().inner());
        let direction = random(fused.dims(), &device).detach();
        let of_fused = (fused * direction.clone()).sum().backward();
        let of_plain = (reference * direction).sum().backward();
        close_gradients("input", &input, &of_fused, &of_plain);
        close_gradients("gamma", &norm.gamma.val(), &of_fused, &of_plain);
        close_gradients("beta", &norm.beta.val(), &of_fused, &of_plain);
    }

    #[test]
    fn the_modulated_norm_equals_the_plain_one_in_values_and_gradients() {
        let device = Device::flex().autodiff();
        device.seed(8);
        let (norm, input) = (norm(25, &device), random([2, 3 * 37, 25], &device));
        let (shift, scale) = (random([2, 3, 25], &device), random([2, 3, 25], &device));
        let fused = norm.modulated(input.clone(), shift.clone(), scale.clone());
        let reference = plain_modulated(&norm, input.clone(), shift.clone(), scale.clone());
        close("output", fused.clone().inner(), reference.clone().inner());
        let direction = random(fused.dims(), &device).detach();
        let of_fused = (fused * direction.clone()).sum().backward();
        let of_plain = (reference * direction).sum().backward();
        close_gradients("input", &input, &of_fused, &of_plain);
        close_gradients("gamma", &norm.gamma.val(), &of_fused, &of_plain);
        close_gradients("beta", &norm.beta.val(), &of_fused, &of_plain);
        close_gradients("shift", &shift, &of_fused, &of_plain);
        close_gradients("scale", &scale, &of_fused, &of_plain);
    }

    #[test]
    fn a_norm_without_parameters_passes_gradients_to_its_input_only() {
        let device = Device::flex().autodiff();
        device.seed(9);
        let input = random([5, 16], &device);
        let direction = random([5, 16], &device).detach();
        let grads = (plain_norm(input.clone(), 1e-5) * direction)
            .sum()
            .backward();
        // The norm does not see a constant added to its input, so gradients of a row sum to 0.
        let sums = input.grad(&grads).unwrap().sum_dim(1).into_data();
        sums.assert_approx_eq::<f32>(
            &Tensor::<2>::zeros([5, 1], &Device::flex()).into_data(),
            Tolerance::absolute(2e-6),
        );
    }

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
