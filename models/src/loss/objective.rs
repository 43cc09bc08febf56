//! The training objective of token-grid models: teacher forcing and rollout terms (models.md section 4).
//!
//! ```text
//! code:       L_TF / (k + 1) + sum of the rollout terms / k
//! paper_sum:  L_TF           + sum of the rollout terms
//! ```
//!
//! `k` counts prediction orders: teacher forcing is the first, a rollout term is one of the orders `2..=k`.
//! The released code divides (`code`), also with `k = 1`; the paper writes a plain sum.

use burn::tensor::Tensor;
use jepa_datasets::Stream;
use serde::{Deserialize, Serialize};

use super::elementwise::{StateLoss, StateLossConfig, proprio_width};
use super::rollout::{RolloutInputs, RolloutStrategy, rollout_terms};
use super::scheduled_sampling::ScheduledSampling;
use super::teacher_forcing;
use crate::predictor::{TokenModel, TokenState};
use crate::{Error, Result};

/// How the terms are added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossWeighting {
    /// Divided as in the released code.
    #[default]
    Code,
    /// A plain sum, as the paper writes it.
    PaperSum,
}

impl LossWeighting {
    /// Weights of teacher forcing and of every rollout term of a `k`-step objective.
    pub(crate) fn weights(self, steps: usize) -> (f64, f64) {
        match self {
            Self::Code => (1.0 / (steps + 1) as f64, 1.0 / steps as f64),
            Self::PaperSum => (1.0, 1.0),
        }
    }
}

/// Which encoded frames a sequential rollout starts from. A prefix `t` is the frames `0..=t`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutPrefix {
    /// One, drawn for the whole batch.
    #[default]
    Random,
    /// The first frame alone.
    First,
    /// Every one that leaves room for the steps; their terms are averaged.
    All,
}

/// Where the proprio of a predicted frame comes from when the frame is fed back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProprioRollout {
    /// From the model.
    #[default]
    Predicted,
    /// From the data, as V-JEPA-2-AC.
    GroundTruth,
}

/// Training objective of a token-grid model. The defaults are those of the paper's proposed model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Prediction orders `k`; 1 is teacher forcing alone.
    pub steps: usize,
    /// How the orders above 1 are made.
    pub strategy: RolloutStrategy,
    /// Encoded frames that a sequential rollout starts from.
    pub prefix: RolloutPrefix,
    /// Frames that the predictor sees in a sequential rollout.
    pub ctxt_window_train_rollout: usize,
    /// Whether predictions are cut off from the graph before they are fed back, so that every term trains its
    /// own predictor call only.
    pub rollout_stop_gradient: bool,
    /// Proprio of the frames that are fed back.
    pub proprio_rollout: ProprioRollout,
    /// Whether the gradient of teacher forcing stops at its proprio target.
    pub detach_proprio_target: bool,
    /// How the terms are added up.
    pub loss_weighting: LossWeighting,
    /// Comparison of predicted and encoded frames.
    pub state: StateLossConfig,
    /// Encoded frames in place of predicted ones, in the strategies that predict whole sequences.
    pub scheduled_sampling: ScheduledSampling,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            steps: 2,
            strategy: RolloutStrategy::default(),
            prefix: RolloutPrefix::default(),
            ctxt_window_train_rollout: 3,
            rollout_stop_gradient: true,
            proprio_rollout: ProprioRollout::default(),
            detach_proprio_target: false,
            loss_weighting: LossWeighting::default(),
            state: StateLossConfig::default(),
            scheduled_sampling: ScheduledSampling::default(),
        }
    }
}

/// Encoded slices of a batch.
#[derive(Debug, Clone)]
pub(crate) struct TokenBatch {
    /// Visual tokens of every frame from the frozen encoder, `[B, T, N, De]`.
    pub visual: Tensor<4>,
    /// Normalised proprio of every frame, `[B, T, P]`; `None` for models without.
    pub proprio: Option<Tensor<3>>,
    /// Normalised action blocks, `[B, T, A]`; the last one has no target.
    pub actions: Tensor<3>,
}

/// The random choices of one step.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Draws {
    /// Prefixes of the sequential rollout; empty where there is none.
    pub prefixes: Vec<usize>,
    /// For each order from 2 and each frame of each sample, `[B * T]`, whether the encoded frame is fed and not
    /// its prediction; empty without scheduled sampling.
    pub encoded: Vec<Vec<bool>>,
}

/// Losses of a batch, `[1]` each.
#[derive(Debug, Clone)]
pub(crate) struct ObjectiveLosses {
    /// Teacher forcing.
    pub teacher_forcing: StateLoss,
    /// The orders 2 to `k`, averaged over the prefixes.
    pub rollout: Vec<Tensor<1>>,
    /// The weighted sum.
    pub total: Tensor<1>,
}

impl ObjectiveConfig {
    /// Checks every value, for slices of `frames` frames.
    ///
    /// # Errors
    /// [`Error::Config`] that names the value.
    pub(crate) fn check(&self, frames: usize) -> Result<()> {
        let wrong = |key, detail: String| Err(Error::Config { key, detail });
        if self.steps == 0 || self.steps >= frames.max(1) {
            let most = frames.saturating_sub(1);
            let detail = format!(
                "must be from 1 to {most} with slices of {frames} frames, is {}",
                self.steps
            );
            return wrong("loss.steps", detail);
        }
        if self.ctxt_window_train_rollout == 0 {
            return wrong(
                "loss.ctxt_window_train_rollout",
                "must be at least 1".into(),
            );
        }
        let sequential = self.strategy == RolloutStrategy::LastGradientOnly;
        if sequential && !self.scheduled_sampling.is_off() {
            let detail = "needs a strategy that predicts whole sequences".into();
            return wrong("loss.scheduled_sampling", detail);
        }
        self.scheduled_sampling.check()?;
        self.state.check()
    }

    /// Makes the random choices of one step, after the share `progress` of the steps.
    pub(crate) fn draw(
        &self,
        stream: &mut Stream,
        batch: usize,
        frames: usize,
        progress: f64,
    ) -> Draws {
        let prefixes = frames.saturating_sub(self.steps);
        let sequential = self.strategy == RolloutStrategy::LastGradientOnly;
        if self.steps < 2 || prefixes == 0 {
            return Draws::default();
        }
        if sequential {
            let prefixes = match self.prefix {
                RolloutPrefix::Random => vec![stream.below(prefixes as u64) as usize],
                RolloutPrefix::First => vec![0],
                RolloutPrefix::All => (0..prefixes).collect(),
            };
            return Draws {
                prefixes,
                encoded: Vec::new(),
            };
        }
        let probability = self.scheduled_sampling.probability(progress);
        let orders = if self.scheduled_sampling.is_off() {
            0
        } else {
            self.steps - 1
        };
        let mut elements = || {
            (0..batch * frames)
                .map(|_| stream.uniform() < probability)
                .collect()
        };
        Draws {
            prefixes: Vec::new(),
            encoded: (0..orders).map(|_| elements()).collect(),
        }
    }

    /// Losses of a batch under the choices of `draws`.
    ///
    /// # Errors
    /// [`Error::Config`] for a configuration that does not fit the slices or the model.
    pub(crate) fn losses<M: TokenModel>(
        &self,
        model: &M,
        batch: TokenBatch,
        draws: &Draws,
    ) -> Result<ObjectiveLosses> {
        let truth = TokenState {
            visual: batch.visual,
            proprio: batch
                .proprio
                .and_then(|proprio| model.embed_proprio(proprio)),
        };
        self.check(truth.frames())?;
        let first = teacher_forcing::predictions(model, &truth, &batch.actions);
        if self.state.proprio_weight > 0.0 && proprio_width(&first) != proprio_width(&truth) {
            return Err(Error::Config {
                key: "loss.state.proprio_weight",
                detail: "must be 0 for a model that does not predict its proprio".into(),
            });
        }
        let loss = teacher_forcing::loss(&self.state, &first, &truth, self.detach_proprio_target);
        let inputs = RolloutInputs {
            truth: &truth,
            actions: &batch.actions,
            first: &first,
        };
        let rollout = rollout_terms(self, model, &inputs, draws)?;
        let (first_weight, weight) = self.loss_weighting.weights(self.steps);
        let total = rollout
            .iter()
            .fold(loss.total.clone() * first_weight, |sum, term| {
                sum + term.clone() * weight
            });
        Ok(ObjectiveLosses {
            teacher_forcing: loss,
            rollout,
            total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::toy::{Toy, ToyProprio, gradient, number, state};

    /// The example of models.md section 4.3.
    fn losses(config: &ObjectiveConfig, prefixes: &[usize]) -> (ObjectiveLosses, Toy) {
        let toy = Toy::new(0.9);
        let batch = TokenBatch {
            visual: toy.frames(&[0.0, 1.0, 3.0, 6.0]).visual,
            proprio: None,
            actions: toy.actions(&[1.0, 2.0, 3.0, 50.0]),
        };
        let draws = Draws {
            prefixes: prefixes.to_vec(),
            encoded: Vec::new(),
        };
        (config.losses(&toy, batch, &draws).unwrap(), toy)
    }

    #[test]
    fn the_worked_example_of_the_specification_with_its_gradients() {
        let config = ObjectiveConfig::default();
        let (at_0, toy) = losses(&config, &[0]);
        assert!((number(&at_0.teacher_forcing.total) - 0.046_667).abs() < 1e-6);
        assert!((number(&at_0.rollout[0]) - 0.09).abs() < 1e-6);
        assert!((number(&at_0.total) - 0.060_556).abs() < 1e-6);
        // -0.31111 of teacher forcing and -1.2 / 2 of the second step, which sees its input as a constant.
        assert!((gradient(&at_0.total, &toy.coefficient) + 0.911_111).abs() < 1e-5);

        let (at_1, _) = losses(&config, &[1]);
        assert!((number(&at_1.rollout[0]) - 0.25).abs() < 1e-6);
        assert!((number(&at_1.total) - 0.140_556).abs() < 1e-6);

        let through = ObjectiveConfig {
            rollout_stop_gradient: false,
            ..config
        };
        let (at_0, toy) = losses(&through, &[0]);
        assert!((number(&at_0.total) - 0.060_556).abs() < 1e-6);
        assert!((gradient(&at_0.total, &toy.coefficient) + 0.311_111 + 0.9).abs() < 1e-5);
    }

    #[test]
    fn all_prefixes_are_averaged() {
        let config = ObjectiveConfig {
            prefix: RolloutPrefix::All,
            ..ObjectiveConfig::default()
        };
        let (both, _) = losses(&config, &[0, 1]);
        assert!((number(&both.rollout[0]) - 0.17).abs() < 1e-6);
        assert!((number(&both.total) - 0.100_556).abs() < 1e-6);
    }

    #[test]
    fn weights_of_1_2_3_and_6_steps() {
        for (steps, first, later) in [(1, 2.0, 1.0), (2, 3.0, 2.0), (3, 4.0, 3.0), (6, 7.0, 6.0)] {
            let (a, b) = LossWeighting::Code.weights(steps);
            assert!(
                (a - 1.0 / first).abs() < 1e-12 && (b - 1.0 / later).abs() < 1e-12,
                "{steps}"
            );
            let (a, b) = LossWeighting::PaperSum.weights(steps);
            assert!(
                (a - 1.0).abs() < 1e-12 && (b - 1.0).abs() < 1e-12,
                "{steps}"
            );
        }
    }

    #[test]
    fn teacher_forcing_alone_is_halved_by_the_code_and_not_by_the_paper() {
        let config = ObjectiveConfig {
            steps: 1,
            ..ObjectiveConfig::default()
        };
        let (alone, _) = losses(&config, &[]);
        assert!(alone.rollout.is_empty());
        assert!((number(&alone.total) - 0.14 / 6.0).abs() < 1e-6);
        let paper = ObjectiveConfig {
            loss_weighting: LossWeighting::PaperSum,
            ..config
        };
        assert!((number(&losses(&paper, &[]).0.total) - 0.14 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn prefixes_are_drawn_from_those_that_leave_room_for_the_steps() {
        let mut stream = Stream::new(1, &["prefix"]);
        let mut draw = |steps, prefix| {
            let config = ObjectiveConfig {
                steps,
                prefix,
                ..ObjectiveConfig::default()
            };
            config.draw(&mut stream, 2, 8, 0.0).prefixes
        };
        assert_eq!(draw(6, RolloutPrefix::All), [0, 1]);
        assert_eq!(draw(6, RolloutPrefix::First), [0]);
        assert!(draw(1, RolloutPrefix::Random).is_empty());
        let mut seen = [0; 2];
        for _ in 0..200 {
            seen[draw(6, RolloutPrefix::Random)[0]] += 1;
        }
        assert!(seen.iter().all(|count| *count > 70), "{seen:?}");
    }

    #[test]
    fn scheduled_sampling_replaces_the_share_of_frames_that_it_says() {
        let config = ObjectiveConfig {
            steps: 3,
            strategy: RolloutStrategy::EqualOrder,
            scheduled_sampling: ScheduledSampling {
                start: 1.0,
                ..ScheduledSampling::default()
            },
            ..ObjectiveConfig::default()
        };
        let mut stream = Stream::new(1, &["sampling"]);
        let mut share = |progress| {
            let draws = config.draw(&mut stream, 100, 8, progress);
            assert_eq!(draws.encoded.len(), 2);
            let encoded = draws
                .encoded
                .iter()
                .flatten()
                .filter(|replaced| **replaced)
                .count();
            encoded as f64 / 1600.0
        };
        assert!((share(0.0) - 1.0).abs() < 1e-12);
        assert!((share(0.75) - 0.25).abs() < 0.04);
        assert!(share(1.0).abs() < 1e-12);
        let off = ObjectiveConfig {
            scheduled_sampling: ScheduledSampling::default(),
            ..config
        };
        assert!(off.draw(&mut stream, 4, 8, 0.0).encoded.is_empty());
    }

    #[test]
    fn settings_that_do_not_fit_are_named() {
        let refused = |change: fn(&mut ObjectiveConfig)| {
            let mut config = ObjectiveConfig::default();
            change(&mut config);
            config.check(4).unwrap_err().to_string()
        };
        assert!(refused(|c| c.steps = 0).contains("loss.steps"));
        assert!(refused(|c| c.steps = 4).contains("from 1 to 3"));
        assert!(refused(|c| c.ctxt_window_train_rollout = 0).contains("ctxt_window"));
        assert!(refused(|c| c.scheduled_sampling.start = 0.5).contains("scheduled_sampling"));
        assert!(refused(|c| c.state.proprio_weight = -1.0).contains("proprio_weight"));
        assert!(ObjectiveConfig::default().check(4).is_ok());
    }

    #[test]
    fn proprio_that_the_model_does_not_predict_has_no_weight() {
        let toy = ToyProprio::new(1.0).blind();
        let state = state(&toy, &[0.0; 3], &[1.0, 2.0, 4.0]);
        let batch = TokenBatch {
            visual: state.visual,
            proprio: Some(Toy::new(0.0).actions(&[1.0, 2.0, 4.0])),
            actions: Toy::new(0.0).actions(&[0.0; 3]),
        };
        let draws = Draws {
            prefixes: vec![0],
            encoded: Vec::new(),
        };
        let mut config = ObjectiveConfig::default();
        let mut losses = |change: fn(&mut ObjectiveConfig)| {
            change(&mut config);
            config
                .losses(&toy, batch.clone(), &draws)
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        assert!(losses(|_| ()).unwrap_err().contains("proprio_weight"));
        assert!(
            losses(|c| c.state.proprio_weight = 0.0)
                .unwrap_err()
                .contains("proprio_rollout")
        );
        assert_eq!(
            losses(|c| c.proprio_rollout = ProprioRollout::GroundTruth),
            Ok(())
        );
    }

    #[test]
    fn a_file_may_give_some_settings_and_no_unknown_ones() {
        let config: ObjectiveConfig = serde_json::from_str(
            r#"{"steps": 6, "prefix": "first", "loss_weighting": "paper_sum"}"#,
        )
        .unwrap();
        assert_eq!((config.steps, config.prefix), (6, RolloutPrefix::First));
        assert!(config.rollout_stop_gradient);
        assert!(serde_json::from_str::<ObjectiveConfig>(r#"{"step": 6}"#).is_err());
    }
}
