//! `gcbc-tokens`, a policy without a planner, through the program: trained, resumed, evaluated, ranked.

use std::path::{Path, PathBuf};

use crate::support::{collect, exits_with, only_run, succeeds, text};
use crate::zoo;

/// A policy trained for a few steps.
fn trained(data: &Path, folder: &Path, name: &str, more: &[&str]) -> PathBuf {
    let out = folder.join(name);
    let args = [&["--steps", "6"], more].concat();
    succeeds(&zoo::train("gcbc-tokens", data, &out, &args));
    out
}

fn weights(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("model.safetensors")).unwrap()
}

/// Words of an evaluation of six episodes.
fn eval<'a>(model: &'a str, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["eval", "--model", model, "--task", "wall@1"];
    args.extend(["--episodes", "6", "--seed", "1001", "--out", text(out)]);
    args.extend(more);
    args
}

fn evaluate(model: &Path, out: &Path, more: &[&str]) -> Vec<u8> {
    succeeds(&eval(text(model), out, more));
    std::fs::read(only_run(out).join("episodes.parquet")).unwrap()
}

#[test]
fn a_policy_trains_and_acts_the_same_at_any_number_of_threads_and_in_shards() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    let policy = trained(&data, folder.path(), "first", &["--threads", "1"]);
    let again = trained(&data, folder.path(), "again", &["--threads", "3"]);
    assert!(
        weights(&policy) == weights(&again),
        "1 and 3 threads disagree"
    );

    let run = |name: &str, more: &[&str]| evaluate(&policy, &folder.path().join(name), more);
    let one = run("one", &["--threads", "1"]);
    assert!(
        one == run("two", &["--threads", "2"]),
        "1 and 2 threads disagree"
    );
    run("shard-0", &["--shard", "0/2"]);
    run("shard-1", &["--shard", "1/2"]);
    let merged = folder.path().join("merged");
    let shards = ["shard-0", "shard-1"].map(|name| only_run(&folder.path().join(name)));
    succeeds(&["merge", text(&merged), text(&shards[1]), text(&shards[0])]);
    let merged = std::fs::read(merged.join("episodes.parquet")).unwrap();
    assert!(one == merged, "merged shards disagree with the whole");
}

#[test]
fn a_validation_says_how_well_actions_are_repeated_and_training_improves_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    let out = folder.path().join("run");
    let more = ["--steps", "40", "--set", "training.validate_every=20"];
    let printed = succeeds(&zoo::train("gcbc-tokens", &data, &out, &more));
    assert!(printed.contains("validation: cross-entropy"), "{printed}");
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = metrics
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 40);
    let found: Vec<f64> = lines
        .iter()
        .filter_map(|line| line["validation"]["imitation"]["cross_entropy"].as_f64())
        .collect();
    // Sixteen bins: a guess that knows nothing costs 2.77 nats.
    assert!(
        found.len() == 2 && found[1] < found[0] && found[1] < 16f64.ln(),
        "{found:?}"
    );
    assert!(lines[0]["loss_cross_entropy"].as_f64().unwrap() > found[1]);
}

#[test]
fn a_policy_is_recorded_ranked_and_reported_without_a_planner() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    let policy = trained(&data, folder.path(), "policy", &[]);
    let out = folder.path().join("runs");
    let printed = succeeds(&eval(text(&policy), &out, &["--films", "2"]));
    assert!(printed.contains("gcbc-tokens, seed 0"), "{printed}");
    let run = only_run(&out);
    let record = std::fs::read_to_string(run.join("record.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["planner"]["name"], "none");
    assert_eq!(record["objective"], serde_json::json!({}));
    assert_eq!(record["model"]["kind"], "trained");
    let hash = blake3::hash(&weights(&policy)).to_hex().to_string();
    assert_eq!(record["model"]["weights_hash"], hash.as_str());
    assert_eq!(record["summary"]["candidate_steps"], 0);

    // The configuration of a run is a configuration to run.
    let again = folder.path().join("again");
    let config = run.join("config.toml");
    succeeds(&["eval", "--config", text(&config), "--out", text(&again)]);
    let episodes = |run: &Path| std::fs::read(run.join("episodes.parquet")).unwrap();
    assert!(episodes(&only_run(&again)) == episodes(&run));

    let floor = folder.path().join("floor");
    succeeds(&eval("floor:noop", &floor, &[]));
    let floor = only_run(&floor);
    let board = folder.path().join("board.sqlite");
    let runs = [text(&run), text(&floor)];
    succeeds(&[&["leaderboard", "add", "--db", text(&board)], &runs[..]].concat());
    let shown = succeeds(&["leaderboard", "show", "--db", text(&board)]);
    assert!(shown.contains("gcbc-tokens"), "{shown}");
    let report = folder.path().join("report");
    succeeds(&[&["report", "--out", text(&report)], &runs[..]].concat());
    let page = std::fs::read_to_string(report.join("report.html")).unwrap();
    assert!(page.contains("gcbc-tokens"));
}

#[test]
fn what_is_about_planning_is_refused_and_wrong_sizes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    let policy = trained(&data, folder.path(), "policy", &[]);
    let out = folder.path().join("runs");
    let refusals: [(&[&str], &str); 5] = [
        (&["--planner", "cem"], "`--planner cem`"),
        (&["--planner", "replan"], "`--planner replan`"),
        (&["--set", "planner.iterations=5"], "a planner setting"),
        (&["--set", "objective.distance=l1"], "the objective"),
        (&["--set", "noise_seed=2"], "the noise seed"),
    ];
    for (more, what) in refusals {
        let stderr = exits_with(2, &eval(text(&policy), &out, more));
        assert!(
            stderr.contains(what) && stderr.contains("it is a policy"),
            "{more:?}: {stderr}"
        );
    }
    assert!(!out.exists());
    let stderr = exits_with(2, &["plan", "--model", text(&policy), "--task", "wall"]);
    assert!(
        stderr.contains("`plan`") && stderr.contains("it is a policy"),
        "{stderr}"
    );

    for (setting, what) in [
        ("gcbc_tokens.chunk=46", "`gcbc_tokens.chunk`"),
        ("gcbc_tokens.masked=1.0", "`gcbc_tokens.masked`"),
        ("gcbc_tokens.chunks=5", "gcbc_tokens.chunk"),
    ] {
        let wrong = folder.path().join("wrong");
        let args = zoo::train("gcbc-tokens", &data, &wrong, &["--set", setting]);
        let stderr = exits_with(2, &args);
        assert!(stderr.contains(what), "{setting}: {stderr}");
    }
}
