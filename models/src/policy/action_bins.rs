//! Actions as tokens: every number of an action is one of `B` bins (VLA-0; models.md section 8.6).
//!
//! ```text
//! token = floor(B (a - low) / (high - low))        value = low + (token + 1/2) (high - low) / B
//! ```
//!
//! The bins of a dimension are equally wide and lie between the smallest and the largest action of the training split,
//! ends included. **Beyond them a number falls into the first or the last bin**: of a demonstration the difference is
//! lost (a validation says how often that happened; in the training split it cannot), and a policy cannot act beyond what
//! it was shown. A dimension that never changes is always token 0, whose value is the constant. VLA-0 rounds to the
//! nearest of `B + 1` whole numbers; here the middles of bins stand for them, half a bin off at most either way.

use jepa_datasets::{Normalizer, Statistics};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Equally wide bins per dimension of an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionBins {
    /// Bins `B` of a dimension.
    pub count: usize,
    /// Lower end of the first bin, per dimension.
    pub low: Vec<f64>,
    /// Upper end of the last bin, per dimension.
    pub high: Vec<f64>,
}

impl ActionBins {
    /// Bins between the smallest and the largest action of some statistics.
    pub(crate) fn between_extremes(statistics: &Statistics, count: usize) -> Result<Self> {
        let (low, high) = (statistics.min.clone(), statistics.max.clone());
        if low.iter().chain(&high).all(|end| end.is_finite()) {
            return Ok(Self { count, low, high });
        }
        Err(Error::Config {
            key: "data",
            detail: format!("has actions from {low:?} to {high:?}, which cannot be cut into bins"),
        })
    }

    /// The same bins of normalised actions.
    pub(crate) fn normalised(&self, normalizer: &Normalizer) -> Self {
        // In single precision, as the actions of slices are: an extreme then stays one.
        let ends = |values: &[f64]| -> Vec<f64> {
            let mut ends: Vec<f32> = values.iter().map(|value| *value as f32).collect();
            normalizer.normalize(&mut ends);
            ends.into_iter().map(f64::from).collect()
        };
        Self {
            count: self.count,
            low: ends(&self.low),
            high: ends(&self.high),
        }
    }

    /// Numbers in an action.
    pub(crate) fn width(&self) -> usize {
        self.low.len()
    }

    /// The bin of a number, the nearest one if it is in none.
    pub(crate) fn token(&self, dimension: usize, value: f64) -> usize {
        let (low, high) = (self.low[dimension], self.high[dimension]);
        if high <= low {
            return 0;
        }
        let place = (value - low) / (high - low) * self.count as f64;
        (place.max(0.0) as usize).min(self.count - 1)
    }

    /// The middle of a bin.
    pub(crate) fn value(&self, dimension: usize, token: usize) -> f64 {
        let (low, high) = (self.low[dimension], self.high[dimension]);
        low + (token as f64 + 0.5) / self.count as f64 * (high - low)
    }

    /// Whether a number is in one of the bins.
    pub(crate) fn holds(&self, dimension: usize, value: f64) -> bool {
        (self.low[dimension]..=self.high[dimension]).contains(&value)
    }

    /// Tokens of actions, one after the other.
    pub(crate) fn tokens(&self, actions: &[f32]) -> Vec<usize> {
        let numbers = actions.iter().enumerate();
        numbers
            .map(|(at, value)| self.token(at % self.width(), f64::from(*value)))
            .collect()
    }

    /// Actions of tokens, one after the other.
    pub(crate) fn actions(&self, tokens: &[usize]) -> Vec<f64> {
        let tokens = tokens.iter().enumerate();
        tokens
            .map(|(at, token)| self.value(at % self.width(), *token))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bins(count: usize) -> ActionBins {
        ActionBins {
            count,
            low: vec![-1.0, 0.5],
            high: vec![3.0, 0.5],
        }
    }

    #[test]
    fn numbers_come_back_to_half_a_bin_and_middles_exactly() {
        let bins = bins(1000);
        let half = 0.5 * 4.0 / 1000.0;
        for i in 0..=4000 {
            let value = -1.0 + f64::from(i) * 0.001;
            let back = bins.value(0, bins.token(0, value));
            assert!((back - value).abs() <= half + 1e-12, "{value} {back}");
        }
        for token in 0..1000 {
            assert_eq!(bins.token(0, bins.value(0, token)), token);
        }
    }

    #[test]
    fn ends_belong_to_the_outer_bins_and_edges_to_the_upper_one() {
        // Four bins of width 1: [-1, 0), [0, 1), [1, 2), [2, 3].
        let bins = bins(4);
        let tokens = [-1.0, -0.01, 0.0, 1.0, 2.5, 3.0].map(|value| bins.token(0, value));
        assert_eq!(tokens, [0, 0, 1, 2, 3, 3]);
        let values: Vec<f64> = (0..4).map(|token| bins.value(0, token)).collect();
        assert_eq!(values, [-0.5, 0.5, 1.5, 2.5]);
    }

    #[test]
    fn numbers_outside_fall_into_the_outer_bins_and_are_told_apart() {
        let bins = bins(4);
        for (value, token) in [(-9.0, 0), (f64::NEG_INFINITY, 0), (3.001, 3), (1e30, 3)] {
            assert_eq!(bins.token(0, value), token, "{value}");
            assert!(!bins.holds(0, value), "{value}");
        }
        assert!(bins.holds(0, -1.0) && bins.holds(0, 3.0) && bins.holds(0, 0.0));
    }

    #[test]
    fn a_constant_dimension_is_one_token_and_its_value() {
        let bins = bins(7);
        assert_eq!([0.4, 0.5, 0.6].map(|value| bins.token(1, value)), [0; 3]);
        assert_eq!(bins.actions(&[0, 0])[1].to_bits(), 0.5f64.to_bits());
    }

    #[test]
    fn normalised_bins_give_normalised_actions_the_same_tokens() {
        let bins = ActionBins {
            count: 10,
            low: vec![-1.799_183_845_520_019_5, -2.0],
            high: vec![1.794_392_585_754_394_5, 6.0],
        };
        let normalizer = Normalizer {
            mean: vec![-0.007_933_95, 1.3],
            std: vec![0.751_277, 0.3],
        };
        // Extremes, and numbers well inside their bins.
        let native = [
            bins.low[0],
            bins.low[1],
            bins.high[0],
            bins.high[1],
            0.2,
            0.1,
            -1.3,
            4.9,
        ]
        .map(|value| value as f32);
        let mut scaled = native;
        normalizer.normalize(&mut scaled);
        let of_scaled = bins.normalised(&normalizer);
        assert_eq!(of_scaled.tokens(&scaled), bins.tokens(&native));
        assert_eq!(bins.tokens(&native)[..4], [0, 0, 9, 9]);
        let inside = scaled.iter().enumerate();
        let mut inside = inside.map(|(at, value)| of_scaled.holds(at % 2, f64::from(*value)));
        assert!(inside.all(|holds| holds));
    }
}
