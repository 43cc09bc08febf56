//! `PointMaze`: a ball that is pushed through a U of corridors (evaluation.md section 1.2).
//!
//! The model is the umaze of D4RL in two dimensions: a ball with damping, two motors and frictionless walls. The state is
//! position and velocity, x, y, vx, vy; an action is the force of the two motors, clipped to `[-1, 1]`, for 0.05 s. Motion is
//! what `MuJoCo` computes for this model, in closed form; contacts differ between its versions ([`ContactModel`]).

mod behaviour;
mod dynamics;
mod render;
mod sampler;

use std::sync::{Arc, OnceLock};

use jepa_datasets::Stream;
use serde::Deserialize;

use super::{
    Behaviour, Env, EnvEntry, Fields, Image, Limits, Outcome, PLANNER_SIZE, Size, Start,
    check_vector, settings, unknown_behaviour,
};
use crate::Result;

pub use behaviour::RandomForces;
pub use dynamics::{ContactModel, Dynamics};
pub use render::Renderer;
pub use sampler::sample;

/// The line in [`super::ENVIRONMENTS`].
pub const ENTRY: EnvEntry = EnvEntry {
    name: "pointmaze",
    summary: "a ball that is pushed through a U-shaped maze (D4RL umaze; DINO-WM, JEPA-WMs)",
    limits: LIMITS,
    check: |table| PointMazeConfig::from_table(table).map(drop),
    build: |settings| {
        Ok(Box::new(PointMaze::new(PointMazeConfig::from_table(
            settings,
        )?)))
    },
    behaviours: &["random"],
    outside: false,
    fields: Fields {
        camera: "top",
        action: [
            "motor",
            "force along x and y as a share of the largest, clipped to [-1, 1]",
        ],
        proprio: [
            "maze units, maze units per second",
            "x, y, vx, vy of the ball",
        ],
        state: [
            "maze units, maze units per second",
            "x, y, vx, vy of the ball",
        ],
    },
};

const LIMITS: Limits = Limits {
    state_width: STATE,
    proprio_width: STATE,
    action_width: 2,
    native_size: PLANNER_SIZE,
    nominal_action: 1.0,
    settles: false,
    normalizer: "pointmaze",
    distance_unit: "maze units and units per second",
    oracle_cost: "squared distance of the positions",
};

/// Numbers in a state: x, y and their velocities.
pub const STATE: usize = 4;

/// Sizes at which the release draws frames.
const FRAME_SIZES: [usize; 2] = [PLANNER_SIZE, 256];

/// What the settings are, for errors.
const KNOWN: &str = "`pointmaze` knows `contact` (`mujoco-2.3`, `mujoco-3.2` or `mujoco-4.0`), `success_distance` in maze \
                     units, and `frame_size` (224 or 256)";

/// Settings of the `PointMaze` simulator.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PointMazeConfig {
    /// Whose contacts walls have.
    pub contact: ContactModel,
    /// A ball nearer to the goal's than this has reached it, whatever the velocities.
    pub success_distance: f64,
    /// Rows and columns of a native frame: 224 or 256.
    pub frame_size: usize,
}

impl Default for PointMazeConfig {
    fn default() -> Self {
        Self {
            contact: ContactModel::default(),
            success_distance: 0.5,
            frame_size: PLANNER_SIZE,
        }
    }
}

impl PointMazeConfig {
    /// Reads the `[environment]` table of a task, without its `name`.
    ///
    /// # Errors
    /// When a key or a value is unknown, or the distance is not a positive number.
    pub fn from_table(table: &toml::Table) -> Result<Self> {
        let config: Self = settings::read(table, KNOWN)?;
        settings::positive("success_distance", config.success_distance, KNOWN)?;
        if FRAME_SIZES.contains(&config.frame_size) {
            Ok(config)
        } else {
            let detail = format!("`frame_size` is {}", config.frame_size);
            Err(settings::invalid(&detail, KNOWN))
        }
    }
}

/// The `PointMaze` simulator. A new one has its ball at rest at (0, 0).
#[derive(Debug, Clone)]
pub struct PointMaze {
    config: PointMazeConfig,
    dynamics: Dynamics,
}

impl PointMaze {
    /// A simulator with these settings.
    pub fn new(config: PointMazeConfig) -> Self {
        Self {
            config,
            dynamics: Dynamics::new(config.contact),
        }
    }
}

impl Default for PointMaze {
    fn default() -> Self {
        Self::new(PointMazeConfig::default())
    }
}

/// The renderer of frames of one of [`FRAME_SIZES`], made once: it holds a drawn maze.
fn renderer(size: usize) -> Arc<Renderer> {
    static MADE: [OnceLock<Arc<Renderer>>; 2] = [const { OnceLock::new() }; 2];
    let make = || Arc::new(Renderer::new(size));
    match FRAME_SIZES.iter().position(|&known| known == size) {
        Some(at) => Arc::clone(MADE[at].get_or_init(make)),
        None => make(),
    }
}

impl Env for PointMaze {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn limits(&self) -> Limits {
        Limits {
            native_size: self.config.frame_size,
            ..LIMITS
        }
    }

    fn reset_to(&mut self, state: &[f64]) -> Result<()> {
        check_vector("state of `pointmaze`", state, STATE)?;
        self.dynamics.set([state[0], state[1], state[2], state[3]]);
        Ok(())
    }

    fn step(&mut self, action: &[f64]) -> Result<Outcome> {
        check_vector("action of `pointmaze`", action, LIMITS.action_width)?;
        self.dynamics.step([action[0], action[1]]);
        Ok(Outcome {
            reward: 0.0,
            nan_guard: false,
        })
    }

    fn state(&self) -> &[f64] {
        self.dynamics.state()
    }

    fn proprio(&self) -> Vec<f32> {
        self.state().iter().map(|&value| value as f32).collect()
    }

    fn render(&self, size: Size) -> Result<Image> {
        let size = match size {
            Size::Native => self.config.frame_size,
            Size::Planner => PLANNER_SIZE,
        };
        let [x, y, ..] = *self.dynamics.state();
        Ok(renderer(size).draw([x, y]))
    }

    fn sample(&self, seed: u64) -> Result<Start> {
        let [init, goal] = sample(seed)?.map(Vec::from);
        Ok(Start {
            init,
            goal,
            way: Vec::new(),
        })
    }

    fn success(&self, goal: &[f64], state: &[f64]) -> bool {
        libm::hypot(goal[0] - state[0], goal[1] - state[1]) < self.config.success_distance
    }

    /// Length of the difference of two states, velocities included.
    fn state_distance(&self, goal: &[f64], state: &[f64]) -> f64 {
        let squares = goal.iter().zip(state).map(|(a, b)| (a - b) * (a - b));
        squares.sum::<f64>().sqrt()
    }

    fn oracle_cost(&self, goal: &[f64], state: &[f64]) -> f64 {
        let apart = [goal[0] - state[0], goal[1] - state[1]];
        apart[0] * apart[0] + apart[1] * apart[1]
    }

    fn behaviour(&self, name: &str, stream: Stream) -> Result<Box<dyn Behaviour>> {
        match name {
            "random" => Ok(Box::new(RandomForces::new(stream))),
            _ => Err(unknown_behaviour(name, &ENTRY)),
        }
    }

    fn duplicate(&self) -> Result<Box<dyn Env>> {
        Ok(Box::new(self.clone()))
    }
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
        let maze = PointMaze::default();
        for ((goal, state), (reached, distance)) in goals.iter().zip(last).zip(expected) {
            assert_eq!(maze.success(goal, &state), *reached > 0.5);
            assert!((maze.state_distance(goal, &state) - distance).abs() < 1e-5);
            outcomes[usize::from(maze.success(goal, &state))] += 1;
        }
        assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
    }

    #[test]
    fn settings_are_checked_and_reach_the_simulator() {
        let build =
            |text: &str| PointMazeConfig::from_table(&text.parse().unwrap()).map(PointMaze::new);
        let maze = build("success_distance = 1.0\nframe_size = 256").unwrap();
        assert!(maze.success(&[1.0, 1.0, 0.0, 0.0], &[1.0, 1.9, 3.0, 3.0]));
        assert_eq!(maze.limits().native_size, 256);
        assert_eq!(maze.render(Size::Native).unwrap().width, 256);
        assert_eq!(maze.render(Size::Planner).unwrap().width, 224);
        // Into a corner, where the versions differ.
        let into_a_corner = |contact: &str| {
            let mut maze = build(&format!("contact = \"{contact}\"")).unwrap();
            maze.reset_to(&[0.8, 0.8, -3.0, -3.0]).unwrap();
            for _ in 0..10 {
                maze.step(&[-1.0, -0.5]).unwrap();
            }
            maze.state().to_vec()
        };
        let ends = ["mujoco-2.3", "mujoco-3.2", "mujoco-4.0"].map(into_a_corner);
        assert!(ends[0] != ends[1] && ends[1] != ends[2]);
        for wrong in [
            "contact = \"mujoco-1\"",
            "frame_size = 64",
            "success_distance = -1.0",
            "friction = 1.0",
        ] {
            assert!(build(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn forces_beyond_one_are_clipped() {
        let end = |action: f64| {
            let mut maze = PointMaze::default();
            maze.reset_to(&[1.0, 3.0, 0.0, 0.0]).unwrap();
            maze.step(&[action, 0.0]).unwrap();
            maze.state().to_vec()
        };
        assert_eq!(end(1.0), end(7.0));
        assert_ne!(end(1.0), end(0.5));
    }
}
