//! A trained policy at work: asked anew in every step, its overlapping answers averaged.
//!
//! An answer is a chunk: the actions of this step and of the next ones. So every step has been spoken of by the chunks of
//! the steps before it too; what is done is the plain mean of all that was said of it (ensembling of VLA-0; models.md
//! section 8.6), taken from the oldest chunk to the newest.

use std::collections::VecDeque;

use jepa_models::{GoalPolicy, Latent};

use super::{Agent, Decision, frame_of, picture};
use crate::env::Env;
use crate::{Error, Result};

/// Chunks that still speak of the present step.
#[derive(Debug, Default)]
struct Overlap {
    /// What is left of each chunk, from the present step on, oldest first; row-major.
    chunks: VecDeque<Vec<f64>>,
}

impl Overlap {
    /// The action of the present step, of `width` numbers, after the newest chunk is heard; the next call is about the
    /// next step. `None` for a chunk without a whole action.
    fn next(&mut self, newest: Vec<f64>, width: usize) -> Option<Vec<f64>> {
        if width == 0 || newest.len() < width {
            return None;
        }
        self.chunks.push_back(newest);
        let mut action = vec![0.0; width];
        for chunk in &mut self.chunks {
            let rest = chunk.split_off(width);
            for (sum, value) in action.iter_mut().zip(std::mem::replace(chunk, rest)) {
                *sum += value;
            }
        }
        let count = self.chunks.len() as f64;
        self.chunks.retain(|chunk| chunk.len() >= width);
        Some(action.into_iter().map(|sum| sum / count).collect())
    }
}

/// The agent of an episode.
pub(super) struct Chunks<'a> {
    policy: &'a dyn GoalPolicy,
    goal: Latent,
    overlap: Overlap,
}

impl<'a> Chunks<'a> {
    /// With the goal that `env` is in.
    pub(super) fn towards(policy: &'a dyn GoalPolicy, env: &dyn Env) -> Result<Self> {
        Ok(Self {
            policy,
            goal: encode(policy, env)?,
            overlap: Overlap::default(),
        })
    }
}

impl Agent for Chunks<'_> {
    fn act(&mut self, env: &dyn Env, _elapsed: usize) -> Result<Decision> {
        let now = encode(self.policy, env)?;
        let chunk = self.policy.actions(&now, &self.goal)?;
        let width = env.limits().action_width;
        let actions = self.overlap.next(chunk, width);
        let actions = actions.ok_or_else(|| Error::Invalid {
            what: format!("policy `{}`", self.policy.info().name),
            detail: format!("it chose less than one action of {width} numbers"),
        })?;
        Ok(Decision {
            actions,
            search: None,
        })
    }
}

/// Encodes the present observation, drawn at the size the policy takes.
fn encode(policy: &dyn GoalPolicy, env: &dyn Env) -> Result<Latent> {
    let image = picture(policy.info(), env)?;
    Ok(policy.encode(frame_of(&image))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::Compass;
    use crate::env::wall::Wall;

    #[test]
    fn actions_are_the_mean_of_all_that_was_said_of_their_step() {
        let mut overlap = Overlap::default();
        let mut next = |chunk: [f64; 6]| overlap.next(chunk.to_vec(), 2).unwrap();
        // Chunks of three actions of two numbers.
        assert_eq!(next([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), [1.0, 2.0]);
        assert_eq!(next([9.0, 0.0, 1.0, 3.0, 7.0, 8.0]), [6.0, 2.0]);
        // (5, 6), (1, 3) and (0, 3): the whole of the first chunk is then spent.
        assert_eq!(next([0.0, 3.0, 5.0, 0.0, 2.0, 2.0]), [2.0, 4.0]);
        // (7, 8), (5, 0) and (3, 1).
        assert_eq!(next([3.0, 1.0, 0.0, 0.0, 0.0, 0.0]), [5.0, 3.0]);
    }

    #[test]
    fn a_chunk_of_one_action_is_done_as_it_is_said() {
        let mut overlap = Overlap::default();
        for value in [3.0, -1.0, 0.5] {
            assert_eq!(overlap.next(vec![value], 1), Some(vec![value]));
        }
        assert_eq!(overlap.next(Vec::new(), 1), None);
    }

    #[test]
    fn an_agent_sees_the_goal_once_and_the_present_in_every_step() {
        let policy = Compass::new();
        let mut env = Wall::default();
        env.reset_to(&[50.0, 30.0]).unwrap();
        let mut agent = Chunks::towards(&policy, &env).unwrap();
        env.reset_to(&[10.0, 30.0]).unwrap();
        let east = agent.act(&env, 0).unwrap();
        assert_eq!((east.actions, east.search), (vec![1.0, 0.0], None));
        // Beyond the goal the compass turns; the two older chunks of two steps have one say left.
        env.reset_to(&[55.0, 30.0]).unwrap();
        assert_eq!(agent.act(&env, 1).unwrap().actions, [0.0, 0.0]);
        assert_eq!(agent.act(&env, 2).unwrap().actions, [-1.0, 0.0]);
    }
}
