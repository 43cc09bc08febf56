//! What a training run is asked to do, in the form it is saved with the run.

use serde::{Deserialize, Deserializer, Serialize};

use super::views::Views;
use crate::ijepa::{self, IjepaConfig};
use crate::lejepa::{self, LejepaConfig};
use crate::lewm::LewmConfig;
use crate::pldm::PldmConfig;
use crate::policy::GcbcTokensConfig;
use crate::token::{EncoderChoice, TokenConfig};
use crate::world_models::WorldModelsConfig;
use crate::{Error, Result};

/// Optimisation settings (recipes.md section 4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// Names the random streams `init` and `data_order`.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Slices per step.
    pub batch: usize,
    /// Model steps `H` of a slice; the loss unrolls over all of them.
    pub horizon: usize,
    /// Parts that a batch is split into, one after the other through the network; their gradients are averaged. Saves
    /// memory. Losses over the batch, such as variances, are then over a part.
    pub accumulate: usize,
    /// Peak learning rate of `AdamW` (epsilon 1e-8).
    pub learning_rate: f64,
    /// How the rate goes on after the warm-up.
    pub schedule: Schedule,
    /// Share of the steps with a linearly rising rate, `[0, 1)`.
    pub warmup_fraction: f64,
    /// Rate that the warm-up rises from, as a share of the peak.
    pub start_fraction: f64,
    /// Share of the steps with a linearly falling rate, of the schedule `warmup-stable-decay`.
    pub anneal_fraction: f64,
    /// Rate of the last step, as a share of the peak.
    pub final_fraction: f64,
    /// Decay rates of the two moments of `AdamW`.
    pub betas: [f64; 2],
    /// Weight decay of matrices and kernels in the last step; biases and norms have none.
    pub weight_decay: f64,
    /// Weight decay before the first step, as a share of the last; a half cosine lies between.
    pub initial_decay_fraction: f64,
    /// Bound on the norm of the whole gradient; 0 is none.
    pub clip_norm: f64,
    /// Steps between validations; the last step always validates, and so does one whose model is kept.
    pub validate_every: u64,
    /// Slices of the validation split that are unrolled.
    pub validation_slices: usize,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Steps between lines of `metrics.jsonl`.
    pub log_every: u64,
    /// Steps between models that are kept to be evaluated, in `kept/step-N`; 0 keeps none. The paper's scores are means
    /// over the models of the last epochs.
    pub keep_every: u64,
    /// Kept models that stay, the last ones; 0 is all.
    pub keep_last: usize,
    /// Rare events that part of each batch is drawn from.
    pub crossing: Option<CrossingConfig>,
    /// Rows from one frame of a slice to the next, of a robot arm whose state is a pose: the action between them is then
    /// the change of pose, and nothing is normalised (DROID; datasets.md sections 9.5 and 9.6). 0 is off: frames are
    /// `frameskip` rows apart, and the actions of these rows are one block.
    #[serde(skip_serializing_if = "is_zero")]
    pub pose_stride: usize,
}

/// Whether a setting is off; such a one is not written, so that configurations from before it keep their hash.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

/// Draws a share of each batch from slices in which a field crosses a value, chosen by what the data
/// holds and not by the loss. On Wall the event is the passage through the door, which every evaluation
/// episode needs and one trajectory in seven has (recipes.md section 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossingConfig {
    /// Column of the step table.
    pub field: String,
    /// Dimension of the column.
    pub dimension: usize,
    /// The value that is crossed.
    pub value: f64,
    /// Share of each batch, `[0, 1]`; the rest is drawn uniformly.
    pub share: f64,
}

/// Learning rate over the steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// A linear warm-up, then half a cosine.
    #[default]
    Cosine,
    /// A linear warm-up, a plateau, and a line down over the last `anneal_fraction` of the steps (V-JEPA-2-AC; models.md
    /// section 5.1).
    WarmupStableDecay,
}

/// Decay rates of the moments of `AdamW`, as in `PyTorch`.
const BETAS: [f64; 2] = [0.9, 0.999];

impl TrainingConfig {
    /// Settings of the JEPA-WMs (models.md section 5.1), with batches that two cores take.
    fn token_grid() -> Self {
        Self {
            steps: 3000,
            batch: 64,
            horizon: 3,
            learning_rate: 5e-4,
            warmup_fraction: 0.0,
            final_fraction: 1.0,
            weight_decay: 1e-6,
            initial_decay_fraction: 0.1,
            clip_norm: 1.0,
            ..Self::default()
        }
    }
}

impl TrainingConfig {
    /// Settings of DINO-WM's authors (models.md section 5.3): no clipping, no schedule, `PyTorch`'s decay.
    fn dino_wm_original() -> Self {
        Self {
            batch: 32,
            weight_decay: 0.01,
            initial_decay_fraction: 1.0,
            clip_norm: 0.0,
            ..Self::token_grid()
        }
    }

    /// Settings of World Models: Adam without decay.
    fn world_models() -> Self {
        Self {
            steps: 2000,
            batch: 16,
            learning_rate: 1e-3,
            weight_decay: 0.0,
            clip_norm: 10.0,
            ..Self::default()
        }
    }

    /// Settings of the policy; its slices are nearly whole episodes of Wall, so that goals as far as those of its task are
    /// seen.
    fn gcbc_tokens() -> Self {
        Self {
            steps: 1400,
            batch: 32,
            horizon: 9,
            learning_rate: 3e-3,
            warmup_fraction: 0.05,
            final_fraction: 0.0,
            weight_decay: 1e-3,
            clip_norm: 1.0,
            validate_every: 200,
            ..Self::default()
        }
    }

    /// Settings of LeWM (models.md sections 7.2 and 7.5), with batches that two cores take.
    fn lewm() -> Self {
        Self {
            steps: 4000,
            batch: 64,
            horizon: 3,
            learning_rate: 1e-3,
            warmup_fraction: 0.01,
            final_fraction: 0.0,
            weight_decay: 1e-3,
            clip_norm: 1.0,
            ..Self::default()
        }
    }
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            steps: 1600,
            batch: 32,
            horizon: 6,
            accumulate: 1,
            learning_rate: 3e-3,
            schedule: Schedule::Cosine,
            warmup_fraction: 0.1,
            start_fraction: 0.0,
            anneal_fraction: 0.0,
            final_fraction: 0.01,
            betas: BETAS,
            weight_decay: 1e-5,
            initial_decay_fraction: 1.0,
            clip_norm: 2.0,
            validate_every: 400,
            validation_slices: 128,
            checkpoint_every: 100,
            log_every: 10,
            keep_every: 0,
            keep_last: 0,
            crossing: None,
            pose_stride: 0,
        }
    }
}

/// Settings of a training, with those of `defaults` for what is not said.
pub(crate) fn over_defaults<'de, D: Deserializer<'de>>(
    given: D,
    defaults: &TrainingConfig,
) -> std::result::Result<TrainingConfig, D::Error> {
    use serde::de::Error;

    let given = serde_json::Map::deserialize(given)?;
    let mut whole = serde_json::to_value(defaults).map_err(D::Error::custom)?;
    if let Some(whole) = whole.as_object_mut() {
        whole.extend(given);
    }
    serde_json::from_value(whole).map_err(D::Error::custom)
}

/// A whole training run: which model, how it is built, how it is optimised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Zoo name.
    pub model: String,
    /// Architecture and losses of `pldm`, and of the encoder that a token-grid model trains for itself.
    pub pldm: PldmConfig,
    /// Architecture and objective of a token-grid model; absent for other models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenConfig>,
    /// Architecture and loss of `lewm`; absent for other models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lewm: Option<LewmConfig>,
    /// Architecture and loss of `world-models`; absent for other models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub world_models: Option<WorldModelsConfig>,
    /// Architecture of `gcbc-tokens`; absent for other models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gcbc_tokens: Option<GcbcTokensConfig>,
    /// Network, views and loss of the encoder `lejepa`, which a token-grid model trains for itself; absent for models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lejepa: Option<LejepaConfig>,
    /// Network and loss of the encoder `i-jepa`, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ijepa: Option<IjepaConfig>,
    /// Optimisation.
    pub training: TrainingConfig,
}

/// The part of a [`TrainConfig`] that says what the model is.
pub(crate) enum Architecture<'a> {
    Pldm(&'a PldmConfig),
    Lewm(&'a LewmConfig),
    WorldModels(&'a WorldModelsConfig),
    GcbcTokens(&'a GcbcTokensConfig),
    Lejepa(&'a LejepaConfig),
    Ijepa(&'a IjepaConfig),
    Token(&'a TokenConfig),
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            model: crate::zoo::PLDM.name.to_string(),
            pldm: PldmConfig::default(),
            token: None,
            lewm: None,
            world_models: None,
            gcbc_tokens: None,
            lejepa: None,
            ijepa: None,
            training: TrainingConfig::default(),
        }
    }
}

impl TrainConfig {
    /// The default configuration of a model of the zoo.
    ///
    /// # Errors
    /// [`Error::UnknownModel`].
    pub fn of(model: &str) -> Result<Self> {
        let name = crate::zoo::find(model)?.name;
        let token = crate::token::config::preset(name);
        let lewm = (name == crate::zoo::LEWM.name).then(LewmConfig::small);
        let world_models = (name == crate::zoo::WORLD_MODELS.name).then(WorldModelsConfig::default);
        let gcbc_tokens = (name == crate::zoo::GCBC_TOKENS.name).then(GcbcTokensConfig::default);
        let training = match (&token, &lewm) {
            (Some(_), _) if name == crate::zoo::DINO_WM_ORIGINAL.name => {
                TrainingConfig::dino_wm_original()
            }
            (Some(_), _) => TrainingConfig::token_grid(),
            (None, Some(_)) => TrainingConfig::lewm(),
            (None, None) if world_models.is_some() => TrainingConfig::world_models(),
            (None, None) if gcbc_tokens.is_some() => TrainingConfig::gcbc_tokens(),
            (None, None) => TrainingConfig::default(),
        };
        Ok(Self {
            model: name.to_string(),
            pldm: PldmConfig::default(),
            token,
            lewm,
            world_models,
            gcbc_tokens,
            lejepa: None,
            ijepa: None,
            training,
        })
    }

    /// The run that trains the encoder of this model first; `None` where no encoder is trained.
    pub(crate) fn of_encoder(&self) -> Option<Self> {
        let seeded = |training: &TrainingConfig| TrainingConfig {
            seed: self.training.seed,
            ..training.clone()
        };
        match &self.token.as_ref()?.encoder {
            EncoderChoice::PldmGrid { training } => Some(Self {
                pldm: self.pldm.clone(),
                training: seeded(training),
                ..Self::default()
            }),
            EncoderChoice::Lejepa { lejepa, training } => Some(Self {
                model: lejepa::NAME.to_string(),
                lejepa: Some(lejepa.clone()),
                training: seeded(training),
                ..Self::default()
            }),
            EncoderChoice::IJepa { ijepa, training } => Some(Self {
                model: ijepa::NAME.to_string(),
                ijepa: Some(ijepa.clone()),
                training: seeded(training),
                ..Self::default()
            }),
            EncoderChoice::RandomPatch { .. } | EncoderChoice::Imported { .. } => None,
        }
    }

    /// The frames of a sample, of an encoder that learns from views.
    pub(crate) fn views(&self) -> Option<Views> {
        self.lejepa.as_ref().map(LejepaConfig::frames)
    }

    /// What the model is.
    pub(crate) fn architecture(&self) -> Architecture<'_> {
        if let Some(token) = &self.token {
            return Architecture::Token(token);
        }
        if let Some(lewm) = &self.lewm {
            return Architecture::Lewm(lewm);
        }
        if let Some(config) = &self.gcbc_tokens {
            return Architecture::GcbcTokens(config);
        }
        if let Some(lejepa) = &self.lejepa {
            return Architecture::Lejepa(lejepa);
        }
        if let Some(ijepa) = &self.ijepa {
            return Architecture::Ijepa(ijepa);
        }
        match &self.world_models {
            Some(config) => Architecture::WorldModels(config),
            None => Architecture::Pldm(&self.pldm),
        }
    }

    /// Native steps per model step.
    pub fn frameskip(&self) -> usize {
        match self.architecture() {
            Architecture::Token(token) => token.frameskip,
            Architecture::Lewm(lewm) => lewm.frameskip,
            Architecture::WorldModels(config) => config.frameskip,
            Architecture::GcbcTokens(config) => config.frameskip,
            Architecture::Lejepa(_) => 1,
            Architecture::Ijepa(_) => ijepa::FRAMESKIP,
            Architecture::Pldm(pldm) => pldm.frameskip,
        }
    }

    /// Rows from one frame of a slice to the next.
    pub(crate) fn rows_per_step(&self) -> usize {
        match self.training.pose_stride {
            0 => self.frameskip(),
            stride => stride,
        }
    }

    /// Hash (blake3, hex) of everything but the training seed: what makes two runs the same recipe.
    ///
    /// # Errors
    /// [`Error::Config`] when a value has no form in JSON.
    pub(crate) fn hash_without_seed(&self) -> Result<String> {
        let mut recipe = self.clone();
        recipe.training.seed = 0;
        let text = serde_json::to_vec(&recipe).map_err(|e| Error::Config {
            key: "training",
            detail: e.to_string(),
        })?;
        Ok(blake3::hash(&text).to_hex().to_string())
    }

    /// Checks every value that the type does not bound.
    pub(crate) fn check(&self) -> Result<()> {
        let is_lejepa = self.model == lejepa::NAME && self.lejepa.is_some();
        let is_ijepa = self.model == ijepa::NAME && self.ijepa.is_some();
        if !is_lejepa && !is_ijepa {
            crate::zoo::find(&self.model)?;
        }
        self.pldm.check()?;
        let is_token_grid = crate::token::config::preset(&self.model).is_some();
        let is_lewm = self.model == crate::zoo::LEWM.name;
        let is_world_models = self.model == crate::zoo::WORLD_MODELS.name;
        let is_gcbc_tokens = self.model == crate::zoo::GCBC_TOKENS.name;
        let tables = [
            (
                "token",
                "token-grid models",
                self.token.is_some(),
                is_token_grid,
            ),
            ("lewm", "`lewm`", self.lewm.is_some(), is_lewm),
            (
                "world_models",
                "`world-models`",
                self.world_models.is_some(),
                is_world_models,
            ),
            (
                "gcbc_tokens",
                "`gcbc-tokens`",
                self.gcbc_tokens.is_some(),
                is_gcbc_tokens,
            ),
            ("lejepa", "`lejepa`", self.lejepa.is_some(), is_lejepa),
            ("ijepa", "`i-jepa`", self.ijepa.is_some(), is_ijepa),
        ];
        for (key, models, given, wanted) in tables {
            if given != wanted {
                return Err(Error::Config {
                    key,
                    detail: format!(
                        "is there for {models} and no other; this is `{}`",
                        self.model
                    ),
                });
            }
        }
        match self.architecture() {
            Architecture::Token(token) => token.check(self.training.horizon)?,
            Architecture::Lewm(lewm) => lewm.check(self.training.horizon)?,
            Architecture::WorldModels(config) => config.check()?,
            Architecture::GcbcTokens(config) => config.check(self.training.horizon)?,
            Architecture::Lejepa(lejepa) => lejepa.check(self.training.horizon)?,
            Architecture::Ijepa(ijepa) => ijepa.check()?,
            Architecture::Pldm(_) => {}
        }
        if self.training.pose_stride > 0 && (!is_token_grid || self.frameskip() != 1) {
            return Err(Error::Config {
                key: "training.pose_stride",
                detail: "is for token-grid models with `token.frameskip = 1`: one change of pose per step"
                    .into(),
            });
        }
        // A mistake in the settings of an encoder must not show only when its training begins.
        if let Some(encoder) = self.of_encoder() {
            encoder.check()?;
        }
        self.training.check()
    }
}

impl TrainingConfig {
    /// Checks every value that the type does not bound.
    fn check(&self) -> Result<()> {
        let t = self;
        let positive = [
            ("training.steps", t.steps),
            ("training.batch", t.batch as u64),
            ("training.accumulate", t.accumulate as u64),
            ("training.horizon", t.horizon as u64),
            ("training.validate_every", t.validate_every),
            ("training.validation_slices", t.validation_slices as u64),
            ("training.checkpoint_every", t.checkpoint_every),
            ("training.log_every", t.log_every),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(Error::Config {
                    key,
                    detail: "must be at least 1".into(),
                });
            }
        }
        if !t.batch.is_multiple_of(t.accumulate) {
            let detail = format!("({}) must divide the batch {}", t.accumulate, t.batch);
            return Err(Error::Config {
                key: "training.accumulate",
                detail,
            });
        }
        t.check_shares()?;
        if !(t.learning_rate.is_finite() && t.learning_rate > 0.0) {
            return Err(Error::Config {
                key: "training.learning_rate",
                detail: format!("must be above 0, is {}", t.learning_rate),
            });
        }
        if let Some(share) = t
            .crossing
            .as_ref()
            .map(|c| c.share)
            .filter(|s| !(0.0..=1.0).contains(s))
        {
            let detail = format!("must be in [0, 1], is {share}");
            return Err(Error::Config {
                key: "training.crossing.share",
                detail,
            });
        }
        let finite = [
            ("training.weight_decay", t.weight_decay),
            ("training.clip_norm", t.clip_norm),
        ];
        for (key, value) in finite {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::Config {
                    key,
                    detail: format!("must be 0 or more, is {value}"),
                });
            }
        }
        Ok(())
    }

    /// Checks the shares of the schedules.
    fn check_shares(&self) -> Result<()> {
        let t = self;
        let shares = [
            ("training.warmup_fraction", t.warmup_fraction),
            ("training.start_fraction", t.start_fraction),
            ("training.anneal_fraction", t.anneal_fraction),
            ("training.final_fraction", t.final_fraction),
            ("training.initial_decay_fraction", t.initial_decay_fraction),
            ("training.betas", t.betas[0]),
            ("training.betas", t.betas[1]),
        ];
        for (key, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::Config {
                    key,
                    detail: format!("must be in [0, 1], is {value}"),
                });
            }
        }
        if t.warmup_fraction >= 1.0 || t.warmup_fraction + t.anneal_fraction > 1.0 {
            return Err(Error::Config {
                key: "training.warmup_fraction",
                detail: "must leave steps after the warm-up, and room for the anneal".into(),
            });
        }
        if t.betas.iter().any(|beta| *beta >= 1.0) {
            return Err(Error::Config {
                key: "training.betas",
                detail: "must be below 1".into(),
            });
        }
        if t.anneal_fraction > 0.0 && t.schedule != Schedule::WarmupStableDecay {
            return Err(Error::Config {
                key: "training.anneal_fraction",
                detail: "is of the schedule `warmup-stable-decay` only".into(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_recipe_leaves_out_the_seed_and_nothing_else() {
        let hash = |change: fn(&mut TrainConfig)| {
            let mut config = TrainConfig::default();
            change(&mut config);
            config.hash_without_seed().unwrap()
        };
        let first = hash(|_| ());
        assert_eq!(hash(|c| c.training.seed = 7), first);
        assert_ne!(hash(|c| c.training.steps += 1), first);
        assert_ne!(hash(|c| c.pldm.loss.similarity += 1.0), first);
        assert_ne!(hash(|c| c.model.push('x')), first);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let mut config = TrainConfig::default();
        assert!(config.check().is_ok());
        config.training.batch = 0;
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .contains("`training.batch`")
        );
        config.training.batch = 1;
        config.training.learning_rate = f64::NAN;
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .contains("`training.learning_rate`")
        );
        config.training.learning_rate = 1.0;
        let mut named = |change: fn(&mut TrainingConfig), key: &str| {
            let before = config.training.clone();
            change(&mut config.training);
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(&format!("`training.{key}`")), "{error}");
            config.training = before;
        };
        named(|t| t.accumulate = 0, "accumulate");
        named(|t| (t.batch, t.accumulate) = (6, 4), "accumulate");
        named(|t| t.warmup_fraction = 1.0, "warmup_fraction");
        named(|t| t.betas[1] = 1.0, "betas");
        named(|t| t.clip_norm = -1.0, "clip_norm");
        named(|t| t.anneal_fraction = 0.1, "anneal_fraction");
        named(|t| t.start_fraction = 1.5, "start_fraction");
        named(|t| t.pose_stride = 4, "pose_stride");
        config.model = "pldn".into();
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .contains("unknown model `pldn`")
        );
    }
}
