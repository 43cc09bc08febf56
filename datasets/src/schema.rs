//! What `dataset.json`, `stats.json` and `splits.json` say (format version 1).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::episode::{ACTION, PROPRIO, REWARD, STATE};
use crate::store::MAX_SIDE;
use crate::{Error, Result};

/// Version of the layout on disk that this program writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Number type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dtype {
    /// 32-bit float.
    #[serde(rename = "float32")]
    F32,
    /// 64-bit float.
    #[serde(rename = "float64")]
    F64,
    /// 64-bit integer.
    #[serde(rename = "int64")]
    I64,
}

impl Dtype {
    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::I64 => "int64",
        })
    }
}

/// How row `t` of a field relates to frame `t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alignment {
    /// Holds at the moment of frame `t`.
    AtRow,
    /// Applied at row `t`: it leads from frame `t` to frame `t + 1`.
    AppliedAtRow,
    /// Received after the action of row `t`.
    AfterRow,
}

/// One column of the step table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Column name, in LeRobot's style.
    pub name: String,
    /// Number type.
    pub dtype: Dtype,
    /// Shape of one row: `[width]`.
    pub shape: Vec<usize>,
    /// Physical units, or `unitless`.
    pub units: String,
    /// What the dimensions are.
    pub meaning: String,
    /// How a row relates to its frame.
    pub alignment: Alignment,
}

impl Field {
    /// A field of `width` numbers per row.
    pub fn new(
        name: &str,
        dtype: Dtype,
        width: usize,
        units: &str,
        meaning: &str,
        alignment: Alignment,
    ) -> Self {
        Self {
            name: name.into(),
            dtype,
            shape: vec![width],
            units: units.into(),
            meaning: meaning.into(),
            alignment,
        }
    }

    /// The action column: `float32`, applied at each row.
    pub fn action(width: usize, units: &str, meaning: &str) -> Self {
        Self::new(
            ACTION,
            Dtype::F32,
            width,
            units,
            meaning,
            Alignment::AppliedAtRow,
        )
    }

    /// The proprioception column: `float32`, what a model may see.
    pub fn proprio(width: usize, units: &str, meaning: &str) -> Self {
        Self::new(PROPRIO, Dtype::F32, width, units, meaning, Alignment::AtRow)
    }

    /// The full-state column, in the type of its source.
    pub fn state(dtype: Dtype, width: usize, units: &str, meaning: &str) -> Self {
        Self::new(STATE, dtype, width, units, meaning, Alignment::AtRow)
    }

    /// The reward column: one `float32` per row.
    pub fn reward(meaning: &str) -> Self {
        Self::new(
            REWARD,
            Dtype::F32,
            1,
            "unitless",
            meaning,
            Alignment::AfterRow,
        )
    }

    /// Numbers per row.
    pub fn width(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Type of one pixel value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PixelType {
    /// Whole numbers 0 to 255.
    #[serde(rename = "uint8")]
    U8,
    /// Floats 0 to 255, for sources whose frames are not whole numbers.
    #[serde(rename = "float32")]
    F32,
}

impl PixelType {
    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F32 => 4,
        }
    }
}

impl fmt::Display for PixelType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "uint8",
            Self::F32 => "float32",
        })
    }
}

/// One camera: every frame has the same size and type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// Name of the camera and of its store, `frames/<name>.zarr`.
    pub name: String,
    /// Stored height in pixels.
    pub height: usize,
    /// Stored width in pixels.
    pub width: usize,
    /// Type of one value.
    pub dtype: PixelType,
    /// Height and width in the source, where the frames were resized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resized_from: Option<[usize; 2]>,
}

impl Camera {
    /// A camera whose frames are stored as they come.
    pub fn new(name: &str, height: usize, width: usize, dtype: PixelType) -> Self {
        Self {
            name: name.into(),
            height,
            width,
            dtype,
            resized_from: None,
        }
    }

    /// Bytes of one frame before compression.
    pub fn frame_bytes(&self) -> usize {
        self.height * self.width * 3 * self.dtype.bytes()
    }
}

/// How frames are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
#[non_exhaustive]
pub enum Codec {
    /// Zstandard level 3: exact, the default.
    #[default]
    Lossless,
    /// No compression: exact, larger, faster to read.
    Raw,
    /// One JPEG per frame, chroma 4:2:0: smaller, and not exact. The manifest says what was lost.
    Jpeg {
        /// 1 to 100, as libjpeg counts.
        quality: u8,
    },
}

impl Codec {
    /// How the codecs of this build are written on the command line.
    pub const NAMES: &[&str] = if cfg!(feature = "jpeg") {
        &["lossless", "raw", "jpeg:Q"]
    } else {
        &["lossless", "raw"]
    };

    /// Whether this build can read and write it.
    pub(crate) fn check_build(self) -> Result<()> {
        match self {
            Self::Jpeg { .. } if !cfg!(feature = "jpeg") => Err(Error::Lacks {
                what: format!("the codec `{self}`"),
                feature: "jpeg",
            }),
            _ => Ok(()),
        }
    }

    /// Whether it can hold the frames of these cameras.
    pub(crate) fn check(self, cameras: &[Camera]) -> Result<()> {
        self.check_build()?;
        let Self::Jpeg { quality } = self else {
            return Ok(());
        };
        if !(1..=100).contains(&quality) {
            return Err(Error::invalid("codec", self, "the quality is 1 to 100"));
        }
        for camera in cameras {
            let name = &camera.name;
            if camera.dtype != PixelType::U8 {
                let detail = format!(
                    "camera `{name}` has {} frames and JPEG holds whole numbers; use `lossless` or `raw`",
                    camera.dtype
                );
                return Err(Error::invalid("codec", self, detail));
            }
            if camera.height.max(camera.width) > MAX_SIDE {
                let detail = format!(
                    "the frames of camera `{name}` are {}x{}, a JPEG has sides of at most {MAX_SIDE}",
                    camera.height, camera.width
                );
                return Err(Error::invalid("codec", self, detail));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lossless => f.write_str("lossless"),
            Self::Raw => f.write_str("raw"),
            Self::Jpeg { quality } => write!(f, "jpeg:{quality}"),
        }
    }
}

impl FromStr for Codec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fault = |detail: &str| Err(Error::invalid("codec", text, detail));
        match text.split_once(':') {
            None if text == "lossless" => Ok(Self::Lossless),
            None if text == "raw" => Ok(Self::Raw),
            Some(("jpeg", quality)) => match quality.parse() {
                Ok(quality @ 1..=100) => {
                    let codec = Self::Jpeg { quality };
                    codec.check_build().map(|()| codec)
                }
                _ => fault("the quality is a whole number from 1 to 100, as in `jpeg:90`"),
            },
            None if text == "jpeg" => fault("say the quality, 1 to 100, as in `jpeg:90`"),
            _ => fault("the codecs are `lossless`, `raw` and `jpeg:Q`"),
        }
    }
}

/// What a codec that is not exact lost, over all frames of a camera.
///
/// Sums of whole numbers: they do not depend on the order of frames, on threads or on shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameLoss {
    /// Compared values: `frames * height * width * 3`.
    pub values: u64,
    /// Sum over all values of the squared difference.
    pub squared_error: u64,
    /// Largest absolute difference of a value, 0 to 255.
    pub max_error: u8,
}

impl FrameLoss {
    /// Compares a frame with what it was decoded to, value by value.
    pub fn add(&mut self, frame: &[u8], decoded: &[u8]) {
        let mut squares = 0;
        for (&a, &b) in frame.iter().zip(decoded) {
            let difference = a.abs_diff(b);
            squares += u64::from(difference).pow(2);
            self.max_error = self.max_error.max(difference);
        }
        self.values += frame.len() as u64;
        self.squared_error += squares;
    }

    /// Adds what was lost in other frames.
    pub fn merge(&mut self, other: &Self) {
        self.values += other.values;
        self.squared_error += other.squared_error;
        self.max_error = self.max_error.max(other.max_error);
    }

    /// Peak signal-to-noise ratio in dB, `10 log10(255^2 values / squared_error)`; nothing where the two are equal.
    pub fn psnr_db(&self) -> Option<f64> {
        let peak = 255.0 * 255.0 * self.values as f64;
        (self.squared_error > 0).then(|| 10.0 * libm::log10(peak / self.squared_error as f64))
    }
}

/// [`FrameLoss`] as the manifest states it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StatedLoss {
    /// Peak signal-to-noise ratio in dB; nothing where no value has changed.
    pub psnr_db: Option<f64>,
    /// The sums behind it.
    #[serde(flatten)]
    pub sums: FrameLoss,
}

impl From<FrameLoss> for StatedLoss {
    fn from(sums: FrameLoss) -> Self {
        Self {
            psnr_db: sums.psnr_db(),
            sums,
        }
    }
}

impl fmt::Display for StatedLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.psnr_db {
            Some(psnr) => write!(f, "PSNR {psnr:.2} dB, ")?,
            None => f.write_str("no value changed, ")?,
        }
        write!(f, "largest error {}", self.sums.max_error)
    }
}

/// Where the data comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name in the catalog: `wall`, `pusht`, ...
    pub name: String,
    /// Where to get it.
    pub url: Option<String>,
    /// Release, commit or generator version.
    pub revision: Option<String>,
    /// Path relative to the source's root -> `sha256:<hex>` of shared input files (not of episodes: those are in the episode table).
    pub inputs: BTreeMap<String, String>,
}

/// What the caller of the writer declares; the rest of the manifest is counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestDraft {
    /// Where the data comes from.
    pub source: Source,
    /// Columns of the step table, besides the bookkeeping ones.
    pub fields: Vec<Field>,
    /// Cameras.
    pub cameras: Vec<Camera>,
    /// Rows per second of the `timestamp` column.
    pub fps: f64,
    /// Control rate in Hz, or nothing for a world without physical time.
    pub control_hz: Option<f64>,
    /// Whether episodes have one more frame than rows (the observation after the last action).
    pub extra_last_obs: bool,
    /// Licence of the data.
    pub licence: Option<String>,
    /// How to cite the data.
    pub citation: Option<String>,
    /// Remarks a user of the data should read, such as conversions made.
    pub notes: Vec<String>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Episodes in the dataset.
    pub episodes: u64,
    /// Rows of the step table.
    pub rows: u64,
    /// Frames of all cameras.
    pub frames: u64,
    /// Source episodes that could not be used.
    pub rejected: u64,
    /// Source episodes left out on purpose.
    pub skipped: u64,
}

/// Size and hash of one file of the dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Length in bytes.
    pub bytes: u64,
    /// `BLAKE3` of the bytes, in hex.
    pub blake3: String,
}

/// `dataset.json`: everything about a dataset but its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Layout version, [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Program that wrote it.
    pub tool: String,
    /// What the writer declared.
    #[serde(flatten)]
    pub draft: ManifestDraft,
    /// Numbers per action; 0 without actions.
    pub action_width: usize,
    /// Numbers per proprioception row.
    pub proprio_width: usize,
    /// Numbers per state row.
    pub state_width: usize,
    /// How frames are stored.
    pub codec: Codec,
    /// What the codec lost, by camera; empty where it is exact.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub loss: BTreeMap<String, StatedLoss>,
    /// Episodes of the source; splits are drawn over all of them.
    pub source_episodes: u64,
    /// The source episodes that were asked for; nothing means all.
    pub selection: Option<Range<u64>>,
    /// How much there is.
    pub counts: Counts,
    /// Task strings, by `task_index`.
    pub tasks: Vec<String>,
    /// Every other file of the dataset, by relative path.
    pub files: BTreeMap<String, FileEntry>,
    /// `BLAKE3` of this document without `content_hash` and `tool`; it covers every file through `files`.
    pub content_hash: String,
}

impl Manifest {
    /// The field of a name, if the dataset has it.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.draft.fields.iter().find(|field| field.name == name)
    }

    /// The camera of a name; without a name, the first one.
    pub fn camera(&self, name: Option<&str>) -> Result<&Camera> {
        let cameras = &self.draft.cameras;
        let found = match name {
            Some(name) => cameras.iter().find(|camera| camera.name == name),
            None => cameras.first(),
        };
        found.ok_or_else(|| Error::UnknownName {
            kind: "camera",
            name: name.unwrap_or("(any)").into(),
            known: cameras.iter().map(|camera| camera.name.clone()).collect(),
        })
    }

    /// The hash that `content_hash` must hold.
    pub fn compute_content_hash(&self) -> Result<String> {
        let bare = Self {
            content_hash: String::new(),
            tool: String::new(),
            ..self.clone()
        };
        let text =
            serde_json::to_vec(&bare).map_err(|e| Error::invalid("manifest", "dataset.json", e))?;
        Ok(blake3::hash(&text).to_hex().to_string())
    }
}

/// Frames of one episode in one camera's store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRange {
    /// Index of the first frame in the store.
    pub first: u64,
    /// Number of frames.
    pub count: u64,
}

/// One row of `episodes.parquet`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EpisodeMeta {
    /// Position in the dataset, from 0 without gaps.
    pub episode_index: u64,
    /// Position in the source.
    pub source_index: u64,
    /// Number of rows.
    pub length: u64,
    /// First row in the step table.
    pub first_row: u64,
    /// What the robot is asked to do.
    pub task: String,
    /// `train`, `val`, or empty when no split holds it.
    pub split: String,
    /// Seed of a simulated episode.
    pub seed: Option<u64>,
    /// File it came from, relative to the source's root.
    pub source_path: String,
    /// Hash of the bytes it came from.
    pub source_hash: String,
    /// Frames, per camera.
    pub frames: BTreeMap<String, FrameRange>,
    /// Numbers that hold for the whole episode.
    pub extras: BTreeMap<String, f64>,
}

/// What became of one source episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is in the dataset.
    Accepted,
    /// It could not be used.
    Rejected,
    /// It was left out on purpose.
    Skipped,
}

impl Outcome {
    /// The word in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Skipped => "skipped",
        }
    }
}

/// One row of `ledger.parquet`.
///
/// Measured times are not in it: they would make the bytes differ between two runs over one input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// Position in the source.
    pub source_index: u64,
    /// File it comes from.
    pub path: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Reason code; empty when accepted.
    pub code: String,
    /// Reason in words; empty when accepted.
    pub detail: String,
    /// Bytes of rows and frames before compression; 0 unless accepted.
    pub bytes: u64,
    /// Recorded time, rows divided by the control rate; nothing in a world without physical time.
    pub seconds: Option<f64>,
}

/// Reads JSON, naming the file in the error.
pub(crate) fn parse_json<T: serde::de::DeserializeOwned>(
    path: &std::path::Path,
    bytes: &[u8],
) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::corrupt(path, e))
}

/// Pretty JSON with a final newline, the form of every JSON file of a dataset.
pub(crate) fn to_json(what: &'static str, document: &impl Serialize) -> Result<Vec<u8>> {
    let mut text =
        serde_json::to_vec_pretty(document).map_err(|e| Error::invalid("document", what, e))?;
    text.push(b'\n');
    Ok(text)
}
