//! Model predictive path integral control, as released with JEPA-WMs (evaluation.md section 3.5).
//!
//! Like CEM, but the elites count by their cost: with weights `exp(temperature * (c_min - c))`,
//! normalised. The released planner returns one elite drawn by its weight, with one vector of noise
//! added to every step; `output = "mean"` returns the weighted mean instead, which is the usual form
//! and the default here. The release publishes no result with this planner.

use serde::{Deserialize, Serialize};

use super::gaussian::{Gaussian, check_dims, check_limits, check_positive, check_sizes, clip};
use super::{
    ActionBatch, CostModel, Limit, Noise, Plan, PlanShape, Planner, PlannerEntry, Trace, elites,
    evaluate, read_settings, table_of,
};
use crate::Result;

/// The line in [`super::PLANNERS`].
pub const ENTRY: PlannerEntry = PlannerEntry {
    name: "mppi",
    summary: "path integral control: elites weighted by their cost",
    paper: "TD-MPC2, arXiv 2310.16828; in the JEPA-WMs release without published results",
    defaults: || table_of(&MppiConfig::default()),
    build: |settings| Ok(Box::new(Mppi::new(read_settings(ENTRY.name, settings)?)?)),
};

/// What [`Mppi`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// The weighted mean of the last elites.
    Mean,
    /// One elite drawn by its weight, plus noise (as released).
    Sample,
}

/// Settings of [`Mppi`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MppiConfig {
    /// Candidates per iteration, `S`.
    pub candidates: usize,
    /// Candidates that get a weight, `K`.
    pub elites: usize,
    /// Iterations, `J`.
    pub iterations: usize,
    /// Standard deviation of the first iteration, in normalised units.
    pub initial_std: f64,
    /// How strongly a lower cost raises a weight, per unit of cost.
    pub temperature: f64,
    /// What is returned.
    pub output: Output,
    /// Components that are clipped; the release clips none.
    pub limits: Vec<Limit>,
}

impl Default for MppiConfig {
    fn default() -> Self {
        Self {
            candidates: 300,
            elites: 10,
            iterations: 30,
            initial_std: 2.0,
            temperature: 0.5,
            output: Output::Mean,
            limits: Vec::new(),
        }
    }
}

/// Model predictive path integral control.
#[derive(Debug, Clone)]
pub struct Mppi {
    config: MppiConfig,
}

impl Mppi {
    /// A planner with these settings.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn new(config: MppiConfig) -> Result<Self> {
        let name = ENTRY.name;
        check_sizes(name, config.candidates, config.elites, config.iterations)?;
        check_positive(name, "initial_std", config.initial_std)?;
        check_positive(name, "temperature", config.temperature)?;
        check_limits(name, &config.limits)?;
        Ok(Self { config })
    }

    /// One elite drawn by its weight, plus `std * normal` with the same normal numbers in each step.
    fn draw(&self, last: &Weighted<'_>, search: &Gaussian, noise: &mut dyn Noise) -> Vec<f64> {
        let iteration = self.config.iterations;
        let width = last.batch.shape.width;
        let mut normals = vec![0.0; width];
        noise.normals(iteration, &mut normals);
        let chosen = last.batch.candidate(last.pick(noise.uniform(iteration)));
        let values = chosen.iter().zip(&search.std).enumerate();
        values
            .map(|(at, (value, std))| value + std * normals[at % width])
            .collect()
    }
}

impl Planner for Mppi {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn iterations(&self) -> u64 {
        self.config.iterations as u64
    }

    fn evaluations(&self) -> u64 {
        (self.config.candidates * self.config.iterations) as u64
    }

    fn plan(
        &self,
        shape: PlanShape,
        cost: &mut dyn CostModel,
        noise: &mut dyn Noise,
    ) -> Result<Plan> {
        check_dims(ENTRY.name, &self.config.limits, shape)?;
        let mut search = Gaussian::centred(shape, self.config.initial_std);
        let mut batch = ActionBatch::zeros(self.config.candidates, shape);
        let mut trace = Trace::default();
        let mut weights = (Vec::new(), Vec::new());
        for iteration in 0..self.config.iterations {
            search.sample(&mut batch, noise, iteration);
            clip(&mut batch, &self.config.limits);
            let costs = evaluate(cost, &batch, iteration)?;
            let elites = elites(&costs, self.config.elites);
            trace.push(&costs, &elites);
            weights = (weigh(&costs, &elites, self.config.temperature), elites);
            Weighted {
                batch: &batch,
                weights: &weights.0,
                elites: &weights.1,
            }
            .refit(&mut search);
        }
        let last = Weighted {
            batch: &batch,
            weights: &weights.0,
            elites: &weights.1,
        };
        let actions = match self.config.output {
            Output::Mean => search.mean,
            Output::Sample => self.draw(&last, &search, noise),
        };
        Ok(Plan { actions, trace })
    }
}

/// `exp(temperature * (c_min - c))` of each elite, normalised to sum 1.
fn weigh(costs: &[f64], elites: &[usize], temperature: f64) -> Vec<f64> {
    let lowest = costs[elites[0]];
    let raw = elites
        .iter()
        .map(|&index| libm::exp(temperature * (lowest - costs[index])));
    let raw: Vec<f64> = raw.collect();
    let total: f64 = raw.iter().sum();
    raw.into_iter().map(|weight| weight / total).collect()
}

/// Elites of one iteration with their weights.
struct Weighted<'a> {
    batch: &'a ActionBatch,
    weights: &'a [f64],
    elites: &'a [usize],
}

impl Weighted<'_> {
    /// Weighted mean and standard deviation, without bias correction.
    fn refit(&self, search: &mut Gaussian) {
        for at in 0..search.mean.len() {
            let value = |elite: &usize| self.batch.candidate(*elite)[at];
            let pairs = || self.weights.iter().zip(self.elites);
            let mean: f64 = pairs().map(|(weight, elite)| weight * value(elite)).sum();
            let square = |(weight, elite): (&f64, &usize)| {
                weight * (value(elite) - mean) * (value(elite) - mean)
            };
            search.mean[at] = mean;
            search.std[at] = pairs().map(square).sum::<f64>().sqrt();
        }
    }

    /// The elite at quantile `u` of the weights.
    fn pick(&self, u: f64) -> usize {
        let mut total = 0.0;
        let mut cumulative = self.weights.iter().map(|weight| {
            total += weight;
            total
        });
        let at = cumulative
            .position(|total| u < total)
            .unwrap_or(self.elites.len() - 1);
        self.elites[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::testing::{FnCost, SeededNoise, quadratic};

    const SHAPE: PlanShape = PlanShape {
        horizon: 2,
        width: 2,
    };
    const TARGET: [f64; 4] = [0.5, 1.0, -1.5, 2.0];

    fn run(config: MppiConfig, seed: u64) -> Plan {
        let planner = Mppi::new(config).unwrap();
        planner
            .plan(SHAPE, &mut quadratic(&TARGET), &mut SeededNoise(seed))
            .unwrap()
    }

    #[test]
    fn weights_follow_the_formula() {
        let weights = weigh(&[3.0, 1.0, 2.0], &[1, 2], 0.5);
        let ratio = libm::exp(-0.5);
        assert!((weights[0] - 1.0 / (1.0 + ratio)).abs() < 1e-15);
        assert!((weights[1] - ratio / (1.0 + ratio)).abs() < 1e-15);
    }

    #[test]
    fn moments_are_weighted_and_biased() {
        let shape = PlanShape {
            horizon: 1,
            width: 1,
        };
        let batch = ActionBatch {
            values: vec![9.0, 1.0, 5.0],
            samples: 3,
            shape,
        };
        let mut search = Gaussian::centred(shape, 1.0);
        Weighted {
            batch: &batch,
            weights: &[0.75, 0.25],
            elites: &[1, 2],
        }
        .refit(&mut search);
        assert_eq!(search.mean, [2.0]);
        assert_eq!(search.std, [3.0_f64.sqrt()]);
    }

    #[test]
    fn draws_follow_the_weights() {
        let shape = PlanShape {
            horizon: 1,
            width: 1,
        };
        let batch = ActionBatch::zeros(3, shape);
        let weighted = Weighted {
            batch: &batch,
            weights: &[0.75, 0.25],
            elites: &[2, 0],
        };
        assert_eq!(
            [0.0, 0.74, 0.75, 0.999].map(|u| weighted.pick(u)),
            [2, 2, 0, 0]
        );
    }

    #[test]
    fn the_optimum_of_a_quadratic_is_found() {
        let plan = run(MppiConfig::default(), 1);
        for (found, target) in plan.actions.iter().zip(TARGET) {
            assert!((found - target).abs() < 1e-2, "{:?}", plan.actions);
        }
    }

    #[test]
    fn a_sample_is_an_elite_plus_the_same_noise_in_every_step() {
        let config = MppiConfig {
            output: Output::Sample,
            iterations: 1,
            elites: 1,
            ..MppiConfig::default()
        };
        // One elite leaves no deviation, so the sample is that elite, and so is the mean.
        let sample = run(config.clone(), 2);
        assert_eq!(
            sample,
            run(
                MppiConfig {
                    output: Output::Mean,
                    ..config.clone()
                },
                2
            )
        );
        let spread = run(
            MppiConfig {
                elites: 50,
                ..config
            },
            2,
        );
        assert_ne!(spread.actions, sample.actions);
    }

    #[test]
    fn the_noise_of_a_sample_is_that_of_the_dimension_and_repeats_over_the_steps() {
        let config = MppiConfig {
            iterations: 1,
            elites: 2,
            output: Output::Sample,
            ..MppiConfig::default()
        };
        let planner = Mppi::new(config).unwrap();
        let plan = planner
            .plan(SHAPE, &mut FnCost(|_| 1.0), &mut SeededNoise(3))
            .unwrap();
        // Equal costs: the elites are candidates 0 and 1, with weight 1/2 each.
        let (mut first, mut last) = (vec![0.0; 300 * 4], vec![0.0; 2]);
        SeededNoise(3).normals(0, &mut first);
        SeededNoise(3).normals(1, &mut last);
        let chosen = if SeededNoise(3).uniform(1) < 0.5 {
            0
        } else {
            4
        };
        for at in 0..4 {
            let deviation = (first[at] - first[4 + at]).abs();
            let expected = 2.0 * first[chosen + at] + deviation * last[at % 2];
            assert!((plan.actions[at] - expected).abs() < 1e-12, "{at}");
        }
    }

    #[test]
    fn equal_costs_weigh_the_elites_equally() {
        let config = MppiConfig {
            iterations: 1,
            elites: 2,
            ..MppiConfig::default()
        };
        let planner = Mppi::new(config).unwrap();
        let plan = planner
            .plan(SHAPE, &mut FnCost(|_| 1.0), &mut SeededNoise(3))
            .unwrap();
        let mut normals = vec![0.0; 300 * 4];
        SeededNoise(3).normals(0, &mut normals);
        let expected: Vec<f64> = (0..4).map(|at| normals[at] + normals[4 + at]).collect();
        for (found, expected) in plan.actions.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for text in [
            "temperature = 0.0",
            "elites = 0",
            "initial_std = -1.0",
            "output = \"best\"",
        ] {
            assert!((ENTRY.build)(&text.parse().unwrap()).is_err(), "{text}");
        }
    }
}
