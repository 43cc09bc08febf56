//! `jepa-bench plan`.

use std::path::PathBuf;
use std::process::ExitCode;

use jepa_leaderboard::EpisodeRow;
use serde::Serialize;

use super::Context;
use super::eval::{ChoiceArgs, warn_if_long};
use crate::Error;
use crate::agent::Policy;
use crate::runner::{
    DecodedStep, Evaluation, Grid, Heads, ImaginedStep, decode, filmstrip, imagine, landscape,
    replay, run_episode,
};

/// Plan one episode and show what the planner did.
///
/// Prints for every plan the cost per iteration, the distance to the goal before and after it, and for
/// a world model the cost it imagined after each step beside the cost of what then happened.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  jepa-bench plan --model runs/pldm-1 --task wall --episode 3 --film episode.png\n  jepa-bench plan --model models/jepa_wm_wall --task wall --decoder weights/dinov2_vits_224_INet --film imagined.png\n  jepa-bench plan --model oracle --task wall --episode 3 --landscape costs.svg"
)]
pub struct Args {
    /// What plans and how.
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Episode of the task, from 0; its seed is the task's first seed plus this.
    #[arg(long, default_value_t = 0, value_name = "K")]
    episode: u32,
    /// Write the episode as a filmstrip: every model step, then the goal. With `--decoder` what the model imagined is above.
    #[arg(long, value_name = "FILE.png")]
    film: Option<PathBuf>,
    /// Write the energy landscape at the beginning of the episode: cost over two components of the action, the same
    /// action in all steps of the plan.
    #[arg(long, value_name = "FILE.svg")]
    landscape: Option<PathBuf>,
    /// Components of the action along x and y of the landscape.
    #[arg(
        long,
        requires = "landscape",
        value_delimiter = ',',
        value_name = "X,Y"
    )]
    landscape_dims: Vec<usize>,
    /// The landscape reaches from -A to A in normalised units; the release's span of the environment by default.
    #[arg(long, requires = "landscape", value_name = "A")]
    landscape_span: Option<f64>,
    /// Image decoder of the model's encoder, a folder that `weights import` wrote: says how far what was imagined is from
    /// what happened, in pixels.
    #[arg(long, value_name = "DIR")]
    decoder: Option<PathBuf>,
    /// Folders of `vgg16` and `lpips_vgg` that `weights import` wrote, for LPIPS of decoded pictures.
    #[arg(long, requires = "decoder", num_args = 2, value_names = ["VGG16", "LPIPS_VGG"])]
    lpips: Vec<PathBuf>,
}

impl Args {
    /// Draws the energy landscape, if one is asked for.
    fn landscape(&self, evaluation: &Evaluation, ctx: &Context) -> anyhow::Result<Option<Costs>> {
        let Some(path) = &self.landscape else {
            return Ok(None);
        };
        let mut grid = Grid::of(&evaluation.config().environment.name);
        match self.landscape_dims[..] {
            [] => {}
            [x, y] => grid.dims = [x, y],
            _ => anyhow::bail!(
                "`--landscape-dims` names two components, e.g. `--landscape-dims 0,2`"
            ),
        }
        grid.span = self.landscape_span.unwrap_or(grid.span);
        let found = landscape(evaluation, self.episode, grid, &|| ctx.interrupted())?;
        let svg = jepa_reports::landscape_figure(&found)?;
        std::fs::write(path, svg).map_err(|source| Error::Io {
            action: "write",
            path: path.clone(),
            source,
        })?;
        let lowest = found.lowest();
        let [x, y] = found.action(lowest);
        ctx.say(&format!(
            "wrote {}: lowest cost {:.4} at ({x:.2}, {y:.2})",
            path.display(),
            found.costs[lowest]
        ));
        Ok(Some(Costs {
            span: found.span,
            side: found.side,
            values: found.costs,
        }))
    }

    fn heads(&self) -> crate::Result<Option<Heads>> {
        let lpips = match self.lpips.as_slice() {
            [trunk, vectors] => Some([trunk.as_path(), vectors.as_path()]),
            _ => None,
        };
        let decoder = self.decoder.as_deref();
        decoder
            .map(|decoder| Heads::load(decoder, lpips))
            .transpose()
    }
}

/// The document of `--json`.
#[derive(Serialize)]
struct Report {
    /// The episode, as in the table of a run.
    episode: EpisodeRow,
    /// Predicted and reached cost after every model step; empty without a world model.
    imagined: Vec<ImaginedStep>,
    /// Decoded predictions against frames; empty without a decoder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    decoded: Vec<DecodedStep>,
    plan_seconds: f64,
    /// Costs of a grid of plans, rows from low to high.
    #[serde(skip_serializing_if = "Option::is_none")]
    landscape: Option<Costs>,
}

/// An energy landscape.
#[derive(Serialize)]
struct Costs {
    span: f64,
    side: usize,
    values: Vec<f64>,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    crate::memory::keep_freed();
    // Enough episodes for the one that is asked for.
    let evaluation = args
        .choice
        .evaluation(Some(args.episode.saturating_add(1)), None)?;
    if let Policy::Trained(_) = evaluation.policy() {
        return Err(evaluation.policy().has_no_use_for("`plan`").into());
    }
    // Before a search that may take long.
    let heads = args.heads()?;
    warn_if_long(&evaluation, 1, ctx)?;
    let landscape = args.landscape(&evaluation, ctx)?;
    let line = run_episode(&evaluation, args.episode, &|| ctx.interrupted())?;
    let decoded = heads
        .map(|heads| decode(&evaluation, &line.row, &heads))
        .transpose()?;
    if let Some(path) = &args.film {
        match &decoded {
            Some(decoded) => decoded.strip.write_png(path)?,
            None => filmstrip(&replay(&evaluation, &line.row)?).write_png(path)?,
        }
        ctx.say(&format!("wrote {}", path.display()));
    }
    let report = Report {
        imagined: imagine(&evaluation, &line.row)?,
        decoded: decoded.map(|decoded| decoded.steps).unwrap_or_default(),
        landscape,
        plan_seconds: line.timing.plan_seconds,
        episode: line.row,
    };
    if ctx.json {
        ctx.print_json(&report)?;
    } else {
        print(&evaluation, &report, ctx)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(evaluation: &Evaluation, report: &Report, ctx: &Context) -> anyhow::Result<()> {
    let (config, row) = (evaluation.config(), &report.episode);
    let name = evaluation.policy().name();
    ctx.print(&format!("{}, seed {}, {name}", config.task, row.seed))?;
    ctx.print(&format!(
        "from {} to {}",
        numbers(&row.init),
        numbers(&row.goal)
    ))?;
    for plan in 0..row.plans as usize {
        print_plan(evaluation, report, plan, ctx)?;
    }
    let verdict = if row.success {
        "reached the goal"
    } else {
        "missed the goal"
    };
    ctx.print("")?;
    ctx.print(&format!(
        "{verdict}: final distance {:.2}, {:.3} s of planning",
        row.final_distance, report.plan_seconds
    ))
}

fn print_plan(
    evaluation: &Evaluation,
    report: &Report,
    plan: usize,
    ctx: &Context,
) -> anyhow::Result<()> {
    let (config, row) = (evaluation.config(), &report.episode);
    let steps = config.planner.replan_every * config.protocol.frameskip;
    let distance = |at: usize| row.distances.get(at).copied().unwrap_or(row.final_distance);
    ctx.print("")?;
    ctx.print(&format!(
        "plan {}: distance {:.2} before, {:.2} after",
        plan + 1,
        distance(plan * steps),
        distance((plan + 1) * steps)
    ))?;
    let per_plan = row
        .cost_best
        .len()
        .checked_div(row.plans as usize)
        .unwrap_or(0);
    print_costs(row, plan * per_plan..(plan + 1) * per_plan, ctx)?;
    print_imagined(&report.imagined, plan, ctx)?;
    print_decoded(&report.decoded, plan, ctx)
}

fn print_decoded(steps: &[DecodedStep], plan: usize, ctx: &Context) -> anyhow::Result<()> {
    for step in steps.iter().filter(|step| step.plan == plan) {
        ctx.print(&format!(
            "decoded after step {}: {}",
            step.step, step.scores
        ))?;
    }
    Ok(())
}

fn print_imagined(steps: &[ImaginedStep], plan: usize, ctx: &Context) -> anyhow::Result<()> {
    let of_plan = || steps.iter().filter(|step| step.plan == plan);
    if of_plan().next().is_some() {
        ctx.print("after step     imagined     executed")?;
    }
    for ImaginedStep {
        step,
        imagined,
        executed,
        ..
    } in of_plan()
    {
        ctx.print(&format!("{step:>10} {imagined:>12.5} {executed:>12.5}"))?;
    }
    Ok(())
}

fn print_costs(
    row: &EpisodeRow,
    iterations: std::ops::Range<usize>,
    ctx: &Context,
) -> anyhow::Result<()> {
    ctx.print("iteration    best cost   elite mean    elite std")?;
    for (number, at) in iterations.enumerate() {
        ctx.print(&format!(
            "{number:>9} {:>12.5} {:>12.5} {:>12.5}",
            row.cost_best[at], row.cost_elite_mean[at], row.cost_elite_std[at]
        ))?;
    }
    Ok(())
}

fn numbers(state: &[f64]) -> String {
    let parts: Vec<String> = state.iter().map(|value| format!("{value:.2}")).collect();
    format!("({})", parts.join(", "))
}
