//! Released world models: imported, listed and planned with like a training run.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{SMALL_PLANNER, exits_with, only_run, succeeds, text};

/// A predictor for Wall on tokens of width 48, in the layout of `jepa_wm_wall`.
const MODEL: &str = "fixtures/models/pipeline_end_to_end/model.pth.tar";
const ENCODER: &str = "fixtures/models/encoder_dinov2/model.pth";

/// Sizes of the encoder of the reference case, for images of side `image`.
fn encoder_sizes(image: usize) -> Value {
    json!({
        "family": "dinov2",
        "transformer": { "width": 48, "depth": 2, "heads": 2, "hidden": 192, "epsilon": 1e-6, "layer_scale": true },
        "patch": 14, "image": image, "stored_grid": 37, "registers": 0,
        "resize": { "offset": 0.1, "antialias": false },
    })
}

/// A folder with what a test imports.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let sizes = desk.write("encoder.json", &encoder_sizes(28));
        let mut args = vec!["weights", "import", ENCODER, "--model", "dinov2-small"];
        let out = desk.path("encoder");
        args.extend(["--sizes", text(&sizes), "--out", text(&out)]);
        succeeds(&args);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, value: &Value) -> PathBuf {
        std::fs::write(self.path(name), value.to_string()).unwrap();
        self.path(name)
    }

    /// The sizes that `weights list` shows of the released model, with those of the small one in their place. Four tokens
    /// per frame are enough here: no array of the predictor depends on their number.
    fn sizes(&self, change: impl Fn(&mut Value)) -> PathBuf {
        let list: Value = serde_json::from_str(&succeeds(&["weights", "list", "--json"])).unwrap();
        let released = |item: &&Value| item["name"] == "jepa_wm_wall";
        let mut sizes = list.as_array().unwrap().iter().find(released).unwrap()["sizes"].clone();
        for (key, value) in [
            ("encoder_width", json!(48)),
            ("grid", json!([2, 2])),
            ("image", json!(28)),
        ] {
            assert!(sizes[key] != value);
            sizes[key] = value;
        }
        for (key, value) in [
            ("width", 32),
            ("depth", 2),
            ("heads", 2),
            ("proprio_width", 8),
        ] {
            assert!(sizes["predictor"][key].is_u64());
            sizes["predictor"][key] = json!(value);
        }
        change(&mut sizes);
        self.write("model.json", &sizes)
    }

    /// The command that imports the small model.
    fn import(&self, change: impl Fn(&mut Value), more: &[&str]) -> Vec<String> {
        let (sizes, encoder) = (self.sizes(change), self.path("encoder"));
        let mut args = vec!["weights", "import", MODEL, "--model", "jepa_wm_wall"];
        args.extend(["--sizes", text(&sizes), "--encoder", text(&encoder)]);
        let out = self.path("model");
        args.extend(["--out", text(&out)]);
        args.extend(more);
        args.into_iter().map(String::from).collect()
    }

    /// The command refuses, and writes nothing.
    #[track_caller]
    fn refuses(&self, change: impl Fn(&mut Value), more: &[&str], parts: &[&str]) {
        let stderr = exits_with(2, &self.import(change, more));
        for part in parts {
            assert!(stderr.contains(part), "`{part}` is not in: {stderr}");
        }
        assert!(!self.path("model").exists());
    }
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Plans with a small search.
fn evaluate(model: &Path, out: &Path, more: &[&str]) -> Vec<String> {
    let mut args = vec!["eval", "--model", text(model), "--task", "wall"];
    args.extend(["--episodes", "1", "--out", text(out)]);
    args.extend(SMALL_PLANNER);
    args.extend(["--set", "planner.candidates=6", "--set", "planner.elites=2"]);
    args.extend(more);
    args.into_iter().map(String::from).collect()
}

#[test]
fn a_released_model_is_imported_and_evaluated_like_a_training_run() {
    let desk = Desk::new();
    let dry = succeeds(&desk.import(|_| (), &["--dry-run"]));
    assert!(
        dry.starts_with("would write") && dry.contains("jepa_wm_wall"),
        "{dry}"
    );
    assert!(!desk.path("model").exists());

    let model = desk.path("model");
    let printed: Value =
        serde_json::from_str(&succeeds(&desk.import(|_| (), &["--json"]))).unwrap();
    // It says where it is from, and holds the published statistics of Wall.
    let config = json_of(&model.join("config.json"));
    assert_eq!(printed, config);
    let file = std::fs::read(MODEL).unwrap();
    assert_eq!(
        config["source"]["blake3"],
        blake3::hash(&file).to_hex().to_string()
    );
    assert!(
        config["source"]["origin"]
            .as_str()
            .unwrap()
            .ends_with("wall_jepa-wm.pth.tar")
    );
    let described = json_of(&model.join("model.json"));
    let info = &described["info"];
    assert_eq!(info["name"], "jepa_wm_wall");
    assert_eq!(info["training"], Value::Null);
    assert_eq!(info["action"]["mean"][0], -0.005_564_616_061_747_074);
    assert_eq!(info["proprio"]["std"][1], 17.275_167_465_209_96);
    assert_eq!(
        (&info["frameskip"], &info["image_height"]),
        (&json!(5), &json!(224))
    );

    let runs = desk.path("runs");
    succeeds(&evaluate(&model, &runs, &[]));
    let run = only_run(&runs);
    let record = json_of(&run.join("record.json"));
    assert_eq!(record["model"]["name"], "jepa_wm_wall");
    assert_eq!(record["model"]["weights_hash"], config["weights_blake3"]);
    let board = desk.path("board.sqlite");
    succeeds(&["leaderboard", "add", "--db", text(&board), text(&run)]);

    let mut plan = vec!["plan", "--model", text(&model), "--task", "wall"];
    plan.extend(SMALL_PLANNER);
    plan.extend(["--set", "planner.candidates=6", "--set", "planner.elites=2"]);
    let plan = succeeds(&plan);
    assert!(
        plan.contains("jepa_wm_wall") && plan.contains("imagined"),
        "{plan}"
    );
}

#[test]
fn an_imported_model_finds_its_encoder_and_knows_it() {
    let desk = Desk::new();
    succeeds(&desk.import(|_| (), &[]));
    // Elsewhere, the encoder lies in the folder of the model.
    let (model, encoder) = (desk.path("model"), desk.path("encoder"));
    std::fs::rename(&encoder, model.join("encoder")).unwrap();
    let runs = desk.path("runs");
    succeeds(&evaluate(&model, &runs, &[]));
    // Other weights are not what the model was imported with.
    let weights = model.join("encoder/weights.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, &bytes).unwrap();
    let document = model.join("encoder/config.json");
    let mut config = json_of(&document);
    config["weights_blake3"] = json!(blake3::hash(&bytes).to_hex().to_string());
    std::fs::write(&document, config.to_string()).unwrap();
    let stderr = exits_with(2, &evaluate(&model, &runs, &["--fresh"]));
    assert!(
        stderr.contains("not the ones that the model was trained with"),
        "{stderr}"
    );
    std::fs::remove_dir_all(model.join("encoder")).unwrap();
    let stderr = exits_with(2, &evaluate(&model, &runs, &["--fresh"]));
    assert!(stderr.contains("weights of the image encoder"), "{stderr}");
}

#[test]
fn statistics_of_another_dataset_can_be_given() {
    let desk = Desk::new();
    let data = crate::support::collect(desk.folder.path(), 6);
    let printed = succeeds(&["stats", text(&data), "--split", "train", "--json"]);
    let stats: Value = serde_json::from_str(&printed).unwrap();
    let file = desk.write("stats.json", &stats);
    succeeds(&desk.import(|s| s["statistics"] = Value::Null, &["--stats", text(&file)]));
    let described = json_of(&desk.path("model/model.json"));
    let of_data = &stats["fields"]["action"];
    assert_eq!(described["info"]["action"]["mean"], of_data["mean"]);
    assert_eq!(described["info"]["action"]["std"], of_data["std"]);
}

#[test]
fn what_is_missing_or_does_not_fit_is_named() {
    let desk = Desk::new();
    desk.refuses(
        |s| s["statistics"] = Value::Null,
        &[],
        &["the sizes name no dataset", "hint: pass `--stats FILE`"],
    );
    desk.refuses(
        |s| s["predictor"]["depth"] = json!(3),
        &[],
        &["14 missing [predictor.predictor_blocks.2", "0 unexpected"],
    );
    desk.refuses(
        |s| s["predictor"]["depth"] = json!(1),
        &[],
        &["0 missing", "unexpected [predictor.predictor_blocks.1"],
    );
    desk.refuses(
        |s| s["encoder_width"] = json!(64),
        &[],
        &[
            "sees 2x2 tokens of 64",
            "holds `dinov2-small`: 2x2 tokens of 48",
        ],
    );
    desk.refuses(
        |s| s["predictor"]["kind"] = json!("feature"),
        &[],
        &["is not that of `jepa_wm_wall`"],
    );
    desk.refuses(
        |s| s["widht"] = json!(1),
        &[],
        &["unknown field `widht`", "weights list --json"],
    );
    let other = desk.write("other.json", &json!({ "fields": {} }));
    desk.refuses(
        |_| (),
        &["--stats", text(&other)],
        &["no statistics of `action`"],
    );
}

#[test]
fn a_world_model_needs_an_encoder_and_nothing_else_takes_one() {
    let desk = Desk::new();
    let out = desk.path("out");
    let mut args = vec!["weights", "import", MODEL, "--model", "dino_wm_wall"];
    args.extend(["--out", text(&out)]);
    let stderr = exits_with(2, &args);
    assert!(
        stderr.contains("without its image encoder, `dinov2-small`"),
        "{stderr}"
    );
    let encoder = desk.path("encoder");
    args[4] = "dinov2-small";
    args.extend(["--encoder", text(&encoder)]);
    let stderr = exits_with(2, &args);
    assert!(stderr.contains("it is no world model"), "{stderr}");
    args[4] = "jepa_wm_wal";
    let stderr = exits_with(2, &args);
    assert!(stderr.contains("did you mean `jepa_wm_wall`"), "{stderr}");
    assert!(!out.exists());
    // The encoder at hand is a small one.
    args[4] = "jepa_wm_wall";
    let stderr = exits_with(2, &args);
    assert!(stderr.contains("sees 16x16 tokens of 384"), "{stderr}");
}
