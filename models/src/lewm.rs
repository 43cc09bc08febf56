//! `lewm`: a joint-embedding world model kept from collapse by SIGReg alone (models.md section 7.2,
//! arXiv 2603.19312).
//!
//! A vision transformer gives one vector per frame, a projector with batch norm makes it the latent, and a
//! causal transformer over time predicts the next latents from up to three frames and their actions:
//!
//! ```text
//! L = mean (predict(z_0..z_2, a_0..a_2) - z_1..z_3)^2 + 0.09 SIGReg(z)        no stop-gradient anywhere
//! ```
//!
//! Differences from the published model: nothing is dropped out in training. The model of the zoo is a small one
//! ([`LewmConfig::small`], models.md section 7.5): its encoder is that of `pldm` and its latent narrow, because few
//! numbers describe the scenes that two cores train on.

use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData, activation};
use jepa_datasets::Stream;
use jepa_datasets::transform::{Geometry, PixelNorm, Transform};
use serde::{Deserialize, Serialize};

use crate::encoder::conv::{ConvEncoder, ConvEncoderConfig};
use crate::encoder::vit_tiny::{self, VitTiny, VitTinyConfig};
use crate::layer::batch_norm::BatchNorm;
use crate::layer::gelu::gelu;
use crate::layer::init::initialise;
use crate::layer::linear::linear;
use crate::loss::prediction::mean_squared;
use crate::loss::sigreg::{Knots, directions, sigreg};
use crate::pldm::DataShape;
use crate::predictor::adaln_time::{AdaLnTime, AdaLnTimeConfig};
use crate::train::{
    FrameInput, LossTerm, Moment, Pixels, Rollouts, SliceTensors, Trainable, Transformed,
};
use crate::vector_model::VectorDynamics;
use crate::weights::fill::fill;
use crate::weights::{Checkpoint, packed};
use crate::{Error, Result};

/// Weights and sizes of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LewmLoss {
    /// Frames between an input and its target.
    pub ahead: usize,
    /// Weight of SIGReg.
    pub sigreg: f64,
    /// Knots of SIGReg.
    pub knots: usize,
    /// Random directions of a step.
    pub directions: usize,
}

impl Default for LewmLoss {
    fn default() -> Self {
        Self {
            ahead: 1,
            sigreg: 0.09,
            knots: 17,
            directions: 1024,
        }
    }
}

/// What sees the frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LewmEncoder {
    /// The published vision transformer; frames are resized to its images, with the statistics of `ImageNet`.
    VitTiny(VitTinyConfig),
    /// The convolutions of `pldm`; `latent` is the width of their last, linear layer.
    Conv(ConvEncoderConfig),
}

impl LewmEncoder {
    /// Width of what comes out.
    fn width(&self) -> usize {
        match self {
            Self::VitTiny(config) => config.width,
            Self::Conv(config) => config.latent,
        }
    }

    fn init(&self, shape: &DataShape, device: &Device) -> Result<FrameEncoder> {
        Ok(match self {
            Self::VitTiny(config) => {
                config.check()?;
                FrameEncoder::VitTiny(config.init(device))
            }
            Self::Conv(config) => {
                FrameEncoder::Conv(config.init(shape.height, shape.width, device)?)
            }
        })
    }

    /// Frames as it takes them.
    pub(crate) fn input(&self, shape: &DataShape) -> Arc<dyn FrameInput> {
        let (height, width) = (shape.height, shape.width);
        match self {
            Self::VitTiny(config) => Arc::new(Transformed {
                transform: Transform {
                    size: config.image,
                    norm: PixelNorm::IMAGENET,
                    ..Transform::released(Geometry::DinoWm)
                },
                height,
                width,
            }),
            Self::Conv(_) => Arc::new(Pixels { height, width }),
        }
    }
}

/// Architecture and loss of `lewm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LewmConfig {
    /// Native steps per model step.
    pub frameskip: usize,
    /// Image encoder.
    pub encoder: LewmEncoder,
    /// Width `D` of the latent.
    pub latent: usize,
    /// Latent predictor.
    pub predictor: AdaLnTimeConfig,
    /// Hidden width of the two projectors.
    pub projector_hidden: usize,
    /// Added to the variance of the projectors' batch norm.
    pub batch_norm_epsilon: f64,
    /// Width of the first layer of the action embedding.
    pub smoothed: usize,
    /// Hidden width of the action embedding, in widths of the latent.
    pub action_hidden_factor: usize,
    /// Loss.
    pub loss: LewmLoss,
}

impl Default for LewmConfig {
    fn default() -> Self {
        Self {
            frameskip: 5,
            encoder: LewmEncoder::VitTiny(VitTinyConfig::default()),
            latent: 192,
            predictor: AdaLnTimeConfig::default(),
            projector_hidden: 2048,
            batch_norm_epsilon: 1e-5,
            smoothed: 10,
            action_hidden_factor: 4,
            loss: LewmLoss::default(),
        }
    }
}

impl LewmConfig {
    /// A model that two processor cores train (models.md section 7.5, preset 2).
    pub fn small() -> Self {
        Self {
            encoder: LewmEncoder::Conv(ConvEncoderConfig {
                latent: 128,
                ..ConvEncoderConfig::default()
            }),
            latent: 32,
            predictor: AdaLnTimeConfig {
                depth: 3,
                heads: 4,
                head_width: 16,
                hidden: 256,
                history: 3,
            },
            projector_hidden: 256,
            loss: LewmLoss {
                sigreg: 0.1,
                directions: 256,
                ..LewmLoss::default()
            },
            ..Self::default()
        }
    }

    /// Checks the values that no type bounds, for slices of `horizon` model steps.
    pub(crate) fn check(&self, horizon: usize) -> Result<()> {
        let counts = [
            ("lewm.frameskip", self.frameskip),
            ("lewm.encoder.width", self.encoder.width()),
            ("lewm.latent", self.latent),
            ("lewm.predictor.depth", self.predictor.depth),
            ("lewm.predictor.heads", self.predictor.heads),
            ("lewm.predictor.head_width", self.predictor.head_width),
            ("lewm.predictor.hidden", self.predictor.hidden),
            ("lewm.predictor.history", self.predictor.history),
            ("lewm.projector_hidden", self.projector_hidden),
            ("lewm.smoothed", self.smoothed),
            ("lewm.action_hidden_factor", self.action_hidden_factor),
            ("lewm.loss.ahead", self.loss.ahead),
            ("lewm.loss.directions", self.loss.directions),
        ];
        let wrong = |key, detail: String| Err(Error::Config { key, detail });
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return wrong(key, "must be at least 1".into());
        }
        if self.loss.knots < 2 {
            return wrong("lewm.loss.knots", "must be at least 2".into());
        }
        let (history, ahead) = (self.predictor.history, self.loss.ahead);
        if horizon + 1 != history + ahead {
            return wrong(
                "training.horizon",
                format!(
                    "must be lewm.predictor.history + lewm.loss.ahead - 1 = {}, is {horizon}",
                    history + ahead - 1
                ),
            );
        }
        Ok(())
    }

    /// A network with the back end's own random weights.
    pub(crate) fn init(&self, shape: &DataShape, device: &Device) -> Result<LewmNet> {
        let block = self.frameskip * shape.action_dim;
        let (width, latent) = (self.encoder.width(), self.latent);
        let hidden = self.action_hidden_factor * latent;
        let layer = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        let projector = |inputs| Projector {
            fc1: layer(inputs, self.projector_hidden),
            norm: BatchNorm::new(self.projector_hidden, self.batch_norm_epsilon, device),
            fc2: layer(self.projector_hidden, latent),
        };
        Ok(LewmNet {
            encoder: self.encoder.init(shape, device)?,
            projector: projector(width),
            actions: ActionEmbedder {
                smooth: layer(block, self.smoothed),
                fc1: layer(self.smoothed, hidden),
                fc2: layer(hidden, latent),
            },
            predictor: self.predictor.init(latent, device),
            out: projector(latent),
        })
    }

    /// A network to train: weights from the stream `init`, positions and class token normal, modulation zero.
    pub(crate) fn init_seeded(
        &self,
        shape: &DataShape,
        seed: u64,
        device: &Device,
    ) -> Result<LewmNet> {
        let net = initialise(self.init(shape, device)?, seed);
        let mut fresh = Fresh {
            seed,
            path: Vec::new(),
        };
        Ok(net.map(&mut fresh))
    }
}

/// Redraws what the general initialisation has no rule for (models.md section 7.2).
struct Fresh {
    seed: u64,
    path: Vec<String>,
}

impl Fresh {
    /// Standard deviation of a normal draw for the parameter at the current path, if it needs one.
    fn std(&self) -> Option<f64> {
        let leaf = self.path.last()?.as_str();
        match leaf {
            "positions" if self.path[0] == "predictor" => Some(1.0),
            "positions" | "cls_token" => Some(vit_tiny::FRESH_STD),
            _ if self.path.iter().any(|name| name == "modulation") => Some(0.0),
            _ => None,
        }
    }
}

impl ModuleMapper for Fresh {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(std) = self.std() else {
            return param;
        };
        let mut stream = Stream::new(self.seed, &["init", &self.path.join(".")]);
        let dims: [usize; D] = param.lazy_shape().dims();
        let count = dims.iter().product();
        let values: Vec<f32> = (0..count).map(|_| (std * stream.normal()) as f32).collect();
        let tensor = Tensor::from_data(TensorData::new(values, dims), &param.lazy_device());
        let id = param.id;
        param.transform_for_load(tensor, id)
    }
}

/// Either encoder.
#[expect(clippy::large_enum_variant, reason = "there is one per model")]
#[derive(Module, Debug)]
enum FrameEncoder {
    VitTiny(VitTiny),
    Conv(ConvEncoder),
}

/// The network of `lewm`. All of it is used in training and in planning.
#[derive(Module, Debug)]
pub(crate) struct LewmNet {
    encoder: FrameEncoder,
    projector: Projector,
    actions: ActionEmbedder,
    predictor: AdaLnTime,
    /// Projector of predictions.
    out: Projector,
}

impl LewmNet {
    /// Latents `[n, D]` of network input `[n, 3, h, w]`, see [`LewmEncoder::input`].
    pub(crate) fn encode(&self, images: Tensor<4>) -> Tensor<2> {
        self.projector.forward(match &self.encoder {
            FrameEncoder::VitTiny(encoder) => encoder.forward(images),
            FrameEncoder::Conv(encoder) => encoder.forward(images),
        })
    }

    /// Latents `[B, T, D]` of slices of `frames` frames each, `[B T, 3, h, w]`.
    fn encode_slices(&self, images: Tensor<4>, frames: usize) -> Tensor<3> {
        let latents = self.encode(images);
        let [count, width] = latents.dims();
        latents.reshape([count / frames, frames, width])
    }

    /// Embeddings `[B, T, D]` of action blocks `[B, T, A]`.
    pub(crate) fn embed_actions(&self, actions: Tensor<3>) -> Tensor<3> {
        self.actions.forward(actions)
    }

    /// Latents of frames `1..=T` from those of frames `0..T` and the embedded actions after them.
    ///
    /// # Shapes
    /// - `latents`, `actions`, output: `[B, T, D]`, `T` at most the history
    pub(crate) fn predict(&self, latents: Tensor<3>, actions: &Tensor<3>) -> Tensor<3> {
        let [batch, frames, width] = latents.dims();
        let predicted = self.predictor.forward(latents, actions);
        let rows = self.out.forward(predicted.reshape([batch * frames, width]));
        rows.reshape([batch, frames, width])
    }

    /// Appends a prediction for every action that has no frame after it, each from the last frames of the
    /// history.
    ///
    /// # Shapes
    /// - `start`: `[S, F, D]`; `actions`: `[S, N, A]`, `N >= F`, action `t` between frames `t` and `t + 1`
    /// - output: `[S, N + 1, D]`
    pub(crate) fn rollout(&self, start: Tensor<3>, actions: Tensor<3>) -> Tensor<3> {
        let embedded = self.embed_actions(actions);
        let mut latents = start;
        for frames in latents.dims()[1]..=embedded.dims()[1] {
            let window = frames.saturating_sub(self.predictor.history())..frames;
            let seen = latents.clone().slice_dim(1, window.clone());
            let predicted = self.predict(seen, &embedded.clone().slice_dim(1, window.clone()));
            let last = predicted.slice_dim(1, window.len() - 1..window.len());
            latents = Tensor::cat(vec![latents, last], 1);
        }
        latents
    }

    /// Predictions that training compares, from the first frames of a slice.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, D]`; `actions`: `[B, T, A]`; output `[B, H, D]` with the history `H`
    pub(crate) fn predict_slice(&self, latents: &Tensor<3>, actions: &Tensor<3>) -> Tensor<3> {
        let history = 0..self.predictor.history();
        let embedded = self.embed_actions(actions.clone().slice_dim(1, history.clone()));
        self.predict(latents.clone().slice_dim(1, history), &embedded)
    }

    /// Terms of the training loss.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, D]`; `predicted`: `[B, H, D]`, `T = H + ahead`; `directions`: `[D, M]`, of this
    ///   step (see [`crate::loss::sigreg::directions`])
    pub(crate) fn losses(
        latents: &Tensor<3>,
        predicted: Tensor<3>,
        directions: Tensor<2>,
        loss: &LewmLoss,
    ) -> Vec<LossTerm> {
        let targets = latents.clone().slice_dim(1, loss.ahead..latents.dims()[1]);
        let by_frame = latents.clone().swap_dims(0, 1);
        vec![
            LossTerm {
                name: "prediction",
                weight: 1.0,
                value: mean_squared(predicted, targets),
            },
            LossTerm {
                name: "sigreg",
                weight: loss.sigreg,
                value: sigreg(by_frame, directions, &Knots::half_line(loss.knots)),
            },
        ]
    }

    /// This network with the weights of a file.
    ///
    /// # Errors
    /// [`crate::Error::Keys`] and [`crate::Error::Weights`] for a file of another model.
    pub(crate) fn load(self, name: &str, file: Checkpoint) -> Result<Self> {
        let (width, block) = self.actions.smoothing();
        let mut ours = file.rename(our_key);
        // A convolution over time of kernel 1 is a linear layer.
        if let Some(mut array) = ours.remove("actions.smooth.weight") {
            if array.shape == [width, block, 1] {
                array.shape.pop();
            }
            ours.insert("actions.smooth.weight", array);
        }
        fill(name, self, packed::pack(ours)?, str::to_string)
    }
}

impl Trainable for LewmNet {
    type Weights = LewmLoss;

    fn losses(
        &self,
        slices: &SliceTensors,
        weights: &LewmLoss,
        moment: &Moment,
    ) -> Result<Vec<LossTerm>> {
        let frames = slices.actions.dims()[1] + 1;
        let latents = self.encode_slices(slices.images.clone(), frames);
        let predicted = self.predict_slice(&latents, &slices.actions);
        let directions = directions(
            moment.seed,
            moment.step,
            latents.dims()[2],
            weights.directions,
            &latents.device(),
        );
        Ok(Self::losses(&latents, predicted, directions, weights))
    }

    fn rollouts(&self, slices: &SliceTensors, _weights: &LewmLoss) -> Result<Rollouts> {
        let frames = slices.actions.dims()[1] + 1;
        let latents = self.encode_slices(slices.images.clone(), frames);
        let [batch, _, width] = latents.dims();
        let start = latents.clone().slice_dim(1, 0..1).swap_dims(0, 1);
        Ok(Rollouts {
            encoded: latents.reshape([batch * frames, width]),
            predicted: VectorDynamics::unroll(self, &start, &slices.actions),
            tokens: 1,
        })
    }
}

impl VectorDynamics for LewmNet {
    fn encode(&self, images: Tensor<4>) -> Tensor<2> {
        Self::encode(self, images)
    }

    fn unroll(&self, start: &Tensor<3>, actions: &Tensor<3>) -> Vec<Tensor<3>> {
        let latents = self.rollout(start.clone().swap_dims(0, 1), actions.clone());
        let steps = 1..=actions.dims()[1];
        steps
            .map(|t| latents.clone().slice_dim(1, t..t + 1).swap_dims(0, 1))
            .collect()
    }
}

/// Key parts of the file, and ours; the encoder has its own.
const KEYS: [(&str, &str); 15] = [
    ("projector.net.0", "projector.fc1"),
    ("projector.net.1", "projector.norm"),
    ("projector.net.3", "projector.fc2"),
    ("pred_proj.net.0", "out.fc1"),
    ("pred_proj.net.1", "out.norm"),
    ("pred_proj.net.3", "out.fc2"),
    ("action_encoder.patch_embed", "actions.smooth"),
    ("action_encoder.embed.0", "actions.fc1"),
    ("action_encoder.embed.2", "actions.fc2"),
    ("predictor.pos_embedding", "predictor.positions"),
    ("predictor.transformer.layers.", "predictor.blocks."),
    ("predictor.transformer.norm", "predictor.norm"),
    ("adaLN_modulation.1", "modulation"),
    ("attn.to_qkv", "attn.packed"),
    ("attn.to_out.0", "attn.proj"),
];

/// Key parts of the perceptron of the predictor, which has a dropout between its layers.
const MLP_KEYS: [(&str, &str); 3] = [
    ("mlp.net.0", "mlp.norm"),
    ("mlp.net.1", "mlp.fc1"),
    ("mlp.net.4", "mlp.fc2"),
];

/// Our key for one of the file; the count of batches seen, which nothing uses, has none.
pub(crate) fn our_key(key: &str) -> Option<String> {
    if key.ends_with("num_batches_tracked") {
        return None;
    }
    if let Some(key) = key.strip_prefix("encoder.") {
        return Some(format!("encoder.VitTiny.{}", vit_tiny::our_key(key)));
    }
    let pairs = KEYS.iter().chain(&MLP_KEYS);
    Some(pairs.fold(key.to_string(), |key, (theirs, ours)| {
        key.replace(theirs, ours)
    }))
}

/// Linear, batch norm, GELU, linear.
#[derive(Module, Debug)]
struct Projector {
    fc1: Linear,
    norm: BatchNorm,
    fc2: Linear,
}

impl Projector {
    /// # Shapes
    /// - input and output: `[n, D]`
    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let hidden = self.norm.forward(self.fc1.forward(input));
        self.fc2.forward(gelu(hidden))
    }
}

/// A linear mixing of the action block, then a perceptron with SiLU.
#[derive(Module, Debug)]
struct ActionEmbedder {
    smooth: Linear,
    fc1: Linear,
    fc2: Linear,
}

impl ActionEmbedder {
    fn forward(&self, actions: Tensor<3>) -> Tensor<3> {
        let hidden = linear(&self.fc1, linear(&self.smooth, actions));
        linear(&self.fc2, activation::silu(hidden))
    }

    /// Outputs and inputs of the first layer.
    fn smoothing(&self) -> (usize, usize) {
        let [inputs, outputs] = self.smooth.weight.lazy_shape().dims();
        (outputs, inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::check::testing::assert_case;
    use crate::weights::fill::expected;
    use crate::weights::read_out::weights_of;

    /// Blocks of ten numbers at a frameskip of 5.
    const SHAPE: DataShape = DataShape {
        height: 8,
        width: 8,
        action_dim: 2,
        proprio_dim: 2,
    };

    fn count(net: &LewmNet, part: &str) -> usize {
        expected(net, str::to_string)
            .iter()
            .filter(|(key, _)| key.starts_with(part) && !key.contains("running_"))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    fn small() -> LewmConfig {
        LewmConfig {
            encoder: LewmEncoder::VitTiny(VitTinyConfig {
                width: 6,
                layers: 1,
                heads: 2,
                image: 8,
                patch: 4,
                ..VitTinyConfig::default()
            }),
            latent: 6,
            predictor: AdaLnTimeConfig {
                depth: 1,
                heads: 2,
                head_width: 3,
                hidden: 7,
                history: 2,
            },
            projector_hidden: 5,
            ..LewmConfig::default()
        }
    }

    #[test]
    fn the_full_model_has_the_documented_parameters() {
        // models.md section 7.2.
        let net = LewmConfig::default().init(&SHAPE, &Device::flex()).unwrap();
        assert_eq!(count(&net, "encoder."), 5_501_376);
        assert_eq!(count(&net, "predictor."), 10_791_360);
        assert_eq!(count(&net, "projector."), 792_768);
        assert_eq!(count(&net, "out."), 792_768);
        assert_eq!(count(&net, "actions."), 156_206);
    }

    #[test]
    fn outputs_losses_and_gradients_are_those_of_the_reference() {
        assert_case("lewm");
    }

    #[test]
    fn a_fresh_network_has_normal_positions_and_no_modulation() {
        let net = small().init_seeded(&SHAPE, 3, &Device::flex()).unwrap();
        let weights = weights_of(&net);
        let of = |key: &str| weights.get(key).unwrap().values.clone();
        assert!(
            of("predictor.blocks.0.modulation.weight")
                .iter()
                .all(|v| v.abs() < f32::MIN_POSITIVE)
        );
        assert!(of("predictor.positions").iter().any(|v| v.abs() > 0.3));
        assert!(
            of("encoder.VitTiny.positions")
                .iter()
                .all(|v| v.abs() < 0.2)
        );
        assert!(
            of("projector.norm.running_var")
                .iter()
                .all(|v| v.to_bits() == 1f32.to_bits())
        );
        assert!(
            of("projector.norm.running_mean")
                .iter()
                .all(|v| v.abs() < f32::MIN_POSITIVE)
        );
        assert_eq!(
            weights,
            weights_of(&small().init_seeded(&SHAPE, 3, &Device::flex()).unwrap())
        );
    }

    #[test]
    fn a_rollout_sees_no_more_than_the_history() {
        let device = Device::flex();
        let net = initialise(small().init(&SHAPE, &device).unwrap(), 3);
        let normal = burn::tensor::Distribution::Normal(0.0, 1.0);
        let start = Tensor::<3>::random([2, 1, 6], normal, &device);
        let actions = Tensor::<3>::random([2, 4, 10], normal, &device);
        let latents = net.rollout(start, actions.clone());
        assert_eq!(latents.dims(), [2, 5, 6]);
        // The last of them again, from the two frames before it alone; both of them count.
        let window = latents.clone().slice_dim(1, 2..4);
        let last = |window: Tensor<3>| {
            let again = net.rollout(window, actions.clone().slice_dim(1, 2..4));
            again.slice_dim(1, 2..3).into_data()
        };
        let close = burn::tensor::Tolerance::<f32>::absolute(1e-6);
        let ours = latents.slice_dim(1, 4..5).into_data();
        ours.assert_approx_eq::<f32>(&last(window.clone()), close);
        let zeros = Tensor::zeros([2, 1, 6], &device);
        assert_ne!(ours, last(window.slice_assign([0..2, 0..1, 0..6], zeros)));
    }
}
