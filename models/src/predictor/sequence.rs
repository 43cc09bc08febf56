//! The V-JEPA-2-AC predictor: a transformer over frames whose conditions are tokens of their own (models.md
//! section 2.2; arXiv 2506.09985), or channels beside the patches (section 2.3).
//!
//! ```text
//! per frame:  [action] [pose] [camera]  patches            sequence conditioning, K = 1, 2 or 3
//!             patches of [visual | proprio | action]       feature conditioning, K = 0
//! ```
//!
//! Condition tokens share the weights of the patches, rotate by their frame only, and are dropped at the end.
//! The third one (camera extrinsics) is off in all released models: it is the last 6 numbers of the raw
//! proprio when `camera` is on.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::frame_tokens::{FrameTokens, channels, with_features};
use super::{Grid, ProprioInput, TokenState};
use crate::layer::block::{Block, BlockConfig};
use crate::layer::layer_norm::LayerNorm;
use crate::layer::linear::linear;
use crate::layer::rope::Variant;

/// Added to the variance in norms.
const EPSILON: f64 = 1e-6;

/// Numbers of camera extrinsics: position and Euler angles.
pub(crate) const CAMERA: usize = 6;

/// How the predictor takes actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ActionInput {
    /// As one more token per frame, which the predictor embeds from the block of `dim` numbers.
    Token { dim: usize },
    /// As `width` more channels of every token, embedded outside of the predictor.
    Feature { width: usize },
}

/// Sizes of a [`SequencePredictor`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SequenceConfig {
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
    pub action: ActionInput,
    pub proprio: ProprioInput,
    /// Whether the camera is a token too.
    pub camera: bool,
    pub rope_variant: Variant,
}

impl SequenceConfig {
    fn action_width(&self) -> usize {
        match self.action {
            ActionInput::Token { .. } => 0,
            ActionInput::Feature { width } => width,
        }
    }

    /// Condition tokens per frame `K`.
    pub(crate) fn conditions(&self) -> usize {
        let action = usize::from(matches!(self.action, ActionInput::Token { .. }));
        action + self.proprio.tokens() + usize::from(self.camera)
    }

    /// Width `D` of the tokens inside.
    pub(crate) fn inner_width(&self) -> usize {
        self.width + self.proprio.feature_width() + self.action_width()
    }

    pub(crate) fn init(&self, device: &Device) -> SequencePredictor {
        let width = self.inner_width();
        let layer = |inputs: usize, outputs: usize| LinearConfig::new(inputs, outputs).init(device);
        let block = BlockConfig {
            width,
            heads: self.heads,
            hidden: 4 * width,
            epsilon: EPSILON,
            layer_scale: false,
        };
        let action_encoder = match self.action {
            ActionInput::Token { dim } => Some(layer(dim, width)),
            ActionInput::Feature { .. } => None,
        };
        let proprio_encoder = match self.proprio {
            ProprioInput::RawToken { dim } => Some(layer(dim, width)),
            _ => None,
        };
        let head = width / self.heads;
        let (frames, variant) = (self.frames, self.rope_variant);
        SequencePredictor {
            predictor_embed: layer(self.encoder_width, self.width),
            action_encoder,
            proprio_encoder,
            extrinsics_encoder: self.camera.then(|| layer(CAMERA, width)),
            predictor_blocks: (0..self.depth).map(|_| block.init(device)).collect(),
            predictor_norm: LayerNorm::new(width, EPSILON, device),
            predictor_proj: layer(self.width, self.encoder_width),
            tokens: FrameTokens::new(self.grid, self.conditions(), head, variant, frames),
            config: self.clone(),
        }
    }
}

/// # Shapes
/// - state: visual `[B, T, N, De]`; proprio by [`ProprioInput`], with the camera behind the pose where there
///   is one; actions `[B, T, A]`, embedded for feature conditioning
/// - output: the same; proprio after the last norm, not projected
#[derive(Module, Debug)]
pub(crate) struct SequencePredictor {
    predictor_embed: Linear,
    action_encoder: Option<Linear>,
    proprio_encoder: Option<Linear>,
    extrinsics_encoder: Option<Linear>,
    predictor_blocks: Vec<Block>,
    predictor_norm: LayerNorm,
    predictor_proj: Linear,
    #[module(skip)]
    tokens: FrameTokens,
    #[module(skip)]
    config: SequenceConfig,
}

impl SequencePredictor {
    pub(crate) fn forward(&self, state: TokenState, actions: Tensor<3>) -> TokenState {
        let patches = linear(&self.predictor_embed, state.visual);
        let frames = patches.dims()[1];
        let (features, conditions) = self.place(state.proprio, actions.unsqueeze_dim(2));
        let mut x = self
            .tokens
            .join(conditions, with_features(patches, features));
        let (rope, mask) = (self.tokens.rope(frames), self.tokens.mask());
        for block in &self.predictor_blocks {
            x = block.forward(x, Some(&rope), Some(mask));
        }
        self.take_apart(self.tokens.frames(self.predictor_norm.forward(x)))
    }

    /// Conditions as channels of every token and as tokens, each in their order.
    fn place(
        &self,
        proprio: Option<Tensor<4>>,
        actions: Tensor<4>,
    ) -> (Vec<Tensor<4>>, Vec<Tensor<4>>) {
        let (mut features, mut conditions) = (Vec::new(), Vec::new());
        let mut camera = None;
        let proprio = proprio.map(|raw| {
            let Some(encoder) = &self.proprio_encoder else {
                return raw;
            };
            let pose = raw.dims()[3] - if self.config.camera { CAMERA } else { 0 };
            camera = self
                .extrinsics_encoder
                .as_ref()
                .map(|encoder| linear(encoder, channels(raw.clone(), pose, pose + CAMERA)));
            linear(encoder, channels(raw, 0, pose))
        });
        match self.config.proprio {
            ProprioInput::None => {}
            ProprioInput::Feature { .. } => features.extend(proprio),
            ProprioInput::Token | ProprioInput::RawToken { .. } => conditions.extend(proprio),
        }
        match &self.action_encoder {
            Some(encoder) => conditions.insert(0, linear(encoder, actions)),
            None => features.push(actions),
        }
        conditions.extend(camera);
        (features, conditions)
    }

    fn take_apart(&self, frames: Tensor<4>) -> TokenState {
        let patches = self.tokens.patches(frames.clone());
        let width = self.config.width;
        let proprio = match self.config.proprio {
            ProprioInput::None => None,
            ProprioInput::Feature { width: more } => {
                Some(channels(patches.clone(), width, width + more))
            }
            ProprioInput::Token | ProprioInput::RawToken { .. } => {
                let at = usize::from(self.action_encoder.is_some());
                Some(frames.slice_dim(2, at..at + 1))
            }
        };
        TokenState {
            visual: linear(&self.predictor_proj, channels(patches, 0, width)),
            proprio,
        }
    }
}

/// Our key for one of a released file, below `predictor.`. What the public file calls `state` is proprio
/// everywhere else; it also holds a camera encoder that its model does not use.
pub(super) fn model_key(key: &str, camera: bool) -> Option<String> {
    if !camera && key.starts_with("extrinsics_encoder.") {
        return None;
    }
    Some(match key.strip_prefix("state_encoder.") {
        Some(rest) => format!("proprio_encoder.{rest}"),
        None => key.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ACTION_DIM, ENCODER_WIDTH, GRID, Input, assert_causal, sized};
    use super::super::token_world_model::PredictorConfig;
    use super::*;

    const TOKEN: ActionInput = ActionInput::Token { dim: ACTION_DIM };

    fn config(action: ActionInput, proprio: ProprioInput, camera: bool) -> PredictorConfig {
        PredictorConfig::Sequence(SequenceConfig {
            grid: GRID,
            frames: 2,
            encoder_width: ENCODER_WIDTH,
            width: 20,
            depth: 2,
            heads: 1,
            action,
            proprio,
            camera,
            rope_variant: Variant::VjepaCompat,
        })
    }

    #[test]
    fn later_frames_do_not_reach_back_with_one_two_or_three_condition_tokens() {
        assert_causal(&sized(config(TOKEN, ProprioInput::None, false), 0));
        let pose = ProprioInput::RawToken { dim: 7 };
        assert_causal(&sized(config(TOKEN, pose, false), 7));
        assert_causal(&sized(config(TOKEN, pose, true), 7 + CAMERA));
    }

    #[test]
    fn later_frames_do_not_reach_back_with_feature_conditioning() {
        let action = ActionInput::Feature { width: 5 };
        let proprio = ProprioInput::Feature { width: 3 };
        assert_causal(&sized(config(action, ProprioInput::None, false), 0));
        assert_causal(&sized(config(action, proprio, false), 3));
    }

    #[test]
    fn the_camera_is_a_token_of_its_own() {
        let pose = ProprioInput::RawToken { dim: 7 };
        let model = sized(config(TOKEN, pose, true), 7 + CAMERA);
        let input = Input::random(&model, 2);
        let [batch, frames, width] = input.proprio.dims();
        let turned = input.proprio.clone().slice_assign(
            [0..batch, 0..frames, 7..width],
            Tensor::zeros([batch, frames, CAMERA], &input.proprio.device()),
        );
        let changed = Input {
            proprio: turned,
            ..input.clone()
        };
        let (before, after) = (input.predict(&model), changed.predict(&model));
        assert_ne!(before.visual.into_data(), after.visual.into_data());
        let pose = before.proprio.map(|p| p.dims());
        assert_eq!(
            pose,
            Some([batch, frames, 1, 20]),
            "the token that came out"
        );
    }
}
