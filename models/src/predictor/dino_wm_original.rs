//! The world model of the DINO-WM release (arXiv 2411.04983), which differs from its re-implementation in
//! JEPA-WMs (models.md sections 2.1 and 4.1).
//!
//! ```text
//! channels:  token = [visual | proprio repeated | action repeated]                    N tokens of a frame
//! tokens:    visual tokens, then one of proprio, then one of the action               N + 2
//! loss:      one mean square over all but the action, so proprio weighs by its share; targets detached
//! ```
//!
//! Its rollout feeds whole predicted tokens back, with the action part overwritten by the next action, and
//! sees the last `history` frames.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::Grid;
use super::feature::{self, FeatureConfig, FeaturePredictor, PositionCode};
use super::step_embedding::{StepEmbedding, squeeze};
use crate::weights::Checkpoint;
use crate::weights::fill::fill;
use crate::{Error, Result};

/// Where proprio and action go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Concat {
    /// Two more tokens per frame (`concat_dim` 0).
    Tokens,
    /// More channels of every token (`concat_dim` 1).
    Channels,
}

/// Sizes of a [`DinoWmOriginal`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DinoWmOriginalConfig {
    pub concat: Concat,
    /// Frames that the predictor sees.
    pub history: usize,
    /// Frames from a source to its target.
    pub ahead: usize,
    /// Visual tokens per frame `N`.
    pub tokens: usize,
    /// Width `De` of visual tokens.
    pub encoder_width: usize,
    pub proprio_dim: usize,
    pub action_dim: usize,
    /// Widths of the embeddings, and how often each stands in a token.
    pub proprio_width: usize,
    pub proprio_repeat: usize,
    pub action_width: usize,
    pub action_repeat: usize,
    pub depth: usize,
    pub heads: usize,
    pub head_width: usize,
    pub hidden: usize,
}

impl DinoWmOriginalConfig {
    /// Channels of a token that are visual, proprio and action.
    fn channels(&self) -> [usize; 3] {
        match self.concat {
            Concat::Tokens => [self.encoder_width, 0, 0],
            Concat::Channels => [
                self.encoder_width,
                self.proprio_width * self.proprio_repeat,
                self.action_width * self.action_repeat,
            ],
        }
    }

    /// A model of these sizes whose weights are not drawn yet.
    ///
    /// # Errors
    /// [`Error::Config`] when tokens of proprio or action would not be as wide as the visual ones.
    pub(crate) fn init(&self, device: &Device) -> Result<DinoWmOriginal> {
        let narrow = [self.proprio_width, self.action_width] != [self.encoder_width; 2];
        if self.concat == Concat::Tokens && narrow {
            return Err(Error::Config {
                key: "concat",
                detail: format!(
                    "`tokens` needs embeddings of {} channels, not {} and {}",
                    self.encoder_width, self.proprio_width, self.action_width
                ),
            });
        }
        let [encoder_width, proprio_width, action_width] = self.channels();
        let predictor = FeatureConfig {
            grid: Grid {
                rows: 1,
                columns: self.tokens,
            },
            extra_tokens: if self.concat == Concat::Tokens { 2 } else { 0 },
            frames: self.history,
            encoder_width,
            proprio_width,
            action_width,
            depth: self.depth,
            heads: self.heads,
            head_width: self.head_width,
            hidden: self.hidden,
            position: PositionCode::Learned,
        };
        Ok(DinoWmOriginal {
            predictor: predictor.init(device),
            action_encoder: StepEmbedding::new(self.action_dim, self.action_width, device),
            proprio_encoder: StepEmbedding::new(self.proprio_dim, self.proprio_width, device),
            config: self.clone(),
        })
    }
}

/// The terms of the training loss; the last three are reported only.
#[derive(Debug, Clone)]
pub(crate) struct OriginalLoss {
    /// What is trained on: the mean square over visual and proprio together.
    pub total: Tensor<1>,
    pub visual: Tensor<1>,
    pub proprio: Tensor<1>,
}

/// The model without its image encoder and decoder.
#[derive(Module, Debug)]
pub(crate) struct DinoWmOriginal {
    predictor: FeaturePredictor,
    action_encoder: StepEmbedding,
    proprio_encoder: StepEmbedding,
    #[module(skip)]
    config: DinoWmOriginalConfig,
}

impl DinoWmOriginal {
    /// The same model with the weights of a file of `predictor`, `action_encoder` and `proprio_encoder`.
    ///
    /// # Errors
    /// [`Error::Keys`] that lists the keys that are missing, unexpected or of another shape.
    pub(crate) fn load(self, file: Checkpoint) -> Result<Self> {
        let mut weights = file.rename(|key| {
            let mask = key
                .strip_prefix("predictor.")
                .is_some_and(feature::is_mask_buffer);
            (!mask).then(|| key.to_string())
        });
        for encoder in ["action_encoder", "proprio_encoder"] {
            squeeze(&mut weights, encoder);
        }
        fill("original DINO-WM", self, weights, key)
    }

    /// Everything of `T` frames as tokens.
    ///
    /// # Shapes
    /// - `visual`: `[B, T, N, De]`; `proprio`: `[B, T, P]`; `actions`: `[B, T, A]`
    /// - output: `[B, T, n, D]`
    pub(crate) fn encode(
        &self,
        visual: Tensor<4>,
        proprio: Tensor<3>,
        actions: Tensor<3>,
    ) -> Tensor<4> {
        let proprio = self.proprio_encoder.forward(proprio).unsqueeze_dim::<4>(2);
        let actions = self.action_encoder.forward(actions).unsqueeze_dim::<4>(2);
        match self.config.concat {
            Concat::Tokens => Tensor::cat(vec![visual, proprio, actions], 2),
            Concat::Channels => {
                let proprio = proprio.repeat_dim(3, self.config.proprio_repeat);
                let actions = actions.repeat_dim(3, self.config.action_repeat);
                super::frame_tokens::with_features(visual, vec![proprio, actions])
            }
        }
    }

    /// Predictions of the frames after `T <= history` frames of tokens.
    pub(crate) fn predict(&self, tokens: Tensor<4>) -> Tensor<4> {
        self.predictor.transform(tokens)
    }

    /// The visual part of tokens, `[B, T, N, De]`.
    fn visual(&self, tokens: Tensor<4>) -> Tensor<4> {
        match self.config.concat {
            Concat::Tokens => tokens.slice_dim(2, 0..self.config.tokens),
            Concat::Channels => tokens.slice_dim(3, 0..self.config.encoder_width),
        }
    }

    /// The proprio part of tokens, all its repetitions.
    fn proprio(&self, tokens: Tensor<4>) -> Tensor<4> {
        let count = self.config.tokens;
        let [visual, proprio, _] = self.config.channels();
        match self.config.concat {
            Concat::Tokens => tokens.slice_dim(2, count..count + 1),
            Concat::Channels => tokens.slice_dim(3, visual..visual + proprio),
        }
    }

    /// All but the action.
    fn without_action(&self, tokens: Tensor<4>) -> Tensor<4> {
        let [visual, proprio, _] = self.config.channels();
        match self.config.concat {
            Concat::Tokens => tokens.slice_dim(2, 0..=self.config.tokens),
            Concat::Channels => tokens.slice_dim(3, 0..visual + proprio),
        }
    }

    /// Predictions from the first `history` of `history + ahead` frames, and their loss.
    pub(crate) fn loss(
        &self,
        visual: Tensor<4>,
        proprio: Tensor<3>,
        actions: Tensor<3>,
    ) -> (Tensor<4>, OriginalLoss) {
        let (history, ahead) = (self.config.history, self.config.ahead);
        let tokens = self.encode(visual, proprio, actions);
        let predicted = self.predict(tokens.clone().slice_dim(1, 0..history));
        let target = tokens.slice_dim(1, ahead..ahead + history).detach();
        let term = |part: &dyn Fn(Tensor<4>) -> Tensor<4>| {
            (part(predicted.clone()) - part(target.clone()))
                .square()
                .mean()
        };
        let loss = OriginalLoss {
            total: term(&|tokens| self.without_action(tokens)),
            visual: term(&|tokens| self.visual(tokens)),
            proprio: term(&|tokens| self.proprio(tokens)),
        };
        (predicted, loss)
    }

    /// The given frames and one predicted frame per further action, then one more.
    ///
    /// # Shapes
    /// - `visual`: `[B, K, N, De]`; `proprio`: `[B, K, P]`; `actions`: `[B, H, A]`, `H >= K`, the first `K` taken
    ///   in the given frames
    /// - output: visual `[B, H + 1, N, De]`, proprio `[B, H + 1, Pe]`, that of the first token
    pub(crate) fn rollout(
        &self,
        visual: Tensor<4>,
        proprio: Tensor<3>,
        actions: &Tensor<3>,
    ) -> (Tensor<4>, Tensor<3>) {
        let [batch, horizon, _] = actions.dims();
        let given = visual.dims()[1];
        let taken = actions.clone().slice_dim(1, 0..given);
        let mut tokens = self.encode(visual, proprio, taken);
        for step in given..horizon {
            let action = actions.clone().slice_dim(1, step..step + 1);
            let next = self.with_action(self.next(&tokens), action);
            tokens = Tensor::cat(vec![tokens, next], 1);
        }
        let next = self.next(&tokens);
        let tokens = Tensor::cat(vec![tokens, next], 1);
        let first = self.proprio(tokens.clone()).slice_dim(2, 0..1);
        let width = self.config.proprio_width;
        let proprio = first
            .slice_dim(3, 0..width)
            .reshape([batch, horizon + 1, width]);
        (self.visual(tokens), proprio)
    }

    /// The frame after the last one, from the last `history` frames.
    fn next(&self, tokens: &Tensor<4>) -> Tensor<4> {
        let frames = tokens.dims()[1];
        let first = frames.saturating_sub(self.config.history);
        let predicted = self.predict(tokens.clone().slice_dim(1, first..frames));
        predicted.slice_dim(1, frames - first - 1..frames - first)
    }

    /// One frame of tokens with another action in it.
    fn with_action(&self, frame: Tensor<4>, action: Tensor<3>) -> Tensor<4> {
        let action = self.action_encoder.forward(action).unsqueeze_dim::<4>(2);
        let kept = self.without_action(frame);
        match self.config.concat {
            Concat::Tokens => Tensor::cat(vec![kept, action], 2),
            Concat::Channels => {
                let action = action.repeat_dim(3, self.config.action_repeat);
                super::frame_tokens::with_features(kept, vec![action])
            }
        }
    }
}

/// The key in files of the parameter at `path`.
pub(crate) fn key(path: &str) -> String {
    match path.strip_prefix("predictor.") {
        Some(inner) => format!("predictor.{}", feature::key(inner)),
        None => path.to_string(),
    }
}
