//! `pldm`: a single-vector world model that trains from pixels on a CPU.
//!
//! A small convolutional encoder, an ensemble of residual predictors unrolled open loop over the whole
//! slice, and the losses of PLDM (models.md sections 7.3 and 7.4), weighted as in recipes.md section 3:
//!
//! ```text
//! L = 1.6 prediction + 16 std + 4 covariance + 2 similarity + 1 inverse + 1 proprio + 3 rollout_proprio
//! ```
//!
//! Differences from the published PLDM: no norm on the latent; residual perceptrons applied once per
//! native action in place of a GRU; the prediction loss is a distance, not its square, because a model
//! that cannot see whether the agent clears a door must not predict the middle; and while training a
//! linear head reads proprio from encodings and from the prediction after every native action, which
//! ties the prediction down between the frames of a slice. A planning model sees pixels only.
//!
//! The predictors' latents lie side by side in one vector, `E` copies of the encoding at the start. So
//! planning sees an ordinary latent whose mean squared error is the mean over predictors: a plan that
//! exploits the error of one of them is not cheap for the others.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use jepa_datasets::Normalizer;
use serde::{Deserialize, Serialize};

use crate::encoder::conv::{ConvEncoder, ConvEncoderConfig};
use crate::layer::init::initialise;
use crate::layer::mlp::{Mlp, MlpConfig};
use crate::loss::prediction::{mean_distance, mean_squared, time_similarity};
use crate::loss::variance_covariance::{covariance, std_hinge};
use crate::predictor::residual_mlp::{ResidualMlp, ResidualMlpConfig};
use crate::train::{LossTerm, Moment, Pixels, Rollouts, SliceTensors, Trainable};
use crate::vector_model::{VectorDynamics, VectorModel};
use crate::world_model::{ModelInfo, WorldModel};
use crate::{Error, Result};

/// Weights of the loss terms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossWeights {
    /// Rollout prediction distance.
    pub prediction: f64,
    /// Distance below which the prediction loss is nearly quadratic, in latent units.
    pub prediction_floor: f64,
    /// Hinge on the standard deviation.
    pub std: f64,
    /// Squared covariances.
    pub covariance: f64,
    /// Change between consecutive latents.
    pub similarity: f64,
    /// Inverse dynamics.
    pub inverse: f64,
    /// Squared error of normalised proprio read from encodings by a linear head.
    pub proprio: f64,
    /// Distance of normalised proprio read from predictions after every native action, by the same head
    /// and with the same floor as the prediction loss.
    pub rollout_proprio: f64,
}

impl Default for LossWeights {
    fn default() -> Self {
        Self {
            prediction: 1.6,
            prediction_floor: 0.03,
            std: 16.0,
            covariance: 4.0,
            similarity: 2.0,
            inverse: 1.0,
            proprio: 1.0,
            rollout_proprio: 3.0,
        }
    }
}

/// Architecture and losses of `pldm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PldmConfig {
    /// Native steps per model step.
    pub frameskip: usize,
    /// Image encoder.
    pub encoder: ConvEncoderConfig,
    /// Latent predictors.
    pub predictor: ResidualMlpConfig,
    /// Width of the two hidden layers of the inverse model; training only.
    pub inverse_width: usize,
    /// Loss weights.
    pub loss: LossWeights,
}

impl Default for PldmConfig {
    fn default() -> Self {
        Self {
            frameskip: 5,
            encoder: ConvEncoderConfig::default(),
            predictor: ResidualMlpConfig::default(),
            inverse_width: 256,
            loss: LossWeights::default(),
        }
    }
}

/// What a dataset fixes about a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataShape {
    /// Rows of the frames.
    pub height: usize,
    /// Columns of the frames.
    pub width: usize,
    /// Native action width.
    pub action_dim: usize,
    /// Proprio width.
    pub proprio_dim: usize,
}

impl PldmConfig {
    /// Checks the values that no type bounds.
    pub(crate) fn check(&self) -> Result<()> {
        let counts = [
            ("pldm.frameskip", self.frameskip),
            ("pldm.predictor.width", self.predictor.width),
            ("pldm.predictor.ensemble", self.predictor.ensemble),
            ("pldm.inverse_width", self.inverse_width),
        ];
        for (key, value) in counts {
            if value == 0 {
                return Err(Error::Config {
                    key,
                    detail: "must be at least 1".into(),
                });
            }
        }
        if self.encoder.latent < 2 {
            let detail = "must be at least 2: the covariance loss compares dimensions".into();
            return Err(Error::Config {
                key: "pldm.encoder.latent",
                detail,
            });
        }
        Ok(())
    }

    /// Numbers in a planning latent: one encoding per predictor.
    pub(crate) fn latent_width(&self) -> usize {
        self.encoder.latent * self.predictor.ensemble
    }

    /// An untrained network for data of this shape.
    pub(crate) fn init(&self, shape: &DataShape, device: &Device) -> Result<PldmNet> {
        self.check()?;
        let latent = self.encoder.latent;
        let block = self.frameskip * shape.action_dim;
        let inverse = vec![2 * latent, self.inverse_width, self.inverse_width, block];
        Ok(PldmNet {
            encoder: self.encoder.init(shape.height, shape.width, device)?,
            predictor: self.predictor.init(latent, shape.action_dim, device),
            inverse: MlpConfig { widths: inverse }.init(device),
            proprio: LinearConfig::new(latent, shape.proprio_dim).init(device),
        })
    }
}

/// Encoder and predictors, and the inverse model and proprio head that only training uses.
#[derive(Module, Debug)]
pub(crate) struct PldmNet {
    encoder: ConvEncoder,
    predictor: ResidualMlp,
    inverse: Mlp,
    proprio: Linear,
}

impl PldmNet {
    /// Numbers that planning uses.
    pub(crate) fn planning_parameters(&self) -> usize {
        self.encoder.num_params() + self.predictor.num_params()
    }
}

impl PldmNet {
    /// The image encoder, to be frozen under another model.
    pub(crate) fn into_encoder(self) -> ConvEncoder {
        self.encoder
    }
}

impl Trainable for PldmNet {
    type Weights = LossWeights;

    fn rollouts(&self, slices: &SliceTensors, _weights: &LossWeights) -> Result<Rollouts> {
        let encoded = self.encode(slices.images.clone());
        let [count, width] = encoded.dims();
        let frames = slices.actions.dims()[1] + 1;
        let batch = count / frames;
        let latents = encoded.clone().reshape([batch, frames, width]);
        let start = latents.slice([0..batch, 0..1]).reshape([batch, width]);
        Ok(Rollouts {
            predicted: self
                .predictor
                .unroll(&self.predictor.spread(start), &slices.actions),
            encoded,
            tokens: 1,
        })
    }

    fn losses(
        &self,
        slices: &SliceTensors,
        weights: &LossWeights,
        _moment: &Moment,
    ) -> Result<Vec<LossTerm>> {
        let [batch, horizon, block] = slices.actions.dims();
        let frames = horizon + 1;
        let pooled = self.encode(slices.images.clone());
        let width = pooled.dims()[1];
        let latents = pooled.clone().reshape([batch, frames, width]);
        let start = latents
            .clone()
            .slice([0..batch, 0..1])
            .reshape([batch, width]);
        let targets = latents.clone().slice([0..batch, 1..frames]);
        // Predictions after every native action, and of these the ones that have a frame to meet.
        let native = self
            .predictor
            .unroll_native(&self.predictor.spread(start), &slices.actions);
        let per_block = native.len() / horizon;
        let at_frames = native
            .iter()
            .skip(per_block - 1)
            .step_by(per_block)
            .cloned();
        let predicted = Tensor::stack::<4>(at_frames.collect(), 2);
        let ensemble = predicted.dims()[0];
        let repeated = targets
            .clone()
            .unsqueeze_dim::<4>(0)
            .repeat_dim(0, ensemble);

        let earlier = latents.clone().slice([0..batch, 0..horizon]);
        let pairs = Tensor::cat(vec![earlier, targets], 2);
        let inferred = self
            .inverse
            .forward(pairs.reshape([batch * horizon, 2 * width]));
        let actions = slices.actions.clone().reshape([batch * horizon, block]);
        let read = self.proprio.forward(pooled.clone());
        let rows = slices.rows_proprio.dims()[1];
        let later = slices.rows_proprio.clone().slice([0..batch, 1..rows]);
        let moving = self.proprio.forward(Tensor::stack::<4>(native, 2));
        let moved = later.unsqueeze_dim::<4>(0).repeat_dim(0, ensemble);

        let term = |name, weight, value| LossTerm {
            name,
            weight,
            value,
        };
        let floor = weights.prediction_floor;
        let prediction = mean_distance(predicted, repeated, floor);
        Ok(vec![
            term("prediction", weights.prediction, prediction),
            term("std", weights.std, std_hinge(pooled.clone())),
            term("covariance", weights.covariance, covariance(pooled)),
            term("similarity", weights.similarity, time_similarity(latents)),
            term("inverse", weights.inverse, mean_squared(inferred, actions)),
            term(
                "proprio",
                weights.proprio,
                mean_squared(read, slices.proprio.clone()),
            ),
            term(
                "rollout_proprio",
                weights.rollout_proprio,
                mean_distance(moving, moved, floor),
            ),
        ])
    }
}

impl VectorDynamics for PldmNet {
    fn copies(&self) -> usize {
        self.predictor.ensemble()
    }

    fn encode(&self, images: Tensor<4>) -> Tensor<2> {
        self.encoder.forward(images)
    }

    fn unroll(&self, start: &Tensor<3>, actions: &Tensor<3>) -> Vec<Tensor<3>> {
        self.predictor.unroll(start, actions)
    }
}

/// An untrained model, for timing and tests: it computes what a trained one would, to no purpose.
pub fn untrained(config: &PldmConfig, shape: DataShape, seed: u64) -> Result<Box<dyn WorldModel>> {
    let device = Device::flex();
    let net = initialise(config.init(&shape, &device)?, seed);
    let info = ModelInfo {
        name: crate::zoo::PLDM.name.to_string(),
        action_dim: shape.action_dim,
        frameskip: config.frameskip,
        proprio_dim: shape.proprio_dim,
        uses_proprio: false,
        image_height: shape.height,
        image_width: shape.width,
        latent_width: config.latent_width(),
        parameters: net.planning_parameters() as u64,
        weights_hash: String::new(),
        action: Normalizer::identity(shape.action_dim),
        proprio: Normalizer::identity(shape.proprio_dim),
        training: None,
    };
    let input = Arc::new(Pixels {
        height: shape.height,
        width: shape.width,
    });
    Ok(Box::new(VectorModel::new(info, input, net, device)))
}
