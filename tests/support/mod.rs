//! Running the program, making small inputs, and comparing what it wrote.

pub(crate) mod torch;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use assert_cmd::Command;

/// The program with progress off and no environment of the caller.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jepa-bench-under-test"));
    command
        .env("NO_PROGRESS", "1")
        .env_remove("JEPA_BENCH_HOME")
        .env_remove("RUST_LOG");
    command
}

/// Runs the program, which must succeed, and returns its stdout.
pub(crate) fn succeeds(args: &[impl AsRef<OsStr>]) -> String {
    let output = program().args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} failed: {stderr}", shown(args));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program, which must exit with `code`, and returns its stderr.
pub(crate) fn exits_with(code: i32, args: &[impl AsRef<OsStr>]) -> String {
    let output = program().args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}: {stderr}",
        shown(args)
    );
    stderr
}

fn shown(args: &[impl AsRef<OsStr>]) -> String {
    let words: Vec<_> = args.iter().map(|a| a.as_ref().to_string_lossy()).collect();
    words.join(" ")
}

/// Runs the program and kills it without warning after `delay`; `true` when it had ended by itself.
pub(crate) fn killed_after(args: &[impl AsRef<OsStr>], delay: Duration) -> bool {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_jepa-bench-under-test"))
        .args(args)
        .env("NO_PROGRESS", "1")
        .env_remove("JEPA_BENCH_HOME")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(delay);
    let ended = child.try_wait().unwrap().is_some();
    // SIGKILL on Unix: nothing of the program runs afterwards.
    child.kill().unwrap();
    child.wait().unwrap();
    ended
}

/// Every file below a folder with the hash of its bytes, by relative path.
pub(crate) fn tree(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path
                    .strip_prefix(folder)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                let hash = blake3::hash(&std::fs::read(&path).unwrap());
                found.insert(name, hash.to_hex().to_string());
            }
        }
    }
    found
}

/// The only finished run below a folder of runs.
pub(crate) fn only_run(runs: &Path) -> PathBuf {
    let mut found = finished_runs(runs);
    assert_eq!(
        found.len(),
        1,
        "one finished run below {}: {found:?}",
        runs.display()
    );
    found.remove(0)
}

/// Every finished run below a folder of runs.
pub(crate) fn finished_runs(runs: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![runs.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.join("record.json").is_file() {
                found.push(path);
            } else if path.is_dir() {
                pending.push(path);
            }
        }
    }
    found
}

/// The text of a path.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A small Wall dataset.
pub(crate) fn collect(folder: &Path, episodes: u32) -> PathBuf {
    let data = folder.join("data");
    succeeds(&[
        "collect",
        "wall",
        text(&data),
        "--episodes",
        &episodes.to_string(),
    ]);
    data
}

/// Settings that train a small `pldm` in a few seconds.
pub(crate) const SMALL_MODEL: &[&str] = &[
    "--set",
    "pldm.predictor.width=16",
    "--set",
    "pldm.predictor.ensemble=2",
    "--set",
    "training.batch=4",
    "--set",
    "training.validation_slices=4",
    "--set",
    "training.checkpoint_every=5",
    "--set",
    "training.log_every=1",
];

/// Settings that plan an episode with such a model in well under a second.
pub(crate) const SMALL_PLANNER: &[&str] = &[
    "--set",
    "planner.candidates=30",
    "--set",
    "planner.elites=5",
    "--set",
    "planner.iterations=3",
];
