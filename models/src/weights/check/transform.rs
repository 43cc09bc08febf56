//! Image transforms: a few blocks, one row and the statistics of every transformed picture (models.md section
//! 1.7).

use std::collections::BTreeMap;

use jepa_datasets::transform::{Crop, Geometry, PixelNorm, Plane, Transform};
use serde::Deserialize;

use super::{Case, CheckEntry, Comparison, Tolerance, compare};
use crate::Result;
use crate::weights::Array;

pub(super) const ENTRIES: &[CheckEntry] = &[
    CheckEntry {
        class: "VideoTransform",
        source: "jepa-wms",
        run: jepa_wms,
    },
    CheckEntry {
        class: "VideoTransform",
        source: "vjepa2",
        run: vjepa2,
    },
    CheckEntry {
        class: "default_transform",
        source: "dino_wm",
        run: dino_wm,
    },
];

/// The reference of this variant resizes bytes and rounds in between, which the notes of its case put at this.
const BYTES_TOLERANCE: Tolerance = Tolerance {
    absolute: 0.03,
    relative: 0.0,
};

/// Side of the blocks that are compared.
const BLOCK: usize = 16;

#[derive(Debug, Deserialize)]
struct Config {
    output_size: usize,
    /// Side of the second resize of DINO-WM.
    encoder_image_size: Option<usize>,
    /// Mean and standard deviation by name.
    #[serde(default)]
    normalize: BTreeMap<String, [[f32; 3]; 2]>,
    images: String,
}

impl Config {
    fn norm(&self, name: &str) -> Option<PixelNorm> {
        let [mean, std] = *self.normalize.get(name)?;
        Some(PixelNorm { mean, std })
    }
}

/// One picture after its transform: three square planes.
struct Transformed {
    size: usize,
    /// `[3, size, size]`.
    values: Vec<f32>,
}

impl Transformed {
    /// `[3, rows, columns]` from a corner.
    fn block(&self, [top, left]: [usize; 2], [rows, columns]: [usize; 2]) -> Vec<f32> {
        let planes = self.values.chunks_exact(self.size * self.size);
        let lines = planes.flat_map(|plane| plane.chunks_exact(self.size).skip(top).take(rows));
        lines
            .flat_map(|line| &line[left..left + columns])
            .copied()
            .collect()
    }

    /// Mean and standard deviation (divided by `n - 1`) of every channel.
    fn statistics(&self) -> [Vec<f32>; 2] {
        let count = (self.size * self.size) as f64;
        let planes = self.values.chunks_exact(self.size * self.size);
        let channels = planes.map(|plane| {
            let mean = plane.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
            let squares: f64 = plane.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum();
            (mean as f32, (squares / (count - 1.0)).sqrt() as f32)
        });
        let (means, stds) = channels.unzip();
        [means, stds]
    }

    /// What an output of that name holds.
    fn output(&self, name: &str) -> Option<Vec<f32>> {
        let size = self.size;
        let square = |corner: usize| self.block([corner; 2], [BLOCK; 2]);
        Some(match name {
            "block_tl" => square(0),
            "block_c" => square(size / 2 - BLOCK / 2),
            "block_br" => square(size - BLOCK),
            "row5" => self.block([5, 0], [1, size]),
            "mean" => self.statistics()[0].clone(),
            "std" => self.statistics()[1].clone(),
            _ => return None,
        })
    }
}

fn jepa_wms(case: &Case<'_>) -> Result<Vec<Comparison>> {
    cropped(case, Geometry::JepaWms)
}

fn vjepa2(case: &Case<'_>) -> Result<Vec<Comparison>> {
    cropped(case, Geometry::VJepa2Ac)
}

/// Variants `<norm>.<ratio>` or `<ratio>` with the statistics of `ImageNet`, and `eval`.
fn cropped(case: &Case<'_>, geometry: Geometry) -> Result<Vec<Comparison>> {
    compare_all(case, |config, variant, picture| {
        let norm = |name: &str| config.norm(name).unwrap_or(PixelNorm::IMAGENET);
        if variant == "eval" {
            return Some(resized_bytes(picture, config.output_size, norm("imagenet")));
        }
        let (norm, ratio) = match variant.split_once('.') {
            Some((name, ratio)) => (config.norm(name)?, ratio),
            None => (norm("imagenet"), variant),
        };
        let transform = Transform {
            geometry,
            size: config.output_size,
            norm,
            aspect: aspect(ratio)?,
        };
        Some(apply(&transform, picture))
    })
}

fn dino_wm(case: &Case<'_>) -> Result<Vec<Comparison>> {
    compare_all(case, |config, variant, picture| {
        let released = Transform::released(Geometry::DinoWm);
        let transform = Transform {
            size: config.output_size,
            norm: config.norm("half").unwrap_or(released.norm),
            ..released
        };
        let first = apply(&transform, picture);
        match variant {
            "default" => Some(first),
            // A patch of 14 pixels for each of 16 (models.md section 0, row 8).
            "encoder_input" => {
                let size = config
                    .encoder_image_size
                    .unwrap_or(config.output_size / 16 * 14);
                let planes = planes(&first.values, first.size, first.size);
                let values = planes.flat_map(|plane| plane.antialiased(size, size).values);
                Some(Transformed {
                    size,
                    values: values.collect(),
                })
            }
            _ => None,
        }
    })
}

/// Every output of the case, called `<variant>.<picture>.<what>`; `transform` gives the picture of a variant.
fn compare_all(
    case: &Case<'_>,
    transform: impl Fn(&Config, &str, &Array) -> Option<Transformed>,
) -> Result<Vec<Comparison>> {
    let config: Config = case.config()?;
    let pictures = case.arrays(&config.images)?;
    let expected = case.arrays("outputs.safetensors")?;
    let mut last: Option<(String, Transformed)> = None;
    let mut compared = Vec::new();
    for name in expected.keys() {
        let unknown = || case.broken(format!("`{name}` is no output of a transform"));
        let (of, what) = name.rsplit_once('.').ok_or_else(unknown)?;
        let (variant, picture) = of.rsplit_once('.').ok_or_else(unknown)?;
        if last.as_ref().is_none_or(|(known, _)| known != of) {
            let picture = pictures.require(picture)?;
            let is_picture = matches!(picture.shape.as_slice(), [_, _, 3]);
            let done = if is_picture {
                transform(&config, variant, picture)
            } else {
                None
            };
            last = Some((of.to_string(), done.ok_or_else(unknown)?));
        }
        let ours = last
            .as_ref()
            .and_then(|(_, done)| done.output(what))
            .ok_or_else(unknown)?;
        let tolerance = if variant == "eval" {
            BYTES_TOLERANCE
        } else {
            case.tolerance()
        };
        compared.push(compare(
            name,
            &ours,
            &expected.require(name)?.values,
            tolerance,
        ));
    }
    Ok(compared)
}

fn apply(transform: &Transform, picture: &Array) -> Transformed {
    Transformed {
        size: transform.size,
        values: transform.apply(&picture.values, picture.shape[0], picture.shape[1]),
    }
}

/// `ratio075_135` is 0.75 to 1.35, `ratio1` is 1 to 1.
fn aspect(name: &str) -> Option<[f64; 2]> {
    let number = |digits: &str| -> Option<f64> {
        let (whole, fraction) = digits.split_at_checked(1)?;
        format!("{whole}.{fraction}0").parse().ok()
    };
    let ratio = name.strip_prefix("ratio")?;
    match ratio.split_once('_') {
        Some((low, high)) => Some([number(low)?, number(high)?]),
        None => Some([number(ratio)?; 2]),
    }
}

/// Planes of `[3, height, width]`.
fn planes(values: &[f32], height: usize, width: usize) -> impl Iterator<Item = Plane> {
    values.chunks_exact(height * width).map(move |plane| Plane {
        height,
        width,
        values: plane.to_vec(),
    })
}

/// V-JEPA 2's transform for evaluating video classifiers: the shorter side to 256/224 of the size in bytes, the
/// middle of it, then the pixel scale.
fn resized_bytes(picture: &Array, size: usize, norm: PixelNorm) -> Transformed {
    let (height, width) = (picture.shape[0], picture.shape[1]);
    let short = size * 256 / 224;
    let (rows, columns) = if width < height {
        (short * height / width, short)
    } else {
        (short, short * width / height)
    };
    let half_to_even = |margin: usize| (margin as f64 / 2.0).round_ties_even() as usize;
    let middle = Crop {
        top: half_to_even(rows - size),
        left: half_to_even(columns - size),
        height: size,
        width: size,
    };
    let mut values = Vec::with_capacity(3 * size * size);
    for channel in 0..3 {
        let plane = Plane {
            height,
            width,
            values: picture
                .values
                .iter()
                .skip(channel)
                .step_by(3)
                .copied()
                .collect(),
        };
        let plane = plane.bilinear(rows, columns).crop(&middle);
        let (mean, std) = (norm.mean[channel], norm.std[channel]);
        values.extend(
            plane
                .values
                .iter()
                .map(|value| (value.round() / 255.0 - mean) / std),
        );
    }
    Transformed { size, values }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::check::testing::assert_case;

    #[test]
    fn the_transform_of_jepa_wms_equals_the_reference() {
        assert_case("preprocess_jepa_wms");
    }

    #[test]
    fn the_transform_of_dino_wm_equals_the_reference() {
        assert_case("preprocess_dino_wm");
    }

    #[test]
    fn the_transform_of_vjepa2_equals_the_reference() {
        assert_case("preprocess_vjepa2");
    }

    #[test]
    fn ratios_are_read_from_the_names_of_variants() {
        assert_eq!(aspect("ratio1"), Some([1.0, 1.0]));
        assert_eq!(aspect("ratio075_135"), Some([0.75, 1.35]));
        assert_eq!(aspect("eval"), None);
    }
}
