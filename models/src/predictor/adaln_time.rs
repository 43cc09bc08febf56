//! LeWM's predictor: a causal transformer over time, one token per frame, modulated by actions (models.md
//! section 7.2; `AdaLN`-zero, arXiv 2212.09748 section 3.2).
//!
//! ```text
//! x = x + g1 Attention(LN(x) (1 + s1) + h1);   x = x + g2 MLP(LN(x) (1 + s2) + h2)
//! h1, s1, g1, h2, s2, g2 = Linear(SiLU(action))
//! ```
//!
//! The norms above have no parameters, and attention and perceptron each begin with a norm of their own that
//! has: a double norm, as published. The published model drops 10 % of the activations in training; here
//! nothing is dropped.

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};
use serde::{Deserialize, Serialize};

use crate::layer::attention::{FrameCausal, attend};
use crate::layer::gelu::gelu;
use crate::layer::layer_norm::{LayerNorm, plain_norm};
use crate::layer::linear::linear;

/// Added to the variance of the norms without parameters.
const OUTER_EPSILON: f64 = 1e-6;
/// Added to the variance of those with.
const INNER_EPSILON: f64 = 1e-5;

/// Sizes of a predictor over time; its width is that of the latent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaLnTimeConfig {
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a head; heads times this need not be the width of the latent.
    pub head_width: usize,
    /// Hidden width of a block's perceptron.
    pub hidden: usize,
    /// Most frames it sees.
    pub history: usize,
}

impl Default for AdaLnTimeConfig {
    fn default() -> Self {
        Self {
            depth: 6,
            heads: 16,
            head_width: 64,
            hidden: 2048,
            history: 3,
        }
    }
}

impl AdaLnTimeConfig {
    pub(crate) fn init(&self, width: usize, device: &Device) -> AdaLnTime {
        let positions = Initializer::Normal {
            mean: 0.0,
            std: 1.0,
        };
        AdaLnTime {
            positions: positions.init([1, self.history, width], device),
            blocks: (0..self.depth)
                .map(|_| Block::new(self, width, device))
                .collect(),
            norm: LayerNorm::new(width, INNER_EPSILON, device),
        }
    }
}

/// Latents and action embeddings of up to `history` frames to the next latents.
#[derive(Module, Debug)]
pub(crate) struct AdaLnTime {
    positions: Param<Tensor<3>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl AdaLnTime {
    /// Slot `t` of the output predicts frame `t + 1` from the frames up to `t`.
    ///
    /// # Shapes
    /// - `latents`, `actions`, output: `[B, T, D]`
    pub(crate) fn forward(&self, latents: Tensor<3>, actions: &Tensor<3>) -> Tensor<3> {
        let frames = latents.dims()[1];
        let x = latents + self.positions.val().slice_dim(1, 0..frames);
        let conditions = activation::silu(actions.clone());
        let x = self
            .blocks
            .iter()
            .fold(x, |x, block| block.forward(x, &conditions));
        self.norm.forward(x)
    }

    /// Most frames it sees.
    pub(crate) fn history(&self) -> usize {
        self.positions.lazy_shape().dims::<3>()[1]
    }
}

#[derive(Module, Debug)]
struct Block {
    attn: NormedAttention,
    mlp: NormedMlp,
    modulation: Linear,
}

impl Block {
    fn new(config: &AdaLnTimeConfig, width: usize, device: &Device) -> Self {
        let inner = config.heads * config.head_width;
        // Zero, so that a fresh block passes its input on.
        let modulation = LinearConfig::new(width, 6 * width).with_initializer(Initializer::Zeros);
        Self {
            attn: NormedAttention {
                norm: LayerNorm::new(width, INNER_EPSILON, device),
                packed: LinearConfig::new(width, 3 * inner)
                    .with_bias(false)
                    .init(device),
                proj: LinearConfig::new(inner, width).init(device),
                heads: config.heads,
            },
            mlp: NormedMlp {
                norm: LayerNorm::new(width, INNER_EPSILON, device),
                fc1: LinearConfig::new(width, config.hidden).init(device),
                fc2: LinearConfig::new(config.hidden, width).init(device),
            },
            modulation: modulation.init(device),
        }
    }

    /// # Shapes
    /// - `input`, output: `[B, T, D]`; `conditions`: `[B, T, D]`, actions after SiLU
    fn forward(&self, input: Tensor<3>, conditions: &Tensor<3>) -> Tensor<3> {
        let width = input.dims()[2];
        let modulation = linear(&self.modulation, conditions.clone());
        let part = |index: usize| {
            modulation
                .clone()
                .slice_dim(2, index * width..(index + 1) * width)
        };
        let modulate = |x: &Tensor<3>, shift, scale: Tensor<3>| {
            plain_norm(x.clone(), OUTER_EPSILON) * (scale + 1.0) + shift
        };
        let attended = self.attn.forward(modulate(&input, part(0), part(1)));
        let x = input + part(2) * attended;
        let changed = self.mlp.forward(modulate(&x, part(3), part(4)));
        x + part(5) * changed
    }
}

/// Causal attention after a norm; queries, keys and values have no bias.
#[derive(Module, Debug)]
struct NormedAttention {
    norm: LayerNorm,
    /// Queries, keys and values; one array in files too.
    packed: Linear,
    proj: Linear,
    heads: usize,
}

impl NormedAttention {
    fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let packed = linear(&self.packed, self.norm.forward(input));
        let causal = FrameCausal { tokens: 1 };
        linear(&self.proj, attend(packed, self.heads, None, Some(causal)))
    }
}

/// A perceptron with GELU after a norm.
#[derive(Module, Debug)]
struct NormedMlp {
    norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl NormedMlp {
    fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let hidden = linear(&self.fc1, self.norm.forward(input));
        linear(&self.fc2, gelu(hidden))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;
    use crate::layer::init::initialise;

    const SMALL: AdaLnTimeConfig = AdaLnTimeConfig {
        depth: 2,
        heads: 2,
        head_width: 3,
        hidden: 7,
        history: 4,
    };

    fn random(device: &Device) -> Tensor<3> {
        Tensor::random([2, 4, 5], Distribution::Normal(0.0, 1.0), device)
    }

    #[test]
    fn the_full_predictor_has_the_documented_parameters() {
        // models.md section 7.2.
        let predictor = AdaLnTimeConfig::default().init(192, &Device::flex());
        assert_eq!(predictor.num_params(), 10_791_360);
    }

    #[test]
    fn a_later_frame_or_action_does_not_reach_back() {
        let device = Device::flex();
        let predictor = initialise(SMALL.init(5, &device), 3);
        let (latents, actions) = (random(&device), random(&device));
        let before = predictor.forward(latents.clone(), &actions);
        let rows = |x: &Tensor<3>, range: std::ops::Range<usize>| {
            x.clone().slice_dim(1, range).into_data()
        };
        let change = |x: &Tensor<3>| {
            x.clone()
                .slice_assign([0..2, 2..3, 0..5], Tensor::zeros([2, 1, 5], &device))
        };
        for after in [
            predictor.forward(change(&latents), &actions),
            predictor.forward(latents.clone(), &change(&actions)),
        ] {
            assert_eq!(rows(&before, 0..2), rows(&after, 0..2));
            assert_ne!(rows(&before, 2..3), rows(&after, 2..3));
            assert_ne!(rows(&before, 3..4), rows(&after, 3..4));
        }
    }

    #[test]
    fn fresh_blocks_pass_their_input_on() {
        let device = Device::flex();
        let predictor = SMALL.init(5, &device);
        let latents = random(&device);
        let with_positions = latents.clone() + predictor.positions.val();
        let expected = predictor.norm.forward(with_positions).into_data();
        assert_eq!(
            predictor.forward(latents, &random(&device)).into_data(),
            expected
        );
    }
}
