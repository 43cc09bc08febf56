//! `jepa-bench merge`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Context;
use crate::runner;

/// Join the shards of an evaluation.
///
/// The shards must be of the same evaluation and hold every episode once. The result is the run that an
/// unsharded evaluation would have written, with the same `episodes.parquet` byte for byte.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  jepa-bench merge runs runs/shard-0/wall/oracle/20260101T000000Z_ab12 runs/shard-1/wall/oracle/20260101T000000Z_cd34"
)]
pub struct Args {
    /// Folder of all runs; the joined run goes to `OUT/<task>/<model>/<utc>_<hash>`.
    pub out: PathBuf,
    /// Run folders of the shards, in any order.
    #[arg(required = true, value_name = "SHARD")]
    pub shards: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let finished = runner::merge(&args.out, &args.shards)?;
    if ctx.json {
        ctx.print_json(&finished.record)?;
    } else {
        let summary = &finished.record.summary;
        ctx.print(&format!(
            "{} of {} episodes succeeded; run in {}",
            summary.successes,
            summary.episodes,
            finished.dir.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
