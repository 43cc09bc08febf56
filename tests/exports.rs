//! Exports: other libraries read them, our own source reads one back, and nothing half-made gets the final name.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use jepa_datasets::export::{Format, Progress, export};
use jepa_datasets::{Dataset, Error, Pixels};

use crate::full_disk::{fails_clearly, with_file_limit};
use crate::support::{collect, exits_with, killed_after, succeeds, text, tree};

const FORMATS: [&str; 3] = ["lerobot", "swm", "zarr"];

/// Where an export of a format is written.
fn out(folder: &Path, format: &str) -> PathBuf {
    folder.join(match format {
        "swm" => "export.h5",
        "zarr" => "export.zarr",
        _ => "export",
    })
}

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A Wall dataset whose frames are floats, from a release in the layout of DINO-WM.
fn float_frames(folder: &Path) -> PathBuf {
    let data = folder.join("floats");
    let release = Path::new("fixtures/wall_single");
    succeeds(&["ingest", "wall", text(release), text(&data)]);
    data
}

#[test]
fn a_replay_buffer_comes_back_with_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 4);
    let (zarr, again) = (folder.path().join("x.zarr"), folder.path().join("again"));
    succeeds(&["export", "zarr", text(&data), text(&zarr)]);
    succeeds(&["ingest", "zarr", text(&zarr), text(&again), "--strict"]);
    succeeds(&["validate", text(&again)]);
    let (first, second) = (
        Dataset::open(&data).unwrap(),
        Dataset::open(&again).unwrap(),
    );
    assert_eq!(second.episodes().len(), 4);
    for (a, b) in first.episodes().iter().zip(second.episodes()) {
        assert_eq!(
            (a.length, &a.task, &a.extras),
            (b.length, &b.task, &b.extras)
        );
        let rows = 0..a.length as usize;
        let read = |dataset: &Dataset| dataset.read_rows(a.episode_index, rows.clone()).unwrap();
        assert_eq!(read(&first), read(&second));
        let indices: Vec<usize> = rows.clone().collect();
        let camera = &first.manifest().draft.cameras[0].name;
        let pixels = first
            .read_frames(camera, a.episode_index, &indices)
            .unwrap();
        let found = second
            .read_frames("img", a.episode_index, &indices)
            .unwrap();
        assert_eq!(Pixels::U8(pixels.into_u8()), found);
    }
}

#[test]
fn exports_are_the_same_bytes_every_time_and_whatever_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 3);
    for format in ["lerobot", "zarr"] {
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        succeeds(&["export", format, text(&data), text(&a), "--overwrite"]);
        succeeds(&[
            "export",
            format,
            text(&data),
            text(&b),
            "--overwrite",
            "--threads",
            "1",
        ]);
        assert_eq!(tree(&a), tree(&b), "{format}");
    }
}

#[test]
fn what_cannot_be_kept_is_said_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let data = float_frames(folder.path());
    for format in FORMATS {
        let out = out(folder.path(), format);
        let printed = succeeds(&["export", format, text(&data), text(&out), "--json"]);
        let summary: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let changes = summary["changes"].to_string();
        assert!(
            changes.contains("rounded to whole numbers"),
            "{format}: {changes}"
        );
        assert!(changes.contains("left out"), "{format}: {changes}");
        assert_eq!(
            changes.contains("NaN"),
            format == "swm",
            "{format}: {changes}"
        );
        if format != "swm" {
            let recorded = std::fs::read(out.join("meta/jepa_bench.json")).unwrap();
            let recorded: serde_json::Value = serde_json::from_slice(&recorded).unwrap();
            assert_eq!(recorded["changes"], summary["changes"]);
            assert_eq!(recorded["action"]["units"], "half pixels");
            assert_eq!(recorded["action"]["relative"], true);
        }
    }
    let planned = succeeds(&["export", "swm", text(&data), "nowhere.h5", "--dry-run"]);
    assert!(
        planned.contains("`observation.proprio` as `proprio`"),
        "{planned}"
    );
    assert!(!Path::new("nowhere.h5").exists());
}

#[test]
fn existing_things_are_replaced_only_if_they_are_exports_and_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 2);
    let before = tree(&data);
    for format in FORMATS {
        let out = out(folder.path(), format);
        let args = ["export", format, text(&data), text(&out)];
        succeeds(&args);
        let stderr = exits_with(2, &args);
        assert!(
            stderr.contains("exists already") && stderr.contains("--overwrite"),
            "{stderr}"
        );
        succeeds(&[&args[..], &["--overwrite"]].concat());
        let onto_itself = exits_with(
            2,
            &["export", format, text(&data), text(&data), "--overwrite"],
        );
        assert!(onto_itself.contains("not an export"), "{onto_itself}");
    }
    assert_eq!(tree(&data), before);
    assert_eq!(
        names(folder.path()),
        ["data", "export", "export.h5", "export.zarr"]
    );
    let unknown = exits_with(2, &["export", "minari", text(&data), "x"]);
    assert!(unknown.contains("`lerobot`, `swm` and `zarr`"), "{unknown}");
}

#[test]
fn a_full_disk_leaves_nothing_under_the_final_name() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 20);
    for format in FORMATS {
        let out = out(folder.path(), format);
        let outcome = with_file_limit(60, &["export", format, text(&data), text(&out)]);
        fails_clearly(outcome, folder.path());
        assert_eq!(names(folder.path()), ["data"], "{format}");
    }
}

#[test]
fn an_interrupted_export_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&collect(folder.path(), 3)).unwrap();
    for (_, format) in Format::ALL {
        let seen = std::cell::Cell::new(0);
        let progress = Progress {
            tick: &|| seen.set(seen.get() + 1),
            stopped: &|| seen.get() == 2,
        };
        let outcome = export(
            &dataset,
            format,
            &folder.path().join("out"),
            false,
            &progress,
        );
        assert!(matches!(outcome, Err(Error::Stopped)), "{format:?}");
        assert_eq!(names(folder.path()), ["data"], "{format:?}");
    }
}

#[test]
fn a_kill_leaves_nothing_under_the_final_name() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 40);
    for format in FORMATS {
        let out = out(folder.path(), format);
        let args = ["export", format, text(&data), text(&out)];
        let started = Instant::now();
        succeeds(&args);
        let takes = started.elapsed();
        let bytes = |path: &Path| {
            if path.is_dir() {
                tree(path).len()
            } else {
                path.metadata().unwrap().len() as usize
            }
        };
        let whole = bytes(&out);
        for part in [20, 50, 80] {
            if out.is_dir() {
                std::fs::remove_dir_all(&out).unwrap();
            } else if out.exists() {
                std::fs::remove_file(&out).unwrap();
            }
            killed_after(
                &args,
                takes
                    .mul_f64(f64::from(part) / 100.0)
                    .max(Duration::from_millis(1)),
            );
            assert!(
                !out.exists() || bytes(&out) == whole,
                "{format}: half an export"
            );
        }
    }
}

/// A Python with the libraries of the exports: `JEPA_BENCH_PYTHON`, or `python3` if it has them.
fn python() -> Option<String> {
    let given = std::env::var("JEPA_BENCH_PYTHON").ok();
    let python = given.clone().unwrap_or_else(|| "python3".into());
    let imports = [
        "-c",
        "import h5py, numpy, PIL, pyarrow, zarr; assert zarr.__version__ >= '3'",
    ];
    let found = Command::new(&python).args(imports).output();
    let found = found.is_ok_and(|output| output.status.success());
    assert!(
        found || given.is_none(),
        "JEPA_BENCH_PYTHON={python} cannot import h5py, numpy, PIL, pyarrow, zarr 3"
    );
    found.then_some(python)
}

#[test]
fn other_libraries_read_the_same_numbers() {
    let Some(python) = python() else {
        eprintln!(
            "\n*** SKIPPED: no Python with h5py, numpy, PIL, pyarrow and zarr 3; set JEPA_BENCH_PYTHON to check \
             exports with the libraries that own their layouts ***\n"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for data in [collect(folder.path(), 13), float_frames(folder.path())] {
        for format in FORMATS {
            succeeds(&[
                "export",
                format,
                text(&data),
                text(&out(folder.path(), format)),
                "--overwrite",
            ]);
        }
        let at = |format| out(folder.path(), format);
        let output = Command::new(&python)
            .arg("python/check_exports.py")
            .arg(&data)
            .arg("--lerobot")
            .arg(at("lerobot"))
            .arg("--swm")
            .arg(at("swm"))
            .arg("--zarr")
            .arg(at("zarr"))
            .env("HF_HUB_OFFLINE", "1")
            .env("HF_HOME", folder.path().join("cache"))
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{printed}\n{stderr}");
        assert!(printed.matches("ok      ").count() > 30, "{printed}");
        for line in printed.lines().filter(|line| line.starts_with("SKIPPED")) {
            eprintln!("*** {line} ***");
        }
    }
}

#[test]
fn repeated_trajectories_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("set");
    let release = Path::new("fixtures/bad/26_metaworld_duplicates/Metaworld");
    succeeds(&["ingest", "metaworld", text(release), text(&data)]);
    let json = succeeds(&[
        "inspect",
        text(&data),
        "--json",
        "--duplicates",
        "--alike",
        "0",
    ]);
    let found: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(found["duplicates"], serde_json::json!([[1, 3]]));
    assert_eq!(found["alike"], serde_json::json!([[1, 3]]));
    let lines = succeeds(&["inspect", text(&data), "--duplicates"]);
    assert!(lines.contains("same      episodes 1, 3"), "{lines}");
    let collected = collect(folder.path(), 3);
    let lines = succeeds(&["inspect", text(&collected), "--duplicates"]);
    assert!(lines.contains("same      no episodes"), "{lines}");
}
