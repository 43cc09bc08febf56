//! Convolution, group norm and ReLU as one operation.
//!
//! Stock autodiff spends most of a small encoder's training step in the convolution's backward pass
//! and in the ten operations of a composed group norm. Here both passes are written by hand
//! ([`kernel`]); [`plain`] is the same block made of the back end's own operations, used on other
//! back ends and as the reference in tests.

#[cfg(target_arch = "x86_64")]
mod direct;
#[cfg(not(target_arch = "x86_64"))]
#[path = "no_direct.rs"]
mod direct;
mod kernel;
mod patches;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients as GradientStore;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor, TensorData, activation};
use burn_flex::FlexTensor;

use crate::device::has_fused_operations;
use kernel::{BlockShape, BlockWeights};

/// Sizes of a [`ConvNorm`] block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvNormConfig {
    pub channels: usize,
    pub filters: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub groups: usize,
}

impl ConvNormConfig {
    /// The block with the back end's default weights.
    pub(crate) fn init(&self, device: &Device) -> ConvNorm {
        let conv = Conv2dConfig::new([self.channels, self.filters], [self.kernel; 2])
            .with_stride([self.stride; 2])
            .with_padding(PaddingConfig2d::Explicit(
                self.padding,
                self.padding,
                self.padding,
                self.padding,
            ))
            .with_bias(true);
        ConvNorm {
            conv: conv.init(device),
            norm: GroupNormConfig::new(self.groups, self.filters)
                .with_epsilon(EPSILON)
                .init(device),
        }
    }
}

/// Added to the variance of the group norm (`PyTorch`'s default).
const EPSILON: f64 = 1e-5;

/// A strided convolution with bias, group norm and ReLU.
///
/// # Shapes
/// - input `[B, C, H, W]`, output `[B, filters, h, w]` with `h = (H + 2 padding - kernel) / stride + 1`
#[derive(Module, Debug)]
pub(crate) struct ConvNorm {
    conv: Conv2d,
    norm: GroupNorm,
}

impl ConvNorm {
    /// The block, fused on the CPU back end.
    pub(crate) fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        if !has_fused_operations(&input.device()) {
            return self.plain(input);
        }
        let [filters] = self.conv.bias.as_ref().map_or([0], |b| b.val().dims());
        let (Some(bias), Some(gamma), Some(beta)) =
            (&self.conv.bias, &self.norm.gamma, &self.norm.beta)
        else {
            return self.plain(input);
        };
        let geometry = Geometry {
            stride: self.conv.stride[0],
            padding: self.padding(),
            groups: self.norm.num_groups,
        };
        debug_assert_eq!(gamma.val().dims(), [filters]);
        Tensor::from_dispatch(<Dispatch as FusedOps>::conv_norm_relu(
            input.into_dispatch(),
            self.conv.weight.val().into_dispatch(),
            bias.val().into_dispatch(),
            gamma.val().into_dispatch(),
            beta.val().into_dispatch(),
            geometry,
        ))
    }

    /// The same block made of the back end's own operations.
    pub(crate) fn plain(&self, input: Tensor<4>) -> Tensor<4> {
        activation::relu(self.norm.forward(self.conv.forward(input)))
    }

    fn padding(&self) -> usize {
        match self.conv.padding {
            PaddingConfig2d::Explicit(top, ..) => top,
            _ => 0,
        }
    }
}

/// The part of a block's sizes that its tensors do not show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    stride: usize,
    padding: usize,
    groups: usize,
}

/// Operations that the CPU back end runs as one.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait FusedOps: Backend {
    /// Convolution, group norm and ReLU; see [`ConvNorm`].
    fn conv_norm_relu(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;
}

/// The tensors of a block in contiguous memory.
#[derive(Debug, Clone)]
struct Saved {
    input: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    gamma: FlexTensor,
    beta: FlexTensor,
    geometry: Geometry,
    normed: Option<FlexTensor>,
    inverse_std: Option<FlexTensor>,
}

impl Saved {
    fn shape(&self) -> BlockShape {
        let input = self.input.shape();
        let weight = self.weight.shape();
        BlockShape {
            channels: input[1],
            height: input[2],
            width: input[3],
            filters: weight[0],
            kernel: weight[2],
            stride: self.geometry.stride,
            padding: self.geometry.padding,
            groups: self.geometry.groups,
            epsilon: EPSILON as f32,
        }
    }

    fn weights(&self) -> BlockWeights<'_> {
        BlockWeights {
            weight: floats(&self.weight),
            bias: floats(&self.bias),
            gamma: floats(&self.gamma),
            beta: floats(&self.beta),
        }
    }

    /// Runs the block and keeps what the backward pass needs.
    fn forward(&mut self) -> FlexTensor {
        let shape = self.shape();
        let batch = self.input.shape()[0];
        let result = kernel::forward(&shape, floats(&self.input), self.weights());
        let dims = [batch, shape.filters, shape.out_height(), shape.out_width()];
        self.normed = Some(tensor(result.normed, dims));
        self.inverse_std = Some(tensor(result.inverse_std, [batch, shape.groups]));
        tensor(result.output, dims)
    }
}

fn floats(tensor: &FlexTensor) -> &[f32] {
    let values = tensor.as_slice::<f32>();
    assert!(
        values.is_some(),
        "a contiguous f32 tensor of shape {:?}",
        tensor.shape()
    );
    values.unwrap_or_default()
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

impl FusedOps for Flex {
    fn conv_norm_relu(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        saved(&input, &weight, &bias, &gamma, &beta, geometry).forward()
    }
}

fn saved(
    input: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    gamma: &FlexTensor,
    beta: &FlexTensor,
    geometry: Geometry,
) -> Saved {
    Saved {
        input: input.to_contiguous(),
        weight: weight.to_contiguous(),
        bias: bias.to_contiguous(),
        gamma: gamma.to_contiguous(),
        beta: beta.to_contiguous(),
        geometry,
        normed: None,
        inverse_std: None,
    }
}

/// Backward pass of the fused block.
#[derive(Debug)]
struct ConvNormBackward;

impl Backward<Flex, 5> for ConvNormBackward {
    type State = Saved;

    fn backward(
        self,
        ops: Ops<Self::State, 5>,
        grads: &mut GradientStore,
        _checkpointer: &mut Checkpointer,
    ) {
        let [input, weight, bias, gamma, beta] = ops.parents;
        let output_grad = grads.consume::<Flex>(&ops.node).to_contiguous();
        let saved = ops.state;
        let shape = saved.shape();
        let (Some(normed), Some(inverse_std)) = (&saved.normed, &saved.inverse_std) else {
            unreachable!("the forward pass ran before the backward pass");
        };
        let result = kernel::backward(
            &shape,
            floats(&saved.input),
            saved.weights(),
            floats(normed),
            floats(inverse_std),
            floats(&output_grad),
            input.is_some(),
        );
        let patch = [shape.filters, shape.channels, shape.kernel, shape.kernel];
        if let (Some(node), Some(values)) = (input, result.input) {
            let batch = saved.input.shape()[0];
            let dims = [batch, shape.channels, shape.height, shape.width];
            grads.register::<Flex>(node.id, tensor(values, dims));
        }
        if let Some(node) = weight {
            grads.register::<Flex>(node.id, tensor(result.weight, patch));
        }
        for (node, values) in [
            (bias, result.bias),
            (gamma, result.gamma),
            (beta, result.beta),
        ] {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(values, [shape.filters]));
            }
        }
    }
}

impl<C: CheckpointStrategy> FusedOps for Autodiff<Flex, C> {
    fn conv_norm_relu(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let nodes = [
            input.node(),
            weight.node(),
            bias.node(),
            gamma.node(),
            beta.node(),
        ];
        let mut state = saved(
            &input.into_parts().0,
            &weight.into_parts().0,
            &bias.into_parts().0,
            &gamma.into_parts().0,
            &beta.into_parts().0,
            geometry,
        );
        match ConvNormBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let output = state.forward();
                prep.finish(state, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(state.forward()),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tolerance;

    use super::*;

    /// Fused and plain block on the same weights: outputs and all gradients.
    fn compare(config: ConvNormConfig, batch: usize, height: usize, width: usize) {
        let device = Device::flex().autodiff();
        device.seed(5);
        let block = config.init(&device);
        let dims = [batch, config.channels, height, width];
        let input =
            Tensor::<4>::random(dims, burn::tensor::Distribution::Normal(0.0, 1.0), &device)
                .require_grad();
        let (fused, plain) = (block.forward(input.clone()), block.plain(input.clone()));
        let tolerance = Tolerance::<f32>::absolute(2e-4).set_relative(2e-4);
        fused
            .to_data()
            .assert_approx_eq::<f32>(&plain.to_data(), tolerance);
        let direction = Tensor::<4>::random(
            fused.dims(),
            burn::tensor::Distribution::Normal(0.0, 1.0),
            &device,
        );
        let of_fused = (fused * direction.clone()).sum().backward();
        let of_plain = (plain * direction).sum().backward();
        let close = |a: Option<TensorData>, b: Option<TensorData>| {
            a.unwrap().assert_approx_eq::<f32>(&b.unwrap(), tolerance);
        };
        close(
            input.grad(&of_fused).map(Tensor::into_data),
            input.grad(&of_plain).map(Tensor::into_data),
        );
        let weight = block.conv.weight.val();
        close(
            weight.grad(&of_fused).map(Tensor::into_data),
            weight.grad(&of_plain).map(Tensor::into_data),
        );
        for parameter in [&block.conv.bias, &block.norm.gamma, &block.norm.beta] {
            let value = parameter.as_ref().unwrap().val();
            close(
                value.grad(&of_fused).map(Tensor::into_data),
                value.grad(&of_plain).map(Tensor::into_data),
            );
        }
    }

    #[test]
    fn the_fused_block_equals_the_plain_one_in_values_and_gradients() {
        let config = ConvNormConfig {
            channels: 3,
            filters: 8,
            kernel: 4,
            stride: 2,
            padding: 1,
            groups: 4,
        };
        compare(config, 11, 17, 13);
    }

    #[test]
    fn a_wide_kernel_with_stride_four_is_the_same_too() {
        let config = ConvNormConfig {
            channels: 3,
            filters: 16,
            kernel: 8,
            stride: 4,
            padding: 2,
            groups: 4,
        };
        compare(config, 3, 33, 33);
    }

    #[test]
    fn an_input_that_needs_no_gradient_gets_none() {
        let device = Device::flex().autodiff();
        let config = ConvNormConfig {
            channels: 1,
            filters: 4,
            kernel: 4,
            stride: 2,
            padding: 1,
            groups: 4,
        };
        let block = config.init(&device);
        let input = Tensor::<4>::ones([2, 1, 8, 8], &device);
        let grads = block.forward(input.clone()).sum().backward();
        assert!(input.grad(&grads).is_none());
        assert!(block.conv.weight.val().grad(&grads).is_some());
    }
}
