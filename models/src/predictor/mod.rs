//! Latent predictors.
//!
//! Token-grid models share one seam, [`TokenModel`]: encoders and predictors between a frozen image encoder and
//! a planner or a loss. Slot `t` of an output predicts frame `t + 1` (models.md section 2). Three predictors
//! are behind it, each in its file, and [`token_world_model::TokenWorldModel`] holds one of them with the
//! encoders of actions and proprio that live outside of it. [`dino_wm_original`] is the older model that
//! trains on tokens it puts together itself.

pub(crate) mod adaln;
pub(crate) mod adaln_time;
pub(crate) mod cost;
pub(crate) mod dino_wm_original;
pub(crate) mod feature;
mod frame_tokens;
pub(crate) mod residual_mlp;
pub(crate) mod sequence;
mod sincos;
pub(crate) mod step_embedding;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod token_world_model;
pub(crate) mod unroll;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Patches of a frame; they are numbered row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grid {
    pub rows: usize,
    pub columns: usize,
}

impl Grid {
    /// Tokens per frame `N`.
    pub(crate) fn tokens(self) -> usize {
        self.rows * self.columns
    }
}

/// How a predictor takes proprio.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProprioInput {
    /// Not at all.
    #[default]
    None,
    /// As `width` more channels of every token, embedded outside of the predictor.
    Feature { width: usize },
    /// As one more token per frame, embedded outside of the predictor to its width.
    Token,
    /// As one more token per frame, which the predictor embeds from `dim` numbers.
    RawToken { dim: usize },
}

impl ProprioInput {
    /// Channels that it adds to every token.
    pub(crate) fn feature_width(self) -> usize {
        match self {
            Self::Feature { width } => width,
            Self::None | Self::Token | Self::RawToken { .. } => 0,
        }
    }

    /// Tokens that it adds to every frame.
    pub(crate) fn tokens(self) -> usize {
        usize::from(matches!(self, Self::Token | Self::RawToken { .. }))
    }
}

/// What a token-grid model holds of `T` frames.
#[derive(Debug, Clone)]
pub(crate) struct TokenState {
    /// Visual tokens, `[B, T, N, De]`.
    pub visual: Tensor<4>,
    /// Proprio: features of every token `[B, T, N, Pe]` where proprio is embedded beside the tokens, one
    /// token per frame `[B, T, 1, D]` where it is a token of its own, raw poses `[B, T, 1, P]` where the
    /// predictor embeds them itself (its prediction is then the token that came out, which no predictor
    /// takes back); `None` for models without.
    pub proprio: Option<Tensor<4>>,
}

impl TokenState {
    /// Number of frames `T`.
    pub(crate) fn frames(&self) -> usize {
        self.visual.dims()[1]
    }

    /// Frames `from..to`.
    pub(crate) fn slice(&self, from: usize, to: usize) -> Self {
        Self {
            visual: self.visual.clone().slice_dim(1, from..to),
            proprio: self.proprio.clone().map(|p| p.slice_dim(1, from..to)),
        }
    }

    /// The frames of `self` and then those of `later`.
    pub(crate) fn then(self, later: Self) -> Self {
        let proprio = self.proprio.zip(later.proprio);
        Self {
            visual: Tensor::cat(vec![self.visual, later.visual], 1),
            proprio: proprio.map(|(a, b)| Tensor::cat(vec![a, b], 1)),
        }
    }

    /// All frames of `parts`, one after the other.
    ///
    /// # Panics
    /// When there are none.
    pub(crate) fn concat(parts: &[Self]) -> Self {
        let visual = parts.iter().map(|part| part.visual.clone()).collect();
        let proprio: Vec<_> = parts
            .iter()
            .filter_map(|part| part.proprio.clone())
            .collect();
        Self {
            visual: Tensor::cat(visual, 1),
            proprio: (!proprio.is_empty()).then(|| Tensor::cat(proprio, 1)),
        }
    }

    /// The same numbers, cut off from the graph that made them.
    pub(crate) fn detach(self) -> Self {
        Self {
            visual: self.visual.detach(),
            proprio: self.proprio.map(Tensor::detach),
        }
    }
}

/// A token-grid world model without its image encoder.
pub(crate) trait TokenModel {
    /// Proprio as the predictor takes it beside the tokens, from normalised values `[B, T, P]`; `None` for
    /// models without proprio.
    fn embed_proprio(&self, proprio: Tensor<3>) -> Option<Tensor<4>>;

    /// Predictions of the next frame from every frame and all before it.
    ///
    /// `state` holds `T` frames, `actions` the normalised action block of each, `[B, T, A]`; slot `t` of the
    /// output predicts frame `t + 1`.
    fn predict(&self, state: TokenState, actions: Tensor<3>) -> TokenState;
}
