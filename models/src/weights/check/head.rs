//! Decoders and perceptual distance.

use burn::tensor::{Tensor, TensorData};
use serde::Deserialize;

use super::{Case, CheckEntry, Comparison};
use crate::head::image_decoder::{ImageDecoder, ImageDecoderConfig};
use crate::head::lpips::Constants;
use crate::head::state_decoder::{StateDecoder, StateDecoderConfig};
use crate::weights::{Array, Checkpoint};
use crate::{Error, Result};

pub(super) const ENTRIES: &[CheckEntry] = &[
    CheckEntry {
        class: "VisionTransformerDecoder",
        source: "jepa-wms",
        run: image_decoder,
    },
    CheckEntry {
        class: "StateReadoutViT",
        source: "jepa-wms",
        run: state_decoder,
    },
    CheckEntry {
        class: "LPIPS",
        source: "lpips",
        run: lpips,
    },
];

/// Share of the bytes of a picture that may be off, by one level: a value that falls on a whole number is truncated to
/// one side or the other.
const BYTES_OFF: f64 = 1e-3;

/// What both decoders say of their sizes.
#[derive(Deserialize)]
struct Vit {
    embed_dim: usize,
    decoder_embed_dim: usize,
    depth: usize,
    num_heads: usize,
    mlp_ratio: f64,
    layer_norm_eps: f64,
    #[serde(default = "one")]
    num_views: usize,
}

fn one() -> usize {
    1
}

impl Vit {
    fn hidden(&self) -> usize {
        (self.decoder_embed_dim as f64 * self.mlp_ratio) as usize
    }

    fn one_view(&self, case: &Case<'_>) -> Result<()> {
        match self.num_views {
            1 => Ok(()),
            views => Err(case.broken(format!("{views} views: decoders of one view are computed"))),
        }
    }
}

#[derive(Deserialize)]
struct Pictures {
    patch_size: usize,
    in_chans: usize,
    img_size: [usize; 2],
    normalize: [Vec<f32>; 2],
}

#[derive(Deserialize)]
struct States {
    state_dim: usize,
    grid_size: usize,
}

/// The `model` entry of the released layout.
fn head_weights(case: &Case<'_>) -> Result<Checkpoint> {
    let weights = case.arrays("model.pth.tar")?.section("model");
    Ok(weights.without_wrapper())
}

/// Features of all frames of a batch: `[B, T, 1, h, w, D]` to `[B T, h, w, D]`.
fn frames(case: &Case<'_>, features: &Array) -> Result<Array> {
    match features.shape[..] {
        [batch, frames, 1, rows, columns, width] => Array::new(
            vec![batch * frames, rows, columns, width],
            features.values.clone(),
        ),
        _ => Err(case.broken(format!(
            "features of shape {:?}, not [B, T, 1, h, w, D]",
            features.shape
        ))),
    }
}

/// Mean absolute difference, summed in `f64`.
fn l1(ours: &[f32], target: &Array) -> Result<f32> {
    if ours.len() != target.values.len() || ours.is_empty() {
        return Err(Error::Shape {
            what: "target of the loss",
            expected: format!("{} values", ours.len()),
            actual: format!("{:?}", target.shape),
        });
    }
    let differences = ours.iter().zip(&target.values);
    let sum: f64 = differences.map(|(a, b)| f64::from((a - b).abs())).sum();
    Ok((sum / ours.len() as f64) as f32)
}

fn image_decoder(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let (vit, pixels): (Vit, Pictures) = (case.config()?, case.config()?);
    vit.one_view(case)?;
    let [pixel_mean, pixel_std] = pixels.normalize.clone();
    if pixel_mean.len() != pixels.in_chans {
        return Err(case.broken(format!(
            "{} means of {} channels",
            pixel_mean.len(),
            pixels.in_chans
        )));
    }
    let config = ImageDecoderConfig {
        features: vit.embed_dim,
        width: vit.decoder_embed_dim,
        depth: vit.depth,
        heads: vit.num_heads,
        hidden: vit.hidden(),
        epsilon: vit.layer_norm_eps,
        patch: pixels.patch_size,
        picture: pixels.img_size,
        pixel_mean,
        pixel_std,
    };
    let decoder = ImageDecoder::on(config, head_weights(case)?, case.device())?;
    let (inputs, expected) = (
        case.arrays("inputs.safetensors")?,
        case.arrays("outputs.safetensors")?,
    );
    let picture = decoder.decode(&frames(case, inputs.require("features")?)?)?;
    let shown = decoder.denormalise(&picture)?;
    let bytes = decoder.to_bytes(&picture)?;
    let mut compared = vec![
        case.compare(&expected, "image", &picture.values)?,
        case.compare(&expected, "denormalised", &shown.values)?,
        compare_bytes("image_u8", &bytes, &expected.require("image_u8")?.values),
    ];
    if expected.get("l1_loss").is_some() {
        let loss = l1(&picture.values, inputs.require("rgb_target")?)?;
        compared.push(case.compare(&expected, "l1_loss", &[loss])?);
    }
    Ok(compared)
}

/// Bytes of pictures: at most one level off, and that in few places.
fn compare_bytes(name: &str, ours: &[u8], expected: &[f32]) -> Comparison {
    let differences = ours.iter().zip(expected).map(|(ours, expected)| {
        let expected = f64::from(*expected);
        let difference = (f64::from(*ours) - expected).abs();
        (difference, difference / expected.max(1.0))
    });
    let (mut largest, mut relative, mut off) = (0.0_f64, 0.0_f64, 0_usize);
    for (difference, share) in differences {
        largest = largest.max(difference);
        relative = relative.max(share);
        off += usize::from(difference > 0.0);
    }
    let same_count = ours.len() == expected.len() && !ours.is_empty();
    Comparison {
        name: name.to_string(),
        values: expected.len(),
        max_absolute: largest,
        max_relative: relative,
        allowed: if same_count {
            format!("1 level in {:.1} % of the values", 100.0 * BYTES_OFF)
        } else {
            format!("{} numbers, got {}", expected.len(), ours.len())
        },
        passed: same_count && largest <= 1.0 && off as f64 <= BYTES_OFF * ours.len() as f64,
    }
}

fn state_decoder(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let (vit, states): (Vit, States) = (case.config()?, case.config()?);
    vit.one_view(case)?;
    let config = StateDecoderConfig {
        features: vit.embed_dim,
        width: vit.decoder_embed_dim,
        depth: vit.depth,
        heads: vit.num_heads,
        hidden: vit.hidden(),
        epsilon: vit.layer_norm_eps,
        grid: [states.grid_size, states.grid_size],
        state: states.state_dim,
    };
    let decoder = StateDecoder::on(config, head_weights(case)?, case.device())?;
    let (inputs, expected) = (
        case.arrays("inputs.safetensors")?,
        case.arrays("outputs.safetensors")?,
    );
    let state = decoder.decode(&frames(case, inputs.require("features")?)?)?;
    let mut compared = vec![case.compare(&expected, "state_pred", &state.values)?];
    if expected.get("l1_loss").is_some() {
        let loss = l1(&state.values, inputs.require("state")?)?;
        compared.push(case.compare(&expected, "l1_loss", &[loss])?);
    }
    Ok(compared)
}

#[derive(Deserialize)]
struct LpipsConfig {
    normalize_eps: f64,
    shift: Vec<f32>,
    scale: Vec<f32>,
}

fn lpips(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let config: LpipsConfig = case.config()?;
    let constants = Constants {
        shift: config.shift,
        scale: config.scale,
        epsilon: config.normalize_eps,
    };
    let (inputs, expected) = (
        case.arrays("inputs.safetensors")?,
        case.arrays("outputs.safetensors")?,
    );
    let mut taps = Vec::new();
    while inputs.get(&format!("tap{}_a", taps.len())).is_some() {
        taps.push(tap_distance(case, &inputs, taps.len(), &constants)?);
    }
    if taps.is_empty() || taps.iter().any(|tap| tap.dims() != taps[0].dims()) {
        return Err(case.broken("no taps, or taps of different batches".into()));
    }
    let per_layer = Tensor::cat(taps, 1);
    let sum = values(per_layer.clone().sum_dim(1), case)?;
    let mut compared = vec![
        case.compare(&expected, "distance", &sum)?,
        case.compare(&expected, "per_layer", &values(per_layer, case)?)?,
    ];
    if let Some(image) = inputs.get("image") {
        let scaled = constants.scaled(tensor(case, "image", image, constants.shift.len())?);
        compared.push(case.compare(&expected, "scaled_image", &values(scaled, case)?)?);
    }
    Ok(compared)
}

/// The distance of the two pictures at tap `index`: `[B, 1]`.
fn tap_distance(
    case: &Case<'_>,
    inputs: &Checkpoint,
    index: usize,
    constants: &Constants,
) -> Result<Tensor<2>> {
    let weights = inputs.require(&format!("lin{index}"))?;
    let channels = weights.values.len();
    let of = |picture: &str| {
        let name = format!("tap{index}_{picture}");
        tensor(case, &name, inputs.require(&name)?, channels)
    };
    let (a, b) = (of("a")?, of("b")?);
    if a.dims() != b.dims() {
        return Err(case.broken(format!("tap {index} is of two shapes")));
    }
    let data = TensorData::new(weights.values.clone(), [1, channels, 1, 1]);
    let weights = Tensor::from_data(data, &case.device());
    Ok(constants.tap_distance(a, b, weights))
}

/// A tensor `[B, channels, h, w]` of a case.
fn tensor(case: &Case<'_>, name: &str, array: &Array, channels: usize) -> Result<Tensor<4>> {
    match array.shape[..] {
        [batch, c, height, width] if c == channels => {
            let data = TensorData::new(array.values.clone(), [batch, c, height, width]);
            Ok(Tensor::from_data(data, &case.device()))
        }
        _ => Err(case.broken(format!(
            "`{name}` of shape {:?}, not [B, {channels}, h, w]",
            array.shape
        ))),
    }
}

fn values<const D: usize>(tensor: Tensor<D>, case: &Case<'_>) -> Result<Vec<f32>> {
    let values = tensor.into_data().try_to_vec::<f32>();
    values.map_err(|e| case.broken(format!("{e:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_may_be_one_level_off_in_one_of_a_thousand() {
        let expected = vec![7.0_f32; 2000];
        let mut ours = vec![7_u8; 2000];
        (ours[3], ours[5]) = (8, 6);
        assert!(compare_bytes("x", &ours, &expected).passed);
        ours[9] = 8;
        assert!(!compare_bytes("x", &ours, &expected).passed);
        let mut ours = vec![7_u8; 2000];
        ours[0] = 9;
        assert!(!compare_bytes("x", &ours, &expected).passed);
        assert!(!compare_bytes("x", &ours[..1999], &expected).passed);
        assert!(!compare_bytes("x", &[], &[]).passed);
    }
}
