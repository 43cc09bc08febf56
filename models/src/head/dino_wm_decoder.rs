//! The convolutional decoder of the original DINO-WM (models.md section 6.4), its quantisation left off as trained.
//!
//! Two upsamplers of the same build, each four times the sides: a 3 x 3 convolution, residual blocks, ReLU, and two
//! transposed convolutions of stride 2 with ReLU between them. 14 x 14 features become 56 x 56 and then a picture of
//! 224 x 224 in normalised pixels.
//!
//! The reference saves whole pickled objects, whose classes no reader here will build, so there is nothing to import;
//! a state dict with the reference's keys loads.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::tensor::{Device, Tensor, activation};
use serde::{Deserialize, Serialize};

use super::{array, grid_features, unfit};
use crate::Result;
use crate::weights::{Array, Checkpoint, fill};

/// Sizes of a [`DinoWmDecoder`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DinoWmDecoderConfig {
    /// Width of the encoder's features, and channels between the upsamplers.
    pub features: usize,
    /// Channels inside an upsampler, even.
    pub channels: usize,
    /// Residual blocks of an upsampler.
    pub blocks: usize,
    /// Channels inside a residual block.
    pub block_channels: usize,
    /// Channels of a picture.
    pub picture: usize,
}

impl Default for DinoWmDecoderConfig {
    fn default() -> Self {
        Self {
            features: 384,
            channels: 384,
            blocks: 4,
            block_channels: 128,
            picture: 3,
        }
    }
}

impl DinoWmDecoderConfig {
    /// A network of these sizes with lazy weights: nothing is allocated until they are used.
    pub(crate) fn init(&self, device: &Device) -> Result<Network> {
        let sizes = [
            self.features,
            self.channels,
            self.block_channels,
            self.picture,
        ];
        if sizes.contains(&0) || !self.channels.is_multiple_of(2) {
            return Err(unfit(
                "DINO-WM decoder",
                "a size is 0, or the channels are odd",
            ));
        }
        Ok(Network {
            upsample_b: self.upsampler(self.features, device),
            dec: self.upsampler(self.picture, device),
        })
    }

    fn upsampler(&self, output: usize, device: &Device) -> Upsampler {
        let half = self.channels / 2;
        let enlarge = |from: usize, to: usize| {
            ConvTranspose2dConfig::new([from, to], [4, 4])
                .with_stride([2, 2])
                .with_padding([1, 1])
                .init(device)
        };
        let block = || Residual {
            inner: convolution(self.channels, self.block_channels, 3, device),
            outer: convolution(self.block_channels, self.channels, 1, device),
        };
        Upsampler {
            input: convolution(self.features, self.channels, 3, device),
            blocks: (0..self.blocks).map(|_| block()).collect(),
            first: enlarge(self.channels, half),
            second: enlarge(half, output),
        }
    }

    /// The reference's key for a parameter of ours: its layers are numbered, ReLU counted.
    fn key(&self, path: &str) -> String {
        let Some((upsampler, rest)) = path.split_once('.') else {
            return path.to_string();
        };
        let number = |layer: usize, rest: &str| format!("{upsampler}.blocks.{layer}.{rest}");
        match rest.split_once('.') {
            Some(("input", leaf)) => number(0, leaf),
            Some(("first", leaf)) => number(self.blocks + 2, leaf),
            Some(("second", leaf)) => number(self.blocks + 4, leaf),
            Some(("blocks", rest)) => {
                let (block, leaf) = rest.split_once('.').unwrap_or((rest, ""));
                let leaf = leaf.replace("inner", "conv.1").replace("outer", "conv.3");
                number(1 + block.parse::<usize>().unwrap_or(0), &leaf)
            }
            _ => path.to_string(),
        }
    }
}

/// A convolution that keeps the sides.
fn convolution(from: usize, to: usize, kernel: usize, device: &Device) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new([from, to], [kernel, kernel])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .init(device)
}

/// The weights.
#[derive(Module, Debug)]
pub(crate) struct Network {
    upsample_b: Upsampler,
    dec: Upsampler,
}

/// Four times the sides.
#[derive(Module, Debug)]
struct Upsampler {
    input: Conv2d,
    blocks: Vec<Residual>,
    first: ConvTranspose2d,
    second: ConvTranspose2d,
}

impl Upsampler {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let x = self.input.forward(input);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let x = self.first.forward(activation::relu(x));
        self.second.forward(activation::relu(x))
    }
}

/// `x + outer(relu(inner(relu(x))))`.
#[derive(Module, Debug)]
struct Residual {
    inner: Conv2d,
    outer: Conv2d,
}

impl Residual {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let x = self.inner.forward(activation::relu(input.clone()));
        input + self.outer.forward(activation::relu(x))
    }
}

/// Decodes patch features into pictures of sixteen times the sides of their grid.
#[derive(Debug)]
pub struct DinoWmDecoder {
    config: DinoWmDecoderConfig,
    network: Network,
    device: Device,
}

impl DinoWmDecoder {
    /// A decoder with the weights of a state dict, under the reference's keys. The codebook that training left
    /// untouched (`quantize_b.`) may be in it; it is not used.
    ///
    /// # Errors
    /// [`crate::Error::Keys`] for anything partial, [`crate::Error::Weights`] for sizes that make no decoder.
    pub fn new(config: DinoWmDecoderConfig, weights: Checkpoint) -> Result<Self> {
        let device = Device::flex();
        let network = config.init(&device)?;
        let weights = weights.rename(|key| {
            let is_codebook = key.starts_with("quantize_b.");
            (!is_codebook).then(|| key.to_string())
        });
        let key = |path: &str| config.key(path);
        let network = fill::fill("DINO-WM decoder", network, weights, key)?;
        Ok(Self {
            config,
            network,
            device,
        })
    }

    /// Pictures in the normalised pixel space of the encoder.
    ///
    /// # Shapes
    /// - `features`: `[frames, h, w, D]`; result: `[frames, C, 16 h, 16 w]`
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for features of another width.
    pub fn decode(&self, features: &Array) -> Result<Array> {
        let width = self.config.features;
        let (features, [rows, columns]) = grid_features(features, width, &self.device)?;
        let frames = features.dims()[0];
        let planes = features
            .reshape([frames, rows, columns, width])
            .permute([0, 3, 1, 2]);
        array(
            self.network
                .dec
                .forward(self.network.upsample_b.forward(planes)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::fill::expected;

    fn small() -> DinoWmDecoderConfig {
        DinoWmDecoderConfig {
            features: 3,
            channels: 4,
            blocks: 2,
            block_channels: 2,
            picture: 2,
        }
    }

    fn keys(config: &DinoWmDecoderConfig) -> Vec<(String, Vec<usize>)> {
        let network = config.init(&Device::flex()).unwrap();
        expected(&network, |path| config.key(path))
    }

    /// Weights that are all different and small.
    fn weights(config: &DinoWmDecoderConfig) -> Checkpoint {
        let mut place = 0_u32;
        let mut draw = || {
            place += 1;
            f64::from(place).sin() as f32 * 0.4
        };
        let arrays = keys(config).into_iter().map(|(key, shape)| {
            let count = shape.iter().product::<usize>();
            let values = (0..count).map(|_| draw()).collect();
            (key, Array::new(shape, values).unwrap())
        });
        Checkpoint::new(arrays.collect())
    }

    /// Planes `[C, h, w]` for the plain version below.
    struct Planes {
        sides: [usize; 3],
        values: Vec<f64>,
    }

    impl Planes {
        fn zeros(sides: [usize; 3]) -> Self {
            let values = vec![0.0; sides.iter().product()];
            Self { sides, values }
        }

        fn at(&self, c: usize, y: i64, x: i64) -> f64 {
            let [_, h, w] = self.sides;
            let inside = (0..h as i64).contains(&y) && (0..w as i64).contains(&x);
            if inside {
                self.values[(c * h + y as usize) * w + x as usize]
            } else {
                0.0
            }
        }

        fn relu(mut self) -> Self {
            self.values.iter_mut().for_each(|v| *v = v.max(0.0));
            self
        }
    }

    /// `out[o, y, x] = b[o] + sum_c sum_ij w[o, c, i, j] in[c, y + i - pad, x + j - pad]`.
    fn convolve(file: &Checkpoint, name: &str, input: &Planes) -> Planes {
        let (w, b) = (
            file.get(&format!("{name}.weight")).unwrap(),
            file.get(&format!("{name}.bias")).unwrap(),
        );
        let [outputs, inputs, k, _] = w.shape[..] else {
            panic!()
        };
        let [_, height, width] = input.sides;
        let mut out = Planes::zeros([outputs, height, width]);
        for (place, value) in out.values.iter_mut().enumerate() {
            let (o, y, x) = (
                place / (height * width),
                place / width % height,
                place % width,
            );
            *value = f64::from(b.values[o]);
            for tap in 0..inputs * k * k {
                let (c, i, j) = (tap / (k * k), tap / k % k, tap % k);
                let (row, column) = (
                    (y + i) as i64 - (k / 2) as i64,
                    (x + j) as i64 - (k / 2) as i64,
                );
                *value += f64::from(w.values[o * inputs * k * k + tap]) * input.at(c, row, column);
            }
        }
        out
    }

    /// Every input adds `w[c, o, i, j]` to the output at `(2 y + i - 1, 2 x + j - 1)`.
    fn enlarge(file: &Checkpoint, name: &str, input: &Planes) -> Planes {
        let (w, b) = (
            file.get(&format!("{name}.weight")).unwrap(),
            file.get(&format!("{name}.bias")).unwrap(),
        );
        let [inputs, outputs, ..] = w.shape[..] else {
            panic!()
        };
        let [_, height, width] = input.sides;
        let mut out = Planes::zeros([outputs, 2 * height, 2 * width]);
        for o in 0..outputs {
            let plane = 4 * height * width;
            out.values[o * plane..(o + 1) * plane].fill(f64::from(b.values[o]));
        }
        for place in 0..inputs * height * width {
            let (c, y, x) = (
                place / (height * width),
                place / width % height,
                place % width,
            );
            for tap in 0..outputs * 16 {
                let (o, i, j) = (tap / 16, tap / 4 % 4, tap % 4);
                let (row, column) = (2 * y + i, 2 * x + j);
                if (1..=2 * height).contains(&row) && (1..=2 * width).contains(&column) {
                    let weight = f64::from(w.values[(c * outputs + o) * 16 + i * 4 + j]);
                    out.values[(o * 2 * height + row - 1) * 2 * width + column - 1] +=
                        weight * input.values[place];
                }
            }
        }
        out
    }

    fn upsample(file: &Checkpoint, name: &str, blocks: usize, input: &Planes) -> Planes {
        let layer = |number: usize| format!("{name}.blocks.{number}");
        let mut x = convolve(file, &layer(0), input);
        for block in 1..=blocks {
            let kept = Planes {
                sides: x.sides,
                values: x.values.clone(),
            };
            let y = convolve(file, &format!("{}.conv.1", layer(block)), &x.relu());
            x = convolve(file, &format!("{}.conv.3", layer(block)), &y.relu());
            x.values
                .iter_mut()
                .zip(kept.values)
                .for_each(|(a, b)| *a += b);
        }
        let x = enlarge(file, &layer(blocks + 2), &x.relu());
        enlarge(file, &layer(blocks + 4), &x.relu())
    }

    #[test]
    fn the_decoder_equals_the_same_sums_written_out() {
        let config = small();
        let file = weights(&config);
        let values: Vec<f32> = (0..2 * 3 * 3)
            .map(|i| (f64::from(i) * 0.7).cos() as f32)
            .collect();
        let features = Array::new(vec![1, 2, 3, 3], values.clone()).unwrap();
        let decoder = DinoWmDecoder::new(config.clone(), file.clone()).unwrap();
        let picture = decoder.decode(&features).unwrap();
        assert_eq!(picture.shape, [1, 2, 32, 48]);

        let mut planes = Planes::zeros([3, 2, 3]);
        for (index, value) in values.iter().enumerate() {
            planes.values[index % 3 * 6 + index / 3] = f64::from(*value);
        }
        let between = upsample(&file, "upsample_b", 2, &planes);
        let expected = upsample(&file, "dec", 2, &between);
        let largest = expected.values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        assert!(largest > 0.1, "{largest}");
        for (value, expected) in picture.values.iter().zip(&expected.values) {
            assert!((f64::from(*value) - expected).abs() < 1e-5 * largest.max(1.0));
        }
    }

    #[test]
    fn the_reference_sizes_have_its_keys_and_parameters() {
        let keys = keys(&DinoWmDecoderConfig::default());
        let count: usize = keys
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        // By hand from models.md section 6.4: 5,655,488 to 56 x 56 and 4,484,675 to the picture.
        assert_eq!(count, 10_140_163);
        let shape = |name: &str| {
            keys.iter()
                .find(|(key, _)| key == name)
                .map(|(_, s)| s.clone())
        };
        assert_eq!(
            shape("upsample_b.blocks.0.weight").unwrap(),
            [384, 384, 3, 3]
        );
        assert_eq!(
            shape("upsample_b.blocks.4.conv.1.weight").unwrap(),
            [128, 384, 3, 3]
        );
        assert_eq!(
            shape("dec.blocks.1.conv.3.weight").unwrap(),
            [384, 128, 1, 1]
        );
        assert_eq!(shape("dec.blocks.6.weight").unwrap(), [384, 192, 4, 4]);
        assert_eq!(shape("dec.blocks.8.weight").unwrap(), [192, 3, 4, 4]);
        assert_eq!(shape("upsample_b.blocks.8.bias").unwrap(), [384]);
    }

    #[test]
    fn a_codebook_is_left_out_and_anything_else_is_not() {
        let mut file = weights(&small());
        let one = Array::new(vec![1], vec![0.0]).unwrap();
        file.insert("quantize_b.embed", one.clone());
        assert!(DinoWmDecoder::new(small(), file.clone()).is_ok());
        file.insert("encoder.weight", one);
        assert!(DinoWmDecoder::new(small(), file).is_err());
    }
}
