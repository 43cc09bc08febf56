//! Losses between predicted and encoded tokens (models.md section 4.1).
//!
//! ```text
//! mean over batch, frames and tokens of   visual loss + 1.0 * proprio loss
//! ```
//!
//! Each loss is a mean over the channels of a token. By default the two parts count alike, however many channels
//! they have; the original DINO-WM takes one mean over the channels of both ([`ProprioShare::Channels`]).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::predictor::TokenState;
use crate::{Error, Result};

/// Smallest norm that a cosine divides by, as in `PyTorch`.
const SMALLEST_NORM: f64 = 1e-8;

/// How a predicted token is compared with an encoded one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElementLoss {
    /// Squared difference.
    #[default]
    Mse,
    /// Absolute difference.
    L1,
    /// Half the squared difference below 1, the absolute difference less one half above.
    SmoothL1,
    /// The cosine between the tokens, negated.
    NegativeCosine,
}

impl ElementLoss {
    /// Mean over everything.
    ///
    /// # Shapes
    /// - `predicted`, `target`: `[B, T, N, C]`; output `[1]`
    pub(crate) fn mean(self, predicted: Tensor<4>, target: Tensor<4>) -> Tensor<1> {
        match self {
            Self::Mse => (predicted - target).square().mean(),
            Self::L1 => (predicted - target).abs().mean(),
            Self::SmoothL1 => {
                let distance = (predicted - target).abs();
                let bounded = distance.clone().clamp_max(1.0);
                (bounded.clone() * (distance - bounded * 0.5)).mean()
            }
            Self::NegativeCosine => {
                // The bound lies under the root: the gradient of a root at zero is no number.
                let norm = |x: &Tensor<4>| {
                    let squares = x.clone().square().sum_dim(3);
                    squares.clamp_min(SMALLEST_NORM * SMALLEST_NORM).sqrt()
                };
                let norms = norm(&predicted) * norm(&target);
                ((predicted * target).sum_dim(3) / norms).mean().neg()
            }
        }
    }
}

/// What the proprio part counts against the visual part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProprioShare {
    /// The same, whatever the number of channels: `visual + weight * proprio`.
    #[default]
    Equal,
    /// As its share of the channels: one mean over the channels of both, the original DINO-WM's.
    Channels,
}

/// Loss between predicted and encoded frames.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateLossConfig {
    /// Comparison of tokens, the same for both parts.
    pub element: ElementLoss,
    /// Weight of the proprio part; 0 leaves it out.
    pub proprio_weight: f64,
    /// What the proprio part counts against the visual part.
    pub proprio_share: ProprioShare,
}

impl Default for StateLossConfig {
    fn default() -> Self {
        Self {
            element: ElementLoss::default(),
            proprio_weight: 1.0,
            proprio_share: ProprioShare::default(),
        }
    }
}

/// A loss between frames and what it is made of, `[1]` each.
#[derive(Debug, Clone)]
pub(crate) struct StateLoss {
    /// Of the visual tokens, unweighted.
    pub visual: Tensor<1>,
    /// Of proprio, unweighted; `None` where there is none, or it has no weight.
    pub proprio: Option<Tensor<1>>,
    /// Their weighted sum.
    pub total: Tensor<1>,
}

/// Channels of the proprio of `state`; `None` without. A model that embeds raw poses itself takes one width and
/// gives another, so its prediction of proprio can neither be compared nor fed back.
pub(crate) fn proprio_width(state: &TokenState) -> Option<usize> {
    state.proprio.as_ref().map(|proprio| proprio.dims()[3])
}

impl StateLossConfig {
    /// Checks every value that the type does not bound.
    ///
    /// # Errors
    /// [`Error::Config`] that names the value.
    pub(crate) fn check(&self) -> Result<()> {
        if !(self.proprio_weight.is_finite() && self.proprio_weight >= 0.0) {
            return Err(Error::Config {
                key: "loss.proprio_weight",
                detail: format!("must be 0 or more, is {}", self.proprio_weight),
            });
        }
        let by_channel = self.proprio_share == ProprioShare::Channels;
        if by_channel && self.element == ElementLoss::NegativeCosine {
            return Err(Error::Config {
                key: "loss.proprio_share",
                detail: "must be `equal` with `negative_cosine`, which is no sum over channels"
                    .into(),
            });
        }
        Ok(())
    }

    /// Loss of predicted frames; proprio counts where the model predicts it.
    ///
    /// # Shapes
    /// - `predicted` and `target`: the same number of frames
    pub(crate) fn between(&self, predicted: TokenState, target: TokenState) -> StateLoss {
        let element = self.element;
        let channels = predicted.visual.dims()[3];
        let visual = element.mean(predicted.visual, target.visual);
        let parts = predicted.proprio.zip(target.proprio);
        let Some((predicted, target)) = parts.filter(|_| self.proprio_weight > 0.0) else {
            return StateLoss {
                visual: visual.clone(),
                proprio: None,
                total: visual,
            };
        };
        let proprio_channels = predicted.dims()[3];
        let proprio = element.mean(predicted, target);
        let (visual_weight, proprio_weight) = match self.proprio_share {
            ProprioShare::Equal => (1.0, self.proprio_weight),
            ProprioShare::Channels => {
                let share = proprio_channels as f64 / (channels + proprio_channels) as f64;
                (1.0 - share, self.proprio_weight * share)
            }
        };
        let total = visual.clone() * visual_weight + proprio.clone() * proprio_weight;
        StateLoss {
            visual,
            proprio: Some(proprio),
            total,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn number(value: Tensor<1>) -> f64 {
        f64::from(value.into_scalar::<f32>())
    }

    fn tokens(rows: [[f32; 2]; 2]) -> Tensor<4> {
        Tensor::<2>::from_floats(rows, &Device::flex()).reshape([1, 1, 2, 2])
    }

    fn state(visual: [[f32; 2]; 2], proprio: [f32; 2]) -> TokenState {
        let proprio = Tensor::<1>::from_floats(proprio, &Device::flex());
        TokenState {
            visual: tokens(visual),
            proprio: Some(proprio.reshape([1, 1, 2, 1])),
        }
    }

    #[test]
    fn each_loss_has_the_value_worked_out_by_hand() {
        // Differences 0.5, -2, 0, 3.
        let (predicted, target) = ([[1.5, 0.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 1.0]]);
        let value = |loss: ElementLoss| number(loss.mean(tokens(predicted), tokens(target)));
        assert!((value(ElementLoss::Mse) - 13.25 / 4.0).abs() < 1e-6);
        assert!((value(ElementLoss::L1) - 5.5 / 4.0).abs() < 1e-6);
        // 0.125 + 1.5 + 0 + 2.5.
        assert!((value(ElementLoss::SmoothL1) - 4.125 / 4.0).abs() < 1e-6);
        // 1.5 / (1.5 sqrt 5) and 13 / (5 sqrt 10), of two tokens.
        let cosine = f64::midpoint(1.0 / 5f64.sqrt(), 13.0 / (5.0 * 10f64.sqrt()));
        assert!((value(ElementLoss::NegativeCosine) + cosine).abs() < 1e-6);
    }

    #[test]
    fn gradients_of_the_bounded_losses_have_the_values_worked_out_by_hand() {
        let gradient = |loss: ElementLoss, values: [[f32; 2]; 2]| {
            let device = Device::flex().autodiff();
            let x = Tensor::<2>::from_floats(values, &device).require_grad();
            let target = Tensor::<2>::from_floats([[0.0, 0.0], [1.0, 0.0]], &device);
            let shape = [1, 1, 2, 2];
            let value = loss.mean(x.clone().reshape(shape), target.reshape(shape));
            let grads = value.backward();
            x.grad(&grads)
                .unwrap()
                .into_data()
                .try_to_vec::<f32>()
                .unwrap()
        };
        // The difference up to 1 and its sign beyond, over four numbers.
        let smooth = gradient(ElementLoss::SmoothL1, [[0.5, -2.0], [1.0, 3.0]]);
        assert_eq!(smooth, [0.125, -0.25, 0.0, 0.25]);
        // A token of zeros has no direction, and no gradient that is not a number.
        let cosine = gradient(ElementLoss::NegativeCosine, [[0.0, 0.0], [0.0, 2.0]]);
        // -(1, 0) / |x| over two tokens: the pull is across the token only.
        assert_eq!(cosine, [0.0, 0.0, -0.25, 0.0]);
    }

    #[test]
    fn proprio_counts_like_the_visual_part_or_like_its_share_of_the_channels() {
        let predicted = || state([[1.0, 1.0], [1.0, 1.0]], [4.0, 0.0]);
        let target = || state([[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0]);
        let total = |config: StateLossConfig| {
            config.check().unwrap();
            number(config.between(predicted(), target()).total)
        };
        let equal = StateLossConfig::default();
        // Visual 1, proprio 8.
        assert!((total(equal) - 9.0).abs() < 1e-6);
        assert!(
            (total(StateLossConfig {
                proprio_weight: 0.5,
                ..equal
            }) - 5.0)
                .abs()
                < 1e-6
        );
        assert!(
            (total(StateLossConfig {
                proprio_weight: 0.0,
                ..equal
            }) - 1.0)
                .abs()
                < 1e-6
        );
        // All channels together: (4 * 1 + 16) / 6.
        let channels = StateLossConfig {
            proprio_share: ProprioShare::Channels,
            ..equal
        };
        assert!((total(channels) - 20.0 / 6.0).abs() < 1e-6);
    }

    #[test]
    fn a_cosine_is_not_taken_over_the_channels_of_both_parts() {
        let config = StateLossConfig {
            element: ElementLoss::NegativeCosine,
            proprio_share: ProprioShare::Channels,
            ..StateLossConfig::default()
        };
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .contains("proprio_share")
        );
    }
}
