//! Residual perceptrons shared over the native actions of a block (recipes.md section 2).
//!
//! ```text
//! for a in the f native actions of the block:  z <- z + MLP([z, a])
//! ```
//!
//! One network sees one native action at a time, because planners propose actions that are independent
//! within a block while the data's share a heading: the shared network extrapolates better than one
//! that takes the concatenated block (recipes.md section 8).
//!
//! An *ensemble* of `E` such networks predicts side by side from the same start. A planner seeks out
//! the errors of a single network; a plan has to convince all of them.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::layer::mlp::{BatchedMlp, MlpConfig};

/// Sizes of a [`ResidualMlp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResidualMlpConfig {
    /// Width of the two hidden layers.
    pub width: usize,
    /// Networks `E` of the ensemble.
    pub ensemble: usize,
}

impl Default for ResidualMlpConfig {
    fn default() -> Self {
        Self {
            width: 128,
            ensemble: 5,
        }
    }
}

impl ResidualMlpConfig {
    pub(crate) fn init(&self, latent: usize, action_dim: usize, device: &Device) -> ResidualMlp {
        let widths = vec![latent + action_dim, self.width, self.width, latent];
        let mlp = MlpConfig { widths }.init_batch(self.ensemble, device);
        ResidualMlp {
            mlp,
            ensemble: self.ensemble,
            action_dim,
        }
    }
}

/// Latents and an action block to the next latents, for every network of the ensemble.
#[derive(Module, Debug)]
pub(crate) struct ResidualMlp {
    mlp: BatchedMlp,
    ensemble: usize,
    action_dim: usize,
}

impl ResidualMlp {
    /// Latents after each native action of a block, `f` tensors `[E, B, D]`.
    ///
    /// # Shapes
    /// - `latents`: `[E, B, D]`; `block`: `[B, A]`, normalised native actions one after the other
    fn step(&self, latents: Tensor<3>, block: Tensor<2>) -> Vec<Tensor<3>> {
        let actions = block.split(self.action_dim, 1);
        let mut z = latents;
        let mut after = Vec::with_capacity(actions.len());
        for action in actions {
            let action = action.unsqueeze_dim::<3>(0).repeat_dim(0, self.ensemble);
            let change = self.mlp.forward(Tensor::cat(vec![z.clone(), action], 2));
            z = z + change;
            after.push(z.clone());
        }
        after
    }

    /// Latents after every native action of the `H` blocks, `H * f` tensors `[E, B, D]`; the start is
    /// not included. The latents after the blocks are every `f`-th of them.
    ///
    /// # Shapes
    /// - `start`: `[E, B, D]`; `actions`: `[B, H, A]`
    pub(crate) fn unroll_native(&self, start: &Tensor<3>, actions: &Tensor<3>) -> Vec<Tensor<3>> {
        let [batch, horizon, width] = actions.dims();
        let mut latents: Vec<Tensor<3>> = Vec::with_capacity(horizon * width / self.action_dim);
        for step in 0..horizon {
            let block = actions
                .clone()
                .slice([0..batch, step..step + 1])
                .reshape([batch, width]);
            let from = latents.last().unwrap_or(start).clone();
            latents.extend(self.step(from, block));
        }
        latents
    }

    /// Latents after each of the `H` blocks, `[E, B, D]` each; the start is not included.
    pub(crate) fn unroll(&self, start: &Tensor<3>, actions: &Tensor<3>) -> Vec<Tensor<3>> {
        let native = actions.dims()[2] / self.action_dim;
        let all = self.unroll_native(start, actions);
        all.into_iter().skip(native - 1).step_by(native).collect()
    }

    /// Networks `E`.
    pub(crate) fn ensemble(&self) -> usize {
        self.ensemble
    }

    /// The same start for every network: `[B, D]` to `[E, B, D]`.
    pub(crate) fn spread(&self, latents: Tensor<2>) -> Tensor<3> {
        latents.unsqueeze_dim::<3>(0).repeat_dim(0, self.ensemble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::init::initialise;

    fn predictor(width: usize, ensemble: usize, latent: usize) -> ResidualMlp {
        let config = ResidualMlpConfig { width, ensemble };
        initialise(config.init(latent, 2, &Device::flex()), 3)
    }

    #[test]
    fn one_network_of_width_256_has_the_documented_parameters() {
        // recipes.md section 2: 82,976.
        assert_eq!(predictor(256, 1, 32).num_params(), 82_976);
        assert_eq!(predictor(256, 3, 32).num_params(), 3 * 82_976);
    }

    #[test]
    fn an_unroll_is_one_step_after_the_other_and_later_actions_do_not_reach_back() {
        let device = Device::flex();
        let predictor = predictor(8, 2, 4);
        let start = Tensor::<3>::ones([2, 3, 4], &device);
        let random = burn::tensor::Distribution::Normal(0.0, 1.0);
        let actions = Tensor::<3>::random([3, 3, 10], random, &device);
        let latents = predictor.unroll(&start, &actions);
        let block = |t: usize| actions.clone().slice([0..3, t..t + 1]).reshape([3, 10]);
        let last = |latents: Vec<Tensor<3>>| latents.into_iter().next_back().unwrap();
        let first = last(predictor.step(start.clone(), block(0)));
        let by_hand = last(predictor.step(first, block(1)));
        assert_eq!(latents.len(), 3);
        assert_eq!(latents[1].to_data(), by_hand.to_data());

        let changed = actions
            .clone()
            .slice_assign([0..3, 2..3], Tensor::zeros([3, 1, 10], &device));
        let again = predictor.unroll(&start, &changed);
        assert_eq!(latents[1].to_data(), again[1].to_data());
        assert_ne!(latents[2].to_data(), again[2].to_data());
    }
}
