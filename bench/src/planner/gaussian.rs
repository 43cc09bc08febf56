//! The diagonal Gaussian that planners sample candidates from, and the bounds they clip them to.

use serde::{Deserialize, Serialize};

use super::{ActionBatch, Noise, PlanShape, invalid, moments};
use crate::Result;

/// A bound on some components of every action block: each is clipped to `[-bound, bound]`.
///
/// A list of them is what the release calls `max_norms` and `max_norm_dims` (evaluation.md section 3.1); it clips
/// components too, and no norm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Components of an action block, from 0; with `action_width`, of every environment action in it.
    pub dims: Vec<usize>,
    /// Largest absolute value, in normalised units.
    pub bound: f64,
    /// Numbers in one environment action, where `dims` are counted within it: the bound then holds for every
    /// environment step of a block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_width: Option<usize>,
}

impl Limit {
    /// A bound on components of a block.
    pub fn new(dims: Vec<usize>, bound: f64) -> Self {
        Self {
            dims,
            bound,
            action_width: None,
        }
    }

    /// The bounded components of a block of `width` numbers.
    pub(super) fn components(&self, width: usize) -> impl Iterator<Item = usize> {
        let step = self.action_width.unwrap_or(width);
        let starts = (0..width).step_by(step.max(1));
        starts.flat_map(move |start| self.dims.iter().map(move |dim| start + dim))
    }

    /// What is wrong with it for blocks of `width` numbers.
    fn misfit(&self, width: usize) -> Option<String> {
        let within = self.action_width.unwrap_or(width);
        if within == 0 || !width.is_multiple_of(within) {
            return Some(format!(
                "a limit counts in actions of {within}, and blocks of {width} are not made of those"
            ));
        }
        let unit = if within == width { "blocks" } else { "actions" };
        let dim = self.dims.iter().find(|&&dim| dim >= within)?;
        Some(format!(
            "a limit names component {dim} of {unit} of {within}"
        ))
    }
}

/// Mean and standard deviation of every number of a plan, `[H, A]`.
pub(super) struct Gaussian {
    pub(super) mean: Vec<f64>,
    pub(super) std: Vec<f64>,
}

impl Gaussian {
    /// Mean 0 and the same deviation everywhere.
    pub(super) fn centred(shape: PlanShape, std: f64) -> Self {
        Self {
            mean: vec![0.0; shape.len()],
            std: vec![std; shape.len()],
        }
    }

    /// Fills `batch` with fresh candidates: `mean + std * normal`.
    pub(super) fn sample(&self, batch: &mut ActionBatch, noise: &mut dyn Noise, iteration: usize) {
        noise.normals(iteration, &mut batch.values);
        self.scale(batch);
    }

    /// Turns numbers of mean 0 and deviation 1 into candidates: `mean + std * number`.
    pub(super) fn scale(&self, batch: &mut ActionBatch) {
        for candidate in batch.values.chunks_exact_mut(self.mean.len()) {
            for ((value, mean), std) in candidate.iter_mut().zip(&self.mean).zip(&self.std) {
                *value = mean + std * *value;
            }
        }
    }
}

impl Gaussian {
    /// Calls `fit` with the mean and the deviation (n - 1) of every number over the elites, and with its old ones.
    pub(super) fn refit(
        &mut self,
        batch: &ActionBatch,
        elites: &[usize],
        mut fit: impl FnMut(usize, (f64, f64), (&mut f64, &mut f64)),
    ) {
        let mut column = vec![0.0; elites.len()];
        for (at, (mean, std)) in self.mean.iter_mut().zip(&mut self.std).enumerate() {
            for (value, &elite) in column.iter_mut().zip(elites) {
                *value = batch.candidate(elite)[at];
            }
            fit(at, moments(&column), (mean, std));
        }
    }
}

/// Clips every listed component of every block to its bound.
pub(super) fn clip(batch: &mut ActionBatch, limits: &[Limit]) {
    let width = batch.shape.width;
    for limit in limits {
        let components: Vec<usize> = limit.components(width).collect();
        for block in batch.values.chunks_exact_mut(width) {
            for &at in &components {
                block[at] = block[at].clamp(-limit.bound, limit.bound);
            }
        }
    }
}

/// Checks that bounds are positive numbers.
pub(super) fn check_limits(planner: &str, limits: &[Limit]) -> Result<()> {
    match limits
        .iter()
        .find(|limit| limit.bound.is_nan() || limit.bound <= 0.0)
    {
        Some(limit) => Err(invalid(
            planner,
            format!("a limit has bound {}, not above 0", limit.bound),
        )),
        None => Ok(()),
    }
}

/// Checks that the limits name components that exist in a block of this shape.
pub(super) fn check_dims(planner: &str, limits: &[Limit], shape: PlanShape) -> Result<()> {
    match limits.iter().find_map(|limit| limit.misfit(shape.width)) {
        Some(detail) => Err(invalid(planner, detail)),
        None => Ok(()),
    }
}

/// Checks the sizes that every sampling planner has.
pub(super) fn check_sizes(
    planner: &str,
    candidates: usize,
    elites: usize,
    iterations: usize,
) -> Result<()> {
    if candidates == 0 || iterations == 0 {
        return Err(invalid(
            planner,
            "`candidates` and `iterations` must be at least 1",
        ));
    }
    if elites == 0 || elites > candidates {
        let detail = format!("`elites` is {elites}, not between 1 and {candidates} candidates");
        return Err(invalid(planner, detail));
    }
    Ok(())
}

/// Checks the share of something old in the new.
pub(super) fn check_momentum(planner: &str, momentum: f64) -> Result<()> {
    if (0.0..=1.0).contains(&momentum) {
        Ok(())
    } else {
        Err(invalid(
            planner,
            format!("a momentum is {momentum}, not in [0, 1]"),
        ))
    }
}

/// `new * (1 - momentum) + old * momentum`.
pub(super) fn blend(new: f64, old: f64, momentum: f64) -> f64 {
    new * (1.0 - momentum) + old * momentum
}

/// Checks a standard deviation or a temperature.
pub(super) fn check_positive(planner: &str, key: &str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(invalid(
            planner,
            format!("`{key}` is {value}, not a positive number"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::testing::{SeededNoise, quadratic};
    use crate::planner::{CostModel, PLANNERS};

    fn limit(action_width: Option<usize>) -> Limit {
        Limit {
            action_width,
            ..Limit::new(vec![0, 2], 0.5)
        }
    }

    #[test]
    fn limits_bound_a_block_or_every_action_in_it() {
        let shape = PlanShape {
            horizon: 2,
            width: 6,
        };
        let clipped = |limit: Limit| {
            let mut batch = ActionBatch::zeros(1, shape);
            batch.values.fill(-2.0);
            clip(&mut batch, &[limit]);
            batch.values
        };
        let (free, held) = (-2.0, -0.5);
        let block = [held, free, held, free, free, free];
        assert_eq!(clipped(limit(None)), block.repeat(2));
        let action = [held, free, held];
        assert_eq!(clipped(limit(Some(3))), action.repeat(4));
    }

    #[test]
    fn limits_that_fit_no_block_are_refused() {
        let refused = |limit: Limit, width| {
            let shape = PlanShape { horizon: 1, width };
            let error = check_dims("cem", &[limit], shape).err();
            error.map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(refused(limit(None), 2).contains("component 2 of blocks of 2"));
        assert!(refused(limit(Some(2)), 4).contains("component 2 of actions of 2"));
        assert!(refused(limit(Some(3)), 4).contains("not made of those"));
        assert!(refused(limit(Some(0)), 4).contains("not made of those"));
        assert_eq!(refused(limit(Some(3)), 9), "");
    }

    #[test]
    fn every_planner_with_limits_keeps_every_action_of_a_block_inside() {
        let shape = PlanShape {
            horizon: 3,
            width: 14,
        };
        let target = [2.0; 42];
        let mut bounded = 0;
        for entry in PLANNERS {
            if !(entry.defaults)().contains_key("limits") {
                continue;
            }
            let settings = "limits = [{ dims = [1, 6], bound = 0.25, action_width = 7 }]";
            let planner = (entry.build)(&settings.parse().unwrap()).unwrap();
            let mut cost = quadratic(&target);
            let cost: &mut dyn CostModel = &mut cost;
            let plan = planner.plan(shape, cost, &mut SeededNoise(1)).unwrap();
            let name = entry.name;
            for (at, value) in plan.actions.iter().enumerate() {
                let held = [1, 6].contains(&(at % 7));
                assert!(!held || value.abs() <= 0.25, "{name}: {value}");
            }
            let largest = plan.actions.iter().copied().fold(0.0, f64::max);
            assert!(largest > 0.25, "{name}: nothing beyond the bound");
            bounded += 1;
        }
        assert_eq!(bounded, 8);
    }
}
