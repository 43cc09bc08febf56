//! Planners: search for the action sequence with the lowest cost.
//!
//! A [`Planner`] sees a [`CostModel`], the shape of a plan and a source of [`Noise`]; never an
//! environment or a true state. It works in normalised actions and `f64`, starts from zero at every
//! plan (no warm start between replans, evaluation.md section 3.1), and reports what it did in a
//! [`Trace`]. A new planner is a file here and one line in [`PLANNERS`].
//!
//! Planners that descend ask for more than costs: a [`GradientCostModel`], which a [`CostModel`] hands
//! out if it can ([`CostModel::with_gradients`]).

pub mod cem;
pub mod cma_es;
mod gaussian;
pub mod gradient;
pub mod icem;
pub mod mppi;
pub mod predictive_sampling;
#[cfg(test)]
pub(crate) mod testing;
pub mod vjepa2_cem;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use gaussian::Limit;

use crate::{Error, Result};

/// Every planner, in the order in which `list` prints them.
pub const PLANNERS: &[PlannerEntry] = &[
    cem::ENTRY,
    cma_es::ENTRY,
    gradient::GD,
    gradient::ADAM,
    gradient::ADAM_AS_RELEASED,
    mppi::ENTRY,
    icem::ENTRY,
    predictive_sampling::ENTRY,
    vjepa2_cem::ENTRY,
];

/// One line of the table of planners.
#[derive(Debug, Clone, Copy)]
pub struct PlannerEntry {
    /// Name on the command line and in task files.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    /// Every setting with its default value.
    pub defaults: fn() -> toml::Table,
    /// Builds one from a table of settings; settings left out keep their defaults.
    pub build: fn(&toml::Table) -> Result<Box<dyn Planner>>,
}

/// Candidate action sequences in normalised units, row-major `[S, H, A]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionBatch {
    /// The numbers.
    pub values: Vec<f64>,
    /// Candidates, `S`.
    pub samples: usize,
    /// Horizon and action block width.
    pub shape: PlanShape,
}

impl ActionBatch {
    /// A batch of zeros.
    pub fn zeros(samples: usize, shape: PlanShape) -> Self {
        Self {
            values: vec![0.0; samples * shape.len()],
            samples,
            shape,
        }
    }

    /// The sequence of one candidate, `[H, A]`.
    pub fn candidate(&self, index: usize) -> &[f64] {
        &self.values[index * self.shape.len()..][..self.shape.len()]
    }

    fn candidate_mut(&mut self, index: usize) -> &mut [f64] {
        let length = self.shape.len();
        &mut self.values[index * length..][..length]
    }
}

/// Sizes of one plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanShape {
    /// Model steps, `H`.
    pub horizon: usize,
    /// Numbers in an action block, `A`.
    pub width: usize,
}

impl PlanShape {
    /// Numbers in one plan.
    pub fn len(self) -> usize {
        self.horizon * self.width
    }

    /// Whether a plan holds no number at all.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// What a planner minimises. The seam is as narrow as its user.
pub trait CostModel {
    /// Cost of each candidate, `[S]`; lower is better.
    ///
    /// # Errors
    /// When the model cannot evaluate the candidates.
    fn costs(&mut self, actions: &ActionBatch) -> Result<Vec<f64>>;

    /// The same costs with gradients.
    ///
    /// # Errors
    /// When this cost has none.
    fn with_gradients(&mut self) -> Result<&mut dyn GradientCostModel> {
        Err(Error::Invalid {
            what: "cost to be minimised".into(),
            detail: "it offers no gradients, and this planner follows them".into(),
        })
    }
}

/// A cost that can be followed downhill.
pub trait GradientCostModel: CostModel {
    /// Costs, and the gradient of their sum with respect to every action. A cost depends on no candidate
    /// but its own, so this is the gradient of each.
    ///
    /// # Errors
    /// When the model cannot evaluate the candidates or differentiate their costs.
    fn costs_and_gradient(&mut self, actions: &ActionBatch) -> Result<Descent>;
}

/// Costs and their slopes.
#[derive(Debug, Clone, PartialEq)]
pub struct Descent {
    /// Cost of each candidate, `[S]`.
    pub costs: Vec<f64>,
    /// Gradient of the sum of the costs, `[S, H, A]`.
    pub gradient: Vec<f64>,
}

/// Random numbers of one plan. Tests inject recorded ones.
pub trait Noise {
    /// Fills `out` with the standard normal numbers of one iteration, in the order `[S, H, A]`.
    fn normals(&mut self, iteration: usize, out: &mut [f64]);

    /// The uniform number in `[0, 1)` of one iteration, for planners that draw among candidates.
    fn uniform(&mut self, iteration: usize) -> f64;
}

/// A search for a low-cost action sequence.
pub trait Planner: std::fmt::Debug + Send + Sync {
    /// Name in [`PLANNERS`].
    fn name(&self) -> &'static str;

    /// Iterations per plan, `J`; each evaluates all candidates in one batch.
    fn iterations(&self) -> u64;

    /// Candidates evaluated per plan, over all iterations.
    fn evaluations(&self) -> u64;

    /// Whether it asks its cost for gradients.
    fn needs_gradients(&self) -> bool {
        false
    }

    /// Whether it plans its whole horizon even where fewer steps are left in the episode.
    fn keeps_horizon(&self) -> bool {
        false
    }

    /// Searches for a plan of the given shape.
    ///
    /// # Errors
    /// When a setting does not fit the shape, the cost model fails, or a cost is not finite.
    fn plan(
        &self,
        shape: PlanShape,
        cost: &mut dyn CostModel,
        noise: &mut dyn Noise,
    ) -> Result<Plan>;
}

/// A plan and how it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Normalised action blocks, row-major `[H, A]`.
    pub actions: Vec<f64>,
    /// What the search did.
    pub trace: Trace,
}

/// What a search did, one number per iteration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Lowest cost among the candidates.
    pub best: Vec<f64>,
    /// Mean cost of the elites.
    pub elite_mean: Vec<f64>,
    /// Standard deviation of the elites' costs (n - 1); 0 for a single elite.
    pub elite_std: Vec<f64>,
    /// Cost evaluations, one per iteration, of all candidates together.
    pub batches: u64,
    /// Candidates evaluated.
    pub candidates: u64,
}

impl Trace {
    /// Adds one iteration: `costs` of all candidates, indices of the elites from best to worst.
    fn push(&mut self, costs: &[f64], elites: &[usize]) {
        let chosen: Vec<f64> = elites.iter().map(|&index| costs[index]).collect();
        let (mean, std) = moments(&chosen);
        self.best.push(chosen[0]);
        self.elite_mean.push(mean);
        self.elite_std.push(std);
        self.batches += 1;
        self.candidates += costs.len() as u64;
    }
}

/// Looks a planner up by name.
///
/// # Errors
/// When there is none of that name; the error lists those that exist.
pub fn entry(name: &str) -> Result<&'static PlannerEntry> {
    PLANNERS
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| Error::UnknownName {
            kind: "planner",
            name: name.to_string(),
            known: PLANNERS
                .iter()
                .map(|entry| entry.name.to_string())
                .collect(),
        })
}

/// Reads the settings of planner `name` over their defaults.
fn read_settings<C>(name: &'static str, given: &toml::Table) -> Result<C>
where
    C: Default + Serialize + for<'a> Deserialize<'a>,
{
    let defaults = table_of(&C::default());
    let known: BTreeSet<&String> = defaults.keys().collect();
    if let Some(key) = given.keys().find(|key| !known.contains(key)) {
        let known = known.into_iter().cloned().collect();
        return Err(Error::UnknownName {
            kind: "planner setting",
            name: key.clone(),
            known,
        });
    }
    given
        .clone()
        .try_into()
        .map_err(|error: toml::de::Error| invalid(name, error.message()))
}

/// A configuration as a TOML table.
fn table_of<C: Serialize>(config: &C) -> toml::Table {
    // A struct of numbers, words and lists always is a table.
    toml::Table::try_from(config).unwrap_or_default()
}

/// The error for a planner setting that is out of range.
fn invalid(planner: &str, detail: impl Into<String>) -> Error {
    Error::Config {
        what: format!("setting of planner `{planner}`"),
        detail: detail.into(),
        hint: Some("`jepa-bench list planners` shows every setting with its default".into()),
    }
}

/// Evaluates a batch and refuses costs that are not finite.
fn evaluate(cost: &mut dyn CostModel, batch: &ActionBatch, iteration: usize) -> Result<Vec<f64>> {
    let costs = cost.costs(batch)?;
    check_costs(&costs, batch, iteration)?;
    Ok(costs)
}

/// Evaluates a batch with gradients and refuses numbers that are not finite.
fn evaluate_gradient(
    cost: &mut dyn GradientCostModel,
    batch: &ActionBatch,
    iteration: usize,
) -> Result<Descent> {
    let descent = cost.costs_and_gradient(batch)?;
    check_costs(&descent.costs, batch, iteration)?;
    assert_eq!(
        descent.gradient.len(),
        batch.values.len(),
        "a cost model returned a gradient of another size"
    );
    match descent.gradient.iter().find(|slope| !slope.is_finite()) {
        Some(slope) => Err(Error::Invalid {
            what: format!("gradient of the cost in planner iteration {iteration}"),
            detail: format!("a component is {slope}, not a finite number"),
        }),
        None => Ok(descent),
    }
}

fn check_costs(costs: &[f64], batch: &ActionBatch, iteration: usize) -> Result<()> {
    assert_eq!(
        costs.len(),
        batch.samples,
        "a cost model returned another number of costs"
    );
    match costs.iter().position(|cost| !cost.is_finite()) {
        Some(candidate) => Err(Error::Invalid {
            what: format!("cost of candidate {candidate} in planner iteration {iteration}"),
            detail: format!("it is {}, not a finite number", costs[candidate]),
        }),
        None => Ok(()),
    }
}

/// Indices of the `count` lowest of finite `costs`, best first; equal costs in order of index.
fn elites(costs: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    // A stable sort keeps equal costs, 0 and -0 among them, in order of index.
    order.sort_by(|&a, &b| {
        costs[a]
            .partial_cmp(&costs[b])
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    order.truncate(count);
    order
}

/// Mean and standard deviation (n - 1) of a non-empty list; the deviation of one number is 0.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let squares: f64 = values
        .iter()
        .map(|value| (value - mean) * (value - mean))
        .sum();
    (mean, (squares / (n - 1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::testing::{FnCost, SeededNoise, quadratic};
    use super::*;

    /// Two actions of a robot arm, which `vjepa2-cem` needs.
    const SHAPE: PlanShape = PlanShape {
        horizon: 2,
        width: 7,
    };

    fn plan(entry: &PlannerEntry, seed: u64, cost: &mut dyn CostModel) -> Result<Plan> {
        let planner = (entry.build)(&toml::Table::new()).unwrap();
        planner.plan(SHAPE, cost, &mut SeededNoise(seed))
    }

    #[test]
    fn every_planner_is_listed_under_its_own_name() {
        for entry in PLANNERS {
            let planner = (entry.build)(&(entry.defaults)()).unwrap();
            assert_eq!(planner.name(), entry.name);
            assert_eq!(super::entry(entry.name).unwrap().name, entry.name);
        }
    }

    #[test]
    fn the_same_seed_plans_the_same_and_another_seed_does_not() {
        let target = [0.5, -1.0, 0.25, 1.5, 0.0, -0.5, 0.75].repeat(2);
        for entry in PLANNERS {
            let [first, again, other] =
                [1, 1, 2].map(|seed| plan(entry, seed, &mut quadratic(&target)).unwrap());
            assert_eq!(first, again, "{}", entry.name);
            assert_ne!(first, other, "{}", entry.name);
        }
    }

    #[test]
    fn traces_count_every_iteration_and_candidate() {
        for entry in PLANNERS {
            let planner = (entry.build)(&toml::Table::new()).unwrap();
            let trace = plan(entry, 1, &mut quadratic(&[0.0; 14])).unwrap().trace;
            assert_eq!(trace.candidates, planner.evaluations(), "{}", entry.name);
            assert_eq!(trace.batches, planner.iterations(), "{}", entry.name);
            assert_eq!(trace.best.len() as u64, trace.batches);
            assert!(
                trace
                    .best
                    .iter()
                    .zip(&trace.elite_mean)
                    .all(|(best, mean)| best <= mean)
            );
        }
    }

    #[test]
    fn costs_that_are_not_finite_end_the_plan_with_their_place() {
        for entry in PLANNERS {
            for bad in [f64::NAN, f64::INFINITY] {
                let error = plan(entry, 1, &mut FnCost(|_| bad)).unwrap_err();
                let text = error.to_string();
                assert!(
                    text.contains("candidate 0 in planner iteration 0"),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn unknown_settings_are_named_with_the_closest_one() {
        for entry in PLANNERS {
            for key in (entry.defaults)().keys() {
                let table = format!("{key}s = 3").parse().unwrap();
                let Err(error) = (entry.build)(&table) else {
                    panic!("{} took `{key}s`", entry.name)
                };
                let hint = error.hint().unwrap();
                let closest = format!("did you mean `{key}`?");
                assert!(hint.starts_with(&closest), "{hint}");
            }
        }
    }

    /// A cost without gradients.
    struct Rough;

    impl CostModel for Rough {
        fn costs(&mut self, actions: &ActionBatch) -> Result<Vec<f64>> {
            Ok(vec![1.0; actions.samples])
        }
    }

    #[test]
    fn planners_say_whether_they_need_gradients_and_whoever_has_none_says_so() {
        for entry in PLANNERS {
            let planner = (entry.build)(&toml::Table::new()).unwrap();
            let found = planner.plan(SHAPE, &mut Rough, &mut SeededNoise(1));
            assert_eq!(found.is_err(), planner.needs_gradients(), "{}", entry.name);
            if let Err(error) = found {
                assert!(error.to_string().contains("offers no gradients"), "{error}");
            }
        }
    }

    /// A cost whose slope cannot be told.
    struct Cliff;

    impl CostModel for Cliff {
        fn costs(&mut self, actions: &ActionBatch) -> Result<Vec<f64>> {
            Ok(vec![1.0; actions.samples])
        }

        fn with_gradients(&mut self) -> Result<&mut dyn GradientCostModel> {
            Ok(self)
        }
    }

    impl GradientCostModel for Cliff {
        fn costs_and_gradient(&mut self, actions: &ActionBatch) -> Result<Descent> {
            Ok(Descent {
                costs: self.costs(actions)?,
                gradient: vec![f64::NAN; actions.values.len()],
            })
        }
    }

    #[test]
    fn gradients_that_are_not_finite_end_the_plan_with_their_place() {
        for entry in [gradient::GD, gradient::ADAM, gradient::ADAM_AS_RELEASED] {
            let error = plan(&entry, 1, &mut Cliff).unwrap_err().to_string();
            assert!(
                error.contains("gradient of the cost in planner iteration 0"),
                "{error}"
            );
        }
    }

    #[test]
    fn ties_are_broken_by_index() {
        assert_eq!(elites(&[1.0, 0.5, 1.0, 0.5, 1.0], 4), [1, 3, 0, 2]);
        assert_eq!(elites(&[0.0, -0.0], 2), [0, 1]);
    }

    #[test]
    fn moments_are_unbiased_and_defined_for_one_number() {
        assert_eq!(moments(&[1.0, 2.0, 6.0]), (3.0, 7.0_f64.sqrt()));
        assert_eq!(moments(&[4.0]), (4.0, 0.0));
    }
}
