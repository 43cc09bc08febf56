//! The planning objective in plain arrays (evaluation.md section 2).
//!
//! A [`jepa_models::WorldModel`] computes costs where its latents are, without copying them out. This
//! is the same number written for reading, over the latents of
//! [`unroll`](jepa_models::WorldModel::unroll): what those costs are compared with, and what a model
//! of another framework can call to implement them.

use jepa_models::{CostSpec, Distance, Latent, Rollout, Steps};

/// Cost of each candidate, `[S]`: the distance of its predicted latents to the goal.
///
/// ```text
/// c_t  = d(goal, z_t) + weight * d(goal_proprio, proprio_t)
/// d    = mean |a - b|^p with p = 1 or 2, or -cos(a, b)
/// cost = c_H, or the sum of all c_t
/// ```
///
/// The release also adds the distance of the start to the sum; it is the same for every candidate
/// and left out here. `None` when the sizes of goal and rollout disagree or there is no step.
pub fn costs(rollout: &Rollout, goal: &Latent, spec: &CostSpec) -> Option<Vec<f64>> {
    let cells = rollout.samples * rollout.horizon;
    let fits = rollout.horizon > 0
        && !goal.visual.is_empty()
        && rollout.visual.len() == cells * goal.visual.len()
        && rollout.proprio.len() == cells * goal.proprio.len();
    let first = match spec.steps {
        Steps::Last => rollout.horizon.checked_sub(1)?,
        Steps::All => 0,
    };
    let cost = |sample: usize| {
        let steps = (first..rollout.horizon).map(|step| sample * rollout.horizon + step);
        steps
            .map(|cell| step_cost(rollout, goal, *spec, cell))
            .sum()
    };
    fits.then(|| (0..rollout.samples).map(cost).collect())
}

/// Cost of one predicted step of one candidate.
fn step_cost(rollout: &Rollout, goal: &Latent, spec: CostSpec, cell: usize) -> f64 {
    let row = |width: usize| cell * width..(cell + 1) * width;
    let visual = &rollout.visual[row(goal.visual.len())];
    let cost = compare(visual, &goal.visual, spec.distance);
    if goal.proprio.is_empty() {
        return cost;
    }
    let proprio = &rollout.proprio[row(goal.proprio.len())];
    let weight = f64::from(spec.proprio_weight);
    cost + weight * compare(proprio, &goal.proprio, spec.distance)
}

/// Mean over components of the squared or absolute difference, or minus the cosine of the angle; a vector of
/// zeros counts as at a right angle to everything.
fn compare(a: &[f32], b: &[f32], distance: Distance) -> f64 {
    let mean = |term: fn(f64, f64) -> f64| sum(a, b, term) / a.len() as f64;
    match distance {
        Distance::L2 => mean(|a, b| (a - b) * (a - b)),
        Distance::L1 => mean(|a, b| (a - b).abs()),
        Distance::Cosine => {
            let length = |v: &[f32]| sum(v, v, |a, b| a * b).sqrt().max(1e-8);
            -sum(a, b, |a, b| a * b) / (length(a) * length(b))
        }
    }
}

/// Sum of a term over pairs of components.
fn sum(a: &[f32], b: &[f32], term: fn(f64, f64) -> f64) -> f64 {
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| term(f64::from(*a), f64::from(*b))).sum()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers must agree to the last bit")]
mod tests {
    use super::*;

    /// Two candidates, two steps, two visual numbers, one proprio number.
    fn rollout() -> Rollout {
        Rollout {
            visual: vec![0.0, 2.0, 1.0, 1.0, 3.0, 1.0, -1.0, 4.0],
            proprio: vec![0.0, 2.0, 1.0, 5.0],
            samples: 2,
            horizon: 2,
        }
    }

    fn goal() -> Latent {
        Latent {
            visual: vec![1.0, 0.0],
            proprio: vec![1.0],
        }
    }

    fn spec(distance: Distance, steps: Steps, proprio_weight: f32) -> CostSpec {
        CostSpec {
            distance,
            steps,
            proprio_weight,
        }
    }

    #[test]
    fn the_last_step_is_a_mean_of_squares_or_absolutes() {
        let run = |distance| costs(&rollout(), &goal(), &spec(distance, Steps::Last, 0.0));
        // Last steps: (1, 1) and (-1, 4) against (1, 0).
        assert_eq!(run(Distance::L2).unwrap(), [0.5, 10.0]);
        assert_eq!(run(Distance::L1).unwrap(), [0.5, 3.0]);
    }

    #[test]
    fn the_proprio_weight_adds_its_own_mean_of_the_same_kind() {
        let added = |distance| {
            let run =
                |weight| costs(&rollout(), &goal(), &spec(distance, Steps::Last, weight)).unwrap();
            let (without, with) = (run(0.0), run(0.25));
            [with[0] - without[0], with[1] - without[1]]
        };
        // Last proprio: 2 and 5 against 1.
        assert_eq!(added(Distance::L2), [0.25, 0.25 * 16.0]);
        assert_eq!(added(Distance::L1), [0.25, 0.25 * 4.0]);
        assert_eq!(added(Distance::Cosine), [-0.25, -0.25]);
    }

    #[test]
    fn the_cosine_is_that_of_whole_vectors() {
        let found = costs(
            &rollout(),
            &goal(),
            &spec(Distance::Cosine, Steps::Last, 0.0),
        )
        .unwrap();
        // (1, 1) and (-1, 4) against (1, 0).
        let expected = [-0.5_f64.sqrt(), 1.0 / 17.0_f64.sqrt()];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        let nowhere = Latent {
            visual: vec![0.0; 2],
            ..goal()
        };
        let found = costs(
            &rollout(),
            &nowhere,
            &spec(Distance::Cosine, Steps::Last, 0.0),
        );
        assert_eq!(found, Some(vec![0.0; 2]));
    }

    #[test]
    fn all_steps_are_summed() {
        let found = costs(&rollout(), &goal(), &spec(Distance::L2, Steps::All, 0.0)).unwrap();
        // First steps: (0, 2) and (3, 1) against (1, 0).
        assert_eq!(found, [0.5 + 2.5, 10.0 + 2.5]);
    }

    #[test]
    fn a_model_without_proprio_has_no_proprio_cost() {
        let rollout = Rollout {
            proprio: Vec::new(),
            ..rollout()
        };
        let goal = Latent {
            proprio: Vec::new(),
            ..goal()
        };
        let found = costs(&rollout, &goal, &spec(Distance::L2, Steps::Last, 9.0)).unwrap();
        assert_eq!(found, [0.5, 10.0]);
    }

    #[test]
    fn a_mean_over_tokens_is_the_mean_over_all_their_numbers() {
        let wide = Latent {
            visual: vec![1.0, 0.0, 2.0, -1.0],
            proprio: Vec::new(),
        };
        let rollout = Rollout {
            visual: vec![0.0; 4],
            proprio: Vec::new(),
            samples: 1,
            horizon: 1,
        };
        let found = costs(&rollout, &wide, &spec(Distance::L2, Steps::Last, 0.0)).unwrap();
        assert_eq!(found, [6.0 / 4.0]);
    }

    #[test]
    fn sizes_that_disagree_have_no_cost() {
        let spec = spec(Distance::L2, Steps::Last, 0.1);
        let short = Latent {
            visual: vec![1.0],
            proprio: vec![1.0],
        };
        let empty = Rollout {
            visual: Vec::new(),
            proprio: Vec::new(),
            samples: 0,
            horizon: 0,
        };
        assert_eq!(costs(&rollout(), &short, &spec), None);
        assert_eq!(costs(&empty, &goal(), &spec), None);
        assert_eq!(
            costs(
                &Rollout {
                    proprio: Vec::new(),
                    ..rollout()
                },
                &goal(),
                &spec
            ),
            None
        );
    }
}
