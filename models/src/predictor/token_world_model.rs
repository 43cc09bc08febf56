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
use super::sequence::{self, ActionInput, SequenceConfig, SequencePredictor};
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

    /// Width `De` of the tokens.
    pub(crate) fn encoder_width(&self) -> usize {
        match &self.predictor {
            PredictorConfig::Feature(config) => config.encoder_width,
            PredictorConfig::Sequence(config) => config.encoder_width,
            PredictorConfig::AdaLn(config) => config.encoder_width,
        }
    }

    /// Rows and columns of the proprio of a frame as the predictor takes it; zeros without.
    pub(crate) fn proprio_shape(&self) -> [usize; 2] {
        match self.proprio() {
            ProprioInput::None => [0, 0],
            ProprioInput::Feature { width } => [self.grid().tokens(), width],
            ProprioInput::Token => [1, self.inner_width()],
            ProprioInput::RawToken { .. } => [1, self.proprio_dim],
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
        let mut weights = file
            .without_wrapper()
            .rename(|key| model_key(key, &self.config.predictor));
        for encoder in ["action_encoder", "proprio_encoder"] {
            squeeze(&mut weights, encoder);
        }
        fill("token world model", self, weights, key)
    }

    /// Whether a file may have `key` although [`Self::load`] has no place for it.
    pub(crate) fn leaves_out(&self, key: &str) -> bool {
        model_key(&key.replace("module.", ""), &self.config.predictor).is_none()
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
fn model_key(key: &str, predictor: &PredictorConfig) -> Option<String> {
    let (section, inner) = key.split_once('.').unwrap_or((key, ""));
    if TRAINING_STATE.contains(&section) {
        return None;
    }
    if section != "predictor" {
        return Some(key.to_string());
    }
    match predictor {
        PredictorConfig::Feature(_) if feature::is_mask_buffer(inner) => None,
        PredictorConfig::Sequence(config) => sequence::model_key(inner, config.camera),
        PredictorConfig::Feature(_) | PredictorConfig::AdaLn(_) => Some(inner.to_string()),
    }
    .map(|inner| format!("predictor.{inner}"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::layer::rope::Variant;
    use crate::weights::Array;
    use crate::weights::check::testing::{folder, torch};
    use crate::weights::import::{MODELS, find_model};

    const GRID: Grid = Grid {
        rows: 16,
        columns: 16,
    };

    /// A model, and the parameters of its predictor and outer encoders (models.md sections 2.2, 2.4 and 2.5).
    struct Released {
        id: &'static str,
        config: TokenWorldModelConfig,
        predictor: usize,
        action_encoder: usize,
        proprio_encoder: usize,
    }

    fn adaln(
        encoder_width: usize,
        depth: usize,
        action_dim: usize,
        proprio: usize,
    ) -> PredictorConfig {
        PredictorConfig::AdaLn(AdaLnConfig {
            grid: GRID,
            frames: 4,
            encoder_width,
            width: encoder_width,
            depth,
            heads: 16,
            action_dim,
            proprio: match proprio {
                0 => ProprioInput::None,
                width => ProprioInput::Feature { width },
            },
            rope_variant: Variant::VjepaCompat,
            init_scale: 10.0,
        })
    }

    fn vjepa2_ac(proprio: ProprioInput, camera: bool) -> PredictorConfig {
        PredictorConfig::Sequence(SequenceConfig {
            grid: GRID,
            frames: 8,
            encoder_width: 1408,
            width: 1024,
            depth: 24,
            heads: 16,
            action: ActionInput::Token { dim: 7 },
            proprio,
            camera,
            rope_variant: Variant::VjepaCompat,
        })
    }

    /// The network of a model that `weights import` knows.
    fn imported(id: &str) -> TokenWorldModelConfig {
        let sizes = (find_model(id).unwrap().sizes)();
        let token = sizes.token(sizes.encoder(PathBuf::new()));
        let network = token.network(sizes.tokens(), &sizes.shape(), sizes.horizon());
        network.unwrap()
    }

    #[rustfmt::skip]
    fn released() -> Vec<Released> {
        let row = |id, config, [predictor, action_encoder, proprio_encoder]: [usize; 3]| Released {
            id, config, predictor, action_encoder, proprio_encoder,
        };
        let known = |id, counts| row(id, imported(id), counts);
        let other = |predictor, action_dim, proprio_dim| TokenWorldModelConfig {
            predictor, action_dim, proprio_dim, normalize_reps: false,
        };
        let pose = ProprioInput::RawToken { dim: 7 };
        vec![
            known("jepa_wm_wall", [17_626_480, 0, 48]),
            known("jepa_wm_pointmaze", [17_626_480, 0, 80]),
            known("jepa_wm_pusht", [17_626_480, 0, 80]),
            known("jepa_wm_metaworld", [17_630_480, 0, 80]),
            known("jepa_wm_droid", [228_835_328, 0, 0]),
            known("dino_wm_wall", [20_298_744, 110, 30]),
            known("dino_wm_pointmaze", [20_800_884, 110, 100]),
            known("dino_wm_pusht", [20_800_884, 110, 100]),
            known("dino_wm_metaworld", [21_303_024, 420, 100]),
            known("dino_wm_droid", [19_796_604, 80, 0]),
            known("vjepa2_ac_droid", [305_205_632, 0, 0]),
            known("vjepa2_ac_oss", [305_213_824, 0, 0]),
            known("vjepa2-ac-vitg", [305_213_824, 0, 0]),
            row("simulator without proprio", other(adaln(384, 6, 10, 0), 10, 0), [16_269_696, 0, 0]),
            row("with the camera", other(vjepa2_ac(pose, true), 7, 13), [305_220_992, 0, 0]),
        ]
    }

    #[test]
    fn released_models_have_the_published_numbers_of_parameters() {
        for row in released() {
            let model = row.config.init(&Device::flex()).unwrap();
            let encoder = |encoder: &Option<StepEmbedding>| {
                encoder.as_ref().map_or(0, StepEmbedding::num_params)
            };
            let counts = [
                model.predictor.num_params(),
                encoder(&model.action_encoder),
                encoder(&model.proprio_encoder),
            ];
            let expected = [row.predictor, row.action_encoder, row.proprio_encoder];
            assert_eq!(counts, expected, "{}", row.id);
        }
        let ids: Vec<&str> = released().iter().map(|row| row.id).collect();
        assert!(MODELS.iter().all(|entry| ids.contains(&entry.name)));
    }

    /// The model and the file of a case.
    fn case(name: &str) -> (TokenWorldModel, Checkpoint) {
        let case = crate::weights::check::Case::open(&folder(name), &torch).unwrap();
        let model = crate::weights::check::predictor::model(&case, &Device::flex()).unwrap();
        (model, case.arrays("model.pth.tar").unwrap())
    }

    fn one_number() -> Array {
        Array::new(vec![1], vec![0.5]).unwrap()
    }

    #[test]
    fn a_file_without_its_mask_buffers_loads_too() {
        let (model, file) = case("predictor_dinowm_proprio");
        let mask = "predictor.module.transformer.layers.1.0.bias";
        assert!(file.get(mask).is_some());
        let without = file.rename(|key| {
            (!key.ends_with(".0.bias") || key.contains("net") || key.contains("to_out"))
                .then(|| key.to_string())
        });
        assert!(without.get(mask).is_none());
        model.load(without).unwrap();
    }

    #[test]
    fn an_unused_camera_encoder_is_left_aside_by_the_predictor_that_can_have_one() {
        let camera = "predictor.module.extrinsics_encoder.weight";
        let (model, mut file) = case("predictor_vj2ac_k2");
        file.insert(camera, one_number());
        model.load(file).unwrap();
        let (model, mut file) = case("predictor_adaln_proprio");
        file.insert(camera, one_number());
        let error = model.load(file).unwrap_err().to_string();
        assert!(
            error.contains("1 unexpected [predictor.extrinsics_encoder.weight]"),
            "{error}"
        );
    }

    #[test]
    fn training_state_is_left_aside_and_anything_else_unknown_is_not() {
        let (model, mut file) = case("predictor_adaln_proprio");
        for key in ["epoch", "opt.state.0.exp_avg", "scaler.scale"] {
            file.insert(key, one_number());
        }
        model.clone().load(file.clone()).unwrap();
        file.insert("heads.module.decoder.weight", one_number());
        let error = model.load(file).unwrap_err().to_string();
        assert!(
            error.contains("1 unexpected [heads.decoder.weight]"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_lacks_a_part_is_refused_with_every_key() {
        let (model, file) = case("predictor_adaln_proprio");
        let partial =
            file.rename(|key| (!key.starts_with("proprio_encoder")).then(|| key.to_string()));
        let error = model.load(partial).unwrap_err().to_string();
        assert!(
            error.contains("proprio_encoder.patch_embed.weight"),
            "{error}"
        );
        assert!(
            error.contains("2 missing") && error.contains("0 unexpected"),
            "{error}"
        );
    }

    #[test]
    fn the_weights_of_another_size_are_refused_with_both_shapes() {
        let (model, mut file) = case("predictor_dinowm_proprio");
        let wide = Array::new(vec![5, 11, 1], vec![0.0; 55]).unwrap();
        file.insert("action_encoder.module.patch_embed.weight", wide);
        let error = model.load(file).unwrap_err().to_string();
        assert!(
            error.contains("[5, 11] in the file, [5, 10] in the model"),
            "{error}"
        );
    }

    #[test]
    fn sizes_that_do_not_fit_each_other_are_refused() {
        let mut config = released().remove(0).config;
        config.proprio_dim = 0;
        assert!(config.init(&Device::flex()).is_err());
        let odd = TokenWorldModelConfig {
            predictor: adaln(384, 6, 10, 15),
            action_dim: 10,
            proprio_dim: 2,
            normalize_reps: false,
        };
        let error = odd.init(&Device::flex()).unwrap_err().to_string();
        assert!(error.contains("must divide the inner width 399"), "{error}");
    }
}
