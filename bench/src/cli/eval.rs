//! `jepa-bench eval`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use jepa_models::Compute;
use serde::Serialize;

use super::Context;
use super::watcher::Watcher;
use crate::agent::Policy;
use crate::protocol::{Choices, resolve};
use crate::runner::{
    Continue, Destination, Estimate, Evaluation, Finished, RunManifest, Shard, evaluate,
};

/// Plan with a world model in a simulator, or let a policy act there, and score it.
///
/// Finished episodes are kept: the same command continues an interrupted run. The result is a folder
/// `RUNS/<task>/<model>/<time>_<hash>` with every episode in it.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  jepa-bench eval --model runs/pldm-1 --task wall --planner replan --films 8\n  jepa-bench eval --model oracle --task wall --set planner.candidates=100\n  jepa-bench eval --model floor:random --task wall --shard 0/4"
)]
pub struct Args {
    /// What is evaluated and how.
    #[command(flatten)]
    pub(super) choice: ChoiceArgs,
    /// Number of episodes; the task says how many by default.
    #[arg(long, value_name = "N")]
    episodes: Option<u32>,
    /// Seed of the first episode; the others follow it.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Folder of all runs.
    #[arg(long, value_name = "RUNS")]
    out: Option<PathBuf>,
    /// Plan this many episodes together, in one batch of the model: for devices that want large batches. On a CPU episodes
    /// side by side, which is the default, are faster; the results are the same.
    #[arg(long, value_name = "N")]
    batch: Option<NonZeroUsize>,
    /// Draw this many episodes as filmstrips, failures and successes.
    #[arg(long, visible_alias = "videos", default_value_t = 0, value_name = "N")]
    films: usize,
    /// Run part i of n of the episodes; `jepa-bench merge` joins the parts.
    #[arg(long, value_name = "i/n")]
    shard: Option<Shard>,
    /// Continue an unfinished run of this command if there is one (this is the default).
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Start another run even if there is an unfinished one.
    #[arg(long)]
    fresh: bool,
    /// Say what would be run and how much it takes, and stop.
    #[arg(long)]
    dry_run: bool,
}

/// Options that `eval` and `plan` share.
#[derive(clap::Args, Debug)]
pub(super) struct ChoiceArgs {
    /// A training run, `oracle`, `floor:random` or `floor:noop`.
    #[arg(long, value_name = "RUN|NAME")]
    pub(super) model: Option<String>,
    /// Task, with or without version; `jepa-bench list tasks` shows them.
    #[arg(long, value_name = "TASK[@V]")]
    pub(super) task: Option<String>,
    /// Dataset whose recorded actions are replayed to make goals (`pusht`), or whose episodes are shown (`droid`).
    #[arg(long, value_name = "DST")]
    pub(super) data: Option<String>,
    /// Planner preset of the task, or a planner.
    #[arg(long, value_name = "NAME")]
    pub(super) planner: Option<String>,
    /// TOML file with settings, e.g. the config.toml of an earlier run.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Change one setting, e.g. `planner.candidates=100` (repeatable).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) settings: Vec<String>,
    /// Device that runs the model: `auto`, `cpu`, or `cuda:N` in builds with that feature.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(super) device: String,
}

impl ChoiceArgs {
    /// The evaluation that was asked for.
    pub(super) fn evaluation(
        &self,
        episodes: Option<u32>,
        first_seed: Option<u64>,
    ) -> anyhow::Result<Evaluation> {
        let compute = Compute::parse(&self.device)?;
        let resolved = resolve(&Choices {
            model: self.model.as_deref(),
            task: self.task.as_deref(),
            data: self.data.as_deref(),
            planner: self.planner.as_deref(),
            episodes,
            first_seed,
            file: self.config.as_deref(),
            settings: &self.settings,
        })?;
        let policy = Policy::find(&resolved.config.model, compute)?;
        if let (Some(name), Policy::Trained(_)) = (&self.planner, &policy) {
            return Err(policy.has_no_use_for(&format!("`--planner {name}`")).into());
        }
        let has_weights = policy.weights_hash().is_some();
        let mut evaluation = Evaluation::new(resolved, policy)?;
        if has_weights {
            evaluation.device = compute.to_string();
        }
        evaluation.command = std::env::args().collect();
        Ok(evaluation)
    }
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    crate::memory::keep_freed();
    let mut evaluation = args.choice.evaluation(args.episodes, args.seed)?;
    evaluation.shard = args.shard;
    evaluation.films = args.films;
    evaluation.batch = args.batch;
    let unfinished = if args.fresh {
        Continue::Never
    } else {
        Continue::IfThere
    };
    let destination = Destination {
        runs: runs_folder(args.out.as_deref()),
        unfinished,
    };
    if args.dry_run {
        announce(&evaluation, &destination, ctx)?;
        return Ok(ExitCode::SUCCESS);
    }
    warn_if_long(&evaluation, evaluation.episodes().len(), ctx)?;
    let watcher = Watcher::new(ctx, "episodes").asked_to_resume(args.resume);
    let finished = evaluate(&evaluation, &destination, &watcher)?;
    drop(watcher);
    if ctx.json {
        ctx.print_json(&finished.record)?;
    } else {
        print(&finished, ctx)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Plans that take longer are announced.
const LONG_PLAN: Duration = Duration::from_mins(1);

/// Says before the first plan of `episodes` episodes how long plans will take, if that is long.
pub(super) fn warn_if_long(
    evaluation: &Evaluation,
    episodes: usize,
    ctx: &Context,
) -> crate::Result<()> {
    let Some(episode) = evaluation.forecast()? else {
        return Ok(());
    };
    let plans = u32::try_from(evaluation.estimate().plans.max(1)).unwrap_or(u32::MAX);
    let plan = episode / plans;
    if plan > LONG_PLAN {
        let all = episode.saturating_mul(u32::try_from(episodes).unwrap_or(u32::MAX));
        ctx.say(&format!(
            "a plan will take about {} on this device, all {} together up to {}; `--device cuda` or fewer candidates \
             (`--set planner.candidates=..`) are faster, Ctrl-C stops",
            rough(plan),
            u64::from(plans) * episodes as u64,
            rough(all)
        ));
    }
    Ok(())
}

/// A duration in one number of a fitting unit.
fn rough(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// `--out`, or `runs` in `JEPA_BENCH_HOME`, or `runs` here.
pub(super) fn runs_folder(out: Option<&Path>) -> PathBuf {
    match (out, std::env::var_os("JEPA_BENCH_HOME")) {
        (Some(out), _) => out.to_path_buf(),
        (None, Some(home)) => PathBuf::from(home).join("runs"),
        (None, None) => PathBuf::from("runs"),
    }
}

/// The document of `--dry-run --json`.
#[derive(Serialize)]
struct Announcement<'a> {
    config: &'a crate::protocol::RunConfig,
    run_hash: String,
    episodes: usize,
    plans: u64,
    world_model_calls: u64,
    candidate_steps: u64,
    /// Seconds of planning that a trial on this device predicts, episodes one after the other; none without a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    predicted_seconds: Option<f64>,
    runs: &'a Path,
}

/// Says what would be run.
fn announce(
    evaluation: &Evaluation,
    destination: &Destination,
    ctx: &Context,
) -> anyhow::Result<()> {
    let episodes = evaluation.episodes().len();
    let Estimate {
        plans,
        world_model_calls,
        candidate_steps,
    } = evaluation.estimate();
    let times = |number: u64| number * episodes as u64;
    let announcement = Announcement {
        config: evaluation.config(),
        run_hash: evaluation.run_hash(),
        episodes,
        plans: times(plans),
        world_model_calls: times(world_model_calls),
        candidate_steps: times(candidate_steps),
        predicted_seconds: evaluation
            .forecast()?
            .map(|episode| episode.as_secs_f64() * episodes as f64),
        runs: &destination.runs,
    };
    if ctx.json {
        return ctx.print_json(&announcement);
    }
    let Announcement {
        plans,
        world_model_calls,
        candidate_steps,
        predicted_seconds,
        ..
    } = announcement;
    ctx.print(evaluation.config().to_toml()?.trim_end())?;
    ctx.print("")?;
    ctx.print(&format!(
        "would run {episodes} episodes: {plans} plans, {world_model_calls} world-model calls, {candidate_steps} candidate steps"
    ))?;
    if let Some(seconds) = predicted_seconds {
        let time = rough(Duration::from_secs_f64(seconds));
        ctx.print(&format!(
            "would plan for about {time} on this device, episodes one after the other"
        ))?;
    }
    ctx.print(&format!("would write below {}", destination.runs.display()))
}

/// Episodes that nobody had to solve.
fn at_start(manifest: &RunManifest) -> String {
    let RunManifest {
        solved_at_start,
        redrawn,
        ..
    } = manifest;
    match redrawn {
        0 => format!("{solved_at_start} episodes"),
        more => format!("{solved_at_start} episodes, {more} more were passed over"),
    }
}

/// The result as a table.
fn print(finished: &Finished, ctx: &Context) -> anyhow::Result<()> {
    let Finished {
        dir,
        record,
        manifest,
    } = finished;
    let summary = &record.summary;
    let percent = |share: f64| format!("{:.1}%", 100.0 * share);
    let at_any = summary.success_any as f64 / summary.episodes as f64;
    let planner = format!("{}, {}", record.planner.name, record.planner.preset);
    let rows = [
        ("task", record.task.id()),
        ("model", record.model.label.clone()),
        ("planner", planner),
        (
            "success",
            format!(
                "{}   {} of {}   Wilson 95% [{}, {}]",
                percent(summary.success_rate),
                summary.successes,
                summary.episodes,
                percent(summary.wilson_low),
                percent(summary.wilson_high)
            ),
        ),
        ("at goal at any step", percent(at_any)),
        ("at goal from start", at_start(manifest)),
        (
            "final distance",
            format!(
                "mean {:.2}, median {:.2}",
                summary.final_distance_mean, summary.final_distance_median
            ),
        ),
        (
            "planning",
            format!(
                "{:.3} s per episode (p95 {:.3} s), {} candidate steps",
                summary.plan_seconds_p50, summary.plan_seconds_p95, summary.candidate_steps
            ),
        ),
        (
            "wall clock",
            format!("{:.1} s", record.provenance.wall_seconds),
        ),
        ("run", dir.display().to_string()),
    ];
    for (name, value) in rows {
        ctx.print(&format!("{name:<20} {value}"))?;
    }
    for (name, value) in &manifest.metrics {
        ctx.print(&format!("{:<20} {value:.4}", name.replace('_', " ")))?;
    }
    Ok(())
}
