//! The whole loop on small inputs: collect, train, evaluate, compare, leaderboard, report.

use std::path::Path;

use crate::support::{SMALL_MODEL, SMALL_PLANNER, collect, only_run, succeeds, text};

/// An evaluation of three episodes; its run folder.
fn evaluate(model: &str, folder: &Path, name: &str) -> std::path::PathBuf {
    let out = folder.join(name);
    let mut args = vec![
        "eval",
        "--model",
        model,
        "--task",
        "wall",
        "--out",
        text(&out),
    ];
    args.extend(["--episodes", "3"]);
    args.extend(SMALL_PLANNER);
    succeeds(&args);
    only_run(&out)
}

#[test]
fn from_a_simulator_to_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    succeeds(&["validate", text(&data)]);
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
    let printed = succeeds(&train);
    assert!(printed.contains("validation unroll"), "{printed}");

    let runs = [text(&model), "floor:random", "floor:noop", "oracle"]
        .map(|m| evaluate(m, folder.path(), &m.replace(['/', ':'], "_")));
    let runs: Vec<&str> = runs.iter().map(|r| text(r)).collect();

    let mut compare = vec!["compare"];
    compare.extend(&runs);
    let table = succeeds(&compare);
    assert!(
        table.contains("oracle") && table.contains("floor:noop"),
        "{table}"
    );

    let board = folder.path().join("board.sqlite");
    let mut add = vec!["leaderboard", "add", "--db", text(&board)];
    add.extend(&runs);
    succeeds(&add);
    let shown = succeeds(&["leaderboard", "show", "--db", text(&board)]);
    assert!(
        shown.contains("pldm") && shown.contains("not verified here"),
        "{shown}"
    );

    let report = folder.path().join("report");
    let mut args = vec!["report", "--out", text(&report)];
    args.extend(&runs);
    succeeds(&args);
    let pdf = std::fs::read(report.join("report.pdf")).unwrap();
    assert!(pdf.starts_with(b"%PDF-"));
    let page = std::fs::read_to_string(report.join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("oracle"));
}

#[test]
fn json_is_one_document_on_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 12);
    let commands: [&[&str]; 6] = [
        &["inspect", text(&data), "--json"],
        &[
            "slices",
            text(&data),
            "--context",
            "3",
            "--frameskip",
            "5",
            "--json",
        ],
        &["stats", text(&data), "--json"],
        &["list", "models", "--json"],
        &["list", "published", "--json"],
        &["doctor", "--json"],
    ];
    for command in commands {
        let printed = succeeds(command);
        serde_json::from_str::<serde_json::Value>(&printed)
            .unwrap_or_else(|error| panic!("{command:?}: {error}: {printed}"));
    }
}

#[test]
fn a_demo_runs_twice_with_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let demo = |name: &str| {
        let out = folder.path().join(name);
        let mut args = vec![
            "demo",
            "--out",
            text(&out),
            "--collect",
            "24",
            "--episodes",
            "2",
        ];
        args.extend([
            "--set",
            "training.steps=8",
            "--set",
            "training.crossing.share=0.25",
        ]);
        args.extend(SMALL_MODEL);
        let printed = succeeds(&args);
        assert!(
            printed.contains("report.pdf") && printed.contains("not verified here"),
            "{printed}"
        );
        assert!(out.join("report/report.html").is_file());
        (args.into_iter().map(String::from).collect::<Vec<_>>(), out)
    };
    let episodes = |out: &Path| {
        let run = |model: &str| only_run(&out.join("runs/wall@1").join(model));
        let models = std::fs::read_dir(out.join("runs/wall@1")).unwrap();
        let mut names: Vec<String> = models
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["floor-noop", "floor-random", "oracle", "pldm"]);
        names
            .iter()
            .map(|n| std::fs::read(run(n).join("episodes.parquet")).unwrap())
            .collect::<Vec<_>>()
    };
    let (args, one) = demo("one");
    let (_, two) = demo("two");
    assert!(episodes(&one) == episodes(&two), "two demos differ");
    // The same command on a finished demo reuses everything: still one run of each model.
    succeeds(&args);
    assert!(episodes(&one) == episodes(&two));
}
