//! V-JEPA 2 (arXiv 2506.09985) as an image encoder; models.md sections 1.5 and 1.6.
//!
//! As V-JEPA, with a rotary code of frame, row and column in every block instead of the position table. An image
//! is one moment, so the frame is 0 and only rows and columns turn.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::naming::{Naming, load};
use super::transformer::{TransformerConfig, grid_of, run};
use super::vjepa::Section;
use super::{EncoderShape, FrameEncoder, GridCache};
use crate::layer::block::Block;
use crate::layer::layer_norm::LayerNorm;
use crate::layer::patch_embedding::TubeletEmbedding;
use crate::layer::rope::{Position, Rope, Variant};
use crate::weights::Checkpoint;
use crate::weights::read_out::weights_of;
use crate::{Error, Result};

/// Sizes of a [`Vjepa2`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vjepa2Config {
    /// The blocks.
    pub transformer: TransformerConfig,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Frames of a patch.
    pub tubelet: usize,
    /// Side of the images that it is used with, in pixels.
    pub image: usize,
    /// Side of the grid whose positions are 0, 1, 2, ..; those of another grid are scaled to it.
    pub rope_grid: usize,
    /// Which frequencies the position code has.
    pub rope: Variant,
    /// Which encoder of the file.
    pub section: Section,
}

impl Vjepa2Config {
    /// A released size.
    pub const fn released(transformer: TransformerConfig) -> Self {
        Self {
            transformer,
            patch: 16,
            tubelet: 2,
            image: 256,
            rope_grid: 16,
            rope: Variant::VjepaCompat,
            section: Section::Encoder,
        }
    }

    /// The largest one, whose perceptrons are not four times as wide.
    pub const GIANT: Self = Self::released(TransformerConfig {
        hidden: 6144,
        ..TransformerConfig::released(1408, 40, 1e-6, false)
    });

    fn init(&self, device: &Device) -> Net {
        let width = self.transformer.width;
        Net {
            patch_embed: TubeletEmbedding::new(width, self.tubelet, self.patch, device),
            blocks: self.transformer.blocks(device),
            norm: self.transformer.norm(device),
        }
    }

    /// Numbers of the encoder in its file that are used: the whole kernel, no position table.
    pub(super) fn parameters(&self, device: &Device) -> usize {
        self.init(device).num_params()
    }
}

/// Names of the authors, and of `HuggingFace` (`facebook/vjepa2-*`), after [`Section::of`].
const NAMINGS: &[Naming] = &[
    Naming {
        rows: &[],
        // Of the same code with a position table; nothing reads it when positions are rotary.
        ignored: &["pos_embed"],
    },
    Naming {
        rows: &[
            ("patch_embed.proj.", "embeddings.patch_embeddings.proj."),
            ("blocks.#.attn.qkv.", "layer.#.attention.{query,key,value}."),
            ("blocks.#.attn.proj.", "layer.#.attention.proj."),
            ("blocks.#.", "layer.#."),
            ("norm.", "layernorm."),
        ],
        ignored: &[],
    },
];

/// Fields are called as in the file of the authors.
#[derive(Module, Debug)]
struct Net {
    patch_embed: TubeletEmbedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

/// A V-JEPA 2 with its weights.
#[derive(Debug)]
pub(crate) struct Vjepa2 {
    config: Vjepa2Config,
    net: Net,
    ropes: GridCache<Rope>,
}

impl Vjepa2 {
    /// # Errors
    /// [`Error::Keys`] when `weights` are not those of such a model; [`Error::Shape`] for heads too narrow for
    /// the position code.
    pub(crate) fn load(config: Vjepa2Config, weights: Checkpoint, device: &Device) -> Result<Self> {
        config
            .transformer
            .check(&[config.patch, config.tubelet, config.rope_grid])?;
        if config.transformer.head() < 12 {
            return Err(Error::Shape {
                what: "width of a head of the encoder",
                expected: "at least 12".into(),
                actual: config.transformer.head().to_string(),
            });
        }
        let weights = config.section.of(weights)?;
        Ok(Self {
            config,
            net: load("vjepa2", config.init(device), weights, NAMINGS)?,
            ropes: GridCache::default(),
        })
    }

    /// The position code of a grid of patches.
    fn rope(&self, [rows, columns]: [usize; 2]) -> Rope {
        let place = |index: usize, count: usize| {
            Some(index as f64 * self.config.rope_grid as f64 / count as f64)
        };
        let position = |patch: usize| Position {
            frame: Some(0.0),
            row: place(patch / columns, rows),
            column: place(patch % columns, columns),
        };
        let positions: Vec<Position> = (0..rows * columns).map(position).collect();
        Rope::frames_and_grid(&positions, self.config.transformer.head(), self.config.rope)
    }
}

impl FrameEncoder for Vjepa2 {
    fn shape(&self) -> EncoderShape {
        EncoderShape {
            width: self.config.transformer.width,
            patch: self.config.patch,
            image: self.config.image,
            prefix: 0,
        }
    }

    fn weights(&self) -> Checkpoint {
        weights_of(&self.net)
    }

    fn all_tokens(&self, images: Tensor<4>) -> Tensor<3> {
        let rope = self
            .ropes
            .get(grid_of(&images, self.config.patch), |grid| self.rope(grid));
        let tokens = self.net.patch_embed.forward(images);
        run(&self.net.blocks, &self.net.norm, tokens, Some(&rope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::check::testing::{folder, torch};

    #[test]
    fn places_of_another_grid_are_scaled_to_that_of_the_code() {
        let weights = torch(&folder("encoder_vjepa2").join("vitl.pt")).unwrap();
        let transformer = TransformerConfig {
            heads: 2,
            ..TransformerConfig::released(48, 2, 1e-6, false)
        };
        let config = Vjepa2Config::released(transformer);
        let encoder = Vjepa2::load(config, weights, &Device::flex()).unwrap();
        let (fine, coarse) = (encoder.rope([32, 32]), encoder.rope([16, 16]));
        let at = |rope: &Rope, row: usize, column: usize, columns: usize| {
            let first = (row * columns + column) * rope.head;
            rope.sines[first..first + rope.head].to_vec()
        };
        // Row 6 and column 10 of 32 lie where row 3 and column 5 of 16 do.
        assert_eq!(at(&fine, 6, 10, 32), at(&coarse, 3, 5, 16));
        assert_ne!(at(&fine, 3, 5, 32), at(&coarse, 3, 5, 16));
    }

    #[test]
    fn heads_too_narrow_for_the_code_are_refused() {
        let transformer = TransformerConfig {
            heads: 8,
            ..TransformerConfig::released(64, 1, 1e-6, false)
        };
        let config = Vjepa2Config::released(transformer);
        let error = Vjepa2::load(config, Checkpoint::default(), &Device::flex()).unwrap_err();
        assert!(error.to_string().contains("at least 12, got 8"), "{error}");
    }
}
