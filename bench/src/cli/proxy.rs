//! `jepa-bench proxy`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use jepa_leaderboard::{Proxy, ProxyModel, ProxyPoint, Run, RunRecord, TaskRef, proxy};
use jepa_reports::{ProxySeries, TrainingRun, Validation, proxy_figure, text_table};
use serde::Serialize;

use super::Context;
use super::checkpoints::{Checkpoint, TrainingRuns};
use super::compare::load;
use crate::Error;

/// Which validation errors go with success over the epochs of training.
///
/// For every task and training run: minus Spearman's rank correlation, over epochs and planners, of a validation error of
/// the model with its success rate, smoothed over epochs. 1 means that the lower error always has the higher success.
/// Coefficients are averaged over training runs (arXiv 2512.24497, appendix E.3). Models of several epochs are kept by
/// `train --keep-epochs` and evaluated one by one.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  jepa-bench train --recipe wall --data data/wall --out runs/train/wall-0 --epochs 20 --keep-epochs 1
  for model in runs/train/wall-0/kept/*; do jepa-bench eval --model $model --task wall; done
  jepa-bench proxy runs/wall@1/pldm/*")]
pub struct Args {
    /// Run folders written by `jepa-bench eval`, of models of several epochs of one or more training runs.
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Weight of the newest success rate in the moving average over epochs; 1 smooths nothing.
    #[arg(long, default_value_t = ALPHA, value_name = "A")]
    alpha: f64,
    /// Write every point as a line of this CSV file.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Draw success against a metric in this SVG file.
    #[arg(long, value_name = "FILE")]
    figure: Option<PathBuf>,
    /// The metric of the figure; by default the one with the largest mean coefficient on the first task.
    #[arg(long, value_name = "NAME", requires = "figure")]
    metric: Option<String>,
    /// Training run of evaluated models, where it is no longer in the folder that their records name (repeatable).
    #[arg(long, value_name = "DIR")]
    training: Vec<PathBuf>,
}

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Document {
    /// Weight of the newest success rate in the moving average.
    alpha: f64,
    tasks: Vec<TaskProxy>,
}

/// What was found on one task.
#[derive(Debug, Serialize)]
struct TaskProxy {
    task: String,
    #[serde(flatten)]
    proxy: Proxy,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let runs = load(&args.runs)?;
    let document = document(&runs, args)?;
    if let Some(path) = &args.csv {
        write(path, &csv(&document)?)?;
    }
    if let Some(path) = &args.figure {
        write(path, &figure(&document, args.metric.as_deref())?)?;
    }
    if ctx.json {
        ctx.print_json(&document)?;
    } else {
        print(&document, ctx)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Weight of the newest success rate in the moving average, unless another is asked for.
const ALPHA: f64 = 0.2;

/// For a report: the correlations on each task, of those runs whose training run is in `trainings` or where their record
/// says and validated their model. Tasks where no training run has models of two epochs are left out, and so are those
/// that `proxy` would refuse.
pub(super) fn of_runs(runs: &[Run], trainings: &[PathBuf]) -> Vec<(String, Proxy)> {
    let mut known = TrainingRuns::new(trainings);
    let mut is_usable = |run: &&Run| {
        let found = known.checkpoint(run);
        found.is_ok_and(|at| metrics(at.training, at.steps).is_ok())
    };
    let usable: Vec<Run> = runs.iter().filter(|run| is_usable(run)).cloned().collect();
    let tasks = by_task(&usable, trainings).unwrap_or_default();
    let has_epochs = |(_, points): &Evaluated| points.len() > 1;
    let tasks = tasks
        .into_iter()
        .filter(|(_, models)| models.values().any(has_epochs));
    let found = tasks.filter_map(|(task, models)| of_task(&task, models, ALPHA).ok());
    found.map(|found| (found.task, found.proxy)).collect()
}

/// Training seed and points of one training run on one task.
type Evaluated = (u64, Vec<ProxyPoint>);

fn document(runs: &[Run], args: &Args) -> crate::Result<Document> {
    let tasks = by_task(runs, &args.training)?;
    let tasks = tasks
        .into_iter()
        .map(|(task, models)| of_task(&task, models, args.alpha));
    Ok(Document {
        alpha: args.alpha,
        tasks: tasks.collect::<crate::Result<_>>()?,
    })
}

/// Points by task, then by the folder of the training run.
fn by_task(
    runs: &[Run],
    training: &[PathBuf],
) -> crate::Result<BTreeMap<TaskRef, BTreeMap<PathBuf, Evaluated>>> {
    let mut trainings = TrainingRuns::new(training);
    let mut tasks: BTreeMap<TaskRef, BTreeMap<PathBuf, Evaluated>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for run in runs {
        let record = &run.record;
        // The same weights in the same setup, evaluated again, say nothing new.
        if !seen.insert((&record.task, setup(record), &record.model.weights_hash)) {
            continue;
        }
        let checkpoint = trainings.checkpoint(run)?;
        let seed = record.model.training.as_ref().map_or(0, |t| t.seed);
        let models = tasks.entry(record.task.clone()).or_default();
        let model = models.entry(checkpoint.training.dir.clone());
        let (_, points) = model.or_insert_with(|| (seed, Vec::new()));
        points.push(point(record, checkpoint)?);
    }
    Ok(tasks)
}

fn of_task(
    task: &TaskRef,
    models: BTreeMap<PathBuf, Evaluated>,
    alpha: f64,
) -> crate::Result<TaskProxy> {
    let labels = labels(models.iter().map(|(folder, (seed, _))| (folder, *seed)));
    let models = labels.into_iter().zip(models.into_values());
    let models = models.map(|(label, (_, points))| ProxyModel { label, points });
    let proxy = proxy(models.collect(), alpha).ok_or_else(|| Error::Invalid {
        what: format!("runs on task {}, or `--alpha {alpha}`", task.id()),
        detail: "two models are of the same training run and epoch, or alpha is not in (0, 1]"
            .into(),
    })?;
    Ok(TaskProxy {
        task: task.id(),
        proxy,
    })
}

/// Names of the folders of training runs, or their paths where names repeat, with their seeds.
fn labels<'a>(trainings: impl Iterator<Item = (&'a PathBuf, u64)> + Clone) -> Vec<String> {
    let name = |(folder, seed): (&PathBuf, u64)| {
        let name = folder.file_name().map(|name| name.to_string_lossy());
        format!("{} (seed {seed})", name.unwrap_or_default())
    };
    let names: Vec<String> = trainings.clone().map(name).collect();
    let distinct: BTreeSet<&String> = names.iter().collect();
    if distinct.len() == names.len() {
        return names;
    }
    trainings
        .map(|(folder, seed)| format!("{} (seed {seed})", folder.display()))
        .collect()
}

fn point(record: &RunRecord, checkpoint: Checkpoint<'_>) -> crate::Result<ProxyPoint> {
    let Checkpoint {
        training,
        steps,
        epoch,
    } = checkpoint;
    Ok(ProxyPoint {
        setup: setup(record),
        epoch,
        steps,
        success_rate: record.summary.success_rate,
        smoothed: record.summary.success_rate,
        metrics: metrics(training, steps)?,
    })
}

/// Planner and objective in one line.
fn setup(record: &RunRecord) -> String {
    let objective: Vec<String> = record
        .objective
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let planner = &record.planner;
    let settings: Vec<String> = planner
        .settings
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!(
        "{} {} [{}] [{}] {} episodes from seed {}",
        planner.name,
        planner.preset,
        objective.join(" "),
        settings.join(" "),
        record.summary.episodes,
        record.first_seed
    )
}

/// Validation errors of the model after `steps` steps, by name and horizon.
fn metrics(training: &TrainingRun, steps: u64) -> crate::Result<BTreeMap<String, f64>> {
    let at = |validation: &&Validation| (validation.step - steps as f64).abs() < 0.5;
    let Some(found) = training.validation.iter().rev().find(at) else {
        return Err(Error::Config {
            what: format!("training run `{}`", training.dir.display()),
            detail: format!("has no validation after {steps} steps"),
            hint: Some("train with `--keep-epochs`: every kept model is validated".into()),
        });
    };
    let named = [
        ("vis_emb_l1", &found.visual_l1),
        ("vis_emb_l2", &found.visual_l2),
        ("proprio_dec", &found.proprio),
    ];
    let metrics = named.into_iter().flat_map(|(name, values)| {
        let values = values.iter().zip(1..);
        values.map(move |(&value, step)| (format!("{name}_h{step}"), value))
    });
    Ok(metrics.collect())
}

fn print(document: &Document, ctx: &Context) -> anyhow::Result<()> {
    for TaskProxy { task, proxy } in &document.tasks {
        ctx.print(&format!(
            "task {task}: minus rank correlation with success, smoothed with alpha {}",
            document.alpha
        ))?;
        let models = proxy.models.iter().map(|model| format!("#{}", model.label));
        let headings: Vec<String> = ["metric".to_string()]
            .into_iter()
            .chain(models)
            .chain(["#mean".to_string()])
            .collect();
        let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
        let shown = |value: Option<f64>| value.map_or_else(|| "-".into(), |v| format!("{v:.2}"));
        let rows = proxy.metrics.iter().map(|metric| {
            let coefficients = metric.coefficients.iter().chain([&metric.mean]);
            let cells = coefficients.map(|&value| shown(value));
            [metric.name.clone()].into_iter().chain(cells).collect()
        });
        let points = proxy
            .models
            .iter()
            .map(|model| model.points.len().to_string());
        let points = ["points".to_string()]
            .into_iter()
            .chain(points)
            .chain([String::new()]);
        let rows: Vec<Vec<String>> = rows.chain([points.collect()]).collect();
        ctx.print(&text_table(&headings, &rows))?;
    }
    Ok(())
}

/// One line per point and metric.
fn csv(document: &Document) -> anyhow::Result<String> {
    let mut text =
        String::from("task,model,setup,epoch,steps,success_rate,smoothed,alpha,metric,value\n");
    for TaskProxy { task, proxy } in &document.tasks {
        for model in &proxy.models {
            for point in &model.points {
                for (metric, value) in &point.metrics {
                    writeln!(
                        text,
                        "{task},{},{},{},{},{},{},{},{metric},{value}",
                        quoted(&model.label),
                        quoted(&point.setup),
                        point.epoch,
                        point.steps,
                        point.success_rate,
                        point.smoothed,
                        document.alpha
                    )?;
                }
            }
        }
    }
    Ok(text)
}

/// A field that may hold commas and quotation marks.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Success against one metric, a series per model of the first task that has it.
fn figure(document: &Document, metric: Option<&str>) -> anyhow::Result<String> {
    let first = document.tasks.first().map(|task| &task.proxy.metrics);
    let best = first.and_then(|metrics| {
        let defined = metrics
            .iter()
            .filter_map(|metric| Some((metric, metric.mean?)));
        let best = defined.max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(best.0.name.as_str())
    });
    let name = metric
        .or(best)
        .context("no metric has a coefficient to draw")?;
    let has = |task: &&TaskProxy| task.proxy.metrics.iter().any(|metric| metric.name == name);
    let Some(task) = document.tasks.iter().find(has) else {
        let known = document.tasks.iter().flat_map(|task| &task.proxy.metrics);
        return Err(Error::UnknownName {
            kind: "metric",
            name: name.into(),
            known: known.map(|metric| metric.name.clone()).collect(),
        }
        .into());
    };
    let series: Vec<ProxySeries> = task
        .proxy
        .models
        .iter()
        .map(|model| (model.label.clone(), pairs_by_setup(&model.points, name)))
        .collect();
    Ok(proxy_figure(&task.task, name, &series)?)
}

/// Pairs of a metric and smoothed success, a list per setup.
fn pairs_by_setup(points: &[ProxyPoint], metric: &str) -> Vec<Vec<(f64, f64)>> {
    let pair = |point: &ProxyPoint| Some((*point.metrics.get(metric)?, point.smoothed));
    let setups = points.chunk_by(|a, b| a.setup == b.setup);
    setups
        .map(|points| points.iter().filter_map(pair).collect())
        .collect()
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_runs_of_one_name_are_told_apart_by_their_paths() {
        let folders = ["a/wall", "a/maze", "b/wall"].map(PathBuf::from);
        let named = |folders: &[PathBuf]| labels(folders.iter().map(|folder| (folder, 3)));
        assert_eq!(named(&folders[..2]), ["wall (seed 3)", "maze (seed 3)"]);
        let whole = ["a/wall (seed 3)", "a/maze (seed 3)", "b/wall (seed 3)"];
        assert_eq!(named(&folders), whole);
    }

    #[test]
    fn fields_with_commas_and_quotation_marks_are_one_field() {
        assert_eq!(quoted("a, \"b\""), "\"a, \"\"b\"\"\"");
    }
}
