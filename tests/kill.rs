//! `kill -9` at moments that no code prepares for, then the same command: same result as without.
//!
//! Delays come from a fixed sequence spread over the time that the command takes on this machine, so
//! fast and slow machines are hit at every stage.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jepa_datasets::Stream;

use crate::support::{
    SMALL_MODEL, SMALL_PLANNER, collect, finished_runs, killed_after, succeeds, text, torch, tree,
};
use crate::zoo;

/// Kills per command; there are seven commands.
const KILLS: usize = 6;

/// Kills on the way to one result; the command is then run to its end.
const KILLS_PER_RESULT: usize = 3;

/// Runs a command once in peace, then kills it until [`KILLS`] kills have hit it at work. After every
/// few kills it may end, and must have the same `result`.
fn survives<R: PartialEq + Debug>(
    name: &str,
    folder: &Path,
    command: &dyn Fn(&Path) -> Vec<String>,
    result: &dyn Fn(&Path) -> R,
) {
    let whole = folder.join("whole");
    let started = Instant::now();
    succeeds(&command(&whole));
    let mut takes = started.elapsed().as_secs_f64();
    let expected = result(&whole);
    let mut stream = Stream::new(0, &["kill", name]);
    let mut hits = 0;
    for round in 0.. {
        assert!(
            round < 10 * KILLS,
            "{name}: only {hits} of {KILLS} kills hit"
        );
        let out = folder.join(format!("killed-{round}"));
        let args = command(&out);
        for _ in 0..KILLS_PER_RESULT {
            let delay = Duration::from_secs_f64(takes * stream.uniform() * 0.8);
            let ended = killed_after(&args, delay);
            if ended {
                // The first run was slowed down by something else: aim within what it really takes.
                takes = takes.min(delay.as_secs_f64());
                break;
            }
            hits += 1;
        }
        succeeds(&args);
        assert_eq!(result(&out), expected, "{name}, round {round}");
        if hits >= KILLS {
            return;
        }
    }
}

fn words(parts: &[&[&str]]) -> Vec<String> {
    parts.concat().into_iter().map(String::from).collect()
}

#[test]
fn collect_survives() {
    let folder = tempfile::tempdir().unwrap();
    let command = |out: &Path| words(&[&["collect", "wall", text(out), "--episodes", "150"]]);
    survives("collect", folder.path(), &command, &tree);
}

#[test]
fn ingest_survives() {
    let folder = tempfile::tempdir().unwrap();
    torch::wall_release(folder.path(), 30, 20, 24);
    let source = folder.path().join("wall_single");
    let command = |out: &Path| words(&[&["ingest", "wall", text(&source), text(out)]]);
    survives("ingest", folder.path(), &command, &tree);
}

#[test]
fn train_survives() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    let command = |out: &Path| {
        let run = [
            "train",
            "--data",
            text(&data),
            "--out",
            text(out),
            "--steps",
            "60",
        ];
        words(&[&run, SMALL_MODEL])
    };
    survives("train", folder.path(), &command, &trained);
}

#[test]
fn training_of_other_models_survives() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    for (model, steps) in [("ours", "200"), ("lewm", "60"), ("gcbc-tokens", "80")] {
        let command = |out: &Path| zoo::train(model, &data, out, &["--steps", steps]);
        let runs = folder.path().join(model);
        survives(&format!("train-{model}"), &runs, &command, &trained);
    }
}

#[test]
fn training_of_an_encoder_survives() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    for (name, kind) in [("lejepa", zoo::LEJEPA), ("i-jepa", zoo::IJEPA)] {
        let command = |out: &Path| zoo::train_on(kind, &data, out, 60, 20);
        let result = |out: &Path| (trained(&out.join("encoder")), trained(out));
        survives(
            &format!("train-{name}"),
            &folder.path().join(name),
            &command,
            &result,
        );
    }
}

/// What a training leaves: the hash of its weights, and its metrics.
fn trained(out: &Path) -> (String, Vec<serde_json::Value>) {
    let weights = std::fs::read(out.join("model.safetensors")).unwrap();
    (blake3::hash(&weights).to_hex().to_string(), metrics(out))
}

/// Lines of the metrics without what a clock decides.
fn metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let without_clock = |line: &str| {
        let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
        for clock in ["seconds", "wait_share"] {
            value.as_object_mut().unwrap().remove(clock).unwrap();
        }
        value
    };
    text.lines().map(without_clock).collect()
}

#[test]
fn eval_survives() {
    let folder = tempfile::tempdir().unwrap();
    let command = |out: &Path| {
        let run = [
            "eval",
            "--model",
            "oracle",
            "--task",
            "wall",
            "--out",
            text(out),
        ];
        words(&[
            &run,
            &["--episodes", "150", "--seed", "1001"],
            SMALL_PLANNER,
        ])
    };
    // A run that was killed after its last write is finished; the same command then starts another.
    let result = |out: &Path| -> BTreeSet<String> {
        let episodes = |run: PathBuf| std::fs::read(run.join("episodes.parquet")).unwrap();
        let hash = |bytes: Vec<u8>| blake3::hash(&bytes).to_hex().to_string();
        finished_runs(out)
            .into_iter()
            .map(episodes)
            .map(hash)
            .collect()
    };
    survives("eval", folder.path(), &command, &result);
}
