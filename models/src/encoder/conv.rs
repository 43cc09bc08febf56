//! A small strided convolutional encoder that trains from pixels (recipes.md section 2,
//! models.md section 7.5).
//!
//! Blocks of convolution, group norm and ReLU, then one linear layer. There is no norm on the
//! latent: the variance loss sets its scale.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::layer::conv_norm::{ConvNorm, ConvNormConfig};
use crate::{Error, Result};

/// Groups of every group norm.
const NORM_GROUPS: usize = 4;

/// One convolution block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageConfig {
    /// Output channels; a multiple of 4.
    pub filters: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Zeros added on each side.
    pub padding: usize,
}

/// Sizes of a [`ConvEncoder`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvEncoderConfig {
    /// Convolution blocks, first to last.
    pub stages: Vec<StageConfig>,
    /// Width `D` of the latent.
    pub latent: usize,
}

impl Default for ConvEncoderConfig {
    fn default() -> Self {
        let stem = StageConfig {
            filters: 16,
            kernel: 8,
            stride: 4,
            padding: 2,
        };
        let stage = |filters| StageConfig {
            filters,
            kernel: 4,
            stride: 2,
            padding: 1,
        };
        Self {
            stages: vec![stem, stage(32), stage(64)],
            latent: 32,
        }
    }
}

impl ConvEncoderConfig {
    /// Sizes of the feature map after every stage, `(channels, h, w)`, starting from the image.
    fn shapes(&self, height: usize, width: usize) -> Result<Vec<(usize, usize, usize)>> {
        let mut shapes = vec![(3, height, width)];
        for (index, stage) in self.stages.iter().enumerate() {
            let (_, h, w) = shapes[index];
            let side = |x: usize| (x + 2 * stage.padding).checked_sub(stage.kernel);
            let (Some(h), Some(w)) = (side(h), side(w)) else {
                return Err(Error::Config {
                    key: "encoder.stages",
                    detail: format!(
                        "stage {index}: kernel {} exceeds its {h}x{w} input",
                        stage.kernel
                    ),
                });
            };
            if stage.filters == 0 || !stage.filters.is_multiple_of(NORM_GROUPS) || stage.stride == 0
            {
                return Err(Error::Config {
                    key: "encoder.stages",
                    detail: format!(
                        "stage {index}: filters must be a multiple of {NORM_GROUPS}, stride at least 1"
                    ),
                });
            }
            shapes.push((stage.filters, h / stage.stride + 1, w / stage.stride + 1));
        }
        Ok(shapes)
    }

    /// An encoder for `height x width` images.
    pub(crate) fn init(&self, height: usize, width: usize, device: &Device) -> Result<ConvEncoder> {
        if self.latent == 0 {
            return Err(Error::Config {
                key: "encoder.latent",
                detail: "must be at least 1".into(),
            });
        }
        let shapes = self.shapes(height, width)?;
        let blocks = self
            .stages
            .iter()
            .zip(&shapes)
            .map(|(stage, (channels, ..))| {
                let config = ConvNormConfig {
                    channels: *channels,
                    filters: stage.filters,
                    kernel: stage.kernel,
                    stride: stage.stride,
                    padding: stage.padding,
                    groups: NORM_GROUPS,
                };
                config.init(device)
            });
        let blocks = blocks.collect();
        let flat = shapes.last().map_or(0, |(c, h, w)| c * h * w);
        Ok(ConvEncoder {
            blocks,
            project: LinearConfig::new(flat, self.latent).init(device),
        })
    }
}

/// Images to latents.
///
/// # Shapes
/// - input `[B, 3, h, w]`: `1 - pixel / 255`, so that zero padding is white background
/// - output `[B, D]`
#[derive(Module, Debug)]
pub(crate) struct ConvEncoder {
    blocks: Vec<ConvNorm>,
    project: Linear,
}

impl ConvEncoder {
    pub(crate) fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.project.forward(self.features(images).flatten(1, 3))
    }

    /// Numbers that the last feature map takes.
    pub(crate) fn feature_parameters(&self) -> usize {
        self.blocks.num_params()
    }

    /// Sizes of the last feature map of `height x width` images, `[filters, h, w]`.
    pub(crate) fn grid(&self, height: usize, width: usize) -> [usize; 3] {
        let device = self.project.weight.device();
        let empty = Tensor::zeros([1, 3, height, width], &device);
        let [_, channels, rows, columns] = self.features(empty).dims();
        [channels, rows, columns]
    }

    /// The last feature map, `[B, filters, h, w]`.
    pub(crate) fn features(&self, images: Tensor<4>) -> Tensor<4> {
        self.blocks.iter().fold(images, |x, block| block.forward(x))
    }
}

/// Network input of RGB frames: `1 - pixel / 255`, `[n, h, w, 3]` to `[n, 3, h, w]`.
pub(crate) fn frames_to_input(rgb: &[u8], height: usize, width: usize) -> Vec<f32> {
    let pixels = height * width;
    let mut input = vec![0.0; rgb.len()];
    for (frame, planes) in rgb
        .chunks_exact(3 * pixels)
        .zip(input.chunks_exact_mut(3 * pixels))
    {
        let (red, rest) = planes.split_at_mut(pixels);
        let (green, blue) = rest.split_at_mut(pixels);
        for (i, pixel) in frame.chunks_exact(3).enumerate() {
            red[i] = f32::from(255 - pixel[0]) / 255.0;
            green[i] = f32::from(255 - pixel[1]) / 255.0;
            blue[i] = f32::from(255 - pixel[2]) / 255.0;
        }
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_counts_are_the_documented_ones() {
        let device = Device::flex();
        // recipes.md section 6: the wide stem has 616 parameters more than the narrow one.
        let wide = ConvEncoderConfig::default().init(65, 65, &device).unwrap();
        assert_eq!(wide.num_params(), 77_168);
        // recipes.md section 2: four stages of kernel 4.
        let stage = |filters| StageConfig {
            filters,
            kernel: 4,
            stride: 2,
            padding: 1,
        };
        let narrow = ConvEncoderConfig {
            stages: [8, 16, 32, 64].map(stage).to_vec(),
            latent: 32,
        };
        let narrow = narrow.init(65, 65, &device).unwrap();
        assert_eq!(narrow.num_params(), 76_552);
        for encoder in [wide, narrow] {
            let latent = encoder.forward(Tensor::zeros([2, 3, 65, 65], &device));
            assert_eq!(latent.dims(), [2, 32]);
        }
    }

    #[test]
    fn white_background_becomes_zero_and_channels_become_planes() {
        let input = frames_to_input(&[255, 255, 255, 255, 0, 51], 1, 2);
        assert_eq!(input, [0.0, 0.0, 0.0, 1.0, 0.0, 0.8]);
    }

    #[test]
    fn a_kernel_larger_than_its_input_is_an_error() {
        let config = ConvEncoderConfig {
            stages: vec![StageConfig {
                filters: 8,
                kernel: 9,
                stride: 2,
                padding: 0,
            }],
            latent: 4,
        };
        let error = config.init(8, 8, &Device::flex()).unwrap_err();
        assert!(
            error.to_string().contains("kernel 9 exceeds its 8x8 input"),
            "{error}"
        );
    }
}
