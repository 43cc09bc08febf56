//! Optimiser steps of a token predictor on a made-up batch, for benches and for comparison with other programs.

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData, activation};
use jepa_datasets::Stream;

use super::config::TrainingConfig;
use super::optimizer::{adamw, clip_global_norm};
use crate::layer::attention::{Attention, FrameCausal};
use crate::layer::block::FeedForward;
use crate::layer::gate::gated_sum;
use crate::layer::init::initialise;
use crate::layer::layer_norm::LayerNorm;
use crate::layer::linear::linear;
use crate::layer::rope::{Position, Rope, Variant};

/// Added to the variance in norms (models.md section 2.4).
const EPSILON: f64 = 1e-6;

/// Sizes of a [`SyntheticTransformer`].
#[derive(Debug, Clone, Copy)]
pub struct TransformerSizes {
    /// Width `D` of a token.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Heads of an attention; divides the width.
    pub heads: usize,
    /// Side of the square grid of tokens of a frame.
    pub side: usize,
    /// Frames `T` of a sample.
    pub frames: usize,
    /// Samples `B` of a batch.
    pub batch: usize,
    /// Action block width `A`.
    pub action_dim: usize,
}

impl TransformerSizes {
    /// A small predictor: 4 blocks of width 192 on 16 samples of 4 frames of 64 tokens.
    pub fn small(heads: usize) -> Self {
        Self {
            width: 192,
            depth: 4,
            heads,
            side: 8,
            frames: 4,
            batch: 16,
            action_dim: 10,
        }
    }

    fn positions(&self) -> Vec<Position> {
        let place = |i: usize| Some(i as f64);
        let patches = self.side * self.side;
        (0..self.frames * patches)
            .map(|token| Position {
                frame: place(token / patches),
                row: place(token % patches / self.side),
                column: place(token % self.side),
            })
            .collect()
    }
}

/// Blocks with adaptive layer norm and rotary positions, as in models.md section 2.4.
#[derive(Module, Debug)]
struct Network {
    embed: Linear,
    action_encoder: Linear,
    blocks: Vec<AdaptiveBlock>,
    norm: LayerNorm,
    proj: Linear,
}

#[derive(Module, Debug)]
struct AdaptiveBlock {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: FeedForward,
    modulation: Linear,
}

impl AdaptiveBlock {
    fn forward(
        &self,
        x: Tensor<3>,
        condition: Tensor<3>,
        rope: &Rope,
        mask: FrameCausal,
    ) -> Tensor<3> {
        let width = x.dims()[2];
        let parts = linear(&self.modulation, condition);
        let part = |i: usize| parts.clone().slice_dim(2, i * width..(i + 1) * width);
        let input = self.norm1.modulated(x.clone(), part(0), part(1));
        let attended = self.attn.forward(input, Some(rope), Some(mask));
        let x = gated_sum(x, part(2), attended);
        let input = self.norm2.modulated(x.clone(), part(3), part(4));
        gated_sum(x, part(5), self.mlp.forward(input))
    }
}

impl Network {
    fn new(sizes: &TransformerSizes, device: &Device) -> Self {
        let width = sizes.width;
        let layer = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        let block = |_| AdaptiveBlock {
            norm1: LayerNorm::new(width, EPSILON, device),
            attn: Attention::new(width, sizes.heads, device),
            norm2: LayerNorm::new(width, EPSILON, device),
            mlp: FeedForward::new(width, 4 * width, device),
            modulation: layer(width, 6 * width),
        };
        Self {
            embed: layer(width, width),
            action_encoder: layer(sizes.action_dim, width),
            blocks: (0..sizes.depth).map(block).collect(),
            norm: LayerNorm::new(width, EPSILON, device),
            proj: layer(width, width),
        }
    }

    fn forward(
        &self,
        tokens: Tensor<3>,
        actions: Tensor<3>,
        rope: &Rope,
        mask: FrameCausal,
    ) -> Tensor<3> {
        let condition = activation::silu(linear(&self.action_encoder, actions));
        let x = self
            .blocks
            .iter()
            .fold(linear(&self.embed, tokens), |x, block| {
                block.forward(x, condition.clone(), rope, mask)
            });
        linear(&self.proj, self.norm.forward(x))
    }
}

/// An array with its name.
#[derive(Debug, Clone)]
pub struct NamedArray {
    /// Path of a parameter, or `tokens`, `actions`, `targets`.
    pub name: String,
    /// Linear weights are `[in, out]`.
    pub shape: Vec<usize>,
    /// Row after row.
    pub values: Vec<f32>,
}

/// A token predictor in training on one batch of noise.
pub struct SyntheticTransformer {
    net: Option<Network>,
    optimizer: ModuleOptimizer,
    training: TrainingConfig,
    rope: Rope,
    mask: FrameCausal,
    /// Tokens, actions and targets.
    batch: [NamedArray; 3],
}

impl std::fmt::Debug for SyntheticTransformer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyntheticTransformer")
            .field("net", &self.net)
            .finish_non_exhaustive()
    }
}

impl SyntheticTransformer {
    /// An untrained network and a batch of noise.
    pub fn new(sizes: &TransformerSizes) -> Self {
        let device = Device::flex().autodiff();
        let training = TrainingConfig {
            learning_rate: 1e-3,
            ..TrainingConfig::default()
        };
        let net = initialise(Network::new(sizes, &device), training.seed);
        let optimizer = adamw(&net, &training);
        let patches = sizes.side * sizes.side;
        let tokens = [sizes.batch, sizes.frames * patches, sizes.width];
        let mut stream = Stream::new(training.seed, &["synthetic"]);
        let mut noise = |name: &str, shape: [usize; 3]| NamedArray {
            name: name.to_string(),
            shape: shape.to_vec(),
            values: (0..shape.iter().product())
                .map(|_| stream.normal() as f32)
                .collect(),
        };
        let actions = [sizes.batch, sizes.frames, sizes.action_dim];
        let batch = [
            noise("tokens", tokens),
            noise("actions", actions),
            noise("targets", tokens),
        ];
        Self {
            net: Some(net),
            optimizer,
            training,
            rope: Rope::frames_and_grid(
                &sizes.positions(),
                sizes.width / sizes.heads,
                Variant::VjepaCompat,
            ),
            mask: FrameCausal { tokens: patches },
            batch,
        }
    }

    /// Forward, mean squared error, backward, clipping and update; returns the error.
    pub fn step(&mut self) -> f32 {
        let Some(net) = self.net.take() else {
            return f32::NAN;
        };
        let device = Device::flex().autodiff();
        let [tokens, actions, targets] = self.batch.each_ref().map(|array| {
            let data = TensorData::new(array.values.clone(), array.shape.clone());
            Tensor::<3>::from_data(data, &device)
        });
        let output = net.forward(tokens, actions, &self.rope, self.mask);
        let difference = output - targets;
        let loss = (difference.clone() * difference).mean();
        let value = loss.clone().into_scalar::<f32>();
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        let (grads, _) = clip_global_norm(&net, grads, self.training.clip_norm);
        self.net = Some(self.optimizer.step(self.training.learning_rate, net, grads));
        value
    }

    /// The parameters and the batch, for another program to do the same with.
    pub fn arrays(&self) -> Vec<NamedArray> {
        let mut collector = Collector::default();
        if let Some(net) = &self.net {
            net.visit(&mut collector);
        }
        collector.arrays.extend_from_slice(&self.batch);
        collector.arrays
    }
}

/// Parameters with their paths.
#[derive(Default)]
struct Collector {
    path: Vec<String>,
    arrays: Vec<NamedArray>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        self.arrays.push(NamedArray {
            name: self.path.join("."),
            shape: value.dims().to_vec(),
            values: value.into_data().iter::<f32>().collect(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_steps_on_noise_lower_the_error() {
        let sizes = TransformerSizes {
            width: 24,
            depth: 2,
            heads: 2,
            side: 3,
            frames: 2,
            batch: 2,
            action_dim: 3,
        };
        let mut training = SyntheticTransformer::new(&sizes);
        let first = training.step();
        let last = (0..30).map(|_| training.step()).last().unwrap();
        assert!(last < 0.8 * first, "{first} {last}");
        assert_eq!(
            training.arrays().len(),
            2 + 2 + 2 * (2 + 4 + 2 + 4 + 2) + 2 + 2 + 3
        );
    }
}
