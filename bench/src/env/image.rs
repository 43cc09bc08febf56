//! Frames of simulators: 8-bit RGB, enlarged the way the released planners enlarge them.

use std::ops::Range;
use std::path::Path;

use crate::{Error, Result};

/// An 8-bit RGB image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Pixels, `[h, w, 3]`, row-major.
    pub rgb: Vec<u8>,
}

impl Image {
    /// An image of one colour.
    pub fn filled(height: usize, width: usize, colour: [u8; 3]) -> Self {
        Self {
            height,
            width,
            rgb: colour.repeat(height * width),
        }
    }

    /// The colour of one pixel.
    ///
    /// # Panics
    /// When the pixel lies outside the image.
    pub fn pixel(&self, row: usize, column: usize) -> [u8; 3] {
        assert!(
            row < self.height && column < self.width,
            "pixel ({row}, {column}) is outside"
        );
        let at = (row * self.width + column) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// Sum of each channel over all pixels.
    pub fn channel_sums(&self) -> [u64; 3] {
        let mut sums = [0; 3];
        for pixel in self.rgb.chunks_exact(3) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += u64::from(value);
            }
        }
        sums
    }

    /// This image resized to a square by [`bilinear`], rounded half up.
    #[must_use]
    pub fn resized(&self, size: usize) -> Self {
        let mut out = Self::filled(size, size, [0; 3]);
        self.resize_window(&mut out, 0..size, 0..size);
        out
    }

    /// Makes some rows and columns of `out` what they are in [`resized`](Self::resized) to its (square) size.
    ///
    /// # Panics
    /// When the window reaches beyond `out`.
    pub fn resize_window(&self, out: &mut Image, rows: Range<usize>, columns: Range<usize>) {
        let across = &taps(self.width, out.width)[columns.clone()];
        let down = taps(self.height, out.height);
        let stride = 3 * self.width;
        let source = |row: usize| &self.rgb[row * stride..(row + 1) * stride];
        // The last stretched rows: consecutive output rows share them.
        let mut wide: [(usize, Vec<f64>); 2] = [const { (usize::MAX, Vec::new()) }; 2];
        for row in rows {
            let tap = &down[row];
            for wanted in [tap.low, tap.high] {
                if wide.iter().all(|(held, _)| *held != wanted) {
                    let older = usize::from(wide[1].0 != tap.low && wide[1].0 != tap.high);
                    wide[older].0 = wanted;
                    stretch(source(wanted), across, &mut wide[older].1);
                }
            }
            let held = |wanted: usize| &wide[usize::from(wide[1].0 == wanted)].1;
            let pairs = held(tap.low).iter().zip(held(tap.high));
            let first = 3 * (row * out.width + columns.start);
            let pixels = &mut out.rgb[first..][..3 * columns.len()];
            for (pixel, (upper, lower)) in pixels.iter_mut().zip(pairs) {
                *pixel = (tap.mix(*upper, *lower) + 0.5) as u8;
            }
        }
    }

    /// The part with its upper left corner at (`row`, `column`).
    ///
    /// # Panics
    /// When it reaches beyond the image.
    #[must_use]
    pub fn cropped(&self, row: usize, column: usize, height: usize, width: usize) -> Self {
        assert!(
            row + height <= self.height && column + width <= self.width,
            "the part is not in the image"
        );
        let line = |at: usize| {
            let first = 3 * ((row + at) * self.width + column);
            &self.rgb[first..first + 3 * width]
        };
        Self {
            height,
            width,
            rgb: (0..height).flat_map(line).copied().collect(),
        }
    }

    /// Copies `other` into this image with its upper left corner at (`row`, `column`).
    ///
    /// # Panics
    /// When `other` does not fit there.
    pub fn paste(&mut self, other: &Image, row: usize, column: usize) {
        let fits = row + other.height <= self.height && column + other.width <= self.width;
        assert!(
            fits,
            "{}x{} does not fit at ({row}, {column})",
            other.height, other.width
        );
        for r in 0..other.height {
            let from = r * other.width * 3;
            let to = ((row + r) * self.width + column) * 3;
            let length = other.width * 3;
            self.rgb[to..to + length].copy_from_slice(&other.rgb[from..from + length]);
        }
    }

    /// The image as a PNG file in memory.
    ///
    /// # Errors
    /// When the encoder refuses the image (a side of 0 pixels).
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.rgb)?;
            writer.finish()
        });
        match written {
            Ok(()) => Ok(bytes),
            Err(error) => Err(Error::Invalid {
                what: format!("image of {}x{} pixels", self.height, self.width),
                detail: error.to_string(),
            }),
        }
    }

    /// Writes the image as a PNG file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_png(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.to_png()?).map_err(|source| Error::Io {
            action: "write",
            path: path.to_path_buf(),
            source,
        })
    }
}

/// Bilinear interpolation with half-pixel centres and no antialiasing, unrounded, `[h, w, 3]`
/// (evaluation.md section 1.1).
pub fn bilinear(image: &Image, height: usize, width: usize) -> Vec<f64> {
    let columns = taps(image.width, width);
    let stride = 3 * image.width;
    let stretched = |row| {
        let mut wide = Vec::new();
        stretch(row, &columns, &mut wide);
        wide
    };
    let wide: Vec<Vec<f64>> = image.rgb.chunks_exact(stride).map(stretched).collect();
    let mut out = Vec::with_capacity(height * width * 3);
    for tap in taps(image.height, height) {
        let pairs = wide[tap.low].iter().zip(&wide[tap.high]);
        out.extend(pairs.map(|(upper, lower)| tap.mix(*upper, *lower)));
    }
    out
}

/// One row of pixels interpolated to other columns, `[w, 3]`, in place of what `out` held.
fn stretch(row: &[u8], columns: &[Tap], out: &mut Vec<f64>) {
    out.clear();
    let (pixels, _) = row.as_chunks::<3>();
    for tap in columns {
        let (low, high) = (pixels[tap.low], pixels[tap.high]);
        let mixed = low
            .iter()
            .zip(high)
            .map(|(low, high)| tap.mix(f64::from(*low), f64::from(high)));
        out.extend(mixed);
    }
}

/// The two source pixels of an output pixel along one axis.
struct Tap {
    low: usize,
    high: usize,
    weight: f64,
}

impl Tap {
    fn mix(&self, low: f64, high: f64) -> f64 {
        low * (1.0 - self.weight) + high * self.weight
    }
}

/// Source pixels and weights for each of `to` output pixels along an axis of `from` pixels.
fn taps(from: usize, to: usize) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    let tap = |at: usize| {
        let position = ((at as f64 + 0.5) * scale - 0.5).max(0.0);
        let low = (position as usize).min(from - 1);
        Tap {
            low,
            high: (low + 1).min(from - 1),
            weight: position - low as f64,
        }
    };
    (0..to).map(tap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bilinear_puts_samples_at_half_pixel_centres() {
        let image = Image {
            height: 1,
            width: 2,
            rgb: vec![0, 0, 0, 100, 100, 100],
        };
        let reds: Vec<f64> = bilinear(&image, 1, 4)
            .chunks(3)
            .map(|pixel| pixel[0])
            .collect();
        assert_eq!(reds, [0.0, 25.0, 75.0, 100.0]);
    }

    #[test]
    fn a_window_of_a_resized_image_is_that_of_the_whole() {
        let rgb: Vec<u8> = (0..13 * 11 * 3).map(|at| (at * at % 253) as u8).collect();
        let image = Image {
            height: 13,
            width: 11,
            rgb,
        };
        for size in [7, 13, 40] {
            let whole = bilinear(&image, size, size).into_iter();
            let whole: Vec<u8> = whole.map(|value| (value + 0.5) as u8).collect();
            assert_eq!(image.resized(size).rgb, whole);
            let mut window = Image::filled(size, size, [9; 3]);
            image.resize_window(&mut window, 2..5, 1..6);
            for (at, pixel) in window.rgb.chunks(3).enumerate() {
                let inside = (2..5).contains(&(at / size)) && (1..6).contains(&(at % size));
                let expected = if inside {
                    &whole[3 * at..][..3]
                } else {
                    &[9; 3]
                };
                assert_eq!(pixel, expected, "pixel {at} of {size}");
            }
        }
    }

    #[test]
    fn resizing_to_the_same_size_changes_nothing() {
        let rgb: Vec<u8> = (0..75).map(|value| value * 3).collect();
        let image = Image {
            height: 5,
            width: 5,
            rgb,
        };
        assert_eq!(image.resized(5), image);
    }

    #[test]
    fn a_png_decodes_to_the_same_pixels() {
        let mut image = Image::filled(3, 4, [1, 2, 3]);
        image.paste(&Image::filled(1, 2, [200, 0, 255]), 1, 2);
        let bytes = image.to_png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
            .read_info()
            .unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut rgb).unwrap();
        assert_eq!(rgb, image.rgb);
        assert_eq!(image.pixel(1, 3), [200, 0, 255]);
    }

    #[test]
    fn a_part_is_what_was_pasted_there() {
        let mut image = Image::filled(5, 7, [1, 2, 3]);
        let part = Image {
            height: 2,
            width: 3,
            rgb: (10..28).collect(),
        };
        image.paste(&part, 2, 3);
        assert_eq!(image.cropped(2, 3, 2, 3), part);
        assert_eq!(image.cropped(0, 0, 2, 7), Image::filled(2, 7, [1, 2, 3]));
    }

    #[test]
    fn an_empty_image_is_refused() {
        assert!(Image::filled(0, 3, [0; 3]).to_png().is_err());
    }
}
