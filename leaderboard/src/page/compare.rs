//! Two runs on the same episodes.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::Site;
use super::chrome::{badge, page as chrome, scroll};
use super::csv::{Csv, foreign};
use super::episode;
use super::format::{interval, number, p_value, percent, points};
use super::place::Place;
use super::run::yes_or_no;
use super::snapshot::{Row, TaskView};
use super::svg::{self, Scale};
use crate::compare::{Comparison, Score, compare};

/// Two runs of one task and what came of comparing them.
struct Pair<'a> {
    task: &'a TaskView,
    rows: [&'a Row; 2],
    /// `Err` says why they cannot be compared.
    comparison: Result<Comparison, String>,
}

/// An episode that both ran.
struct Shared<'a> {
    seed: u64,
    scores: [&'a Score; 2],
}

fn pair<'a>(site: &Site<'a>, first: &str, second: &str) -> Option<Pair<'a>> {
    let snapshot = site.snapshot;
    let ((task, first), (_, second)) = (snapshot.run(first)?, snapshot.run(second)?);
    let scored = |row: &Row| row.run.scored(row.ranked.label.clone());
    let comparison = compare(&scored(first), &scored(second)).map_err(|error| error.to_string());
    Some(Pair {
        task,
        rows: [first, second],
        comparison,
    })
}

/// The shared episodes, those first in which only one succeeded, then by how far apart they ended.
fn shared<'a>(pair: &Pair<'a>) -> Vec<Shared<'a>> {
    let [first, second] = pair.rows;
    let mut shared: Vec<Shared<'a>> = first
        .run
        .scores
        .iter()
        .filter_map(|(seed, score)| {
            let other = second.run.scores.get(seed)?;
            Some(Shared {
                seed: *seed,
                scores: [score, other],
            })
        })
        .collect();
    let gap = |episode: &Shared<'_>| {
        (episode.scores[0].final_distance - episode.scores[1].final_distance).abs()
    };
    let agree = |episode: &Shared<'_>| episode.scores[0].success == episode.scores[1].success;
    shared.sort_by(|a, b| {
        agree(a)
            .cmp(&agree(b))
            .then(gap(b).total_cmp(&gap(a)))
            .then(a.seed.cmp(&b.seed))
    });
    shared
}

/// The page.
pub(super) fn page(site: &Site<'_>, first: &str, second: &str) -> Option<Markup> {
    let pair = pair(site, first, second)?;
    let [a, b] = pair.rows.map(|row| row.ranked.label.as_str());
    let title = format!("{a} against {b}");
    let reversed = Place::Compare(second.into(), first.into());
    let body = html! {
        p.crumbs {
            a href=(site.links.to(&Place::Index)) { "Tasks" } " / "
            a href=(site.links.to(&Place::Board(pair.task.slug.clone()))) { (pair.task.task.id()) } " / comparison"
        }
        h1 { (title) }
        @match &pair.comparison {
            Ok(comparison) => { (verdict(comparison, a, b)) (both(site, &pair)) (outcomes(comparison, a, b)) (episodes(site, &pair)) },
            Err(why) => p.notice { "These runs cannot be compared: " (why) "." },
        }
        @if site.links.has(&reversed) { p { a href=(site.links.to(&reversed)) { "The other way round" } } }
    };
    Some(chrome(
        site,
        &Place::Compare(first.into(), second.into()),
        &title,
        &body,
    ))
}

fn verdict(comparison: &Comparison, a: &str, b: &str) -> Markup {
    let outcomes = comparison.outcomes;
    let says = if comparison.p_value < 0.05 {
        "differ"
    } else {
        "cannot be told apart"
    };
    html! {
        p.lead {
            "On " (comparison.shared) " shared episodes the success rates " strong { (says) } ": "
            (points(&comparison.success)) " points, " (a) " minus " (b) "; exact McNemar p "
            (p_value(comparison.p_value)) " from the " (outcomes.only_first + outcomes.only_second) " episodes in which only one succeeded. "
            "Final distance " (signed(comparison.final_distance.mean)) " (" (number(comparison.final_distance.interval.low)) " to " (number(comparison.final_distance.interval.high)) ", paired bootstrap)."
        }
        p.note { "One pair alone: the p-value is not corrected. The board corrects for all of its pairs." }
    }
}

fn signed(value: f64) -> String {
    let sign = if value >= 0.0 { "+" } else { "" };
    format!("{sign}{}", number(value))
}

fn both(site: &Site<'_>, pair: &Pair<'_>) -> Markup {
    let scale = Scale {
        floor: pair.task.floor(),
        ceiling: pair.task.ceiling(),
    };
    scroll(
        "The two runs",
        &html! {
            table {
                caption { span { "Each run on all of its episodes" } }
                thead { tr {
                    th scope="col" { "run" } th scope="col" { "planner" } th scope="col" { "level" } th.number scope="col" { "n" }
                    th scope="col" { "success, 95% interval" } th.number scope="col" { "final distance" }
                } }
                tbody {
                    @for row in pair.rows {
                        tr {
                            th.model scope="row" { a href=(site.links.to(&Place::Run(row.run.id.clone()))) { (row.ranked.label) } }
                            td { (row.planner()) }
                            td { (badge(row.level())) }
                            td.number { (row.ranked.episodes) }
                            td {
                                (svg::interval(row.ranked.success_rate, row.ranked.interval.low, row.ranked.interval.high, &[], &scale)) " "
                                strong { (percent(row.ranked.success_rate)) } " " span.muted { (interval(row.ranked.interval)) }
                            }
                            td.number { (number(row.ranked.final_distance_mean)) }
                        }
                    }
                }
            }
        },
    )
}

fn outcomes(comparison: &Comparison, a: &str, b: &str) -> Markup {
    let outcomes = comparison.outcomes;
    scroll(
        "Paired outcomes",
        &html! {
            table {
                caption { span { "Shared episodes by outcome" } }
                thead { tr { td {} th.number scope="col" { (b) ": at the goal" } th.number scope="col" { (b) ": not" } } }
                tbody {
                    tr { th scope="row" { (a) ": at the goal" } td.number { (outcomes.both) } td.number { strong { (outcomes.only_first) } } }
                    tr { th scope="row" { (a) ": not" } td.number { strong { (outcomes.only_second) } } td.number { (outcomes.neither) } }
                }
            }
        },
    )
}

fn episodes(site: &Site<'_>, pair: &Pair<'_>) -> Markup {
    let numbers = pair.rows.map(|row| {
        let kept = site.details.episodes(&row.run.id);
        episode::outcomes(row, kept.as_deref())
    });
    let link = |side: usize, seed: u64| {
        let row = pair.rows[side];
        let found = numbers[side].iter().find(|outcome| outcome.seed == seed);
        html! { @if let Some(found) = found { (episode::link(site, &row.run.id, found.episode)) } }
    };
    let [a, b] = pair.rows.map(|row| row.ranked.label.as_str());
    html! {
        h2 { "Episodes" }
        p { "Those in which only one succeeded come first." }
        (scroll("Episodes of both", &html! {
            table data-sortable {
                caption { span { "Every shared episode" } }
                thead { tr {
                    th.number scope="col" data-sort="number" { "seed" }
                    th scope="col" data-sort="text" { (a) } th.number scope="col" data-sort="number" { "distance" } th scope="col" { "view" }
                    th scope="col" data-sort="text" { (b) } th.number scope="col" data-sort="number" { "distance" } th scope="col" { "view" }
                } }
                tbody {
                    @for episode in shared(pair).iter().take(2_000) {
                        tr {
                            th.number scope="row" { (episode.seed) }
                            @for side in 0..2 {
                                td { (yes_or_no(episode.scores[side].success)) }
                                td.number data-v=(episode.scores[side].final_distance) { (number(episode.scores[side].final_distance)) }
                                td { (link(side, episode.seed)) }
                            }
                        }
                    }
                }
            }
        }))
    }
}

/// The same as JSON.
pub(super) fn json(site: &Site<'_>, first: &str, second: &str) -> Option<Value> {
    let pair = pair(site, first, second)?;
    let (comparison, why) = match &pair.comparison {
        Ok(comparison) => (Some(comparison), None),
        Err(why) => (None, Some(why)),
    };
    Some(json!({
        "first": pair.rows[0].json(),
        "second": pair.rows[1].json(),
        "comparison": comparison,
        "not_comparable": why,
    }))
}

/// The shared episodes as CSV.
pub(super) fn csv(site: &Site<'_>, first: &str, second: &str) -> Option<Csv> {
    let pair = pair(site, first, second)?;
    let mut csv = Csv::new(&[
        "seed",
        "first",
        "first_success",
        "first_final_distance",
        "second",
        "second_success",
        "second_final_distance",
    ]);
    for episode in shared(&pair) {
        let mut cells = vec![episode.seed.to_string()];
        for (row, score) in pair.rows.iter().zip(episode.scores) {
            cells.extend([
                foreign(&row.ranked.label),
                score.success.to_string(),
                score.final_distance.to_string(),
            ]);
        }
        csv.line(cells);
    }
    Some(csv)
}
