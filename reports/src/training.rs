//! Training runs: what `metrics.jsonl` and `training.json` hold.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// Values of one quantity over the optimizer steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// Name in the metrics file, e.g. `loss_prediction`.
    pub name: String,
    /// Pairs of step and value, in the order of the file.
    pub points: Vec<(f64, f64)>,
}

/// Validation errors after unrolling the model for 1, 2, .. steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Validation {
    /// Optimizer step.
    pub step: f64,
    /// Mean absolute error of the predicted visual latents, by horizon.
    pub visual_l1: Vec<f64>,
    /// Mean squared error of the predicted visual latents, by horizon.
    pub visual_l2: Vec<f64>,
    /// Error of the decoded proprio, by horizon; may be empty.
    pub proprio: Vec<f64>,
}

/// What is known of a training run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainingRun {
    /// Folder of the run.
    #[serde(skip)]
    pub dir: PathBuf,
    /// Name of the model.
    pub model: String,
    /// The summary of `training.json`, as written.
    pub summary: Value,
    /// Training quantities over steps.
    pub series: Vec<Series>,
    /// Validation errors over steps.
    pub validation: Vec<Validation>,
}

/// The part of a validation line that is drawn.
#[derive(Debug, Deserialize)]
struct ValidationLine {
    #[serde(default)]
    visual_l1: Vec<f64>,
    #[serde(default)]
    visual_l2: Vec<f64>,
    #[serde(default)]
    proprio: Vec<f64>,
}

impl TrainingRun {
    /// Reads a training run folder.
    ///
    /// A last line that was cut off by an interruption is left out; any other bad line is an error.
    ///
    /// # Errors
    /// When `metrics.jsonl` or `training.json` cannot be read or parsed.
    pub fn load(dir: &Path) -> Result<Self> {
        let summary_path = dir.join("training.json");
        let summary = match std::fs::read(&summary_path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| json(&summary_path, source.line(), "training summary", source))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Value::Null,
            Err(source) => return Err(Error::io("read", &summary_path, source)),
        };
        let metrics_path = dir.join("metrics.jsonl");
        let metrics = std::fs::read_to_string(&metrics_path)
            .map_err(|source| Error::io("read", &metrics_path, source))?;
        let mut run = Self {
            dir: dir.to_path_buf(),
            model: model_name(&summary, dir),
            summary,
            series: Vec::new(),
            validation: Vec::new(),
        };
        run.read_metrics(&metrics, &metrics_path)?;
        Ok(run)
    }

    /// The series called `name`, if there is one.
    pub fn series(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.name == name)
    }

    fn read_metrics(&mut self, metrics: &str, path: &Path) -> Result<()> {
        let lines: Vec<&str> = metrics.lines().collect();
        for (k, line) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let value: Value = match serde_json::from_str(line) {
                Ok(value) => value,
                Err(error) if k + 1 == lines.len() && error.is_eof() => break,
                Err(source) => return Err(json(path, k + 1, "metrics file", source)),
            };
            self.read_line(&value)
                .map_err(|source| json(path, k + 1, "metrics file", source))?;
        }
        Ok(())
    }

    fn read_line(&mut self, line: &Value) -> serde_json::Result<()> {
        let Some(step) = line.get("step").and_then(Value::as_f64) else {
            return Ok(());
        };
        if let Some(validation) = line.get("validation") {
            let ValidationLine {
                visual_l1,
                visual_l2,
                proprio,
            } = Deserialize::deserialize(validation)?;
            self.validation.push(Validation {
                step,
                visual_l1,
                visual_l2,
                proprio,
            });
        }
        let fields = line.as_object().into_iter().flatten();
        for (name, value) in fields.filter(|(name, _)| name.as_str() != "step") {
            if let Some(value) = value.as_f64() {
                self.push(name, step, value);
            }
        }
        Ok(())
    }

    fn push(&mut self, name: &str, step: f64, value: f64) {
        match self.series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push((step, value)),
            None => self.series.push(Series {
                name: name.into(),
                points: vec![(step, value)],
            }),
        }
    }
}

fn model_name(summary: &Value, dir: &Path) -> String {
    let named = summary
        .get("model")
        .and_then(Value::as_str)
        .map(String::from);
    named
        .or_else(|| Some(dir.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_default()
}

fn json(path: &Path, line: usize, what: &'static str, source: serde_json::Error) -> Error {
    Error::Json {
        path: path.to_path_buf(),
        line,
        what,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(metrics: &str) -> Result<TrainingRun> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("metrics.jsonl"), metrics).unwrap();
        std::fs::write(
            folder.path().join("training.json"),
            r#"{"model":"pldm","steps":20}"#,
        )
        .unwrap();
        TrainingRun::load(folder.path())
    }

    #[test]
    fn lines_become_series_and_validation() {
        let run = load(
            "{\"step\":10,\"loss\":2.5,\"lr\":0.001}\n\
             {\"step\":10,\"validation\":{\"visual_l1\":[0.1,0.2,0.3],\"variance\":1.0}}\n\
             {\"step\":20,\"loss\":1.5,\"lr\":0.002}\n",
        )
        .unwrap();
        assert_eq!(run.model, "pldm");
        assert_eq!(
            run.series("loss").unwrap().points,
            [(10.0, 2.5), (20.0, 1.5)]
        );
        assert_eq!(run.validation[0].visual_l1, [0.1, 0.2, 0.3]);
        assert!(run.validation[0].proprio.is_empty() && run.series("step").is_none());
    }

    #[test]
    fn a_line_cut_off_at_the_end_is_left_out_and_no_other() {
        assert_eq!(
            load("{\"step\":1,\"loss\":2}\n{\"step\":2,\"lo")
                .unwrap()
                .series("loss")
                .unwrap()
                .points
                .len(),
            1
        );
        let error = load("{\"step\":1,\"lo\n{\"step\":2,\"loss\":2}\n").unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
