//! `jepa-bench train --sweep`: many runs from one file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jepa_models::Compute;
use jepa_models::train::{Finished, TrainConfig, TrainRequest};
use serde::{Deserialize, Serialize};

use super::Context;
use super::train::{Args, resolve_with, train};
use crate::protocol::insert;
use crate::{Error, Result};

/// Runs above this number are a mistake more often than not.
const MOST_RUNS: usize = 10_000;

/// A sweep file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sweep {
    /// Values per setting; every combination is a run. The keys `model` and `recipe` are settings too.
    #[serde(default)]
    grid: toml::Table,
    /// Runs that are written out.
    #[serde(default)]
    runs: Vec<NamedRun>,
}

/// One run that is written out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedRun {
    name: String,
    #[serde(default)]
    set: toml::Table,
}

/// A run of a sweep before it is resolved: its name, and settings by their dotted keys.
#[derive(Debug, Clone, PartialEq)]
struct Point {
    name: String,
    settings: Vec<(String, toml::Value)>,
}

/// What became of a run.
#[derive(Debug, Serialize)]
struct Outcome {
    name: String,
    out: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished: Option<Finished>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Trains every run of the file in a folder of its own below `--out`.
pub(super) fn run(path: &Path, args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let what = format!("sweep `{}`", path.display());
    let points = read(path, &what)?;
    // All of them are resolved before the first one starts: a mistake in the last one costs nothing.
    let mut runs = Vec::with_capacity(points.len());
    for point in points {
        let config = configuration(&point, args)?;
        let out = args.out.join(&point.name);
        runs.push((point.name, config, out));
    }
    if let Some(shard) = args.shard {
        let mut index = 0;
        runs.retain(|_| {
            index += 1;
            shard.holds(index - 1)
        });
    }
    if args.dry_run {
        for (name, _, _) in &runs {
            ctx.print(name)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let encoders = args.out.join("encoders");
    let mut outcomes = Vec::with_capacity(runs.len());
    for (position, (name, config, out)) in runs.iter().enumerate() {
        ctx.say(&format!("run {} of {}: {name}", position + 1, runs.len()));
        let request = TrainRequest {
            config,
            data: &args.data,
            out,
            // Shards may run side by side, and would write the same folder.
            encoders: args.shard.is_none().then_some(encoders.as_path()),
            compute: Compute::parse(&args.device)?,
        };
        let outcome = match train(&request, ctx) {
            Ok(finished) => (Some(finished), None),
            // A stop is meant for the whole sweep.
            Err(error) if ctx.interrupted() => return Err(error),
            Err(error) => {
                ctx.say(&format!("error: {name}: {error:#}"));
                (None, Some(format!("{error:#}")))
            }
        };
        outcomes.push(Outcome {
            name: name.clone(),
            out: out.clone(),
            finished: outcome.0,
            error: outcome.1,
        });
    }
    print(&outcomes, ctx)
}

fn read(path: &Path, what: &str) -> Result<Vec<Point>> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
        action: "read",
        path: path.to_path_buf(),
        source,
    })?;
    let wrong = |detail: String, hint: &str| Error::Config {
        what: what.to_string(),
        detail,
        hint: Some(hint.to_string()),
    };
    let example = "e.g. [grid] and below it \"training.seed\" = [0, 1, 2]";
    let sweep: Sweep = toml::from_str(&text).map_err(|e| wrong(e.to_string(), example))?;
    let mut points = expand(&sweep.grid).map_err(|detail| wrong(detail, example))?;
    for run in sweep.runs {
        let mut settings = Vec::new();
        flatten("", &run.set, &mut settings);
        points.push(Point {
            name: run.name,
            settings,
        });
    }
    if points.is_empty() {
        return Err(wrong("it has neither a grid nor runs".into(), example));
    }
    let mut names = BTreeSet::new();
    for point in &points {
        let name = &point.name;
        let plain = !name.is_empty() && !name.starts_with('.') && name.chars().all(is_plain);
        if !plain {
            let hint = "names are of letters, digits and `-_.=,+`, and do not start with a dot";
            return Err(wrong(format!("`{name}` cannot be a folder's name"), hint));
        }
        if !names.insert(name) {
            let hint = "give the runs different names, or the settings different values";
            return Err(wrong(format!("two runs are called `{name}`"), hint));
        }
    }
    Ok(points)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.=,+".contains(c)
}

/// Leaves of nested tables by their dotted keys.
fn flatten(prefix: &str, table: &toml::Table, leaves: &mut Vec<(String, toml::Value)>) {
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        match value {
            toml::Value::Table(inner) => flatten(&format!("{path}."), inner, leaves),
            value => leaves.push((path, value.clone())),
        }
    }
}

/// Every combination of the values, the last key fastest; the error says which key has none.
fn expand(grid: &toml::Table) -> std::result::Result<Vec<Point>, String> {
    let mut axes = Vec::new();
    flatten("", grid, &mut axes);
    let mut points = Vec::new();
    for (key, values) in &axes {
        let values = values
            .as_array()
            .filter(|values| !values.is_empty())
            .ok_or_else(|| format!("`{key}` is not a list of values"))?;
        let short = short_name(key, &axes);
        if points.is_empty() {
            points.push(Point {
                name: String::new(),
                settings: Vec::new(),
            });
        }
        if points.len() * values.len() > MOST_RUNS {
            return Err(format!("there are more than {MOST_RUNS} combinations"));
        }
        let with = |point: &Point, value: &toml::Value| {
            let mut settings = point.settings.clone();
            settings.push((key.clone(), value.clone()));
            let comma = if point.name.is_empty() { "" } else { "," };
            Point {
                name: format!("{}{comma}{short}={}", point.name, value_name(value)),
                settings,
            }
        };
        points = points
            .iter()
            .flat_map(|point| values.iter().map(move |value| with(point, value)))
            .collect();
    }
    Ok(points)
}

/// The last part of a key, or all of it where another key ends the same.
fn short_name<'a>(key: &'a str, axes: &[(String, toml::Value)]) -> &'a str {
    let last = |key: &'a str| key.rsplit('.').next().unwrap_or(key);
    let end = format!(".{}", last(key));
    let same = axes
        .iter()
        .filter(|(other, _)| *other == last(key) || other.ends_with(&end));
    if same.count() > 1 { key } else { last(key) }
}

/// A value as part of a folder's name.
fn value_name(value: &toml::Value) -> String {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars()
        .map(|c| if is_plain(c) && c != ',' { c } else { '_' })
        .collect()
}

/// The flags of the command with the settings of a run over them.
fn configuration(point: &Point, args: &Args) -> Result<TrainConfig> {
    let word = |key: &str| -> Result<Option<String>> {
        let given = point.settings.iter().find(|(name, _)| name == key);
        match given {
            None => Ok(None),
            Some((_, toml::Value::String(word))) => Ok(Some(word.clone())),
            Some((_, other)) => Err(Error::Config {
                what: format!("run `{}`", point.name),
                detail: format!("`{key}` is {other}, not a name"),
                hint: None,
            }),
        }
    };
    let (model, recipe) = (word("model")?, word("recipe")?);
    let mut layer = toml::Table::new();
    for (key, value) in &point.settings {
        if key != "model" && key != "recipe" {
            insert(&mut layer, key, value.clone())?;
        }
    }
    let model = model.as_deref().or(args.model.as_deref());
    let recipe = recipe.as_deref().or(args.recipe.as_deref());
    resolve_with(args, model, recipe, Some(layer))
}

fn print(outcomes: &[Outcome], ctx: &Context) -> anyhow::Result<ExitCode> {
    let failed = outcomes.iter().filter(|o| o.error.is_some()).count();
    if ctx.json {
        ctx.print_json(&outcomes)?;
    } else {
        let headings = ["run", "#parameters", "#seconds", "#L2 at H=1", "weights"];
        let rows: Vec<Vec<String>> = outcomes.iter().map(row).collect();
        ctx.print(&jepa_reports::text_table(&headings, &rows))?;
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn row(outcome: &Outcome) -> Vec<String> {
    let Some(finished) = &outcome.finished else {
        return vec![outcome.name.clone(), "failed".into()];
    };
    let errors = finished.validation.as_ref();
    let first = errors.and_then(|errors| errors.visual_l2.first());
    vec![
        outcome.name.clone(),
        finished.parameters.to_string(),
        format!("{:.0}", finished.seconds),
        first.map_or_else(|| "n/a".into(), |error| format!("{error:.4}")),
        finished.weights_hash[..16].to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let grid: toml::Table = text.parse().unwrap();
        let points = expand(&grid).unwrap();
        points.into_iter().map(|point| point.name).collect()
    }

    #[test]
    fn every_combination_is_a_run() {
        let found = names("\"training.seed\" = [0, 1]\nrecipe = [\"a\", \"b\"]");
        assert_eq!(
            found,
            [
                "recipe=a,seed=0",
                "recipe=a,seed=1",
                "recipe=b,seed=0",
                "recipe=b,seed=1"
            ]
        );
    }

    #[test]
    fn keys_that_end_the_same_are_written_in_full() {
        let found = names("\"training.steps\" = [5]\n\"token.objective.rollout.steps\" = [1]");
        assert_eq!(found, ["token.objective.rollout.steps=1,training.steps=5"]);
    }

    #[test]
    fn nested_tables_are_dotted_keys_and_lists_are_values() {
        let found = names("[training]\nbetas = [[0.9, 0.999], [0.9, 0.995]]");
        assert_eq!(found, ["betas=_0.9__0.999_", "betas=_0.9__0.995_"]);
        let grid: toml::Table = "\"training.seed\" = 3".parse().unwrap();
        assert!(expand(&grid).unwrap_err().contains("training.seed"));
    }
}
