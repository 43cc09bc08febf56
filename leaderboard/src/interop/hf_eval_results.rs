//! Results for a model repository on the Hugging Face Hub: `.eval_results/*.yaml`.
//!
//! The layout is that of the Hub's documentation, page "Evaluation Results" (<https://huggingface.co/docs/hub/eval-results>,
//! `docs/hub/eval-results.md` of huggingface/hub-docs): a list of entries with `dataset.id`, `dataset.task_id` and `value`, and
//! optionally `date`, `source.{url,name,user}` and `notes`. The Hub shows them as given by the community. A `verifyToken` is
//! a signature of the Hub's own jobs, which this program cannot make.

use std::fmt::Write as _;

use super::{ExportOptions, ExportRun};
use crate::error::{Error, Result};

/// One entry per run: the success rate, a share in `[0, 1]`.
///
/// # Errors
/// When the options do not name the Hub dataset of the benchmark.
pub fn export_hf_eval_results(runs: &[ExportRun], options: &ExportOptions) -> Result<String> {
    let dataset = options.hub_dataset.as_deref();
    let dataset = dataset.ok_or(Error::MissingOption {
        format: "hf-eval-results",
        option: "hub_dataset",
        what: "the dataset on the Hub that is registered as the benchmark, `owner/name`",
    })?;
    let mut text = String::new();
    for run in runs {
        push_entry(&mut text, run, dataset, options);
    }
    if runs.is_empty() {
        text.push_str("[]\n");
    }
    Ok(text)
}

fn push_entry(text: &mut String, run: &ExportRun, dataset: &str, options: &ExportOptions) {
    let record = run.record;
    text.push_str("- dataset:\n");
    push(text, "    id", &quoted(dataset));
    push(text, "    task_id", &quoted(&record.task.id()));
    push(text, "  value", &record.summary.success_rate.to_string());
    push(text, "  date", &quoted(&record.provenance.started_utc));
    if let Some(url) = &options.source_url {
        text.push_str("  source:\n");
        push(text, "    url", &quoted(url));
        push(text, "    name", &quoted("jepa-bench, episode by episode"));
        if let Some(user) = &options.hub_user {
            push(text, "    user", &quoted(user));
        }
    }
    push(text, "  notes", &quoted(&notes(run)));
}

fn push(text: &mut String, key: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{key}: {value}");
}

/// How the number came about, in one line.
fn notes(run: &ExportRun) -> String {
    let (record, summary) = (run.record, &run.record.summary);
    let seed = record.model.training.as_ref();
    let seed = seed.map_or_else(String::new, |t| format!(", training seed {}", t.seed));
    format!(
        "{}{seed}: success rate over {} episodes, Wilson 95% [{:.4}, {:.4}]; planner {} {}; task file {}; run {}",
        record.model.label,
        summary.episodes,
        summary.wilson_low,
        summary.wilson_high,
        record.planner.name,
        record.planner.preset,
        record.task.hash,
        run.id
    )
}

/// A double-quoted YAML scalar: letters and digits as they are, everything that a YAML reader might take for more than
/// text escaped (YAML 1.2, section 5.7).
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        let code = u32::from(c);
        let _ = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            ' '..='~' => write!(quoted, "{c}"),
            _ if c.is_alphanumeric() => write!(quoted, "{c}"),
            _ if code <= 0xff => write!(quoted, "\\x{code:02x}"),
            _ if code <= 0xffff => write!(quoted, "\\u{code:04x}"),
            _ => write!(quoted, "\\U{code:08x}"),
        };
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interop::tests::{options, runs};

    #[test]
    fn an_entry_has_the_fields_of_the_documentation() {
        let runs = runs(&["pldm"]);
        let run = ExportRun::of_run(&runs[0]).unwrap();
        let summary = &run.record.summary;
        let expected = format!(
            "- dataset:\n    id: \"someone/jepa-bench\"\n    task_id: \"wall@1\"\n  value: {}\n  date: \
             \"2026-01-01T00:00:00Z\"\n  source:\n    url: \"https://board.example/wall\"\n    name: \"jepa-bench, \
             episode by episode\"\n    user: \"someone\"\n  notes: \"PLDM, training seed 1: success rate over 8 \
             episodes, Wilson 95% [{:.4}, {:.4}]; planner cem paper; task file {}; run {}\"\n",
            summary.success_rate,
            summary.wilson_low,
            summary.wilson_high,
            run.record.task.hash,
            run.id
        );
        assert_eq!(
            export_hf_eval_results(&[run], &options()).unwrap(),
            expected
        );
    }

    #[test]
    fn a_source_needs_an_address_and_the_benchmark_a_dataset() {
        let runs = runs(&["pldm"]);
        let run = [ExportRun::of_run(&runs[0]).unwrap()];
        let mut options = ExportOptions {
            hub_user: Some("someone".into()),
            ..ExportOptions::default()
        };
        let error = export_hf_eval_results(&run, &options).unwrap_err();
        assert!(error.to_string().contains("hub_dataset"), "{error}");
        options.hub_dataset = Some("a/b".into());
        let text = export_hf_eval_results(&run, &options).unwrap();
        assert!(!text.contains("source") && !text.contains("someone"));
        assert_eq!(export_hf_eval_results(&[], &options).unwrap(), "[]\n");
    }

    #[test]
    fn text_cannot_leave_its_quotes() {
        assert_eq!(quoted("a\"b\\c: #d"), r#""a\"b\\c: #d""#);
        assert_eq!(quoted("x\n- y\t\u{7f}"), r#""x\x0a- y\x09\x7f""#);
        assert_eq!(quoted("µ é \u{2028} 🙂"), r#""µ é \u2028 \U0001f642""#);
    }

    /// What a YAML reader makes of a double-quoted scalar with these escapes.
    fn unquoted(text: &str) -> String {
        let mut inner = text[1..text.len() - 1].chars();
        let mut found = String::new();
        while let Some(c) = inner.next() {
            if c != '\\' {
                assert!(c != '"' && !c.is_control());
                found.push(c);
                continue;
            }
            let escape = inner.next().unwrap();
            let digits = match escape {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                other => {
                    found.push(other);
                    continue;
                }
            };
            let code: String = inner.by_ref().take(digits).collect();
            found.push(char::from_u32(u32::from_str_radix(&code, 16).unwrap()).unwrap());
        }
        found
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(text in prop::collection::vec(any::<char>(), 0..20)) {
            let text: String = text.into_iter().collect();
            prop_assert_eq!(unquoted(&quoted(&text)), text);
        }
    }
}
