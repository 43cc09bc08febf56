//! The released encoders, for `list encoders` and the documentation (models.md section 1).

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::{
    Dinov2, Dinov2Config, Dinov3, Dinov3Config, FrameEncoder, TransformerConfig, Vjepa, Vjepa2,
    Vjepa2Config, VjepaConfig,
};
use crate::weights::Checkpoint;
use crate::{Error, Result};

/// Family and sizes of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "kebab-case")]
pub enum EncoderConfig {
    /// `DINOv2`.
    Dinov2(Dinov2Config),
    /// `DINOv3`.
    Dinov3(Dinov3Config),
    /// V-JEPA.
    Vjepa(VjepaConfig),
    /// V-JEPA 2.
    Vjepa2(Vjepa2Config),
}

impl EncoderConfig {
    /// An encoder with the weights of a file.
    pub(crate) fn load(
        &self,
        weights: Checkpoint,
        device: &Device,
    ) -> Result<Box<dyn FrameEncoder>> {
        Ok(match *self {
            Self::Dinov2(config) => Box::new(Dinov2::load(config, weights, device)?),
            Self::Dinov3(config) => Box::new(Dinov3::load(config, weights, device)?),
            Self::Vjepa(config) => Box::new(Vjepa::load(config, weights, device)?),
            Self::Vjepa2(config) => Box::new(Vjepa2::load(config, weights, device)?),
        })
    }

    /// Checks the sizes that no type bounds.
    ///
    /// # Errors
    /// [`Error::Config`] that names the size.
    pub fn check(&self) -> Result<()> {
        let (transformer, patch, image) = match self {
            Self::Dinov2(c) => (c.transformer, c.patch, c.image),
            Self::Dinov3(c) => (c.transformer, c.patch, c.image),
            Self::Vjepa(c) => (c.transformer, c.patch, c.image),
            Self::Vjepa2(c) => (c.transformer, c.patch, c.image),
        };
        let wrong = |key, detail: String| Err(Error::Config { key, detail });
        let positive = [
            ("transformer.width", transformer.width),
            ("transformer.depth", transformer.depth),
            ("transformer.heads", transformer.heads),
            ("transformer.hidden", transformer.hidden),
            ("patch", patch),
            ("image", image),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return wrong(key, "must be at least 1".into());
        }
        let (heads, width) = (transformer.heads, transformer.width);
        if !width.is_multiple_of(heads) {
            return wrong(
                "transformer.heads",
                format!("({heads}) must divide the width {width}"),
            );
        }
        if !image.is_multiple_of(patch) {
            return wrong(
                "image",
                format!("({image}) must be a multiple of the patch {patch}"),
            );
        }
        Ok(())
    }

    /// The same encoder for images of another side.
    #[must_use]
    pub fn with_image(mut self, image: usize) -> Self {
        match &mut self {
            Self::Dinov2(config) => config.image = image,
            Self::Dinov3(config) => config.image = image,
            Self::Vjepa(config) => config.image = image,
            Self::Vjepa2(config) => config.image = image,
        }
        self
    }

    /// Numbers in the file of such an encoder, counted without making any of them.
    pub fn parameters(&self) -> usize {
        let device = Device::flex();
        match self {
            Self::Dinov2(config) => config.parameters(&device),
            Self::Dinov3(config) => config.parameters(&device),
            Self::Vjepa(config) => config.parameters(&device),
            Self::Vjepa2(config) => config.parameters(&device),
        }
    }
}

/// One released encoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EncoderEntry {
    /// Name on the command line, in configurations and records.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Its file, and where the same weights are under the names of `HuggingFace`.
    pub files: &'static [&'static str],
    /// Family and sizes.
    pub config: EncoderConfig,
}

const fn dinov2(width: usize, depth: usize, registers: usize) -> EncoderConfig {
    EncoderConfig::Dinov2(Dinov2Config::released(width, depth, registers))
}

/// Every released encoder.
pub const ENCODERS: &[EncoderEntry] = &[
    EncoderEntry {
        name: "dinov2-small",
        summary: "DINOv2 ViT-S/14, 256 tokens of width 384 from 224 pixels",
        files: &["dinov2_vits14_pretrain.pth", "facebook/dinov2-small"],
        config: dinov2(384, 12, 0),
    },
    EncoderEntry {
        name: "dinov2-small-registers",
        summary: "DINOv2 ViT-S/14 with 4 registers, 256 tokens of width 384 from 224 pixels",
        files: &[
            "dinov2_vits14_reg4_pretrain.pth",
            "facebook/dinov2-with-registers-small",
        ],
        config: dinov2(384, 12, 4),
    },
    EncoderEntry {
        name: "dinov2-base",
        summary: "DINOv2 ViT-B/14, 256 tokens of width 768 from 224 pixels",
        files: &["dinov2_vitb14_pretrain.pth", "facebook/dinov2-base"],
        config: dinov2(768, 12, 0),
    },
    EncoderEntry {
        name: "dinov2-base-registers",
        summary: "DINOv2 ViT-B/14 with 4 registers, 256 tokens of width 768 from 224 pixels",
        files: &[
            "dinov2_vitb14_reg4_pretrain.pth",
            "facebook/dinov2-with-registers-base",
        ],
        config: dinov2(768, 12, 4),
    },
    EncoderEntry {
        name: "dinov2-large",
        summary: "DINOv2 ViT-L/14, 256 tokens of width 1024 from 224 pixels",
        files: &["dinov2_vitl14_pretrain.pth", "facebook/dinov2-large"],
        config: dinov2(1024, 24, 0),
    },
    EncoderEntry {
        name: "dinov2-large-registers",
        summary: "DINOv2 ViT-L/14 with 4 registers, 256 tokens of width 1024 from 224 pixels",
        files: &[
            "dinov2_vitl14_reg4_pretrain.pth",
            "facebook/dinov2-with-registers-large",
        ],
        config: dinov2(1024, 24, 4),
    },
    EncoderEntry {
        name: "dinov3-small",
        summary: "DINOv3 ViT-S/16, 256 tokens of width 384 from 256 pixels",
        files: &[
            "dinov3_vits16_pretrain_lvd1689m",
            "facebook/dinov3-vits16-pretrain-lvd1689m",
        ],
        config: EncoderConfig::Dinov3(Dinov3Config::released(384, 12)),
    },
    EncoderEntry {
        name: "dinov3-large",
        summary: "DINOv3 ViT-L/16, 256 tokens of width 1024 from 256 pixels",
        files: &[
            "dinov3_vitl16_pretrain_lvd1689m",
            "facebook/dinov3-vitl16-pretrain-lvd1689m",
        ],
        config: EncoderConfig::Dinov3(Dinov3Config::released(1024, 24)),
    },
    EncoderEntry {
        name: "vjepa-large",
        summary: "V-JEPA ViT-L/16, 256 tokens of width 1024 from 256 pixels shown as two frames",
        files: &["vitl16.pth.tar"],
        config: EncoderConfig::Vjepa(VjepaConfig::released(1024, 24)),
    },
    EncoderEntry {
        name: "vjepa2-large",
        summary: "V-JEPA 2 ViT-L/16, 256 tokens of width 1024 from 256 pixels shown as two frames",
        files: &["vitl.pt", "facebook/vjepa2-vitl-fpc64-256"],
        config: EncoderConfig::Vjepa2(Vjepa2Config::released(TransformerConfig::released(
            1024, 24, 1e-6, false,
        ))),
    },
    EncoderEntry {
        name: "vjepa2-giant",
        summary: "V-JEPA 2 ViT-g/16, 256 tokens of width 1408 from 256 pixels shown as two frames",
        files: &["vitg.pt", "facebook/vjepa2-vitg-fpc64-256"],
        config: EncoderConfig::Vjepa2(Vjepa2Config::GIANT),
    },
];

/// The entry called `name`.
pub fn find(name: &str) -> Result<&'static EncoderEntry> {
    ENCODERS
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| Error::UnknownEncoder {
            name: name.to_string(),
            known: ENCODERS
                .iter()
                .map(|entry| entry.name.to_string())
                .collect(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// models.md section 1; those of V-JEPA count the kernel of both frames, and that of V-JEPA 1 its table.
    #[test]
    fn parameter_counts_are_those_of_the_released_files() {
        for (name, expected) in [
            ("dinov2-small", 22_056_576),
            ("dinov2-small-registers", 22_056_576 + 4 * 384),
            ("dinov2-base", 86_580_480),
            ("dinov2-base-registers", 86_583_552),
            ("dinov2-large", 304_368_640),
            ("dinov2-large-registers", 304_372_736),
            ("dinov3-small", 21_601_152),
            ("dinov3-large", 303_154_176),
            ("vjepa-large", 305_490_944),
            ("vjepa2-large", 303_885_312),
            ("vjepa2-giant", 1_012_173_952),
        ] {
            assert_eq!(find(name).unwrap().config.parameters(), expected, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_lists_what_there_is() {
        let error = find("dinov2-smal").unwrap_err();
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("dinov2-small")),
            "{error}"
        );
    }
}
