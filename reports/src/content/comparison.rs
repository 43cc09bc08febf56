//! Paired differences: each model against every run below it, on the same episodes.

use jepa_leaderboard::Comparison;

use super::Scope;
use crate::document::{Block, Figure, Section, Table, Tone, cell, number, paragraph, plain};
use crate::error::Result;
use crate::figure::paired_differences;
use crate::input::TaskFacts;
use crate::text::{p_value, points, points_interval, signed, signed_interval};

/// Pairs drawn and listed at most; a report of many runs shows the first.
const MOST: usize = 24;

/// The paired differences of one task; `None` for a single run.
pub(super) fn section(scope: &Scope<'_>) -> Result<Option<Section>> {
    let task = scope.task;
    if task.runs.len() < 2 {
        return Ok(None);
    }
    let mut section = scope.section("Paired differences");
    let shown = &task.comparisons[..task.comparisons.len().min(MOST)];
    if !shown.is_empty() {
        section.blocks.push(Block::Figure(figure(scope, shown)?));
        section
            .blocks
            .push(Block::Table(table(shown, task.comparisons.len())));
    }
    section
        .blocks
        .extend(unpaired(task).map(|text| paragraph(vec![plain(text)])));
    Ok(Some(section))
}

/// Which pairs could not be compared; `None` if all could.
fn unpaired(task: &TaskFacts) -> Option<String> {
    let mut pairs = Vec::new();
    for (k, first) in task.runs.iter().enumerate() {
        let strangers = task.runs[k + 1..]
            .iter()
            .filter(|second| !TaskFacts::share_episodes(first, second));
        pairs.extend(strangers.map(|second| format!("{} and {}", first.label, second.label)));
    }
    (!pairs.is_empty()).then(|| {
        format!(
            "Not compared, because they share no episode: {}.",
            pairs.join("; ")
        )
    })
}

fn figure(scope: &Scope<'_>, comparisons: &[Comparison]) -> Result<Figure> {
    let name = scope.figure_name("differences");
    let pairs = comparisons
        .iter()
        .map(|c| format!("{} minus {} {}", c.first, c.second, points(c.success.mean)));
    Ok(Figure {
        svg: paired_differences(&name, comparisons)?,
        alt: format!("Differences in success rate: {}", pairs.collect::<Vec<_>>().join("; ")),
        caption: "Difference in success rate on the same episodes with Newcombe's paired 95% interval. Coloured and \
                  bold: significant at 5% by the exact McNemar test after Holm's correction."
            .into(),
        name,
    })
}

fn table(comparisons: &[Comparison], all: usize) -> Table {
    let headings = [
        "first",
        "second",
        "#shared",
        "#only first",
        "#only second",
        "#success, points",
        "#95% interval",
        "#p (Holm)",
        "#distance",
        "#95% interval",
    ];
    let mut table = Table::new("Paired differences, first minus second", &headings);
    for comparison in comparisons {
        let tone = if comparison.is_significant() {
            Tone::Strong
        } else {
            Tone::Plain
        };
        table.push(tone, row(comparison));
    }
    let left_out = match all - comparisons.len() {
        0 => String::new(),
        more => format!("; {more} further pairs are in results.json"),
    };
    table.with_note(format!(
        "only first, only second: episodes in which just one of the two succeeds; distance: difference of the mean \
         final distance with a paired bootstrap interval (10 000 resamples){left_out}"
    ))
}

fn row(comparison: &Comparison) -> Vec<crate::document::Cell> {
    let Comparison {
        success,
        final_distance,
        outcomes,
        ..
    } = comparison;
    vec![
        cell(comparison.first.clone()),
        cell(comparison.second.clone()),
        number(comparison.shared.to_string(), comparison.shared as f64),
        number(outcomes.only_first.to_string(), outcomes.only_first as f64),
        number(
            outcomes.only_second.to_string(),
            outcomes.only_second as f64,
        ),
        number(points(success.mean), success.mean),
        number(points_interval(success.interval), success.interval.low),
        number(p_value(comparison.p_holm), comparison.p_holm),
        number(signed(final_distance.mean, 2), final_distance.mean),
        number(
            signed_interval(final_distance.interval, 2),
            final_distance.interval.low,
        ),
    ]
}
