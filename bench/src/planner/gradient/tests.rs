use super::*;
use crate::fixtures::Npz;
use crate::planner::testing::{FnCost, Given, RecordedCost, SeededNoise, assert_close, quadratic};

const SMALL: PlanShape = PlanShape {
    horizon: 2,
    width: 2,
};
const TARGET: [f64; 4] = [0.5, 1.0, -1.5, 2.0];

fn descend(text: &str) -> Descend {
    Descend::new(read_settings(GD.name, &text.parse().unwrap()).unwrap()).unwrap()
}

fn adam(text: &str) -> Descend {
    let config: AdamConfig = read_settings(ADAM.name, &text.parse().unwrap()).unwrap();
    Descend::checked(ADAM.name, config.descent(), Some(config.rates())).unwrap()
}

const CLIPPED: &str =
    "\nlimits = [{ dims = [0, 1, 2, 3, 4], bound = 0.5 }, { dims = [5, 7], bound = 0.9 }]";

/// Who wrote a part of the archive.
#[derive(Clone, Copy)]
enum Recorder {
    /// The released planner. Its losses are in single precision, and rows of plans were numbered by its calls
    /// of the model, two per update, up to the last row; see the README of the fixtures.
    Released,
    /// `torch.optim.Adam`.
    Torch,
}

impl Recorder {
    /// Updates behind a row that the archive numbers `label`.
    fn updates(self, label: f64) -> usize {
        match self {
            Self::Released if label < 500.0 => (label / 2.0).ceil() as usize,
            _ => label as usize,
        }
    }

    fn loss(self, loss: f64) -> f64 {
        match self {
            Self::Released => f64::from(loss as f32),
            Self::Torch => loss,
        }
    }
}

/// Runs one recorded descent and compares every loss and the plans that were kept.
fn compare_with_recorded(
    recorded: &Npz,
    (name, cost): (&str, &str),
    planner: &Descend,
    recorder: Recorder,
) {
    let shape = PlanShape {
        horizon: 6,
        width: 10,
    };
    let value = |field: &str| recorded.values(&format!("{name}__{field}"));
    let mut noise = Given(vec![vec![0.0; 60]; 501]);
    noise.0[0].copy_from_slice(recorded.values("x0"));
    let mut cost = RecordedCost::read(recorded, cost, "t", "w");
    let mut plans = Vec::new();
    let mut watch = |_: &[f64], actions: &[f64]| plans.push(actions.to_vec());
    let plan = planner
        .search(shape, &mut cost, &mut noise, &mut watch)
        .unwrap();
    let labels = value("iterations");
    assert_eq!((plans.len(), labels.len()), (500, 12));
    for (label, expected) in labels.iter().zip(value("actions").chunks(60)) {
        let done = recorder.updates(*label);
        assert_close(
            &plans[done - 1],
            expected,
            1e-9,
            &format!("{name} after {done}"),
        );
    }
    assert_eq!(plan.actions, plans[499]);
    let losses: Vec<f64> = plan
        .trace
        .best
        .iter()
        .map(|loss| recorder.loss(*loss))
        .collect();
    assert_close(&losses, value("loss"), 1e-9, name);
    assert_eq!(plan.trace.elite_std, [0.0; 500]);
}

#[test]
fn the_recorded_descents_are_reproduced() {
    let recorded = Npz::read("sims/gd_traces.npz");
    let gd = |text: &str| descend(&format!("action_noise = 0.0\n{text}"));
    for (name, cost, settings) in [
        ("quad", "quad", ""),
        ("quad_lr5", "quad", "learning_rate = 5.0"),
        ("rast", "rast", ""),
        ("quad_clipped", "quad", CLIPPED),
    ] {
        compare_with_recorded(&recorded, (name, cost), &gd(settings), Recorder::Released);
    }
}

#[test]
fn the_recorded_descents_of_adam_are_reproduced() {
    let recorded = Npz::read("sims/gd_traces.npz");
    for (name, rate) in [("true_adam_quad_lr1", 1.0), ("true_adam_quad_lr0p05", 0.05)] {
        let planner = adam(&format!("action_noise = 0.0\nlearning_rate = {rate:?}"));
        compare_with_recorded(&recorded, (name, "quad"), &planner, Recorder::Torch);
    }
}

#[test]
fn the_released_adam_is_gradient_descent_and_adam_is_not() {
    let run = |entry: &PlannerEntry| {
        let planner = (entry.build)(&"iterations = 5".parse().unwrap()).unwrap();
        planner
            .plan(SMALL, &mut quadratic(&TARGET), &mut SeededNoise(1))
            .unwrap()
    };
    assert_eq!(run(&GD), run(&ADAM_AS_RELEASED));
    assert_ne!(run(&GD), run(&ADAM));
}

#[test]
fn a_step_is_gradient_and_noise_and_then_clipped() {
    let noise = vec![vec![1.0, 2.0, -1.0, 0.5], vec![2.0, -2.0, 4.0, -8.0]];
    let planner = descend(
        "iterations = 1\nlearning_rate = 0.5\ninitial_std = 2.0\naction_noise = 0.25\n\
         limits = [{ dims = [1], bound = 3.0 }]",
    );
    // The slope of every number is its index.
    let mut cost = FnCost(|x| (0..4).map(|i| i as f64 * x[i]).sum());
    let plan = planner.plan(SMALL, &mut cost, &mut Given(noise)).unwrap();
    // The second number would be 3 and stays; the fourth would be -2.5 and stays too.
    assert_close(&plan.actions, &[2.5, 3.0, -2.0, -2.5], 1e-9, "plan");
    let planner =
        descend("iterations = 1\naction_noise = 4.0\nlimits = [{ dims = [0, 1], bound = 3.0 }]");
    let noise = vec![vec![0.0; 4], vec![1.0, -1.0, 0.5, 0.0]];
    let plan = planner
        .plan(SMALL, &mut FnCost(|_| 1.0), &mut Given(noise))
        .unwrap();
    assert_eq!(plan.actions, [3.0, -3.0, 2.0, 0.0]);
}

#[test]
fn the_first_step_of_adam_is_the_learning_rate_in_every_direction() {
    let planner =
        adam("iterations = 1\nlearning_rate = 0.25\naction_noise = 0.0\nstart = \"zero\"");
    let mut cost = FnCost(|x| 3.0 * x[0] - 0.5 * x[1] + 7.0 * x[2] - x[3]);
    let plan = planner.plan(SMALL, &mut cost, &mut SeededNoise(1)).unwrap();
    assert_close(&plan.actions, &[-0.25, 0.25, -0.25, 0.25], 1e-6, "plan");
}

#[test]
fn a_start_at_zero_draws_no_start() {
    let planner = descend("iterations = 1\nstart = \"zero\"\naction_noise = 0.0");
    let mut noise = Given(vec![vec![9.0; 4], vec![1.0; 4]]);
    let plan = planner
        .plan(SMALL, &mut FnCost(|x| x[0]), &mut noise)
        .unwrap();
    assert_close(&plan.actions, &[-1.0, 0.0, 0.0, 0.0], 1e-9, "plan");
}

#[test]
fn the_optimum_of_a_quadratic_is_found() {
    for planner in [
        descend("action_noise = 0.0"),
        adam("action_noise = 0.0\nlearning_rate = 0.1"),
    ] {
        let plan = planner
            .plan(SMALL, &mut quadratic(&TARGET), &mut SeededNoise(1))
            .unwrap();
        assert_close(&plan.actions, &TARGET, 1e-3, planner.name());
    }
}

#[test]
fn the_last_plan_is_returned_and_not_the_best() {
    // A step of 2 over a slope of 1 jumps over the kink at 0 and back.
    let planner =
        descend("iterations = 3\nlearning_rate = 2.0\nstart = \"zero\"\naction_noise = 0.0");
    let mut cost = FnCost(|x: &[f64]| (x[0] - 0.5).abs());
    let plan = planner.plan(SMALL, &mut cost, &mut SeededNoise(1)).unwrap();
    assert_close(&plan.trace.best, &[0.5, 1.5, 0.5], 1e-9, "costs");
    assert_close(&plan.actions[..1], &[2.0], 1e-9, "plan");
}

#[test]
fn settings_out_of_range_are_refused() {
    for text in [
        "iterations = 0",
        "learning_rate = 0.0",
        "initial_std = -1.0",
        "action_noise = -0.1",
        "start = \"one\"",
        "beta1 = 0.9",
        "limits = [{ dims = [0], bound = -1.0 }]",
    ] {
        assert!((GD.build)(&text.parse().unwrap()).is_err(), "{text}");
    }
    for text in [
        "beta1 = 1.0",
        "beta2 = -0.1",
        "epsilon = 0.0",
        "learning_rate = nan",
    ] {
        assert!((ADAM.build)(&text.parse().unwrap()).is_err(), "{text}");
    }
    let planner = descend("limits = [{ dims = [2], bound = 1.0 }]");
    assert!(
        planner
            .plan(SMALL, &mut quadratic(&TARGET), &mut SeededNoise(1))
            .is_err()
    );
}
