//! Frozen image encoders (models.md section 1), under the names of their authors or those of `HuggingFace`.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::{Converted, ImportEntry, to_value};
use crate::encoder::{EncoderConfig, find};
use crate::weights::Checkpoint;
use crate::{Error, Result};

/// What folders of these weights say they are.
pub(crate) const KIND: &str = "encoder";

/// Sizes of an encoder, by the name that the table of encoders gives them, or in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    pub encoder: String,
    /// Sizes other than the released ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<EncoderConfig>,
}

impl Named {
    /// Family and sizes.
    pub(crate) fn sizes(&self) -> Result<EncoderConfig> {
        match self.sizes {
            Some(sizes) => Ok(sizes),
            None => Ok(find(&self.encoder)?.config),
        }
    }
}

pub(super) const ENTRIES: &[ImportEntry] = &[
    ImportEntry {
        name: "dinov2-small",
        summary: "DINOv2 ViT-S/14",
        kind: KIND,
        origin: "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth, or facebook/dinov2-small",
        sections: &[],
        convert: |file| convert_released(file, "dinov2-small"),
    },
    ImportEntry {
        name: "dinov2-small-registers",
        summary: "DINOv2 ViT-S/14 with 4 registers",
        kind: KIND,
        origin: "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_reg4_pretrain.pth, or facebook/dinov2-with-registers-small",
        sections: &[],
        convert: |file| convert_released(file, "dinov2-small-registers"),
    },
    ImportEntry {
        name: "dinov2-base",
        summary: "DINOv2 ViT-B/14",
        kind: KIND,
        origin: "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth, or facebook/dinov2-base",
        sections: &[],
        convert: |file| convert_released(file, "dinov2-base"),
    },
    ImportEntry {
        name: "dinov2-base-registers",
        summary: "DINOv2 ViT-B/14 with 4 registers",
        kind: KIND,
        origin: "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_reg4_pretrain.pth, or facebook/dinov2-with-registers-base",
        sections: &[],
        convert: |file| convert_released(file, "dinov2-base-registers"),
    },
    ImportEntry {
        name: "dinov2-large",
        summary: "DINOv2 ViT-L/14",
        kind: KIND,
        origin: "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth, or facebook/dinov2-large",
        sections: &[],
        convert: |file| convert_released(file, "dinov2-large"),
    },
    ImportEntry {
        name: "dinov2-large-registers",
        summary: "DINOv2 ViT-L/14 with 4 registers",
        kind: KIND,
        origin: "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_reg4_pretrain.pth, or facebook/dinov2-with-registers-large",
        sections: &[],
        convert: |file| convert_released(file, "dinov2-large-registers"),
    },
    ImportEntry {
        name: "dinov3-small",
        summary: "DINOv3 ViT-S/16",
        kind: KIND,
        origin: "dinov3_vits16_pretrain_lvd1689m, or facebook/dinov3-vits16-pretrain-lvd1689m; both ask for a login",
        sections: &[],
        convert: |file| convert_released(file, "dinov3-small"),
    },
    ImportEntry {
        name: "dinov3-large",
        summary: "DINOv3 ViT-L/16",
        kind: KIND,
        origin: "dinov3_vitl16_pretrain_lvd1689m, or facebook/dinov3-vitl16-pretrain-lvd1689m; both ask for a login",
        sections: &[],
        convert: |file| convert_released(file, "dinov3-large"),
    },
    ImportEntry {
        name: "vjepa-large",
        summary: "V-JEPA ViT-L/16, the online encoder",
        kind: KIND,
        origin: "https://dl.fbaipublicfiles.com/jepa/vitl16/vitl16.pth.tar",
        sections: &["encoder"],
        convert: |file| convert_released(file, "vjepa-large"),
    },
    ImportEntry {
        name: "vjepa2-large",
        summary: "V-JEPA 2 ViT-L/16, the online encoder",
        kind: KIND,
        origin: "https://dl.fbaipublicfiles.com/vjepa2/vitl.pt, or facebook/vjepa2-vitl-fpc64-256",
        sections: &["encoder"],
        convert: |file| convert_released(file, "vjepa2-large"),
    },
    ImportEntry {
        name: "vjepa2-giant",
        summary: "V-JEPA 2 ViT-g/16, the online encoder",
        kind: KIND,
        origin: "https://dl.fbaipublicfiles.com/vjepa2/vitg.pt, or facebook/vjepa2-vitg-fpc64-256",
        sections: &["encoder"],
        convert: |file| convert_released(file, "vjepa2-giant"),
    },
];

fn convert_released(file: Checkpoint, name: &str) -> Result<Converted> {
    convert(file, &find(name)?.config, name, None)
}

/// The encoder of a file like that of `name`, but of other sizes: one that was trained at home.
///
/// # Errors
/// [`Error::UnknownModel`], [`Error::Config`] for sizes that do not fit together or are of another family, and
/// [`Error::Keys`] that lists what does not fit.
pub fn convert_sizes(file: Checkpoint, name: &str, sizes: EncoderConfig) -> Result<Converted> {
    let released = find(name)?.config;
    if std::mem::discriminant(&released) != std::mem::discriminant(&sizes) {
        return Err(Error::Config {
            key: "family",
            detail: format!("is not that of `{name}`"),
        });
    }
    sizes.check()?;
    convert(file, &sizes, name, Some(sizes))
}

/// Loads the encoder, which refuses anything partial, and takes its parameters.
fn convert(
    file: Checkpoint,
    config: &EncoderConfig,
    name: &str,
    sizes: Option<EncoderConfig>,
) -> Result<Converted> {
    if file.is_empty() {
        return Err(Error::Weights {
            name: name.to_string(),
            detail: "the file has no arrays of an encoder".into(),
        });
    }
    let keys: Vec<String> = file.keys().map(str::to_string).collect();
    let arrays = config.load(file, &Device::flex())?.weights();
    let unused = |key: &String| is_unused(key, &arrays);
    Ok(Converted {
        left_out: keys.into_iter().filter(unused).collect(),
        config: to_value(&Named {
            encoder: name.to_string(),
            sizes,
        })?,
        arrays,
    })
}

/// What training only uses, the mask that says which bias is zero, and a position table that nothing reads.
fn is_unused(key: &str, arrays: &Checkpoint) -> bool {
    match key.rsplit('.').next() {
        Some("mask_token" | "bias_mask") => true,
        Some("pos_embed") => arrays.get("pos_embed").is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::{Dinov2Config, Dinov3Config, ENCODERS, TransformerConfig, Vjepa2Config};
    use crate::weights::check::testing::{folder, torch};
    use crate::weights::import::find as find_import;

    /// The blocks of the reference cases.
    fn transformer(
        width: usize,
        heads: usize,
        epsilon: f64,
        layer_scale: bool,
    ) -> TransformerConfig {
        TransformerConfig {
            width,
            depth: 2,
            heads,
            hidden: 4 * width,
            epsilon,
            layer_scale,
        }
    }

    #[test]
    fn every_encoder_can_be_imported_under_its_own_name() {
        for encoder in ENCODERS {
            let entry = find_import(encoder.name).unwrap();
            assert_eq!((entry.kind, entry.name), (KIND, encoder.name));
        }
    }

    /// The same tokens from the file and from what was made of it.
    fn assert_the_same(config: EncoderConfig, file: Checkpoint, left_out: usize) {
        let converted = convert(file.clone(), &config, "x", None).unwrap();
        assert_eq!(
            converted.left_out.len(),
            left_out,
            "{:?}",
            converted.left_out
        );
        let device = Device::flex();
        let (theirs, ours) = (
            config.load(file, &device).unwrap(),
            config.load(converted.arrays, &device).unwrap(),
        );
        let side = 2 * theirs.shape().patch;
        let values: Vec<f32> = (0..3 * side * side)
            .map(|i| (i as f32 * 0.11).sin())
            .collect();
        let images = burn::tensor::TensorData::new(values, [1, 3, side, side]);
        let images = burn::tensor::Tensor::<4>::from_data(images, &device);
        let tokens = |encoder: &dyn crate::encoder::FrameEncoder| {
            encoder.encode(images.clone()).unwrap().into_data()
        };
        assert_eq!(tokens(theirs.as_ref()), tokens(ours.as_ref()));
    }

    #[test]
    fn an_imported_encoder_gives_the_tokens_of_its_file() {
        let dinov2 = Dinov2Config {
            transformer: transformer(48, 2, 1e-6, true),
            ..Dinov2Config::released(48, 2, 0)
        };
        let file = torch(&folder("encoder_dinov2").join("model.pth")).unwrap();
        assert_the_same(EncoderConfig::Dinov2(dinov2), file, 1);
        let registers = Dinov2Config {
            transformer: transformer(40, 1, 1e-6, true),
            ..Dinov2Config::released(40, 2, 4)
        };
        let file = torch(&folder("encoder_dinov2_reg4").join("model.pth")).unwrap();
        assert_the_same(EncoderConfig::Dinov2(registers), file, 1);
        let vjepa2 = Vjepa2Config::released(transformer(48, 2, 1e-6, false));
        let file = torch(&folder("encoder_vjepa2").join("vitl.pt")).unwrap();
        let file = file.rename(|key| key.starts_with("encoder.").then(|| key.to_string()));
        // Its file has a position table, which a rotary encoder does not read.
        assert_the_same(EncoderConfig::Vjepa2(vjepa2), file, 1);
    }

    #[test]
    fn periods_of_the_file_are_kept() {
        let config = EncoderConfig::Dinov3(Dinov3Config {
            transformer: transformer(48, 2, 1e-5, true),
            ..Dinov3Config::released(64, 2)
        });
        let mut file = torch(&folder("encoder_dinov3").join("model.pth")).unwrap();
        let mut periods = file.remove("rope_embed.periods").unwrap();
        periods.values[1] *= 1.5;
        file.insert("rope_embed.periods", periods.clone());
        let converted = convert(file.clone(), &config, "x", None).unwrap();
        assert_eq!(converted.arrays.get("rope_embed.periods"), Some(&periods));
        let masks = file.keys().filter(|key| key.ends_with("bias_mask")).count();
        assert_the_same(config, file, 1 + masks);
    }
}
