//! One episode: where it went, how far the goal was, what was done at each step.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::Site;
use super::chrome::{fact, page as chrome, scroll};
use super::csv::Csv;
use super::format::number;
use super::place::Place;
use super::run::yes_or_no;
use super::snapshot::{Row, TaskView};
use super::svg::{self, Path};
use crate::compare::Score;
use crate::record::{EpisodeRow, TaskRef};

/// Frames of a film beside the goal.
pub(crate) const FILM_FRAMES: u32 = 6;
/// Steps that the table lists.
const MOST_STEPS: usize = 1_000;
/// Dimensions of actions that get a curve of their own.
const MOST_CURVES: usize = 8;

/// A point of the plane.
type Point = (f64, f64);

/// What a table says of an episode.
pub(super) struct Outcome {
    /// Position in the run.
    pub(super) episode: u32,
    /// Seed of the episode.
    pub(super) seed: u64,
    /// Whether it ended at the goal.
    pub(super) success: bool,
    /// Distance to the goal at the end.
    pub(super) final_distance: f64,
    /// Hash of start and goal.
    pub(super) start_hash: String,
}

/// The outcomes of a run in the order of its episodes, from the rows that are kept or else from the scores.
pub(super) fn outcomes(row: &Row, kept: Option<&[EpisodeRow]>) -> Vec<Outcome> {
    let of = |episode: u32, seed: u64, score: &Score| Outcome {
        episode,
        seed,
        success: score.success,
        final_distance: score.final_distance,
        start_hash: score.start_hash.clone(),
    };
    match kept {
        Some(rows) => rows
            .iter()
            .map(|row| of(row.episode, row.seed, &Score::new(row)))
            .collect(),
        None => row
            .run
            .scores
            .iter()
            .zip(0..)
            .map(|((seed, score), episode)| of(episode, *seed, score))
            .collect(),
    }
}

/// `episode 3`, as a link where its page exists.
pub(super) fn link(site: &Site<'_>, run: &str, episode: u32) -> Markup {
    let place = Place::Episode(run.into(), episode);
    html! {
        @if site.links.has(&place) { a href=(site.links.to(&place)) { "episode " (episode) } } @else { "episode " (episode) }
    }
}

/// The page; `None` when actions and states are not kept.
pub(super) fn page(site: &Site<'_>, id: &str, episode: u32) -> Option<Markup> {
    let (task, row) = site.snapshot.run(id)?;
    let kept = site.details.episodes(id)?;
    let shown = kept.iter().find(|row| row.episode == episode)?;
    let run_place = Place::Run(id.into());
    let title = format!("Episode {episode} of {}", row.ranked.label);
    let body = html! {
        p.crumbs {
            a href=(site.links.to(&Place::Index)) { "Tasks" } " / "
            a href=(site.links.to(&Place::Board(task.slug.clone()))) { (task.task.id()) } " / "
            a href=(site.links.to(&run_place)) { (row.ranked.label) } " / episode " (episode)
        }
        h1 { (title) }
        (neighbours(site, id, &kept, episode))
        dl.facts {
            (fact("at the goal at the end", &html! { span.figure { (yes_or_no(shown.success)) } }))
            (fact("at the goal at any time", &yes_or_no(shown.success_any)))
            (fact("final distance", &html! { (number(shown.final_distance)) }))
            (fact("seed", &html! { (shown.seed) }))
            (fact("plans", &html! { (shown.plans) " with " (shown.candidate_steps) " imagined steps" }))
        }
        h2 { "Course" }
        (player(task, shown))
        @if has_film(site, task, id, episode) { h2 { "Film" } (film(site, id, episode)) }
        (actions(shown))
        (steps(shown))
    };
    Some(chrome(
        site,
        &Place::Episode(id.into(), episode),
        &title,
        &body,
    ))
}

fn neighbours(site: &Site<'_>, id: &str, kept: &[EpisodeRow], episode: u32) -> Markup {
    let position = kept
        .iter()
        .position(|row| row.episode == episode)
        .unwrap_or(0);
    let before = position.checked_sub(1).and_then(|k| kept.get(k));
    let after = kept.get(position + 1);
    let shown = |row: Option<&EpisodeRow>, says: &str, rel: &str| {
        let place = row.map(|row| Place::Episode(id.into(), row.episode));
        let place = place.filter(|place| site.links.has(place));
        html! {
            @if let Some(place) = place { a href=(site.links.to(&place)) rel=(rel) { (says) } }
        }
    };
    html! {
        p.forms { (shown(before, "Previous episode", "prev")) (shown(after, "Next episode", "next")) }
    }
}

/// Path, curve of the distance, and the slider that moves through both.
fn player(task: &TaskView, row: &EpisodeRow) -> Markup {
    let steps = row.distances.len().saturating_sub(1);
    html! {
        div.player data-player {
            (path(&task.task, row))
            div {
                h3 { "Distance to the goal" }
                (svg::curve(&row.distances, steps, &format!(
                    "Distance to the goal over {steps} steps, from {} to {}",
                    row.distances.first().map_or_else(String::new, |d| number(*d)),
                    number(row.final_distance),
                )))
            }
            div.control hidden {
                label for="step" { "Step" }
                input #step type="range" min="0" max=(steps) value=(steps);
                output for="step" {}
            }
        }
        p.note { "Square: start. Cross: goal. Dot: where it is at the chosen step." }
    }
}

/// Which coordinates of a state lie in the plane, by environment: `(name, x, y)`.
fn plane(task: &str) -> &'static [(&'static str, usize, usize)] {
    let environment = task.split('-').next().unwrap_or(task);
    match environment {
        "wall" | "pointmaze" => &[("agent", 0, 1)],
        "pusht" => &[("agent", 0, 1), ("block", 2, 3)],
        _ => &[],
    }
}

/// The states, row by row; `None` when their number does not fit.
fn states(row: &EpisodeRow) -> Option<Vec<&[f64]>> {
    let width = row.init.len();
    (width > 0 && row.states.len().is_multiple_of(width))
        .then(|| row.states.chunks(width).collect())
}

/// The way through the plane, for environments that have one.
fn path(task: &TaskRef, row: &EpisodeRow) -> Markup {
    let (Some(states), coordinates) = (states(row), plane(&task.name)) else {
        return html! {};
    };
    let fits = |(_, x, y): &&(&str, usize, usize)| *x.max(y) < row.init.len().min(row.goal.len());
    let ways: Vec<(Vec<Point>, Point, &str)> = coordinates
        .iter()
        .filter(fits)
        .map(|&(name, x, y)| {
            let way = states.iter().map(|state| (state[x], state[y])).collect();
            (way, (row.goal[x], row.goal[y]), name)
        })
        .collect();
    if ways.is_empty() {
        return html! { p.muted { "States of this environment are not positions in a plane." } };
    }
    let paths: Vec<Path<'_>> = ways
        .iter()
        .map(|(way, goal, name)| Path {
            way,
            goal: *goal,
            name,
        })
        .collect();
    svg::paths(&paths, &format!("The way of the {} to the goal", ways[0].2))
}

/// Whether a film of the episode can be made or was exported.
fn has_film(site: &Site<'_>, task: &TaskView, run: &str, episode: u32) -> bool {
    let place = Place::Frame(run.into(), episode, 0);
    let is_drawn = || {
        let rules = site.details.rules(&task.task, task.data.as_deref());
        rules.is_some_and(|rules| rules.not_replayed.is_none())
    };
    site.links.has(&place) && (site.links.is_export() || is_drawn())
}

/// The film of an episode, or its path where there is none.
pub(super) fn film_or_path(
    site: &Site<'_>,
    task: &TaskView,
    run: &str,
    row: &EpisodeRow,
) -> Markup {
    if has_film(site, task, run, row.episode) {
        film(site, run, row.episode)
    } else {
        path(&task.task, row)
    }
}

fn film(site: &Site<'_>, run: &str, episode: u32) -> Markup {
    let place = |frame| Place::Frame(run.into(), episode, frame);
    html! {
        div.film role="group" aria-label="Frames, the goal first" tabindex="0" {
            @for frame in 0..=FILM_FRAMES {
                @if site.links.has(&place(frame)) {
                    figure {
                        img src=(site.links.to(&place(frame))) alt=(if frame == 0 { "goal".to_string() } else { format!("frame {frame} of {FILM_FRAMES}") }) width="112" height="112" loading="lazy";
                        figcaption { span { @if frame == 0 { "goal" } @else { (frame) " of " (FILM_FRAMES) } } }
                    }
                }
            }
        }
    }
}

/// The actions of each step, row by row.
fn actions_of(row: &EpisodeRow) -> Vec<&[f64]> {
    let steps = row.distances.len().saturating_sub(1);
    if steps == 0 || !row.actions.len().is_multiple_of(steps) || row.actions.is_empty() {
        return Vec::new();
    }
    row.actions.chunks(row.actions.len() / steps).collect()
}

fn actions(row: &EpisodeRow) -> Markup {
    let actions = actions_of(row);
    let width = actions.first().map_or(0, |action| action.len());
    html! {
        @if width > 0 {
            h2 { "Actions" }
            @for dimension in 0..width.min(MOST_CURVES) {
                @let values: Vec<f64> = actions.iter().map(|action| action[dimension]).collect();
                h3 { "dimension " (dimension) }
                (svg::curve(&values, values.len() - 1, &format!("Action, dimension {dimension}, over {} steps", values.len())))
            }
            @if width > MOST_CURVES { p.muted { (width - MOST_CURVES) " more dimensions are in the table and the CSV." } }
        }
    }
}

fn steps(row: &EpisodeRow) -> Markup {
    let (actions, states) = (actions_of(row), states(row).unwrap_or_default());
    let list = |values: Option<&&[f64]>| {
        let numbers: Vec<String> = values.map_or_else(Vec::new, |values| {
            values.iter().map(|v| number(*v)).collect()
        });
        numbers.join(", ")
    };
    html! {
        h2 { "Steps" }
        details {
            summary { "All " (row.distances.len()) " states and what was done in them" }
            (scroll("Steps", &html! {
                table {
                    caption { span { "State and distance before each step, and the action that followed" } }
                    thead { tr {
                        th.number scope="col" { "step" } th.number scope="col" { "distance" }
                        th scope="col" { "state" } th scope="col" { "action" }
                    } }
                    tbody {
                        @for (step, distance) in row.distances.iter().enumerate().take(MOST_STEPS) {
                            @let (state, action) = (list(states.get(step)), list(actions.get(step)));
                            tr id={ "step-" (step) } data-step=(step)
                                data-say={ (step) " of " (row.distances.len() - 1) ": distance " (number(*distance)) @if !action.is_empty() { ", action " (action) } } {
                                th.number scope="row" { a href={ "#step-" (step) } { (step) } }
                                td.number { (number(*distance)) }
                                td.wrap { (state) }
                                td.wrap { (action) }
                            }
                        }
                    }
                }
            }))
        }
    }
}

/// The same as JSON.
pub(super) fn json(site: &Site<'_>, id: &str, episode: u32) -> Option<Value> {
    let (task, _) = site.snapshot.run(id)?;
    let kept = site.details.episodes(id)?;
    let row = kept.iter().find(|row| row.episode == episode)?;
    Some(json!({ "task": task.task, "run": id, "episode": row }))
}

/// The same as CSV, a line per step.
pub(super) fn csv(site: &Site<'_>, id: &str, episode: u32) -> Option<Csv> {
    site.snapshot.run(id)?;
    let kept = site.details.episodes(id)?;
    let row = kept.iter().find(|row| row.episode == episode)?;
    let (actions, states) = (actions_of(row), states(row).unwrap_or_default());
    let width = actions.first().map_or(0, |action| action.len());
    let names = |stem: &str, count: usize| {
        (0..count)
            .map(move |k| format!("{stem}_{k}"))
            .collect::<Vec<_>>()
    };
    let headings: Vec<String> = ["step".to_string(), "distance".into()]
        .into_iter()
        .chain(names("state", row.init.len()))
        .chain(names("action", width))
        .collect();
    let mut csv = Csv::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    for (step, distance) in row.distances.iter().enumerate() {
        let numbers = |values: Option<&&[f64]>, count: usize| -> Vec<String> {
            (0..count)
                .map(|k| super::csv::optional(values.and_then(|v| v.get(k))))
                .collect()
        };
        let line = [step.to_string(), distance.to_string()]
            .into_iter()
            .chain(numbers(states.get(step), row.init.len()))
            .chain(numbers(actions.get(step), width));
        csv.line(line);
    }
    Some(csv)
}
