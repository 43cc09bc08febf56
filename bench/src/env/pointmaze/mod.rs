//! `PointMaze`: a ball that is pushed through a U of corridors (evaluation.md section 1.2).
//!
//! The model is the umaze of D4RL in two dimensions: a ball with damping, two motors and frictionless walls. Here are
//! its dynamics, its picture, the released sampler and what counts as success. It is not among the environments of the
//! command line yet.

mod dynamics;
mod render;
mod sampler;

pub use dynamics::{ContactModel, Dynamics};
pub use render::Renderer;
pub use sampler::sample;

/// Numbers in a state: x, y and their velocities.
pub const STATE: usize = 4;

/// A state nearer to the goal than this has reached it.
const SUCCESS_DISTANCE: f64 = 0.5;

/// Whether the ball of `state` is at that of `goal`; velocities do not matter.
pub fn success(goal: &[f64; STATE], state: &[f64; STATE]) -> bool {
    libm::hypot(goal[0] - state[0], goal[1] - state[1]) < SUCCESS_DISTANCE
}

/// Length of the difference of two states, velocities included.
pub fn state_distance(goal: &[f64; STATE], state: &[f64; STATE]) -> f64 {
    let squares = goal.iter().zip(state).map(|(a, b)| (a - b) * (a - b));
    squares.sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Npz;

    /// The states of some rows of an array `[.., 4]`.
    fn states(values: &[f64]) -> &[[f64; STATE]] {
        values.as_chunks().0
    }

    /// Plays the recorded actions of an episode and compares every state.
    fn play(model: ContactModel, actions: &[f64], expected: &[f64]) -> f64 {
        let expected = states(expected);
        let mut dynamics = Dynamics::new(model);
        dynamics.set(expected[0]);
        let mut worst = 0.0_f64;
        for (action, expected) in actions.as_chunks::<2>().0.iter().zip(&expected[1..]) {
            dynamics.step(*action);
            for (found, expected) in dynamics.state().iter().zip(expected) {
                worst = worst.max((found - expected).abs());
            }
        }
        worst
    }

    #[test]
    fn recorded_episodes_are_played_again_to_a_millionth() {
        let recorded = Npz::read("sims/pointmaze_episodes.npz");
        let (actions, expected) = (recorded.values("actions"), recorded.values("states"));
        let steps = recorded.array("actions").shape[1];
        let episodes = recorded.array("actions").shape[0];
        assert_eq!((episodes, steps), (60, 60));
        for episode in 0..episodes {
            let actions = &actions[2 * steps * episode..][..2 * steps];
            let expected = &expected[4 * (steps + 1) * episode..][..4 * (steps + 1)];
            let worst = play(ContactModel::Mujoco23, actions, expected);
            assert!(worst <= 1e-6, "episode {episode}: {worst}");
        }
    }

    #[test]
    fn later_versions_of_mujoco_are_played_again_with_their_own_contacts_only() {
        let recorded = Npz::read("sims/pointmaze_episodes.npz");
        let actions = recorded.values("actions");
        let steps = recorded.array("actions").shape[1];
        for (file, model, other) in [
            (
                "sims/pointmaze_mujoco_3.3.0.npz",
                ContactModel::Mujoco32,
                ContactModel::Mujoco23,
            ),
            (
                "sims/pointmaze_mujoco_4.0.0.npz",
                ContactModel::Mujoco40,
                ContactModel::Mujoco32,
            ),
        ] {
            let later = Npz::read(file);
            let expected = later.values("states");
            let mut of_the_other = 0.0_f64;
            for (row, episode) in later.values("episode").iter().enumerate() {
                let actions = &actions[2 * steps * *episode as usize..][..2 * steps];
                let expected = &expected[4 * (steps + 1) * row..][..4 * (steps + 1)];
                let worst = play(model, actions, expected);
                assert!(worst <= 1e-6, "{file}, episode {episode}: {worst}");
                of_the_other = of_the_other.max(play(other, actions, expected));
            }
            assert!(of_the_other > 0.1, "{file}: {of_the_other}");
        }
    }

    #[test]
    fn success_and_distance_are_those_of_the_reference() {
        let recorded = Npz::read("sims/pointmaze_episodes.npz");
        let steps = recorded.array("actions").shape[1];
        let goals = states(recorded.values("check_goal"));
        let expected = recorded.values("check_success").iter();
        let expected = expected.zip(recorded.values("check_state_dist"));
        let last = states(recorded.values("states"))
            .chunks_exact(steps + 1)
            .map(|episode| episode[steps]);
        let mut outcomes = [0, 0];
        for ((goal, state), (reached, distance)) in goals.iter().zip(last).zip(expected) {
            assert_eq!(success(goal, &state), *reached > 0.5);
            assert!((state_distance(goal, &state) - distance).abs() < 1e-5);
            outcomes[usize::from(success(goal, &state))] += 1;
        }
        assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
    }
}
