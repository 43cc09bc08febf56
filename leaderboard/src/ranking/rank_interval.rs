//! How far the place of a run depends on the draw of the episodes.

use crate::compare::Scored;
use crate::record::CONFIDENCE;
use crate::statistics::{Draws, sorted_quantile};

/// Resamples behind a rank interval.
pub(super) const RESAMPLES: usize = 2_000;
/// Seed of the resampling.
pub(super) const SEED: u64 = 2;

/// Rank intervals from resampling the episodes that all runs share; `None` without such episodes.
pub(super) fn rank_intervals(runs: &[&Scored]) -> Option<Vec<(u32, u32)>> {
    let seeds = shared_seeds(runs);
    if seeds.is_empty() {
        return None;
    }
    let columns: Vec<Vec<u8>> = seeds
        .iter()
        .map(|seed| {
            let success = |run: &&Scored| u8::from(run.scores[seed].success);
            runs.iter().map(success).collect()
        })
        .collect();
    let mut draws = Draws::new(SEED);
    let mut counts = vec![0; runs.len()];
    let mut ranks = Vec::with_capacity(RESAMPLES * runs.len());
    for _ in 0..RESAMPLES {
        counts.fill(0);
        for _ in 0..seeds.len() {
            let column = &columns[draws.below(seeds.len() as u32) as usize];
            for (count, &success) in counts.iter_mut().zip(column) {
                *count += u32::from(success);
            }
        }
        push_doubled_ranks(&counts, seeds.len(), &mut ranks);
    }
    let mut own = vec![0.0; RESAMPLES];
    let interval = |run: usize| {
        for (rank, resample) in own.iter_mut().zip(ranks.chunks_exact(runs.len())) {
            *rank = f64::from(resample[run]) / 2.0;
        }
        own.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - CONFIDENCE) / 2.0;
        let (low, high) = (
            sorted_quantile(&own, tail),
            sorted_quantile(&own, 1.0 - tail),
        );
        (low.floor() as u32, high.ceil() as u32)
    };
    Some((0..runs.len()).map(interval).collect())
}

/// Seeds of the episodes that all runs have, rising.
fn shared_seeds(runs: &[&Scored]) -> Vec<u64> {
    let Some((first, rest)) = runs.split_first() else {
        return Vec::new();
    };
    let in_all = |seed: &u64| rest.iter().all(|run| run.scores.contains_key(seed));
    first.scores.keys().copied().filter(in_all).collect()
}

/// Twice the rank of every run by its count of successes, which is a whole number: ties share the middle of the places
/// that they take. Counting how many runs have each count saves comparing all with all.
fn push_doubled_ranks(counts: &[u32], episodes: usize, ranks: &mut Vec<u32>) {
    let mut equal = vec![0_u32; episodes + 1];
    for &count in counts {
        equal[count as usize] += 1;
    }
    let mut better = 0;
    let mut doubled = vec![0; episodes + 1];
    for (rank, &equal) in doubled.iter_mut().zip(&equal).rev() {
        *rank = 2 * better + 1 + equal;
        better += equal;
    }
    ranks.extend(counts.iter().map(|&count| doubled[count as usize]));
}
