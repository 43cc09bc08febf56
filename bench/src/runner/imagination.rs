//! Imagined against executed: what a world model expected of a plan, and what then happened.

use jepa_leaderboard::EpisodeRow;
use jepa_models::{ActionBatch, CostSpec, Latent, Rollout, Steps, WorldModel};
use serde::Serialize;

use super::Evaluation;
use crate::agent::{Policy, observe};
use crate::env::Env;
use crate::{Error, Result, objective};

/// Cost to the goal after one executed model step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ImaginedStep {
    /// Plan, from 0.
    pub plan: usize,
    /// Environment step after which both costs hold.
    pub step: usize,
    /// Cost of the latent that the model predicted when it planned.
    pub imagined: f64,
    /// Cost of the latent of the state that was reached.
    pub executed: f64,
}

/// Compares prediction and outcome for every model step of a recorded episode. Nothing for policies
/// without a world model.
///
/// Predictions start from the observation at the beginning of each plan and use the actions that were
/// executed; costs are those of the run's objective at single steps.
///
/// # Errors
/// When the recorded episode does not fit the run, or the model fails.
pub fn imagine(evaluation: &Evaluation, row: &EpisodeRow) -> Result<Vec<ImaginedStep>> {
    let Policy::Model(model) = &evaluation.policy else {
        return Ok(Vec::new());
    };
    let mut past = Past {
        model: model.as_ref(),
        env: evaluation.config.environment.build()?,
        row,
        spec: CostSpec {
            steps: Steps::Last,
            ..evaluation.config.objective
        },
    };
    let goal = past.encode(&row.goal)?;
    let frameskip = evaluation.config.protocol.frameskip;
    let per_plan = frameskip * evaluation.config.planner.replan_every;
    let steps = row.distances.len().saturating_sub(1);
    let mut found = Vec::new();
    for (plan, first) in (0..steps).step_by(per_plan).enumerate() {
        // A block that the budget cut short was not executed as it was imagined.
        let blocks = (per_plan.min(steps - first)) / frameskip;
        if blocks == 0 {
            continue;
        }
        let imagined = past.predict(first, blocks * frameskip, blocks, &goal)?;
        for (block, imagined) in imagined.into_iter().enumerate() {
            let step = first + (block + 1) * frameskip;
            let executed = past.cost_at(step, &goal)?;
            found.push(ImaginedStep {
                plan,
                step,
                imagined,
                executed,
            });
        }
    }
    Ok(found)
}

/// A recorded episode with what is needed to look at it again.
struct Past<'a> {
    model: &'a dyn WorldModel,
    env: Box<dyn Env>,
    row: &'a EpisodeRow,
    spec: CostSpec,
}

impl Past<'_> {
    fn encode(&mut self, state: &[f64]) -> Result<Latent> {
        self.env.reset_to(state)?;
        observe(self.model, self.env.as_ref())
    }

    /// Latent of the state after `step` environment steps.
    fn encode_step(&mut self, step: usize) -> Result<Latent> {
        let width = self.env.limits().state_width;
        let state = self.row.states.get(step * width..(step + 1) * width);
        let state = state.ok_or_else(|| unfit("has fewer states than steps"))?;
        self.encode(state)
    }

    /// Cost of the state after `step` environment steps.
    fn cost_at(&mut self, step: usize, goal: &Latent) -> Result<f64> {
        let Latent { visual, proprio } = self.encode_step(step)?;
        let still = Rollout {
            visual,
            proprio,
            samples: 1,
            horizon: 1,
        };
        Ok(self.costs(&still, goal)?[0])
    }

    /// Costs after each of `blocks` model steps, predicted from environment step `first`.
    fn predict(
        &mut self,
        first: usize,
        steps: usize,
        blocks: usize,
        goal: &Latent,
    ) -> Result<Vec<f64>> {
        let start = self.encode_step(first)?;
        let width = self.env.limits().action_width;
        let native = self.row.actions.get(first * width..(first + steps) * width);
        let native = native.ok_or_else(|| unfit("has fewer actions than steps"))?;
        let mut values: Vec<f32> = native.iter().map(|&value| value as f32).collect();
        self.model.info().action.normalize(&mut values);
        let width = values.len() / blocks;
        let batch = ActionBatch {
            values: &values,
            samples: 1,
            horizon: blocks,
            width,
        };
        let rollout = self.model.unroll(&start, batch)?;
        // Each step of the one candidate becomes a candidate of one step.
        self.costs(
            &Rollout {
                samples: blocks,
                horizon: 1,
                ..rollout
            },
            goal,
        )
    }

    fn costs(&self, rollout: &Rollout, goal: &Latent) -> Result<Vec<f64>> {
        objective::costs(rollout, goal, &self.spec)
            .ok_or_else(|| unfit("and the model's latents have different sizes"))
    }
}

fn unfit(detail: &str) -> Error {
    Error::Invalid {
        what: "recorded episode".into(),
        detail: format!("it {detail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::KnowsWall;
    use crate::protocol::{Choices, resolve};
    use crate::runner::run_episode;

    fn evaluation(policy: Policy, replan_every: usize) -> Evaluation {
        let settings = [
            format!("planner.replan_every={replan_every}"),
            "planner.candidates=30".into(),
            "planner.iterations=3".into(),
            "protocol.max_steps=28".into(),
        ];
        let choices = Choices {
            model: Some("test"),
            task: Some("wall@1"),
            settings: &settings,
            ..Choices::default()
        };
        Evaluation::new(resolve(&choices).unwrap(), policy).unwrap()
    }

    #[test]
    fn a_perfect_model_imagines_what_happens() {
        for (replan_every, plans) in [(6, 1), (2, 3)] {
            let model = Policy::Model(Box::new(KnowsWall::new()));
            let evaluation = evaluation(model, replan_every);
            let row = run_episode(&evaluation, 0, &|| false).unwrap().row;
            let steps = imagine(&evaluation, &row).unwrap();
            // 28 steps: five whole blocks; the cut one is left out.
            let at: Vec<usize> = steps.iter().map(|step| step.step).collect();
            assert_eq!(at, [5, 10, 15, 20, 25]);
            assert_eq!(steps.last().unwrap().plan, plans - 1);
            for step in steps {
                let gap = (step.imagined - step.executed).abs();
                assert!(gap < 1e-3 * step.executed.max(1.0), "{step:?}");
            }
        }
    }

    #[test]
    fn the_oracle_imagines_nothing() {
        let evaluation = evaluation(Policy::Oracle, 6);
        let row = run_episode(&evaluation, 0, &|| false).unwrap().row;
        assert_eq!(imagine(&evaluation, &row).unwrap(), []);
    }

    #[test]
    fn a_row_of_another_length_is_refused() {
        let evaluation = evaluation(Policy::Model(Box::new(KnowsWall::new())), 6);
        let mut row = run_episode(&evaluation, 0, &|| false).unwrap().row;
        row.actions.truncate(4);
        assert!(imagine(&evaluation, &row).is_err());
    }
}
