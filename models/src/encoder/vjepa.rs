//! V-JEPA (arXiv 2404.08471) as an image encoder; models.md section 1.4.
//!
//! Every image is a video of equal frames, so the kernel of the patches is summed over its frames. The learned
//! position table covers 16 frames of 224 pixels; whatever the images, it is resized from that grid, as in the
//! released world models (whose code means to change the base grid and does not).

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::naming::{Naming, load};
use super::position_table::trilinear;
use super::transformer::{TransformerConfig, grid_of, run};
use super::{EncoderShape, FrameEncoder, GridCache};
use crate::layer::block::Block;
use crate::layer::layer_norm::LayerNorm;
use crate::layer::patch_embedding::TubeletEmbedding;
use crate::weights::Checkpoint;
use crate::weights::read_out::weights_of;
use crate::{Error, Result};

/// Which of the two encoders of a training file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// The one that was trained by gradients; the released world models use it.
    #[default]
    Encoder,
    /// Its moving average.
    TargetEncoder,
}

impl Section {
    /// Its entry in the file.
    pub fn key(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::TargetEncoder => "target_encoder",
        }
    }

    /// This encoder of a file, without the wrappers of its keys. A file that is one encoder is taken as it is.
    ///
    /// # Errors
    /// [`Error::Weights`] for a file of several parts without this one.
    pub(super) fn of(self, weights: Checkpoint) -> Result<Checkpoint> {
        let part = |key: &str| key.split('.').next().unwrap_or_default().to_string();
        if !weights.keys().any(|key| part(key) == self.key()) {
            if let Some(other) = weights
                .keys()
                .find(|key| PARTS.contains(&part(key).as_str()))
            {
                return Err(Error::Weights {
                    name: other.to_string(),
                    detail: format!(
                        "is of a file with several parts, none of which is `{}`",
                        self.key()
                    ),
                });
            }
            return Ok(weights.rename(|key| Some(without_wrapper(key).to_string())));
        }
        Ok(weights.rename(|key| match key.split_once('.') {
            Some((first, rest)) if first == self.key() => Some(without_wrapper(rest).to_string()),
            _ if PARTS.contains(&part(key).as_str()) => None,
            _ => Some(key.to_string()),
        }))
    }
}

/// Parts of a training file; those that are not asked for are left out.
const PARTS: &[&str] = &[
    "encoder",
    "target_encoder",
    "predictor",
    "opt",
    "scaler",
    "epoch",
    "loss",
    "lr",
];

/// A key without what data-parallel training and the multi-mask wrapper put before it.
fn without_wrapper(key: &str) -> &str {
    let key = key.strip_prefix("module.").unwrap_or(key);
    key.strip_prefix("backbone.").unwrap_or(key)
}

/// Sizes of a [`Vjepa`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VjepaConfig {
    /// The blocks.
    pub transformer: TransformerConfig,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Frames of a patch.
    pub tubelet: usize,
    /// Side of the images that it is used with, in pixels.
    pub image: usize,
    /// Frames (in tubelets), rows and columns of the stored position table.
    pub stored_grid: [usize; 3],
    /// Which encoder of the file.
    pub section: Section,
}

impl VjepaConfig {
    /// A released size.
    pub const fn released(width: usize, depth: usize) -> Self {
        Self {
            transformer: TransformerConfig::released(width, depth, 1e-6, false),
            patch: 16,
            tubelet: 2,
            image: 256,
            stored_grid: [8, 14, 14],
            section: Section::Encoder,
        }
    }

    fn init(&self, device: &Device) -> Net {
        let width = self.transformer.width;
        let positions = self.stored_grid.iter().product();
        Net {
            pos_embed: Initializer::Zeros.init([1, positions, width], device),
            patch_embed: TubeletEmbedding::new(width, self.tubelet, self.patch, device),
            blocks: self.transformer.blocks(device),
            norm: self.transformer.norm(device),
        }
    }

    /// Numbers of the encoder in its file: the whole kernel and position table.
    pub(super) fn parameters(&self, device: &Device) -> usize {
        self.init(device).num_params()
    }
}

/// Names of the authors, after [`Section::of`].
const NAMINGS: &[Naming] = &[Naming {
    rows: &[],
    ignored: &[],
}];

/// Fields are called as in the file of the authors.
#[derive(Module, Debug)]
struct Net {
    pos_embed: Param<Tensor<3>>,
    patch_embed: TubeletEmbedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

/// A V-JEPA with its weights.
#[derive(Debug)]
pub(crate) struct Vjepa {
    config: VjepaConfig,
    net: Net,
    positions: GridCache<Tensor<3>>,
}

impl Vjepa {
    /// # Errors
    /// [`Error::Keys`] when `weights` are not those of such a model.
    pub(crate) fn load(config: VjepaConfig, weights: Checkpoint, device: &Device) -> Result<Self> {
        let [frames, rows, columns] = config.stored_grid;
        config
            .transformer
            .check(&[config.patch, config.tubelet, frames, rows, columns])?;
        let weights = config.section.of(weights)?;
        Ok(Self {
            config,
            net: load("vjepa", config.init(device), weights, NAMINGS)?,
            positions: GridCache::default(),
        })
    }

    /// Positions of the patches of a grid.
    ///
    /// # Shapes
    /// - output: `[grid[0] * grid[1], D]`
    pub(crate) fn patch_positions(&self, grid: [usize; 2]) -> Vec<f32> {
        let table = self.net.pos_embed.val().into_data();
        let table: Vec<f32> = table.iter::<f32>().collect();
        trilinear(&table, self.config.stored_grid, grid)
    }
}

impl FrameEncoder for Vjepa {
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
        let device = images.device();
        let positions = self
            .positions
            .get(grid_of(&images, self.config.patch), |grid| {
                let shape = [1, grid[0] * grid[1], self.config.transformer.width];
                Tensor::from_data(TensorData::new(self.patch_positions(grid), shape), &device)
            });
        let tokens = self.net.patch_embed.forward(images) + positions.as_ref().clone();
        run(&self.net.blocks, &self.net.norm, tokens, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Array;

    fn file(keys: &[&str]) -> Checkpoint {
        let mut weights = Checkpoint::default();
        for (i, key) in keys.iter().enumerate() {
            weights.insert(key, Array::new(vec![1], vec![i as f32]).unwrap());
        }
        weights
    }

    fn keys(weights: &Checkpoint) -> Vec<&str> {
        weights.keys().collect()
    }

    #[test]
    fn a_section_is_taken_without_its_wrappers_and_the_known_rest_is_left_out() {
        let whole = file(&[
            "encoder.module.backbone.norm.weight",
            "target_encoder.backbone.norm.weight",
            "predictor.module.backbone.norm.weight",
            "opt.state.0.exp_avg",
            "surprise.weight",
        ]);
        let encoder = Section::Encoder.of(whole.clone()).unwrap();
        assert_eq!(keys(&encoder), ["norm.weight", "surprise.weight"]);
        assert!(encoder.get("norm.weight").unwrap().values[0].abs() < f32::EPSILON);
        let target = Section::TargetEncoder.of(whole).unwrap();
        assert!((target.get("norm.weight").unwrap().values[0] - 1.0).abs() < f32::EPSILON);
    }

    #[test]
    fn a_file_of_one_encoder_needs_no_section_and_one_of_others_is_refused() {
        let bare = Section::Encoder
            .of(file(&["module.norm.weight", "norm.bias"]))
            .unwrap();
        assert_eq!(keys(&bare), ["norm.bias", "norm.weight"]);
        let error = Section::TargetEncoder
            .of(file(&["encoder.norm.weight"]))
            .unwrap_err();
        assert!(error.to_string().contains("target_encoder"), "{error}");
    }
}
