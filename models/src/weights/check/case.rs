//! A case on disk.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::compare::{Comparison, Tolerance, compare};
use crate::weights::Checkpoint;
use crate::{Compute, Error, Result};

/// Reads a torch file; the caller has a reader for them.
pub type ReadWeights<'a> = &'a dyn Fn(&Path) -> Result<Checkpoint>;

/// A reference case: its folder, its manifest, how to read torch files, and where to compute.
pub struct Case<'a> {
    folder: PathBuf,
    manifest: Value,
    torch: ReadWeights<'a>,
    compute: Compute,
}

impl<'a> Case<'a> {
    /// Opens the case in `folder`; it is computed on the processor.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Weights`] for a manifest that cannot be read.
    pub fn open(folder: &Path, torch: ReadWeights<'a>) -> Result<Self> {
        let path = folder.join("manifest.json");
        let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let manifest: Value = serde_json::from_slice(&text).map_err(|e| Error::Weights {
            name: path.display().to_string(),
            detail: e.to_string(),
        })?;
        Ok(Self {
            folder: folder.to_path_buf(),
            manifest,
            torch,
            compute: Compute::Cpu,
        })
    }

    /// The same case, computed elsewhere.
    #[must_use]
    pub fn on(self, compute: Compute) -> Self {
        Self { compute, ..self }
    }

    /// Where its tensors are, without gradients.
    pub(crate) fn device(&self) -> Device {
        self.compute.device()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text("case")
    }

    /// The reference class; empty for a folder that only holds inputs of others.
    pub fn class(&self) -> &str {
        self.text("cls")
    }

    /// Where the reference class is from.
    pub fn source(&self) -> &str {
        self.text("source")
    }

    fn text(&self, key: &str) -> &str {
        self.manifest.get(key).and_then(Value::as_str).unwrap_or("")
    }

    /// The whole manifest.
    pub fn manifest(&self) -> &Value {
        &self.manifest
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The configuration of the model, or the part of it that `C` names.
    ///
    /// # Errors
    /// [`Error::Weights`] that names the field that is missing or of another type.
    pub fn config<C: DeserializeOwned>(&self) -> Result<C> {
        let config = self.manifest.get("config").cloned().unwrap_or(Value::Null);
        serde_json::from_value(config).map_err(|e| self.broken(format!("config: {e}")))
    }

    /// The file called `name` of this case (or a path relative to it, such as `../images/images.safetensors`):
    /// a safetensors or a torch file.
    ///
    /// # Errors
    /// Errors of reading it.
    pub fn arrays(&self, name: &str) -> Result<Checkpoint> {
        let path = self.folder.join(name);
        if path.extension().is_none_or(|e| e != "safetensors") {
            return (self.torch)(&path);
        }
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        Checkpoint::from_safetensors(&path.display().to_string(), &bytes)
    }

    /// Another case, given by its folder relative to this one; computed where this one is.
    ///
    /// # Errors
    /// Errors of [`Case::open`].
    pub fn beside(&self, folder: &str) -> Result<Case<'a>> {
        let case = Case::open(&self.folder.join(folder), self.torch)?;
        Ok(case.on(self.compute))
    }

    /// `expected.json`.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Weights`].
    pub fn expected(&self) -> Result<Value> {
        let path = self.folder.join("expected.json");
        let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&text).map_err(|e| self.broken(format!("expected.json: {e}")))
    }

    /// The tolerance of outputs: that of the manifest, or 1e-4 absolute and relative where it gives none.
    pub fn tolerance(&self) -> Tolerance {
        let stated = self.manifest.get("tolerance").unwrap_or(&Value::Null);
        let stated = stated.get("outputs").unwrap_or(stated);
        let number = |key: &str| stated.get(key).and_then(Value::as_f64);
        match (number("atol"), number("rtol")) {
            (None, None) => Tolerance::default(),
            (absolute, relative) => Tolerance {
                absolute: absolute.unwrap_or(0.0),
                relative: relative.unwrap_or(0.0),
            },
        }
    }

    /// Compares `values` with the array called `name` of `expected`, at the case's tolerance.
    ///
    /// # Errors
    /// [`Error::Weights`] when there is no such array.
    pub fn compare(&self, expected: &Checkpoint, name: &str, values: &[f32]) -> Result<Comparison> {
        let expected = expected.require(name)?;
        Ok(compare(name, values, &expected.values, self.tolerance()))
    }

    /// An error about this case.
    pub fn broken(&self, detail: String) -> Error {
        Error::Weights {
            name: self.folder.display().to_string(),
            detail,
        }
    }
}
