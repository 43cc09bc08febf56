//! The record of a run: what was evaluated, how, where, and what came out.
//!
//! `record.json` holds a [`RunRecord`]. It claims numbers; the episodes beside it prove them:
//! [`crate::Run::load`] recomputes every number of [`Summary`] from `episodes.parquet` and refuses a
//! folder in which the two disagree.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::statistics::{mean, quantile, wilson};

/// The record version that this build writes, and the newest that it reads.
pub const RECORD_VERSION: u32 = 1;

/// Confidence level of every interval in a record, a table or a figure.
pub const CONFIDENCE: f64 = 0.95;

/// Everything about one run except its episodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// Version of this layout, [`RECORD_VERSION`].
    pub record_version: u32,
    /// The task that was evaluated.
    pub task: TaskRef,
    /// What chose the actions.
    pub model: ModelRef,
    /// The planner and every setting it ran with.
    pub planner: PlannerRef,
    /// The planning objective, as resolved (distance, steps, weights).
    pub objective: BTreeMap<String, Value>,
    /// Seed of the first episode; episode `k` has seed `first_seed + k * seed_stride`.
    pub first_seed: u64,
    /// From the seed of an episode to that of the next.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub seed_stride: u64,
    /// The numbers of this run, all of them recomputable from its episodes.
    pub summary: Summary,
    /// Code, machine and command.
    pub provenance: Provenance,
    /// Hash (blake3, hex) of each file of the run folder, by relative path.
    pub files: BTreeMap<String, String>,
}

fn one() -> u64 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_one(stride: &u64) -> bool {
    *stride == 1
}

/// Identity of a task: two runs are comparable if and only if the hashes agree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRef {
    /// Name, e.g. `wall`.
    pub name: String,
    /// Version: anything that moves a number makes a new one.
    pub version: u32,
    /// Hash (blake3, hex) of the task file.
    pub hash: String,
}

/// What chose the actions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRef {
    /// Registry name: `pldm`, `floor:random`, `oracle`, ...
    pub name: String,
    /// Whether trained, a floor or the ceiling.
    pub kind: ModelKind,
    /// Name to print.
    pub label: String,
    /// Hash (blake3, hex) of the weights, if there are any.
    pub weights_hash: Option<String>,
    /// Number of parameters, if there are any.
    pub parameters: Option<u64>,
    /// How the weights came about, if they were trained here.
    pub training: Option<TrainingRef>,
}

/// The role of a run on its board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// A world model or a policy with weights.
    Trained,
    /// A policy that any model has to beat: random or no actions.
    Floor,
    /// A planner that uses the simulator itself: the ceiling of the planner and protocol.
    Oracle,
}

impl ModelKind {
    /// The word used in files and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trained => "trained",
            Self::Floor => "floor",
            Self::Oracle => "oracle",
        }
    }
}

/// The training run behind a set of weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingRef {
    /// Folder or name of the training run.
    pub run: String,
    /// Seed of initialisation and data order.
    pub seed: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Hash (blake3, hex) of the training configuration without its seed; runs that agree in it
    /// differ by chance only. `None` for weights whose training is not known in full.
    #[serde(default)]
    pub config_hash: Option<String>,
    /// Content hash of the dataset.
    pub dataset_hash: String,
    /// Hash of the list of training episodes.
    pub train_split_hash: String,
    /// Data track: `standard`, `reduced` or `external`.
    pub track: String,
}

/// A planner with all of its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannerRef {
    /// Registry name, e.g. `cem`.
    pub name: String,
    /// `paper` for the paper's settings of the task, or another label.
    pub preset: String,
    /// Every setting, as resolved.
    pub settings: BTreeMap<String, Value>,
}

/// The numbers of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Number of episodes, at least 1.
    pub episodes: u64,
    /// Episodes that were at the goal when the budget ended.
    pub successes: u64,
    /// `successes / episodes`, in `[0, 1]`.
    pub success_rate: f64,
    /// Lower end of the Wilson 95% interval of the success rate.
    pub wilson_low: f64,
    /// Upper end of the Wilson 95% interval of the success rate.
    pub wilson_high: f64,
    /// Episodes that were at the goal after at least one environment step.
    pub success_any: u64,
    /// Mean over episodes of the distance to the goal after the last step, in the task's units.
    pub final_distance_mean: f64,
    /// Median over episodes of the same distance.
    pub final_distance_median: f64,
    /// Batched one-step predictions over all episodes: `iterations * horizon` per plan.
    pub world_model_calls: u64,
    /// Candidate model steps imagined over all episodes.
    pub candidate_steps: u64,
    /// Median over episodes of the seconds spent planning; 0 without timings.
    pub plan_seconds_p50: f64,
    /// 95th percentile over episodes of the seconds spent planning; 0 without timings.
    pub plan_seconds_p95: f64,
}

/// Where the numbers come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Commit of the code, with `-dirty` if it had local changes; `unknown` outside a checkout.
    pub commit: String,
    /// Version of the program.
    pub version: String,
    /// Operating system and architecture.
    pub os: String,
    /// Processor model.
    pub cpu: String,
    /// Worker threads.
    pub threads: u64,
    /// Device that ran the model, e.g. `cpu`.
    pub device: String,
    /// Start, `YYYY-MM-DDThh:mm:ssZ`.
    pub started_utc: String,
    /// Wall-clock seconds of the run.
    pub wall_seconds: f64,
    /// The command line, word by word.
    pub command: Vec<String>,
    /// Versions of the libraries that can move a number.
    pub dependencies: BTreeMap<String, String>,
}

/// One evaluated episode. Bit-identical between two runs of the same command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodeRow {
    /// Position in the run, from 0.
    pub episode: u32,
    /// Seed that drew the initial state and the goal.
    pub seed: u64,
    /// Initial state, `[s]`.
    pub init: Vec<f64>,
    /// Goal state, `[s]`.
    pub goal: Vec<f64>,
    /// State after the last environment step, `[s]`.
    pub final_state: Vec<f64>,
    /// Whether the final state is at the goal.
    pub success: bool,
    /// Whether any visited state was at the goal.
    pub success_any: bool,
    /// Distance between the final state and the goal, in the task's units.
    pub final_distance: f64,
    /// Distance to the goal after the reset and after each environment step, `[M + 1]`.
    pub distances: Vec<f64>,
    /// Visited states, row-major `[M + 1, s]`.
    pub states: Vec<f64>,
    /// Actions as given to the environment, row-major `[M, A_e]`.
    pub actions: Vec<f64>,
    /// Number of plans made (1 without replanning).
    pub plans: u32,
    /// Batched one-step predictions: `iterations * horizon` per plan.
    pub world_model_calls: u64,
    /// Candidate model steps imagined.
    pub candidate_steps: u64,
    /// Lowest cost per planner iteration, `[plans * J]`; empty without a planner.
    pub cost_best: Vec<f64>,
    /// Mean cost of the elites per planner iteration, `[plans * J]`.
    pub cost_elite_mean: Vec<f64>,
    /// Standard deviation of the elites' costs per planner iteration, `[plans * J]`.
    pub cost_elite_std: Vec<f64>,
}

/// Wall-clock times of one episode, kept apart from the rows that are bit-identical between runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimingRow {
    /// Position in the run, from 0.
    pub episode: u32,
    /// Seconds spent planning.
    pub plan_seconds: f64,
    /// Seconds spent in the simulator, rendering included.
    pub env_seconds: f64,
}

impl TaskRef {
    /// `name@version`, as typed on the command line.
    pub fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

impl EpisodeRow {
    /// Digest (blake3, hex) of the visited states, to the bit: what playing the episode again has to reproduce.
    pub fn state_digest(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("jepa-bench 2026 episode states");
        hasher.update(&(self.states.len() as u64).to_le_bytes());
        for value in &self.states {
            hasher.update(&value.to_bits().to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

impl Summary {
    /// Computes the numbers of a run from its episodes; `None` when there are none.
    ///
    /// Missing timings give planning times of 0; everything else comes from `episodes` alone.
    pub fn from_episodes(episodes: &[EpisodeRow], timings: &[TimingRow]) -> Option<Self> {
        let successes = count(episodes, |row| row.success);
        let n = episodes.len() as u64;
        let interval = wilson(successes, n, CONFIDENCE)?;
        let distances: Vec<f64> = episodes.iter().map(|row| row.final_distance).collect();
        let seconds: Vec<f64> = timings.iter().map(|row| row.plan_seconds).collect();
        Some(Self {
            episodes: n,
            successes,
            success_rate: successes as f64 / n as f64,
            wilson_low: interval.low,
            wilson_high: interval.high,
            success_any: count(episodes, |row| row.success_any),
            final_distance_mean: mean(&distances)?,
            final_distance_median: quantile(&distances, 0.5)?,
            world_model_calls: episodes.iter().map(|row| row.world_model_calls).sum(),
            candidate_steps: episodes.iter().map(|row| row.candidate_steps).sum(),
            plan_seconds_p50: quantile(&seconds, 0.5).unwrap_or(0.0),
            plan_seconds_p95: quantile(&seconds, 0.95).unwrap_or(0.0),
        })
    }

    /// The first field in which `self`, as claimed, differs from `computed`: name, claimed, computed.
    ///
    /// Counts must be equal; other numbers must agree to one part in 10⁹.
    pub fn first_difference(&self, computed: &Self) -> Option<(&'static str, f64, f64)> {
        self.numbers().into_iter().zip(computed.numbers()).find_map(
            |((name, claimed), (_, found))| {
                (!agree(claimed, found)).then_some((name, claimed, found))
            },
        )
    }

    /// Every number with its name, in the order of the fields.
    fn numbers(&self) -> [(&'static str, f64); 12] {
        [
            ("episodes", self.episodes as f64),
            ("successes", self.successes as f64),
            ("success_rate", self.success_rate),
            ("wilson_low", self.wilson_low),
            ("wilson_high", self.wilson_high),
            ("success_any", self.success_any as f64),
            ("final_distance_mean", self.final_distance_mean),
            ("final_distance_median", self.final_distance_median),
            ("world_model_calls", self.world_model_calls as f64),
            ("candidate_steps", self.candidate_steps as f64),
            ("plan_seconds_p50", self.plan_seconds_p50),
            ("plan_seconds_p95", self.plan_seconds_p95),
        ]
    }
}

fn count(episodes: &[EpisodeRow], claim: impl Fn(&EpisodeRow) -> bool) -> u64 {
    episodes.iter().filter(|row| claim(row)).count() as u64
}

/// Equality up to one part in 10⁹. A number that is not finite agrees with nothing.
fn agree(claimed: f64, found: f64) -> bool {
    (claimed - found).abs() <= 1e-9 * claimed.abs().max(found.abs()).max(1e-3)
}

impl RunRecord {
    /// Reads a record file.
    ///
    /// # Errors
    /// When the file cannot be read, is not a record, or was written by a newer version.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
        Self::from_json(&bytes, path)
    }

    /// Parses a record; `path` is used in errors only.
    ///
    /// # Errors
    /// When the text is not a record or was written by a newer version.
    pub fn from_json(bytes: &[u8], path: &Path) -> Result<Self> {
        let malformed = |source| Error::Json {
            path: path.to_path_buf(),
            source,
        };
        let document: Value = serde_json::from_slice(bytes).map_err(malformed)?;
        let found = document.get("record_version").and_then(Value::as_u64);
        if let Some(found) = found.filter(|&found| found != u64::from(RECORD_VERSION)) {
            return Err(Error::RecordVersion {
                path: path.to_path_buf(),
                found,
            });
        }
        serde_json::from_value(document).map_err(malformed)
    }

    /// The text of the record file: indented JSON with a final newline, the same bytes every time.
    ///
    /// # Errors
    /// When a setting cannot be represented in JSON.
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        let mut text = text.map_err(|source| Error::Json {
            path: "record.json".into(),
            source,
        })?;
        text.push('\n');
        Ok(text)
    }

    /// Writes the record file under a temporary name and renames it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        crate::files::write_atomically(path, self.to_json()?.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SyntheticRun, episode};

    #[test]
    fn an_empty_run_has_no_summary() {
        assert_eq!(Summary::from_episodes(&[], &[]), None);
    }

    #[test]
    fn a_summary_is_computed_from_episodes() {
        let mut rows = [
            episode(0, true, 1.0),
            episode(1, false, 6.0),
            episode(2, true, 2.0),
        ];
        rows[1].success_any = false;
        let timings: Vec<TimingRow> = (0..3)
            .map(|k| TimingRow {
                episode: k,
                plan_seconds: f64::from(k),
                env_seconds: 0.0,
            })
            .collect();
        let summary = Summary::from_episodes(&rows, &timings).unwrap();
        assert_eq!(
            (summary.episodes, summary.successes, summary.success_any),
            (3, 2, 2)
        );
        assert_eq!(summary.final_distance_mean, 3.0);
        assert_eq!(summary.final_distance_median, 2.0);
        assert_eq!(summary.plan_seconds_p50, 1.0);
        assert!((summary.plan_seconds_p95 - 1.9).abs() < 1e-12);
    }

    #[test]
    fn a_claim_that_differs_is_named() {
        let rows = [episode(0, true, 1.0), episode(1, false, 6.0)];
        let computed = Summary::from_episodes(&rows, &[]).unwrap();
        assert_eq!(computed.first_difference(&computed), None);
        let claimed = Summary {
            successes: 2,
            ..computed.clone()
        };
        assert_eq!(
            claimed.first_difference(&computed),
            Some(("successes", 2.0, 1.0))
        );
        let claimed = Summary {
            final_distance_mean: f64::NAN,
            ..computed.clone()
        };
        assert_eq!(
            claimed.first_difference(&computed).unwrap().0,
            "final_distance_mean"
        );
    }

    #[test]
    fn a_record_survives_its_file_and_newer_ones_are_refused() {
        let record = SyntheticRun::new("pldm", 3).record();
        let text = record.to_json().unwrap();
        let path = Path::new("record.json");
        assert_eq!(RunRecord::from_json(text.as_bytes(), path).unwrap(), record);
        let newer = text.replacen("\"record_version\": 1", "\"record_version\": 2", 1);
        let error = RunRecord::from_json(newer.as_bytes(), path).unwrap_err();
        assert!(matches!(error, Error::RecordVersion { found: 2, .. }));
        let foreign = text.replacen("\"first_seed\"", "\"first_seeds\"", 1);
        assert!(matches!(
            RunRecord::from_json(foreign.as_bytes(), path),
            Err(Error::Json { .. })
        ));
    }
}
