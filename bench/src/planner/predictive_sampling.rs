//! `predictive-sampling`: one batch of candidates around a nominal plan, of which the cheapest is the plan
//! (Howell et al. 2022, arXiv 2212.00541; evaluation.md section 3.8).
//!
//! The nominal plan is zero, since no planner here starts from an earlier plan, and it is candidate 0: a plan is never
//! worse than doing nothing in normalised units. The paper samples splines and replans at every step from its last plan;
//! this is the one-shot form of stable-worldmodel.

use serde::{Deserialize, Serialize};

use super::gaussian::{Gaussian, check_dims, check_limits, check_positive, check_sizes, clip};
use super::{
    ActionBatch, CostModel, Limit, Noise, Plan, PlanShape, Planner, PlannerEntry, Trace, elites,
    evaluate, read_settings, table_of,
};
use crate::Result;

/// The line in [`super::PLANNERS`].
pub const ENTRY: PlannerEntry = PlannerEntry {
    name: "predictive-sampling",
    summary: "the cheapest of one batch of candidates around zero",
    paper: "arXiv 2212.00541; one-shot form of stable-worldmodel",
    defaults: || table_of(&PredictiveSamplingConfig::default()),
    build: |settings| {
        let config = read_settings(ENTRY.name, settings)?;
        Ok(Box::new(PredictiveSampling::new(config)?))
    },
};

/// Settings of [`PredictiveSampling`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PredictiveSamplingConfig {
    /// Candidates, `S`, the nominal plan included.
    pub candidates: usize,
    /// Standard deviation of the noise, in normalised units.
    pub initial_std: f64,
    /// Components that are clipped.
    pub limits: Vec<Limit>,
}

impl Default for PredictiveSamplingConfig {
    fn default() -> Self {
        Self {
            candidates: 300,
            initial_std: 1.0,
            limits: Vec::new(),
        }
    }
}

/// Predictive sampling.
#[derive(Debug, Clone)]
pub struct PredictiveSampling {
    config: PredictiveSamplingConfig,
}

impl PredictiveSampling {
    /// A planner with these settings.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn new(config: PredictiveSamplingConfig) -> Result<Self> {
        let name = ENTRY.name;
        check_sizes(name, config.candidates, 1, 1)?;
        check_positive(name, "initial_std", config.initial_std)?;
        check_limits(name, &config.limits)?;
        Ok(Self { config })
    }
}

impl Planner for PredictiveSampling {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn iterations(&self) -> u64 {
        1
    }

    fn evaluations(&self) -> u64 {
        self.config.candidates as u64
    }

    fn plan(
        &self,
        shape: PlanShape,
        cost: &mut dyn CostModel,
        noise: &mut dyn Noise,
    ) -> Result<Plan> {
        check_dims(ENTRY.name, &self.config.limits, shape)?;
        let nominal = Gaussian::centred(shape, self.config.initial_std);
        let mut batch = ActionBatch::zeros(self.config.candidates, shape);
        nominal.sample(&mut batch, noise, 0);
        batch.candidate_mut(0).copy_from_slice(&nominal.mean);
        clip(&mut batch, &self.config.limits);
        let costs = evaluate(cost, &batch, 0)?;
        let best = elites(&costs, 1);
        let mut trace = Trace::default();
        trace.push(&costs, &best);
        Ok(Plan {
            actions: batch.candidate(best[0]).to_vec(),
            trace,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::testing::{FnCost, SeededNoise, assert_close, formula_noise, quadratic};

    const SHAPE: PlanShape = PlanShape {
        horizon: 2,
        width: 2,
    };

    fn run(text: &str, cost: &mut dyn CostModel, noise: &mut dyn Noise) -> Plan {
        let planner = (ENTRY.build)(&text.parse().unwrap()).unwrap();
        planner.plan(SHAPE, cost, noise).unwrap()
    }

    #[test]
    fn the_plan_is_the_cheapest_of_nominal_and_samples() {
        let target = [0.5, 1.0, -1.5, 2.0];
        let settings = "candidates = 12\ninitial_std = 0.5";
        let found = run(
            settings,
            &mut quadratic(&target),
            &mut formula_noise(12, 0..1),
        );
        let mut candidates: Vec<Vec<f64>> = formula_noise(12, 0..1).0[0]
            .chunks(4)
            .map(|z| z.iter().map(|z| 0.5 * z).collect())
            .collect();
        candidates[0] = vec![0.0; 4];
        let cost = |x: &[f64]| quadratic(&target).0(x);
        let best = candidates
            .iter()
            .min_by(|a, b| cost(a).total_cmp(&cost(b)))
            .unwrap();
        assert_eq!(found.actions, *best);
        assert_close(&found.trace.best, &[cost(best)], 0.0, "best");
        assert_eq!((found.trace.batches, found.trace.candidates), (1, 12));
    }

    #[test]
    fn where_nothing_is_better_than_nothing_the_nominal_plan_stays() {
        let plan = run("", &mut quadratic(&[0.0; 4]), &mut SeededNoise(1));
        assert_eq!(plan.actions, [0.0; 4]);
        // Of equal costs the first counts.
        let plan = run("", &mut FnCost(|_| 1.0), &mut SeededNoise(1));
        assert_eq!(plan.actions, [0.0; 4]);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for text in [
            "candidates = 0",
            "initial_std = 0.0",
            "limits = [{ dims = [0], bound = -1.0 }]",
            "iterations = 3",
        ] {
            assert!((ENTRY.build)(&text.parse().unwrap()).is_err(), "{text}");
        }
    }
}
