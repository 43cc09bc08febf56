//! Cases of the released `GradientDescentPlanner`.

use jepa_models::Steps;
use jepa_models::weights::check::{Case, Comparison, Tolerance, compare, compare_to_largest};
use serde::Deserialize;

use super::{PlannerCase, Recorded, narrow, plan_shape, widen};
use crate::Result;
use crate::planner::gradient::{Descend, DescentConfig, Start};
use crate::planner::{Limit, PlanShape};
use crate::weights::PlannerCheck;

pub(super) const CHECK: PlannerCheck = PlannerCheck {
    class: "GradientDescentPlanner",
    run,
};

/// Losses that repeated steps have not yet blurred.
const FIRST: usize = 5;

#[derive(Deserialize)]
struct Config {
    iterations: usize,
    lr: f64,
    action_noise: f64,
}

/// One descent of a case, with everything it left.
struct Descended {
    losses: Vec<f64>,
    actions: Vec<f64>,
    first_gradient: Vec<f64>,
}

fn run(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let config: Config = case.config()?;
    let mut case = PlannerCase::open(case)?;
    let variants: Vec<String> = case
        .outputs
        .keys()
        .filter_map(|key| Some(key.strip_suffix("_losses")?.to_string()))
        .collect();
    for variant in variants {
        match variant.split_once('_') {
            None => noisy(&mut case, &variant)?,
            Some((objective, start)) => {
                let settings = DescentConfig {
                    iterations: config.iterations,
                    learning_rate: config.lr,
                    action_noise: config.action_noise,
                    start: if start == "zero" {
                        Start::Zero
                    } else {
                        Start::Normal
                    },
                    ..DescentConfig::default()
                };
                let found = descend(&case, &variant, objective, settings, Vec::new())?;
                losses(&mut case, &variant, &found)?;
                first_gradient(&mut case, &variant, &found)?;
                let tolerance = case.absolute("final_actions_atol")?;
                case.compare(&format!("{variant}_actions"), &found.actions, tolerance)?;
            }
        }
    }
    case.finish()
}

/// The variant with noise and limits, whose settings are the same in all cases of this class.
fn noisy(case: &mut PlannerCase<'_>, variant: &str) -> Result<()> {
    let array = case.inputs.require("gd_noise")?;
    let [iterations, _, horizon, width] = case.sides("gd_noise", array)?;
    let noise = array.values.chunks(horizon * width).map(widen).collect();
    let limit = |dims: &[usize], bound| Limit::new(dims.to_vec(), bound);
    let settings = DescentConfig {
        iterations,
        learning_rate: 20.0,
        action_noise: 0.05,
        limits: vec![limit(&[0, 1], 0.5), limit(&[3], 1.0)],
        ..DescentConfig::default()
    };
    let found = descend(case, variant, "L2", settings, noise)?;
    let tolerance = case.absolute("noisy_losses_atol")?;
    case.compare(&format!("{variant}_losses"), &found.losses, tolerance)?;
    let tolerance = case.absolute("noisy_actions_atol")?;
    case.compare(&format!("{variant}_actions"), &found.actions, tolerance)
}

/// Descends from the actions of the case with `noise` added after every step.
fn descend(
    case: &PlannerCase<'_>,
    variant: &str,
    objective: &str,
    settings: DescentConfig,
    noise: Vec<Vec<f64>>,
) -> Result<Descended> {
    let actions = format!("{variant}_actions");
    let [horizon, width] = case.sides(&actions, case.outputs.require(&actions)?)?;
    let shape: PlanShape = plan_shape(horizon, width);
    // A plan shorter than the horizon begins as the horizon does.
    let start = widen(&case.inputs.require("init_actions")?.values);
    let start = start.get(..shape.len()).unwrap_or(&start).to_vec();
    let mut noise = Recorded([vec![start], noise].concat());
    let mut cost = case.cost(objective, Steps::Last)?;
    let mut gradients = Vec::new();
    let mut watch = |gradient: &[f64], _: &[f64]| gradients.push(gradient.to_vec());
    let plan = Descend::new(settings)?.search(shape, &mut cost, &mut noise, &mut watch)?;
    Ok(Descended {
        losses: plan.trace.best,
        actions: plan.actions,
        first_gradient: gradients.into_iter().next().unwrap_or_default(),
    })
}

/// The first losses closely, all of them less so.
fn losses(case: &mut PlannerCase<'_>, variant: &str, found: &Descended) -> Result<()> {
    let name = format!("{variant}_losses");
    let expected = case.outputs.require(&name)?.values.clone();
    let ours = narrow(&found.losses);
    let first = |values: &[f32]| values[..values.len().min(FIRST)].to_vec();
    let tolerance = case.absolute("losses_first5_atol")?;
    let label = format!("{name}, the first {FIRST}");
    let early = compare(&label, &first(&ours), &first(&expected), tolerance);
    case.compared.push(early);
    let tolerance = case.absolute("losses_all_atol")?;
    case.compare(&name, &found.losses, tolerance)
}

/// The gradient at the start, relative to its largest number.
fn first_gradient(case: &mut PlannerCase<'_>, variant: &str, found: &Descended) -> Result<()> {
    let name = format!("{variant}_grad0");
    let expected = case.outputs.require(&name)?.values.clone();
    let largest = expected
        .iter()
        .fold(0.0_f64, |most, value| most.max(f64::from(value.abs())));
    let stated = &case.case.manifest()["tolerance"]["grad0"];
    let number = |key: &str, default: f64| stated[key].as_f64().unwrap_or(default);
    let tolerance = Tolerance {
        absolute: number("atol", 1e-6),
        relative: number("rtol", 1e-3),
    };
    let ours = narrow(&found.first_gradient);
    let compared = compare_to_largest(&name, &ours, &expected, tolerance, largest);
    case.compared.push(compared);
    Ok(())
}
