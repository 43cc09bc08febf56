//! What a report says: one function per section, from computed numbers to a [`Document`].
//!
//! Nothing is computed here: rates, intervals, tests and curves come from the leaderboard crate.

pub(crate) mod board;
mod caveats;
mod comparison;
mod dataset;
mod distances;
mod epochs;
mod films;
pub(crate) mod layouts;
mod planning;
mod proxy;
mod reproduction;
mod results;
mod single_episode;
mod summary;
mod training;

use jepa_leaderboard::ModelKind;

use crate::document::{Document, Section};
use crate::error::Result;
use crate::figure::{BarKind, Ink};
use crate::input::{Input, TaskFacts};
use crate::text::listed;

/// Builds the document of a report.
///
/// # Errors
/// When there are no runs, runs disagree about their episodes, or a figure cannot be drawn.
pub(crate) fn build(input: &Input, tasks: &[TaskFacts]) -> Result<Document> {
    let mut sections = vec![summary::section(tasks)?];
    for task in tasks {
        let scope = Scope {
            task,
            is_alone: tasks.len() == 1,
        };
        sections.push(results::section(&scope)?);
        sections.extend(comparison::section(&scope)?);
        sections.push(distances::section(&scope)?);
        sections.extend(planning::section(&scope)?);
        sections.extend(single_episode::section(&scope)?);
        sections.extend(films::section(&scope));
        sections.extend(epochs::section(&scope)?);
    }
    sections.extend(proxy::section(input)?);
    sections.extend(training::section(input, tasks)?);
    sections.extend(dataset::section(input));
    sections.push(reproduction::section(input, tasks));
    sections.push(caveats::section(input, tasks));
    sections.push(caveats::citation());
    Ok(Document {
        title: title(tasks),
        subtitle: subtitle(tasks),
        sections,
    })
}

/// A task of the report, and whether it is the only one.
struct Scope<'a> {
    task: &'a TaskFacts,
    is_alone: bool,
}

impl Scope<'_> {
    /// An empty section; its title names the task when there are several.
    fn section(&self, title: &str) -> Section {
        if self.is_alone {
            Section::new(title)
        } else {
            Section::new(&format!("{title}: {}", self.task.task.id()))
        }
    }

    /// Name of a figure: anchor of the task and what is drawn.
    fn figure_name(&self, what: &str) -> String {
        format!("{}-{what}", crate::document::slug(&self.task.task.id()))
    }
}

fn title(tasks: &[TaskFacts]) -> String {
    let names: Vec<String> = tasks.iter().map(|task| task.task.id()).collect();
    format!("Planning with world models on {}", listed(&names))
}

fn subtitle(tasks: &[TaskFacts]) -> String {
    let started = tasks
        .iter()
        .flat_map(|task| &task.runs)
        .map(|run| &run.run.record.provenance.started_utc);
    let version = tasks
        .iter()
        .flat_map(|task| &task.runs)
        .map(|run| &run.run.record.provenance.version)
        .max();
    let day = started
        .max()
        .and_then(|utc| utc.get(..10))
        .unwrap_or("unknown date");
    format!(
        "jepa-bench {} · last run of {day}",
        version.map_or("", String::as_str)
    )
}

/// Colour of run `k` of a task, the same in every figure.
fn ink(task: &TaskFacts, k: usize) -> Ink {
    match task.runs[k].kind() {
        ModelKind::Trained => Ink::series(k),
        ModelKind::Oracle => Ink::CEILING,
        ModelKind::Floor => Ink::FLOOR,
    }
}

/// Bar of run `k` of a task.
fn bar_kind(task: &TaskFacts, k: usize) -> BarKind {
    match (task.model_number(k), task.runs[k].kind()) {
        (Some(number), _) => BarKind::Model(number),
        (None, ModelKind::Oracle) => BarKind::Ceiling,
        (None, _) => BarKind::Floor,
    }
}
