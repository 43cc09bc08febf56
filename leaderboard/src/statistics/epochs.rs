//! Averages over the last epochs of several training seeds (evaluation.md section 4.2).
//!
//! The paper evaluates every epoch and pools the last `n` of every seed: mean and population standard deviation of all
//! `S * n` values. That deviation mixes seeds, epochs and the draw of the episodes, and says little about another training
//! run. Beside it stands ours: each seed is one number, the mean of its epochs, and the standard error is over seeds.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Interval, mean, wilson};
use crate::published::column_of;
use crate::record::CONFIDENCE;

/// Which epochs the paper averages for a group of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EpochWindow {
    /// Column of the published tables.
    pub group: &'static str,
    /// Epochs that its models are trained for.
    pub trained: u64,
    /// First epoch of the window in the released plotting code.
    pub first_in_code: u64,
    /// Epochs of the window in the released plotting code.
    pub in_code: usize,
    /// Epochs of the window according to the paper.
    pub in_paper: usize,
}

/// The window of every group of tasks (evaluation.md section 4.2).
pub const EPOCH_WINDOWS: [EpochWindow; 8] = [
    window("Maze", 50, 40, 10, 10),
    window("Wall", 50, 40, 10, 10),
    window("Push-T", 50, 40, 10, 10),
    window("MW-R", 50, 20, 30, 10),
    window("MW-RW", 50, 20, 30, 10),
    window("Rc-R", 315, 215, 100, 100),
    window("Rc-Pl", 315, 215, 100, 100),
    window("DROID", 315, 215, 100, 100),
];

/// The window of a task by its name without version, e.g. `wall`.
pub fn epoch_window(task: &str) -> Option<EpochWindow> {
    let column = column_of(task)?;
    EPOCH_WINDOWS.get(column).copied()
}

const fn window(
    group: &'static str,
    trained: u64,
    first_in_code: u64,
    in_code: usize,
    in_paper: usize,
) -> EpochWindow {
    EpochWindow {
        group,
        trained,
        first_in_code,
        in_code,
        in_paper,
    }
}

/// Success of the model of one training seed after one epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochScore {
    /// Training seed.
    pub seed: u64,
    /// Passes over the data, or anything that grows with them.
    pub epoch: f64,
    /// Episodes that reached the goal.
    pub successes: u64,
    /// Episodes, at least 1.
    pub episodes: u64,
}

impl EpochScore {
    fn rate(self) -> f64 {
        self.successes as f64 / self.episodes as f64
    }
}

/// The last epochs of several seeds, averaged in two ways.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EpochAverage {
    /// Epochs asked for, `n`.
    pub last: usize,
    /// Seeds, rising, with the epochs that count.
    pub seeds: Vec<SeedEpochs>,
    /// The paper's rule.
    pub pooled: PooledEpochs,
    /// Ours.
    pub over_seeds: OverSeeds,
}

/// The last epochs of one seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeedEpochs {
    /// Training seed.
    pub seed: u64,
    /// Epochs that count, rising; fewer than asked for where there are not as many.
    pub epochs: Vec<f64>,
    /// Mean of their success rates.
    pub mean: f64,
}

/// All epochs of all seeds as equals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PooledEpochs {
    /// Values, `S * n` where no epoch is missing.
    pub values: usize,
    /// Mean of the success rates.
    pub mean: f64,
    /// Their standard deviation with divisor `S * n` (population).
    pub std: f64,
}

/// One number per seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OverSeeds {
    /// Mean over seeds of the mean over epochs.
    pub mean: f64,
    /// Standard error over seeds: sample standard deviation (divisor `S - 1`) over the root of `S`; none for one seed.
    pub standard_error: Option<f64>,
    /// Wilson 95% interval of all attempts together. It takes every attempt for an episode of its own, while epochs and
    /// seeds share theirs: too narrow a statement about other episodes.
    pub wilson: Interval,
    /// Attempts that reached the goal.
    pub successes: u64,
    /// Attempts: episodes times epochs times seeds.
    pub attempts: u64,
}

/// Averages the last `last` epochs of every seed.
///
/// `None` without scores, for `last` 0, an epoch that is not finite or scored twice for a seed, and a score without
/// episodes or with more successes than episodes.
pub fn average_epochs(scores: &[EpochScore], last: usize) -> Option<EpochAverage> {
    let possible = |score: &EpochScore| {
        score.epoch.is_finite() && score.episodes > 0 && score.successes <= score.episodes
    };
    if last == 0 || !scores.iter().all(possible) {
        return None;
    }
    let mut by_seed: BTreeMap<u64, Vec<EpochScore>> = BTreeMap::new();
    for score in scores {
        by_seed.entry(score.seed).or_default().push(*score);
    }
    for scores in by_seed.values_mut() {
        scores.sort_by(|a, b| a.epoch.total_cmp(&b.epoch));
        if scores.windows(2).any(|pair| pair[0].epoch >= pair[1].epoch) {
            return None;
        }
        scores.drain(..scores.len().saturating_sub(last));
    }
    let seeds: Option<Vec<SeedEpochs>> = by_seed
        .iter()
        .map(|(&seed, scores)| of_seed(seed, scores))
        .collect();
    let seeds = seeds?;
    let pool: Vec<EpochScore> = by_seed.into_values().flatten().collect();
    Some(EpochAverage {
        last,
        pooled: pooled(&pool)?,
        over_seeds: over_seeds(&seeds, &pool)?,
        seeds,
    })
}

fn of_seed(seed: u64, scores: &[EpochScore]) -> Option<SeedEpochs> {
    let rates: Vec<f64> = scores.iter().map(|score| score.rate()).collect();
    Some(SeedEpochs {
        seed,
        epochs: scores.iter().map(|score| score.epoch).collect(),
        mean: mean(&rates)?,
    })
}

fn pooled(pool: &[EpochScore]) -> Option<PooledEpochs> {
    let rates: Vec<f64> = pool.iter().map(|score| score.rate()).collect();
    let mean = mean(&rates)?;
    let squares: f64 = rates.iter().map(|rate| (rate - mean).powi(2)).sum();
    Some(PooledEpochs {
        values: rates.len(),
        mean,
        std: (squares / rates.len() as f64).sqrt(),
    })
}

fn over_seeds(seeds: &[SeedEpochs], pool: &[EpochScore]) -> Option<OverSeeds> {
    let means: Vec<f64> = seeds.iter().map(|seed| seed.mean).collect();
    let whole = mean(&means)?;
    let squares: f64 = means.iter().map(|mean| (mean - whole).powi(2)).sum();
    let count = means.len() as f64;
    let successes = pool.iter().map(|score| score.successes).sum();
    let attempts = pool.iter().map(|score| score.episodes).sum();
    Some(OverSeeds {
        mean: whole,
        standard_error: (means.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt()),
        wilson: wilson(successes, attempts, CONFIDENCE)?,
        successes,
        attempts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::published::TASK_GROUPS;

    fn score(seed: u64, epoch: u32, successes: u64) -> EpochScore {
        EpochScore {
            seed,
            epoch: f64::from(epoch),
            successes,
            episodes: 10,
        }
    }

    #[test]
    fn both_averages_are_those_worked_out_by_hand() {
        // Seed 1: 0.9 does not count, then 0.2, 0.4; seed 2: 0.6, 0.8.
        let scores = [
            score(1, 3, 4),
            score(2, 2, 6),
            score(1, 1, 9),
            score(1, 2, 2),
            score(2, 3, 8),
        ];
        let found = average_epochs(&scores, 2).unwrap();
        let seeds: Vec<_> = found
            .seeds
            .iter()
            .map(|s| (s.seed, &s.epochs[..]))
            .collect();
        assert_eq!(seeds, [(1, &[2.0, 3.0][..]), (2, &[2.0, 3.0][..])]);
        let close = |found: f64, expected: f64| {
            assert!(
                (found - expected).abs() < 1e-15,
                "{found} is not {expected}"
            );
        };
        // 0.2, 0.4, 0.6, 0.8: mean 0.5, squares 0.09 + 0.01 + 0.01 + 0.09 over 4.
        assert_eq!(found.pooled.values, 4);
        close(found.pooled.mean, 0.5);
        close(found.pooled.std, 0.05_f64.sqrt());
        // Means 0.3 and 0.7: sample variance 0.08, over 2 seeds.
        close(found.over_seeds.mean, 0.5);
        close(found.over_seeds.standard_error.unwrap(), 0.2);
        assert_eq!(
            (found.over_seeds.successes, found.over_seeds.attempts),
            (20, 40)
        );
        assert_eq!(found.over_seeds.wilson, wilson(20, 40, CONFIDENCE).unwrap());
    }

    #[test]
    fn seeds_count_the_same_however_many_epochs_they_have() {
        let found = average_epochs(&[score(1, 1, 0), score(1, 2, 0), score(2, 1, 9)], 5).unwrap();
        assert!((found.pooled.mean - 0.3).abs() < 1e-15);
        assert!((found.over_seeds.mean - 0.45).abs() < 1e-15);
        assert_eq!(found.seeds[1].epochs, [1.0]);
    }

    #[test]
    fn one_seed_has_no_standard_error() {
        let found = average_epochs(&[score(7, 1, 5)], 10).unwrap();
        assert_eq!(found.over_seeds.standard_error, None);
        assert_eq!(found.pooled.std, 0.0);
    }

    #[test]
    fn what_cannot_be_averaged_is_none() {
        assert_eq!(average_epochs(&[], 1), None);
        assert_eq!(average_epochs(&[score(1, 1, 5)], 0), None);
        assert_eq!(average_epochs(&[score(1, 1, 5), score(1, 1, 6)], 1), None);
        assert_eq!(average_epochs(&[score(1, 1, 11)], 1), None);
        let mut odd = score(1, 1, 5);
        odd.epoch = f64::NAN;
        assert_eq!(average_epochs(&[odd], 1), None);
        odd = score(1, 1, 0);
        odd.episodes = 0;
        assert_eq!(average_epochs(&[odd], 1), None);
    }

    #[test]
    fn every_published_column_has_a_window_at_the_end_of_its_training() {
        assert_eq!(EPOCH_WINDOWS.map(|window| window.group), TASK_GROUPS);
        assert_eq!(epoch_window("wall").unwrap().group, "Wall");
        assert_eq!(epoch_window("no-such-task"), None);
        for window in EPOCH_WINDOWS {
            let first = window.trained - window.in_code as u64;
            assert_eq!(first, window.first_in_code, "{}", window.group);
            assert!(window.in_paper <= window.in_code);
        }
    }
}
