//! A recorded episode, played again: the simulator as it was after every step.

use jepa_leaderboard::EpisodeRow;

use super::Evaluation;
use crate::env::{Env, Start};
use crate::{Error, Result};

/// A recorded episode that can be looked at again.
pub(super) struct Tape {
    env: Box<dyn Env>,
    start: Start,
    /// The simulator after the reset and after each step.
    snapshots: Vec<Vec<f64>>,
}

impl Tape {
    /// Plays the actions of `row` again.
    ///
    /// # Errors
    /// When the episode is not one of this run: it begins elsewhere, or its actions lead elsewhere, by a single bit.
    pub(super) fn play(evaluation: &Evaluation, row: &EpisodeRow) -> Result<Self> {
        let mut env = evaluation.config.simulator()?;
        let start = evaluation.goals.draw(env.as_mut(), row.seed)?.start;
        if !(same(&start.init, &row.init) && same(&start.goal, &row.goal)) {
            return Err(unfit(
                "begins or ends elsewhere than the run's episode of its seed",
            ));
        }
        let limits = env.limits();
        let steps = row.distances.len().saturating_sub(1);
        if row.actions.len() < steps * limits.action_width {
            return Err(unfit("has fewer actions than steps"));
        }
        start.enter(env.as_mut())?;
        let mut states = row.states.chunks_exact(limits.state_width);
        let mut snapshots = Vec::with_capacity(steps + 1);
        let mut actions = row.actions.chunks_exact(limits.action_width);
        loop {
            if !states.next().is_some_and(|state| same(state, env.state())) {
                return Err(unfit("has other states than its actions lead to"));
            }
            snapshots.push(env.snapshot()?);
            if snapshots.len() > steps {
                break;
            }
            let action = actions
                .next()
                .ok_or_else(|| unfit("has fewer actions than steps"))?;
            env.step(action)?;
        }
        Ok(Self {
            env,
            start,
            snapshots,
        })
    }

    /// Environment steps.
    pub(super) fn steps(&self) -> usize {
        self.snapshots.len() - 1
    }

    /// The simulator after `step` environment steps.
    pub(super) fn at(&mut self, step: usize) -> Result<&dyn Env> {
        let snapshot = self
            .snapshots
            .get(step)
            .ok_or_else(|| unfit("has fewer states than steps"))?;
        self.env.restore(snapshot)?;
        Ok(self.env.as_ref())
    }

    /// The simulator in the goal.
    pub(super) fn goal(&mut self) -> Result<&dyn Env> {
        self.start.enter_goal(self.env.as_mut())?;
        Ok(self.env.as_ref())
    }

    /// Sizes of the simulator.
    pub(super) fn limits(&self) -> crate::env::Limits {
        self.env.limits()
    }
}

fn same(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

pub(super) fn unfit(detail: &str) -> Error {
    Error::Invalid {
        what: "recorded episode".into(),
        detail: format!("it {detail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Policy;
    use crate::env::Size;
    use crate::protocol::{Choices, resolve};
    use crate::runner::run_episode;

    fn evaluation(task: &str) -> Evaluation {
        let settings = [
            "planner.candidates=20".into(),
            "planner.iterations=2".into(),
        ];
        let choices = Choices {
            model: Some("oracle"),
            task: Some(task),
            settings: &settings,
            ..Choices::default()
        };
        Evaluation::new(resolve(&choices).unwrap(), Policy::Oracle).unwrap()
    }

    #[test]
    fn an_episode_is_seen_again_at_every_step_in_any_order() {
        for task in ["wall@1", "pointmaze@1"] {
            let evaluation = evaluation(task);
            let row = run_episode(&evaluation, 2, &|| false).unwrap().row;
            let mut tape = Tape::play(&evaluation, &row).unwrap();
            let width = row.init.len();
            assert_eq!((tape.steps(), tape.limits().state_width), (30, width));
            for step in [30, 0, 17] {
                let env = tape.at(step).unwrap();
                assert_eq!(env.state(), &row.states[width * step..][..width]);
            }
            assert_eq!(tape.goal().unwrap().state(), row.goal);
            let seen = tape.at(4).unwrap().render(Size::Native).unwrap();
            assert_ne!(tape.goal().unwrap().render(Size::Native).unwrap(), seen);
            assert_eq!(tape.at(4).unwrap().render(Size::Native).unwrap(), seen);
            assert!(tape.at(31).is_err());
        }
    }

    #[test]
    fn an_episode_that_was_touched_is_refused() {
        let evaluation = evaluation("wall@1");
        let row = run_episode(&evaluation, 0, &|| false).unwrap().row;
        let refused = |change: fn(&mut EpisodeRow)| {
            let mut touched = row.clone();
            change(&mut touched);
            let refused = Tape::play(&evaluation, &touched).err();
            refused.expect("it was played").to_string()
        };
        assert!(refused(|row| row.seed += 1).contains("begins or ends elsewhere"));
        assert!(refused(|row| row.goal[0] += 1e-9).contains("begins or ends elsewhere"));
        assert!(refused(|row| row.states[20] += 1e-12).contains("other states"));
        assert!(refused(|row| row.actions[3] += 1e-3).contains("other states"));
        assert!(refused(|row| row.actions.truncate(4)).contains("fewer actions"));
        assert!(refused(|row| row.states.truncate(4)).contains("other states"));
    }
}
