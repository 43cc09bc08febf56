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
    after_help = "Example:\n  jepa-bench merge runs/merged runs/wall@1/oracle/*-shard-0-of-2 runs/wall@1/oracle/*-shard-1-of-2"
)]
pub struct Args {
    /// Run folder to write.
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
