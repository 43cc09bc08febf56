//! A model that was trained elsewhere, in a folder like that of a run.

use std::path::Path;

use super::{MODEL, ModelFile, TokenFile, WEIGHTS, create_dir, hash, weights_to_bytes};
use super::{write_atomic, write_json};
use crate::Result;
use crate::pldm::{DataShape, PldmConfig};
use crate::token::TokenConfig;
use crate::token::net::TokenNet;
use crate::train::run::CONFIG;
use crate::weights::import::WeightsConfig;
use crate::world_model::ModelInfo;

/// What a folder of a model needs, which [`load`](super::load) then opens as it does a finished run.
#[derive(Debug)]
pub(crate) struct Imported {
    pub net: TokenNet,
    pub config: TokenConfig,
    /// Model steps of a training slice.
    pub horizon: usize,
    /// blake3 of the weights of the image encoder.
    pub encoder_hash: String,
    pub shape: DataShape,
    /// Its weights' hash is filled in when they are written.
    pub info: ModelInfo,
}

impl Imported {
    /// Writes the folder; `model.json` comes last, so that a folder with one is whole. `source` becomes its `config.json`
    /// and says what the model was made from.
    pub(crate) fn write(self, folder: &Path, source: WeightsConfig) -> Result<WeightsConfig> {
        create_dir(folder)?;
        let weights = weights_to_bytes(&self.net, folder)?;
        let weights_hash = hash(&weights);
        write_atomic(&folder.join(WEIGHTS), &weights)?;
        let source = WeightsConfig {
            weights_blake3: weights_hash.clone(),
            ..source
        };
        write_json(&folder.join(CONFIG), &source)?;
        let file = ModelFile {
            format_version: 1,
            pldm: PldmConfig::default(),
            token: Some(TokenFile {
                config: self.config,
                horizon: self.horizon,
                seed: 0,
                encoder_hash: Some(self.encoder_hash),
            }),
            lewm: None,
            world_models: None,
            gcbc_tokens: None,
            lejepa: None,
            ijepa: None,
            shape: self.shape,
            info: ModelInfo {
                weights_hash,
                ..self.info
            },
        };
        write_json(&folder.join(MODEL), &file)?;
        Ok(source)
    }
}
