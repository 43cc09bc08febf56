//! PointMaze, Push-T and recorded episodes as a user meets them.

use std::path::Path;

use serde_json::Value;

use crate::support::{exits_with, program, succeeds, text, tree};

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&succeeds(&[args, &["--json"]].concat())).unwrap()
}

fn collect(env: &str, out: &Path, more: &[&str]) {
    succeeds(
        &[
            &[
                "collect",
                env,
                text(out),
                "--episodes",
                "10",
                "--steps",
                "40",
                "--size",
                "32",
            ],
            more,
        ]
        .concat(),
    );
}

fn eval(task: &str, model: &str, runs: &Path, more: &[&str]) -> Value {
    let args = [
        "eval",
        "--task",
        task,
        "--model",
        model,
        "--episodes",
        "6",
        "--out",
        text(runs),
    ];
    json(&[&args, more].concat())
}

/// The only run folder of a model on a task.
fn run_of(runs: &Path, task: &str, model: &str) -> std::path::PathBuf {
    let mut found = std::fs::read_dir(runs.join(task).join(model)).unwrap();
    let run = found.next().unwrap().unwrap().path();
    assert!(found.next().is_none());
    run
}

#[test]
fn pointmaze_is_collected_stepped_and_solved_by_the_oracle() {
    let folder = tempfile::tempdir().unwrap();
    let [data, again, runs] = ["data", "again", "runs"].map(|name| folder.path().join(name));
    collect("pointmaze", &data, &["--threads", "1"]);
    collect("pointmaze", &again, &["--threads", "2"]);
    assert_eq!(tree(&data), tree(&again));
    succeeds(&["validate", text(&data)]);

    // evaluation.md section 8.2, with the contacts of the default and of a later version.
    let actions = folder.path().join("actions.json");
    let ahead = "[1, 0.2], ".repeat(6);
    std::fs::write(&actions, format!("[{ahead}[0, 0]]").replace(", [0", ",[0")).unwrap();
    let roll = |more: &[&str]| {
        let args = [
            "rollout",
            "--env",
            "pointmaze",
            "--init",
            "1,3,3,0.5",
            "--actions",
            text(&actions),
        ];
        json(&[&args, more].concat())["states"][5].clone()
    };
    let close = |found: &Value, expected: [f64; 4]| {
        for (found, expected) in found.as_array().unwrap().iter().zip(expected) {
            assert!(
                (found.as_f64().unwrap() - expected).abs() < 1e-6,
                "{found} {expected}"
            );
        }
    };
    close(
        &roll(&[]),
        [2.277_649_186, 3.199_934_744, 6.125_902_469, -0.194_117_518],
    );
    close(
        &roll(&["--set", "contact=mujoco-4.0"]),
        [2.277_649_186, 3.196_373_106, 6.125_902_469, -0.006_806_607],
    );
    let stderr = exits_with(
        2,
        &[
            "rollout",
            "--env",
            "pointmaze",
            "--seed",
            "1",
            "--set",
            "contact=bullet",
        ],
    );
    assert!(stderr.contains("`mujoco-3.2`"), "{stderr}");

    let oracle = eval("pointmaze", "oracle", &runs, &["--films", "2"]);
    let floor = eval("pointmaze", "floor:noop", &runs, &[]);
    let rate = |record: &Value| record["summary"]["success_rate"].as_f64().unwrap();
    assert!(
        rate(&oracle) > 0.6 && rate(&floor) < 0.4,
        "{oracle} {floor}"
    );
    assert!(
        run_of(&runs, "pointmaze@1", "oracle")
            .join("films/index.json")
            .exists()
    );
}

#[test]
fn goals_of_push_t_are_replayed_and_do_not_depend_on_threads_or_shards() {
    let folder = tempfile::tempdir().unwrap();
    let [data, runs] = ["data", "runs"].map(|name| folder.path().join(name));
    let stderr = exits_with(2, &["eval", "--task", "pusht", "--model", "floor:noop"]);
    assert!(stderr.contains("`jepa-bench collect pusht`"), "{stderr}");
    collect("pusht", &data, &["--policy", "push"]);
    let with_data = ["--data", text(&data)];

    let small = [
        "--set",
        "planner.candidates=150",
        "--set",
        "planner.iterations=15",
    ];
    let whole = eval(
        "pusht",
        "oracle",
        &runs,
        &[&with_data[..], &small, &["--threads", "1"]].concat(),
    );
    assert!(
        whole["summary"]["success_rate"].as_f64().unwrap() > 0.0,
        "{whole}"
    );
    let shards = folder.path().join("shards");
    for index in ["0/2", "1/2"] {
        eval(
            "pusht",
            "oracle",
            &shards,
            &[&with_data[..], &small, &["--shard", index]].concat(),
        );
    }
    let parts = std::fs::read_dir(shards.join("pusht@1/oracle")).unwrap();
    let parts: Vec<_> = parts.map(|part| part.unwrap().path()).collect();
    let merged = folder.path().join("merged");
    let mut merge = vec!["merge", text(&merged)];
    merge.extend(parts.iter().map(|part| text(part)));
    succeeds(&merge);
    let episodes = |run: &Path| std::fs::read(run.join("episodes.parquet")).unwrap();
    assert_eq!(
        episodes(&merged),
        episodes(&run_of(&runs, "pusht@1", "oracle"))
    );

    // The run says which data its goals are from, and how many were solved at the start.
    let manifest = std::fs::read(run_of(&runs, "pusht@1", "oracle").join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(
        manifest["goal_data_hash"],
        json(&["inspect", text(&data)])["content_hash"]
    );
    let other = folder.path().join("other");
    collect("pusht", &other, &["--policy", "push", "--seed", "5"]);
    let elsewhere = eval(
        "pusht",
        "oracle",
        &folder.path().join("r2"),
        &[&["--data", text(&other)], &small[..]].concat(),
    );
    assert_ne!(whole["task"]["hash"], elsewhere["task"]["hash"]);

    let redraw = [
        "--set",
        "protocol.solved_at_start=redraw",
        "--set",
        "protocol.goal_steps=3",
    ];
    let args = [
        "eval",
        "--task",
        "pusht",
        "--model",
        "floor:noop",
        "--episodes",
        "20",
        "--out",
        text(&runs),
    ];
    let said = succeeds(&[&args[..], &with_data, &redraw].concat());
    assert!(said.contains("at goal from start   0 episodes, "), "{said}");
    assert!(said.contains("more were passed over"), "{said}");
}

#[test]
fn recorded_episodes_have_an_action_score() {
    let folder = tempfile::tempdir().unwrap();
    let [data, runs] = ["data", "runs"].map(|name| folder.path().join(name));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/franka_custom");
    succeeds(&["ingest", "franka", text(&source), text(&data)]);
    let with_data = ["--data", text(&data)];
    let score = |model: &str, more: &[&str]| {
        eval("droid", model, &runs, &[&with_data[..], more].concat());
        let folder = model.replace(':', "-");
        let manifest =
            std::fs::read(run_of(&runs, "droid@1", &folder).join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        manifest["metrics"].clone()
    };
    let number = |metrics: &Value, name: &str| metrics[name].as_f64().unwrap();
    let recorded = score("oracle-expert", &[]);
    assert_eq!(
        (
            number(&recorded, "action_score"),
            number(&recorded, "action_error_per_step")
        ),
        (80.0, 0.0)
    );
    let still = score("floor:noop", &[]);
    let error = number(&still, "action_error_position");
    assert!(error > 0.0, "{still}");
    assert!((number(&still, "action_score") - (800.0 * (0.1 - error)).max(0.0)).abs() < 1e-9);
    // The search in the truth comes nearer than doing nothing, within the bounds of its actions.
    let oracle = score("oracle", &["--films", "1"]);
    assert!(
        number(&oracle, "action_error_position") < error / 4.0,
        "{oracle} {still}"
    );

    let printed = succeeds(&[
        "eval",
        "--task",
        "droid",
        "--model",
        "floor:noop",
        "--data",
        text(&data),
        "--episodes",
        "3",
        "--out",
        text(&runs),
    ]);
    assert!(printed.contains("action score"), "{printed}");
    let stderr = exits_with(2, &["eval", "--task", "droid", "--model", "floor:noop"]);
    assert!(stderr.contains("ingest droid"), "{stderr}");
}

#[test]
fn energy_landscapes_are_drawn_and_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("costs.svg");
    let small = [
        "--set",
        "planner.candidates=20",
        "--set",
        "planner.iterations=2",
    ];
    let plan = [
        "plan",
        "--model",
        "oracle",
        "--task",
        "wall",
        "--episode",
        "3",
        "--landscape",
        text(&file),
    ];
    let report = json(&[&plan[..], &small, &["--landscape-span", "1.5"]].concat());
    assert_eq!(
        (&report["landscape"]["side"], &report["landscape"]["span"]),
        (&Value::from(40), &Value::from(1.5))
    );
    assert_eq!(
        report["landscape"]["values"].as_array().unwrap().len(),
        1600
    );
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("<svg"));
    let stderr = exits_with(2, &[&plan[..], &["--landscape-dims", "0,7"]].concat());
    assert!(
        stderr.contains("components 0 and 7 of an action of 2 numbers"),
        "{stderr}"
    );
}

#[test]
fn every_task_is_listed_with_its_protocol() {
    let output = program().args(["list", "tasks"]).output().unwrap();
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    for task in [
        "wall@1",
        "pointmaze@1",
        "pusht@1",
        "droid@1",
        "mw-reach@1",
        "mw-reach-wall@1",
        "wall-dinowm@1",
        "pointmaze-dinowm@1",
        "pusht-dinowm@1",
        "pusht-swm@1",
    ] {
        assert!(listed.contains(task), "{task}");
    }
    let folder = tempfile::tempdir().unwrap();
    let small = [
        "--set",
        "planner.candidates=40",
        "--set",
        "planner.iterations=2",
    ];
    let record = eval("wall-dinowm", "oracle", folder.path(), &small);
    // Seeds 1, 100, 199, ..; ten plans each.
    assert_eq!(
        (
            &record["seed_stride"],
            &record["summary"]["world_model_calls"]
        ),
        (&Value::from(99), &Value::from(0))
    );
    let run = run_of(folder.path(), "wall-dinowm@1", "oracle");
    assert!(run.join("episodes.parquet").exists());
    succeeds(&["compare", text(&run), text(&run)]);
}
