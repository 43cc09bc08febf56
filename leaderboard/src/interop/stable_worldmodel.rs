//! Results of stable-worldmodel's evaluation scripts.
//!
//! `scripts/plan/eval_wm.py` and `eval_ff.py` of `galilai-group/stable-worldmodel` (commit addbab4) append to a text file, per
//! evaluation: a line `==== CONFIG ====`, the configuration as YAML, a line `==== RESULTS ====`, `metrics:` with the
//! dictionary of `World.evaluate` as Python prints it (`success_rate` in percent, `episode_successes`, `seeds`), and
//! `evaluation_time:`. NumPy leaves out the middle of arrays of more than 1,000 values; the rate then stands alone.

use std::collections::BTreeMap;

use super::imported::{ImportStatus, ImportedFrom, ImportedRow, Reader};
use super::python_literal::Literal;
use crate::error::Result;

/// Largest results file, in bytes.
const MAX_FILE: usize = 16 << 20;
/// Most evaluations of one file.
const MAX_EVALUATIONS: usize = 10_000;
/// Digits to which a percentage has to agree with its episodes.
const TOLERANCE: f64 = 1e-9;
/// The line above each configuration.
const CONFIG: &str = "==== CONFIG ====";
/// The line above each result.
const RESULTS: &str = "==== RESULTS ====";

/// Reads a results file, e.g. `pusht_results.txt`: one row per evaluation, in the order of the file.
///
/// # Errors
/// When the file is too large, has no evaluation, or one that is incomplete or contradicts itself. The error names the
/// evaluation (from 0) and the field.
pub fn read_stable_worldmodel(bytes: &[u8]) -> Result<Vec<ImportedRow>> {
    let reader = Reader {
        from: ImportedFrom::StableWorldmodel,
        file: "results file",
    };
    reader.check_size(bytes, MAX_FILE)?;
    let fix = "pass the text file that the evaluation script appends to, e.g. `pusht_results.txt`";
    let text = std::str::from_utf8(bytes);
    let text = text.map_err(|error| reader.wrong("file", format!("is not text: {error}"), fix))?;
    let blocks: Vec<&str> = text.split(CONFIG).skip(1).collect();
    if blocks.is_empty() {
        return Err(reader.wrong("file", format!("has no line `{CONFIG}`"), fix));
    }
    if blocks.len() > MAX_EVALUATIONS {
        let detail = format!("has more than {MAX_EVALUATIONS} evaluations");
        return Err(reader.wrong("file", detail, "split it"));
    }
    let raw_hash = blake3::hash(bytes).to_hex().to_string();
    let blocks = blocks.into_iter().enumerate();
    blocks
        .map(|(k, block)| {
            let file = format!("evaluation {k}");
            row(
                Reader {
                    file: &file,
                    ..reader
                },
                block,
                &raw_hash,
            )
        })
        .collect()
}

fn row(reader: Reader, block: &str, raw_hash: &str) -> Result<ImportedRow> {
    let cut = "the evaluation was cut off; remove it or run it again";
    let (config, results) = block
        .split_once(RESULTS)
        .ok_or_else(|| reader.wrong("metrics", format!("has no line `{RESULTS}`"), cut))?;
    let config = scalars(config);
    let text = |field: &str| {
        let value = config.get(field).map_or("", String::as_str);
        reader.check_text(value, field)
    };
    let (task, model) = (text("world.env_name")?, text("policy")?);
    let (_, printed) = results
        .split_once("metrics:")
        .ok_or_else(|| reader.wrong("metrics", "is missing", cut))?;
    let metrics = Literal::parse(printed);
    let metrics = metrics.map_err(|detail| reader.wrong("metrics", detail, cut))?;
    let (value, n) = rate(reader, &metrics, config.get("eval.num_eval"))?;
    Ok(ImportedRow {
        source: ImportedFrom::StableWorldmodel,
        status: ImportStatus::Unverified,
        task: with_settings(task, &config),
        model: model.into(),
        metric: "success_rate".into(),
        value,
        n,
        interval: None,
        date: None,
        url: None,
        raw_hash: raw_hash.into(),
    })
}

/// The environment with what else makes two evaluations of it different tasks.
fn with_settings(task: &str, config: &BTreeMap<String, String>) -> String {
    let settings = ["dataset_name", "goal_offset_steps", "eval_budget"].map(|name| {
        let value = config.get(&format!("eval.{name}"))?;
        let plain = value.chars().all(|c| !c.is_control()) && value.len() <= 200;
        plain.then(|| format!("{name} {value}"))
    });
    let settings: Vec<String> = settings.into_iter().flatten().collect();
    if settings.is_empty() {
        task.into()
    } else {
        format!("{task} ({})", settings.join(", "))
    }
}

/// Success rate as a share, and the number of episodes.
fn rate(reader: Reader, metrics: &Literal, num_eval: Option<&String>) -> Result<(f64, u64)> {
    let field = "metrics.success_rate";
    let Some(&Literal::Number(percent)) = metrics.get("success_rate") else {
        let fix = "evaluate with a version that prints `success_rate` in percent";
        return Err(reader.wrong(field, "is not a number", fix));
    };
    let value = reader.share(percent, field)?;
    let Some(outcomes) = outcomes(reader, metrics)? else {
        let n = num_eval
            .and_then(|n| n.parse().ok())
            .filter(|&n: &u64| n > 0);
        let fix = "keep `num_eval` in the configuration, or `episode_successes` in the metrics";
        let n =
            n.ok_or_else(|| reader.wrong("eval.num_eval", "is not a number of episodes", fix))?;
        return Ok((value, n));
    };
    let n = outcomes.len() as u64;
    let successes = outcomes.into_iter().filter(|&success| success).count() as f64;
    let found = 100.0 * successes / n as f64;
    if (found - percent).abs() > TOLERANCE * 100.0 {
        let detail = format!("is {percent}, but `episode_successes` give {found}");
        return Err(reader.wrong(field, detail, "the file was edited; evaluate again"));
    }
    Ok((successes / n as f64, n))
}

/// The outcome of every episode; `None` where they are not all there.
fn outcomes(reader: Reader, metrics: &Literal) -> Result<Option<Vec<bool>>> {
    let field = "metrics.episode_successes";
    let fix = "evaluate again: it has a true or false, 0 or 1, per episode";
    let items = match metrics.get("episode_successes") {
        None | Some(Literal::None) => return Ok(None),
        Some(Literal::List(items)) if !items.is_empty() => items,
        Some(_) => return Err(reader.wrong(field, "is not a list of outcomes", fix)),
    };
    if items.contains(&Literal::Omitted) {
        return Ok(None);
    }
    let outcome = |item: &Literal| match *item {
        Literal::Bool(success) => Ok(success),
        Literal::Number(1.0) => Ok(true),
        Literal::Number(0.0) => Ok(false),
        _ => Err(reader.wrong(field, "has an outcome that is neither true nor false", fix)),
    };
    items.iter().map(outcome).collect::<Result<_>>().map(Some)
}

/// The scalars of a YAML document of nested mappings by their dotted paths. Lists are passed over.
fn scalars(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut path: Vec<(usize, &str)> = Vec::new();
    for line in text.lines() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        let is_item = content.starts_with("- ") || content == "-";
        let Some((key, value)) = content.split_once(':').filter(|_| !is_item) else {
            continue;
        };
        path.retain(|&(outer, _)| outer < indent);
        // Deeper than any configuration: not worth a path that grows with every line.
        if path.len() >= 16 {
            continue;
        }
        path.push((indent, key));
        let value = unquoted(value.trim());
        if !value.is_empty() {
            let keys: Vec<&str> = path.iter().map(|&(_, key)| key).collect();
            found.entry(keys.join(".")).or_insert(value);
        }
    }
    found
}

/// A scalar without its quotes; `null` is nothing.
fn unquoted(value: &str) -> String {
    let inner = |quote: char| {
        value
            .strip_prefix(quote)
            .and_then(|v| v.strip_suffix(quote))
    };
    match (value, inner('\''), inner('"')) {
        ("null" | "~", ..) => String::new(),
        (_, Some(single), _) => single.replace("''", "'"),
        (_, _, Some(double)) => double.into(),
        _ => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Made up, in the layout of the scripts: two evaluations, the second of 4 episodes in 2 lines.
    const FILE: &str = "
==== CONFIG ====
world:
  env_name: swm/MadeUp-v1
  num_envs: ${eval.num_eval}
seed: 42
policy: random
eval:
  num_eval: 3
  goal_offset_steps: 25
  callables:
  - method: _set_state
    args:
      state:
        value: state

==== RESULTS ====
metrics: {'success_rate': 0.0, 'episode_successes': array([0., 0., 0.]), 'seeds': array([1, 2, 3])}
evaluation_time: 1.5 seconds

==== CONFIG ====
policy: 'made-up/it''s one'
world:
  env_name: swm/MadeUp-v1

==== RESULTS ====
metrics: {'success_rate': np.float64(75.0), 'episode_successes': array([ True, False,
        True,  True]), 'seeds': None}
evaluation_time: 9.25 seconds
";

    fn error(text: &str) -> String {
        let error = read_stable_worldmodel(text.as_bytes()).unwrap_err();
        assert!(error.hint().is_some());
        error.to_string()
    }

    #[test]
    fn a_file_gives_a_row_per_evaluation() {
        let rows = read_stable_worldmodel(FILE.as_bytes()).unwrap();
        let facts: Vec<_> = rows
            .iter()
            .map(|row| (row.task.as_str(), row.model.as_str(), row.value, row.n))
            .collect();
        assert_eq!(
            facts,
            [
                ("swm/MadeUp-v1 (goal_offset_steps 25)", "random", 0.0, 3),
                ("swm/MadeUp-v1", "made-up/it's one", 0.75, 4),
            ]
        );
        let hash = blake3::hash(FILE.as_bytes()).to_hex().to_string();
        for row in &rows {
            assert_eq!(
                (row.source, row.status),
                (ImportedFrom::StableWorldmodel, ImportStatus::Unverified)
            );
            assert_eq!(
                (&row.raw_hash, row.metric.as_str()),
                (&hash, "success_rate")
            );
            assert_eq!((row.interval, &row.date, &row.url), (None, &None, &None));
        }
    }

    #[test]
    fn a_rate_without_all_outcomes_takes_its_number_from_the_configuration() {
        let long = FILE.replace("array([0., 0., 0.])", "array([0., ..., 0.], shape=(2000,))");
        let long = long.replace("num_eval: 3", "num_eval: 2000");
        assert_eq!(read_stable_worldmodel(long.as_bytes()).unwrap()[0].n, 2000);
        let message = error(&long.replace("  num_eval: 2000\n", ""));
        assert!(message.contains("`eval.num_eval`"), "{message}");
    }

    #[test]
    fn an_error_names_the_evaluation_and_the_field() {
        let cases = [
            (
                "75.0",
                "76.0",
                "evaluation 1: `metrics.success_rate` is 76, but `episode_successes` give 75",
            ),
            ("75.0", "nan", "evaluation 1: `metrics.success_rate` is NaN"),
            (
                "75.0",
                "101.0",
                "evaluation 1: `metrics.success_rate` is 101",
            ),
            (
                "policy: random",
                "policy: null",
                "evaluation 0: `policy` is empty",
            ),
            (
                "env_name: swm/MadeUp-v1\n  num",
                "name: x\n  num",
                "evaluation 0: `world.env_name`",
            ),
            (
                "array([0., 0., 0.])",
                "array([0., 2., 0.])",
                "`metrics.episode_successes` has an outcome",
            ),
            (
                "array([0., 0., 0.])",
                "array([])",
                "`metrics.episode_successes` is not a list",
            ),
            (
                "'seeds': None}",
                "'seeds': ",
                "evaluation 1: `metrics` line",
            ),
            (
                "metrics: {'success_rate': 0.0",
                "metric: {'success_rate': 0.0",
                "evaluation 0: `metrics` is missing",
            ),
        ];
        for (from, to, expected) in cases {
            assert!(FILE.contains(from), "{from}");
            let message = error(&FILE.replacen(from, to, 1));
            assert!(message.contains(expected), "{message}");
        }
        assert!(error("").contains("has no line"));
        assert!(error(&FILE[..FILE.len() - 160]).contains("`metrics`"));
        let binary = read_stable_worldmodel(&[0xff, 0xfe]).unwrap_err();
        assert!(binary.to_string().contains("is not text"));
    }

    proptest! {
        #[test]
        fn changed_files_are_read_or_refused(
            at in 0_usize..900, remove in 0_usize..30, put in "[\\[\\]{}:'\"a0-9é. \n-]{0,12}",
        ) {
            let start = at.min(FILE.len());
            let end = (start + remove).min(FILE.len());
            let changed = [&FILE[..start], &put, &FILE[end..]].concat();
            if let Ok(rows) = read_stable_worldmodel(changed.as_bytes()) {
                for row in rows {
                    prop_assert!((0.0..=1.0).contains(&row.value) && row.n > 0);
                }
            }
        }
    }
}
