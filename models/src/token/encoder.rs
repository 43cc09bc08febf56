//! Frozen encoders of the token-grid models that need no external weights.

use burn::tensor::{Device, Tensor, TensorData};
use jepa_datasets::Stream;
use rayon::prelude::*;

use crate::encoder::conv::{ConvEncoder, frames_to_input};
use crate::layer::layer_norm::plain_norm;
use crate::train::FrameInput;
use crate::{Error, Result};

/// Epsilon of the norm over the channels of a token.
const EPSILON: f64 = 1e-6;
/// Frames that are encoded at a time, to bound memory.
const FRAMES_AT_A_TIME: usize = 64;

/// The feature map of a trained convolutional encoder, before its projection.
#[derive(Debug)]
pub(crate) struct ConvGrid {
    encoder: ConvEncoder,
    height: usize,
    width: usize,
    tokens: [usize; 3],
    device: Device,
}

impl ConvGrid {
    /// `encoder` must be on `device`, without gradients.
    pub(crate) fn new(encoder: ConvEncoder, height: usize, width: usize, device: Device) -> Self {
        Self {
            tokens: encoder.grid(height, width),
            encoder,
            height,
            width,
            device,
        }
    }
}

impl FrameInput for ConvGrid {
    fn shape(&self) -> [usize; 3] {
        self.tokens
    }

    fn convert(&self, rgb: &[u8]) -> Result<Vec<f32>> {
        let frame = 3 * self.height * self.width;
        let mut tokens =
            Vec::with_capacity(rgb.len() / frame * self.tokens.iter().product::<usize>());
        for frames in rgb.chunks(frame * FRAMES_AT_A_TIME) {
            let count = frames.len() / frame;
            let input = frames_to_input(frames, self.height, self.width);
            let shape = [count, 3, self.height, self.width];
            let images = Tensor::<4>::from_data(TensorData::new(input, shape), &self.device);
            let normed = place_tokens(self.encoder.features(images)).permute([0, 3, 1, 2]);
            tokens.extend(normed.into_data().iter::<f32>());
        }
        Ok(tokens)
    }
}

/// Every place of a feature map as a token, with a layer norm without parameters.
///
/// # Shapes
/// - `map`: `[n, De, rows, columns]`; output `[n, rows, columns, De]`
pub(crate) fn place_tokens(map: Tensor<4>) -> Tensor<4> {
    plain_norm(map.permute([0, 2, 3, 1]), EPSILON)
}

/// Square patches times a fixed matrix of normal numbers.
#[derive(Debug)]
pub(crate) struct RandomPatch {
    /// `[3 patch patch, width]`
    matrix: Vec<f32>,
    patch: usize,
    height: usize,
    width: usize,
    tokens: [usize; 3],
}

impl RandomPatch {
    /// The encoder of seed `seed` for `height x width` frames.
    ///
    /// # Errors
    /// [`Error::Config`] when a frame has no whole patch.
    pub(crate) fn new(patch: usize, width: usize, frame: [usize; 2], seed: u64) -> Result<Self> {
        let grid = frame.map(|side| side.checked_div(patch).unwrap_or(0));
        if grid.contains(&0) || width == 0 {
            return Err(Error::Config {
                key: "token.encoder",
                detail: format!(
                    "patches of {patch} pixels and width {width} give no token of a {}x{} frame",
                    frame[0], frame[1]
                ),
            });
        }
        let inputs = 3 * patch * patch;
        let mut stream = Stream::new(seed, &["init", "random_patch"]);
        let scale = 1.0 / (inputs as f64).sqrt();
        let matrix = (0..inputs * width).map(|_| (stream.normal() * scale) as f32);
        Ok(Self {
            matrix: matrix.collect(),
            patch,
            height: frame[0],
            width: frame[1],
            tokens: [width, grid[0], grid[1]],
        })
    }

    /// Tokens of one frame, `[width, rows, columns]`.
    fn encode(&self, rgb: &[u8]) -> Vec<f32> {
        let [width, rows, columns] = self.tokens;
        let mut tokens = vec![0.0; width * rows * columns];
        let mut token = vec![0.0_f32; width];
        for place in 0..rows * columns {
            token.fill(0.0);
            let (top, left) = (place / columns * self.patch, place % columns * self.patch);
            let mut weights = self.matrix.chunks_exact(width);
            for row in top..top + self.patch {
                let start = 3 * (row * self.width + left);
                for pixel in &rgb[start..start + 3 * self.patch] {
                    let value = f32::from(255 - pixel) / 255.0;
                    for (sum, weight) in token.iter_mut().zip(weights.next().unwrap_or_default()) {
                        *sum += value * weight;
                    }
                }
            }
            normalise(&mut token);
            for (channel, value) in token.iter().enumerate() {
                tokens[channel * rows * columns + place] = *value;
            }
        }
        tokens
    }
}

/// Layer norm of one token.
fn normalise(token: &mut [f32]) {
    let count = token.len() as f32;
    let mean = token.iter().sum::<f32>() / count;
    let variance = token.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / count;
    let scale = 1.0 / (variance + EPSILON as f32).sqrt();
    for value in token {
        *value = (*value - mean) * scale;
    }
}

impl FrameInput for RandomPatch {
    fn shape(&self) -> [usize; 3] {
        self.tokens
    }

    fn convert(&self, rgb: &[u8]) -> Result<Vec<f32>> {
        let frames = rgb.par_chunks_exact(3 * self.height * self.width);
        Ok(frames.flat_map_iter(|frame| self.encode(frame)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_patch_depends_on_its_own_pixels_only_and_is_normalised() {
        let encoder = RandomPatch::new(4, 8, [9, 9], 3).unwrap();
        assert_eq!(encoder.shape(), [8, 2, 2]);
        let mut frame: Vec<u8> = (0..9 * 9 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let before = encoder.convert(&frame).unwrap();
        // Row 1, column 6 lies in the second patch; row 8 in none.
        frame[3 * (9 + 6)] ^= 0xff;
        frame[3 * (8 * 9 + 1)] ^= 0xff;
        let after = encoder.convert(&frame).unwrap();
        for place in 0..4 {
            let token = |all: &[f32]| (0..8).map(|c| all[c * 4 + place]).collect::<Vec<f32>>();
            assert_eq!(token(&before) != token(&after), place == 1, "{place}");
            let mean = token(&before).iter().sum::<f32>() / 8.0;
            assert!(mean.abs() < 1e-5, "{mean}");
        }
    }

    #[test]
    fn frames_smaller_than_a_patch_are_refused() {
        assert!(RandomPatch::new(8, 4, [7, 20], 0).is_err());
        assert!(RandomPatch::new(0, 4, [7, 20], 0).is_err());
    }
}
