use super::*;
use crate::planner::moments;
use crate::planner::testing::{FnCost, Given, SeededNoise, assert_close, formula_noise, quadratic};

const SHAPE: PlanShape = PlanShape {
    horizon: 2,
    width: 2,
};
const TARGET: [f64; 4] = [0.5, 1.0, -1.5, 2.0];

fn planner(text: &str) -> Icem {
    Icem::new(read_settings(ENTRY.name, &text.parse().unwrap()).unwrap()).unwrap()
}

fn run(text: &str, cost: &mut dyn CostModel, noise: &mut dyn Noise) -> Plan {
    planner(text).plan(SHAPE, cost, noise).unwrap()
}

/// Candidates of every iteration, as the cost saw them.
struct Watched(Vec<ActionBatch>);

impl CostModel for Watched {
    fn costs(&mut self, actions: &ActionBatch) -> Result<Vec<f64>> {
        self.0.push(actions.clone());
        quadratic(&TARGET).costs(actions)
    }
}

#[test]
fn the_optimum_of_a_quadratic_is_found() {
    let plan = run("", &mut quadratic(&TARGET), &mut SeededNoise(1));
    assert_close(&plan.actions, &TARGET, 1e-3, "plan");
}

#[test]
fn two_steps_of_noise_are_their_sum_and_their_difference() {
    // Along two steps there are the constant and the alternating wave, with the same power at exponent 2:
    // x = (z_0 + z_1) / sqrt(2), (z_0 - z_1) / sqrt(2).
    let mut cost = Watched(Vec::new());
    let settings = "candidates = 12\nelites = 3\nkept_elites = 0\niterations = 1";
    run(settings, &mut cost, &mut formula_noise(12, 0..1));
    let normals = &formula_noise(12, 0..1).0[0];
    let half = 0.5_f64.sqrt();
    for candidate in 0..12 {
        let z = &normals[4 * candidate..][..4];
        let expected = [z[0] + z[2], z[1] + z[3], z[0] - z[2], z[1] - z[3]];
        let expected = expected.map(|sum| half * sum);
        let found = cost.0[0].candidate(candidate);
        assert_close(found, &expected, 1e-14, "candidate");
    }
}

#[test]
fn the_best_of_an_iteration_are_the_first_candidates_of_the_next() {
    let mut cost = Watched(Vec::new());
    let settings = "candidates = 20\nelites = 6\nkept_elites = 4\niterations = 5";
    let plan = run(settings, &mut cost, &mut SeededNoise(2));
    for pair in cost.0.windows(2) {
        let costs = quadratic(&TARGET).costs(&pair[0]).unwrap();
        for (place, best) in elites(&costs, 4).into_iter().enumerate() {
            assert_eq!(pair[1].candidate(place), pair[0].candidate(best));
        }
    }
    // What is kept can only be beaten.
    let falls = plan.trace.best.windows(2).all(|pair| pair[1] <= pair[0]);
    assert!(falls, "{:?}", plan.trace.best);
}

#[test]
fn mean_and_deviation_keep_a_share_of_the_old_ones() {
    // White noise, equal costs: the elites are candidates 0 and 1, in both iterations.
    let settings = "candidates = 4\nelites = 2\nkept_elites = 0\niterations = 2\nmomentum = 0.25\nnoise_exponent = 0";
    let noise = || {
        let draw = |z: [f64; 2]| vec![z[0], z[1], 9.0, 9.0];
        Given(vec![draw([1.0, 3.0]), draw([-1.0, 3.0])])
    };
    let shape = PlanShape {
        horizon: 1,
        width: 1,
    };
    let plan = planner(settings)
        .plan(shape, &mut FnCost(|_| 1.0), &mut noise())
        .unwrap();
    let (mean, std) = (0.75 * 2.0, 0.75 * 2.0_f64.sqrt() + 0.25);
    let (second, _) = moments(&[mean - std, mean + 3.0 * std]);
    let expected = 0.75 * second + 0.25 * mean;
    assert_close(&plan.actions, &[expected], 1e-15, "mean");
}

#[test]
fn one_elite_ends_at_the_best_candidate_but_for_the_momentum() {
    let settings = "elites = 1\nkept_elites = 1\nmomentum = 0.0\niterations = 3";
    let mut cost = Watched(Vec::new());
    let plan = run(settings, &mut cost, &mut SeededNoise(5));
    let at_plan = quadratic(&TARGET).0(&plan.actions);
    assert_close(&[at_plan], &plan.trace.best[2..], 1e-15, "cost of the plan");
    assert_close(&plan.trace.elite_std, &[0.0; 3], 0.0, "spread of one");
}

#[test]
fn settings_out_of_range_are_refused() {
    for text in [
        "elites = 0",
        "iterations = 0",
        "initial_std = 0.0",
        "kept_elites = 31",
        "candidates = 30\nkept_elites = 30",
        "noise_exponent = -1.0",
        "momentum = 1.5",
        "limits = [{ dims = [0], bound = 0.0 }]",
    ] {
        assert!((ENTRY.build)(&text.parse().unwrap()).is_err(), "{text}");
    }
    let far = planner("limits = [{ dims = [2], bound = 1.0 }]");
    let found = far.plan(SHAPE, &mut quadratic(&TARGET), &mut SeededNoise(1));
    assert!(found.is_err());
}
