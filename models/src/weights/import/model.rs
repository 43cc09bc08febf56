//! A released world model to a folder that plans like a training run of ours: predictor and outer encoders from the
//! file, the frozen image encoder from a folder of its own, statistics from the dataset.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use jepa_datasets::{ACTION, CONSTANT_STD, Normalizer, PROPRIO};
use serde::Deserialize;
use serde_json::Value;

use super::{FORMAT_VERSION, ModelEntry, ModelSizes, SourceFile, WeightsConfig, to_value};
use crate::device::Compute;
use crate::encoder::FrozenEncoder;
use crate::token::net::TokenNet;
use crate::token::{PredictorKind, TokenConfig};
use crate::train::Imported;
use crate::weights::Checkpoint;
use crate::weights::fill::expected;
use crate::world_model::ModelInfo;
use crate::{Error, Result};

/// What folders of these models say they are.
pub const KIND: &str = "world-model";

/// Scales of actions and proprio.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalizers {
    /// Of native actions.
    pub action: Normalizer,
    /// Of proprio; of a model without proprio it need not be there.
    pub proprio: Option<Normalizer>,
}

/// The part of a field's statistics that is needed; the divisor of the deviation is `n - 1`.
#[derive(Deserialize)]
struct Moments {
    mean: Vec<f64>,
    std: Option<Vec<f64>>,
}

#[derive(Deserialize)]
struct StatisticsFile {
    fields: BTreeMap<String, Value>,
}

impl Normalizers {
    /// From what `jepa-bench stats DATASET --split train --json` prints, or from the `stats.json` of a dataset, whose
    /// training split is then taken. Dimensions that never change get a standard deviation of 1.
    ///
    /// # Errors
    /// [`Error::Weights`] that says what `name` lacks.
    pub fn of_statistics(name: &str, text: &[u8]) -> Result<Self> {
        let file: StatisticsFile =
            serde_json::from_slice(text).map_err(|e| broken(name, e.to_string()))?;
        let field = |key: &str| file.fields.get(key).map(|value| moments(name, key, value));
        Ok(Self {
            action: field(ACTION)
                .ok_or_else(|| broken(name, format!("has no statistics of `{ACTION}`")))??,
            proprio: field(PROPRIO).transpose()?,
        })
    }

    /// Those published with the dataset of the model (datasets.md section 3.2).
    fn released(entry: &str, sizes: &ModelSizes) -> Result<Self> {
        let lack = |detail: &str| Error::Statistics {
            model: entry.to_string(),
            detail: detail.to_string(),
        };
        let Some(dataset) = &sizes.statistics else {
            return Err(lack(
                "the file has no statistics of actions and proprio, and the sizes name no dataset",
            ));
        };
        let find = |field| Normalizer::released(dataset, field);
        Ok(Self {
            action: find(ACTION)
                .ok_or_else(|| lack(&format!("nothing is published with `{dataset}`")))?,
            proprio: find(PROPRIO),
        })
    }

    /// Checks them against the sizes of a model; proprio that it does not see is left as it is.
    fn check(self, entry: &str, sizes: &ModelSizes) -> Result<[Normalizer; 2]> {
        let proprio = match self.proprio {
            Some(proprio) => proprio,
            None if sizes.uses_proprio() => {
                return Err(Error::Statistics {
                    model: entry.to_string(),
                    detail: format!("there are no statistics of `{PROPRIO}`, which it sees"),
                });
            }
            None => Normalizer::identity(sizes.proprio_dim),
        };
        let both = [
            (ACTION, &self.action, sizes.action_dim),
            (PROPRIO, &proprio, sizes.proprio_dim),
        ];
        for (field, normalizer, width) in both {
            if normalizer.width() != width {
                return Err(Error::Statistics {
                    model: entry.to_string(),
                    detail: format!(
                        "the statistics of `{field}` have {} dimensions, the model {width}",
                        normalizer.width()
                    ),
                });
            }
            if sizes.predictor.proprio_token && *normalizer != Normalizer::identity(width) {
                return Err(Error::Statistics {
                    model: entry.to_string(),
                    detail: format!(
                        "`{field}` has to stay as it is, mean 0 and deviation 1: poses are integrated from actions"
                    ),
                });
            }
        }
        Ok([self.action, proprio])
    }
}

/// The scale of one field.
fn moments(name: &str, field: &str, value: &Value) -> Result<Normalizer> {
    let wrong = |detail: String| broken(name, format!("`{field}`: {detail}"));
    let value = value.get("train").unwrap_or(value);
    let found: Moments = serde_json::from_value(value.clone()).map_err(|e| wrong(e.to_string()))?;
    let std = found
        .std
        .ok_or_else(|| wrong("has no standard deviation: it is of a single row".into()))?;
    let finite = found.mean.iter().chain(&std).all(|x| x.is_finite());
    if std.len() != found.mean.len() || !finite || std.iter().any(|s| *s < 0.0) {
        return Err(wrong(
            "`mean` and `std` must be as many finite numbers, no deviation below 0".into(),
        ));
    }
    let std = std
        .into_iter()
        .map(|s| if s < CONSTANT_STD { 1.0 } else { s });
    Ok(Normalizer {
        mean: found.mean,
        std: std.collect(),
    })
}

fn broken(name: &str, detail: String) -> Error {
    Error::Weights {
        name: name.to_string(),
        detail,
    }
}

/// A released world model, checked and ready to be written.
#[derive(Debug)]
pub struct ImportedModel {
    imported: Imported,
    config: WeightsConfig,
}

impl ImportedModel {
    /// Puts a file, its image encoder and its statistics together; `sizes` are those of a model that is like the
    /// released one but not of its size.
    ///
    /// # Errors
    /// [`Error::Keys`] that lists what the file lacks and what it has too many; [`Error::Statistics`];
    /// [`Error::Weights`] for another encoder; [`Error::Config`] for sizes that do not fit together.
    pub fn new(
        entry: &ModelEntry,
        file: Checkpoint,
        encoder: &Path,
        sizes: Option<ModelSizes>,
        statistics: Option<Normalizers>,
        source: SourceFile,
    ) -> Result<Self> {
        let sizes = checked_sizes(entry, sizes)?;
        let statistics = match statistics {
            Some(statistics) => statistics,
            None => Normalizers::released(entry.name, &sizes)?,
        };
        let normalizers = statistics.check(entry.name, &sizes)?;
        let frozen = open_encoder(entry.name, encoder, &sizes)?;
        let token = sizes.token(sizes.encoder(absolute(encoder)?));
        let (net, left_out) = network(&token, &sizes, file)?;
        Ok(Self {
            config: WeightsConfig {
                format_version: FORMAT_VERSION,
                model: entry.name.to_string(),
                kind: KIND.to_string(),
                config: to_value(&sizes)?,
                parameters: net.num_params() as u64,
                arrays: expected(&net, str::to_string).len() as u64,
                weights_blake3: String::new(),
                left_out,
                source,
            },
            imported: Imported {
                info: info(entry.name, &sizes, normalizers, &frozen, &net),
                net,
                config: token,
                horizon: sizes.horizon(),
                encoder_hash: frozen.weights_hash().to_string(),
                shape: sizes.shape(),
            },
        })
    }

    /// What the folder says of itself, but for the hash of its weights.
    pub fn config(&self) -> &WeightsConfig {
        &self.config
    }

    /// Writes the folder, which [`load`](crate::load) opens.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(self, folder: &Path) -> Result<WeightsConfig> {
        self.imported.write(folder, self.config)
    }
}

/// The network with the weights of a file, and the keys of the file that it has no use for.
fn network(
    token: &TokenConfig,
    sizes: &ModelSizes,
    file: Checkpoint,
) -> Result<(TokenNet, Vec<String>)> {
    let file = match sizes.predictor.kind {
        // V-JEPA 2's own files have one wrapper more.
        PredictorKind::Sequence => file.rename(|key| Some(key.replace("backbone.", ""))),
        _ => file,
    };
    let config = token.network(sizes.tokens(), &sizes.shape(), sizes.horizon())?;
    let model = config.init(&Device::flex())?;
    let unused = file.keys().filter(|key| model.leaves_out(key));
    let left_out = unused.map(str::to_string).collect();
    let model = model.load(file)?;
    Ok((TokenNet { model }, left_out))
}

/// What planning has to know of the model; the hash of its weights comes when they are written.
fn info(
    name: &str,
    sizes: &ModelSizes,
    [action, proprio]: [Normalizer; 2],
    encoder: &FrozenEncoder,
    net: &TokenNet,
) -> ModelInfo {
    ModelInfo {
        name: name.to_string(),
        action_dim: sizes.action_dim,
        frameskip: sizes.frameskip,
        proprio_dim: sizes.proprio_dim,
        uses_proprio: sizes.uses_proprio(),
        image_height: sizes.frame,
        image_width: sizes.frame,
        latent_width: sizes.tokens().iter().product(),
        parameters: (encoder.parameters() + net.num_params()) as u64,
        weights_hash: String::new(),
        action,
        proprio,
        training: None,
    }
}

/// The sizes asked for, or those of the release.
fn checked_sizes(entry: &ModelEntry, sizes: Option<ModelSizes>) -> Result<ModelSizes> {
    let released = (entry.sizes)();
    let kind = released.predictor.kind;
    let sizes = sizes.unwrap_or(released);
    if sizes.predictor.kind != kind {
        return Err(Error::Config {
            key: "predictor.kind",
            detail: format!("is not that of `{}`", entry.name),
        });
    }
    sizes.check()?;
    Ok(sizes)
}

/// The encoder in a folder, which must be the one that the model was trained on.
fn open_encoder(model: &str, folder: &Path, sizes: &ModelSizes) -> Result<FrozenEncoder> {
    let encoder = FrozenEncoder::open(folder, sizes.front(), Compute::default())?;
    let [rows, columns] = encoder.shape().grid();
    let (found, needed) = ([encoder.shape().width, rows, columns], sizes.tokens());
    if encoder.name() == sizes.encoder && found == needed {
        return Ok(encoder);
    }
    let tokens = |[width, rows, columns]: [usize; 3]| format!("{rows}x{columns} tokens of {width}");
    Err(broken(
        &folder.display().to_string(),
        format!(
            "`{model}` sees {} of `{}`, the folder holds `{}`: {}",
            tokens(needed),
            sizes.encoder,
            encoder.name(),
            tokens(found)
        ),
    ))
}

/// The path as it is found from every folder.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::io("find", path))
}

#[cfg(test)]
mod tests;
