//! Which run stands where, and by which of its settings.

use std::collections::BTreeSet;

use jepa_leaderboard::TASK_GROUPS;

use super::or_dash;
use crate::document::{
    Block, Cell, Section, Table, Tone, cell, code_cell, number, paragraph, plain,
};
use crate::paper::{Entry, Layouts, PaperInput, PaperRun};
use crate::text::{NONE, decimal, short_hash};

/// A row per run.
pub(super) fn section(input: &PaperInput, layouts: &Layouts) -> Section {
    let in_rows = layouts.rows.iter().flat_map(|row| &row.entries);
    let in_charts = layouts
        .charts
        .iter()
        .flat_map(|chart| &chart.variants)
        .flat_map(|v| &v.entries);
    let shown: BTreeSet<&String> = in_rows
        .chain(in_charts)
        .filter_map(Entry::mean)
        .flat_map(|mean| &mean.runs)
        .collect();
    let mut section = Section::new("Where each run stands");
    section.blocks.push(paragraph(vec![plain(
        "By its record (task, model, planner, distance) and by the configuration of its training run, never by the name of a \
         folder. A dash: the configuration is not at hand or has no such setting.",
    )]));
    let headings = [
        "run",
        "group",
        "model",
        "planner",
        "#seed",
        "#steps",
        "predictor",
        "#depth",
        "#rollout",
        "#W",
        "proprio",
        "encoder",
        "#value",
        "shown",
    ];
    let mut table = Table::new("Runs", &headings);
    for run in &input.runs {
        table.push(Tone::Plain, row(run, shown.contains(&run.id)));
    }
    section.blocks.push(Block::Table(table.with_note(
        "run: first digits of the record's hash; value: success in percent, or the action score; shown: whether any table or \
         figure above has it",
    )));
    section
}

fn row(run: &PaperRun, is_shown: bool) -> Vec<Cell> {
    let count = |n: Option<u64>| n.map_or_else(|| cell(NONE), |n| number(n.to_string(), n as f64));
    let design = &run.design;
    let value = run
        .action_score
        .unwrap_or(100.0 * run.successes as f64 / run.episodes as f64);
    vec![
        code_cell(short_hash(&run.id).get(..8).unwrap_or(&run.id)),
        cell(run.group.map_or(&run.task[..], |group| TASK_GROUPS[group])),
        cell(run.model.clone()),
        cell(run.setup.clone()),
        count(run.trained.map(|trained| trained.0)),
        count(run.trained.map(|trained| trained.1)),
        cell(or_dash(design.predictor.clone())),
        count(design.depth),
        count(design.rollout_steps),
        count(design.context),
        cell(
            design
                .proprio
                .map_or(NONE, |is| if is { "yes" } else { "no" }),
        ),
        cell(or_dash(design.encoder.clone())),
        number(decimal(value, 1), value),
        cell(if is_shown { "yes" } else { "no" }),
    ]
}
