//! Probabilities of scheduled sampling: how often a model trains on encoded frames in place of its own
//! predictions (models.md section 4.4; arXiv 1506.03099).

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The path from the first probability to the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplingCurve {
    /// `s - (s - e) x`
    #[default]
    Linear,
    /// `s (e / s)^x`
    Exponential,
    /// `s + (e - s) sigmoid(10 (x - 1/2))`; it starts and ends a little inside of `s` and `e`.
    Sigmoid,
}

/// Probability that a context element is the encoded frame and not the prediction of it. Off by default, as in
/// every recipe of the paper.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduledSampling {
    /// Path between the two.
    pub curve: SamplingCurve,
    /// Probability `s` at the beginning of training, `[0, 1]`.
    pub start: f64,
    /// Probability `e` at its end, `[0, 1]`.
    pub end: f64,
}

impl ScheduledSampling {
    /// Whether no frame is ever replaced.
    pub(crate) fn is_off(&self) -> bool {
        self.start <= 0.0 && self.end <= 0.0
    }

    /// Probability after the share `progress = i / N` of the steps.
    pub(crate) fn probability(&self, progress: f64) -> f64 {
        if self.is_off() {
            return 0.0;
        }
        let (start, end) = (self.start, self.end);
        match self.curve {
            SamplingCurve::Linear => start - (start - end) * progress,
            SamplingCurve::Exponential => start * libm::pow(end / start, progress),
            SamplingCurve::Sigmoid => {
                let share = 1.0 / (1.0 + libm::exp(-10.0 * (progress - 0.5)));
                start + (end - start) * share
            }
        }
    }

    /// Checks every value that the type does not bound.
    ///
    /// # Errors
    /// [`Error::Config`] that names the value.
    pub(crate) fn check(&self) -> Result<()> {
        let values = [
            ("loss.scheduled_sampling.start", self.start),
            ("loss.scheduled_sampling.end", self.end),
        ];
        for (key, value) in values {
            if !(0.0..=1.0).contains(&value) {
                let detail = format!("must be in [0, 1], is {value}");
                return Err(Error::Config { key, detail });
            }
        }
        if self.curve == SamplingCurve::Exponential && self.start <= 0.0 && !self.is_off() {
            return Err(Error::Config {
                key: "loss.scheduled_sampling.start",
                detail: "must be above 0 for `exponential`, which multiplies it".into(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probabilities(curve: SamplingCurve) -> [f64; 3] {
        let sampling = ScheduledSampling {
            curve,
            start: 0.8,
            end: 0.2,
        };
        sampling.check().unwrap();
        [0.0, 0.5, 1.0].map(|progress| sampling.probability(progress))
    }

    #[test]
    fn probabilities_at_the_beginning_half_way_and_at_the_end() {
        // Half-way: the mean, the geometric mean, the mean. sigmoid(-5) = 0.0066928509.
        let expected = [
            (SamplingCurve::Linear, [0.8, 0.5, 0.2]),
            (SamplingCurve::Exponential, [0.8, 0.4, 0.2]),
            (SamplingCurve::Sigmoid, [0.795_984_289, 0.5, 0.204_015_711]),
        ];
        for (curve, expected) in expected {
            for (ours, expected) in probabilities(curve).iter().zip(expected) {
                assert!(
                    (ours - expected).abs() < 1e-8,
                    "{curve:?}: {ours} {expected}"
                );
            }
        }
    }

    #[test]
    fn nothing_is_replaced_by_default_on_any_curve() {
        let off = ScheduledSampling {
            curve: SamplingCurve::Exponential,
            ..ScheduledSampling::default()
        };
        assert!(off.check().is_ok() && off.is_off());
        assert!(off.probability(0.5).abs() < f64::EPSILON);
    }

    #[test]
    fn probabilities_out_of_range_are_refused() {
        let refused = |curve, start, end| ScheduledSampling { curve, start, end }.check().is_err();
        assert!(refused(SamplingCurve::Linear, 1.1, 0.0));
        assert!(refused(SamplingCurve::Linear, 0.0, f64::NAN));
        assert!(refused(SamplingCurve::Exponential, 0.0, 0.5));
        assert!(!refused(SamplingCurve::Exponential, 0.5, 0.0));
    }
}
