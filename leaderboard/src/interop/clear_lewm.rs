//! Results of CLEAR-LeWM: `submission.json` and the result files that it names.
//!
//! The layout is that of the repository `DavidSunok/CLEAR-LeWM` (`docs/SUBMITTING_RESULTS.md`, `clear_lewm/submissions.py`,
//! commit ab8849c): schema `clear-lewm-submission-v1` names results by task, protocol, path and SHA-256; a result, schema
//! `clear-lewm-result-v1`, has the outcome of every episode in `episode_successes` and the numbers made of them in `metrics`.
//! What the files themselves allow is recomputed; that the episodes took place is not.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::imported::{ImportStatus, ImportedFrom, ImportedRow, Reader};
use crate::error::Result;
use crate::statistics::Interval;

/// Largest submission, in bytes.
const MAX_SUBMISSION: usize = 1 << 20;
/// Largest result, in bytes; those of the project have up to half a megabyte.
const MAX_RESULT: usize = 16 << 20;
/// Most results of one submission.
const MAX_RESULTS: usize = 1_000;
/// Digits to which a percentage has to agree with its episodes.
const TOLERANCE: f64 = 1e-9;

/// Reads a submission. `results` holds the result files by their paths in the bundle, as `submission.json` names them.
///
/// # Errors
/// When a file is too large, of another layout, not the one that the submission names (SHA-256), or claims a success rate
/// that its episodes do not give. The error names the field.
pub fn read_clear_lewm(
    submission: &[u8],
    results: &BTreeMap<String, Vec<u8>>,
) -> Result<Vec<ImportedRow>> {
    let reader = Reader {
        from: ImportedFrom::ClearLewm,
        file: "submission.json",
    };
    reader.check_size(submission, MAX_SUBMISSION)?;
    let object = reader.object(submission)?;
    check_schema(reader, &object, "clear-lewm-submission-v1")?;
    let submission = Submission::new(reader, &object)?;
    let entries = object.get("results").and_then(Value::as_array);
    let entries = entries.filter(|entries| (1..=MAX_RESULTS).contains(&entries.len()));
    let entries = entries.ok_or_else(|| {
        let detail = format!("is not a list of 1 to {MAX_RESULTS} results");
        reader.wrong("results", detail, "list every result file once")
    })?;
    let entries = entries.iter().enumerate();
    entries
        .map(|(k, entry)| submission.row(k, entry, results))
        .collect()
}

/// What all rows of a submission share.
struct Submission<'a> {
    reader: Reader<'a>,
    model: &'a str,
    url: Option<&'a str>,
    version: &'a str,
}

impl<'a> Submission<'a> {
    fn new(reader: Reader<'a>, object: &'a Map<String, Value>) -> Result<Self> {
        let method = reader.inner(object, "method")?;
        let benchmark = reader.inner(object, "benchmark")?;
        let url = reader.text(method, "method.repository")?;
        Ok(Self {
            reader,
            model: reader.text(method, "method.name")?,
            // Shown as a link: nothing but HTTPS becomes one.
            url: url.starts_with("https://").then_some(url),
            version: reader.text(benchmark, "benchmark.version")?,
        })
    }

    /// The row of entry `k` of the list of results.
    fn row(
        &self,
        k: usize,
        entry: &Value,
        results: &BTreeMap<String, Vec<u8>>,
    ) -> Result<ImportedRow> {
        let reader = self.reader;
        let way = |field: &str| format!("results[{k}].{field}");
        let entry = entry.as_object().ok_or_else(|| {
            let fix = "see docs/interop.md for the layout";
            reader.wrong(&format!("results[{k}]"), "is not an object", fix)
        })?;
        let task = reader.text(entry, &way("task"))?;
        let protocol = reader.text(entry, &way("protocol"))?;
        let path = reader.text(entry, &way("path"))?;
        let bytes = results.get(path).ok_or_else(|| {
            let detail = format!("names `{path}`, which is not there");
            reader.wrong(
                &way("path"),
                detail,
                "import the whole bundle, with its result files",
            )
        })?;
        let in_file = Reader {
            file: path,
            ..reader
        };
        in_file.check_size(bytes, MAX_RESULT)?;
        let declared = reader.text(entry, &way("sha256"))?;
        let found = hex(&Sha256::digest(bytes));
        if !declared.eq_ignore_ascii_case(&found) {
            let detail = format!("is {declared}, but `{path}` has {found}");
            let fix = "the result was changed after the submission; take both from one commit";
            return Err(reader.wrong(&way("sha256"), detail, fix));
        }
        let outcome = Outcome::new(in_file, &in_file.object(bytes)?, task, protocol)?;
        Ok(ImportedRow {
            source: ImportedFrom::ClearLewm,
            status: ImportStatus::Unverified,
            task: format!("{} {task} {protocol}", self.version),
            model: self.model.into(),
            metric: "success_rate".into(),
            value: outcome.value,
            n: outcome.n,
            interval: outcome.interval,
            date: None,
            url: self.url.map(String::from),
            raw_hash: blake3::hash(bytes).to_hex().to_string(),
        })
    }
}

/// What a result file says, agreeing with itself.
struct Outcome {
    value: f64,
    n: u64,
    interval: Option<Interval>,
}

impl Outcome {
    fn new(
        reader: Reader,
        object: &Map<String, Value>,
        task: &str,
        protocol: &str,
    ) -> Result<Self> {
        check_schema(reader, object, "clear-lewm-result-v1")?;
        let named = reader.inner(object, "protocol")?;
        let pairs = [
            ("task", reader.text(object, "task")?, task),
            (
                "protocol.name",
                reader.text(named, "protocol.name")?,
                protocol,
            ),
        ];
        for (field, found, expected) in pairs {
            if found != expected {
                let detail = format!("is `{found}`, the submission says `{expected}`");
                return Err(reader.wrong(field, detail, "name the result file of that task"));
            }
        }
        let (successes, n) = trace(reader, object)?;
        let metrics = reader.inner(object, "metrics")?;
        let field = "metrics.episodes";
        let claimed = reader.number(metrics, field)?;
        if (claimed - n as f64).abs() > 0.0 {
            let detail = format!("is {claimed}, but there are {n} outcomes");
            return Err(reader.wrong(
                field,
                detail,
                "evaluate again, or repair `episode_successes`",
            ));
        }
        let field = "metrics.success_rate_percent";
        let claimed = reader.number(metrics, field)?;
        let percent = 100.0 * successes as f64 / n as f64;
        if (claimed - percent).abs() > TOLERANCE {
            let detail = format!("is {claimed}, but the outcomes give {percent}");
            return Err(reader.wrong(
                field,
                detail,
                "evaluate again, or repair `episode_successes`",
            ));
        }
        Ok(Self {
            value: successes as f64 / n as f64,
            n,
            interval: interval(reader, metrics)?,
        })
    }
}

/// Successes and episodes of `episode_successes`.
fn trace(reader: Reader, object: &Map<String, Value>) -> Result<(u64, u64)> {
    let outcomes = object.get("episode_successes").and_then(Value::as_array);
    let outcomes: Option<Vec<bool>> =
        outcomes.and_then(|outcomes| outcomes.iter().map(Value::as_bool).collect());
    let outcomes = outcomes.filter(|outcomes| !outcomes.is_empty());
    let outcomes = outcomes.ok_or_else(|| {
        let fix = "give true or false for every episode, at least one";
        reader.wrong("episode_successes", "is not a list of outcomes", fix)
    })?;
    let successes = outcomes.iter().filter(|&&outcome| outcome).count();
    Ok((successes as u64, outcomes.len() as u64))
}

/// The interval that the result states, if it states one.
fn interval(reader: Reader, metrics: &Map<String, Value>) -> Result<Option<Interval>> {
    let field = "metrics.success_rate_ci95_percent";
    let ends = match metrics.get("success_rate_ci95_percent") {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_array().and_then(|ends| {
            let ends: Option<Vec<f64>> = ends.iter().map(Value::as_f64).collect();
            ends.filter(|ends| ends.len() == 2 && ends[0] <= ends[1])
        }),
    };
    let fix = "give the lower and the upper end, or leave it out";
    let ends = ends.ok_or_else(|| reader.wrong(field, "is not a pair of ends", fix))?;
    let (low, high) = (reader.share(ends[0], field)?, reader.share(ends[1], field)?);
    Ok(Some(Interval { low, high }))
}

fn check_schema(reader: Reader, object: &Map<String, Value>, expected: &str) -> Result<()> {
    let found = reader.text(object, "schema_version")?;
    if found == expected {
        return Ok(());
    }
    let detail = format!("is `{found}`, this build reads `{expected}`");
    Err(reader.wrong(
        "schema_version",
        detail,
        "pass a submission bundle of CLEAR-LeWM",
    ))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn result() -> Value {
        json!({
            "schema_version": "clear-lewm-result-v1",
            "task": "pusht",
            "protocol": { "name": "strict", "eval_budget": 50 },
            "episode_successes": [true, false, true, true],
            "metrics": {
                "episodes": 4,
                "success_rate_percent": 75.0,
                "success_rate_ci95_percent": [30.0, 95.5],
            },
            "policy_seed": 42,
        })
    }

    fn submission(result: &[u8]) -> Value {
        json!({
            "schema_version": "clear-lewm-submission-v1",
            "method": { "name": "Made-up Method", "repository": "https://example.org/method", "revision": "1" },
            "benchmark": { "version": "v0.5", "training_data_track": "standard-data" },
            "results": [{
                "task": "pusht",
                "protocol": "strict",
                "path": "results/pusht-strict.json",
                "sha256": hex(&Sha256::digest(result)),
            }],
        })
    }

    /// Reads a result as the only one of a submission, both after a change.
    fn read(
        change_result: impl Fn(&mut Value),
        change_submission: impl Fn(&mut Value),
    ) -> Result<Vec<ImportedRow>> {
        let mut result = result();
        change_result(&mut result);
        let bytes = result.to_string().into_bytes();
        let mut submission = submission(&bytes);
        change_submission(&mut submission);
        let results = BTreeMap::from([("results/pusht-strict.json".to_string(), bytes)]);
        read_clear_lewm(submission.to_string().as_bytes(), &results)
    }

    #[test]
    fn a_bundle_gives_a_row_per_result() {
        let rows = read(|_| (), |_| ()).unwrap();
        let bytes = result().to_string();
        let expected = ImportedRow {
            source: ImportedFrom::ClearLewm,
            status: ImportStatus::Unverified,
            task: "v0.5 pusht strict".into(),
            model: "Made-up Method".into(),
            metric: "success_rate".into(),
            value: 0.75,
            n: 4,
            interval: Some(Interval {
                low: 0.3,
                high: 0.955,
            }),
            date: None,
            url: Some("https://example.org/method".into()),
            raw_hash: blake3::hash(bytes.as_bytes()).to_hex().to_string(),
        };
        assert_eq!(rows, [expected]);
        let text = serde_json::to_string(&rows[0]).unwrap();
        assert!(text.contains("\"source\":\"clear-lewm\",\"status\":\"unverified\""));
    }

    #[test]
    fn an_error_names_the_field_and_says_what_to_do() {
        let nothing = |_: &mut Value| ();
        let message = |found: Result<Vec<ImportedRow>>| {
            let error = found.unwrap_err();
            assert!(error.hint().is_some());
            error.to_string()
        };
        let in_result = [
            (
                json!({ "episode_successes": [true, 1] }),
                "`episode_successes` is not a list",
            ),
            (
                json!({ "episode_successes": [] }),
                "`episode_successes` is not a list",
            ),
            (
                json!({ "task": "cube" }),
                "`task` is `cube`, the submission says `pusht`",
            ),
            (
                json!({ "schema_version": "v2" }),
                "`schema_version` is `v2`",
            ),
            (json!({ "metrics": 3 }), "`metrics` is not an object"),
        ];
        for (change, expected) in in_result {
            let found = read(|result| merge(result, &change), nothing);
            let message = message(found);
            assert!(message.contains(expected), "{message}");
            assert!(message.contains("results/pusht-strict.json"), "{message}");
        }
        let metrics = [
            (
                "episodes",
                json!(5),
                "`metrics.episodes` is 5, but there are 4 outcomes",
            ),
            (
                "success_rate_percent",
                json!(76),
                "is 76, but the outcomes give 75",
            ),
            (
                "success_rate_ci95_percent",
                json!([9, 1]),
                "is not a pair of ends",
            ),
            (
                "success_rate_ci95_percent",
                json!([-1, 1]),
                "is -1, not a percentage",
            ),
        ];
        for (field, value, expected) in metrics {
            let found = read(|result| result["metrics"][field] = value.clone(), nothing);
            let message = message(found);
            assert!(message.contains(expected), "{message}");
        }
        let in_submission = [
            (
                json!({ "results": [] }),
                "`results` is not a list of 1 to 1000",
            ),
            (json!({ "results": [7] }), "`results[0]` is not an object"),
            (
                json!({ "method": { "name": "a\nb", "repository": "x" } }),
                "`method.name` has control",
            ),
        ];
        for (change, expected) in in_submission {
            let message = message(read(nothing, |submission| merge(submission, &change)));
            assert!(message.contains(expected), "{message}");
        }
        let found = read(nothing, |s| s["results"][0]["sha256"] = json!("00"));
        assert!(message(found).contains("`results[0].sha256` is 00, but"));
        let found = read(nothing, |s| s["results"][0]["path"] = json!("../else"));
        assert!(message(found).contains("`results[0].path` names `../else`"));
    }

    #[test]
    fn only_https_becomes_a_link_and_an_interval_may_be_missing() {
        let rows = read(
            |result| result["metrics"]["success_rate_ci95_percent"] = Value::Null,
            |submission| submission["method"]["repository"] = json!("javascript:alert(1)"),
        );
        let rows = rows.unwrap();
        assert_eq!((rows[0].url.as_ref(), rows[0].interval), (None, None));
    }

    #[test]
    fn large_files_are_refused_before_they_are_read() {
        let large = vec![b' '; MAX_SUBMISSION + 1];
        let error = read_clear_lewm(&large, &BTreeMap::new()).unwrap_err();
        assert!(
            error.to_string().contains("the limit is 1048576"),
            "{error}"
        );
    }

    fn merge(value: &mut Value, change: &Value) {
        for (key, new) in change.as_object().unwrap() {
            value[key] = new.clone();
        }
    }

    /// Values that a field might hold by mistake or on purpose.
    fn odd() -> impl Strategy<Value = Value> {
        let values = [
            Value::Null,
            json!(-1e308),
            json!(1e308),
            json!(u64::MAX),
            json!(""),
            json!("results/pusht-strict.json"),
            json!([[[]]]),
            json!({ "name": {} }),
            json!([true]),
            json!(false),
        ];
        prop::sample::select(values.to_vec())
    }

    /// Puts `value` in place of the `at`-th value of a document, counted inwards.
    fn replace(document: &mut Value, at: &mut usize, value: &Value) {
        if *at == 0 {
            *document = value.clone();
        }
        *at = at.wrapping_sub(1);
        match document {
            Value::Array(items) => items.iter_mut().for_each(|item| replace(item, at, value)),
            Value::Object(fields) => fields
                .values_mut()
                .for_each(|item| replace(item, at, value)),
            _ => (),
        }
    }

    proptest! {
        #[test]
        fn changed_documents_are_read_or_refused(
            value in odd(), at in 0_usize..24, in_result in any::<bool>(), cut in 0_usize..2_000,
        ) {
            let change = |document: &mut Value, here: bool| {
                let mut left = at;
                if here {
                    replace(document, &mut left, &value);
                }
            };
            let read = read(|result| change(result, in_result), |s| change(s, !in_result));
            if let Ok(rows) = read {
                for row in rows {
                    prop_assert!((0.0..=1.0).contains(&row.value) && row.n > 0);
                }
            }
            let text = submission(b"").to_string();
            let cut = cut.min(text.len());
            prop_assert!(read_clear_lewm(&text.as_bytes()[..cut], &BTreeMap::new()).is_err());
        }
    }
}
