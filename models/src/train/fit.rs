//! The training loop.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use jepa_datasets::Stream;

use super::checkpoint::{self, Progress};
use super::config::TrainingConfig;
use super::files::create_dir;
use super::loader::{Prefetcher, SliceArrays, SliceSource};
use super::metrics::{MetricsFile, MetricsLine};
pub(crate) use super::optimizer::adamw as optimizer_of;
use super::optimizer::{adamw, clip_global_norm};
use super::run::Hooks;
use super::schedule::learning_rate;
use super::validation::{ValidationErrors, batches, validate};
use super::{LossTerm, Moment, Trainable};
use crate::{Error, Result};

/// Metrics of a run, in its folder.
pub(crate) const METRICS: &str = "metrics.jsonl";
/// Checkpoints of a run, in its folder.
pub(crate) const CHECKPOINTS: &str = "checkpoints";

/// Everything a model is trained with.
pub(crate) struct Fit<'a, M: Trainable> {
    /// Run folder.
    pub run: &'a Path,
    pub config: &'a TrainingConfig,
    pub weights: M::Weights,
    pub training: &'a SliceSource,
    pub validation: &'a SliceSource,
    pub proprio_dim: usize,
    pub device: Device,
}

/// Unweighted value of every loss term, and their weighted total.
pub(crate) struct StepLosses {
    total: f64,
    terms: Vec<(&'static str, f64)>,
    grad_norm: f64,
}

impl StepLosses {
    /// The terms as a line of the metrics names them.
    fn named(&self) -> BTreeMap<String, f64> {
        let terms = self.terms.iter();
        terms
            .map(|(name, value)| (format!("loss_{name}"), *value))
            .collect()
    }
}

impl<M: Trainable> Fit<'_, M> {
    /// Trains to the last step, from the newest checkpoint if there is one.
    pub(crate) fn train(&self, untrained: M, hooks: &Hooks<'_>) -> Result<(M, Progress)> {
        let folder = self.run.join(CHECKPOINTS);
        create_dir(&folder)?;
        let optimizer = adamw(&untrained, self.config);
        let fresh = (
            untrained.clone(),
            adamw(&untrained, self.config),
            Progress::default(),
        );
        let (model, optimizer, progress) =
            checkpoint::load_newest(&folder, untrained, optimizer)?.unwrap_or(fresh);
        let (model, progress) = self.steps(model, optimizer, progress, hooks)?;
        Ok((model.valid(), progress))
    }

    fn steps(
        &self,
        mut model: M,
        mut optimizer: ModuleOptimizer,
        from: Progress,
        hooks: &Hooks<'_>,
    ) -> Result<(M, Progress)> {
        let config = self.config;
        let mut metrics = MetricsFile::open(&self.run.join(METRICS), from.step)?;
        let checkpoints = self.run.join(CHECKPOINTS);
        let reference = ValidationSlices::read(self)?;
        let steps = from.step + 1..=config.steps;
        let mut batches = Prefetcher::start(
            self.training.clone(),
            config.seed,
            config.batch,
            steps.clone(),
        );
        let started = Instant::now();
        let mut progress = from;
        for step in steps {
            let batch = batches.next()?;
            let losses;
            (model, losses) = Self::update(
                model,
                &mut optimizer,
                &batch,
                &self.weights,
                config,
                step,
                &self.device,
            )?;
            let session = started.elapsed().as_secs_f64();
            let waited = batches.waited().as_secs_f64();
            progress = Progress {
                step,
                seconds: from.seconds + session,
                waited: from.waited + waited,
            };
            let last = step == config.steps;
            let validation = (last || step.is_multiple_of(config.validate_every))
                .then(|| reference.errors(&model.valid(), self))
                .transpose()?;
            if validation.is_some() || step.is_multiple_of(config.log_every) {
                metrics.append(&self.line(&losses, progress, waited / session, validation))?;
            }
            if last || step.is_multiple_of(config.checkpoint_every) {
                checkpoint::save(&checkpoints, &model, &optimizer, progress)?;
            }
            (hooks.on_step)(step, losses.total);
            if (hooks.interrupted)() && !last {
                checkpoint::save(&checkpoints, &model, &optimizer, progress)?;
                return Err(Error::Interrupted {
                    step,
                    total: config.steps,
                });
            }
        }
        Ok((model, progress))
    }

    /// One optimiser step.
    pub(crate) fn update(
        model: M,
        optimizer: &mut ModuleOptimizer,
        batch: &SliceArrays,
        weights: &M::Weights,
        config: &TrainingConfig,
        step: u64,
        device: &Device,
    ) -> Result<(M, StepLosses)> {
        let moment = Moment {
            seed: config.seed,
            step,
            progress: (step - 1) as f64 / config.steps as f64,
        };
        let terms = model.losses(&batch.to_device(device), weights, &moment)?;
        let values = terms
            .iter()
            .map(|t| (t.name, scalar(t)))
            .collect::<Vec<_>>();
        if let Some((term, value)) = values.iter().find(|(_, v)| !v.is_finite()) {
            return Err(Error::Diverged {
                step,
                term,
                value: *value,
            });
        }
        let total = terms
            .into_iter()
            .map(|t| t.value * t.weight)
            .reduce(|a, b| a + b);
        let Some(total) = total else {
            return Err(Error::Config {
                key: "loss",
                detail: "has no terms".into(),
            });
        };
        let value = f64::from(total.clone().into_scalar::<f32>());
        let grads = GradientsParams::from_grads(total.backward(), &model);
        let (grads, grad_norm) = clip_global_norm(&model, grads, config.clip_norm);
        if !grad_norm.is_finite() {
            return Err(Error::Diverged {
                step,
                term: "gradient norm",
                value: grad_norm,
            });
        }
        let model = optimizer.step(learning_rate(config, step), model, grads);
        Ok((
            model,
            StepLosses {
                total: value,
                terms: values,
                grad_norm,
            },
        ))
    }

    fn line(
        &self,
        losses: &StepLosses,
        progress: Progress,
        wait_share: f64,
        validation: Option<ValidationErrors>,
    ) -> MetricsLine {
        let seen = progress.step as f64 * self.config.batch as f64;
        MetricsLine {
            step: progress.step,
            epoch: seen / self.training.len() as f64,
            loss: losses.total,
            terms: losses.named(),
            lr: learning_rate(self.config, progress.step),
            grad_norm: losses.grad_norm,
            seconds: progress.seconds,
            wait_share,
            validation,
        }
    }
}

fn scalar(term: &LossTerm) -> f64 {
    f64::from(term.value.clone().into_scalar::<f32>())
}

/// The fixed slices of every validation of a run.
struct ValidationSlices {
    probe: Vec<SliceArrays>,
    held_out: Vec<SliceArrays>,
}

impl ValidationSlices {
    fn read<M: Trainable>(fit: &Fit<'_, M>) -> Result<Self> {
        let count = fit.config.validation_slices;
        let read = |source: &SliceSource, name: &str| -> Result<Vec<SliceArrays>> {
            // The same slices for every seed, so that errors can be compared.
            let mut stream = Stream::new(0, &["validation", name]);
            batches(count)
                .map(|n| source.read(&mut stream, n))
                .collect()
        };
        Ok(Self {
            probe: read(fit.training, "train")?,
            held_out: read(fit.validation, "val")?,
        })
    }

    fn errors<M: Trainable>(&self, model: &M, fit: &Fit<'_, M>) -> Result<ValidationErrors> {
        validate(
            model,
            &fit.weights,
            &self.probe,
            &self.held_out,
            fit.config.horizon,
            fit.proprio_dim,
            &fit.device.clone().inner(),
        )
    }
}
