//! Encoders: tokens and position tables of the frozen ones (models.md section 1).

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use jepa_datasets::transform::PixelNorm;
use serde::Deserialize;

use super::{Case, CheckEntry, Comparison};
use crate::Result;
use crate::encoder::{
    Dinov2, Dinov2Config, Dinov3, Dinov3Config, EncoderConfig, FrameEncoder, PositionResize,
    Section, TransformerConfig, Vjepa, Vjepa2, Vjepa2Config, VjepaConfig,
};
use crate::layer::rope::Variant;
use crate::weights::{Array, Checkpoint};

pub(super) const ENTRIES: &[CheckEntry] = &[
    CheckEntry {
        class: "DinoVisionTransformer",
        source: "dinov2",
        run: dinov2,
    },
    CheckEntry {
        class: "Dinov2",
        source: "transformers",
        run: dinov2_hugging_face,
    },
    CheckEntry {
        class: "DinoVisionTransformer",
        source: "dinov3",
        run: dinov3,
    },
    CheckEntry {
        class: "DINOv3ViT",
        source: "transformers",
        run: dinov3,
    },
    CheckEntry {
        class: "VisionTransformer (V-JEPA 1",
        source: "",
        run: vjepa,
    },
    CheckEntry {
        class: "VisionTransformer (V-JEPA 2",
        source: "",
        run: vjepa2,
    },
    CheckEntry {
        class: "VJEPA2",
        source: "transformers",
        run: vjepa2,
    },
];

/// Where the expected outputs of a case are.
const OUTPUTS: &str = "outputs.safetensors";

/// The sizes that any of the classes has, under the names of the authors or of `HuggingFace`.
#[derive(Debug, Deserialize)]
struct Sizes {
    #[serde(alias = "hidden_size")]
    embed_dim: usize,
    #[serde(alias = "num_hidden_layers")]
    depth: usize,
    #[serde(alias = "num_attention_heads")]
    num_heads: usize,
    patch_size: usize,
    #[serde(alias = "ffn_ratio")]
    mlp_ratio: Option<f64>,
    #[serde(alias = "intermediate_size")]
    mlp_hidden: Option<usize>,
    layer_norm_eps: Option<f64>,
    layerscale: Option<bool>,
    #[serde(alias = "image_size", alias = "crop_size")]
    img_size: Option<usize>,
    pos_grid: Option<usize>,
    #[serde(alias = "n_storage_tokens")]
    num_register_tokens: Option<usize>,
    interpolate_offset: Option<f64>,
    interpolate_antialias: Option<bool>,
    #[serde(alias = "rope_theta")]
    rope_base: Option<f64>,
    mask_k_bias: Option<bool>,
    tubelet_size: Option<usize>,
    pos_table_grid: Option<[usize; 3]>,
    grid_size: Option<usize>,
    checkpoint_key: Option<String>,
    normalize: Option<String>,
    images: String,
    official_case: Option<String>,
}

impl Sizes {
    fn transformer(&self, epsilon: f64, layer_scale: bool) -> TransformerConfig {
        let hidden = (self.embed_dim as f64 * self.mlp_ratio.unwrap_or(4.0)) as usize;
        TransformerConfig {
            width: self.embed_dim,
            depth: self.depth,
            heads: self.num_heads,
            hidden: self.mlp_hidden.unwrap_or(hidden),
            epsilon: self.layer_norm_eps.unwrap_or(epsilon),
            layer_scale: self.layerscale.unwrap_or(layer_scale),
        }
    }

    fn dinov2(&self) -> Dinov2Config {
        let registers = self.num_register_tokens.unwrap_or(0);
        let released = Dinov2Config::released(self.embed_dim, self.depth, registers);
        let stored = self
            .img_size
            .and_then(|side| side.checked_div(self.patch_size));
        Dinov2Config {
            transformer: self.transformer(1e-6, true),
            patch: self.patch_size,
            stored_grid: self.pos_grid.or(stored).unwrap_or(released.stored_grid),
            resize: PositionResize {
                offset: self.interpolate_offset.unwrap_or(released.resize.offset),
                antialias: self
                    .interpolate_antialias
                    .unwrap_or(released.resize.antialias),
            },
            ..released
        }
    }

    fn dinov3(&self) -> Dinov3Config {
        let released = Dinov3Config::released(self.embed_dim, self.depth);
        Dinov3Config {
            transformer: self.transformer(1e-5, true),
            patch: self.patch_size,
            storage: self.num_register_tokens.unwrap_or(released.storage),
            rope_base: self.rope_base.unwrap_or(released.rope_base),
            masked_key_bias: self.mask_k_bias.unwrap_or(released.masked_key_bias),
            ..released
        }
    }

    fn section(&self, case: &Case<'_>) -> Result<Section> {
        match self.checkpoint_key.as_deref() {
            None | Some("encoder") => Ok(Section::Encoder),
            Some("target_encoder") => Ok(Section::TargetEncoder),
            Some(other) => Err(case.broken(format!("no encoder is called `{other}`"))),
        }
    }

    fn vjepa(&self, case: &Case<'_>) -> Result<VjepaConfig> {
        let released = VjepaConfig::released(self.embed_dim, self.depth);
        Ok(VjepaConfig {
            transformer: self.transformer(1e-6, false),
            patch: self.patch_size,
            tubelet: self.tubelet_size.unwrap_or(released.tubelet),
            stored_grid: self.pos_table_grid.unwrap_or(released.stored_grid),
            section: self.section(case)?,
            ..released
        })
    }

    fn vjepa2(&self, case: &Case<'_>) -> Result<Vjepa2Config> {
        let released = Vjepa2Config::released(self.transformer(1e-6, false));
        let of_images = self
            .img_size
            .and_then(|side| side.checked_div(self.patch_size));
        Ok(Vjepa2Config {
            patch: self.patch_size,
            tubelet: self.tubelet_size.unwrap_or(released.tubelet),
            rope_grid: self.grid_size.or(of_images).unwrap_or(released.rope_grid),
            rope: Variant::VjepaCompat,
            section: self.section(case)?,
            ..released
        })
    }

    fn norm(&self, case: &Case<'_>) -> Result<PixelNorm> {
        match self.normalize.as_deref() {
            None | Some("ImageNet" | "imagenet") => Ok(PixelNorm::IMAGENET),
            Some("half" | "0.5") => Ok(PixelNorm::HALF),
            Some(other) => Err(case.broken(format!("no pixel scale is called `{other}`"))),
        }
    }
}

fn dinov2(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let sizes: Sizes = case.config()?;
    let encoder = Dinov2::load(sizes.dinov2(), weights(case)?, &case.device())?;
    let expected = case.arrays(OUTPUTS)?;
    compare_all(case, &sizes, &encoder, &expected, |name, grid| {
        (name == "pos").then(|| encoder.patch_positions(grid))
    })
}

/// The other library resizes positions to the exact size, so without registers its own outputs are not those of
/// the model as released; its weights under the released rule have to give the outputs of the official case.
fn dinov2_hugging_face(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let sizes: Sizes = case.config()?;
    let config = sizes.dinov2();
    let encoder = Dinov2::load(config, weights(case)?, &case.device())?;
    let table = |name: &str, grid| (name == "pos").then(|| encoder.patch_positions(grid));
    let mut compared = Vec::new();
    if let Some(official) = &sizes.official_case {
        let expected = case.beside(official)?.arrays(OUTPUTS)?;
        compared.extend(compare_all(case, &sizes, &encoder, &expected, table)?);
    }
    if config.registers > 0 {
        let own = case.arrays(OUTPUTS)?;
        let own = own.rename(|key| Some(key.strip_suffix("_hf").unwrap_or(key).to_string()));
        compared.extend(compare_all(case, &sizes, &encoder, &own, table)?);
    }
    Ok(compared)
}

fn dinov3(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let sizes: Sizes = case.config()?;
    let encoder = Dinov3::load(sizes.dinov3(), weights(case)?, &case.device())?;
    let expected = case.arrays(OUTPUTS)?;
    compare_all(case, &sizes, &encoder, &expected, |name, grid| {
        let rope = encoder.rope(grid);
        let patches = encoder.shape().prefix * rope.head..;
        match name {
            "rope_cos" => Some(rope.cosines[patches].to_vec()),
            "rope_sin" => Some(rope.sines[patches].to_vec()),
            _ => None,
        }
    })
}

fn vjepa(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let sizes: Sizes = case.config()?;
    let encoder = Vjepa::load(sizes.vjepa(case)?, weights(case)?, &case.device())?;
    let expected = case.arrays(OUTPUTS)?;
    compare_all(case, &sizes, &encoder, &expected, |name, grid| {
        (name == "pos").then(|| encoder.patch_positions(grid))
    })
}

fn vjepa2(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let sizes: Sizes = case.config()?;
    let encoder = Vjepa2::load(sizes.vjepa2(case)?, weights(case)?, &case.device())?;
    let expected = case.arrays(OUTPUTS)?;
    compare_all(case, &sizes, &encoder, &expected, |_, _| None)
}

/// The encoder of a case, for another case that sees through it.
pub(super) fn frozen(case: &Case<'_>) -> Result<Box<dyn FrameEncoder>> {
    let sizes: Sizes = case.config()?;
    let config = match (case.class(), case.source()) {
        (class, _) if class.starts_with("Dinov2") => EncoderConfig::Dinov2(sizes.dinov2()),
        (class, _) if class.starts_with("DINOv3") => EncoderConfig::Dinov3(sizes.dinov3()),
        (class, source) if class.starts_with("Dino") && source.contains("dinov3") => {
            EncoderConfig::Dinov3(sizes.dinov3())
        }
        (class, _) if class.starts_with("Dino") => EncoderConfig::Dinov2(sizes.dinov2()),
        (class, _) if class.contains("V-JEPA 1") => EncoderConfig::Vjepa(sizes.vjepa(case)?),
        _ => EncoderConfig::Vjepa2(sizes.vjepa2(case)?),
    };
    config.load(weights(case)?, &case.device())
}

/// The one file of the case that is not its outputs.
fn weights(case: &Case<'_>) -> Result<Checkpoint> {
    let files = case
        .manifest()
        .get("files")
        .and_then(|files| files.as_object());
    let name = files
        .into_iter()
        .flat_map(|files| files.keys())
        .find(|name| *name != OUTPUTS);
    case.arrays(name.ok_or_else(|| case.broken("`files` names no weights".into()))?)
}

/// Every expected output against ours; `table` gives tables by their kind and grid.
fn compare_all(
    case: &Case<'_>,
    sizes: &Sizes,
    encoder: &dyn FrameEncoder,
    expected: &Checkpoint,
    table: impl Fn(&str, [usize; 2]) -> Option<Vec<f32>>,
) -> Result<Vec<Comparison>> {
    let pictures = case.arrays(&sizes.images)?;
    let norm = sizes.norm(case)?;
    let mut runs: BTreeMap<(String, usize), Tensor<3>> = BTreeMap::new();
    let mut compared = Vec::new();
    for name in expected.keys() {
        let unknown = || case.broken(format!("`{name}` is no output of an encoder"));
        if let Some((kind, grid)) = table_name(name) {
            let ours = table(kind, grid).ok_or_else(unknown)?;
            compared.push(case.compare(expected, name, &ours)?);
            continue;
        }
        let (part, picture) = token_name(name).ok_or_else(unknown)?;
        let count = expected.require(name)?.shape.first().copied().unwrap_or(0);
        let key = (picture, count);
        if !runs.contains_key(&key) {
            let images = images(case, pictures.require(&key.0)?, count, norm)?;
            encoder.encode(images.clone())?;
            runs.insert(key.clone(), encoder.all_tokens(images));
        }
        let ours = part.of(&runs[&key], encoder.shape().prefix).into_data();
        let ours: Vec<f32> = ours.iter().collect();
        compared.push(case.compare(expected, name, &ours)?);
    }
    Ok(compared)
}

/// Which tokens an output holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Patches,
    Class,
    Registers,
}

impl Part {
    fn of(self, tokens: &Tensor<3>, prefix: usize) -> Tensor<3> {
        let range = match self {
            Self::Patches => prefix..tokens.dims()[1],
            Self::Class => 0..1,
            Self::Registers => 1..prefix,
        };
        tokens.clone().slice_dim(1, range)
    }
}

/// `patch224_14x14`: the patches for the pictures `rgb224`.
fn token_name(name: &str) -> Option<(Part, String)> {
    let parts = [
        ("patch", Part::Patches),
        ("cls", Part::Class),
        ("storage", Part::Registers),
        ("reg", Part::Registers),
    ];
    let (part, rest) = parts
        .iter()
        .find_map(|(kind, part)| Some((*part, name.strip_prefix(kind)?)))?;
    let size = rest.split('_').next()?;
    let is_size = size.starts_with(|c: char| c.is_ascii_digit());
    is_size.then(|| (part, format!("rgb{size}")))
}

/// `rope_cos_16x16`: the table `rope_cos` of a grid.
fn table_name(name: &str) -> Option<(&str, [usize; 2])> {
    let (kind, grid) = name.rsplit_once('_')?;
    let (rows, columns) = grid.split_once('x')?;
    let is_table = ["pos", "rope_cos", "rope_sin"].contains(&kind);
    is_table.then_some((kind, [rows.parse().ok()?, columns.parse().ok()?]))
}

/// The first `count` pictures, `[n, h, w, 3]` in bytes, as normalised images `[count, 3, h, w]`.
fn images(case: &Case<'_>, pictures: &Array, count: usize, norm: PixelNorm) -> Result<Tensor<4>> {
    let (&[stored, height, width, 3], true) = (pictures.shape.as_slice(), count > 0) else {
        return Err(case.broken(format!("pictures of shape {:?}", pictures.shape)));
    };
    if stored < count {
        return Err(case.broken(format!("{count} pictures of {stored}")));
    }
    let mut values = Vec::with_capacity(count * 3 * height * width);
    for picture in pictures.values.chunks_exact(height * width * 3).take(count) {
        for channel in 0..3 {
            let (mean, std) = (norm.mean[channel], norm.std[channel]);
            let plane = picture.iter().skip(channel).step_by(3);
            values.extend(plane.map(|value| (value / 255.0 - mean) / std));
        }
    }
    let data = TensorData::new(values, [count, 3, height, width]);
    Ok(Tensor::from_data(data, &case.device()))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tolerance};

    use super::*;
    use crate::Error;
    use crate::weights::check::testing::{assert_case, folder, torch};

    #[test]
    fn dinov2_equals_the_reference() {
        assert_case("encoder_dinov2");
    }

    #[test]
    fn dinov2_with_registers_equals_the_reference() {
        assert_case("encoder_dinov2_reg4");
    }

    #[test]
    fn dinov2_loads_the_names_of_hugging_face() {
        assert_case("encoder_dinov2_hf");
    }

    #[test]
    fn dinov3_equals_the_reference() {
        assert_case("encoder_dinov3");
    }

    #[test]
    fn vjepa_equals_the_reference() {
        assert_case("encoder_vjepa1");
    }

    #[test]
    fn vjepa2_equals_the_reference() {
        assert_case("encoder_vjepa2");
    }

    fn with_case<T>(name: &str, run: impl FnOnce(&Case<'_>, Sizes) -> T) -> T {
        let case = Case::open(&folder(name), &torch).unwrap();
        let sizes = case.config().unwrap();
        run(&case, sizes)
    }

    /// The keys of a file under other names: our name, the name there, and the third of it.
    fn renamed(weights: &Checkpoint, names: &[(&str, &str)], skip: &[&str]) -> Checkpoint {
        let mut other = Checkpoint::default();
        for key in weights.keys() {
            let array = weights.get(key).unwrap();
            let mut name = key.to_string();
            for (ours, theirs) in names {
                name = name.replace(ours, theirs);
            }
            let pieces: Vec<&str> = match name.split_once('{') {
                Some((_, rest)) => rest.split_once('}').unwrap().0.split(',').collect(),
                None => vec![""],
            };
            let values = array.values.chunks_exact(array.values.len() / pieces.len());
            for (piece, values) in pieces.iter().zip(values) {
                let name = match name.split_once('{') {
                    Some((head, rest)) => {
                        format!("{head}{piece}{}", rest.split_once('}').unwrap().1)
                    }
                    None => name.clone(),
                };
                if skip.iter().all(|skipped| !name.ends_with(skipped)) {
                    let mut shape = array.shape.clone();
                    if let Some(first) = shape.first_mut() {
                        *first /= pieces.len();
                    }
                    other.insert(&name, Array::new(shape, values.to_vec()).unwrap());
                }
            }
        }
        other
    }

    /// Both encoders give the same tokens for one picture.
    fn same(case: &Case<'_>, sizes: &Sizes, a: &dyn FrameEncoder, b: &dyn FrameEncoder) {
        let pictures = case.arrays(&sizes.images).unwrap();
        let images = images(
            case,
            pictures.require("rgb256").unwrap(),
            1,
            PixelNorm::IMAGENET,
        )
        .unwrap();
        let tokens =
            |encoder: &dyn FrameEncoder| encoder.encode(images.clone()).unwrap().into_data();
        // The periods of a file are rounded otherwise than ours.
        tokens(a).assert_approx_eq::<f32>(&tokens(b), Tolerance::absolute(1e-5));
    }

    #[test]
    fn dinov3_loads_the_names_of_hugging_face() {
        with_case("encoder_dinov3", |case, sizes| {
            let weights = weights(case).unwrap();
            let names = [
                ("cls_token", "embeddings.cls_token"),
                ("mask_token", "embeddings.mask_token"),
                ("storage_tokens", "embeddings.register_tokens"),
                ("patch_embed.proj.", "embeddings.patch_embeddings."),
                ("blocks.", "layer."),
                ("attn.qkv.", "attention.{q_proj,k_proj,v_proj}."),
                ("attn.proj.", "attention.o_proj."),
                ("ls1.gamma", "layer_scale1.lambda1"),
                ("ls2.gamma", "layer_scale2.lambda1"),
                ("fc1", "up_proj"),
                ("fc2", "down_proj"),
            ];
            let skip = ["k_proj.bias", "bias_mask", "periods"];
            let other = renamed(&weights, &names, &skip);
            let device = Device::flex();
            let theirs = Dinov3::load(sizes.dinov3(), other, &device).unwrap();
            let ours = Dinov3::load(sizes.dinov3(), weights, &device).unwrap();
            same(case, &sizes, &ours, &theirs);
        });
    }

    #[test]
    fn vjepa2_loads_the_names_of_hugging_face_and_leaves_the_predictor() {
        with_case("encoder_vjepa2", |case, sizes| {
            let weights = weights(case).unwrap();
            let names = [
                ("module.backbone.", ""),
                ("patch_embed.proj.", "embeddings.patch_embeddings.proj."),
                ("blocks.", "layer."),
                ("attn.qkv.", "attention.{query,key,value}."),
                ("attn.proj.", "attention.proj."),
                ("encoder.norm.", "encoder.layernorm."),
            ];
            let mut other = renamed(&weights, &names, &["pos_embed"]);
            other.insert(
                "predictor.layernorm.bias",
                Array::new(vec![1], vec![0.0]).unwrap(),
            );
            let (device, config) = (Device::flex(), sizes.vjepa2(case).unwrap());
            let theirs = Vjepa2::load(config, other, &device).unwrap();
            let ours = Vjepa2::load(config, weights, &device).unwrap();
            same(case, &sizes, &ours, &theirs);
        });
    }

    #[test]
    fn a_file_with_a_missing_an_extra_and_a_misshapen_tensor_is_refused_with_the_list() {
        with_case("encoder_vjepa1", |case, sizes| {
            let mut weights = weights(case).unwrap();
            let array = |count: usize| Array::new(vec![count], vec![0.0; count]).unwrap();
            weights
                .remove("encoder.module.backbone.blocks.1.mlp.fc2.bias")
                .unwrap();
            weights.insert("encoder.module.backbone.blocks.2.norm1.bias", array(32));
            weights.insert("encoder.module.backbone.norm.weight", array(31));
            let config = sizes.vjepa(case).unwrap();
            match Vjepa::load(config, weights, &Device::flex()).unwrap_err() {
                Error::Keys {
                    missing,
                    unexpected,
                    shapes,
                    ..
                } => {
                    assert_eq!(missing, ["blocks.1.mlp.fc2.bias"]);
                    assert_eq!(unexpected, ["blocks.2.norm1.bias"]);
                    assert_eq!(shapes, ["norm.weight: [31] in the file, [32] in the model"]);
                }
                other => panic!("{other}"),
            }
        });
    }

    #[test]
    fn names_of_outputs_say_what_they_hold() {
        assert_eq!(
            token_name("patch224_14x14"),
            Some((Part::Patches, "rgb224".into()))
        );
        assert_eq!(
            token_name("storage256"),
            Some((Part::Registers, "rgb256".into()))
        );
        assert_eq!(token_name("pos_16x16"), None);
        assert_eq!(table_name("rope_sin_14x16"), Some(("rope_sin", [14, 16])));
        assert_eq!(table_name("patch224_14x14"), None);
    }
}
