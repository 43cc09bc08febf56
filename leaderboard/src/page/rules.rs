//! The rules of a task: its file, its floors, its errata.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::Site;
use super::chrome::{fact, page as chrome};
use super::csv::{Csv, foreign};
use super::format::{interval, percent};
use super::place::Place;
use super::snapshot::TaskView;
use crate::record::ModelKind;
use crate::store::Erratum;

/// The page.
pub(super) fn page(site: &Site<'_>, task: &TaskView) -> Markup {
    let place = Place::Rules(task.slug.clone());
    let title = format!("Rules of {}", task.task.id());
    let body = html! {
        p.crumbs {
            a href=(site.links.to(&Place::Index)) { "Tasks" } " / "
            a href=(site.links.to(&Place::Board(task.slug.clone()))) { (task.task.id()) } " / rules"
        }
        h1 { (title) }
        (facts(site, task))
        (floors(site, task))
        (errata(site, task))
        (text(site, task))
    };
    chrome(site, &place, &title, &body)
}

fn facts(site: &Site<'_>, task: &TaskView) -> Markup {
    let rules = site.details.rules(&task.task, task.data.as_deref());
    html! {
        @if let Some(rules) = &rules { p.lead { (rules.summary) } }
        dl.facts {
            (fact("task hash", &html! { code.hash { (task.task.hash) } }))
            @if let Some(rules) = &rules {
                (fact("episodes", &html! { (rules.episodes) ", first seed " (rules.first_seed) ", stride " (rules.seed_stride) }))
                (fact("unit of distances", &html! { (rules.distance_unit) }))
                (fact("verified by replay", &html! { @match &rules.not_replayed { None => "yes, to V2", Some(why) => { "no: " (why) } } }))
            }
        }
        p.note { "The hash covers everything that moves a number. Changing any of it makes a new version with a board of its own; this one stays." }
    }
}

fn floors(site: &Site<'_>, task: &TaskView) -> Markup {
    let references: Vec<_> = task
        .rows
        .iter()
        .filter(|row| row.ranked.kind != ModelKind::Trained)
        .collect();
    html! {
        h2 { "Floors and ceiling" }
        @if references.is_empty() { p { "None on this board yet: a success rate means little without what random actions reach." } }
        ul {
            @for row in references {
                li {
                    a href=(site.links.to(&Place::Run(row.run.id.clone()))) { (row.ranked.label) }
                    ": " (percent(row.ranked.success_rate)) " (" (interval(row.ranked.interval)) "), n " (row.ranked.episodes)
                }
            }
        }
    }
}

fn errata(site: &Site<'_>, task: &TaskView) -> Markup {
    let id = task.task.id();
    let is_of_task = |erratum: &&Erratum| erratum.tasks.is_empty() || erratum.tasks.contains(&id);
    let errata: Vec<&Erratum> = site.snapshot.errata.iter().filter(is_of_task).collect();
    let struck = task.rows.iter().filter(|row| row.struck().is_some());
    html! {
        h2 { "Errata" }
        @if errata.is_empty() { p { "None." } }
        ul { @for erratum in errata { li { (erratum.text) } } }
        ul {
            @for row in struck {
                li {
                    a href=(site.links.to(&Place::Run(row.run.id.clone()))) { (row.ranked.label) }
                    " is struck out: " (row.struck().unwrap_or_default())
                }
            }
        }
    }
}

fn text(site: &Site<'_>, task: &TaskView) -> Markup {
    let rules = site.details.rules(&task.task, task.data.as_deref());
    html! {
        h2 { "Task file" }
        @match rules {
            Some(rules) => pre tabindex="0" { code { (rules.text) } },
            None => p { "This build does not have the file of this task; its runs are shown as they were recorded." },
        }
    }
}

/// The same as JSON.
pub(super) fn json(site: &Site<'_>, task: &TaskView) -> Value {
    let rules = site.details.rules(&task.task, task.data.as_deref());
    json!({
        "task": task.task,
        "summary": rules.as_ref().map(|rules| &rules.summary),
        "toml": rules.as_ref().map(|rules| &rules.text),
        "first_seed": rules.as_ref().map(|rules| rules.first_seed),
        "seed_stride": rules.as_ref().map(|rules| rules.seed_stride),
        "episodes": rules.as_ref().map(|rules| rules.episodes),
        "distance_unit": rules.as_ref().map(|rules| &rules.distance_unit),
        "not_replayed": rules.as_ref().map(|rules| &rules.not_replayed),
    })
}

/// The same as CSV.
pub(super) fn csv(site: &Site<'_>, task: &TaskView) -> Csv {
    let mut csv = Csv::new(&["name", "value"]);
    let mut line = |name: &str, value: String| csv.line([name.to_string(), value]);
    line("task", foreign(&task.task.id()));
    line("hash", task.task.hash.clone());
    if let Some(rules) = site.details.rules(&task.task, task.data.as_deref()) {
        line("summary", foreign(&rules.summary));
        line("first_seed", rules.first_seed.to_string());
        line("seed_stride", rules.seed_stride.to_string());
        line("episodes", rules.episodes.to_string());
        line("distance_unit", foreign(&rules.distance_unit));
    }
    csv
}
