//! Decoders and the weights of LPIPS (models.md sections 6.1 to 6.3).

use burn::tensor::Device;

use super::{Converted, ImportEntry, fit, leave_out, section, to_value};
use crate::Result;
use crate::head::image_decoder::{self, ImageDecoder, ImageDecoderConfig, released};
use crate::head::lpips;
use crate::head::state_decoder::{self, StateDecoder, StateDecoderConfig};
use crate::weights::Checkpoint;

pub(super) const ENTRIES: &[ImportEntry] = &[
    ImportEntry {
        name: "dinov2_vits_224",
        summary: "image decoder for DINOv2 ViT-S/14 at 224 pixels, normalised by 0.5",
        kind: image_decoder::KIND,
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/vm2m_lpips_dv2vits_vitldec_224_05norm.pth.tar",
        sections: &["model"],
        convert: |file| convert_image_decoder(file, &released::dinov2_vits_224()),
    },
    ImportEntry {
        name: "dinov2_vits_224_INet",
        summary: "image decoder for DINOv2 ViT-S/14 at 224 pixels, ImageNet statistics",
        kind: image_decoder::KIND,
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/vm2m_lpips_dv2vits_vitldec_224_INet.pth.tar",
        sections: &["model"],
        convert: |file| convert_image_decoder(file, &released::dinov2_vits_224_imagenet()),
    },
    ImportEntry {
        name: "dinov3_vitl_256_INet",
        summary: "image decoder for DINOv3 ViT-L/16 at 256 pixels, ImageNet statistics",
        kind: image_decoder::KIND,
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/vm2m_lpips_dv3vitl_256_INet.pth.tar",
        sections: &["model"],
        convert: |file| convert_image_decoder(file, &released::dinov3_vitl_256()),
    },
    ImportEntry {
        name: "vjepa2_vitg_256_INet",
        summary: "image decoder for V-JEPA 2 ViT-g/16 at 256 pixels, on normalised features",
        kind: image_decoder::KIND,
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/vm2m_lpips_vj2vitgnorm_vitldec_dup_256_INet.pth.tar",
        sections: &["model"],
        convert: |file| convert_image_decoder(file, &released::vjepa2_vitg_256()),
    },
    ImportEntry {
        name: "state_decoder_wall",
        summary: "state decoder for DINOv2 ViT-S/14, 2 numbers",
        kind: state_decoder::KIND,
        origin: NOT_RELEASED,
        sections: &["model"],
        convert: |file| convert_state_decoder(file, &StateDecoderConfig::released(2)),
    },
    ImportEntry {
        name: "state_decoder_pointmaze",
        summary: "state decoder for DINOv2 ViT-S/14, 4 numbers",
        kind: state_decoder::KIND,
        origin: NOT_RELEASED,
        sections: &["model"],
        convert: |file| convert_state_decoder(file, &StateDecoderConfig::released(4)),
    },
    ImportEntry {
        name: "state_decoder_pusht",
        summary: "state decoder for DINOv2 ViT-S/14, 7 numbers",
        kind: state_decoder::KIND,
        origin: NOT_RELEASED,
        sections: &["model"],
        convert: |file| convert_state_decoder(file, &StateDecoderConfig::released(7)),
    },
    ImportEntry {
        name: "state_decoder_metaworld",
        summary: "state decoder for DINOv2 ViT-S/14, 39 numbers",
        kind: state_decoder::KIND,
        origin: NOT_RELEASED,
        sections: &["model"],
        convert: |file| convert_state_decoder(file, &StateDecoderConfig::released(39)),
    },
    ImportEntry {
        name: "vgg16",
        summary: "convolutions of VGG16 on ImageNet, for LPIPS",
        kind: lpips::TRUNK_KIND,
        origin: "https://download.pytorch.org/models/vgg16-397923af.pth",
        sections: &[],
        convert: convert_vgg16,
    },
    ImportEntry {
        name: "lpips_vgg",
        summary: "the five vectors of LPIPS 0.1 for VGG16",
        kind: lpips::LINEAR_KIND,
        origin: "package `lpips` 0.1.4: weights/v0.1/vgg.pth",
        sections: &[],
        convert: convert_lpips,
    },
];

const NOT_RELEASED: &str = "no file is released; train one with jepa-wms";

fn convert_image_decoder(file: Checkpoint, config: &ImageDecoderConfig) -> Result<Converted> {
    let mut arrays = section(file, "model")?;
    let table = arrays.get(image_decoder::TABLE).cloned();
    let left_out = leave_out(&mut arrays, |key| key == image_decoder::TABLE);
    if let Some(table) = &table {
        ImageDecoder::check_table(config, table)?;
    }
    let network = config.init(&Device::flex())?;
    Ok(Converted {
        arrays: fit("image decoder", &network, arrays, str::to_string)?,
        config: to_value(config)?,
        left_out,
    })
}

pub(super) fn convert_state_decoder(
    file: Checkpoint,
    config: &StateDecoderConfig,
) -> Result<Converted> {
    let mut arrays = section(file, "model")?;
    let table = arrays.get(state_decoder::TABLE).cloned();
    let left_out = leave_out(&mut arrays, |key| key == state_decoder::TABLE);
    if let Some(table) = &table {
        StateDecoder::check_table(config, table)?;
    }
    let network = config.init(&Device::flex())?;
    Ok(Converted {
        arrays: fit("state decoder", &network, arrays, str::to_string)?,
        config: to_value(config)?,
        left_out,
    })
}

fn convert_vgg16(mut file: Checkpoint) -> Result<Converted> {
    let left_out = leave_out(&mut file, |key| key.starts_with("classifier."));
    let trunk = lpips::Trunk::init(lpips::STAGES, &Device::flex());
    Ok(Converted {
        arrays: fit("VGG16", &trunk, file, lpips::Trunk::key)?,
        config: serde_json::json!({ "channels": lpips::STAGES }),
        left_out,
    })
}

fn convert_lpips(file: Checkpoint) -> Result<Converted> {
    let linear = lpips::Linear::init(lpips::STAGES, &Device::flex());
    Ok(Converted {
        arrays: fit("LPIPS", &linear, file, lpips::Linear::key)?,
        config: serde_json::json!({ "channels": lpips::STAGES }),
        left_out: Vec::new(),
    })
}
