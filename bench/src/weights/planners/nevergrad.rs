//! Cases of the released `NevergradPlanner`, which is our separable CMA-ES.

use std::collections::BTreeMap;

use jepa_models::Steps;
use jepa_models::weights::check::{Case, Comparison, compare_number};
use serde::Deserialize;

use super::{PlannerCase, Recorded, plan_shape, widen};
use crate::Result;
use crate::planner::Limit;
use crate::planner::cma_es::{CmaEs, CmaEsConfig, Constants, Generation, InitialStd, SigmaRule};
use crate::weights::PlannerCheck;

pub(super) const CHECK: PlannerCheck = PlannerCheck {
    class: "NevergradPlanner",
    run,
};

/// How far a constant may be off, relative to itself.
const CONSTANT: f64 = 1e-12;

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "H")]
    horizon: usize,
    action_dim: usize,
    #[serde(rename = "N")]
    candidates: usize,
    #[serde(rename = "J")]
    iterations: usize,
    sigma0: f64,
    #[serde(default = "squares")]
    objective: String,
    #[serde(default = "classic")]
    sigma_rule: SigmaRule,
    #[serde(default)]
    bounds: Option<Bounds>,
    #[serde(default)]
    constants: BTreeMap<String, f64>,
}

fn squares() -> String {
    "L2".into()
}

fn classic() -> SigmaRule {
    SigmaRule::Classic
}

/// Largest absolute values of the actions.
#[derive(Deserialize)]
#[serde(untagged)]
enum Bounds {
    /// The same for all numbers.
    All(f64),
    /// One for each number of an action block.
    Each(Vec<f64>),
}

impl Config {
    fn limits(&self) -> Vec<Limit> {
        let bounds = match &self.bounds {
            None => Vec::new(),
            Some(Bounds::All(bound)) => vec![*bound; self.action_dim],
            Some(Bounds::Each(bounds)) => bounds.clone(),
        };
        let limit = |(dim, bound)| Limit::new(vec![dim], bound);
        bounds.into_iter().enumerate().map(limit).collect()
    }
}

fn run(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let config: Config = case.config()?;
    let mut case = PlannerCase::open(case)?;
    let shape = plan_shape(config.horizon, config.action_dim);
    let noise = &case.inputs.require("z")?.values;
    let noise = noise.chunks(config.candidates * shape.len()).map(widen);
    let mut noise = Recorded(noise.collect());
    let planner = CmaEs::new(CmaEsConfig {
        candidates: config.candidates,
        iterations: config.iterations,
        initial_std: InitialStd::Given(config.sigma0),
        sigma_rule: config.sigma_rule,
        limits: config.limits(),
    })?;
    let mut cost = case.cost(&config.objective, Steps::Last)?;
    let mut found: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut watch = |generation: &Generation<'_>| {
        let mut keep = |name, values: &[f64]| {
            found.entry(name).or_default().extend_from_slice(values);
        };
        keep("costs", generation.costs);
        keep("mean", &generation.state.mean);
        keep("sigma", &[generation.state.sigma]);
        keep("d", &generation.state.scale);
        keep("best_value", &[generation.best.cost]);
    };
    let plan = planner.search(shape, &mut cost, &mut noise, &mut watch)?;
    found.insert("best_actions", plan.actions);
    let tolerance = case.case.tolerance();
    for (name, values) in found {
        case.compare(name, &values, tolerance)?;
    }
    constants(&mut case, &config)?;
    case.finish()
}

/// The constants of the recursion, where the case states them.
fn constants(case: &mut PlannerCase<'_>, config: &Config) -> Result<()> {
    let numbers = config.horizon * config.action_dim;
    let ours = Constants::new(numbers, config.candidates, config.sigma_rule);
    let negative: f64 = ours.weights[ours.parents..].iter().sum();
    for (name, &expected) in &config.constants {
        let value = match name.as_str() {
            "mu" => ours.parents as f64,
            "mueff" => ours.mu_eff,
            "c_sigma" => ours.c_sigma,
            "d_sigma" => ours.d_sigma,
            "c_c" => ours.c_c,
            "c_1" => ours.c_1,
            "c_mu" => ours.c_mu,
            "chi" => ours.chi,
            "negative_weight_sum" => negative,
            other => return Err(case.broken(format!("unknown constant `{other}`"))),
        };
        let compared = compare_number(name, value, expected, CONSTANT);
        case.compared.push(compared);
    }
    Ok(())
}
