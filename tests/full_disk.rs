//! A disk that takes no more: one clear error, nothing lost, and the same command goes on once there is room.
//!
//! The limit on the size of a file stands in for the disk: writes beyond it fail in the middle of a file,
//! without privileges.

use std::path::Path;

use crate::support::{SMALL_MODEL, collect, succeeds, text, tree};

/// Runs the program with files limited to `blocks` of 512 bytes; its exit code and stderr.
pub(crate) fn with_file_limit(blocks: u32, args: &[&str]) -> (Option<i32>, String) {
    // Ignoring the signal makes the write fail instead; both are inherited by the program.
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let output = std::process::Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_jepa-bench-under-test")])
        .args(args)
        .env("NO_PROGRESS", "1")
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

pub(crate) fn fails_clearly(outcome: (Option<i32>, String), folder: &Path) {
    let (code, stderr) = outcome;
    assert_eq!(code, Some(2), "{stderr}");
    assert!(
        stderr.lines().any(|l| l.starts_with("error: cannot ")),
        "{stderr}"
    );
    assert!(stderr.contains(text(folder)), "the file is named: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn collect_goes_on_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, full) = (folder.path().join("whole"), folder.path().join("full"));
    let command = |out| ["collect", "wall", out, "--episodes", "60", "--codec", "raw"];
    succeeds(&command(text(&whole)));
    fails_clearly(with_file_limit(400, &command(text(&full))), &full);
    succeeds(&command(text(&full)));
    assert_eq!(tree(&full), tree(&whole));
}

#[test]
fn train_goes_on_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    let (whole, full) = (folder.path().join("whole"), folder.path().join("full"));
    let command = |out| {
        let mut args = vec![
            "train",
            "--data",
            text(&data),
            "--out",
            out,
            "--steps",
            "10",
        ];
        args.extend(SMALL_MODEL);
        args
    };
    succeeds(&command(text(&whole)));
    fails_clearly(with_file_limit(100, &command(text(&full))), &full);
    succeeds(&command(text(&full)));
    let weights = |out: &Path| std::fs::read(out.join("model.safetensors")).unwrap();
    assert!(weights(&whole) == weights(&full), "weights differ");
}

#[test]
fn eval_goes_on_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("runs");
    let args = [
        "eval",
        "--model",
        "floor:random",
        "--task",
        "wall",
        "--out",
        text(&out),
    ];
    fails_clearly(with_file_limit(40, &args), &out);
    let kept = std::fs::read_dir(out.join("wall@1/floor-random"))
        .unwrap()
        .count();
    assert_eq!(kept, 1, "finished episodes are kept in one unfinished run");
    let printed = succeeds(&args);
    assert!(printed.contains("of 96"), "{printed}");
    assert_eq!(
        std::fs::read_dir(out.join("wall@1/floor-random"))
            .unwrap()
            .count(),
        1
    );
}
