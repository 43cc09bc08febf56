//! The paper's tables and figures filled with runs, as a document of their own.

mod assignment;
mod figures;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

use jepa_leaderboard::TASK_GROUPS;

use super::caveats;
use crate::document::{
    Block, Document, Fact, Section, Span, Table, Tone, cell, code, code_cell, number, paragraph,
    plain, strong,
};
use crate::error::{Error, Result};
use crate::paper::{Entry, GROUPS, Layouts, PaperInput, SEEDS};
use crate::text::{NONE, listed, plural};

/// Builds the document.
///
/// # Errors
/// When no run has a place in the layouts, or a figure cannot be drawn.
pub(crate) fn build(input: &PaperInput, layouts: &Layouts) -> Result<Document> {
    if input.runs.iter().all(|run| run.group.is_none()) {
        return Err(Error::NoPaperRuns);
    }
    let mut sections = vec![summary(input, layouts)];
    sections.push(tables::table_1(layouts));
    sections.push(tables::table_s5_1(layouts));
    sections.extend(figures::sections(layouts)?);
    sections.push(missing(input, layouts));
    sections.push(assignment::section(input, layouts));
    sections.push(read_with_care(layouts));
    sections.push(caveats::citation());
    Ok(Document {
        title: "The paper's tables and figures, from runs".into(),
        subtitle: format!(
            "{} of {}; layouts of arXiv 2512.24497",
            plural(input.runs.len() as u64, "run"),
            plural(models(input).len() as u64, "model")
        ),
        sections,
    })
}

fn models(input: &PaperInput) -> BTreeSet<&str> {
    input.runs.iter().map(|run| &run.model[..]).collect()
}

/// Claim, and the tasks with their identities.
fn summary(input: &PaperInput, layouts: &Layouts) -> Section {
    let mut section = Section::new("Summary");
    let table_1 = || {
        layouts
            .rows
            .iter()
            .filter(|row| row.is_in_table_1() && row.published.is_some())
    };
    let places = table_1().flat_map(|row| &row.entries);
    let filled = places
        .clone()
        .filter(|entry| entry.mean().is_some())
        .count();
    let groups: BTreeSet<usize> = input.runs.iter().filter_map(|run| run.group).collect();
    section.blocks.push(Block::Claim {
        spans: vec![
            strong(format!("{filled} of {} places", places.count())),
            plain(format!(
                " of Table 1 have a run; {} of {GROUPS} task groups have any.",
                groups.len()
            )),
        ],
    });
    section.blocks.push(Block::Facts {
        items: facts(input, layouts, &groups),
    });
    section.blocks.push(paragraph(vec![plain(
        "Every value was recomputed from episodes. Where models of several epochs or training seeds are at hand it is, as in \
         the paper, the mean of all of them with the population standard deviation in round brackets; where there is one run \
         it is that run with its Wilson 95% interval in square brackets. Numbers marked as reported are the authors' and were \
         not verified here.",
    )]));
    section.blocks.push(Block::Table(tasks(input)));
    section
}

fn facts(input: &PaperInput, layouts: &Layouts, groups: &BTreeSet<usize>) -> Vec<Fact> {
    let fact = |label: &str, value: String, note: String| Fact {
        label: label.into(),
        value,
        note,
    };
    let seeds = layouts.rows.iter().flat_map(|row| &row.entries);
    let seeds = seeds
        .filter_map(|entry| Some(entry.mean()?.seeds.len()))
        .max()
        .unwrap_or(0);
    let drawn = layouts
        .charts
        .iter()
        .filter(|chart| !chart.held.is_empty())
        .count();
    let names: Vec<String> = groups
        .iter()
        .map(|&group| TASK_GROUPS[group].to_string())
        .collect();
    let episodes: u64 = input.runs.iter().map(|run| run.episodes).sum();
    vec![
        fact(
            "runs",
            input.runs.len().to_string(),
            plural(episodes, "episode"),
        ),
        fact(
            "task groups",
            format!("{} of {GROUPS}", groups.len()),
            listed(&names),
        ),
        fact(
            "training seeds",
            seeds.to_string(),
            format!("at most, of {SEEDS} in the paper"),
        ),
        fact(
            "figures",
            format!("{drawn} of {}", layouts.charts.len()),
            "with a run".into(),
        ),
    ]
}

/// Tasks by their identity; runs of one name and another hash are of another task.
fn tasks(input: &PaperInput) -> Table {
    let headings = ["task", "group", "#runs", "#episodes per run", "task hash"];
    let mut table = Table::new("Tasks", &headings);
    let mut tasks: BTreeMap<(&str, &str), Vec<&crate::paper::PaperRun>> = BTreeMap::new();
    for run in &input.runs {
        tasks
            .entry((&run.task, &run.task_hash))
            .or_default()
            .push(run);
    }
    for ((task, hash), runs) in tasks {
        let episodes: BTreeSet<u64> = runs.iter().map(|run| run.episodes).collect();
        let episodes: Vec<String> = episodes.iter().map(u64::to_string).collect();
        table.push(
            Tone::Plain,
            vec![
                cell(task),
                cell(runs[0].group.map_or("none", |group| TASK_GROUPS[group])),
                number(runs.len().to_string(), runs.len() as f64),
                cell(episodes.join(", ")),
                code_cell(hash),
            ],
        );
    }
    table
}

/// What is missing, and how to get it.
fn missing(input: &PaperInput, layouts: &Layouts) -> Section {
    let rows = || layouts.rows.iter().filter(|row| row.published.is_some());
    let entries = || rows().flat_map(|row| row.entries.iter().enumerate());
    let groups_where = |is: fn(&Entry) -> bool| -> Vec<String> {
        let found: BTreeSet<usize> = entries()
            .filter(|(_, entry)| is(entry))
            .map(|(k, _)| k)
            .collect();
        found
            .into_iter()
            .map(|k| TASK_GROUPS[k].to_string())
            .collect()
    };
    let mut items: Vec<Vec<Span>> = Vec::new();
    let no_run = groups_where(|entry| matches!(entry, Entry::NoRun));
    if !no_run.is_empty() {
        items.push(vec![
            strong("no run"),
            plain(format!(
                " ({}): evaluate a model of that row with ",
                listed(&no_run)
            )),
            code(
                "jepa-bench eval --model RUN --task TASK --planner cem --set objective.distance=l2",
            ),
            plain("; planners are cem, ng, adam-as-released and gd, distances l2 and l1."),
        ]);
    }
    let not_built = groups_where(|entry| matches!(entry, Entry::NotBuilt));
    if !not_built.is_empty() {
        items.push(vec![
            strong("not built"),
            plain(format!(
                " ({}): this program has no such simulator, so no command fills these places.",
                listed(&not_built)
            )),
        ]);
    }
    let lacks = |what: &str| {
        let means = entries().filter_map(|(_, entry)| entry.mean());
        means
            .flat_map(crate::paper::Mean::lacks)
            .any(|lack| lack.contains(what))
    };
    if lacks("seeds") || lacks("run") {
        items.push(vec![
            strong(format!("of {SEEDS} seeds")),
            plain(": train the recipe again with other seeds, "),
            code("jepa-bench train --sweep FILE"),
            plain(" with "),
            code("[grid]\n\"training.seed\" = [0, 1, 2]".replace('\n', " ")),
            plain(", and evaluate every run."),
        ]);
    }
    if lacks("epochs") || lacks("run") {
        items.push(vec![
            strong("of the last epochs"),
            plain(": keep them with "),
            code("jepa-bench train --keep-epochs 1"),
            plain(" and evaluate each folder below "),
            code("kept/"),
            plain("."),
        ]);
    }
    items.extend(figures::how_to(layouts));
    let outside: BTreeSet<&str> = input
        .runs
        .iter()
        .filter(|run| run.group.is_none())
        .map(|run| &run.task[..])
        .collect();
    if !outside.is_empty() {
        let names: Vec<String> = outside.into_iter().map(String::from).collect();
        items.push(vec![plain(format!(
            "Runs on {} are of no group of the paper and stand in none of these tables.",
            listed(&names)
        ))]);
    }
    if items.is_empty() {
        items.push(vec![plain("Nothing.")]);
    }
    let mut section = Section::new("What is missing and how to get it");
    section.blocks.push(Block::List { items });
    section
}

fn read_with_care(layouts: &Layouts) -> Section {
    let mut items = vec![
        vec![plain(
            "The paper's brackets mix training seeds, epochs and the draw of the episodes; a Wilson interval covers the draw of \
             the episodes alone. The two do not compare.",
        )],
        vec![plain(
            "Reported numbers come from the authors' models, weights and episodes. A row of ours beside one of theirs is of the \
             same layout, not of the same model.",
        )],
        vec![plain(
            "DROID holds an action score, no success rate, and enters Avg as it does in the paper.",
        )],
    ];
    let entries = layouts.rows.iter().flat_map(|row| &row.entries);
    let is_changed = |entry: &Entry| entry.mean().is_some_and(|mean| !mean.changes.is_empty());
    if entries.into_iter().any(is_changed) {
        items.push(vec![plain(
            "Values with † were made with settings that differ from those of the task and of its planner preset; they are listed \
             under the table, and do not compare with the paper's.",
        )]);
    }
    let mut section = Section::new("Caveats");
    section.blocks.push(Block::List { items });
    section
}

/// A text or a dash.
fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| NONE.into())
}
