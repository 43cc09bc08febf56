//! Runs in the paper's terms, for `report --paper`.

use std::path::{Path, PathBuf};

use jepa_leaderboard::Run;
use jepa_reports::{Design, PaperFacts, PaperInput};
use serde_json::Value;

use super::training_of;
use crate::metric;
use crate::protocol::{RunConfig, TASKS, Task};

/// Settings of a run that are no change of its task or preset: where things lie, which episodes, and what the paper varies.
const CHOICES: [&str; 7] = [
    "model",
    "data",
    "noise_seed",
    "episodes.count",
    "episodes.first_seed",
    "episodes.seed_stride",
    "objective.distance",
];

/// The runs with what their configurations and training runs say; training runs are looked for in `trainings` first.
pub(super) fn input(runs: Vec<Run>, trainings: &[PathBuf]) -> anyhow::Result<PaperInput> {
    let with_facts = runs.into_iter().map(|run| {
        let facts = facts(&run, trainings)?;
        Ok((run, facts))
    });
    let runs = with_facts.collect::<crate::Result<Vec<_>>>()?;
    let name = |id: &str| id.split('@').next().unwrap_or(id).to_string();
    let tasks = TASKS.iter().map(|entry| name(entry.id)).collect();
    Ok(PaperInput::new(&runs, tasks)?)
}

fn facts(run: &Run, trainings: &[PathBuf]) -> crate::Result<PaperFacts> {
    let what = format!("configuration of run `{}`", run.dir.display());
    let config = RunConfig::from_toml(&what, &run.config_toml)?;
    let metrics = metric::of_environment(&config.environment.name, &run.episodes);
    Ok(PaperFacts {
        design: training_of(run, trainings).map_or_else(Design::default, |folder| design(&folder)),
        action_score: metrics.get("action_score").copied(),
        changes: changes(&config)?,
    })
}

/// Design of the model of a training run; nothing where its configuration cannot be read.
fn design(folder: &Path) -> Design {
    let config = json(&folder.join("config.json"));
    let config = config.as_ref().map_or(&Value::Null, |file| &file["config"]);
    Design::of(config, encoder(folder, config))
}

/// Name of the imported encoder of a training run: what its weights say that they are.
fn encoder(folder: &Path, config: &Value) -> Option<String> {
    let weights = config["token"]["encoder"]["weights"].as_str()?;
    let folders = [folder.join("encoder"), PathBuf::from(weights)];
    let mut files = folders
        .iter()
        .filter_map(|folder| json(&folder.join("config.json")));
    files.find_map(|file| Some(file["name"].as_str()?.to_string()))
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Settings of a run that differ from those of its task with its preset: `key = value, not value`.
fn changes(config: &RunConfig) -> crate::Result<Vec<String>> {
    let Ok(task) = Task::find(&config.task) else {
        return Ok(vec![format!("task {} is not of this program", config.task)]);
    };
    let Ok(expected) = RunConfig::new(&task, &config.preset, &config.model) else {
        return Ok(vec![format!(
            "preset {} is not of this program",
            config.preset
        )]);
    };
    let (own, expected) = (leaves(config)?, leaves(&expected)?);
    let keys = own
        .keys()
        .chain(expected.keys().filter(|key| !own.contains_key(*key)));
    let mut changes: Vec<String> = keys
        .filter(|key| !CHOICES.contains(&key.as_str()) && own.get(*key) != expected.get(*key))
        .map(|key| {
            let shown = |found: Option<&toml::Value>| {
                found.map_or_else(|| "unset".into(), ToString::to_string)
            };
            format!(
                "{key} = {}, not {}",
                shown(own.get(key)),
                shown(expected.get(key))
            )
        })
        .collect();
    changes.sort();
    Ok(changes)
}

/// Values of a configuration by their dotted keys.
fn leaves(config: &RunConfig) -> crate::Result<std::collections::BTreeMap<String, toml::Value>> {
    let table: toml::Table = config.to_toml()?.parse().unwrap_or_default();
    let mut leaves = std::collections::BTreeMap::new();
    let mut pending = vec![(String::new(), table)];
    while let Some((prefix, table)) = pending.pop() {
        for (key, value) in table {
            match value {
                toml::Value::Table(inner) => pending.push((format!("{prefix}{key}."), inner)),
                value => {
                    leaves.insert(format!("{prefix}{key}"), value);
                }
            }
        }
    }
    Ok(leaves)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall() -> RunConfig {
        RunConfig::new(&Task::find("wall").unwrap(), "paper", "anything").unwrap()
    }

    #[test]
    fn the_presets_of_a_task_are_no_change() {
        let mut config = wall();
        config.model = "other".into();
        config.episodes.count = 8;
        assert_eq!(changes(&config).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn changed_settings_are_told_with_what_they_were() {
        let mut config = wall();
        config
            .planner
            .settings
            .insert("candidates".into(), 40.into());
        config.protocol.max_steps = 31;
        let expected = [
            "planner.candidates = 40, not 300",
            "protocol.max_steps = 31, not 30",
        ];
        assert_eq!(changes(&config).unwrap(), expected);
    }

    #[test]
    fn an_imported_encoder_is_called_what_its_weights_say() {
        let folder = tempfile::tempdir().unwrap();
        let (run, weights) = (folder.path().join("run"), folder.path().join("any-name"));
        std::fs::create_dir_all(&run).unwrap();
        std::fs::create_dir_all(&weights).unwrap();
        std::fs::write(weights.join("config.json"), r#"{"name": "dinov2-large"}"#).unwrap();
        let config = serde_json::json!({"config": {
            "token": {
                "encoder": {"kind": "imported", "weights": weights},
                "predictor": {"kind": "adaln", "depth": 6, "proprio_width": 0},
                "objective": {"rollout": {"steps": 2}}
            },
            "training": {"horizon": 3}
        }});
        std::fs::write(run.join("config.json"), config.to_string()).unwrap();
        let found = design(&run);
        assert_eq!(found.encoder.as_deref(), Some("dinov2-large"));
        assert_eq!(
            (found.rollout_steps, found.context, found.proprio),
            (Some(2), Some(3), Some(false))
        );
        assert_eq!(design(folder.path()), Design::default());
    }
}
