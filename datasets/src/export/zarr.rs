//! The replay buffer of `diffusion_policy`: a Zarr v2 folder (datasets.md section 14.3).
//!
//! ```text
//! data/img            [N, h, w, 3] u8; further cameras are `img_<name>`
//! data/<field>        [N] or [N, width]
//! meta/episode_ends   [E] i64, row after the last one of every episode
//! meta/task_index     [E] i64, into `tasks` of `meta/.zattrs`
//! meta/<extra>        [E] f64, numbers that hold for a whole episode; NaN where an episode has none
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{PROVENANCE, Plan, Progress, go_on, provenance, runs, write_file};
use crate::episode::Column;
use crate::schema::to_json;
use crate::{Dtype, Error, Result};

/// Bytes of a chunk before compression, as `diffusion_policy` chooses its chunks.
const CHUNK_BYTES: usize = 2_000_000;
/// Zstandard level.
const LEVEL: i32 = 3;

/// Writes the store.
pub(super) fn write(plan: &Plan<'_>, out: &Path, progress: &Progress<'_>) -> Result<()> {
    let rows = plan.dataset.manifest().counts.rows as usize;
    let mut images: Vec<ArrayWriter> = plan
        .cameras
        .iter()
        .map(|(camera, name)| {
            let shape = vec![rows, camera.height, camera.width, 3];
            ArrayWriter::new(out.join("data").join(name), shape, "|u1")
        })
        .collect();
    let mut columns: Vec<ArrayWriter> = plan
        .fields
        .iter()
        .map(|(field, name)| {
            let shape = match field.width() {
                1 => vec![rows],
                width => vec![rows, width],
            };
            ArrayWriter::new(out.join("data").join(name), shape, numpy_name(field.dtype))
        })
        .collect();
    for episode in plan.dataset.episodes() {
        go_on(progress)?;
        let length = episode.length as usize;
        let values = plan.dataset.read_rows(episode.episode_index, 0..length)?;
        for ((field, _), writer) in plan.fields.iter().zip(&mut columns) {
            if let Some(column) = values.get(&field.name) {
                writer.push(&to_le_bytes(column))?;
            }
        }
        for ((camera, _), writer) in plan.cameras.iter().zip(&mut images) {
            for run in runs(length) {
                writer.push(&plan.frames(camera, episode, run)?)?;
            }
        }
        (progress.tick)();
    }
    for writer in images.into_iter().chain(columns) {
        writer.finish()?;
    }
    write_meta(plan, out)
}

/// Everything that is not per row.
fn write_meta(plan: &Plan<'_>, out: &Path) -> Result<()> {
    let episodes = plan.dataset.episodes();
    let group = to_json("group", &json!({"zarr_format": 2}))?;
    for folder in ["", "data", "meta"] {
        write_file(&out.join(folder).join(".zgroup"), &group)?;
    }
    let ends: Vec<i64> = episodes
        .iter()
        .map(|e| (e.first_row + e.length) as i64)
        .collect();
    write_vector(out, "episode_ends", "<i8", &ends, i64::to_le_bytes)?;
    let tasks: Result<Vec<i64>> = episodes.iter().map(|e| plan.task_index(e)).collect();
    write_vector(out, "task_index", "<i8", &tasks?, i64::to_le_bytes)?;
    let extras: BTreeSet<&String> = episodes.iter().flat_map(|e| e.extras.keys()).collect();
    for name in extras {
        if name.contains(['/', '\\'])
            || name.starts_with('.')
            || name == "episode_ends"
            || name == "task_index"
        {
            return Err(Error::invalid(
                "extra",
                name,
                "it cannot be the name of an array",
            ));
        }
        let of = |e: &crate::EpisodeMeta| e.extras.get(name).copied().unwrap_or(f64::NAN);
        let values: Vec<f64> = episodes.iter().map(of).collect();
        write_vector(out, name, "<f8", &values, f64::to_le_bytes)?;
    }
    let attributes = json!({"tasks": plan.dataset.manifest().tasks});
    write_file(
        &out.join("meta/.zattrs"),
        &to_json("attributes", &attributes)?,
    )?;
    write_file(
        &out.join(PROVENANCE),
        &to_json("provenance", &provenance::document(plan))?,
    )
}

/// One number per episode, in one chunk.
fn write_vector<T: Copy, const N: usize>(
    out: &Path,
    name: &str,
    dtype: &'static str,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> Result<()> {
    let mut writer = ArrayWriter::new(out.join("meta").join(name), vec![values.len()], dtype);
    let bytes: Vec<u8> = values.iter().flat_map(|&v| bytes(v)).collect();
    writer.push(&bytes)?;
    writer.finish()
}

fn numpy_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "<f4",
        Dtype::F64 => "<f8",
        Dtype::I64 => "<i8",
    }
}

fn to_le_bytes(column: &Column) -> Vec<u8> {
    match column {
        Column::F32 { values, .. } => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Column::F64 { values, .. } => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Column::I64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// Writes an array row by row, in chunks of whole rows.
struct ArrayWriter {
    folder: PathBuf,
    shape: Vec<usize>,
    dtype: &'static str,
    row_bytes: usize,
    chunk_rows: usize,
    waiting: Vec<u8>,
    next_chunk: usize,
}

impl ArrayWriter {
    fn new(folder: PathBuf, shape: Vec<usize>, dtype: &'static str) -> Self {
        let item = usize::from(dtype.as_bytes()[2] - b'0');
        let row_bytes = shape[1..].iter().product::<usize>() * item;
        let chunk_rows = CHUNK_BYTES.div_ceil(row_bytes.max(1));
        Self {
            chunk_rows: chunk_rows.clamp(1, shape[0].max(1)),
            folder,
            shape,
            dtype,
            row_bytes,
            waiting: Vec::new(),
            next_chunk: 0,
        }
    }

    fn push(&mut self, rows: &[u8]) -> Result<()> {
        self.waiting.extend_from_slice(rows);
        let size = self.chunk_rows * self.row_bytes;
        while self.waiting.len() >= size && size > 0 {
            let rest = self.waiting.split_off(size);
            self.write_chunk()?;
            self.waiting = rest;
        }
        Ok(())
    }

    /// Writes what is waiting as one chunk; the format wants the last one padded.
    fn write_chunk(&mut self) -> Result<()> {
        self.waiting.resize(self.chunk_rows * self.row_bytes, 0);
        let mut key = self.next_chunk.to_string();
        key.push_str(&".0".repeat(self.shape.len() - 1));
        let path = self.folder.join(key);
        let packed = zstd::bulk::compress(&self.waiting, LEVEL)
            .map_err(|e| Error::io("compress", &path, e))?;
        write_file(&path, &packed)?;
        self.waiting.clear();
        self.next_chunk += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        if !self.waiting.is_empty() {
            self.write_chunk()?;
        }
        let mut chunks = self.shape.clone();
        chunks[0] = self.chunk_rows;
        let fill: Value = if self.dtype.contains('f') {
            json!(0.0)
        } else {
            json!(0)
        };
        let header = json!({
            "zarr_format": 2,
            "shape": self.shape,
            "chunks": chunks,
            "dtype": self.dtype,
            "compressor": {"id": "zstd", "level": LEVEL},
            "fill_value": fill,
            "filters": null,
            "order": "C",
        });
        fs::create_dir_all(&self.folder).map_err(|e| Error::io("create", &self.folder, e))?;
        write_file(&self.folder.join(".zarray"), &to_json("array", &header)?)
    }
}
