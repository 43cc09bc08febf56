//! Released weight files to files of ours: safetensors under our names and a `config.json` beside them.
//!
//! [`IMPORTS`] says for every file what it is and where it is from, which of its entries are read, and how they become
//! arrays under the names of our modules. Nothing partial goes through: every key that a model needs must be there in
//! its shape, and every key of the entries that are read must have a place or be left out by name.
//!
//! [`MODELS`] are the world models: their files become folders like those of training runs ([`ImportedModel`]).

mod encoder;
mod head;
mod model;
mod released;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use burn::module::Module;
use safetensors::{Dtype, View};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use encoder::convert_sizes;
pub(crate) use encoder::{KIND as ENCODER, Named};
pub use model::{ImportedModel, KIND as WORLD_MODEL, Normalizers};
pub use released::{MODELS, ModelEntry, ModelSizes, find_model};

use super::fill::expected;
use super::{Array, Checkpoint};
use crate::train::files::{create_dir, write_json};
use crate::{Error, Result};

/// Name of the arrays in a folder of weights.
pub const WEIGHTS: &str = "weights.safetensors";
/// Name of the document beside them.
pub const CONFIG: &str = "config.json";
/// Version of that layout.
const FORMAT_VERSION: u32 = 1;

/// One released file.
#[derive(Clone, Copy)]
pub struct ImportEntry {
    /// Name on the command line.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// The kind of model it is for; folders of weights carry it.
    pub kind: &'static str,
    /// Where the file is.
    pub origin: &'static str,
    /// Entries of the file that are read, by the beginning of their keys; empty for all of it.
    pub sections: &'static [&'static str],
    /// Takes the arrays of these entries.
    pub convert: fn(Checkpoint) -> Result<Converted>,
}

impl ImportEntry {
    /// Whether the array of this key is needed.
    pub fn reads(&self, key: &str) -> bool {
        let below = |section: &&str| {
            key.strip_prefix(section)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        self.sections.is_empty() || self.sections.iter().any(below)
    }
}

/// A file turned into ours.
#[derive(Debug, Clone)]
pub struct Converted {
    /// Arrays under the names of our modules, in `PyTorch`'s layout.
    pub arrays: Checkpoint,
    /// Sizes of the model.
    pub config: Value,
    /// Keys of the file that we have no use for.
    pub left_out: Vec<String>,
}

/// Every file that can be imported.
pub const IMPORTS: &[&[ImportEntry]] = &[encoder::ENTRIES, head::ENTRIES];

/// The entry called `name`.
///
/// # Errors
/// [`Error::UnknownModel`] with every name there is.
pub fn find(name: &str) -> Result<&'static ImportEntry> {
    let mut all = IMPORTS.iter().copied().flatten();
    all.find(|entry| entry.name == name)
        .ok_or_else(|| Error::UnknownModel {
            name: name.to_string(),
            known: names().map(str::to_string).collect(),
        })
}

/// Every name that `weights import` knows: files that become weights, and then world models.
fn names() -> impl Iterator<Item = &'static str> {
    let weights = IMPORTS.iter().copied().flatten().map(|entry| entry.name);
    weights.chain(MODELS.iter().map(|entry| entry.name))
}

/// The entry `name` of a file, without that prefix and without the wrapper of data-parallel training.
///
/// # Errors
/// [`Error::Weights`] with the entries that there are, when that one is missing.
pub(crate) fn section(file: Checkpoint, name: &str) -> Result<Checkpoint> {
    let entries: Vec<String> = entries(&file);
    let part = file.rename(|key| {
        let rest = key.strip_prefix(name)?.strip_prefix('.')?;
        Some(rest.replace("module.", ""))
    });
    if part.is_empty() {
        return Err(Error::Weights {
            name: name.to_string(),
            detail: format!(
                "there is no such entry in the file, only: {}",
                entries.join(", ")
            ),
        });
    }
    Ok(part)
}

/// The first parts of the keys, each once.
fn entries(file: &Checkpoint) -> Vec<String> {
    let mut found: Vec<String> = file
        .keys()
        .map(|key| key.split('.').next().unwrap_or(key).to_string())
        .collect();
    found.dedup();
    found.truncate(20);
    found
}

/// Takes out the arrays that we have no use for, and returns their keys.
pub(crate) fn leave_out(arrays: &mut Checkpoint, unused: impl Fn(&str) -> bool) -> Vec<String> {
    let keys: Vec<String> = arrays
        .keys()
        .filter(|key| unused(key))
        .map(str::to_string)
        .collect();
    for key in &keys {
        arrays.remove(key);
    }
    keys
}

/// The arrays of a file under the names of `module`'s parameters; `key` gives the file's key for one of ours.
///
/// # Errors
/// [`Error::Keys`] that lists every key that is missing, unexpected or of another shape.
pub(crate) fn fit<M: Module>(
    name: &str,
    module: &M,
    mut file: Checkpoint,
    key: impl Fn(&str) -> String,
) -> Result<Checkpoint> {
    let (mut missing, mut shapes) = (Vec::new(), Vec::new());
    let mut arrays = BTreeMap::new();
    for (ours, shape) in expected(module, str::to_string) {
        let theirs = key(&ours);
        match file.remove(&theirs) {
            None => missing.push(theirs),
            Some(array) if array.shape != shape => shapes.push(format!(
                "{theirs}: {:?} in the file, {shape:?} in the model",
                array.shape
            )),
            Some(array) => {
                arrays.insert(ours, array);
            }
        }
    }
    let unexpected: Vec<String> = file.keys().map(str::to_string).collect();
    if missing.is_empty() && shapes.is_empty() && unexpected.is_empty() {
        return Ok(Checkpoint::new(arrays));
    }
    Err(Error::Keys {
        name: name.to_string(),
        missing,
        unexpected,
        shapes,
    })
}

fn to_value(config: &impl Serialize) -> Result<Value> {
    serde_json::to_value(config).map_err(|e| Error::Weights {
        name: CONFIG.to_string(),
        detail: e.to_string(),
    })
}

/// The file that weights were made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its name, without folders.
    pub file: String,
    /// Where such files are.
    pub origin: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its bytes.
    pub blake3: String,
    /// SHA-256 of its bytes, which release pages give.
    pub sha256: String,
}

/// `config.json` of a folder of weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightsConfig {
    /// Version of this layout.
    pub format_version: u32,
    /// Name of the released model.
    pub model: String,
    /// Kind of model.
    pub kind: String,
    /// Its sizes.
    pub config: Value,
    /// Numbers in all arrays.
    pub parameters: u64,
    /// Arrays.
    pub arrays: u64,
    /// BLAKE3 of the arrays' file.
    pub weights_blake3: String,
    /// Keys of the source file that we have no use for.
    pub left_out: Vec<String>,
    /// What they were made from.
    pub source: SourceFile,
}

impl WeightsConfig {
    /// What would be written for `converted`; the hash of the arrays is filled in when they are.
    pub fn new(entry: &ImportEntry, converted: &Converted, source: SourceFile) -> Self {
        let sizes = converted
            .arrays
            .keys()
            .filter_map(|key| converted.arrays.get(key));
        let parameters: usize = sizes.map(|array| array.values.len()).sum();
        Self {
            format_version: FORMAT_VERSION,
            model: entry.name.to_string(),
            kind: entry.kind.to_string(),
            config: converted.config.clone(),
            parameters: parameters as u64,
            arrays: converted.arrays.keys().count() as u64,
            weights_blake3: String::new(),
            left_out: converted.left_out.clone(),
            source,
        }
    }
}

/// Writes a folder of weights; `config.json` comes last and names the hash of the arrays, so that a folder with one is
/// whole.
///
/// # Errors
/// [`Error::Io`].
pub fn write(
    folder: &Path,
    arrays: &Checkpoint,
    mut config: WeightsConfig,
) -> Result<WeightsConfig> {
    create_dir(folder)?;
    let path = folder.join(WEIGHTS);
    save(&path, arrays)?;
    config.weights_blake3 = hash_file(&path)?;
    write_json(&folder.join(CONFIG), &config)?;
    Ok(config)
}

/// Reads a folder of weights of some kind.
///
/// # Errors
/// [`Error::Weights`] for another kind, another version or changed arrays; errors of reading.
pub fn read(folder: &Path, kind: &str) -> Result<(WeightsConfig, Checkpoint)> {
    let broken = |detail: String| Error::Weights {
        name: folder.display().to_string(),
        detail,
    };
    let path = folder.join(CONFIG);
    let text = fs::read(&path).map_err(Error::io("read", &path))?;
    let config: WeightsConfig =
        serde_json::from_slice(&text).map_err(|e| broken(format!("`{CONFIG}`: {e}")))?;
    if config.format_version != FORMAT_VERSION {
        let version = config.format_version;
        return Err(broken(format!(
            "has format version {version}, this program reads {FORMAT_VERSION}"
        )));
    }
    if config.kind != kind {
        return Err(broken(format!(
            "holds weights of kind `{}`, not `{kind}`",
            config.kind
        )));
    }
    let path = folder.join(WEIGHTS);
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    if blake3::hash(&bytes).to_hex().to_string() != config.weights_blake3 {
        return Err(broken(format!(
            "the hash of `{WEIGHTS}` is not the one in `{CONFIG}`"
        )));
    }
    let arrays = Checkpoint::from_safetensors(&path.display().to_string(), &bytes)?;
    Ok((config, arrays))
}

/// [`read`], with the sizes as the model's own type.
pub(crate) fn load<C: DeserializeOwned>(folder: &Path, kind: &str) -> Result<(C, Checkpoint)> {
    let (config, arrays) = read(folder, kind)?;
    Ok((sizes(folder, &config)?, arrays))
}

/// The sizes in a document of [`read`], as the model's own type.
pub(crate) fn sizes<C: DeserializeOwned>(folder: &Path, config: &WeightsConfig) -> Result<C> {
    serde_json::from_value(config.config.clone()).map_err(|e| Error::Weights {
        name: folder.join(CONFIG).display().to_string(),
        detail: e.to_string(),
    })
}

/// An array on its way to a file; its bytes are made when they are written.
struct Stored<'a>(&'a Array);

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.0.values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        4 * self.0.values.len()
    }
}

/// Writes arrays as safetensors, beside the final name first. Equal arrays give equal bytes.
fn save(path: &Path, arrays: &Checkpoint) -> Result<()> {
    let partial = path.with_extension("partial");
    let views = arrays
        .keys()
        .filter_map(|key| Some((key, Stored(arrays.get(key)?))));
    safetensors::serialize_to_file(views, None, &partial).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(error) => Error::io("write", path)(error),
        error => Error::Weights {
            name: path.display().to_string(),
            detail: error.to_string(),
        },
    })?;
    let finish = || -> std::io::Result<()> {
        File::open(&partial)?.sync_all()?;
        fs::rename(&partial, path)
    };
    finish().map_err(Error::io("write", path))
}

/// blake3 of the file that [`write`] makes of these arrays.
pub(crate) fn hash_of(arrays: &Checkpoint) -> Result<String> {
    let views = arrays
        .keys()
        .filter_map(|key| Some((key, Stored(arrays.get(key)?))));
    let bytes = safetensors::serialize(views, None).map_err(|error| Error::Weights {
        name: WEIGHTS.to_string(),
        detail: error.to_string(),
    })?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

fn hash_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).map_err(Error::io("read", path))?;
    hasher
        .update_reader(file)
        .map_err(Error::io("read", path))?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::head::convert_state_decoder;
    use super::*;
    use crate::head::image_decoder::ImageDecoder;
    use crate::head::state_decoder::{StateDecoder, StateDecoderConfig};
    use crate::weights::check::testing::{folder, torch};

    fn source() -> SourceFile {
        SourceFile {
            file: "model.pth.tar".into(),
            origin: "a test".into(),
            bytes: 7,
            blake3: "b".into(),
            sha256: "s".into(),
        }
    }

    fn small() -> StateDecoderConfig {
        StateDecoderConfig {
            features: 20,
            width: 32,
            depth: 2,
            heads: 4,
            hidden: 128,
            epsilon: 1e-5,
            grid: [4, 4],
            state: 4,
        }
    }

    fn file() -> Checkpoint {
        torch(&folder("head_state_decoder").join("model.pth.tar")).unwrap()
    }

    #[test]
    fn names_are_unique_and_say_what_to_read() {
        let mut names: Vec<&str> = names().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        let entry = find("dinov2_vits_224").unwrap();
        assert!(entry.reads("model.module.view_tokens"));
        assert!(!entry.reads("models.x") && !entry.reads("opt.model.x") && !entry.reads("model"));
        assert!(find("vgg16").unwrap().reads("features.0.weight"));
        let error = find("dinov2_vits").err().unwrap();
        assert!(error.hint().unwrap().contains("dinov2_vits_224"), "{error}");
    }

    #[test]
    fn a_folder_of_weights_decodes_as_the_file_does() {
        let out = tempfile::tempdir().unwrap();
        let converted = convert_state_decoder(file(), &small()).unwrap();
        assert_eq!(converted.left_out, ["decoder_pos_embed"]);
        let entry = find("state_decoder_wall").unwrap();
        let config = WeightsConfig::new(entry, &converted, source());
        let written = write(out.path(), &converted.arrays, config).unwrap();
        assert_eq!(written.arrays, converted.arrays.keys().count() as u64);
        let ours = StateDecoder::load(out.path()).unwrap();
        let theirs = StateDecoder::new(small(), section(file(), "model").unwrap()).unwrap();
        let values = (0..2 * 16 * 20).map(|i| (i as f32 * 0.1).sin()).collect();
        let features = Array::new(vec![2, 4, 4, 20], values).unwrap();
        assert_eq!(
            ours.decode(&features).unwrap(),
            theirs.decode(&features).unwrap()
        );
        assert!(
            ImageDecoder::load(out.path())
                .unwrap_err()
                .to_string()
                .contains("kind")
        );
    }

    #[test]
    fn equal_weights_are_equal_bytes_and_changed_bytes_are_noticed() {
        let converted = convert_state_decoder(file(), &small()).unwrap();
        let entry = find("state_decoder_wall").unwrap();
        let config = WeightsConfig::new(entry, &converted, source());
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for out in [&one, &two] {
            write(out.path(), &converted.arrays, config.clone()).unwrap();
        }
        let bytes = |out: &tempfile::TempDir| fs::read(out.path().join(WEIGHTS)).unwrap();
        assert_eq!(bytes(&one), bytes(&two));
        let mut changed = bytes(&one);
        *changed.last_mut().unwrap() ^= 1;
        fs::write(one.path().join(WEIGHTS), changed).unwrap();
        let error = StateDecoder::load(one.path()).unwrap_err().to_string();
        assert!(error.contains("hash"), "{error}");
    }

    #[test]
    fn another_file_is_refused_with_every_key() {
        let error = convert_state_decoder(file(), &StateDecoderConfig::released(4)).unwrap_err();
        assert!(error.to_string().contains("another grid"), "{error}");
        let mut other = file();
        other.remove("model.module.decoder_pos_embed");
        let error = convert_state_decoder(other, &StateDecoderConfig::released(4)).unwrap_err();
        let Error::Keys {
            missing,
            unexpected,
            shapes,
            ..
        } = error
        else {
            panic!("{error}")
        };
        // Blocks 2 to 5 are missing, 12 arrays each; every other array has another shape but the bias of the state.
        assert_eq!(
            (missing.len(), unexpected.len(), shapes.len()),
            (48, 0, 2 * 12 + 4)
        );
        let error = convert_state_decoder(Checkpoint::default(), &small()).unwrap_err();
        assert!(error.to_string().contains("no such entry"), "{error}");
    }
}
