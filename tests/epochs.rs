//! Models of several epochs: kept, evaluated, averaged, and their errors compared with their success.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{
    SMALL_MODEL, SMALL_PLANNER, collect, exits_with, only_run, succeeds, text, tree,
};

/// Trains for a few epochs and keeps several models; the folder of the run.
fn train(data: &Path, folder: &Path, seed: u64) -> PathBuf {
    let out = folder.join(format!("train-{seed}"));
    let seed = seed.to_string();
    let mut args = vec!["train", "--data", text(data), "--out", text(&out)];
    args.extend(["--epochs", "0.16", "--keep-epochs", "0.04"]);
    args.extend(["--seed", &seed]);
    args.extend(SMALL_MODEL);
    succeeds(&args);
    let before = tree(&out);
    succeeds(&args);
    assert_eq!(tree(&out), before, "a finished run stays as it is");
    out
}

/// Folders of the kept models, in the order of their steps.
fn kept(run: &Path) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(run.join("kept")).unwrap();
    let mut kept: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    kept.sort();
    kept
}

/// Evaluates a model on six episodes that count as reached from afar.
fn evaluate(model: &Path, runs: &Path) -> PathBuf {
    let name = tree_name(model);
    let out = runs.join(name);
    let mut args = vec!["eval", "--model", text(model), "--task", "wall"];
    args.extend(["--episodes", "6", "--out", text(&out)]);
    args.extend(["--set", "environment.success_distance=20"]);
    args.extend(SMALL_PLANNER);
    succeeds(&args);
    only_run(&out)
}

/// A name for a model from the last two parts of its path.
fn tree_name(model: &Path) -> String {
    let parts: Vec<_> = model.iter().map(|part| part.to_string_lossy()).collect();
    parts[parts.len().saturating_sub(3)..].join("_")
}

/// Two training runs with the evaluations of all of their models.
fn evaluated(folder: &Path) -> ([PathBuf; 2], Vec<PathBuf>) {
    let data = collect(folder, 24);
    let trainings = [0, 1].map(|seed| train(&data, folder, seed));
    let models = trainings.iter().flat_map(|run| {
        let kept = kept(run);
        assert!(kept.len() >= 3, "{kept:?}");
        kept
    });
    let runs = models.map(|model| evaluate(&model, &folder.join("runs")));
    (trainings.clone(), runs.collect())
}

fn json(args: &[&str], runs: &[PathBuf]) -> Value {
    let mut args = args.to_vec();
    args.extend(runs.iter().map(|run| text(run)));
    args.push("--json");
    serde_json::from_str(&succeeds(&args)).unwrap()
}

fn record(run: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(run.join("record.json")).unwrap()).unwrap()
}

/// Lines of the metrics of a training run.
fn metrics(run: &Path) -> Vec<Value> {
    let lines = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn numbers<'a>(values: impl IntoIterator<Item = &'a Value>) -> Vec<f64> {
    values
        .into_iter()
        .map(|value| value.as_f64().unwrap())
        .collect()
}

/// Rank correlation by the definition: the ranks of equal values are the middle of those that they take up.
fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    let ranks = |values: &[f64]| -> Vec<f64> {
        let rank = |value: &f64| {
            let below = values.iter().filter(|other| *other < value).count();
            let not_above = values.iter().filter(|other| *other <= value).count();
            f64::midpoint(below as f64, not_above as f64) + 0.5
        };
        values.iter().map(rank).collect()
    };
    let (x, y) = (ranks(x), ranks(y));
    let mean = f64::midpoint(x.len() as f64, 1.0);
    let product = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum()
    };
    let spread = (product(&x, &x) * product(&y, &y)).sqrt();
    (spread > 0.0).then(|| product(&x, &y) / spread)
}

#[test]
fn models_of_several_epochs_are_averaged_and_correlated() {
    let folder = tempfile::tempdir().unwrap();
    let (trainings, runs) = evaluated(folder.path());
    let points = runs.len() / 2;
    let rates: Vec<f64> = runs
        .iter()
        .map(|run| record(run)["summary"]["success_rate"].as_f64().unwrap())
        .collect();
    check_average(
        &json(&["compare", "--average", "--last", "2"], &runs),
        &rates,
        points,
    );

    let (csv, figure) = (
        folder.path().join("points.csv"),
        folder.path().join("proxy.svg"),
    );
    let mut args = vec!["proxy", "--alpha", "0.5", "--csv", text(&csv)];
    args.extend(["--figure", text(&figure)]);
    let found = json(&args, &runs);
    let task = &found["tasks"][0];
    assert_eq!(found["alpha"], 0.5);
    assert_eq!(task["models"].as_array().unwrap().len(), 2);
    let mut defined = 0;
    for (m, training) in trainings.iter().enumerate() {
        let of_model = task["models"][m]["points"].as_array().unwrap();
        assert_eq!(of_model.len(), points);
        // Success, smoothed by hand.
        let rates = &rates[m * points..][..points];
        let mut smoothed = rates.to_vec();
        for k in 1..points {
            smoothed[k] = 0.5 * rates[k] + 0.5 * smoothed[k - 1];
        }
        assert_eq!(numbers(of_model.iter().map(|p| &p["success_rate"])), rates);
        assert_eq!(numbers(of_model.iter().map(|p| &p["smoothed"])), smoothed);
        // Errors and epochs, as the training run wrote them.
        let lines = metrics(training);
        let line = |point: &Value| {
            let at = lines.iter().find(|line| line["step"] == point["steps"]);
            at.unwrap().clone()
        };
        let errors: Vec<f64> = of_model
            .iter()
            .map(|point| {
                let line = line(point);
                let close = line["epoch"].as_f64().unwrap() - point["epoch"].as_f64().unwrap();
                assert!(close.abs() < 1e-9);
                let error = &line["validation"]["visual_l1"][0];
                assert_eq!(&point["metrics"]["vis_emb_l1_h1"], error);
                error.as_f64().unwrap()
            })
            .collect();
        let metrics = task["metrics"].as_array().unwrap();
        let metric = metrics
            .iter()
            .find(|metric| metric["name"] == "vis_emb_l1_h1");
        let coefficient = &metric.unwrap()["coefficients"][m];
        match spearman(&errors, &smoothed) {
            Some(rho) => {
                assert!((coefficient.as_f64().unwrap() + rho).abs() < 1e-12);
                defined += 1;
            }
            None => assert!(coefficient.is_null()),
        }
    }
    assert!(defined > 0, "no model changed its success: {rates:?}");
    let lines = std::fs::read_to_string(&csv).unwrap();
    let metrics = task["metrics"].as_array().unwrap().len();
    assert_eq!(lines.lines().count(), 1 + runs.len() * metrics);
    assert!(std::fs::read_to_string(&figure).unwrap().contains("<svg"));
    moved_training_runs_are_found(&trainings, &runs);
}

/// The two averages over the last two kept models of both seeds.
fn check_average(found: &Value, rates: &[f64], points: usize) {
    let only = &found["averages"][0];
    assert_eq!(found["averages"].as_array().unwrap().len(), 1);
    let last = [points - 2, points - 1, 2 * points - 2, 2 * points - 1].map(|k| rates[k]);
    let mean = last.iter().sum::<f64>() / 4.0;
    let std = (last.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / 4.0).sqrt();
    let of_seeds = [
        f64::midpoint(last[0], last[1]),
        f64::midpoint(last[2], last[3]),
    ];
    let close = |value: &Value, expected: f64| {
        let value = value.as_f64().unwrap();
        assert!(
            (value - expected).abs() < 1e-12,
            "{value} is not {expected}"
        );
    };
    close(&only["pooled"]["mean"], mean);
    close(&only["pooled"]["std"], std);
    close(&only["over_seeds"]["mean"], mean);
    // The standard error of two numbers is half their difference.
    close(
        &only["over_seeds"]["standard_error"],
        (of_seeds[0] - of_seeds[1]).abs() / 2.0,
    );
    assert_eq!(only["over_seeds"]["attempts"], 4 * 6);
    assert_eq!(only["window"]["in_paper"], 10);
}

/// A training run may be elsewhere than when its models were evaluated, if one says where.
fn moved_training_runs_are_found(trainings: &[PathBuf], runs: &[PathBuf]) {
    let before = json(&["proxy"], runs);
    let moved: Vec<PathBuf> = trainings
        .iter()
        .map(|run| run.with_extension("moved"))
        .collect();
    for (from, to) in trainings.iter().zip(&moved) {
        std::fs::rename(from, to).unwrap();
    }
    let mut args = vec!["proxy"];
    args.extend(runs.iter().map(|run| text(run)));
    let error = exits_with(2, &args);
    assert!(error.contains("--training"), "{error}");
    let mut given = vec!["proxy"];
    for folder in &moved {
        given.extend(["--training", text(folder)]);
    }
    assert_eq!(
        json(&given, runs)["tasks"][0]["metrics"],
        before["tasks"][0]["metrics"]
    );
}

#[test]
fn models_without_epochs_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("runs");
    let mut args = vec!["eval", "--model", "floor:noop", "--task", "wall"];
    args.extend(["--episodes", "2", "--out", text(&out)]);
    succeeds(&args);
    let run = only_run(&out);
    let error = exits_with(2, &["proxy", text(&run)]);
    assert!(error.contains("was not trained here"), "{error}");
    let error = exits_with(2, &["compare", "--average", text(&run), text(&run)]);
    assert!(error.contains("none of them"), "{error}");
}
