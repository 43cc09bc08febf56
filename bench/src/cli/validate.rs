//! `jepa-bench validate`.

use std::path::PathBuf;
use std::process::ExitCode;

use jepa_datasets::conformance::{Problem, validate};
use serde::Serialize;

use super::Context;

/// Check every hash, count and range of a dataset.
///
/// Every file is hashed, every row and frame is read, statistics and splits are computed again. What JPEG lost cannot
/// be: its numbers have to be possible for the frames that there are. All problems are listed; the exit code is 1 if
/// there is any.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  jepa-bench validate data/wall && echo sound")]
pub struct Args {
    /// Dataset folder.
    dataset: PathBuf,
}

#[derive(Serialize)]
struct Document<'a> {
    dataset: &'a std::path::Path,
    valid: bool,
    problems: Vec<Problem>,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let bar = ctx.progress(0, "validate");
    bar.set_style(indicatif::ProgressStyle::default_spinner());
    let problems = validate(&args.dataset, &|| bar.inc(1))?;
    bar.finish_and_clear();
    let document = Document {
        dataset: &args.dataset,
        valid: problems.is_empty(),
        problems,
    };
    if ctx.json {
        ctx.print_json(&document)?;
    } else {
        print(ctx, &document)?;
    }
    Ok(if document.valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(ctx: &Context, document: &Document<'_>) -> anyhow::Result<()> {
    for Problem {
        file,
        episode,
        code,
        detail,
    } in &document.problems
    {
        let episode = episode
            .map(|episode| format!(", episode {episode}"))
            .unwrap_or_default();
        ctx.print(&format!("{code}: `{file}`{episode}: {detail}"))?;
    }
    match document.problems.len() {
        0 => ctx.print(&format!("{}: sound", document.dataset.display())),
        n => ctx.print(&format!("{}: {n} problems", document.dataset.display())),
    }
}
