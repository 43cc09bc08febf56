//! Costs and noise for planner tests.

use jepa_datasets::Stream;

use super::{ActionBatch, CostModel, Descent, GradientCostModel, Noise};
use crate::Result;
use crate::fixtures::Npz;

/// A cost that is a function of one candidate's flattened sequence; its gradient is a central difference.
pub(crate) struct FnCost<F: Fn(&[f64]) -> f64>(pub(crate) F);

impl<F: Fn(&[f64]) -> f64> CostModel for FnCost<F> {
    fn costs(&mut self, actions: &ActionBatch) -> Result<Vec<f64>> {
        Ok(each(actions, &self.0))
    }

    fn with_gradients(&mut self) -> Result<&mut dyn GradientCostModel> {
        Ok(self)
    }
}

impl<F: Fn(&[f64]) -> f64> GradientCostModel for FnCost<F> {
    fn costs_and_gradient(&mut self, actions: &ActionBatch) -> Result<Descent> {
        let slope = |x: &[f64], at: usize| {
            let moved = |by: f64| {
                let mut x = x.to_vec();
                x[at] += by;
                (self.0)(&x)
            };
            (moved(1e-4) - moved(-1e-4)) / 2e-4
        };
        let slopes = |x: &[f64]| (0..x.len()).map(|at| slope(x, at)).collect::<Vec<_>>();
        Ok(Descent {
            costs: each(actions, &self.0),
            gradient: each(actions, slopes).concat(),
        })
    }
}

/// A value for every candidate.
fn each<T>(actions: &ActionBatch, value: impl Fn(&[f64]) -> T) -> Vec<T> {
    (0..actions.samples)
        .map(|index| value(actions.candidate(index)))
        .collect()
}

/// Mean squared distance to `target`.
pub(crate) fn quadratic(target: &[f64]) -> FnCost<impl Fn(&[f64]) -> f64 + '_> {
    FnCost(move |x| {
        let squares = x.iter().zip(target).map(|(x, t)| (x - t) * (x - t));
        squares.sum::<f64>() / target.len() as f64
    })
}

/// Noise keyed by a seed and the iteration.
pub(crate) struct SeededNoise(pub(crate) u64);

impl Noise for SeededNoise {
    fn normals(&mut self, iteration: usize, out: &mut [f64]) {
        Stream::new(self.0, &["test", &iteration.to_string()]).fill_normal(out);
    }

    fn uniform(&mut self, iteration: usize) -> f64 {
        Stream::new(self.0, &["test", "uniform", &iteration.to_string()]).uniform()
    }
}

/// Noise of a recorded search, one list per iteration.
pub(crate) struct Given(pub(crate) Vec<Vec<f64>>);

impl Noise for Given {
    fn normals(&mut self, iteration: usize, out: &mut [f64]) {
        out.copy_from_slice(&self.0[iteration]);
    }

    fn uniform(&mut self, _iteration: usize) -> f64 {
        unreachable!("recorded searches draw nothing but normal numbers")
    }
}

/// The noise of evaluation.md sections 8.4 and 8.5: `candidates` of 4 numbers, both counted from 0.
pub(crate) fn formula_noise(candidates: u32, generations: impl Iterator<Item = u32>) -> Given {
    let z = |g: f64, a: f64, i: f64| {
        2.0_f64.sqrt() * libm::sin(1.0 + 1.7 * g + 0.9 * a + 2.3 * i + 0.37 * a * i)
    };
    let generation = |g: u32| {
        let cells = (0..candidates).flat_map(|a| (0..4).map(move |i| (f64::from(a), f64::from(i))));
        cells.map(|(a, i)| z(f64::from(g), a, i)).collect()
    };
    Given(generations.map(generation).collect())
}

/// Every number within `tolerance`, relative to numbers above 1.
pub(crate) fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (a, e) in actual.iter().zip(expected) {
        assert!(
            (a - e).abs() <= tolerance * e.abs().max(1.0),
            "{what}: {a} instead of {e}"
        );
    }
}

/// A cost of the recorded searches (`tests/fixtures/sims/README.md`).
pub(crate) enum RecordedCost {
    /// Mean of `w (x - t)^2`.
    Quad { t: Vec<f64>, w: Vec<f64> },
    /// Mean of `(x - t)^2 + 2 (1 - cos(2 pi (x - t)))`.
    Rast { t: Vec<f64> },
    /// Deceptive: through a gap in a wall, or stuck in front of it.
    Wall,
}

impl RecordedCost {
    /// The cost whose name begins `name`, with `t` and `w` of the archive.
    pub(crate) fn read(recorded: &Npz, name: &str, t: &str, w: &str) -> Self {
        Self::new(name, recorded.values(t), recorded.values(w))
    }

    /// The cost whose name begins `name`.
    pub(crate) fn new(name: &str, t: &[f64], w: &[f64]) -> Self {
        let t = t.to_vec();
        match name {
            _ if name.starts_with("quad") => Self::Quad { t, w: w.to_vec() },
            _ if name.starts_with("rast") => Self::Rast { t },
            "wall" => Self::Wall,
            _ => panic!("no recorded cost `{name}`"),
        }
    }

    fn cost(&self, x: &[f64]) -> f64 {
        let mean = |f: &dyn Fn(usize) -> f64| (0..x.len()).map(f).sum::<f64>() / x.len() as f64;
        match self {
            Self::Quad { t, w } => mean(&|i| w[i] * (x[i] - t[i]).powi(2)),
            Self::Rast { t } => mean(&|i| {
                let turns = 2.0 * std::f64::consts::PI * (x[i] - t[i]);
                (x[i] - t[i]).powi(2) + 2.0 * (1.0 - turns.cos())
            }),
            Self::Wall => wall_cost(x),
        }
    }

    fn gradient(&self, x: &[f64]) -> Vec<f64> {
        let n = x.len() as f64;
        let slope = |i: usize| match self {
            Self::Quad { t, w } => 2.0 * w[i] * (x[i] - t[i]) / n,
            Self::Rast { t } => {
                let tau = 2.0 * std::f64::consts::PI;
                (2.0 * (x[i] - t[i]) + 2.0 * tau * (tau * (x[i] - t[i])).sin()) / n
            }
            Self::Wall => panic!("the wall has no slope"),
        };
        (0..x.len()).map(slope).collect()
    }
}

impl CostModel for RecordedCost {
    fn costs(&mut self, actions: &ActionBatch) -> Result<Vec<f64>> {
        Ok(each(actions, |x| self.cost(x)))
    }

    fn with_gradients(&mut self) -> Result<&mut dyn GradientCostModel> {
        Ok(self)
    }
}

impl GradientCostModel for RecordedCost {
    fn costs_and_gradient(&mut self, actions: &ActionBatch) -> Result<Descent> {
        Ok(Descent {
            costs: each(actions, |x| self.cost(x)),
            gradient: each(actions, |x| self.gradient(x)).concat(),
        })
    }
}

fn wall_cost(x: &[f64]) -> f64 {
    let mut p = [0.0, 0.0];
    for action in x.chunks(2) {
        let mut q = [p[0] + 0.15 * action[0], p[1] + 0.15 * action[1]];
        if (p[0] < 1.0) != (q[0] < 1.0) {
            let y = p[1] + (1.0 - p[0]) / (q[0] - p[0]) * (q[1] - p[1]);
            if !(1.3..=1.7).contains(&y) {
                q[0] = if p[0] < 1.0 { 0.99 } else { 1.01 };
            }
        }
        p = q;
    }
    let effort = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    (p[0] - 2.0) * (p[0] - 2.0) + (p[1] + 0.3) * (p[1] + 0.3) + 0.05 * effort
}
