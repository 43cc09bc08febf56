//! Checkpoints of one member: weights, optimiser state and progress, complete or absent.
//!
//! A checkpoint is a folder `checkpoint-<step>`. Its `state.json` is written last and holds the hashes
//! of the other files; a folder without a matching one does not count.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::{BurnToPyTorchAdapter, ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore};
use serde::{Deserialize, Serialize};

use super::files::{create_dir, read_json, write_atomic, write_json};
use super::optimizer::AdamW;
use crate::{Error, Result};

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";

/// Progress of one member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Optimiser steps done.
    pub step: u64,
    /// Training seconds, over all sessions.
    pub seconds: f64,
    /// Of these, seconds spent waiting for data.
    pub waited: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    progress: Progress,
    weights: String,
    optimizer: String,
}

/// Saves a checkpoint and then removes the older ones.
pub(crate) fn save<M: Module>(
    folder: &Path,
    model: &M,
    optimizer: &AdamW,
    progress: Progress,
) -> Result<()> {
    let path = folder.join(format!("checkpoint-{:08}", progress.step));
    create_dir(&path)?;
    let weights = weights_to_bytes(model, &path)?;
    write_atomic(&path.join(WEIGHTS), &weights)?;
    let optimizer = optimizer.to_bytes().map_err(|e| broken(&path, &e))?;
    write_atomic(&path.join(OPTIMIZER), &optimizer)?;
    let state = State {
        progress,
        weights: hash(&weights),
        optimizer: hash(&optimizer),
    };
    write_json(&path.join(STATE), &state)?;
    for older in checkpoints(folder)?.into_iter().filter(|p| *p < path) {
        fs::remove_dir_all(&older).map_err(Error::io("remove", &older))?;
    }
    Ok(())
}

/// The newest complete checkpoint: the model and optimiser at its step. `None` when there is none.
pub(crate) fn load_newest<M: Module>(
    folder: &Path,
    model: M,
    optimizer: AdamW,
) -> Result<Option<(M, AdamW, Progress)>> {
    for path in checkpoints(folder)?.into_iter().rev() {
        let Ok(state) = read_json::<State>(&path.join(STATE)) else {
            continue;
        };
        let (Ok(weights), Ok(moments)) =
            (fs::read(path.join(WEIGHTS)), fs::read(path.join(OPTIMIZER)))
        else {
            continue;
        };
        if hash(&weights) != state.weights || hash(&moments) != state.optimizer {
            continue;
        }
        let model = weights_from_bytes(model, weights, &path)?;
        let optimizer = optimizer
            .with_moments(moments)
            .map_err(|e| broken(&path, &e))?;
        return Ok(Some((model, optimizer, state.progress)));
    }
    Ok(None)
}

/// Checkpoint folders, oldest first.
fn checkpoints(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        if name.starts_with("checkpoint-") && path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A safetensors file with PyTorch's weight layouts and no metadata but `format`, so that equal weights
/// give equal bytes.
pub(crate) fn weights_to_bytes<M: Module>(model: &M, path: &Path) -> Result<Vec<u8>> {
    let mut store = SafetensorsStore::from_bytes(None)
        .clear_metadata()
        .metadata("format", "pt")
        .with_to_adapter(BurnToPyTorchAdapter);
    model
        .save_into(&mut store)
        .map_err(|e| broken(path, &e.to_string()))?;
    store.get_bytes().map_err(|e| broken(path, &e.to_string()))
}

/// Reads such a file; every tensor must find its parameter and every parameter its tensor.
pub(crate) fn weights_from_bytes<M: Module>(
    mut model: M,
    bytes: Vec<u8>,
    path: &Path,
) -> Result<M> {
    let mut store =
        SafetensorsStore::from_bytes(Some(bytes)).with_from_adapter(PyTorchToBurnAdapter);
    let outcome = model
        .load_from(&mut store)
        .map_err(|e| broken(path, &e.to_string()))?;
    if outcome.missing.is_empty() && outcome.unused.is_empty() && outcome.errors.is_empty() {
        return Ok(model);
    }
    let missing: Vec<&str> = outcome
        .missing
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    Err(broken(
        path,
        &format!("missing {missing:?}, unexpected {:?}", outcome.unused),
    ))
}

/// Hash of a file's bytes.
pub(crate) fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn broken(path: &Path, detail: &str) -> Error {
    Error::Run {
        path: path.to_path_buf(),
        detail: format!("weights do not fit the model: {detail}"),
        hint: "train again, or use the version of the program that wrote the file".into(),
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::layer::init::initialise;
    use crate::train::config::TrainingConfig;

    fn fresh() -> (Linear, AdamW) {
        let layer = LinearConfig::new(3, 2).init(&Device::flex().autodiff());
        let layer = initialise(layer, 1);
        let optimizer = AdamW::of(&layer, &TrainingConfig::default());
        (layer, optimizer)
    }

    fn step(layer: Linear, optimizer: &mut AdamW, scale: f32) -> Linear {
        let input =
            Tensor::<2>::from_floats([[1.0, 2.0, -1.0]], &Device::flex().autodiff()) * scale;
        let grads = layer.forward(input).square().sum().backward();
        let grads = GradientsParams::from_grads(grads, &layer);
        optimizer.step(0.1, 1e-5, layer, grads)
    }

    fn bits(layer: &Linear) -> Vec<u32> {
        let weights = layer.weight.val().into_data().try_to_vec::<f32>().unwrap();
        weights.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let (mut layer, mut optimizer) = fresh();
        layer = step(step(layer, &mut optimizer, 1.0), &mut optimizer, 0.5);
        let progress = Progress {
            step: 2,
            seconds: 1.5,
            waited: 0.25,
        };
        save(folder.path(), &layer, &optimizer, progress).unwrap();
        let uninterrupted = step(layer, &mut optimizer, 2.0);

        let (layer, optimizer) = fresh();
        let (layer, mut optimizer, at) = load_newest(folder.path(), layer, optimizer)
            .unwrap()
            .unwrap();
        assert_eq!(at, progress);
        assert_eq!(
            bits(&step(layer, &mut optimizer, 2.0)),
            bits(&uninterrupted)
        );
    }

    #[test]
    fn a_damaged_checkpoint_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let (layer, optimizer) = fresh();
        let progress = |step| Progress {
            step,
            ..Progress::default()
        };
        save(folder.path(), &layer, &optimizer, progress(1)).unwrap();
        let kept = folder.path().join("checkpoint-00000001");
        let copy = folder.path().join("checkpoint-00000002");
        fs::create_dir(&copy).unwrap();
        for name in [WEIGHTS, OPTIMIZER, STATE] {
            fs::copy(kept.join(name), copy.join(name)).unwrap();
        }
        let mut bytes = fs::read(copy.join(WEIGHTS)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(copy.join(WEIGHTS), bytes).unwrap();
        let (_, _, at) = load_newest(folder.path(), layer, optimizer)
            .unwrap()
            .unwrap();
        assert_eq!(at.step, 1);
    }

    #[test]
    fn a_newer_checkpoint_replaces_the_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let (layer, optimizer) = fresh();
        for step in [100, 200] {
            let progress = Progress {
                step,
                ..Progress::default()
            };
            save(folder.path(), &layer, &optimizer, progress).unwrap();
        }
        assert_eq!(checkpoints(folder.path()).unwrap().len(), 1);
    }

    #[test]
    fn weights_of_another_shape_are_refused() {
        let (layer, _) = fresh();
        let bytes = weights_to_bytes(&layer, Path::new("x")).unwrap();
        let other: Linear = LinearConfig::new(4, 2).init(&Device::flex());
        let error = weights_from_bytes(other, bytes, Path::new("x")).unwrap_err();
        assert!(
            error.to_string().contains("do not fit the model"),
            "{error}"
        );
    }
}
