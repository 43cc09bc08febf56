//! The average of a score that is no share of episodes (evaluation.md section 4.2): the action score of DROID.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::statistics::mean;

/// The last epochs of all seeds as equals, as [`crate::PooledEpochs`] of success rates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScoreAverage {
    /// Values, `S * n` where no epoch is missing.
    pub values: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation with divisor `S * n` (population).
    pub std: f64,
    /// Epochs of the seed that has least of them.
    pub fewest_epochs: usize,
}

/// Averages the last `last` epochs of every seed; a score is `(seed, epoch, value)`.
///
/// `None` without scores, for `last` 0, numbers that are not finite, and an epoch scored twice for a seed.
pub fn average_scores(scores: &[(u64, f64, f64)], last: usize) -> Option<ScoreAverage> {
    let is_finite = |&(_, epoch, value): &(u64, f64, f64)| epoch.is_finite() && value.is_finite();
    if last == 0 || !scores.iter().all(is_finite) {
        return None;
    }
    let mut by_seed: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    for &(seed, epoch, value) in scores {
        by_seed.entry(seed).or_default().push((epoch, value));
    }
    for scores in by_seed.values_mut() {
        scores.sort_by(|a, b| a.0.total_cmp(&b.0));
        if scores.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return None;
        }
        scores.drain(..scores.len().saturating_sub(last));
    }
    let fewest_epochs = by_seed.values().map(Vec::len).min()?;
    let pool: Vec<f64> = by_seed
        .into_values()
        .flatten()
        .map(|(_, value)| value)
        .collect();
    let center = mean(&pool)?;
    let squares: Vec<f64> = pool.iter().map(|value| (value - center).powi(2)).collect();
    Some(ScoreAverage {
        values: pool.len(),
        mean: center,
        std: mean(&squares)?.sqrt(),
        fewest_epochs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_epochs_of_all_seeds_are_one_pool() {
        // Seed 0: 40 is too early; 44 and 48 count. Seed 1: 52. Mean 48, deviations 4, 0, 4.
        let scores = [
            (0, 3.0, 48.0),
            (0, 1.0, 40.0),
            (0, 2.0, 44.0),
            (1, 3.0, 52.0),
        ];
        let found = average_scores(&scores, 2).unwrap();
        assert_eq!(
            (found.values, found.mean, found.fewest_epochs),
            (3, 48.0, 1)
        );
        assert!((found.std - (32.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn nothing_and_contradictions_have_no_average() {
        assert_eq!(average_scores(&[], 2), None);
        assert_eq!(average_scores(&[(0, 1.0, 2.0)], 0), None);
        assert_eq!(average_scores(&[(0, 1.0, 2.0), (0, 1.0, 3.0)], 2), None);
        assert_eq!(average_scores(&[(0, 1.0, f64::NAN)], 2), None);
    }
}
