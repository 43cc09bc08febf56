//! What may be said over several tasks: averages over a whole group, and differences corrected for the number of tasks.
//!
//! An average over the tasks that happen to be there compares models on different tasks. Here it exists only where every
//! task of the group does, and says which are missing where it does not. The groups are the columns of the paper's tables,
//! whose "Avg" is the unweighted mean over all eight, without an error bar (evaluation.md section 4.2). Its column DROID is
//! an action score, ours the share of episodes with a small action error: an average over all eight is not the paper's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::compare::{Comparison, Pairs, Scored, compare_with, correct};
use crate::error::{Error, Result};
use crate::published::{TASK_GROUPS, column_of};
use crate::record::{CONFIDENCE, TaskRef};
use crate::statistics::{Difference, Interval, mean, stratified_bootstrap, wilson};

/// Resamples behind the interval of a macro average.
const RESAMPLES: usize = 10_000;
/// Seed of that resampling.
const SEED: u64 = 3;

/// The success of one model over a group of tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MacroAverage {
    /// The tasks of the group that are there, in the order of the group.
    pub tasks: Vec<TaskMean>,
    /// Columns of the group without a run, in the order of the group.
    pub missing: Vec<String>,
    /// Unweighted mean over the tasks of the success rate, with a bootstrap 95% interval: episodes are drawn again within
    /// each task, the tasks are fixed. `None` as long as a task is missing.
    pub average: Option<Difference>,
}

/// The success of one model on one task of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskMean {
    /// Column of the paper's tables: one of [`TASK_GROUPS`].
    pub group: String,
    /// The task.
    pub task: TaskRef,
    /// Number of episodes.
    pub episodes: u64,
    /// Share that reached the goal.
    pub success_rate: f64,
    /// Wilson 95% interval of that share.
    pub interval: Interval,
}

/// The models of one task against its best.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskDifferences {
    /// The task.
    pub task: TaskRef,
    /// Label of the best run: highest success rate, then lowest mean distance, then label.
    pub best: String,
    /// The best (first) against every other (second), in the order of the models; `p_holm` is corrected for the number of
    /// tasks on which these two models are compared.
    pub to_best: Vec<Comparison>,
}

/// Averages the runs of one model over the tasks of `group`, columns of [`TASK_GROUPS`].
///
/// Runs of tasks outside the group are not looked at. A run without episodes counts as missing.
///
/// # Errors
/// When the group names an unknown column, or two runs belong to one column of it.
pub fn macro_average(runs: &[&Scored], group: &[&str]) -> Result<MacroAverage> {
    let columns = columns(runs, group)?;
    let mut found = MacroAverage {
        tasks: Vec::new(),
        missing: Vec::new(),
        average: None,
    };
    let mut strata = Vec::new();
    for (&name, run) in group.iter().zip(columns) {
        if let Some((run, task)) = run.and_then(|run| Some((run, task_mean(name, run)?))) {
            found.tasks.push(task);
            let outcome = |score: &crate::Score| f64::from(u8::from(score.success));
            strata.push(run.scores.values().map(outcome).collect());
        } else {
            found.missing.push(name.into());
        }
    }
    if found.missing.is_empty() {
        found.average = stratified_bootstrap(&strata, RESAMPLES, CONFIDENCE, SEED);
    }
    Ok(found)
}

/// Macro average of the first model less that of the second, on the episodes that the two share in every task of `group`,
/// with a paired bootstrap 95% interval. `None` where a task is missing from one of them, or shares no episode.
///
/// # Errors
/// As [`macro_average`], and when the two ran different versions of a task or disagree about an episode.
pub fn macro_difference(
    first: &[&Scored],
    second: &[&Scored],
    group: &[&str],
) -> Result<Option<Difference>> {
    let (first, second) = (columns(first, group)?, columns(second, group)?);
    let mut strata = Vec::new();
    for pair in first.into_iter().zip(second) {
        let (Some(first), Some(second)) = pair else {
            return Ok(None);
        };
        match Pairs::new(first, second) {
            Ok(pairs) => strata.push(pairs.successes),
            Err(Error::NoSharedEpisodes { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(stratified_bootstrap(&strata, RESAMPLES, CONFIDENCE, SEED))
}

/// Compares two models on every task that both ran, and corrects the p-values for the number of these tasks. Tasks in which
/// they share no episode are left out.
///
/// # Errors
/// When one of the lists has two runs of a task, or the two disagree about an episode.
pub fn compare_over_tasks(first: &[Scored], second: &[Scored]) -> Result<Vec<Comparison>> {
    let (first, second) = (by_task(first)?, by_task(second)?);
    let mut comparisons = Vec::new();
    for (task, run) in first {
        if let Some(other) = second.get(task) {
            comparisons.extend(compare_with(run, &[other])?.into_iter().flatten());
        }
    }
    correct(&mut comparisons);
    Ok(comparisons)
}

/// Compares all models with the best of each task. The best may be another one on every task; each pair of models is
/// corrected for the number of tasks that the two share, whether or not one of them is the best there.
///
/// # Errors
/// When a model has two runs of a task, or two models disagree about an episode.
pub fn differences_to_best(models: &[Vec<Scored>]) -> Result<Vec<TaskDifferences>> {
    let by_task = models
        .iter()
        .map(|runs| by_task(runs))
        .collect::<Result<Vec<_>>>()?;
    let mut tasks: Vec<&TaskRef> = by_task
        .iter()
        .flat_map(|runs| runs.keys().copied())
        .collect();
    tasks.sort();
    tasks.dedup();
    let mut families: BTreeMap<(usize, usize), Vec<Comparison>> = BTreeMap::new();
    let mut differences = Vec::new();
    for task in tasks {
        let runs = by_task.iter().enumerate();
        let runs: Vec<(usize, &Scored)> = runs
            .filter_map(|(model, runs)| Some((model, *runs.get(task)?)))
            .filter(|(_, run)| !run.scores.is_empty())
            .collect();
        let Some(&(best, run)) = runs.iter().min_by(|a, b| better(a.1, b.1)) else {
            continue;
        };
        let mut to_best = Vec::new();
        for &(other, _) in runs.iter().filter(|(model, _)| *model != best) {
            let family = match families.entry((best, other)) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => {
                    free.insert(compare_over_tasks(&models[best], &models[other])?)
                }
            };
            to_best.extend(family.iter().find(|c| c.task == *task).cloned());
        }
        differences.push(TaskDifferences {
            task: task.clone(),
            best: run.label.clone(),
            to_best,
        });
    }
    Ok(differences)
}

/// The run of every column of the group.
fn columns<'a>(runs: &[&'a Scored], group: &[&str]) -> Result<Vec<Option<&'a Scored>>> {
    let column = |&name: &&str| {
        let known = TASK_GROUPS.iter().position(|group| *group == name);
        let known = known.ok_or_else(|| Error::UnknownGroup { name: name.into() })?;
        let mut own = runs
            .iter()
            .filter(|run| column_of(&run.task.name) == Some(known));
        match (own.next(), own.next()) {
            (Some(first), Some(second)) => Err(twice(name, first, second)),
            (first, _) => Ok(first.copied()),
        }
    };
    group.iter().map(column).collect()
}

fn by_task(runs: &[Scored]) -> Result<BTreeMap<&TaskRef, &Scored>> {
    let mut by_task = BTreeMap::new();
    for run in runs {
        if let Some(first) = by_task.insert(&run.task, run) {
            return Err(twice(&run.task.id(), first, run));
        }
    }
    Ok(by_task)
}

fn twice(task: &str, first: &Scored, second: &Scored) -> Error {
    Error::TaskTwice {
        task: task.into(),
        left: first.label.clone(),
        right: second.label.clone(),
    }
}

fn task_mean(group: &str, run: &Scored) -> Option<TaskMean> {
    let episodes = run.scores.len() as u64;
    let successes = successes(run);
    Some(TaskMean {
        group: group.into(),
        task: run.task.clone(),
        episodes,
        success_rate: successes as f64 / episodes as f64,
        interval: wilson(successes, episodes, CONFIDENCE)?,
    })
}

fn successes(run: &Scored) -> u64 {
    run.scores.values().filter(|score| score.success).count() as u64
}

/// The order of a board: success rate, mean distance, label.
fn better(a: &Scored, b: &Scored) -> std::cmp::Ordering {
    let rate = |run: &Scored| successes(run) as f64 / run.scores.len() as f64;
    let distance = |run: &Scored| {
        let distances: Vec<f64> = run.scores.values().map(|s| s.final_distance).collect();
        mean(&distances).unwrap_or(f64::NAN)
    };
    rate(b)
        .total_cmp(&rate(a))
        .then_with(|| distance(a).total_cmp(&distance(b)))
        .then_with(|| a.label.cmp(&b.label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Score;

    /// A run of a task with these outcomes of seeds 0, 1, ..
    fn run(label: &str, task: &str, outcomes: &[bool]) -> Scored {
        let score = |(seed, &success): (u64, &bool)| {
            let score = Score {
                success,
                final_distance: 1.0,
                start_hash: seed.to_string(),
            };
            (seed, score)
        };
        Scored {
            label: label.into(),
            task: TaskRef {
                name: task.into(),
                version: 1,
                hash: format!("hash of {task}"),
            },
            scores: (0..).zip(outcomes).map(score).collect(),
        }
    }

    /// `n` episodes, the first `successes` of which reach the goal.
    fn first(n: usize, successes: usize) -> Vec<bool> {
        (0..n).map(|k| k < successes).collect()
    }

    #[test]
    fn an_average_needs_every_task_of_its_group() {
        let wall = run("m", "wall", &first(10, 4));
        let maze = run("m", "pointmaze", &first(50, 40));
        let outside = run("m", "no-such-task", &first(3, 3));
        let part = macro_average(&[&wall, &outside], &["Maze", "Wall", "Push-T"]).unwrap();
        assert_eq!(part.missing, ["Maze", "Push-T"]);
        assert_eq!((part.average, part.tasks.len()), (None, 1));
        let whole = macro_average(&[&wall, &maze], &["Maze", "Wall"]).unwrap();
        let groups: Vec<&str> = whole.tasks.iter().map(|task| task.group.as_str()).collect();
        assert_eq!(groups, ["Maze", "Wall"]);
        assert!(whole.missing.is_empty());
        // Tasks count the same, whatever their episodes: (0.8 + 0.4) / 2.
        let average = whole.average.unwrap();
        assert!((average.mean - 0.6).abs() < 1e-15);
        // Standard error sqrt(0.8 * 0.2 / 50 + 0.4 * 0.6 / 10) / 2 = 0.0825; the interval is about 1.96 times that.
        let half = (average.interval.high - average.interval.low) / 2.0;
        assert!((half - 1.96 * 0.0825).abs() < 0.02, "{half}");
        let empty = run("m", "pusht", &[]);
        assert_eq!(
            macro_average(&[&empty], &["Push-T"]).unwrap().missing,
            ["Push-T"]
        );
    }

    #[test]
    fn groups_and_runs_that_make_no_sense_are_refused() {
        let wall = run("m", "wall", &first(10, 4));
        let error = macro_average(&[&wall, &wall], &["Wall"]).unwrap_err();
        assert!(error.to_string().contains("`Wall`"), "{error}");
        let error = macro_average(&[&wall], &["Walls"]).unwrap_err();
        assert!(error.hint().unwrap().contains("Wall"), "{error}");
        assert!(compare_over_tasks(&[wall.clone(), wall.clone()], &[wall]).is_err());
    }

    #[test]
    fn differences_of_averages_are_paired_by_episode() {
        let tasks = ["wall", "pusht"];
        let half: Vec<bool> = (0..40).map(|k| k % 2 == 0).collect();
        let (a, b) = (
            tasks.map(|t| run("a", t, &half)),
            tasks.map(|t| run("b", t, &half)),
        );
        let group = ["Wall", "Push-T"];
        // Equal on every episode: no doubt at all, however uncertain each average is.
        let difference = macro_difference(&a.each_ref(), &b.each_ref(), &group)
            .unwrap()
            .unwrap();
        assert_eq!(
            (
                difference.mean,
                difference.interval.low,
                difference.interval.high
            ),
            (0.0, 0.0, 0.0)
        );
        let found = macro_difference(&a.each_ref(), &[&b[0]], &group).unwrap();
        assert_eq!(found, None);
    }

    #[test]
    fn p_values_are_corrected_for_the_tasks_that_two_models_share() {
        let (good, bad) = (first(12, 12), first(12, 0));
        let a = ["wall", "pusht", "pointmaze"].map(|task| run("a", task, &good));
        let b = ["pointmaze", "wall"].map(|task| run("b", task, &bad));
        let found = compare_over_tasks(&a, &b).unwrap();
        let tasks: Vec<&str> = found.iter().map(|c| c.task.name.as_str()).collect();
        assert_eq!(tasks, ["pointmaze", "wall"]);
        // 2 / 2^12 each, times two tasks.
        for comparison in &found {
            assert!((comparison.p_holm - 4.0 / 4096.0).abs() < 1e-12);
        }
    }

    #[test]
    fn every_task_has_its_own_best() {
        let (high, low) = (first(12, 10), first(12, 2));
        let models = [
            vec![run("a", "wall", &high), run("a", "pusht", &low)],
            vec![
                run("b", "wall", &low),
                run("b", "pusht", &high),
                run("b", "droid", &low),
            ],
            vec![run("c", "wall", &high)],
        ];
        let found = differences_to_best(&models).unwrap();
        let summary: Vec<_> = found
            .iter()
            .map(|task| {
                let others = task.to_best.iter();
                let others: Vec<(&str, f64)> = others
                    .map(|c| (c.second.as_str(), c.success.mean))
                    .collect();
                (task.task.name.as_str(), task.best.as_str(), others)
            })
            .collect();
        let difference = 10.0 / 12.0 - 2.0 / 12.0;
        assert_eq!(
            summary,
            [
                ("droid", "b", vec![]),
                ("pusht", "b", vec![("a", difference)]),
                ("wall", "a", vec![("b", difference), ("c", 0.0)]),
            ]
        );
        // a and b share two tasks, a and c one.
        let p = 2.0 / 256.0;
        let wall = &found[2].to_best;
        assert!((wall[0].p_value - p).abs() < 1e-12 && (wall[0].p_holm - 2.0 * p).abs() < 1e-12);
        assert_eq!(wall[1].p_holm, 1.0);
    }
}
