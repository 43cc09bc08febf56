//! Frozen encoders with weights: imported, embedded once, trained and planned on.

use std::path::{Path, PathBuf};

use crate::support::{SMALL_PLANNER, collect, exits_with, succeeds, text, tree};

/// Sizes of the encoder of the reference case, for images of four patches.
const SIZES: &str = r#"{"family": "dinov2", "transformer": {"width": 48, "depth": 2, "heads": 2, "hidden": 192,
    "epsilon": 1e-6, "layer_scale": true}, "patch": 14, "image": 28, "stored_grid": 37, "registers": 0,
    "resize": {"offset": 0.1, "antialias": false}}"#;

const FILE: &str = "fixtures/models/encoder_dinov2/model.pth";

/// A folder of weights of a small encoder.
fn weights(folder: &Path) -> PathBuf {
    let (sizes, out) = (folder.join("sizes.json"), folder.join("weights"));
    std::fs::write(&sizes, SIZES).unwrap();
    succeeds(&[
        "weights",
        "import",
        FILE,
        "--model",
        "dinov2-small",
        "--sizes",
        text(&sizes),
        "--out",
        text(&out),
    ]);
    out
}

/// Trains a small model on the tokens of that encoder.
fn train(data: &Path, weights: &Path, out: &Path) {
    let encoder = format!("token.encoder.weights={}", weights.display());
    let mut args = vec!["train", "--model", "ours", "--data", text(data)];
    args.extend(["--out", text(out), "--steps", "3"]);
    let settings = [
        "token.encoder.kind=imported",
        encoder.as_str(),
        "token.predictor.depth=1",
        "token.predictor.width=24",
        "token.predictor.heads=2",
        "training.batch=4",
        "training.validation_slices=4",
    ];
    for setting in settings {
        args.extend(["--set", setting]);
    }
    succeeds(&args);
}

fn model(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("model.safetensors")).unwrap()
}

/// The only folder of features of a dataset.
fn features(data: &Path) -> PathBuf {
    let mut found = std::fs::read_dir(data.join("features")).unwrap();
    let folder = found.next().unwrap().unwrap().path();
    assert!(found.next().is_none());
    folder
}

#[test]
fn a_model_trained_on_stored_tokens_is_the_one_trained_on_frames() {
    let folder = tempfile::tempdir().unwrap();
    let (data, weights) = (collect(folder.path(), 12), weights(folder.path()));
    let (live, stored) = (folder.path().join("live"), folder.path().join("stored"));
    train(&data, &weights, &live);
    let embed = ["embed", text(&data), "--weights", text(&weights)];
    succeeds(&[&embed[..], &["--dtype", "f32", "--shard", "0/2"]].concat());
    succeeds(&[&embed[..], &["--dtype", "f32", "--shard", "1/2"]].concat());
    succeeds(&["validate", text(&data)]);
    train(&data, &weights, &stored);
    let differ = model(&live)
        .iter()
        .zip(&model(&stored))
        .filter(|(a, b)| a != b)
        .count();
    assert_eq!(differ, 0, "bytes of the weights differ");

    // Tokens are read from the files: with other numbers in them another model comes out.
    let first = features(&data).join("episode_000000.npy");
    let mut bytes = std::fs::read(&first).unwrap();
    for number in bytes[128..].as_chunks_mut::<4>().0 {
        *number = (-f32::from_le_bytes(*number)).to_le_bytes();
    }
    std::fs::write(&first, bytes).unwrap();
    let changed = folder.path().join("changed");
    train(&data, &weights, &changed);
    assert_ne!(model(&live), model(&changed));

    let out = folder.path().join("runs");
    let mut eval = vec!["eval", "--model", text(&live), "--task", "wall", "--out"];
    eval.extend([text(&out), "--episodes", "1"]);
    eval.extend(SMALL_PLANNER);
    succeeds(&eval);
    // On another machine the weights may be elsewhere.
    std::fs::rename(&weights, live.join("encoder")).unwrap();
    eval.extend(["--seed", "7"]);
    succeeds(&eval);
    std::fs::remove_dir_all(live.join("encoder")).unwrap();
    let stderr = exits_with(2, &eval);
    assert!(stderr.contains("weights of the image encoder"), "{stderr}");
}

#[test]
fn stored_tokens_do_not_depend_on_how_they_were_made_and_are_those_of_numpy() {
    let folder = tempfile::tempdir().unwrap();
    let (data, weights) = (collect(folder.path(), 4), weights(folder.path()));
    let embed = ["embed", text(&data), "--weights", text(&weights)];
    succeeds(&[&embed[..], &["--threads", "1"]].concat());
    let made = features(&data);
    let whole = tree(&made);
    assert_eq!(whole.len(), 5, "four episodes and a document");
    // A stop in the middle leaves some episodes; the same command makes the others.
    std::fs::remove_file(made.join("episode_000002.npy")).unwrap();
    let refused = exits_with(
        2,
        &[
            "train",
            "--model",
            "ours",
            "--data",
            text(&data),
            "--out",
            text(&folder.path().join("run")),
            "--set",
            "token.encoder.kind=imported",
            "--set",
            &format!("token.encoder.weights={}", weights.display()),
        ],
    );
    assert!(refused.contains("features of 3 of 4 episodes"), "{refused}");
    succeeds(&[&embed[..], &["--threads", "3"]].concat());
    assert_eq!(tree(&made), whole);
    let file = std::fs::read(made.join("episode_000000.npy")).unwrap();
    let header = String::from_utf8_lossy(&file[10..128]);
    assert!(
        header.contains("'descr': '<f2'") && header.contains("'shape': (51, 4, 48)"),
        "{header}"
    );
    assert_eq!(file.len(), 128 + 51 * 4 * 48 * 2);
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (data, weights) = (collect(folder.path(), 2), weights(folder.path()));
    let (data, weights) = (text(&data), text(&weights));
    let embed = |more: &[&str]| exits_with(2, &[&["embed", data], more].concat());
    let stderr = embed(&["--weights", weights, "--encoder", "dinov3-small"]);
    assert!(stderr.contains("holds `dinov2-small`"), "{stderr}");
    let stderr = embed(&["--weights", FILE]);
    assert!(stderr.contains("`--encoder`"), "{stderr}");
    let stderr = embed(&["--weights", FILE, "--encoder", "dinov2-smal"]);
    assert!(stderr.contains("dinov2-small"), "{stderr}");
    // The file is of a narrower encoder than the released one.
    let stderr = embed(&["--weights", FILE, "--encoder", "dinov2-small"]);
    assert!(stderr.contains("cls_token"), "{stderr}");
    let stderr = embed(&["--weights", weights, "--image", "30"]);
    assert!(stderr.contains("multiple of the patch 14"), "{stderr}");
    let stderr = embed(&["--weights", weights, "--camera", "side"]);
    assert!(stderr.contains("side"), "{stderr}");
    let stderr = embed(&["--weights", "no/such/folder", "--encoder", "dinov2-small"]);
    assert!(stderr.contains("no/such/folder"), "{stderr}");
}
