//! Noise whose power falls with frequency along the steps of a plan.
//!
//! ```text
//! x_t = sqrt(p_0) z_0 + sum_{0<k<H/2} sqrt(2 p_k) (z_{2k-1} cos(2 pi k t / H) + z_{2k} sin(2 pi k t / H))
//!       + sqrt(p_{H/2}) (-1)^t z_{H-1}                                          the last one for even H
//! p_k = max(k, 1)^-exponent / sum of the same over all H frequencies of the two-sided spectrum
//! ```
//!
//! `H` normal numbers become `H` numbers with variance 1 at every step and the spectrum `p_k`. The map is linear and real,
//! so given normals give given noise; with exponent 0 it is a rotation, and the noise stays white. The usual generator
//! (Timmer and Koenig 1995, A&A 300:707, behind the `colorednoise` package of iCEM) draws complex amplitudes with the same
//! power at every frequency above 0; it leaves the constant part out when it sets the variance to 1, this one does not.

use crate::planner::ActionBatch;

/// The map from normal numbers to coloured noise along `H` steps.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Coloured {
    horizon: usize,
    /// Weight of normal number `k` in step `t`, `[H, H]`, row-major by `t`.
    weights: Vec<f64>,
}

impl Coloured {
    /// Noise with power `frequency^-exponent` along `horizon` steps, at least 1.
    pub(super) fn new(horizon: usize, exponent: f64) -> Self {
        let power = |k: usize| libm::pow(k.max(1) as f64, -exponent);
        let total: f64 = (0..horizon).map(|k| power(k.min(horizon - k))).sum();
        let share = |k: usize| power(k) / total;
        let mut weights = Vec::with_capacity(horizon * horizon);
        for step in 0..horizon {
            weights.push(share(0).sqrt());
            for k in 1..horizon.div_ceil(2) {
                let height = (2.0 * share(k)).sqrt();
                let angle = turn(k * step, horizon);
                weights.push(height * libm::cos(angle));
                weights.push(height * libm::sin(angle));
            }
            if horizon.is_multiple_of(2) {
                let sign = if step.is_multiple_of(2) { 1.0 } else { -1.0 };
                weights.push(sign * share(horizon / 2).sqrt());
            }
        }
        Self { horizon, weights }
    }

    /// Turns the normal numbers of `batch`, `[S, H, A]`, into noise that is coloured along `H`.
    pub(super) fn apply(&self, batch: &mut ActionBatch) {
        let (horizon, width) = (self.horizon, batch.shape.width);
        let mut normals = vec![0.0; horizon * width];
        for candidate in batch.values.chunks_exact_mut(horizon * width) {
            normals.copy_from_slice(candidate);
            for (block, weights) in candidate
                .chunks_exact_mut(width)
                .zip(self.weights.chunks_exact(horizon))
            {
                block.fill(0.0);
                for (weight, normals) in weights.iter().zip(normals.chunks_exact(width)) {
                    for (sum, normal) in block.iter_mut().zip(normals) {
                        *sum += weight * normal;
                    }
                }
            }
        }
    }
}

/// `part` of `whole` turns, in radians; whole turns are left out before they cost digits.
fn turn(part: usize, whole: usize) -> f64 {
    2.0 * std::f64::consts::PI * (part % whole) as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::testing::{SeededNoise, assert_close};
    use crate::planner::{Noise, PlanShape};

    /// Covariance of the noise at steps `t` and `u`: the normals have the identity.
    fn covariance(noise: &Coloured, t: usize, u: usize) -> f64 {
        let row = |t: usize| &noise.weights[t * noise.horizon..][..noise.horizon];
        row(t).iter().zip(row(u)).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn the_noise_is_stationary_with_variance_1_at_every_length() {
        for horizon in 1..=9 {
            for exponent in [0.0, 1.0, 2.0, 3.5] {
                let noise = Coloured::new(horizon, exponent);
                assert_eq!(noise.weights.len(), horizon * horizon);
                for t in 0..horizon {
                    assert_close(&[covariance(&noise, t, t)], &[1.0], 1e-13, "variance");
                    for lag in 0..horizon {
                        let first = covariance(&noise, 0, lag);
                        let later = covariance(&noise, t, (t + lag) % horizon);
                        assert_close(&[later], &[first], 1e-13, "covariance");
                    }
                }
            }
        }
    }

    #[test]
    fn exponent_0_leaves_the_noise_white() {
        let noise = Coloured::new(6, 0.0);
        for (t, u) in (0..6).flat_map(|t| (0..6).map(move |u| (t, u))) {
            let expected = if t == u { 1.0 } else { 0.0 };
            assert_close(&[covariance(&noise, t, u)], &[expected], 1e-14, "white");
        }
    }

    /// Power of a series at frequency `k`, `|sum_t x_t exp(-2 pi i k t / H)|^2 / H`.
    fn power(series: &[f64], k: usize) -> f64 {
        let n = series.len();
        let part = |wave: fn(f64) -> f64| {
            let terms = series.iter().enumerate();
            terms.map(|(t, x)| x * wave(turn(k * t, n))).sum::<f64>()
        };
        (part(libm::cos).powi(2) + part(libm::sin).powi(2)) / n as f64
    }

    #[test]
    fn the_power_of_samples_falls_with_the_exponent() {
        let shape = PlanShape {
            horizon: 12,
            width: 2,
        };
        let samples = 20_000;
        let mut batch = ActionBatch::zeros(samples, shape);
        SeededNoise(1).normals(0, &mut batch.values);
        Coloured::new(12, 2.0).apply(&mut batch);
        let mut mean = [0.0; 7];
        for candidate in batch.values.chunks_exact(24) {
            for dim in 0..2 {
                let series: Vec<f64> = candidate.iter().skip(dim).step_by(2).copied().collect();
                for (k, sum) in mean.iter_mut().enumerate() {
                    *sum += power(&series, k) / (2 * samples) as f64;
                }
            }
        }
        // Worked out by hand: 1, 1, 1/4, 1/9, 1/16, 1/25, 1/36 over 1 + 2 (1 + 1/4 + .. + 1/25) + 1/36, times H.
        let total = 1.0 + 2.0 * (1.0 + 0.25 + 1.0 / 9.0 + 1.0 / 16.0 + 1.0 / 25.0) + 1.0 / 36.0;
        for (k, found) in mean.into_iter().enumerate() {
            let at = k.max(1) as f64;
            let expected = 12.0 / (at * at) / total;
            // 20,000 and more draws of a chi-squared number: a standard error of at most 0.8%.
            assert!((found / expected - 1.0).abs() < 0.04, "{k}: {found}");
        }
    }
}
