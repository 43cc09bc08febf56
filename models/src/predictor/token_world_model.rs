//! A token-grid world model without its image encoder: a predictor, and the encoders of actions and proprio
//! that live outside of it (models.md sections 2 and 3).
//!
//! Released files are dicts of `predictor`, `action_encoder` and `proprio_encoder`, with `module.` in every
//! key, beside the state of the optimiser (section 2.5). [`TokenWorldModel::load`] takes them whole or not at
//! all.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::adaln::{self, AdaLnConfig, AdaLnPredictor};
use super::feature::{self, FeatureConfig, FeaturePredictor};
use super::sequence::{ActionInput, SequenceConfig, SequencePredictor};
use super::step_embedding::{StepEmbedding, squeeze};
use super::{Grid, ProprioInput, TokenModel, TokenState};
use crate::layer::init::{Draw, initialise_with};
use crate::layer::layer_norm::plain_norm;
use crate::weights::Checkpoint;
use crate::weights::fill::fill;
use crate::{Error, Result};

/// Added to the variance when representations are normalised (models.md section 1.7).
const NORMALIZE_EPSILON: f64 = 1e-5;

/// Entries of released files that belong to training.
const TRAINING_STATE: [&str; 3] = ["opt", "scaler", "epoch"];

/// Which predictor, with its sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PredictorConfig {
    /// DINO-WM's.
    Feature(FeatureConfig),
    /// V-JEPA-2-AC's.
    Sequence(SequenceConfig),
    /// That of the JEPA-WMs paper.
    AdaLn(AdaLnConfig),
}

/// Sizes of a [`TokenWorldModel`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenWorldModelConfig {
    pub predictor: PredictorConfig,
    /// Action block width `A`.
    pub action_dim: usize,
    /// Proprio width `P`; 0 without.
    pub proprio_dim: usize,
    /// Whether the tokens of the image encoder and those predicted go through a norm without parameters.
    pub normalize_reps: bool,
}

impl TokenWorldModelConfig {
    /// Patches of a frame.
    pub(crate) fn grid(&self) -> Grid {
        match &self.predictor {
            PredictorConfig::Feature(config) => config.grid,
            PredictorConfig::Sequence(config) => config.grid,
            PredictorConfig::AdaLn(config) => config.grid,
        }
    }

    fn proprio(&self) -> ProprioInput {
        match &self.predictor {
            PredictorConfig::Feature(config) if config.proprio_width == 0 => ProprioInput::None,
            PredictorConfig::Feature(config) => ProprioInput::Feature {
                width: config.proprio_width,
            },
            PredictorConfig::Sequence(config) => config.proprio,
            PredictorConfig::AdaLn(config) => config.proprio,
        }
    }

    /// Width of the tokens inside the predictor.
    fn inner_width(&self) -> usize {
        match &self.predictor {
            PredictorConfig::Feature(config) => config.inner_width(),
            PredictorConfig::Sequence(config) => config.inner_width(),
            PredictorConfig::AdaLn(config) => config.inner_width(),
        }
    }

    /// Width to which actions are embedded outside of the predictor, where they are.
    fn action_embedding(&self) -> Option<usize> {
        match &self.predictor {
            PredictorConfig::Feature(config) => Some(config.action_width),
            PredictorConfig::Sequence(config) => match config.action {
                ActionInput::Feature { width } => Some(width),
                ActionInput::Token { .. } => None,
            },
            PredictorConfig::AdaLn(_) => None,
        }
    }

    /// Width to which proprio is embedded outside of the predictor, where it is.
    fn proprio_embedding(&self) -> Option<usize> {
        match self.proprio() {
            ProprioInput::Feature { width } => Some(width),
            ProprioInput::Token => Some(self.inner_width()),
            ProprioInput::None | ProprioInput::RawToken { .. } => None,
        }
    }

    /// Checks the sizes that no type bounds.
    ///
    /// # Errors
    /// [`Error::Config`] that names the size.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |key, detail: String| Err(Error::Config { key, detail });
        let heads = match &self.predictor {
            PredictorConfig::Feature(_) => 1,
            PredictorConfig::Sequence(config) => config.heads,
            PredictorConfig::AdaLn(config) => config.heads,
        };
        let width = self.inner_width();
        if heads == 0 || !width.is_multiple_of(heads) || width == 0 {
            return wrong(
                "heads",
                format!("({heads}) must divide the inner width {width}"),
            );
        }
        if self.grid().tokens() == 0 {
            return wrong("grid", "has no patches".into());
        }
        if self.proprio() != ProprioInput::None && self.proprio_dim == 0 {
            return wrong(
                "proprio_dim",
                "is 0, but the predictor takes proprio".into(),
            );
        }
        Ok(())
    }

    /// A model of these sizes whose weights are not drawn yet.
    ///
    /// # Errors
    /// Errors of [`Self::check`].
    pub(crate) fn init(&self, device: &Device) -> Result<TokenWorldModel> {
        self.check()?;
        let predictor = match &self.predictor {
            PredictorConfig::Feature(config) => Predictor::Feature(config.init(device)),
            PredictorConfig::Sequence(config) => Predictor::Sequence(config.init(device)),
            PredictorConfig::AdaLn(config) => Predictor::AdaLn(config.init(device)),
        };
        let embedding = |inputs: usize, outputs: Option<usize>| {
            outputs.map(|outputs| StepEmbedding::new(inputs, outputs, device))
        };
        Ok(TokenWorldModel {
            predictor,
            action_encoder: embedding(self.action_dim, self.action_embedding()),
            proprio_encoder: embedding(self.proprio_dim, self.proprio_embedding()),
            config: self.clone(),
        })
    }

    /// How fresh values of the parameter at `path` are drawn: by the rules of its predictor, and as `PyTorch`
    /// does outside of it.
    fn draw(&self, path: &str) -> Draw {
        let Some((_, inner)) = inside_predictor(path) else {
            return Draw::Default;
        };
        match &self.predictor {
            PredictorConfig::Feature(_) => FeatureConfig::draw(inner),
            PredictorConfig::Sequence(_) => adaln::depth_scaled(inner),
            PredictorConfig::AdaLn(config) => config.draw(inner),
        }
    }
}

/// One of the predictors.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one per model")]
enum Predictor {
    Feature(FeaturePredictor),
    Sequence(SequencePredictor),
    AdaLn(AdaLnPredictor),
}

/// A predictor and its outer encoders.
#[derive(Module, Debug)]
pub(crate) struct TokenWorldModel {
    predictor: Predictor,
    action_encoder: Option<StepEmbedding>,
    proprio_encoder: Option<StepEmbedding>,
    #[module(skip)]
    config: TokenWorldModelConfig,
}

impl TokenWorldModel {
    /// Its sizes.
    pub(crate) fn config(&self) -> &TokenWorldModelConfig {
        &self.config
    }

    /// The same model with fresh weights (models.md sections 2.1 to 2.4).
    #[must_use]
    pub(crate) fn initialise(self, seed: u64) -> Self {
        let config = self.config.clone();
        initialise_with(self, seed, |path| config.draw(path))
    }

    /// The same model with the weights of a released file. Training state, the mask buffers of the DINO-WM
    /// predictor and the camera encoder of a model that does not use it are left aside; everything else has to
    /// be there, and nothing more.
    ///
    /// # Errors
    /// [`Error::Keys`] that lists the keys that are missing, unexpected or of another shape.
    pub(crate) fn load(self, file: Checkpoint) -> Result<Self> {
        let camera = match &self.config.predictor {
            PredictorConfig::Sequence(config) => config.camera,
            PredictorConfig::Feature(_) | PredictorConfig::AdaLn(_) => false,
        };
        let mut weights = file.without_wrapper().rename(|key| model_key(key, camera));
        for encoder in ["action_encoder", "proprio_encoder"] {
            squeeze(&mut weights, encoder);
        }
        fill("token world model", self, weights, key)
    }

    /// Actions as the predictor takes them, from normalised blocks.
    ///
    /// # Shapes
    /// - input `[B, T, A]`; output `[B, T, Ae]`, or the input where the predictor embeds actions itself
    pub(crate) fn embed_actions(&self, actions: Tensor<3>) -> Tensor<3> {
        match &self.action_encoder {
            Some(encoder) => encoder.forward(actions),
            None => actions,
        }
    }

    /// Proprio before it is spread over tokens.
    ///
    /// # Shapes
    /// - input `[B, T, P]`; output `[B, T, Pe]`, or the input where the predictor embeds proprio itself
    pub(crate) fn embed_proprio_steps(&self, proprio: Tensor<3>) -> Tensor<3> {
        match &self.proprio_encoder {
            Some(encoder) => encoder.forward(proprio),
            None => proprio,
        }
    }
}

impl TokenModel for TokenWorldModel {
    fn embed_proprio(&self, proprio: Tensor<3>) -> Option<Tensor<4>> {
        let kind = self.config.proprio();
        let steps = || self.embed_proprio_steps(proprio.clone()).unsqueeze_dim(2);
        match kind {
            ProprioInput::None => None,
            ProprioInput::Token | ProprioInput::RawToken { .. } => Some(steps()),
            ProprioInput::Feature { .. } => {
                Some(steps().repeat_dim(2, self.config.grid().tokens()))
            }
        }
    }

    fn predict(&self, state: TokenState, actions: Tensor<3>) -> TokenState {
        let actions = self.embed_actions(actions);
        let predicted = match &self.predictor {
            Predictor::Feature(predictor) => predictor.forward(state, actions),
            Predictor::Sequence(predictor) => predictor.forward(state, actions),
            Predictor::AdaLn(predictor) => predictor.forward(state, actions),
        };
        if self.config.normalize_reps {
            return TokenState {
                visual: plain_norm(predicted.visual, NORMALIZE_EPSILON),
                ..predicted
            };
        }
        predicted
    }
}

/// The predictor that holds the parameter at `path`, and the path inside of it.
fn inside_predictor(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("predictor.")?.split_once('.')
}

/// The key in released files of the parameter at `path`.
pub(crate) fn key(path: &str) -> String {
    let inner = match inside_predictor(path) {
        None => return path.to_string(),
        Some(("Feature", inner)) => feature::key(inner),
        Some(("AdaLn", inner)) => adaln::key(inner),
        Some((_, inner)) => inner.to_string(),
    };
    format!("predictor.{inner}")
}

/// Our key for one of a released file, already without `module.`; `None` for what the model has no place for
/// on purpose.
fn model_key(key: &str, camera: bool) -> Option<String> {
    let (section, inner) = key.split_once('.').unwrap_or((key, ""));
    if TRAINING_STATE.contains(&section) {
        return None;
    }
    if section != "predictor" {
        return Some(key.to_string());
    }
    if feature::is_mask_buffer(inner) || (!camera && inner.starts_with("extrinsics_encoder.")) {
        return None;
    }
    // What the public V-JEPA-2-AC file calls `state` is proprio everywhere else.
    match inner.strip_prefix("state_encoder.") {
        Some(rest) => Some(format!("predictor.proprio_encoder.{rest}")),
        None => Some(key.to_string()),
    }
}
