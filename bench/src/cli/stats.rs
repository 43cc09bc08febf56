//! `jepa-bench stats`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use jepa_datasets::{Dataset, QUANTILES, Statistics};
use serde::Serialize;

use super::Context;

/// Statistics of every field of a dataset, per dimension.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  jepa-bench stats data/wall --split train")]
pub struct Args {
    /// Dataset folder.
    dataset: PathBuf,
    /// Which episodes: `train`, or `all`.
    #[arg(long, default_value = "all", value_name = "SPLIT")]
    split: String,
}

#[derive(Serialize)]
struct Document<'a> {
    split: &'a str,
    fields: BTreeMap<&'a str, &'a Statistics>,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let dataset = Dataset::open(&args.dataset)?;
    let stats = dataset.stats();
    let fields: Result<_, _> = stats
        .fields
        .keys()
        .map(|name| {
            stats
                .get(name, &args.split)
                .map(|found| (name.as_str(), found))
        })
        .collect();
    let document = Document {
        split: &args.split,
        fields: fields?,
    };
    if ctx.json {
        ctx.print_json(&document)?;
    } else {
        print(ctx, &document)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(ctx: &Context, document: &Document<'_>) -> anyhow::Result<()> {
    let names = ["mean", "std (n-1)", "std (n)", "min"];
    let quantiles = QUANTILES.iter().map(|(name, _)| *name);
    let header: Vec<String> = names
        .into_iter()
        .chain(quantiles)
        .chain(["max"])
        .map(|n| format!("{n:>12}"))
        .collect();
    ctx.print(&format!("{:<24}{:>9}{}", "field", "rows", header.concat()))?;
    for (name, statistics) in &document.fields {
        for d in 0..statistics.mean.len() {
            ctx.print(&row(name, statistics, d))?;
        }
    }
    Ok(())
}

/// One dimension of one field.
fn row(name: &str, statistics: &Statistics, d: usize) -> String {
    let unbiased = statistics.std.as_ref().map_or(f64::NAN, |std| std[d]);
    let quantiles = QUANTILES.iter().map(|(q, _)| {
        statistics
            .quantiles
            .get(*q)
            .map_or(f64::NAN, |values| values[d])
    });
    let numbers = [
        statistics.mean[d],
        unbiased,
        statistics.std_population[d],
        statistics.min[d],
    ]
    .into_iter()
    .chain(quantiles)
    .chain([statistics.max[d]])
    .map(|value| format!("{value:>12.5}"))
    .collect::<Vec<String>>()
    .concat();
    let constant = if statistics.constant[d] {
        "  constant"
    } else {
        ""
    };
    format!(
        "{:<24}{:>9}{numbers}{constant}",
        format!("{name}[{d}]"),
        statistics.count
    )
}
