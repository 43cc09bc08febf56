//! Energy landscapes: the cost of simple plans, as the planner sees it (evaluation.md section 1.7).
//!
//! Two components of the environment's action take the values of a grid, the others are 0, and the same action is repeated in
//! all steps of a plan. The value is the run's own objective: that of the world model, or the true one for the oracle.

use jepa_reports::Landscape;

use super::Evaluation;
use crate::agent::Stop;
use crate::planner::{ActionBatch, PlanShape};
use crate::{Error, Result};

/// Candidates that are scored at a time.
const AT_A_TIME: usize = 200;

/// Which plans are scored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// Components of an environment action along x and y.
    pub dims: [usize; 2],
    /// The grid reaches from `-span` to `span`, in normalised units.
    pub span: f64,
    /// Points per axis.
    pub side: usize,
}

impl Grid {
    /// The grid of the release for an environment: 40 x 40 over the first two components.
    pub fn of(environment: &str) -> Self {
        let span = match environment {
            "metaworld" => 2.0,
            "pusht" => 3.0,
            "recorded" => 0.1,
            _ => 1.0,
        };
        Self {
            dims: [0, 1],
            span,
            side: 40,
        }
    }
}

/// The costs of a grid of plans from the beginning of an episode.
///
/// # Errors
/// When the policy has no costs, the grid does not fit the action, or the model fails.
pub fn landscape(
    evaluation: &Evaluation,
    episode: u32,
    grid: Grid,
    stop: Stop<'_>,
) -> Result<Landscape> {
    let Evaluation {
        config,
        policy,
        planner,
        goals,
        ..
    } = evaluation;
    let seed = evaluation.seed(episode);
    let mut env = config.simulator()?;
    let start = goals.draw(env.as_mut(), seed)?.start;
    let width = env.limits().action_width;
    let invalid = |detail: String| Error::Invalid {
        what: "energy landscape".into(),
        detail,
    };
    if grid.dims.iter().any(|dim| *dim >= width) || grid.dims[0] == grid.dims[1] {
        let [x, y] = grid.dims;
        return Err(invalid(format!(
            "components {x} and {y} of an action of {width} numbers"
        )));
    }
    if !(grid.span > 0.0 && grid.span.is_finite() && (2..=1000).contains(&grid.side)) {
        return Err(invalid(
            "its span must be positive and its side 2 to 1000 points".into(),
        ));
    }
    let shape = PlanShape {
        horizon: config.plan_length(planner.as_ref(), config.protocol.warmup_steps),
        width: config.protocol.frameskip * width,
    };
    let name = |dim: usize| format!("component {dim} of the action, normalised");
    let mut landscape = Landscape {
        title: format!("{}, seed {seed}: cost with {}", config.task, policy.name()),
        names: grid.dims.map(name),
        span: grid.span,
        side: grid.side,
        costs: Vec::with_capacity(grid.side * grid.side),
    };
    policy.with_costs(config, env.as_mut(), &start, stop, |costs| {
        let points: Vec<usize> = (0..grid.side * grid.side).collect();
        for points in points.chunks(AT_A_TIME) {
            let mut batch = ActionBatch::zeros(points.len(), shape);
            for (plan, point) in batch.values.chunks_exact_mut(shape.len()).zip(points) {
                let values = landscape.action(*point);
                for action in plan.chunks_exact_mut(width) {
                    grid.dims
                        .iter()
                        .zip(values)
                        .for_each(|(dim, value)| action[*dim] = value);
                }
            }
            landscape.costs.extend(costs.costs(&batch)?);
        }
        Ok(())
    })?;
    Ok(landscape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Policy;
    use crate::agent::testing::KnowsWall;
    use crate::protocol::{Choices, resolve};

    fn evaluation(policy: Policy, name: &str) -> Evaluation {
        let choices = Choices {
            model: Some(name),
            task: Some("wall@1"),
            ..Choices::default()
        };
        Evaluation::new(resolve(&choices).unwrap(), policy).unwrap()
    }

    const GRID: Grid = Grid {
        dims: [0, 1],
        span: 1.0,
        side: 15,
    };

    #[test]
    fn the_cost_of_a_point_is_what_its_action_leads_to_in_the_simulator() {
        let evaluation = evaluation(Policy::Oracle, "oracle");
        let found = landscape(&evaluation, 3, GRID, &|| false).unwrap();
        assert_eq!(found.costs.len(), 225);
        let mut env = evaluation.config().simulator().unwrap();
        let start = env.sample(4).unwrap();
        let normalizer = jepa_datasets::Normalizer::released("wall", "action").unwrap();
        for point in [0, 17, 112, 224] {
            start.enter(env.as_mut()).unwrap();
            let mut action = found.action(point).map(|value| value as f32).to_vec();
            normalizer.denormalize(&mut action);
            let action: Vec<f64> = action.into_iter().map(f64::from).collect();
            for _ in 0..30 {
                env.step(&action).unwrap();
            }
            let distance = env.state_distance(&start.goal, env.state());
            assert!((found.costs[point] - distance * distance).abs() < 1e-9);
        }
    }

    #[test]
    fn a_perfect_model_sees_the_landscape_of_the_oracle() {
        let model = landscape(
            &evaluation(Policy::Model(Box::new(KnowsWall::new())), "test"),
            3,
            GRID,
            &|| false,
        );
        let oracle = landscape(&evaluation(Policy::Oracle, "oracle"), 3, GRID, &|| false);
        assert_eq!(model.unwrap().lowest(), oracle.unwrap().lowest());
    }

    #[test]
    fn grids_that_do_not_fit_and_policies_without_costs_are_refused() {
        let oracle = evaluation(Policy::Oracle, "oracle");
        for grid in [
            Grid {
                dims: [0, 2],
                ..GRID
            },
            Grid {
                dims: [1, 1],
                ..GRID
            },
            Grid {
                span: f64::NAN,
                ..GRID
            },
            Grid { side: 1, ..GRID },
        ] {
            assert!(landscape(&oracle, 0, grid, &|| false).is_err(), "{grid:?}");
        }
        let floor = evaluation(Policy::Noop, "floor:noop");
        let error = landscape(&floor, 0, GRID, &|| false)
            .unwrap_err()
            .to_string();
        assert!(error.contains("floor:noop"), "{error}");
    }
}
