//! Whole reports over made-up runs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use jepa_leaderboard::testing::SyntheticRun;
use jepa_leaderboard::{Run, RunRecord};

use crate::{DatasetCard, Error, FieldRow, Format, Input, TrainingRun, write_report};

/// Runs of a model, the ceiling and two floors, with films, a training run and a dataset.
struct Scene {
    folder: tempfile::TempDir,
    input: Input,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let models = ["floor:random", "pldm", "oracle", "floor:noop"];
        let runs: Vec<Run> = models
            .iter()
            .map(|model| write_run(folder.path(), model))
            .collect();
        let training = vec![TrainingRun::load(&write_training(folder.path())).unwrap()];
        let input = Input {
            training,
            datasets: vec![card()],
            ..Input::new(runs)
        };
        Self { folder, input }
    }

    fn write(&self, name: &str, formats: &[Format]) -> PathBuf {
        let out = self.folder.path().join(name);
        write_report(&self.input, &out, formats).unwrap();
        out
    }
}

fn write_run(folder: &Path, model: &str) -> Run {
    let dir = SyntheticRun::new(model, 96)
        .write(&folder.join("runs"))
        .unwrap();
    if model == "pldm" {
        write_films(&dir);
    }
    Run::load(&dir).unwrap()
}

/// Six film strips of grey levels.
fn write_films(dir: &Path) {
    std::fs::create_dir_all(dir.join("films")).unwrap();
    let mut index = Vec::new();
    for seed in 2..8_u64 {
        let (file, success) = (format!("episode-{seed}.png"), seed < 5);
        let levels: Vec<u8> = (0..1080 * 138_u32)
            .map(|k| (k % 1080 / 135 * 30) as u8)
            .collect();
        let mut encoder = png::Encoder::new(
            std::fs::File::create(dir.join("films").join(&file)).unwrap(),
            1080,
            138,
        );
        encoder.set_color(png::ColorType::Grayscale);
        encoder
            .write_header()
            .unwrap()
            .write_image_data(&levels)
            .unwrap();
        let caption = format!(
            "seed {seed}, final distance {}.5",
            if success { 1 } else { 12 }
        );
        index.push(
            serde_json::json!({"seed": seed, "success": success, "file": file, "caption": caption}),
        );
    }
    std::fs::write(
        dir.join("films").join("index.json"),
        serde_json::to_string(&index).unwrap(),
    )
    .unwrap();
}

fn write_training(folder: &Path) -> PathBuf {
    let dir = folder.join("train");
    std::fs::create_dir_all(&dir).unwrap();
    let mut lines = String::new();
    for step in (0..9000_u32).step_by(30) {
        let t = 1.0 / (1.0 + f64::from(step) / 400.0);
        let shake = 1.0 + 0.08 * f64::from(step * 7919 % 13) / 13.0;
        let loss = (0.04 + t) * shake;
        let _ = writeln!(
            lines,
            "{{\"step\":{step},\"epoch\":0,\"loss\":{},\"loss_prediction\":{},\"loss_std\":{},\"loss_covariance\":{},\
             \"loss_similarity\":{},\"loss_inverse\":{},\"lr\":{},\"grad_norm\":1.0,\"seconds\":{step}}}",
            3.0 * loss,
            loss,
            0.4 * loss * t + 0.01,
            0.05 * loss,
            0.02 + 0.1 * t,
            0.3 * loss,
            1e-3 * (f64::from(step).min(500.0) / 500.0),
        );
        if step % 900 == 0 {
            let e = 0.02 + 0.2 * t;
            let _ = writeln!(
                lines,
                "{{\"step\":{step},\"validation\":{{\"visual_l1\":[{e},{},{}],\"visual_l2\":[{},{},{}],\
                 \"proprio\":[0.1],\"variance\":1.0}}}}",
                1.4 * e,
                1.7 * e,
                e * e,
                2.0 * e * e,
                3.0 * e * e
            );
        }
    }
    std::fs::write(dir.join("metrics.jsonl"), lines).unwrap();
    std::fs::write(
        dir.join("training.json"),
        r#"{"model": "pldm", "steps": 9000}"#,
    )
    .unwrap();
    dir
}

fn card() -> DatasetCard {
    let field = |name: &str, meaning: &str| FieldRow {
        name: name.into(),
        shape: "[2]".into(),
        meaning: meaning.into(),
        mean: vec![0.003, -0.012],
        std: vec![0.72, 0.71],
        min: vec![-1.8, -1.79],
        max: vec![1.8, 1.79],
    };
    DatasetCard {
        name: "wall-demo".into(),
        facts: [
            ("episodes", "1 920"),
            ("rows", "32 640"),
            ("licence", "CC0"),
            ("content hash", "4f2a 9b1c"),
        ]
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .to_vec(),
        fields: vec![
            field("action", "displacement / 2, pixels"),
            field("observation.proprio", "position, pixels"),
        ],
        rejects: vec![("not_finite".into(), 3)],
    }
}

#[test]
fn a_report_says_what_the_runs_showed() {
    let scene = Scene::new();
    let out = scene.write("out", &Format::ALL);
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    let summary = &scene.input.runs[1].record.summary;
    let claim = format!("reaches the goal in {} of 96 episodes", summary.successes);
    assert!(page.contains(&claim) && page.contains("reported by the authors, not verified here"));
    for words in [
        "Random actions",
        "Dataset card",
        "Paired differences",
        "arXiv:2512.24497",
        "✗ failure",
    ] {
        assert!(page.contains(words), "the page lacks `{words}`");
    }
    let markdown = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(markdown.contains(&claim));
    for figure in [
        "wall-1-success",
        "wall-1-distance",
        "wall-1-planning",
        "training-1-pldm",
    ] {
        assert!(
            markdown.contains(figure) && out.join("figures").join(format!("{figure}.svg")).exists()
        );
    }
    assert!(
        std::fs::read(out.join("report.pdf"))
            .unwrap()
            .starts_with(b"%PDF-")
    );
    assert!(
        std::fs::read_to_string(out.join("tables.tex"))
            .unwrap()
            .contains("\\toprule")
    );
}

/// Names of the elements of an SVG drawing, which must be well-formed XML: every element closed in its order, every
/// attribute quoted, every entity known.
pub(crate) fn elements(svg: &str) -> Vec<String> {
    let (mut open, mut names): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        known_entities(&rest[..start]);
        assert!(
            !rest[..start].contains('>'),
            "a stray bracket in {:?}",
            &rest[..start]
        );
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name = tag
            .trim_start_matches('/')
            .split_whitespace()
            .next()
            .unwrap();
        let name = name.trim_end_matches('/').to_string();
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_ref(), Some(&name));
            continue;
        }
        let attributes = tag.trim_end_matches('/');
        known_entities(attributes);
        assert_eq!(
            attributes.matches('"').count(),
            2 * attributes.matches('=').count(),
            "{tag}"
        );
        if !tag.ends_with('/') {
            open.push(name.clone());
        }
        names.push(name);
    }
    assert!(
        open.is_empty() && rest.trim().is_empty(),
        "{open:?} {rest:?}"
    );
    names
}

fn known_entities(text: &str) {
    for part in text.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;", "quot;", "apos;", "#"];
        assert!(
            known.iter().any(|entity| part.starts_with(entity)),
            "&{part}"
        );
    }
}

#[test]
fn every_figure_is_well_formed() {
    let scene = Scene::new();
    let out = scene.write("out", &[Format::Markdown]);
    let figures: Vec<PathBuf> = std::fs::read_dir(out.join("figures"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(figures.len() >= 7, "{figures:?}");
    for figure in figures {
        let names = elements(&std::fs::read_to_string(&figure).unwrap());
        assert_eq!(names[0], "svg", "{}", figure.display());
        assert!(names.len() > 10, "{}", figure.display());
    }
}

#[test]
fn the_same_runs_give_the_same_bytes() {
    let scene = Scene::new();
    let (first, second) = (
        scene.write("first", &Format::ALL),
        scene.write("second", &Format::ALL),
    );
    for name in [
        "report.pdf",
        "report.html",
        "report.md",
        "tables.tex",
        "results.json",
    ] {
        let same =
            std::fs::read(first.join(name)).unwrap() == std::fs::read(second.join(name)).unwrap();
        assert!(same, "{name} differs");
    }
}

#[test]
fn results_hold_the_records_in_full() {
    let scene = Scene::new();
    let out = scene.write("out", &[Format::Json]);
    let results: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("results.json")).unwrap()).unwrap();
    let runs = results["tasks"][0]["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    let record: RunRecord = serde_json::from_value(runs[0]["record"].clone()).unwrap();
    assert_eq!(record, scene.input.runs[1].record);
    assert_eq!(
        results["tasks"][0]["published"].as_array().unwrap().len(),
        2
    );
    assert!(!out.join("report.pdf").exists());
}

#[test]
fn several_training_seeds_are_led_by_their_mean() {
    let mut scene = Scene::new();
    for seed in [2, 3] {
        let synthetic = SyntheticRun::new("pldm", 96).seeded(seed).reaching(0.9);
        let runs = scene.folder.path().join(format!("runs-{seed}"));
        let run = Run::load(&synthetic.write(&runs).unwrap()).unwrap();
        scene.input.runs.push(run);
    }
    let rates: Vec<f64> = scene
        .input
        .runs
        .iter()
        .filter(|run| run.record.model.name == "pldm")
        .map(|run| 100.0 * run.record.summary.success_rate)
        .collect();
    let mean = rates.iter().sum::<f64>() / 3.0;
    let highest = rates.iter().copied().fold(0.0, f64::max);
    assert!(highest > mean + 0.1, "the seeds must differ: {rates:?}");

    let out = scene.write("out", &[Format::Markdown, Format::Json]);
    let text = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(
        text.contains(", trained with 3 seeds, reaches the goal in a mean of "),
        "{text}"
    );
    assert!(
        text.contains(&format!("**{mean:.1}%** of 96 episodes")),
        "{text}"
    );
    assert!(text.contains("Means over training seeds"));
    assert!(!text.contains("The summary leads with the best of"));
    let results: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("results.json")).unwrap()).unwrap();
    let told = results["tasks"][0]["seed_means"][0]["success_rate"]
        .as_f64()
        .unwrap();
    assert!((100.0 * told - mean).abs() < 1e-9);
}

#[test]
fn a_figure_of_many_runs_is_no_longer_than_a_page() {
    let mut scene = Scene::new();
    for seed in 2..30 {
        let synthetic = SyntheticRun::new("pldm", 8).seeded(seed);
        let runs = scene.folder.path().join(format!("runs-{seed}"));
        scene
            .input
            .runs
            .push(Run::load(&synthetic.write(&runs).unwrap()).unwrap());
    }
    let out = scene.write("out", &[Format::Markdown, Format::Pdf]);
    let svg = std::fs::read_to_string(out.join("figures").join("wall-1-success.svg")).unwrap();
    let height = svg
        .split('"')
        .nth(1)
        .and_then(|box_| box_.split(' ').nth(3))
        .unwrap();
    assert!(height.parse::<u32>().unwrap() <= 6000, "{height}");
    let text = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(
        text.contains("The best are drawn; 13 more are in the table."),
        "{text}"
    );
}

#[test]
fn a_single_floor_is_a_report_too() {
    let mut scene = Scene::new();
    scene.input = Input::new(vec![scene.input.runs.remove(0)]);
    let out = scene.write("out", &Format::ALL);
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("no oracle") && !page.contains("Paired differences"));
}

#[test]
fn a_report_of_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        write_report(&Input::default(), folder.path(), &Format::ALL),
        Err(Error::NoRuns)
    ));
}

#[test]
fn formats_are_known_by_name() {
    assert_eq!("md".parse(), Ok(Format::Markdown));
    assert!(
        "doc"
            .parse::<Format>()
            .unwrap_err()
            .contains("pdf, html, md, latex, json")
    );
}
