//! The `AdaLN` predictor with rotary positions, the best of the JEPA-WMs paper (models.md section 2.4; arXiv
//! 2512.24497; conditioning after `DiT`, arXiv 2212.09748).
//!
//! ```text
//! (sh1, sc1, g1, sh2, sc2, g2) = Linear(SiLU(action of the frame))
//! x = x + g1 * attention(norm1(x) * (1 + sc1) + sh1)
//! x = x + g2 * mlp(norm2(x) * (1 + sc2) + sh2)
//! ```
//!
//! The tokens of a frame are shifted, scaled and gated by its own action; earlier actions arrive through
//! attention to earlier frames. Unlike in `DiT` the norms are affine, and the modulation does not start at
//! zero unless `init_scale` is 0.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};
use serde::{Deserialize, Serialize};

use super::frame_tokens::{FrameTokens, channels, with_features};
use super::{Grid, ProprioInput, TokenState};
use crate::layer::attention::{Attention, FrameCausal};
use crate::layer::block::FeedForward;
use crate::layer::gate::gated_sum;
use crate::layer::init::Draw;
use crate::layer::layer_norm::LayerNorm;
use crate::layer::linear::linear;
use crate::layer::rope::{Rope, Variant};

/// Added to the variance in norms.
const EPSILON: f64 = 1e-6;

/// Standard deviation of fresh weights.
const INITIAL_STD: f64 = 0.02;

/// Sizes of an [`AdaLnPredictor`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdaLnConfig {
    /// Patches of a frame.
    pub grid: Grid,
    /// Frames of a training sample; longer inputs work too.
    pub frames: usize,
    /// Width `De` of the tokens that come in and go out.
    pub encoder_width: usize,
    /// Width `Dp` of the visual part inside.
    pub width: usize,
    pub depth: usize,
    pub heads: usize,
    /// Action block width `A`.
    pub action_dim: usize,
    pub proprio: ProprioInput,
    pub rope_variant: Variant,
    /// Fresh modulation weights have standard deviation `0.02 * init_scale`; 0 makes every block the identity.
    pub init_scale: f64,
}

impl AdaLnConfig {
    /// Width `D` of the tokens inside.
    pub(crate) fn inner_width(&self) -> usize {
        self.width + self.proprio.feature_width()
    }

    /// How fresh values of the parameter at `path` are drawn.
    pub(crate) fn draw(&self, path: &str) -> Draw {
        if path.ends_with("modulation.weight") {
            return Draw::Normal(INITIAL_STD * self.init_scale);
        }
        depth_scaled(path)
    }

    pub(crate) fn init(&self, device: &Device) -> AdaLnPredictor {
        let width = self.inner_width();
        let layer = |inputs: usize, outputs: usize| LinearConfig::new(inputs, outputs).init(device);
        let block = |_| AdaLnBlock {
            norm1: LayerNorm::new(width, EPSILON, device),
            attn: Attention::new(width, self.heads, device),
            norm2: LayerNorm::new(width, EPSILON, device),
            mlp: FeedForward::new(width, 4 * width, device),
            modulation: layer(width, 6 * width),
        };
        let proprio_encoder = match self.proprio {
            ProprioInput::RawToken { dim } => Some(layer(dim, width)),
            _ => None,
        };
        let conditions = self.proprio.tokens();
        let head = width / self.heads;
        AdaLnPredictor {
            predictor_embed: layer(self.encoder_width, self.width),
            action_encoder: layer(self.action_dim, width),
            proprio_encoder,
            predictor_blocks: (0..self.depth).map(block).collect(),
            predictor_norm: LayerNorm::new(width, EPSILON, device),
            predictor_proj: layer(self.width, self.encoder_width),
            tokens: FrameTokens::new(self.grid, conditions, head, self.rope_variant, self.frames),
            config: self.clone(),
        }
    }
}

/// # Shapes
/// - state: visual `[B, T, N, De]`; proprio by [`ProprioInput`]; actions `[B, T, A]`
/// - output: the same; proprio after the last norm, not projected
#[derive(Module, Debug)]
pub(crate) struct AdaLnPredictor {
    predictor_embed: Linear,
    action_encoder: Linear,
    proprio_encoder: Option<Linear>,
    predictor_blocks: Vec<AdaLnBlock>,
    predictor_norm: LayerNorm,
    predictor_proj: Linear,
    #[module(skip)]
    tokens: FrameTokens,
    #[module(skip)]
    config: AdaLnConfig,
}

impl AdaLnPredictor {
    pub(crate) fn forward(&self, state: TokenState, actions: Tensor<3>) -> TokenState {
        let patches = linear(&self.predictor_embed, state.visual);
        let (features, conditions) = self.place(state.proprio);
        let frames = patches.dims()[1];
        let condition = activation::silu(linear(&self.action_encoder, actions));
        let mut x = self
            .tokens
            .join(conditions, with_features(patches, features));
        let rope = self.tokens.rope(frames);
        for block in &self.predictor_blocks {
            x = block.forward(x, condition.clone(), &rope, self.tokens.mask());
        }
        self.take_apart(self.tokens.frames(self.predictor_norm.forward(x)))
    }

    /// Proprio as channels of every token, or as a token.
    fn place(&self, proprio: Option<Tensor<4>>) -> (Vec<Tensor<4>>, Vec<Tensor<4>>) {
        let given = || proprio.clone().into_iter().collect();
        match (self.config.proprio, &self.proprio_encoder) {
            (ProprioInput::None, _) => (Vec::new(), Vec::new()),
            (ProprioInput::Feature { .. }, _) => (given(), Vec::new()),
            (_, Some(encoder)) => {
                let tokens = proprio.into_iter().map(|p| linear(encoder, p));
                (Vec::new(), tokens.collect())
            }
            (_, None) => (Vec::new(), given()),
        }
    }

    fn take_apart(&self, frames: Tensor<4>) -> TokenState {
        let width = self.config.inner_width();
        let patches = self.tokens.patches(frames.clone());
        let proprio = match self.config.proprio {
            ProprioInput::None => None,
            ProprioInput::Feature { .. } => {
                Some(channels(patches.clone(), self.config.width, width))
            }
            ProprioInput::Token | ProprioInput::RawToken { .. } => Some(frames.slice_dim(2, 0..1)),
        };
        let visual = channels(patches, 0, self.config.width);
        TokenState {
            visual: linear(&self.predictor_proj, visual),
            proprio,
        }
    }
}

/// Fresh values of the predictors with rotary positions (models.md section 2.2): normal weights, those of the
/// last layer of each branch of block `i` divided by `sqrt(2 (i + 1))`, biases zero.
pub(crate) fn depth_scaled(path: &str) -> Draw {
    let block = path.strip_prefix("predictor_blocks.").and_then(|rest| {
        let (block, layer) = rest.split_once('.')?;
        let last = matches!(layer, "attn.proj.weight" | "mlp.fc2.weight");
        last.then(|| block.parse::<u32>().ok())?
    });
    match (path.rsplit('.').next(), block) {
        (Some("gamma"), _) => Draw::Constant(1.0),
        (Some("weight"), Some(block)) => {
            Draw::Normal(INITIAL_STD / (2.0 * (f64::from(block) + 1.0)).sqrt())
        }
        (Some("weight"), None) => Draw::Normal(INITIAL_STD),
        _ => Draw::Constant(0.0),
    }
}

/// # Shapes
/// - `x`: `[B, T n, D]`; `condition`: `[B, T, D]`, one per frame, after its `SiLU`
#[derive(Module, Debug)]
struct AdaLnBlock {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: FeedForward,
    /// `adaLN_modulation.1` in files.
    modulation: Linear,
}

impl AdaLnBlock {
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

/// The key in released files of a parameter of this predictor.
pub(crate) fn key(path: &str) -> String {
    path.replace(".modulation.", ".adaLN_modulation.1.")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        ACTION_DIM, ENCODER_WIDTH, GRID, Input, assert_causal, parameters, root_mean_square, small,
    };
    use super::super::token_world_model::PredictorConfig;
    use super::*;

    fn config(proprio: ProprioInput) -> AdaLnConfig {
        AdaLnConfig {
            grid: GRID,
            frames: 2,
            encoder_width: ENCODER_WIDTH,
            width: 24,
            depth: 2,
            heads: 2,
            action_dim: ACTION_DIM,
            proprio,
            rope_variant: Variant::VjepaCompat,
            init_scale: 10.0,
        }
    }

    #[test]
    fn later_frames_do_not_reach_back_whatever_proprio_is() {
        let kinds = [
            ProprioInput::Feature { width: 4 },
            ProprioInput::Token,
            ProprioInput::RawToken { dim: 3 },
        ];
        for proprio in kinds {
            assert_causal(&small(PredictorConfig::AdaLn(config(proprio))));
        }
    }

    #[test]
    fn without_modulation_a_block_is_the_identity() {
        let device = Device::flex();
        let run = |init_scale: f64| {
            let config = AdaLnConfig {
                init_scale,
                ..config(ProprioInput::None)
            };
            let draw = |path: &str| config.draw(path);
            let predictor = crate::layer::init::initialise_with(config.init(&device), 3, draw);
            let x = super::super::testing::random("x", [2, 2 * 6, 24]);
            let condition = super::super::testing::random("condition", [2, 2, 24]);
            let (rope, mask) = (predictor.tokens.rope(2), predictor.tokens.mask());
            let block = &predictor.predictor_blocks[1];
            let after = block.forward(x.clone(), condition, &rope, mask);
            (x.into_data(), after.into_data())
        };
        let (before, after) = run(0.0);
        assert_eq!(before, after);
        let (before, after) = run(1.0);
        assert_ne!(before, after);
    }

    #[test]
    fn fresh_weights_have_the_deviations_of_their_depth_and_kind() {
        let model = small(PredictorConfig::AdaLn(config(ProprioInput::Feature {
            width: 4,
        })));
        let drawn = parameters(&model);
        let near = |path: &str, std: f64| {
            let found = root_mean_square(&drawn[&format!("predictor.AdaLn.{path}")]);
            assert!(
                (found / std - 1.0).abs() < 0.15,
                "{path}: {found} is not {std}"
            );
        };
        near("predictor_embed.weight", 0.02);
        near("predictor_blocks.1.attn.qkv.weight", 0.02);
        near("predictor_blocks.0.attn.proj.weight", 0.02 / 2.0_f64.sqrt());
        near("predictor_blocks.1.mlp.fc2.weight", 0.01);
        near("predictor_blocks.1.modulation.weight", 0.2);
        for (path, values) in &drawn {
            let fixed = match path.rsplit('.').next() {
                Some("gamma") => 1.0,
                Some("bias" | "beta") if path.starts_with("predictor.") => 0.0,
                _ => continue,
            };
            assert!(
                values.iter().all(|v| v.to_bits() == f32::to_bits(fixed)),
                "{path}"
            );
        }
        let bound = 1.0 / 3.0_f32.sqrt();
        let outer = &drawn["proprio_encoder.patch_embed.weight"];
        assert!(outer.iter().all(|w| w.abs() <= bound) && root_mean_square(outer) > 0.2);
    }

    #[test]
    fn the_two_rotary_codes_differ() {
        let run = |rope_variant| {
            let config = AdaLnConfig {
                rope_variant,
                ..config(ProprioInput::None)
            };
            let model = super::super::testing::sized(PredictorConfig::AdaLn(config), 0);
            Input::random(&model, 2).predict(&model).visual.into_data()
        };
        assert_ne!(run(Variant::VjepaCompat), run(Variant::Standard));
    }
}
