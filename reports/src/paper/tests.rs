//! Layouts over made-up runs.

use jepa_leaderboard::testing::SyntheticRun;
use jepa_leaderboard::{Run, TASK_GROUPS};
use serde_json::Value;

use super::*;
use crate::{Error, Format, write_paper};

/// A run in the paper's terms: group, model, planner with distance, `(seed, steps)`, successes of 20 episodes.
pub(crate) fn placed(
    group: usize,
    model: &str,
    setup: &str,
    trained: (u64, u64),
    successes: u64,
) -> PaperRun {
    let id = format!("{group} {model} {setup} {trained:?} {successes}");
    PaperRun {
        task: format!("{}@1", TASKS[group]),
        task_hash: format!("hash of {}", TASKS[group]),
        group: Some(group),
        model: model.into(),
        setup: setup.into(),
        design: Design::default(),
        trained: Some(trained),
        weights_hash: Some(id.clone()),
        successes,
        episodes: 20,
        action_score: (group == SCORED).then_some(successes as f64),
        changes: Vec::new(),
        started_utc: "2026-01-01T00:00:00Z".into(),
        recipe: group,
        id,
    }
}

fn input(runs: Vec<PaperRun>) -> PaperInput {
    let built = TASKS.iter().filter(|task| !task.starts_with("robocasa"));
    PaperInput {
        runs,
        tasks: built.map(|task| (*task).to_string()).collect(),
    }
}

fn row<'a>(rows: &'a [Row], planner: &str, model: &str) -> &'a Row {
    let is_it = |row: &&Row| (&row.planner[..], &row.model[..]) == (planner, model);
    rows.iter().find(is_it).unwrap()
}

fn value(entry: &Entry) -> &Mean {
    entry.mean().unwrap()
}

#[test]
fn a_place_pools_the_last_epochs_of_all_seeds() {
    // Wall averages the last 10 epochs. Seed 0 has 11, the first of which, 0 of 20, does not count: ten times 50%. Seed 1
    // has two: 100% and 40%. Mean of the twelve: (10 * 50 + 140) / 12 = 53.33; the squares of their deviations sum up to
    // 10 * 11.11 + 2177.78 + 177.78 = 2466.67, a twelfth is 205.56, its root 14.34.
    let mut runs = vec![placed(1, "ours", "cem l2", (0, 1), 0)];
    runs.extend((2..12).map(|step| placed(1, "ours", "cem l2", (0, step), 10)));
    runs.push(placed(1, "ours", "cem l2", (1, 7), 20));
    runs.push(placed(1, "ours", "cem l2", (1, 8), 8));
    let rows = rows(&input(runs));
    let mean = value(&row(&rows, "CEM L2", "ours").entries[1]);
    assert!((mean.value - 640.0 / 12.0).abs() < 1e-9);
    let Spread::Deviation(std) = mean.spread else {
        panic!("{:?}", mean.spread)
    };
    assert!(
        (std - (2466.0 + 2.0 / 3.0_f64).sqrt() / 12.0_f64.sqrt()).abs() < 1e-9,
        "{std}"
    );
    assert_eq!((mean.values, &mean.seeds[..]), (12, &[0, 1][..]));
    assert_eq!(mean.lacks(), ["2 of 3 seeds", "2 of 10 epochs"]);
}

#[test]
fn a_single_run_stands_with_its_wilson_interval() {
    // 10 of 20, z = 1.96: center 0.5, half width 1.96 * sqrt(0.25 / 20 + 1.96^2 / 1600) / (1 + 1.96^2 / 20) = 0.2007.
    let rows = rows(&input(vec![placed(0, "ours", "ng l1", (0, 5), 10)]));
    let mean = value(&row(&rows, "NG L1", "ours").entries[0]);
    let Spread::Interval(interval) = mean.spread else {
        panic!("{:?}", mean.spread)
    };
    assert_eq!(
        (mean.value, mean.lacks()),
        (50.0, vec!["1 run, n 20".to_string()])
    );
    assert!(
        (interval.low - 29.93).abs() < 0.01 && (interval.high - 70.07).abs() < 0.01,
        "{interval:?}"
    );
}

#[test]
fn places_without_a_run_say_why() {
    let rows = rows(&input(vec![placed(0, "ours", "cem l2", (0, 5), 10)]));
    let ours = row(&rows, "CEM L2", "ours");
    assert_eq!(ours.entries[1], Entry::NoRun);
    assert_eq!(
        (&ours.entries[5], &ours.entries[6]),
        (&Entry::NotBuilt, &Entry::NotBuilt)
    );
    assert!(!row(&rows, "CEM L1", "ours").has_values());
    // The same weights after the same steps, evaluated differently, contradict each other.
    let twice = vec![
        placed(0, "ours", "cem l2", (0, 5), 10),
        placed(0, "ours", "cem l2", (0, 5), 11),
    ];
    let rows = super::rows(&input(twice));
    assert!(matches!(
        row(&rows, "CEM L2", "ours").entries[0],
        Entry::Unclear { .. }
    ));
}

#[test]
fn the_average_is_refused_where_a_group_lacks() {
    let all = |groups: std::ops::Range<usize>| -> Vec<PaperRun> {
        groups
            .map(|group| placed(group, "ours", "cem l2", (0, 5), group as u64 + 1))
            .collect()
    };
    let full = rows(&input(all(0..8)));
    // 5%, 10%, .., 35% and an action score of 8: 148 / 8.
    let average = row(&full, "CEM L2", "ours").average.clone().unwrap();
    assert!((average - 148.0 / 8.0).abs() < 1e-9, "{average}");
    let lacking = rows(&input(all(0..7)));
    assert_eq!(row(&lacking, "CEM L2", "ours").average, Err(vec!["DROID"]));
}

#[test]
fn rows_are_the_papers_then_others() {
    let runs = vec![
        placed(1, "jepa_wm_wall", "adam-as-released l2", (0, 5), 4),
        placed(1, "pldm", "cem l2", (0, 5), 10),
        placed(1, "ours", "mppi l2", (0, 5), 10),
    ];
    let rows = rows(&input(runs));
    assert_eq!(
        rows.iter().filter(|row| row.published.is_some()).count(),
        24
    );
    assert_eq!(value(&row(&rows, "Adam L2", "ours").entries[1]).value, 20.0);
    let pldm = row(&rows, "CEM L2", "pldm");
    assert!(pldm.is_in_table_1() && pldm.published.is_none());
    assert_eq!(rows.last().map(|row| &row.planner[..]), Some("mppi L2"));
    // Typed from Table 1, evaluation.md section 5.1: the mean of 83.9, 78.8, 70.2, 58.2, 41.6, 25.4, 30.7, 48.2.
    let published = row(&rows, "CEM L2", "ours").published_average().unwrap();
    assert!((published - 54.625).abs() < 1e-9);
    assert_eq!(row(&rows, "CEM L2", "vjepa2-ac").published_average(), None);
}

#[test]
fn the_recipe_with_unchanged_settings_and_most_models_is_shown() {
    let of_recipe = |recipe, trained, successes, changes: &[&str]| PaperRun {
        recipe,
        changes: changes.iter().map(ToString::to_string).collect(),
        ..placed(1, "ours", "cem l2", trained, successes)
    };
    let few = of_recipe(1, (0, 5), 20, &[]);
    let many = [of_recipe(2, (0, 5), 10, &[]), of_recipe(2, (1, 5), 10, &[])];
    let changed =
        [1, 2, 3].map(|seed| of_recipe(3, (seed, 5), 1, &["planner.candidates = 40, not 300"]));
    let runs = [&[few][..], &many, &changed].concat();
    let shown = rows(&input(runs));
    let mean = value(&row(&shown, "CEM L2", "ours").entries[1]);
    assert_eq!((mean.value, mean.values, mean.other_recipes), (50.0, 2, 2));
    let only = rows(&input(changed.to_vec()));
    assert_eq!(
        value(&row(&only, "CEM L2", "ours").entries[1])
            .changes
            .len(),
        1
    );
}

/// A run of Wall whose design is this after a change.
fn designed(steps: u64, successes: u64, change: impl Fn(&mut Design)) -> PaperRun {
    let mut run = placed(1, "ours", "cem l2", (0, steps), successes);
    run.design = Design {
        predictor: Some("adaln".into()),
        depth: Some(6),
        rollout_steps: Some(2),
        context: Some(3),
        proprio: Some(true),
        encoder: Some("dinov2-small".into()),
    };
    change(&mut run.design);
    run.recipe = steps as usize;
    run
}

fn chart_of(input: &PaperInput, axis: Axis) -> Chart {
    charts(input)
        .into_iter()
        .find(|chart| chart.axis == axis)
        .unwrap()
}

/// Values on Wall by variant.
fn values(chart: &Chart) -> Vec<Option<f64>> {
    chart
        .variants
        .iter()
        .map(|variant| Some(variant.entries[1].mean()?.value))
        .collect()
}

#[test]
fn a_figure_varies_one_design_value_and_holds_the_others() {
    let runs = vec![
        designed(1, 2, |d| d.rollout_steps = Some(1)),
        designed(2, 4, |_| {}),
        designed(3, 6, |d| (d.rollout_steps, d.context) = (Some(6), Some(7))),
        // Another depth: it has fewer variants of the rollout than depth 6.
        designed(4, 20, |d| (d.rollout_steps, d.depth) = (Some(3), Some(12))),
        // Another planner than CEM L2.
        PaperRun {
            setup: "ng l2".into(),
            ..designed(5, 20, |d| d.rollout_steps = Some(3))
        },
    ];
    let input = input(runs);
    let rollout = chart_of(&input, Axis::RolloutSteps);
    assert_eq!(values(&rollout), [Some(10.0), Some(20.0), None, Some(30.0)]);
    let held = &rollout.held[0];
    assert_eq!(held.0, "Wall");
    assert!(
        held.1.contains("depth 6") && held.1.contains("model ours"),
        "{}",
        held.1
    );
    assert_eq!(rollout.variants[0].average, None);
    // No two runs differ in depth alone, so each is a description of its own: the first by name is shown, and the run at
    // depth 12, which has another rollout, is not beside it.
    assert_eq!(
        values(&chart_of(&input, Axis::Depth)),
        [None, Some(10.0), None, None]
    );
}

#[test]
fn every_axis_reads_its_own_setting() {
    let input =
        |change: fn(&mut Design)| input(vec![designed(1, 2, |_| {}), designed(2, 4, change)]);
    let on = |axis, change| values(&chart_of(&input(change), axis));
    assert_eq!(
        on(Axis::Proprio, |d| d.proprio = Some(false)),
        [Some(10.0), Some(20.0)]
    );
    assert_eq!(
        on(Axis::Context, |d| d.context = Some(5)),
        [None, None, Some(10.0), Some(20.0), None]
    );
    assert_eq!(
        on(Axis::Size, |d| d.encoder = Some("dinov2-base".into())),
        [Some(10.0), Some(20.0), None]
    );
    assert_eq!(
        on(Axis::Encoder, |d| d.encoder = Some("dinov3-small".into())),
        [Some(10.0), Some(20.0), None, None]
    );
    assert_eq!(
        on(Axis::Predictor, |d| d.predictor = Some("sequence".into())),
        [None, None, Some(20.0), Some(10.0)]
    );
    assert_eq!(
        on(Axis::Depth, |d| d.depth = Some(12)),
        [None, Some(10.0), None, Some(20.0)]
    );
}

#[test]
fn planners_are_one_figure_with_the_published_numbers_of_the_model() {
    let with = |steps, setup: &str| PaperRun {
        setup: setup.into(),
        ..designed(steps, steps, |_| {})
    };
    let setups = [
        "cem l2",
        "cem l1",
        "ng l2",
        "ng l1",
        "adam-as-released l2",
        "adam-as-released l1",
        "gd l2",
        "gd l1",
    ];
    let runs = (1..)
        .zip(setups)
        .map(|(steps, setup)| with(steps, setup))
        .collect();
    let chart = chart_of(&input(runs), Axis::Planner);
    let labels: Vec<&str> = chart
        .variants
        .iter()
        .map(|variant| &variant.label[..])
        .collect();
    assert_eq!(
        labels,
        [
            "CEM L2", "CEM L1", "NG L2", "NG L1", "Adam L2", "Adam L1", "GD L2", "GD L1"
        ]
    );
    assert_eq!(
        values(&chart),
        [5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0].map(Some)
    );
    // Typed from Table S5.1: Ours on Wall.
    let printed: Vec<Option<f64>> = chart
        .variants
        .iter()
        .map(|variant| variant.published[1])
        .collect();
    assert_eq!(
        printed,
        [78.8, 46.7, 35.4, 30.9, 1.1, 0.0, 1.1, 0.0].map(Some)
    );
}

/// Runs of `ours` on every group but Robocasa's, of the whole design of the rollout figure.
fn small_sweep() -> PaperInput {
    let groups = [0, 1, 2, 3, 4, 7];
    let runs = groups.into_iter().flat_map(|group| {
        [1, 2, 3, 6].into_iter().map(move |rollout| {
            let mut run = designed(rollout, 4 + rollout, |d| d.rollout_steps = Some(rollout));
            run.group = Some(group);
            run.task = format!("{}@1", TASKS[group]);
            run.action_score = (group == SCORED).then_some(30.0);
            run.recipe = 10 * group + usize::try_from(rollout).unwrap();
            run.id = format!("{group} {rollout}");
            run.weights_hash = Some(run.id.clone());
            run
        })
    });
    input(runs.collect())
}

#[test]
fn the_document_says_the_same_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    write_paper(&small_sweep(), folder.path(), &Format::ALL).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    for (name, texts) in [
        (
            "report.html",
            [
                "Table S5.1",
                "Robocasa<br>not built",
                "83.9 (2.3)",
                "JEPA-WM, reported",
            ],
        ),
        (
            "report.md",
            [
                "Table S5.1",
                "Robocasa<br>not built",
                "83.9 (2.3)",
                "JEPA-WM, reported",
            ],
        ),
        (
            "tables.tex",
            [
                "Table S5.1",
                r"\shortstack[r]{Robocasa\\not built}",
                "83.9 (2.3)",
                "JEPA-WM, reported",
            ],
        ),
    ] {
        let text = read(name);
        for words in texts {
            assert!(text.contains(words), "{name} lacks `{words}`");
        }
    }
    let results: Value = serde_json::from_str(&read("results.json")).unwrap();
    assert_eq!(results["groups"][0], TASK_GROUPS[0]);
    let shown = &results["figures"][1]["variants"][3]["entries"][1];
    assert_eq!(
        (shown["kind"].as_str(), shown["value"].as_f64()),
        (Some("value"), Some(50.0))
    );
    assert_eq!(results["table_s5_1"].as_array().unwrap().len(), 24);
    assert!(
        std::fs::read(folder.path().join("report.pdf"))
            .unwrap()
            .starts_with(b"%PDF-")
    );
}

#[test]
fn every_figure_of_the_paper_is_well_formed() {
    let folder = tempfile::tempdir().unwrap();
    write_paper(&small_sweep(), folder.path(), &[Format::Markdown]).unwrap();
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder.path().join("figures")).unwrap() {
        let path = entry.unwrap().path();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert_eq!(crate::tests::elements(&svg)[0], "svg");
        names.push(path.file_stem().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    // Every run is of some variant of every figure.
    let expected = [3, 4, 5, 6].map(|k| ["left", "right"].map(|side| format!("figure-{k}-{side}")));
    assert_eq!(names, expected.concat());
}

#[test]
fn lines_have_a_marker_per_value() {
    let folder = tempfile::tempdir().unwrap();
    write_paper(&small_sweep(), folder.path(), &[Format::Markdown]).unwrap();
    let svg = std::fs::read_to_string(folder.path().join("figures/figure-3-right.svg")).unwrap();
    // Maze is drawn with discs, one per variant and one in the legend.
    let maze = svg
        .lines()
        .filter(|line| line.starts_with("<circle") && line.contains("#0072B2"));
    assert_eq!(maze.count(), 4 + 1);
}

#[test]
fn floors_and_tasks_without_a_group_have_no_place() {
    let folder = tempfile::tempdir().unwrap();
    let load = |model: &str| {
        Run::load(&SyntheticRun::new(model, 8).write(folder.path()).unwrap()).unwrap()
    };
    let runs = ["floor:random", "oracle"].map(|model| (load(model), PaperFacts::default()));
    let input = PaperInput::new(&runs, vec!["wall".into()]).unwrap();
    assert!(input.runs.is_empty());
    let out = folder.path().join("out");
    assert!(matches!(
        write_paper(&input, &out, &Format::ALL),
        Err(Error::NoPaperRuns)
    ));
    let twice = [0, 1].map(|_| (load("pldm"), PaperFacts::default()));
    let input = PaperInput::new(&twice, vec!["wall".into()]).unwrap();
    assert_eq!(
        (
            input.runs.len(),
            input.runs[0].group,
            &input.runs[0].setup[..]
        ),
        (1, Some(1), "cem l2")
    );
}
