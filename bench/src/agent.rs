//! Policies: what chooses the actions of an episode.
//!
//! A [`Policy`] is a world model with a planner, a trained policy that needs none, one of the floors that
//! any model has to beat, or the oracle, which plans in the simulator itself and shows what planner and protocol allow. For each
//! episode it makes an [`Agent`], which is asked for actions until the budget is spent: a receding
//! horizon loop that replans from the present observation, without memory or warm start
//! (evaluation.md section 1.0).

mod chunks;
mod gather;

use std::path::Path;

use jepa_datasets::{ACTION, Normalizer, Stream};
use jepa_leaderboard::{ModelKind, ModelRef, TrainingRef};
use jepa_models::{Compute, CostSpec, Frame, GoalPolicy, Latent, ModelInfo, WorldModel};

pub(crate) use self::gather::Gather;
use self::gather::Question;
use crate::env::{Env, Image, Limits, Start};
use crate::planner::{
    ActionBatch, CostModel, Descent, GradientCostModel, PlanShape, Planner, Trace,
};
use crate::protocol::{RunConfig, Task};
use crate::seeds::{PlanKey, StreamNoise, floor_stream};
use crate::{Error, Result};

/// Names of the policies that need no training run, with what they do.
pub const BASELINES: &[(&str, &str)] = &[
    (
        "floor:random",
        "normal random actions with the spread of the released data",
    ),
    ("floor:noop", "no action at all"),
    (
        "oracle",
        "the same planner in the simulator itself: the ceiling of planner and protocol",
    ),
    (
        "oracle-expert",
        "the scripted expert of the environment, where it has one",
    ),
];

/// What chooses the actions of a run.
pub enum Policy {
    /// A world model and a planner.
    Model(Box<dyn WorldModel>),
    /// A trained policy, which chooses actions itself.
    Trained(Box<dyn GoalPolicy>),
    /// Independent standard normal actions in normalised units.
    Random,
    /// Zero actions.
    Noop,
    /// The planner with true states: the cost is the environment's own, after a simulated rollout.
    Oracle,
    /// The scripted expert of the environment.
    Expert,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Policy").field(&self.name()).finish()
    }
}

impl Policy {
    /// The policy of `--model`: a baseline by name, or a world model or a trained policy by its training run.
    ///
    /// # Errors
    /// When the name is unknown, is that of an untrained model, or the run cannot be loaded.
    pub fn find(name: &str, compute: Compute) -> Result<Self> {
        match name {
            "floor:random" => Ok(Self::Random),
            "floor:noop" => Ok(Self::Noop),
            "oracle" => Ok(Self::Oracle),
            "oracle-expert" => Ok(Self::Expert),
            path if Path::new(path).exists() => {
                let path = Path::new(path);
                Ok(match jepa_models::load_policy(path, compute)? {
                    Some(policy) => Self::Trained(policy),
                    None => Self::Model(jepa_models::load(path, compute)?),
                })
            }
            _ => Err(unknown_model(name)),
        }
    }

    /// What a training run says of it, if there is one.
    fn info(&self) -> Option<&ModelInfo> {
        match self {
            Self::Model(model) => Some(model.info()),
            Self::Trained(policy) => Some(policy.info()),
            Self::Random | Self::Noop | Self::Oracle | Self::Expert => None,
        }
    }

    /// Registry name.
    pub fn name(&self) -> &str {
        match self {
            Self::Model(model) => &model.info().name,
            Self::Trained(policy) => &policy.info().name,
            Self::Random => "floor:random",
            Self::Noop => "floor:noop",
            Self::Oracle => "oracle",
            Self::Expert => "oracle-expert",
        }
    }

    /// Hash of the weights, if there are any.
    pub fn weights_hash(&self) -> Option<&str> {
        self.info().map(|info| info.weights_hash.as_str())
    }

    /// Whether a planner chooses the actions.
    pub fn plans(&self) -> bool {
        matches!(self, Self::Model(_) | Self::Oracle)
    }

    /// The entry of the record.
    pub fn reference(&self) -> ModelRef {
        let bare = |kind| ModelRef {
            name: self.name().to_string(),
            kind,
            label: self.name().to_string(),
            weights_hash: None,
            parameters: None,
            training: None,
        };
        match self {
            Self::Model(model) => model_reference(model.info()),
            Self::Trained(policy) => model_reference(policy.info()),
            Self::Random | Self::Noop => bare(ModelKind::Floor),
            Self::Oracle | Self::Expert => bare(ModelKind::Oracle),
        }
    }

    /// Checks that the policy can act in the environment of a run.
    ///
    /// # Errors
    /// When it was trained for other actions, proprio or frames, or as a world model for another frameskip.
    pub fn check(&self, config: &RunConfig, limits: Limits) -> Result<()> {
        let Some(info) = self.info() else {
            return Ok(());
        };
        // A trained policy acts in native steps, whatever the steps of a plan.
        let frameskip = ("frameskip", info.frameskip, config.protocol.frameskip);
        let frameskip = self.plans().then_some(frameskip);
        let pairs = [
            ("action width", info.action_dim, limits.action_width),
            ("frame height", info.image_height, info.image_width),
        ];
        let proprio = ("proprio width", info.proprio_dim, limits.proprio_width);
        let proprio = info.uses_proprio.then_some(proprio);
        match frameskip
            .into_iter()
            .chain(pairs)
            .chain(proprio)
            .find(|(_, model, task)| model != task)
        {
            Some((what, model, task)) => Err(Error::Invalid {
                what: format!("model `{}` does not fit task `{}`", info.name, config.task),
                detail: format!("its {what} is {model}, expected {task}"),
            }),
            None => Ok(()),
        }
    }

    /// Checks that nothing was chosen that a trained policy has no use for. (Floors have none either; their runs stand
    /// beside those of any planner.)
    ///
    /// # Errors
    /// When a trained policy is to act with planner settings, an objective or a noise seed that are not the task's own.
    pub fn check_choices(&self, task: &Task, config: &RunConfig) -> Result<()> {
        let Self::Trained(_) = self else {
            return Ok(());
        };
        let untouched = RunConfig::new(task, &task.default_preset, &config.model)?;
        let choices = [
            ("the planner preset", config.preset != untouched.preset),
            ("a planner setting", config.planner != untouched.planner),
            ("the objective", config.objective != untouched.objective),
            ("the noise seed", config.noise_seed != untouched.noise_seed),
        ];
        match choices.into_iter().find(|(_, changed)| *changed) {
            Some((what, _)) => Err(self.has_no_use_for(what)),
            None => Ok(()),
        }
    }

    /// Refuses something that is about planning.
    pub(crate) fn has_no_use_for(&self, what: &str) -> Error {
        Error::Config {
            what: format!("{what} with model `{}`", self.name()),
            detail:
                "it is a policy: it plans nothing, searches nothing and draws nothing at random"
                    .into(),
            hint: Some(
                "leave out `--planner`, and settings of `planner`, `objective` and `noise_seed`"
                    .into(),
            ),
        }
    }

    /// Checks that the policy has what the planner of a run asks for.
    ///
    /// A world model is asked when it plans: it answers with its own error.
    ///
    /// # Errors
    /// When the planner follows gradients and there are none.
    pub fn check_planner(&self, planner: &dyn Planner) -> Result<()> {
        let lack = match self {
            Self::Model(_) | Self::Trained(_) => return Ok(()),
            Self::Oracle => "the oracle's cost is a simulation, which has none",
            Self::Random | Self::Noop => "a floor has no cost at all",
            Self::Expert => "an expert has no cost at all",
        };
        if !planner.needs_gradients() {
            return Ok(());
        }
        let name = planner.name();
        Err(Error::Config {
            what: format!("planner `{name}` with model `{}`", self.name()),
            detail: format!("`{name}` follows the gradient of a cost, and {lack}"),
            hint: Some(format!(
                "pass a training run of a model that offers gradients (`pldm`) with `--model`, or leave `{name}` for `--planner cem`"
            )),
        })
    }

    /// Begins an episode and leaves `env` in its initial state.
    ///
    /// # Errors
    /// When the goal cannot be rendered or encoded.
    pub fn begin<'a>(
        &'a self,
        setup: Setup<'a>,
        env: &mut dyn Env,
        start: &Start,
        seed: u64,
    ) -> Result<Box<dyn Agent + 'a>> {
        let limits = env.limits();
        let agent: Box<dyn Agent + 'a> = match self {
            Self::Noop => Box::new(Noop {
                width: limits.action_width,
                steps: setup.steps(),
            }),
            Self::Random => {
                let stream = floor_stream(setup.config.noise_seed, &setup.config.task, seed);
                let actions = ActionSpace::released(limits)?;
                Box::new(RandomFloor {
                    stream,
                    actions,
                    steps: setup.steps(),
                })
            }
            Self::Expert => Box::new(Scripted),
            Self::Oracle => {
                let actions = ActionSpace::released(limits)?;
                let view = Truth {
                    goal: start.goal.clone(),
                    actions: actions.clone(),
                };
                Box::new(Receding {
                    setup,
                    view,
                    actions,
                    seed,
                    replan: 0,
                })
            }
            Self::Trained(policy) => {
                start.enter_goal(env)?;
                Box::new(chunks::Chunks::towards(policy.as_ref(), env)?)
            }
            Self::Model(model) => {
                start.enter_goal(env)?;
                let goal = observe(model.as_ref(), env)?;
                let view = Imagination {
                    model: model.as_ref(),
                    goal,
                    spec: setup.config.objective,
                    gather: setup.gather,
                };
                let actions = ActionSpace {
                    normalizer: model.info().action.clone(),
                };
                Box::new(Receding {
                    setup,
                    view,
                    actions,
                    seed,
                    replan: 0,
                })
            }
        };
        start.enter(env)?;
        Ok(agent)
    }
}

impl Policy {
    /// Hands `take` the costs that a planner would see at the beginning of an episode.
    ///
    /// # Errors
    /// When the policy has no costs, the goal cannot be rendered or encoded, or `take` fails.
    pub fn with_costs<T>(
        &self,
        config: &RunConfig,
        env: &mut dyn Env,
        start: &Start,
        stop: Stop<'_>,
        take: impl FnOnce(&mut dyn CostModel) -> Result<T>,
    ) -> Result<T> {
        match self {
            Self::Model(model) => {
                start.enter_goal(env)?;
                let view = Imagination {
                    model: model.as_ref(),
                    goal: observe(model.as_ref(), env)?,
                    spec: config.objective,
                    gather: None,
                };
                start.enter(env)?;
                take(view.look(env, stop)?.as_mut())
            }
            Self::Oracle => {
                start.enter(env)?;
                let view = Truth {
                    goal: start.goal.clone(),
                    actions: ActionSpace::released(env.limits())?,
                };
                take(view.look(env, stop)?.as_mut())
            }
            Self::Trained(_) | Self::Random | Self::Noop | Self::Expert => Err(Error::Config {
                what: format!("the costs of `{}`", self.name()),
                detail: "it does not plan and has none".into(),
                hint: Some("pass a world model or `oracle` with `--model`".into()),
            }),
        }
    }
}

fn model_reference(info: &ModelInfo) -> ModelRef {
    let training = info.training.as_ref().map(|training| TrainingRef {
        run: training.run.clone(),
        seed: training.seed,
        steps: training.steps,
        seconds: training.seconds,
        config_hash: training.config_hash.clone(),
        dataset_hash: training.dataset_hash.clone(),
        train_split_hash: training.train_split_hash.clone(),
        track: training.track.clone(),
    });
    ModelRef {
        name: info.name.clone(),
        kind: ModelKind::Trained,
        label: match &training {
            Some(training) => format!("{}, seed {}", info.name, training.seed),
            None => info.name.clone(),
        },
        weights_hash: Some(info.weights_hash.clone()),
        parameters: Some(info.parameters),
        training,
    }
}

fn unknown_model(name: &str) -> Error {
    let in_zoo = jepa_models::MODELS.iter().any(|entry| entry.name == name);
    if in_zoo {
        return Error::Config {
            what: format!("`--model {name}`"),
            detail: "it names a model without weights".into(),
            hint: Some(format!(
                "train it with `jepa-bench train --model {name} --data DST --out RUN`, then pass `--model RUN`"
            )),
        };
    }
    let names = BASELINES.iter().map(|(name, _)| name.to_string());
    let zoo = jepa_models::MODELS
        .iter()
        .map(|entry| entry.name.to_string());
    Error::UnknownName {
        kind: "model",
        name: name.to_string(),
        known: names.chain(zoo).collect(),
    }
}

/// What every agent of a run shares.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// Every setting of the run.
    pub config: &'a RunConfig,
    /// The planner of the run.
    pub planner: &'a dyn Planner,
    /// Whether to give up.
    pub stop: Stop<'a>,
    /// Where the searches of several episodes meet, if they are planned together.
    pub(crate) gather: Option<&'a Gather<'a>>,
}

impl Setup<'_> {
    fn steps(&self) -> usize {
        self.config.protocol.max_steps
    }
}

/// Chooses the actions of one episode.
pub trait Agent {
    /// The next actions, at least one, from the present state of `env`.
    ///
    /// An agent may render `env` and read its proprio; only the oracle may look at its state.
    ///
    /// # Errors
    /// When planning fails.
    fn act(&mut self, env: &dyn Env, elapsed: usize) -> Result<Decision>;
}

/// Actions and how they were found.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Native actions to execute, row-major `[n, A_e]`.
    pub actions: Vec<f64>,
    /// The search behind them, if there was one.
    pub search: Option<Search>,
}

/// One search of a planner.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Costs per iteration.
    pub trace: Trace,
    /// Batched one-step predictions of a world model; 0 for the oracle.
    pub world_model_calls: u64,
    /// Candidate model steps imagined (by the oracle: simulated).
    pub candidate_steps: u64,
}

/// Turns normalised action blocks into native actions.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionSpace {
    /// Statistics of the native action, width `A_e`.
    pub normalizer: Normalizer,
}

impl ActionSpace {
    /// The space of the released data of an environment.
    fn released(limits: Limits) -> Result<Self> {
        if limits.normalizer.is_empty() {
            return Ok(Self {
                normalizer: Normalizer::identity(limits.action_width),
            });
        }
        let released = Normalizer::released(limits.normalizer, ACTION);
        released
            .map(|normalizer| Self { normalizer })
            .ok_or_else(|| Error::Invalid {
                what: format!("normaliser `{}`", limits.normalizer),
                detail: "it has no released action statistics".into(),
            })
    }

    /// Unpacks blocks `[n, f * A_e]` into native actions `[n * f, A_e]`: row-major, so the first `A_e`
    /// numbers of a block are its first step. Rounded to `f32`, as the released loop hands them over.
    pub fn unpack(&self, blocks: &[f64]) -> Vec<f64> {
        let mut values: Vec<f32> = blocks.iter().map(|&value| value as f32).collect();
        self.normalizer.denormalize(&mut values);
        values.into_iter().map(f64::from).collect()
    }
}

/// Whether to give up a search; asked between batches of candidates.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// What a plan is scored with: the imagination of a world model, or the truth.
trait View {
    /// Reads the present state of `env` and scores candidates from there, until `stop` says so.
    fn look<'a>(&'a self, env: &dyn Env, stop: Stop<'a>) -> Result<Box<dyn CostModel + 'a>>;

    /// World-model calls per model step of a batch of candidates.
    fn calls_per_step(&self) -> u64;
}

/// Plans, executes the first blocks, and plans again from what it then sees.
struct Receding<'a, V: View> {
    setup: Setup<'a>,
    view: V,
    actions: ActionSpace,
    seed: u64,
    replan: u32,
}

impl<V: View> Agent for Receding<'_, V> {
    fn act(&mut self, env: &dyn Env, elapsed: usize) -> Result<Decision> {
        let config = self.setup.config;
        let RunConfig {
            protocol,
            planner,
            noise_seed,
            task,
            ..
        } = config;
        let shape = PlanShape {
            horizon: config.plan_length(self.setup.planner, elapsed),
            width: protocol.frameskip * env.limits().action_width,
        };
        let key = PlanKey {
            suite: *noise_seed,
            task,
            episode_seed: self.seed,
            replan: self.replan,
        };
        let mut cost = self.view.look(env, self.setup.stop)?;
        let plan = self
            .setup
            .planner
            .plan(shape, cost.as_mut(), &mut StreamNoise::new(&key))?;
        drop(cost);
        self.replan += 1;
        let executed = planner.replan_every.min(shape.horizon) * shape.width;
        let horizon = shape.horizon as u64;
        let search = Search {
            world_model_calls: plan.trace.batches * horizon * self.view.calls_per_step(),
            candidate_steps: plan.trace.candidates * horizon,
            trace: plan.trace,
        };
        let actions = self.actions.unpack(&plan.actions[..executed]);
        Ok(Decision {
            actions,
            search: Some(search),
        })
    }
}

/// Scores candidates by the latents that a world model predicts for them.
struct Imagination<'a> {
    model: &'a dyn WorldModel,
    goal: Latent,
    spec: CostSpec,
    gather: Option<&'a Gather<'a>>,
}

impl View for Imagination<'_> {
    fn look<'a>(&'a self, env: &dyn Env, stop: Stop<'a>) -> Result<Box<dyn CostModel + 'a>> {
        Ok(Box::new(ImaginedCost {
            view: self,
            start: observe(self.model, env)?,
            stop,
        }))
    }

    fn calls_per_step(&self) -> u64 {
        1
    }
}

struct ImaginedCost<'a> {
    view: &'a Imagination<'a>,
    start: Latent,
    stop: Stop<'a>,
}

impl ImaginedCost<'_> {
    /// Hands `take` as many candidates at a time as the model computes at once, so that a search that takes hours can
    /// be given up within seconds.
    fn each_part(
        &self,
        actions: &ActionBatch,
        mut take: impl FnMut(&Self, jepa_models::ActionBatch<'_>) -> Result<()>,
    ) -> Result<()> {
        let values = singles(actions);
        let at_a_time = self.view.model.candidates_at_a_time(actions.shape.horizon);
        let numbers = at_a_time.clamp(1, actions.samples.max(1)) * actions.shape.len();
        for part in values.chunks(numbers.max(1)) {
            give_up(self.stop)?;
            let mut batch = batch(actions, part);
            batch.samples = part.len() / actions.shape.len();
            take(self, batch)?;
        }
        Ok(())
    }
}

/// Ends a search that nobody waits for.
fn give_up(stop: Stop<'_>) -> Result<()> {
    if stop() {
        return Err(Error::Interrupted {
            done: 0,
            total: 1,
            what: "episodes",
        });
    }
    Ok(())
}

impl CostModel for ImaginedCost<'_> {
    fn costs(&mut self, actions: &ActionBatch) -> Result<Vec<f64>> {
        if let Some(gather) = self.view.gather {
            give_up(self.stop)?;
            return gather.costs(Question {
                start: self.start.clone(),
                goal: self.view.goal.clone(),
                spec: self.view.spec,
                values: singles(actions),
                samples: actions.samples,
                shape: actions.shape,
            });
        }
        let mut costs = Vec::with_capacity(actions.samples);
        self.each_part(actions, |this, part| {
            let Imagination {
                model, goal, spec, ..
            } = this.view;
            costs.extend(model.costs(&this.start, goal, spec, part)?);
            Ok(())
        })?;
        Ok(costs)
    }

    fn with_gradients(&mut self) -> Result<&mut dyn GradientCostModel> {
        Ok(self)
    }
}

impl GradientCostModel for ImaginedCost<'_> {
    fn costs_and_gradient(&mut self, actions: &ActionBatch) -> Result<Descent> {
        let mut descent = Descent {
            costs: Vec::with_capacity(actions.samples),
            gradient: Vec::with_capacity(actions.values.len()),
        };
        self.each_part(actions, |this, part| {
            let Imagination {
                model, goal, spec, ..
            } = this.view;
            let found = model.cost_gradients(&this.start, goal, spec, part)?;
            descent.costs.extend(found.costs);
            descent.gradient.extend(found.gradient);
            Ok(())
        })?;
        Ok(descent)
    }
}

/// Candidates in the precision of models.
pub(crate) fn singles(actions: &ActionBatch) -> Vec<f32> {
    actions.values.iter().map(|&value| value as f32).collect()
}

/// Candidates as models take them, with their values in single precision.
pub(crate) fn batch<'a>(actions: &ActionBatch, values: &'a [f32]) -> jepa_models::ActionBatch<'a> {
    jepa_models::ActionBatch {
        values,
        samples: actions.samples,
        horizon: actions.shape.horizon,
        width: actions.shape.width,
    }
}

/// Encodes the present observation, drawn at the size the model takes.
pub(crate) fn observe(model: &dyn WorldModel, env: &dyn Env) -> Result<Latent> {
    let image = picture(model.info(), env)?;
    Ok(model.encode(frame_of(&image), &env.proprio())?)
}

/// The present frame, drawn at the size a model takes.
fn picture(info: &ModelInfo, env: &dyn Env) -> Result<Image> {
    crate::env::draw(env, info.image_height)
}

/// An image as models take it.
fn frame_of(image: &Image) -> Frame<'_> {
    Frame {
        rgb: &image.rgb,
        height: image.height,
        width: image.width,
    }
}

/// Scores candidates by simulating them.
struct Truth {
    goal: Vec<f64>,
    actions: ActionSpace,
}

impl View for Truth {
    fn look<'a>(&'a self, env: &dyn Env, stop: Stop<'a>) -> Result<Box<dyn CostModel + 'a>> {
        Ok(Box::new(SimulatedCost {
            view: self,
            env: env.duplicate()?,
            start: env.snapshot()?,
            stop,
        }))
    }

    fn calls_per_step(&self) -> u64 {
        0
    }
}

/// The environment's cost after a rollout in a copy of the simulator.
struct SimulatedCost<'a> {
    view: &'a Truth,
    env: Box<dyn Env>,
    /// Snapshot of the present.
    start: Vec<f64>,
    stop: Stop<'a>,
}

impl CostModel for SimulatedCost<'_> {
    fn costs(&mut self, actions: &ActionBatch) -> Result<Vec<f64>> {
        give_up(self.stop)?;
        let native = self.view.actions.unpack(&actions.values);
        let width = self.env.limits().action_width;
        let mut costs = Vec::with_capacity(actions.samples);
        for rollout in native.chunks_exact(actions.shape.len()) {
            self.env.restore(&self.start)?;
            for action in rollout.chunks_exact(width) {
                self.env.step(action)?;
            }
            costs.push(self.env.oracle_cost(&self.view.goal, self.env.state()));
        }
        Ok(costs)
    }
}

/// Does what the environment's expert does.
struct Scripted;

impl Agent for Scripted {
    fn act(&mut self, env: &dyn Env, _elapsed: usize) -> Result<Decision> {
        Ok(Decision {
            actions: env.expert()?,
            search: None,
        })
    }
}

/// The floor of doing nothing.
struct Noop {
    width: usize,
    steps: usize,
}

impl Agent for Noop {
    fn act(&mut self, _env: &dyn Env, elapsed: usize) -> Result<Decision> {
        let actions = vec![0.0; (self.steps - elapsed) * self.width];
        Ok(Decision {
            actions,
            search: None,
        })
    }
}

/// The floor of acting at random.
struct RandomFloor {
    stream: Stream,
    actions: ActionSpace,
    steps: usize,
}

impl Agent for RandomFloor {
    fn act(&mut self, _env: &dyn Env, elapsed: usize) -> Result<Decision> {
        let width = self.actions.normalizer.width();
        let mut normal = vec![0.0; (self.steps - elapsed) * width];
        self.stream.fill_normal(&mut normal);
        Ok(Decision {
            actions: self.actions.unpack(&normal),
            search: None,
        })
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A world model that knows Wall: its latent is the position, its prediction the simulator.

    use std::time::Duration;

    use jepa_datasets::Normalizer;
    use jepa_models::{
        ActionBatch, CostSpec, Error, Frame, GoalPolicy, Latent, ModelInfo, Result, Rollout,
        WorldModel,
    };

    use crate::env::Env;
    use crate::env::wall::Wall;
    use crate::objective;

    /// The convolutional model for Wall, untrained.
    pub(crate) fn pldm() -> super::Policy {
        let shape = jepa_models::pldm::DataShape {
            height: 65,
            width: 65,
            action_dim: 2,
            proprio_dim: 2,
        };
        let config = jepa_models::pldm::PldmConfig::default();
        super::Policy::Model(jepa_models::pldm::untrained(&config, shape, 3).unwrap())
    }

    /// A mock model whose plans are those of a perfect simulator.
    pub(crate) struct KnowsWall {
        pub(crate) info: ModelInfo,
        /// Costs are NaN from this one on.
        pub(crate) broken: bool,
        /// Time that a call for costs takes longer.
        pub(crate) pause: Duration,
        /// Candidates per call.
        pub(crate) at_a_time: usize,
    }

    impl KnowsWall {
        pub(crate) fn new() -> Self {
            let info = ModelInfo {
                name: "knows-wall".into(),
                action_dim: 2,
                frameskip: 5,
                proprio_dim: 2,
                uses_proprio: true,
                image_height: 65,
                image_width: 65,
                latent_width: 2,
                parameters: 0,
                weights_hash: "0".repeat(64),
                action: Normalizer::released("wall", "action").unwrap(),
                proprio: Normalizer::identity(2),
                training: None,
            };
            Self {
                info,
                broken: false,
                pause: Duration::ZERO,
                at_a_time: usize::MAX,
            }
        }
    }

    /// A mock policy that goes east or west, whichever the goal is to, and thinks two steps ahead.
    pub(crate) struct Compass(ModelInfo);

    impl Compass {
        pub(crate) fn new() -> Self {
            let mut info = KnowsWall::new().info;
            info.name = "compass".into();
            info.frameskip = 7;
            info.uses_proprio = false;
            Self(info)
        }
    }

    impl GoalPolicy for Compass {
        fn info(&self) -> &ModelInfo {
            &self.0
        }

        /// The column of the dot's middle: red, with the least green.
        fn encode(&self, frame: Frame<'_>) -> Result<Latent> {
            let pixels = frame.rgb.chunks(3).enumerate();
            let dot = pixels.filter(|(_, pixel)| pixel[0] == 255);
            let (at, _) = dot.min_by_key(|(_, pixel)| pixel[1]).unwrap();
            Ok(Latent {
                visual: vec![(at % frame.width) as f32],
                proprio: Vec::new(),
            })
        }

        fn actions(&self, now: &Latent, goal: &Latent) -> Result<Vec<f64>> {
            let way = f64::from(goal.visual[0] - now.visual[0]);
            let step = if way == 0.0 { 0.0 } else { way.signum() };
            Ok(vec![step, 0.0, step, 0.0])
        }
    }

    impl WorldModel for KnowsWall {
        fn info(&self) -> &ModelInfo {
            &self.info
        }

        fn encode(&self, frame: Frame<'_>, proprio: &[f32]) -> Result<Latent> {
            assert_eq!(
                (frame.height, frame.width, frame.rgb.len()),
                (65, 65, 65 * 65 * 3)
            );
            Ok(Latent {
                visual: proprio.to_vec(),
                proprio: proprio.to_vec(),
            })
        }

        fn unroll(&self, start: &Latent, actions: ActionBatch<'_>) -> Result<Rollout> {
            let mut wall = Wall::default();
            let mut visual = Vec::new();
            let mut native = actions.values.to_vec();
            self.info.action.denormalize(&mut native);
            let start: Vec<f64> = start.visual.iter().map(|&value| f64::from(value)).collect();
            for sequence in native.chunks(actions.horizon * actions.width) {
                wall.reset_to(&start).unwrap();
                for block in sequence.chunks(actions.width) {
                    for action in block.chunks(2) {
                        wall.step(&[f64::from(action[0]), f64::from(action[1])])
                            .unwrap();
                    }
                    visual.extend(wall.proprio());
                }
            }
            let (samples, horizon) = (actions.samples, actions.horizon);
            Ok(Rollout {
                proprio: visual.clone(),
                visual,
                samples,
                horizon,
            })
        }

        fn candidates_at_a_time(&self, _horizon: usize) -> usize {
            self.at_a_time
        }

        fn costs(
            &self,
            start: &Latent,
            goal: &Latent,
            spec: &CostSpec,
            actions: ActionBatch<'_>,
        ) -> Result<Vec<f64>> {
            assert!(
                actions.samples <= self.at_a_time,
                "more candidates than asked for"
            );
            std::thread::sleep(self.pause);
            if self.broken {
                return Ok(vec![f64::NAN; actions.samples]);
            }
            let rollout = self.unroll(start, actions)?;
            objective::costs(&rollout, goal, spec).ok_or_else(|| Error::Shape {
                what: "latent",
                expected: "goal and rollout of one size".into(),
                actual: "another".into(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Compass, KnowsWall, pldm};
    use super::*;
    use crate::protocol::Task;

    fn config(settings: &[(&str, i64)]) -> RunConfig {
        let task = Task::find("wall@1").unwrap();
        let mut config = RunConfig::new(&task, "paper", "oracle").unwrap();
        for (key, value) in settings {
            config
                .planner
                .settings
                .insert(key.to_string(), (*value).into());
        }
        config
    }

    /// Runs one episode and returns how often the agent was asked, all actions, and the end.
    fn run(policy: &Policy, config: &RunConfig, seed: u64) -> (usize, Vec<f64>, Vec<f64>) {
        let planner = config.planner.build().unwrap();
        let mut env = config.simulator().unwrap();
        let start = env.sample(seed).unwrap();
        let setup = Setup {
            config,
            planner: planner.as_ref(),
            stop: &|| false,
            gather: None,
        };
        let mut agent = policy.begin(setup, env.as_mut(), &start, seed).unwrap();
        assert_eq!(env.state(), start.init.as_slice());
        let (mut asked, mut actions) = (0, Vec::new());
        while actions.len() < 2 * config.protocol.max_steps {
            let decision = agent.act(env.as_ref(), actions.len() / 2).unwrap();
            asked += 1;
            for action in decision.actions.chunks(2) {
                env.step(action).unwrap();
                actions.extend_from_slice(action);
            }
        }
        (asked, actions, env.state().to_vec())
    }

    #[test]
    fn blocks_unpack_row_major_and_are_denormalised() {
        let normalizer = Normalizer {
            mean: vec![1.0, 10.0],
            std: vec![2.0, 0.5],
        };
        let space = ActionSpace { normalizer };
        assert_eq!(space.unpack(&[0.0, 0.0, 1.0, 2.0]), [1.0, 10.0, 3.0, 11.0]);
    }

    #[test]
    fn the_oracle_reaches_a_goal_with_one_plan() {
        let config = config(&[]);
        let (asked, actions, end) = run(&Policy::Oracle, &config, 1);
        let env = config.simulator().unwrap();
        assert_eq!((asked, actions.len()), (1, 60));
        assert!(env.success(&env.sample(1).unwrap().goal, &end), "{end:?}");
    }

    #[test]
    fn a_perfect_model_plans_like_the_oracle() {
        let config = config(&[("iterations", 10)]);
        let env = config.simulator().unwrap();
        let model = Policy::Model(Box::new(KnowsWall::new()));
        let (_, _, end) = run(&model, &config, 3);
        let (_, _, ceiling) = run(&Policy::Oracle, &config, 3);
        let goal = env.sample(3).unwrap().goal;
        let gap = env.state_distance(&goal, &end) - env.state_distance(&goal, &ceiling);
        assert!(gap.abs() < 1.0, "{gap}");
    }

    #[test]
    fn replanning_asks_again_with_shrinking_horizons() {
        let mut config = config(&[("iterations", 2), ("candidates", 20)]);
        config.planner.replan_every = 2;
        let (asked, actions, _) = run(&Policy::Oracle, &config, 1);
        // Plans of 6, 4 and 2 blocks; two blocks of five moves are executed each time.
        assert_eq!((asked, actions.len()), (3, 60));
    }

    #[test]
    fn searches_count_their_work() {
        let config = config(&[]);
        let planner = config.planner.build().unwrap();
        for (policy, calls) in [
            (Policy::Oracle, 0),
            (Policy::Model(Box::new(KnowsWall::new())), 180),
        ] {
            let mut env = config.simulator().unwrap();
            let start = env.sample(2).unwrap();
            let setup = Setup {
                config: &config,
                planner: planner.as_ref(),
                stop: &|| false,
                gather: None,
            };
            let mut agent = policy.begin(setup, env.as_mut(), &start, 2).unwrap();
            let search = agent.act(env.as_ref(), 0).unwrap().search.unwrap();
            // evaluation.md section 7: 180 calls and 54,000 candidate steps per plan.
            assert_eq!(
                (search.world_model_calls, search.candidate_steps),
                (calls, 54_000)
            );
        }
    }

    #[test]
    fn a_planner_that_keeps_its_horizon_plans_past_the_end() {
        let task = Task::find("wall@1").unwrap();
        for (planner, lengths) in [("cem", [6, 4, 2]), ("ng", [6, 6, 6])] {
            let preset = task.preset_for(planner).unwrap();
            let mut config = RunConfig::new(&task, &preset, "oracle").unwrap();
            config.planner.replan_every = 2;
            for (key, value) in [("iterations", 2), ("candidates", 20)] {
                config.planner.settings.insert(key.into(), value.into());
            }
            let planner = config.planner.build().unwrap();
            let mut env = config.simulator().unwrap();
            let start = env.sample(1).unwrap();
            let setup = Setup {
                config: &config,
                planner: planner.as_ref(),
                stop: &|| false,
                gather: None,
            };
            let policy = Policy::Oracle;
            let mut agent = policy.begin(setup, env.as_mut(), &start, 1).unwrap();
            let planned = [0, 10, 20].map(|elapsed| {
                let decision = agent.act(env.as_ref(), elapsed).unwrap();
                assert_eq!(decision.actions.len(), 20);
                decision.search.unwrap().candidate_steps / 40
            });
            assert_eq!(planned, lengths, "{}", planner.name());
        }
    }

    fn descent(preset: &str, iterations: i64) -> RunConfig {
        let task = Task::find("wall@1").unwrap();
        let mut config = RunConfig::new(&task, preset, "test").unwrap();
        config
            .planner
            .settings
            .insert("iterations".into(), iterations.into());
        config
    }

    /// Loss before every step of one plan.
    fn losses(policy: &Policy, config: &RunConfig) -> Result<Vec<f64>> {
        let planner = config.planner.build().unwrap();
        let mut env = config.simulator().unwrap();
        let start = env.sample(4).unwrap();
        let setup = Setup {
            config,
            planner: planner.as_ref(),
            stop: &|| false,
            gather: None,
        };
        let mut agent = policy.begin(setup, env.as_mut(), &start, 4)?;
        Ok(agent.act(env.as_ref(), 0)?.search.unwrap().trace.best)
    }

    #[test]
    fn planners_that_descend_lower_the_cost_of_a_model_with_gradients() {
        let policy = pldm();
        for preset in ["gd", "adam-as-released", "adam"] {
            let mut config = descent(preset, 30);
            if preset == "adam" {
                config
                    .planner
                    .settings
                    .insert("learning_rate".into(), 0.05.into());
            }
            policy
                .check_planner(config.planner.build().unwrap().as_ref())
                .unwrap();
            let losses = losses(&policy, &config).unwrap();
            assert_eq!(losses.len(), 30);
            assert!(losses[29] < losses[0], "{preset}: {losses:?}");
        }
    }

    #[test]
    fn who_has_no_gradients_is_named() {
        let config = descent("gd", 3);
        let planner = config.planner.build().unwrap();
        for (policy, reason) in [
            (Policy::Oracle, "a simulation"),
            (Policy::Random, "no cost at all"),
            (Policy::Noop, "no cost at all"),
        ] {
            let error = policy.check_planner(planner.as_ref()).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains(policy.name()) && text.contains(reason),
                "{text}"
            );
            assert!(error.hint().unwrap().contains("--planner cem"));
        }
        let mock = Policy::Model(Box::new(KnowsWall::new()));
        let error = losses(&mock, &config).unwrap_err().to_string();
        assert_eq!(error, "model `knows-wall` offers no gradients of its costs");
    }

    #[test]
    fn the_random_floor_is_keyed_by_its_episode() {
        let config = config(&[]);
        let first = run(&Policy::Random, &config, 5).1;
        assert_eq!(first, run(&Policy::Random, &config, 5).1);
        assert_ne!(first, run(&Policy::Random, &config, 6).1);
        let (_, actions, _) = run(&Policy::Noop, &config, 5);
        assert_eq!(actions, vec![0.0; 60]);
    }

    #[test]
    fn a_model_of_another_frameskip_is_refused() {
        let mut config = config(&[]);
        let model = Policy::Model(Box::new(KnowsWall::new()));
        let limits = config.simulator().unwrap().limits();
        model.check(&config, limits).unwrap();
        config.protocol.frameskip = 4;
        let error = model.check(&config, limits).unwrap_err().to_string();
        assert!(error.contains("frameskip is 5, expected 4"), "{error}");
    }

    #[test]
    fn a_trained_policy_is_asked_in_every_step_and_needs_no_frameskip() {
        let config = config(&[]);
        let policy = Policy::Trained(Box::new(Compass::new()));
        let limits = config.simulator().unwrap().limits();
        policy.check(&config, limits).unwrap();
        assert!(!policy.plans());
        let (asked, actions, end) = run(&policy, &config, 1);
        assert_eq!((asked, actions.len()), (30, 60));
        // It knows no door: it stops at the wall, or passes if it happens to stand before the door.
        let env = config.simulator().unwrap();
        let start = env.sample(1).unwrap();
        let way = |state: &[f64]| (start.goal[0] - state[0]).abs();
        assert!(way(&end) < way(&start.init), "{end:?} {start:?}");
        assert_eq!(actions, run(&policy, &config, 1).1);
    }

    #[test]
    fn a_trained_policy_of_other_actions_is_refused() {
        let config = config(&[]);
        let policy = Policy::Trained(Box::new(Compass::new()));
        let mut limits = config.simulator().unwrap().limits();
        limits.action_width = 3;
        let error = policy.check(&config, limits).unwrap_err().to_string();
        assert!(error.contains("action width is 2, expected 3"), "{error}");
    }

    #[test]
    fn a_trained_policy_refuses_what_it_has_no_use_for() {
        let task = Task::find("wall@1").unwrap();
        let policy = Policy::Trained(Box::new(Compass::new()));
        policy.check_choices(&task, &config(&[])).unwrap();
        let refused = |config: &RunConfig| {
            // A floor does not mind.
            Policy::Noop.check_choices(&task, config).unwrap();
            policy.check_choices(&task, config).unwrap_err().to_string()
        };
        assert!(refused(&config(&[("candidates", 7)])).contains("a planner setting"));
        assert!(refused(&descent("gd", 3)).contains("the planner preset"));
        let mut objective = config(&[]);
        objective.objective.proprio_weight = 0.5;
        assert!(refused(&objective).contains("the objective"));
        let mut noise = config(&[]);
        noise.noise_seed = 2;
        let error = refused(&noise);
        assert!(
            error.contains("the noise seed") && error.contains("`compass`"),
            "{error}"
        );
    }

    #[test]
    fn unknown_models_are_named_with_what_exists() {
        let hint = Policy::find("orcale", Compute::Cpu)
            .unwrap_err()
            .hint()
            .unwrap();
        assert!(hint.starts_with("did you mean `oracle`?"), "{hint}");
    }
}
