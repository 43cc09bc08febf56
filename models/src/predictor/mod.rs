//! Latent predictors.
//!
//! Token-grid models share one seam, [`TokenModel`]: encoders and predictors between a frozen image encoder and
//! a planner or a loss. Slot `t` of an output predicts frame `t + 1` (models.md section 2).

pub(crate) mod residual_mlp;

use burn::tensor::Tensor;

/// What a token-grid model holds of `T` frames.
#[derive(Debug, Clone)]
pub(crate) struct TokenState {
    /// Visual tokens, `[B, T, N, De]`.
    pub visual: Tensor<4>,
    /// Proprio for every token: features `[B, T, N, Pe]` where proprio is embedded beside the tokens, raw
    /// poses `[B, T, 1, P]` where the predictor embeds them itself; `None` for models without.
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
