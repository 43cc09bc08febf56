//! From a task and what the user typed to a [`RunConfig`]: task and preset first, then the file of
//! `--config`, then each `--set`, then the flags. Later ones win; unknown keys are errors.

use std::path::Path;

use super::{RunConfig, Task, config_error};
use crate::{Error, Result};

/// What the user chose; everything left out keeps the value of the task.
#[derive(Debug, Clone, Default)]
pub struct Choices<'a> {
    /// `--model`.
    pub model: Option<&'a str>,
    /// `--task`.
    pub task: Option<&'a str>,
    /// `--data`: dataset that goals are replayed from.
    pub data: Option<&'a str>,
    /// `--planner`: a preset, or a planner.
    pub planner: Option<&'a str>,
    /// `--episodes`.
    pub episodes: Option<u32>,
    /// `--seed`: seed of the first episode.
    pub first_seed: Option<u64>,
    /// `--config`: TOML with any keys of a run's `config.toml`.
    pub file: Option<&'a Path>,
    /// `--set key=value`, in order.
    pub settings: &'a [String],
}

/// A task and the configuration of one run of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The task, as in its file.
    pub task: Task,
    /// The task with everything that was chosen.
    pub config: RunConfig,
}

/// Builds and checks the configuration of a run.
///
/// # Errors
/// When a name or key is unknown, choices contradict each other, or a value is out of range.
pub fn resolve(choices: &Choices<'_>) -> Result<Resolved> {
    let mut changes = changes(choices.file, choices.settings)?;
    // Few tasks have it, so it is not among the settings that a task shows.
    let data = match changes.remove("data") {
        None => None,
        Some(toml::Value::String(path)) => Some(path),
        Some(other) => {
            let detail = format!("`data` is {other}, expected the path of a dataset");
            return Err(config_error("settings", detail));
        }
    };
    let word = |key: &str| changes.get(key).and_then(toml::Value::as_str);
    let task = choices.task.or(word("task"));
    let task = Task::find(task.ok_or_else(|| missing("--task", "wall"))?)?;
    let model = choices
        .model
        .or(word("model"))
        .ok_or_else(|| missing("--model", "oracle"))?;
    let model = model.to_string();
    let preset = match choices.planner {
        Some(name) => task.preset_for(name)?,
        None => word("preset").unwrap_or(&task.default_preset).to_string(),
    };
    agree("--task", &task.id(), word("task"))?;
    agree("--planner", &preset, word("preset"))?;

    let base = RunConfig::new(&task, &preset, &model)?;
    let mut table = to_table(&base)?;
    overlay(&mut table, changes, "")?;
    let mut config: RunConfig = table
        .try_into()
        .map_err(|error: toml::de::Error| config_error("settings", error.message()))?;
    config.model = model;
    config.task = task.id();
    config.preset = preset;
    config.data = choices.data.map(String::from).or(data);
    config.episodes.count = choices.episodes.unwrap_or(config.episodes.count);
    config.episodes.first_seed = choices.first_seed.unwrap_or(config.episodes.first_seed);
    config.check()?;
    Ok(Resolved { task, config })
}

/// The file of `--config` with every `--set` laid over it.
pub(crate) fn changes(file: Option<&Path>, settings: &[String]) -> Result<toml::Table> {
    let mut table = match file {
        Some(path) => read_table(path)?,
        None => toml::Table::new(),
    };
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or_else(|| Error::Config {
            what: format!("`--set {setting}`"),
            detail: "it has no `=`".into(),
            hint: Some("write `--set key=value`, e.g. `--set planner.candidates=100`".into()),
        })?;
        insert(&mut table, key.trim(), parse_value(value.trim()))?;
    }
    Ok(table)
}

fn read_table(path: &Path) -> Result<toml::Table> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
        action: "read",
        path: path.to_path_buf(),
        source,
    })?;
    let what = format!("configuration `{}`", path.display());
    text.parse()
        .map_err(|error: toml::de::Error| config_error(&what, error.to_string()))
}

/// A TOML value; anything that is not one is a word.
fn parse_value(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>();
    let value = parsed.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| toml::Value::String(text.to_string()))
}

/// Sets a dotted key, making tables on the way.
pub(crate) fn insert(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<()> {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_string(), value);
        return Ok(());
    };
    let inner = table
        .entry(first)
        .or_insert_with(|| toml::Table::new().into());
    match inner.as_table_mut() {
        Some(inner) => insert(inner, rest, value),
        None => Err(config_error(
            &format!("`--set {key}`"),
            format!("`{first}` is not a table"),
        )),
    }
}

/// Lays `changes` over `base`, whose keys are all that exist.
pub(crate) fn overlay(base: &mut toml::Table, changes: toml::Table, prefix: &str) -> Result<()> {
    for (key, change) in changes {
        let path = format!("{prefix}{key}");
        let known: Vec<String> = base
            .keys()
            .map(|known| format!("{prefix}{known}"))
            .collect();
        let Some(value) = base.get_mut(&key) else {
            return Err(Error::UnknownName {
                kind: "setting",
                name: path,
                known,
            });
        };
        match (value, change) {
            (toml::Value::Table(inner), toml::Value::Table(changes)) => {
                overlay(inner, changes, &format!("{path}."))?;
            }
            (toml::Value::Table(_), _) => {
                return Err(config_error(&format!("setting `{path}`"), "it is a table"));
            }
            (toml::Value::Float(number), toml::Value::Integer(change)) => *number = change as f64,
            (value, change) => *value = change,
        }
    }
    Ok(())
}

/// A flag and a configuration must name the same thing.
fn agree(flag: &str, chosen: &str, configured: Option<&str>) -> Result<()> {
    match configured {
        // A bare task name in a file means its newest version, as on the command line.
        Some(other) if other != chosen && !chosen.starts_with(&format!("{other}@")) => {
            Err(Error::Config {
                what: format!("`{flag}`"),
                detail: format!("it means `{chosen}`, the configuration says `{other}`"),
                hint: Some("leave one of them out".into()),
            })
        }
        _ => Ok(()),
    }
}

fn to_table(config: &RunConfig) -> Result<toml::Table> {
    toml::Table::try_from(config).map_err(|error| config_error("settings", error.to_string()))
}

fn missing(flag: &str, example: &str) -> Error {
    Error::Config {
        what: "the command line".into(),
        detail: format!("neither `{flag}` nor a configuration names it"),
        hint: Some(format!("add `{flag} {example}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(settings: &[String]) -> Choices<'_> {
        Choices {
            model: Some("oracle"),
            task: Some("wall"),
            settings,
            ..Choices::default()
        }
    }

    fn set(settings: &[&str]) -> Result<RunConfig> {
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        resolve(&choose(&settings)).map(|resolved| resolved.config)
    }

    #[test]
    fn without_changes_the_task_is_taken_as_it_is() {
        let task = Task::find("wall").unwrap();
        let config = set(&[]).unwrap();
        assert_eq!(config, RunConfig::new(&task, "paper", "oracle").unwrap());
    }

    #[test]
    fn settings_reach_every_table_and_flags_win() {
        let settings = [
            "planner.candidates=50",
            "objective.distance=l1",
            "environment.success_distance=5",
            "episodes.count=7",
        ];
        let settings = settings.map(String::from);
        let choices = Choices {
            episodes: Some(3),
            first_seed: Some(9),
            ..choose(&settings)
        };
        let config = resolve(&choices).unwrap().config;
        assert_eq!(config.planner.settings["candidates"].as_integer(), Some(50));
        assert_eq!(config.objective.distance, jepa_models::Distance::L1);
        assert_eq!(
            config.environment.settings["success_distance"].as_float(),
            Some(5.0)
        );
        assert_eq!((config.episodes.count, config.episodes.first_seed), (3, 9));
    }

    #[test]
    fn unknown_settings_are_named_with_the_closest() {
        let error = set(&["planner.candidate=5"]).unwrap_err();
        assert!(
            error
                .hint()
                .unwrap()
                .starts_with("did you mean `planner.candidates`?")
        );
        let error = set(&["protocl.max_steps=5"]).unwrap_err();
        assert!(
            error
                .hint()
                .unwrap()
                .starts_with("did you mean `protocol`?"),
            "{error}"
        );
    }

    #[test]
    fn wrong_types_and_missing_parts_are_errors() {
        assert!(set(&["planner.candidates=many"]).is_err());
        assert!(set(&["planner=5"]).is_err());
        assert!(
            set(&["episodes.count"])
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("key=value")
        );
        let error = resolve(&Choices {
            task: Some("wall"),
            ..Choices::default()
        })
        .unwrap_err();
        assert_eq!(error.hint().unwrap(), "add `--model oracle`");
    }

    #[test]
    fn the_file_of_a_run_gives_the_same_run() {
        let config = set(&["planner.iterations=4", "noise_seed=8"]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, config.to_toml().unwrap()).unwrap();
        let again = resolve(&Choices {
            file: Some(&path),
            ..Choices::default()
        })
        .unwrap();
        assert_eq!(again.config, config);
        let other = Choices {
            file: Some(&path),
            planner: Some("replan"),
            ..Choices::default()
        };
        assert!(
            resolve(&other)
                .unwrap_err()
                .to_string()
                .contains("`replan`")
        );
    }
}
