//! Push-T: a disc pushes a T-shaped block over a table (evaluation.md section 1.3).
//!
//! The state is agent x, y, block x, y, its angle and the velocity of the agent; an action is where the agent is drawn to,
//! relative to where it is, in units of 100 pixels, for 0.1 s. Motion is what Chipmunk 7.0.3 computes for the space of the
//! release, quirks included: there is no friction, a block does not slide on, its moment of inertia is that of its bar
//! twice, and the agent, which nothing stops, can leave the window. A reset takes a hundredth of a second: an agent that
//! moves is then a little further on. Between resets, the velocity of the block and its contacts matter as well as the state.
//!
//! The green T is drawn in every frame and is not the goal of an episode.

mod behaviour;
mod canvas;
mod collision;
mod contact;
mod coverage;
mod dynamics;
mod geometry;
mod render;
mod resize;
mod sampler;
mod shape;

use std::f64::consts::{PI, TAU};
use std::sync::{Arc, OnceLock};

use jepa_datasets::{Stream, mt19937};
use serde::Deserialize;

use super::{
    Behaviour, Env, EnvEntry, Fields, Image, Limits, Outcome, PLANNER_SIZE, Size, Start,
    check_vector, numpy_seed, settings, unknown_behaviour,
};
use crate::{Error, Result};

pub use behaviour::{Push, Wander};
use coverage::Coverage;
pub use dynamics::{Dynamics, STATE};
use render::{Renderer, Scene};
pub use shape::Shape;

/// The line in [`super::ENVIRONMENTS`].
pub const ENTRY: EnvEntry = EnvEntry {
    name: "pusht",
    summary: "a disc that pushes a T over a table (Diffusion Policy; DINO-WM, JEPA-WMs)",
    limits: LIMITS,
    check: |table| PushTConfig::from_table(table).map(drop),
    build: |settings| Ok(Box::new(PushT::new(PushTConfig::from_table(settings)?))),
    behaviours: &["random", "push"],
    outside: false,
    fields: Fields {
        camera: "top",
        action: [
            "100 pixels",
            "where the agent is drawn to (x, y), relative to where it is; y points down",
        ],
        proprio: ["pixels, pixels per second", "x, y, vx, vy of the agent"],
        state: [
            "pixels, radians, pixels per second",
            "x, y of the agent, x, y, angle of the block, vx, vy of the agent",
        ],
    },
};

const LIMITS: Limits = Limits {
    state_width: STATE,
    proprio_width: 4,
    action_width: 2,
    native_size: PLANNER_SIZE,
    nominal_action: 1.0,
    settles: true,
    normalizer: "pusht",
    distance_unit: "pixels, radians and pixels per second",
    oracle_cost: "squared distance of agent and block, and of the block's angle, each as a share of what counts as success",
};

/// Sizes at which frames are reduced from the canvas.
const FRAME_SIZES: [usize; 2] = [PLANNER_SIZE, 256];

/// What the settings are, for errors.
const KNOWN: &str = "`pusht` knows `shape` (`T`, `L`, `Z`, `square`, `I`, `small_tee` or `plus`), `success_distance` in \
                     pixels, `success_angle` in radians, and `frame_size` (224 or 256)";

/// Settings of the Push-T simulator.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PushTConfig {
    /// What is pushed.
    pub shape: Shape,
    /// Agent and block nearer to the goal's than this, in pixels and taken together, have reached it ..
    pub success_distance: f64,
    /// .. if the angle of the block is nearer than this.
    pub success_angle: f64,
    /// Rows and columns of a native frame: 224 or 256.
    pub frame_size: usize,
}

impl Default for PushTConfig {
    fn default() -> Self {
        Self {
            shape: Shape::T,
            success_distance: 20.0,
            success_angle: PI / 9.0,
            frame_size: PLANNER_SIZE,
        }
    }
}

impl PushTConfig {
    /// Reads the `[environment]` table of a task, without its `name`.
    ///
    /// # Errors
    /// When a key or a value is unknown, or a limit is not a positive number.
    pub fn from_table(table: &toml::Table) -> Result<Self> {
        let config: Self = settings::read(table, KNOWN)?;
        settings::positive("success_distance", config.success_distance, KNOWN)?;
        settings::positive("success_angle", config.success_angle, KNOWN)?;
        if FRAME_SIZES.contains(&config.frame_size) {
            Ok(config)
        } else {
            let detail = format!("`frame_size` is {}", config.frame_size);
            Err(settings::invalid(&detail, KNOWN))
        }
    }
}

/// The Push-T simulator.
#[derive(Debug, Clone)]
pub struct PushT {
    config: PushTConfig,
    dynamics: Dynamics,
    coverage: Arc<Coverage>,
    state: [f64; STATE],
}

impl PushT {
    /// A simulator with these settings.
    pub fn new(config: PushTConfig) -> Self {
        let dynamics = Dynamics::new(config.shape);
        Self {
            config,
            coverage: Arc::new(Coverage::new(config.shape)),
            state: dynamics.state(),
            dynamics,
        }
    }

    /// Contact points per substep of the last step, rounded up.
    pub fn contact_count(&self) -> usize {
        self.dynamics.contact_count()
    }
}

impl Default for PushT {
    fn default() -> Self {
        Self::new(PushTConfig::default())
    }
}

/// The renderer for a shape at one of [`FRAME_SIZES`], made once: it holds a drawn table.
fn renderer(shape: Shape, size: usize) -> Arc<Renderer> {
    static MADE: [[OnceLock<Arc<Renderer>>; 2]; Shape::ALL.len()] =
        [const { [const { OnceLock::new() }; 2] }; Shape::ALL.len()];
    let make = || Arc::new(Renderer::new(shape, size));
    match FRAME_SIZES.iter().position(|&known| known == size) {
        Some(at) => Arc::clone(MADE[shape as usize][at].get_or_init(make)),
        None => make(),
    }
}

impl Env for PushT {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn limits(&self) -> Limits {
        Limits {
            native_size: self.config.frame_size,
            ..LIMITS
        }
    }

    /// A new space, and a hundredth of a second in it.
    fn reset_to(&mut self, state: &[f64]) -> Result<()> {
        check_vector("state of `pusht`", state, STATE)?;
        let mut asked = [0.0; STATE];
        asked.copy_from_slice(state);
        self.dynamics.reset(asked);
        self.state = self.dynamics.state();
        Ok(())
    }

    fn step(&mut self, action: &[f64]) -> Result<Outcome> {
        check_vector("action of `pusht`", action, LIMITS.action_width)?;
        let mut after = self.dynamics.clone();
        after.step([action[0], action[1]]);
        let state = after.state();
        check_vector("state of `pusht` after the step", &state, STATE)?;
        self.dynamics = after;
        self.state = state;
        Ok(Outcome {
            reward: self.coverage.reward([state[2], state[3]], state[4]),
            nan_guard: false,
        })
    }

    fn state(&self) -> &[f64] {
        &self.state
    }

    fn proprio(&self) -> Vec<f32> {
        let [x, y, _, _, _, velocity_x, velocity_y] = self.state;
        [x, y, velocity_x, velocity_y]
            .map(|value| value as f32)
            .to_vec()
    }

    fn render(&self, size: Size) -> Result<Image> {
        let size = match size {
            Size::Native => self.config.frame_size,
            Size::Planner => PLANNER_SIZE,
        };
        let scene = Scene {
            parts: self.dynamics.parts(),
            agent: self.dynamics.agent(),
            marks: &self.dynamics.marks(),
        };
        Ok(renderer(self.config.shape, size).draw(&scene))
    }

    /// A random reset as released, and a second random state as the goal. The paper's episodes are replayed from
    /// recorded data instead.
    fn sample(&self, seed: u64) -> Result<Start> {
        let mut random = mt19937::numpy_random_state(numpy_seed(seed, ENTRY.name)?);
        let mut state = || {
            let mut state = sampler::state(&mut random);
            state[4] = state[4].rem_euclid(TAU);
            state.to_vec()
        };
        Ok(Start {
            init: state(),
            goal: state(),
            way: Vec::new(),
        })
    }

    fn success(&self, goal: &[f64], state: &[f64]) -> bool {
        let apart = goal[..4].iter().zip(state).map(|(g, s)| (g - s) * (g - s));
        let turned = (goal[4] - state[4]).abs() % TAU;
        apart.sum::<f64>().sqrt() < self.config.success_distance
            && turned.min(TAU - turned) < self.config.success_angle
    }

    /// Length of the difference of two states, whatever their units.
    fn state_distance(&self, goal: &[f64], state: &[f64]) -> f64 {
        let squares = goal.iter().zip(state).map(|(g, s)| (g - s) * (g - s));
        squares.sum::<f64>().sqrt()
    }

    fn oracle_cost(&self, goal: &[f64], state: &[f64]) -> f64 {
        let apart = goal[..4].iter().zip(state).map(|(g, s)| (g - s) * (g - s));
        let turned = (goal[4] - state[4]).abs() % TAU;
        let turned = turned.min(TAU - turned) / self.config.success_angle;
        let limit = self.config.success_distance;
        apart.sum::<f64>() / (limit * limit) + turned * turned
    }

    fn behaviour(&self, name: &str, stream: Stream) -> Result<Box<dyn Behaviour>> {
        match name {
            "random" => Ok(Box::new(Wander::new(self.config.shape, stream))),
            "push" => Ok(Box::new(Push::new(self.config.shape, stream))),
            _ => Err(unknown_behaviour(name, &ENTRY)),
        }
    }

    fn snapshot(&self) -> Result<Vec<f64>> {
        Ok(self.dynamics.snapshot())
    }

    fn restore(&mut self, snapshot: &[f64]) -> Result<()> {
        if self.dynamics.restore(snapshot) {
            self.state = self.dynamics.state();
            return Ok(());
        }
        Err(Error::Invalid {
            what: "snapshot of `pusht`".into(),
            detail: format!(
                "{} numbers that no space of this kind wrote",
                snapshot.len()
            ),
        })
    }

    fn duplicate(&self) -> Result<Box<dyn Env>> {
        Ok(Box::new(self.clone()))
    }
}

#[cfg(test)]
mod tests;
