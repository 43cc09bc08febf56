//! `jepa-bench report`.

mod board;
mod card;
mod paper;
mod search;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use jepa_leaderboard::{Board, Run};
use jepa_models::train::{holds, run_of};
use jepa_reports::{Format, Input, TrainingRun, write_paper, write_report};
use serde_json::json;

use super::Context;
use super::compare::load;
use search::{Found, search};

pub(crate) use card::card;

/// Write tables, figures, a PDF and an HTML page.
///
/// Every number is recomputed from the episodes of the runs. The same runs give the same bytes.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  jepa-bench report runs/wall@1/*/* --data datasets/wall --out report\n  jepa-bench report sweep runs --out report\n  jepa-bench report --paper runs sweep --out paper\n  jepa-bench report --db board.db --out report"
)]
pub struct Args {
    /// Run folders written by `jepa-bench eval`, of one task or of several; any other folder is searched for them, and for
    /// the training runs behind them.
    #[arg(value_name = "RUN|FOLDER", required_unless_present = "db")]
    runs: Vec<PathBuf>,
    /// Folder to write to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Instead, fill the paper's Table 1, Table S5.1 and Figures 3 to 6 with the runs.
    #[arg(long, requires = "runs")]
    paper: bool,
    /// What to write: pdf, html, md, latex, json.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "pdf,html,md,latex,json"
    )]
    format: Vec<Format>,
    /// Training run to draw the curves of (repeatable); by default those of the runs that are found in the folders given, or
    /// where the records say.
    #[arg(long, value_name = "DIR")]
    training: Vec<PathBuf>,
    /// Dataset to describe (repeatable).
    #[arg(long, value_name = "DST")]
    data: Vec<PathBuf>,
    /// Leaderboard whose head to print; without runs, the report is of all that it holds.
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let formats = once(&args.format);
    let found = search(&args.runs)?;
    let files = match &args.db {
        Some(db) if args.runs.is_empty() => board::write(db, &args.out, &formats)?,
        _ if args.paper => {
            let input = paper::input(load(&found.runs)?, &known(args, &found))?;
            write_paper(&input, &args.out, &formats)?
        }
        _ => write(&input(args, &found, ctx)?, &args.out, &formats)?,
    };
    if ctx.json {
        ctx.print_json(&json!({ "files": files }))?;
    } else {
        for file in &files {
            ctx.print(&file.display().to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a report of runs is made from.
fn input(args: &Args, found: &Found, ctx: &Context) -> anyhow::Result<Input> {
    let mut input = Input::new(load(&found.runs)?);
    input.training = training_runs(args, &input.runs, &found.trainings, ctx)?;
    let trainings: Vec<PathBuf> = input.training.iter().map(|run| run.dir.clone()).collect();
    input.proxies = super::proxy::of_runs(&input.runs, &trainings);
    input.datasets = args
        .data
        .iter()
        .map(|path| card(path))
        .collect::<anyhow::Result<_>>()?;
    if let Some(db) = &args.db {
        input.board_head = Some(Board::open_existing(db)?.head()?);
    }
    Ok(input)
}

/// Training runs that may be behind the runs: those asked for, then those found.
fn known(args: &Args, found: &Found) -> Vec<PathBuf> {
    args.training
        .iter()
        .chain(&found.trainings)
        .cloned()
        .collect()
}

/// Writes a report, each format once.
pub(crate) fn write(input: &Input, out: &Path, formats: &[Format]) -> anyhow::Result<Vec<PathBuf>> {
    Ok(write_report(input, out, &once(formats))?)
}

/// Formats in their order, each once.
fn once(formats: &[Format]) -> Vec<Format> {
    let mut formats = formats.to_vec();
    formats.sort_unstable();
    formats.dedup();
    formats
}

/// The training runs asked for; without any, those of the runs that were found or that the records name.
fn training_runs(
    args: &Args,
    runs: &[Run],
    found: &[PathBuf],
    ctx: &Context,
) -> anyhow::Result<Vec<TrainingRun>> {
    let mut folders = args.training.clone();
    if folders.is_empty() {
        for run in runs
            .iter()
            .filter(|run| run.record.model.training.is_some())
        {
            match training_of(run, found) {
                Some(folder) if folders.contains(&folder) => {}
                Some(folder) => folders.push(folder),
                None => ctx.say(&format!(
                    "note: the training run of `{}` is not here; pass its folder with `--training`",
                    run.record.model.label
                )),
            }
        }
    }
    let read = |folder: &PathBuf| {
        TrainingRun::load(folder)
            .with_context(|| format!("cannot use training run `{}`", folder.display()))
    };
    folders.iter().map(read).collect()
}

/// The folder of the training run behind a run: the one of `found` that has its weights, or else where its record says,
/// unless other weights are there now.
fn training_of(run: &Run, found: &[PathBuf]) -> Option<PathBuf> {
    let training = run.record.model.training.as_ref()?;
    let hash = run.record.model.weights_hash.as_deref()?;
    let has = |folder: &Path| holds(folder, training.steps, hash);
    let moved = found
        .iter()
        .map(|folder| run_of(folder))
        .find(|folder| has(folder) == Some(true));
    let recorded = run_of(Path::new(&training.run));
    let is_there = recorded.join(METRICS).is_file() && has(recorded) != Some(false);
    moved
        .or_else(|| is_there.then_some(recorded))
        .map(Path::to_path_buf)
}

/// Name of the metrics in a training run.
const METRICS: &str = "metrics.jsonl";
