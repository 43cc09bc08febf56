//! Table 1 and Table S5.1.

use std::collections::BTreeSet;

use jepa_leaderboard::{PublishedScore, TASK_GROUPS};

use crate::document::{Block, Cell, Section, Table, Tone, cell, number};
use crate::paper::{Entry, GROUPS, Layouts, Mean, Row, Spread};
use crate::text::{NONE, decimal, listed};

/// Models with CEM and L2.
pub(super) fn table_1(layouts: &Layouts) -> Section {
    let rows: Vec<&Row> = layouts
        .rows
        .iter()
        .filter(|row| row.is_in_table_1())
        .collect();
    let mut section = Section::new("Table 1");
    let caption =
        "Table 1: models planned with CEM and L2, success in percent (DROID: action score)";
    section
        .blocks
        .push(Block::Table(table(caption, &rows, false)));
    section
}

/// Models with every planner.
pub(super) fn table_s5_1(layouts: &Layouts) -> Section {
    let rows: Vec<&Row> = layouts.rows.iter().collect();
    let mut section = Section::new("Table S5.1");
    let caption = "Table S5.1: models with all planners, success in percent (DROID: action score)";
    section
        .blocks
        .push(Block::Table(table(caption, &rows, true)));
    section
}

fn table(caption: &str, rows: &[&Row], has_planner: bool) -> Table {
    let planner = has_planner.then_some("planner");
    let groups: Vec<String> = TASK_GROUPS
        .iter()
        .map(|group| format!("#{group}"))
        .collect();
    let mut headings: Vec<&str> = planner.into_iter().chain(["model"]).collect();
    headings.extend(groups.iter().map(String::as_str));
    headings.push("#Avg");
    let mut table = Table::new(caption, &headings);
    for row in rows {
        let label = |model: String| -> Vec<Cell> {
            let planner = has_planner.then(|| cell(row.planner.clone()));
            planner.into_iter().chain([cell(model)]).collect()
        };
        let mut cells = label(row.model.clone());
        cells.extend(
            row.entries
                .iter()
                .enumerate()
                .map(|(group, entry)| entry_cell(group, entry)),
        );
        cells.push(average(row));
        table.push(
            if row.has_values() {
                Tone::Strong
            } else {
                Tone::Plain
            },
            cells,
        );
        if let Some(published) = &row.published {
            let mut cells = label(format!("{}, reported", row.published_label()));
            cells.extend(published.scores.map(published_cell));
            cells.push(
                row.published_average()
                    .map_or_else(|| cell(NONE), |mean| number(decimal(mean, 1), mean)),
            );
            table.push(Tone::Muted, cells);
        }
    }
    let note = note(rows);
    table.with_note(note)
}

fn entry_cell(group: usize, entry: &Entry) -> Cell {
    match entry {
        Entry::Value(mean) => value(mean),
        Entry::NoRun => cell("no run"),
        Entry::NotBuilt => cell(format!("{}\nnot built", simulator(group))),
        Entry::Unclear { detail } => cell(detail.clone()),
    }
}

/// The simulator of a group that this program may lack.
pub(super) fn simulator(group: usize) -> &'static str {
    match TASK_GROUPS[group] {
        "Rc-R" | "Rc-Pl" => "Robocasa",
        name => name,
    }
}

/// `52.1 (1.2)`, or `52.1 [41–63]` for one run; below it what it lacks of the paper's.
fn value(mean: &Mean) -> Cell {
    let mark = if mean.changes.is_empty() { "" } else { "†" };
    let spread = match mean.spread {
        Spread::Deviation(std) => format!(" ({})", decimal(std, 1)),
        Spread::Interval(interval) => {
            format!(
                "\n[{}–{}]",
                decimal(interval.low, 1),
                decimal(interval.high, 1)
            )
        }
        Spread::None => String::new(),
    };
    let first = format!("{}{mark}{spread}", decimal(mean.value, 1));
    let lines: Vec<String> = [first].into_iter().chain(mean.lacks()).collect();
    number(
        lines.join(
            "
",
        ),
        mean.value,
    )
}

fn average(row: &Row) -> Cell {
    match &row.average {
        Ok(mean) => number(decimal(*mean, 1), *mean),
        Err(_) if row.has_values() => cell(format!("{} of {GROUPS}\ngroups", row.groups_present())),
        Err(_) => cell(NONE),
    }
}

fn published_cell(score: Option<PublishedScore>) -> Cell {
    score.map_or_else(
        || cell(NONE),
        |score| {
            number(
                format!("{} ({})", decimal(score.mean, 1), decimal(score.std, 1)),
                score.mean,
            )
        },
    )
}

fn note(rows: &[&Row]) -> String {
    let mut parts = vec![
        "(std): population, over the last epochs of all training seeds; [low–high]: Wilson 95% of one run; reported: by the \
         authors, not verified here, – where they give none; Avg: unweighted mean over all eight groups and only where all \
         are there, computed here for reported rows, too"
            .to_string(),
    ];
    let means = || {
        rows.iter()
            .flat_map(|row| row.entries.iter().filter_map(Entry::mean))
    };
    let changes: BTreeSet<&String> = means().flat_map(|mean| &mean.changes).collect();
    if !changes.is_empty() {
        let changes: Vec<String> = changes.into_iter().cloned().collect();
        parts.push(format!(
            "†: with other settings than the task's preset: {}",
            listed(&changes)
        ));
    }
    if means().any(|mean| mean.other_recipes > 0) {
        let words = "where several recipes fit a place the one with unchanged settings and most models is shown, the others \
                     are listed under the assignment of runs";
        parts.push(words.into());
    }
    parts.join("; ")
}
