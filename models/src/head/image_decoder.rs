//! The transformer image decoder: patch features of frozen encoders to pictures (models.md section 6.1).
//!
//! Features are enlarged to one token per output patch, pass pre-norm blocks frame by frame, and each token becomes
//! the pixels of its patch. Pictures are in the normalised space of the encoder; [`ImageDecoder::to_bytes`] turns
//! them into what a viewer shows.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::grid::{check_table, position_table, resize};
use super::{array, grid_features, shape, unfit};
use crate::Result;
use crate::layer::block::{Block, BlockConfig};
use crate::layer::layer_norm::LayerNorm;
use crate::weights::{Array, Checkpoint, fill, import};

/// What folders of these weights say they are.
pub(crate) const KIND: &str = "image-decoder";
/// Key of the fixed position table; files may hold it, it is never used.
pub(crate) const TABLE: &str = "decoder_pos_embed";

/// Sizes of an [`ImageDecoder`], and the pixels it was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageDecoderConfig {
    /// Width of the encoder's features.
    pub features: usize,
    /// Width of the decoder's tokens, a multiple of 4.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the hidden layer of each block.
    pub hidden: usize,
    /// Epsilon of the layer norms.
    pub epsilon: f64,
    /// Side of an output patch in pixels.
    pub patch: usize,
    /// Height and width of a picture in pixels.
    pub picture: [usize; 2],
    /// Mean of every channel of the encoder's input, in `[0, 1]`.
    pub pixel_mean: Vec<f32>,
    /// Standard deviation of every channel.
    pub pixel_std: Vec<f32>,
}

impl ImageDecoderConfig {
    fn grid(&self) -> [usize; 2] {
        self.picture.map(|side| side / self.patch)
    }

    fn channels(&self) -> usize {
        self.pixel_mean.len()
    }

    fn check(&self) -> Result<()> {
        let fail = |detail: &str| Err(unfit("image decoder", detail));
        if self.width == 0 || !self.width.is_multiple_of(4) {
            return fail("the width is not a multiple of 4");
        }
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            return fail("the width is not a multiple of the heads");
        }
        let whole = |side: &usize| *side > 0 && side.is_multiple_of(self.patch);
        if self.patch == 0 || !self.picture.iter().all(whole) {
            return fail("the picture is not a whole number of patches");
        }
        if self.channels() == 0 || self.channels() != self.pixel_std.len() {
            return fail("means and standard deviations are not one per channel");
        }
        Ok(())
    }

    /// A network of these sizes with lazy weights: nothing is allocated until they are used.
    pub(crate) fn init(&self, device: &Device) -> Result<Network> {
        self.check()?;
        let block = BlockConfig {
            width: self.width,
            heads: self.heads,
            hidden: self.hidden,
            epsilon: self.epsilon,
            layer_scale: false,
        };
        let pixels = self.patch * self.patch * self.channels();
        Ok(Network {
            view_tokens: Initializer::Zeros.init([1, 1, self.width], device),
            decoder_embed: LinearConfig::new(self.features, self.width).init(device),
            decoder_blocks: (0..self.depth).map(|_| block.init(device)).collect(),
            decoder_norm: LayerNorm::new(self.width, self.epsilon, device),
            decoder_proj: LinearConfig::new(self.width, pixels).init(device),
        })
    }
}

/// The weights; fields are called as in the released files.
#[derive(Module, Debug)]
pub(crate) struct Network {
    view_tokens: Param<Tensor<3>>,
    decoder_embed: Linear,
    decoder_blocks: Vec<Block>,
    decoder_norm: LayerNorm,
    decoder_proj: Linear,
}

/// Decodes patch features into pictures.
#[derive(Debug)]
pub struct ImageDecoder {
    config: ImageDecoderConfig,
    network: Network,
    /// `[1, h w, D]`, the same for every frame.
    positions: Tensor<3>,
    device: Device,
}

impl ImageDecoder {
    /// A decoder with the weights of a file, under released key names and without wrapper prefix. A position table in
    /// it must be the one that we make.
    ///
    /// # Errors
    /// [`crate::Error::Keys`] for anything partial, [`crate::Error::Weights`] for sizes that make no decoder.
    pub fn new(config: ImageDecoderConfig, weights: Checkpoint) -> Result<Self> {
        Self::on(config, weights, Device::flex())
    }

    /// The same on a device.
    pub(crate) fn on(
        config: ImageDecoderConfig,
        mut weights: Checkpoint,
        device: Device,
    ) -> Result<Self> {
        let network = config.init(&device)?;
        if let Some(in_file) = weights.remove(TABLE) {
            Self::check_table(&config, &in_file)?;
        }
        let network = fill::fill("image decoder", network, weights, str::to_string)?;
        let [rows, columns] = config.grid();
        let table = position_table(rows, columns, config.width);
        let table = TensorData::new(table, [1, rows * columns, config.width]);
        Ok(Self {
            positions: Tensor::from_data(table, &device),
            config,
            network,
            device,
        })
    }

    /// Compares the position table of a file with ours.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when it is another one.
    pub(crate) fn check_table(config: &ImageDecoderConfig, in_file: &Array) -> Result<()> {
        let [rows, columns] = config.grid();
        let ours = position_table(rows, columns, config.width);
        check_table("image decoder", in_file, &ours)
    }

    /// Reads a folder that `weights import` wrote.
    ///
    /// # Errors
    /// Errors of reading it, and those of [`ImageDecoder::new`].
    pub fn load(folder: &Path) -> Result<Self> {
        let (config, weights) = import::load(folder, KIND)?;
        Self::new(config, weights)
    }

    /// Width of the features that it takes.
    pub fn features(&self) -> usize {
        self.config.features
    }

    /// Pictures in the normalised pixel space of the encoder.
    ///
    /// # Shapes
    /// - `features`: `[frames, h, w, D]`, on any grid
    /// - result: `[frames, C, height, width]`
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for features of another width.
    pub fn decode(&self, features: &Array) -> Result<Array> {
        let config = &self.config;
        let (features, from) = grid_features(features, config.features, &self.device)?;
        let net = &self.network;
        let tokens = net
            .decoder_embed
            .forward(resize(features, from, config.grid()));
        let tokens = tokens + self.positions.clone() + net.view_tokens.val();
        let tokens = net
            .decoder_blocks
            .iter()
            .fold(tokens, |tokens, block| block.forward(tokens, None, None));
        let patches = net.decoder_proj.forward(net.decoder_norm.forward(tokens));
        array(self.assemble(patches))
    }

    /// Puts patches side by side; in a patch the channel runs fastest, then the column.
    ///
    /// # Shapes
    /// - `patches`: `[frames, h w, p q C]`; result: `[frames, C, h p, w q]`
    fn assemble(&self, patches: Tensor<3>) -> Tensor<4> {
        let [rows, columns] = self.config.grid();
        let (side, channels) = (self.config.patch, self.config.channels());
        let frames = patches.dims()[0];
        patches
            .reshape([frames, rows, columns, side, side, channels])
            .permute([0, 5, 1, 3, 2, 4])
            .reshape([frames, channels, rows * side, columns * side])
    }

    /// Pictures with the encoder's normalisation undone, nominally in `[0, 1]`, not clipped.
    ///
    /// # Shapes
    /// - input and output: `[frames, C, height, width]`
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for another number of channels.
    pub fn denormalise(&self, pictures: &Array) -> Result<Array> {
        let config = &self.config;
        let [_, channels, height, width] = pictures.shape[..] else {
            return Err(shape("pictures", "[frames, C, h, w]", &pictures.shape));
        };
        if channels != config.channels() {
            let expected = format!("[frames, {}, h, w]", config.channels());
            return Err(shape("pictures", &expected, &pictures.shape));
        }
        let channel = |index: usize| index / (height * width).max(1) % channels;
        let values = pictures.values.iter().enumerate().map(|(index, value)| {
            let c = channel(index);
            value * config.pixel_std[c] + config.pixel_mean[c]
        });
        Array::new(pictures.shape.clone(), values.collect())
    }

    /// Bytes to show, one frame after the other with the channel fastest: 255 times the de-normalised picture, clipped
    /// and *truncated* as the reference does.
    ///
    /// # Shapes
    /// - `pictures`: `[frames, C, h, w]`; result: `[frames, h, w, C]`
    ///
    /// # Errors
    /// Errors of [`ImageDecoder::denormalise`].
    pub fn to_bytes(&self, pictures: &Array) -> Result<Vec<u8>> {
        let shown = self.denormalise(pictures)?;
        let (channels, plane) = (shown.shape[1], shown.shape[2] * shown.shape[3]);
        let mut bytes = Vec::with_capacity(shown.values.len());
        for frame in shown.values.chunks_exact((channels * plane).max(1)) {
            for pixel in 0..plane {
                bytes.extend((0..channels).map(|c| byte(frame[c * plane + pixel])));
            }
        }
        Ok(bytes)
    }
}

/// A value of `[0, 1]` as a byte; the fraction is cut off.
fn byte(value: f32) -> u8 {
    (255.0 * value).clamp(0.0, 255.0) as u8
}

/// The decoders that were released, or have a released configuration (models.md section 6.1).
pub(crate) mod released {
    use super::ImageDecoderConfig;

    const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
    const HALF: [[f32; 3]; 2] = [[0.5; 3], [0.5; 3]];

    fn vit(
        features: usize,
        [width, depth]: [usize; 2],
        side: usize,
        pixels: [[f32; 3]; 2],
    ) -> ImageDecoderConfig {
        ImageDecoderConfig {
            features,
            width,
            depth,
            heads: 16,
            hidden: 4 * width,
            epsilon: 1e-5,
            patch: 8,
            picture: [side, side],
            pixel_mean: pixels[0].to_vec(),
            pixel_std: pixels[1].to_vec(),
        }
    }

    /// For `DINOv2` ViT-S on pixels scaled by 0.5 and 0.5.
    pub(crate) fn dinov2_vits_224() -> ImageDecoderConfig {
        vit(384, [1024, 24], 224, HALF)
    }

    /// For `DINOv2` ViT-S on `ImageNet` statistics.
    pub(crate) fn dinov2_vits_224_imagenet() -> ImageDecoderConfig {
        vit(384, [1024, 24], 224, IMAGENET)
    }

    /// For `DINOv3` ViT-L.
    pub(crate) fn dinov3_vitl_256() -> ImageDecoderConfig {
        vit(1024, [1024, 24], 256, IMAGENET)
    }

    /// For V-JEPA 2 ViT-g with normalised features.
    pub(crate) fn vjepa2_vitg_256() -> ImageDecoderConfig {
        vit(1408, [1024, 12], 256, IMAGENET)
    }

    /// For `DINOv3` ViT-S; a configuration, no file.
    #[cfg(test)]
    pub(crate) fn dinov3_vits_256() -> ImageDecoderConfig {
        vit(384, [384, 12], 256, IMAGENET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::check::testing::{assert_case, folder, torch};
    use crate::weights::fill::expected;

    fn parameters(config: &ImageDecoderConfig) -> usize {
        let network = config.init(&Device::flex()).unwrap();
        let sizes = expected(&network, str::to_string);
        sizes
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    /// A decoder of one block whose tokens are the features: embedding and blocks pass nothing on but `bias`.
    fn config() -> ImageDecoderConfig {
        ImageDecoderConfig {
            features: 3,
            width: 8,
            depth: 0,
            heads: 2,
            hidden: 8,
            epsilon: 1e-5,
            patch: 2,
            picture: [2, 4],
            pixel_mean: vec![0.5, 0.0, 0.25],
            pixel_std: vec![0.5, 1.0, 2.0],
        }
    }

    fn zeros(config: &ImageDecoderConfig) -> Checkpoint {
        let network = config.init(&Device::flex()).unwrap();
        let arrays = expected(&network, str::to_string).into_iter();
        let arrays = arrays.map(|(key, shape)| {
            let count = shape.iter().product();
            (key, Array::new(shape, vec![0.0; count]).unwrap())
        });
        Checkpoint::new(arrays.collect())
    }

    #[test]
    fn pixels_are_those_of_the_reference() {
        assert_case("head_image_decoder");
    }

    #[test]
    fn released_sizes_have_the_parameters_of_the_specification() {
        // models.md section 6.1: 302.9M and 21.5M; by hand L (12 D^2 + 13 D) + 2 D + D + (E + 1) D + 193 * 192 ..
        assert_eq!(parameters(&released::dinov2_vits_224()), 302_903_488);
        assert_eq!(
            parameters(&released::dinov2_vits_224_imagenet()),
            302_903_488
        );
        assert_eq!(parameters(&released::dinov3_vitl_256()), 303_558_848);
        assert_eq!(parameters(&released::vjepa2_vitg_256()), 152_797_376);
        assert_eq!(parameters(&released::dinov3_vits_256()), 21_516_480);
    }

    #[test]
    fn a_position_table_in_the_file_must_be_ours_and_may_be_missing() {
        let mut weights = zeros(&config());
        assert!(ImageDecoder::new(config(), weights.clone()).is_ok());
        let table = Array::new(vec![1, 2, 8], position_table(1, 2, 8)).unwrap();
        weights.insert(TABLE, table.clone());
        assert!(ImageDecoder::new(config(), weights.clone()).is_ok());
        let mut other = table;
        other.values[9] += 0.01;
        weights.insert(TABLE, other);
        let error = ImageDecoder::new(config(), weights)
            .unwrap_err()
            .to_string();
        assert!(error.contains("not the fixed"), "{error}");
    }

    #[test]
    fn in_a_patch_the_channel_runs_fastest_and_then_the_column() {
        let mut weights = zeros(&config());
        // Every token is its bias: pixel (p, q) of channel c is 6 p + 3 q + c.
        let bias = (0..12).map(|i| i as f32).collect();
        weights.insert("decoder_proj.bias", Array::new(vec![12], bias).unwrap());
        let decoder = ImageDecoder::new(config(), weights).unwrap();
        let features = Array::new(vec![1, 1, 2, 3], vec![0.0; 6]).unwrap();
        let picture = decoder.decode(&features).unwrap();
        assert_eq!(picture.shape, [1, 3, 2, 4]);
        assert_eq!(
            picture.values[..8],
            [0.0, 3.0, 0.0, 3.0, 6.0, 9.0, 6.0, 9.0]
        );
        assert_eq!(picture.values[8..12], [1.0, 4.0, 1.0, 4.0]);
        assert!(
            decoder
                .decode(&Array::new(vec![1, 1, 2, 4], vec![0.0; 8]).unwrap())
                .is_err()
        );
    }

    #[test]
    fn bytes_are_truncated_and_clipped_with_the_channel_last() {
        let decoder = ImageDecoder::new(config(), zeros(&config())).unwrap();
        // Two pixels; means 0.5, 0, 0.25 and deviations 0.5, 1, 2.
        let picture =
            Array::new(vec![1, 3, 1, 2], vec![0.0, -2.0, 0.999, 1.5, 0.0, 0.125]).unwrap();
        let shown = decoder.denormalise(&picture).unwrap();
        assert_eq!(shown.values, [0.5, -0.5, 0.999, 1.5, 0.25, 0.5]);
        // 127.5, 254.745, 63.75; below and above the range, 127.5.
        assert_eq!(
            decoder.to_bytes(&picture).unwrap(),
            [127, 254, 63, 0, 255, 127]
        );
    }

    #[test]
    fn sizes_that_make_no_decoder_are_named() {
        let changed = |change: &dyn Fn(&mut ImageDecoderConfig)| {
            let mut config = config();
            change(&mut config);
            config.init(&Device::flex()).unwrap_err().to_string()
        };
        assert!(changed(&|c| c.width = 6).contains("multiple of 4"));
        assert!(changed(&|c| c.heads = 3).contains("heads"));
        assert!(changed(&|c| c.picture = [3, 4]).contains("whole number of patches"));
        assert!(changed(&|c| c.patch = 0).contains("whole number of patches"));
        assert!(changed(&|c| c.pixel_std.clear()).contains("one per channel"));
    }

    #[test]
    fn a_file_of_other_sizes_is_refused_with_its_keys() {
        let path = folder("head_image_decoder").join("model.pth.tar");
        let file = torch(&path).unwrap().section("model").without_wrapper();
        let error = ImageDecoder::new(config(), file).unwrap_err().to_string();
        assert!(error.contains("decoder_pos_embed"), "{error}");
        let mut file = torch(&path).unwrap().section("model").without_wrapper();
        file.remove(TABLE);
        let error = ImageDecoder::new(config(), file).unwrap_err().to_string();
        assert!(error.contains("decoder_blocks.1.mlp.fc2.bias"), "{error}");
        assert!(
            error.contains("decoder_embed.weight: [48, 20] in the file, [8, 3]"),
            "{error}"
        );
    }
}
