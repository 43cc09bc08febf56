//! `DINOv2` (arXiv 2304.07193), with and without registers (arXiv 2309.16588); models.md section 1.2.
//!
//! A class token and a learned position table, stored for 518 pixels and resized to the grid of the images.
//! Registers stand between the class token and the patches and have no position.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::naming::{Naming, load};
use super::position_table::PositionResize;
use super::transformer::{TransformerConfig, grid_of, run};
use super::{EncoderShape, FrameEncoder, GridCache};
use crate::Result;
use crate::layer::block::Block;
use crate::layer::layer_norm::LayerNorm;
use crate::layer::patch_embedding::PatchEmbedding;
use crate::weights::Checkpoint;
use crate::weights::read_out::weights_of;

/// Sizes of a [`Dinov2`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dinov2Config {
    /// The blocks.
    pub transformer: TransformerConfig,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Side of the images that it is used with, in pixels.
    pub image: usize,
    /// Side of the grid of the stored position table.
    pub stored_grid: usize,
    /// Register tokens.
    pub registers: usize,
    /// How the position table is resized.
    pub resize: PositionResize,
}

impl Dinov2Config {
    /// A released size: 0 or 4 registers, which decide how positions are resized.
    pub const fn released(width: usize, depth: usize, registers: usize) -> Self {
        Self {
            transformer: TransformerConfig::released(width, depth, 1e-6, true),
            patch: 14,
            image: 224,
            stored_grid: 37,
            registers,
            resize: PositionResize::of(registers),
        }
    }

    fn init(&self, device: &Device) -> Net {
        let width = self.transformer.width;
        let token = |count: usize| Initializer::Zeros.init([1, count, width], device);
        Net {
            cls_token: token(1),
            pos_embed: token(1 + self.stored_grid * self.stored_grid),
            register_tokens: (self.registers > 0).then(|| token(self.registers)),
            patch_embed: PatchEmbedding::new(width, self.patch, device),
            blocks: self.transformer.blocks(device),
            norm: self.transformer.norm(device),
        }
    }

    /// Numbers in a released file: one is the mask token, which only training uses.
    pub(super) fn parameters(&self, device: &Device) -> usize {
        self.init(device).num_params() + self.transformer.width
    }
}

/// Names of the authors, and of `HuggingFace` (`facebook/dinov2-*`, `dinov2-with-registers-*`).
const NAMINGS: &[Naming] = &[
    Naming {
        rows: &[],
        ignored: &["mask_token"],
    },
    Naming {
        rows: &[
            ("cls_token", "embeddings.cls_token"),
            ("pos_embed", "embeddings.position_embeddings"),
            ("register_tokens", "embeddings.register_tokens"),
            (
                "patch_embed.proj.",
                "embeddings.patch_embeddings.projection.",
            ),
            (
                "blocks.#.attn.qkv.",
                "encoder.layer.#.attention.attention.{query,key,value}.",
            ),
            (
                "blocks.#.attn.proj.",
                "encoder.layer.#.attention.output.dense.",
            ),
            ("blocks.#.ls1.gamma", "encoder.layer.#.layer_scale1.lambda1"),
            ("blocks.#.ls2.gamma", "encoder.layer.#.layer_scale2.lambda1"),
            ("blocks.#.", "encoder.layer.#."),
            ("norm.", "layernorm."),
        ],
        ignored: &["embeddings.mask_token"],
    },
];

/// Fields are called as in the file of the authors.
#[derive(Module, Debug)]
struct Net {
    cls_token: Param<Tensor<3>>,
    pos_embed: Param<Tensor<3>>,
    register_tokens: Option<Param<Tensor<3>>>,
    patch_embed: PatchEmbedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

/// A `DINOv2` with its weights.
#[derive(Debug)]
pub(crate) struct Dinov2 {
    config: Dinov2Config,
    net: Net,
    positions: GridCache<Tensor<3>>,
}

impl Dinov2 {
    /// # Errors
    /// [`crate::Error::Keys`] when `weights` are not those of such a model.
    pub(crate) fn load(config: Dinov2Config, weights: Checkpoint, device: &Device) -> Result<Self> {
        config
            .transformer
            .check(&[config.patch, config.stored_grid])?;
        Ok(Self {
            config,
            net: load("dinov2", config.init(device), weights, NAMINGS)?,
            positions: GridCache::default(),
        })
    }

    /// Positions of the patches of a grid.
    ///
    /// # Shapes
    /// - output: `[grid[0] * grid[1], D]`
    pub(crate) fn patch_positions(&self, grid: [usize; 2]) -> Vec<f32> {
        let stored = self.config.stored_grid;
        let rows = self
            .net
            .pos_embed
            .val()
            .slice_dim(1, 1..1 + stored * stored)
            .into_data();
        let rows: Vec<f32> = rows.iter::<f32>().collect();
        self.config.resize.apply(&rows, stored, grid)
    }
}

impl FrameEncoder for Dinov2 {
    fn shape(&self) -> EncoderShape {
        EncoderShape {
            width: self.config.transformer.width,
            patch: self.config.patch,
            image: self.config.image,
            prefix: 1 + self.config.registers,
        }
    }

    fn weights(&self) -> Checkpoint {
        weights_of(&self.net)
    }

    fn all_tokens(&self, images: Tensor<4>) -> Tensor<3> {
        let net = &self.net;
        let (device, batch) = (images.device(), images.dims()[0]);
        let positions = self
            .positions
            .get(grid_of(&images, self.config.patch), |grid| {
                let shape = [1, grid[0] * grid[1], self.config.transformer.width];
                Tensor::from_data(TensorData::new(self.patch_positions(grid), shape), &device)
            });
        let patches = net.patch_embed.forward(images) + positions.as_ref().clone();
        let class = net.cls_token.val() + net.pos_embed.val().slice_dim(1, 0..1);
        let mut tokens = vec![class.repeat_dim(0, batch)];
        tokens.extend(
            net.register_tokens
                .as_ref()
                .map(|r| r.val().repeat_dim(0, batch)),
        );
        tokens.push(patches);
        run(&net.blocks, &net.norm, Tensor::cat(tokens, 1), None)
    }
}
