//! `jepa-bench collect`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use jepa_datasets::{Codec, SplitRule};
use serde::Serialize;

use super::Context;
use crate::collect::{Recording, collect};

/// Record a dataset straight from a simulator.
///
/// The same command continues an interrupted recording. The defaults are the sizes of the released
/// Wall data.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  jepa-bench collect wall data/wall --episodes 1920 --steps 50 --seed 0\n  jepa-bench collect pusht data/pusht --policy push --episodes 2000 --steps 100 --size 64"
)]
pub struct Args {
    /// Environment; `jepa-bench list environments` shows them.
    env: String,
    /// Dataset folder to write.
    out: PathBuf,
    /// Number of episodes.
    #[arg(long, default_value_t = 1920, value_name = "N")]
    episodes: u64,
    /// Actions per episode.
    #[arg(long, default_value_t = 50, value_name = "T")]
    steps: usize,
    /// Seed of the whole dataset.
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    /// Policy that chooses the actions.
    #[arg(long, default_value = "random")]
    policy: String,
    /// Rows and columns of the frames: `native`, the simulator's own size, or a number. 224 is what released planners see,
    /// other sizes are made from that as they are for models of that size when they plan.
    #[arg(long, default_value = "native", value_name = "native|N", value_parser = size)]
    size: FrameSize,
    /// How frames are stored: `lossless`, `raw`, or `jpeg:Q` with a quality of 1 to 100 (4:2:0), which is not exact: the
    /// dataset then says what was lost.
    #[arg(long, default_value = "lossless")]
    codec: Codec,
    /// Which episodes are for training [default: released; jepa-wms for pusht, whose release has two folders].
    #[arg(long, value_name = "RULE")]
    split_rule: Option<SplitRule>,
    /// Replace what is at OUT.
    #[arg(long)]
    overwrite: bool,
    /// Say what would be recorded, with its size, and stop.
    #[arg(long)]
    dry_run: bool,
}

/// Rows and columns; `None` for the simulator's own.
#[derive(Debug, Clone, Copy)]
struct FrameSize(Option<usize>);

fn size(text: &str) -> Result<FrameSize, String> {
    match text {
        "native" => Ok(FrameSize(None)),
        number => match number.parse() {
            Ok(side) => Ok(FrameSize(Some(side))),
            Err(_) => Err("write `native` or a number of pixels".into()),
        },
    }
}

/// The document of `--json`.
#[derive(Serialize)]
struct Report {
    path: PathBuf,
    episodes: u64,
    rows: u64,
    frames: u64,
    content_hash: Option<String>,
    seconds: f64,
    frame_bytes: u64,
}

impl Args {
    fn recording(&self) -> Recording {
        Recording {
            env: self.env.clone(),
            policy: self.policy.clone(),
            episodes: self.episodes,
            steps: self.steps,
            seed: self.seed,
            size: self.size.0,
            codec: self.codec,
            split: self
                .split_rule
                .clone()
                .unwrap_or_else(|| Recording::default_split(&self.env)),
            overwrite: self.overwrite,
        }
    }
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let recording = args.recording();
    recording.check()?;
    let mut report = Report {
        path: args.out.clone(),
        episodes: args.episodes,
        rows: args.episodes * args.steps as u64,
        frames: args.episodes * (args.steps as u64 + 1),
        content_hash: None,
        seconds: 0.0,
        frame_bytes: recording.frame_bytes()?,
    };
    if !args.dry_run {
        let began = Instant::now();
        let bar = ctx.progress(args.episodes, "episodes");
        let progress = |done: u64, _| bar.set_position(bar.position().max(done));
        let dataset = collect(&recording, &args.out, &progress, &|| ctx.interrupted())?;
        bar.finish_and_clear();
        report.content_hash = Some(dataset.content_hash().to_string());
        report.seconds = began.elapsed().as_secs_f64();
    }
    print(&report, ctx)?;
    Ok(ExitCode::SUCCESS)
}

fn print(report: &Report, ctx: &Context) -> anyhow::Result<()> {
    if ctx.json {
        return ctx.print_json(report);
    }
    let Report {
        path,
        episodes,
        rows,
        frames,
        content_hash,
        seconds,
        frame_bytes,
    } = report;
    let megabytes = *frame_bytes as f64 / 1e6;
    let counts = format!("{episodes} episodes, {rows} rows, {frames} frames");
    match content_hash {
        None => ctx.print(&format!(
            "would record {counts} to {}: {megabytes:.0} MB of frames before compression",
            path.display()
        )),
        Some(hash) => {
            let rate = *episodes as f64 / seconds.max(1e-9);
            ctx.print(&format!("{}: {counts}", path.display()))?;
            ctx.print(&format!(
                "content hash {hash}; {seconds:.1} s, {rate:.0} episodes/s"
            ))
        }
    }
}
