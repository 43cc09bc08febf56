//! The paired bootstrap of many lists at once, number for number as [`paired_bootstrap`](super::paired_bootstrap).
//!
//! Every list is resampled by the same draws, so these are made once for many lists, and sums of [`LANES`] lists run side
//! by side. Each list is still summed in the order of its draws. Beside it, the bootstrap of a mean over strata.

use std::collections::BTreeMap;

use super::{Difference, Draws, Interval, mean, resampled_mean};

/// Lists whose sums are kept in registers together.
const LANES: usize = 16;
/// Lists whose resampled means are in memory together.
const TOGETHER: usize = 8 * LANES;
/// Draws that are made before they are used: few enough to stay in the cache.
const DRAWS: usize = 1 << 14;

/// [`paired_bootstrap`](super::paired_bootstrap) of every list, with the same seed; `None` where that is.
pub(crate) fn paired_bootstraps(
    lists: &[Vec<f64>],
    resamples: usize,
    confidence: f64,
    seed: u64,
) -> Vec<Option<Difference>> {
    let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (k, list) in lists.iter().enumerate() {
        if resamples > 0 && list.iter().all(|value| value.is_finite()) && !list.is_empty() {
            by_length.entry(list.len()).or_default().push(k);
        }
    }
    let mut results = vec![None; lists.len()];
    for (length, members) in by_length {
        for together in members.chunks(TOGETHER) {
            let columns: Vec<&[f64]> = together.iter().map(|&k| &lists[k][..]).collect();
            let means = resampled_means(&columns, length, resamples, seed);
            for (&k, mut means) in together.iter().zip(means) {
                results[k] = difference(&lists[k], &mut means, confidence);
            }
        }
    }
    results
}

/// Unweighted mean of the means of several strata, with a percentile bootstrap interval: values are drawn again within each
/// stratum, the strata themselves are fixed. The interval is about other episodes of these tasks, not about other tasks.
///
/// With one stratum it is [`paired_bootstrap`](super::paired_bootstrap). `None` without strata, for an empty one, no
/// resamples, or a value that is not finite.
pub fn stratified_bootstrap(
    strata: &[Vec<f64>],
    resamples: usize,
    confidence: f64,
    seed: u64,
) -> Option<Difference> {
    let finite = strata.iter().flatten().all(|value| value.is_finite());
    if resamples == 0 || !finite {
        return None;
    }
    let means = strata.iter().map(|values| mean(values));
    let mean = mean(&means.collect::<Option<Vec<f64>>>()?)?;
    let mut draws = Draws::new(seed);
    let mut resampled = || {
        let sum: f64 = strata
            .iter()
            .map(|values| resampled_mean(values, &mut draws))
            .sum();
        sum / strata.len() as f64
    };
    let mut means: Vec<f64> = (0..resamples).map(|_| resampled()).collect();
    let tail = (1.0 - confidence) / 2.0;
    let interval = Interval {
        low: selected_quantile(&mut means, tail),
        high: selected_quantile(&mut means, 1.0 - tail),
    };
    Some(Difference { mean, interval })
}

/// Means of all resamples of lists of one length, list by list.
fn resampled_means(lists: &[&[f64]], length: usize, resamples: usize, seed: u64) -> Vec<Vec<f64>> {
    let blocks: Vec<Vec<[f64; LANES]>> = lists
        .chunks(LANES)
        .map(|b| interleaved(b, length))
        .collect();
    let room = |_| Vec::with_capacity(resamples);
    let mut means: Vec<Vec<f64>> = (0..lists.len()).map(room).collect();
    let mut draws = Draws::new(seed);
    let mut chosen = Vec::new();
    let at_once = (DRAWS / length).max(1);
    for start in (0..resamples).step_by(at_once) {
        let count = at_once.min(resamples - start);
        chosen.clear();
        chosen.extend((0..count * length).map(|_| draws.below(length as u32)));
        for (block, means) in blocks.iter().zip(means.chunks_mut(LANES)) {
            for resample in chosen.chunks_exact(length) {
                let sums = sums(block, resample);
                for (means, sum) in means.iter_mut().zip(sums) {
                    means.push(sum / length as f64);
                }
            }
        }
    }
    means
}

/// Values of up to [`LANES`] lists, position by position.
fn interleaved(lists: &[&[f64]], length: usize) -> Vec<[f64; LANES]> {
    let mut rows = vec![[0.0; LANES]; length];
    for (lane, list) in lists.iter().enumerate() {
        for (row, &value) in rows.iter_mut().zip(*list) {
            row[lane] = value;
        }
    }
    rows
}

fn sums(block: &[[f64; LANES]], chosen: &[u32]) -> [f64; LANES] {
    // The neutral element that sums of the standard library begin with.
    let mut sums = [-0.0; LANES];
    for &k in chosen {
        for (sum, value) in sums.iter_mut().zip(&block[k as usize]) {
            *sum += value;
        }
    }
    sums
}

fn difference(list: &[f64], means: &mut [f64], confidence: f64) -> Option<Difference> {
    let tail = (1.0 - confidence) / 2.0;
    let interval = Interval {
        low: selected_quantile(means, tail),
        high: selected_quantile(means, 1.0 - tail),
    };
    let mean = mean(list)?;
    Some(Difference { mean, interval })
}

/// [`sorted_quantile`](super::sorted_quantile) without sorting more than it takes.
fn selected_quantile(values: &mut [f64], q: f64) -> f64 {
    let last = values.len() - 1;
    let position = q * last as f64;
    let below = (position.floor() as usize).min(last);
    let (_, &mut low, rest) = values.select_nth_unstable_by(below, f64::total_cmp);
    let share = position - below as f64;
    let high = rest.iter().copied().min_by(f64::total_cmp);
    match high {
        Some(high) if share != 0.0 => low + (high - low) * share,
        _ => low,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statistics::paired_bootstrap;

    #[test]
    fn lists_without_an_interval_have_none_among_those_that_do() {
        let lists = [vec![1.0], vec![], vec![1.0, f64::NAN], vec![2.0, 2.0]];
        let found = paired_bootstraps(&lists, 50, 0.95, 3);
        let means: Vec<Option<f64>> = found.iter().map(|d| d.map(|d| d.mean)).collect();
        assert_eq!(means, [Some(1.0), None, None, Some(2.0)]);
        assert_eq!(paired_bootstraps(&lists, 0, 0.95, 3), [None; 4]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn many_lists_at_once_give_the_bits_of_one_after_the_other(
            lists in prop::collection::vec(prop::collection::vec(-9.0_f64..9.0, 1..7), 1..40),
            resamples in 1_usize..90, confidence in 0.5_f64..0.99, seed in 0_u64..5,
        ) {
            let bits = |d: Option<Difference>| {
                d.map(|d| [d.mean, d.interval.low, d.interval.high].map(f64::to_bits))
            };
            let found = paired_bootstraps(&lists, resamples, confidence, seed);
            for (list, found) in lists.iter().zip(found) {
                let plain = paired_bootstrap(list, resamples, confidence, seed);
                prop_assert_eq!(bits(found), bits(plain));
            }
        }
    }

    #[test]
    fn strata_count_the_same_whatever_their_size() {
        // Means 0.5 and 1; nothing varies within the second, so the interval is half that of the first, around 0.75.
        let strata = [vec![0.0, 1.0], vec![1.0; 40]];
        let found = stratified_bootstrap(&strata, 400, 0.95, 3).unwrap();
        assert_eq!(found.mean, 0.75);
        assert_eq!((found.interval.low, found.interval.high), (0.5, 1.0));
        assert_eq!(stratified_bootstrap(&[], 10, 0.95, 3), None);
        assert_eq!(
            stratified_bootstrap(&[vec![1.0], vec![]], 10, 0.95, 3),
            None
        );
        assert_eq!(stratified_bootstrap(&[vec![f64::NAN]], 10, 0.95, 3), None);
        assert_eq!(stratified_bootstrap(&strata, 0, 0.95, 3), None);
    }

    #[test]
    fn one_stratum_is_the_paired_bootstrap() {
        let values: Vec<f64> = (0..30).map(|k| f64::from(k * k % 11)).collect();
        let strata = [values.clone()];
        let found = stratified_bootstrap(&strata, 300, 0.9, 5);
        assert_eq!(found, paired_bootstrap(&values, 300, 0.9, 5));
    }

    #[test]
    fn more_lists_and_draws_than_are_kept_at_once_change_nothing() {
        let lists: Vec<Vec<f64>> = (0..TOGETHER + 3)
            .map(|k| {
                (0..50)
                    .map(|i| f64::from((k as i32 * 31 + i * 17) % 23) - 0.1)
                    .collect()
            })
            .collect();
        let resamples = 2 * DRAWS / 50 + 1;
        let found = paired_bootstraps(&lists, resamples, 0.9, 7);
        for k in [0, LANES, TOGETHER - 1, TOGETHER, TOGETHER + 2] {
            assert_eq!(
                found[k],
                paired_bootstrap(&lists[k], resamples, 0.9, 7),
                "{k}"
            );
        }
    }
}
