//! `bad/expected.json`: damaged releases lose exactly their damaged episodes, and say why.

use std::path::Path;

use jepa_datasets::{Dataset, SliceSpec, SplitRule};
use jepa_ingest::{SourceOptions, Summary};
use serde_json::Value;

use crate::support::bad::cases;
use crate::support::{fixture, ingest_with};

fn check(case: &Value, format: &str) {
    let dir = case["dir"].as_str().unwrap();
    let src = fixture("bad").join(dir);
    let errors = case["errors"].as_array().unwrap();
    match ingest_with(format, &src, SourceOptions::default(), &SplitRule::Released) {
        Err(error) => {
            assert_eq!(case["fatal"], true, "{dir}: {error}");
            assert_eq!(error.code(), errors[0]["kind"], "{dir}: {error}");
            let text = error.to_string();
            for key in ["file", "global_name"] {
                let words = errors[0][key].as_str().unwrap_or_default();
                assert!(text.contains(words), "{dir}: {text}");
            }
        }
        Ok(set) => {
            assert_ne!(case["fatal"], true, "{dir}");
            check_episodes(case, &set.dataset, &set.summary);
            check_windows(case, &set.dataset);
        }
    }
    for name in case["must_not_exist"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap();
        assert!(
            !Path::new(name).exists() && !src.join(name).exists(),
            "{name}"
        );
    }
}

/// What the errors of `expected.json` are called here, where that differs.
fn kinds(kind: &str) -> &[&str] {
    match kind {
        "truncated_or_count_mismatch" => &["truncated_file", "count_mismatch"],
        "decode_error" => &["decode_error"],
        "missing_file" => &["missing_file"],
        "length_out_of_range" => &["length_out_of_range"],
        "non_finite" => &["non_finite"],
        "empty_episode" => &["empty_episode"],
        other => panic!("no test knows `{other}`"),
    }
}

fn check_episodes(case: &Value, dataset: &Dataset, summary: &Summary) {
    let dir = case["dir"].as_str().unwrap();
    let ingested: Vec<Value> = dataset
        .episodes()
        .iter()
        .map(|e| e.source_index.into())
        .collect();
    assert_eq!(Value::from(ingested), case["ingested"], "{dir}");
    let errors = case["errors"].as_array().unwrap();
    assert_eq!(
        summary.broken.len(),
        errors.len(),
        "{dir}: {:?}",
        summary.broken
    );
    for (broken, error) in summary.broken.iter().zip(errors) {
        assert_eq!(error["episode"], broken.episode, "{dir}");
        let kinds = kinds(error["kind"].as_str().unwrap());
        assert!(kinds.contains(&broken.code.as_str()), "{dir}: {broken:?}");
        if let Some(file) = error["file"].as_str() {
            let name = file.rsplit('/').next().unwrap();
            let told = broken.path.ends_with(name) || broken.detail.contains(name);
            assert!(told, "{dir}: {broken:?} does not name {name}");
        }
        for key in ["row", "dim"] {
            if let Some(number) = error[key].as_u64() {
                assert!(
                    broken.detail.contains(&number.to_string()),
                    "{dir}: {broken:?}"
                );
            }
        }
        assert!(
            !broken.detail.contains("tests/fixtures"),
            "paths are relative"
        );
    }
}

/// `counts_for` and `windows` of short episodes.
fn check_windows(case: &Value, dataset: &Dataset) {
    let Some(windows) = case["windows"].as_object() else {
        return;
    };
    let size = |key: &str| case["counts_for"][key].as_u64().unwrap() as usize;
    let spec = SliceSpec::new(size("n") - 1, size("f"), "all");
    let index = dataset.slices(&spec).unwrap();
    let found: Vec<(u64, u64)> = index.per_episode().collect();
    for (episode, count) in windows {
        let episode: u64 = episode.parse().unwrap();
        assert!(
            found.contains(&(episode, count.as_u64().unwrap())),
            "{found:?}"
        );
    }
    let listed = |key: &str| case[key].as_array().unwrap().len() as u64;
    let dropped = index.dropped();
    assert_eq!(
        (dropped.too_short, dropped.no_window),
        (listed("too_short"), listed("no_window"))
    );
}

#[test]
fn point_maze_releases() {
    let cases = cases("point_maze");
    assert_eq!(cases.len(), 5);
    for case in &cases {
        check(case, "pointmaze");
    }
}

#[test]
#[cfg(feature = "video")]
fn pusht_releases() {
    let cases = cases("pusht");
    assert_eq!(cases.len(), 8);
    for case in &cases {
        check(case, "pusht");
    }
}
