//! `jepa-bench verify`.

mod rerun;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jepa_leaderboard::{Bundle, Limits, Verified, verify};
use serde_json::json;

use super::Context;
use super::submit::{exit_code, print_verdict};
use crate::referee::Simulators;

/// Check a bundle: signature, numbers, and every episode played again.
///
/// Nothing in a bundle is trusted or executed. With `--weights` a maintainer runs the weights on the same episodes (V3), with
/// `--fresh` on episodes that the board draws after the weights were fixed (V4). Exit code 1 means that it does not hold.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  jepa-bench verify pldm.jbs\n  jepa-bench verify pldm.jbs --weights runs/pldm --db board.sqlite --by maintainer\n  jepa-bench verify pldm.jbs --weights runs/pldm --fresh --db board.sqlite --by maintainer"
)]
pub struct Args {
    /// Bundle made by `jepa-bench submit`.
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Dataset that goals of the task come from (repeatable).
    #[arg(long, value_name = "DST")]
    data: Vec<PathBuf>,
    /// Training run with the weights: evaluate them again, as the bundle says it did.
    #[arg(long, value_name = "RUN")]
    weights: Option<PathBuf>,
    /// Evaluate on fresh episodes instead, whose seeds the board draws.
    #[arg(long, requires = "weights", requires = "db")]
    fresh: bool,
    /// Board to note the outcome of `--weights` on.
    #[arg(long, value_name = "FILE", requires = "weights")]
    db: Option<PathBuf>,
    /// Who ran the weights, for the board.
    #[arg(long, value_name = "NAME", requires = "db")]
    by: Option<String>,
    /// Folder of the run that `--weights` makes; `verify` in the folder of runs by default.
    #[arg(long, value_name = "RUNS", requires = "weights")]
    out: Option<PathBuf>,
    /// Device that runs the weights.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: String,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let bundle = open(&args.bundle)?;
    let verified = verify(&bundle, &Simulators::new(&args.data)?)?;
    if args.weights.is_none() {
        report(&bundle, &verified, ctx)?;
        return Ok(exit_code(&verified.verdict));
    }
    rerun::run(args, &bundle, &verified, ctx)
}

/// Reads the file of a bundle.
pub(super) fn open(path: &Path) -> anyhow::Result<Bundle> {
    let file = File::open(path).map_err(|source| crate::Error::Io {
        action: "read",
        path: path.to_path_buf(),
        source,
    })?;
    Bundle::read(file, &Limits::default()).map_err(|error| {
        anyhow::Error::new(error).context(format!("cannot verify `{}`", path.display()))
    })
}

fn report(bundle: &Bundle, verified: &Verified, ctx: &Context) -> anyhow::Result<()> {
    let submission = &bundle.submission;
    if ctx.json {
        return ctx.print_json(&json!({
            "id": bundle.id,
            "submitter": submission.submitter,
            "key": submission.key,
            "task": submission.task,
            "model": submission.model.label,
            "level": verified.verdict.level,
            "checks": verified.verdict.checks,
            "above_random": verified.verdict.above_random,
            "summary": verified.run.as_ref().map(|run| &run.record.summary),
        }));
    }
    ctx.print(&format!(
        "submission {} by `{}`: {} on {}",
        bundle.id,
        submission.submitter,
        submission.model.label,
        submission.task.id()
    ))?;
    print_verdict(&verified.verdict, ctx)
}
