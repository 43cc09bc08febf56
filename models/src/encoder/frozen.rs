//! A frozen encoder in front of a token model: frames in, tokens out, or tokens that were computed before.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use jepa_datasets::Dataset;
use jepa_datasets::transform::{Geometry, PixelNorm, Transform};
use serde::{Deserialize, Serialize};

use super::{EncoderConfig, EncoderShape, ImageEncoder, REPRESENTATION_EPSILON};
use crate::device::Compute;
use crate::features::{FeatureCache, FeatureSpec};
use crate::layer::layer_norm::plain_norm;
use crate::train::FrameInput;
use crate::weights::{Checkpoint, import};
use crate::{Error, Result};

/// Frames that are encoded at a time: bounds memory, and is the same for every use, so that the tokens of a frame do
/// not depend on what asked for them.
pub(crate) const FRAMES_AT_A_TIME: usize = 16;

/// Scale of the pixels that an encoder sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PixelScale {
    /// That of the transform's code base.
    #[default]
    Released,
    /// Mean and standard deviation of `ImageNet`.
    Imagenet,
    /// One half everywhere: -1 to 1.
    Half,
}

/// What stands in front of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrontEnd {
    /// Crop and interpolation.
    pub transform: Geometry,
    /// Scale of the pixels.
    pub pixel_norm: PixelScale,
    /// Side of the images in pixels; 0 is the encoder's own.
    pub image: usize,
}

impl FrontEnd {
    fn side(self) -> Option<usize> {
        (self.image > 0).then_some(self.image)
    }

    /// For images of side `size`.
    fn resolve(self, size: usize) -> Transform {
        let released = Transform::released(self.transform);
        let norm = match self.pixel_norm {
            PixelScale::Released => released.norm,
            PixelScale::Imagenet => PixelNorm::IMAGENET,
            PixelScale::Half => PixelNorm::HALF,
        };
        Transform {
            size,
            norm,
            ..released
        }
    }
}

/// A released encoder with its weights, the transform in front of it, and where it comes from.
#[derive(Debug)]
pub struct FrozenEncoder {
    name: String,
    weights_hash: String,
    encoder: ImageEncoder,
    transform: Transform,
}

impl FrozenEncoder {
    /// The encoder in a folder that `weights import` wrote.
    ///
    /// # Errors
    /// Errors of reading the folder; [`Error::Config`] for an image side that is no multiple of the patch.
    pub fn open(folder: &Path, front: FrontEnd, compute: Compute) -> Result<Self> {
        let (encoder, name, weights_hash) =
            ImageEncoder::open_for(folder, front.side(), &compute.device())?;
        Ok(Self::new(name, weights_hash, encoder, front))
    }

    /// The encoder called `name` with the arrays of a released file.
    ///
    /// # Errors
    /// As for [`import::find`] and [`ImageEncoder::load`].
    pub fn of_file(
        name: &str,
        file: Checkpoint,
        front: FrontEnd,
        compute: Compute,
    ) -> Result<Self> {
        let converted = (import::find(name)?.convert)(file)?;
        let sizes: EncoderConfig = super::find(name)?.config;
        let sizes = front.side().map_or(sizes, |image| sizes.with_image(image));
        sizes.check()?;
        let weights_hash = import::hash_of(&converted.arrays)?;
        let encoder = ImageEncoder::load_on(&sizes, converted.arrays, &compute.device())?;
        Ok(Self::new(name.to_string(), weights_hash, encoder, front))
    }

    fn new(name: String, weights_hash: String, encoder: ImageEncoder, front: FrontEnd) -> Self {
        Self {
            name,
            weights_hash,
            transform: front.resolve(encoder.shape().image),
            encoder,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// blake3 of its weights, as `weights import` writes them.
    pub fn weights_hash(&self) -> &str {
        &self.weights_hash
    }

    /// Its sizes.
    pub fn shape(&self) -> EncoderShape {
        self.encoder.shape()
    }

    /// What stands in front of it.
    pub(crate) fn transform(&self) -> &Transform {
        &self.transform
    }

    /// Numbers in its weights.
    pub(crate) fn parameters(&self) -> usize {
        self.encoder.parameters()
    }

    /// Tokens of RGB frames, `[n, N, D]`.
    pub(crate) fn encode(&self, rgb: &[u8], height: usize, width: usize) -> Result<Vec<f32>> {
        let frame = 3 * height * width;
        let mut tokens = Vec::new();
        for frames in rgb.chunks(frame * FRAMES_AT_A_TIME) {
            let values: Vec<f32> = frames.iter().map(|v| f32::from(*v)).collect();
            tokens.extend(
                self.encoder
                    .embed(&self.transform.apply(&values, height, width))?,
            );
        }
        Ok(tokens)
    }
}

/// Tokens of a [`FrozenEncoder`] as network input.
#[derive(Debug)]
pub(crate) struct FrozenTokens {
    encoder: FrozenEncoder,
    /// Whether tokens go through a layer norm without parameters.
    normalize: bool,
    height: usize,
    width: usize,
    cache: Option<FeatureCache>,
}

impl FrozenTokens {
    /// For frames of `height x width`.
    pub(crate) fn new(
        encoder: FrozenEncoder,
        normalize: bool,
        height: usize,
        width: usize,
    ) -> Self {
        Self {
            encoder,
            normalize,
            height,
            width,
            cache: None,
        }
    }

    /// With the features that `embed` has left in the dataset, if it has.
    ///
    /// # Errors
    /// Those of [`FeatureCache::find`].
    pub(crate) fn with_features(mut self, dataset: &Dataset) -> Result<Self> {
        self.cache = FeatureCache::find(dataset, &|dtype| {
            FeatureSpec::new(dataset, &self.encoder, None, dtype)
        })?;
        Ok(self)
    }

    /// What identifies the features that are used.
    pub(crate) fn features(&self) -> Option<String> {
        self.cache.as_ref().map(FeatureCache::identity)
    }

    fn sizes(&self) -> [usize; 3] {
        let [rows, columns] = self.encoder.shape().grid();
        [self.encoder.shape().width, rows, columns]
    }

    /// Tokens `[n, N, D]` as network input `[n, D, rows, columns]`.
    fn arrange(&self, tokens: Vec<f32>) -> Vec<f32> {
        let [width, rows, columns] = self.sizes();
        let count = rows * columns;
        let shape = [tokens.len() / (count * width), count, width];
        let device = burn::tensor::Device::flex();
        let tokens = Tensor::<3>::from_data(TensorData::new(tokens, shape), &device);
        let tokens = if self.normalize {
            plain_norm(tokens, REPRESENTATION_EPSILON)
        } else {
            tokens
        };
        tokens.swap_dims(1, 2).into_data().iter::<f32>().collect()
    }
}

impl FrameInput for FrozenTokens {
    fn shape(&self) -> [usize; 3] {
        self.sizes()
    }

    fn convert(&self, rgb: &[u8]) -> Result<Vec<f32>> {
        let tokens = self.encoder.encode(rgb, self.height, self.width)?;
        Ok(self.arrange(tokens))
    }

    fn is_stored(&self) -> bool {
        self.cache.is_some()
    }

    fn stored(&self, episode: u64, rows: &[u64]) -> Result<Vec<f32>> {
        let Some(cache) = &self.cache else {
            return Err(Error::Config {
                key: "token.encoder",
                detail: "has no stored features".into(),
            });
        };
        Ok(self.arrange(cache.read(episode, rows)?))
    }
}
