//! Episodes that are finished but not assembled yet: one file of rows and one file of encoded frames
//! per camera and episode. Nothing here outlives the assembly.
//!
//! Both files are `[u64 header length][JSON header][payload]`, little endian.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::disk::{Disk, Sync, read_file};
use crate::episode::{Column, Episode};
use crate::schema::{Dtype, EpisodeMeta, FileEntry, FrameRange};
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

/// Header of a file of frames.
#[derive(Debug, Serialize, Deserialize)]
struct FramesHeader {
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

/// Writes the rows of an episode.
pub(crate) fn write_rows(disk: &Disk, path: &Path, episode: &Episode) -> Result<FileEntry> {
    let meta = EpisodeMeta {
        source_index: episode.source_index,
        length: episode.length as u64,
        task: episode.task.clone(),
        seed: episode.seed,
        source_path: episode.source_path.clone(),
        source_hash: episode.source_hash.clone(),
        extras: episode.extras.clone(),
        frames: episode
            .cameras
            .iter()
            .map(|c| (c.camera.clone(), frames_of(c.count)))
            .collect(),
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

fn frames_of(count: usize) -> FrameRange {
    FrameRange {
        first: 0,
        count: count as u64,
    }
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

/// Writes encoded frames.
pub(crate) fn write_frames(disk: &Disk, path: &Path, frames: &[Vec<u8>]) -> Result<FileEntry> {
    let mut bytes = with_header(&FramesHeader {
        lengths: frames.iter().map(|f| f.len() as u64).collect(),
    })?;
    for frame in frames {
        bytes.extend_from_slice(frame);
    }
    disk.write(path, &bytes, Sync::No)
}

/// The encoded frames in `range` of a staged file.
pub(crate) fn read_frames(path: &Path, range: std::ops::Range<usize>) -> Result<Vec<Vec<u8>>> {
    let bytes = read_file(path)?;
    let (header, payload): (FramesHeader, _) = split_header(path, &bytes)?;
    let mut frames = Vec::with_capacity(range.len());
    let mut start = 0;
    for (k, &length) in header.lengths.iter().enumerate() {
        let end = start + length as usize;
        if range.contains(&k) {
            let frame = payload
                .get(start..end)
                .ok_or_else(|| Error::corrupt(path, format!("frame {k} is cut short")))?;
            frames.push(frame.to_vec());
        }
        start = end;
    }
    if frames.len() != range.len() {
        return Err(Error::corrupt(
            path,
            format!("it has {} frames, not {}", header.lengths.len(), range.end),
        ));
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
