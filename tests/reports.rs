//! Reports of small evaluations and of a small sweep: the same bytes wherever, whenever and with how many threads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{
    SMALL_MODEL, SMALL_PLANNER, collect, exits_with, finished_runs, program, succeeds, text, tree,
};

/// Trains a sweep of two seeds whose models are kept along the way, and evaluates all of them and the floors.
fn sweep_with_evaluations(folder: &Path) -> PathBuf {
    let data = collect(folder, 24);
    let all = folder.join("all");
    std::fs::create_dir_all(&all).unwrap();
    let file = folder.join("sweep.toml");
    std::fs::write(&file, "[grid]\n\"training.seed\" = [0, 1]\n").unwrap();
    let sweep = all.join("sweep");
    let mut args = vec!["train", "--sweep", text(&file), "--data", text(&data)];
    args.extend([
        "--out",
        text(&sweep),
        "--epochs",
        "0.12",
        "--keep-epochs",
        "0.04",
    ]);
    args.extend(SMALL_MODEL);
    succeeds(&args);
    let mut models: Vec<String> = vec!["floor:random".into(), "oracle".into()];
    for seed in ["seed=0", "seed=1"] {
        let kept = std::fs::read_dir(sweep.join(seed).join("kept")).unwrap();
        models.extend(kept.map(|entry| text(&entry.unwrap().path()).to_string()));
    }
    assert!(models.len() >= 6, "{models:?}");
    models.sort();
    for model in &models {
        let mut args = vec!["eval", "--model", model, "--task", "wall"];
        let out = all.join("runs");
        args.extend(["--episodes", "5", "--films", "1", "--out", text(&out)]);
        args.extend(SMALL_PLANNER);
        succeeds(&args);
    }
    all
}

/// Everything below a folder written in another order: entries are made from the last name to the first.
fn copy_backwards(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let mut entries: Vec<PathBuf> = std::fs::read_dir(from)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries.into_iter().rev() {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_backwards(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// Hashes of a report of `folder`, made in `directory` with more arguments and variables.
fn report(
    directory: &Path,
    folder: &str,
    more: &[&str],
    variables: &[(&str, &str)],
) -> BTreeMap<String, String> {
    let out = tempfile::tempdir().unwrap();
    let mut command = program();
    command
        .current_dir(directory)
        .args(["report", folder, "--out", text(out.path())])
        .args(more);
    for (name, value) in variables {
        command.env(name, value);
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    tree(out.path())
}

#[test]
fn reports_are_the_same_bytes_in_every_setting() {
    let folder = tempfile::tempdir().unwrap();
    let all = sweep_with_evaluations(folder.path());
    let elsewhere = folder.path().join("elsewhere");
    copy_backwards(&all, &elsewhere.join("all"));
    // Where records say that training runs are, none is any more: they are found beside the runs.
    std::fs::rename(&all, folder.path().join("moved")).unwrap();
    let moved = folder.path().join("moved");
    for layout in [&[][..], &["--paper"]] {
        let with = |more: &[&'static str]| [layout, more].concat();
        let first = report(folder.path(), "moved", layout, &[]);
        assert!(first.len() >= 6, "{first:?}");
        let others = [
            report(
                folder.path(),
                "moved",
                &with(&["--threads", "1"]),
                &[("TZ", "Asia/Kolkata")],
            ),
            report(
                &moved,
                ".",
                &with(&["--threads", "3"]),
                &[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C")],
            ),
            report(
                Path::new("/"),
                text(&moved),
                layout,
                &[("RAYON_NUM_THREADS", "5"), ("TZ", "UTC")],
            ),
            report(
                &elsewhere,
                "all",
                layout,
                &[("LC_ALL", "tr_TR.UTF-8"), ("HOME", "/nonexistent")],
            ),
        ];
        for (k, other) in others.iter().enumerate() {
            assert_eq!(&first, other, "setting {k} of {layout:?}");
        }
    }
    sweeps_are_averaged_and_correlated(&moved, folder.path());
    the_papers_places_are_filled(&moved, folder.path());
    boards_have_a_report(&moved, folder.path());
}

fn sweeps_are_averaged_and_correlated(all: &Path, folder: &Path) {
    let out = folder.join("report");
    succeeds(&[
        "report",
        text(all),
        "--out",
        text(&out),
        "--format",
        "md,json",
    ]);
    let page = std::fs::read_to_string(out.join("report.md")).unwrap();
    for words in [
        "Averages over the last epochs",
        "Validation errors and success",
        "Single episodes",
    ] {
        assert!(page.contains(words), "{words}");
    }
    for figure in [
        "wall-1-epochs",
        "wall-1-convergence",
        "wall-1-actions",
        "wall-1-distance",
    ] {
        assert!(
            out.join("figures").join(format!("{figure}.svg")).exists(),
            "{figure}"
        );
    }
    let results: Value =
        serde_json::from_slice(&std::fs::read(out.join("results.json")).unwrap()).unwrap();
    let average = &results["tasks"][0]["recipes_over_epochs"][0]["average"];
    assert_eq!(average["seeds"].as_array().unwrap().len(), 2);
    assert_eq!(
        results["proxies"][0]["proxy"]["models"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(results["training"].as_array().unwrap().len(), 2);
    let more = ["compare", "--average", "--json"]
        .map(String::from)
        .into_iter();
    let runs = finished_runs(&all.join("runs"))
        .into_iter()
        .map(|run| text(&run).to_string());
    let training = ["seed=0", "seed=1"].map(|seed| text(&all.join("sweep").join(seed)).to_string());
    let training = training
        .into_iter()
        .flat_map(|folder| ["--training".to_string(), folder]);
    let compared: Vec<String> = more.chain(runs).chain(training).collect();
    let compared: Value = serde_json::from_str(&succeeds(&compared)).unwrap();
    assert_eq!(compared["averages"][0]["pooled"], average["pooled"]);
}

fn the_papers_places_are_filled(all: &Path, folder: &Path) {
    let out = folder.join("paper");
    succeeds(&[
        "report",
        "--paper",
        text(all),
        "--out",
        text(&out),
        "--format",
        "json,md",
    ]);
    let results: Value =
        serde_json::from_slice(&std::fs::read(out.join("results.json")).unwrap()).unwrap();
    let rows = results["table_s5_1"].as_array().unwrap();
    let pldm = rows.iter().find(|row| row["model"] == "pldm").unwrap();
    let wall = &pldm["entries"][1];
    assert_eq!(wall["seeds"], serde_json::json!([0, 1]));
    assert!(wall["values"].as_u64().unwrap() >= 4, "{wall}");
    assert!(
        wall["changes"].to_string().contains("planner.candidates"),
        "{wall}"
    );
    assert_eq!(pldm["entries"][5]["kind"], "not-built");
    assert_eq!(pldm["average"], Value::Null);
    let page = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(
        page.contains("2 of 3 seeds") && page.contains("†"),
        "{page}"
    );
    let floors = all.join("runs/wall@1/floor-random");
    let error = exits_with(
        2,
        &["report", "--paper", text(&floors), "--out", text(&out)],
    );
    assert!(error.contains("no run is of a trained model"), "{error}");
}

fn boards_have_a_report(all: &Path, folder: &Path) {
    let board = folder.join("board.db");
    let mut args = vec!["leaderboard".to_string(), "add".into()];
    args.extend(
        finished_runs(&all.join("runs"))
            .iter()
            .map(|run| text(run).to_string()),
    );
    args.extend(["--db".into(), text(&board).to_string()]);
    succeeds(&args);
    let out = folder.join("board");
    succeeds(&["report", "--db", text(&board), "--out", text(&out)]);
    let results: Value =
        serde_json::from_slice(&std::fs::read(out.join("results.json")).unwrap()).unwrap();
    let ranking = results["tasks"][0]["ranking"].as_array().unwrap();
    assert_eq!(ranking.len(), finished_runs(&all.join("runs")).len());
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    let head = results["board_head"].as_str().unwrap();
    assert!(page.contains(head) && page.contains("Results: wall@1"));
    let error = exits_with(2, &["report", "--out", text(&out)]);
    assert!(error.contains("RUN"), "{error}");
}
