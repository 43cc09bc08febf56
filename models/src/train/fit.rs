//! The training loop.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};

use super::checkpoint::{self, Progress};
use super::config::TrainingConfig;
use super::files::create_dir;
use super::loader::{Prefetcher, SliceArrays, SliceSource};
use super::metrics::{MetricsFile, MetricsLine};
use super::optimizer::{AdamW, clip_global_norm};
use super::run::Hooks;
use super::schedule::{learning_rate, weight_decay};
use super::validation::{ValidationErrors, batches, validate};
use super::views::Draws;
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
    /// Called with a model that is to be kept, without gradients.
    pub keep: &'a dyn Fn(&M, Progress) -> Result<()>,
}

/// Unweighted value of every loss term, and their weighted total.
pub(crate) struct StepLosses {
    total: f64,
    terms: Vec<(&'static str, f64)>,
    grad_norm: f64,
}

impl StepLosses {
    /// The weighted sum of the terms.
    pub(crate) fn total(&self) -> f64 {
        self.total
    }

    /// `share` of the losses of a part of a batch.
    fn first(total: f64, terms: &[(&'static str, f64)], share: f64) -> Self {
        Self {
            total: total * share,
            terms: terms
                .iter()
                .map(|(name, value)| (*name, value * share))
                .collect(),
            grad_norm: 0.0,
        }
    }

    /// Adds `share` of those of another part.
    fn add(&mut self, total: f64, terms: &[(&'static str, f64)], share: f64) {
        self.total += total * share;
        for ((_, sum), (_, value)) in self.terms.iter_mut().zip(terms) {
            *sum += value * share;
        }
    }

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
        let optimizer = AdamW::of(&untrained, self.config);
        let fresh = (
            untrained.clone(),
            AdamW::of(&untrained, self.config),
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
        mut optimizer: AdamW,
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
            let keeps = config.keep_every > 0 && step.is_multiple_of(config.keep_every);
            // Errors of every kept model: what its success is compared with (evaluation.md section 4.4).
            let validation = (last || keeps || step.is_multiple_of(config.validate_every))
                .then(|| reference.errors(&model.valid(), self))
                .transpose()?;
            if validation.is_some() || step.is_multiple_of(config.log_every) {
                metrics.append(&self.line(&losses, progress, waited / session, validation))?;
            }
            if keeps {
                (self.keep)(&model.valid(), progress)?;
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
        optimizer: &mut AdamW,
        batch: &SliceArrays,
        weights: &M::Weights,
        config: &TrainingConfig,
        step: u64,
        device: &Device,
    ) -> Result<(M, StepLosses)> {
        let mut moment = Moment {
            seed: config.seed,
            step,
            progress: (step - 1) as f64 / config.steps as f64,
            first_slice: 0,
        };
        let mut gradients = GradientsAccumulator::new();
        let mut losses: Option<StepLosses> = None;
        let parts = batch.parts(config.accumulate);
        let share = 1.0 / parts.len() as f64;
        for part in &parts {
            let (total, terms) = weighed(
                model.losses(&part.to_device(device), weights, &moment)?,
                step,
            )?;
            let value = f64::from(total.clone().into_scalar::<f32>());
            // Gradients of the mean over the parts; of one part they are its own, to the last bit.
            let total = if parts.len() == 1 {
                total
            } else {
                total * share
            };
            gradients.accumulate(
                &model,
                GradientsParams::from_grads(total.backward(), &model),
            );
            match &mut losses {
                Some(losses) => losses.add(value, &terms, share),
                None => losses = Some(StepLosses::first(value, &terms, share)),
            }
            moment.first_slice += part.slices();
        }
        let Some(losses) = losses else {
            return Err(Error::Config {
                key: "training.accumulate",
                detail: "must be at least 1".into(),
            });
        };
        let grads = gradients.grads();
        let (grads, grad_norm) = clip_global_norm(&model, grads, config.clip_norm);
        if !grad_norm.is_finite() {
            return Err(Error::Diverged {
                step,
                term: "gradient norm",
                value: grad_norm,
            });
        }
        let rate = learning_rate(config, step);
        let model = optimizer.step(rate, weight_decay(config, step), model, grads);
        let model = model.after_step(weights, &moment);
        Ok((
            model,
            StepLosses {
                grad_norm,
                ..losses
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

/// The weighted sum of the terms of a loss, and the value of each.
fn weighed(terms: Vec<LossTerm>, step: u64) -> Result<(Tensor<1>, Vec<(&'static str, f64)>)> {
    let values: Vec<_> = terms.iter().map(|t| (t.name, scalar(t))).collect();
    if let Some((term, value)) = values.iter().find(|(_, v)| !v.is_finite()) {
        return Err(Error::Diverged {
            step,
            term,
            value: *value,
        });
    }
    let weighted = terms.into_iter().map(|t| t.value * t.weight);
    match weighted.reduce(|a, b| a + b) {
        Some(total) => Ok((total, values)),
        None => Err(Error::Config {
            key: "loss",
            detail: "has no terms".into(),
        }),
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
            let mut draws = Draws::of_validation(name);
            batches(count).map(|n| source.read(&mut draws, n)).collect()
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
