//! What a token-grid model is made of, in the form it is saved with a run.

use std::path::PathBuf;

use burn::module::Module;
use burn::tensor::Device;
use jepa_datasets::transform::Geometry;
use serde::{Deserialize, Serialize};

use crate::encoder::PixelScale;
use crate::ijepa::{self, IjepaConfig};
use crate::layer::rope::Variant;
use crate::lejepa::{self, LejepaConfig};
use crate::loss::elementwise::{ElementLoss, ProprioShare, StateLossConfig};
use crate::loss::objective::{LossWeighting, ObjectiveConfig, RolloutPrefix};
use crate::loss::vjepa2_ac::{RolloutStart, Vjepa2AcLossConfig};
use crate::pldm::DataShape;
use crate::predictor::adaln::AdaLnConfig;
use crate::predictor::feature::{FeatureConfig, PositionCode};
use crate::predictor::sequence::{ActionInput, SequenceConfig};
use crate::predictor::token_world_model::{PredictorConfig, TokenWorldModelConfig};
use crate::predictor::unroll::{ProprioStep, Unroll};
use crate::predictor::{Grid, ProprioInput};
use crate::train::TrainingConfig;
use crate::{Error, Result};

/// Where the tokens of a frame come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum EncoderChoice {
    /// The convolutions of a `pldm` that is trained first, on the same data, and then frozen: each place of its
    /// last feature map is a token, with a layer norm without parameters (models.md section 7.5, preset 4).
    PldmGrid {
        /// How that `pldm` is trained; its seed is that of the run.
        #[serde(default)]
        training: TrainingConfig,
    },
    /// The convolutions of an encoder that is trained first, by `LeJEPA` on the frames of the same data without actions,
    /// and then frozen (models.md section 8.4); tokens as those of `pldm-grid`.
    Lejepa {
        /// Network, views and loss.
        #[serde(default)]
        lejepa: LejepaConfig,
        /// How it is trained; its seed is that of the run.
        #[serde(
            default = "LejepaConfig::training",
            deserialize_with = "lejepa::training_over_defaults"
        )]
        training: TrainingConfig,
    },
    /// A small vision transformer that is trained first, by I-JEPA on the frames of the same data without actions, and then
    /// frozen (models.md section 8.2): its patches are tokens, with a layer norm without parameters.
    IJepa {
        /// Network and loss.
        #[serde(default)]
        ijepa: IjepaConfig,
        /// How it is trained; its seed is that of the run.
        #[serde(
            default = "IjepaConfig::training",
            deserialize_with = "ijepa::training_over_defaults"
        )]
        training: TrainingConfig,
    },
    /// Square patches times a fixed random matrix, with a layer norm without parameters (preset 3).
    RandomPatch {
        /// Side of a patch in pixels; what is left of a frame at its right and lower edge is not seen.
        patch: usize,
        /// Width of a token.
        width: usize,
    },
    /// A released encoder with its weights (models.md section 1). Tokens that `embed` has left in the dataset are
    /// used where they are.
    Imported {
        /// Folder that `weights import` wrote.
        weights: PathBuf,
        /// Crop and interpolation in front of it.
        #[serde(default = "jepa_wms")]
        transform: Geometry,
        /// Scale of the pixels.
        #[serde(default)]
        pixel_norm: PixelScale,
        /// Side of the images that it sees, in pixels; 0 is its own.
        #[serde(default)]
        image: usize,
    },
}

fn jepa_wms() -> Geometry {
    Geometry::JepaWms
}

/// Which predictor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PredictorKind {
    /// `AdaLN` with rotary positions (models.md section 2.4).
    Adaln,
    /// Actions and proprio as channels, learned positions (section 2.1).
    Feature,
    /// Actions as tokens, rotary positions (section 2.2).
    Sequence,
    /// Actions as channels, rotary positions (section 2.3).
    SequenceFeature,
}

/// Sizes of the predictor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictorChoice {
    /// Which one.
    pub kind: PredictorKind,
    /// Width of the visual part of its tokens; the `feature` predictor keeps that of the encoder.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a head, of the `feature` predictor only.
    pub head_width: usize,
    /// Width of the hidden layer of its perceptrons, of the `feature` predictor only.
    pub hidden: usize,
    /// Width of the action embedding where actions are channels.
    pub action_width: usize,
    /// Width of the proprio embedding, which is channels of every token; 0 for a model without proprio.
    pub proprio_width: usize,
    /// Whether proprio is a pose and a token of its own, of the `sequence` predictor only: the public V-JEPA-2-AC. It is
    /// not predicted but integrated from actions, which are changes of pose (models.md sections 2.2 and 2.6).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proprio_token: bool,
    /// Rotary code.
    pub rope: Variant,
    /// Scale of the fresh modulation of the `adaln` predictor; 0 makes its blocks the identity.
    pub init_scale: f64,
}

impl PredictorChoice {
    /// Whether it sees proprio.
    pub(crate) fn uses_proprio(&self) -> bool {
        self.proprio_width > 0 || self.proprio_token
    }
}

/// Which training objective.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveChoice {
    /// Teacher forcing and a rollout, as the JEPA-WMs are trained (models.md sections 4.2 to 4.4).
    Rollout(ObjectiveConfig),
    /// As V-JEPA-2-AC's authors train it (section 4.5), fixed or with the error of the first release.
    #[serde(rename = "vjepa2-ac")]
    Vjepa2Ac(Vjepa2AcLossConfig),
}

/// Architecture and objective of a token-grid model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Native steps per model step.
    pub frameskip: usize,
    /// Frames that the predictor sees when it plans.
    pub window: usize,
    /// Whether tokens, encoded and predicted, go through a layer norm without parameters.
    pub normalize_reps: bool,
    /// Frozen image encoder.
    pub encoder: EncoderChoice,
    /// Predictor.
    pub predictor: PredictorChoice,
    /// Training objective.
    pub objective: ObjectiveChoice,
}

/// A token-grid model of the zoo and its configuration, at a size that two processor cores train.
#[derive(Clone, Copy)]
pub struct Preset {
    /// Name in the zoo.
    pub name: &'static str,
    /// Its configuration.
    pub config: fn() -> TokenConfig,
}

/// The token-grid models of the zoo.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "ours",
        config: ours,
    },
    Preset {
        name: "dino-wm",
        config: dino_wm,
    },
    Preset {
        name: "dino-wm-original",
        config: dino_wm_original,
    },
    Preset {
        name: "vjepa2-ac",
        config: vjepa2_ac,
    },
    Preset {
        name: "vjepa2-ac-buggy",
        config: vjepa2_ac_buggy,
    },
];

/// The proposed model of the paper: `AdaLN`, rotary positions, two steps of rollout.
fn ours() -> TokenConfig {
    TokenConfig {
        frameskip: 5,
        window: 2,
        normalize_reps: false,
        encoder: EncoderChoice::PldmGrid {
            training: TrainingConfig::default(),
        },
        predictor: PredictorChoice {
            kind: PredictorKind::Adaln,
            width: 64,
            depth: 3,
            heads: 4,
            head_width: 16,
            hidden: 256,
            action_width: 0,
            proprio_width: 16,
            proprio_token: false,
            rope: Variant::default(),
            init_scale: 10.0,
        },
        objective: ObjectiveChoice::Rollout(ObjectiveConfig::default()),
    }
}

/// DINO-WM: actions and proprio as channels, teacher forcing alone.
fn dino_wm() -> TokenConfig {
    let ours = ours();
    TokenConfig {
        predictor: PredictorChoice {
            kind: PredictorKind::Feature,
            action_width: 10,
            proprio_width: 10,
            ..ours.predictor
        },
        objective: ObjectiveChoice::Rollout(ObjectiveConfig {
            steps: 1,
            ..ObjectiveConfig::default()
        }),
        ..ours
    }
}

/// DINO-WM as its authors train it (models.md sections 2.1 and 4.1): it sees three frames, one mean goes over the channels
/// of the tokens and of proprio, and no gradient reaches the encoder of proprio through its target.
fn dino_wm_original() -> TokenConfig {
    let retrained = dino_wm();
    TokenConfig {
        window: 3,
        objective: ObjectiveChoice::Rollout(ObjectiveConfig {
            steps: 1,
            detach_proprio_target: true,
            loss_weighting: LossWeighting::PaperSum,
            state: StateLossConfig {
                proprio_share: ProprioShare::Channels,
                ..StateLossConfig::default()
            },
            ..ObjectiveConfig::default()
        }),
        ..retrained
    }
}

/// V-JEPA-2-AC with another objective: actions as tokens, no proprio, normalised tokens.
fn sequence(objective: ObjectiveChoice) -> TokenConfig {
    let ours = ours();
    TokenConfig {
        normalize_reps: true,
        predictor: PredictorChoice {
            kind: PredictorKind::Sequence,
            proprio_width: 0,
            ..ours.predictor
        },
        objective,
        ..ours
    }
}

/// What the paper calls its fixed V-JEPA-2-AC (models.md section 4.5): absolute differences, a rollout of two steps
/// from the first frame, with the gradient through it.
fn vjepa2_ac() -> TokenConfig {
    let defaults = ObjectiveConfig::default();
    sequence(ObjectiveChoice::Rollout(ObjectiveConfig {
        prefix: RolloutPrefix::First,
        rollout_stop_gradient: false,
        ctxt_window_train_rollout: 8,
        state: StateLossConfig {
            element: ElementLoss::L1,
            proprio_weight: 0.0,
            ..defaults.state
        },
        ..defaults
    }))
}

/// The objective of the first release, whose rollout begins one frame late. With
/// `token.objective.vjepa2-ac.start = "fixed"` it is that of the second.
fn vjepa2_ac_buggy() -> TokenConfig {
    sequence(ObjectiveChoice::Vjepa2Ac(Vjepa2AcLossConfig {
        start: RolloutStart::Buggy,
        ..Vjepa2AcLossConfig::default()
    }))
}

/// The configuration of the token-grid model `name`; `None` for other models.
pub(crate) fn preset(name: &str) -> Option<TokenConfig> {
    let preset = PRESETS.iter().find(|preset| preset.name == name)?;
    Some((preset.config)())
}

impl TokenConfig {
    /// Checks the values that no type bounds, for slices of `horizon` model steps.
    pub(crate) fn check(&self, horizon: usize) -> Result<()> {
        self.check_sizes(horizon)?;
        match &self.objective {
            ObjectiveChoice::Rollout(_) if self.predictor.proprio_token => Err(Error::Config {
                key: "token.predictor.proprio_token",
                detail: "is for the objective `vjepa2-ac`: what is rolled out is never a pose"
                    .into(),
            }),
            ObjectiveChoice::Rollout(objective) => objective.check(horizon + 1),
            ObjectiveChoice::Vjepa2Ac(objective) => objective.check(horizon + 1),
        }
    }

    /// Checks the sizes of the network alone.
    pub(crate) fn check_sizes(&self, horizon: usize) -> Result<()> {
        for (key, value) in [
            ("token.frameskip", self.frameskip),
            ("token.window", self.window),
            ("token.predictor.width", self.predictor.width),
            ("token.predictor.depth", self.predictor.depth),
            ("token.predictor.heads", self.predictor.heads),
            ("token.predictor.head_width", self.predictor.head_width),
            ("token.predictor.hidden", self.predictor.hidden),
        ] {
            if value == 0 {
                return Err(Error::Config {
                    key,
                    detail: "must be at least 1".into(),
                });
            }
        }
        // What the encoder and the data decide later does not matter to these sizes: a mistake in them must not show
        // only after an encoder was trained.
        let any = DataShape {
            height: 1,
            width: 1,
            action_dim: 1,
            proprio_dim: 1,
        };
        self.network([self.predictor.width, 1, 1], &any, horizon)?;
        let sizes = self.predictor;
        if sizes.proprio_token && (sizes.kind != PredictorKind::Sequence || sizes.proprio_width > 0)
        {
            return Err(Error::Config {
                key: "token.predictor.proprio_token",
                detail: "is for the predictor `sequence`, with `proprio_width = 0`".into(),
            });
        }
        Ok(())
    }

    /// Whether the model sees proprio.
    pub(crate) fn uses_proprio(&self) -> bool {
        self.predictor.uses_proprio()
    }

    /// How the predictor is unrolled.
    pub(crate) fn unroll(&self) -> Unroll {
        Unroll {
            window: self.window,
            proprio: if self.predictor.proprio_token {
                ProprioStep::Integrated
            } else {
                ProprioStep::Predicted
            },
        }
    }

    /// Numbers in the predictor and the encoders of actions and proprio, counted without making any of them, for tokens
    /// `[width, rows, columns]` and slices of `horizon` model steps.
    ///
    /// # Errors
    /// [`Error::Config`] for sizes that do not fit together.
    pub fn parameters(
        &self,
        tokens: [usize; 3],
        shape: &DataShape,
        horizon: usize,
    ) -> Result<usize> {
        let network = self.network(tokens, shape, horizon)?;
        Ok(network.init(&Device::flex())?.num_params())
    }

    /// Sizes of the network for tokens `[width, rows, columns]` and what the data fixes.
    ///
    /// # Errors
    /// [`Error::Config`] for sizes that do not fit together.
    pub(crate) fn network(
        &self,
        tokens: [usize; 3],
        shape: &DataShape,
        horizon: usize,
    ) -> Result<TokenWorldModelConfig> {
        let [encoder_width, rows, columns] = tokens;
        let grid = Grid { rows, columns };
        let action_dim = self.frameskip * shape.action_dim;
        // A plan may be seen through a window that is longer than a training sample.
        let frames = (horizon + 1).max(self.window);
        let network = TokenWorldModelConfig {
            predictor: self.predictor(grid, encoder_width, [action_dim, shape.proprio_dim], frames),
            action_dim,
            proprio_dim: if self.uses_proprio() {
                shape.proprio_dim
            } else {
                0
            },
            normalize_reps: self.normalize_reps,
        };
        network.check()?;
        Ok(network)
    }

    fn predictor(
        &self,
        grid: Grid,
        encoder_width: usize,
        [action_dim, proprio_dim]: [usize; 2],
        frames: usize,
    ) -> PredictorConfig {
        let sizes = self.predictor;
        let proprio = match sizes.proprio_width {
            0 if sizes.proprio_token => ProprioInput::RawToken { dim: proprio_dim },
            0 => ProprioInput::None,
            width => ProprioInput::Feature { width },
        };
        let sequence = |action| {
            PredictorConfig::Sequence(SequenceConfig {
                grid,
                frames,
                encoder_width,
                width: sizes.width,
                depth: sizes.depth,
                heads: sizes.heads,
                action,
                proprio,
                camera: false,
                rope_variant: sizes.rope,
            })
        };
        match sizes.kind {
            PredictorKind::Adaln => PredictorConfig::AdaLn(AdaLnConfig {
                grid,
                frames,
                encoder_width,
                width: sizes.width,
                depth: sizes.depth,
                heads: sizes.heads,
                action_dim,
                proprio,
                rope_variant: sizes.rope,
                init_scale: sizes.init_scale,
            }),
            PredictorKind::Feature => PredictorConfig::Feature(FeatureConfig {
                grid,
                extra_tokens: 0,
                frames,
                encoder_width,
                proprio_width: sizes.proprio_width,
                action_width: sizes.action_width,
                depth: sizes.depth,
                heads: sizes.heads,
                head_width: sizes.head_width,
                hidden: sizes.hidden,
                position: PositionCode::Learned,
            }),
            PredictorKind::Sequence => sequence(ActionInput::Token { dim: action_dim }),
            PredictorKind::SequenceFeature => sequence(ActionInput::Feature {
                width: sizes.action_width,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_sound_and_heads_that_do_not_fit_are_an_error_before_any_training() {
        for preset in PRESETS {
            (preset.config)().check(3).unwrap();
        }
        let mut config = ours();
        config.predictor.heads = 7;
        let error = config.check(3).unwrap_err().to_string();
        assert!(error.contains("must divide the inner width 80"), "{error}");
    }
}
