//! The paper's tables and figures, filled with runs (evaluation.md sections 4.2, 5 and 6).
//!
//! [`PaperInput`] holds runs in the paper's terms: a task group, a planner with its distance, and a [`Design`], all of
//! them read from records and configurations. [`Layouts`] puts every run where it belongs: [`rows`] are those of Table 1
//! and Table S5.1, [`charts`] the bars and lines of Figures 3 to 6. What a place lacks is said there. Values are averages
//! that `jepa-leaderboard` computes; nothing is measured here.

mod chart;
mod design;
mod entry;
mod row;

use jepa_leaderboard::{Run, RunRecord, Scored, TASK_GROUPS, recipes};
use serde::Serialize;

pub(crate) use chart::{Axis, Chart, Variant, charts};
pub use design::Design;
pub(crate) use entry::{Entry, Mean, SEEDS, Spread, mean_of_groups};
pub(crate) use row::{Row, rows};

use crate::input::value_text;

/// Number of task groups.
pub(crate) const GROUPS: usize = TASK_GROUPS.len();
/// Task of each group, by its name without version.
const TASKS: [&str; GROUPS] = [
    "pointmaze",
    "wall",
    "pusht",
    "mw-reach",
    "mw-reach-wall",
    "robocasa-reach",
    "robocasa-place",
    "droid",
];
/// The group whose value is an action score instead of a success rate.
pub(crate) const SCORED: usize = 7;

/// Runs to fill the paper's layouts with.
#[derive(Debug, Clone, Default)]
pub struct PaperInput {
    /// The runs, in a fixed order.
    pub runs: Vec<PaperRun>,
    /// Names, without version, of the tasks that this program has.
    pub tasks: Vec<String>,
}

/// A run in the paper's terms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PaperRun {
    /// Identity: hash (blake3, hex) of the record.
    pub id: String,
    /// Task, `name@version`.
    pub task: String,
    /// Hash (blake3, hex) of the task.
    pub task_hash: String,
    /// Position of its group in the paper's tables; `None` for tasks that the paper has not.
    pub group: Option<usize>,
    /// Registry name of the model.
    pub model: String,
    /// Planner and distance, `cem l2`.
    pub setup: String,
    /// What of the model the paper varies.
    pub design: Design,
    /// Training seed and optimiser steps, where the model was trained here.
    pub trained: Option<(u64, u64)>,
    /// Hash of the weights.
    pub weights_hash: Option<String>,
    /// Episodes that reached the goal.
    pub successes: u64,
    /// Episodes, at least 1.
    pub episodes: u64,
    /// Action score, of runs on recorded episodes.
    pub action_score: Option<f64>,
    /// Settings that differ from the task's and its preset's, `key = value`.
    pub changes: Vec<String>,
    /// When the run started.
    pub started_utc: String,
    /// Runs of one recipe (all but seed and epoch agree) have the same number.
    pub recipe: usize,
}

/// What only the program can find out about a run.
#[derive(Debug, Clone, Default)]
pub struct PaperFacts {
    /// What of the model the paper varies.
    pub design: Design,
    /// Action score, of runs on recorded episodes.
    pub action_score: Option<f64>,
    /// Settings that differ from the task's and its preset's.
    pub changes: Vec<String>,
}

impl PaperInput {
    /// Runs with what the program found out about each. Floors and oracles have no place in the layouts and are left
    /// out, as is a run that appears twice.
    ///
    /// # Errors
    /// When a record cannot be represented in JSON.
    pub fn new(runs: &[(Run, PaperFacts)], tasks: Vec<String>) -> crate::Result<Self> {
        let scored: Vec<Scored> = runs
            .iter()
            .map(|(run, _)| Scored::new(run, String::new()))
            .collect();
        let pairs: Vec<_> = runs
            .iter()
            .map(|(run, _)| &run.record)
            .zip(&scored)
            .collect();
        let groups = recipes(&pairs);
        let recipe = |k: usize| {
            let of = groups.iter().position(|group| group.contains(&k));
            of.unwrap_or(groups.len() + k)
        };
        let mut input = Self {
            runs: Vec::new(),
            tasks,
        };
        for (k, (run, facts)) in runs.iter().enumerate() {
            let placed = PaperRun::new(&run.record, run.id()?, facts.clone(), recipe(k));
            let is_new = input.runs.iter().all(|other| other.id != placed.id);
            if run.record.model.kind == jepa_leaderboard::ModelKind::Trained && is_new {
                input.runs.push(placed);
            }
        }
        Ok(input)
    }

    /// Whether the program has the task of a group.
    pub(crate) fn has_task(&self, group: usize) -> bool {
        self.tasks.iter().any(|task| task == TASKS[group])
    }
}

impl PaperRun {
    fn new(record: &RunRecord, id: String, facts: PaperFacts, recipe: usize) -> Self {
        let distance = record.objective.get("distance").map(value_text);
        let distance = distance.unwrap_or_default().to_ascii_lowercase();
        let training = record.model.training.as_ref();
        Self {
            id,
            task: record.task.id(),
            task_hash: record.task.hash.clone(),
            group: group_of(&record.task.name),
            model: record.model.name.clone(),
            setup: format!("{} {distance}", record.planner.name)
                .trim()
                .to_string(),
            design: facts.design,
            trained: training.map(|training| (training.seed, training.steps)),
            weights_hash: record.model.weights_hash.clone(),
            successes: record.summary.successes,
            episodes: record.summary.episodes,
            action_score: facts.action_score,
            changes: facts.changes,
            started_utc: record.provenance.started_utc.clone(),
            recipe,
        }
    }
}

/// The group of a task by its name without version.
fn group_of(task: &str) -> Option<usize> {
    TASKS.iter().position(|name| *name == task)
}

/// Every layout of the paper, filled.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Layouts {
    /// Rows of Table S5.1; those of CEM with L2 are Table 1.
    pub(crate) rows: Vec<Row>,
    /// Figures 3 to 6, left and right.
    pub(crate) charts: Vec<Chart>,
}

impl Layouts {
    /// Puts the runs of `input` in their places.
    pub(crate) fn of(input: &PaperInput) -> Self {
        Self {
            rows: rows(input),
            charts: charts(input),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
