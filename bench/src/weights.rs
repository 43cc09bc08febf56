//! Weight files of other programs, and reference cases.
//!
//! Files are read here because their containers are `jepa-ingest`'s business and models are not: a torch file becomes
//! named arrays, and nothing that it says is executed.

mod planners;

use std::collections::BTreeMap;
use std::path::Path;

use jepa_ingest::container::mapped::FileBytes;
use jepa_ingest::container::torch_zip::TorchFile;
use jepa_models::weights::check::{self, Case, Comparison};
use jepa_models::weights::import::SourceFile;
use jepa_models::weights::{Array, Checkpoint};
use sha2::{Digest, Sha256};

use crate::Result;

/// Numbers that may come out of a file, for each of its bytes: one of each byte of a mask, and some arrays twice under
/// two names. More means that a small file names one array again and again.
const NUMBERS_PER_BYTE: usize = 4;
/// Longest header of a safetensors file.
const LONGEST_HEADER: u64 = 100_000_000;

/// How one reference class of planners is checked.
#[derive(Clone, Copy)]
pub struct PlannerCheck {
    /// The class as `manifest.json` names it: its `cls`, or the beginning of it.
    pub class: &'static str,
    /// Runs the case.
    pub run: fn(&Case<'_>) -> Result<Vec<Comparison>>,
}

/// Classes that are checked here and not in `jepa-models`, because planners are; asked first.
pub const CHECKS: &[PlannerCheck] = planners::CHECKS;

/// Runs a reference case.
///
/// # Errors
/// Errors of reading it, and of a class that nothing computes.
pub fn check(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let mut ours = CHECKS.iter();
    match ours.find(|entry| case.class().starts_with(entry.class)) {
        Some(entry) => (entry.run)(case),
        None => Ok(check::check(case)?),
    }
}

/// Every array of a torch or safetensors file, by its full key.
///
/// # Errors
/// [`jepa_models::Error::Unreadable`] with what the file is instead: a Git LFS pointer, a web page, a torch file from
/// before 1.6, a file cut short.
pub fn read(path: &Path) -> jepa_models::Result<Checkpoint> {
    read_where(path, &|_| true)
}

/// The arrays of a file whose key is wanted; the others are not copied out of it.
///
/// # Errors
/// Those of [`read`].
pub fn read_where(path: &Path, wanted: &dyn Fn(&str) -> bool) -> jepa_models::Result<Checkpoint> {
    let bytes = FileBytes::open(path).map_err(|e| unreadable(path, e))?;
    if !is_safetensors(&bytes) {
        return read_torch(path, wanted);
    }
    let name = path.display().to_string();
    let file = Checkpoint::from_safetensors(&name, &bytes)?;
    Ok(file.rename(|key| wanted(key).then(|| key.to_string())))
}

/// A header of a length that can be, which starts as JSON does.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return false;
    };
    (2..LONGEST_HEADER).contains(&u64::from_le_bytes(*length)) && rest.first() == Some(&b'{')
}

fn read_torch(path: &Path, wanted: &dyn Fn(&str) -> bool) -> jepa_models::Result<Checkpoint> {
    let refused = |error: jepa_ingest::Error| unreadable(path, error);
    let file = TorchFile::open(path).map_err(refused)?;
    let tensors = file.tensors().map_err(refused)?;
    let chosen = || tensors.iter().filter(|(key, _)| wanted(key));
    let numbers: usize = chosen()
        .map(|(_, t)| t.shape().iter().product::<usize>())
        .sum();
    if numbers > NUMBERS_PER_BYTE.saturating_mul(file.bytes().len()) {
        return Err(jepa_models::Error::Weights {
            name: path.display().to_string(),
            detail: format!(
                "{numbers} numbers in a file of {} bytes",
                file.bytes().len()
            ),
        });
    }
    let arrays = chosen().map(|(key, tensor)| {
        let array = Array::new(tensor.shape().to_vec(), tensor.to_f32())?;
        Ok((key.clone(), array))
    });
    Ok(Checkpoint::new(
        arrays.collect::<jepa_models::Result<BTreeMap<_, _>>>()?,
    ))
}

fn unreadable(path: &Path, error: jepa_ingest::Error) -> jepa_models::Error {
    jepa_models::Error::Unreadable {
        path: path.to_path_buf(),
        source: Box::new(error),
    }
}

/// Name, size and hashes of a weight file, which is one of those at `origin`.
///
/// # Errors
/// [`jepa_models::Error::Unreadable`].
pub fn identify(path: &Path, origin: &str) -> jepa_models::Result<SourceFile> {
    let bytes = FileBytes::open(path).map_err(|e| unreadable(path, e))?;
    let name = path.file_name().unwrap_or(path.as_os_str());
    let digits = Sha256::digest(&*bytes);
    let sha256: Vec<String> = digits.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(SourceFile {
        file: name.to_string_lossy().into_owned(),
        origin: origin.to_string(),
        bytes: bytes.len() as u64,
        blake3: blake3::hash(&bytes).to_hex().to_string(),
        sha256: sha256.concat(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/fixtures/models")
            .join(name)
    }

    #[test]
    fn a_training_checkpoint_is_read_past_its_optimiser_state() {
        // `opt` holds states under integer keys and lists of parameter groups; nothing of it is a weight.
        let file = read(&case("train_adaln/model_step3.pth.tar")).unwrap();
        let first = |key: &str| key.split('.').next().unwrap_or_default().to_string();
        let mut entries: Vec<String> = file.keys().map(first).collect();
        entries.dedup();
        assert_eq!(entries, ["predictor", "proprio_encoder"]);
        // The same weights, written by themselves.
        let weights = read(&case("train_adaln/weights_step3.safetensors")).unwrap();
        let file = file.without_wrapper();
        for key in weights.keys() {
            assert_eq!(file.get(key), weights.get(key), "{key}");
        }
        assert_eq!(file.keys().count(), weights.keys().count());
    }

    #[test]
    fn only_wanted_arrays_are_read_from_either_container() {
        let wanted = |key: &str| key.starts_with("proprio_encoder.");
        for name in [
            "train_adaln/model_step3.pth.tar",
            "train_adaln/weights_step3.safetensors",
        ] {
            let file = read_where(&case(name), &wanted).unwrap();
            assert_eq!(file.keys().count(), 2, "{name}");
        }
    }

    #[test]
    fn a_file_that_is_something_else_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.pth.tar");
        let says = |bytes: &[u8], part: &str| {
            std::fs::write(&path, bytes).unwrap();
            let error = anyhow::Error::from(read(&path).unwrap_err());
            let text = format!("{error:#}");
            assert!(text.contains(part), "{text}");
        };
        says(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
            "Git LFS pointer",
        );
        says(b"<!doctype html><title>404</title>", "web page");
        says(b"", "is empty");
        says(
            b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
            "before torch 1.6",
        );
        let whole = std::fs::read(case("head_state_decoder/model.pth.tar")).unwrap();
        says(&whole[..whole.len() / 2], "cut short");
        let whole = std::fs::read(case("train_adaln/weights_step3.safetensors")).unwrap();
        says(&whole[..whole.len() / 2], "model.pth.tar");
    }

    #[test]
    fn every_check_of_planners_names_a_class() {
        assert!(CHECKS.iter().all(|entry| !entry.class.is_empty()));
    }
}
