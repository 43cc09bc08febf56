//! `metrics.jsonl`: one JSON object per line, written as training goes.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files::write_atomic;
use super::validation::ValidationErrors;
use crate::{Error, Result};

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsLine {
    /// Optimiser steps done.
    pub step: u64,
    /// Slices seen per slice of the training split.
    pub epoch: f64,
    /// Weighted total loss.
    pub loss: f64,
    /// Unweighted value of every loss term, called `loss_` and its name.
    #[serde(flatten)]
    pub terms: BTreeMap<String, f64>,
    /// Learning rate of the step.
    pub lr: f64,
    /// Norm of the whole gradient before clipping.
    pub grad_norm: f64,
    /// Training seconds so far, over all sessions of the run.
    pub seconds: f64,
    /// Share of this session's time that the loop waited for data.
    pub wait_share: f64,
    /// Validation rollouts, on some lines.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub validation: Option<ValidationErrors>,
}

/// Appends lines to a metrics file.
pub(crate) struct MetricsFile {
    file: fs::File,
    path: std::path::PathBuf,
}

impl MetricsFile {
    /// Opens the file, dropping lines after `step` and a last line that was cut off: a resumed run
    /// writes them again.
    pub(crate) fn open(path: &Path, step: u64) -> Result<Self> {
        let kept = match fs::read_to_string(path) {
            Ok(text) => keep_until(&text, step),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        write_atomic(path, kept.as_bytes())?;
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(Error::io("open", path))?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
        })
    }

    pub(crate) fn append(&mut self, line: &MetricsLine) -> Result<()> {
        let mut text = serde_json::to_string(line)
            .map_err(|e| super::files::damaged(&self.path, &e.to_string()))?;
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .map_err(Error::io("write", &self.path))
    }
}

/// Whole lines up to and including `step`.
fn keep_until(text: &str, step: u64) -> String {
    let whole = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    whole
        .filter(|line| serde_json::from_str::<MetricsLine>(line).is_ok_and(|l| l.step <= step))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64) -> MetricsLine {
        MetricsLine {
            step,
            epoch: 0.5,
            loss: 1.0,
            terms: BTreeMap::from([("loss_prediction".to_string(), 0.1)]),
            lr: 1e-3,
            grad_norm: 2.0,
            seconds: 3.0,
            wait_share: 0.0,
            validation: None,
        }
    }

    #[test]
    fn a_resumed_run_keeps_the_lines_before_its_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut file = MetricsFile::open(&path, 0).unwrap();
        for step in [10, 20, 30] {
            file.append(&line(step)).unwrap();
        }
        drop(file);
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"step\":20");
        fs::write(&path, text).unwrap();

        let mut file = MetricsFile::open(&path, 20).unwrap();
        file.append(&line(30)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let steps: Vec<u64> = text
            .lines()
            .map(|l| serde_json::from_str::<MetricsLine>(l).unwrap().step)
            .collect();
        assert_eq!(steps, [10, 20, 30]);
        assert!(text.contains("\"loss_prediction\":0.1"), "{text}");
    }
}
