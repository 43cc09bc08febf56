//! Gives the program the commit it is built from, for the records of runs.
//!
//! `JEPA_BENCH_COMMIT` in the environment wins (for builds from an archive); otherwise git is asked; without
//! git, or outside a checkout, records say `unknown`. A build from changed files says `<commit>-modified`.

use std::process::Command;

/// Everything that the program is made of, relative to this package.
const SOURCES: [&str; 9] = [
    "../.git/HEAD",
    "../.git/index",
    "../Cargo.lock",
    "../bench",
    "../datasets/src",
    "../ingest/src",
    "../models/src",
    "../leaderboard/src",
    "../reports/src",
];

fn main() {
    println!("cargo::rerun-if-env-changed=JEPA_BENCH_COMMIT");
    for path in SOURCES {
        if std::path::Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let commit = std::env::var("JEPA_BENCH_COMMIT").ok().or_else(commit);
    if let Some(commit) = commit {
        println!("cargo::rustc-env=JEPA_BENCH_COMMIT={commit}");
    }
}

/// The commit of the checkout this package is in.
fn commit() -> Option<String> {
    let hash = git(&["rev-parse", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() {
        hash
    } else {
        format!("{hash}-modified")
    })
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
