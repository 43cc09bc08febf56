//! `ng`: the planner that the paper calls Nevergrad, which is a separable CMA-ES (evaluation.md section 3.3).
//!
//! The released planner asks nevergrad for `NGOpt`, which for every budget of the paper comes down to
//! pycma's CMA-ES with a diagonal covariance (Ros and Hansen 2008) and negative weights, one generation
//! per planner iteration. This is that search, in `f64`:
//!
//! - Its plan is the best candidate ever evaluated, not the mean.
//! - With every component bounded it starts from a deviation of 0.15 (0.3 below 18 numbers), else from 1.
//! - A candidate outside the bounds is reflected into them once; the update takes the reflected one, its
//!   step shortened if it is longer than a sampled one is likely to be.
//! - It plans its whole horizon even where fewer steps are left in the episode.
//!
//! Differences from the release: it replaces a cost that is not finite by a million, here it ends the
//! plan; and random numbers are ours. `sigma_rule = "capped"` is the slower rule of pycma 4.5.0; which
//! version is behind the published numbers is not known.

mod separable;

use serde::{Deserialize, Serialize};

use super::gaussian::{Limit, check_dims, check_limits, check_positive, check_sizes};
use super::{
    ActionBatch, CostModel, Noise, Plan, PlanShape, Planner, PlannerEntry, Trace, elites, evaluate,
    invalid, read_settings, table_of,
};
use crate::Result;

pub(crate) use separable::{Constants, Separable};

/// The line in [`super::PLANNERS`].
pub const ENTRY: PlannerEntry = PlannerEntry {
    name: "ng",
    summary: "separable CMA-ES, what Nevergrad's NGOpt resolves to: the best candidate ever seen",
    paper: "arXiv 2512.24497, planner NG; settings of Table S4.1",
    defaults: || table_of(&CmaEsConfig::default()),
    build: |settings| Ok(Box::new(CmaEs::new(read_settings(ENTRY.name, settings)?)?)),
};

/// How the step size adapts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SigmaRule {
    /// pycma 4.0.0 to 4.4.1.
    Classic,
    /// pycma 4.5.0: the path forgets at most half of itself, and the damping is stronger.
    Capped,
}

/// Standard deviation of the first generation, in normalised units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum InitialStd {
    /// This number.
    Given(f64),
    /// By a rule.
    Rule(StdRule),
}

/// A rule for the first standard deviation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StdRule {
    /// As nevergrad: 1 without bounds; with all components bounded 0.15, or 0.3 below 18 numbers.
    Nevergrad,
}

/// Settings of [`CmaEs`]; the defaults are those of the paper for Wall, Push-T and `PointMaze`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CmaEsConfig {
    /// Candidates per generation, `S` (`N` in the paper).
    pub candidates: usize,
    /// Generations, `J`.
    pub iterations: usize,
    /// Standard deviation of the first generation.
    pub initial_std: InitialStd,
    /// How the step size adapts.
    pub sigma_rule: SigmaRule,
    /// Bounds of components.
    pub limits: Vec<Limit>,
}

impl Default for CmaEsConfig {
    fn default() -> Self {
        Self {
            candidates: 300,
            iterations: 30,
            initial_std: InitialStd::Rule(StdRule::Nevergrad),
            sigma_rule: SigmaRule::Classic,
            limits: Vec::new(),
        }
    }
}

/// Separable CMA-ES.
#[derive(Debug, Clone)]
pub struct CmaEs {
    config: CmaEsConfig,
}

/// One generation, after its update.
pub(crate) struct Generation<'a> {
    /// Number of the generation, from 0.
    #[cfg_attr(not(test), expect(dead_code, reason = "recorded searches number them"))]
    pub(crate) iteration: usize,
    /// Distribution that the next generation is drawn from.
    pub(crate) state: &'a Separable,
    /// Costs of the candidates, `[S]`.
    pub(crate) costs: &'a [f64],
    /// Candidates that were reflected into the bounds.
    #[cfg_attr(not(test), expect(dead_code, reason = "recorded searches count them"))]
    pub(crate) reflected: usize,
    /// The best candidate so far.
    pub(crate) best: &'a Best,
}

/// The best candidate of all generations.
pub(crate) struct Best {
    /// Its cost.
    pub(crate) cost: f64,
    /// Its generation and its place there, from 0.
    #[cfg_attr(not(test), expect(dead_code, reason = "recorded searches name it"))]
    pub(crate) index: (usize, usize),
    /// Its actions, `[H, A]`.
    pub(crate) actions: Vec<f64>,
}

impl CmaEs {
    /// A planner with these settings.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn new(config: CmaEsConfig) -> Result<Self> {
        let name = ENTRY.name;
        check_sizes(
            name,
            config.candidates,
            config.candidates,
            config.iterations,
        )?;
        if config.candidates < 2 {
            return Err(invalid(
                name,
                "`candidates` is 1; a generation needs a better and a worse half",
            ));
        }
        if let InitialStd::Given(std) = config.initial_std {
            check_positive(name, "initial_std", std)?;
        }
        check_limits(name, &config.limits)?;
        Ok(Self { config })
    }

    /// Searches, showing every generation to `watch`.
    pub(crate) fn search(
        &self,
        shape: PlanShape,
        cost: &mut dyn CostModel,
        noise: &mut dyn Noise,
        watch: &mut dyn FnMut(&Generation<'_>),
    ) -> Result<Plan> {
        let CmaEsConfig {
            candidates,
            iterations,
            ref limits,
            ..
        } = self.config;
        check_dims(ENTRY.name, limits, shape)?;
        let bounds = bounds(limits, shape);
        let sigma = self.initial_std(&bounds);
        let mut state = Separable::new(shape.len(), candidates, sigma, self.config.sigma_rule);
        let mut batch = ActionBatch::zeros(candidates, shape);
        let mut trace = Trace::default();
        let mut best = Best {
            cost: f64::INFINITY,
            index: (0, 0),
            actions: Vec::new(),
        };
        for iteration in 0..iterations {
            noise.normals(iteration, &mut batch.values);
            let reflected = state.sample(&mut batch, &bounds);
            let costs = evaluate(cost, &batch, iteration)?;
            let order = elites(&costs, candidates);
            trace.push(&costs, &order[..state.parents()]);
            if costs[order[0]] < best.cost {
                best = Best {
                    cost: costs[order[0]],
                    index: (iteration, order[0]),
                    actions: batch.candidate(order[0]).to_vec(),
                };
            }
            state.update(&batch, &order, &reflected);
            let reflected = reflected.iter().filter(|&&moved| moved).count();
            watch(&Generation {
                iteration,
                state: &state,
                costs: &costs,
                reflected,
                best: &best,
            });
        }
        Ok(Plan {
            actions: best.actions,
            trace,
        })
    }

    fn initial_std(&self, bounds: &[f64]) -> f64 {
        match self.config.initial_std {
            InitialStd::Given(std) => std,
            InitialStd::Rule(StdRule::Nevergrad)
                if bounds.iter().any(|bound| bound.is_infinite()) =>
            {
                1.0
            }
            InitialStd::Rule(StdRule::Nevergrad) if bounds.len() < 18 => 0.3,
            InitialStd::Rule(StdRule::Nevergrad) => 0.15,
        }
    }
}

impl Planner for CmaEs {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn iterations(&self) -> u64 {
        self.config.iterations as u64
    }

    fn evaluations(&self) -> u64 {
        (self.config.candidates * self.config.iterations) as u64
    }

    fn keeps_horizon(&self) -> bool {
        true
    }

    fn plan(
        &self,
        shape: PlanShape,
        cost: &mut dyn CostModel,
        noise: &mut dyn Noise,
    ) -> Result<Plan> {
        let least = smallest_population(shape.len());
        if self.config.candidates < least {
            let detail = format!(
                "`candidates` is {}; plans of {} numbers need at least {least}",
                self.config.candidates,
                shape.len()
            );
            return Err(invalid(ENTRY.name, detail));
        }
        self.search(shape, cost, noise, &mut |_| ())
    }
}

/// The population below which pycma does not go: `4 + floor(3 ln d)`.
fn smallest_population(numbers: usize) -> usize {
    4 + (3.0 * libm::log(numbers as f64)).floor() as usize
}

/// Largest absolute value of every number of a plan; infinite where there is none.
fn bounds(limits: &[Limit], shape: PlanShape) -> Vec<f64> {
    let mut block = vec![f64::INFINITY; shape.width];
    for limit in limits {
        for at in limit.components(shape.width) {
            block[at] = block[at].min(limit.bound);
        }
    }
    block.repeat(shape.horizon)
}

#[cfg(test)]
#[expect(
    clippy::float_cmp,
    clippy::unreadable_literal,
    reason = "golden values, as printed and to the last bit"
)]
mod tests;
