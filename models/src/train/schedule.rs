//! Learning rate and weight decay over the steps of a run.
//!
//! [`learning_rate`] and [`weight_decay`] are what a training configuration says; [`RateSchedule`] and
//! [`DecaySchedule`] are the same in absolute numbers, as the reference has them (models.md section 5.1). Steps count
//! from 1, and the value of a step is what the optimiser uses in it. Past the last step every schedule stays where it
//! ended.

use serde::{Deserialize, Serialize};

use super::config::{Schedule, TrainingConfig};

/// Learning rate of step `step`, counted from 1: a linear warm-up, then what the schedule says.
///
/// Past the last step the rate stays at its final value.
pub(crate) fn learning_rate(config: &TrainingConfig, step: u64) -> f64 {
    if config.schedule == Schedule::WarmupStableDecay {
        let steps = |share: f64| (share * config.steps as f64).floor() as u64;
        let schedule = RateSchedule::WarmupStableDecay {
            start: config.learning_rate * config.start_fraction,
            peak: config.learning_rate,
            last: config.learning_rate * config.final_fraction,
            warmup_steps: steps(config.warmup_fraction),
            anneal_steps: steps(config.anneal_fraction),
        };
        return schedule.at(step, config.steps);
    }
    let (step, steps) = (step as f64, config.steps as f64);
    let warmup = (config.warmup_fraction * steps).floor();
    if step <= warmup {
        let start = config.learning_rate * config.start_fraction;
        return start + (config.learning_rate - start) * step / warmup;
    }
    let progress = ((step - warmup) / (steps - warmup)).min(1.0);
    let lowest = config.learning_rate * config.final_fraction;
    half_cosine(config.learning_rate, lowest, progress)
}

/// Weight decay of step `step`, counted from 1.
pub(crate) fn weight_decay(config: &TrainingConfig, step: u64) -> f64 {
    let last = config.weight_decay;
    let start = last * config.initial_decay_fraction;
    DecaySchedule { start, last }.at(step, config.steps)
}

/// From `from` to `to` along half a cosine, `progress` in `[0, 1]`.
fn half_cosine(from: f64, to: f64, progress: f64) -> f64 {
    to + (from - to) * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress))
}

/// Learning rate of a token-grid model. The default is that of the paper's models: constant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum RateSchedule {
    /// A line from `start` to `peak`, then half a cosine to `last`.
    WarmupCosine {
        /// Rate that the warm-up begins above.
        start: f64,
        /// Rate of the last warm-up step.
        peak: f64,
        /// Rate of the last step.
        last: f64,
        /// Steps of the warm-up.
        warmup_steps: u64,
    },
    /// A line from `start` to `peak`, a plateau, then a line to `last`; V-JEPA-2-AC's. The released code goes on
    /// along the last line past the end, below zero; here the rate stays at `last`.
    WarmupStableDecay {
        /// Rate that the warm-up begins above.
        start: f64,
        /// Rate of the plateau.
        peak: f64,
        /// Rate of the last step.
        last: f64,
        /// Steps of the warm-up.
        warmup_steps: u64,
        /// Steps of the last line.
        anneal_steps: u64,
    },
}

impl Default for RateSchedule {
    fn default() -> Self {
        Self::WarmupCosine {
            start: 5e-4,
            peak: 5e-4,
            last: 5e-4,
            warmup_steps: 0,
        }
    }
}

impl RateSchedule {
    /// Rate of step `step` of `steps`.
    pub(crate) fn at(&self, step: u64, steps: u64) -> f64 {
        match *self {
            Self::WarmupCosine {
                start,
                peak,
                last,
                warmup_steps,
            } => {
                if step < warmup_steps {
                    return line(start, peak, step, warmup_steps);
                }
                let (done, all) = (step - warmup_steps, steps.saturating_sub(warmup_steps));
                half_cosine(peak, last, share(done, all))
            }
            Self::WarmupStableDecay {
                start,
                peak,
                last,
                warmup_steps,
                anneal_steps,
            } => {
                if step < warmup_steps {
                    return line(start, peak, step, warmup_steps);
                }
                let plateau_end = steps.saturating_sub(anneal_steps).max(warmup_steps);
                if step < plateau_end {
                    return peak;
                }
                line(peak, last, step - plateau_end, anneal_steps)
            }
        }
    }
}

/// Weight decay of a token-grid model, along half a cosine. The default rises, as in the paper's models.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DecaySchedule {
    /// Decay before the first step.
    pub start: f64,
    /// Decay of the last step.
    pub last: f64,
}

impl Default for DecaySchedule {
    fn default() -> Self {
        Self {
            start: 1e-7,
            last: 1e-6,
        }
    }
}

impl DecaySchedule {
    /// Weight decay of step `step` of `steps`.
    pub(crate) fn at(&self, step: u64, steps: u64) -> f64 {
        half_cosine(self.start, self.last, share(step, steps))
    }
}

/// From `from` at step 0 to `to` at step `all`, and no further.
fn line(from: f64, to: f64, step: u64, all: u64) -> f64 {
    from + (to - from) * share(step, all)
}

/// `step / all`, at most 1.
fn share(step: u64, all: u64) -> f64 {
    (step as f64 / all.max(1) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_the_peak_and_falls_to_its_final_share() {
        let config = TrainingConfig {
            steps: 100,
            learning_rate: 2.0,
            ..TrainingConfig::default()
        };
        let rate = |step| learning_rate(&config, step);
        assert!((rate(1) - 0.2).abs() < 1e-12);
        assert!((rate(10) - 2.0).abs() < 1e-12);
        // Half-way through the cosine: the mean of 2 and 0.02.
        assert!((rate(55) - 1.01).abs() < 1e-12);
        assert!((rate(100) - 0.02).abs() < 1e-12);
        assert!((rate(150) - 0.02).abs() < 1e-12);
        assert!((1..100).all(|s| rate(s) > 0.0));
    }

    #[test]
    fn shares_give_the_schedules_of_the_reference() {
        // V-JEPA-2-AC: 7.5e-5 to 4.25e-4 to 0, 15 of 315 epochs at either end (models.md section 5.3).
        let share = 15.0 / 315.0;
        let config = TrainingConfig {
            steps: 315,
            learning_rate: 4.25e-4,
            schedule: Schedule::WarmupStableDecay,
            start_fraction: 7.5 / 42.5,
            warmup_fraction: share,
            anneal_fraction: share,
            final_fraction: 0.0,
            ..TrainingConfig::default()
        };
        let reference = RateSchedule::WarmupStableDecay {
            start: 7.5e-5,
            peak: 4.25e-4,
            last: 0.0,
            warmup_steps: 15,
            anneal_steps: 15,
        };
        for step in 1..=320 {
            let (ours, theirs) = (learning_rate(&config, step), reference.at(step, 315));
            assert!((ours - theirs).abs() < 1e-15, "{step}: {ours} {theirs}");
        }
        // The paper's models: decay from 1e-7 to 1e-6.
        let config = TrainingConfig {
            steps: 100,
            weight_decay: 1e-6,
            initial_decay_fraction: 0.1,
            ..config
        };
        for step in 1..=100 {
            let theirs = DecaySchedule::default().at(step, 100);
            let ours = weight_decay(&config, step);
            assert!((ours - theirs).abs() < 1e-18, "{step}: {ours} {theirs}");
        }
    }

    #[test]
    fn without_warm_up_the_first_step_is_near_the_peak() {
        let config = TrainingConfig {
            steps: 10,
            learning_rate: 1.0,
            warmup_fraction: 0.0,
            ..TrainingConfig::default()
        };
        assert!(learning_rate(&config, 1) > 0.97);
    }

    #[test]
    fn weight_decay_rises_along_half_a_cosine_and_stays() {
        // models.md section 5.1.
        let decay = |step| DecaySchedule::default().at(step, 100);
        for (step, expected) in [(1, 1.00222e-7), (25, 2.31802e-7), (50, 5.5e-7), (100, 1e-6)] {
            assert!(
                (decay(step) - expected).abs() < 1e-12,
                "{step}: {}",
                decay(step)
            );
        }
        assert!((decay(130) - 1e-6).abs() < 1e-18);
    }

    #[test]
    fn the_rate_of_the_papers_models_is_constant() {
        let rate = RateSchedule::default();
        assert!((0..200).all(|step| (rate.at(step, 100) - 5e-4).abs() < 1e-18));
    }

    #[test]
    fn a_plateau_lies_between_two_lines_and_the_last_one_ends() {
        let rate = RateSchedule::WarmupStableDecay {
            start: 1.0,
            peak: 3.0,
            last: 0.5,
            warmup_steps: 4,
            anneal_steps: 5,
        };
        let values = [1, 4, 5, 15, 16, 18, 20, 25, 1000].map(|step| rate.at(step, 20));
        let expected = [1.5, 3.0, 3.0, 3.0, 2.5, 1.5, 0.5, 0.5, 0.5];
        let close = values
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close, "{values:?}");
    }

    #[test]
    fn warm_up_reaches_the_peak_and_the_cosine_the_last_rate() {
        let rate = RateSchedule::WarmupCosine {
            start: 1.0,
            peak: 3.0,
            last: 0.5,
            warmup_steps: 4,
        };
        let values = [1, 4, 12, 20, 28].map(|step| rate.at(step, 20));
        // Half-way through the cosine: the mean of 3 and 0.5.
        let expected = [1.5, 3.0, 1.75, 0.5, 0.5];
        let close = values
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close, "{values:?}");
    }
}
