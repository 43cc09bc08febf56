//! Ingesting released layouts: what is announced is what happens.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{exits_with, succeeds, text};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&succeeds(&[args, &["--json"]].concat())).unwrap()
}

/// Small releases, of which a dry run tries every episode: its numbers are those of the dataset.
#[test]
fn a_dry_run_tells_what_the_ingestion_then_does_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (source, release, flags) in [
        ("pusht", "pusht_noise", &["--codec", "jpeg:90"][..]),
        ("pointmaze", "point_maze", &["--size", "32x48"]),
        ("wall", "wall_single", &["--episodes", "1..3"]),
        ("tdmpc2", "tdmpc2", &[]),
    ] {
        let release = fixture(release);
        assert!(release.exists(), "no fixture {}", release.display());
        let out = folder.path().join(source);
        let args = [&["ingest", source, text(&release), text(&out)], flags].concat();
        let plan = json(&[&args[..], &["--dry-run"]].concat());
        assert!(!out.exists(), "{source}: a dry run wrote something");
        succeeds(&args);
        let counts = json(&["inspect", text(&out)])["counts"].clone();
        let estimate = &plan["estimate"];
        assert_eq!(estimate["tried"], plan["episodes"], "{source}");
        for name in ["episodes", "rows", "frames"] {
            assert_eq!(estimate[name], counts[name], "{source}: {name}");
        }
        assert!(estimate["bytes"].as_u64().unwrap() > 0, "{source}");
        assert!(
            estimate["thread_seconds"].as_f64().unwrap() > 0.0,
            "{source}"
        );
        let said = succeeds(&[&args[..], &["--dry-run", "--threads", "3"]].concat());
        assert!(said.contains("on 3 threads"), "{said}");
    }
}

#[test]
fn a_dry_run_of_a_shard_is_about_that_shard() {
    let release = fixture("pusht_noise");
    let plan = |flags: &[&str]| {
        let args = ["ingest", "pusht", text(&release), "nowhere", "--dry-run"];
        json(&[&args, flags].concat())["episodes"].as_u64().unwrap()
    };
    let parts = plan(&["--shard", "0/2"]) + plan(&["--shard", "1/2"]);
    assert_eq!(parts, plan(&[]));
}

#[test]
fn families_are_a_split_rule_of_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let release = fixture("pusht_noise");
    let out = folder.path().join("data");
    let args = ["ingest", "pusht", text(&release), text(&out)];
    succeeds(&[&args[..], &["--split-rule", "family:1:0.5:3"]].concat());
    let splits = json(&["inspect", text(&out)])["splits"].clone();
    assert_eq!(splits[0]["rule"], "family:1:0.5:3");
    let sizes: Vec<u64> = (0..3)
        .map(|k| splits[k]["episodes"].as_u64().unwrap())
        .collect();
    assert_eq!(sizes[0] + sizes[1], sizes[2]);
    assert!(sizes[0] > 0 && sizes[1] > 0, "{sizes:?}");
    succeeds(&["validate", text(&out)]);
    let error = exits_with(2, &[&args[..], &["--split-rule", "family"]].concat());
    assert!(error.contains("family:TOLERANCE"), "{error}");
}

#[test]
fn help_of_a_source_is_about_that_source() {
    let droid = succeeds(&["ingest", "droid", "--help"]);
    for said in ["trajectory.h5", "--fps-mode", "--camera", "1280x720"] {
        assert!(droid.contains(said), "{said}");
    }
    for other in ["--compat-quaternion", "--task", "point_maze"] {
        assert!(!droid.contains(other), "{other}");
    }
    let general = succeeds(&["ingest", "--help"]);
    for said in [
        "droid",
        "pointmaze",
        "zarr",
        "--compat-quaternion",
        "--task",
    ] {
        assert!(general.contains(said), "{said}");
    }
}
