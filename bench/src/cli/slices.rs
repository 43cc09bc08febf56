//! `jepa-bench slices`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use jepa_datasets::{Dataset, Dropped, Order, SliceRef, SliceSpec};
use serde::Serialize;

use super::Context;

/// Count trajectory slices: per split, per episode, and the episodes that have none.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  jepa-bench slices data/wall --context 3 --frameskip 5
  jepa-bench slices data/wall --context 3 --frameskip 5 --split train --list 10 --json")]
pub struct Args {
    /// Dataset folder.
    dataset: PathBuf,
    /// W: a slice has W + 1 frames.
    #[arg(long, value_name = "W")]
    context: usize,
    /// Steps from one frame to the next.
    #[arg(long, value_name = "F")]
    frameskip: usize,
    /// `train`, `val` or `all`; every one of them unless given.
    #[arg(long, value_name = "SPLIT")]
    split: Option<String>,
    /// How slices are numbered.
    #[arg(long, default_value = "released")]
    order: OrderArg,
    /// Also list the first N slices in that order, as episode and start.
    #[arg(long, default_value_t = 0, value_name = "N")]
    list: usize,
}

/// How slices are numbered.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderArg {
    /// The permuted order of the reference loaders, from the split's seed.
    Released,
    /// Episode by episode, start by start.
    Sequential,
}

impl From<OrderArg> for Order {
    fn from(order: OrderArg) -> Self {
        match order {
            OrderArg::Released => Self::Released,
            OrderArg::Sequential => Self::Sequential,
        }
    }
}

#[derive(Serialize)]
struct Document {
    context: usize,
    frameskip: usize,
    rows_per_slice: usize,
    splits: Vec<SplitCount>,
}

#[derive(Serialize)]
struct SplitCount {
    split: String,
    episodes: usize,
    slices: usize,
    dropped: Dropped,
    per_episode: Vec<EpisodeCount>,
    first: Vec<SliceRef>,
}

#[derive(Serialize)]
struct EpisodeCount {
    episode: u64,
    length: u64,
    slices: u64,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let dataset = Dataset::open(&args.dataset)?;
    let names: Vec<String> = match &args.split {
        Some(name) => vec![name.clone()],
        None => dataset
            .splits()
            .iter()
            .map(|split| split.name.clone())
            .collect(),
    };
    let splits: anyhow::Result<Vec<SplitCount>> = names
        .iter()
        .map(|name| count(args, &dataset, name))
        .collect();
    let document = Document {
        context: args.context,
        frameskip: args.frameskip,
        rows_per_slice: SliceSpec::new(args.context, args.frameskip, "all").rows(),
        splits: splits?,
    };
    if ctx.json {
        ctx.print_json(&document)?;
    } else {
        print(ctx, &document)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn count(args: &Args, dataset: &Dataset, split: &str) -> anyhow::Result<SplitCount> {
    // What is only counted needs no order.
    let order = if args.list > 0 {
        args.order.into()
    } else {
        Order::Sequential
    };
    let spec = SliceSpec {
        order,
        ..SliceSpec::new(args.context, args.frameskip, split)
    };
    let index = dataset.slices(&spec)?;
    let length = |episode: u64| dataset.episode(episode).map(|meta| meta.length);
    let per_episode: Result<Vec<EpisodeCount>, _> = index
        .per_episode()
        .map(|(episode, slices)| {
            Ok::<_, jepa_datasets::Error>(EpisodeCount {
                episode,
                length: length(episode)?,
                slices,
            })
        })
        .collect();
    Ok(SplitCount {
        split: split.into(),
        episodes: dataset.split(split)?.episodes.len(),
        slices: index.len(),
        dropped: index.dropped(),
        per_episode: per_episode?,
        first: (0..args.list.min(index.len()))
            .map(|k| index.get(k))
            .collect(),
    })
}

fn print(ctx: &Context, document: &Document) -> anyhow::Result<()> {
    ctx.print(&format!("a slice covers {} rows", document.rows_per_slice))?;
    for SplitCount {
        split,
        episodes,
        slices,
        dropped,
        per_episode,
        first,
    } in &document.splits
    {
        let Dropped {
            too_short,
            no_window,
        } = dropped;
        let most = per_episode.iter().map(|e| e.slices).max().unwrap_or(0);
        ctx.print(&format!(
            "{split:<6} {slices} slices in {episodes} episodes, at most {most} in one; {too_short} too short, {no_window} without a window"
        ))?;
        for (k, SliceRef { episode, start }) in first.iter().enumerate() {
            ctx.print(&format!("  {k:>6}  episode {episode}, row {start}"))?;
        }
    }
    Ok(())
}
