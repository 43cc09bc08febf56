//! The numbers of a board as they are defined, pair by pair: slow, and what the fast way is compared with.

use super::rank_interval::{RESAMPLES, SEED};
use crate::compare::{Comparison, Scored, compare_if_shared, correct};
use crate::record::CONFIDENCE;
use crate::statistics::{Draws, quantile};

/// Comparisons of all pairs of rows that share episodes, corrected together.
pub(super) fn comparisons(runs: &[&Scored]) -> Vec<((usize, usize), Comparison)> {
    let (mut pairs, mut comparisons) = (Vec::new(), Vec::new());
    for first in 0..runs.len() {
        for second in first + 1..runs.len() {
            if let Some(comparison) = compare_if_shared(runs[first], runs[second]).unwrap() {
                pairs.push((first, second));
                comparisons.push(comparison);
            }
        }
    }
    correct(&mut comparisons);
    pairs.into_iter().zip(comparisons).collect()
}

/// Rank intervals by comparing every run with every other in every resample.
pub(super) fn rank_intervals(runs: &[&Scored]) -> Option<Vec<(u32, u32)>> {
    let (first, rest) = runs.split_first()?;
    let shared = |seed: &u64| rest.iter().all(|run| run.scores.contains_key(seed));
    let seeds: Vec<u64> = first.scores.keys().copied().filter(shared).collect();
    if seeds.is_empty() {
        return None;
    }
    let mut draws = Draws::new(SEED);
    let mut ranks = vec![Vec::with_capacity(RESAMPLES); runs.len()];
    for _ in 0..RESAMPLES {
        let chosen: Vec<u64> = seeds
            .iter()
            .map(|_| seeds[draws.below(seeds.len() as u32) as usize])
            .collect();
        let successes = |run: &&Scored| chosen.iter().filter(|&s| run.scores[s].success).count();
        let counts: Vec<usize> = runs.iter().map(successes).collect();
        for (list, &count) in ranks.iter_mut().zip(&counts) {
            let better = counts.iter().filter(|&&other| other > count).count();
            let equal = counts.iter().filter(|&&other| other == count).count();
            list.push(better as f64 + f64::midpoint(1.0, equal as f64));
        }
    }
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let interval = |list: &Vec<f64>| {
        let (low, high) = (quantile(list, tail)?, quantile(list, 1.0 - tail)?);
        Some((low.floor() as u32, high.ceil() as u32))
    };
    ranks.iter().map(interval).collect()
}

/// Letters by trying every stretch against every pair that differs; for up to 26 stretches.
pub(super) fn letters(n: usize, differ: &[(usize, usize)]) -> Vec<String> {
    let mut letters = vec![String::new(); n];
    let mut covered = 0;
    let mut names = 'a'..='z';
    for start in 0..n {
        let alike = |&end: &usize| !differ.iter().any(|&(a, b)| start <= a && b <= end);
        let end = (start..n).take_while(alike).last().unwrap_or(start) + 1;
        if end > covered {
            covered = end;
            let name = names.next().unwrap();
            letters[start..end]
                .iter_mut()
                .for_each(|row| row.push(name));
        }
    }
    letters
}
