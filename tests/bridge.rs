//! Simulators in another process that fail: one clear error each, and the run goes on.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::program;

/// Stands in for a Python that has Metaworld.
fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bridge/python")
}

/// Evaluates the scripted expert on six episodes; exit code, stdout and stderr.
fn evaluate(runs: &Path, fault: &str, more: &[&str]) -> (i32, String, String) {
    let output = program()
        .args([
            "eval",
            "--model",
            "oracle-expert",
            "--task",
            "mw-reach",
            "--episodes",
            "6",
            "--out",
        ])
        .arg(runs)
        .args(more)
        .env("JEPA_BENCH_PYTHON", python())
        .env("JEPA_BENCH_BRIDGE_TIMEOUT", "8")
        .env("FAULT", fault)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn a_simulator_that_dies_hangs_or_talks_nonsense_costs_its_own_episode() {
    let folder = tempfile::tempdir().unwrap();
    for (fault, words) in [
        (
            "crash:3",
            "was killed by signal 9 when it was asked for `step`",
        ),
        ("hang:4", "did not answer `step` within 8 s and was stopped"),
        ("garbage:5", "answered `step` with no message"),
    ] {
        let runs = folder.path().join(fault);
        let (code, stdout, stderr) = evaluate(&runs, fault, &[]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.contains("1 of 6 episodes failed"), "{stderr}");
        assert!(
            stderr.contains(words) && stderr.contains("the motor is on fire"),
            "{stderr}"
        );
        // Seeds begin at 1, episodes at 0.
        let episode: u32 = fault.split(':').nth(1).unwrap().parse().unwrap();
        assert!(
            stderr.contains(&format!("episode {} failed, the others go on", episode - 1)),
            "{stderr}"
        );

        let (code, stdout, stderr) = evaluate(&runs, "none", &["--json"]);
        assert_eq!(code, 0, "{stderr}");
        assert!(stderr.contains("after 5 of 6 episodes"), "{stderr}");
        let record: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(record["summary"]["successes"], 6, "{record}");
        assert_eq!(record["model"]["kind"], "oracle");
    }
}

#[test]
fn a_simulator_of_another_version_or_none_at_all_ends_the_command_with_one_error() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, stderr) = evaluate(folder.path(), "version", &[]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("version 999 of the protocol, this program version 1"),
        "{stderr}"
    );
    assert_eq!(stderr.matches("version 999").count(), 1, "{stderr}");
    assert!(stderr.contains("jepa-bench doctor"), "{stderr}");

    let output = program()
        .args(["rollout", "--env", "metaworld", "--seed", "1"])
        .env("JEPA_BENCH_PYTHON", "/no/such/python")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr.contains("`/no/such/python` cannot be started"),
        "{stderr}"
    );
}

#[test]
fn episodes_in_other_processes_do_not_depend_on_threads_or_shards() {
    let folder = tempfile::tempdir().unwrap();
    let episodes = |name: &str, more: &[&str]| {
        let runs = folder.path().join(name);
        let mut command = program();
        command
            .args([
                "eval",
                "--model",
                "floor:random",
                "--task",
                "mw-reach",
                "--episodes",
                "4",
                "--json",
                "--out",
            ])
            .arg(&runs)
            .args(more)
            .env("JEPA_BENCH_PYTHON", python());
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let record: Value = serde_json::from_slice(&output.stdout).unwrap();
        record["files"]["episodes.parquet"].clone()
    };
    let one = episodes("one", &["--threads", "1"]);
    assert_eq!(one, episodes("two", &["--threads", "2"]));
    assert!(one.is_string());
}

#[test]
fn tasks_in_other_processes_are_listed_without_starting_one() {
    let output = program()
        .args(["list", "tasks", "--json"])
        .env("JEPA_BENCH_PYTHON", "/no/such/python")
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("mw-reach-wall@1"), "{text}");
}
