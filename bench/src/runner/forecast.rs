//! How long planning will take, from a trial on the device at hand.

use std::time::{Duration, Instant};

use jepa_models::{ActionBatch, WorldModel};

use super::Evaluation;
use crate::Result;
use crate::agent::{Policy, observe};

/// A trial that takes less than this may have measured how the back end starts, and is made again.
const WARM: Duration = Duration::from_millis(500);

impl Evaluation {
    /// Time that the plans of one episode will take, alone on the device; `None` for policies without a world model.
    ///
    /// The model scores as many candidates as it computes at once, and the rest is proportion. This is a prediction for
    /// people: no result depends on it.
    ///
    /// # Errors
    /// When the model fails.
    pub fn forecast(&self) -> Result<Option<Duration>> {
        let Policy::Model(model) = &self.policy else {
            return Ok(None);
        };
        let horizon = self.config.plan_length(self.planner(), 0);
        let per_batch = self.planner.evaluations() / self.planner.iterations().max(1);
        let most = usize::try_from(per_batch.max(1)).unwrap_or(usize::MAX);
        let samples = model.candidates_at_a_time(horizon).min(most).max(1);
        let mut trial = self.trial(model.as_ref(), samples, horizon)?;
        if trial < WARM {
            trial = self.trial(model.as_ref(), samples, horizon)?;
        }
        let steps = self.estimate().candidate_steps as f64 / (samples * horizon) as f64;
        Ok(Some(trial.mul_f64(steps)))
    }

    /// Time to score `samples` candidates that do nothing.
    fn trial(&self, model: &dyn WorldModel, samples: usize, horizon: usize) -> Result<Duration> {
        let mut env = self.config.simulator()?;
        let start = self.goals.draw(env.as_mut(), self.seed(0))?.start;
        start.enter(env.as_mut())?;
        let latent = observe(model, env.as_ref())?;
        let width = self.config.protocol.frameskip * env.limits().action_width;
        let values = vec![0.0; samples * horizon * width];
        let batch = ActionBatch {
            values: &values,
            samples,
            horizon,
            width,
        };
        let spec = &self.config.objective;
        let began = Instant::now();
        if self.planner.needs_gradients() {
            model.cost_gradients(&latent, &latent, spec, batch)?;
        } else {
            model.costs(&latent, &latent, spec, batch)?;
        }
        Ok(began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::KnowsWall;
    use crate::protocol::{Choices, resolve};

    fn evaluation(policy: Policy, name: &str, settings: &[String]) -> Evaluation {
        let choices = Choices {
            model: Some(name),
            task: Some("wall@1"),
            settings,
            ..Choices::default()
        };
        Evaluation::new(resolve(&choices).unwrap(), policy).unwrap()
    }

    #[test]
    fn the_forecast_of_a_slow_model_is_its_trial_times_the_number_of_batches() {
        let settings = [
            "planner.candidates=20".into(),
            "planner.iterations=4".into(),
        ];
        let pause = Duration::from_millis(30);
        let model = KnowsWall {
            pause,
            at_a_time: 5,
            ..KnowsWall::new()
        };
        let evaluation = evaluation(Policy::Model(Box::new(model)), "test", &settings);
        // 20 candidates in 4 calls of 5, 4 iterations, one plan.
        let forecast = evaluation.forecast().unwrap().unwrap();
        assert!(forecast >= 16 * pause, "{forecast:?}");
    }

    #[test]
    fn what_plans_without_a_model_has_no_forecast() {
        let evaluation = evaluation(Policy::Oracle, "oracle", &[]);
        assert_eq!(evaluation.forecast().unwrap(), None);
    }
}
