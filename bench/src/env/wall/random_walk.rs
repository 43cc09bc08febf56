//! The policy behind the Wall training data (evaluation.md section 1.1, "Random dataset").
//!
//! Each episode draws a heading; every step turns it by von Mises noise and moves by a truncated
//! normal length. The distributions are those of the release, the random numbers are our own.

use std::f64::consts::PI;

use jepa_datasets::Stream;

use super::{PADDING, SAMPLE_HIGH, SAMPLE_LOW, SLAB};
use crate::env::Behaviour;

/// Concentration of the turning noise: 1 over `action_angle_noise = 0.2`.
const TURN_CONCENTRATION: f64 = 5.0;
/// Mean of the step length before truncation, in action units.
const LENGTH_MEAN: f64 = 1.0;
/// Standard deviation of the step length before truncation.
const LENGTH_STD: f64 = 0.4;
/// Bounds of the step length.
const LENGTH_BOUNDS: [f64; 2] = [0.2, 1.8];

/// A random walk with a slowly turning heading.
pub struct RandomWalk {
    stream: Stream,
    heading: f64,
}

impl RandomWalk {
    /// A walk that draws everything from `stream`.
    pub fn new(mut stream: Stream) -> Self {
        let heading = 2.0 * PI * stream.uniform();
        Self { stream, heading }
    }

    fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.stream.uniform()
    }
}

impl Behaviour for RandomWalk {
    /// A start as the episode sampler draws them: either room, away from walls.
    fn start(&mut self) -> Vec<f64> {
        let is_left = self.stream.uniform() < 0.5;
        let x = if is_left {
            self.uniform(SAMPLE_LOW, SLAB[0] - PADDING)
        } else {
            self.uniform(SLAB[1] + PADDING, SAMPLE_HIGH)
        };
        vec![x, self.uniform(SAMPLE_LOW, SAMPLE_HIGH)]
    }

    fn action(&mut self, _state: &[f64]) -> Vec<f64> {
        let turned = self.heading + von_mises(&mut self.stream, TURN_CONCENTRATION);
        self.heading = turned - 2.0 * PI * (turned / (2.0 * PI)).floor();
        let length = truncated_normal(&mut self.stream);
        vec![
            length * libm::cos(self.heading),
            length * libm::sin(self.heading),
        ]
    }
}

/// A von Mises angle around 0, in `[-pi, pi]` (Best and Fisher 1979, Applied Statistics 28).
fn von_mises(stream: &mut Stream, concentration: f64) -> f64 {
    let tau = 1.0 + (1.0 + 4.0 * concentration * concentration).sqrt();
    let rho = (tau - (2.0 * tau).sqrt()) / (2.0 * concentration);
    let r = (1.0 + rho * rho) / (2.0 * rho);
    let cosine = loop {
        let z = libm::cos(PI * stream.uniform());
        let f = (1.0 + r * z) / (r + z);
        let c = concentration * (r - f);
        let u = stream.uniform();
        if c * (2.0 - c) > u || libm::log(c / u) + 1.0 >= c {
            break f.clamp(-1.0, 1.0);
        }
    };
    let angle = libm::acos(cosine);
    if stream.uniform() < 0.5 {
        -angle
    } else {
        angle
    }
}

/// A normal step length inside its bounds, by rejection (95% of draws are kept).
fn truncated_normal(stream: &mut Stream) -> f64 {
    loop {
        let length = LENGTH_MEAN + LENGTH_STD * stream.normal();
        if (LENGTH_BOUNDS[0]..=LENGTH_BOUNDS[1]).contains(&length) {
            return length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: usize = 40_000;

    fn stream(name: &str) -> Stream {
        Stream::new(7, &["test", name])
    }

    #[test]
    fn turns_have_the_moments_of_a_von_mises_variable() {
        let mut stream = stream("turns");
        let draws: Vec<f64> = (0..DRAWS).map(|_| von_mises(&mut stream, 5.0)).collect();
        let mean = |f: fn(f64) -> f64| draws.iter().map(|&x| f(x)).sum::<f64>() / DRAWS as f64;
        // Bessel functions: I1(5) / I0(5) = 24.335642 / 27.239872.
        assert!((mean(libm::cos) - 0.893_383).abs() < 0.003);
        assert!(mean(libm::sin).abs() < 0.01);
        // I2(5) / I0(5) = 17.505615 / 27.239872 is the mean of cos(2x).
        assert!((mean(|x| libm::cos(2.0 * x)) - 0.642_647).abs() < 0.01);
    }

    #[test]
    fn lengths_stay_in_bounds_with_the_truncated_moments() {
        let mut stream = stream("lengths");
        let draws: Vec<f64> = (0..DRAWS).map(|_| truncated_normal(&mut stream)).collect();
        assert!(draws.iter().all(|length| (0.2..=1.8).contains(length)));
        let mean = draws.iter().sum::<f64>() / DRAWS as f64;
        let variance = draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / DRAWS as f64;
        // A normal cut at two standard deviations keeps 0.879626 of its standard deviation.
        assert!((mean - 1.0).abs() < 0.01);
        assert!((variance.sqrt() - 0.4 * 0.879_626).abs() < 0.005);
    }

    #[test]
    fn actions_have_the_spread_of_the_released_data() {
        let mut squares = [0.0; 2];
        for episode in 0..1000 {
            let mut walk = RandomWalk::new(stream(&episode.to_string()));
            for _ in 0..20 {
                let action = walk.action(&[]);
                squares
                    .iter_mut()
                    .zip(action)
                    .for_each(|(sum, a)| *sum += a * a / 20_000.0);
            }
        }
        // Released standard deviations: 0.7523 and 0.7467 (datasets.md section 3.2).
        assert!(
            squares
                .iter()
                .all(|square| (square.sqrt() - 0.75).abs() < 0.03),
            "{squares:?}"
        );
    }

    #[test]
    fn walks_begin_in_both_rooms_away_from_the_walls() {
        let starts = (0..200).map(|k| RandomWalk::new(stream(&k.to_string())).start());
        let (mut left, mut right) = (0, 0);
        for start in starts {
            assert!((7.4..=56.6).contains(&start[0]) && (7.4..=56.6).contains(&start[1]));
            assert!(!(25.6..38.4).contains(&start[0]));
            if start[0] < 32.0 {
                left += 1;
            } else {
                right += 1;
            }
        }
        assert!(
            left > 60 && right > 60,
            "{left} on the left, {right} on the right"
        );
    }
}
