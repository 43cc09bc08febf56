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

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use jepa_datasets::Normalizer;
use serde::{Deserialize, Serialize};

use crate::encoder::conv::{ConvEncoder, ConvEncoderConfig, frames_to_input};
use crate::layer::init::initialise;
use crate::layer::mlp::{Mlp, MlpConfig};
use crate::loss::prediction::{mean_distance, mean_squared, time_similarity};
use crate::loss::variance_covariance::{covariance, std_hinge};
use crate::predictor::residual_mlp::{ResidualMlp, ResidualMlpConfig};
use crate::train::{LossTerm, Moment, Rollouts, SliceTensors, Trainable};
use crate::world_model::{
    ActionBatch, CostGradients, CostSpec, Distance, Frame, Latent, ModelInfo, Rollout, SHORTEST,
    Steps, WorldModel, minus_cosine,
};
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
    /// Latents `[n, D]` of images `[n, 3, h, w]`.
    fn encode(&self, images: Tensor<4>) -> Tensor<2> {
        self.encoder.forward(images)
    }

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

/// A trained `pldm`, ready to plan with.
#[derive(Debug)]
pub(crate) struct Pldm {
    info: ModelInfo,
    net: PldmNet,
    /// Width of one predictor's latent.
    width: usize,
    ensemble: usize,
    device: Device,
}

impl Pldm {
    /// `net` must be on `device`, without gradients.
    pub(crate) fn new(config: &PldmConfig, info: ModelInfo, net: PldmNet, device: Device) -> Self {
        let (width, ensemble) = (config.encoder.latent, config.predictor.ensemble);
        Self {
            info,
            net,
            width,
            ensemble,
            device,
        }
    }

    fn check_latent(&self, what: &'static str, latent: &Latent) -> Result<()> {
        if latent.visual.len() == self.info.latent_width {
            return Ok(());
        }
        Err(Error::Shape {
            what,
            expected: format!("{} numbers", self.info.latent_width),
            actual: format!("{} numbers", latent.visual.len()),
        })
    }

    /// A planning latent as `[E, 1, D]`.
    fn tensor(&self, latent: &Latent) -> Tensor<3> {
        let shape = [self.ensemble, 1, self.width];
        Tensor::from_data(TensorData::new(latent.visual.clone(), shape), &self.device)
    }

    /// Candidates as `[S, H, A]`.
    fn actions(&self, actions: &ActionBatch<'_>) -> Tensor<3> {
        let shape = [actions.samples, actions.horizon, actions.width];
        let data = TensorData::new(actions.values.to_vec(), shape);
        Tensor::from_data(data, &self.device)
    }

    /// Latents `[E, S, D]` after each of the actions `[S, H, A]`.
    fn unroll_tensors(&self, start: &Latent, actions: &Tensor<3>) -> Vec<Tensor<3>> {
        let start = self.tensor(start).repeat_dim(1, actions.dims()[0]);
        self.net.predictor.unroll(&start, actions)
    }

    /// Latents after the steps that count, `[E, S, D]` each.
    fn counted(&self, start: &Latent, spec: CostSpec, actions: &Tensor<3>) -> Vec<Tensor<3>> {
        let steps = self.unroll_tensors(start, actions);
        match spec.steps {
            Steps::Last => steps.into_iter().next_back().into_iter().collect(),
            Steps::All => steps,
        }
    }

    /// Costs of `samples` candidates from their latents.
    fn costs_of(
        &self,
        steps: &[Tensor<3>],
        goal: &Tensor<3>,
        distance: Distance,
        samples: usize,
    ) -> Vec<f64> {
        let mut costs = vec![0.0; samples];
        for latents in steps {
            add_distances(&mut costs, latents.clone(), goal, distance);
        }
        let numbers = self.numbers(distance);
        for cost in &mut costs {
            *cost /= numbers;
        }
        costs
    }

    /// Numbers that a distance is a mean over.
    fn numbers(&self, distance: Distance) -> f64 {
        match distance {
            Distance::L2 | Distance::L1 => self.info.latent_width as f64,
            Distance::Cosine => 1.0,
        }
    }

    fn check(&self, start: &Latent, goal: &Latent, actions: &ActionBatch<'_>) -> Result<()> {
        actions.check(self.info.block_width())?;
        self.check_latent("start latent", start)?;
        self.check_latent("goal latent", goal)
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
    Ok(Box::new(Pldm::new(config, info, net, device)))
}

impl WorldModel for Pldm {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn encode(&self, frame: Frame<'_>, _proprio: &[f32]) -> Result<Latent> {
        let (height, width) = (self.info.image_height, self.info.image_width);
        if (frame.height, frame.width) != (height, width) || frame.rgb.len() != 3 * height * width {
            return Err(Error::Shape {
                what: "frame",
                expected: format!("{height}x{width} RGB"),
                actual: format!(
                    "{}x{}, {} bytes",
                    frame.height,
                    frame.width,
                    frame.rgb.len()
                ),
            });
        }
        let input = TensorData::new(
            frames_to_input(frame.rgb, height, width),
            [1, 3, height, width],
        );
        let code = floats(self.net.encode(Tensor::from_data(input, &self.device)));
        Ok(Latent {
            visual: code.repeat(self.ensemble),
            proprio: Vec::new(),
        })
    }

    fn unroll(&self, start: &Latent, actions: ActionBatch<'_>) -> Result<Rollout> {
        actions.check(self.info.block_width())?;
        self.check_latent("start latent", start)?;
        let (samples, horizon) = (actions.samples, actions.horizon);
        // [E, S, H, D] to [S, H, E, D].
        let steps = Tensor::stack::<4>(self.unroll_tensors(start, &self.actions(&actions)), 2);
        let visual = floats(steps.permute([1, 2, 0, 3]));
        Ok(Rollout {
            visual,
            proprio: Vec::new(),
            samples,
            horizon,
        })
    }

    fn costs(
        &self,
        start: &Latent,
        goal: &Latent,
        spec: &CostSpec,
        actions: ActionBatch<'_>,
    ) -> Result<Vec<f64>> {
        self.check(start, goal, &actions)?;
        let steps = self.counted(start, *spec, &self.actions(&actions));
        Ok(self.costs_of(&steps, &self.tensor(goal), spec.distance, actions.samples))
    }

    /// Backpropagates through the unroll. Only the actions are on a differentiable device, so weights and
    /// latents are constants of the graph, and every call has a graph of its own.
    fn cost_gradients(
        &self,
        start: &Latent,
        goal: &Latent,
        spec: &CostSpec,
        actions: ActionBatch<'_>,
    ) -> Result<CostGradients> {
        self.check(start, goal, &actions)?;
        let leaf = self.actions(&actions).autodiff().require_grad();
        let (steps, goal) = (self.counted(start, *spec, &leaf), self.tensor(goal));
        let costs = self.costs_of(&steps, &goal, spec.distance, actions.samples);
        let total = total_distance(steps, &goal, spec.distance);
        let slopes = leaf.grad(&total.backward());
        // Costs in which no action takes part are flat.
        let slopes = slopes.map_or_else(|| vec![0.0; actions.values.len()], floats);
        let numbers = self.numbers(spec.distance);
        let gradient = slopes.into_iter().map(|slope| f64::from(slope) / numbers);
        Ok(CostGradients {
            costs,
            gradient: gradient.collect(),
        })
    }
}

/// Adds the distance of each candidate's latents to the goal, over all predictors together: the sum of
/// squared or absolute differences, or minus the cosine.
///
/// # Shapes
/// - `costs`: `[S]`; `latents`: `[E, S, D]`; `goal`: `[E, 1, D]`
fn add_distances(costs: &mut [f64], latents: Tensor<3>, goal: &Tensor<3>, distance: Distance) {
    match distance {
        Distance::L2 => add_sums(costs, (latents - goal.clone()).square()),
        Distance::L1 => add_sums(costs, (latents - goal.clone()).abs()),
        Distance::Cosine => {
            let (mut squares, mut products) = (vec![0.0; costs.len()], vec![0.0; costs.len()]);
            add_sums(&mut squares, latents.clone().square());
            add_sums(&mut products, latents * goal.clone());
            let mut goal_square = [0.0];
            add_sums(&mut goal_square, goal.clone().square());
            for (cost, (product, square)) in costs.iter_mut().zip(products.iter().zip(squares)) {
                *cost += minus_cosine(*product, [square, goal_square[0]]);
            }
        }
    }
}

/// Adds the sums of `[E, S, D]` over `D` (on the device) and then over predictors (in 64 bits) to `[S]`.
fn add_sums(sums: &mut [f64], values: Tensor<3>) {
    for row in floats(values.sum_dim(2)).chunks_exact(sums.len()) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
}

/// The same distances on the device, summed over steps and candidates: what gradients are taken of.
fn total_distance(steps: Vec<Tensor<3>>, goal: &Tensor<3>, distance: Distance) -> Tensor<1> {
    let latents = Tensor::stack::<4>(steps, 0);
    let goal = goal.clone().unsqueeze_dim::<4>(0);
    match distance {
        Distance::L2 => (latents - goal).square().sum(),
        Distance::L1 => (latents - goal).abs().sum(),
        Distance::Cosine => {
            // Over predictors and D; steps and candidates stay apart.
            let over = |x: Tensor<4>| x.sum_dim(3).sum_dim(1);
            let length = |x: Tensor<4>| over(x.square()).sqrt().clamp_min(SHORTEST);
            let lengths = length(latents.clone()) * length(goal.clone());
            (over(latents * goal) / lengths).sum().neg()
        }
    }
}

/// The values of a tensor, row-major.
fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: DataShape = DataShape {
        height: 65,
        width: 65,
        action_dim: 2,
        proprio_dim: 2,
    };

    fn model(ensemble: usize) -> Box<dyn WorldModel> {
        let predictor = ResidualMlpConfig {
            width: 16,
            ensemble,
        };
        let config = PldmConfig {
            predictor,
            ..PldmConfig::default()
        };
        untrained(&config, SHAPE, 7).unwrap()
    }

    fn latent(model: &dyn WorldModel, salt: u8) -> Latent {
        let rgb: Vec<u8> = (0..65 * 65 * 3).map(|i| (i % 251) as u8 ^ salt).collect();
        model
            .encode(
                Frame {
                    rgb: &rgb,
                    height: 65,
                    width: 65,
                },
                &[],
            )
            .unwrap()
    }

    fn actions(samples: usize, horizon: usize) -> Vec<f32> {
        (0..samples * horizon * 10)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0)
            .collect()
    }

    #[test]
    fn costs_are_the_mean_distance_of_the_rollout_to_the_goal() {
        let model = model(2);
        let (start, goal) = (latent(model.as_ref(), 0), latent(model.as_ref(), 3));
        let values = actions(4, 3);
        let batch = ActionBatch {
            values: &values,
            samples: 4,
            horizon: 3,
            width: 10,
        };
        let rollout = model.unroll(&start, batch).unwrap();
        for (distance, steps) in [
            (Distance::L2, Steps::Last),
            (Distance::L1, Steps::Last),
            (Distance::L2, Steps::All),
            (Distance::Cosine, Steps::Last),
            (Distance::Cosine, Steps::All),
        ] {
            let spec = CostSpec {
                distance,
                steps,
                proprio_weight: 0.0,
            };
            let costs = model.costs(&start, &goal, &spec, batch).unwrap();
            for (sample, cost) in costs.iter().enumerate() {
                let first = if steps == Steps::Last { 2 } else { 0 };
                let expected: f64 = (first..3)
                    .map(|step| {
                        let at = (sample * 3 + step) * 64;
                        let row = &rollout.visual[at..at + 64];
                        let differences =
                            row.iter().zip(&goal.visual).map(|(a, b)| f64::from(a - b));
                        let sum: f64 = match distance {
                            Distance::L2 => differences.map(|d| d * d).sum(),
                            Distance::L1 => differences.map(f64::abs).sum(),
                            Distance::Cosine => {
                                let product = |a: &[f32], b: &[f32]| -> f64 {
                                    a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum()
                                };
                                let lengths =
                                    product(row, row) * product(&goal.visual, &goal.visual);
                                -64.0 * product(row, &goal.visual) / lengths.sqrt()
                            }
                        };
                        sum / 64.0
                    })
                    .sum();
                assert!(
                    (cost - expected).abs() < 1e-5 * expected.abs().max(1e-3),
                    "{cost} {expected}"
                );
            }
        }
    }

    #[test]
    fn every_predictor_starts_from_the_encoding_and_goes_its_own_way() {
        let model = model(3);
        let start = latent(model.as_ref(), 1);
        assert_eq!(start.visual[..32], start.visual[32..64]);
        let values = actions(1, 1);
        let batch = ActionBatch {
            values: &values,
            samples: 1,
            horizon: 1,
            width: 10,
        };
        let rollout = model.unroll(&start, batch).unwrap();
        assert_ne!(rollout.visual[..32], rollout.visual[32..64]);
    }

    #[test]
    fn a_candidate_does_not_depend_on_the_others_in_its_batch() {
        let model = model(1);
        let start = latent(model.as_ref(), 0);
        let values = actions(3, 2);
        let all = ActionBatch {
            values: &values,
            samples: 3,
            horizon: 2,
            width: 10,
        };
        let one = ActionBatch {
            values: &values[20..40],
            samples: 1,
            horizon: 2,
            width: 10,
        };
        let together = model.unroll(&start, all).unwrap();
        let alone = model.unroll(&start, one).unwrap();
        for (a, b) in together.visual[64..128].iter().zip(&alone.visual) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    const fn spec(distance: Distance, steps: Steps) -> CostSpec {
        CostSpec {
            distance,
            steps,
            proprio_weight: 0.0,
        }
    }

    const SPECS: [CostSpec; 6] = [
        spec(Distance::L2, Steps::Last),
        spec(Distance::L2, Steps::All),
        spec(Distance::L1, Steps::Last),
        spec(Distance::L1, Steps::All),
        spec(Distance::Cosine, Steps::Last),
        spec(Distance::Cosine, Steps::All),
    ];

    /// Two candidates of three blocks.
    fn batch(values: &[f32]) -> ActionBatch<'_> {
        ActionBatch {
            values,
            samples: 2,
            horizon: 3,
            width: 10,
        }
    }

    #[test]
    fn gradients_are_the_slopes_of_the_costs() {
        let model = model(2);
        let (start, goal) = (latent(model.as_ref(), 0), latent(model.as_ref(), 3));
        let values = actions(2, 3);
        for spec in SPECS {
            let costs = |values: &[f32]| model.costs(&start, &goal, &spec, batch(values)).unwrap();
            let found = model
                .cost_gradients(&start, &goal, &spec, batch(&values))
                .unwrap();
            assert_eq!(found.costs, costs(&values), "{spec:?}");
            let largest = found
                .gradient
                .iter()
                .fold(0.0_f64, |most, slope| most.max(slope.abs()));
            assert!(largest > 1e-4, "{spec:?}: {largest}");
            let moved = |at: usize, by: f32| {
                let mut values = values.clone();
                values[at] += by;
                costs(&values)[at / 30]
            };
            let differs = |(at, slope): &(usize, &f64)| {
                let difference = (moved(*at, 0.002) - moved(*at, -0.002)) / 0.004;
                (*slope - difference).abs() > 0.02 * largest
            };
            // A few differences may straddle a kink of a ReLU or of an absolute value.
            let off = found.gradient.iter().enumerate().filter(differs).count();
            assert!(off <= 3, "{spec:?}: {off} of 60 slopes are wrong");
        }
    }

    #[test]
    fn gradients_do_not_depend_on_what_other_threads_compute() {
        let model = model(3);
        let (start, goal) = (latent(model.as_ref(), 0), latent(model.as_ref(), 3));
        let run = &|candidate: usize| {
            let values: Vec<f32> = actions(4, 3)[30 * candidate..][..30].to_vec();
            let batch = ActionBatch {
                values: &values,
                samples: 1,
                horizon: 3,
                width: 10,
            };
            let descend = |spec| model.cost_gradients(&start, &goal, spec, batch).unwrap();
            SPECS.iter().map(descend).collect::<Vec<_>>()
        };
        let alone: Vec<_> = (0..4).map(run).collect();
        for _ in 0..20 {
            let together: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|at| scope.spawn(move || run(at))).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect()
            });
            assert_eq!(together, alone);
        }
    }

    #[test]
    fn wrong_shapes_are_named() {
        let model = model(1);
        let start = latent(model.as_ref(), 0);
        let values = actions(1, 1);
        let narrow = ActionBatch {
            values: &values[..8],
            samples: 1,
            horizon: 1,
            width: 8,
        };
        let error = model.unroll(&start, narrow).unwrap_err().to_string();
        assert!(
            error.contains("action block width: expected 10, got 8"),
            "{error}"
        );
        let rgb = vec![0; 12];
        let error = model
            .encode(
                Frame {
                    rgb: &rgb,
                    height: 2,
                    width: 2,
                },
                &[],
            )
            .unwrap_err();
        assert!(
            error.to_string().contains("expected 65x65 RGB, got 2x2"),
            "{error}"
        );
        let short = Latent {
            visual: vec![0.0; 3],
            proprio: vec![],
        };
        let batch = ActionBatch {
            values: &values,
            samples: 1,
            horizon: 1,
            width: 10,
        };
        assert!(model.unroll(&short, batch).is_err());
    }
}
