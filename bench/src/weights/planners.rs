//! Planners checked against reference cases: ours search with the noise of the case, in the world model of the
//! case, and every number that the released planner left is compared.
//!
//! The model computes in `f32`, the search in `f64`; sizes and settings are those of the case's configuration.

mod cem;
mod gradient;
mod nevergrad;

use jepa_models::weights::check::{Case, Comparison, Planning, Tolerance, compare, world_model};
use jepa_models::weights::{Array, Checkpoint};
use jepa_models::{CostSpec, Distance, Steps};
use serde_json::Value;

use super::PlannerCheck;
use crate::agent::{batch, singles};
use crate::planner::{ActionBatch, CostModel, Descent, GradientCostModel, Noise, PlanShape};
use crate::{Error, Result};

/// Classes of planners.
pub(super) const CHECKS: &[PlannerCheck] = &[cem::CHECK, gradient::CHECK, nevergrad::CHECK];

/// A planner case with its model.
struct PlannerCase<'a> {
    case: &'a Case<'a>,
    planning: Planning,
    inputs: Checkpoint,
    outputs: Checkpoint,
    compared: Vec<Comparison>,
}

impl<'a> PlannerCase<'a> {
    fn open(case: &'a Case<'a>) -> Result<Self> {
        Ok(Self {
            case,
            planning: world_model(case)?,
            inputs: case.arrays("inputs.safetensors")?,
            outputs: case.arrays("outputs.safetensors")?,
            compared: Vec::new(),
        })
    }

    /// Weight of proprio in the cost.
    fn alpha(&self) -> Result<f32> {
        let config: Alpha = self.case.config()?;
        Ok(config.alpha)
    }

    /// The cost of the case with one of its objectives, `L2` or `L1`.
    fn cost(&self, objective: &str, steps: Steps) -> Result<CaseCost<'_>> {
        let distance = match objective {
            "L2" => Distance::L2,
            "L1" => Distance::L1,
            other => return Err(self.broken(format!("unknown objective `{other}`"))),
        };
        let spec = CostSpec {
            distance,
            steps,
            proprio_weight: self.alpha()?,
        };
        Ok(CaseCost {
            planning: &self.planning,
            spec,
            batches: Vec::new(),
        })
    }

    /// Recorded noise as lists of one iteration each, `[J, S, H, A]`, from an array `[J, H, S, A]`.
    fn candidate_noise(&self, name: &str) -> Result<Vec<Vec<f64>>> {
        let array = self.inputs.require(name)?;
        let [_, horizon, samples, width] = self.sides(name, array)?;
        let iterations = array.values.chunks(horizon * samples * width);
        Ok(iterations
            .map(|values| swap(&widen(values), horizon, samples, width))
            .collect())
    }

    fn sides<const D: usize>(&self, name: &str, array: &Array) -> Result<[usize; D]> {
        let shape = array.shape.as_slice();
        <[usize; D]>::try_from(shape)
            .map_err(|_| self.broken(format!("`{name}` has shape {shape:?}, not {D} sides")))
    }

    /// Compares our `values` with the expected array called `name`.
    fn compare(&mut self, name: &str, values: &[f64], tolerance: Tolerance) -> Result<()> {
        let expected = self.outputs.require(name)?;
        let compared = compare(name, &narrow(values), &expected.values, tolerance);
        self.compared.push(compared);
        Ok(())
    }

    /// A number of the stated tolerance.
    fn stated(&self, key: &str) -> Option<f64> {
        self.case.manifest().get("tolerance")?.get(key)?.as_f64()
    }

    /// The tolerance `key`, absolute only.
    fn absolute(&self, key: &str) -> Result<Tolerance> {
        let absolute = self.stated(key);
        let absolute = absolute.ok_or_else(|| self.broken(format!("states no `{key}`")))?;
        Ok(Tolerance {
            absolute,
            relative: 0.0,
        })
    }

    /// The comparisons, once every output that the case wants compared has been.
    fn finish(self) -> Result<Vec<Comparison>> {
        let wanted = self
            .case
            .manifest()
            .get("compare")
            .and_then(Value::as_array);
        let wanted = wanted.into_iter().flatten().filter_map(Value::as_str);
        let done = |name: &str| self.compared.iter().any(|one| one.name == name);
        let missed: Vec<&str> = wanted.filter(|name| !done(name)).collect();
        if missed.is_empty() {
            return Ok(self.compared);
        }
        Err(self.broken(format!("nothing here computes {}", missed.join(", "))))
    }

    fn broken(&self, detail: String) -> Error {
        self.case.broken(detail).into()
    }
}

#[derive(serde::Deserialize)]
struct Alpha {
    alpha: f32,
}

/// The cost of a case; remembers what it was asked.
struct CaseCost<'a> {
    planning: &'a Planning,
    spec: CostSpec,
    /// Candidates and costs of every call.
    batches: Vec<(ActionBatch, Vec<f64>)>,
}

impl CaseCost<'_> {
    /// Costs of all calls, one after the other.
    fn costs_so_far(&self) -> Vec<f64> {
        self.batches
            .iter()
            .flat_map(|(_, costs)| costs.clone())
            .collect()
    }
}

impl CostModel for CaseCost<'_> {
    fn costs(&mut self, actions: &ActionBatch) -> Result<Vec<f64>> {
        let Planning { model, start, goal } = self.planning;
        let values = singles(actions);
        let costs = model.costs(start, goal, &self.spec, batch(actions, &values))?;
        self.batches.push((actions.clone(), costs.clone()));
        Ok(costs)
    }

    fn with_gradients(&mut self) -> Result<&mut dyn GradientCostModel> {
        Ok(self)
    }
}

impl GradientCostModel for CaseCost<'_> {
    fn costs_and_gradient(&mut self, actions: &ActionBatch) -> Result<Descent> {
        let Planning { model, start, goal } = self.planning;
        let values = singles(actions);
        let found = model.cost_gradients(start, goal, &self.spec, batch(actions, &values))?;
        Ok(Descent {
            costs: found.costs,
            gradient: found.gradient,
        })
    }
}

/// Normal numbers of a case, one list per iteration.
struct Recorded(Vec<Vec<f64>>);

impl Noise for Recorded {
    /// Numbers that are not recorded are zero, so that a case that ends early is seen in what is compared.
    fn normals(&mut self, iteration: usize, out: &mut [f64]) {
        match self.0.get(iteration) {
            Some(values) if values.len() == out.len() => out.copy_from_slice(values),
            _ => out.fill(0.0),
        }
    }

    fn uniform(&mut self, _iteration: usize) -> f64 {
        0.0
    }
}

/// Limits from the lists that JEPA-WMs configurations give.
fn limits(dims: Option<Vec<Vec<usize>>>, bounds: Option<Vec<f64>>) -> Vec<crate::planner::Limit> {
    let pairs = dims.into_iter().flatten().zip(bounds.into_iter().flatten());
    pairs
        .map(|(dims, bound)| crate::planner::Limit::new(dims, bound))
        .collect()
}

/// `[B, A, W]` from `[A, B, W]`.
fn swap(values: &[f64], first: usize, second: usize, width: usize) -> Vec<f64> {
    let cells = (0..second).flat_map(|b| (0..first).map(move |a| (a * second + b) * width));
    cells
        .flat_map(|at| values[at..at + width].to_vec())
        .collect()
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

fn plan_shape(horizon: usize, width: usize) -> PlanShape {
    PlanShape { horizon, width }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::weights::{check, read};

    fn assert_case(name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/models");
        let case = Case::open(&folder.join(name), &read).unwrap();
        let compared = check(&case).unwrap();
        for one in &compared {
            println!("{one:?}");
        }
        assert!(compared.iter().all(|one| one.passed), "{name}");
    }

    #[test]
    fn the_cross_entropy_method_equals_the_reference() {
        assert_case("planner_cem");
    }

    #[test]
    fn the_cross_entropy_method_with_limits_equals_the_reference() {
        assert_case("planner_cem_clipped");
    }

    #[test]
    fn gradient_descent_equals_the_reference() {
        assert_case("planner_gd");
    }

    #[test]
    fn the_separable_cma_es_equals_the_reference() {
        assert_case("planner_ng");
    }

    #[test]
    fn the_middle_axes_are_swapped() {
        // Two steps of three candidates.
        let values = [0.0, 0.1, 1.0, 1.1, 2.0, 2.1, 3.0, 3.1, 4.0, 4.1, 5.0, 5.1];
        let swapped = swap(&values, 2, 3, 2);
        assert_eq!(
            swapped,
            [0.0, 0.1, 3.0, 3.1, 1.0, 1.1, 4.0, 4.1, 2.0, 2.1, 5.0, 5.1]
        );
        assert_eq!(swap(&swapped, 3, 2, 2), values);
    }
}
