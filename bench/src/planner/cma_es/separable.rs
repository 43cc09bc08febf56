//! The distribution of a separable CMA-ES and how a generation moves it (evaluation.md section 3.3).
//!
//! ```text
//! x_k = m + sigma d z_k                      candidates, sorted by cost
//! y_k = (x_k - m) / (sigma d)
//! s   = sum_{i<=mu} w_i y_i                  step of the mean:  m <- m + sigma d s
//! p_sigma <- (1 - c_sigma) p_sigma + sqrt(c_sigma (2 - c_sigma) mu_eff) s
//! p_c     <- (1 - c_c) p_c + h sqrt(c_c (2 - c_c) mu_eff) s
//! d       <- d exp(ln 2 / 2 (c_1a (p_c^2 - 1) + c_mu sum_{all i} w_i (y_i^2 - 1)))
//! sigma   <- sigma exp(clip(c_sigma / d_sigma (|p_sigma| / chi - 1), -1, 1))
//! ```
//!
//! The worse half of the candidates has negative weights: they count in the update of `d` only. `h` is 0
//! while the path of the step size is long, and `c_1a = c_1 (1 - (1 - h) c_c (2 - c_c))`.

use super::SigmaRule;
use crate::planner::ActionBatch;

/// Constants of a search, from the numbers in a plan and the candidates in a generation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Constants {
    /// Weight of every rank: the positive ones sum to 1, then come the negative ones.
    pub(crate) weights: Vec<f64>,
    /// Ranks with a positive weight, `mu`.
    pub(crate) parents: usize,
    pub(crate) mu_eff: f64,
    pub(crate) c_sigma: f64,
    pub(crate) d_sigma: f64,
    pub(crate) c_c: f64,
    pub(crate) c_1: f64,
    pub(crate) c_mu: f64,
    /// Expected length of a standard normal vector.
    pub(crate) chi: f64,
}

impl Constants {
    /// Constants for plans of `numbers` numbers and generations of `candidates`, at least 2.
    pub(crate) fn new(numbers: usize, candidates: usize, rule: SigmaRule) -> Self {
        let n = numbers as f64;
        let middle = libm::log(f64::midpoint(candidates as f64, 1.0));
        let mut weights: Vec<f64> = (1..=candidates)
            .map(|rank| middle - libm::log(rank as f64))
            .collect();
        let parents = weights.iter().take_while(|&&weight| weight > 0.0).count();
        let (sum, mu_eff) = sum_and_effective(&weights[..parents]);
        let (negative_sum, mu_eff_negative) = sum_and_effective(&weights[parents..]);

        let (c_sigma, d_sigma) = step_size_rates(n, mu_eff, rule);
        let c_c = (1.0 + 1.0 / n + mu_eff / n) / (n.sqrt() + 1.0 / n + 2.0 * mu_eff / n);
        let c_1 = 1.0 / (n + 2.0 * n.sqrt() + mu_eff / n);
        let c_mu = (0.25 + mu_eff + 1.0 / mu_eff - 2.0) / (n + 4.0 * n.sqrt() + mu_eff / 2.0);
        let c_mu = c_mu.min(1.0 - c_1);

        let negative = (1.0 + c_1 / c_mu).min(1.0 + 2.0 * mu_eff_negative / (mu_eff + 2.0));
        for weight in &mut weights[..parents] {
            *weight /= sum;
        }
        for weight in &mut weights[parents..] {
            *weight *= negative / negative_sum.abs();
        }
        let chi = expected_length(numbers);
        Self {
            weights,
            parents,
            mu_eff,
            c_sigma,
            d_sigma,
            c_c,
            c_1,
            c_mu,
            chi,
        }
    }
}

/// Sum of weights, and how many equal weights would average as they do: `(sum w)^2 / sum w^2`.
fn sum_and_effective(weights: &[f64]) -> (f64, f64) {
    let sum: f64 = weights.iter().sum();
    let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
    (sum, sum * sum / squares)
}

/// Rate of the step-size path, and damping of the step size.
fn step_size_rates(n: f64, mu_eff: f64, rule: SigmaRule) -> (f64, f64) {
    let rate = (mu_eff + 2.0) / (n + mu_eff + 3.0);
    let excess = ((mu_eff - 1.0) / (n + 1.0)).sqrt();
    let (rate, excess) = match rule {
        SigmaRule::Classic => (rate, excess),
        SigmaRule::Capped => {
            let strength = 3.0 * (1.0 - libm::exp2(-n / 9.0));
            (rate.min(0.5), strength.max(1.0) * excess)
        }
    };
    (rate, 1.0 + 2.0 * (excess - 1.0).max(0.0) + rate)
}

/// Expected length of a standard normal vector: exact up to 6 numbers, then pycma's series.
fn expected_length(numbers: usize) -> f64 {
    let n = numbers as f64;
    if numbers <= 6 {
        return 2.0_f64.sqrt() * libm::tgamma(f64::midpoint(n, 1.0)) / libm::tgamma(n / 2.0);
    }
    n.sqrt() * (1.0 - 1.0 / (4.0 * n) + 1.0 / (26.0 * n * n))
}

/// The distribution that candidates are drawn from.
#[derive(Debug, Clone)]
pub(crate) struct Separable {
    pub(crate) constants: Constants,
    /// Centre, `m`.
    pub(crate) mean: Vec<f64>,
    /// Step size, the same for all numbers.
    pub(crate) sigma: f64,
    /// Scale of every number, `d`.
    pub(crate) scale: Vec<f64>,
    /// Path that the step size follows.
    pub(crate) path_sigma: Vec<f64>,
    /// Path that the scales follow.
    pub(crate) path_scale: Vec<f64>,
    /// Candidates whose step was shortened, so far.
    pub(crate) shortened: usize,
    generation: u32,
}

impl Separable {
    /// A distribution around zero.
    pub(super) fn new(numbers: usize, candidates: usize, sigma: f64, rule: SigmaRule) -> Self {
        Self {
            constants: Constants::new(numbers, candidates, rule),
            mean: vec![0.0; numbers],
            sigma,
            scale: vec![1.0; numbers],
            path_sigma: vec![0.0; numbers],
            path_scale: vec![0.0; numbers],
            shortened: 0,
            generation: 0,
        }
    }

    /// Ranks that the next mean is made of.
    pub(super) fn parents(&self) -> usize {
        self.constants.parents
    }

    /// Turns the standard normal numbers in `batch` into candidates inside `bounds`; says which of them
    /// had to be reflected.
    pub(super) fn sample(&self, batch: &mut ActionBatch, bounds: &[f64]) -> Vec<bool> {
        let mut reflected = Vec::with_capacity(batch.samples);
        for index in 0..batch.samples {
            let mut moved = false;
            for (at, value) in batch.candidate_mut(index).iter_mut().enumerate() {
                let free = self.mean[at] + self.sigma * self.scale[at] * *value;
                let bound = bounds[at];
                if free.abs() > bound {
                    moved = true;
                    *value = (2.0 * free.clamp(-bound, bound) - free).clamp(-bound, bound);
                } else {
                    *value = free;
                }
            }
            reflected.push(moved);
        }
        reflected
    }

    /// Moves the distribution by one generation; `order` is the candidates from best to worst.
    pub(super) fn update(&mut self, batch: &ActionBatch, order: &[usize], reflected: &[bool]) {
        self.generation += 1;
        let steps: Vec<Vec<f64>> = order
            .iter()
            .map(|&index| self.step_to(batch.candidate(index), reflected[index]))
            .collect();
        let shift = self.shift(&steps);
        let stalled = self.move_paths(&shift);
        for (at, shift) in shift.iter().enumerate() {
            self.mean[at] += self.sigma * self.scale[at] * shift;
        }
        self.rescale(&steps, stalled);
        let Constants {
            c_sigma,
            d_sigma,
            chi,
            ..
        } = self.constants;
        let change = c_sigma / d_sigma * (length(&self.path_sigma) / chi - 1.0);
        self.sigma *= libm::exp(change.clamp(-1.0, 1.0));
    }

    /// Step from the mean to a candidate, in units of the distribution. One that was put back into the
    /// bounds is not an unlikely one: it is shortened to what a long sample would be.
    fn step_to(&mut self, candidate: &[f64], reflected: bool) -> Vec<f64> {
        let deviations = candidate.iter().zip(&self.mean).zip(&self.scale);
        let mut step: Vec<f64> = deviations
            .map(|((value, mean), scale)| (value - mean) / (self.sigma * scale))
            .collect();
        let n = step.len() as f64;
        let limit = n.sqrt() + 2.0 * n / (n + 2.0);
        let length = length(&step);
        if reflected && length > limit {
            for part in &mut step {
                *part *= limit / length;
            }
            self.shortened += 1;
        }
        step
    }

    /// Weighted mean of the steps to the parents.
    fn shift(&self, steps: &[Vec<f64>]) -> Vec<f64> {
        let mut shift = vec![0.0; self.mean.len()];
        let parents = self
            .constants
            .weights
            .iter()
            .zip(steps)
            .take(self.parents());
        for (weight, step) in parents {
            for (sum, part) in shift.iter_mut().zip(step) {
                *sum += weight * part;
            }
        }
        shift
    }

    /// Moves both paths by the step of the mean; says whether the path of the scales is stalled, because
    /// that of the step size is long.
    fn move_paths(&mut self, shift: &[f64]) -> bool {
        let Constants {
            mu_eff,
            c_sigma,
            c_c,
            ..
        } = self.constants;
        follow(
            &mut self.path_sigma,
            shift,
            c_sigma,
            (c_sigma * (2.0 - c_sigma) * mu_eff).sqrt(),
        );
        let n = shift.len() as f64;
        let squares: f64 = self.path_sigma.iter().map(|part| part * part).sum();
        let started = 1.0 - libm::pow(1.0 - c_sigma, 2.0 * f64::from(self.generation));
        let stalled = squares / n / started - 1.0 >= 1.0 + 4.0 / (n + 1.0);
        let gain = if stalled {
            0.0
        } else {
            (c_c * (2.0 - c_c) * mu_eff).sqrt()
        };
        follow(&mut self.path_scale, shift, c_c, gain);
        stalled
    }

    /// Widens or narrows every scale.
    fn rescale(&mut self, steps: &[Vec<f64>], stalled: bool) {
        let Constants {
            weights,
            c_c,
            c_1,
            c_mu,
            ..
        } = &self.constants;
        let kept = if stalled {
            1.0 - c_c * (2.0 - c_c)
        } else {
            1.0
        };
        let path_weight = c_1 * kept;
        let mut growth: Vec<f64> = self
            .path_scale
            .iter()
            .map(|path| path_weight * (path * path - 1.0))
            .collect();
        for (weight, step) in weights.iter().zip(steps) {
            for (sum, part) in growth.iter_mut().zip(step) {
                *sum += c_mu * weight * (part * part - 1.0);
            }
        }
        for (scale, growth) in self.scale.iter_mut().zip(growth) {
            *scale *= libm::exp(std::f64::consts::LN_2 / 2.0 * growth);
        }
    }
}

/// `path <- (1 - rate) path + gain step`.
fn follow(path: &mut [f64], step: &[f64], rate: f64, gain: f64) {
    for (path, step) in path.iter_mut().zip(step) {
        *path = (1.0 - rate) * *path + gain * step;
    }
}

fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|part| part * part).sum::<f64>().sqrt()
}
