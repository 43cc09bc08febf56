//! `jepa-bench export`.

use std::path::PathBuf;
use std::process::ExitCode;

use jepa_datasets::Dataset;
use jepa_datasets::export::{self, Format, Progress};

use super::Context;

/// Write a dataset in the layout of another library.
///
/// `lerobot` is a folder of `LeRobotDataset` v3.0 with PNG frames, `swm` one HDF5 file of `stable-worldmodel`,
/// `zarr` a Zarr v2 replay buffer of `diffusion_policy`. All are lossless but for what is printed; the
/// provenance is in `meta/jepa_bench.json` (in the HDF5 file: attribute `jepa_bench`).
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  jepa-bench export lerobot data/wall wall-lerobot
  jepa-bench export swm data/wall ~/.stable_worldmodel/datasets/wall.h5
  jepa-bench export zarr data/wall wall.zarr --overwrite")]
pub struct Args {
    /// Layout: `lerobot`, `swm` or `zarr`.
    format: Format,
    /// Dataset folder.
    dataset: PathBuf,
    /// Folder or file to write.
    out: PathBuf,
    /// Replace an earlier export at OUT.
    #[arg(long)]
    overwrite: bool,
    /// Say what would be written and stop.
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let dataset = Dataset::open(&args.dataset)?;
    if args.dry_run {
        return dry_run(args, ctx, &dataset);
    }
    let bar = ctx.progress(dataset.episodes().len() as u64, "export");
    let progress = Progress {
        tick: &|| bar.inc(1),
        stopped: &|| ctx.interrupted(),
    };
    let outcome = export::export(&dataset, args.format, &args.out, args.overwrite, &progress);
    bar.finish_and_clear();
    let summary = outcome?;
    for change in &summary.changes {
        ctx.say(&format!("note: {change}"));
    }
    if ctx.json {
        ctx.print_json(&summary)?;
    } else {
        ctx.print(&format!(
            "{}: {} episodes, {} rows, {} frames, {:.1} MB",
            summary.out.display(),
            summary.episodes,
            summary.rows,
            summary.frames,
            summary.bytes as f64 / 1e6
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn dry_run(args: &Args, ctx: &Context, dataset: &Dataset) -> anyhow::Result<ExitCode> {
    let plan = export::plan(dataset, args.format)?;
    if ctx.json {
        ctx.print_json(&plan)?;
        return Ok(ExitCode::SUCCESS);
    }
    let counts = dataset.manifest().counts;
    ctx.print(&format!(
        "would write  {}: {} episodes, {} rows",
        args.out.display(),
        counts.episodes,
        counts.rows
    ))?;
    for (from, to) in &plan.columns {
        ctx.print(&format!("would store  `{from}` as `{to}`"))?;
    }
    for change in &plan.changes {
        ctx.print(&format!("would change {change}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
