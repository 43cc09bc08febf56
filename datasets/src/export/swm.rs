//! The HDF5 file of `stable-worldmodel` (datasets.md section 14.4).
//!
//! ```text
//! pixels               [N, h, w, 3] u8, one chunk per row; further cameras are `pixels_<name>`
//! <field>              [N] or [N, width], one chunk per row
//! episode_idx step_idx [N] i32       task  [N] text, where the dataset has any
//! ep_len               [E] i32       ep_offset  [E] i64, row of the first step
//! ```
//!
//! There the action of a row leads to the next row, so the last row of an episode has none (NaN); the reward
//! of a row is the one received on the way *to* it, so row 0 has none. The provenance is the attribute
//! `jepa_bench` of the file.

use std::fmt::Display;
use std::path::Path;

use hdf5::types::VarLenUnicode;
use hdf5::{Dataset as H5Dataset, Extent, File, H5Type, SimpleExtents};
use ndarray::{ArrayView, IxDyn, SliceInfo, SliceInfoElem};

use super::{Plan, Progress, go_on, provenance, runs};
use crate::episode::Column;
use crate::{ACTION, Dtype, EpisodeMeta, Error, REWARD, Result};

/// Chunk of the columns with one number per episode, as `stable-worldmodel` writes it.
const EPISODES_CHUNK: usize = 1024;

/// Bytes that a row or an episode takes in a column beside its values: its place in the index, with room to spare.
const INDEX_BYTES: u64 = 64;
/// Bytes that a file and each of its columns take beside their rows.
const COLUMN_BYTES: u64 = 64 << 10;

/// Writes the file.
pub(super) fn write(plan: &Plan<'_>, out: &Path, progress: &Progress<'_>) -> Result<()> {
    let provenance = provenance::document(plan).to_string();
    check_room(
        &out.with_extension("room"),
        size_of(plan) + provenance.len() as u64,
    )?;
    let file = File::with_options()
        .with_fapl(|access| access.libver_latest())
        .create(out)
        .map_err(|e| fault(out, e))?;
    let columns = Columns::create(plan, &file).map_err(|e| fault(out, e))?;
    for episode in plan.dataset.episodes() {
        go_on(progress)?;
        columns.push(plan, episode, out)?;
        (progress.tick)();
    }
    write_episodes(plan, &file, &provenance).map_err(|e| fault(out, e))?;
    file.close().map_err(|e| fault(out, e))
}

/// Bytes that the file will have at most.
fn size_of(plan: &Plan<'_>) -> u64 {
    let manifest = plan.dataset.manifest();
    let pixels = plan.cameras.iter();
    let pixels = pixels.map(|(camera, _)| (camera.height * camera.width * 3) as u64);
    let fields = plan.fields.iter();
    let fields = fields.map(|(field, _)| (field.width() * field.dtype.bytes()) as u64);
    let text = manifest.tasks.iter().map(|task| task.len() as u64).max();
    let rest = [4, 4, 16 + text.unwrap_or(0), 4, 8];
    let columns = pixels.chain(fields).chain(rest);
    let per_column = |bytes| (bytes + INDEX_BYTES) * manifest.counts.rows + COLUMN_BYTES;
    columns.map(per_column).sum::<u64>() + COLUMN_BYTES
}

/// Asks the system for the room of the whole file, and gives it back.
///
/// A full disk in the middle of a write ends the HDF5 library, and the process with it: better to know
/// beforehand. Not every file system can tell.
fn check_room(path: &Path, bytes: u64) -> Result<()> {
    let file = std::fs::File::create(path).map_err(|e| Error::io("create", path, e))?;
    let reserved = reserve(&file, bytes);
    drop(file);
    std::fs::remove_file(path).map_err(|e| Error::io("remove", path, e))?;
    reserved.map_err(|e| Error::io("write", path, e))
}

#[cfg(unix)]
fn reserve(file: &std::fs::File, bytes: u64) -> std::io::Result<()> {
    use rustix::io::Errno;

    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(unix))]
fn reserve(file: &std::fs::File, bytes: u64) -> std::io::Result<()> {
    file.set_len(bytes)
}

fn fault(path: &Path, error: impl Display) -> Error {
    Error::io(
        "write",
        path,
        std::io::Error::other(format!("HDF5: {error}")),
    )
}

/// The data sets that grow with the rows; all rows are known beforehand, so they have their final size.
struct Columns {
    cameras: Vec<H5Dataset>,
    fields: Vec<H5Dataset>,
    episode_idx: H5Dataset,
    step_idx: H5Dataset,
    task: Option<H5Dataset>,
}

impl Columns {
    fn create(plan: &Plan<'_>, file: &File) -> hdf5::Result<Self> {
        let rows = plan.dataset.manifest().counts.rows as usize;
        let cameras = plan.cameras.iter().map(|(camera, name)| {
            column::<u8>(file, name, rows, &[camera.height, camera.width, 3])
        });
        let fields = plan.fields.iter().map(|(field, name)| {
            let width = field.width();
            let shape: &[usize] = if width == 1 { &[] } else { &[width] };
            match field.dtype {
                Dtype::F32 => column::<f32>(file, name, rows, shape),
                Dtype::F64 => column::<f64>(file, name, rows, shape),
                Dtype::I64 => column::<i64>(file, name, rows, shape),
            }
        });
        let has_text = plan.dataset.manifest().tasks.iter().any(|t| !t.is_empty());
        Ok(Self {
            cameras: cameras.collect::<hdf5::Result<_>>()?,
            fields: fields.collect::<hdf5::Result<_>>()?,
            episode_idx: column::<i32>(file, "episode_idx", rows, &[])?,
            step_idx: column::<i32>(file, "step_idx", rows, &[])?,
            task: has_text
                .then(|| column::<VarLenUnicode>(file, "task", rows, &[]))
                .transpose()?,
        })
    }

    /// Writes the rows of one episode.
    fn push(&self, plan: &Plan<'_>, episode: &EpisodeMeta, out: &Path) -> Result<()> {
        let (first, length) = (episode.first_row as usize, episode.length as usize);
        for ((camera, _), target) in plan.cameras.iter().zip(&self.cameras) {
            for run in runs(length) {
                let start = first + run.start;
                let frames = plan.frames(camera, episode, run)?;
                put(target, start, &frames).map_err(|e| fault(out, e))?;
            }
        }
        let values = plan.dataset.read_rows(episode.episode_index, 0..length)?;
        for ((field, _), target) in plan.fields.iter().zip(&self.fields) {
            let column = shifted(&field.name, values[&field.name].clone());
            let written = match &column {
                Column::F32 { values, .. } => put(target, first, values),
                Column::F64 { values, .. } => put(target, first, values),
                Column::I64(values) => put(target, first, values),
            };
            written.map_err(|e| fault(out, e))?;
        }
        self.number(episode).map_err(|e| fault(out, e))
    }

    fn number(&self, episode: &EpisodeMeta) -> hdf5::Result<()> {
        let (first, length) = (episode.first_row as usize, episode.length as usize);
        let index = i32::try_from(episode.episode_index).map_err(|e| e.to_string())?;
        let steps: Vec<i32> = (0..length as i32).collect();
        put(&self.episode_idx, first, &vec![index; length])?;
        put(&self.step_idx, first, &steps)?;
        if let Some(task) = &self.task {
            let text: VarLenUnicode = episode
                .task
                .parse()
                .map_err(|_| "a task with a zero byte")?;
            put(task, first, &vec![text; length])?;
        }
        Ok(())
    }
}

/// A column of `rows` rows that can grow, in chunks of one row.
fn column<T: H5Type>(
    file: &File,
    name: &str,
    rows: usize,
    shape: &[usize],
) -> hdf5::Result<H5Dataset> {
    let extents =
        std::iter::once(Extent::resizable(rows)).chain(shape.iter().map(|&n| Extent::fixed(n)));
    let chunk: Vec<usize> = std::iter::once(1).chain(shape.iter().copied()).collect();
    file.new_dataset::<T>()
        .chunk(chunk)
        .shape(SimpleExtents::new(extents))
        .create(name)
}

/// Writes rows from `first` on; their number follows from the number of values.
fn put<T: H5Type>(target: &H5Dataset, first: usize, values: &[T]) -> hdf5::Result<()> {
    let mut shape = target.shape();
    let width: usize = shape[1..].iter().product();
    shape[0] = values.len() / width.max(1);
    let rows = SliceInfoElem::from(first..first + shape[0]);
    let whole = std::iter::repeat_n(SliceInfoElem::from(..), shape.len() - 1);
    let selection: Vec<SliceInfoElem> = std::iter::once(rows).chain(whole).collect();
    let selection = SliceInfo::<_, IxDyn, IxDyn>::try_from(selection).map_err(|e| e.to_string())?;
    let view = ArrayView::from_shape(IxDyn(&shape), values).map_err(|e| e.to_string())?;
    target.write_slice(view, selection)
}

/// A column as `stable-worldmodel` aligns it.
fn shifted(name: &str, mut column: Column) -> Column {
    let width = column.width();
    match (&mut column, name) {
        (Column::F32 { values, .. }, ACTION) => blank_last(values, width, f32::NAN),
        (Column::F64 { values, .. }, ACTION) => blank_last(values, width, f64::NAN),
        (Column::F32 { values, .. }, REWARD) => delay(values, f32::NAN),
        (Column::F64 { values, .. }, REWARD) => delay(values, f64::NAN),
        _ => {}
    }
    column
}

fn blank_last<T: Copy>(values: &mut [T], width: usize, blank: T) {
    let last = values.len().saturating_sub(width);
    values[last..].fill(blank);
}

fn delay<T: Copy>(values: &mut [T], blank: T) {
    values.rotate_right(usize::from(!values.is_empty()));
    if let Some(first) = values.first_mut() {
        *first = blank;
    }
}

/// Everything that is not per row.
fn write_episodes(plan: &Plan<'_>, file: &File, provenance: &str) -> hdf5::Result<()> {
    let episodes = plan.dataset.episodes();
    let lengths: Result<Vec<i32>, _> = episodes.iter().map(|e| i32::try_from(e.length)).collect();
    let offsets: Vec<i64> = episodes.iter().map(|e| e.first_row as i64).collect();
    put(
        &vector::<i32>(file, "ep_len", episodes.len())?,
        0,
        &lengths.map_err(|e| e.to_string())?,
    )?;
    put(
        &vector::<i64>(file, "ep_offset", episodes.len())?,
        0,
        &offsets,
    )?;
    let text: VarLenUnicode = provenance
        .parse()
        .map_err(|_| "a provenance with a zero byte")?;
    file.new_attr::<VarLenUnicode>()
        .create("jepa_bench")?
        .write_scalar(&text)
}

fn vector<T: H5Type>(file: &File, name: &str, length: usize) -> hdf5::Result<H5Dataset> {
    file.new_dataset::<T>()
        .chunk(vec![EPISODES_CHUNK])
        .shape(SimpleExtents::new([Extent::resizable(length)]))
        .create(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_lose_their_last_row_and_rewards_move_to_the_row_they_lead_to() {
        let column = |width, values: &[f32]| Column::F32 {
            width,
            values: values.to_vec(),
        };
        let action = shifted(ACTION, column(2, &[1.0, 2.0, 3.0, 4.0])).to_f32();
        assert_eq!(action[..2], [1.0, 2.0]);
        assert!(action[2..].iter().all(|v| v.is_nan()));
        let reward = shifted(REWARD, column(1, &[5.0, 6.0, 7.0])).to_f32();
        assert!(reward[0].is_nan());
        assert_eq!(reward[1..], [5.0, 6.0]);
        assert_eq!(shifted("other", column(1, &[5.0])).to_f32(), [5.0]);
    }
}
