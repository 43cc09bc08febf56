//! `jepa-bench compare --average`: the last epochs of several training seeds as one number.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use jepa_leaderboard::{
    EpochAverage, EpochScore, EpochWindow, Run, Scored, average_epochs, epoch_window, recipes,
};
use jepa_reports::text_table;
use serde::Serialize;

use super::Context;
use super::checkpoints::TrainingRuns;
use super::compare::percent;
use crate::Error;

/// Epochs that count where the paper has no rule for the task.
const LAST: usize = 10;

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Document {
    averages: Vec<Recipe>,
}

/// One recipe on one task with one planner.
#[derive(Debug, Serialize)]
struct Recipe {
    label: String,
    task: String,
    planner: String,
    /// Runs that it was made of; those outside the last epochs of their seed do not count.
    runs: Vec<PathBuf>,
    /// What the paper does on this task.
    window: Option<EpochWindow>,
    #[serde(flatten)]
    average: EpochAverage,
}

/// Averages every recipe among `runs`.
pub(super) fn run(
    runs: &[Run],
    last: Option<usize>,
    training: &[PathBuf],
    ctx: &Context,
) -> anyhow::Result<ExitCode> {
    let scored: Vec<Scored> = runs
        .iter()
        .map(|run| Scored::new(run, run.folder_name()))
        .collect();
    let pairs: Vec<_> = runs.iter().map(|run| &run.record).zip(&scored).collect();
    let mut trainings = TrainingRuns::new(training);
    let groups = recipes(&pairs);
    let grouped: BTreeSet<usize> = groups.iter().flatten().copied().collect();
    for (_, run) in runs
        .iter()
        .enumerate()
        .filter(|(k, _)| !grouped.contains(k))
    {
        ctx.say(&format!(
            "note: `{}` is left out: nothing says how `{}` was trained",
            run.dir.display(),
            run.record.model.name
        ));
    }
    let averages: crate::Result<Vec<Recipe>> = groups
        .iter()
        .map(|group| {
            let members: Vec<&Run> = group.iter().map(|&k| &runs[k]).collect();
            recipe(&members, last, &mut trainings)
        })
        .collect();
    let document = Document {
        averages: averages?,
    };
    if document.averages.is_empty() {
        return Err(Error::Invalid {
            what: "runs".into(),
            detail: "none of them is of a model that was trained here".into(),
        }
        .into());
    }
    if ctx.json {
        ctx.print_json(&document)?;
    } else {
        print(&document, ctx)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn recipe(
    members: &[&Run],
    last: Option<usize>,
    trainings: &mut TrainingRuns,
) -> crate::Result<Recipe> {
    let record = &members[0].record;
    let window = epoch_window(&record.task.name);
    let last = last.or_else(|| Some(window?.in_paper)).unwrap_or(LAST);
    let mut scores = Vec::new();
    let mut seen = BTreeSet::new();
    for run in members {
        // The same weights on the same episodes, evaluated again, say nothing new.
        if seen.insert(&run.record.model.weights_hash) {
            scores.push(score(run, trainings)?);
        }
    }
    let average = average_epochs(&scores, last).ok_or_else(|| Error::Invalid {
        what: format!("epochs of `{}`", record.model.name),
        detail: if last == 0 {
            "`--last` must be at least 1".into()
        } else {
            "two runs are of the same seed and epoch, with other weights".into()
        },
    })?;
    Ok(Recipe {
        label: record.model.name.clone(),
        task: record.task.id(),
        planner: format!("{} {}", record.planner.name, record.planner.preset),
        runs: members.iter().map(|run| run.dir.clone()).collect(),
        window,
        average,
    })
}

fn score(run: &Run, trainings: &mut TrainingRuns) -> crate::Result<EpochScore> {
    let epoch = trainings.checkpoint(run)?.epoch;
    let record = &run.record;
    Ok(EpochScore {
        seed: record.model.training.as_ref().map_or(0, |t| t.seed),
        epoch,
        successes: record.summary.successes,
        episodes: record.summary.episodes,
    })
}

fn print(document: &Document, ctx: &Context) -> anyhow::Result<()> {
    let headings = [
        "recipe",
        "task",
        "planner",
        "#seeds",
        "#epochs",
        "#pooled, as the paper",
        "#over seeds",
        "#std error",
        "95% interval, all attempts",
    ];
    let rows: Vec<Vec<String>> = document.averages.iter().map(cells).collect();
    ctx.print(&text_table(&headings, &rows))?;
    for recipe in &document.averages {
        let EpochAverage { last, seeds, .. } = &recipe.average;
        let short = seeds.iter().filter(|seed| seed.epochs.len() < *last);
        for seed in short {
            ctx.say(&format!(
                "note: {} seed {} has {} of the last {last} epochs",
                recipe.label,
                seed.seed,
                seed.epochs.len()
            ));
        }
    }
    Ok(())
}

fn cells(recipe: &Recipe) -> Vec<String> {
    let EpochAverage {
        seeds,
        pooled,
        over_seeds,
        ..
    } = &recipe.average;
    let interval = over_seeds.wilson;
    vec![
        recipe.label.clone(),
        recipe.task.clone(),
        recipe.planner.clone(),
        seeds.len().to_string(),
        pooled.values.to_string(),
        format!("{} ({:.1})", percent(pooled.mean), 100.0 * pooled.std),
        percent(over_seeds.mean),
        over_seeds
            .standard_error
            .map_or_else(|| "-".into(), |error| format!("{:.1}", 100.0 * error)),
        format!("[{}, {}]", percent(interval.low), percent(interval.high)),
    ]
}
