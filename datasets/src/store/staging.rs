//! Episodes that are finished but not assembled yet: one file of rows and one file of encoded frames
//! per camera and episode. Nothing here outlives the assembly.
//!
//! Rows are `[u64 header length][JSON header][payload]`, frames `[payload][JSON footer][u64 footer length]`,
//! little endian: how long encoded frames are is known when the last one is written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::disk::{AtomicFile, Disk, Sync, read_file};
use super::zarr::Encoded;
use crate::episode::{Column, Episode};
use crate::schema::{Dtype, EpisodeMeta, FileEntry, FrameLoss, FrameRange};
use crate::{Error, Result};

/// Header of a file of rows.
#[derive(Debug, Serialize, Deserialize)]
struct RowsHeader {
    meta: EpisodeMeta,
    columns: Vec<ColumnHeader>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ColumnHeader {
    name: String,
    dtype: Dtype,
    width: usize,
}

/// Footer of a file of frames.
#[derive(Debug, Serialize, Deserialize)]
struct FramesFooter {
    lengths: Vec<u64>,
}

/// The rows of a staged episode.
#[derive(Debug)]
pub(crate) struct StagedRows {
    /// What is known of the episode before assembly: its position in the dataset is not.
    pub(crate) meta: EpisodeMeta,
    /// Columns by name, in order.
    pub(crate) columns: Vec<(String, Column)>,
}

/// File name of an episode's rows.
pub(crate) fn rows_name(source_index: u64) -> String {
    format!("{source_index:09}.rows")
}

/// File name of an episode's frames of the camera at a position in the manifest.
pub(crate) fn frames_name(source_index: u64, camera: usize) -> String {
    format!("{source_index:09}.frames{camera}")
}

/// Writes the rows of an episode. `frames` says how many frames its cameras have.
pub(crate) fn write_rows(
    disk: &Disk,
    path: &Path,
    episode: &Episode,
    frames: BTreeMap<String, FrameRange>,
) -> Result<FileEntry> {
    let meta = EpisodeMeta {
        source_index: episode.source_index,
        length: episode.length as u64,
        task: episode.task.clone(),
        seed: episode.seed,
        source_path: episode.source_path.clone(),
        source_hash: episode.source_hash.clone(),
        extras: episode.extras.clone(),
        frames,
        ..EpisodeMeta::default()
    };
    let columns = episode.columns.iter().map(|(name, column)| ColumnHeader {
        name: name.clone(),
        dtype: column.dtype(),
        width: column.width(),
    });
    let mut bytes = with_header(&RowsHeader {
        meta,
        columns: columns.collect(),
    })?;
    for column in episode.columns.values() {
        match column {
            Column::F32 { values, .. } => values
                .iter()
                .for_each(|v| bytes.extend_from_slice(&v.to_le_bytes())),
            Column::F64 { values, .. } => values
                .iter()
                .for_each(|v| bytes.extend_from_slice(&v.to_le_bytes())),
            Column::I64(values) => values
                .iter()
                .for_each(|v| bytes.extend_from_slice(&v.to_le_bytes())),
        }
    }
    disk.write(path, &bytes, Sync::No)
}

/// Reads the rows of an episode.
pub(crate) fn read_rows(path: &Path) -> Result<StagedRows> {
    let bytes = read_file(path)?;
    let (header, mut payload): (RowsHeader, _) = split_header(path, &bytes)?;
    let rows = header.meta.length as usize;
    let mut columns = Vec::with_capacity(header.columns.len());
    for ColumnHeader { name, dtype, width } in header.columns {
        let Some((values, rest)) = payload.split_at_checked(rows * width * dtype.bytes()) else {
            return Err(Error::corrupt(
                path,
                format!("column `{name}` is cut short"),
            ));
        };
        payload = rest;
        columns.push((name, column(dtype, width, values)));
    }
    Ok(StagedRows {
        meta: header.meta,
        columns,
    })
}

fn column(dtype: Dtype, width: usize, bytes: &[u8]) -> Column {
    match dtype {
        Dtype::F32 => Column::F32 {
            width,
            values: bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
        },
        Dtype::F64 => Column::F64 {
            width,
            values: bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f64::from_le_bytes(*b))
                .collect(),
        },
        Dtype::I64 => Column::I64(
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| i64::from_le_bytes(*b))
                .collect(),
        ),
    }
}

/// Encoded frames on their way into a staged file; nobody sees it until it is finished.
#[derive(Debug)]
pub(crate) struct FrameFile {
    disk: Disk,
    file: Option<AtomicFile>,
    path: PathBuf,
    lengths: Vec<u64>,
    /// What encoding lost, per frame; empty where it is exact.
    losses: Vec<FrameLoss>,
}

impl FrameFile {
    /// A file that will appear under `path`.
    pub(crate) fn new(disk: &Disk, path: PathBuf) -> Self {
        Self {
            disk: disk.clone(),
            file: None,
            path,
            lengths: Vec::new(),
            losses: Vec::new(),
        }
    }

    /// Number of frames.
    pub(crate) fn count(&self) -> usize {
        self.lengths.len()
    }

    /// What encoding lost over all frames; nothing where it is exact.
    pub(crate) fn loss(&self) -> Option<FrameLoss> {
        let mut sum = FrameLoss::default();
        self.losses.iter().for_each(|loss| sum.merge(loss));
        (!self.losses.is_empty()).then_some(sum)
    }

    /// Appends a frame.
    pub(crate) fn push(&mut self, Encoded { chunk, loss }: Encoded) -> Result<()> {
        let path = &self.path;
        let file = match &mut self.file {
            Some(file) => file,
            slot => slot.insert(self.disk.create(path)?),
        };
        file.write_all(&chunk)
            .map_err(|e| Error::io("write", path, e))?;
        self.lengths.push(chunk.len() as u64);
        self.losses.extend(loss);
        Ok(())
    }

    /// Forgets all but the first frames.
    pub(crate) fn keep_first(&mut self, count: usize) {
        self.lengths.truncate(count);
        self.losses.truncate(count);
    }

    /// Writes the lengths of the frames and gives the file its name.
    pub(crate) fn finish(mut self) -> Result<FileEntry> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.disk.create(&self.path)?,
        };
        let lengths = std::mem::take(&mut self.lengths);
        let json = serde_json::to_vec(&FramesFooter { lengths });
        let mut footer = json.map_err(|e| Error::invalid("episode", "footer", e))?;
        footer.extend_from_slice(&(footer.len() as u64).to_le_bytes());
        file.write_all(&footer)
            .map_err(|e| Error::io("write", &self.path, e))?;
        file.commit(Sync::No)
    }
}

/// An episode that is not finished leaves nothing.
impl Drop for FrameFile {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            file.discard();
        }
    }
}

/// The encoded frames in `range` of a staged file; the others are not read.
pub(crate) fn read_frames(path: &Path, range: Range<usize>) -> Result<Vec<Vec<u8>>> {
    let io = |e| Error::io("read", path, e);
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let cut = || Error::corrupt(path, "the list of its frames is cut short");
    let footer_end = length.checked_sub(8).ok_or_else(cut)?;
    let mut number = [0; 8];
    file.seek(SeekFrom::Start(footer_end)).map_err(io)?;
    file.read_exact(&mut number).map_err(io)?;
    let footer_start = footer_end.checked_sub(u64::from_le_bytes(number));
    let footer_start = footer_start.ok_or_else(cut)?;
    let mut json = vec![0; (footer_end - footer_start) as usize];
    file.seek(SeekFrom::Start(footer_start)).map_err(io)?;
    file.read_exact(&mut json).map_err(io)?;
    let FramesFooter { lengths } = crate::schema::parse_json(path, &json)?;
    let Some(wanted) = lengths.get(range.clone()) else {
        let detail = format!("it has {} frames, not {}", lengths.len(), range.end);
        return Err(Error::corrupt(path, detail));
    };
    let start: u64 = lengths[..range.start].iter().sum();
    if start + wanted.iter().sum::<u64>() > footer_start {
        return Err(Error::corrupt(path, "its frames are cut short"));
    }
    file.seek(SeekFrom::Start(start)).map_err(io)?;
    let mut frames = Vec::with_capacity(wanted.len());
    for &length in wanted {
        let mut frame = vec![0; length as usize];
        file.read_exact(&mut frame).map_err(io)?;
        frames.push(frame);
    }
    Ok(frames)
}

fn with_header(header: &impl Serialize) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(header).map_err(|e| Error::invalid("episode", "header", e))?;
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(&json);
    Ok(bytes)
}

fn split_header<'a, T: DeserializeOwned>(path: &Path, bytes: &'a [u8]) -> Result<(T, &'a [u8])> {
    let cut = || Error::corrupt(path, "the header is cut short");
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
    let (json, payload) = rest
        .split_at_checked(u64::from_le_bytes(*length) as usize)
        .ok_or_else(cut)?;
    Ok((crate::schema::parse_json(path, json)?, payload))
}
