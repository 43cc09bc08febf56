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
    let commands: [&[&str]; 5] = [
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
        &["doctor", "--json"],
    ];
    for command in commands {
        let printed = succeeds(command);
        serde_json::from_str::<serde_json::Value>(&printed)
            .unwrap_or_else(|error| panic!("{command:?}: {error}: {printed}"));
    }
}
