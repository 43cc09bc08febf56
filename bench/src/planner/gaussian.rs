//! The diagonal Gaussian that CEM and MPPI sample candidates from.

use serde::{Deserialize, Serialize};

use super::{ActionBatch, Noise, PlanShape, invalid};
use crate::Result;

/// A bound on some components of every action block: each is clipped to `[-bound, bound]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Components of an action block, from 0.
    pub dims: Vec<usize>,
    /// Largest absolute value, in normalised units.
    pub bound: f64,
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
        for candidate in batch.values.chunks_exact_mut(self.mean.len()) {
            for ((value, mean), std) in candidate.iter_mut().zip(&self.mean).zip(&self.std) {
                *value = mean + std * *value;
            }
        }
    }
}

/// Clips every listed component of every block to its bound.
pub(super) fn clip(batch: &mut ActionBatch, limits: &[Limit]) {
    let width = batch.shape.width;
    for limit in limits {
        for block in batch.values.chunks_exact_mut(width) {
            for &dim in &limit.dims {
                block[dim] = block[dim].clamp(-limit.bound, limit.bound);
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
    let mut dims = limits.iter().flat_map(|limit| &limit.dims);
    match dims.find(|&&dim| dim >= shape.width) {
        Some(dim) => {
            let detail = format!("a limit names component {dim} of blocks of {}", shape.width);
            Err(invalid(planner, detail))
        }
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
