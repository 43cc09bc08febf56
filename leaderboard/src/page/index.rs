//! The first page: the tasks.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::chrome::{badge, page as chrome, scroll};
use super::csv::{Csv, foreign, optional};
use super::format::{day, percent};
use super::place::Place;
use super::snapshot::TaskView;
use super::{Site, svg};

/// The page.
pub(super) fn page(site: &Site<'_>) -> Markup {
    let body = html! {
        h1 { "Leaderboard" }
        p.lead {
            "A result is a set of episodes, not a number: what stands here was recomputed from the actions and states of every episode, "
            "and from V2 on replayed in the simulators of this board."
        }
        p {
            "How a row comes here, and how to check one without us: "
            a href=(site.links.to(&Place::Submit)) { "how to submit" } "."
        }
        h2 { "Tasks" }
        @if site.snapshot.tasks.is_empty() {
            p { "The board is empty. Add runs with " code { "jepa-bench leaderboard add RUN" } ", or submit one." }
        } @else {
            (tasks(site))
        }
        h2 { "Latest results" }
        (latest(site))
    };
    chrome(site, &Place::Index, "Leaderboard", &body)
}

fn tasks(site: &Site<'_>) -> Markup {
    scroll(
        "Tasks",
        &html! {
            table data-sortable {
                caption { span { "Best trained model of each task, with the interval of its success rate from the random floor (dashed, left) to the ceiling (dashed, right)." } }
                thead { tr {
                    th scope="col" data-sort="text" { "task" }
                    th scope="col" { "what it asks" }
                    th.number scope="col" data-sort="number" data-first="desc" { "models" }
                    th scope="col" data-sort="text" { "best" }
                    th.number scope="col" data-sort="number" data-first="desc" { "success" }
                    th scope="col" { "95% interval" }
                    th scope="col" data-sort="text" data-first="desc" { "last added" }
                } }
                tbody { @for task in &site.snapshot.tasks { (task_row(site, task)) } }
            }
        },
    )
}

fn task_row(site: &Site<'_>, task: &TaskView) -> Markup {
    let rules = site.details.rules(&task.task, task.data.as_deref());
    let scale = svg::Scale {
        floor: task.floor(),
        ceiling: task.ceiling(),
    };
    html! {
        tr {
            th scope="row" { a href=(site.links.to(&Place::Board(task.slug.clone()))) { (task.task.id()) } }
            td.wrap { @if let Some(rules) = rules { (rules.summary) } @else { span.muted { "a task this build does not know" } } }
            td.number { (task.trained()) }
            @if let Some(best) = task.best() {
                td.model { a href=(site.links.to(&Place::Run(best.run.id.clone()))) { (best.ranked.label) } }
                td.number data-v=(best.ranked.success_rate) { (percent(best.ranked.success_rate)) }
                td { (svg::interval(best.ranked.success_rate, best.ranked.interval.low, best.ranked.interval.high, &[], &scale)) }
            } @else {
                td.muted data-v="" { "none yet" }
                td.number data-v="" {}
                td {}
            }
            td { (last_added(task).map_or_else(String::new, |utc| day(&utc))) }
        }
    }
}

fn last_added(task: &TaskView) -> Option<String> {
    task.rows.iter().map(|row| row.run.added_utc.clone()).max()
}

/// The ten newest runs.
fn latest(site: &Site<'_>) -> Markup {
    let runs = super::feed::newest(site.snapshot, 10);
    html! {
        @if runs.is_empty() { p.muted { "None yet." } }
        ul {
            @for (task, row) in runs {
                li {
                    (day(&row.run.added_utc)) " "
                    a href=(site.links.to(&Place::Run(row.run.id.clone()))) { (row.ranked.label) }
                    " on " (task.task.id()) ": " (percent(row.ranked.success_rate)) " of " (row.ranked.episodes) " episodes "
                    (badge(row.level()))
                }
            }
        }
    }
}

/// The same as JSON.
pub(super) fn json(site: &Site<'_>) -> Value {
    let tasks: Vec<Value> = site
        .snapshot
        .tasks
        .iter()
        .map(|task| {
            json!({
                "task": task.task,
                "runs": task.rows.len(),
                "trained": task.trained(),
                "best": task.best().map(super::snapshot::Row::json),
                "random_floor": task.floor(),
                "ceiling": task.ceiling(),
                "last_added_utc": last_added(task),
            })
        })
        .collect();
    json!({ "head": site.snapshot.head, "events": site.snapshot.events.len(), "tasks": tasks })
}

/// The same as CSV.
pub(super) fn csv(site: &Site<'_>) -> Csv {
    let mut csv = Csv::new(&[
        "task",
        "hash",
        "runs",
        "trained",
        "best",
        "success_rate",
        "low",
        "high",
        "random_floor",
        "ceiling",
    ]);
    for task in &site.snapshot.tasks {
        let best = task.best();
        csv.line([
            foreign(&task.task.id()),
            task.task.hash.clone(),
            task.rows.len().to_string(),
            task.trained().to_string(),
            best.map_or_else(String::new, |row| foreign(&row.ranked.label)),
            optional(best.map(|row| row.ranked.success_rate)),
            optional(best.map(|row| row.ranked.interval.low)),
            optional(best.map(|row| row.ranked.interval.high)),
            optional(task.floor()),
            optional(task.ceiling()),
        ]);
    }
    csv
}
