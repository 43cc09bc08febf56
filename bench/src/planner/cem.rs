//! The cross-entropy method, as released with JEPA-WMs (evaluation.md section 3.2).
//!
//! Sample candidates around a mean, keep the cheapest, refit mean and deviation to them, repeat; the
//! plan is the last mean. Against the paper's Algorithm 1 (arXiv 2512.24497) the released code, which
//! produced the published numbers, also evaluates the mean itself as candidate 0; so does this one.
//! There is no floor under the deviation: when all elites coincide, sampling freezes.

use serde::{Deserialize, Serialize};

use super::gaussian::{
    Gaussian, blend, check_dims, check_limits, check_momentum, check_positive, check_sizes, clip,
};
use super::{
    ActionBatch, CostModel, Limit, Noise, Plan, PlanShape, Planner, PlannerEntry, Trace, elites,
    evaluate, read_settings, table_of,
};
use crate::Result;

/// The line in [`super::PLANNERS`].
pub const ENTRY: PlannerEntry = PlannerEntry {
    name: "cem",
    summary: "cross-entropy method: refit a Gaussian to the cheapest candidates",
    paper: "arXiv 2512.24497, Algorithm 1; settings of Table S4.1",
    defaults: || table_of(&CemConfig::default()),
    build: |settings| Ok(Box::new(Cem::new(read_settings(ENTRY.name, settings)?)?)),
};

/// Settings of [`Cem`]; the defaults are those of the paper for Wall, Push-T and `PointMaze`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CemConfig {
    /// Candidates per iteration, `S` (`N` in the paper).
    pub candidates: usize,
    /// Candidates the next mean and deviation are fitted to, `K`.
    pub elites: usize,
    /// Iterations, `J`.
    pub iterations: usize,
    /// Standard deviation of the first iteration, in normalised units.
    pub initial_std: f64,
    /// Share of the old mean in the new one, in `[0, 1]`.
    pub mean_momentum: f64,
    /// Share of the old deviation in the new one, in `[0, 1]`.
    pub std_momentum: f64,
    /// Components that are clipped.
    pub limits: Vec<Limit>,
}

impl Default for CemConfig {
    fn default() -> Self {
        Self {
            candidates: 300,
            elites: 10,
            iterations: 30,
            initial_std: 1.0,
            mean_momentum: 0.0,
            std_momentum: 0.0,
            limits: Vec::new(),
        }
    }
}

/// The cross-entropy method.
#[derive(Debug, Clone)]
pub struct Cem {
    config: CemConfig,
}

impl Cem {
    /// A planner with these settings.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn new(config: CemConfig) -> Result<Self> {
        let name = ENTRY.name;
        check_sizes(name, config.candidates, config.elites, config.iterations)?;
        check_positive(name, "initial_std", config.initial_std)?;
        check_limits(name, &config.limits)?;
        check_momentum(name, config.mean_momentum)?;
        check_momentum(name, config.std_momentum)?;
        Ok(Self { config })
    }

    /// New candidates: samples around the mean, the mean itself first, clipped.
    fn propose(
        &self,
        search: &Gaussian,
        batch: &mut ActionBatch,
        noise: &mut dyn Noise,
        at: usize,
    ) {
        search.sample(batch, noise, at);
        batch.candidate_mut(0).copy_from_slice(&search.mean);
        clip(batch, &self.config.limits);
    }

    /// Fits mean and deviation (n - 1) to the elites.
    fn refit(&self, search: &mut Gaussian, batch: &ActionBatch, elites: &[usize]) {
        search.refit(batch, elites, |_, fitted, (mean, std)| {
            *mean = blend(fitted.0, *mean, self.config.mean_momentum);
            *std = blend(fitted.1, *std, self.config.std_momentum);
        });
    }

    /// Searches, showing mean and deviation after every iteration to `watch`.
    pub(crate) fn search(
        &self,
        shape: PlanShape,
        cost: &mut dyn CostModel,
        noise: &mut dyn Noise,
        watch: &mut dyn FnMut(&[f64], &[f64]),
    ) -> Result<Plan> {
        check_dims(ENTRY.name, &self.config.limits, shape)?;
        let mut search = Gaussian::centred(shape, self.config.initial_std);
        let mut batch = ActionBatch::zeros(self.config.candidates, shape);
        let mut trace = Trace::default();
        for iteration in 0..self.config.iterations {
            self.propose(&search, &mut batch, noise, iteration);
            let costs = evaluate(cost, &batch, iteration)?;
            let elites = elites(&costs, self.config.elites);
            trace.push(&costs, &elites);
            self.refit(&mut search, &batch, &elites);
            watch(&search.mean, &search.std);
        }
        Ok(Plan {
            actions: search.mean,
            trace,
        })
    }
}

impl Planner for Cem {
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
        self.search(shape, cost, noise, &mut |_, _| ())
    }
}

#[cfg(test)]
#[expect(
    clippy::float_cmp,
    clippy::unreadable_literal,
    reason = "golden values, as printed and to the last bit"
)]
mod tests {
    use super::*;
    use crate::fixtures::Npz;
    use crate::planner::moments;
    use crate::planner::testing::{
        self, FnCost, Given, RecordedCost, SeededNoise, assert_close, quadratic,
    };

    /// The noise of evaluation.md section 8.5: generations from 1.
    fn formula_noise() -> Given {
        testing::formula_noise(6, 1..=3)
    }

    fn small(limits: Vec<Limit>) -> Cem {
        let sizes = CemConfig {
            candidates: 6,
            elites: 3,
            iterations: 3,
            ..CemConfig::default()
        };
        Cem::new(CemConfig { limits, ..sizes }).unwrap()
    }

    const SMALL: PlanShape = PlanShape {
        horizon: 2,
        width: 2,
    };
    const TARGET: [f64; 4] = [0.5, 1.0, -1.5, 2.0];

    /// Mean after each generation, best cost, and elites, from searches cut after 1, 2, 3 iterations.
    fn generations(planner: &Cem) -> Vec<Plan> {
        let cut = |iterations| Cem {
            config: CemConfig {
                iterations,
                ..planner.config.clone()
            },
        };
        let run = |iterations| {
            cut(iterations)
                .plan(SMALL, &mut quadratic(&TARGET), &mut formula_noise())
                .unwrap()
        };
        (1..=3).map(run).collect()
    }

    #[test]
    fn the_documented_search_is_reproduced() {
        let means = [
            [-0.8250967896, 0.7202535672, -0.5913160816, 0.4464708503],
            [-0.3414252363, 0.7013851732, -0.9403214148, 0.9105602013],
            [-0.0882387888, 0.7567246918, -1.2267434228, 0.9924333637],
        ];
        let plans = generations(&small(Vec::new()));
        for (plan, mean) in plans.iter().zip(&means) {
            assert_close(&plan.actions, mean, 1e-9, "mean");
        }
        let best = [1.0747931798, 0.4095665413, 0.3737702594];
        assert_close(&plans[2].trace.best, &best, 1e-9, "best");
    }

    #[test]
    fn the_documented_deviations_and_elites_are_reproduced() {
        let expected = [
            (
                [2, 3, 0],
                [0.7290768244, 0.6775964599, 0.6540509900, 0.6801550781],
            ),
            (
                [5, 4, 2],
                [0.5536188690, 0.5867320711, 0.5346568731, 0.1061473808],
            ),
            (
                [1, 3, 4],
                [0.4045160261, 0.5228629755, 0.4234466550, 0.0492822503],
            ),
        ];
        let planner = small(Vec::new());
        let mut search = Gaussian::centred(SMALL, 1.0);
        let mut batch = ActionBatch::zeros(6, SMALL);
        for (iteration, (chosen, std)) in expected.into_iter().enumerate() {
            planner.propose(&search, &mut batch, &mut formula_noise(), iteration);
            let costs = quadratic(&TARGET).costs(&batch).unwrap();
            let elites = elites(&costs, 3);
            assert_eq!(elites, chosen);
            planner.refit(&mut search, &batch, &elites);
            assert_close(&search.std, &std, 1e-9, "std");
        }
    }

    #[test]
    fn the_documented_clipped_search_is_reproduced() {
        let means = [
            [-0.5333333333, 0.5333333333, -0.4267020011, 0.3033816833],
            [-0.5312249948, 0.7511147141, -0.7291857113, 0.6413316943],
            [-0.3935899395, 0.7437944187, -0.7606881922, 0.7145354910],
        ];
        let plans = generations(&small(vec![Limit::new(vec![0, 1], 0.8)]));
        for (plan, mean) in plans.iter().zip(&means) {
            assert_close(&plan.actions, mean, 1e-9, "mean");
        }
        let best = [0.9150000000, 0.6992616565, 0.6992121476];
        assert_close(&plans[2].trace.best, &best, 1e-9, "best");
    }

    const SHAPE: PlanShape = PlanShape {
        horizon: 6,
        width: 10,
    };

    /// Recorded noise, `[30, 6, 300, 10]`, as `[30]` batches of `[300, 6, 10]`.
    fn recorded_noise(recorded: &Npz) -> Given {
        let values = recorded.values("noise_1024ths");
        let at = |j: usize, s: usize, h: usize, a: usize| {
            values[((j * 6 + h) * 300 + s) * 10 + a] / 1024.0
        };
        let batch = |j: usize| {
            let cells = (0..300).flat_map(|s| (0..60).map(move |x| (s, x / 10, x % 10)));
            cells.map(|(s, h, a)| at(j, s, h, a)).collect()
        };
        Given((0..30).map(batch).collect())
    }

    /// Runs one recorded search and compares every iteration.
    fn compare_with_recorded(recorded: &Npz, name: &str, kind: &str, tolerance: f64) {
        let value = |field: &str| recorded.values(&format!("{name}__{kind}__{field}"));
        let limits = if name == "quad_clipped" {
            let low = Limit::new((0..5).collect(), 0.5);
            vec![low, Limit::new(vec![5, 7], 0.9)]
        } else {
            Vec::new()
        };
        let planner = Cem::new(CemConfig {
            limits,
            ..CemConfig::default()
        })
        .unwrap();
        let mut noise = recorded_noise(recorded);
        let mut cost = RecordedCost::read(recorded, name, "t", "w");
        let mut search = Gaussian::centred(SHAPE, 1.0);
        let mut batch = ActionBatch::zeros(300, SHAPE);
        let mut trace = Trace::default();
        for iteration in 0..30 {
            planner.propose(&search, &mut batch, &mut noise, iteration);
            let costs = evaluate(&mut cost, &batch, iteration).unwrap();
            let chosen = elites(&costs, 10);
            let expected = &value("elites")[10 * iteration..][..10];
            let set: std::collections::BTreeSet<usize> = chosen.iter().copied().collect();
            let expected = expected.iter().map(|&index| index as usize).collect();
            assert_eq!(set, expected, "{name} {kind}, iteration {iteration}");
            trace.push(&costs, &chosen);
            planner.refit(&mut search, &batch, &chosen);
            let what = format!("{name} {kind}, iteration {iteration}");
            assert_close(
                &search.mean,
                &value("mean")[60 * iteration..][..60],
                tolerance,
                &what,
            );
            assert_close(
                &search.std,
                &value("std")[60 * iteration..][..60],
                tolerance,
                &what,
            );
        }
        assert_close(&trace.best, value("min_cost"), tolerance, name);
        assert_close(&trace.elite_mean, value("elite_mean"), tolerance, name);
        assert_close(&trace.elite_std, value("elite_std"), tolerance, name);
        let whole = planner.plan(SHAPE, &mut cost, &mut noise).unwrap();
        assert_eq!((whole.actions, whole.trace), (search.mean, trace));
    }

    #[test]
    fn the_recorded_searches_are_reproduced() {
        let recorded = Npz::read("sims/cem_traces.npz");
        for name in ["quad", "rast", "wall", "quad_clipped"] {
            compare_with_recorded(&recorded, name, "f64", 1e-9);
            compare_with_recorded(&recorded, name, "f32", 2e-5);
        }
    }

    #[test]
    fn the_optimum_of_a_quadratic_is_found() {
        let target = [0.5, -1.0, 0.25, 1.5];
        let planner = Cem::new(CemConfig::default()).unwrap();
        let plan = planner
            .plan(SMALL, &mut quadratic(&target), &mut SeededNoise(3))
            .unwrap();
        assert_close(&plan.actions, &target, 1e-3, "plan");
        assert!(plan.trace.best[29] < 1e-6);
    }

    #[test]
    fn limits_keep_the_plan_inside() {
        let limits = vec![Limit::new(vec![1], 0.75)];
        let planner = Cem::new(CemConfig {
            limits,
            ..CemConfig::default()
        })
        .unwrap();
        let plan = planner
            .plan(SMALL, &mut quadratic(&[2.0; 4]), &mut SeededNoise(4))
            .unwrap();
        assert_close(&plan.actions, &[2.0, 0.75, 2.0, 0.75], 1e-2, "plan");
        assert!(plan.actions[1] <= 0.75 && plan.actions[3] <= 0.75);
    }

    #[test]
    fn one_elite_freezes_the_search_at_the_best_first_candidate() {
        let config = CemConfig {
            elites: 1,
            iterations: 4,
            ..CemConfig::default()
        };
        let planner = Cem::new(config).unwrap();
        let plan = planner
            .plan(SMALL, &mut quadratic(&TARGET), &mut SeededNoise(5))
            .unwrap();
        assert!(
            plan.trace
                .best
                .iter()
                .all(|best| *best == plan.trace.best[0])
        );
        assert_eq!(plan.trace.elite_std, [0.0; 4]);
        let at_plan = quadratic(&TARGET).0(&plan.actions);
        assert_eq!(at_plan, plan.trace.best[0]);
    }

    #[test]
    fn a_flat_cost_keeps_the_first_candidates() {
        let planner = small(Vec::new());
        let plan = planner
            .plan(SMALL, &mut FnCost(|_| 1.0), &mut formula_noise())
            .unwrap();
        let noise = formula_noise();
        // Candidate 0 is the mean, so the three elites are it and candidates 1 and 2.
        let mut mean = [0.0; 4];
        let mut std = [1.0; 4];
        for z in &noise.0 {
            for i in 0..4 {
                let x = [
                    mean[i],
                    mean[i] + std[i] * z[4 + i],
                    mean[i] + std[i] * z[8 + i],
                ];
                (mean[i], std[i]) = moments(&x);
            }
        }
        assert_eq!(plan.actions, mean);
    }

    #[test]
    fn momentum_keeps_a_share_of_the_old_mean() {
        let run = |mean_momentum| {
            let config = CemConfig {
                mean_momentum,
                iterations: 1,
                ..CemConfig::default()
            };
            let planner = Cem::new(config).unwrap();
            planner
                .plan(SMALL, &mut quadratic(&TARGET), &mut SeededNoise(6))
                .unwrap()
                .actions
        };
        let (free, held) = (run(0.0), run(0.25));
        let expected: Vec<f64> = free.iter().map(|mean| 0.75 * mean).collect();
        assert_close(&held, &expected, 1e-15, "mean");
        assert_eq!(run(1.0), [0.0; 4]);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let refused = |text: &str| (ENTRY.build)(&text.parse().unwrap()).is_err();
        for text in [
            "elites = 301",
            "elites = 0",
            "candidates = 0",
            "iterations = 0",
            "initial_std = 0.0",
            "mean_momentum = 1.5",
            "limits = [{ dims = [0], bound = -1.0 }]",
            "candidates = \"many\"",
        ] {
            assert!(refused(text), "{text}");
        }
        let planner = small(vec![Limit::new(vec![2], 1.0)]);
        assert!(
            planner
                .plan(SMALL, &mut quadratic(&TARGET), &mut SeededNoise(1))
                .is_err()
        );
    }
}
