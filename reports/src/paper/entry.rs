//! What stands in one place of a table or figure: a value and what it is made of, or what is missing.

use std::collections::BTreeSet;

use jepa_leaderboard::{
    CONFIDENCE, EPOCH_WINDOWS, EpochScore, Interval, TASK_GROUPS, average_epochs, average_scores,
    mean, wilson,
};
use serde::Serialize;

use super::{GROUPS, PaperInput, PaperRun, SCORED};

/// Training seeds behind a value of the paper (evaluation.md section 4.2).
pub(crate) const SEEDS: usize = 3;

/// A place of a layout.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Entry {
    /// There are runs.
    Value(Mean),
    /// The program has the task, and no run is of this place.
    NoRun,
    /// The program has no such task.
    NotBuilt,
    /// Runs are there and do not give a value; why.
    Unclear {
        /// What is wrong with them.
        detail: String,
    },
}

/// A value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Mean {
    /// Success in percent, or the action score.
    pub(crate) value: f64,
    /// What follows it in brackets.
    pub(crate) spread: Spread,
    /// Training seeds, rising; empty for weights that were not trained here.
    pub(crate) seeds: Vec<u64>,
    /// Values averaged: models of all seeds and epochs.
    pub(crate) values: usize,
    /// Epochs of the seed that has least of them.
    pub(crate) fewest_epochs: usize,
    /// Epochs per seed that the paper averages.
    pub(crate) wanted_epochs: usize,
    /// Episodes of each model.
    pub(crate) episodes: u64,
    /// Settings that differ from the task's and its preset's.
    pub(crate) changes: Vec<String>,
    /// Identities of the runs.
    pub(crate) runs: Vec<String>,
    /// Other recipes that would fit here and have fewer values.
    pub(crate) other_recipes: usize,
}

/// What a value varies by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Spread {
    /// Population standard deviation of the values, as the paper's.
    Deviation(f64),
    /// Wilson 95% interval of a single run, in percent.
    Interval(Interval),
    /// A single run whose value is no share of episodes.
    None,
}

impl Entry {
    /// The entry of `group` for these runs of it; the recipe with most values is shown, one with unchanged settings
    /// before others, then the latest.
    pub(crate) fn of(input: &PaperInput, group: usize, runs: &[&PaperRun]) -> Self {
        let recipes: BTreeSet<usize> = runs.iter().map(|run| run.recipe).collect();
        let members = |recipe: usize| -> Vec<&PaperRun> {
            let of = runs.iter().filter(|run| run.recipe == recipe);
            distinct(of.copied())
        };
        let rank = |members: &Vec<&PaperRun>| {
            let unchanged = members.iter().all(|run| run.changes.is_empty());
            let latest = members.iter().map(|run| (&run.started_utc, &run.id)).max();
            (
                unchanged,
                members.len(),
                latest.map(|(utc, id)| (utc.clone(), id.clone())),
            )
        };
        let best = recipes
            .iter()
            .map(|&recipe| members(recipe))
            .max_by_key(rank);
        match best {
            None if input.has_task(group) => Self::NoRun,
            None => Self::NotBuilt,
            Some(members) => Self::of_recipe(group, &members, recipes.len() - 1),
        }
    }

    fn of_recipe(group: usize, runs: &[&PaperRun], other_recipes: usize) -> Self {
        let wanted = EPOCH_WINDOWS[group].in_paper;
        let Some(found) = averaged(group, runs, wanted) else {
            return Self::Unclear {
                detail: "two models of one seed and number of steps".into(),
            };
        };
        let seeds = runs.iter().filter_map(|run| Some(run.trained?.0));
        let changes: BTreeSet<&String> = runs.iter().flat_map(|run| &run.changes).collect();
        Self::Value(Mean {
            value: found.value,
            spread: found.spread,
            seeds: seeds.collect::<BTreeSet<u64>>().into_iter().collect(),
            values: found.values,
            fewest_epochs: found.fewest_epochs,
            wanted_epochs: wanted,
            episodes: runs[0].episodes,
            changes: changes.into_iter().cloned().collect(),
            runs: runs.iter().map(|run| run.id.clone()).collect(),
            other_recipes,
        })
    }

    /// The value, where there is one.
    pub(crate) fn mean(&self) -> Option<&Mean> {
        match self {
            Self::Value(mean) => Some(mean),
            _ => None,
        }
    }
}

impl Mean {
    /// What the value lacks of the paper's: `1 of 3 seeds`, `4 of 10 epochs`, or for a single run its
    /// episodes; empty if nothing.
    pub(crate) fn lacks(&self) -> Vec<String> {
        if self.values == 1 {
            return vec![format!("1 run, n {}", self.episodes)];
        }
        let mut lacks = Vec::new();
        if self.seeds.len() < SEEDS {
            lacks.push(format!("{} of {SEEDS} seeds", self.seeds.len()));
        }
        if self.fewest_epochs < self.wanted_epochs {
            lacks.push(format!(
                "{} of {} epochs",
                self.fewest_epochs, self.wanted_epochs
            ));
        }
        lacks
    }

    /// Lowest and highest of what the spread says.
    pub(crate) fn range(&self) -> Option<(f64, f64)> {
        match self.spread {
            Spread::Deviation(std) => Some((self.value - std, self.value + std)),
            Spread::Interval(interval) => Some((interval.low, interval.high)),
            Spread::None => None,
        }
    }
}

/// One run per set of weights: the same weights evaluated again say nothing new.
fn distinct<'a>(runs: impl Iterator<Item = &'a PaperRun>) -> Vec<&'a PaperRun> {
    let mut seen = BTreeSet::new();
    let mut runs: Vec<&PaperRun> = runs.filter(|run| seen.insert(&run.weights_hash)).collect();
    runs.sort_by(|a, b| (a.trained, &a.id).cmp(&(b.trained, &b.id)));
    runs
}

struct Found {
    value: f64,
    spread: Spread,
    values: usize,
    fewest_epochs: usize,
}

/// The average of the last `last` models of every seed; optimiser steps stand for epochs, with which they grow.
fn averaged(group: usize, runs: &[&PaperRun], last: usize) -> Option<Found> {
    let place = |run: &PaperRun| run.trained.unwrap_or_default();
    if group == SCORED {
        let scores: Option<Vec<(u64, f64, f64)>> = runs
            .iter()
            .map(|run| Some((place(run).0, place(run).1 as f64, run.action_score?)))
            .collect();
        let found = average_scores(&scores?, last)?;
        return Some(Found {
            value: found.mean,
            spread: if found.values > 1 {
                Spread::Deviation(found.std)
            } else {
                Spread::None
            },
            values: found.values,
            fewest_epochs: found.fewest_epochs,
        });
    }
    let scores: Vec<EpochScore> = runs
        .iter()
        .map(|run| EpochScore {
            seed: place(run).0,
            epoch: place(run).1 as f64,
            successes: run.successes,
            episodes: run.episodes,
        })
        .collect();
    let found = average_epochs(&scores, last)?;
    let spread = match scores.as_slice() {
        [only] => Spread::Interval(in_percent(wilson(
            only.successes,
            only.episodes,
            CONFIDENCE,
        )?)),
        _ => Spread::Deviation(100.0 * found.pooled.std),
    };
    Some(Found {
        value: 100.0 * found.pooled.mean,
        spread,
        values: found.pooled.values,
        fewest_epochs: found.seeds.iter().map(|seed| seed.epochs.len()).min()?,
    })
}

fn in_percent(interval: Interval) -> Interval {
    Interval {
        low: 100.0 * interval.low,
        high: 100.0 * interval.high,
    }
}

/// The unweighted mean over all groups, as the paper's plots have it; the names of those without a value if any lacks.
///
/// # Errors
/// The groups that lack.
pub(crate) fn mean_of_groups(values: &[Option<f64>; GROUPS]) -> Result<f64, Vec<&'static str>> {
    let missing: Vec<&'static str> = (0..GROUPS)
        .filter(|&group| values[group].is_none())
        .map(|group| TASK_GROUPS[group])
        .collect();
    let present: Vec<f64> = values.iter().flatten().copied().collect();
    match mean(&present) {
        Some(mean) if missing.is_empty() => Ok(mean),
        _ => Err(missing),
    }
}
