//! Planning with a token-grid model over plain arrays: everything behind its image encoder.
//!
//! A [`TokenPlanner`] holds a trained predictor. What its image encoder makes of a frame comes in as the
//! visual part of a [`Latent`], `[N * De]`; its proprio part is `[N * Pe]` where proprio is a feature of every
//! token, `[D]` where it is a token, `[P]` where the predictor embeds it itself.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use crate::predictor::cost::frame_costs;
use crate::predictor::token_world_model::{PredictorConfig, TokenWorldModel};
use crate::predictor::unroll::Unroll;
use crate::predictor::{TokenModel, TokenState};
use crate::world_model::{ActionBatch, CostGradients, CostSpec, Latent, Rollout, Steps};
use crate::{Error, Result};

/// Tokens that a call of the predictor sees at most, over all candidates that are unrolled at a time: their
/// attention scores are what fills memory.
const TOKENS: usize = 2560;

/// A predictor with its weights, and how it is unrolled.
#[derive(Debug)]
pub struct TokenPlanner {
    model: TokenWorldModel,
    unroll: Unroll,
    device: Device,
}

impl TokenPlanner {
    /// Plans with `model`, which is on `device`.
    ///
    /// # Errors
    /// [`Error::Config`] when the window is empty or longer than the positions of the predictor reach.
    pub(crate) fn new(model: TokenWorldModel, unroll: Unroll, device: &Device) -> Result<Self> {
        let longest = match &model.config().predictor {
            PredictorConfig::Feature(config) => config.frames,
            PredictorConfig::Sequence(_) | PredictorConfig::AdaLn(_) => usize::MAX,
        };
        if unroll.window == 0 || unroll.window > longest {
            return Err(Error::Config {
                key: "window",
                detail: format!("({}) must be 1 to {longest}", unroll.window),
            });
        }
        Ok(Self {
            model,
            unroll,
            device: device.clone(),
        })
    }

    /// Numbers of the visual part of a latent, `N * De`.
    pub fn visual_width(&self) -> usize {
        self.model.config().grid().tokens() * self.model.config().encoder_width()
    }

    /// Action block width `A`.
    pub fn block_width(&self) -> usize {
        self.model.config().action_dim
    }

    /// Trained numbers: those of the predictor and of the encoders of actions and proprio.
    pub fn parameters(&self) -> usize {
        self.model.num_params()
    }

    /// The latent of one moment, from the tokens of its frame `[N * De]` and normalised proprio `[P]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when either is of another size.
    pub fn latent(&self, visual: Vec<f32>, proprio: &[f32]) -> Result<Latent> {
        check("tokens of a frame", self.visual_width(), visual.len())?;
        let width = self.model.config().proprio_dim;
        if width == 0 {
            return Ok(Latent {
                visual,
                proprio: Vec::new(),
            });
        }
        check("proprio", width, proprio.len())?;
        let data = TensorData::new(proprio.to_vec(), [1, 1, width]);
        let embedded = self
            .model
            .embed_proprio(Tensor::from_data(data, &self.device));
        Ok(Latent {
            visual,
            proprio: embedded.map(floats).unwrap_or_default(),
        })
    }

    /// Predicts the latents after each action of each candidate, from one start.
    ///
    /// # Errors
    /// [`Error::Shape`] when a size is not that of the model.
    pub fn unroll(&self, start: &Latent, actions: ActionBatch<'_>) -> Result<Rollout> {
        let (mut visual, mut proprio) = (Vec::new(), Vec::new());
        self.each_chunk(start, actions, |_, predicted| {
            visual.extend(floats(predicted.visual));
            proprio.extend(predicted.proprio.map(floats).unwrap_or_default());
        })?;
        Ok(Rollout {
            visual,
            proprio,
            samples: actions.samples,
            horizon: actions.horizon,
        })
    }

    /// Cost of each candidate, `[S]`, lower is better (evaluation.md section 2). The start does not count.
    ///
    /// # Errors
    /// [`Error::Shape`] when a size is not that of the model.
    pub fn costs(
        &self,
        start: &Latent,
        goal: &Latent,
        spec: &CostSpec,
        actions: ActionBatch<'_>,
    ) -> Result<Vec<f64>> {
        let goal = self.state("goal latent", goal)?;
        let mut costs = Vec::with_capacity(actions.samples);
        self.each_chunk(start, actions, |_, predicted| {
            costs.extend(sum_steps(counted_costs(&predicted, &goal, *spec)));
        })?;
        Ok(costs)
    }

    /// The costs with their gradients (see [`crate::WorldModel::cost_gradients`]).
    ///
    /// # Errors
    /// Those of [`Self::costs`].
    pub fn cost_gradients(
        &self,
        start: &Latent,
        goal: &Latent,
        spec: &CostSpec,
        actions: ActionBatch<'_>,
    ) -> Result<CostGradients> {
        let differentiable = self.differentiable();
        let goal = differentiable.state("goal latent", goal)?;
        let (mut costs, mut gradient) = (Vec::new(), Vec::new());
        differentiable.each_chunk(start, actions, |leaf, predicted| {
            let steps = counted_costs(&predicted, &goal, *spec);
            let slopes = leaf.grad(&steps.clone().sum().backward());
            // Costs in which no action takes part are flat.
            let slopes = slopes.map_or_else(|| vec![0.0; leaf.shape().num_elements()], floats);
            gradient.extend(slopes.into_iter().map(f64::from));
            costs.extend(sum_steps(steps));
        })?;
        Ok(CostGradients { costs, gradient })
    }

    /// The same weights as constants of a differentiable device.
    fn differentiable(&self) -> Self {
        let device = self.device.clone().autodiff();
        Self {
            model: self.model.clone().fork(&device).no_grad(),
            unroll: self.unroll,
            device,
        }
    }

    /// Candidates that are unrolled at a time.
    pub fn candidates_at_a_time(&self) -> usize {
        let seen = self.unroll.window * self.model.config().grid().tokens();
        (TOKENS / seen.max(1)).max(1)
    }

    /// Hands the actions and the predicted frames of a few candidates after the other to `take`; the actions
    /// are leaves of a graph where the device is differentiable.
    fn each_chunk(
        &self,
        start: &Latent,
        actions: ActionBatch<'_>,
        mut take: impl FnMut(Tensor<3>, TokenState),
    ) -> Result<()> {
        actions.check(self.block_width())?;
        let start = self.state("start latent", start)?;
        let candidate = actions.horizon * actions.width;
        for values in actions
            .values
            .chunks(self.candidates_at_a_time() * candidate)
        {
            let samples = values.len() / candidate;
            let shape = [samples, actions.horizon, actions.width];
            let data = TensorData::new(values.to_vec(), shape);
            let context = TokenState {
                visual: start.visual.clone().repeat_dim(0, samples),
                proprio: start.proprio.clone().map(|p| p.repeat_dim(0, samples)),
            };
            let leaf = Tensor::<3>::from_data(data, &self.device);
            let leaf = if self.device.is_autodiff() {
                leaf.require_grad()
            } else {
                leaf
            };
            let all = self.unroll.run(&self.model, &context, None, leaf.clone())?;
            take(leaf, all.slice(1, actions.horizon + 1));
        }
        Ok(())
    }

    /// A latent as one frame of one sample.
    fn state(&self, what: &'static str, latent: &Latent) -> Result<TokenState> {
        let config = self.model.config();
        let (tokens, width) = (config.grid().tokens(), config.encoder_width());
        check(what, self.visual_width(), latent.visual.len())?;
        let [rows, columns] = config.proprio_shape();
        check(what, rows * columns, latent.proprio.len())?;
        let tensor = |values: &[f32], shape: [usize; 4]| {
            Tensor::from_data(TensorData::new(values.to_vec(), shape), &self.device)
        };
        Ok(TokenState {
            visual: tensor(&latent.visual, [1, 1, tokens, width]),
            proprio: (rows > 0).then(|| tensor(&latent.proprio, [1, 1, rows, columns])),
        })
    }
}

/// Costs `[S, T]` of the predicted steps that count.
fn counted_costs(predicted: &TokenState, goal: &TokenState, spec: CostSpec) -> Tensor<2> {
    let horizon = predicted.frames();
    let first = match spec.steps {
        Steps::Last => horizon - 1,
        Steps::All => 0,
    };
    frame_costs(&predicted.slice(first, horizon), goal, spec)
}

/// The cost of each candidate from those of its steps, `[S, T]`.
fn sum_steps(costs: Tensor<2>) -> Vec<f64> {
    let steps = costs.dims()[1];
    let values = floats(costs);
    let rows = values.chunks_exact(steps);
    rows.map(|row| row.iter().map(|cost| f64::from(*cost)).sum())
        .collect()
}

fn check(what: &'static str, expected: usize, actual: usize) -> Result<()> {
    if expected == actual {
        return Ok(());
    }
    Err(Error::Shape {
        what,
        expected: format!("{expected} numbers"),
        actual: format!("{actual} numbers"),
    })
}

/// The values of a tensor, row-major.
fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predictor::ProprioInput;
    use crate::predictor::adaln::AdaLnConfig;
    use crate::predictor::feature::{FeatureConfig, PositionCode};
    use crate::predictor::testing::{ACTION_DIM, ENCODER_WIDTH, GRID, random, small};
    use crate::world_model::Distance;

    fn adaln() -> TokenPlanner {
        let config = AdaLnConfig {
            grid: GRID,
            frames: 2,
            encoder_width: ENCODER_WIDTH,
            width: 20,
            depth: 1,
            heads: 2,
            action_dim: ACTION_DIM,
            proprio: ProprioInput::Feature { width: 4 },
            rope_variant: crate::layer::rope::Variant::VjepaCompat,
            init_scale: 10.0,
        };
        let model = small(PredictorConfig::AdaLn(config));
        TokenPlanner::new(model, Unroll::default(), &Device::flex()).unwrap()
    }

    fn latent(planner: &TokenPlanner, name: &str) -> Latent {
        let visual = floats(random(name, [planner.visual_width()]));
        planner.latent(visual, &floats(random(name, [3]))).unwrap()
    }

    fn batch(values: &[f32], samples: usize) -> ActionBatch<'_> {
        ActionBatch {
            values,
            samples,
            horizon: 3,
            width: ACTION_DIM,
        }
    }

    #[test]
    fn costs_are_the_distances_of_the_rollout() {
        let planner = adaln();
        let (start, goal) = (latent(&planner, "start"), latent(&planner, "goal"));
        let values = floats(random("actions", [2 * 3 * ACTION_DIM]));
        let rollout = planner.unroll(&start, batch(&values, 2)).unwrap();
        let mean = |a: &[f32], b: &[f32]| {
            let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            sum / a.len() as f64
        };
        let step = |cell: usize| {
            let (v, p) = (goal.visual.len(), goal.proprio.len());
            let visual = mean(&rollout.visual[cell * v..(cell + 1) * v], &goal.visual);
            visual + 0.1 * mean(&rollout.proprio[cell * p..(cell + 1) * p], &goal.proprio)
        };
        for (steps, first) in [(Steps::Last, 2), (Steps::All, 0)] {
            let spec = CostSpec {
                distance: Distance::L2,
                steps,
                proprio_weight: 0.1,
            };
            let costs = planner
                .costs(&start, &goal, &spec, batch(&values, 2))
                .unwrap();
            for (sample, cost) in costs.iter().enumerate() {
                let expected: f64 = (first..3).map(|t| step(sample * 3 + t)).sum();
                assert!((cost - expected).abs() < 1e-5, "{cost} {expected}");
            }
        }
    }

    #[test]
    fn gradients_are_the_slopes_of_the_costs() {
        let planner = adaln();
        let (start, goal) = (latent(&planner, "start"), latent(&planner, "goal"));
        // More candidates than are unrolled at a time.
        let count = planner.candidates_at_a_time() + 1;
        let values = floats(random("actions", [count * 3 * ACTION_DIM]));
        for (distance, steps) in [
            (Distance::L2, Steps::Last),
            (Distance::L2, Steps::All),
            (Distance::Cosine, Steps::Last),
        ] {
            let spec = CostSpec {
                distance,
                steps,
                proprio_weight: 0.1,
            };
            let costs = |values: &[f32]| {
                let actions = batch(values, count);
                planner.costs(&start, &goal, &spec, actions).unwrap()
            };
            let actions = batch(&values, count);
            let found = planner
                .cost_gradients(&start, &goal, &spec, actions)
                .unwrap();
            // Differentiable tensors go through other kernels, which round in another order.
            for (cost, expected) in found.costs.iter().zip(costs(&values)) {
                assert!((cost - expected).abs() < 1e-6, "{cost} {expected}");
            }
            assert_eq!(found.costs.len(), count);
            assert_eq!(found.gradient.len(), values.len());
            // The first candidate, and the one that was unrolled by itself. Single precision leaves too little
            // of so small slopes for single numbers; along the gradient the cost rises by its length.
            for candidate in [0, planner.candidates_at_a_time()] {
                let own = candidate * 3 * ACTION_DIM..(candidate + 1) * 3 * ACTION_DIM;
                let gradient = &found.gradient[own.clone()];
                let length = gradient
                    .iter()
                    .map(|slope| slope * slope)
                    .sum::<f64>()
                    .sqrt();
                assert!(length > 1e-5, "{length}");
                let moved = |by: f64| {
                    let mut values = values.clone();
                    for (value, slope) in values[own.clone()].iter_mut().zip(gradient) {
                        *value += (by * slope / length) as f32;
                    }
                    costs(&values)[candidate]
                };
                let slope = (moved(1.0) - moved(-1.0)) / 2.0;
                assert!(
                    (length - slope).abs() < 0.03 * length,
                    "{spec:?}: {length} {slope}"
                );
            }
        }
    }

    #[test]
    fn a_candidate_costs_the_same_alone_and_among_many() {
        let planner = adaln();
        let (start, goal) = (latent(&planner, "start"), latent(&planner, "goal"));
        let spec = CostSpec {
            distance: Distance::L1,
            steps: Steps::Last,
            proprio_weight: 0.1,
        };
        let count = planner.candidates_at_a_time() + 3;
        let values = floats(random("actions", [count * 3 * ACTION_DIM]));
        let together = planner
            .costs(&start, &goal, &spec, batch(&values, count))
            .unwrap();
        assert_eq!(together.len(), count);
        for (cost, actions) in together.iter().zip(values.chunks(3 * ACTION_DIM)) {
            let alone = planner
                .costs(&start, &goal, &spec, batch(actions, 1))
                .unwrap();
            assert!((cost - alone[0]).abs() < 1e-6, "{cost} {alone:?}");
        }
    }

    #[test]
    fn sizes_of_another_model_are_refused() {
        let planner = adaln();
        let start = latent(&planner, "start");
        assert!(planner.latent(vec![0.0; 5], &[0.0; 3]).is_err());
        assert!(planner.latent(start.visual.clone(), &[0.0; 2]).is_err());
        let bare = Latent {
            proprio: Vec::new(),
            ..start.clone()
        };
        let values = [0.0; 3 * ACTION_DIM];
        assert!(planner.unroll(&bare, batch(&values, 1)).is_err());
        let narrow = ActionBatch {
            width: ACTION_DIM - 1,
            ..batch(&values[..9], 1)
        };
        assert!(planner.unroll(&start, narrow).is_err());
    }

    #[test]
    fn a_window_that_learned_positions_do_not_reach_is_refused() {
        let config = FeatureConfig {
            grid: GRID,
            extra_tokens: 0,
            frames: 2,
            encoder_width: ENCODER_WIDTH,
            proprio_width: 4,
            action_width: 2,
            depth: 1,
            heads: 1,
            head_width: 8,
            hidden: 8,
            position: PositionCode::Learned,
        };
        for (window, fits) in [(0, false), (1, true), (2, true), (3, false)] {
            let unroll = Unroll {
                window,
                ..Unroll::default()
            };
            let model = small(PredictorConfig::Feature(config.clone()));
            let planner = TokenPlanner::new(model, unroll, &Device::flex());
            assert_eq!(planner.is_ok(), fits, "{window}");
        }
    }

    #[test]
    fn it_can_be_used_from_many_threads() {
        fn shared<T: Send + Sync>(_: &T) {}
        shared(&adaln());
    }
}
