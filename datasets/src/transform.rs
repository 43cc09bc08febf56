//! Image transforms of the reference code bases: geometry, size and pixel scale (datasets.md section 4).
//!
//! All of them are deterministic: the released settings make the "random" crop a central one.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Mean and standard deviation per channel, for pixels in `[0, 1]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PixelNorm {
    /// Mean of red, green and blue.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue.
    pub std: [f32; 3],
}

impl PixelNorm {
    /// Statistics of `ImageNet`.
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };
    /// One half everywhere: pixels become -1 to 1.
    pub const HALF: Self = Self {
        mean: [0.5; 3],
        std: [0.5; 3],
    };
}

/// Which code base's transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Geometry {
    /// Central crop with an aspect ratio limit, then bilinear without antialias (section 4.1).
    #[serde(rename = "jepa-wms")]
    JepaWms,
    /// Shorter side to the size with antialias, then central crop (section 4.2).
    #[serde(rename = "dino-wm")]
    DinoWm,
    /// As JEPA-WMs, with the wide crop of V-JEPA-2-AC (section 4.3).
    #[serde(rename = "vjepa2-ac")]
    VJepa2Ac,
}

/// A whole transform.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transform {
    /// Crop and interpolation.
    pub geometry: Geometry,
    /// Side of the square output in pixels.
    pub size: usize,
    /// Scale of the pixels.
    pub norm: PixelNorm,
    /// Smallest and largest width divided by height of the crop; not used by [`Geometry::DinoWm`].
    pub aspect: [f64; 2],
}

impl Transform {
    /// The released settings of a code base.
    pub fn released(geometry: Geometry) -> Self {
        match geometry {
            Geometry::JepaWms => Self {
                geometry,
                size: 224,
                norm: PixelNorm::IMAGENET,
                aspect: [1.0, 1.0],
            },
            Geometry::DinoWm => Self {
                geometry,
                size: 224,
                norm: PixelNorm::HALF,
                aspect: [1.0, 1.0],
            },
            Geometry::VJepa2Ac => Self {
                geometry,
                size: 256,
                norm: PixelNorm::IMAGENET,
                aspect: [0.75, 1.35],
            },
        }
    }

    /// Refuses sizes and aspect ratios that make no image.
    pub fn check(&self) -> Result<()> {
        if !(1..=8192).contains(&self.size) {
            return Err(Error::invalid(
                "image size",
                self.size,
                "it must lie between 1 and 8192",
            ));
        }
        let [low, high] = self.aspect;
        if !(low.is_finite() && high.is_finite() && 0.0 < low && low <= high) {
            return Err(Error::invalid(
                "aspect",
                format!("{low}:{high}"),
                "it must be MIN:MAX with 0 < MIN <= MAX",
            ));
        }
        Ok(())
    }

    /// Transforms frames.
    ///
    /// # Shapes
    /// - `frames`: `[T, height, width, 3]`, 0 to 255
    /// - output: `[T, 3, size, size]`
    ///
    /// # Panics
    /// When `frames` is not a whole number of frames.
    pub fn apply(&self, frames: &[f32], height: usize, width: usize) -> Vec<f32> {
        assert_eq!(
            frames.len() % (height * width * 3),
            0,
            "{} values in frames of {height}x{width}x3",
            frames.len()
        );
        let mut out = Vec::with_capacity(frames.len() / (height * width) * self.size * self.size);
        for frame in frames.chunks_exact(height * width * 3) {
            for channel in 0..3 {
                let plane = Plane {
                    height,
                    width,
                    values: frame
                        .iter()
                        .skip(channel)
                        .step_by(3)
                        .map(|v| v / 255.0)
                        .collect(),
                };
                let (mean, std) = (self.norm.mean[channel], self.norm.std[channel]);
                out.extend(self.resize(&plane).values.iter().map(|v| (v - mean) / std));
            }
        }
        out
    }

    fn resize(&self, plane: &Plane) -> Plane {
        match self.geometry {
            Geometry::JepaWms | Geometry::VJepa2Ac => plane
                .crop(&Crop::central(plane.height, plane.width, self.aspect))
                .bilinear(self.size, self.size),
            Geometry::DinoWm => {
                let (h, w) = shorter_side(plane.height, plane.width, self.size);
                let resized = plane.antialiased(h, w);
                let (top, left) = (half_to_even(h - self.size), half_to_even(w - self.size));
                resized.crop(&Crop {
                    top,
                    left,
                    height: self.size,
                    width: self.size,
                })
            }
        }
    }
}

/// Height and width whose shorter one is `size`; the longer one is cut down, as torchvision does.
fn shorter_side(height: usize, width: usize, size: usize) -> (usize, usize) {
    if height <= width {
        (size, size * width / height)
    } else {
        (size * height / width, size)
    }
}

/// Half of a margin, rounded as torchvision's `CenterCrop` does.
fn half_to_even(margin: usize) -> usize {
    (margin as f64 / 2.0).round_ties_even() as usize
}

/// A rectangle of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Crop {
    /// The central crop that torchvision falls back to when no random one fits, which is always so with
    /// the released scale of 1.777 (datasets.md section 4.1).
    pub fn central(height: usize, width: usize, aspect: [f64; 2]) -> Self {
        let ratio = width as f64 / height as f64;
        let (h, w) = if ratio < aspect[0] {
            ((width as f64 / aspect[0]).round_ties_even() as usize, width)
        } else if ratio > aspect[1] {
            (
                height,
                (height as f64 * aspect[1]).round_ties_even() as usize,
            )
        } else {
            (height, width)
        };
        let (h, w) = (h.clamp(1, height), w.clamp(1, width));
        Self {
            top: (height - h) / 2,
            left: (width - w) / 2,
            height: h,
            width: w,
        }
    }
}

/// One channel of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `[height, width]`, row-major.
    pub values: Vec<f32>,
}

impl Plane {
    /// A rectangle of it.
    #[must_use]
    pub fn crop(&self, crop: &Crop) -> Self {
        let rows = self
            .values
            .chunks_exact(self.width)
            .skip(crop.top)
            .take(crop.height);
        let values = rows
            .flat_map(|row| &row[crop.left..crop.left + crop.width])
            .copied()
            .collect();
        Self {
            height: crop.height,
            width: crop.width,
            values,
        }
    }

    /// Bilinear interpolation without antialias: torch's `interpolate`, `align_corners` false.
    ///
    /// ```text
    /// source = max(0, (target + 0.5) * in / out - 0.5)                     datasets.md section 4.1
    /// ```
    #[must_use]
    pub fn bilinear(&self, height: usize, width: usize) -> Self {
        let columns: Vec<Neighbours> = (0..width)
            .map(|x| Neighbours::new(x, self.width, width))
            .collect();
        let mut values = Vec::with_capacity(height * width);
        for y in 0..height {
            let rows = Neighbours::new(y, self.height, height);
            let [upper, lower] = rows
                .at
                .map(|row| &self.values[row * self.width..(row + 1) * self.width]);
            for column in &columns {
                values
                    .push(rows.weight[0] * column.mix(upper) + rows.weight[1] * column.mix(lower));
            }
        }
        Self {
            height,
            width,
            values,
        }
    }

    /// Bilinear interpolation with antialias: a triangle filter as wide as the scale, rows then columns.
    #[must_use]
    pub fn antialiased(&self, height: usize, width: usize) -> Self {
        let columns: Vec<Window> = (0..width)
            .map(|x| Window::new(x, self.width, width))
            .collect();
        let rows: Vec<Window> = (0..height)
            .map(|y| Window::new(y, self.height, height))
            .collect();
        let mut wide = Vec::with_capacity(self.height * width);
        for row in self.values.chunks_exact(self.width.max(1)) {
            wide.extend(columns.iter().map(|window| window.sum(|x| row[x])));
        }
        let mut values = Vec::with_capacity(height * width);
        for window in &rows {
            values.extend((0..width).map(|x| window.sum(|y| wide[y * width + x])));
        }
        Self {
            height,
            width,
            values,
        }
    }
}

/// The two source positions of one output position, and their weights.
#[derive(Debug, Clone, Copy)]
struct Neighbours {
    at: [usize; 2],
    weight: [f32; 2],
}

impl Neighbours {
    fn new(target: usize, from: usize, to: usize) -> Self {
        let scale = from as f32 / to as f32;
        let source = ((target as f32 + 0.5) * scale - 0.5).max(0.0);
        let first = (source as usize).min(from - 1);
        let weight = source - first as f32;
        Self {
            at: [first, (first + 1).min(from - 1)],
            weight: [1.0 - weight, weight],
        }
    }

    fn mix(&self, values: &[f32]) -> f32 {
        self.weight[0] * values[self.at[0]] + self.weight[1] * values[self.at[1]]
    }
}

/// A run of source positions and their weights, which sum to 1.
#[derive(Debug, Clone)]
struct Window {
    first: usize,
    weights: Vec<f32>,
}

impl Window {
    fn new(target: usize, from: usize, to: usize) -> Self {
        let scale = from as f32 / to as f32;
        let (support, inverse) = if scale > 1.0 {
            (scale, 1.0 / scale)
        } else {
            (1.0, 1.0)
        };
        let center = (target as f32 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let last = ((center + support + 0.5) as usize).min(from);
        let weight = |x: usize| (1.0 - ((x as f32 - center + 0.5) * inverse).abs()).max(0.0);
        let weights: Vec<f32> = (first..last).map(weight).collect();
        let total: f32 = weights.iter().sum();
        Self {
            first,
            weights: weights.iter().map(|w| w / total).collect(),
        }
    }

    fn sum(&self, value: impl Fn(usize) -> f32) -> f32 {
        self.weights
            .iter()
            .enumerate()
            .map(|(i, weight)| weight * value(self.first + i))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp() -> Plane {
        Plane {
            height: 4,
            width: 4,
            values: (0_u8..16).map(f32::from).collect(),
        }
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-4, "{found:?} is not {expected:?}");
        }
    }

    /// datasets.md section 17.
    #[test]
    fn bilinear_without_antialias_equals_torch() {
        let small = ramp().bilinear(3, 3);
        close(
            &small.values,
            &[
                0.8333, 2.1667, 3.5, 6.1667, 7.5, 8.8333, 11.5, 12.8333, 14.1667,
            ],
        );
        close(
            &ramp().bilinear(6, 6).values[..6],
            &[0.0, 0.5, 1.1667, 1.8333, 2.5, 3.0],
        );
    }

    /// datasets.md section 17.
    #[test]
    fn bilinear_with_antialias_equals_torch() {
        let small = ramp().antialiased(3, 3);
        close(
            &small.values,
            &[1.5, 2.7, 3.9, 6.3, 7.5, 8.7, 11.1, 12.3, 13.5],
        );
    }

    #[test]
    fn the_same_size_changes_nothing() {
        assert_eq!(ramp().bilinear(4, 4), ramp());
        close(&ramp().antialiased(4, 4).values, &ramp().values);
    }

    /// datasets.md section 4.1: top, left, height, width.
    #[test]
    fn central_crops_are_those_of_the_released_settings() {
        let square = [1.0, 1.0];
        let wide = [0.75, 1.35];
        let crop = |h, w, aspect| {
            let crop = Crop::central(h, w, aspect);
            (crop.top, crop.left, crop.height, crop.width)
        };
        assert_eq!(crop(720, 1280, square), (0, 280, 720, 720));
        assert_eq!(crop(720, 1280, wide), (0, 154, 720, 972));
        assert_eq!(crop(180, 320, square), (0, 70, 180, 180));
        assert_eq!(crop(180, 320, wide), (0, 38, 180, 243));
        assert_eq!(crop(480, 640, square), (0, 80, 480, 480));
        assert_eq!(crop(480, 640, wide), (0, 0, 480, 640));
        assert_eq!(crop(640, 320, wide), (106, 0, 427, 320));
    }

    #[test]
    fn a_plain_grey_frame_becomes_its_normalized_value_everywhere() {
        for geometry in [Geometry::JepaWms, Geometry::DinoWm, Geometry::VJepa2Ac] {
            let transform = Transform {
                size: 8,
                ..Transform::released(geometry)
            };
            let out = transform.apply(&[127.5; 6 * 10 * 3], 6, 10);
            assert_eq!(out.len(), 3 * 8 * 8);
            for (channel, plane) in out.chunks_exact(64).enumerate() {
                let expected = (0.5 - transform.norm.mean[channel]) / transform.norm.std[channel];
                assert!(
                    plane.iter().all(|v| (v - expected).abs() < 1e-5),
                    "{geometry:?}: {plane:?}"
                );
            }
        }
    }

    #[test]
    fn senseless_sizes_and_ratios_are_refused() {
        let good = Transform::released(Geometry::JepaWms);
        good.check().expect("the released settings");
        assert!(Transform { size: 0, ..good }.check().is_err());
        assert!(
            Transform {
                aspect: [2.0, 1.0],
                ..good
            }
            .check()
            .is_err()
        );
        assert!(
            Transform {
                aspect: [0.0, f64::NAN],
                ..good
            }
            .check()
            .is_err()
        );
    }
}
