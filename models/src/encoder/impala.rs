//! The Impala encoder (arXiv 1802.01561) that eb_jepa and PLDM's Wall model train from pixels (models.md section
//! 7.4).
//!
//! Stacks of convolution, max pooling and residual blocks, then one linear layer and a layer norm. The norm is
//! open to the predictor, which passes its output through the same one.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor, activation, module};
use serde::{Deserialize, Serialize};

use crate::layer::layer_norm::LayerNorm;

/// Sizes of an Impala encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImpalaConfig {
    /// Channels of the images.
    pub channels: usize,
    /// Channels of every stack, first to last.
    pub stacks: Vec<usize>,
    /// Residual blocks of a stack.
    pub blocks: usize,
    /// Width `D` of the latent.
    pub latent: usize,
    /// Added to the variance of the layer norm.
    pub norm_epsilon: f64,
}

impl Default for ImpalaConfig {
    fn default() -> Self {
        Self {
            channels: 2,
            stacks: vec![16, 32, 32],
            blocks: 2,
            latent: 512,
            norm_epsilon: 1e-5,
        }
    }
}

impl ImpalaConfig {
    /// An encoder for `height x width` images.
    pub(crate) fn init(&self, height: usize, width: usize, device: &Device) -> Impala {
        let inputs = std::iter::once(self.channels).chain(self.stacks.iter().copied());
        let stacks = inputs.zip(&self.stacks);
        let stacks =
            stacks.map(|(channels, filters)| Stack::new(channels, *filters, self.blocks, device));
        let stacks: Vec<Stack> = stacks.collect();
        // A pooling of size 3, stride 2 and padding 1 halves and rounds up.
        let halved = |side: usize| self.stacks.iter().fold(side, |side, _| side.div_ceil(2));
        let channels = self.stacks.last().copied().unwrap_or(self.channels);
        let flat = channels * halved(height) * halved(width);
        Impala {
            stacks,
            project: LinearConfig::new(flat, self.latent).init(device),
            norm: LayerNorm::new(self.latent, self.norm_epsilon, device),
        }
    }
}

/// Images to latents.
///
/// # Shapes
/// - input `[n, C, h, w]`, output `[n, D]`
#[derive(Module, Debug)]
pub(crate) struct Impala {
    stacks: Vec<Stack>,
    project: Linear,
    /// The norm of the output.
    pub norm: LayerNorm,
}

impl Impala {
    pub(crate) fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let features = self.stacks.iter().fold(images, |x, stack| stack.forward(x));
        let flat = activation::relu(features).flatten(1, 3);
        self.norm.forward(self.project.forward(flat))
    }
}

#[derive(Module, Debug)]
struct Stack {
    first: Conv2d,
    blocks: Vec<Residual>,
}

impl Stack {
    fn new(channels: usize, filters: usize, blocks: usize, device: &Device) -> Self {
        let block = |_| Residual {
            conv1: same_size(filters, filters, device),
            conv2: same_size(filters, filters, device),
        };
        Self {
            first: same_size(channels, filters, device),
            blocks: (0..blocks).map(block).collect(),
        }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let options = MaxPoolOptions::new([3, 3])
            .with_stride([2, 2])
            .with_padding([1, 1]);
        let pooled = module::max_pool2d(self.first.forward(input), options);
        self.blocks.iter().fold(pooled, |x, block| block.forward(x))
    }
}

/// `relu(x + conv2(relu(conv1(x))))`
#[derive(Module, Debug)]
struct Residual {
    conv1: Conv2d,
    conv2: Conv2d,
}

impl Residual {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let inner = activation::relu(self.conv1.forward(input.clone()));
        activation::relu(input + self.conv2.forward(inner))
    }
}

/// A 3x3 convolution that keeps the size of its input.
fn same_size(channels: usize, filters: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new([channels, filters], [3, 3])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_rooms_encoder_has_the_documented_parameters() {
        // models.md section 7.4.
        let encoder = ImpalaConfig::default().init(65, 65, &Device::flex());
        assert_eq!(encoder.num_params(), 1_426_096);
    }

    #[test]
    fn odd_and_even_images_meet_the_linear_layer() {
        let device = Device::flex();
        let config = ImpalaConfig {
            stacks: vec![2, 3],
            blocks: 1,
            latent: 4,
            ..ImpalaConfig::default()
        };
        for (height, width) in [(9, 12), (8, 7)] {
            let latent = config
                .init(height, width, &device)
                .forward(Tensor::zeros([2, 2, height, width], &device));
            assert_eq!(latent.dims(), [2, 4]);
        }
    }
}
