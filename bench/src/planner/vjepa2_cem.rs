//! `vjepa2-cem`: the cross-entropy method that V-JEPA-2-AC plans robot arms with (arXiv 2506.09985; evaluation.md
//! section 3.7).
//!
//! An environment action is a change of position, a change of rotation and the gripper. Only `translation` and `gripper`
//! are searched; every other component stays zero. Positions start from a deviation of `max_norm` and are clipped to it,
//! the gripper starts from `gripper_std` and is clipped to `gripper_limit`. Mean and deviation keep a share of the old
//! ones. The mean is no candidate. In the plan, a gripper nearer to zero than `dead_zone` does not move.
//!
//! Components are counted within an environment action of `action_width` numbers, and treated alike in every environment
//! step of a block. With `close_gripper = STEP` the gripper closes at that model step, counted from 0, and stays
//! closed: that is what candidates are evaluated with, and what the plan says. JEPA-WMs drop the momentum and the choice
//! of components: that is `cem` with limits.

use serde::{Deserialize, Serialize};

use super::gaussian::{Gaussian, blend, check_momentum, check_positive, check_sizes};
use super::{
    ActionBatch, CostModel, Noise, Plan, PlanShape, Planner, PlannerEntry, Trace, elites, evaluate,
    invalid, read_settings, table_of,
};
use crate::Result;

/// The line in [`super::PLANNERS`].
pub const ENTRY: PlannerEntry = PlannerEntry {
    name: "vjepa2-cem",
    summary: "cross-entropy method of V-JEPA-2-AC for robot arms: moves and grips, never turns",
    paper: "arXiv 2506.09985; settings of its released planner",
    defaults: || table_of(&Vjepa2CemConfig::default()),
    build: |settings| {
        let config = read_settings(ENTRY.name, settings)?;
        Ok(Box::new(Vjepa2Cem::new(config)?))
    },
};

/// When the gripper closes for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CloseGripper {
    /// At this model step, from 0.
    At(usize),
    /// By a word.
    Word(NotClosed),
}

/// The word for a gripper that is searched like anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotClosed {
    /// The search decides at every step.
    Never,
}

/// Settings of [`Vjepa2Cem`]; the defaults are those of the released planner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vjepa2CemConfig {
    /// Candidates per iteration, `S`.
    pub candidates: usize,
    /// Candidates the next mean and deviation are fitted to, `K`.
    pub elites: usize,
    /// Iterations, `J`.
    pub iterations: usize,
    /// Numbers in an environment action; a block is made of whole ones.
    pub action_width: usize,
    /// Components of an environment action that move the hand.
    pub translation: Vec<usize>,
    /// Components of an environment action that grip.
    pub gripper: Vec<usize>,
    /// First deviation and largest absolute value of a translation.
    pub max_norm: f64,
    /// First deviation of the gripper.
    pub gripper_std: f64,
    /// Largest absolute value of the gripper.
    pub gripper_limit: f64,
    /// Share of the old mean in the new one, in `[0, 1]`.
    pub mean_momentum: f64,
    /// Share of the old deviation in the new one, in `[0, 1]`.
    pub std_momentum: f64,
    /// The same for the mean of the gripper.
    pub gripper_mean_momentum: f64,
    /// The same for the deviation of the gripper.
    pub gripper_std_momentum: f64,
    /// A gripper of the plan below this absolute value becomes 0.
    pub dead_zone: f64,
    /// When the gripper closes for good: a model step, or `never`.
    pub close_gripper: CloseGripper,
    /// Value of a closed gripper.
    pub closed: f64,
}

impl Default for Vjepa2CemConfig {
    fn default() -> Self {
        Self {
            candidates: 400,
            elites: 10,
            iterations: 10,
            action_width: 7,
            translation: vec![0, 1, 2],
            gripper: vec![6],
            max_norm: 0.05,
            gripper_std: 1.0,
            gripper_limit: 0.75,
            mean_momentum: 0.15,
            std_momentum: 0.15,
            gripper_mean_momentum: 0.15,
            gripper_std_momentum: 0.15,
            dead_zone: 0.25,
            close_gripper: CloseGripper::Word(NotClosed::Never),
            closed: 1.0,
        }
    }
}

/// What a component of an environment action does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Translation,
    Gripper,
    Still,
}

/// The cross-entropy method of V-JEPA-2-AC.
#[derive(Debug, Clone)]
pub struct Vjepa2Cem {
    config: Vjepa2CemConfig,
    /// What each component of an environment action does.
    roles: Vec<Role>,
}

impl Vjepa2Cem {
    /// A planner with these settings.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn new(config: Vjepa2CemConfig) -> Result<Self> {
        let name = ENTRY.name;
        check_sizes(name, config.candidates, config.elites, config.iterations)?;
        for (key, value) in [
            ("max_norm", config.max_norm),
            ("gripper_std", config.gripper_std),
            ("gripper_limit", config.gripper_limit),
        ] {
            check_positive(name, key, value)?;
        }
        for momentum in [
            config.mean_momentum,
            config.std_momentum,
            config.gripper_mean_momentum,
            config.gripper_std_momentum,
        ] {
            check_momentum(name, momentum)?;
        }
        if !config.dead_zone.is_finite() || config.dead_zone < 0.0 || !config.closed.is_finite() {
            return Err(invalid(
                name,
                "`dead_zone` must be 0 or more, and `closed` a number",
            ));
        }
        let roles = roles(&config)?;
        Ok(Self { config, roles })
    }

    /// What number `at` of a plan does.
    fn role(&self, at: usize) -> Role {
        self.roles[at % self.roles.len()]
    }

    /// Whether the gripper is closed for good at number `at` of a plan.
    fn is_closed(&self, at: usize, shape: PlanShape) -> bool {
        match self.config.close_gripper {
            CloseGripper::At(step) => self.role(at) == Role::Gripper && at / shape.width >= step,
            CloseGripper::Word(NotClosed::Never) => false,
        }
    }

    /// The first distribution: nothing moves but what is searched.
    fn start(&self, shape: PlanShape) -> Gaussian {
        let mut search = Gaussian::centred(shape, 0.0);
        for (at, std) in search.std.iter_mut().enumerate() {
            *std = match self.role(at) {
                Role::Translation => self.config.max_norm,
                Role::Gripper => self.config.gripper_std,
                Role::Still => 0.0,
            };
        }
        search
    }

    /// Clips every candidate and closes its gripper where it is to be closed.
    fn hold(&self, batch: &mut ActionBatch) {
        let shape = batch.shape;
        for candidate in batch.values.chunks_exact_mut(shape.len()) {
            for (at, value) in candidate.iter_mut().enumerate() {
                let bound = match self.role(at) {
                    Role::Translation => self.config.max_norm,
                    Role::Gripper => self.config.gripper_limit,
                    Role::Still => 0.0,
                };
                *value = if self.is_closed(at, shape) {
                    self.config.closed
                } else {
                    value.clamp(-bound, bound)
                };
            }
        }
    }

    /// Moves mean and deviation towards those of the elites.
    fn refit(&self, search: &mut Gaussian, batch: &ActionBatch, elites: &[usize]) {
        let config = &self.config;
        search.refit(batch, elites, |at, fitted, (mean, std)| {
            let momenta = match self.role(at) {
                Role::Gripper => (config.gripper_mean_momentum, config.gripper_std_momentum),
                Role::Translation | Role::Still => (config.mean_momentum, config.std_momentum),
            };
            *mean = blend(fitted.0, *mean, momenta.0);
            *std = blend(fitted.1, *std, momenta.1);
        });
    }

    /// The plan of a mean: a closed gripper is closed, one that hardly moves does not.
    fn settle(&self, mut mean: Vec<f64>, shape: PlanShape) -> Vec<f64> {
        for (at, value) in mean.iter_mut().enumerate() {
            if self.is_closed(at, shape) {
                *value = self.config.closed;
            } else if self.role(at) == Role::Gripper && value.abs() < self.config.dead_zone {
                *value = 0.0;
            }
        }
        mean
    }
}

/// What each component does; every one at most one thing, and one at least something.
fn roles(config: &Vjepa2CemConfig) -> Result<Vec<Role>> {
    let mut roles = vec![Role::Still; config.action_width];
    let moves = config
        .translation
        .iter()
        .map(|dim| (dim, Role::Translation));
    let grips = config.gripper.iter().map(|dim| (dim, Role::Gripper));
    for (&dim, role) in moves.chain(grips) {
        match roles.get_mut(dim) {
            Some(free @ Role::Still) => *free = role,
            Some(_) => {
                return Err(invalid(
                    ENTRY.name,
                    format!("component {dim} is named twice"),
                ));
            }
            None => {
                let detail = format!(
                    "component {dim} is not in an action of {}",
                    config.action_width
                );
                return Err(invalid(ENTRY.name, detail));
            }
        }
    }
    if roles.iter().all(|role| *role == Role::Still) {
        return Err(invalid(ENTRY.name, "there is no component to search"));
    }
    Ok(roles)
}

impl Planner for Vjepa2Cem {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn iterations(&self) -> u64 {
        self.config.iterations as u64
    }

    fn evaluations(&self) -> u64 {
        (self.config.candidates * self.config.iterations) as u64
    }

    fn plan(
        &self,
        shape: PlanShape,
        cost: &mut dyn CostModel,
        noise: &mut dyn Noise,
    ) -> Result<Plan> {
        if !shape.width.is_multiple_of(self.roles.len()) {
            let detail = format!(
                "`action_width` is {}, and blocks of {} are not made of such actions",
                self.roles.len(),
                shape.width
            );
            return Err(invalid(ENTRY.name, detail));
        }
        let mut search = self.start(shape);
        let mut batch = ActionBatch::zeros(self.config.candidates, shape);
        let mut trace = Trace::default();
        for iteration in 0..self.config.iterations {
            search.sample(&mut batch, noise, iteration);
            self.hold(&mut batch);
            let costs = evaluate(cost, &batch, iteration)?;
            let elites = elites(&costs, self.config.elites);
            trace.push(&costs, &elites);
            self.refit(&mut search, &batch, &elites);
        }
        Ok(Plan {
            actions: self.settle(search.mean, shape),
            trace,
        })
    }
}

#[cfg(test)]
mod tests;
