//! A token-grid model in training.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use jepa_datasets::Stream;

use super::config::{ObjectiveChoice, TokenConfig};
use crate::Result;
use crate::loss::objective::{ObjectiveConfig, TokenBatch};
use crate::loss::vjepa2_ac::Vjepa2AcLossConfig;
use crate::pldm::DataShape;
use crate::predictor::token_world_model::TokenWorldModel;
use crate::predictor::unroll::Unroll;
use crate::predictor::{TokenModel, TokenState};
use crate::train::{LossTerm, Moment, Rollouts, SliceTensors, Trainable};

/// Names of the rollout terms, orders 2 and above.
const ORDERS: [&str; 15] = [
    "rollout_2",
    "rollout_3",
    "rollout_4",
    "rollout_5",
    "rollout_6",
    "rollout_7",
    "rollout_8",
    "rollout_9",
    "rollout_10",
    "rollout_11",
    "rollout_12",
    "rollout_13",
    "rollout_14",
    "rollout_15",
    "rollout_16",
];

/// What the objective needs beside the network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenSettings {
    pub objective: ObjectiveChoice,
    /// Rollouts of the validation.
    pub unroll: Unroll,
    pub uses_proprio: bool,
}

impl TokenSettings {
    pub(crate) fn new(config: &TokenConfig) -> Self {
        Self {
            objective: config.objective,
            unroll: config.unroll(),
            uses_proprio: config.uses_proprio(),
        }
    }
}

/// The predictor with its outer encoders; the image encoder is not part of it.
#[derive(Module, Debug)]
pub(crate) struct TokenNet {
    pub model: TokenWorldModel,
}

impl TokenNet {
    /// A network with fresh weights for tokens `[width, rows, columns]`.
    pub(crate) fn new(
        config: &TokenConfig,
        tokens: [usize; 3],
        shape: &DataShape,
        horizon: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let model = config.network(tokens, shape, horizon)?.init(device)?;
        Ok(Self {
            model: model.initialise(seed),
        })
    }

    /// The encoded frames of a batch.
    fn batch(slices: &SliceTensors, settings: &TokenSettings) -> TokenBatch {
        let [samples, horizon, block] = slices.actions.dims();
        let frames = horizon + 1;
        // The action after the last frame has no target: any number does.
        let last = Tensor::zeros([samples, 1, block], &slices.actions.device());
        let proprio = settings.uses_proprio.then(|| {
            let width = slices.proprio.dims()[1];
            slices.proprio.clone().reshape([samples, frames, width])
        });
        TokenBatch {
            visual: tokens(slices.images.clone(), frames),
            proprio,
            actions: Tensor::cat(vec![slices.actions.clone(), last], 1),
        }
    }

    fn rollout_terms(
        &self,
        objective: &ObjectiveConfig,
        batch: TokenBatch,
        moment: &Moment,
    ) -> Result<Vec<LossTerm>> {
        let [samples, frames, ..] = batch.visual.dims();
        let mut stream = Stream::new(moment.seed, &["objective", &moment.step.to_string()]);
        let draws = objective.draw(&mut stream, samples, frames, moment.progress);
        let losses = objective.losses(&self.model, batch, &draws)?;
        let (first, later) = objective.loss_weighting.weights(objective.steps);
        let teacher = LossTerm {
            name: "teacher_forcing",
            weight: first,
            value: losses.teacher_forcing.total,
        };
        let rollout = ORDERS
            .iter()
            .zip(losses.rollout)
            .map(|(name, value)| LossTerm {
                name,
                weight: later,
                value,
            });
        Ok(std::iter::once(teacher).chain(rollout).collect())
    }

    fn vjepa2_ac_terms(
        &self,
        objective: &Vjepa2AcLossConfig,
        batch: TokenBatch,
    ) -> Result<Vec<LossTerm>> {
        let truth = TokenState {
            visual: batch.visual,
            proprio: batch.proprio.and_then(|p| self.model.embed_proprio(p)),
        };
        let losses = objective.losses(&self.model, &truth, &batch.actions)?;
        let term = |name, value| LossTerm {
            name,
            weight: 1.0,
            value,
        };
        Ok(vec![
            term("teacher_forcing", losses.teacher_forcing),
            term("rollout", losses.rollout),
        ])
    }
}

/// Network input `[B T, De, rows, columns]` as tokens `[B, T, N, De]`.
fn tokens(images: Tensor<4>, frames: usize) -> Tensor<4> {
    let [count, width, rows, columns] = images.dims();
    images
        .permute([0, 2, 3, 1])
        .reshape([count / frames, frames, rows * columns, width])
}

impl Trainable for TokenNet {
    type Weights = TokenSettings;

    fn losses(
        &self,
        slices: &SliceTensors,
        settings: &TokenSettings,
        moment: &Moment,
    ) -> Result<Vec<LossTerm>> {
        let batch = Self::batch(slices, settings);
        match &settings.objective {
            ObjectiveChoice::Rollout(objective) => self.rollout_terms(objective, batch, moment),
            ObjectiveChoice::Vjepa2Ac(objective) => self.vjepa2_ac_terms(objective, batch),
        }
    }

    fn rollouts(&self, slices: &SliceTensors, settings: &TokenSettings) -> Result<Rollouts> {
        let batch = Self::batch(slices, settings);
        let [samples, frames, count, width] = batch.visual.dims();
        let flat = count * width;
        let first = TokenState {
            visual: batch.visual.clone(),
            proprio: batch.proprio.and_then(|p| self.model.embed_proprio(p)),
        }
        .slice(0, 1);
        let actions = slices.actions.clone();
        let states = settings.unroll.run(&self.model, &first, None, actions)?;
        let predicted = (1..frames).map(|t| {
            let visual = states.visual.clone().slice_dim(1, t..t + 1);
            visual.reshape([1, samples, flat])
        });
        Ok(Rollouts {
            encoded: batch.visual.reshape([samples * frames, flat]),
            predicted: predicted.collect(),
            tokens: count,
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::super::config::preset;
    use super::*;
    use crate::predictor::dino_wm_original::{Concat, DinoWmOriginalConfig};
    use crate::predictor::token_world_model::key;
    use crate::weights::read_out::weights_by;

    #[test]
    fn dino_wm_original_has_the_loss_of_its_authors() {
        let device = Device::flex().autodiff();
        device.seed(5);
        let shape = DataShape {
            height: 1,
            width: 1,
            action_dim: 2,
            proprio_dim: 3,
        };
        let (count, width) = (4, 6);
        let mut config = preset("dino-wm-original").unwrap();
        config.frameskip = 1;
        config.predictor.depth = 1;
        let net = TokenNet::new(&config, [width, 2, 2], &shape, 3, 7, &device).unwrap();
        let normal = Distribution::Normal(0.0, 1.0);
        let images = Tensor::<4>::random([2 * 4, width, 2, 2], normal, &device);
        let slices = SliceTensors {
            images: images.clone(),
            actions: Tensor::random([2, 3, 2], normal, &device),
            proprio: Tensor::random([2 * 4, 3], normal, &device),
            rows_proprio: Tensor::random([2, 4, 3], normal, &device),
        };
        let moment = Moment {
            seed: 0,
            step: 1,
            progress: 0.0,
            first_slice: 0,
        };
        let terms = net
            .losses(&slices, &TokenSettings::new(&config), &moment)
            .unwrap();
        let total = terms
            .into_iter()
            .map(|t| t.value * t.weight)
            .reduce(|a, b| a + b);
        let ours = total.unwrap().into_scalar::<f32>();

        // The authors' model has positions of the three frames that it sees.
        let sizes = config.predictor;
        let original = DinoWmOriginalConfig {
            concat: Concat::Channels,
            history: 3,
            ahead: 1,
            tokens: count,
            encoder_width: width,
            proprio_dim: 3,
            action_dim: 2,
            proprio_width: sizes.proprio_width,
            proprio_repeat: 1,
            action_width: sizes.action_width,
            action_repeat: 1,
            depth: 1,
            heads: sizes.heads,
            head_width: sizes.head_width,
            hidden: sizes.hidden,
        };
        let mut weights = weights_by(&net.model, key);
        let positions = "predictor.pos_embedding";
        let mut table = weights.remove(positions).unwrap();
        table.shape[1] = 3 * count;
        table.values.truncate(table.shape.iter().product());
        weights.insert(positions, table);
        let original = original.init(&device).unwrap().load(weights).unwrap();
        let proprio = slices.proprio.clone().reshape([2, 4, 3]);
        let last = Tensor::zeros([2, 1, 2], &device);
        let actions = Tensor::cat(vec![slices.actions.clone(), last], 1);
        let (_, loss) = original.loss(tokens(images, 4), proprio, actions);
        let theirs = loss.total.into_scalar::<f32>();
        assert!((ours - theirs).abs() < 1e-6 * theirs, "{ours} {theirs}");
    }
}
