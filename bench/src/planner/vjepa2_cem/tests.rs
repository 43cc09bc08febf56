use super::*;
use crate::planner::testing::{FnCost, Given, SeededNoise, assert_close, quadratic};

/// Two model steps of two environment actions each.
const SHAPE: PlanShape = PlanShape {
    horizon: 2,
    width: 14,
};

fn planner(text: &str) -> Vjepa2Cem {
    Vjepa2Cem::new(read_settings(ENTRY.name, &text.parse().unwrap()).unwrap()).unwrap()
}

/// Candidates of every iteration, as the cost saw them.
struct Watched<'a> {
    target: &'a [f64],
    seen: Vec<ActionBatch>,
}

impl CostModel for Watched<'_> {
    fn costs(&mut self, actions: &ActionBatch) -> Result<Vec<f64>> {
        self.seen.push(actions.clone());
        // Translations are small: they count as much as the gripper where their squares are enlarged.
        let weighted = |x: &[f64]| {
            let pairs = x.iter().zip(self.target).enumerate();
            let squares = pairs.map(|(at, (x, t))| {
                let scale = if at % 7 < 3 { 20.0 } else { 1.0 };
                scale * scale * (x - t) * (x - t)
            });
            squares.sum::<f64>()
        };
        FnCost(weighted).costs(actions)
    }
}

fn search(text: &str, target: &[f64]) -> (Plan, Vec<ActionBatch>) {
    let mut cost = Watched {
        target,
        seen: Vec::new(),
    };
    let plan = planner(text)
        .plan(SHAPE, &mut cost, &mut SeededNoise(1))
        .unwrap();
    (plan, cost.seen)
}

#[test]
fn the_hand_moves_and_grips_within_its_limits_and_never_turns() {
    let target = [0.02, -0.03, 0.08, 4.0, 4.0, 4.0, -1.5].repeat(4);
    let (plan, seen) = search("", &target);
    assert_eq!(seen.len(), 10);
    assert!(seen.iter().all(|batch| batch.samples == 400));
    for batch in &seen {
        for action in batch.values.chunks(7) {
            assert!(action[..3].iter().all(|value| value.abs() <= 0.05));
            assert!(action[3..6].iter().all(|&value| value == 0.0));
            assert!(action[6].abs() <= 0.75);
        }
    }
    for action in plan.actions.chunks(7) {
        let expected = [0.02, -0.03, 0.05, 0.0, 0.0, 0.0];
        assert_close(&action[..6], &expected, 8e-3, "translation, rotation");
        assert_close(&action[6..], &[-0.75], 8e-2, "gripper");
    }
}

#[test]
fn the_first_candidates_spread_as_far_as_the_limit_and_the_mean_is_none_of_them() {
    let mut normals = vec![0.0; 4 * 28];
    normals[..7].copy_from_slice(&[0.5, -0.25, 3.0, 1.0, 1.0, 1.0, 0.5]);
    normals[7..14].copy_from_slice(&[0.0, 0.0, -0.5, 0.0, 0.0, 0.0, -2.0]);
    let mut cost = Watched {
        target: &[0.0; 28],
        seen: Vec::new(),
    };
    planner("candidates = 4\nelites = 2\niterations = 1")
        .plan(SHAPE, &mut cost, &mut Given(vec![normals]))
        .unwrap();
    let first = cost.seen[0].candidate(0);
    let expected = [0.025, -0.0125, 0.05, 0.0, 0.0, 0.0, 0.5];
    assert_close(&first[..7], &expected, 1e-15, "first action");
    let expected = [0.0, 0.0, -0.025, 0.0, 0.0, 0.0, -0.75];
    assert_close(&first[7..14], &expected, 1e-15, "second action");
}

#[test]
fn mean_and_deviation_keep_their_own_shares() {
    let planner = planner("mean_momentum = 0.5\nstd_momentum = 0.0\ngripper_std_momentum = 1.0");
    let shape = PlanShape {
        horizon: 1,
        width: 7,
    };
    let mut search = planner.start(shape);
    let mut batch = ActionBatch::zeros(2, shape);
    batch.values[..7].copy_from_slice(&[0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 0.2]);
    batch.values[7..].copy_from_slice(&[0.04, 0.0, 0.0, 0.0, 0.0, 0.0, 0.6]);
    planner.refit(&mut search, &batch, &[0, 1]);
    let found = [search.mean[0], search.std[0], search.mean[6], search.std[6]];
    let expected = [0.5 * 0.03, 0.02 / 2.0_f64.sqrt(), 0.85 * 0.4, 1.0];
    assert_close(&found, &expected, 1e-15, "translation, gripper");
}

#[test]
fn a_gripper_that_hardly_moves_does_not() {
    let planner = planner("");
    let mean = [0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.24].repeat(4);
    let plan = planner.settle(mean, SHAPE);
    assert_eq!(plan, [0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0].repeat(4));
    let mean = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.25].repeat(4);
    assert_eq!(planner.settle(mean.clone(), SHAPE), mean);
}

#[test]
fn a_gripper_is_closed_from_the_given_step_on() {
    let target = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5].repeat(4);
    let (plan, seen) = search("close_gripper = 1", &target);
    let grips =
        |values: &[f64]| -> Vec<f64> { values.iter().skip(6).step_by(7).copied().collect() };
    for batch in &seen {
        for index in 0..batch.samples {
            let grips = grips(batch.candidate(index));
            assert!(grips[..2].iter().all(|grip| grip.abs() <= 0.75));
            assert_eq!(grips[2..], [1.0, 1.0]);
        }
    }
    let found = grips(&plan.actions);
    assert_close(&found, &[-0.5, -0.5, 1.0, 1.0], 2e-2, "grips");
    assert_eq!(found[2..], [1.0, 1.0]);
    let (open, _) = search("close_gripper = \"never\"", &target);
    assert_close(&grips(&open.actions), &[-0.5; 4], 2e-2, "grips");
}

#[test]
fn settings_out_of_range_are_refused() {
    for text in [
        "elites = 401",
        "max_norm = 0.0",
        "gripper_std = -1.0",
        "gripper_mean_momentum = 1.1",
        "dead_zone = -0.1",
        "translation = [0, 1, 7]",
        "translation = [0, 1, 6]",
        "translation = []\ngripper = []",
        "action_width = 0",
        "close_gripper = \"soon\"",
    ] {
        assert!((ENTRY.build)(&text.parse().unwrap()).is_err(), "{text}");
    }
    let shape = PlanShape {
        horizon: 1,
        width: 10,
    };
    let found = planner("").plan(shape, &mut quadratic(&[0.0; 10]), &mut SeededNoise(1));
    let error = found.unwrap_err().to_string();
    assert!(error.contains("blocks of 10"), "{error}");
}
