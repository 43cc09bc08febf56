//! Cases of the released `CEMPlanner`.

use jepa_models::weights::check::{Case, Comparison, Tolerance};
use jepa_models::{Latent, Rollout, Steps};
use serde::Deserialize;

use super::{PlannerCase, Recorded, limits, narrow, plan_shape, swap, widen};
use crate::Result;
use crate::objective;
use crate::planner::cem::{Cem, CemConfig};
use crate::planner::{CostModel, Plan};
use crate::weights::PlannerCheck;

pub(super) const CHECK: PlannerCheck = PlannerCheck {
    class: "CEMPlanner",
    run,
};

#[derive(Deserialize)]
struct Config {
    plan_length: usize,
    action_dim: usize,
    #[serde(rename = "N")]
    candidates: usize,
    #[serde(rename = "K")]
    elites: usize,
    #[serde(rename = "J")]
    iterations: usize,
    var_scale: f64,
    #[serde(default)]
    momentum_mean: f64,
    #[serde(default)]
    momentum_std: f64,
    max_norm_dims: Option<Vec<Vec<usize>>>,
    max_norms: Option<Vec<f64>>,
}

impl Config {
    fn planner(&self) -> Result<Cem> {
        Cem::new(CemConfig {
            candidates: self.candidates,
            elites: self.elites,
            iterations: self.iterations,
            initial_std: self.var_scale,
            mean_momentum: self.momentum_mean,
            std_momentum: self.momentum_std,
            limits: limits(self.max_norm_dims.clone(), self.max_norms.clone()),
        })
    }
}

fn run(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let config: Config = case.config()?;
    let mut case = PlannerCase::open(case)?;
    let objectives: Vec<String> = case
        .outputs
        .keys()
        .filter_map(|key| Some(key.strip_suffix("_costs")?.to_string()))
        .collect();
    for objective in objectives {
        search(&mut case, &config, &objective)?;
    }
    case.finish()
}

/// One search, and everything that the released planner shows of it.
fn search(case: &mut PlannerCase<'_>, config: &Config, objective: &str) -> Result<()> {
    let shape = plan_shape(config.plan_length, config.action_dim);
    let mut noise = Recorded(case.candidate_noise("cem_noise")?);
    let mut cost = case.cost(objective, Steps::Last)?;
    let (mut means, mut stds) = (Vec::new(), Vec::new());
    let mut watch = |mean: &[f64], std: &[f64]| {
        means.extend_from_slice(mean);
        stds.extend_from_slice(std);
    };
    let plan = config
        .planner()?
        .search(shape, &mut cost, &mut noise, &mut watch)?;
    let costs = cost.costs_so_far();
    let (Some((first, _)), Some((last, _))) = (cost.batches.first(), cost.batches.last()) else {
        return Err(case.broken("no iteration".into()));
    };
    let last = swap(
        &last.values,
        config.candidates,
        config.plan_length,
        config.action_dim,
    );
    let start = start_distance(case, objective)?;
    let summed = case.cost(objective, Steps::All)?.costs(first)?;
    let summed: Vec<f64> = summed.into_iter().map(|cost| cost + start).collect();
    let seen = final_frames(case, &plan, config)?;

    let tolerance = case.case.tolerance();
    let of_costs = Tolerance {
        absolute: 0.0,
        relative: case.stated("costs_rtol").unwrap_or(tolerance.relative),
    };
    let outputs = [
        ("costs", costs, of_costs),
        ("mean", means, tolerance),
        ("std", stds, tolerance),
        ("actions", plan.actions, tolerance),
        ("best", plan.trace.best, of_costs),
        ("elite_mean", plan.trace.elite_mean, of_costs),
        ("elite_std", plan.trace.elite_std, tolerance),
        ("candidates_last", last, tolerance),
        ("final_visual", seen, tolerance),
        ("costs_sum_all_iter0", summed, of_costs),
    ];
    for (name, values, tolerance) in outputs {
        case.compare(&format!("{objective}_{name}"), &values, tolerance)?;
    }
    Ok(())
}

/// Distance of the start to the goal: the released sum over all steps begins with it.
fn start_distance(case: &PlannerCase<'_>, objective: &str) -> Result<f64> {
    let Latent { visual, proprio } = case.planning.start.clone();
    let still = Rollout {
        visual,
        proprio,
        samples: 1,
        horizon: 1,
    };
    let spec = case.cost(objective, Steps::Last)?.spec;
    let found = objective::costs(&still, &case.planning.goal, &spec);
    found
        .and_then(|costs| costs.first().copied())
        .ok_or_else(|| case.broken("start and goal are of different sizes".into()))
}

/// Visual tokens of the start and of every step under the plan.
fn final_frames(case: &PlannerCase<'_>, plan: &Plan, config: &Config) -> Result<Vec<f64>> {
    let actions = jepa_models::ActionBatch {
        values: &narrow(&plan.actions),
        samples: 1,
        horizon: config.plan_length,
        width: config.action_dim,
    };
    let rollout = case.planning.model.unroll(&case.planning.start, actions)?;
    let frames = [&case.planning.start.visual[..], &rollout.visual].concat();
    Ok(widen(&frames))
}
