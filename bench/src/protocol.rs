//! Tasks and run configurations: what is evaluated, and every setting it is evaluated with.
//!
//! A [`Task`] is a versioned TOML file compiled into the program. A [`RunConfig`] is a task with one
//! of its planner presets and everything the user changed: the file `config.toml` of a run folder.

mod overrides;

use std::collections::BTreeMap;
use std::path::Path;

use jepa_leaderboard::TaskRef;
use jepa_models::CostSpec;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::env::{self, Env};
use crate::planner::{self, Planner};
use crate::{Error, Result};

pub use overrides::{Choices, Resolved, resolve};
pub(crate) use overrides::{changes, insert, overlay};

/// The files of `bench/tasks/` by name and version.
macro_rules! tasks {
    ($($id:literal),* $(,)?) => {
        &[$(TaskEntry {
            id: $id,
            text: include_str!(concat!("../tasks/", $id, ".toml")),
        }),*]
    };
}

/// Every task that this program knows, oldest version first.
pub const TASKS: &[TaskEntry] = tasks![
    "wall@1",
    "pointmaze@1",
    "pusht@1",
    "wall-dinowm@1",
    "pointmaze-dinowm@1",
    "pusht-dinowm@1",
    "pusht-swm@1",
    "droid@1",
    "mw-reach@1",
    "mw-reach-wall@1",
];

/// A task file compiled into the program.
#[derive(Debug, Clone, Copy)]
pub struct TaskEntry {
    /// `name@version`.
    pub id: &'static str,
    /// The TOML text.
    pub text: &'static str,
}

/// A task file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Name, without version.
    pub name: String,
    /// Version: anything that moves a number makes a new one.
    pub version: u32,
    /// What has to be done, in one sentence.
    pub summary: String,
    /// The preset that is used when none is asked for.
    pub default_preset: String,
    /// Simulator and its settings.
    pub environment: Environment,
    /// How an episode runs.
    pub protocol: Protocol,
    /// Which episodes are run.
    pub episodes: Episodes,
    /// What planners minimise.
    pub objective: CostSpec,
    /// Planner settings by name.
    pub presets: BTreeMap<String, PlannerSettings>,
}

/// Table `environment`: which simulator, and its own settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Name in [`env::ENVIRONMENTS`].
    pub name: String,
    /// Settings that the simulator reads itself.
    #[serde(flatten)]
    pub settings: toml::Table,
}

impl Environment {
    /// Checks the settings without starting anything.
    ///
    /// # Errors
    /// When the simulator is unknown or refuses a setting.
    pub fn check(&self) -> Result<()> {
        (env::entry(&self.name)?.check)(&self.settings)
    }

    /// Builds the simulator.
    ///
    /// # Errors
    /// When it is unknown or refuses a setting.
    pub fn build(&self) -> Result<Box<dyn Env>> {
        (env::entry(&self.name)?.build)(&self.settings)
    }
}

/// Where initial states and goals come from (evaluation.md section 1.0.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoalSource {
    /// Both are drawn by the environment's released sampler.
    RandomState,
    /// The scripted expert of the environment is followed from the same beginning; the goal is where it ends.
    Expert,
    /// Beginning and goal are frames of a recorded episode; there is no simulator.
    Recorded,
    /// A stretch of a recorded episode is replayed in the simulator (`dset` in the release).
    Replay,
}

/// What becomes of an episode that is at its goal from the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SolvedAtStart {
    /// It counts like any other, as in the paper.
    #[default]
    Keep,
    /// Another one is drawn for the same seed.
    Redraw,
}

/// Which states count as success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SuccessRule {
    /// The state after the last step.
    Final,
    /// Any state after at least one step.
    Any,
    /// Any state in which a plan ends, as DINO-WM counts (evaluation.md section 3.6).
    Plan,
}

/// Table `protocol`: how an episode runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Where initial states and goals come from.
    pub goal_source: GoalSource,
    /// Which states count.
    pub success: SuccessRule,
    /// Environment steps per episode, `M`.
    pub max_steps: usize,
    /// Environment steps per model step, `f`.
    pub frameskip: usize,
    /// Steps of the budget that the reset of the environment has made (evaluation.md section 1.4).
    #[serde(default)]
    pub warmup_steps: usize,
    /// Actions of a replayed stretch; `max_steps` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal_steps: Option<usize>,
    /// What becomes of an episode that is at its goal from the start.
    #[serde(default)]
    pub solved_at_start: SolvedAtStart,
}

impl Protocol {
    /// Model steps to plan with `elapsed` environment steps done: at most `horizon`, at least 1
    /// (evaluation.md section 1.0.3; actions are not repeated).
    pub fn plan_length(&self, horizon: usize, elapsed: usize) -> usize {
        let steps_left = self.max_steps.saturating_sub(elapsed);
        let budget = ((steps_left + 1) / self.frameskip).max(1);
        horizon.min(budget)
    }
}

fn one() -> u64 {
    1
}

/// Table `episodes`: the rule of the episode list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Episodes {
    /// Seed of episode 0; episode `k` has seed `first_seed + k * seed_stride`.
    pub first_seed: u64,
    /// From the seed of an episode to that of the next.
    #[serde(default = "one")]
    pub seed_stride: u64,
    /// Number of episodes.
    pub count: u32,
}

/// A planner with its settings: one table of `presets`, and table `planner` of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannerSettings {
    /// Name in [`planner::PLANNERS`].
    pub method: String,
    /// Model steps planned, `H`.
    pub horizon: usize,
    /// Model steps executed per plan, `m`.
    pub replan_every: usize,
    /// Settings that the planner reads itself.
    #[serde(flatten)]
    pub settings: toml::Table,
}

impl PlannerSettings {
    /// Builds the planner.
    ///
    /// # Errors
    /// When it is unknown or refuses a setting, or the horizon does not cover `replan_every`.
    pub fn build(&self) -> Result<Box<dyn Planner>> {
        if self.replan_every == 0 || self.replan_every > self.horizon {
            let detail = format!(
                "`replan_every` is {}, not between 1 and the horizon {}",
                self.replan_every, self.horizon
            );
            return Err(config_error("table `planner`", detail));
        }
        (planner::entry(&self.method)?.build)(&self.settings)
    }

    /// The same settings with the planner's defaults filled in.
    fn completed(&self) -> Result<Self> {
        let mut settings = (planner::entry(&self.method)?.defaults)();
        settings.extend(self.settings.clone());
        Ok(Self {
            settings,
            ..self.clone()
        })
    }
}

/// What makes two tasks the same: the tables whose values move numbers.
#[derive(Serialize)]
struct Identity<'a> {
    name: &'a str,
    version: u32,
    environment: &'a Environment,
    protocol: &'a Protocol,
    episodes: &'a Episodes,
    /// Content hash of the dataset that goals are replayed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
}

impl Task {
    /// The task of a name: `wall`, `wall@1`, or the path of a TOML file.
    ///
    /// # Errors
    /// When there is no such task, or the file is not a valid one.
    pub fn find(name: &str) -> Result<Self> {
        if Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let path = Path::new(name);
            let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
                action: "read",
                path: path.to_path_buf(),
                source,
            })?;
            return Self::parse(name, &text);
        }
        let matches = |entry: &&TaskEntry| {
            entry.id == name
                || entry
                    .id
                    .split_once('@')
                    .is_some_and(|(bare, _)| bare == name)
        };
        // The newest version is last.
        match TASKS.iter().rev().find(matches) {
            Some(entry) => Self::parse(entry.id, entry.text),
            None => Err(Error::UnknownName {
                kind: "task",
                name: name.to_string(),
                known: known_tasks(),
            }),
        }
    }

    /// Reads a task file; `what` names it in errors.
    ///
    /// # Errors
    /// When a key is missing, unknown or of the wrong type, or a value is out of range.
    pub fn parse(what: &str, text: &str) -> Result<Self> {
        let task: Self = toml::from_str(text)
            .map_err(|error| config_error(&format!("task `{what}`"), error.to_string()))?;
        for name in task.presets.keys() {
            task.preset(name)?.build()?;
        }
        task.preset(&task.default_preset)?;
        task.environment.check()?;
        check_protocol(&task.protocol)?;
        Ok(task)
    }

    /// `name@version`.
    pub fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// Name, version and hash (blake3, hex) of what decides the numbers of a run of this task.
    ///
    /// A run that changed a value of the identity, such as the budget, gets another hash, and so does one whose goals
    /// come from other data (`data`: its content hash). Running fewer or other episodes does not: the record says which
    /// were run.
    pub fn reference(&self, run: &RunConfig, data: Option<&str>) -> TaskRef {
        let identity = Identity {
            name: &self.name,
            version: self.version,
            environment: &run.environment,
            protocol: &run.protocol,
            episodes: &self.episodes,
            data,
        };
        let mut identity = serde_json::to_value(&identity).unwrap_or_default();
        // Settings that are newer than a task count only where they depart from what was always done.
        let keep = serde_json::to_value(SolvedAtStart::Keep).unwrap_or_default();
        if let Some(episodes) = identity.get_mut("episodes").and_then(Value::as_object_mut) {
            episodes.retain(|name, value| name != "seed_stride" || *value != 1);
        }
        if let Some(protocol) = identity.get_mut("protocol").and_then(Value::as_object_mut) {
            protocol.retain(|name, value| match name.as_str() {
                "solved_at_start" => *value != keep,
                "warmup_steps" => *value != 0,
                _ => true,
            });
        }
        TaskRef {
            name: self.name.clone(),
            version: self.version,
            hash: hash_of(&identity),
        }
    }

    /// The settings of a preset, with the planner's defaults filled in.
    ///
    /// # Errors
    /// When the task has no preset of that name.
    pub fn preset(&self, name: &str) -> Result<PlannerSettings> {
        match self.presets.get(name) {
            Some(preset) => preset.completed(),
            None => Err(Error::UnknownName {
                kind: "planner preset",
                name: name.to_string(),
                known: self.presets.keys().cloned().collect(),
            }),
        }
    }

    /// The preset meant by `--planner NAME`: a preset of that name; else, for the name of a planner,
    /// the default preset if it uses that planner, or the first by name that does.
    ///
    /// # Errors
    /// When nothing matches; the error lists the presets.
    pub fn preset_for(&self, name: &str) -> Result<String> {
        let uses = |preset: &str| self.presets.get(preset).is_some_and(|p| p.method == name);
        let found = if self.presets.contains_key(name) {
            Some(name.to_string())
        } else if uses(&self.default_preset) {
            Some(self.default_preset.clone())
        } else {
            self.presets.keys().find(|preset| uses(preset)).cloned()
        };
        match found {
            Some(preset) => Ok(preset),
            None => Err(self.preset(name).err().unwrap_or_else(|| {
                config_error("planner", format!("`{name}` is no preset of this task"))
            })),
        }
    }
}

/// Everything that decides the numbers of a run: the file `config.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// What chooses the actions: `oracle`, `floor:random`, `floor:noop` or a training run.
    pub model: String,
    /// Task, `name@version`.
    pub task: String,
    /// Dataset that goals are replayed from, where the task does that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Planner preset that `planner` started from.
    pub preset: String,
    /// Seed of planner noise and of the random floor.
    pub noise_seed: u64,
    /// Simulator and its settings.
    pub environment: Environment,
    /// How an episode runs.
    pub protocol: Protocol,
    /// Which episodes are run.
    pub episodes: Episodes,
    /// What planners minimise.
    pub objective: CostSpec,
    /// Planner and its settings.
    pub planner: PlannerSettings,
}

impl RunConfig {
    /// The configuration of `task` with one of its presets and nothing changed.
    ///
    /// # Errors
    /// When the task has no such preset.
    pub fn new(task: &Task, preset: &str, model: &str) -> Result<Self> {
        Ok(Self {
            model: model.to_string(),
            task: task.id(),
            data: None,
            preset: preset.to_string(),
            noise_seed: 1,
            environment: task.environment.clone(),
            protocol: task.protocol,
            episodes: task.episodes,
            objective: task.objective,
            planner: task.preset(preset)?,
        })
    }

    /// Builds the simulator of the run.
    ///
    /// # Errors
    /// When it is unknown, refuses a setting, or cannot be started.
    pub fn simulator(&self) -> Result<Box<dyn Env>> {
        let mut environment = self.environment.clone();
        if let (GoalSource::Recorded, Some(data)) = (self.protocol.goal_source, &self.data) {
            environment
                .settings
                .insert("data".into(), data.as_str().into());
        }
        environment.build()
    }

    /// Model steps that `planner` plans with `elapsed` environment steps done.
    pub fn plan_length(&self, planner: &dyn Planner, elapsed: usize) -> usize {
        if planner.keeps_horizon() {
            self.planner.horizon
        } else {
            self.protocol.plan_length(self.planner.horizon, elapsed)
        }
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// When a value is out of range.
    pub fn check(&self) -> Result<()> {
        check_protocol(&self.protocol)?;
        self.environment.check()?;
        self.planner.build()?;
        let invalid = |detail: String| Err(config_error("table `episodes`", detail));
        let Episodes {
            first_seed,
            seed_stride,
            count,
        } = self.episodes;
        if seed_stride == 0 {
            return invalid("`seed_stride` is 0; every episode would be the same".into());
        }
        if count == 0 {
            return invalid("`count` is 0; an evaluation needs an episode".into());
        }
        // The record computes seeds as sums; the samplers take seeds below 2^32.
        let end = u64::from(count - 1).checked_mul(seed_stride);
        let end = end.and_then(|last| first_seed.checked_add(last)?.checked_add(1));
        if end.is_none_or(|end| end > 1 << 32) {
            return invalid(format!(
                "{count} episodes from seed {first_seed} pass seed 2^32 - 1"
            ));
        }
        if !self.objective.proprio_weight.is_finite() || self.objective.proprio_weight < 0.0 {
            let detail = format!("`proprio_weight` is {}", self.objective.proprio_weight);
            return Err(config_error("table `objective`", detail));
        }
        Ok(())
    }

    /// The text of `config.toml`.
    ///
    /// # Errors
    /// When a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| config_error("run configuration", error.to_string()))
    }

    /// Reads the text of a `config.toml`; `what` names it in errors.
    ///
    /// # Errors
    /// When a key is missing, unknown or of the wrong type, or a value is out of range.
    pub fn from_toml(what: &str, text: &str) -> Result<Self> {
        let config: Self =
            toml::from_str(text).map_err(|error| config_error(what, error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Hash (blake3, hex) of every setting, with `model` and `data` (its content hash) named by what they are instead of
    /// where they lie: two runs with the same hash give the same episodes.
    pub fn hash(&self, model: &str, weights_hash: Option<&str>, data: Option<&str>) -> String {
        let named = Self {
            model: model.to_string(),
            data: data.map(String::from),
            ..self.clone()
        };
        hash_of(&(named, weights_hash))
    }
}

/// Every name that a task goes by: its bare name, and each version.
fn known_tasks() -> Vec<String> {
    let bare = TASKS
        .iter()
        .filter_map(|entry| entry.id.split_once('@'))
        .map(|(name, _)| name);
    let mut names: Vec<String> = bare.map(String::from).collect();
    names.dedup();
    names.extend(TASKS.iter().map(|entry| entry.id.to_string()));
    names
}

fn check_protocol(protocol: &Protocol) -> Result<()> {
    if protocol.max_steps == 0 || protocol.frameskip == 0 {
        return Err(config_error(
            "table `protocol`",
            "`max_steps` and `frameskip` must be at least 1",
        ));
    }
    if protocol.warmup_steps >= protocol.max_steps {
        let detail = "`warmup_steps` leaves nothing of `max_steps`";
        return Err(config_error("table `protocol`", detail));
    }
    let replays = protocol.goal_source == GoalSource::Replay;
    if !replays && protocol.goal_steps.is_some() {
        let detail = "`goal_steps` is the length of a replay, and goals are not replayed";
        return Err(config_error("table `protocol`", detail));
    }
    if protocol.goal_steps == Some(0) {
        return Err(config_error(
            "table `protocol`",
            "`goal_steps` must be at least 1",
        ));
    }
    if !replays && protocol.solved_at_start == SolvedAtStart::Redraw {
        let detail = "`solved_at_start` is `redraw`, and the sampler draws one episode per seed";
        return Err(config_error("table `protocol`", detail));
    }
    Ok(())
}

/// Hash of a value through its JSON text with sorted keys.
fn hash_of(value: &impl Serialize) -> String {
    // Structs of numbers, words and tables always have a JSON value.
    let value = serde_json::to_value(value).unwrap_or_default();
    let mut text = String::new();
    write_canonical(&value, &mut text);
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// JSON without spaces and with sorted keys, whatever order the maps in memory keep.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            out.push('{');
            for (key, value) in sorted {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn config_error(what: &str, detail: impl Into<String>) -> Error {
    Error::Config {
        what: what.to_string(),
        detail: detail.into(),
        hint: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall() -> Task {
        Task::find("wall").unwrap()
    }

    #[test]
    fn every_task_file_is_valid_and_named_after_its_content() {
        for entry in TASKS {
            let task = Task::find(entry.id).unwrap();
            assert_eq!(task.id(), entry.id);
            for preset in task.presets.keys() {
                RunConfig::new(&task, preset, "oracle")
                    .unwrap()
                    .check()
                    .unwrap();
            }
        }
    }

    #[test]
    fn wall_has_the_settings_of_the_paper() {
        let task = wall();
        let paper = task.preset("paper").unwrap();
        assert_eq!(
            (paper.method.as_str(), paper.horizon, paper.replan_every),
            ("cem", 6, 6)
        );
        let setting = |key: &str| paper.settings[key].as_integer().unwrap();
        assert_eq!(
            [
                setting("candidates"),
                setting("elites"),
                setting("iterations")
            ],
            [300, 10, 30]
        );
        assert_eq!((task.protocol.max_steps, task.protocol.frameskip), (30, 5));
        assert_eq!(
            task.episodes,
            Episodes {
                first_seed: 1,
                seed_stride: 1,
                count: 96
            }
        );
    }

    /// The hash of a run of the present `wall` after a change to its configuration.
    fn hash_after(change: fn(&mut RunConfig)) -> String {
        let task = wall();
        let mut config = RunConfig::new(&task, "paper", "oracle").unwrap();
        change(&mut config);
        task.reference(&config, None).hash
    }

    #[test]
    fn the_identity_of_wall_1_never_changes() {
        let hash = "7a4791c3f1f0833da79b780649d9288ebee2869769fad4fed76a37e92e1ec515";
        assert_eq!(
            hash_after(|_| ()),
            hash,
            "a changed task needs a new version"
        );
    }

    #[test]
    fn the_identity_covers_what_moves_numbers_and_only_that() {
        let unchanged = hash_after(|_| ());
        let stricter = |config: &mut RunConfig| {
            config
                .environment
                .settings
                .insert("success_distance".into(), 4.0.into());
        };
        assert_ne!(hash_after(stricter), unchanged);
        assert_ne!(
            hash_after(|config| config.protocol.max_steps = 31),
            unchanged
        );
        assert_ne!(
            hash_after(|config| config.protocol.success = SuccessRule::Any),
            unchanged
        );
        assert_eq!(hash_after(|config| config.episodes.count = 5), unchanged);
        assert_eq!(hash_after(|config| config.planner.horizon = 7), unchanged);
        assert_eq!(
            hash_after(|config| config.objective.proprio_weight = 0.0),
            unchanged
        );
    }

    #[test]
    fn canonical_text_does_not_depend_on_the_order_of_keys() {
        let text = |json: &str| {
            let mut out = String::new();
            write_canonical(&serde_json::from_str(json).unwrap(), &mut out);
            out
        };
        assert_eq!(
            text(r#"{"b": [1, {"d": 2, "c": "x"}], "a": null}"#),
            r#"{"a":null,"b":[1,{"c":"x","d":2,},],}"#
        );
    }

    #[test]
    fn plans_shrink_with_the_steps_that_are_left() {
        let protocol = wall().protocol;
        let lengths =
            [0, 5, 10, 14, 15, 20, 25, 29].map(|elapsed| protocol.plan_length(6, elapsed));
        assert_eq!(lengths, [6, 5, 4, 3, 3, 2, 1, 1]);
        // Metaworld: 99 steps in plans of 3 model steps give these horizons (evaluation.md section 0).
        let metaworld = Protocol {
            max_steps: 100,
            ..protocol
        };
        let horizons: Vec<usize> = (0..7)
            .map(|replan| metaworld.plan_length(6, 1 + 15 * replan))
            .collect();
        assert_eq!(horizons, [6, 6, 6, 6, 6, 5, 2]);
    }

    #[test]
    fn plans_of_metaworld_and_droid_are_as_long_as_in_the_paper() {
        // evaluation.md section 1.4: replans after the warm-up step and every 15 steps from there on.
        let task = Task::find("mw-reach@1").unwrap();
        let preset = task.preset("paper").unwrap();
        let Protocol {
            max_steps,
            warmup_steps,
            frameskip,
            ..
        } = task.protocol;
        let replans = (warmup_steps..max_steps).step_by(preset.replan_every * frameskip);
        assert_eq!(
            replans.clone().collect::<Vec<_>>(),
            [1, 16, 31, 46, 61, 76, 91]
        );
        let lengths: Vec<usize> = replans
            .map(|elapsed| task.protocol.plan_length(preset.horizon, elapsed))
            .collect();
        assert_eq!(lengths, [6, 6, 6, 6, 6, 5, 2]);
        let droid = Task::find("droid@1").unwrap();
        assert_eq!(droid.protocol.plan_length(3, 0), 3);
        assert_eq!(
            droid.preset("paper").unwrap().replan_every,
            droid.protocol.max_steps
        );
    }

    #[test]
    fn planner_names_mean_presets() {
        let task = wall();
        assert_eq!(task.preset_for("replan").unwrap(), "replan");
        assert_eq!(task.preset_for("cem").unwrap(), "paper");
        assert_eq!(task.preset_for("mppi").unwrap(), "mppi");
        let error = task.preset_for("papr").unwrap_err();
        assert!(error.hint().unwrap().starts_with("did you mean `paper`?"));
    }

    #[test]
    fn unknown_tasks_and_keys_are_errors() {
        let error = Task::find("wal").unwrap_err();
        let hint = error.hint().unwrap();
        assert!(
            hint.starts_with("did you mean `wall`? the tasks are: "),
            "{hint}"
        );
        assert!(TASKS.iter().all(|entry| hint.contains(entry.id)), "{hint}");
        let text = TASKS[0].text.replace("max_steps", "maximum_steps");
        let error = Task::parse("wall@1", &text).unwrap_err().to_string();
        assert!(error.contains("maximum_steps"), "{error}");
        let text = TASKS[0].text.replace("elites = 10", "elite = 10");
        assert!(
            Task::parse("wall@1", &text)
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("elites")
        );
    }

    #[test]
    fn a_configuration_survives_its_file() {
        let config = RunConfig::new(&wall(), "replan", "runs/pldm-1").unwrap();
        let text = config.to_toml().unwrap();
        assert_eq!(RunConfig::from_toml("config.toml", &text).unwrap(), config);
        let moved = RunConfig {
            model: "elsewhere/pldm-1".into(),
            ..config.clone()
        };
        assert_eq!(
            config.hash("pldm", Some("abc"), None),
            moved.hash("pldm", Some("abc"), None)
        );
        assert_ne!(
            config.hash("pldm", Some("abc"), None),
            config.hash("pldm", Some("abd"), None)
        );
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let base = RunConfig::new(&wall(), "paper", "oracle").unwrap();
        let refused = |change: fn(&mut RunConfig)| {
            let mut config = base.clone();
            change(&mut config);
            config.check().is_err()
        };
        assert!(refused(|config| config.episodes.count = 0));
        assert!(refused(|config| config.episodes.first_seed = (1 << 32) - 95));
        assert!(refused(|config| config.protocol.frameskip = 0));
        assert!(refused(|config| config.planner.replan_every = 7));
        assert!(refused(|config| config.planner.replan_every = 0));
        assert!(refused(|config| config.objective.proprio_weight = f32::NAN));
        assert!(!refused(
            |config| config.episodes.first_seed = (1 << 32) - 96
        ));
    }
}
