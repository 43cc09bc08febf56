//! Models of the zoo through the program: trained and planned with. That they survive kills is in [`crate::kill`].

use std::path::Path;

use crate::support::{SMALL_PLANNER, collect, exits_with, only_run, program, succeeds, text};

/// Settings that train a model in a few seconds.
fn small(model: &str) -> Vec<&'static str> {
    let mut settings = vec![
        "training.batch=4",
        "training.validation_slices=4",
        "training.checkpoint_every=3",
        "training.log_every=1",
    ];
    settings.extend(match model {
        "lewm" => [
            "lewm.latent=8",
            "lewm.predictor.depth=1",
            "lewm.predictor.heads=2",
            "lewm.predictor.hidden=16",
            "lewm.projector_hidden=12",
            "lewm.loss.directions=9",
        ]
        .as_slice(),
        "world-models" => &[
            "world_models.channels=[4, 4, 4, 4]",
            "world_models.latent=4",
            "world_models.hidden=8",
        ],
        "gcbc-tokens" => &[
            "gcbc_tokens.bins=16",
            "gcbc_tokens.depth=1",
            "gcbc_tokens.width=16",
            "gcbc_tokens.heads=2",
            "gcbc_tokens.hidden=24",
        ],
        _ => &[
            "token.predictor.depth=1",
            "token.predictor.width=24",
            "token.predictor.heads=2",
            "token.predictor.hidden=32",
            "token.encoder.kind=random-patch",
            "token.encoder.patch=16",
            "token.encoder.width=12",
        ],
    });
    settings
}

/// Settings under which a model trains its encoder first, in a few seconds.
const SMALL_ENCODER: [&str; 12] = [
    "--set",
    "token.encoder.training.steps=3",
    "--set",
    "token.encoder.training.batch=4",
    "--set",
    "token.encoder.training.validation_slices=4",
    "--set",
    "token.predictor.depth=1",
    "--set",
    "training.batch=4",
    "--set",
    "training.validation_slices=4",
];

/// Settings under which a model trains an encoder of `lejepa` first.
pub(crate) const LEJEPA: &[&str] = &[
    "token.encoder.kind=lejepa",
    "token.encoder.lejepa.projector=[8]",
    "token.encoder.lejepa.loss.directions=8",
];

/// The same of `i-jepa`.
pub(crate) const IJEPA: &[&str] = &[
    "token.encoder.kind=i-jepa",
    "token.encoder.ijepa.patch=13",
    "token.encoder.ijepa.encoder={width=8, depth=1, heads=2}",
    "token.encoder.ijepa.predictor={width=8, depth=1, heads=2}",
];

/// With these such a training takes a few seconds.
const SHORT: &[&str] = &[
    "--set",
    "token.encoder.training.batch=4",
    "--set",
    "token.encoder.training.validation_slices=4",
    "--set",
    "token.encoder.training.checkpoint_every=5",
    "--set",
    "token.predictor.depth=1",
    "--set",
    "token.predictor.width=24",
    "--set",
    "token.predictor.heads=2",
    "--set",
    "training.batch=4",
    "--set",
    "training.validation_slices=4",
    "--set",
    "training.checkpoint_every=5",
    "--set",
    "training.log_every=1",
];

/// A command that trains `ours` on an encoder that is trained first.
pub(crate) fn train_on(
    encoder: &[&str],
    data: &Path,
    out: &Path,
    encoder_steps: usize,
    steps: usize,
) -> Vec<String> {
    let encoder_steps = format!("token.encoder.training.steps={encoder_steps}");
    let steps = steps.to_string();
    let own = [
        "train",
        "--model",
        "ours",
        "--data",
        text(data),
        "--out",
        text(out),
        "--steps",
        &steps,
        "--set",
        &encoder_steps,
    ];
    let encoder = encoder.iter().flat_map(|setting| ["--set", *setting]);
    let all = own.into_iter().chain(SHORT.iter().copied()).chain(encoder);
    all.map(String::from).collect()
}

/// A command that trains `model`.
pub(crate) fn train(model: &str, data: &Path, out: &Path, more: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = [
        "train",
        "--model",
        model,
        "--data",
        text(data),
        "--out",
        text(out),
    ]
    .map(String::from)
    .to_vec();
    args.extend(more.iter().map(|s| (*s).to_string()));
    for setting in small(model) {
        args.extend(["--set".to_string(), setting.to_string()]);
    }
    args
}

fn weights(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("model.safetensors")).unwrap()
}

/// Episodes of an evaluation of a model with a small planner.
fn evaluate(run: &Path, out: &Path, more: &[&str]) -> Vec<u8> {
    let mut args = vec![
        "eval",
        "--model",
        text(run),
        "--task",
        "wall",
        "--out",
        text(out),
    ];
    args.extend(["--episodes", "2", "--seed", "1001"]);
    args.extend(SMALL_PLANNER);
    args.extend(more);
    succeeds(&args);
    std::fs::read(only_run(out).join("episodes.parquet")).unwrap()
}

#[test]
fn every_model_trains_and_plans_the_same_at_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    let models = [
        ("lewm", "sigreg"),
        ("world-models", "reconstruction"),
        ("ours", "rollout_2"),
        ("dino-wm", "teacher_forcing"),
        ("dino-wm-original", "teacher_forcing"),
        ("vjepa2-ac", "rollout_2"),
        ("vjepa2-ac-buggy", "rollout"),
    ];
    for (model, term) in models {
        let run = |name: &str, threads: &str| {
            let run = folder.path().join(format!("{model}-{name}"));
            succeeds(&train(
                model,
                &data,
                &run,
                &["--steps", "4", "--threads", threads],
            ));
            run
        };
        let (first, again) = (run("first", "1"), run("again", "3"));
        assert!(
            weights(&first) == weights(&again),
            "{model}: 1 and 3 threads disagree"
        );
        let metrics = std::fs::read_to_string(first.join("metrics.jsonl")).unwrap();
        assert!(
            metrics.contains(&format!("\"loss_{term}\":")),
            "{model}: {metrics}"
        );
        let plans = |threads: &str| {
            let out = folder.path().join(format!("{model}-plans-{threads}"));
            evaluate(&first, &out, &["--threads", threads])
        };
        assert!(
            plans("1") == plans("2"),
            "{model}: 1 and 2 threads plan differently"
        );
    }
}

#[test]
fn lewm_trains_with_its_published_encoder_too() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    let run = folder.path().join("run");
    let vit = [
        "lewm.encoder.kind=vit-tiny",
        "lewm.encoder.width=12",
        "lewm.encoder.layers=1",
        "lewm.encoder.heads=2",
        "lewm.encoder.image=28",
        "lewm.encoder.patch=14",
    ];
    let mut more = vec!["--steps", "2"];
    for setting in vit {
        more.extend(["--set", setting]);
    }
    succeeds(&train("lewm", &data, &run, &more));
    evaluate(&run, &folder.path().join("runs"), &[]);
}

#[test]
fn an_encoder_is_trained_first_and_kept_with_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    let run = folder.path().join("run");
    let mut args: Vec<&str> = vec!["train", "--model", "ours", "--data", text(&data)];
    args.extend(["--out", text(&run), "--steps", "2"]);
    args.extend(SMALL_ENCODER);
    succeeds(&args);
    assert!(run.join("encoder/model.safetensors").is_file());
    evaluate(&run, &folder.path().join("runs"), &[]);

    // With the weights of another encoder the model is not what was trained.
    let other = folder.path().join("other");
    let mut train = vec![
        "train",
        "--data",
        text(&data),
        "--out",
        text(&other),
        "--steps",
        "2",
    ];
    train.extend(crate::support::SMALL_MODEL);
    succeeds(&train);
    std::fs::remove_dir_all(run.join("encoder")).unwrap();
    std::fs::rename(&other, run.join("encoder")).unwrap();
    let stderr = exits_with(
        2,
        &[
            "eval",
            "--model",
            text(&run),
            "--task",
            "wall",
            "--episodes",
            "1",
        ],
    );
    assert!(
        stderr.contains("not the ones that the model was trained with"),
        "{stderr}"
    );
}

#[test]
fn encoders_of_frames_alone_are_the_same_at_any_number_of_threads_and_are_planned_with() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    for (kind, term) in [(LEJEPA, "invariance"), (IJEPA, "prediction")] {
        let run = |threads: &str| {
            let run = folder.path().join(format!("{term}-{threads}"));
            let mut args = train_on(kind, &data, &run, 4, 2);
            args.extend(["--threads", threads].map(String::from));
            succeeds(&args);
            run
        };
        let (one, three) = (run("1"), run("3"));
        let encoder = |run: &Path| weights(&run.join("encoder"));
        assert!(encoder(&one) == encoder(&three), "{kind:?}");
        assert!(weights(&one) == weights(&three), "{kind:?}");
        let metrics = std::fs::read_to_string(one.join("encoder/metrics.jsonl")).unwrap();
        assert!(metrics.contains(&format!("\"loss_{term}\":")), "{metrics}");
        evaluate(&one, &folder.path().join(format!("{term}-runs")), &[]);

        // The encoder by itself is no model.
        let alone = one.join("encoder");
        let args = ["eval", "--model", text(&alone), "--task", "wall"];
        let stderr = exits_with(2, &[&args[..], &["--episodes", "1"]].concat());
        assert!(stderr.contains("cannot plan by itself"), "{stderr}");
    }
}

#[test]
fn a_batch_in_parts_trains_like_the_whole_and_kept_models_plan() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    let run = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let args = [&["--steps", "6"], more].concat();
        succeeds(&train("ours", &data, &out, &args));
        out
    };
    let kept = ["training.keep_every=2", "training.keep_last=2"];
    let whole = run("whole", &["--set", kept[0], "--set", kept[1]]);
    let parts = run("parts", &["--set", "training.accumulate=2"]);
    // Sums in another order, through six steps of AdamW.
    let loss = |run: &Path| {
        let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let last: serde_json::Value =
            serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
        last["loss"].as_f64().unwrap()
    };
    let (a, b) = (loss(&whole), loss(&parts));
    assert!((a - b).abs() < 1e-3 * a, "{a} {b}");
    assert_ne!(weights(&whole), weights(&parts));

    let names: Vec<_> = std::fs::read_dir(whole.join("kept")).unwrap().collect();
    assert_eq!(names.len(), 2);
    let last = whole.join("kept/step-00000006");
    assert!(weights(&last) == weights(&whole));
    let before = whole.join("kept/step-00000004");
    assert!(weights(&before) != weights(&whole));
    let plans = |run: &Path, name: &str| evaluate(run, &folder.path().join(name), &[]);
    assert_ne!(plans(&before, "before"), plans(&whole, "after"));
}

#[test]
fn a_kept_model_finds_the_encoder_of_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    let run = folder.path().join("run");
    let mut args = vec!["train", "--model", "dino-wm", "--data", text(&data)];
    args.extend(["--out", text(&run), "--steps", "2"]);
    args.extend(SMALL_ENCODER);
    args.extend(["--set", "training.keep_every=1"]);
    succeeds(&args);
    evaluate(
        &run.join("kept/step-00000001"),
        &folder.path().join("runs"),
        &[],
    );
}

#[test]
fn a_sweep_trains_every_combination_and_shares_the_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let data = collect(folder.path(), 24);
    let file = folder.path().join("sweep.toml");
    std::fs::write(
        &file,
        r#"
        [grid]
        model = ["ours", "dino-wm"]
        "training.steps" = [1, 2]
        [[runs]]
        name = "fixed"
        set = { model = "vjepa2-ac-buggy", token.objective.vjepa2-ac.start = "fixed", training.steps = 1 }
        "#,
    )
    .unwrap();
    let out = folder.path().join("out");
    let mut args = vec!["train", "--data", text(&data), "--out", text(&out)];
    args.extend(["--sweep", text(&file), "--json"]);
    args.extend(SMALL_ENCODER);
    let stdout = succeeds(&args);
    let runs: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let names: Vec<&str> = runs
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "model=ours,steps=1",
            "model=ours,steps=2",
            "model=dino-wm,steps=1",
            "model=dino-wm,steps=2",
            "fixed"
        ]
    );
    let encoders = std::fs::read_dir(out.join("encoders")).unwrap().count();
    assert_eq!(encoders, 1, "all runs have the same encoder");
    // A run of the sweep is the run that its own command makes.
    let alone = folder.path().join("alone");
    let mut args = vec!["train", "--model", "ours", "--data", text(&data)];
    args.extend(["--out", text(&alone), "--steps", "2"]);
    args.extend(SMALL_ENCODER);
    succeeds(&args);
    assert!(weights(&alone) == weights(&out.join("model=ours,steps=2")));

    for (text_of_file, expected) in [
        ("", "neither a grid nor runs"),
        ("[grid]\n\"training.seed\" = 3", "training.seed"),
        ("[[runs]]\nname = \"../up\"", "cannot be a folder's name"),
        ("[grid]\n\"training.sed\" = [3]", "training.seed"),
        ("[grid]\n\"training.seed\" = [3, 3]", "two runs are called"),
    ] {
        std::fs::write(&file, text_of_file).unwrap();
        let wrong = folder.path().join("wrong");
        let args = ["train", "--data", text(&data), "--out", text(&wrong)];
        let stderr = exits_with(2, &[&args[..], &["--sweep", text(&file)]].concat());
        assert!(stderr.contains(expected), "{text_of_file}: {stderr}");
        assert!(!wrong.exists());
    }
}

#[test]
fn models_of_a_robot_arm_train_on_changes_of_pose_in_their_units() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("droid");
    let mut ingest = vec!["ingest", "droid", "fixtures/DROID/1.0.1", text(&data)];
    ingest.extend(["--size", "32x32", "--split-rule", "first:2:1"]);
    // An episode of the fixture lacks a recording and is left out.
    assert!(program().args(&ingest).output().unwrap().status.code() < Some(2));
    let poses = ["--steps", "2", "--set", "training.pose_stride=15"];
    let arm = [&poses[..], &["--set", "token.frameskip=1"]].concat();
    let pose = [&arm[..], &["--set", "token.predictor.proprio_token=true"]].concat();
    for (model, more, uses_proprio) in
        [("vjepa2-ac", &arm, false), ("vjepa2-ac-buggy", &pose, true)]
    {
        let run = folder.path().join(model);
        succeeds(&train(model, &data, &run, more));
        let file = std::fs::read(run.join("model.json")).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
        let info = &file["info"];
        assert_eq!(
            (&info["frameskip"], &info["action_dim"]),
            (&1.into(), &7.into())
        );
        assert_eq!(info["uses_proprio"], uses_proprio);
        for field in ["action", "proprio"] {
            assert_eq!(
                info[field]["std"],
                serde_json::json!(vec![1.0; 7]),
                "{model}"
            );
        }
    }
    // Other data has no poses, and a model that takes five actions at once is another one.
    let wall = collect(folder.path(), 24);
    let out = folder.path().join("wrong");
    let stderr = exits_with(2, &train("vjepa2-ac", &wall, &out, &arm));
    assert!(stderr.contains("needs poses of 7 numbers"), "{stderr}");
    let stderr = exits_with(2, &train("vjepa2-ac", &data, &out, &poses));
    assert!(stderr.contains("`token.frameskip = 1`"), "{stderr}");
    // A rolled out token is no pose.
    let stderr = exits_with(2, &train("vjepa2-ac", &data, &out, &pose));
    assert!(
        stderr.contains("`token.predictor.proprio_token`"),
        "{stderr}"
    );
}
