//! Bad input: one message that says what, where and how to mend it; exit code 2; nothing executed.

use std::path::Path;

use crate::support::{SMALL_MODEL, collect, exits_with, succeeds, text, torch};

/// The message has a line `error: ..` with every one of `parts`, and a hint.
fn explains(stderr: &str, parts: &[&str]) {
    let error = stderr
        .lines()
        .find(|l| l.starts_with("error: "))
        .unwrap_or_default();
    for part in parts {
        assert!(stderr.contains(part), "`{part}` is not in: {stderr}");
    }
    assert!(!error.is_empty(), "no error line in: {stderr}");
    assert!(
        stderr.lines().any(|l| l.starts_with("hint: ")),
        "no hint in: {stderr}"
    );
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn a_missing_folder_is_named() {
    let stderr = exits_with(2, &["ingest", "wall", "nowhere/wall_single", "nowhere/out"]);
    explains(&stderr, &["nowhere/wall_single"]);
    let stderr = exits_with(
        2,
        &["train", "--data", "nowhere/data", "--out", "nowhere/run"],
    );
    explains(&stderr, &["nowhere/data"]);
    let stderr = exits_with(2, &["eval", "--model", "nowhere/run", "--task", "wall"]);
    explains(&stderr, &["nowhere/run"]);
}

#[test]
fn unknown_names_list_what_exists_and_what_is_near() {
    let stderr = exits_with(2, &["eval", "--model", "oracle", "--task", "wal"]);
    explains(&stderr, &["unknown task `wal`", "did you mean `wall"]);
    let stderr = exits_with(2, &["eval", "--model", "orakle", "--task", "wall"]);
    explains(&stderr, &["orakle", "did you mean `oracle`"]);
    let stderr = exits_with(
        2,
        &[
            "eval",
            "--model",
            "oracle",
            "--task",
            "wall",
            "--set",
            "planner.candidate=3",
        ],
    );
    explains(
        &stderr,
        &["planner.candidate", "did you mean `planner.candidates`"],
    );
    let stderr = exits_with(2, &["ingest", "walls", "a", "b"]);
    explains(&stderr, &["walls", "wall"]);
    let data = tempfile::tempdir().unwrap();
    let stderr = exits_with(
        2,
        &[
            "train",
            "--model",
            "plmd",
            "--data",
            text(data.path()),
            "--out",
            "x",
        ],
    );
    explains(&stderr, &["unknown model `plmd`", "did you mean `pldm`"]);
}

#[test]
fn an_unknown_key_in_a_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.toml");
    std::fs::write(&path, "[training]\nlearning_rat = 0.1\n").unwrap();
    let args = [
        "train",
        "--data",
        "d",
        "--out",
        "o",
        "--config",
        text(&path),
    ];
    let stderr = exits_with(2, &args);
    explains(
        &stderr,
        &[
            "training.learning_rat",
            "did you mean `training.learning_rate`",
        ],
    );
}

/// Every ingested episode fails, so there is nothing to write.
fn ingest_fails(folder: &Path) -> String {
    let source = folder.join("wall_single");
    let out = folder.join("out");
    exits_with(2, &["ingest", "wall", text(&source), text(&out)])
}

#[test]
fn a_truncated_tensor_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    torch::wall_release(folder.path(), 2, 20, 8);
    let states = folder.path().join("wall_single/states.pth");
    let bytes = std::fs::read(&states).unwrap();
    std::fs::write(&states, &bytes[..bytes.len() / 2]).unwrap();
    explains(&ingest_fails(folder.path()), &["states.pth"]);
}

#[test]
fn a_pickle_that_names_a_function_is_refused_and_never_run() {
    let folder = tempfile::tempdir().unwrap();
    torch::wall_release(folder.path(), 2, 20, 8);
    let marker = folder.path().join("executed");
    let command = format!("touch {}", text(&marker));
    // os.system(command), as pickle would call it.
    let mut pickle = b"\x80\x02cposix\nsystem\n(X".to_vec();
    pickle.extend((command.len() as u32).to_le_bytes());
    pickle.extend(command.bytes());
    pickle.extend(b"tR.");
    torch::save_pickle(&folder.path().join("wall_single/states.pth"), &pickle, &[]);
    explains(
        &ingest_fails(folder.path()),
        &["states.pth", "posix.system"],
    );
    assert!(!marker.exists());
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    let folder = tempfile::tempdir().unwrap();
    torch::wall_release(folder.path(), 2, 20, 8);
    let states = folder.path().join("wall_single/states.pth");
    torch::save(&states, torch::Kind::F32, &[2, 20, 3], &[0.0; 120]);
    explains(&ingest_fails(folder.path()), &["states.pth", "[2, 20, 3]"]);
}

#[test]
fn a_dataset_of_a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 4);
    let manifest = data.join("dataset.json");
    let text_before = std::fs::read_to_string(&manifest).unwrap();
    let changed = text_before.replace("\"format_version\": 1", "\"format_version\": 2");
    assert_ne!(changed, text_before);
    std::fs::write(&manifest, changed).unwrap();
    let stderr = exits_with(2, &["inspect", text(&data)]);
    explains(&stderr, &["format version 2"]);
}

#[test]
fn a_corrupt_shard_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 40);
    let shard = largest_file(&data.join("frames"));
    let mut bytes = std::fs::read(&shard).unwrap();
    let end = bytes.len() / 2;
    for byte in &mut bytes[..end] {
        *byte ^= 0x55;
    }
    std::fs::write(&shard, bytes).unwrap();
    let out = folder.path().join("model");
    let mut args = vec![
        "train",
        "--data",
        text(&data),
        "--out",
        text(&out),
        "--steps",
        "20",
    ];
    args.extend(SMALL_MODEL);
    let stderr = exits_with(2, &args);
    let name = shard.strip_prefix(&data).unwrap();
    explains(&stderr, &[text(name)]);
}

fn largest_file(folder: &Path) -> std::path::PathBuf {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.push((path.metadata().unwrap().len(), path));
            }
        }
    }
    found.into_iter().max().unwrap().1
}

#[test]
fn a_folder_of_another_run_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    let out = folder.path().join("model");
    let train = |steps: &str| {
        let mut args = vec![
            "train",
            "--data",
            text(&data),
            "--out",
            text(&out),
            "--steps",
            steps,
        ];
        args.extend(SMALL_MODEL);
        args.into_iter().map(String::from).collect::<Vec<_>>()
    };
    succeeds(&train("4"));
    let before = std::fs::read(out.join("model.safetensors")).unwrap();
    explains(&exits_with(2, &train("5")), &["another configuration"]);
    assert!(before == std::fs::read(out.join("model.safetensors")).unwrap());
}
