//! The pre-norm transformer block of the encoders, the V-JEPA-2-AC predictor and the decoders.
//!
//! ```text
//! x = x + ls1 * attention(norm1(x));   x = x + ls2 * mlp(norm2(x))       models.md section 1.1
//! ```
//!
//! `ls1` and `ls2` (`LayerScale`) are there in the DINO encoders only.

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::attention::{Attention, FrameCausal};
use super::gelu::gelu;
use super::layer_norm::LayerNorm;
use super::linear::linear;
use super::rope::Rope;

/// Sizes of a [`Block`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockConfig {
    pub width: usize,
    pub heads: usize,
    /// Width of the hidden layer of the perceptron.
    pub hidden: usize,
    pub epsilon: f64,
    pub layer_scale: bool,
}

impl BlockConfig {
    pub(crate) fn init(&self, device: &Device) -> Block {
        let scale = || {
            self.layer_scale.then(|| LayerScale {
                gamma: Initializer::Ones.init([self.width], device),
            })
        };
        Block {
            norm1: LayerNorm::new(self.width, self.epsilon, device),
            attn: Attention::new(self.width, self.heads, device),
            ls1: scale(),
            norm2: LayerNorm::new(self.width, self.epsilon, device),
            mlp: FeedForward::new(self.width, self.hidden, device),
            ls2: scale(),
        }
    }
}

/// A scale per channel; called `gamma` in files too.
#[derive(Module, Debug)]
pub(crate) struct LayerScale {
    gamma: Param<Tensor<1>>,
}

impl LayerScale {
    fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        input * self.gamma.val().unsqueeze()
    }
}

/// Two linear layers with GELU between them.
#[derive(Module, Debug)]
pub(crate) struct FeedForward {
    fc1: Linear,
    fc2: Linear,
}

impl FeedForward {
    pub(crate) fn new(width: usize, hidden: usize, device: &Device) -> Self {
        Self {
            fc1: LinearConfig::new(width, hidden).init(device),
            fc2: LinearConfig::new(hidden, width).init(device),
        }
    }

    pub(crate) fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        linear(&self.fc2, gelu(linear(&self.fc1, input)))
    }
}

/// # Shapes
/// - input and output: `[B, L, D]`
#[derive(Module, Debug)]
pub(crate) struct Block {
    norm1: LayerNorm,
    attn: Attention,
    ls1: Option<LayerScale>,
    norm2: LayerNorm,
    mlp: FeedForward,
    ls2: Option<LayerScale>,
}

impl Block {
    pub(crate) fn forward(
        &self,
        input: Tensor<3>,
        rope: Option<&Rope>,
        mask: Option<FrameCausal>,
    ) -> Tensor<3> {
        let scale = |layer: &Option<LayerScale>, x: Tensor<3>| match layer {
            Some(layer) => layer.forward(x),
            None => x,
        };
        let attended = self
            .attn
            .forward(self.norm1.forward(input.clone()), rope, mask);
        let x = input + scale(&self.ls1, attended);
        let changed = self.mlp.forward(self.norm2.forward(x.clone()));
        x + scale(&self.ls2, changed)
    }
}
