//! The files of a finished run: tables, manifest, and last of all the record.

use std::collections::BTreeMap;
use std::path::Path;

use jepa_leaderboard::{
    CONFIG_FILE, EPISODES_FILE, EpisodeRow, PlannerRef, Provenance, RECORD_FILE, RECORD_VERSION,
    RunRecord, Summary, TIMINGS_FILE, TimingRow, hash_file, write_episodes, write_timings,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::folder::{RunFolder, write_atomically};
use super::provenance::provenance;
use super::{Evaluation, Line, Shard};
use crate::agent::Policy;
use crate::metric;
use crate::protocol::{RunConfig, Task};
use crate::{Error, Result};

/// Name of the manifest in a run folder.
pub(super) const MANIFEST_FILE: &str = "manifest.json";

/// `manifest.json`: what a run was made of, for checking and merging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunManifest {
    /// Version of this layout.
    pub manifest_version: u32,
    /// Hash (blake3, hex) of everything that decides the episodes.
    pub run_hash: String,
    /// The part of the episode list that this folder holds; everything when `None`.
    pub shard: Option<Shard>,
    /// Episodes in this folder.
    pub episodes: u64,
    /// Steps in which the simulator replaced a number that is NaN in the reference.
    pub nan_guard_steps: u64,
    /// Episodes that were at their goal before the first step.
    #[serde(default)]
    pub solved_at_start: u64,
    /// Episodes that were drawn and passed over, as they were at their goal from the start.
    #[serde(default)]
    pub redrawn: u64,
    /// Further numbers of the episodes, for environments that have some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// Content hash of the dataset that goals were replayed from, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal_data_hash: Option<String>,
    /// Hash of the weights, if there are any.
    pub weights_hash: Option<String>,
    /// Content hash of the training data, if there is any.
    pub dataset_hash: Option<String>,
    /// Hash of the list of training episodes, if there is one.
    pub train_split_hash: Option<String>,
    /// Commit of the code.
    pub commit: String,
    /// Version of the program.
    pub version: String,
    /// Operating system and architecture.
    pub os: String,
    /// Processor model.
    pub cpu: String,
    /// Device that ran the model.
    pub device: String,
    /// Versions of the libraries that can move a number.
    pub dependencies: BTreeMap<String, String>,
}

impl RunManifest {
    /// Reads the manifest of a run folder.
    ///
    /// # Errors
    /// When there is none or it is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST_FILE);
        let text =
            std::fs::read(&path).map_err(|source| super::folder::io("read", &path, source))?;
        serde_json::from_slice(&text).map_err(|error| Error::Config {
            what: format!("manifest `{}`", path.display()),
            detail: error.to_string(),
            hint: None,
        })
    }
}

/// Writes the results of a finished evaluation.
pub(super) fn write(
    evaluation: &Evaluation,
    folder: &RunFolder,
    lines: &[Line],
) -> Result<(RunRecord, RunManifest)> {
    let before = lines.iter().map(|line| line.elapsed_s).fold(0.0, f64::max);
    let wall_seconds = before.max(folder.clock.elapsed().as_secs_f64());
    let provenance = provenance(folder.started, wall_seconds, evaluation);
    let rows: Vec<EpisodeRow> = lines.iter().map(|line| line.row.clone()).collect();
    let timings: Vec<TimingRow> = lines.iter().map(|line| line.timing).collect();
    let manifest = manifest(evaluation, lines, &rows, &provenance);
    let record = record(
        evaluation,
        summary(&folder.path, &rows, &timings)?,
        provenance,
    )?;
    let record = write_files(&folder.path, record, &manifest, &rows, &timings)?;
    Ok((record, manifest))
}

/// Writes tables, manifest and record; the record is last and marks the run as finished.
pub(super) fn write_files(
    dir: &Path,
    mut record: RunRecord,
    manifest: &RunManifest,
    rows: &[EpisodeRow],
    timings: &[TimingRow],
) -> Result<RunRecord> {
    write_episodes(&dir.join(EPISODES_FILE), rows)?;
    write_timings(&dir.join(TIMINGS_FILE), timings)?;
    write_atomically(
        &dir.join(MANIFEST_FILE),
        json(manifest, MANIFEST_FILE)?.as_bytes(),
    )?;
    for name in [CONFIG_FILE, EPISODES_FILE, TIMINGS_FILE, MANIFEST_FILE] {
        record
            .files
            .insert(name.to_string(), hash_file(&dir.join(name))?);
    }
    record.write(&dir.join(RECORD_FILE))?;
    Ok(record)
}

/// The numbers of a run.
pub(super) fn summary(dir: &Path, rows: &[EpisodeRow], timings: &[TimingRow]) -> Result<Summary> {
    Summary::from_episodes(rows, timings).ok_or_else(|| Error::Run {
        path: dir.to_path_buf(),
        detail: "it holds no episode".into(),
        hint: "use fewer shards than episodes".into(),
    })
}

fn record(evaluation: &Evaluation, summary: Summary, provenance: Provenance) -> Result<RunRecord> {
    let Evaluation {
        task,
        config,
        policy,
        ..
    } = evaluation;
    let mut settings = to_map(&config.planner)?;
    settings.remove("method");
    settings.insert("noise_seed".into(), config.noise_seed.into());
    let planner = if policy.plans() {
        PlannerRef {
            name: config.planner.method.clone(),
            preset: preset_label(task, config)?,
            settings,
        }
    } else {
        let none = || "none".to_string();
        let settings = BTreeMap::from([("noise_seed".to_string(), config.noise_seed.into())]);
        PlannerRef {
            name: none(),
            preset: none(),
            settings,
        }
    };
    let objective = match policy {
        Policy::Model(_) => to_map(&config.objective)?,
        Policy::Oracle => BTreeMap::from([(
            "distance".to_string(),
            Value::from(
                crate::env::entry(&config.environment.name)?
                    .limits
                    .oracle_cost,
            ),
        )]),
        Policy::Trained(_) | Policy::Random | Policy::Noop | Policy::Expert => BTreeMap::new(),
    };
    Ok(RunRecord {
        record_version: RECORD_VERSION,
        task: task.reference(config, evaluation.goals.content_hash()),
        model: policy.reference(),
        planner,
        objective,
        first_seed: config.episodes.first_seed,
        seed_stride: config.episodes.seed_stride,
        summary,
        provenance,
        files: BTreeMap::new(),
    })
}

/// The name of the preset, and whether the run departs from it: a run with other settings must not pass
/// for one with the paper's.
fn preset_label(task: &Task, config: &RunConfig) -> Result<String> {
    let name = &config.preset;
    let as_named = task.preset(name)? == config.planner && task.objective == config.objective;
    Ok(if as_named {
        name.clone()
    } else {
        format!("{name}, changed")
    })
}

fn manifest(
    evaluation: &Evaluation,
    lines: &[Line],
    rows: &[EpisodeRow],
    provenance: &Provenance,
) -> RunManifest {
    let training = evaluation.policy.reference().training;
    RunManifest {
        manifest_version: 1,
        run_hash: evaluation.run_hash(),
        shard: evaluation.shard,
        episodes: lines.len() as u64,
        nan_guard_steps: lines.iter().map(|line| line.nan_guard_steps).sum(),
        solved_at_start: lines.iter().filter(|line| line.solved_at_start).count() as u64,
        redrawn: lines.iter().map(|line| u64::from(line.redrawn)).sum(),
        metrics: metric::of_environment(&evaluation.config.environment.name, rows),
        goal_data_hash: evaluation.goals.content_hash().map(String::from),
        weights_hash: evaluation.policy.weights_hash().map(String::from),
        dataset_hash: training
            .as_ref()
            .map(|training| training.dataset_hash.clone()),
        train_split_hash: training.map(|training| training.train_split_hash),
        commit: provenance.commit.clone(),
        version: provenance.version.clone(),
        os: provenance.os.clone(),
        cpu: provenance.cpu.clone(),
        device: provenance.device.clone(),
        dependencies: provenance.dependencies.clone(),
    }
}

/// The fields of a struct as JSON values. Through text, so that an `f32` of 0.1 stays 0.1.
fn to_map(value: &impl Serialize) -> Result<BTreeMap<String, Value>> {
    let text = json(value, "settings")?;
    serde_json::from_str(&text).map_err(|error| unwritable("settings", &error))
}

fn json(value: &impl Serialize, what: &str) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n")
        .map_err(|error| unwritable(what, &error))
}

fn unwritable(what: &str, error: &serde_json::Error) -> Error {
    Error::Invalid {
        what: what.to_string(),
        detail: error.to_string(),
    }
}
