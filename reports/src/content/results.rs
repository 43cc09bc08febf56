//! The results table and the published rows beside it.

use jepa_leaderboard::{ModelKind, Ranked, RunRecord};

use super::Scope;
use super::summary::bars;
use crate::document::{Block, Section, Table, Tone, cell, code_cell, number, paragraph, plain};
use crate::error::Result;
use crate::input::RunFacts;
use crate::text::{NONE, decimal, percent, percent_interval, points, points_interval, short_hash};

/// Results of one task.
pub(super) fn section(scope: &Scope<'_>) -> Result<Section> {
    let task = scope.task;
    let mut section = scope.section("Results");
    if !scope.is_alone {
        section.blocks.push(Block::Figure(bars(scope)?));
    }
    section.blocks.push(Block::Table(table(scope)));
    if !task.seed_means.is_empty() {
        section.blocks.push(Block::Table(means(scope)));
    }
    if let Some(note) = detectable(&task.ranking) {
        section.blocks.push(paragraph(vec![plain(note)]));
    }
    if !task.published.is_empty() {
        section.blocks.push(Block::Table(published(scope)));
    }
    Ok(section)
}

fn table(scope: &Scope<'_>) -> Table {
    let task = scope.task;
    let caption = format!(
        "{}, task hash {}",
        task.task.id(),
        short_hash(&task.task.hash)
    );
    let headings = [
        "model",
        "role",
        "planner",
        "#n",
        "#success",
        "#95% interval",
        "#at any step",
        "#distance",
        "#over floor",
        "group",
    ];
    let mut table = Table::new(&caption, &headings);
    for (facts, ranked) in task.runs.iter().zip(&task.ranking) {
        let tone = match facts.kind() {
            ModelKind::Trained if ranked.rank == Some(1) => Tone::Strong,
            ModelKind::Trained => Tone::Plain,
            _ => Tone::Muted,
        };
        table.push(tone, row(facts, ranked));
    }
    table.with_note(
        "success: share of episodes at the goal after the last step; at any step: at the goal at some step; distance: \
         mean after the last step; over floor: success rate above the best floor on the same episodes, in percentage \
         points; models with the same letter in group could not be told apart (exact McNemar, Holm, 5%)",
    )
}

fn row(facts: &RunFacts, ranked: &Ranked) -> Vec<crate::document::Cell> {
    let aggregate = &facts.aggregate;
    let any = aggregate.success_any as f64 / aggregate.episodes as f64;
    let above = match ranked.above_floor {
        Some(above) => number(points(above.mean), above.mean),
        None => cell(NONE),
    };
    vec![
        cell(facts.label.clone()),
        cell(role(facts.kind())),
        cell(planner(facts)),
        number(aggregate.episodes.to_string(), aggregate.episodes as f64),
        number(percent(aggregate.success_rate), aggregate.success_rate),
        number(percent_interval(aggregate.interval), aggregate.interval.low),
        number(percent(any), any),
        number(
            decimal(aggregate.final_distance.mean, 2),
            aggregate.final_distance.mean,
        ),
        above,
        cell(if ranked.letters.is_empty() {
            NONE
        } else {
            &ranked.letters
        }),
    ]
}

fn means(scope: &Scope<'_>) -> Table {
    let headings = [
        "model",
        "planner",
        "training seeds",
        "#n",
        "#mean success",
        "#95% interval",
        "#std",
        "#lowest",
        "#highest",
        "#distance",
    ];
    let mut table = Table::new("Means over training seeds", &headings);
    for mean in &scope.task.seed_means {
        let run = &scope.task.runs[mean.members[0]];
        let seeds: Vec<String> = mean.seeds.iter().map(u64::to_string).collect();
        let share = |value: f64| number(percent(value), value);
        table.push(
            Tone::Plain,
            vec![
                cell(mean.label.clone()),
                cell(planner(run)),
                cell(seeds.join(", ")),
                number(mean.episodes.to_string(), mean.episodes as f64),
                share(mean.success_rate),
                number(percent_interval(mean.interval), mean.interval.low),
                number(
                    decimal(100.0 * mean.standard_deviation, 1),
                    mean.standard_deviation,
                ),
                share(mean.lowest),
                share(mean.highest),
                number(
                    decimal(mean.final_distance_mean, 2),
                    mean.final_distance_mean,
                ),
            ],
        );
    }
    table.with_note(
        "runs that differ in the training seed only; n: episodes of each; interval: Wilson, for the draw of the episodes, \
         with n as its size; std: over the seeds, divisor n - 1, in percentage points",
    )
}

fn role(kind: ModelKind) -> &'static str {
    match kind {
        ModelKind::Trained => "model",
        ModelKind::Floor => "floor",
        ModelKind::Oracle => "oracle",
    }
}

/// Planner and preset; a dash for runs without one.
pub(super) fn planner(facts: &RunFacts) -> String {
    planner_of(&facts.run.record)
}

/// The same for a record.
pub(super) fn planner_of(record: &RunRecord) -> String {
    let planner = &record.planner;
    match planner.name.as_str() {
        "none" => NONE.into(),
        name if name == planner.preset => name.into(),
        name => format!("{name} ({})", planner.preset),
    }
}

/// What this many episodes can tell.
fn detectable(ranking: &[Ranked]) -> Option<String> {
    let best = ranking.iter().find(|row| row.kind == ModelKind::Trained)?;
    let rise = best.detectable?;
    let paired = best.above_floor.map_or_else(String::new, |above| {
        format!(
            " The paired interval of its lead over the floor is {}.",
            points_interval(above.interval)
        )
    });
    Some(format!(
        "With {} episodes per run, a rise of {} percentage points over {} would be found with 80% power if the runs \
         had used different episodes; smaller differences need pairing or more episodes.{paired}",
        best.episodes,
        decimal(100.0 * rise, 1),
        percent(best.success_rate),
    ))
}

fn published(scope: &Scope<'_>) -> Table {
    let headings = ["model", "planner", "#success", "#std", "source", "status"];
    let mut table = Table::new("Published numbers for this task", &headings);
    for (row, score) in &scope.task.published {
        table.push(
            Tone::Muted,
            vec![
                cell(row.model),
                code_cell(format!("{} {}", row.planner, row.distance)),
                number(format!("{}%", decimal(score.mean, 1)), score.mean),
                number(decimal(score.std, 1), score.std),
                cell(row.source()),
                cell("reported by the authors, not verified here"),
            ],
        );
    }
    table.with_note(
        "mean and standard deviation over training seeds and the last epochs; an interval of another kind than those above",
    )
}
