//! The loss of V-JEPA-2-AC as its authors train it (models.md section 4.5).
//!
//! ```text
//! teacher forcing   |P(z_<=t; a_<=t, s_<=t) - z_t+1|, mean over t
//! rollout           |zhat_2 - z_2|, |P([z_1, zhat_2]; a_1, a_2)[last] - z_3|, .., mean over the frames
//! total             teacher forcing + rollout, with the gradient through the predictions that are fed back
//! ```
//!
//! `|.|` is `mean |x|^e / e`. Until commit 93366fe of the released code the rollout began with `zhat_3` in the
//! place of `zhat_2`, one frame late, so that the model learned to copy its second input; the public checkpoint
//! was trained that way ([`RolloutStart::Buggy`]). What the paper calls its fixed V-JEPA-2-AC is none of the two
//! but an [`super::objective`] with `steps = 2`, `prefix = "first"` and no stop of the gradient.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::predictor::{TokenModel, TokenState};
use crate::{Error, Result};

/// The teacher-forcing prediction that a rollout begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutStart {
    /// That of the second frame.
    #[default]
    Fixed,
    /// That of the third frame, as before commit 93366fe.
    Buggy,
}

/// Loss of V-JEPA-2-AC.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vjepa2AcLossConfig {
    /// Exponent `e` of the difference.
    pub loss_exp: f64,
    /// Frames of the rollout, the first one from teacher forcing.
    pub auto_steps: usize,
    /// What the rollout begins with.
    pub start: RolloutStart,
}

impl Default for Vjepa2AcLossConfig {
    fn default() -> Self {
        Self {
            loss_exp: 1.0,
            auto_steps: 2,
            start: RolloutStart::default(),
        }
    }
}

/// Losses of a batch, `[1]` each.
#[derive(Debug, Clone)]
pub(crate) struct Vjepa2AcLosses {
    /// Mean over the frames `1..T`.
    pub teacher_forcing: Tensor<1>,
    /// Each frame of the rollout.
    pub rollout_parts: Vec<Tensor<1>>,
    /// Mean of the parts.
    pub rollout: Tensor<1>,
    /// Teacher forcing and rollout.
    pub total: Tensor<1>,
}

impl Vjepa2AcLossConfig {
    /// Checks every value, for slices of `frames` frames.
    ///
    /// # Errors
    /// [`Error::Config`] that names the value.
    pub(crate) fn check(&self, frames: usize) -> Result<()> {
        if !(self.loss_exp.is_finite() && self.loss_exp >= 1.0) {
            return Err(Error::Config {
                key: "loss.loss_exp",
                detail: format!("must be 1 or more, is {}", self.loss_exp),
            });
        }
        let most = frames.saturating_sub(1);
        let first = self.first_slot();
        if self.auto_steps == 0 || self.auto_steps > most || first >= most {
            return Err(Error::Config {
                key: "loss.auto_steps",
                detail: format!(
                    "must be from 1 to {most} with slices of {frames} frames, is {}",
                    self.auto_steps
                ),
            });
        }
        Ok(())
    }

    /// Slot of the teacher-forcing output that the rollout begins with.
    fn first_slot(&self) -> usize {
        match self.start {
            RolloutStart::Fixed => 0,
            RolloutStart::Buggy => 1,
        }
    }

    /// `mean |p - t|^e / e` of predicted frames and those that begin with the one of index `from`.
    fn distance(&self, predicted: &Tensor<4>, truth: &Tensor<4>, from: usize) -> Tensor<1> {
        let to = from + predicted.dims()[1];
        let target = truth.clone().slice_dim(1, from..to).detach();
        let difference = (predicted.clone() - target).abs();
        difference.powf_scalar(self.loss_exp).mean() / self.loss_exp
    }

    /// Losses of encoded frames.
    ///
    /// # Shapes
    /// - `truth`: `T` frames, their states from the data; `actions`: `[B, T - 1, A]` or longer
    ///
    /// # Errors
    /// [`Error::Config`] for a configuration that does not fit the slices.
    pub(crate) fn losses<M: TokenModel>(
        &self,
        model: &M,
        truth: &TokenState,
        actions: &Tensor<3>,
    ) -> Result<Vjepa2AcLosses> {
        let frames = truth.frames();
        self.check(frames)?;
        let until = |last: usize| actions.clone().slice_dim(1, 0..last);
        let forced = model
            .predict(truth.slice(0, frames - 1), until(frames - 1))
            .visual;
        let teacher_forcing = self.distance(&forced, &truth.visual, 1);

        let slot = self.first_slot();
        let mut fed = truth.visual.clone().slice_dim(1, 0..1);
        let mut predicted = forced.slice_dim(1, slot..slot + 1);
        let mut rollout_parts = vec![self.distance(&predicted, &truth.visual, 1)];
        for next in 2..=self.auto_steps {
            fed = Tensor::cat(vec![fed, predicted], 1);
            let input = TokenState {
                visual: fed.clone(),
                proprio: truth.slice(0, next).proprio,
            };
            let output = model.predict(input, until(next)).visual;
            predicted = output.slice_dim(1, next - 1..next);
            rollout_parts.push(self.distance(&predicted, &truth.visual, next));
        }
        let rollout = Tensor::cat(rollout_parts.clone(), 0).mean();
        Ok(Vjepa2AcLosses {
            total: teacher_forcing.clone() + rollout.clone(),
            teacher_forcing,
            rollout_parts,
            rollout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::toy::{Toy, gradient, number};

    /// The states and actions of models.md section 4.3.
    fn losses(config: &Vjepa2AcLossConfig) -> (Vjepa2AcLosses, Toy) {
        let toy = Toy::new(0.9);
        let (truth, actions) = (
            toy.frames(&[0.0, 1.0, 3.0, 6.0]),
            toy.actions(&[1.0, 2.0, 3.0]),
        );
        (config.losses(&toy, &truth, &actions).unwrap(), toy)
    }

    fn parts(losses: &Vjepa2AcLosses) -> Vec<f64> {
        losses.rollout_parts.iter().map(number).collect()
    }

    #[test]
    fn the_fixed_rollout_goes_on_from_the_prediction_of_the_second_frame() {
        // 0.9 of 1, then 0.9 + 1.8 = 2.7 of 3.
        let (losses, toy) = losses(&Vjepa2AcLossConfig::default());
        assert!((parts(&losses)[0] - 0.1).abs() < 1e-6 && (parts(&losses)[1] - 0.3).abs() < 1e-6);
        // Teacher forcing 0.1, 0.2, 0.3.
        assert!((number(&losses.teacher_forcing) - 0.2).abs() < 1e-6);
        assert!((number(&losses.total) - 0.4).abs() < 1e-6);
        // Of the rollout -(1 + (1 + 2)) / 2: through the prediction that is fed back.
        assert!((gradient(&losses.rollout, &toy.coefficient) + 2.0).abs() < 1e-6);
    }

    #[test]
    fn the_buggy_rollout_pulls_the_prediction_of_the_third_frame_to_the_second() {
        // 2.8 against 1, then 2.8 + 1.8 = 4.6 against 3.
        let config = Vjepa2AcLossConfig {
            start: RolloutStart::Buggy,
            ..Vjepa2AcLossConfig::default()
        };
        let (losses, _) = losses(&config);
        assert!((parts(&losses)[0] - 1.8).abs() < 1e-6 && (parts(&losses)[1] - 1.6).abs() < 1e-6);
        assert!((number(&losses.rollout) - 1.7).abs() < 1e-6);
    }

    #[test]
    fn an_exponent_of_two_is_half_the_squared_error() {
        let config = Vjepa2AcLossConfig {
            loss_exp: 2.0,
            auto_steps: 3,
            ..Vjepa2AcLossConfig::default()
        };
        let (losses, toy) = losses(&config);
        // The third frame of the rollout: 2.7 + 2.7 = 5.4 of 6.
        let expected = [0.005, 0.045, 0.18];
        assert!(
            parts(&losses)
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
        // Teacher forcing: (0.1 * 1 + 0.2 * 2 + 0.3 * 3) / 3, downwards.
        assert!((gradient(&losses.teacher_forcing, &toy.coefficient) + 1.4 / 3.0).abs() < 1e-5);
    }

    #[test]
    fn rollouts_longer_than_the_slices_are_refused() {
        let config = |auto_steps, start| Vjepa2AcLossConfig {
            auto_steps,
            start,
            ..Vjepa2AcLossConfig::default()
        };
        assert!(config(3, RolloutStart::Fixed).check(4).is_ok());
        assert!(config(4, RolloutStart::Fixed).check(4).is_err());
        assert!(config(0, RolloutStart::Fixed).check(4).is_err());
        assert!(config(1, RolloutStart::Buggy).check(2).is_err());
        let exponent = Vjepa2AcLossConfig {
            loss_exp: 0.5,
            ..Vjepa2AcLossConfig::default()
        };
        assert!(
            exponent
                .check(4)
                .unwrap_err()
                .to_string()
                .contains("loss_exp")
        );
    }
}
