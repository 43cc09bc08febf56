//! `jepa-bench merge`.

use std::path::PathBuf;
use std::process::ExitCode;

use jepa_datasets::{is_shard, merge_shards};

use super::Context;
use crate::runner;

/// Join the shards of an evaluation or of an ingestion.
///
/// The shards must be of the same command and hold every episode once. The result is the run, or the dataset,
/// that one command without `--shard` would have written, with the same episodes byte for byte.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  jepa-bench merge runs/merged runs/wall@1/oracle/*-shard-0-of-2 runs/wall@1/oracle/*-shard-1-of-2\n  jepa-bench merge data/wall data/wall.0 data/wall.1"
)]
pub struct Args {
    /// Run or dataset folder to write.
    pub out: PathBuf,
    /// Folders of the shards, in any order.
    #[arg(required = true, value_name = "SHARD")]
    pub shards: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    if args.shards.iter().all(|shard| is_shard(shard)) {
        return join_dataset(args, ctx);
    }
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

fn join_dataset(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let dataset = merge_shards(&args.out, &args.shards)?;
    let summary = jepa_ingest::summarize(&dataset, 0)?;
    if ctx.json {
        ctx.print_json(&summary)?;
    } else {
        let (out, accepted, rows) = (args.out.display(), summary.accepted, summary.rows);
        ctx.print(&format!("{out}: {accepted} episodes, {rows} rows"))?;
        ctx.print(&format!("content hash {}", summary.content_hash))?;
    }
    Ok(ExitCode::SUCCESS)
}
