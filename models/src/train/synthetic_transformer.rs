//! Optimiser steps of a token predictor on a made-up batch, for benches and for comparison with other programs.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use jepa_datasets::Stream;

use super::config::TrainingConfig;
use super::optimizer::{AdamW, clip_global_norm};
use crate::layer::init::initialise_with;
use crate::layer::rope::Variant;
use crate::predictor::adaln::{AdaLnConfig, AdaLnPredictor};
use crate::predictor::{Grid, ProprioInput, TokenState};

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

    /// The `AdaLN` predictor without proprio, as wide inside as outside.
    fn config(&self) -> AdaLnConfig {
        AdaLnConfig {
            grid: Grid {
                rows: self.side,
                columns: self.side,
            },
            frames: self.frames,
            encoder_width: self.width,
            width: self.width,
            depth: self.depth,
            heads: self.heads,
            action_dim: self.action_dim,
            proprio: ProprioInput::None,
            rope_variant: Variant::VjepaCompat,
            init_scale: 1.0,
        }
    }
}

/// An array with its name.
#[derive(Debug, Clone)]
pub struct NamedArray {
    /// Path of a parameter, or the name of a part of the batch.
    pub name: String,
    /// Linear weights are `[in, out]`.
    pub shape: Vec<usize>,
    /// Row after row.
    pub values: Vec<f32>,
}

/// A token predictor in training on one batch of noise.
pub struct SyntheticTransformer {
    net: Option<AdaLnPredictor>,
    optimizer: AdamW,
    training: TrainingConfig,
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
        let config = sizes.config();
        let draw = |path: &str| config.draw(path);
        let net = initialise_with(config.init(&device), training.seed, draw);
        let optimizer = AdamW::of(&net, &training);
        let patches = sizes.side * sizes.side;
        let tokens = vec![sizes.batch, sizes.frames, patches, sizes.width];
        let mut stream = Stream::new(training.seed, &["synthetic"]);
        let mut noise = |name: &str, shape: Vec<usize>| NamedArray {
            name: name.to_string(),
            values: (0..shape.iter().product())
                .map(|_| stream.normal() as f32)
                .collect(),
            shape,
        };
        let actions = vec![sizes.batch, sizes.frames, sizes.action_dim];
        let batch = [
            noise("tokens", tokens.clone()),
            noise("actions", actions),
            noise("targets", tokens),
        ];
        Self {
            net: Some(net),
            optimizer,
            training,
            batch,
        }
    }

    /// Forward, mean squared error, backward, clipping and update; returns the error.
    pub fn step(&mut self) -> f32 {
        let Some(net) = self.net.take() else {
            return f32::NAN;
        };
        let device = Device::flex().autodiff();
        let [tokens, actions, targets] = self
            .batch
            .each_ref()
            .map(|array| TensorData::new(array.values.clone(), array.shape.clone()));
        let state = TokenState {
            visual: Tensor::from_data(tokens, &device),
            proprio: None,
        };
        let output = net.forward(state, Tensor::from_data(actions, &device));
        let difference = output.visual - Tensor::from_data(targets, &device);
        let loss = (difference.clone() * difference).mean();
        let value = loss.clone().into_scalar::<f32>();
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        let (grads, _) = clip_global_norm(&net, grads, self.training.clip_norm);
        self.net = Some(self.optimizer.step(
            self.training.learning_rate,
            self.training.weight_decay,
            net,
            grads,
        ));
        value
    }

    /// The parameters and the batch, for another program to do the same with.
    pub fn arrays(&self) -> Vec<NamedArray> {
        let mut arrays = self.net.as_ref().map(parameters).unwrap_or_default();
        arrays.extend_from_slice(&self.batch);
        arrays
    }
}

/// The parameters of a network.
pub(super) fn parameters<M: Module>(net: &M) -> Vec<NamedArray> {
    let mut collector = Collector::default();
    net.visit(&mut collector);
    collector.arrays
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
