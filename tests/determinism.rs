//! Results do not depend on threads or shards.

use std::path::Path;

use crate::support::{SMALL_MODEL, SMALL_PLANNER, collect, only_run, succeeds, text};

/// Episodes file of an evaluation with these further arguments.
fn evaluate(model: &str, out: &Path, more: &[&str]) -> Vec<u8> {
    let mut args = vec![
        "eval",
        "--model",
        model,
        "--task",
        "wall",
        "--out",
        text(out),
    ];
    args.extend(["--episodes", "6", "--seed", "1001"]);
    args.extend(SMALL_PLANNER);
    args.extend(more);
    succeeds(&args);
    std::fs::read(only_run(out).join("episodes.parquet")).unwrap()
}

/// The same evaluation in two shards, merged.
fn evaluate_in_shards(model: &str, folder: &Path) -> Vec<u8> {
    let shards = [folder.join("shard-0"), folder.join("shard-1")];
    evaluate(model, &shards[0], &["--shard", "0/2"]);
    evaluate(model, &shards[1], &["--shard", "1/2"]);
    let merged = folder.join("merged");
    let runs = shards.each_ref().map(|shard| only_run(shard));
    succeeds(&["merge", text(&merged), text(&runs[1]), text(&runs[0])]);
    std::fs::read(merged.join("episodes.parquet")).unwrap()
}

#[test]
fn a_trained_model_scores_the_same_at_any_number_of_threads_and_in_shards() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    let model = folder.path().join("model");
    let mut train = vec![
        "train",
        "--data",
        text(&data),
        "--out",
        text(&model),
        "--steps",
        "10",
    ];
    train.extend(SMALL_MODEL);
    succeeds(&train);

    let one = evaluate(
        text(&model),
        &folder.path().join("one"),
        &["--threads", "1"],
    );
    let two = evaluate(
        text(&model),
        &folder.path().join("two"),
        &["--threads", "2"],
    );
    assert!(one == two, "1 and 2 threads disagree");
    let shards = evaluate_in_shards(text(&model), folder.path());
    assert!(one == shards, "merged shards disagree with the whole");
}

#[test]
fn the_oracle_scores_the_same_at_any_number_of_threads_and_in_shards() {
    let folder = tempfile::tempdir().unwrap();
    let one = evaluate("oracle", &folder.path().join("one"), &["--threads", "1"]);
    let three = evaluate("oracle", &folder.path().join("three"), &["--threads", "3"]);
    assert!(one == three, "1 and 3 threads disagree");
    assert!(
        one == evaluate_in_shards("oracle", folder.path()),
        "merged shards disagree"
    );
}

#[test]
fn training_does_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    let weights = |threads: &str| {
        let out = folder.path().join(threads);
        let mut args = vec![
            "train",
            "--data",
            text(&data),
            "--out",
            text(&out),
            "--steps",
            "6",
        ];
        args.extend(["--threads", threads]);
        args.extend(SMALL_MODEL);
        succeeds(&args);
        std::fs::read(out.join("model.safetensors")).unwrap()
    };
    assert!(weights("1") == weights("3"), "1 and 3 threads disagree");
}
