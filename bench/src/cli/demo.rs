//! `jepa-bench demo`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jepa_leaderboard::{Board, Run};
use jepa_models::train::{TrainConfig, TrainRequest};
use jepa_reports::{Format, Input, TrainingRun};

use super::watcher::Watcher;
use super::{Context, leaderboard, report, train};
use crate::agent::Policy;
use crate::collect::{Recording, collect};
use crate::protocol::{Choices, changes, resolve};
use crate::runner::{Continue, Destination, Evaluation, evaluate, finished_run};

/// What is evaluated beside the trained model: the floors and the ceiling.
const REFERENCES: [&str; 3] = ["floor:random", "floor:noop", "oracle"];

/// Films of a run whose actions were planned; floors have none.
const FILMS: usize = 6;

/// The whole loop on Wall: collect, train, evaluate, leaderboard, report.
///
/// Everything is written below one folder. The same command goes on where it was stopped, reuses what is
/// finished, and ends with the same numbers.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  jepa-bench demo --out runs/demo")]
pub struct Args {
    /// Folder for the dataset, the model, the runs, the board and the report.
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    pub out: PathBuf,
    /// Training recipe.
    #[arg(long, value_name = "NAME", default_value = "wall")]
    pub recipe: String,
    /// Training seed.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Episodes to record.
    #[arg(long, value_name = "N", default_value_t = 1920)]
    pub collect: u64,
    /// Episodes to evaluate; 96 in the task.
    #[arg(long, value_name = "N")]
    pub episodes: Option<u32>,
    /// One key of the training configuration, e.g. `training.steps=200`; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

/// The folders of a demo.
struct Folders {
    data: PathBuf,
    model: PathBuf,
    runs: PathBuf,
    board: PathBuf,
    report: PathBuf,
}

impl Folders {
    fn below(out: &Path, recipe: &str, seed: u64) -> Self {
        Self {
            data: out.join("data").join("wall"),
            model: out.join("train").join(format!("{recipe}-seed{seed}")),
            runs: out.join("runs"),
            board: out.join("leaderboard.sqlite"),
            report: out.join("report"),
        }
    }
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    crate::memory::keep_freed();
    let config = training(args)?;
    let folders = Folders::below(&args.out, &args.recipe, args.seed);
    collect_data(args, &folders, ctx)?;
    train_model(&config, &folders, ctx)?;
    let runs = evaluate_all(args, &folders, ctx)?;
    let board = fill_board(&folders, &runs, ctx)?;
    let files = write_report(&folders, &runs, &board, ctx)?;
    finish(&board, &files, ctx)?;
    Ok(ExitCode::SUCCESS)
}

fn training(args: &Args) -> anyhow::Result<TrainConfig> {
    let recipe = train::recipe_table(&args.recipe)?;
    let mut config = train::configuration(None, Some(recipe), changes(None, &args.settings)?)?;
    config.training.seed = args.seed;
    Ok(config)
}

fn collect_data(args: &Args, folders: &Folders, ctx: &Context) -> anyhow::Result<()> {
    ctx.say(&format!(
        "[1/5] record {} episodes into {}",
        args.collect,
        folders.data.display()
    ));
    let recording = Recording {
        episodes: args.collect,
        ..Recording::new("wall")
    };
    let bar = ctx.progress(args.collect, "record");
    let progress = |done: u64, _total: u64| bar.set_position(done);
    let dataset = collect(&recording, &folders.data, &progress, &|| ctx.interrupted());
    bar.finish_and_clear();
    let dataset = dataset?;
    ctx.say(&format!("      content hash {}", dataset.content_hash()));
    Ok(())
}

fn train_model(config: &TrainConfig, folders: &Folders, ctx: &Context) -> anyhow::Result<()> {
    ctx.say(&format!(
        "[2/5] train {} for {} steps into {}",
        config.model,
        config.training.steps,
        folders.model.display()
    ));
    let request = TrainRequest {
        config,
        data: &folders.data,
        out: &folders.model,
        encoders: None,
        compute: jepa_models::Compute::Cpu,
    };
    let finished = train::train(&request, ctx)?;
    ctx.say(&format!(
        "      {:.0} s of training, {:.1}% of it waiting for data; weights {}",
        finished.seconds,
        100.0 * finished.wait_share,
        &finished.weights_hash
    ));
    Ok(())
}

/// Evaluates the model, the floors and the ceiling on the same episodes.
fn evaluate_all(args: &Args, folders: &Folders, ctx: &Context) -> anyhow::Result<Vec<Run>> {
    ctx.say("[3/5] evaluate on task wall@1: the model, two floors, and the oracle");
    let model = folders.model.display().to_string();
    let models = std::iter::once(model.as_str()).chain(REFERENCES);
    models
        .map(|model| evaluate_one(model, args, folders, ctx))
        .collect()
}

fn evaluate_one(model: &str, args: &Args, folders: &Folders, ctx: &Context) -> anyhow::Result<Run> {
    let choices = Choices {
        model: Some(model),
        task: Some("wall"),
        episodes: args.episodes,
        ..Choices::default()
    };
    let resolved = resolve(&choices)?;
    let policy = Policy::find(&resolved.config.model, jepa_models::Compute::Cpu)?;
    let mut evaluation = Evaluation::new(resolved, policy)?;
    evaluation.films = if evaluation.policy().plans() {
        FILMS
    } else {
        0
    };
    evaluation.command = std::env::args().collect();
    let dir = if let Some(dir) = finished_run(&evaluation, &folders.runs)? {
        dir
    } else {
        let destination = Destination {
            runs: folders.runs.clone(),
            unfinished: Continue::IfThere,
        };
        let watcher = Watcher::new(ctx, evaluation.policy().name());
        evaluate(&evaluation, &destination, &watcher)?.dir
    };
    let run = Run::load(&dir)?;
    let summary = &run.record.summary;
    ctx.say(&format!(
        "      {:<14} {:>3} of {}",
        evaluation.policy().name(),
        summary.successes,
        summary.episodes
    ));
    Ok(run)
}

fn fill_board(folders: &Folders, runs: &[Run], ctx: &Context) -> anyhow::Result<Board> {
    ctx.say(&format!("[4/5] leaderboard {}", folders.board.display()));
    let mut board = Board::open(&folders.board)?;
    for run in runs {
        board.add(run)?;
    }
    ctx.say(&format!("      head {}", board.head()?));
    Ok(board)
}

fn write_report(
    folders: &Folders,
    runs: &[Run],
    board: &Board,
    ctx: &Context,
) -> anyhow::Result<Vec<PathBuf>> {
    ctx.say(&format!("[5/5] report {}", folders.report.display()));
    let mut input = Input::new(runs.to_vec());
    input.training = vec![TrainingRun::load(&folders.model)?];
    input.datasets = vec![report::card(&folders.data)?];
    input.board_head = Some(board.head()?);
    let formats = [
        Format::Pdf,
        Format::Html,
        Format::Markdown,
        Format::Latex,
        Format::Json,
    ];
    report::write(&input, &folders.report, &formats)
}

/// The table on stdout, and where the report is.
fn finish(board: &Board, files: &[PathBuf], ctx: &Context) -> anyhow::Result<()> {
    leaderboard::show(board, None, false, ctx)?;
    if !ctx.json {
        ctx.print("")?;
        for file in files.iter().filter(|f| is_document(f)) {
            ctx.print(&format!("report: {}", file.display()))?;
        }
    }
    Ok(())
}

fn is_document(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "pdf" || e == "html")
}
