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
        let linear =
            |inputs: usize, outputs: usize| LinearConfig::new(inputs, outputs).init(device);
        let block = BlockConfig {
            width,
            heads: self.heads,
            hidden: 4 * width,
            epsilon: EPSILON,
            layer_scale: false,
        };
        let action_encoder = match self.action {
            ActionInput::Token { dim } => Some(linear(dim, width)),
            ActionInput::Feature { .. } => None,
        };
        let proprio_encoder = match self.proprio {
            ProprioInput::RawToken { dim } => Some(linear(dim, width)),
            _ => None,
        };
        let head = width / self.heads;
        let (frames, variant) = (self.frames, self.rope_variant);
        SequencePredictor {
            predictor_embed: linear(self.encoder_width, self.width),
            action_encoder,
            proprio_encoder,
            extrinsics_encoder: self.camera.then(|| linear(CAMERA, width)),
            predictor_blocks: (0..self.depth).map(|_| block.init(device)).collect(),
            predictor_norm: LayerNorm::new(width, EPSILON, device),
            predictor_proj: linear(self.width, self.encoder_width),
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
        let patches = self.predictor_embed.forward(state.visual);
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
                .map(|encoder| encoder.forward(channels(raw.clone(), pose, pose + CAMERA)));
            encoder.forward(channels(raw, 0, pose))
        });
        match self.config.proprio {
            ProprioInput::None => {}
            ProprioInput::Feature { .. } => features.extend(proprio),
            ProprioInput::Token | ProprioInput::RawToken { .. } => conditions.extend(proprio),
        }
        match &self.action_encoder {
            Some(encoder) => conditions.insert(0, encoder.forward(actions)),
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
            visual: self.predictor_proj.forward(channels(patches, 0, width)),
            proprio,
        }
    }
}
