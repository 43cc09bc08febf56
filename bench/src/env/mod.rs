//! Simulators: what an evaluation acts in and what `collect` records.
//!
//! An [`Env`] is a deterministic machine over plain `f64` states. Randomness enters only through the
//! seed given to [`Env::sample`] and the stream given to [`Env::behaviour`]. A new environment is a
//! file here, one line in [`ENVIRONMENTS`] and a test that calls every check of [`conformance`].

mod bridge;
pub mod conformance;
mod image;
pub mod pointmaze;
pub mod pusht;
pub mod recorded;
pub mod wall;

use jepa_datasets::Stream;

pub(crate) use bridge::{PYTHON, python};
pub use image::{Image, bilinear};

use crate::{Error, Result};

/// Every environment, in the order in which `list` prints them.
pub const ENVIRONMENTS: &[EnvEntry] = &[
    wall::ENTRY,
    pointmaze::ENTRY,
    pusht::ENTRY,
    recorded::ENTRY,
    bridge::METAWORLD,
    bridge::GYMNASIUM,
];

/// One line of the table of environments.
#[derive(Debug, Clone, Copy)]
pub struct EnvEntry {
    /// Name on the command line and in task files.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub summary: &'static str,
    /// Sizes and names that hold for every instance.
    pub limits: Limits,
    /// Checks the `[environment]` table of a task, without its `name`, and starts nothing.
    pub check: fn(&toml::Table) -> Result<()>,
    /// Builds one from the `[environment]` table of a task, without its `name`.
    pub build: fn(&toml::Table) -> Result<Box<dyn Env>>,
    /// Behaviours that [`Env::behaviour`] knows.
    pub behaviours: &'static [&'static str],
    /// It needs more than this program: a process of its own, or a dataset. Sizes may depend on its settings.
    pub outside: bool,
    /// What its numbers mean, for the manifest of recorded data.
    pub fields: Fields,
}

/// Names, units and meanings of recorded data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// Name of the camera.
    pub camera: &'static str,
    /// Unit and meaning of an action.
    pub action: [&'static str; 2],
    /// Unit and meaning of proprio.
    pub proprio: [&'static str; 2],
    /// Unit and meaning of a state.
    pub state: [&'static str; 2],
}

/// Sizes of an environment and the statistics its actions are normalised with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Numbers in a state, `s`.
    pub state_width: usize,
    /// Numbers in a proprio vector, `P`.
    pub proprio_width: usize,
    /// Numbers in a native action, `A_e`.
    pub action_width: usize,
    /// Rows and columns of a native frame (square).
    pub native_size: usize,
    /// Largest nominal size of an action component, in environment units; not enforced.
    pub nominal_action: f64,
    /// Bodies move for a moment in a reset: the state after it is near the one asked for, not the same.
    pub settles: bool,
    /// Name of the released normaliser ([`jepa_datasets::Normalizer::released`]); empty where nothing was released and
    /// actions are taken as they are.
    pub normalizer: &'static str,
    /// Unit of [`Env::state_distance`].
    pub distance_unit: &'static str,
    /// What [`Env::oracle_cost`] is, for records.
    pub oracle_cost: &'static str,
}

/// Side length in pixels of the frames that released planners see.
pub const PLANNER_SIZE: usize = 224;

/// The present frame at a size: native or the planner's where it is one of these, else made from the planner's frame, as in
/// the release. Models are trained on and plan from the same pixels.
///
/// # Errors
/// When a renderer outside this program fails.
pub fn draw(env: &dyn Env, side: usize) -> Result<Image> {
    match side {
        side if side == env.limits().native_size => env.render(Size::Native),
        PLANNER_SIZE => env.render(Size::Planner),
        side => Ok(env.render(Size::Planner)?.resized(side)),
    }
}

/// Which frame to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// The simulator's own resolution.
    Native,
    /// [`PLANNER_SIZE`], as released planners see it: drawn at that size, or a native frame resized and rounded to `u8`.
    Planner,
}

/// What one step reports besides the new state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Reward of the step; 0 where the environment has none. Evaluation does not use it.
    pub reward: f64,
    /// The step met a case in which the reference produces NaN and the simulator substituted a
    /// defined value. Counted in the run's manifest and in the extras of collected episodes.
    pub nan_guard: bool,
}

/// Where an episode begins and what it must reach.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// State that the simulator is reset to, `[s]`.
    pub init: Vec<f64>,
    /// Goal state, `[s]`.
    pub goal: Vec<f64>,
    /// Native actions that lead from `init` to the goal, row-major `[n, A_e]`; empty where a reset to `goal` shows it.
    pub way: Vec<f64>,
}

impl Start {
    /// Puts the simulator where the episode begins.
    ///
    /// # Errors
    /// When it refuses the state.
    pub fn enter(&self, env: &mut dyn Env) -> Result<()> {
        env.reset_to(&self.init)
    }

    /// Puts the simulator into the goal.
    ///
    /// # Errors
    /// When it refuses a state or an action.
    pub fn enter_goal(&self, env: &mut dyn Env) -> Result<()> {
        if self.way.is_empty() {
            return env.reset_to(&self.goal);
        }
        env.reset_to(&self.init)?;
        for action in self.way.chunks_exact(env.limits().action_width) {
            env.step(action)?;
        }
        Ok(())
    }
}

/// A policy that records data, e.g. the random walk of the released Wall data.
pub trait Behaviour: Send {
    /// The state in which the recorded episode begins, `[s]`.
    fn start(&mut self) -> Vec<f64>;
    /// The next native action, `[A_e]`.
    fn action(&mut self, state: &[f64]) -> Vec<f64>;
}

/// A simulator.
///
/// A reset forgets everything: `reset_to(state)` followed by the same actions gives the same states and
/// frames, bit for bit, on every machine. Between resets a simulator may remember more than its state tells (which
/// bodies touched, say); [`Env::snapshot`] holds all of it.
pub trait Env: Send {
    /// Name in [`ENVIRONMENTS`].
    fn name(&self) -> &'static str;

    /// Sizes and units.
    fn limits(&self) -> Limits;

    /// Puts the simulator into `state`, `[s]`.
    ///
    /// # Errors
    /// When the state has another width or is not finite.
    fn reset_to(&mut self, state: &[f64]) -> Result<()>;

    /// Applies one native action, `[A_e]`.
    ///
    /// # Errors
    /// When the action has another width or is not finite.
    fn step(&mut self, action: &[f64]) -> Result<Outcome>;

    /// The present state, `[s]`.
    fn state(&self) -> &[f64];

    /// What a model may know about the present state besides the frame, `[P]`.
    fn proprio(&self) -> Vec<f32>;

    /// Draws the present state.
    ///
    /// # Errors
    /// When a renderer outside this program fails.
    fn render(&self, size: Size) -> Result<Image>;

    /// The episode that the released sampler draws for a seed.
    ///
    /// # Errors
    /// When the seed does not fit the reference generator (2^32 and above).
    fn sample(&self, seed: u64) -> Result<Start>;

    /// Whether `state` counts as having reached `goal`.
    fn success(&self, goal: &[f64], state: &[f64]) -> bool;

    /// Distance between two states, in [`Limits::distance_unit`].
    fn state_distance(&self, goal: &[f64], state: &[f64]) -> f64;

    /// What the oracle minimises: 0 in the goal, and small where [`Env::success`] holds.
    fn oracle_cost(&self, goal: &[f64], state: &[f64]) -> f64 {
        let distance = self.state_distance(goal, state);
        distance * distance
    }

    /// A data-recording policy that draws from `stream`.
    ///
    /// # Errors
    /// When this environment has no behaviour of that name.
    fn behaviour(&self, name: &str, stream: Stream) -> Result<Box<dyn Behaviour>>;

    /// Everything that decides what follows, for [`Env::restore`] of this simulator or a duplicate.
    ///
    /// # Errors
    /// When a simulator outside this program fails.
    fn snapshot(&self) -> Result<Vec<f64>> {
        Ok(self.state().to_vec())
    }

    /// Goes back to a snapshot: the same actions then give the same states, bit for bit.
    ///
    /// # Errors
    /// When `snapshot` is none of this kind of simulator.
    fn restore(&mut self, snapshot: &[f64]) -> Result<()> {
        self.reset_to(snapshot)
    }

    /// The native action of a scripted expert in the present state, `[A_e]`.
    ///
    /// # Errors
    /// When there is none.
    fn expert(&self) -> Result<Vec<f64>> {
        Err(Error::Config {
            what: format!("an expert for `{}`", self.name()),
            detail: "this environment has no scripted expert".into(),
            hint: Some("leave `oracle-expert` for `oracle`".into()),
        })
    }

    /// An independent copy that will behave as this one.
    ///
    /// # Errors
    /// When a simulator outside this program cannot be started.
    fn duplicate(&self) -> Result<Box<dyn Env>>;
}

/// Looks an environment up by name.
///
/// # Errors
/// When there is none of that name; the error lists those that exist.
pub fn entry(name: &str) -> Result<&'static EnvEntry> {
    ENVIRONMENTS
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| Error::UnknownName {
            kind: "environment",
            name: name.to_string(),
            known: ENVIRONMENTS
                .iter()
                .map(|entry| entry.name.to_string())
                .collect(),
        })
}

/// Builds an environment with its default settings.
///
/// # Errors
/// As [`entry`].
pub fn build(name: &str) -> Result<Box<dyn Env>> {
    (entry(name)?.build)(&toml::Table::new())
}

/// Settings of an environment: the table `environment` of a task, without its name.
pub(crate) mod settings {
    use crate::{Error, Result};

    /// Reads the table over the defaults; `known` says in errors which settings there are.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(
        table: &toml::Table,
        known: &str,
    ) -> Result<T> {
        let settings = table.clone().try_into();
        settings.map_err(|error: toml::de::Error| invalid(error.message(), known))
    }

    /// Checks a setting that must be a positive number.
    pub(crate) fn positive(name: &str, value: f64, known: &str) -> Result<()> {
        if value > 0.0 && value.is_finite() {
            Ok(())
        } else {
            Err(invalid(&format!("`{name}` is {value}"), known))
        }
    }

    pub(crate) fn invalid(detail: &str, known: &str) -> Error {
        Error::Config {
            what: "table `environment` of the task".into(),
            detail: detail.to_string(),
            hint: Some(known.to_string()),
        }
    }
}

/// The error for a behaviour that an environment does not know.
pub(crate) fn unknown_behaviour(name: &str, entry: &EnvEntry) -> Error {
    Error::UnknownName {
        kind: "behaviour",
        name: name.to_string(),
        known: entry.behaviours.iter().map(ToString::to_string).collect(),
    }
}

/// The seed of a released sampler that draws from NumPy's `RandomState`, which takes seeds below 2^32.
pub(crate) fn numpy_seed(seed: u64, env: &str) -> Result<u32> {
    u32::try_from(seed).map_err(|_| Error::Invalid {
        what: format!("episode seed {seed}"),
        detail: format!("the sampler of `{env}` takes seeds below 2^32"),
    })
}

/// Checks the width and finiteness of a vector that came from outside.
pub(crate) fn check_vector(what: &str, values: &[f64], width: usize) -> Result<()> {
    if values.len() != width {
        let detail = format!("expected {width} numbers, got {}", values.len());
        return Err(Error::Invalid {
            what: what.to_string(),
            detail,
        });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(Error::Invalid {
            what: what.to_string(),
            detail: format!("number {at} is {}, not a finite number", values[at]),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_environment_keeps_its_promises() {
        for entry in ENVIRONMENTS.iter().filter(|entry| !entry.outside) {
            let mut env = build(entry.name).unwrap();
            assert_eq!(env.name(), entry.name);
            assert_eq!(env.limits(), entry.limits);
            conformance::check_all(env.as_mut(), entry.behaviours).unwrap();
        }
    }

    #[test]
    fn unknown_environments_are_named_with_what_exists() {
        let Err(error) = build("wal") else {
            panic!("`wal` is no environment")
        };
        let names: Vec<&str> = ENVIRONMENTS.iter().map(|entry| entry.name).collect();
        let known = format!("the environments are: {}", names.join(", "));
        assert_eq!(
            error.hint().unwrap(),
            format!("did you mean `wall`? {known}")
        );
    }
}
