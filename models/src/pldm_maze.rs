//! `pldm-maze`: PLDM's model of the diverse mazes (models.md section 7.3, arXiv 2502.14819).
//!
//! The latent is a picture: sixteen planes of a convolutional encoder and one plane per number of the
//! velocity. A small convolutional predictor adds to it, action by action, open loop from frame 0:
//!
//! ```text
//! L = 1 prediction + 35.026 std + 11.925 covariance + 2.9199 std_time + 0.10193 similarity
//!   + 5.3964 inverse + 1.4108 proprio                              no stop-gradient anywhere
//! ```
//!
//! The first five look at the encoder's planes, `proprio` is the prediction error of the velocity planes, and
//! the inverse model sees both.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor, module};
use serde::{Deserialize, Serialize};

use crate::layer::conv_norm::{ConvNorm, ConvNormConfig};
use crate::loss::prediction::{mean_squared, time_similarity};
use crate::loss::variance_covariance::{covariance, std_hinge, std_hinge_over_time};
use crate::train::LossTerm;
use crate::weights::Checkpoint;
use crate::weights::fill::fill;
use crate::{Error, Result};

/// Channels of one group of the encoder's group norms.
const ENCODER_GROUP: usize = 4;
/// Groups of the predictor's group norms.
const PREDICTOR_GROUPS: usize = 4;
/// Groups of the inverse model's group norms.
const INVERSE_GROUPS: usize = 8;

/// One convolution, as published: output channels, side of the kernel, stride, zeros on each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvSizes(pub usize, pub usize, pub usize, pub usize);

impl ConvSizes {
    /// Side of the output for an input of this side; `None` when the kernel does not fit.
    fn side(self, input: usize) -> Option<usize> {
        let Self(_, kernel, stride, padding) = self;
        Some(
            (input + 2 * padding)
                .checked_sub(kernel)?
                .checked_div(stride)?
                + 1,
        )
    }

    fn plain(self, channels: usize, device: &Device) -> Conv2d {
        let Self(filters, kernel, stride, padding) = self;
        Conv2dConfig::new([channels, filters], [kernel; 2])
            .with_stride([stride; 2])
            .with_padding(PaddingConfig2d::Explicit(
                padding, padding, padding, padding,
            ))
            .init(device)
    }

    fn normed(self, channels: usize, groups: usize, device: &Device) -> ConvNorm {
        let Self(filters, kernel, stride, padding) = self;
        let config = ConvNormConfig {
            channels,
            filters,
            kernel,
            stride,
            padding,
            groups,
        };
        config.init(device)
    }
}

/// Weights of the loss terms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PldmMazeLoss {
    /// Prediction error of the encoder's planes.
    pub prediction: f64,
    /// Hinge on the standard deviation over the batch, frame 0.
    pub std: f64,
    /// Squared covariances over the batch, frame 0.
    pub covariance: f64,
    /// Hinge on the standard deviation over time, frames 1 and later.
    pub std_time: f64,
    /// Change between consecutive frames.
    pub similarity: f64,
    /// Inverse dynamics.
    pub inverse: f64,
    /// Prediction error of the velocity planes.
    pub proprio: f64,
}

impl Default for PldmMazeLoss {
    fn default() -> Self {
        Self {
            prediction: 1.0,
            std: 35.026,
            covariance: 11.925,
            std_time: 2.9199,
            similarity: 0.10193,
            inverse: 5.3964,
            proprio: 1.4108,
        }
    }
}

/// Architecture and loss of `pldm-maze`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PldmMazeConfig {
    /// Native steps per model step.
    pub frameskip: usize,
    /// Convolutions of the encoder; group norm and ReLU follow all but the last.
    pub encoder: Vec<ConvSizes>,
    /// Convolutions of the predictor, likewise; the last gives as many planes as the latent has.
    pub predictor: Vec<ConvSizes>,
    /// Whether the predictor's output is added to its input.
    pub residual: bool,
    /// Channels of the three convolutions of the inverse model; training only.
    pub inverse_channels: usize,
    /// Loss weights.
    pub loss: PldmMazeLoss,
}

impl Default for PldmMazeConfig {
    fn default() -> Self {
        Self {
            frameskip: 1,
            encoder: vec![
                ConvSizes(16, 5, 1, 0),
                ConvSizes(32, 5, 2, 0),
                ConvSizes(32, 3, 1, 0),
                ConvSizes(32, 3, 1, 1),
                ConvSizes(16, 1, 1, 0),
            ],
            predictor: vec![
                ConvSizes(32, 3, 1, 1),
                ConvSizes(32, 3, 1, 1),
                ConvSizes(18, 3, 1, 1),
            ],
            residual: true,
            inverse_channels: 32,
            loss: PldmMazeLoss::default(),
        }
    }
}

/// What a dataset fixes about the network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MazeShape {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// Numbers of the velocity.
    pub velocity: usize,
    pub block: usize,
}

impl PldmMazeConfig {
    /// An untrained network for data of this shape.
    ///
    /// # Errors
    /// [`Error::Config`] when a kernel does not fit, group norms do not divide the channels, or the
    /// predictor's planes are not those of the latent.
    pub(crate) fn init(&self, shape: &MazeShape, device: &Device) -> Result<PldmMazeNet> {
        let side = |input| {
            let sides = self
                .encoder
                .iter()
                .try_fold(input, |side, conv| conv.side(side));
            sides.ok_or_else(|| wrong("encoder", "a kernel exceeds its input"))
        };
        let (height, width) = (side(shape.height)?, side(shape.width)?);
        let encoder = Convs::new(
            &self.encoder,
            shape.channels,
            |filters| filters / ENCODER_GROUP,
            device,
        )?;
        let visual = self.encoder.last().map_or(shape.channels, |conv| conv.0);
        let planes = visual + shape.velocity;
        if self.predictor.last().is_none_or(|conv| conv.0 != planes) {
            return Err(wrong("predictor", "must end with the planes of the latent"));
        }
        let predictor = Convs::new(
            &self.predictor,
            planes + shape.block,
            |_| PREDICTOR_GROUPS,
            device,
        )?;
        Ok(PldmMazeNet {
            encoder,
            predictor,
            inverse: Inverse::new(
                self.inverse_channels,
                planes,
                (height, width),
                shape.block,
                device,
            )?,
            residual: self.residual,
            visual,
        })
    }
}

fn wrong(key: &'static str, detail: &str) -> Error {
    Error::Config {
        key,
        detail: detail.into(),
    }
}

/// Encoder and predictor, and the inverse model that only training uses.
#[derive(Module, Debug)]
pub(crate) struct PldmMazeNet {
    encoder: Convs,
    predictor: Convs,
    inverse: Inverse,
    residual: bool,
    /// Planes of the latent that the encoder makes; the others are the velocity.
    visual: usize,
}

impl PldmMazeNet {
    /// Latents `[n, C, h, w]` of images `[n, 3, H, W]` and velocities `[n, P]`.
    pub(crate) fn encode(&self, images: Tensor<4>, velocities: Tensor<2>) -> Tensor<4> {
        let visual = self.encoder.forward(images);
        let velocity = planes(velocities, &visual);
        Tensor::cat(vec![visual, velocity], 1)
    }

    /// The start and the latents after each action, `[B, N + 1, C, h, w]`.
    ///
    /// # Shapes
    /// - `start`: `[B, C, h, w]`; `actions`: `[B, N, A]`
    pub(crate) fn unroll(&self, start: Tensor<4>, actions: &Tensor<3>) -> Tensor<5> {
        let mut latents = vec![start.clone()];
        let mut last = start;
        for step in 0..actions.dims()[1] {
            let action = actions
                .clone()
                .slice_dim(1, step..step + 1)
                .squeeze_dim::<2>(1);
            let action = planes(action, &last);
            let change = self
                .predictor
                .forward(Tensor::cat(vec![last.clone(), action], 1));
            last = if self.residual { last + change } else { change };
            latents.push(last.clone());
        }
        Tensor::stack(latents, 1)
    }

    /// Terms of the training loss.
    ///
    /// # Shapes
    /// - `encoded`: `[B, T, C, h, w]`; `predicted`: the same, frame 0 is the start; `actions`: `[B, T - 1, A]`
    pub(crate) fn losses(
        &self,
        encoded: &Tensor<5>,
        predicted: &Tensor<5>,
        actions: &Tensor<3>,
        loss: &PldmMazeLoss,
    ) -> Vec<LossTerm> {
        let [batch, frames, channels, ..] = encoded.dims();
        let part = |x: &Tensor<5>, planes: std::ops::Range<usize>| {
            x.clone().slice_dim(2, planes).flatten::<3>(2, 4)
        };
        let later = |x: Tensor<3>| x.slice_dim(1, 1..frames);
        let visual = part(encoded, 0..self.visual);
        let velocity = part(encoded, self.visual..channels);
        let predicted_visual = part(predicted, 0..self.visual);
        let predicted_velocity = part(predicted, self.visual..channels);
        let first = visual.clone().slice_dim(1, 0..1).squeeze_dim::<2>(1);
        let pair = |from: usize| {
            let frames = encoded.clone().slice_dim(1, from..from + frames - 1);
            frames.flatten::<4>(0, 1)
        };
        let read = self.inverse.forward(Tensor::cat(vec![pair(0), pair(1)], 1));
        let taken = actions
            .clone()
            .reshape([batch * (frames - 1), actions.dims()[2]]);
        let term = |name, weight, value| LossTerm {
            name,
            weight,
            value,
        };
        let prediction = mean_squared(later(predicted_visual), later(visual.clone()));
        let proprio = mean_squared(later(predicted_velocity), later(velocity));
        vec![
            term("prediction", loss.prediction, prediction),
            term("std", loss.std, std_hinge(first.clone())),
            term("covariance", loss.covariance, covariance(first)),
            term(
                "std_time",
                loss.std_time,
                std_hinge_over_time(later(visual.clone())),
            ),
            term("similarity", loss.similarity, time_similarity(visual)),
            term("inverse", loss.inverse, mean_squared(read, taken)),
            term("proprio", loss.proprio, proprio),
        ]
    }

    /// This network with the weights of a file.
    ///
    /// # Errors
    /// [`Error::Keys`] for a file of another model.
    pub(crate) fn load(self, name: &str, file: Checkpoint) -> Result<Self> {
        let keys = KeyMap::of(&self);
        fill(
            name,
            self,
            file.rename(|key| Some(keys.ours(key))),
            str::to_string,
        )
    }

    /// Translates keys of a file to ours.
    pub(crate) fn keys(&self) -> KeyMap {
        KeyMap::of(self)
    }
}

/// One plane per number, as large as those of `like`: `[n, k]` to `[n, k, h, w]`.
fn planes(values: Tensor<2>, like: &Tensor<4>) -> Tensor<4> {
    let [count, numbers] = values.dims();
    let [.., height, width] = like.dims();
    values
        .reshape([count, numbers, 1, 1])
        .expand([count, numbers, height, width])
}

/// Convolutions with group norm and ReLU, and a last one without.
#[derive(Module, Debug)]
struct Convs {
    blocks: Vec<ConvNorm>,
    last: Conv2d,
}

impl Convs {
    fn new(
        sizes: &[ConvSizes],
        channels: usize,
        groups: impl Fn(usize) -> usize,
        device: &Device,
    ) -> Result<Self> {
        let Some((last, blocks)) = sizes.split_last() else {
            return Err(wrong(
                "encoder and predictor",
                "need at least one convolution",
            ));
        };
        let mut channels = channels;
        let mut normed = Vec::with_capacity(blocks.len());
        for conv in blocks {
            let groups = groups(conv.0);
            if groups == 0 || !conv.0.is_multiple_of(groups) {
                return Err(wrong(
                    "encoder and predictor",
                    "channels must divide into groups of a group norm",
                ));
            }
            normed.push(conv.normed(channels, groups, device));
            channels = conv.0;
        }
        Ok(Self {
            blocks: normed,
            last: last.plain(channels, device),
        })
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let x = self.blocks.iter().fold(input, |x, block| block.forward(x));
        self.last.forward(x)
    }
}

/// The action between two frames, read from the planes of both.
///
/// # Shapes
/// - input `[n, 2 C, h, w]`, output `[n, A]`
#[derive(Module, Debug)]
struct Inverse {
    blocks: Vec<ConvNorm>,
    read: Linear,
}

impl Inverse {
    /// Convolutions of which the first two are followed by a pooling.
    const CONVS: usize = 3;

    fn new(
        filters: usize,
        planes: usize,
        (height, width): (usize, usize),
        block: usize,
        device: &Device,
    ) -> Result<Self> {
        if filters == 0 || !filters.is_multiple_of(INVERSE_GROUPS) {
            return Err(wrong("inverse_channels", "must be a multiple of 8"));
        }
        if height < 4 || width < 4 {
            return Err(wrong(
                "encoder",
                "must leave at least 4x4 for the inverse model",
            ));
        }
        let conv = |index| {
            let channels = if index == 0 { 2 * planes } else { filters };
            ConvSizes(filters, 3, 1, 1).normed(channels, INVERSE_GROUPS, device)
        };
        let flat = filters * (height / 4) * (width / 4);
        Ok(Self {
            blocks: (0..Self::CONVS).map(conv).collect(),
            read: LinearConfig::new(flat, block).init(device),
        })
    }

    fn forward(&self, pairs: Tensor<4>) -> Tensor<2> {
        let half = || MaxPoolOptions::new([2, 2]).with_stride([2, 2]);
        let mut x = pairs;
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(x);
            if index + 1 < Self::CONVS {
                x = module::max_pool2d(x, half());
            }
        }
        self.read.forward(x.flatten(1, 3))
    }
}

/// Layers of a file are numbered with their norms, rectifiers and poolings; ours are not.
pub(crate) struct KeyMap {
    /// Beginnings of the file's keys and of ours.
    pairs: Vec<(String, String)>,
}

impl KeyMap {
    fn of(net: &PldmMazeNet) -> Self {
        let mut pairs = Vec::new();
        let mut part = |theirs: &str, ours: &str, blocks: usize, layers: usize, last: &str| {
            for index in 0..blocks {
                let at = index * layers;
                pairs.push((
                    format!("{theirs}.{at}."),
                    format!("{ours}.blocks.{index}.conv."),
                ));
                pairs.push((
                    format!("{theirs}.{}.", at + 1),
                    format!("{ours}.blocks.{index}.norm."),
                ));
            }
            let at = blocks * layers;
            pairs.push((format!("{theirs}.{at}."), format!("{ours}.{last}.")));
        };
        part(
            "backbone.layers.1",
            "encoder",
            net.encoder.blocks.len(),
            3,
            "last",
        );
        part(
            "predictor.layers",
            "predictor",
            net.predictor.blocks.len(),
            3,
            "last",
        );
        // Convolution, norm, ReLU and pooling twice; convolution, norm, ReLU and flattening.
        part("idm", "inverse", Inverse::CONVS, 4, "read");
        Self { pairs }
    }

    /// Our key for one of the file; keys that no layer has stay as they are.
    pub(crate) fn ours(&self, key: &str) -> String {
        let renamed = self.pairs.iter().find_map(|(theirs, ours)| {
            let leaf = key.strip_prefix(theirs.as_str())?;
            Some(format!("{ours}{leaf}"))
        });
        renamed.unwrap_or_else(|| key.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::check::testing::assert_case;

    const MAZE: MazeShape = MazeShape {
        channels: 3,
        height: 64,
        width: 64,
        velocity: 2,
        block: 2,
    };

    #[test]
    fn the_full_model_has_the_parameters_of_its_layers() {
        let net = PldmMazeConfig::default()
            .init(&MAZE, &Device::flex())
            .unwrap();
        // models.md section 7.3 gives about 33k and 20k; these are the sums over its layers.
        assert_eq!(net.encoder.num_params(), 33_296);
        assert_eq!(net.predictor.num_params(), 20_370);
        // 10,464 + 2 x 9,312 for the convolutions; 32 x 6 x 6 inputs of the linear layer.
        assert_eq!(net.inverse.num_params(), 10_464 + 2 * 9_312 + 2 * 1_152 + 2);
    }

    #[test]
    fn outputs_losses_and_gradients_are_those_of_the_reference() {
        assert_case("pldm_maze");
    }

    #[test]
    fn a_maze_latent_is_eighteen_planes_and_the_last_two_are_the_velocity() {
        let device = Device::flex();
        let net = PldmMazeConfig::default().init(&MAZE, &device).unwrap();
        let images = Tensor::<4>::zeros([1, 3, 64, 64], &device);
        let velocity = Tensor::<2>::from_floats([[3.0, -1.0]], &device);
        let latent = net.encode(images, velocity);
        assert_eq!(latent.dims(), [1, 18, 26, 26]);
        let planes = latent
            .slice_dim(1, 16..18)
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        assert!(planes == [vec![3.0; 676], vec![-1.0; 676]].concat());
    }

    #[test]
    fn sizes_that_do_not_fit_together_are_errors() {
        let device = Device::flex();
        let fails = |config: &PldmMazeConfig, shape: &MazeShape| {
            config.init(shape, &device).unwrap_err().to_string()
        };
        let config = PldmMazeConfig::default();
        let tiny = MazeShape { height: 6, ..MAZE };
        assert!(fails(&config, &tiny).contains("a kernel exceeds its input"));
        let more = MazeShape {
            velocity: 3,
            ..MAZE
        };
        assert!(fails(&config, &more).contains("planes of the latent"));
        let odd = PldmMazeConfig {
            inverse_channels: 12,
            ..config
        };
        assert!(fails(&odd, &MAZE).contains("multiple of 8"));
    }
}
