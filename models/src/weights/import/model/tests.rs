//! Reference cases, imported and planned with as a user does.

use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::encoder::{Dinov2Config, EncoderConfig, TransformerConfig};
use crate::predictor::token_world_model::PredictorConfig;
use crate::weights::Array;
use crate::weights::check::testing::{folder, torch};
use crate::weights::check::{Case, Tolerance, compare};
use crate::weights::import::{convert_sizes, find, find_model, write};
use crate::world_model::{ActionBatch, CostSpec, Distance, Frame, Latent, Steps, WorldModel};

fn source() -> SourceFile {
    SourceFile {
        file: "model.pth.tar".into(),
        origin: "a test".into(),
        bytes: 7,
        blake3: "b".into(),
        sha256: "s".into(),
    }
}

/// Sides of the arrays of the encoder of the reference case, for a token of `width` in place of 48.
fn resized(side: usize, width: usize) -> usize {
    match side {
        48 => width,
        144 => 3 * width,
        192 => 4 * width,
        other => other,
    }
}

/// A folder of an encoder with tokens of `width` on a square grid: that of the reference case, cut.
fn encoder(out: &Path, width: usize, grid: usize) -> PathBuf {
    let file = torch(&folder("encoder_dinov2").join("model.pth")).unwrap();
    let mut cut = Checkpoint::default();
    for key in file.keys() {
        let array = file.get(key).unwrap();
        let shape: Vec<usize> = array.shape.iter().map(|s| resized(*s, width)).collect();
        let count = shape.iter().product();
        let values = array.values[..count].to_vec();
        cut.insert(key, Array::new(shape, values).unwrap());
    }
    let sizes = EncoderConfig::Dinov2(Dinov2Config {
        transformer: TransformerConfig {
            width,
            depth: 2,
            heads: 2,
            hidden: 4 * width,
            epsilon: 1e-6,
            layer_scale: true,
        },
        image: 14 * grid,
        ..Dinov2Config::released(width, 2, 0)
    });
    let converted = convert_sizes(cut, "dinov2-small", sizes).unwrap();
    let entry = find("dinov2-small").unwrap();
    let path = out.join(format!("encoder-{width}-{grid}"));
    let config = WeightsConfig::new(entry, &converted, source());
    write(&path, &converted.arrays, config).unwrap();
    path
}

fn open(name: &str) -> Case<'static> {
    Case::open(&folder(name), &torch).unwrap()
}

/// The sizes of a case, in the words of `weights import --sizes`.
fn sizes(entry: &ModelEntry, case: &Case<'_>) -> ModelSizes {
    let config: Value = case.config().unwrap();
    let number = |key: &str| config[key].as_u64().unwrap_or(0) as usize;
    let is = |key: &str| config[key].as_bool().unwrap_or(false);
    let released = (entry.sizes)();
    let proprio_token = config["proprio_encoding"] == "token" && is("use_proprio");
    let mut predictor = released.predictor;
    predictor.width = number("pred_embed_dim");
    predictor.depth = number("pred_depth");
    predictor.heads = number("pred_num_heads");
    predictor.head_width = number("dim_head").max(1);
    predictor.hidden = number("mlp_dim").max(1);
    predictor.action_width = number("action_emb_dim");
    predictor.proprio_width = number("proprio_emb_dim");
    predictor.proprio_token = proprio_token;
    let grid = [0, 1].map(|i| config["grid"][i].as_u64().unwrap() as usize);
    ModelSizes {
        encoder: "dinov2-small".into(),
        encoder_width: number("embed_dim"),
        grid,
        image: 14 * grid[0],
        frame: 20,
        normalize_reps: is("normalize_reps"),
        predictor,
        frames: number("num_frames_pred"),
        action_dim: number("action_dim") / released.frameskip,
        proprio_dim: number("proprio_dim"),
        statistics: None,
        ..released
    }
}

/// Actions and proprio as they are.
fn identity(sizes: &ModelSizes) -> Normalizers {
    Normalizers {
        action: Normalizer::identity(sizes.action_dim),
        proprio: Some(Normalizer::identity(sizes.proprio_dim)),
    }
}

fn import(
    model: &str,
    file: Checkpoint,
    encoder: &Path,
    sizes: ModelSizes,
    statistics: Option<Normalizers>,
) -> Result<ImportedModel> {
    let entry = find_model(model).unwrap();
    ImportedModel::new(entry, file, encoder, Some(sizes), statistics, source())
}

/// A case imported as the released model `model`, and opened again.
fn imported(out: &Path, model: &str, case: &Case<'_>) -> Box<dyn WorldModel> {
    let sizes = sizes(find_model(model).unwrap(), case);
    let encoder = encoder(out, sizes.encoder_width, sizes.grid[0]);
    let file = case.arrays("model.pth.tar").unwrap();
    let statistics = Some(identity(&sizes));
    let ready = import(model, file, &encoder, sizes, statistics).unwrap();
    let path = out.join(model);
    ready.write(&path).unwrap();
    crate::load(&path, Compute::default()).unwrap()
}

/// The predicted frames of an unroll `[H + 1, B, ..]`, candidates first.
fn candidates_first(array: &Array) -> Vec<f32> {
    let (frames, candidates) = (array.shape[0], array.shape[1]);
    let size = array.values.len() / frames / candidates;
    let at = |candidate: usize, frame: usize| (frame * candidates + candidate) * size;
    (0..candidates)
        .flat_map(|c| (1..frames).map(move |f| (c, f)))
        .flat_map(|(c, f)| array.values[at(c, f)..at(c, f) + size].to_vec())
        .collect()
}

/// The unroll of a case by the imported model.
#[track_caller]
fn assert_unrolls(model: &str, name: &str) {
    let out = tempfile::tempdir().unwrap();
    let case = open(name);
    let world_model = imported(out.path(), model, &case);
    let info = world_model.info();
    assert_eq!((info.name.as_str(), &info.training), (model, &None));
    let inputs = case.arrays("inputs.safetensors").unwrap();
    let outputs = case.arrays("outputs.safetensors").unwrap();
    let visual = inputs.require("visual").unwrap();
    let proprio = inputs.get("proprio").map_or(&[][..], |p| &p.values);
    let rgb = vec![100; 3 * 20 * 20];
    let frame = Frame {
        rgb: &rgb,
        height: 20,
        width: 20,
    };
    let given = proprio.get(..info.proprio_dim).unwrap_or_default();
    // Tokens are those of the case; what is embedded of proprio is the model's.
    let start = Latent {
        visual: visual.values[..info.latent_width].to_vec(),
        ..world_model.encode(frame, given).unwrap()
    };
    let actions = inputs.require("unroll_action").unwrap();
    let &[horizon, samples, width] = actions.shape.as_slice() else {
        panic!("{:?}", actions.shape)
    };
    let values: Vec<f32> = (0..samples * horizon)
        .flat_map(|i| {
            let (sample, step) = (i / horizon, i % horizon);
            let at = (step * samples + sample) * width;
            actions.values[at..at + width].to_vec()
        })
        .collect();
    let batch = ActionBatch {
        values: &values,
        samples,
        horizon,
        width,
    };
    let found = world_model.unroll(&start, batch).unwrap();
    let close = |name: &str, ours: &[f32]| {
        let expected = candidates_first(outputs.require(name).unwrap());
        let compared = compare(name, ours, &expected, Tolerance::default());
        assert!(compared.passed, "{compared:?}");
    };
    close("unroll_visual", &found.visual);
    if info.uses_proprio {
        close("unroll_proprio", &found.proprio);
    }
}

#[test]
fn an_imported_model_of_the_paper_unrolls_as_the_reference() {
    assert_unrolls("jepa_wm_wall", "predictor_adaln_proprio");
    assert_unrolls("jepa_wm_pusht", "predictor_adaln_grid16");
    assert_unrolls("jepa_wm_droid", "predictor_adaln_noproprio");
}

#[test]
fn an_imported_dino_wm_unrolls_as_the_reference() {
    assert_unrolls("dino_wm_pointmaze", "predictor_dinowm_proprio");
}

#[test]
fn an_imported_v_jepa_2_ac_unrolls_as_the_reference_with_and_without_the_pose() {
    assert_unrolls("vjepa2_ac_droid", "predictor_vj2ac_k1");
    assert_unrolls("vjepa2_ac_oss", "predictor_vj2ac_k2");
}

#[test]
fn the_file_of_v_jepa_2_s_authors_is_read_past_its_encoder() {
    let out = tempfile::tempdir().unwrap();
    let case = open("predictor_vj2ac_k2");
    let entry = find_model("vjepa2-ac-vitg").unwrap();
    let sizes = sizes(entry, &case);
    let encoder = encoder(out.path(), sizes.encoder_width, sizes.grid[0]);
    // Their layout: another wrapper, a camera encoder that the model does not use.
    let mut file = case.arrays("model.pth.tar").unwrap();
    file = file.rename(|key| Some(key.replace("module.", "module.backbone.")));
    let camera = "predictor.module.backbone.extrinsics_encoder.weight";
    file.insert(camera, Array::new(vec![48, 6], vec![0.0; 288]).unwrap());
    file.insert("encoder.module.backbone.norm.bias", one_number());
    let file = file.rename(|key| entry.reads(key).then(|| key.to_string()));
    let ready = import(
        entry.name,
        file,
        &encoder,
        sizes.clone(),
        Some(identity(&sizes)),
    );
    let config = ready.unwrap().config().clone();
    assert_eq!(
        config.left_out,
        ["predictor.module.extrinsics_encoder.weight"]
    );
    assert_eq!((config.kind.as_str(), config.source), (KIND, source()));
}

fn one_number() -> Array {
    Array::new(vec![1], vec![0.5]).unwrap()
}

/// The model of the pipeline case for square frames of side `frame`, in `out`.
fn pipeline(out: &Path, case: &Case<'_>, frame: usize) -> Box<dyn WorldModel> {
    let entry = find_model("jepa_wm_wall").unwrap();
    let inputs = case.arrays("inputs.safetensors").unwrap();
    let numbers = |name: &str| -> Vec<f64> {
        let array = inputs.require(name).unwrap();
        array.values.iter().map(|v| f64::from(*v)).collect()
    };
    let field = |name: &str| json!({ "mean": numbers(&format!("{name}_mean")), "std": numbers(&format!("{name}_std")) });
    let file = json!({ "fields": { ACTION: field("action"), PROPRIO: field("proprio") } });
    let statistics = Normalizers::of_statistics("test", file.to_string().as_bytes()).unwrap();
    let sizes = ModelSizes {
        frame,
        ..sizes(entry, case)
    };
    let encoder = encoder(out, 48, 16);
    let file = case.arrays("model.pth.tar").unwrap();
    let ready = import("jepa_wm_wall", file, &encoder, sizes, Some(statistics)).unwrap();
    let path = out.join(format!("model-{frame}"));
    ready.write(&path).unwrap();
    crate::load(&path, Compute::default()).unwrap()
}

/// The middle of a picture as a square frame.
fn square(picture: &Array) -> (Vec<u8>, usize) {
    let &[height, width, 3] = picture.shape.as_slice() else {
        panic!("{:?}", picture.shape)
    };
    let left = (width - height) / 2;
    let rows = picture.values.chunks_exact(3 * width);
    let middle = rows.flat_map(|row| &row[3 * left..3 * (left + height)]);
    (middle.map(|v| *v as u8).collect(), height)
}

#[test]
fn costs_from_pictures_raw_proprio_and_raw_actions_equal_the_reference() {
    let out = tempfile::tempdir().unwrap();
    let case = open("pipeline_end_to_end");
    let inputs = case.arrays("inputs.safetensors").unwrap();
    let outputs = case.arrays("outputs.safetensors").unwrap();
    let pictures = case
        .arrays("../preprocess_images/images.safetensors")
        .unwrap();
    let look = |picture: &str, proprio: &str| {
        let (rgb, side) = square(pictures.require(picture).unwrap());
        let model = pipeline(out.path(), &case, side);
        let frame = Frame {
            rgb: &rgb,
            height: side,
            width: side,
        };
        let proprio = &inputs.require(proprio).unwrap().values;
        let latent = model.encode(frame, proprio).unwrap();
        (model, latent)
    };
    let (model, start) = look("img_65x65", "init_proprio_raw");
    let (_, goal) = look("img_180x320", "goal_proprio_raw");
    let close = |name: &str, ours: &[f32]| {
        let compared = case.compare(&outputs, name, ours).unwrap();
        assert!(compared.passed, "{compared:?}");
    };
    close("init_visual", &start.visual);

    let raw = inputs.require("action_env").unwrap();
    let (samples, info) = (raw.shape[0], model.info());
    let mut values = raw.values.clone();
    info.action.normalize(&mut values);
    let batch = ActionBatch {
        values: &values,
        samples,
        horizon: raw.shape[1] / info.frameskip,
        width: info.block_width(),
    };
    let cost = |distance, proprio_weight| -> Vec<f32> {
        let spec = CostSpec {
            distance,
            steps: Steps::Last,
            proprio_weight,
        };
        let costs = model.costs(&start, &goal, &spec, batch).unwrap();
        costs.into_iter().map(|cost| cost as f32).collect()
    };
    close("cost_L2_alpha0.0", &cost(Distance::L2, 0.0));
    close("cost_L2_alpha0.1", &cost(Distance::L2, 0.1));
    close("cost_L1_alpha0.1", &cost(Distance::L1, 0.1));
    close("cost_cos_alpha0.1", &cost(Distance::Cosine, 0.1));
}

/// What is needed to import a case as the paper's model for Wall.
struct Given {
    file: Checkpoint,
    sizes: ModelSizes,
    encoder: PathBuf,
    _out: tempfile::TempDir,
}

fn given() -> Given {
    let out = tempfile::tempdir().unwrap();
    let case = open("predictor_adaln_proprio");
    let sizes = sizes(find_model("jepa_wm_wall").unwrap(), &case);
    Given {
        file: case.arrays("model.pth.tar").unwrap(),
        encoder: encoder(out.path(), sizes.encoder_width, sizes.grid[0]),
        sizes,
        _out: out,
    }
}

impl Given {
    fn refused(self, statistics: Option<Normalizers>) -> Error {
        import(
            "jepa_wm_wall",
            self.file,
            &self.encoder,
            self.sizes,
            statistics,
        )
        .unwrap_err()
    }
}

#[test]
fn a_file_with_a_key_less_or_a_key_more_is_refused_with_both() {
    let mut given = given();
    let statistics = Some(identity(&given.sizes));
    given
        .file
        .remove("predictor.module.predictor_norm.bias")
        .unwrap();
    given.file.insert("heads.module.weight", one_number());
    let error = given.refused(statistics).to_string();
    for part in [
        "1 missing [predictor.predictor_norm.bias]",
        "1 unexpected [heads.weight]",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_released_model_needs_its_own_encoder() {
    let other = |change: fn(&mut ModelSizes), part: &str| {
        let mut given = given();
        change(&mut given.sizes);
        let statistics = Some(identity(&given.sizes));
        let error = given.refused(statistics).to_string();
        assert!(error.contains(part), "{error}");
    };
    other(
        |s| s.encoder_width = 36,
        "sees 4x4 tokens of 36 of `dinov2-small`, the folder holds `dinov2-small`: 4x4 tokens of 32",
    );
    other(|s| s.image = 70, "holds `dinov2-small`: 5x5 tokens");
    other(
        |s| s.encoder = "dinov2-small-registers".into(),
        "of `dinov2-small-registers`, the folder holds `dinov2-small`",
    );
}

#[test]
fn statistics_that_are_missing_or_do_not_fit_are_named() {
    let says = |statistics: Option<Normalizers>, part: &str| {
        let error = given().refused(statistics);
        assert!(error.to_string().contains(part), "{error}");
        assert!(error.hint().unwrap().contains("--stats FILE"), "{error}");
    };
    says(None, "the sizes name no dataset");
    let sizes = given().sizes;
    let narrow = Normalizers {
        action: Normalizer::identity(3),
        ..identity(&sizes)
    };
    says(Some(narrow), "`action` have 3 dimensions, the model 2");
    let bare = Normalizers {
        proprio: None,
        ..identity(&sizes)
    };
    says(Some(bare), "`observation.proprio`, which it sees");

    // A pose that is integrated from actions has to be in their units.
    let case = open("predictor_vj2ac_k2");
    let sizes = self::sizes(find_model("vjepa2_ac_oss").unwrap(), &case);
    let mut scaled = identity(&sizes);
    scaled.action.std[6] = 2.0;
    let error = scaled.check("vjepa2_ac_oss", &sizes).unwrap_err();
    assert!(
        error.to_string().contains("has to stay as it is"),
        "{error}"
    );
}

#[test]
fn sizes_of_another_kind_of_predictor_are_refused() {
    let mut given = given();
    given.sizes.predictor.kind = PredictorKind::Feature;
    let statistics = Some(identity(&given.sizes));
    let error = given.refused(statistics).to_string();
    assert!(error.contains("is not that of `jepa_wm_wall`"), "{error}");
}

#[test]
fn statistics_are_read_as_they_are_printed_and_as_a_dataset_holds_them() {
    let field = json!({ "count": 9, "mean": [1.0, 2.0], "std": [0.5, 0.0] });
    let expected = Normalizer {
        mean: vec![1.0, 2.0],
        std: vec![0.5, 1.0],
    };
    let printed = json!({ "split": "train", "fields": { ACTION: field } });
    let stored = json!({ "fields": { ACTION: { "train": field, "all": null } } });
    for text in [printed.to_string(), stored.to_string()] {
        let found = Normalizers::of_statistics("x", text.as_bytes()).unwrap();
        assert_eq!(found.action, expected);
        assert_eq!(found.proprio, None);
    }
    let says = |field: Value, part: &str| {
        let text = json!({ "fields": field }).to_string();
        let error = Normalizers::of_statistics("x", text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    };
    says(json!({}), "no statistics of `action`");
    says(
        json!({ ACTION: { "mean": [1.0], "std": null } }),
        "single row",
    );
    says(
        json!({ ACTION: { "mean": [1.0], "std": [1.0, 1.0] } }),
        "as many",
    );
    says(
        json!({ ACTION: { "mean": [1.0], "std": [-1.0] } }),
        "below 0",
    );
    says(
        json!({ ACTION: { "train": null, "all": null } }),
        "`action`",
    );
}

#[test]
fn the_published_statistics_are_those_of_the_model_s_dataset() {
    let entry = find_model("jepa_wm_wall").unwrap();
    let sizes = (entry.sizes)();
    let normalizers = Normalizers::released(entry.name, &sizes).unwrap();
    let [action, proprio] = normalizers.check(entry.name, &sizes).unwrap();
    // models.md section 3, rounded there.
    let near = |found: &[f64], expected: [f64; 2]| {
        assert!(
            found
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-5),
            "{found:?}"
        );
    };
    near(&action.mean, [-0.005_565, 0.013_198]);
    near(&proprio.std, [17.663_523, 17.275_167]);
}

#[test]
fn pixels_and_window_of_a_released_model_are_those_of_its_evaluation() {
    let sizes = (find_model("vjepa2_ac_oss").unwrap().sizes)();
    let token = sizes.token(sizes.encoder(PathBuf::new()));
    let network = token
        .network(sizes.tokens(), &sizes.shape(), sizes.horizon())
        .unwrap();
    let PredictorConfig::Sequence(config) = &network.predictor else {
        panic!("{network:?}")
    };
    // models.md section 2.2: an action and a pose; two frames are seen (section 2.6).
    assert_eq!(
        (config.conditions(), config.frames, token.window),
        (2, 8, 2)
    );
    assert!(network.normalize_reps);
}
