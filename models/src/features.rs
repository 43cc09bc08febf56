//! Tokens of a frozen encoder, kept beside the frames of a dataset.
//!
//! ```text
//! DATASET/features/NAME-HASH/features.json          what they are of, see [`FeatureSpec`]
//! DATASET/features/NAME-HASH/episode_000000.npy     [frames, N, D], float16 or float32; one file per episode
//! ```
//!
//! The folder is named by the hash of the whole description: dataset, camera, encoder, its weights, the transform in
//! front of it, and the type of the numbers. Features of anything else are in another folder, so old ones are never
//! taken for new ones. Every file is written beside its name and renamed, so the work may be stopped anywhere and
//! shared out by episodes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::f16;
use jepa_datasets::transform::Geometry;
use jepa_datasets::{Dataset, EpisodeMeta, FEATURES, Shard};
use serde::{Deserialize, Serialize};

use crate::encoder::FrozenEncoder;
use crate::encoder::frozen::FRAMES_AT_A_TIME;
use crate::train::files::{create_dir, damaged, read_json, write_atomic, write_json};
use crate::{Error, Result};

const DOCUMENT: &str = "features.json";
const FORMAT_VERSION: u32 = 1;
/// Bytes before the numbers of a `.npy` file as we write it.
const HEADER: usize = 128;

/// Type of the stored numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureType {
    /// Half precision: half the disk, 11 bits of the mantissa.
    F16,
    /// Single precision: the encoder's own numbers.
    F32,
}

impl FeatureType {
    fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// NumPy's name of the type.
    fn descr(self) -> &'static str {
        match self {
            Self::F16 => "<f2",
            Self::F32 => "<f4",
        }
    }
}

/// What features are of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSpec {
    /// Version of the layout.
    pub format_version: u32,
    /// Content hash of the dataset.
    pub dataset_hash: String,
    /// Camera whose frames were encoded.
    pub camera: String,
    /// Name of the encoder.
    pub encoder: String,
    /// blake3 of its weights.
    pub weights_hash: String,
    /// Crop and interpolation in front of it.
    pub transform: Geometry,
    /// Mean of red, green and blue that is taken from the pixels, in `[0, 1]`.
    pub pixel_mean: [f32; 3],
    /// What they are then divided by.
    pub pixel_std: [f32; 3],
    /// Side of the images that it sees.
    pub image: usize,
    /// Tokens of a frame, rows and columns.
    pub grid: [usize; 2],
    /// Width `D` of a token.
    pub width: usize,
    /// Type of the numbers.
    pub dtype: FeatureType,
}

impl FeatureSpec {
    /// The features of `encoder` for a camera of `dataset`, the first one where none is named.
    ///
    /// # Errors
    /// When the dataset has no such camera.
    pub fn new(
        dataset: &Dataset,
        encoder: &FrozenEncoder,
        camera: Option<&str>,
        dtype: FeatureType,
    ) -> Result<Self> {
        let shape = encoder.shape();
        Ok(Self {
            format_version: FORMAT_VERSION,
            dataset_hash: dataset.content_hash().to_string(),
            camera: dataset.manifest().camera(camera)?.name.clone(),
            encoder: encoder.name().to_string(),
            weights_hash: encoder.weights_hash().to_string(),
            transform: encoder.transform().geometry,
            pixel_mean: encoder.transform().norm.mean,
            pixel_std: encoder.transform().norm.std,
            image: shape.image,
            grid: shape.grid(),
            width: shape.width,
            dtype,
        })
    }

    /// Hash of the whole description.
    fn hash(&self) -> Result<String> {
        let text = serde_json::to_vec(self).map_err(|e| Error::Config {
            key: "features",
            detail: e.to_string(),
        })?;
        Ok(blake3::hash(&text).to_hex().to_string())
    }

    /// Where they are kept.
    ///
    /// # Errors
    /// [`Error::Config`] when the description has no form in JSON.
    pub fn folder(&self, dataset: &Path) -> Result<PathBuf> {
        let name = format!("{}-{}", self.encoder, &self.hash()?[..16]);
        Ok(dataset.join(FEATURES).join(name))
    }

    /// Bytes of the features of the whole dataset.
    pub fn bytes(&self, dataset: &Dataset) -> u64 {
        let frames = dataset
            .episodes()
            .iter()
            .map(|e| frames_of(e, &self.camera));
        frames.map(|count| self.file_bytes(count)).sum()
    }

    /// Numbers of a frame.
    fn numbers(&self) -> usize {
        self.grid[0] * self.grid[1] * self.width
    }

    /// Bytes of the file of an episode.
    fn file_bytes(&self, frames: u64) -> u64 {
        HEADER as u64 + frames * (self.numbers() * self.dtype.bytes()) as u64
    }

    /// The first bytes of that file.
    fn header(&self, frames: u64) -> Vec<u8> {
        let dict = format!(
            "{{'descr': '{}', 'fortran_order': False, 'shape': ({frames}, {}, {}), }}",
            self.dtype.descr(),
            self.grid[0] * self.grid[1],
            self.width
        );
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        header.extend(((HEADER - 10) as u16).to_le_bytes());
        header.extend(dict.as_bytes());
        header.resize(HEADER - 1, b' ');
        header.push(b'\n');
        header
    }

    /// The numbers of frames as bytes.
    fn to_bytes(&self, values: &[f32]) -> Result<Vec<u8>> {
        match self.dtype {
            FeatureType::F32 => Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            FeatureType::F16 => {
                let mut bytes = Vec::with_capacity(2 * values.len());
                for value in values {
                    let half = f16::from_f32(*value);
                    if !half.is_finite() {
                        return Err(Error::Config {
                            key: "dtype",
                            detail: format!(
                                "f16 cannot hold {value}, which `{}` gave: use f32",
                                self.encoder
                            ),
                        });
                    }
                    bytes.extend(half.to_le_bytes());
                }
                Ok(bytes)
            }
        }
    }

    fn to_floats(&self, bytes: &[u8]) -> Vec<f32> {
        match self.dtype {
            FeatureType::F32 => {
                let numbers = bytes.as_chunks().0.iter();
                numbers.map(|b| f32::from_le_bytes(*b)).collect()
            }
            FeatureType::F16 => {
                let numbers = bytes.as_chunks().0.iter();
                numbers.map(|b| f16::from_le_bytes(*b).to_f32()).collect()
            }
        }
    }
}

fn file_of(folder: &Path, episode: u64) -> PathBuf {
    folder.join(format!("episode_{episode:06}.npy"))
}

/// Frames of a camera that an episode has.
fn frames_of(episode: &EpisodeMeta, camera: &str) -> u64 {
    episode.frames.get(camera).map_or(0, |range| range.count)
}

/// Whether the features of an episode are there in full.
fn is_there(folder: &Path, spec: &FeatureSpec, episode: &EpisodeMeta) -> bool {
    let wanted = spec.file_bytes(frames_of(episode, &spec.camera));
    let path = file_of(folder, episode.episode_index);
    std::fs::metadata(path).is_ok_and(|found| found.len() == wanted)
}

/// The finished features of a dataset.
#[derive(Debug)]
pub(crate) struct FeatureCache {
    folder: PathBuf,
    spec: FeatureSpec,
    hash: String,
    /// Frames of every episode.
    frames: Vec<u64>,
}

impl FeatureCache {
    /// The features that `spec` describes for a type of numbers, single precision before half; `None` where there
    /// are none of either.
    ///
    /// # Errors
    /// [`Error::Run`] when they are there in part.
    pub(crate) fn find(
        dataset: &Dataset,
        spec: &dyn Fn(FeatureType) -> Result<FeatureSpec>,
    ) -> Result<Option<Self>> {
        for dtype in [FeatureType::F32, FeatureType::F16] {
            if let Some(found) = Self::open(dataset, spec(dtype)?)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn open(dataset: &Dataset, spec: FeatureSpec) -> Result<Option<Self>> {
        let folder = spec.folder(dataset.path())?;
        let document = folder.join(DOCUMENT);
        if !document.is_file() {
            return Ok(None);
        }
        if read_json::<FeatureSpec>(&document)? != spec {
            return Err(damaged(&document, "it does not describe its folder"));
        }
        let episodes = dataset.episodes();
        let there = episodes
            .iter()
            .filter(|episode| is_there(&folder, &spec, episode));
        let there = there.count();
        if there < episodes.len() {
            return Err(Error::Run {
                path: folder,
                detail: format!("has features of {there} of {} episodes", episodes.len()),
                hint: "finish them with `jepa-bench embed`, or delete the folder".into(),
            });
        }
        Ok(Some(Self {
            hash: spec.hash()?,
            frames: episodes
                .iter()
                .map(|episode| frames_of(episode, &spec.camera))
                .collect(),
            folder,
            spec,
        }))
    }

    /// What tells these features from others.
    pub(crate) fn identity(&self) -> String {
        self.hash.clone()
    }

    /// Tokens of some frames of an episode, `[frames, N, D]`.
    pub(crate) fn read(&self, episode: u64, rows: &[u64]) -> Result<Vec<f32>> {
        let path = file_of(&self.folder, episode);
        let count = self.frames.get(episode as usize).copied().unwrap_or(0);
        if let Some(row) = rows.iter().find(|row| **row >= count) {
            return Err(damaged(
                &path,
                &format!("has {count} frames, asked for frame {row}"),
            ));
        }
        let mut file = File::open(&path).map_err(Error::io("read", &path))?;
        let mut header = [0; HEADER];
        file.read_exact(&mut header)
            .map_err(Error::io("read", &path))?;
        if header[..] != self.spec.header(count)[..] {
            return Err(damaged(&path, "its header is not the one that was written"));
        }
        let frame = self.spec.numbers() * self.spec.dtype.bytes();
        let mut bytes = vec![0; frame * rows.len()];
        for (bytes, row) in bytes.chunks_exact_mut(frame).zip(rows) {
            let start = SeekFrom::Start(HEADER as u64 + row * frame as u64);
            file.seek(start)
                .and_then(|_| file.read_exact(bytes))
                .map_err(Error::io("read", &path))?;
        }
        Ok(self.spec.to_floats(&bytes))
    }
}

/// What to embed.
#[derive(Debug)]
pub struct EmbedRequest<'a> {
    /// The dataset.
    pub dataset: &'a Dataset,
    /// The encoder.
    pub encoder: &'a FrozenEncoder,
    /// Camera; the first one where none is named.
    pub camera: Option<&'a str>,
    /// Type of the stored numbers.
    pub dtype: FeatureType,
    /// The share of the episodes that this process does; all of them without.
    pub shard: Option<Shard>,
}

/// How an embedding talks to its caller.
#[derive(Clone, Copy)]
pub struct EmbedHooks<'a> {
    /// Called once, with the frames that are to be encoded.
    pub on_total: &'a dyn Fn(u64),
    /// Frames that were encoded since the last call.
    pub on_frames: &'a dyn Fn(u64),
    /// Polled between parts; `true` stops.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Embedded {
    /// Where the features are.
    pub folder: PathBuf,
    /// What they are of.
    pub features: FeatureSpec,
    /// Episodes that have features now.
    pub episodes: u64,
    /// Episodes of the dataset.
    pub of_episodes: u64,
    /// Frames that were encoded this time.
    pub encoded_frames: u64,
    /// Bytes of all features that are there.
    pub bytes: u64,
}

/// Encodes every frame of a camera, episode by episode, and keeps the tokens in the dataset. Episodes that have theirs
/// are left alone.
///
/// # Errors
/// [`Error::Interrupted`] when the caller asked to stop; errors of reading, encoding and writing.
pub fn embed(request: &EmbedRequest<'_>, hooks: &EmbedHooks<'_>) -> Result<Embedded> {
    let (dataset, encoder) = (request.dataset, request.encoder);
    let spec = FeatureSpec::new(dataset, encoder, request.camera, request.dtype)?;
    let folder = spec.folder(dataset.path())?;
    let ours = |episode: &&EpisodeMeta| {
        let index = episode.episode_index;
        request
            .shard
            .as_ref()
            .is_none_or(|shard| shard.holds(index))
    };
    let missing = |episode: &&EpisodeMeta| !is_there(&folder, &spec, episode);
    let episodes: Vec<&EpisodeMeta> = dataset.episodes().iter().filter(ours).collect();
    let pending: Vec<&EpisodeMeta> = episodes.into_iter().filter(missing).collect();
    let total = pending.iter().map(|e| frames_of(e, &spec.camera)).sum();
    (hooks.on_total)(total);
    create_dir(&folder)?;
    write_json(&folder.join(DOCUMENT), &spec)?;
    let mut encoded = 0;
    for episode in pending {
        let bytes = embed_episode(request, &spec, episode, hooks, (&mut encoded, total))?;
        write_atomic(&file_of(&folder, episode.episode_index), &bytes)?;
    }
    let all = dataset.episodes();
    let there = all
        .iter()
        .filter(|episode| is_there(&folder, &spec, episode));
    let sizes = there.map(|e| spec.file_bytes(frames_of(e, &spec.camera)));
    let sizes: Vec<u64> = sizes.collect();
    Ok(Embedded {
        folder,
        episodes: sizes.len() as u64,
        of_episodes: all.len() as u64,
        encoded_frames: encoded,
        bytes: sizes.iter().sum(),
        features: spec,
    })
}

/// The file of one episode.
fn embed_episode(
    request: &EmbedRequest<'_>,
    spec: &FeatureSpec,
    episode: &EpisodeMeta,
    hooks: &EmbedHooks<'_>,
    (encoded, total): (&mut u64, u64),
) -> Result<Vec<u8>> {
    let camera = request.dataset.manifest().camera(Some(&spec.camera))?;
    let count = frames_of(episode, &spec.camera);
    let mut file = spec.header(count);
    let frames: Vec<usize> = (0..count as usize).collect();
    for part in frames.chunks(FRAMES_AT_A_TIME) {
        if (hooks.interrupted)() {
            return Err(Error::Interrupted {
                step: *encoded,
                total,
            });
        }
        let index = episode.episode_index;
        let pixels = request.dataset.read_frames(&spec.camera, index, part)?;
        let rgb = pixels.into_u8();
        let tokens = request.encoder.encode(&rgb, camera.height, camera.width)?;
        file.extend(spec.to_bytes(&tokens)?);
        *encoded += part.len() as u64;
        (hooks.on_frames)(part.len() as u64);
    }
    Ok(file)
}
