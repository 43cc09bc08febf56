//! Weight files of other programs and reference cases, through the program.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{exits_with, program, succeeds, text, torch};

/// Folders that hold inputs of other cases and nothing to compare.
const INPUTS_ONLY: &[&str] = &["images", "preprocess_images"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models")
}

/// Names of all case folders, in order.
fn cases() -> Vec<String> {
    let folders = std::fs::read_dir(fixtures()).unwrap();
    let mut names: Vec<String> = folders
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| fixtures().join(name).is_dir())
        .collect();
    names.sort();
    names
}

/// A copy of a case that a test may damage.
fn copy(case: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join(case);
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(fixtures().join(case)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    (folder, to)
}

/// Adds `amount` to the first number of a 32-bit array of a safetensors file.
fn change(path: &Path, name: &str, amount: f32) {
    let mut bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    assert_eq!(header[name]["dtype"], "F32");
    let at = 8 + length + header[name]["data_offsets"][0].as_u64().unwrap() as usize;
    let value = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) + amount;
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

/// A safetensors file of arrays of equal numbers.
fn safetensors(arrays: &[(String, Vec<usize>)], value: f32) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in arrays {
        let start = data.len();
        let count = shape.iter().product::<usize>();
        data.extend(std::iter::repeat_n(value.to_le_bytes(), count).flatten());
        let entry = serde_json::json!({
            "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()],
        });
        header.insert(name.clone(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], &header, &data].concat()
}

/// The five vectors of LPIPS.
fn lpips() -> Vec<(String, Vec<usize>)> {
    let channels = [64, 128, 256, 512, 512].into_iter().enumerate();
    channels
        .map(|(k, c)| (format!("lin{k}.model.1.weight"), vec![1, c, 1, 1]))
        .collect()
}

#[test]
fn every_reference_case_passes_or_is_listed_as_not_computed_yet() {
    let folders: Vec<PathBuf> = cases().iter().map(|name| fixtures().join(name)).collect();
    let output = program()
        .args(["weights", "check", "--json"])
        .args(&folders)
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut seen = 0;
    for case in document["cases"].as_array().unwrap() {
        let name = case["case"].as_str().unwrap();
        seen += 1;
        let reason = case["reason"].as_str().unwrap_or_default();
        if INPUTS_ONLY.contains(&name) {
            assert_eq!(case["status"], "skipped", "{name}");
            assert!(reason.contains("inputs of other cases"), "{name}: {reason}");
        } else {
            assert_eq!(case["status"], "passed", "{case:#}");
            assert!(!case["outputs"].as_array().unwrap().is_empty());
        }
    }
    assert_eq!(seen, cases().len());
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_case_prints_a_line_for_every_output() {
    let case = fixtures().join("head_image_decoder");
    let stdout = succeeds(&["weights", "check", text(&case)]);
    assert!(
        stdout.starts_with("head_image_decoder: VisionTransformerDecoder"),
        "{stdout}"
    );
    for output in ["image ", "denormalised ", "image_u8 ", "l1_loss "] {
        let line = stdout
            .lines()
            .find(|line| line.starts_with(output))
            .unwrap();
        assert!(line.trim_end().ends_with("yes"), "{line}");
    }
}

#[test]
fn a_case_says_where_it_was_computed_and_a_device_that_is_not_there_is_refused() {
    let case = fixtures().join("head_state_decoder");
    let document = |more: &[&str]| -> Value {
        let words = ["weights", "check", "--json", text(&case)];
        serde_json::from_str(&succeeds(&[&words[..], more].concat())).unwrap()
    };
    let on_processor = document(&["--device", "cpu"]);
    assert_eq!(on_processor["device"], "cpu");
    assert_eq!(on_processor, document(&[]));
    for wrong in ["cuda:4096", "gpu"] {
        let stderr = exits_with(2, &["weights", "check", text(&case), "--device", wrong]);
        assert!(stderr.contains(wrong), "{stderr}");
    }
}

#[test]
fn a_changed_output_exits_with_1_and_is_named() {
    let (_folder, case) = copy("head_state_decoder");
    change(&case.join("outputs.safetensors"), "state_pred", 0.01);
    let output = program()
        .args(["weights", "check", text(&case)])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let ends = |name: &str| {
        let line = stdout.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().last().unwrap().to_string()
    };
    assert_eq!(
        (ends("state_pred"), ends("l1_loss")),
        ("NO".into(), "yes".into()),
        "{stdout}"
    );

    // Among others it decides the exit code, and the others are still run.
    let whole = fixtures().join("lpips_arithmetic");
    let output = program()
        .args(["weights", "check", "--json", text(&case), text(&whole)])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["passed"], false);
    assert_eq!(document["cases"][0]["status"], "failed");
    assert_eq!(document["cases"][0]["outputs"][0]["passed"], false);
    assert_eq!(document["cases"][1]["status"], "passed");
}

#[test]
fn changed_weights_change_every_output() {
    let (_folder, case) = copy("head_state_decoder");
    let path = case.join("manifest.json");
    let manifest = std::fs::read_to_string(&path).unwrap();
    let changed = manifest.replace("\"layer_norm_eps\": 1e-05", "\"layer_norm_eps\": 0.1");
    assert_ne!(manifest, changed);
    std::fs::write(&path, changed).unwrap();
    exits_with(1, &["weights", "check", text(&case)]);
}

#[test]
fn weights_that_cannot_be_read_exit_with_2_and_say_why() {
    let (_folder, case) = copy("head_state_decoder");
    let path = case.join("model.pth.tar");
    let whole = std::fs::read(&path).unwrap();
    let says = |bytes: &[u8], parts: &[&str]| {
        std::fs::write(&path, bytes).unwrap();
        let stderr = exits_with(2, &["weights", "check", text(&case)]);
        for part in parts
            .iter()
            .chain(&["error: cannot read weights", "model.pth.tar"])
        {
            assert!(stderr.contains(part), "`{part}` is not in: {stderr}");
        }
        assert!(!stderr.contains("panicked"), "{stderr}");
    };
    says(
        &whole[..whole.len() / 2],
        &["is cut short", "hint: download the file again"],
    );
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456\n";
    says(
        pointer,
        &["is a Git LFS pointer", "123456", "hint: run `git lfs pull`"],
    );
    says(b"<!doctype html>", &["web page", "hint: "]);
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    says(&damaged, &["checksum"]);
    std::fs::remove_file(&path).unwrap();
    let stderr = exits_with(2, &["weights", "check", text(&case)]);
    assert!(stderr.contains("is missing"), "{stderr}");
}

#[test]
fn a_case_that_does_not_fit_its_manifest_exits_with_2() {
    let (_folder, case) = copy("head_image_decoder");
    let path = case.join("manifest.json");
    let manifest = std::fs::read_to_string(&path).unwrap();
    let says = |from: &str, to: &str, part: &str| {
        let changed = manifest.replace(from, to);
        assert_ne!(manifest, changed);
        std::fs::write(&path, changed).unwrap();
        let stderr = exits_with(2, &["weights", "check", text(&case)]);
        assert!(
            stderr.contains(part) && !stderr.contains("panicked"),
            "{stderr}"
        );
    };
    says(
        "\"depth\": 2",
        "\"depth\": 3",
        "12 missing [decoder_blocks.2.norm1.weight",
    );
    says(
        "\"decoder_embed_dim\": 48",
        "\"decoder_embed_dim\": 46",
        "multiple of 4",
    );
    says("\"embed_dim\": 20,", "", "embed_dim");
    says(
        "VisionTransformerDecoder",
        "UnheardOf",
        "no check for class `UnheardOf",
    );
    std::fs::write(&path, "{").unwrap();
    exits_with(2, &["weights", "check", text(&case)]);
}

#[test]
fn inputs_alone_are_nothing_to_check() {
    let stderr = exits_with(2, &["weights", "check", text(&fixtures().join("images"))]);
    assert!(stderr.contains("holds inputs of other cases"), "{stderr}");
    exits_with(2, &["weights", "check", text(&fixtures().join("nowhere"))]);
    let both = [
        fixtures().join("images"),
        fixtures().join("lpips_arithmetic"),
    ];
    let stdout = succeeds(&["weights", "check", text(&both[0]), text(&both[1])]);
    assert!(stdout.contains("images: skipped: "), "{stdout}");
    assert!(stdout.contains("1 passed, 0 failed, 1 skipped"), "{stdout}");
}

#[test]
fn imported_weights_say_what_they_were_made_from() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("vgg.pth"), folder.path().join("out"));
    std::fs::write(&file, safetensors(&lpips(), 0.5)).unwrap();
    let import = |more: &[&str]| {
        let mut args = vec![
            "weights",
            "import",
            text(&file),
            "--model",
            "lpips_vgg",
            "--out",
            text(&out),
        ];
        args.extend(more);
        args.into_iter().map(String::from).collect::<Vec<_>>()
    };
    let planned = succeeds(&import(&["--dry-run"]));
    assert!(
        planned.starts_with("would write") && planned.contains("1472 numbers in 5 arrays"),
        "{planned}"
    );
    assert!(!out.exists());

    let config: Value = serde_json::from_str(&succeeds(&import(&["--json"]))).unwrap();
    let written: Value =
        serde_json::from_slice(&std::fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(config, written);
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(
        config["source"]["blake3"],
        blake3::hash(&bytes).to_hex().to_string()
    );
    assert_eq!(config["source"]["file"], "vgg.pth");
    assert_eq!(config["source"]["bytes"], bytes.len());
    assert_eq!(config["source"]["sha256"].as_str().unwrap().len(), 64);
    let weights = std::fs::read(out.join("weights.safetensors")).unwrap();
    assert_eq!(
        config["weights_blake3"],
        blake3::hash(&weights).to_hex().to_string()
    );

    // The same file again is fine, another one is not.
    succeeds(&import(&[]));
    std::fs::write(&file, safetensors(&lpips(), 0.25)).unwrap();
    let stderr = exits_with(2, &import(&[]));
    assert!(
        stderr.contains("holds weights of another file") && stderr.contains("hint: "),
        "{stderr}"
    );
    succeeds(&import(&["--overwrite"]));
    assert_ne!(
        weights,
        std::fs::read(out.join("weights.safetensors")).unwrap()
    );
}

#[test]
fn partial_files_are_refused_with_every_key() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("vgg.pth"), folder.path().join("out"));
    let mut arrays = lpips();
    arrays.remove(2);
    arrays[0].1 = vec![64];
    arrays.push(("lin9.model.1.weight".into(), vec![3]));
    std::fs::write(&file, safetensors(&arrays, 0.5)).unwrap();
    let import = |file: &Path, model: &str| {
        exits_with(
            2,
            &[
                "weights",
                "import",
                text(file),
                "--model",
                model,
                "--out",
                text(&out),
            ],
        )
    };
    let stderr = import(&file, "lpips_vgg");
    for part in [
        "1 missing [lin2.model.1.weight]",
        "1 unexpected [lin9.model.1.weight]",
        "lin0.model.1.weight: [64] in the file, [1, 64, 1, 1] in the model",
        "hint: ",
    ] {
        assert!(stderr.contains(part), "`{part}` is not in: {stderr}");
    }
    // A small decoder under the name of a large one, and a file of something else.
    let small = fixtures().join("head_image_decoder/model.pth.tar");
    let stderr = import(&small, "dinov2_vits_224_INet");
    assert!(stderr.contains("another grid"), "{stderr}");
    let other = fixtures().join("train_adaln/model_step3.pth.tar");
    let stderr = import(&other, "dinov2_vits_224_INet");
    assert!(stderr.contains("no such entry"), "{stderr}");
    let stderr = import(&small, "lpips_vg");
    assert!(stderr.contains("did you mean `lpips_vgg`"), "{stderr}");
    assert!(!out.exists());
}

#[test]
fn one_key_too_many_is_enough_to_refuse_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("vgg.pth"), folder.path().join("out"));
    let mut arrays = lpips();
    arrays.push(("lin5.model.1.weight".into(), vec![1, 512, 1, 1]));
    std::fs::write(&file, safetensors(&arrays, 0.5)).unwrap();
    let args = ["weights", "import", text(&file), "--model", "lpips_vgg"];
    let stderr = exits_with(2, &[&args[..], &["--out", text(&out)]].concat());
    assert!(
        stderr.contains("0 missing [], 1 unexpected [lin5.model.1.weight]"),
        "{stderr}"
    );
    assert!(!out.exists());
}

#[test]
fn a_small_file_that_names_its_numbers_again_and_again_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("vgg.pth"), folder.path().join("out"));
    torch::save_repeated(&file, 100, &vec![0.5; 10_000]);
    let args = ["weights", "import", text(&file), "--model", "lpips_vgg"];
    let stderr = exits_with(2, &[&args[..], &["--out", text(&out)]].concat());
    assert!(stderr.contains("1000000 numbers in a file of"), "{stderr}");
}

#[test]
fn the_list_says_where_files_are() {
    let stdout = succeeds(&["weights", "list"]);
    assert!(
        stdout.contains("dinov2_vits_224_INet") && stdout.contains("https://"),
        "{stdout}"
    );
    let items: Value = serde_json::from_str(&succeeds(&["weights", "list", "--json"])).unwrap();
    let whole = |item: &Value| {
        ["name", "summary", "kind", "origin"]
            .iter()
            .all(|key| item[key].is_string())
    };
    assert!(items.as_array().unwrap().iter().all(whole));
}
