//! `eb_jepa`: the action-conditioned Two-Rooms model of eb_jepa (models.md section 7.4).
//!
//! An Impala encoder gives one vector per frame; a gated recurrent unit whose hidden state *is* the latent
//! predicts the next one from the raw action, and passes its output through the encoder's own layer norm:
//!
//! ```text
//! L = prediction + 16 std + 8 covariance + 12 similarity + 1 inverse        no stop-gradient anywhere
//! ```
//!
//! `prediction` is the mean over the steps of an unroll from frame 0, with gradients through all of them.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::encoder::impala::{Impala, ImpalaConfig};
use crate::layer::gru::GruCell;
use crate::layer::mlp::{Mlp, MlpConfig};
use crate::loss::inverse_dynamics::inverse_dynamics;
use crate::loss::prediction::{mean_squared, time_similarity};
use crate::loss::variance_covariance::{covariance, std_hinge};
use crate::train::LossTerm;
use crate::weights::Checkpoint;
use crate::weights::fill::fill;
use crate::{Error, Result};

/// Weights and sizes of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EbJepaLoss {
    /// Steps of the unroll.
    pub steps: usize,
    /// Hinge on the standard deviation.
    pub std: f64,
    /// Squared covariances.
    pub covariance: f64,
    /// Change between consecutive latents.
    pub similarity: f64,
    /// Inverse dynamics.
    pub inverse: f64,
    /// Whether the first two look at frame 0 only, not at all frames.
    pub first_frame_only: bool,
}

impl Default for EbJepaLoss {
    fn default() -> Self {
        Self {
            steps: 8,
            std: 16.0,
            covariance: 8.0,
            similarity: 12.0,
            inverse: 1.0,
            first_frame_only: false,
        }
    }
}

/// Architecture and loss of `eb_jepa`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EbJepaConfig {
    /// Native steps per model step.
    pub frameskip: usize,
    /// Image encoder; the recurrent unit is as wide as its latent.
    pub encoder: ImpalaConfig,
    /// Width of the two hidden layers of the inverse model; training only.
    pub inverse_width: usize,
    /// Loss.
    pub loss: EbJepaLoss,
}

impl Default for EbJepaConfig {
    fn default() -> Self {
        Self {
            frameskip: 1,
            encoder: ImpalaConfig::default(),
            inverse_width: 256,
            loss: EbJepaLoss::default(),
        }
    }
}

impl EbJepaConfig {
    /// An untrained network for `height x width` images and action blocks of width `block`.
    pub(crate) fn init(
        &self,
        height: usize,
        width: usize,
        block: usize,
        device: &Device,
    ) -> EbJepaNet {
        let latent = self.encoder.latent;
        let widths = vec![2 * latent, self.inverse_width, self.inverse_width, block];
        EbJepaNet {
            encoder: self.encoder.init(height, width, device),
            predictor: GruCell::new(block, latent, device),
            inverse: MlpConfig { widths }.init(device),
        }
    }
}

/// Encoder and predictor, and the inverse model that only training uses.
#[derive(Module, Debug)]
pub(crate) struct EbJepaNet {
    encoder: Impala,
    predictor: GruCell,
    inverse: Mlp,
}

impl EbJepaNet {
    /// Latents `[n, D]` of images `[n, C, h, w]`.
    pub(crate) fn encode(&self, images: Tensor<4>) -> Tensor<2> {
        self.encoder.forward(images)
    }

    /// The start and the latents after each action, `N + 1` tensors `[B, D]`.
    ///
    /// # Shapes
    /// - `start`: `[B, D]`; `actions`: `[B, N, A]`
    pub(crate) fn unroll(&self, start: Tensor<2>, actions: &Tensor<3>) -> Vec<Tensor<2>> {
        let mut latents = vec![start.clone()];
        let mut last = start;
        for step in 0..actions.dims()[1] {
            let action = actions
                .clone()
                .slice_dim(1, step..step + 1)
                .squeeze_dim::<2>(1);
            last = self
                .encoder
                .norm
                .forward(self.predictor.forward(action, last));
            latents.push(last.clone());
        }
        latents
    }

    /// Terms of the training loss.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, D]`; `actions`: `[B, H, A]`, `H >= T - 1`
    /// - `unrolled`: `[B, D]` each, the latents of frames 0, 1, .. as [`EbJepaNet::unroll`] gives them
    pub(crate) fn losses(
        &self,
        latents: &Tensor<3>,
        actions: &Tensor<3>,
        unrolled: &[Tensor<2>],
        loss: &EbJepaLoss,
    ) -> Vec<LossTerm> {
        let steps = unrolled.len() - 1;
        let predicted = Tensor::stack::<3>(unrolled[1..].to_vec(), 1);
        let targets = latents.clone().slice_dim(1, 1..steps + 1);
        let samples = Self::samples(latents, loss);
        let term = |name, weight, value| LossTerm {
            name,
            weight,
            value,
        };
        let inverse = inverse_dynamics(latents.clone(), actions.clone(), |pairs| {
            self.inverse.forward(pairs)
        });
        vec![
            term("prediction", 1.0, mean_squared(predicted, targets)),
            term("std", loss.std, std_hinge(samples.clone())),
            term("covariance", loss.covariance, covariance(samples)),
            term(
                "similarity",
                loss.similarity,
                time_similarity(latents.clone()),
            ),
            term("inverse", loss.inverse, inverse),
        ]
    }

    /// The latents that the variance and covariance losses pool, `[n, D]`.
    fn samples(latents: &Tensor<3>, loss: &EbJepaLoss) -> Tensor<2> {
        let [batch, frames, width] = latents.dims();
        if loss.first_frame_only {
            return latents.clone().slice_dim(1, 0..1).squeeze_dim::<2>(1);
        }
        latents.clone().reshape([batch * frames, width])
    }

    /// The parameters that are clipped together: the encoder's, and the predictor's with the norm that it
    /// shares.
    fn clip_lists(&self) -> [Vec<ParamId>; 2] {
        let mut predictor = ids(&self.predictor);
        predictor.extend(ids(&self.encoder.norm));
        [ids(&self.encoder), predictor]
    }

    /// Clips the gradient of the encoder, then that of the predictor, each to a norm of at most `bound`, and
    /// returns the two norms before.
    ///
    /// The layer norm that both use is in both lists and so may be clipped twice, as published; the
    /// predictor's norm counts it after the encoder's clip. The inverse model is not clipped.
    pub(crate) fn clip(&self, gradients: &mut GradientsParams, bound: f64) -> [f64; 2] {
        self.clip_lists().map(|list| {
            let mut squares = SumOfSquares {
                list: &list,
                gradients,
                sum: 0.0,
            };
            self.visit(&mut squares);
            let norm = squares.sum.sqrt();
            let factor = bound / (norm + 1e-6);
            if factor < 1.0 {
                self.visit(&mut Scale {
                    list: &list,
                    gradients,
                    factor,
                });
            }
            norm
        })
    }

    /// This network with the weights of a file.
    ///
    /// # Errors
    /// [`Error::Keys`] for a file of another model, [`Error::Weights`] when the norm of the predictor is not
    /// that of the encoder.
    pub(crate) fn load(self, name: &str, file: Checkpoint) -> Result<Self> {
        for leaf in ["weight", "bias"] {
            let of = |part: &str| file.require(&format!("{part}.final_ln.{leaf}"));
            if of("predictor")? != of("encoder")? {
                return Err(Error::Weights {
                    name: name.to_string(),
                    detail: "predictor.final_ln is not encoder.final_ln".into(),
                });
            }
        }
        fill(name, self, file.rename(our_key), str::to_string)
    }
}

/// AdamW as published: the same weight decay for every tensor (models.md section 7.4).
pub(crate) fn optimizer(weight_decay: f64) -> ModuleOptimizer {
    AdamWConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(weight_decay as f32)
        .init()
}

/// Learning rate of step `step`, from 0, of `steps`: a tenth of them rising from almost nothing to `base`,
/// then half a cosine down to 1 % of it (models.md section 7.4).
pub(crate) fn learning_rate(base: f64, step: usize, steps: usize) -> f64 {
    let (start, end) = (1e-8 * base, 1e-2 * base);
    let warmup = steps / 10;
    if step < warmup {
        return start + (base - start) * step as f64 / warmup as f64;
    }
    let passed = (step - warmup) as f64 / (steps - warmup) as f64;
    end + (base - end) * 0.5 * (1.0 + (std::f64::consts::PI * passed).cos())
}

/// Key parts of the file, and ours.
const KEYS: [(&str, &str); 11] = [
    ("encoder.stack_blocks.", "encoder.stacks."),
    ("initial_conv", "first"),
    ("encoder.mlp", "encoder.project"),
    ("encoder.final_ln", "encoder.norm"),
    ("predictor.rnn.weight_ih_l0", "predictor.input.weight"),
    ("predictor.rnn.weight_hh_l0", "predictor.hidden.weight"),
    ("predictor.rnn.bias_ih_l0", "predictor.input.bias"),
    ("predictor.rnn.bias_hh_l0", "predictor.hidden.bias"),
    ("regularizer.idm_loss_fn.idm.model.", "inverse.layers."),
    // ReLUs have the odd numbers.
    ("inverse.layers.2", "inverse.layers.1"),
    ("inverse.layers.4", "inverse.layers.2"),
];

/// Our key for one of the file; the predictor's norm is the encoder's.
pub(crate) fn our_key(key: &str) -> Option<String> {
    if key.starts_with("predictor.final_ln.") {
        return None;
    }
    Some(KEYS.iter().fold(key.to_string(), |key, (theirs, ours)| {
        key.replace(theirs, ours)
    }))
}

/// Ids of every parameter of a module.
fn ids<M: Module>(module: &M) -> Vec<ParamId> {
    struct Ids(Vec<ParamId>);
    impl ModuleVisitor for Ids {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.id);
        }
    }
    let mut ids = Ids(Vec::new());
    module.visit(&mut ids);
    ids.0
}

/// Sum of squares of the gradients in a list.
struct SumOfSquares<'a> {
    list: &'a [ParamId],
    gradients: &'a GradientsParams,
    sum: f64,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !self.list.contains(&param.id) {
            return;
        }
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let values = gradient.into_data();
            self.sum += values.iter::<f64>().map(|g| g * g).sum::<f64>();
        }
    }
}

/// Multiplies the gradients in a list.
struct Scale<'a> {
    list: &'a [ParamId],
    gradients: &'a mut GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !self.list.contains(&param.id) {
            return;
        }
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, gradient * self.factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::init::initialise;
    use crate::weights::check::testing::assert_case;
    use crate::weights::read_out::gradients_of;

    fn small() -> EbJepaConfig {
        EbJepaConfig {
            encoder: ImpalaConfig {
                stacks: vec![2, 3],
                blocks: 1,
                latent: 4,
                ..ImpalaConfig::default()
            },
            inverse_width: 5,
            ..EbJepaConfig::default()
        }
    }

    #[test]
    fn the_full_model_has_the_documented_parameters() {
        // models.md section 7.4.
        let net = EbJepaConfig::default().init(65, 65, 2, &Device::flex());
        assert_eq!(net.encoder.num_params(), 1_426_096);
        assert_eq!(net.predictor.num_params(), 792_576);
        assert_eq!(net.inverse.num_params(), 328_706);
    }

    #[test]
    fn outputs_losses_gradients_and_a_step_are_those_of_the_reference() {
        assert_case("eb_jepa");
    }

    #[test]
    fn the_shared_norm_is_clipped_twice_and_the_inverse_model_never() {
        let device = Device::flex().autodiff();
        let net = initialise(small().init(8, 8, 2, &device), 3);
        let normal = burn::tensor::Distribution::Normal(0.0, 1.0);
        let images = Tensor::<4>::random([6, 2, 8, 8], normal, &device);
        let actions = Tensor::<3>::random([2, 2, 2], normal, &device);
        let latents = net.encode(images).reshape([2, 3, 4]);
        let start = latents.clone().slice_dim(1, 0..1).squeeze_dim::<2>(1);
        let unrolled = net.unroll(start, &actions);
        let terms = net.losses(&latents, &actions, &unrolled, &small().loss);
        let total = terms
            .into_iter()
            .map(|t| t.value * t.weight)
            .reduce(|a, b| a + b)
            .unwrap();
        let mut gradients = GradientsParams::from_grads(total.backward(), &net);
        let before = gradients_of(&net, &gradients);
        let bound = 0.01;
        let norms = net.clip(&mut gradients, bound);
        let after = gradients_of(&net, &gradients);
        let ratio = |key: &str| {
            let (a, b) = (
                &before.get(key).unwrap().values,
                &after.get(key).unwrap().values,
            );
            let largest = (0..a.len())
                .max_by(|i, j| a[*i].abs().total_cmp(&a[*j].abs()))
                .unwrap();
            f64::from(b[largest] / a[largest])
        };
        let [encoder, predictor] = norms.map(|norm| bound / norm);
        assert!(encoder < 0.9 && predictor < 0.9, "{norms:?}");
        for (key, expected) in [
            ("encoder.project.weight", encoder),
            ("predictor.hidden.weight", predictor),
            ("encoder.norm.weight", encoder * predictor),
            ("inverse.layers.0.weight", 1.0),
        ] {
            assert!(
                (ratio(key) / expected - 1.0).abs() < 1e-3,
                "{key}: {} {expected}",
                ratio(key)
            );
        }
    }

    #[test]
    fn a_predictor_with_a_norm_of_its_own_is_refused() {
        let device = Device::flex();
        let mut file = Checkpoint::default();
        let array = |value: f32| crate::weights::Array::new(vec![1], vec![value]).unwrap();
        for (part, value) in [("encoder", 1.0), ("predictor", 2.0)] {
            for leaf in ["weight", "bias"] {
                file.insert(&format!("{part}.final_ln.{leaf}"), array(value));
            }
        }
        let error = small()
            .init(8, 8, 2, &device)
            .load("file", file)
            .unwrap_err();
        assert!(
            error.to_string().contains("is not encoder.final_ln"),
            "{error}"
        );
    }

    #[test]
    fn the_learning_rate_rises_for_a_tenth_and_falls_to_a_hundredth() {
        assert!(learning_rate(1e-3, 0, 40) < 1e-10);
        assert!((learning_rate(1e-3, 2, 40) - 5.000_000_05e-4).abs() < 1e-11);
        assert!((learning_rate(1e-3, 4, 40) - 1e-3).abs() < 1e-15);
        assert!((learning_rate(1e-3, 22, 40) - 5.05e-4).abs() < 1e-15);
        assert!(learning_rate(1e-3, 39, 40) > 1e-5 && learning_rate(1e-3, 39, 40) < 1.3e-5);
    }
}
