//! The models that exist, for `list models`, `train --model` and the documentation.

use crate::{Error, Result};

/// One model of the zoo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelEntry {
    /// Name on the command line, in configurations and records.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Where it comes from.
    pub source: &'static str,
}

/// The single-vector model that trains from pixels.
pub(crate) const PLDM: ModelEntry = ModelEntry {
    name: "pldm",
    summary: "small convolutional encoder and residual latent predictor, trained from pixels on a CPU",
    source: "PLDM, arXiv 2502.14819; losses of models.md section 7.3, recipe of recipes.md",
};

const OURS: ModelEntry = ModelEntry {
    name: "ours",
    summary: "frozen encoder; AdaLN predictor with rotary positions, two steps of rollout: the paper's proposal",
    source: "arXiv 2512.24497; models.md sections 2.4 and 4.3",
};

const DINO_WM: ModelEntry = ModelEntry {
    name: "dino-wm",
    summary: "frozen encoder; actions and proprio as channels, learned positions, teacher forcing",
    source: "DINO-WM, arXiv 2411.04983, as retrained in arXiv 2512.24497; models.md section 2.1",
};

/// DINO-WM as its authors train it.
pub(crate) const DINO_WM_ORIGINAL: ModelEntry = ModelEntry {
    name: "dino-wm-original",
    summary: "DINO-WM with the loss and the training settings of its authors, sees three frames",
    source: "DINO-WM, arXiv 2411.04983; models.md sections 2.1, 4.1 and 5.3",
};

const VJEPA2_AC: ModelEntry = ModelEntry {
    name: "vjepa2-ac",
    summary: "frozen encoder; actions as tokens, absolute differences, rollout loss with its error fixed",
    source: "V-JEPA 2, arXiv 2506.09985, as retrained in arXiv 2512.24497; models.md sections 2.2 and 4.5",
};

const VJEPA2_AC_BUGGY: ModelEntry = ModelEntry {
    name: "vjepa2-ac-buggy",
    summary: "vjepa2-ac with the rollout loss of the first release, one frame late: for the ablation",
    source: "V-JEPA 2, arXiv 2506.09985; models.md section 4.5",
};

/// The single-vector model of LeWM.
pub(crate) const LEWM: ModelEntry = ModelEntry {
    name: "lewm",
    summary: "trained from pixels, kept from collapse by SIGReg; causal transformer over latents; small by default",
    source: "LeWM, arXiv 2603.19312; models.md section 7.2, sizes of section 7.5",
};

/// The baseline whose latent reconstructs.
pub(crate) const WORLD_MODELS: ModelEntry = ModelEntry {
    name: "world-models",
    summary: "variational autoencoder and recurrent mixture model, planned with in its latent; small by default",
    source: "World Models, arXiv 1803.10122; models.md section 8.1, entry B",
};

/// The baseline that copies actions.
pub(crate) const GCBC_TOKENS: ModelEntry = ModelEntry {
    name: "gcbc-tokens",
    summary: "GCBC-tokens (VLA-0 recipe, no VLM): a policy that copies actions as tokens; acts without a planner",
    source: "VLA-0, arXiv 2510.13054, as a goal-conditioned policy; models.md section 8.6",
};

/// Every model.
pub const MODELS: &[ModelEntry] = &[
    PLDM,
    LEWM,
    WORLD_MODELS,
    GCBC_TOKENS,
    OURS,
    DINO_WM,
    DINO_WM_ORIGINAL,
    VJEPA2_AC,
    VJEPA2_AC_BUGGY,
];

/// The entry called `name`.
pub fn find(name: &str) -> Result<&'static ModelEntry> {
    MODELS
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| Error::UnknownModel {
            name: name.to_string(),
            known: MODELS.iter().map(|entry| entry.name.to_string()).collect(),
        })
}

/// A named training configuration that was tried, as TOML laid over the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// Name on the command line.
    pub name: &'static str,
    /// What it is for, in one line.
    pub summary: &'static str,
    /// Its TOML.
    pub toml: &'static str,
}

/// Every recipe.
pub const RECIPES: &[Recipe] = &[
    Recipe {
        name: "wall",
        summary: "pldm on Wall in a few minutes on two cores; used by `demo`",
        toml: include_str!("../recipes/wall.toml"),
    },
    Recipe {
        name: "wall-long",
        summary: "pldm on Wall, four times the steps of `wall`",
        toml: include_str!("../recipes/wall-long.toml"),
    },
    Recipe {
        name: "pusht-small",
        summary: "pldm on Push-T at 64 pixels, in minutes on two cores",
        toml: include_str!("../recipes/pusht-small.toml"),
    },
    Recipe {
        name: "pointmaze-small",
        summary: "the paper's model on PointMaze at 64 pixels, with proprio, for two cores",
        toml: include_str!("../recipes/pointmaze-small.toml"),
    },
    Recipe {
        name: "lewm-small",
        summary: "LeWM on Wall with a small convolutional encoder",
        toml: include_str!("../recipes/lewm-small.toml"),
    },
    Recipe {
        name: "world-models-small",
        summary: "World Models on Wall: autoencoder and recurrent model at once; its latent collapses (docs/wall_models.md)",
        toml: include_str!("../recipes/world-models-small.toml"),
    },
    Recipe {
        name: "gcbc-tokens-small",
        summary: "behaviour cloning on Wall: the baseline without a model of the world",
        toml: include_str!("../recipes/gcbc-tokens-small.toml"),
    },
    Recipe {
        name: "ours-tiny",
        summary: "the paper's model on Wall, on tokens of a small encoder that is trained first",
        toml: include_str!("../recipes/ours-tiny.toml"),
    },
    Recipe {
        name: "ours-lejepa-tiny",
        summary: "the paper's model on Wall, on tokens of a small encoder that LeJEPA trains first, without actions",
        toml: include_str!("../recipes/ours-lejepa-tiny.toml"),
    },
    Recipe {
        name: "ours-ijepa-tiny",
        summary: "the same on an encoder that I-JEPA trains first: 64 tokens, slow on two cores; not scored yet",
        toml: include_str!("../recipes/ours-ijepa-tiny.toml"),
    },
    Recipe {
        name: "dino-wm-tiny",
        summary: "DINO-WM on Wall, on the same tokens",
        toml: include_str!("../recipes/dino-wm-tiny.toml"),
    },
    Recipe {
        name: "dino-wm-original-tiny",
        summary: "DINO-WM as its authors train it on Wall, on the same tokens",
        toml: include_str!("../recipes/dino-wm-original-tiny.toml"),
    },
    Recipe {
        name: "vjepa2-ac-tiny",
        summary: "V-JEPA-2-AC (fixed) on Wall, on the same tokens",
        toml: include_str!("../recipes/vjepa2-ac-tiny.toml"),
    },
    Recipe {
        name: "vjepa2-ac-buggy-tiny",
        summary: "V-JEPA-2-AC with the rollout loss of its first release on Wall, on the same tokens",
        toml: include_str!("../recipes/vjepa2-ac-buggy-tiny.toml"),
    },
    Recipe {
        name: "ours-wall",
        summary: "the paper's model for Wall on DINOv2 tokens, at its own size; for a GPU, not trained yet",
        toml: include_str!("../recipes/ours-wall.toml"),
    },
    Recipe {
        name: "dino-wm-wall",
        summary: "DINO-WM for Wall on DINOv2 tokens, at its own size; for a GPU, not trained yet",
        toml: include_str!("../recipes/dino-wm-wall.toml"),
    },
    Recipe {
        name: "ours-pointmaze",
        summary: "the paper's model for PointMaze on DINOv2 tokens, at its own size; for a GPU, not trained yet",
        toml: include_str!("../recipes/ours-pointmaze.toml"),
    },
    Recipe {
        name: "dino-wm-pointmaze",
        summary: "DINO-WM for PointMaze on DINOv2 tokens, at its own size; for a GPU, not trained yet",
        toml: include_str!("../recipes/dino-wm-pointmaze.toml"),
    },
    Recipe {
        name: "ours-pusht",
        summary: "the paper's model for Push-T on DINOv2 tokens, at its own size; for a GPU, not trained yet",
        toml: include_str!("../recipes/ours-pusht.toml"),
    },
    Recipe {
        name: "dino-wm-pusht",
        summary: "DINO-WM for Push-T on DINOv2 tokens, at its own size; for a GPU, not trained yet",
        toml: include_str!("../recipes/dino-wm-pusht.toml"),
    },
    Recipe {
        name: "ours-metaworld",
        summary: "the paper's model for Metaworld on DINOv2 tokens, at its own size; for a GPU, not trained yet",
        toml: include_str!("../recipes/ours-metaworld.toml"),
    },
    Recipe {
        name: "dino-wm-metaworld",
        summary: "DINO-WM for Metaworld on DINOv2 tokens, at its own size; for a GPU, not trained yet",
        toml: include_str!("../recipes/dino-wm-metaworld.toml"),
    },
    Recipe {
        name: "ours-droid",
        summary: "the paper's model for DROID on DINOv3 tokens, at its own size; for a GPU, not trained yet",
        toml: include_str!("../recipes/ours-droid.toml"),
    },
    Recipe {
        name: "dino-wm-droid",
        summary: "DINO-WM for DROID on DINOv2 tokens, at its own size; for a GPU, not trained yet",
        toml: include_str!("../recipes/dino-wm-droid.toml"),
    },
    Recipe {
        name: "vjepa2-ac-droid",
        summary: "V-JEPA-2-AC (fixed) for DROID on V-JEPA 2 tokens, at its own size; for a GPU, not trained yet",
        toml: include_str!("../recipes/vjepa2-ac-droid.toml"),
    },
];
