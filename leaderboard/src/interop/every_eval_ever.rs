//! One run as a document of Every Eval Ever, a collection of evaluation results in one JSON layout.
//!
//! The layout is schema version 0.3.0 of the project `evaleval/every_eval_ever`
//! (`every_eval_ever/schemas/eval.schema.json`; arXiv 2606.14516). Details that it has no field for go to
//! `additional_details`, whose values have to be text. Rows per sample are not written: its layout for them is about
//! prompts and answers. The episodes themselves are in the Parquet export.

use serde_json::{Map, Value, json};

use super::{ExportOptions, ExportRun};
use crate::error::{Error, Result};
use crate::record::{CONFIDENCE, ModelKind};

/// Version of the schema that is followed.
const SCHEMA_VERSION: &str = "0.3.0";
/// What is written where the options do not say who.
const UNKNOWN: &str = "unknown";

/// The document of one run: indented JSON with a final newline.
///
/// Its time of retrieval is the start of the run, since nothing was retrieved and the same run has to give the same bytes.
///
/// # Errors
/// When the record's start is not a time.
pub fn export_every_eval_ever(run: &ExportRun, options: &ExportOptions) -> Result<String> {
    let record = run.record;
    let started = &record.provenance.started_utc;
    let seconds = unix_seconds(started).ok_or_else(|| Error::NotATime {
        run: run.id.clone(),
        text: started.clone(),
    })?;
    let model = model_id(run, options);
    let mut document = json!({
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": format!("jepa-bench.{}/{model}/{seconds}", record.task.id()),
        "evaluation_timestamp": started,
        "retrieved_timestamp": seconds.to_string(),
        "source_metadata": {
            "source_name": "jepa-bench",
            "source_type": "evaluation_run",
            "source_organization_name": options.organization.as_deref().unwrap_or(UNKNOWN),
            "evaluator_relationship": relationship(options),
            "additional_details": { "run": run.id },
        },
        "eval_library": {
            "name": "jepa-bench",
            "version": record.provenance.version,
            "additional_details": { "commit": record.provenance.commit },
        },
        "model_info": {
            "name": record.model.label,
            "id": model,
            "developer": options.developer.as_deref().unwrap_or(UNKNOWN),
            "additional_details": model_details(run),
        },
        "evaluation_results": [success_rate(run), final_distance(run)],
    });
    if let Some(url) = &options.source_url {
        document["source_metadata"]["additional_details"]["url"] = url.clone().into();
    }
    let text = serde_json::to_string_pretty(&document);
    let text = text.map_err(|source| Error::Json {
        path: file_name(run).into(),
        source,
    })?;
    Ok(text + "\n")
}

/// A name that no other run has. Where the collection asks for a random UUID, whoever submits chooses it.
pub(super) fn file_name(run: &ExportRun) -> String {
    format!("{}.json", run.id)
}

/// The model in the collection's form, `developer/model`.
fn model_id(run: &ExportRun, options: &ExportOptions) -> String {
    let developer = options.developer.as_deref().unwrap_or(UNKNOWN);
    let name = run.record.model.name.replace(['/', ':', ' '], "-");
    format!("{developer}/{name}")
}

/// Whether those who evaluated made the model, as far as the options say.
fn relationship(options: &ExportOptions) -> &'static str {
    match (&options.organization, &options.developer) {
        (Some(organization), Some(developer)) if organization == developer => "first_party",
        (Some(_), Some(_)) => "third_party",
        _ => "other",
    }
}

fn model_details(run: &ExportRun) -> Value {
    let model = &run.record.model;
    let mut details = Map::new();
    let mut put = |key: &str, value: String| {
        details.insert(key.into(), value.into());
    };
    put("deployment_type", "self_deployed".into());
    put("model_availability", UNKNOWN.into());
    put("kind", model.kind.as_str().into());
    if let Some(hash) = &model.weights_hash {
        put("weights_blake3", hash.clone());
    }
    if let Some(parameters) = model.parameters {
        put("parameters", parameters.to_string());
    }
    if let Some(training) = &model.training {
        put("training_seed", training.seed.to_string());
        put("training_steps", training.steps.to_string());
        put("training_dataset", training.dataset_hash.clone());
        put("training_track", training.track.clone());
    }
    details.into()
}

fn success_rate(run: &ExportRun) -> Value {
    let summary = &run.record.summary;
    let metric = json!({
        "evaluation_description": "Share of the episodes that are at the goal after the last step.",
        "metric_id": "jepa-bench.success_rate",
        "metric_name": "Success rate",
        "metric_kind": "success_rate",
        "metric_unit": "proportion",
        "lower_is_better": false,
        "score_type": "continuous",
        "min_score": 0.0,
        "max_score": 1.0,
    });
    let score = json!({
        "score": summary.success_rate,
        "details": { "successes": summary.successes.to_string() },
        "uncertainty": {
            "confidence_interval": {
                "lower": summary.wilson_low,
                "upper": summary.wilson_high,
                "confidence_level": CONFIDENCE,
                "method": "wilson",
            },
            "num_samples": summary.episodes,
        },
    });
    result(run, "success_rate", &metric, &score)
}

fn final_distance(run: &ExportRun) -> Value {
    let summary = &run.record.summary;
    let metric = json!({
        "evaluation_description": "Mean distance to the goal after the last step, in the units of the task.",
        "metric_id": "jepa-bench.final_distance",
        "metric_name": "Final distance",
        "metric_kind": "distance",
        "lower_is_better": true,
        "score_type": "continuous",
        "min_score": 0.0,
        "max_score": "Infinity",
    });
    let score = json!({
        "score": summary.final_distance_mean,
        "details": { "median": summary.final_distance_median.to_string() },
        "uncertainty": { "num_samples": summary.episodes },
    });
    result(run, "final_distance", &metric, &score)
}

fn result(run: &ExportRun, metric_name: &str, metric: &Value, score: &Value) -> Value {
    let record = run.record;
    let task = record.task.id();
    let role = match record.model.kind {
        ModelKind::Trained => "model",
        ModelKind::Floor => "floor",
        ModelKind::Oracle => "ceiling",
    };
    json!({
        "evaluation_result_id": format!("{}.{metric_name}", run.id),
        "evaluation_name": format!("jepa-bench.{task}"),
        "source_data": {
            "dataset_name": task,
            "source_type": "other",
            "additional_details": {
                "task_file_blake3": record.task.hash,
                "first_seed": record.first_seed.to_string(),
                "episodes": record.summary.episodes.to_string(),
                "planner": format!("{} {}", record.planner.name, record.planner.preset),
                "role": role,
            },
        },
        "evaluation_timestamp": record.provenance.started_utc,
        "metric_config": metric,
        "score_details": score,
    })
}

/// Seconds since 1970 of `YYYY-MM-DDThh:mm:ssZ`; `None` for anything else and for years before 1970.
fn unix_seconds(text: &str) -> Option<u64> {
    let pattern = b"dddd-dd-ddTdd:dd:ddZ";
    let fits = |(&c, &p): (&u8, &u8)| {
        if p == b'd' {
            c.is_ascii_digit()
        } else {
            c == p
        }
    };
    if text.len() != pattern.len() || !text.as_bytes().iter().zip(pattern).all(fits) {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let possible = year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !possible || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Years that begin in March end with the leap day; months from March alternate by (153 m + 2) / 5 days.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = 365 * year + leap_days + (153 * month + 2) / 5 + day;
    // 1970-01-01 by the same count.
    let days = days.checked_sub(719_469)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interop::tests::{options, runs};

    fn document(run: &crate::Run, options: &ExportOptions) -> Value {
        let run = ExportRun::of_run(run).unwrap();
        serde_json::from_str(&export_every_eval_ever(&run, options).unwrap()).unwrap()
    }

    /// The fields that the schema calls required, level by level.
    #[test]
    fn a_document_has_what_the_schema_requires() {
        let runs = runs(&["pldm"]);
        let document = document(&runs[0], &options());
        let has = |value: &Value, fields: &[&str]| {
            for field in fields {
                assert!(value.get(field).is_some(), "{field} in {value}");
            }
        };
        has(
            &document,
            &[
                "schema_version",
                "evaluation_id",
                "retrieved_timestamp",
                "source_metadata",
                "model_info",
            ],
        );
        has(&document, &["eval_library", "evaluation_results"]);
        has(
            &document["source_metadata"],
            &[
                "source_type",
                "source_organization_name",
                "evaluator_relationship",
            ],
        );
        has(&document["eval_library"], &["name", "version"]);
        has(
            &document["model_info"],
            &["name", "id", "additional_details"],
        );
        has(
            &document["model_info"]["additional_details"],
            &["deployment_type", "model_availability"],
        );
        let results = document["evaluation_results"].as_array().unwrap();
        assert_eq!(results.len(), 2);
        for result in results {
            has(
                result,
                &[
                    "evaluation_name",
                    "source_data",
                    "metric_config",
                    "score_details",
                ],
            );
            has(&result["source_data"], &["dataset_name", "source_type"]);
            has(
                &result["metric_config"],
                &["lower_is_better", "min_score", "max_score"],
            );
            has(&result["score_details"], &["score"]);
        }
    }

    #[test]
    fn the_numbers_are_those_of_the_record() {
        let runs = runs(&["pldm"]);
        let summary = &runs[0].record.summary;
        let document = document(&runs[0], &options());
        let score = &document["evaluation_results"][0]["score_details"];
        assert_eq!(score["score"], summary.success_rate);
        let uncertainty = &score["uncertainty"];
        assert_eq!(
            uncertainty["confidence_interval"]["lower"],
            summary.wilson_low
        );
        assert_eq!(uncertainty["num_samples"], summary.episodes);
        let distance = &document["evaluation_results"][1];
        assert_eq!(
            distance["score_details"]["score"],
            summary.final_distance_mean
        );
        assert_eq!(distance["metric_config"]["lower_is_better"], true);
        assert_eq!(document["retrieved_timestamp"], "1767225600");
        assert_eq!(
            document["evaluation_id"],
            "jepa-bench.wall@1/some-lab/pldm/1767225600"
        );
        assert_eq!(document["model_info"]["id"], "some-lab/pldm");
    }

    #[test]
    fn what_is_not_known_is_not_claimed() {
        let mut runs = runs(&["floor:random"]);
        runs[0].record.model.label = "\u{0}\"\\\n🙂".into();
        let document = document(&runs[0], &ExportOptions::default());
        assert_eq!(
            document["source_metadata"]["evaluator_relationship"],
            "other"
        );
        assert_eq!(
            document["source_metadata"]["source_organization_name"],
            "unknown"
        );
        let details = &document["source_metadata"]["additional_details"];
        assert!(details.get("url").is_none());
        assert_eq!(document["model_info"]["id"], "unknown/floor-random");
        assert_eq!(document["model_info"]["name"], "\u{0}\"\\\n🙂");
        assert!(
            document["model_info"]["additional_details"]
                .get("parameters")
                .is_none()
        );
        let same = ExportOptions {
            organization: Some("some-lab".into()),
            ..options()
        };
        assert_eq!(relationship(&same), "first_party");
        assert_eq!(relationship(&options()), "third_party");
    }

    #[test]
    fn times_are_read_to_the_second_or_not_at_all() {
        assert_eq!(unix_seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(unix_seconds("2000-02-29T12:00:00Z"), Some(951_825_600));
        assert_eq!(unix_seconds("2026-03-01T00:00:01Z"), Some(1_772_323_201));
        let wrong = [
            "",
            "2026-13-01T00:00:00Z",
            "2026-01-01 00:00:00Z",
            "1969-12-31T23:59:59Z",
        ];
        assert_eq!(wrong.map(unix_seconds), [None; 4]);
        let mut runs = runs(&["pldm"]);
        runs[0].record.provenance.started_utc = "yesterday".into();
        let run = ExportRun::of_run(&runs[0]).unwrap();
        let error = export_every_eval_ever(&run, &options()).unwrap_err();
        assert!(error.to_string().contains("`yesterday`"), "{error}");
    }
}
