//! Image encoders: the small one that trains from pixels ([`conv`]), and the frozen ones of the token models.
//!
//! A [`FrameEncoder`] turns normalised images into a grid of tokens and is never trained. Video encoders are
//! frame encoders too: every image is shown to them as a video of equal frames (models.md section 1.7).
//! [`ENCODERS`] lists the released sizes; an [`ImageEncoder`] is one with weights, behind plain arrays.

pub(crate) mod conv;
mod dinov2;
mod dinov3;
pub(crate) mod frozen;
pub(crate) mod impala;
mod naming;
mod position_table;
mod transformer;
pub(crate) mod vit_tiny;
mod vjepa;
mod vjepa2;
mod zoo;

use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};

pub(crate) use dinov2::Dinov2;
pub use dinov2::Dinov2Config;
pub(crate) use dinov3::Dinov3;
pub use dinov3::Dinov3Config;
pub use frozen::{FrontEnd, FrozenEncoder, PixelScale};
pub use position_table::PositionResize;
pub use transformer::TransformerConfig;
pub(crate) use vjepa::Vjepa;
pub use vjepa::{Section, VjepaConfig};
pub(crate) use vjepa2::Vjepa2;
pub use vjepa2::Vjepa2Config;
pub use zoo::{ENCODERS, EncoderConfig, EncoderEntry, find};

use crate::layer::layer_norm::plain_norm;
pub use crate::layer::rope::Variant as RopeVariant;
use crate::weights::{Checkpoint, import};
use crate::{Error, Result};

/// Epsilon of the norm of [`ImageEncoder::normalized`] (models.md section 1.7).
const REPRESENTATION_EPSILON: f64 = 1e-5;

/// Sizes that users of an encoder need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderShape {
    /// Width `D` of a token.
    pub width: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Side of the images that it is used with, in pixels.
    pub image: usize,
    /// Tokens before those of the patches: the class token and registers.
    pub prefix: usize,
}

impl EncoderShape {
    /// Rows and columns of tokens of an image of its size.
    pub fn grid(&self) -> [usize; 2] {
        [self.image / self.patch; 2]
    }
}

/// A frozen image encoder.
pub(crate) trait FrameEncoder: Debug + Send + Sync {
    /// Its sizes.
    fn shape(&self) -> EncoderShape;

    /// Its arrays under the names of its authors, which are ours.
    fn weights(&self) -> Checkpoint;

    /// Every token after the last norm, those before the patches first.
    ///
    /// # Shapes
    /// - `images`: `[B, 3, h, w]`, normalised; both sides multiples of the patch
    /// - output: `[B, prefix + N, D]`
    fn all_tokens(&self, images: Tensor<4>) -> Tensor<3>;

    /// The tokens of the patches, row by row.
    ///
    /// # Shapes
    /// - `images`: `[B, 3, h, w]`, normalised
    /// - output: `[B, N, D]` with `N = (h / patch) (w / patch)`
    ///
    /// # Errors
    /// [`Error::Shape`] for other channels than three and sides that are no multiples of the patch.
    fn encode(&self, images: Tensor<4>) -> Result<Tensor<3>> {
        let shape = self.shape();
        let [batch, channels, height, width] = images.dims();
        let whole = |side: usize| side > 0 && side.is_multiple_of(shape.patch);
        if batch == 0 || channels != 3 || !whole(height) || !whole(width) {
            return Err(Error::Shape {
                what: "images of the encoder",
                expected: format!(
                    "[B, 3, h, w] with sides that are multiples of {}",
                    shape.patch
                ),
                actual: format!("{:?}", images.dims()),
            });
        }
        let tokens = self.all_tokens(images);
        let count = tokens.dims()[1];
        Ok(tokens.slice_dim(1, shape.prefix..count))
    }
}

/// A frozen encoder with its weights.
#[derive(Debug)]
pub struct ImageEncoder {
    encoder: Box<dyn FrameEncoder>,
    normalize: bool,
    device: Device,
}

impl ImageEncoder {
    /// An encoder of these sizes with the weights of a released file, on the processor.
    ///
    /// # Errors
    /// [`Error::Keys`] when the file is not that of such an encoder, and errors of the sizes.
    pub fn load(config: &EncoderConfig, weights: Checkpoint) -> Result<Self> {
        Self::load_on(config, weights, &Device::flex())
    }

    /// An encoder from a folder that `weights import` wrote, on the processor.
    ///
    /// # Errors
    /// Errors of reading it, and those of [`ImageEncoder::load`].
    pub fn open(folder: &Path) -> Result<Self> {
        Ok(Self::open_for(folder, None, &Device::flex())?.0)
    }

    /// The same for images of side `image`, or of its own; with its name and the hash of its weights.
    pub(crate) fn open_for(
        folder: &Path,
        image: Option<usize>,
        device: &Device,
    ) -> Result<(Self, String, String)> {
        let (config, weights) = import::read(folder, import::ENCODER)?;
        let named: import::Named = import::sizes(folder, &config)?;
        let sizes = named.sizes()?;
        let sizes = image.map_or(sizes, |image| sizes.with_image(image));
        sizes.check()?;
        let encoder = Self::load_on(&sizes, weights, device)?;
        Ok((encoder, named.encoder, config.weights_blake3))
    }

    /// The same on a device.
    pub(crate) fn load_on(
        config: &EncoderConfig,
        weights: Checkpoint,
        device: &Device,
    ) -> Result<Self> {
        Ok(Self {
            encoder: config.load(weights, device)?,
            normalize: false,
            device: device.clone(),
        })
    }

    /// With a layer norm without parameters over every token, as V-JEPA-2-AC has its representations
    /// (`normalize_reps`).
    #[must_use]
    pub fn normalized(self) -> Self {
        Self {
            normalize: true,
            ..self
        }
    }

    /// Its sizes.
    pub fn shape(&self) -> EncoderShape {
        self.encoder.shape()
    }

    /// Numbers in its weights.
    pub(crate) fn parameters(&self) -> usize {
        let weights = self.encoder.weights();
        let arrays = weights.keys().filter_map(|key| weights.get(key));
        arrays.map(|array| array.values.len()).sum()
    }

    /// Tokens of normalised images.
    ///
    /// # Shapes
    /// - `images`: `[B, 3, h, w]`; output: `[B, N, D]`
    pub(crate) fn encode(&self, images: Tensor<4>) -> Result<Tensor<3>> {
        let tokens = self.encoder.encode(images)?;
        Ok(if self.normalize {
            plain_norm(tokens, REPRESENTATION_EPSILON)
        } else {
            tokens
        })
    }

    /// Tokens of normalised images of the encoder's size, as plain numbers.
    ///
    /// # Shapes
    /// - `images`: `[B, 3, image, image]`; output: `[B, N, D]`
    ///
    /// # Errors
    /// [`Error::Shape`] when `images` is not a whole number of images.
    pub fn embed(&self, images: &[f32]) -> Result<Vec<f32>> {
        let side = self.shape().image;
        let one = 3 * side * side;
        if images.is_empty() || !images.len().is_multiple_of(one) {
            return Err(Error::Shape {
                what: "images of the encoder",
                expected: format!("[B, 3, {side}, {side}], {one} numbers per image"),
                actual: format!("{} numbers", images.len()),
            });
        }
        let shape = [images.len() / one, 3, side, side];
        let images = Tensor::from_data(TensorData::new(images.to_vec(), shape), &self.device);
        Ok(self.encode(images)?.into_data().iter().collect())
    }
}

/// What was worked out for a grid of patches, kept for the next images of that grid.
#[derive(Debug)]
struct GridCache<T>(Mutex<Vec<([usize; 2], Arc<T>)>>);

impl<T> Default for GridCache<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T> GridCache<T> {
    fn get(&self, grid: [usize; 2], make: impl FnOnce([usize; 2]) -> T) -> Arc<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, value)) = kept.iter().find(|(of, _)| *of == grid) {
            return Arc::clone(value);
        }
        let value = Arc::new(make(grid));
        kept.push((grid, Arc::clone(&value)));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::check::testing::{folder, torch};

    /// A tiny encoder without the position table that images of 32 pixels would need.
    fn encoder() -> ImageEncoder {
        let weights = torch(&folder("encoder_vjepa2").join("vitl.pt")).unwrap();
        let transformer = TransformerConfig {
            heads: 2,
            ..TransformerConfig::released(48, 2, 1e-6, false)
        };
        let config = Vjepa2Config {
            image: 32,
            ..Vjepa2Config::released(transformer)
        };
        ImageEncoder::load(&EncoderConfig::Vjepa2(config), weights).unwrap()
    }

    fn images(count: usize) -> Vec<f32> {
        (0..count * 3 * 32 * 32)
            .map(|i| (i as f32 * 0.37).sin())
            .collect()
    }

    #[test]
    fn every_image_gives_its_tokens_whatever_stands_beside_it() {
        let encoder = encoder();
        let shape = encoder.shape();
        assert_eq!((shape.grid(), shape.width, shape.prefix), ([2, 2], 48, 0));
        let both = images(2);
        let together = encoder.embed(&both).unwrap();
        assert_eq!(together.len(), 2 * 4 * 48);
        let second = encoder.embed(&both[3 * 32 * 32..]).unwrap();
        for (alone, together) in second.iter().zip(&together[4 * 48..]) {
            assert!((alone - together).abs() < 1e-5, "{alone} {together}");
        }
    }

    #[test]
    fn normalised_tokens_have_mean_zero_and_variance_one() {
        let plain = encoder().embed(&images(1)).unwrap();
        let normalised = encoder().normalized().embed(&images(1)).unwrap();
        let moments = |token: &[f32]| {
            let mean = token.iter().sum::<f32>() / 48.0;
            (
                mean,
                token.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 48.0,
            )
        };
        for (token, raw) in normalised.chunks_exact(48).zip(plain.chunks_exact(48)) {
            let ((mean, variance), (raw_mean, raw_variance)) = (moments(token), moments(raw));
            assert!(
                mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-3,
                "{mean} {variance}"
            );
            let expected = (raw[0] - raw_mean) / (raw_variance + 1e-5).sqrt();
            assert!(
                (token[0] - expected).abs() < 1e-4,
                "{} {expected}",
                token[0]
            );
        }
    }

    #[test]
    fn images_of_another_size_are_refused() {
        let encoder = encoder();
        for wrong in [0, 1, 3 * 32 * 32 - 1] {
            let error = encoder.embed(&vec![0.0; wrong]).unwrap_err();
            assert!(
                error.to_string().contains(&format!("got {wrong} numbers")),
                "{error}"
            );
        }
        for wrong in [
            [1, 3, 32, 31],
            [1, 3, 0, 32],
            [0, 3, 32, 32],
            [1, 1, 32, 32],
        ] {
            let images = Tensor::zeros(wrong, &Device::flex());
            let error = encoder.encode(images).unwrap_err();
            assert!(error.to_string().contains("multiples of 16"), "{error}");
        }
    }

    #[test]
    fn what_is_known_of_a_grid_is_worked_out_once() {
        let cache = GridCache::default();
        assert_eq!(*cache.get([2, 3], |grid| grid[0] * 10 + grid[1]), 23);
        assert_eq!(*cache.get([2, 3], |_| 0), 23);
        assert_eq!(*cache.get([3, 2], |grid| grid[0] * 10 + grid[1]), 32);
    }
}
