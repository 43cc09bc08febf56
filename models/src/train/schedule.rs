//! Learning rate over the steps of a run.

use super::config::TrainingConfig;

/// Learning rate of step `step`, counted from 1: linear warm-up, then a cosine down to the final share.
///
/// Past the last step the rate stays at its final value.
pub(crate) fn learning_rate(config: &TrainingConfig, step: u64) -> f64 {
    let (step, steps) = (step as f64, config.steps as f64);
    let warmup = (config.warmup_fraction * steps).floor();
    if step <= warmup {
        return config.learning_rate * step / warmup;
    }
    let progress = ((step - warmup) / (steps - warmup)).min(1.0);
    let lowest = config.learning_rate * config.final_fraction;
    lowest
        + (config.learning_rate - lowest) * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress))
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
    fn without_warm_up_the_first_step_is_near_the_peak() {
        let config = TrainingConfig {
            steps: 10,
            learning_rate: 1.0,
            warmup_fraction: 0.0,
            ..TrainingConfig::default()
        };
        assert!(learning_rate(&config, 1) > 0.97);
    }
}
