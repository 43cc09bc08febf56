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

/// Every model.
pub const MODELS: &[ModelEntry] = &[PLDM];

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
        summary: "pldm on Wall, four times the steps; not scored yet",
        toml: include_str!("../recipes/wall-long.toml"),
    },
];
