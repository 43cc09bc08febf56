//! What the numbers do not say, and whom to cite.

use jepa_leaderboard::{ModelKind, PAPER};

use crate::document::{Block, Section, Span, code, paragraph, plain};
use crate::input::{Input, RunFacts, TaskFacts};
use crate::text::listed;

const BIBTEX: &str = "@article{terver2025jepawms,
  author  = {Terver, Basile and Yang, Tsung-Yen and Ponce, Jean
             and Bardes, Adrien and LeCun, Yann},
  title   = {What Drives Success in Physical Planning with
             Joint-Embedding Predictive World Models?},
  journal = {arXiv preprint arXiv:2512.24497},
  year    = {2025}
}";

/// Caveats that apply to these runs.
pub(super) fn section(input: &Input, tasks: &[TaskFacts]) -> Section {
    let runs: Vec<&RunFacts> = tasks.iter().flat_map(|task| &task.runs).collect();
    let candidates = [
        Some(one_seed(&runs)),
        selection(tasks),
        tracks(&runs),
        published(tasks),
        missing(tasks),
        presets(&runs),
        dirty(&runs),
        training(input, &runs),
    ];
    let items: Vec<Vec<Span>> = candidates.into_iter().flatten().collect();
    let mut section = Section::new("Caveats");
    section.blocks.push(Block::List { items });
    section
}

fn one_seed(runs: &[&RunFacts]) -> Vec<Span> {
    let mut seeds: Vec<(&str, u64)> = Vec::new();
    for model in runs.iter().map(|facts| &facts.run.record.model) {
        seeds.extend(
            model
                .training
                .as_ref()
                .map(|training| (model.name.as_str(), training.seed)),
        );
    }
    seeds.sort_unstable();
    seeds.dedup();
    let text = if seeds.is_empty() {
        "Intervals cover the draw of evaluation episodes only.".to_string()
    } else {
        format!(
            "Intervals cover the draw of evaluation episodes only. Training again with another seed moves a model by an \
             amount that they do not show; training seeds here: {}.",
            listed(
                &seeds
                    .iter()
                    .map(|(name, seed)| format!("{name} {seed}"))
                    .collect::<Vec<_>>()
            )
        )
    };
    vec![plain(text)]
}

/// The best of several recipes was chosen after the fact.
fn selection(tasks: &[TaskFacts]) -> Option<Vec<Span>> {
    let most = tasks.iter().map(TaskFacts::recipes).max();
    let most = most.filter(|&count| count > 1)?;
    Some(vec![plain(format!(
        "The summary leads with the best of {most} models, chosen by these very episodes: on new ones it is \
         likely to do a little worse.",
    ))])
}

fn tracks(runs: &[&RunFacts]) -> Option<Vec<Span>> {
    let reduced = runs.iter().filter(|facts| {
        facts
            .run
            .record
            .model
            .training
            .as_ref()
            .is_some_and(|training| training.track != "standard")
    });
    let names: Vec<String> = reduced.map(|facts| facts.label.clone()).collect();
    (!names.is_empty()).then(|| {
        vec![plain(format!(
            "{}: not trained on the released data and split, so the result does not compare with models that were.",
            listed(&names)
        ))]
    })
}

fn published(tasks: &[TaskFacts]) -> Option<Vec<Span>> {
    tasks.iter().any(|task| !task.published.is_empty()).then(|| {
        vec![plain(
            "Published numbers were copied from the paper. They come from models with frozen pre-trained encoders, \
             evaluated on the authors' episodes and averaged over seeds and epochs; nothing here reproduces or \
             contradicts them.",
        )]
    })
}

fn missing(tasks: &[TaskFacts]) -> Option<Vec<Span>> {
    let lacks =
        |task: &&TaskFacts, kind: ModelKind| !task.runs.iter().any(|facts| facts.kind() == kind);
    let without = |kind: ModelKind| tasks.iter().any(|task| lacks(&task, kind));
    let words: Vec<String> = [
        (ModelKind::Floor, "no floor"),
        (ModelKind::Oracle, "no oracle"),
    ]
    .into_iter()
    .filter(|(kind, _)| without(*kind))
    .map(|(_, words)| words.to_string())
    .collect();
    (!words.is_empty()).then(|| {
        vec![
            plain(format!(
                "There is {} among the runs; add them with ",
                listed(&words)
            )),
            code("jepa-bench eval --model floor:random"),
            plain(" and "),
            code("--model oracle"),
            plain("."),
        ]
    })
}

fn presets(runs: &[&RunFacts]) -> Option<Vec<Span>> {
    let changed = runs.iter().filter(|facts| {
        let planner = &facts.run.record.planner;
        planner.name != "none" && planner.preset != "paper"
    });
    let names: Vec<String> = changed
        .map(|facts| format!("{} ({})", facts.label, facts.run.record.planner.preset))
        .collect();
    (!names.is_empty()).then(|| {
        vec![plain(format!(
            "Planned with other settings than the paper's: {}.",
            listed(&names)
        ))]
    })
}

fn dirty(runs: &[&RunFacts]) -> Option<Vec<Span>> {
    let dirty = runs
        .iter()
        .any(|facts| facts.run.record.provenance.commit.ends_with("-dirty"));
    dirty.then(|| {
        vec![plain(
            "Some runs were made by code with local changes that no commit holds.",
        )]
    })
}

fn training(input: &Input, runs: &[&RunFacts]) -> Option<Vec<Span>> {
    let trained = runs
        .iter()
        .any(|facts| facts.run.record.model.training.is_some());
    (trained && input.datasets.is_empty()).then(|| {
        vec![plain(
            "The dataset was not at hand, so there is no dataset card.",
        )]
    })
}

/// Whom to cite.
pub(super) fn citation() -> Section {
    let mut section = Section::new("Citation");
    section.blocks.push(paragraph(vec![plain(format!(
        "Protocol, planners and published numbers follow: {PAPER}."
    ))]));
    section.blocks.push(Block::Code {
        text: BIBTEX.into(),
    });
    section
}
