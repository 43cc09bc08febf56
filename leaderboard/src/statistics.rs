//! Intervals and tests: pure functions in `f64` from plain numbers.
//!
//! A function returns `None` where its value is undefined (an empty set has no success rate).
//! Quantiles of the normal and the binomial distribution come from `statrs`.

mod bootstrap;
mod correlation;
mod epochs;
#[cfg(test)]
mod golden;

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, Normal};

pub(crate) use bootstrap::paired_bootstraps;
pub use bootstrap::stratified_bootstrap;
pub use correlation::{smoothed, spearman};
pub use epochs::{
    EPOCH_WINDOWS, EpochAverage, EpochScore, EpochWindow, OverSeeds, PooledEpochs, SeedEpochs,
    average_epochs, epoch_window,
};

/// A closed interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies in the interval, ends included.
    pub fn contains(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// A mean difference over pairs with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Mean of the differences.
    pub mean: f64,
    /// Interval of the mean.
    pub interval: Interval,
}

/// Outcomes of two runs on the same episodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PairedOutcomes {
    /// Both succeeded.
    pub both: u64,
    /// Only the first succeeded.
    pub only_first: u64,
    /// Only the second succeeded.
    pub only_second: u64,
    /// Neither succeeded.
    pub neither: u64,
}

impl PairedOutcomes {
    /// Counts the four outcomes of the pairs `(first, second)`.
    pub fn count(pairs: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut counts = Self::default();
        for pair in pairs {
            match pair {
                (true, true) => counts.both += 1,
                (true, false) => counts.only_first += 1,
                (false, true) => counts.only_second += 1,
                (false, false) => counts.neither += 1,
            }
        }
        counts
    }

    /// Number of pairs.
    pub fn total(self) -> u64 {
        self.both + self.only_first + self.only_second + self.neither
    }
}

/// Arithmetic mean; `None` for an empty slice.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Quantile with linear interpolation between order statistics (R type 7, NumPy's default).
///
/// `None` for an empty slice, a value that is not a number, or `q` outside `[0, 1]`.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    if values.is_empty() || !(0.0..=1.0).contains(&q) || values.iter().any(|v| v.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(sorted_quantile(&sorted, q))
}

/// Quantile of values that are sorted and not empty.
pub(crate) fn sorted_quantile(sorted: &[f64], q: f64) -> f64 {
    let last = sorted.len() - 1;
    let position = q * last as f64;
    let below = (position.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let share = position - below as f64;
    if share == 0.0 {
        sorted[below]
    } else {
        sorted[below] + (sorted[above] - sorted[below]) * share
    }
}

/// Two-sided quantile of the standard normal distribution: 1.959963.. for 0.95.
fn two_sided_z(confidence: f64) -> f64 {
    Normal::standard().inverse_cdf(0.5 + confidence / 2.0)
}

/// Wilson score interval of a success rate.
///
/// ```text
/// (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)          Wilson (1927)
/// ```
///
/// `None` when `n` is 0, `successes > n`, or `confidence` is outside `(0, 1)`.
pub fn wilson(successes: u64, n: u64, confidence: f64) -> Option<Interval> {
    if n == 0 || successes > n {
        return None;
    }
    wilson_rate(successes as f64 / n as f64, n, confidence)
}

/// [`wilson`] of a rate that need not be a whole number of successes, as a mean over training seeds.
///
/// `None` when `n` is 0, or `p` is outside `[0, 1]`, or `confidence` is outside `(0, 1)`.
pub fn wilson_rate(p: f64, n: u64, confidence: f64) -> Option<Interval> {
    if n == 0 || !(0.0..=1.0).contains(&p) || !(confidence > 0.0 && confidence < 1.0) {
        return None;
    }
    let size = n as f64;
    let z = two_sided_z(confidence);
    let shrink = 1.0 + z * z / size;
    let center = (p + z * z / (2.0 * size)) / shrink;
    let half = z / shrink * (p * (1.0 - p) / size + z * z / (4.0 * size * size)).sqrt();
    // Exact at the ends, where rounding would give -1e-17 or 0.9999999999999999.
    let low = if p <= 0.0 { 0.0 } else { center - half };
    let high = if p >= 1.0 { 1.0 } else { center + half };
    Some(Interval { low, high })
}

/// Exact two-sided McNemar test: the probability, if both were equally good, of discordant pairs
/// at least as uneven as `only_first` against `only_second`.
///
/// ```text
/// p = min(1, 2 P(X <= min(b, c))),  X ~ Binomial(b + c, 1/2)
/// ```
///
/// As even as an odd or even number of pairs can split, or without any pair, it is exactly 1.
pub fn mcnemar_exact(only_first: u64, only_second: u64) -> f64 {
    let discordant = only_first + only_second;
    let Ok(fair) = Binomial::new(0.5, discordant) else {
        return 1.0;
    };
    if only_first.abs_diff(only_second) <= 1 {
        return 1.0;
    }
    (2.0 * fair.cdf(only_first.min(only_second))).min(1.0)
}

/// Difference of two success rates on the same episodes, first minus second, with Newcombe's
/// hybrid score interval for paired proportions (Newcombe 1998, Statistics in Medicine 17:2635,
/// method 10), which stays honest when few or no pairs disagree.
///
/// `None` without pairs.
pub fn paired_rate_difference(pairs: PairedOutcomes, confidence: f64) -> Option<Difference> {
    let n = pairs.total();
    let (first, second) = (
        pairs.both + pairs.only_first,
        pairs.both + pairs.only_second,
    );
    let (a, b) = (
        wilson(first, n, confidence)?,
        wilson(second, n, confidence)?,
    );
    let (p1, p2) = (first as f64 / n as f64, second as f64 / n as f64);
    let phi = correlation(pairs);
    let reach = |u: f64, v: f64| (u * u - 2.0 * phi * u * v + v * v).max(0.0).sqrt();
    let mean = p1 - p2;
    let interval = Interval {
        low: mean - reach(p1 - a.low, b.high - p2),
        high: mean + reach(a.high - p1, p2 - b.low),
    };
    Some(Difference { mean, interval })
}

/// Newcombe's estimate of the correlation of paired outcomes, with his continuity correction.
fn correlation(pairs: PairedOutcomes) -> f64 {
    let [e, f, g, h] = [
        pairs.both,
        pairs.only_first,
        pairs.only_second,
        pairs.neither,
    ]
    .map(|count| count as f64);
    let margins = (e + f) * (g + h) * (e + g) * (f + h);
    if margins == 0.0 {
        return 0.0;
    }
    let excess = e * h - f * g;
    let half = (e + f + g + h) / 2.0;
    let corrected = if excess > 0.0 {
        (excess - half).max(0.0)
    } else {
        excess
    };
    corrected / margins.sqrt()
}

/// Mean of paired differences with a percentile bootstrap interval.
///
/// The draws come from [`Draws`] keyed by `seed`, so the interval has the same bits everywhere.
/// `None` for an empty slice, no resamples, or a value that is not finite.
pub fn paired_bootstrap(
    differences: &[f64],
    resamples: usize,
    confidence: f64,
    seed: u64,
) -> Option<Difference> {
    if resamples == 0 || differences.iter().any(|d| !d.is_finite()) {
        return None;
    }
    let mean = mean(differences)?;
    let mut draws = Draws::new(seed);
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| resampled_mean(differences, &mut draws))
        .collect();
    means.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    let interval = Interval {
        low: sorted_quantile(&means, tail),
        high: sorted_quantile(&means, 1.0 - tail),
    };
    Some(Difference { mean, interval })
}

fn resampled_mean(values: &[f64], draws: &mut Draws) -> f64 {
    let n = values.len() as u32;
    let total: f64 = (0..n).map(|_| values[draws.below(n) as usize]).sum();
    total / f64::from(n)
}

/// The smallest rise over the success rate `p` that `n` unpaired episodes per run detect with the
/// given power in a two-sided test at `1 - confidence`.
///
/// `None` when `n` is 0, an argument is outside its range, or no rise up to certainty suffices.
pub fn minimal_detectable_difference(p: f64, n: u64, confidence: f64, power: f64) -> Option<f64> {
    if n == 0 || !(0.0..1.0).contains(&p) {
        return None;
    }
    let enough =
        |q: f64| episodes_to_detect(p, q, confidence, power).is_some_and(|m| m <= n as f64);
    if !enough(1.0) {
        return None;
    }
    // The number of episodes falls as the rates part, so halving finds the crossing.
    let (mut low, mut high) = (p, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high - p)
}

/// The smallest difference of two success rates that `n` paired episodes detect with the given power in McNemar's two-sided
/// test at `1 - confidence`, where on a share `discordance` of the episodes just one of the two succeeds.
///
/// ```text
/// n = (z_a sqrt(d) + z_b sqrt(d - r²))² / r²,  d: discordance, r: difference      Connor (1987), Biometrics 43:207
/// ```
///
/// solved for `r`. The share that was seen is itself an estimate, and so is what follows from it. `None` when `n` is 0, an
/// argument is outside its range, or even a difference as large as the discordance would go undetected.
pub fn minimal_detectable_paired_difference(
    discordance: f64,
    n: u64,
    confidence: f64,
    power: f64,
) -> Option<f64> {
    let open = |x: f64| x > 0.0 && x < 1.0;
    let share = discordance > 0.0 && discordance <= 1.0;
    if n == 0 || !share || !open(confidence) || !open(power) {
        return None;
    }
    let z_size = two_sided_z(confidence);
    let z_power = Normal::standard().inverse_cdf(power);
    let (n, b) = (n as f64, z_power * z_power);
    // (n + z_b²) r² - 2 z_a sqrt(n d) r + (z_a² - z_b²) d = 0; the other root is that of a power of 1 - `power`.
    let spread = n + b - z_size * z_size;
    if spread < 0.0 {
        return None;
    }
    let root = z_size * n.sqrt() + z_power * spread.sqrt();
    let difference = discordance.sqrt() * root / (n + b);
    (difference <= discordance).then_some(difference)
}

/// Unpaired episodes per run needed to tell the success rates `p` and `q` apart.
///
/// ```text
/// n = (z_a sqrt(2 m (1-m)) + z_b sqrt(p(1-p) + q(1-q)))² / (p-q)²,  m = (p+q)/2
/// ```
///
/// `None` when the rates are equal or an argument is outside its range.
pub fn episodes_to_detect(p: f64, q: f64, confidence: f64, power: f64) -> Option<f64> {
    let share = |x: f64| (0.0..=1.0).contains(&x);
    let open = |x: f64| x > 0.0 && x < 1.0;
    if !share(p) || !share(q) || !open(confidence) || !open(power) {
        return None;
    }
    let middle = f64::midpoint(p, q);
    let z_size = two_sided_z(confidence);
    let z_power = Normal::standard().inverse_cdf(power);
    let spread = z_size * (2.0 * middle * (1.0 - middle)).sqrt()
        + z_power * (p * (1.0 - p) + q * (1.0 - q)).sqrt();
    let episodes = (spread / (p - q)).powi(2);
    episodes.is_finite().then_some(episodes)
}

/// Holm's step-down adjustment of p-values, in the order given: controls the probability of one
/// false claim among all of them.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut floor = 0.0_f64;
    for (rank, &index) in order.iter().enumerate() {
        let factor = (p_values.len() - rank) as f64;
        floor = floor.max((p_values[index] * factor).min(1.0));
        adjusted[index] = floor;
    }
    adjusted
}

/// Counter-based random integers for resampling.
///
/// The stream is the extendable output of blake3 keyed by a fixed purpose and the seed: word `k` is
/// bytes `4k..4k+4`, little endian. It depends on nothing else, so neither machine, thread count
/// nor library version moves a bootstrap interval.
#[derive(Debug, Clone)]
pub struct Draws {
    stream: blake3::OutputReader,
    block: [u8; 1024],
    used: usize,
}

impl Draws {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("jepa-bench 2026 resampling of episodes");
        hasher.update(&seed.to_le_bytes());
        Self {
            stream: hasher.finalize_xof(),
            block: [0; 1024],
            used: 1024,
        }
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == self.block.len() {
            self.stream.fill(&mut self.block);
            self.used = 0;
        }
        let mut word = [0; 4];
        word.copy_from_slice(&self.block[self.used..self.used + 4]);
        self.used += 4;
        u32::from_le_bytes(word)
    }

    /// An integer in `0..n`, every value equally likely (Lemire's multiplication with rejection).
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "an empty range holds no number");
        let reject_below = n.wrapping_neg() % n;
        loop {
            let product = u64::from(self.next_u32()) * u64::from(n);
            if product as u32 >= reject_below {
                return (product >> 32) as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!(
            (found - expected).abs() <= tolerance,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn wilson_matches_values_worked_out_by_hand() {
        // z = 1.959963984540054, z² = 3.841458820694124.
        // 82/96: p = 0.8541667, centre = (p + z²/192)/(1 + z²/96) = 0.8405399,
        // half = z/(1 + z²/96) sqrt(p(1-p)/96 + z²/36864) = 0.0705580.
        let interval = wilson(82, 96, 0.95).unwrap();
        close(interval.low, 0.769_981_850, 1e-8);
        close(interval.high, 0.911_097_942, 1e-8);
        // 0/n: high = z²/(n + z²) = 3.8414588/99.8414588; n/n is its mirror.
        assert_eq!(wilson(0, 96, 0.95).unwrap().low, 0.0);
        close(wilson(0, 96, 0.95).unwrap().high, 0.038_475_59, 1e-8);
        assert_eq!(wilson(96, 96, 0.95).unwrap().high, 1.0);
        close(wilson(96, 96, 0.95).unwrap().low, 0.961_524_41, 1e-8);
    }

    #[test]
    fn undefined_values_are_none() {
        assert_eq!(wilson(0, 0, 0.95), None);
        assert_eq!(wilson(3, 2, 0.95), None);
        assert_eq!(wilson(1, 2, 1.0), None);
        assert_eq!(mean(&[]), None);
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[1.0, f64::NAN], 0.5), None);
        assert_eq!(quantile(&[1.0], 1.5), None);
        assert_eq!(paired_bootstrap(&[], 100, 0.95, 1), None);
        assert_eq!(paired_bootstrap(&[1.0, f64::INFINITY], 100, 0.95, 1), None);
        assert_eq!(
            paired_rate_difference(PairedOutcomes::default(), 0.95),
            None
        );
        assert_eq!(episodes_to_detect(0.5, 0.5, 0.95, 0.8), None);
        assert_eq!(minimal_detectable_difference(0.5, 0, 0.95, 0.8), None);
        assert_eq!(minimal_detectable_difference(0.9, 2, 0.95, 0.8), None);
    }

    #[test]
    fn quantiles_interpolate_like_numpy() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&values, 0.25), Some(1.75));
        assert_eq!(quantile(&values, 0.5), Some(2.5));
        assert_eq!(quantile(&values, 1.0), Some(4.0));
        assert_eq!(quantile(&[7.0], 0.9), Some(7.0));
    }

    #[test]
    fn mcnemar_matches_values_worked_out_by_hand() {
        // 2 (C(10,0) + C(10,1) + C(10,2)) / 2^10 = 2 * 56 / 1024
        close(mcnemar_exact(2, 8), 0.109_375, 1e-12);
        close(mcnemar_exact(0, 6), 2.0 / 64.0, 1e-12);
        assert_eq!(mcnemar_exact(0, 0), 1.0);
        assert_eq!(mcnemar_exact(5, 5), 1.0);
        assert_eq!(mcnemar_exact(1, 0), 1.0);
    }

    #[test]
    fn paired_rates_match_newcombe_table() {
        // Newcombe 1998, table II: 36, 12, 2, 0 of 50; method 10 gives 0.0569 to 0.3404.
        let pairs = PairedOutcomes {
            both: 36,
            only_first: 12,
            only_second: 2,
            neither: 0,
        };
        let difference = paired_rate_difference(pairs, 0.95).unwrap();
        close(difference.mean, 0.2, 1e-12);
        close(difference.interval.low, 0.0569, 5e-5);
        close(difference.interval.high, 0.3404, 5e-5);
    }

    #[test]
    fn a_thousand_episodes_are_too_few_for_small_rises() {
        // 85 % against 90 %: 686 episodes per arm at 80 % power.
        assert_eq!(
            episodes_to_detect(0.85, 0.90, 0.95, 0.8).unwrap().ceil(),
            686.0
        );
        let rise = minimal_detectable_difference(0.85, 686, 0.95, 0.8).unwrap();
        close(rise, 0.05, 1e-4);
        assert!(minimal_detectable_difference(0.85, 96, 0.95, 0.8).unwrap() > 0.1);
    }

    #[test]
    fn paired_comparisons_detect_less_the_more_pairs_disagree() {
        // z_a = 1.959963985, z_b = 0.841621234; 100 pairs, 0.3 of them discordant:
        // sqrt(0.3) (1.959963985 * 10 + 0.841621234 sqrt(100 + 0.708326 - 3.841459)) / 100.708326 = 0.151647091.
        let found = |d, n| minimal_detectable_paired_difference(d, n, 0.95, 0.8);
        close(found(0.3, 100).unwrap(), 0.151_647_091, 1e-9);
        // Back into Connor's formula, it takes the 100 pairs.
        let r: f64 = found(0.3, 100).unwrap();
        let spread = 1.959_963_985 * 0.3_f64.sqrt() + 0.841_621_234 * (0.3 - r * r).sqrt();
        close((spread / r).powi(2), 100.0, 1e-5);
        assert!(found(0.1, 100) < found(0.3, 100) && found(0.3, 400) < found(0.3, 100));
        assert_eq!(found(0.01, 100), None);
        assert_eq!(
            (found(0.0, 100), found(1.1, 100), found(0.3, 0)),
            (None, None, None)
        );
        assert_eq!(
            minimal_detectable_paired_difference(0.3, 100, 1.0, 0.8),
            None
        );
    }

    #[test]
    fn holm_multiplies_the_smallest_most_and_keeps_order() {
        let adjusted = holm(&[0.01, 0.04, 0.03]);
        close(adjusted[0], 0.03, 1e-12);
        close(adjusted[1], 0.06, 1e-12);
        close(adjusted[2], 0.06, 1e-12);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn draws_have_fixed_bits() {
        let mut draws = Draws::new(1);
        let first: Vec<u32> = (0..300).map(|_| draws.below(96)).collect();
        let mut again = Draws::new(1);
        assert!(first.iter().all(|&v| v == again.below(96) && v < 96));
        assert_ne!(Draws::new(2).next_u32(), Draws::new(1).next_u32());
        assert_eq!(Draws::new(5).below(1), 0);
    }

    #[test]
    fn equal_differences_have_a_point_interval() {
        let difference = paired_bootstrap(&[0.5; 20], 200, 0.95, 9).unwrap();
        assert_eq!(difference.mean, 0.5);
        assert_eq!(
            difference.interval,
            Interval {
                low: 0.5,
                high: 0.5
            }
        );
    }

    proptest! {
        #[test]
        fn wilson_contains_the_rate_and_mirrors(n in 1u64..500, share in 0.0f64..=1.0) {
            let k = (share * n as f64).round() as u64;
            let interval = wilson(k, n, 0.95).unwrap();
            prop_assert!(interval.contains(k as f64 / n as f64));
            prop_assert!(0.0 <= interval.low && interval.high <= 1.0);
            let mirror = wilson(n - k, n, 0.95).unwrap();
            prop_assert!((interval.low - (1.0 - mirror.high)).abs() < 1e-12);
        }

        #[test]
        fn mcnemar_is_symmetric_and_a_probability(b in 0u64..200, c in 0u64..200) {
            let p = mcnemar_exact(b, c);
            prop_assert!((0.0..=1.0).contains(&p));
            prop_assert_eq!(p, mcnemar_exact(c, b));
        }

        #[test]
        fn bootstrap_follows_shift_and_sign(
            values in prop::collection::vec(-10.0f64..10.0, 2..40), shift in -5.0f64..5.0,
        ) {
            let base = paired_bootstrap(&values, 200, 0.95, 3).unwrap();
            let moved: Vec<f64> = values.iter().map(|v| v + shift).collect();
            let moved = paired_bootstrap(&moved, 200, 0.95, 3).unwrap();
            prop_assert!((moved.interval.low - base.interval.low - shift).abs() < 1e-9);
            let flipped: Vec<f64> = values.iter().map(|v| -v).collect();
            let flipped = paired_bootstrap(&flipped, 200, 0.95, 3).unwrap();
            prop_assert!((flipped.interval.low + base.interval.high).abs() < 1e-9);
            prop_assert!(base.interval.low <= base.mean + 1e-9 && base.mean <= base.interval.high + 1e-9);
        }

        #[test]
        fn swapping_runs_mirrors_the_paired_difference(
            both in 0u64..50, first in 0u64..50, second in 0u64..50, neither in 1u64..50,
        ) {
            let pairs = PairedOutcomes { both, only_first: first, only_second: second, neither };
            let swapped = PairedOutcomes { both, only_first: second, only_second: first, neither };
            let (a, b) = (paired_rate_difference(pairs, 0.95).unwrap(), paired_rate_difference(swapped, 0.95).unwrap());
            prop_assert!((a.mean + b.mean).abs() < 1e-12);
            prop_assert!((a.interval.low + b.interval.high).abs() < 1e-12);
            prop_assert!(a.interval.contains(a.mean));
        }
    }
}
