//! Rank correlation, and the smoothing that comes before it (evaluation.md section 4.4).

use super::mean;

/// Exponential moving average: `s_0 = x_0`, `s_t = alpha x_t + (1 - alpha) s_{t-1}`.
///
/// `None` when `alpha` is not in `(0, 1]`; 1 smooths nothing.
pub fn smoothed(values: &[f64], alpha: f64) -> Option<Vec<f64>> {
    if !(alpha > 0.0 && alpha <= 1.0) {
        return None;
    }
    let mut last: Option<f64> = None;
    let smooth = |&value: &f64| {
        let next = last.map_or(value, |last| alpha * value + (1.0 - alpha) * last);
        last = Some(next);
        next
    };
    Some(values.iter().map(smooth).collect())
}

/// Spearman's rank correlation: Pearson's of the ranks, equal values sharing the average of theirs.
///
/// `None` for lists of different or less than two values, a value that is not finite, or one that never changes.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    let finite = x.iter().chain(y).all(|value| value.is_finite());
    if x.len() != y.len() || !finite {
        return None;
    }
    pearson(&average_ranks(x), &average_ranks(y))
}

/// Pearson's correlation; `None` where a list has no spread.
fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let (mean_x, mean_y) = (mean(x)?, mean(y)?);
    let deviations = || x.iter().zip(y).map(|(x, y)| (x - mean_x, y - mean_y));
    let product: f64 = deviations().map(|(x, y)| x * y).sum();
    let squares_x: f64 = deviations().map(|(x, _)| x * x).sum();
    let squares_y: f64 = deviations().map(|(_, y)| y * y).sum();
    // Ranks are multiples of one half: sums are exact, lists without spread have 0, and of equal orders the root is too.
    let spread = (squares_x * squares_y).sqrt();
    (spread > 0.0).then(|| (product / spread).clamp(-1.0, 1.0))
}

/// Ranks from 1, in the order of the values; equal ones share the mean of the ranks that they take up.
fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    while first < order.len() {
        let value = values[order[first]];
        let tied = order[first..].iter().take_while(|&&k| values[k] <= value);
        let tied = tied.count().max(1);
        for &k in &order[first..first + tied] {
            ranks[k] = first as f64 + f64::midpoint(1.0, tied as f64);
        }
        first += tied;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-12,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn equal_values_share_the_average_of_their_ranks() {
        let ranks = average_ranks(&[3.0, 1.0, 3.0, 0.0, 3.0]);
        assert_eq!(ranks, [4.0, 2.0, 4.0, 1.0, 4.0]);
        assert_eq!(average_ranks(&[0.0, -0.0, 1.0]), [1.5, 1.5, 3.0]);
        assert!(average_ranks(&[]).is_empty());
    }

    #[test]
    fn a_correlation_with_ties_is_that_worked_out_by_hand() {
        // Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: products of deviations 2.25 + 0 + 0 + 2.25 = 4.5, squares 4.5 and 5.
        let found = spearman(&[1.0, 2.0, 2.0, 9.0], &[0.1, 0.3, 0.2, 0.4]).unwrap();
        close(found, 4.5 / (4.5_f64 * 5.0).sqrt());
        // Without ties: 1 - 6 sum d^2 / (n (n^2 - 1)), d = 1, -1, 0, 0, 0.
        let found = spearman(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 1.0, 3.0, 4.0, 5.0]).unwrap();
        close(found, 1.0 - 6.0 * 2.0 / (5.0 * 24.0));
    }

    #[test]
    fn what_never_changes_or_is_not_a_number_has_no_correlation() {
        assert_eq!(spearman(&[], &[]), None);
        assert_eq!(spearman(&[1.0], &[1.0]), None);
        assert_eq!(spearman(&[1.0, 2.0], &[3.0, 3.0]), None);
        assert_eq!(spearman(&[1.0, 2.0], &[3.0]), None);
        assert_eq!(spearman(&[1.0, f64::NAN], &[3.0, 4.0]), None);
    }

    #[test]
    fn smoothing_follows_the_formula() {
        assert_eq!(smoothed(&[4.0, 8.0, 0.0], 0.25).unwrap(), [4.0, 5.0, 3.75]);
        assert_eq!(smoothed(&[4.0, 8.0], 1.0).unwrap(), [4.0, 8.0]);
        assert_eq!(smoothed(&[], 0.2), Some(Vec::new()));
        for alpha in [0.0, -0.1, 1.1, f64::NAN] {
            assert_eq!(smoothed(&[1.0], alpha), None);
        }
    }

    proptest! {
        #[test]
        fn only_the_order_counts(pairs in prop::collection::vec((0_u8..6, 0_u8..6), 2..20)) {
            let (x, y): (Vec<f64>, Vec<f64>) =
                pairs.iter().map(|&(x, y)| (f64::from(x), f64::from(y))).unzip();
            let found = spearman(&x, &y);
            let stretched: Vec<f64> = x.iter().map(|x| x.powi(3) + 2.0).collect();
            prop_assert_eq!(found, spearman(&stretched, &y));
            let mirrored: Vec<f64> = y.iter().map(|y| -y).collect();
            let opposite = spearman(&x, &mirrored).map(|rho| -rho);
            match (found, opposite) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() < 1e-12 && a.abs() <= 1.0),
                (a, b) => prop_assert_eq!(a, b),
            }
        }
    }
}
