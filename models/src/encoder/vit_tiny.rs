//! The vision transformer of LeWM: `HuggingFace`'s `ViTModel` at width 192 (models.md section 7.2,
//! arXiv 2010.11929).
//!
//! Patches and a class token with learned positions, pre-norm blocks, and the class token of the last norm.
//! Layer norms add 1e-12 to the variance, unlike those of the frozen encoders.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::layer::block::{Block, BlockConfig};
use crate::layer::layer_norm::LayerNorm;
use crate::{Error, Result};

/// Standard deviation of fresh class tokens and positions.
pub(crate) const FRESH_STD: f64 = 0.02;

/// Sizes of a [`VitTiny`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VitTinyConfig {
    /// Width `D` of the tokens.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads; they divide the width.
    pub heads: usize,
    /// Hidden width of a block's perceptron, in widths.
    pub hidden_factor: usize,
    /// Side of the square images.
    pub image: usize,
    /// Side of a patch; it divides the image.
    pub patch: usize,
    /// Added to the variance of every layer norm.
    pub norm_epsilon: f64,
}

impl Default for VitTinyConfig {
    fn default() -> Self {
        Self {
            width: 192,
            layers: 12,
            heads: 3,
            hidden_factor: 4,
            image: 224,
            patch: 14,
            norm_epsilon: 1e-12,
        }
    }
}

impl VitTinyConfig {
    /// Checks the values that no type bounds.
    pub(crate) fn check(&self) -> Result<()> {
        let divides =
            |part: usize, whole: usize| part > 0 && whole > 0 && whole.is_multiple_of(part);
        let wrong = |key, detail: &str| {
            Err(Error::Config {
                key,
                detail: detail.into(),
            })
        };
        if !divides(self.heads, self.width) {
            return wrong("encoder.heads", "must divide the width");
        }
        if !divides(self.patch, self.image) {
            return wrong("encoder.patch", "must divide the image");
        }
        Ok(())
    }

    pub(crate) fn init(&self, device: &Device) -> VitTiny {
        let side = self.image / self.patch;
        let fresh = Initializer::Normal {
            mean: 0.0,
            std: FRESH_STD,
        };
        let block = BlockConfig {
            width: self.width,
            heads: self.heads,
            hidden: self.hidden_factor * self.width,
            epsilon: self.norm_epsilon,
            layer_scale: false,
        };
        VitTiny {
            cls_token: fresh.init([1, 1, self.width], device),
            positions: fresh.init([1, 1 + side * side, self.width], device),
            patches: Conv2dConfig::new([3, self.width], [self.patch; 2])
                .with_stride([self.patch; 2])
                .init(device),
            blocks: (0..self.layers).map(|_| block.init(device)).collect(),
            norm: LayerNorm::new(self.width, self.norm_epsilon, device),
        }
    }
}

/// Images to class tokens.
///
/// # Shapes
/// - input `[n, 3, h, w]`, output `[n, D]`
#[derive(Module, Debug)]
pub(crate) struct VitTiny {
    cls_token: Param<Tensor<3>>,
    /// Of the class token, then of the patches row by row.
    positions: Param<Tensor<3>>,
    patches: Conv2d,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl VitTiny {
    pub(crate) fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let count = images.dims()[0];
        let patches = self.embed_patches(images);
        let cls = self.cls_token.val().repeat_dim(0, count);
        let tokens = Tensor::cat(vec![cls, patches], 1) + self.positions.val();
        let tokens = self
            .blocks
            .iter()
            .fold(tokens, |x, block| block.forward(x, None, None));
        // The norm acts on every token alone, so only the class token goes through it.
        self.norm
            .forward(tokens.slice_dim(1, 0..1).squeeze_dim::<2>(1))
    }

    /// The patch convolution as one product: its stride is its kernel, so patches do not overlap.
    ///
    /// # Shapes
    /// - input `[n, 3, h, w]`, output `[n, N, D]`
    fn embed_patches(&self, images: Tensor<4>) -> Tensor<3> {
        let weight = self.patches.weight.val();
        let [width, channels, side, _] = weight.dims();
        let [count, _, height, columns] = images.dims();
        let (rows, columns) = (height / side, columns / side);
        let patches = images
            .reshape([count, channels, rows, side, columns, side])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([count, rows * columns, channels * side * side]);
        let weight = weight.reshape([width, channels * side * side]).transpose();
        let embedded = patches.matmul(weight.unsqueeze_dim(0));
        match &self.patches.bias {
            Some(bias) => embedded + bias.val().unsqueeze(),
            None => embedded,
        }
    }
}

/// Key parts of transformers 4 and 5, and ours.
const KEYS: [(&str, &str); 17] = [
    ("encoder.layer.", "blocks."),
    ("layers.", "blocks."),
    ("attention.attention.query", "attn.query"),
    ("attention.attention.key", "attn.key"),
    ("attention.attention.value", "attn.value"),
    ("attention.output.dense", "attn.proj"),
    ("attention.q_proj", "attn.query"),
    ("attention.k_proj", "attn.key"),
    ("attention.v_proj", "attn.value"),
    ("attention.o_proj", "attn.proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("layernorm", "norm"),
    ("embeddings.patch_embeddings.projection", "patches"),
    ("embeddings.position_embeddings", "positions"),
];

/// Our key for one of a `ViTModel`, in either spelling; query, key and value are still apart.
pub(crate) fn our_key(key: &str) -> String {
    let key = KEYS.iter().fold(key.to_string(), |key, (theirs, ours)| {
        key.replace(theirs, ours)
    });
    key.replace("embeddings.cls_token", "cls_token")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::fill::{expected, fill};
    use crate::weights::{Array, Checkpoint, packed};

    fn small() -> VitTinyConfig {
        VitTinyConfig {
            width: 6,
            layers: 1,
            heads: 2,
            image: 8,
            patch: 4,
            ..VitTinyConfig::default()
        }
    }

    #[test]
    fn the_full_encoder_has_the_documented_parameters() {
        // models.md section 7.2.
        let encoder = VitTinyConfig::default().init(&Device::flex());
        assert_eq!(encoder.num_params(), 5_501_376);
    }

    #[test]
    fn both_spellings_of_the_keys_fill_the_same_places() {
        let theirs = [
            [
                "embeddings.cls_token",
                "encoder.layer.0.attention.attention.query.weight",
                "encoder.layer.0.attention.output.dense.bias",
                "encoder.layer.0.intermediate.dense.weight",
                "encoder.layer.0.output.dense.weight",
                "encoder.layer.0.layernorm_after.bias",
                "layernorm.weight",
            ],
            [
                "embeddings.cls_token",
                "layers.0.attention.q_proj.weight",
                "layers.0.attention.o_proj.bias",
                "layers.0.mlp.fc1.weight",
                "layers.0.mlp.fc2.weight",
                "layers.0.layernorm_after.bias",
                "layernorm.weight",
            ],
        ];
        let ours = [
            "cls_token",
            "blocks.0.attn.query.weight",
            "blocks.0.attn.proj.bias",
            "blocks.0.mlp.fc1.weight",
            "blocks.0.mlp.fc2.weight",
            "blocks.0.norm2.bias",
            "norm.weight",
        ];
        for spelling in theirs {
            assert_eq!(spelling.map(our_key), ours);
        }
    }

    #[test]
    fn patches_are_those_of_the_convolution() {
        let device = Device::flex();
        let encoder = small().init(&device);
        let normal = burn::tensor::Distribution::Normal(0.0, 1.0);
        let images = Tensor::<4>::random([2, 3, 8, 8], normal, &device);
        let convolved = encoder
            .patches
            .forward(images.clone())
            .reshape([2, 6, 4])
            .swap_dims(1, 2);
        let close = burn::tensor::Tolerance::<f32>::absolute(1e-5);
        let embedded = encoder.embed_patches(images).into_data();
        embedded.assert_approx_eq::<f32>(&convolved.into_data(), close);
    }

    #[test]
    fn a_file_in_the_newer_spelling_fills_the_encoder() {
        let device = Device::flex();
        let wanted = expected(&small().init(&device), str::to_string);
        let mut file = Checkpoint::default();
        for (key, shape) in wanted {
            let count: usize = shape.iter().product();
            let key = key
                .replace("blocks.", "layers.")
                .replace("attn.proj", "attention.o_proj")
                .replace("norm1", "layernorm_before")
                .replace("norm2", "layernorm_after")
                .replace("cls_token", "embeddings.cls_token")
                .replace("positions", "embeddings.position_embeddings")
                .replace("patches", "embeddings.patch_embeddings.projection");
            let key = if key.starts_with("norm.") {
                format!("layer{key}")
            } else {
                key
            };
            if !key.contains("attn.qkv") {
                file.insert(&key, Array::new(shape, vec![0.5; count]).unwrap());
                continue;
            }
            for (part, value) in ["q_proj", "k_proj", "v_proj"]
                .into_iter()
                .zip([1.0, 2.0, 3.0])
            {
                let mut third = shape.clone();
                third[0] /= 3;
                let array = Array::new(third, vec![value; count / 3]).unwrap();
                file.insert(
                    &key.replace("attn.qkv", &format!("attention.{part}")),
                    array,
                );
            }
        }
        let encoder = small().init(&device);
        fill(
            "vit",
            encoder,
            packed::pack(file.rename(|key| Some(our_key(key)))).unwrap(),
            str::to_string,
        )
        .unwrap();
    }
}
