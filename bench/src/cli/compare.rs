//! `jepa-bench compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use jepa_leaderboard::{
    Aggregate, Comparison, EpisodeTable, Run, Scored, compare_all, distinct_labels,
};
use jepa_reports::text_table;
use serde::Serialize;

use super::Context;

/// Compare runs on the same episodes.
///
/// Episodes are paired by seed. Every number is recomputed from the episodes of the runs; success
/// rates are compared with the exact McNemar test (p-values corrected after Holm for the number of
/// pairs), distances with a paired bootstrap.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  jepa-bench compare runs/wall@1/pldm/* runs/wall@1/floor-random/*\n  jepa-bench compare --average --last 10 runs/wall@1/pldm/*"
)]
pub struct Args {
    /// Run folders written by `jepa-bench eval`; at least two, of the same task.
    #[arg(value_name = "RUN", num_args = 2.., required = true)]
    runs: Vec<PathBuf>,
    /// Instead, average the models of the last epochs and of all training seeds of each recipe: by the paper's rule, and
    /// over seeds.
    #[arg(long)]
    average: bool,
    /// Epochs of each seed that count, the last ones; by default those of the paper for the task.
    #[arg(long, value_name = "N", requires = "average")]
    last: Option<usize>,
    /// Training run of evaluated models, where it is no longer in the folder that their records name (repeatable).
    #[arg(long, value_name = "DIR", requires = "average")]
    training: Vec<PathBuf>,
}

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Document {
    runs: Vec<Row>,
    comparisons: Vec<Comparison>,
}

/// One run of the comparison.
#[derive(Debug, Serialize)]
struct Row {
    label: String,
    path: PathBuf,
    #[serde(flatten)]
    aggregate: Aggregate,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let runs = load(&args.runs)?;
    if args.average {
        return super::average::run(&runs, args.last, &args.training, ctx);
    }
    let named: Vec<_> = runs
        .iter()
        .map(|run| (&run.record, run.folder_name()))
        .collect();
    let labels = distinct_labels(&named);
    let scored: Vec<Scored> = runs
        .iter()
        .zip(&labels)
        .map(|(run, label)| Scored::new(run, label.clone()))
        .collect();
    let comparisons = compare_all(&scored)?;
    let aggregates = EpisodeTable::new(&runs)?.aggregates()?;
    let rows = runs.into_iter().zip(labels).zip(aggregates);
    let rows = rows
        .map(|((run, label), aggregate)| Row {
            label,
            path: run.dir,
            aggregate,
        })
        .collect();
    let document = Document {
        runs: rows,
        comparisons,
    };
    if ctx.json {
        ctx.print_json(&document)?;
    } else {
        print(&document, ctx)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads and checks run folders, in the order given.
pub(crate) fn load(folders: &[PathBuf]) -> anyhow::Result<Vec<Run>> {
    folders
        .iter()
        .map(|folder| {
            Run::load(folder).with_context(|| format!("cannot use run `{}`", folder.display()))
        })
        .collect()
}

fn print(document: &Document, ctx: &Context) -> anyhow::Result<()> {
    if let Some(comparison) = document.comparisons.first() {
        ctx.print(&format!("task {}\n", comparison.task.id()))?;
    }
    let headings = [
        "run",
        "#n",
        "#success",
        "95% interval",
        "#distance",
        "#median s/plan",
    ];
    ctx.print(&text_table(
        &headings,
        &document.runs.iter().map(run_cells).collect::<Vec<_>>(),
    ))?;
    ctx.print("\npaired differences, first minus second")?;
    let headings = [
        "first",
        "second",
        "#shared",
        "#only 1st",
        "#only 2nd",
        "#success",
        "95% interval",
        "#p",
        "#p Holm",
        "#distance",
        "95% interval",
    ];
    ctx.print(&text_table(
        &headings,
        &document
            .comparisons
            .iter()
            .map(pair_cells)
            .collect::<Vec<_>>(),
    ))?;
    let ignored: u64 = document
        .comparisons
        .iter()
        .map(|c| c.only_in_first + c.only_in_second)
        .sum();
    if ignored > 0 {
        ctx.say("note: episodes that only one run of a pair holds were left out of that pair");
    }
    Ok(())
}

fn run_cells(row: &Row) -> Vec<String> {
    let aggregate = &row.aggregate;
    let (low, high) = (aggregate.interval.low, aggregate.interval.high);
    vec![
        row.label.clone(),
        aggregate.episodes.to_string(),
        percent(aggregate.success_rate),
        format!("[{}, {}]", percent(low), percent(high)),
        format!("{:.2}", aggregate.final_distance.mean),
        aggregate
            .plan_seconds
            .map_or_else(|| "-".into(), |seconds| format!("{:.3}", seconds.median)),
    ]
}

fn pair_cells(pair: &Comparison) -> Vec<String> {
    let (success, distance) = (pair.success, pair.final_distance);
    vec![
        pair.first.clone(),
        pair.second.clone(),
        pair.shared.to_string(),
        pair.outcomes.only_first.to_string(),
        pair.outcomes.only_second.to_string(),
        format!("{:+.1}", 100.0 * success.mean),
        format!(
            "[{:+.1}, {:+.1}]",
            100.0 * success.interval.low,
            100.0 * success.interval.high
        ),
        p_value(pair.p_value),
        p_value(pair.p_holm),
        format!("{:+.2}", distance.mean),
        format!(
            "[{:+.2}, {:+.2}]",
            distance.interval.low, distance.interval.high
        ),
    ]
}

/// A share in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

fn p_value(p: f64) -> String {
    if p < 0.001 {
        "<0.001".into()
    } else {
        format!("{p:.3}")
    }
}
