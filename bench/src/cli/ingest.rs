//! `jepa-bench ingest`.

use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use jepa_datasets::{
    Camera, Codec, DatasetWriter, Error as DataError, Shard, SplitRule, WriterOptions,
};
use jepa_ingest::source::window::FpsMode;
use jepa_ingest::{Broken, Estimate, OnBroken, Progress, Source, SourceOptions, Summary, source};
use serde::Serialize;

use super::Context;
use super::meter::{Meter, duration};

const EXAMPLES: &str = "Examples:
  jepa-bench ingest wall raw/wall_single data/wall
  jepa-bench ingest droid lists/droid_paths.csv data/droid --camera left --size 256x456
  jepa-bench ingest metaworld raw/Metaworld data/reach --task mw-reach --dry-run";

/// What every page about ingestion ends with.
const SAFETY: &str = "\
Nothing of a release is executed: pickles are read by a machine that knows data only. Git LFS pointers,
web pages saved under the name of a file, cut-short and damaged files are named for what they are.";

/// The sources, for the long help.
fn sources_help() -> String {
    let line = |entry: &source::SourceEntry| format!("  {:<10} {}", entry.name, entry.summary);
    let lines: Vec<String> = source::SOURCES.iter().map(line).collect();
    format!(
        "Sources; `jepa-bench ingest SOURCE --help` says what each takes and keeps:\n{}\n\n{SAFETY}\n\n{EXAMPLES}",
        lines.join("\n")
    )
}

/// The command with the help of one source, where the arguments name it: its own words, and no options of
/// others.
pub(super) fn about_source(command: clap::Command, arguments: &[OsString]) -> clap::Command {
    let words = arguments
        .iter()
        .skip_while(|word| *word != "ingest")
        .skip(1);
    let mut named = words.filter_map(|word| {
        let named = |entry: &&source::SourceEntry| *word == entry.name;
        source::SOURCES.iter().find(named)
    });
    let Some(entry) = named.next() else {
        return command;
    };
    let is_meaningless = |name: &&&str| !entry.options.contains(*name);
    let hidden: Vec<String> = source::SPECIAL_OPTIONS
        .iter()
        .filter(is_meaningless)
        .map(|name| name.replace('-', "_"))
        .collect();
    command.mut_subcommand("ingest", |ingest| {
        let ingest = hidden.into_iter().fold(ingest, |ingest, name| {
            ingest.mut_arg(name, |arg| arg.hide(true))
        });
        ingest
            .about(entry.summary)
            .long_about(format!(
                "{}\n\n{}",
                capitalized(entry.summary),
                entry.details
            ))
            .after_help(format!("More: jepa-bench ingest {} --help", entry.name))
            .after_long_help(SAFETY)
    })
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

/// Turn a raw release into a dataset of trajectory slices.
///
/// The same command continues an interrupted ingestion. An episode that cannot be used is listed, is in the
/// ledger with a reason code, and does not stop the others.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = sources_help())]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Args {
    /// Format of the release; `jepa-bench list sources` says what each one reads.
    source: String,
    /// Folder of the release.
    src: PathBuf,
    /// Dataset folder to write.
    dst: PathBuf,
    /// Camera to keep; may be given several times. Unless given, those that the source keeps by itself.
    #[arg(long, value_name = "NAME")]
    camera: Vec<String>,
    /// Size of the stored frames: `native`, or `HxW` by bilinear interpolation without antialias.
    #[arg(long, default_value = "native", value_name = "native|HxW")]
    size: FrameSize,
    /// How frames are stored: `lossless`, `raw`, or `jpeg:Q` with a quality of 1 to 100 (4:2:0), which is not exact: the
    /// dataset then says what was lost.
    #[arg(long, default_value = "lossless", value_name = "CODEC")]
    codec: Codec,
    /// Which episodes are for training: `released`, `dino-wm`, `jepa-wms[:FRACTION[:SEED]]`,
    /// `diffusion-policy[:RATIO:SEED]`, `random:SEED:FRACTION`, or `family:TOLERANCE[:FRACTION[:SEED]]`, which keeps
    /// together episodes whose first states differ by no more than that (Push-T: `family:1`).
    #[arg(long, default_value = "released", value_name = "RULE")]
    split_rule: SplitRule,
    /// Take only these source episodes, `A..B` without B; the split stays that of the whole release.
    #[arg(long, value_name = "A..B")]
    episodes: Option<Episodes>,
    /// Task to keep, where a release has several; may be given several times. All of them unless given.
    #[arg(long, value_name = "NAME")]
    task: Vec<String>,
    /// What the stride of a clip is counted in, where the header of a video and the control rate differ:
    /// `reference` believes the header, as the reference loaders do, `control_hz` the control rate.
    #[arg(long, value_enum, value_name = "MODE")]
    fps_mode: Option<RateFrom>,
    /// Refuse recordings without room for a clip of this many frames at 4 frames per second.
    #[arg(long, value_name = "N")]
    frames_per_clip: Option<usize>,
    /// Take Robocasa's quaternions in the wrong order, as the reference loader does.
    #[arg(long)]
    compat_quaternion: bool,
    /// Interpolate the poses of a sample archive from start to goal, as the reference evaluation does.
    #[arg(long)]
    compat_poses: bool,
    /// Keep the states of Robocasa's simulator, where all episodes have them of one width.
    #[arg(long)]
    simulator_states: bool,
    /// Read only part i of n of the episodes; `jepa-bench merge` joins the parts into the dataset that one
    /// command would have written, byte for byte.
    #[arg(long, value_name = "i/n")]
    shard: Option<Shard>,
    /// Exit with 1 when an episode could not be used.
    #[arg(long, conflicts_with = "skip_broken")]
    strict: bool,
    /// Record episodes that cannot be used as skipped: you know about them and go without.
    #[arg(long)]
    skip_broken: bool,
    /// Replace what is at DST.
    #[arg(long)]
    overwrite: bool,
    /// Try a few episodes, say what would be read and written, how large and in what time, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Choices of `--fps-mode`.
#[derive(clap::ValueEnum, Debug, Clone, Copy)]
enum RateFrom {
    Reference,
    #[value(name = "control_hz")]
    ControlHz,
}

impl From<RateFrom> for FpsMode {
    fn from(rate: RateFrom) -> Self {
        match rate {
            RateFrom::Reference => Self::Reference,
            RateFrom::ControlHz => Self::ControlHz,
        }
    }
}

/// `native` or `HxW`.
#[derive(Debug, Clone, Copy)]
struct FrameSize(Option<[usize; 2]>);

impl FromStr for FrameSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "native" {
            return Ok(Self(None));
        }
        let side = |text: &str| text.parse().ok().filter(|side| (1..=8192).contains(side));
        let parsed = text
            .split_once('x')
            .and_then(|(h, w)| Some([side(h)?, side(w)?]));
        parsed
            .map(|size| Self(Some(size)))
            .ok_or_else(|| "write `native` or HxW, for example `224x224`".into())
    }
}

/// `A..B`.
#[derive(Debug, Clone)]
struct Episodes(Range<u64>);

impl FromStr for Episodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = text
            .split_once("..")
            .and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
        range
            .filter(|r| !r.is_empty())
            .map(Self)
            .ok_or_else(|| "write A..B with A below B, for example `0..100`".into())
    }
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let options = SourceOptions {
        size: args.size.0,
        cameras: args.camera.clone(),
        tasks: args.task.clone(),
        fps_mode: args.fps_mode.map(FpsMode::from),
        frames_per_clip: args.frames_per_clip,
        compat_quaternion: args.compat_quaternion,
        compat_poses: args.compat_poses,
        simulator_states: args.simulator_states,
        episodes: args.episodes.as_ref().map(|episodes| episodes.0.clone()),
    };
    let source = source::open(&args.source, &args.src, options)?;
    check_cameras(args, source.as_ref())?;
    let writer = WriterOptions {
        manifest: source.manifest().clone(),
        codec: args.codec,
        overwrite: args.overwrite,
        total_episodes: source.total(),
        selection: args.episodes.as_ref().map(|episodes| episodes.0.clone()),
    };
    writer.check()?;
    if args.dry_run {
        return dry_run(args, ctx, source.as_ref(), &writer);
    }
    let rule = jepa_ingest::concrete(source.as_ref(), &args.split_rule)?;
    if let Some(shard) = args.shard {
        return ingest_shard(args, ctx, source.as_ref(), writer, (&rule, shard));
    }
    if let Some(dataset) = DatasetWriter::finished_before(&args.dst, &writer, &rule)? {
        let asked = writer
            .selection
            .map_or(writer.total_episodes, |range| range.end - range.start);
        ctx.say(&format!("`{}` is complete already", args.dst.display()));
        return report(args, ctx, &jepa_ingest::summarize(&dataset, asked)?, 0.0);
    }
    let started = Instant::now();
    let (_, summary) = watched(args, ctx, source.as_ref(), |on_broken, progress| {
        let source = source.as_ref();
        jepa_ingest::run(source, &args.dst, writer, &rule, on_broken, progress)
    })?;
    report(args, ctx, &summary, started.elapsed().as_secs_f64())
}

fn ingest_shard(
    args: &Args,
    ctx: &Context,
    source: &dyn Source,
    writer: WriterOptions,
    part: (&SplitRule, Shard),
) -> anyhow::Result<ExitCode> {
    watched(args, ctx, source, |on_broken, progress| {
        jepa_ingest::run_shard(source, &args.dst, writer, part, on_broken, progress)
    })?;
    let (dst, shard) = (args.dst.display(), part.1);
    if ctx.json {
        ctx.print_json(&serde_json::json!({ "shard": shard, "folder": args.dst }))?;
    } else {
        ctx.print(&format!("{dst}: shard {shard} is finished"))?;
        ctx.print("join it with the others: jepa-bench merge OUT SHARD...")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs an ingestion under a progress bar.
fn watched<T>(
    args: &Args,
    ctx: &Context,
    source: &dyn Source,
    work: impl FnOnce(OnBroken, &Progress<'_>) -> jepa_ingest::Result<T>,
) -> anyhow::Result<T> {
    let missing = source.missing();
    if !missing.is_empty() {
        ctx.say(&format!(
            "warning: the files of {} episodes are missing: {}",
            missing.len(),
            listed(&missing)
        ));
    }
    let meter = Meter::new(ctx, source.total(), "ingest");
    let tick = |tick| meter.tick(tick);
    let on_broken = if args.skip_broken {
        OnBroken::Skip
    } else {
        OnBroken::Reject
    };
    let progress = Progress {
        tick: &tick,
        stop: ctx.interrupt_flag(),
    };
    let outcome = work(on_broken, &progress);
    Ok(outcome?)
}

fn check_cameras(args: &Args, source: &dyn Source) -> anyhow::Result<()> {
    let known: Vec<String> = source
        .manifest()
        .cameras
        .iter()
        .map(|camera| camera.name.clone())
        .collect();
    match args.camera.iter().find(|name| !known.contains(name)) {
        Some(name) => Err(DataError::UnknownName {
            kind: "camera",
            name: name.clone(),
            known,
        }
        .into()),
        None => Ok(()),
    }
}

/// The first few numbers of a list.
fn listed(numbers: &[u64]) -> String {
    let shown: Vec<String> = numbers.iter().take(20).map(u64::to_string).collect();
    let rest = numbers.len().saturating_sub(shown.len());
    if rest == 0 {
        shown.join(", ")
    } else {
        format!("{} and {rest} more", shown.join(", "))
    }
}

#[derive(Serialize)]
struct Plan<'a> {
    source: &'a str,
    episodes: u64,
    missing: Vec<u64>,
    bytes_to_read: u64,
    estimate: Estimate,
    threads: usize,
    frame_bytes_before_compression: u64,
    codec: Codec,
    split_rule: String,
    manifest: &'a jepa_datasets::ManifestDraft,
}

fn dry_run(
    args: &Args,
    ctx: &Context,
    source: &dyn Source,
    writer: &WriterOptions,
) -> anyhow::Result<ExitCode> {
    let rule = jepa_ingest::concrete(source, &args.split_rule)?;
    let selected = writer.selection.clone().unwrap_or(0..writer.total_episodes);
    let is_asked = |&index: &u64| args.shard.is_none_or(|shard| shard.holds(index));
    let asked: Vec<u64> = selected.filter(is_asked).collect();
    let plan = Plan {
        source: &args.source,
        episodes: asked.len() as u64,
        estimate: jepa_ingest::estimate(source, &asked, args.codec),
        threads: ctx.threads,
        missing: source.missing(),
        bytes_to_read: source.bytes(),
        frame_bytes_before_compression: writer
            .manifest
            .cameras
            .iter()
            .map(|c| c.frame_bytes() as u64)
            .sum(),
        codec: args.codec,
        split_rule: rule.to_string(),
        manifest: &writer.manifest,
    };
    if ctx.json {
        ctx.print_json(&plan)?;
        return Ok(ExitCode::SUCCESS);
    }
    ctx.print(&format!(
        "would read   {} episodes, {:.1} MB",
        plan.episodes,
        plan.bytes_to_read as f64 / 1e6
    ))?;
    for camera in &plan.manifest.cameras {
        let Camera {
            name,
            height,
            width,
            dtype,
            ..
        } = camera;
        ctx.print(&format!(
            "would store  camera `{name}`, {height}x{width} {dtype}, codec {}",
            plan.codec
        ))?;
    }
    print_estimate(ctx, &plan)?;
    ctx.print(&format!("would split  by {}", plan.split_rule))?;
    ctx.print(&format!("would write  {}", args.dst.display()))?;
    if !plan.missing.is_empty() {
        ctx.print(&format!("missing      {}", listed(&plan.missing)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print_estimate(ctx: &Context, plan: &Plan<'_>) -> anyhow::Result<()> {
    let Estimate {
        tried,
        broken,
        rows,
        frames,
        bytes,
        thread_seconds,
        ..
    } = &plan.estimate;
    let time = duration(thread_seconds / plan.threads as f64);
    let threads = match plan.threads {
        1 => "one thread".into(),
        n => format!("{n} threads"),
    };
    ctx.print(&format!(
        "would take   about {time} on {threads}, for {rows} rows and {frames} frames of about {:.1} MB",
        *bytes as f64 / 1e6
    ))?;
    ctx.print(&format!("measured on  {tried} of the episodes"))?;
    for broken in broken {
        ctx.print(&broken_line("cannot use", broken))?;
    }
    Ok(())
}

fn broken_line(outcome: &str, broken: &Broken) -> String {
    let Broken {
        episode,
        path,
        code,
        detail,
    } = broken;
    format!("{outcome}: episode {episode}, `{path}`: {code}: {detail}")
}

#[derive(Serialize)]
struct Report<'a> {
    dataset: &'a std::path::Path,
    #[serde(flatten)]
    summary: &'a Summary,
    seconds: f64,
}

fn report(args: &Args, ctx: &Context, summary: &Summary, seconds: f64) -> anyhow::Result<ExitCode> {
    if ctx.json {
        ctx.print_json(&Report {
            dataset: &args.dst,
            summary,
            seconds,
        })?;
    } else {
        let Summary {
            accepted,
            rows,
            resumed,
            ..
        } = summary;
        ctx.print(&format!(
            "{}: {accepted} episodes, {rows} rows ({resumed} done before)",
            args.dst.display()
        ))?;
        ctx.print(&format!("content hash {}", summary.content_hash))?;
        let outcome = if args.skip_broken {
            "skipped"
        } else {
            "rejected"
        };
        for broken in &summary.broken {
            ctx.print(&broken_line(outcome, broken))?;
        }
    }
    let failed = args.strict && !summary.broken.is_empty();
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ranges_are_read_as_written() {
        assert_eq!("native".parse::<FrameSize>().map(|s| s.0), Ok(None));
        assert_eq!(
            "96x128".parse::<FrameSize>().map(|s| s.0),
            Ok(Some([96, 128]))
        );
        assert_eq!("3..7".parse::<Episodes>().map(|e| e.0), Ok(3..7));
        for bad in ["96", "0x5", "axb", "99999x1"] {
            assert!(bad.parse::<FrameSize>().is_err(), "{bad}");
        }
        for bad in ["3", "7..3", "3..3", "a..b", "..3"] {
            assert!(bad.parse::<Episodes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(&[1, 2]), "1, 2");
        assert!(listed(&(0..30).collect::<Vec<_>>()).ends_with("19 and 10 more"));
    }
}
