//! The DINO-WM predictor: a transformer whose tokens carry proprio and action as extra channels (models.md
//! section 2.1; arXiv 2411.04983).
//!
//! ```text
//! token = [visual | proprio | action] + position;   x = x + attention(norm(x));   x = x + mlp(norm(x))
//! ```
//!
//! No projections in or out: the width inside is the sum of the three, the inner width of attention
//! `heads * head_width` whatever that is. Proprio channels of the output are its prediction, action channels
//! are dropped. The paper says 3-D sines and cosines for positions; released files hold a learned table, which
//! is the default here. The reference trains with dropout 0.1 on attention weights and branches; there is none
//! here, in training neither.

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::frame_tokens::{channels, with_features};
use super::{Grid, TokenState, sincos};
use crate::layer::attention::{FrameCausal, attend};
use crate::layer::block::FeedForward;
use crate::layer::init::Draw;
use crate::layer::layer_norm::LayerNorm;
use crate::layer::linear::linear;

/// Added to the variance in norms.
const EPSILON: f64 = 1e-5;

/// How tokens know their place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PositionCode {
    /// A learned table, as in the released files.
    #[default]
    Learned,
    /// Sines and cosines of frame, row and column, as in the paper.
    SinCos,
}

/// Sizes of a [`FeaturePredictor`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeatureConfig {
    /// Patches of a frame.
    pub grid: Grid,
    /// Tokens of a frame behind its patches.
    pub extra_tokens: usize,
    /// Frames that the positions reach to.
    pub frames: usize,
    /// Width `De` of the visual tokens.
    pub encoder_width: usize,
    /// Width of the proprio embedding; 0 without.
    pub proprio_width: usize,
    /// Width of the action embedding.
    pub action_width: usize,
    pub depth: usize,
    pub heads: usize,
    pub head_width: usize,
    /// Width of the hidden layer of the perceptrons.
    pub hidden: usize,
    pub position: PositionCode,
}

impl FeatureConfig {
    /// Width `D` of the tokens.
    pub(crate) fn inner_width(&self) -> usize {
        self.encoder_width + self.proprio_width + self.action_width
    }

    /// Tokens of a frame.
    pub(crate) fn tokens(&self) -> usize {
        self.grid.tokens() + self.extra_tokens
    }

    /// How fresh values of the parameter at `path` are drawn: all but the positions as `PyTorch` does.
    pub(crate) fn draw(path: &str) -> Draw {
        match path {
            "pos_embedding" => Draw::Normal(1.0),
            _ => Draw::Default,
        }
    }

    pub(crate) fn init(&self, device: &Device) -> FeaturePredictor {
        let width = self.inner_width();
        let places = [1, self.frames * self.tokens(), width];
        let learned = self.position == PositionCode::Learned;
        let layer = |_| Layer {
            attention: FeatureAttention::new(width, self.heads, self.head_width, device),
            mlp_norm: LayerNorm::new(width, EPSILON, device),
            mlp: FeedForward::new(width, self.hidden, device),
        };
        FeaturePredictor {
            pos_embedding: learned.then(|| Initializer::Zeros.init(places, device)),
            transformer: Transformer {
                layers: (0..self.depth).map(layer).collect(),
                norm: LayerNorm::new(width, EPSILON, device),
            },
            config: self.clone(),
        }
    }
}

/// # Shapes
/// - state: visual `[B, T, N, De]`, proprio features `[B, T, N, Pe]`; actions embedded, `[B, T, Ae]`
/// - output: the same
#[derive(Module, Debug)]
pub(crate) struct FeaturePredictor {
    pos_embedding: Option<Param<Tensor<3>>>,
    transformer: Transformer,
    #[module(skip)]
    config: FeatureConfig,
}

impl FeaturePredictor {
    pub(crate) fn forward(&self, state: TokenState, actions: Tensor<3>) -> TokenState {
        let mut features: Vec<Tensor<4>> = state.proprio.into_iter().collect();
        features.push(actions.unsqueeze_dim(2));
        let out = self.transform(with_features(state.visual, features));
        let (visual, proprio) = (self.config.encoder_width, self.config.proprio_width);
        TokenState {
            proprio: (proprio > 0).then(|| channels(out.clone(), visual, visual + proprio)),
            visual: channels(out, 0, visual),
        }
    }

    /// The transformer alone, on tokens put together by the caller.
    ///
    /// # Shapes
    /// - input and output: `[B, T, n, D]`, all tokens of a frame
    ///
    /// # Panics
    /// When `T` is more than the positions reach to.
    pub(crate) fn transform(&self, tokens: Tensor<4>) -> Tensor<4> {
        let [batch, frames, count, width] = tokens.dims();
        assert!(
            frames <= self.config.frames && count == self.config.tokens(),
            "{frames} frames of {count} tokens, positions for {} of {}",
            self.config.frames,
            self.config.tokens()
        );
        let x = tokens.reshape([batch, frames * count, width]) + self.positions(frames);
        let mask = FrameCausal { tokens: count };
        self.transformer
            .forward(x, mask)
            .reshape([batch, frames, count, width])
    }

    /// `[1, T n, D]`
    fn positions(&self, frames: usize) -> Tensor<3> {
        let (count, width) = (frames * self.config.tokens(), self.config.inner_width());
        if let Some(learned) = &self.pos_embedding {
            return learned.val().slice_dim(1, 0..count);
        }
        let table = sincos::table(frames, self.config.grid, self.config.extra_tokens, width);
        let device = self.transformer.norm.gamma.lazy_device();
        Tensor::from_data(TensorData::new(table, [1, count, width]), &device)
    }
}

#[derive(Module, Debug)]
struct Transformer {
    layers: Vec<Layer>,
    norm: LayerNorm,
}

impl Transformer {
    fn forward(&self, x: Tensor<3>, mask: FrameCausal) -> Tensor<3> {
        let x = self
            .layers
            .iter()
            .fold(x, |x, layer| layer.forward(x, mask));
        self.norm.forward(x)
    }
}

#[derive(Module, Debug)]
struct Layer {
    attention: FeatureAttention,
    mlp_norm: LayerNorm,
    mlp: FeedForward,
}

impl Layer {
    fn forward(&self, x: Tensor<3>, mask: FrameCausal) -> Tensor<3> {
        let x = x.clone() + self.attention.forward(x, mask);
        x.clone() + self.mlp.forward(self.mlp_norm.forward(x))
    }
}

/// Attention with its norm, no bias on the way in, and an inner width of its own.
#[derive(Module, Debug)]
struct FeatureAttention {
    norm: LayerNorm,
    to_qkv: Linear,
    to_out: Linear,
    heads: usize,
}

impl FeatureAttention {
    fn new(width: usize, heads: usize, head_width: usize, device: &Device) -> Self {
        let inner = heads * head_width;
        Self {
            norm: LayerNorm::new(width, EPSILON, device),
            to_qkv: LinearConfig::new(width, 3 * inner)
                .with_bias(false)
                .init(device),
            to_out: LinearConfig::new(inner, width).init(device),
            heads,
        }
    }

    fn forward(&self, x: Tensor<3>, mask: FrameCausal) -> Tensor<3> {
        let packed = linear(&self.to_qkv, self.norm.forward(x));
        linear(&self.to_out, attend(packed, self.heads, None, Some(mask)))
    }
}

/// The key in released files of a parameter of this predictor.
pub(crate) fn key(path: &str) -> String {
    const NAMES: [(&str, &str); 5] = [
        (".attention.to_out.", ".0.to_out.0."),
        (".attention.", ".0."),
        (".mlp_norm.", ".1.net.0."),
        (".mlp.fc1.", ".1.net.1."),
        (".mlp.fc2.", ".1.net.4."),
    ];
    NAMES.iter().fold(path.to_string(), |key, (ours, theirs)| {
        key.replace(ours, theirs)
    })
}

/// Whether `key`, below `predictor.`, is the causal mask that released files may hold as a buffer:
/// `transformer.layers.<number>.0.bias`. (`...0.to_out.0.bias` and `...1.net.0.bias` are parameters.)
pub(crate) fn is_mask_buffer(key: &str) -> bool {
    key.strip_prefix("transformer.layers.")
        .and_then(|rest| rest.strip_suffix(".0.bias"))
        .is_some_and(|layer| !layer.is_empty() && layer.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        ENCODER_WIDTH, GRID, Input, assert_causal, parameters, root_mean_square, small,
    };
    use super::super::token_world_model::PredictorConfig;
    use super::*;

    fn config(position: PositionCode) -> PredictorConfig {
        PredictorConfig::Feature(FeatureConfig {
            grid: GRID,
            extra_tokens: 0,
            frames: 3,
            encoder_width: ENCODER_WIDTH,
            proprio_width: 4,
            action_width: 5,
            depth: 2,
            heads: 2,
            head_width: 8,
            hidden: 24,
            position,
        })
    }

    #[test]
    fn later_frames_do_not_reach_back() {
        for position in [PositionCode::Learned, PositionCode::SinCos] {
            assert_causal(&small(config(position)));
        }
    }

    #[test]
    fn both_position_codes_tell_patches_apart_and_one_of_them_is_learned() {
        let places = 3 * GRID.tokens() * (ENCODER_WIDTH + 4 + 5);
        let (learned, fixed) = (
            small(config(PositionCode::Learned)),
            small(config(PositionCode::SinCos)),
        );
        assert_eq!(learned.num_params(), fixed.num_params() + places);
        for model in [learned, fixed] {
            // Equal tokens: only their places make a difference.
            let input = Input::random(&model, 1);
            let visual = input
                .visual
                .clone()
                .slice_dim(2, 0..1)
                .repeat_dim(2, GRID.tokens());
            let out = Input { visual, ..input }.predict(&model).visual;
            let token = |i: usize| out.clone().slice_dim(2, i..i + 1).into_data();
            for i in 1..GRID.tokens() {
                assert_ne!(token(0), token(i));
            }
        }
    }

    #[test]
    fn fresh_positions_are_standard_normal_and_fresh_layers_uniform() {
        let PredictorConfig::Feature(config) = config(PositionCode::Learned) else {
            panic!("no other predictor");
        };
        let many = FeatureConfig {
            frames: 60,
            ..config
        };
        let drawn = parameters(&small(PredictorConfig::Feature(many)));
        let of = |path: &str| &drawn[&format!("predictor.Feature.{path}")];
        let positions = root_mean_square(of("pos_embedding"));
        // 6,840 numbers: four standard errors.
        assert!((positions - 1.0).abs() < 0.034, "{positions}");
        let weights = of("transformer.layers.1.mlp.fc2.weight");
        let bound = 1.0 / 24.0_f32.sqrt();
        let largest = weights.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
        assert!((0.95 * bound..=bound).contains(&largest), "{largest}");
        // The outer encoders have names, and so random numbers, of their own.
        let (action, proprio) = (
            &drawn["action_encoder.patch_embed.bias"],
            &drawn["proprio_encoder.patch_embed.bias"],
        );
        assert_ne!(action[0].to_bits(), proprio[0].to_bits());
    }

    #[test]
    fn only_the_mask_is_taken_for_the_mask() {
        assert!(is_mask_buffer("transformer.layers.11.0.bias"));
        for parameter in [
            "0.0.to_out.0.bias",
            "0.1.net.0.bias",
            "0.0.norm.bias",
            ".0.bias",
        ] {
            assert!(
                !is_mask_buffer(&format!("transformer.layers.{parameter}")),
                "{parameter}"
            );
        }
    }
}
