//! Validation rollouts: how far predicted latents are from the encodings of what happened
//! (evaluation.md section 4.3).

use std::borrow::Cow;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::Trainable;
use super::loader::SliceArrays;
use super::probe::LinearProbe;
use crate::Result;

/// Frames encoded at a time, to bound memory.
const SLICES_AT_A_TIME: usize = 32;

/// A probe reads latents of up to this width; of wider ones the mean over their tokens.
const WIDEST_PROBE: usize = 1024;

/// Errors of the unroll after 1, 2, .. steps from the first frame of validation slices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationErrors {
    /// Mean squared latent error per step.
    pub visual_l2: Vec<f64>,
    /// Mean absolute latent error per step.
    pub visual_l1: Vec<f64>,
    /// Mean absolute error of proprio read from the predicted latent by a linear probe that was fitted
    /// on encodings of training frames (on the mean of their tokens where a latent is wider than 1,024), in native
    /// units, per step; empty when no probe could be fitted.
    pub proprio: Vec<f64>,
    /// Mean variance of the latent's dimensions; errors are small when this is.
    pub variance: f64,
    /// Of a policy, which predicts no latents: the lists above are then empty.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub imitation: Option<Imitation>,
}

/// How well a policy repeats the actions of validation slices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Imitation {
    /// Mean cross-entropy of a number of an action, in nats, given those before it; the logarithm of the bins for a
    /// guess that knows nothing.
    pub cross_entropy: f64,
    /// Share of the numbers of actions that lie outside the bins and count as the nearest one.
    pub clipped: f64,
}

/// Latents of slices: encodings of all frames and predictions from the first.
struct Latents {
    /// `[B, H + 1, D]`
    encoded: Vec<f32>,
    /// `[B, H, D]` of every predictor
    predicted: Vec<Vec<f32>>,
    width: usize,
    /// Tokens in a latent.
    tokens: usize,
}

/// Unrolls over the validation slices, with a probe fitted on the training slices.
pub(crate) fn validate<M: Trainable>(
    model: &M,
    weights: &M::Weights,
    training: &[SliceArrays],
    validation: &[SliceArrays],
    horizon: usize,
    proprio_dim: usize,
    device: &Device,
) -> Result<ValidationErrors> {
    let fitted = latents(model, weights, training, device)?;
    let seen = latents(model, weights, validation, device)?;
    let proprio = |slices: &[SliceArrays]| -> Vec<f32> {
        slices
            .iter()
            .flat_map(|s| s.proprio.iter().copied())
            .collect()
    };
    let probe = LinearProbe::fit(
        &fitted.probed(&fitted.encoded),
        fitted.probe_width(),
        &proprio(training),
        proprio_dim,
    );
    let targets = proprio(validation);
    let steps = 0..if seen.predicted.is_empty() {
        0
    } else {
        horizon
    };
    Ok(ValidationErrors {
        visual_l2: steps
            .clone()
            .map(|h| seen.error(h, horizon, |d| d * d))
            .collect(),
        visual_l1: steps
            .clone()
            .map(|h| seen.error(h, horizon, f64::abs))
            .collect(),
        proprio: steps
            .filter_map(|h| {
                let target = pick(&targets, proprio_dim, horizon + 1, h + 1);
                let errors = seen.predicted.iter().map(|of_one| {
                    let predicted = pick(of_one, seen.width, horizon, h);
                    probe
                        .as_ref()?
                        .mean_absolute_error(&seen.probed(&predicted), &target)
                });
                mean(&errors.collect::<Option<Vec<f64>>>()?)
            })
            .collect(),
        variance: seen.variance(),
        imitation: imitation(model, weights, validation, device)?,
    })
}

/// The mean over all slices; nothing of a world model.
fn imitation<M: Trainable>(
    model: &M,
    weights: &M::Weights,
    validation: &[SliceArrays],
    device: &Device,
) -> Result<Option<Imitation>> {
    let mut seen = 0;
    let mut sum = Imitation {
        cross_entropy: 0.0,
        clipped: 0.0,
    };
    for slices in validation {
        let Some(found) = model.imitation(&slices.to_device(device), weights, seen)? else {
            return Ok(None);
        };
        let count = slices.slices() as f64;
        sum.cross_entropy += found.cross_entropy * count;
        sum.clipped += found.clipped * count;
        seen += slices.slices();
    }
    let all = seen as f64;
    Ok((seen > 0).then_some(Imitation {
        cross_entropy: sum.cross_entropy / all,
        clipped: sum.clipped / all,
    }))
}

fn latents<M: Trainable>(
    model: &M,
    weights: &M::Weights,
    slices: &[SliceArrays],
    device: &Device,
) -> Result<Latents> {
    let mut all = Latents {
        encoded: Vec::new(),
        predicted: Vec::new(),
        width: 0,
        tokens: 1,
    };
    for slices in slices {
        let rollouts = model.rollouts(&slices.to_device(device), weights)?;
        all.width = rollouts.encoded.dims()[1];
        all.tokens = rollouts.tokens;
        all.encoded
            .extend(rollouts.encoded.into_data().iter::<f32>());
        if rollouts.predicted.is_empty() {
            continue;
        }
        let predicted = Tensor::stack::<4>(rollouts.predicted, 2);
        let ensemble = predicted.dims()[0];
        let values: Vec<f32> = predicted.into_data().iter::<f32>().collect();
        all.predicted.resize(ensemble, Vec::new());
        for (of_one, values) in all
            .predicted
            .iter_mut()
            .zip(values.chunks_exact(values.len() / ensemble))
        {
            of_one.extend(values);
        }
    }
    Ok(all)
}

/// Column `index` of rows of `count` items of `width` numbers.
fn pick(values: &[f32], width: usize, count: usize, index: usize) -> Vec<f32> {
    let rows = values.chunks_exact(width * count);
    rows.flat_map(|row| row[index * width..(index + 1) * width].iter().copied())
        .collect()
}

impl Latents {
    /// Whether a probe reads whole latents, and not the mean of their tokens.
    fn is_probed_whole(&self) -> bool {
        self.width <= WIDEST_PROBE
    }

    /// Numbers that a probe reads of one latent.
    fn probe_width(&self) -> usize {
        if self.is_probed_whole() {
            self.width
        } else {
            self.width / self.tokens
        }
    }

    /// What a probe reads of latents.
    fn probed<'a>(&self, latents: &'a [f32]) -> Cow<'a, [f32]> {
        if self.is_probed_whole() {
            return Cow::Borrowed(latents);
        }
        let width = self.probe_width();
        let means = latents.chunks_exact(self.width).flat_map(|latent| {
            let mut mean = vec![0.0; width];
            for token in latent.chunks_exact(width) {
                for (sum, value) in mean.iter_mut().zip(token) {
                    *sum += value / self.tokens as f32;
                }
            }
            mean
        });
        Cow::Owned(means.collect())
    }

    /// Mean of `measure(difference)` after `step + 1` predictions, over all predictors.
    fn error(&self, step: usize, horizon: usize, measure: impl Fn(f64) -> f64) -> f64 {
        let target = pick(&self.encoded, self.width, horizon + 1, step + 1);
        let errors = self.predicted.iter().flat_map(|of_one| {
            let predicted = pick(of_one, self.width, horizon, step);
            let differences = predicted
                .into_iter()
                .zip(&target)
                .map(|(p, t)| measure(f64::from(p - t)));
            differences.collect::<Vec<f64>>()
        });
        mean(&errors.collect::<Vec<f64>>()).unwrap_or(f64::NAN)
    }

    /// Mean over dimensions of the unbiased variance over all encodings.
    fn variance(&self) -> f64 {
        let rows = self.encoded.len() / self.width;
        let mut total = 0.0;
        for dimension in 0..self.width {
            let column = || {
                self.encoded
                    .iter()
                    .skip(dimension)
                    .step_by(self.width)
                    .map(|v| f64::from(*v))
            };
            let mean = column().sum::<f64>() / rows as f64;
            total += column().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (rows as f64 - 1.0);
        }
        total / self.width as f64
    }
}

/// Mean of some numbers; `None` of none.
fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// How many batches of slices make up `count`.
pub(crate) fn batches(count: usize) -> impl Iterator<Item = usize> {
    (0..count.div_ceil(SLICES_AT_A_TIME))
        .map(move |i| SLICES_AT_A_TIME.min(count - i * SLICES_AT_A_TIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_add_up() {
        assert_eq!(batches(70).collect::<Vec<_>>(), [32, 32, 6]);
        assert_eq!(batches(32).collect::<Vec<_>>(), [32]);
    }

    #[test]
    fn errors_compare_each_prediction_with_the_frame_it_predicts() {
        // One slice, two steps, one dimension: encodings 0, 1, 3; predictions 1.5 and 2.
        let latents = Latents {
            encoded: vec![0.0, 1.0, 3.0],
            predicted: vec![vec![1.5, 2.0]],
            width: 1,
            tokens: 1,
        };
        assert!((latents.error(0, 2, |d| d * d) - 0.25).abs() < 1e-12);
        assert!((latents.error(1, 2, f64::abs) - 1.0).abs() < 1e-12);
        assert!((latents.variance() - 7.0 / 3.0).abs() < 1e-6);
    }
}
