//! Which training run an evaluated model is of, and what that run knows about it.

use std::path::{Path, PathBuf};

use jepa_leaderboard::{ModelRef, Run, TrainingRef};
use jepa_models::train::{holds, run_of};
use jepa_reports::TrainingRun;

use crate::{Error, Result};

/// Training runs that were read, so that each is read once.
#[derive(Debug, Default)]
pub(super) struct TrainingRuns {
    /// Folders where runs may be besides those that records name.
    given: Vec<PathBuf>,
    read: Vec<TrainingRun>,
}

/// An evaluated model in its training run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checkpoint<'a> {
    pub(super) training: &'a TrainingRun,
    /// Optimiser steps.
    pub(super) steps: u64,
    /// Passes over the training slices.
    pub(super) epoch: f64,
}

impl TrainingRuns {
    /// Looks in the folders that records name, then in `given`.
    pub(super) fn new(given: &[PathBuf]) -> Self {
        Self {
            given: given.to_vec(),
            read: Vec::new(),
        }
    }

    /// The model that a run evaluated.
    ///
    /// # Errors
    /// When it was not trained, or its training run is nowhere to be found or has no metrics.
    pub(super) fn checkpoint(&mut self, run: &Run) -> Result<Checkpoint<'_>> {
        let (training, weights_hash) = trained(run)?;
        let folder = self.folder(training, weights_hash, run)?;
        let known = self.read.iter().position(|read| read.dir == folder);
        let at = if let Some(at) = known {
            at
        } else {
            let training = TrainingRun::load(&folder).map_err(|error| unread(&folder, &error))?;
            self.read.push(training);
            self.read.len() - 1
        };
        let (found, steps) = (&self.read[at], training.steps);
        Ok(Checkpoint {
            training: found,
            steps,
            epoch: epoch_of(found, steps)?,
        })
    }

    /// The folder of the training run that has these weights.
    fn folder(&self, training: &TrainingRef, weights_hash: &str, run: &Run) -> Result<PathBuf> {
        let holds = |folder: &Path| holds(folder, training.steps, weights_hash);
        let recorded = run_of(Path::new(&training.run));
        // A model that was not kept for good cannot be checked; a model with other weights is another run's.
        if recorded.join(METRICS).is_file() && holds(recorded) != Some(false) {
            return Ok(recorded.to_path_buf());
        }
        let moved = self.given.iter().map(|folder| run_of(folder));
        match moved.into_iter().find(|folder| holds(folder) == Some(true)) {
            Some(folder) => Ok(folder.to_path_buf()),
            None => Err(Error::Config {
                what: format!("run `{}`", run.dir.display()),
                detail: format!(
                    "its model was trained in `{}`, where that training run is not",
                    recorded.display()
                ),
                hint: Some("pass the folder of the training run with `--training`".into()),
            }),
        }
    }
}

/// Name of the metrics in a training run.
const METRICS: &str = "metrics.jsonl";

/// How the weights of a run were trained, and their hash.
fn trained(run: &Run) -> Result<(&TrainingRef, &str)> {
    let ModelRef {
        training,
        weights_hash,
        ..
    } = &run.record.model;
    match (training, weights_hash) {
        (Some(training), Some(hash)) => Ok((training, hash)),
        _ => Err(Error::Config {
            what: format!("run `{}`", run.dir.display()),
            detail: format!(
                "`{}` was not trained here, so it has no epochs",
                run.record.model.name
            ),
            hint: Some("leave it out".into()),
        }),
    }
}

/// Passes over the data after some steps; they grow evenly.
fn epoch_of(training: &TrainingRun, steps: u64) -> Result<f64> {
    let last = training
        .series("epoch")
        .and_then(|series| series.points.last());
    match last {
        Some((step, epoch)) if *step > 0.0 => Ok(epoch * (steps as f64 / step)),
        _ => Err(unread(&training.dir, &"no line says which epoch it is of")),
    }
}

fn unread(folder: &Path, detail: &dyn std::fmt::Display) -> Error {
    Error::Invalid {
        what: format!("metrics of training run `{}`", folder.display()),
        detail: detail.to_string(),
    }
}
