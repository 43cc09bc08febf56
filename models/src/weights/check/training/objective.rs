//! Objectives of token-grid models: losses and gradients at the first weights, then steps of the optimiser.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use serde::Deserialize;

use super::expected::{Gradient, compare_gradients, compare_loss, stated, steps, visual};
use crate::Result;
use crate::loss::elementwise::{ElementLoss, StateLossConfig};
use crate::loss::objective::{
    Draws, LossWeighting, ObjectiveConfig, ObjectiveLosses, ProprioRollout, TokenBatch,
};
use crate::predictor::token_world_model::{TokenWorldModel, key};
use crate::train::optimizer::{
    AdamW, AdamWSettings, clip_factor, clip_global_norm, decayed, global_norm,
};
use crate::train::schedule::{DecaySchedule, RateSchedule};
use crate::weights::Checkpoint;
use crate::weights::check::predictor;
use crate::weights::check::{Case, Comparison, compare_number};
use crate::weights::read_out::{gradients_by, weights_by};

/// What the manifest says about training.
#[derive(Deserialize)]
struct Config {
    ctxt_window_train_rollout: usize,
    /// Such as `L2 visual + 1.0 * L2 proprio, means`.
    loss: String,
    /// `use_ground_truth`: the proprio of predicted frames is that of the data.
    proprio_rollout_mode: Option<String>,
    /// `None`: not clipped.
    clip_grad: Option<f64>,
    optimizer: OptimizerConfig,
}

#[derive(Deserialize)]
struct OptimizerConfig {
    eps: f64,
    betas: [f64; 2],
    start_lr: f64,
    ref_lr: f64,
    final_lr: f64,
    /// Epochs.
    warmup: f64,
    /// Epochs of the last line of a rate with a plateau.
    #[serde(default)]
    anneal: f64,
    weight_decay: f64,
    final_weight_decay: f64,
    iterations_per_epoch: f64,
    lr_schedule: String,
    #[serde(rename = "T_max")]
    steps: u64,
}

#[derive(Deserialize)]
struct Expected {
    loss_and_grad_at_step0_weights: Vec<ExpectedLosses>,
    #[serde(default)]
    optimizer_steps: Vec<ExpectedStep>,
    #[serde(default)]
    param_groups: Vec<ParameterGroup>,
}

/// One objective and its numbers.
#[derive(Deserialize)]
struct ExpectedLosses {
    /// Orders.
    k: usize,
    /// Last frame of the prefix.
    t: Option<usize>,
    loss_weighting: Option<LossWeighting>,
    rollout_stop_gradient: Option<bool>,
    /// What is different, in words.
    #[serde(default)]
    variant: String,
    teacher_forcing_loss: Option<f64>,
    visual_l2: Option<f64>,
    proprio_l2: Option<f64>,
    #[serde(default)]
    rollout_terms: Vec<f64>,
    total: f64,
    grad_global_norm: Option<f64>,
    #[serde(default)]
    tensors: BTreeMap<String, Gradient>,
}

#[derive(Deserialize)]
struct ExpectedStep {
    step: u64,
    batch: usize,
    lr: f64,
    wd: f64,
    clip_coefficient: Option<f64>,
    #[serde(flatten)]
    losses: ExpectedLosses,
}

#[derive(Deserialize)]
struct ParameterGroup {
    n: usize,
    wd_excluded: bool,
}

pub(super) fn check(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let expected = serde_json::from_value::<Expected>(case.expected()?);
    let expected = expected.map_err(|e| case.broken(format!("expected.json: {e}")))?;
    let trial = Trial::open(case)?;
    let mut compared = Vec::new();
    for losses in &expected.loss_and_grad_at_step0_weights {
        compared.extend(trial.losses(losses)?);
    }
    compared.extend(trial.groups(&expected.param_groups));
    compared.extend(trial.training(&expected.optimizer_steps)?);
    Ok(compared)
}

/// A model with the first weights of a case, and the batches.
struct Trial<'a> {
    case: &'a Case<'a>,
    config: Config,
    model: TokenWorldModel,
    batches: Checkpoint,
    device: Device,
}

impl<'a> Trial<'a> {
    fn open(case: &'a Case<'a>) -> Result<Self> {
        let device = case.device().autodiff();
        Ok(Self {
            case,
            config: case.config()?,
            model: predictor::model(case, &device)?.load(case.arrays("model_step0.pth.tar")?)?,
            batches: case.arrays("batches.safetensors")?,
            device,
        })
    }

    fn batch(&self, index: usize) -> Result<TokenBatch> {
        let array = |name: &str| self.batches.require(&format!("{name}_{index}"));
        let proprio = self.batches.get(&format!("proprio_{index}"));
        Ok(TokenBatch {
            visual: visual(array("visual")?, &self.device),
            proprio: proprio.map(|array| steps(array, &self.device)),
            actions: steps(array("action")?, &self.device),
        })
    }

    /// The objective of an entry.
    fn objective(&self, entry: &ExpectedLosses) -> Result<ObjectiveConfig> {
        let plain = entry.variant.contains("plain L_TF (weight 1)");
        let weighting = if plain {
            LossWeighting::PaperSum
        } else {
            LossWeighting::Code
        };
        let proprio_rollout = match self.config.proprio_rollout_mode.as_deref() {
            Some("use_ground_truth") => ProprioRollout::GroundTruth,
            _ => ProprioRollout::Predicted,
        };
        Ok(ObjectiveConfig {
            steps: entry.k,
            proprio_rollout,
            ctxt_window_train_rollout: self.config.ctxt_window_train_rollout,
            rollout_stop_gradient: entry.rollout_stop_gradient.unwrap_or(true),
            detach_proprio_target: entry.variant.contains("detach_proprio_target"),
            loss_weighting: entry.loss_weighting.unwrap_or(weighting),
            state: self.state_loss()?,
            ..ObjectiveConfig::default()
        })
    }

    fn state_loss(&self) -> Result<StateLossConfig> {
        let text = &self.config.loss;
        let element = match text.split_whitespace().next() {
            Some("L2") => ElementLoss::Mse,
            Some("L1") => ElementLoss::L1,
            _ => return Err(self.case.broken(format!("loss `{text}`"))),
        };
        // Without a weight the proprio part counts once; without a proprio part not at all.
        let proprio_weight = text.split_once("proprio").map_or(0.0, |(before, _)| {
            let weight = before.split(['+', '*']).nth(1);
            weight.and_then(|w| w.trim().parse().ok()).unwrap_or(1.0)
        });
        Ok(StateLossConfig {
            element,
            proprio_weight,
            ..StateLossConfig::default()
        })
    }

    /// Losses of a batch under the objective of an entry, and their gradient.
    fn run(
        &self,
        model: &TokenWorldModel,
        batch: usize,
        entry: &ExpectedLosses,
    ) -> Result<(ObjectiveLosses, GradientsParams)> {
        let draws = Draws {
            prefixes: entry.t.into_iter().collect(),
            encoded: Vec::new(),
        };
        let losses = self
            .objective(entry)?
            .losses(model, self.batch(batch)?, &draws)?;
        let grads = GradientsParams::from_grads(losses.total.clone().backward(), model);
        Ok((losses, grads))
    }

    fn losses(&self, entry: &ExpectedLosses) -> Result<Vec<Comparison>> {
        let name = name_of(entry);
        let (losses, grads) = self.run(&self.model, 0, entry)?;
        let mut compared = self.compare_losses(&name, &losses, entry);
        compared.extend(self.compare_norm(&name, global_norm(&self.model, &grads), entry));
        let ours = gradients_by(&self.model, &grads, key);
        compared.extend(compare_gradients(self.case, &name, &ours, &entry.tensors)?);
        Ok(compared)
    }

    fn compare_losses(
        &self,
        name: &str,
        losses: &ObjectiveLosses,
        entry: &ExpectedLosses,
    ) -> Vec<Comparison> {
        let first = &losses.teacher_forcing;
        let mut pairs = vec![
            (
                "teacher forcing".to_string(),
                Some(&first.total),
                entry.teacher_forcing_loss,
            ),
            ("visual part".into(), Some(&first.visual), entry.visual_l2),
            (
                "proprio part".into(),
                first.proprio.as_ref(),
                entry.proprio_l2,
            ),
            ("total".into(), Some(&losses.total), Some(entry.total)),
        ];
        for order in 0..losses.rollout.len().max(entry.rollout_terms.len()) {
            let expected = entry.rollout_terms.get(order).copied();
            pairs.push((
                format!("order {}", order + 2),
                losses.rollout.get(order),
                expected,
            ));
        }
        let compared = pairs.into_iter().filter_map(|(part, ours, expected)| {
            let name = format!("{name}: {part}");
            match ours {
                Some(ours) => compare_loss(self.case, &name, ours, expected),
                // A loss that we do not have is a failure, not an omission.
                None => expected.map(|expected| compare_number(&name, f64::NAN, expected, 0.0)),
            }
        });
        compared.collect()
    }

    fn compare_norm(&self, name: &str, norm: f64, entry: &ExpectedLosses) -> Option<Comparison> {
        let tolerance = self.case.tolerance().relative;
        let name = format!("{name}: norm of the gradient");
        entry
            .grad_global_norm
            .map(|expected| compare_number(&name, norm, expected, tolerance))
    }

    /// How many parameters decay and how many do not.
    fn groups(&self, groups: &[ParameterGroup]) -> Vec<Comparison> {
        if groups.is_empty() {
            return Vec::new();
        }
        let count = |excluded: bool| -> usize {
            groups
                .iter()
                .filter(|g| g.wd_excluded == excluded)
                .map(|g| g.n)
                .sum()
        };
        let all = weights_by(&self.model, key).keys().count();
        let ours = decayed(&self.model).len();
        let pairs = [
            ("with decay", ours, count(false)),
            ("without decay", all - ours, count(true)),
        ];
        let compared = pairs.map(|(name, ours, expected)| {
            compare_number(
                &format!("parameters {name}"),
                ours as f64,
                expected as f64,
                0.0,
            )
        });
        compared.into()
    }

    /// Steps of the optimiser from the first weights.
    fn training(&self, expected: &[ExpectedStep]) -> Result<Vec<Comparison>> {
        let settings = AdamWSettings {
            betas: self.config.optimizer.betas,
            epsilon: self.config.optimizer.eps,
        };
        let mut model = self.model.clone();
        let mut optimizer = AdamW::new(&model, settings);
        let mut compared = Vec::new();
        let mut rates = 0.0;
        for entry in expected {
            let name = format!("step {}", entry.step);
            let (rate, decay) = self.rate_and_decay(entry.step)?;
            rates += rate;
            compared.push(compare_number(
                &format!("{name}: learning rate"),
                rate,
                entry.lr,
                1e-6,
            ));
            compared.push(compare_number(
                &format!("{name}: weight decay"),
                decay,
                entry.wd,
                1e-6,
            ));
            let (losses, grads) = self.run(&model, entry.batch, &entry.losses)?;
            compared.extend(self.compare_losses(&name, &losses, &entry.losses));
            let (grads, norm) = self.clipped(&model, grads);
            compared.extend(self.compare_norm(&name, norm, &entry.losses));
            compared.extend(self.compare_clipping(&name, norm, entry));
            model = optimizer.step(rate, decay, model, grads);
            compared.extend(self.weights_after(entry.step, &model, rates)?);
        }
        Ok(compared)
    }

    fn clipped(&self, model: &TokenWorldModel, grads: GradientsParams) -> (GradientsParams, f64) {
        if let Some(bound) = self.config.clip_grad {
            return clip_global_norm(model, grads, bound);
        }
        let norm = global_norm(model, &grads);
        (grads, norm)
    }

    fn compare_clipping(&self, name: &str, norm: f64, entry: &ExpectedStep) -> Option<Comparison> {
        let ours = self
            .config
            .clip_grad
            .map_or(1.0, |bound| clip_factor(norm, bound));
        let tolerance = self.case.tolerance().relative;
        let name = format!("{name}: clip coefficient");
        entry
            .clip_coefficient
            .map(|expected| compare_number(&name, ours, expected, tolerance))
    }

    fn rate_and_decay(&self, step: u64) -> Result<(f64, f64)> {
        let config = &self.config.optimizer;
        let steps_of = |epochs: f64| (epochs * config.iterations_per_epoch) as u64;
        let (start, peak, last) = (config.start_lr, config.ref_lr, config.final_lr);
        let warmup_steps = steps_of(config.warmup);
        let rate = match config.lr_schedule.as_str() {
            "warmup_cosine" => RateSchedule::WarmupCosine {
                start,
                peak,
                last,
                warmup_steps,
            },
            "wsd" => RateSchedule::WarmupStableDecay {
                start,
                peak,
                last,
                warmup_steps,
                anneal_steps: steps_of(config.anneal),
            },
            other => {
                return Err(self
                    .case
                    .broken(format!("learning-rate schedule `{other}`")));
            }
        };
        let decay = DecaySchedule {
            start: config.weight_decay,
            last: config.final_weight_decay,
        };
        Ok((rate.at(step, config.steps), decay.at(step, config.steps)))
    }

    /// The weights after a step, where the case has them; `rates` is the sum of the learning rates so far.
    fn weights_after(
        &self,
        step: u64,
        model: &TokenWorldModel,
        rates: f64,
    ) -> Result<Option<Comparison>> {
        let name = format!("weights_step{step}.safetensors");
        let files = self.case.manifest().get("files");
        if files.and_then(|files| files.get(&name)).is_none() {
            return Ok(None);
        }
        let expected = self.case.arrays(&name)?;
        let ours = weights_by(&model.clone().valid(), key);
        let close = stated(self.case, "weights_atol").unwrap_or(2e-5);
        compare_weights(&name, &ours, &expected, close, 3.0 * rates).map(Some)
    }
}

fn name_of(entry: &ExpectedLosses) -> String {
    let weighting = entry.loss_weighting.map(|weighting| match weighting {
        LossWeighting::Code => "code".to_string(),
        LossWeighting::PaperSum => "paper sum".to_string(),
    });
    let stopped = entry.rollout_stop_gradient;
    let parts = [
        Some(format!("k = {}", entry.k)),
        entry.t.map(|prefix| format!("t = {prefix}")),
        weighting,
        stopped.map(|stopped| if stopped { "stopped" } else { "through" }.to_string()),
        (!entry.variant.is_empty()).then(|| entry.variant.clone()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Weights after steps of Adam, which moves every weight by about the learning rate however small its gradient: 99
/// of 100 numbers within `close`, all of them within `far`.
fn compare_weights(
    name: &str,
    ours: &Checkpoint,
    expected: &Checkpoint,
    close: f64,
    far: f64,
) -> Result<Comparison> {
    let (mut values, mut outside) = (0, 0);
    let (mut max_absolute, mut max_relative) = (0.0_f64, 0.0_f64);
    let mut all_there = ours.keys().count() == expected.keys().count();
    for key in expected.keys() {
        let (ours, expected) = (&ours.require(key)?.values, &expected.require(key)?.values);
        all_there &= ours.len() == expected.len();
        for (ours, expected) in ours.iter().zip(expected) {
            let expected = f64::from(*expected);
            let difference = (f64::from(*ours) - expected).abs();
            let difference = if difference.is_nan() {
                f64::INFINITY
            } else {
                difference
            };
            values += 1;
            outside += usize::from(difference > close);
            max_absolute = max_absolute.max(difference);
            if expected.abs() > 1e-6 {
                max_relative = max_relative.max(difference / expected.abs());
            }
        }
    }
    let few = outside * 100 <= values;
    Ok(Comparison {
        name: format!("{name}, {outside} beyond {close:e}"),
        values,
        max_absolute,
        max_relative,
        allowed: format!("99 of 100 within {close:e}, all within {far:e}"),
        passed: values > 0 && all_there && few && max_absolute <= far,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::weights::Array;
    use crate::weights::check::testing::assert_case;

    #[test]
    fn the_adaln_predictor_trains_as_the_reference() {
        assert_case("train_adaln");
    }

    #[test]
    fn the_dino_wm_predictor_trains_as_the_reference() {
        assert_case("train_dinowm");
    }

    #[test]
    fn one_weight_in_a_hundred_may_be_off_and_none_by_much() {
        let weights = |first: f32, second: f32| {
            let mut values = vec![1.0; 200];
            (values[0], values[1]) = (first, second);
            Checkpoint::new(BTreeMap::from([(
                "w".into(),
                Array::new(vec![200], values).unwrap(),
            )]))
        };
        let passed = |ours: &Checkpoint| {
            compare_weights("w", ours, &weights(1.0, 1.0), 1e-5, 1e-2)
                .unwrap()
                .passed
        };
        assert!(passed(&weights(1.001, 1.001)));
        assert!(!passed(&weights(1.1, 1.0)), "too far");
        assert!(!passed(&weights(f32::NAN, 1.0)));
        let mut three = weights(1.001, 1.001).get("w").unwrap().clone();
        three.values[2] = 1.001;
        let three = Checkpoint::new(BTreeMap::from([("w".into(), three)]));
        assert!(!passed(&three), "three of two hundred");
    }
}
