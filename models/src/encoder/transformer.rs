//! What the frozen encoders have in common: pre-norm blocks and a last norm (models.md section 1.1).

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::layer::block::{Block, BlockConfig};
use crate::layer::layer_norm::LayerNorm;
use crate::layer::rope::Rope;
use crate::{Error, Result};

/// Sizes of the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// Width `D` of a token.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads; they share the width evenly.
    pub heads: usize,
    /// Width of the hidden layer of the perceptrons.
    pub hidden: usize,
    /// Epsilon of the layer norms.
    pub epsilon: f64,
    /// Whether the branches of a block are scaled per channel before they are added (`LayerScale`).
    pub layer_scale: bool,
}

impl TransformerConfig {
    /// Blocks four times as wide inside, with heads of 64 channels, as all released encoders but one.
    pub(super) const fn released(
        width: usize,
        depth: usize,
        epsilon: f64,
        layer_scale: bool,
    ) -> Self {
        Self {
            width,
            depth,
            heads: width / 64,
            hidden: 4 * width,
            epsilon,
            layer_scale,
        }
    }

    /// Width of a head.
    pub(super) fn head(&self) -> usize {
        self.width / self.heads
    }

    /// Refuses sizes that make no encoder; `others` are sizes besides those of the blocks.
    pub(super) fn check(&self, others: &[usize]) -> Result<()> {
        let sizes = [self.width, self.depth, self.heads, self.hidden];
        let all_there = sizes.iter().chain(others).all(|size| *size > 0);
        if all_there && self.width.is_multiple_of(self.heads) {
            return Ok(());
        }
        Err(Error::Shape {
            what: "sizes of the encoder",
            expected: "at least 1 each, and a width that the heads share evenly".into(),
            actual: format!(
                "width {}, depth {}, heads {}, hidden {}, others {others:?}",
                self.width, self.depth, self.heads, self.hidden
            ),
        })
    }

    pub(super) fn blocks(&self, device: &Device) -> Vec<Block> {
        let block = BlockConfig {
            width: self.width,
            heads: self.heads,
            hidden: self.hidden,
            epsilon: self.epsilon,
            layer_scale: self.layer_scale,
        };
        (0..self.depth).map(|_| block.init(device)).collect()
    }

    pub(super) fn norm(&self, device: &Device) -> LayerNorm {
        LayerNorm::new(self.width, self.epsilon, device)
    }
}

/// Tokens through the blocks and the last norm.
///
/// # Shapes
/// - input and output: `[B, L, D]`
pub(super) fn run(
    blocks: &[Block],
    norm: &LayerNorm,
    tokens: Tensor<3>,
    rope: Option<&Rope>,
) -> Tensor<3> {
    let tokens = blocks
        .iter()
        .fold(tokens, |x, block| block.forward(x, rope, None));
    norm.forward(tokens)
}

/// Rows and columns of patches of images `[B, 3, h, w]`.
pub(super) fn grid_of(images: &Tensor<4>, patch: usize) -> [usize; 2] {
    let [_, _, height, width] = images.dims();
    [height / patch, width / patch]
}
