//! `DINOv3` (arXiv 2508.10104); models.md section 1.3.
//!
//! A class token and four storage tokens before the patches, no position table: queries and keys of patches
//! are rotated by their row and column in every block. The bias of the keys is masked, which is to say zero,
//! whatever the file holds. The random rescaling of coordinates in training is left out: the encoder is frozen
//! here, and a released one was meant to be (models.md section 0, row 14).

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::naming::{Naming, load};
use super::transformer::{TransformerConfig, grid_of, run};
use super::{EncoderShape, FrameEncoder, GridCache};
use crate::layer::block::Block;
use crate::layer::layer_norm::LayerNorm;
use crate::layer::patch_embedding::PatchEmbedding;
use crate::layer::rope::Rope;
use crate::weights::read_out::weights_of;
use crate::weights::{Array, Checkpoint};
use crate::{Error, Result};

/// Sizes of a [`Dinov3`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dinov3Config {
    /// The blocks.
    pub transformer: TransformerConfig,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Side of the images that it is used with, in pixels.
    pub image: usize,
    /// Storage tokens.
    pub storage: usize,
    /// Longest period of the position code, for files that do not hold the periods.
    pub rope_base: f64,
    /// Whether the bias of the keys counts as zero, as in all released sizes.
    pub masked_key_bias: bool,
}

impl Dinov3Config {
    /// A released size.
    pub const fn released(width: usize, depth: usize) -> Self {
        Self {
            transformer: TransformerConfig::released(width, depth, 1e-5, true),
            patch: 16,
            image: 256,
            storage: 4,
            rope_base: 100.0,
            masked_key_bias: true,
        }
    }

    fn init(&self, device: &Device) -> Net {
        let width = self.transformer.width;
        let token = |count: usize| Initializer::Zeros.init([1, count, width], device);
        Net {
            cls_token: token(1),
            storage_tokens: (self.storage > 0).then(|| token(self.storage)),
            patch_embed: PatchEmbedding::new(width, self.patch, device),
            blocks: self.transformer.blocks(device),
            norm: self.transformer.norm(device),
        }
    }

    /// Numbers in a released file, without its buffers: one is the mask token, which only training uses.
    pub(super) fn parameters(&self, device: &Device) -> usize {
        self.init(device).num_params() + self.transformer.width
    }

    /// Periods of the rows and of the columns: `base^(j / (head / 4))`.
    fn periods(&self) -> Vec<f32> {
        let quarter = self.transformer.head() / 4;
        let period = |j: usize| self.rope_base.powf(j as f64 / quarter as f64) as f32;
        (0..quarter).map(period).collect()
    }
}

/// Names of the authors, and of `HuggingFace` (`facebook/dinov3-vit*`).
const NAMINGS: &[Naming] = &[
    Naming {
        rows: &[],
        ignored: &["mask_token"],
    },
    Naming {
        rows: &[
            ("cls_token", "embeddings.cls_token"),
            ("storage_tokens", "embeddings.register_tokens"),
            ("patch_embed.proj.", "embeddings.patch_embeddings."),
            (
                "blocks.#.attn.qkv.weight",
                "layer.#.attention.{q_proj,k_proj,v_proj}.weight",
            ),
            (
                "blocks.#.attn.qkv.bias",
                "layer.#.attention.{q_proj,-,v_proj}.bias",
            ),
            ("blocks.#.attn.proj.", "layer.#.attention.o_proj."),
            ("blocks.#.ls1.gamma", "layer.#.layer_scale1.lambda1"),
            ("blocks.#.ls2.gamma", "layer.#.layer_scale2.lambda1"),
            ("blocks.#.mlp.fc1.", "layer.#.mlp.up_proj."),
            ("blocks.#.mlp.fc2.", "layer.#.mlp.down_proj."),
            ("blocks.#.", "layer.#."),
        ],
        ignored: &["embeddings.mask_token"],
    },
];

/// Key of the periods in files that have them; a buffer, no parameter.
const PERIODS: &str = "rope_embed.periods";

/// Fields are called as in the file of the authors.
#[derive(Module, Debug)]
struct Net {
    cls_token: Param<Tensor<3>>,
    storage_tokens: Option<Param<Tensor<3>>>,
    patch_embed: PatchEmbedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

/// A `DINOv3` with its weights.
#[derive(Debug)]
pub(crate) struct Dinov3 {
    config: Dinov3Config,
    net: Net,
    periods: Vec<f32>,
    ropes: GridCache<Rope>,
}

impl Dinov3 {
    /// # Errors
    /// [`Error::Keys`] when `weights` are not those of such a model; [`Error::Shape`] for heads that rows and
    /// columns cannot share.
    pub(crate) fn load(
        config: Dinov3Config,
        mut weights: Checkpoint,
        device: &Device,
    ) -> Result<Self> {
        config.transformer.check(&[config.patch])?;
        let head = config.transformer.head();
        if !head.is_multiple_of(4) {
            return Err(Error::Shape {
                what: "width of a head of the encoder",
                expected: "a multiple of 4".into(),
                actual: head.to_string(),
            });
        }
        let periods = take_periods(&config, &mut weights)?;
        if config.masked_key_bias {
            mask_key_bias(&mut weights)?;
        }
        Ok(Self {
            config,
            net: load("dinov3", config.init(device), weights, NAMINGS)?,
            periods,
            ropes: GridCache::default(),
        })
    }

    /// The position code of the tokens before the patches and of a grid of patches.
    pub(crate) fn rope(&self, [rows, columns]: [usize; 2]) -> Rope {
        let prefix = 1 + self.config.storage;
        let head = self.config.transformer.head();
        Rope::axial(prefix, rows, columns, head, &self.periods)
    }
}

/// The periods of the file, which may be rounded ones, or those of the configuration.
fn take_periods(config: &Dinov3Config, weights: &mut Checkpoint) -> Result<Vec<f32>> {
    let ours = config.periods();
    let Some(array) = weights.remove(PERIODS) else {
        return Ok(ours);
    };
    if array.shape == [ours.len()] {
        return Ok(array.values);
    }
    Err(Error::Keys {
        name: "dinov3".into(),
        missing: Vec::new(),
        unexpected: Vec::new(),
        shapes: vec![format!(
            "{PERIODS}: {:?} in the file, [{}] in the model",
            array.shape,
            ours.len()
        )],
    })
}

/// Zeroes the middle third of every packed bias, and takes out the masks that say so.
fn mask_key_bias(weights: &mut Checkpoint) -> Result<()> {
    let is_bias = |key: &&str| key.ends_with(".attn.qkv.bias");
    let keys: Vec<String> = weights.keys().filter(is_bias).map(str::to_string).collect();
    for key in keys {
        let Some(mut bias) = weights.remove(&key) else {
            continue;
        };
        let third = bias.values.len() / 3;
        bias.values[third..2 * third].fill(0.0);
        let mask_key = format!("{key}_mask");
        if let Some(mask) = weights.remove(&mask_key) {
            let expected =
                (0..bias.values.len()).map(|i| if i / third.max(1) == 1 { 0.0 } else { 1.0 });
            if !mask.values.iter().copied().eq(expected) {
                return Err(Error::Weights {
                    name: mask_key,
                    detail: "does not mask the bias of the keys, and nothing else".into(),
                });
            }
        }
        weights.insert(&key, bias);
    }
    Ok(())
}

impl FrameEncoder for Dinov3 {
    fn shape(&self) -> EncoderShape {
        EncoderShape {
            width: self.config.transformer.width,
            patch: self.config.patch,
            image: self.config.image,
            prefix: 1 + self.config.storage,
        }
    }

    fn weights(&self) -> Checkpoint {
        let mut weights = weights_of(&self.net);
        let periods = Array {
            shape: vec![self.periods.len()],
            values: self.periods.clone(),
        };
        weights.insert(PERIODS, periods);
        weights
    }

    fn all_tokens(&self, images: Tensor<4>) -> Tensor<3> {
        let net = &self.net;
        let batch = images.dims()[0];
        let rope = self
            .ropes
            .get(grid_of(&images, self.config.patch), |grid| self.rope(grid));
        let mut tokens = vec![net.cls_token.val().repeat_dim(0, batch)];
        tokens.extend(
            net.storage_tokens
                .as_ref()
                .map(|s| s.val().repeat_dim(0, batch)),
        );
        tokens.push(net.patch_embed.forward(images));
        run(&net.blocks, &net.norm, Tensor::cat(tokens, 1), Some(&rope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Array;

    #[test]
    fn periods_are_those_of_the_reference() {
        // models.md section 1.3.
        let expected = [
            1.0, 1.3335, 1.7783, 2.3714, 3.1623, 4.2170, 5.6234, 7.4989, 10.0, 13.3352, 17.7828,
            23.7137, 31.6228, 42.1697, 56.2341, 74.9894,
        ];
        let periods = Dinov3Config::released(384, 12).periods();
        assert_eq!(periods.len(), expected.len());
        for (period, expected) in periods.iter().zip(expected) {
            assert!((period - expected).abs() < 6e-5, "{periods:?}");
        }
    }

    fn biases(mask: &[f32]) -> Checkpoint {
        let mut weights = Checkpoint::default();
        let array = |values: &[f32]| Array::new(vec![values.len()], values.to_vec()).unwrap();
        weights.insert(
            "blocks.0.attn.qkv.bias",
            array(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        );
        weights.insert("blocks.0.attn.proj.bias", array(&[7.0, 8.0, 9.0]));
        weights.insert("blocks.0.attn.qkv.bias_mask", array(mask));
        weights
    }

    #[test]
    fn the_bias_of_the_keys_is_zero_and_the_mask_is_gone() {
        let mut weights = biases(&[1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
        mask_key_bias(&mut weights).unwrap();
        assert_eq!(
            weights.get("blocks.0.attn.qkv.bias").unwrap().values,
            [1.0, 2.0, 0.0, 0.0, 5.0, 6.0]
        );
        assert_eq!(
            weights.get("blocks.0.attn.proj.bias").unwrap().values,
            [7.0, 8.0, 9.0]
        );
        assert_eq!(weights.keys().count(), 2);
    }

    #[test]
    fn another_mask_is_refused() {
        for mask in [[1.0, 1.0, 1.0, 0.0, 1.0, 1.0], [0.0; 6], [f32::NAN; 6]] {
            let error = mask_key_bias(&mut biases(&mask)).unwrap_err();
            assert!(
                error.to_string().contains("blocks.0.attn.qkv.bias_mask"),
                "{error}"
            );
        }
    }
}
