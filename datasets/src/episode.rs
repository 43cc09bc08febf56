//! One episode in memory: what a source or a simulator hands to the store.

use std::collections::BTreeMap;

use crate::schema::{Dtype, PixelType};
use crate::{Error, Result};

/// Name of the column with the action applied at each row.
pub const ACTION: &str = "action";
/// Name of the column with the robot state that a model may see.
pub const PROPRIO: &str = "observation.proprio";
/// Name of the column with the full simulator state, for success checks only.
pub const STATE: &str = "observation.state";
/// Name of the column with the reward received after each row.
pub const REWARD: &str = "next.reward";

/// The values of one field for a run of rows, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// `[rows, width]` of 32-bit floats.
    F32 {
        /// Values per row.
        width: usize,
        /// Row-major values.
        values: Vec<f32>,
    },
    /// `[rows, width]` of 64-bit floats.
    F64 {
        /// Values per row.
        width: usize,
        /// Row-major values.
        values: Vec<f64>,
    },
    /// `[rows]` of integers.
    I64(Vec<i64>),
}

impl Column {
    /// Number type of the values.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32 { .. } => Dtype::F32,
            Self::F64 { .. } => Dtype::F64,
            Self::I64(_) => Dtype::I64,
        }
    }

    /// Values per row.
    pub fn width(&self) -> usize {
        match self {
            Self::F32 { width, .. } | Self::F64 { width, .. } => *width,
            Self::I64(_) => 1,
        }
    }

    /// Number of values, rows times width.
    pub fn len(&self) -> usize {
        match self {
            Self::F32 { values, .. } => values.len(),
            Self::F64 { values, .. } => values.len(),
            Self::I64(values) => values.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of rows; 0 for a width of 0.
    pub fn rows(&self) -> usize {
        self.len().checked_div(self.width()).unwrap_or(0)
    }

    /// All values widened to f64, row-major.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::F32 { values, .. } => values.iter().map(|&v| f64::from(v)).collect(),
            Self::F64 { values, .. } => values.clone(),
            Self::I64(values) => values.iter().map(|&v| v as f64).collect(),
        }
    }

    /// All values as f32, row-major; f64 values are rounded to the nearest.
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Self::F32 { values, .. } => values.clone(),
            Self::F64 { values, .. } => values.iter().map(|&v| v as f32).collect(),
            Self::I64(values) => values.iter().map(|&v| v as f32).collect(),
        }
    }

    /// The first row, widened to f64; empty without rows.
    pub fn first_row(&self) -> Vec<f64> {
        let mut values = self.to_f64();
        values.truncate(self.width());
        values
    }

    /// Row and dimension of the first value that is not finite.
    pub fn first_non_finite(&self) -> Option<(usize, usize)> {
        let at = match self {
            Self::F32 { values, .. } => values.iter().position(|v| !v.is_finite()),
            Self::F64 { values, .. } => values.iter().position(|v| !v.is_finite()),
            Self::I64(_) => None,
        }?;
        Some((at / self.width(), at % self.width()))
    }

    /// An empty column of a type, with room for `rows`.
    pub(crate) fn with_capacity(dtype: Dtype, width: usize, rows: usize) -> Self {
        match dtype {
            Dtype::F32 => Self::F32 {
                width,
                values: Vec::with_capacity(rows * width),
            },
            Dtype::F64 => Self::F64 {
                width,
                values: Vec::with_capacity(rows * width),
            },
            Dtype::I64 => Self::I64(Vec::with_capacity(rows)),
        }
    }

    /// Appends rows of another column of the same type and width.
    pub(crate) fn extend_rows(&mut self, other: &Self, rows: std::ops::Range<usize>) {
        match (self, other) {
            (Self::F32 { width, values }, Self::F32 { values: more, .. }) => {
                values.extend_from_slice(&more[rows.start * *width..rows.end * *width]);
            }
            (Self::F64 { width, values }, Self::F64 { values: more, .. }) => {
                values.extend_from_slice(&more[rows.start * *width..rows.end * *width]);
            }
            (Self::I64(values), Self::I64(more)) => values.extend_from_slice(&more[rows]),
            _ => unreachable!("columns of one field have one type"),
        }
    }
}

/// Pixels in the type of their source, `[frames, height, width, 3]` row-major, RGB, 0 to 255.
///
/// A source whose frames are not whole numbers (Wall is a 65x65 render resized as floats) keeps them
/// as floats: rounding would change what the reference loaders return.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// Whole numbers.
    U8(Vec<u8>),
    /// Numbers of a source that stores floats.
    F32(Vec<f32>),
}

/// Range of float pixels. Interpolation in 32 bits overshoots 255 by a little; half a step is allowed, so
/// that rounding always gives a byte.
pub const PIXEL_RANGE: std::ops::RangeInclusive<f32> = -0.5..=255.5;

impl From<Vec<u8>> for Pixels {
    fn from(values: Vec<u8>) -> Self {
        Self::U8(values)
    }
}

impl Pixels {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Type of one value.
    pub fn dtype(&self) -> PixelType {
        match self {
            Self::U8(_) => PixelType::U8,
            Self::F32(_) => PixelType::F32,
        }
    }

    /// The values as bytes: unchanged, or rounded (half to even) and clipped to 0..=255.
    pub fn into_u8(self) -> Vec<u8> {
        match self {
            Self::U8(values) => values,
            Self::F32(values) => values
                .into_iter()
                .map(|v| v.round_ties_even() as u8)
                .collect(),
        }
    }

    /// The values as f32, still 0 to 255.
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            Self::U8(values) => values.into_iter().map(f32::from).collect(),
            Self::F32(values) => values,
        }
    }
}

/// All frames of one camera in one episode.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraFrames {
    /// Name of the camera.
    pub camera: String,
    /// Pixels, top to bottom.
    pub height: usize,
    /// Pixels, left to right.
    pub width: usize,
    /// Number of frames: the episode's length, or one more where the source has it.
    pub count: usize,
    /// `[count, height, width, 3]`, RGB.
    pub pixels: Pixels,
}

/// One frame, `[height, width, 3]` RGB, row-major, 0 to 255.
#[derive(Debug, Clone, Copy)]
pub enum Frame<'a> {
    /// Whole numbers.
    U8(&'a [u8]),
    /// Numbers of a source that stores floats.
    F32(&'a [f32]),
}

impl Frame<'_> {
    /// Type of one value.
    pub fn dtype(self) -> PixelType {
        match self {
            Self::U8(_) => PixelType::U8,
            Self::F32(_) => PixelType::F32,
        }
    }

    /// Number of values.
    pub fn values(self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }
}

/// Takes the frames of one episode as they are made: an episode of large frames is never in memory as a
/// whole.
pub trait FrameSink {
    /// Takes the next frame of a camera. `size` is its height and width.
    ///
    /// # Errors
    /// When the frame cannot be what the dataset declares, or cannot be stored.
    fn push(&mut self, camera: &str, size: [usize; 2], frame: Frame<'_>) -> Result<()>;

    /// Forgets all but the first frames of every camera: recordings go on after the last row.
    fn keep_first(&mut self, count: usize);

    /// Takes several frames of a camera, `[frames, height, width, 3]`.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    fn push_all(&mut self, camera: &str, size: [usize; 2], pixels: &Pixels) -> Result<()> {
        let values = (size[0] * size[1] * 3).max(1);
        match pixels {
            Pixels::U8(pixels) => pixels
                .chunks(values)
                .try_for_each(|frame| self.push(camera, size, Frame::U8(frame))),
            Pixels::F32(pixels) => pixels
                .chunks(values)
                .try_for_each(|frame| self.push(camera, size, Frame::F32(frame))),
        }
    }
}

/// Keeps every frame, in the order in which cameras appear.
impl FrameSink for Vec<CameraFrames> {
    fn push(&mut self, camera: &str, [height, width]: [usize; 2], frame: Frame<'_>) -> Result<()> {
        let at = self.iter().position(|frames| frames.camera == camera);
        let at = at.unwrap_or_else(|| {
            self.push(CameraFrames {
                camera: camera.into(),
                height,
                width,
                count: 0,
                pixels: match frame {
                    Frame::U8(_) => Pixels::U8(Vec::new()),
                    Frame::F32(_) => Pixels::F32(Vec::new()),
                },
            });
            self.len() - 1
        });
        let frames = &mut self[at];
        match (&mut frames.pixels, frame) {
            (Pixels::U8(pixels), Frame::U8(values)) => pixels.extend_from_slice(values),
            (Pixels::F32(pixels), Frame::F32(values)) => pixels.extend_from_slice(values),
            (pixels, frame) => {
                let (first, now) = (pixels.dtype(), frame.dtype());
                let detail = format!("it has {now} frames after {first} ones");
                return Err(Error::invalid("camera", camera, detail));
            }
        }
        frames.count += 1;
        Ok(())
    }

    fn keep_first(&mut self, count: usize) {
        for frames in self {
            frames.count = frames.count.min(count);
            let values = frames.count * frames.height * frames.width * 3;
            match &mut frames.pixels {
                Pixels::U8(pixels) => pixels.truncate(values),
                Pixels::F32(pixels) => pixels.truncate(values),
            }
        }
    }
}

/// One episode, from reset to end.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// Position in the source.
    pub source_index: u64,
    /// File it came from, relative to the source's root, or the name of the generator.
    pub source_path: String,
    /// Hash of the bytes it came from.
    pub source_hash: String,
    /// What the robot is asked to do.
    pub task: String,
    /// Seed, for simulated episodes.
    pub seed: Option<u64>,
    /// Number of rows.
    pub length: usize,
    /// Field name to values, `length` rows each: [`ACTION`], [`PROPRIO`], [`STATE`], [`REWARD`], ...
    pub columns: BTreeMap<String, Column>,
    /// Frames of every camera; empty where they went to a [`FrameSink`].
    pub cameras: Vec<CameraFrames>,
    /// Numbers that hold for the whole episode, such as the position of a door.
    pub extras: BTreeMap<String, f64>,
}

impl Episode {
    /// Checks lengths and finiteness: everything that can be checked without knowing the dataset.
    pub fn check(&self) -> Result<()> {
        let fault = |code, detail| {
            Err(Error::Episode {
                episode: self.source_index,
                code,
                detail,
            })
        };
        if self.length == 0 {
            return fault("empty_episode", "it has no rows".into());
        }
        for (name, column) in &self.columns {
            if column.width() == 0
                || column.rows() != self.length
                || column.len() % column.width() != 0
            {
                let detail = format!(
                    "`{name}` has {} rows, the episode {}",
                    column.rows(),
                    self.length
                );
                return fault("count_mismatch", detail);
            }
            if let Some((row, dim)) = column.first_non_finite() {
                return fault(
                    "non_finite",
                    format!("`{name}` is not finite at row {row}, dimension {dim}"),
                );
            }
        }
        if let Some((name, value)) = self.extras.iter().find(|(_, v)| !v.is_finite()) {
            return fault("non_finite", format!("`{name}` is {value}"));
        }
        self.cameras
            .iter()
            .try_for_each(|camera| self.check_camera(camera))
    }

    fn check_camera(&self, frames: &CameraFrames) -> Result<()> {
        let fault = |code, detail| {
            Err(Error::Episode {
                episode: self.source_index,
                code,
                detail,
            })
        };
        let CameraFrames {
            camera,
            height,
            width,
            count,
            pixels,
        } = frames;
        if *count != self.length && *count != self.length + 1 {
            let detail = format!(
                "camera `{camera}` has {count} frames, the episode {} rows",
                self.length
            );
            return fault("count_mismatch", detail);
        }
        if pixels.len() != count * height * width * 3 {
            let detail = format!(
                "camera `{camera}` has {} values for {count} frames of {height}x{width}x3",
                pixels.len()
            );
            return fault("count_mismatch", detail);
        }
        match pixels {
            Pixels::F32(values) if !values.iter().all(|v| v.is_finite()) => fault(
                "non_finite",
                format!("camera `{camera}` has a pixel that is not finite"),
            ),
            _ => Ok(()),
        }
    }
}
