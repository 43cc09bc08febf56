//! `jepa-bench rollout`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

use super::Context;
use crate::Error;
use crate::env::{self, Env, Size};

/// Step a simulator with given actions.
///
/// Prints the state after the reset and after each step. Actions are raw environment actions.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  echo '[[3, 0.3], [3, 0.3]]' > actions.json\n  jepa-bench rollout --env wall --init 20,30 --actions actions.json --json"
)]
pub struct Args {
    /// Environment; `jepa-bench list environments` shows them.
    #[arg(long)]
    env: String,
    /// State to begin in: numbers separated by commas.
    #[arg(
        long,
        required_unless_present = "seed",
        conflicts_with = "seed",
        value_delimiter = ',',
        allow_negative_numbers = true,
        value_name = "X,Y,.."
    )]
    init: Option<Vec<f64>>,
    /// Begin in the initial state that the sampler draws for this seed, and report its goal.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// JSON file with the actions, `[[a0, a1], ..]`; without it the simulator is only reset.
    #[arg(long, value_name = "FILE")]
    actions: Option<PathBuf>,
    /// Write a PNG of every state, at native size and at 224 pixels.
    #[arg(long, value_name = "DIR")]
    frames: Option<PathBuf>,
}

/// The document of `--json`.
#[derive(Serialize)]
struct Report {
    states: Vec<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<Vec<f64>>,
    /// Steps in which the simulator replaced a number that is NaN in the reference.
    nan_guard_steps: Vec<usize>,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let mut env = env::build(&args.env)?;
    let actions = args
        .actions
        .as_deref()
        .map_or_else(|| Ok(Vec::new()), read_actions)?;
    let mut report = Report {
        states: Vec::new(),
        init: None,
        goal: None,
        nan_guard_steps: Vec::new(),
    };
    let init = match (&args.init, args.seed) {
        (Some(init), _) => init.clone(),
        (None, seed) => {
            let start = env.sample(seed.unwrap_or_default())?;
            report.init = Some(start.init.clone());
            report.goal = Some(start.goal);
            start.init
        }
    };
    env.reset_to(&init)?;
    report.states.push(env.state().to_vec());
    write_frames(env.as_ref(), args.frames.as_deref(), 0)?;
    for (step, action) in actions.iter().enumerate() {
        let outcome = env
            .step(action)
            .with_context(|| format!("cannot make step {step}"))?;
        if outcome.nan_guard {
            report.nan_guard_steps.push(step);
        }
        report.states.push(env.state().to_vec());
        write_frames(env.as_ref(), args.frames.as_deref(), step + 1)?;
    }
    print(&report, ctx)?;
    Ok(ExitCode::SUCCESS)
}

fn read_actions(path: &Path) -> anyhow::Result<Vec<Vec<f64>>> {
    let text = std::fs::read(path).map_err(|source| Error::Io {
        action: "read",
        path: path.to_path_buf(),
        source,
    })?;
    Ok(
        serde_json::from_slice(&text).map_err(|error| Error::Config {
            what: format!("actions `{}`", path.display()),
            detail: error.to_string(),
            hint: Some("write a list of actions, e.g. `[[0.5, -1.0], [0.0, 0.2]]`".into()),
        })?,
    )
}

/// Writes `DIR/<step>_native.png` and `DIR/<step>_224.png`.
fn write_frames(env: &dyn Env, dir: Option<&Path>, step: usize) -> anyhow::Result<()> {
    let Some(dir) = dir else { return Ok(()) };
    std::fs::create_dir_all(dir).map_err(|source| Error::Io {
        action: "create",
        path: dir.to_path_buf(),
        source,
    })?;
    for (size, name) in [(Size::Native, "native"), (Size::Planner, "224")] {
        env.render(size)?
            .write_png(&dir.join(format!("{step:04}_{name}.png")))?;
    }
    Ok(())
}

fn print(report: &Report, ctx: &Context) -> anyhow::Result<()> {
    if ctx.json {
        return ctx.print_json(report);
    }
    if let Some(goal) = &report.goal {
        ctx.print(&format!("goal    {}", numbers(goal)))?;
    }
    for (step, state) in report.states.iter().enumerate() {
        ctx.print(&format!("{step:>4}    {}", numbers(state)))?;
    }
    for step in &report.nan_guard_steps {
        ctx.say(&format!(
            "step {step}: the reference produces NaN here; a defined value was used"
        ));
    }
    Ok(())
}

fn numbers(state: &[f64]) -> String {
    state
        .iter()
        .map(|value| format!("{value:>14.6}"))
        .collect::<Vec<_>>()
        .join(" ")
}
