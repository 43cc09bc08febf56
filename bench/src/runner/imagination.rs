//! Imagined against executed: what a world model expected of a plan, and what then happened.

use jepa_leaderboard::EpisodeRow;
use jepa_models::{ActionBatch, CostSpec, Latent, Rollout, Steps, WorldModel};
use serde::Serialize;

use super::Evaluation;
use super::tape::{Tape, unfit};
use crate::agent::{Policy, observe};
use crate::{Result, objective};

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
    let mut past = Past::new(evaluation, model.as_ref(), row)?;
    let goal = past.encode_goal()?;
    let frameskip = evaluation.config.protocol.frameskip;
    let mut found = Vec::new();
    for executed in executed_plans(evaluation, row) {
        let imagined = past.predict(&executed, frameskip, &goal)?;
        for (block, imagined) in imagined.into_iter().enumerate() {
            let step = executed.first + (block + 1) * frameskip;
            found.push(ImaginedStep {
                plan: executed.plan,
                step,
                imagined,
                executed: past.cost_at(step, &goal)?,
            });
        }
    }
    Ok(found)
}

/// The part of a plan that was executed as it was imagined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExecutedPlan {
    /// Plan, from 0.
    pub(super) plan: usize,
    /// Environment step at which it began.
    pub(super) first: usize,
    /// Whole model steps; a block that the budget cut short was not executed as it was imagined.
    pub(super) blocks: usize,
}

/// The plans of a recorded episode, without those that were cut short before their first model step was over.
pub(super) fn executed_plans(evaluation: &Evaluation, row: &EpisodeRow) -> Vec<ExecutedPlan> {
    let frameskip = evaluation.config.protocol.frameskip;
    let per_plan = frameskip * evaluation.config.planner.replan_every;
    let steps = row.distances.len().saturating_sub(1);
    let plans = (0..steps).step_by(per_plan).enumerate();
    let plans = plans.map(|(plan, first)| ExecutedPlan {
        plan,
        first,
        blocks: per_plan.min(steps - first) / frameskip,
    });
    plans.filter(|executed| executed.blocks > 0).collect()
}

/// A recorded episode with what is needed to look at it again.
pub(super) struct Past<'a> {
    model: &'a dyn WorldModel,
    pub(super) tape: Tape,
    row: &'a EpisodeRow,
    spec: CostSpec,
}

impl<'a> Past<'a> {
    pub(super) fn new(
        evaluation: &Evaluation,
        model: &'a dyn WorldModel,
        row: &'a EpisodeRow,
    ) -> Result<Self> {
        Ok(Self {
            model,
            tape: Tape::play(evaluation, row)?,
            row,
            spec: CostSpec {
                steps: Steps::Last,
                ..evaluation.config.objective
            },
        })
    }

    /// Latent of the goal.
    pub(super) fn encode_goal(&mut self) -> Result<Latent> {
        observe(self.model, self.tape.goal()?)
    }

    /// Latent after `step` environment steps.
    pub(super) fn encode_step(&mut self, step: usize) -> Result<Latent> {
        observe(self.model, self.tape.at(step)?)
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

    /// Latents after each model step of an executed plan, predicted from where it began.
    pub(super) fn rollout(&mut self, executed: &ExecutedPlan, frameskip: usize) -> Result<Rollout> {
        let ExecutedPlan { first, blocks, .. } = *executed;
        let steps = blocks * frameskip;
        let start = self.encode_step(first)?;
        let width = self.tape.limits().action_width;
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
        Ok(self.model.unroll(&start, batch)?)
    }

    /// Costs after each model step of an executed plan.
    fn predict(
        &mut self,
        executed: &ExecutedPlan,
        frameskip: usize,
        goal: &Latent,
    ) -> Result<Vec<f64>> {
        let rollout = self.rollout(executed, frameskip)?;
        // Each step of the one candidate becomes a candidate of one step.
        self.costs(
            &Rollout {
                samples: executed.blocks,
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
