//! Replay buffers of `diffusion_policy`: Zarr format 2, as folders or `.zarr.zip` (datasets.md section 14.3).
//!
//! ```text
//! data/<key>           [N, ..]  one row per step, all episodes after each other
//! meta/episode_ends    [E]      row after the last one of every episode
//! ```
//!
//! Push-T has `img` [N, 96, 96, 3] (floats or bytes, 0 to 255), `state` [N, 5] (agent x, y, block x, y, angle),
//! `action` [N, 2] (the *absolute* target of the agent in pixels), `keypoint` and `n_contacts`. In other
//! stores every `data` array of four dimensions that ends in 3 is a camera, and every other one a column.
//! Chunks that are not there are fill values, as the format has it; how many there are is in the notes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jepa_datasets::{
    ACTION, Alignment, Camera, Column, Dtype, Episode, Field, FrameSink, ManifestDraft,
    PIXEL_RANGE, PROPRIO, PixelType, Pixels, STATE,
};
use serde_json::Value;

use super::support::{Hash, resized, sha256};
use super::{Source, SourceEntry, SourceOptions};
use crate::container::zarr_v2::{NumberType, ZarrArray, ZarrStore};
use crate::{Error, Result};

/// The registry entry.
pub const ENTRY: SourceEntry = SourceEntry {
    name: "zarr",
    summary: "diffusion_policy replay buffers: Zarr v2 folders or .zarr.zip with data/* and meta/episode_ends",
    details: "\
SRC is a replay buffer of diffusion_policy: a `.zarr` folder or a `.zarr.zip`, Zarr format 2:

  data/<key>         [N, ..]  one row per step, episode after episode
  meta/episode_ends  [E]      row after the last one of each

Arrays of four dimensions that end in 3 are cameras, the others columns. Chunks that are not
there are fill values, as the format has it; the notes of the dataset say how many there were.

Example:
  jepa-bench ingest zarr raw/pusht_cchi_v7_replay.zarr.zip data/pusht",
    options: &["camera"],
    open: |root, options| Ok(Box::new(ZarrSource::open(root, options)?)),
};

const ENDS: &str = "meta/episode_ends";
/// Index into the task strings of the attributes, per episode; written by our own export.
const TASK_INDEX: &str = "meta/task_index";
const PUSHT_TASK: &str = "push the T block to the goal";
/// Control rate of Push-T; the store itself does not say.
const PUSHT_HZ: f64 = 10.0;
/// Whole numbers up to this one are exactly `f64`.
const EXACT_IN_F64: u128 = 1 << 53;
/// Width of Push-T's state and action.
const PUSHT_WIDTHS: (usize, usize) = (5, 2);

/// An opened replay buffer.
pub struct ZarrSource {
    root: PathBuf,
    ends: Vec<usize>,
    cameras: Vec<ZarrArray>,
    columns: Vec<ColumnArray>,
    tasks: Vec<String>,
    /// Numbers that hold for a whole episode, by name.
    extras: Vec<(String, Vec<f64>)>,
    /// Whether `observation.proprio` is the first two numbers of the state.
    is_pusht: bool,
    options: SourceOptions,
    manifest: ManifestDraft,
}

/// An array and the field it becomes.
struct ColumnArray {
    array: ZarrArray,
    field: Field,
}

impl ZarrSource {
    /// Opens a store at `root`, or the only `*.zarr` or `*.zarr.zip` in that folder.
    ///
    /// # Errors
    /// [`Error::EmptyDataset`]; [`Error::Length`] for ends that decrease; [`Error::Count`] for arrays that do
    /// not have as many rows as the last end says; anything wrong with the metadata.
    pub fn open(root: &Path, options: SourceOptions) -> Result<Self> {
        if let Some(task) = options.tasks.first() {
            return Err(Error::Invalid {
                what: "task",
                value: task.clone(),
                detail: "episodes of this format cannot be chosen by task".into(),
            });
        }
        let root = resolve(root)?;
        let store = Arc::new(ZarrStore::open(&root)?);
        let ends = read_ends(&store)?;
        let (arrays, groups) = store.children("data")?;
        let mut source = Self {
            root,
            tasks: read_tasks(&store, ends.len())?,
            extras: read_extras(&store, ends.len())?,
            manifest: draft(&store, groups)?,
            ends,
            cameras: Vec::new(),
            columns: Vec::new(),
            is_pusht: false,
            options,
        };
        for name in arrays {
            let array = ZarrArray::open(&store, &format!("data/{name}"))?;
            source.take(array)?;
        }
        source.check_columns()?;
        source.check_cameras()?;
        source.declare()?;
        Ok(source)
    }

    /// Sorts an array in as camera or column.
    fn take(&mut self, array: ZarrArray) -> Result<()> {
        let rows = self.ends.last().copied().unwrap_or_default();
        if array.shape()[0] != rows {
            let detail = format!(
                "the last episode ends at row {rows}, `{}` has {} rows",
                array.name(),
                array.shape()[0]
            );
            return Err(Error::count(&self.root, detail));
        }
        if array.missing_chunks() > 0 {
            let (missing, name) = (array.missing_chunks(), array.name());
            let chunks = if missing == 1 { "chunk" } else { "chunks" };
            self.manifest.notes.push(format!(
                "{missing} {chunks} of {name} missing, filled with fill_value"
            ));
        }
        let key = key(&array).to_string();
        if is_camera(&array) {
            if self.options.cameras.is_empty() || self.options.cameras.contains(&key) {
                self.cameras.push(array);
            }
            return Ok(());
        }
        if key == "img" {
            let detail = format!(
                "its shape is {:?}, not [N, height, width, 3]",
                array.shape()
            );
            return Err(Error::count(&self.root.join("data/img"), detail));
        }
        if array.width() == 0 {
            return Err(Error::count(
                &self.root.join(array.name()),
                format!("its shape {:?} has no values", array.shape()),
            ));
        }
        let field = field(&key, &array, &mut self.manifest.notes);
        self.columns.push(ColumnArray { array, field });
        Ok(())
    }

    /// There are actions, and no two arrays are the same field.
    fn check_columns(&mut self) -> Result<()> {
        let width_of = |columns: &[ColumnArray], name: &str| {
            let found = columns.iter().find(|column| column.field.name == name);
            found.map(|column| column.field.width())
        };
        let Some(action) = width_of(&self.columns, ACTION) else {
            return Err(Error::MissingKey {
                path: self.root.clone(),
                key: "data/action".into(),
            });
        };
        self.is_pusht = width_of(&self.columns, PROPRIO).is_none()
            && width_of(&self.columns, STATE) == Some(PUSHT_WIDTHS.0)
            && action == PUSHT_WIDTHS.1;
        self.columns.sort_by(|a, b| a.field.name.cmp(&b.field.name));
        let twice = self
            .columns
            .windows(2)
            .find(|pair| pair[0].field.name == pair[1].field.name);
        match twice {
            Some(pair) => Err(Error::Duplicate {
                path: self.root.clone(),
                detail: format!(
                    "`{}` and `{}` are both `{}`",
                    pair[0].array.name(),
                    pair[1].array.name(),
                    pair[0].field.name
                ),
            }),
            None => Ok(()),
        }
    }

    fn check_cameras(&self) -> Result<()> {
        let names: Vec<&str> = self.cameras.iter().map(key).collect();
        let unknown = self
            .options
            .cameras
            .iter()
            .find(|wanted| !names.contains(&wanted.as_str()));
        match unknown {
            Some(name) => Err(Error::MissingKey {
                path: self.root.clone(),
                key: format!("data/{name}"),
            }),
            None => Ok(()),
        }
    }

    /// Fields and cameras of the manifest.
    fn declare(&mut self) -> Result<()> {
        let mut fields: Vec<Field> = self.columns.iter().map(|c| c.field.clone()).collect();
        if self.is_pusht {
            describe_pusht(&mut fields, &mut self.manifest);
        }
        self.manifest.fields = fields;
        for array in &self.cameras {
            let (height, width) = (array.shape()[1], array.shape()[2]);
            let [h, w] = self.options.size.unwrap_or([height, width]);
            let mut camera = Camera::new(key(array), h, w, pixel_type(&self.root, array)?);
            camera.resized_from = ([h, w] != [height, width]).then_some([height, width]);
            self.manifest.cameras.push(camera);
        }
        if self
            .manifest
            .cameras
            .iter()
            .any(|c| c.resized_from.is_some())
        {
            self.manifest
                .notes
                .push("frames were resized by bilinear interpolation without antialias".into());
        }
        if self
            .manifest
            .cameras
            .iter()
            .any(|c| c.dtype == PixelType::F32)
        {
            self.manifest
                .notes
                .push("frames are stored as the floats of the source, 0 to 255".into());
        }
        Ok(())
    }

    /// First row of an episode and the row after its last one.
    fn rows(&self, index: u64) -> Option<(usize, usize)> {
        let index = usize::try_from(index).ok()?;
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some((start, end))
    }

    /// Frames of one camera, with the bytes they came from.
    fn frames(
        &self,
        array: &ZarrArray,
        (start, end): (usize, usize),
        sink: &mut dyn FrameSink,
    ) -> Result<Vec<u8>> {
        let bytes = array.rows(start..end)?;
        let native = [array.shape()[1], array.shape()[2]];
        let pixels = self.pixels(array, &bytes)?;
        let (pixels, size) = resized(pixels, native, self.options.size);
        sink.push_all(key(array), size, &pixels)?;
        Ok(bytes)
    }

    /// Pixels in 0 to 255, in the type of the array.
    fn pixels(&self, array: &ZarrArray, bytes: &[u8]) -> Result<Pixels> {
        if array.dtype() == NumberType::U8 {
            return Ok(Pixels::U8(bytes.to_vec()));
        }
        let path = self.root.join(array.name());
        let values: Vec<f32> = numbers(array.dtype(), bytes)
            .into_iter()
            .map(|v| v as f32)
            .collect();
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::NonFinite {
                path,
                what: "a pixel",
                row: at / array.width(),
                dim: at % array.width(),
            });
        }
        let (low, high) = values
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| {
                (low.min(v), high.max(v))
            });
        // Frames of 0 to 1 would otherwise pass as black ones.
        let is_fraction = high > 0.0 && high <= 1.5;
        if is_fraction || !PIXEL_RANGE.contains(&low) || !PIXEL_RANGE.contains(&high) {
            let detail = format!("pixels lie between {low} and {high}, the format has 0 to 255");
            return Err(Error::Range { path, detail });
        }
        Ok(Pixels::F32(values))
    }
}

impl Source for ZarrSource {
    fn manifest(&self) -> &ManifestDraft {
        &self.manifest
    }

    fn total(&self) -> u64 {
        self.ends.len() as u64
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn path_of(&self, index: u64) -> String {
        match self.rows(index) {
            Some((start, end)) => format!("data[{start}..{end}]"),
            None => "data".into(),
        }
    }

    fn read_into(&self, index: u64, sink: &mut dyn FrameSink) -> Result<Episode> {
        let rows = self.rows(index).ok_or_else(|| Error::Missing {
            path: self.root.join(format!("{ENDS}[{index}]")),
        })?;
        if rows.0 == rows.1 {
            return Err(Error::EmptyEpisode {
                path: self.root.join(ENDS),
                episode: index,
            });
        }
        let mut hash = Hash::default();
        let mut columns = BTreeMap::new();
        for ColumnArray { array, field } in &self.columns {
            let bytes = array.rows(rows.0..rows.1)?;
            hash.add(field.name.as_bytes());
            hash.add(&bytes);
            let values = column(field, array.dtype(), &bytes).ok_or_else(|| Error::Range {
                path: self.root.join(array.name()),
                detail: format!("a whole number does not fit into {}", field.dtype),
            })?;
            if let Some((row, dim)) = values.first_non_finite() {
                return Err(Error::NonFinite {
                    path: array.chunk_path(rows.0 + row, dim),
                    what: "a value",
                    row,
                    dim,
                });
            }
            columns.insert(field.name.clone(), values);
        }
        if self.is_pusht
            && let Some(state) = columns.get(STATE)
        {
            columns.insert(PROPRIO.into(), first_two(state));
        }
        for array in &self.cameras {
            let bytes = self.frames(array, rows, sink)?;
            hash.add(key(array).as_bytes());
            hash.add(&bytes);
        }
        let at = index as usize;
        let extra = |(name, values): &(String, Vec<f64>)| {
            let value = values.get(at).copied().filter(|v| v.is_finite())?;
            Some((name.clone(), value))
        };
        Ok(Episode {
            source_index: index,
            source_path: self.path_of(index),
            source_hash: hash.finish(),
            task: self.task(at),
            seed: None,
            length: rows.1 - rows.0,
            columns,
            cameras: Vec::new(),
            extras: self.extras.iter().filter_map(extra).collect(),
        })
    }

    fn missing(&self) -> Vec<u64> {
        Vec::new()
    }

    fn bytes(&self) -> u64 {
        let columns = self.columns.iter().map(|column| &column.array);
        columns
            .chain(&self.cameras)
            .map(ZarrArray::stored_bytes)
            .sum()
    }
}

impl ZarrSource {
    fn task(&self, index: usize) -> String {
        match self.tasks.get(index) {
            Some(task) => task.clone(),
            None if self.is_pusht => PUSHT_TASK.into(),
            None => String::new(),
        }
    }
}

/// The store itself: `root`, or the only one in it.
fn resolve(root: &Path) -> Result<PathBuf> {
    if !root.is_dir() || root.join("meta").is_dir() || root.join(".zgroup").exists() {
        return Ok(root.to_path_buf());
    }
    let mut stores = Vec::new();
    for entry in fs::read_dir(root).map_err(|e| Error::io(root, e))? {
        let path = entry.map_err(|e| Error::io(root, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with('.') && (name.ends_with(".zarr") || name.ends_with(".zarr.zip")) {
            stores.push(path);
        }
    }
    stores.sort();
    match stores.as_slice() {
        [only] => Ok(only.clone()),
        [] => Ok(root.to_path_buf()),
        [first, second, ..] => Err(Error::Format {
            path: root.to_path_buf(),
            expected: "one store",
            detail: format!(
                "it holds several, such as `{}` and `{}`; name one of them",
                first.display(),
                second.display()
            ),
        }),
    }
}

/// Key of a `data` array.
fn key(array: &ZarrArray) -> &str {
    array.name().strip_prefix("data/").unwrap_or(array.name())
}

fn is_camera(array: &ZarrArray) -> bool {
    matches!(array.shape(), [_, height, width, 3] if *height > 0 && *width > 0)
}

/// Bytes stay bytes; numbers that are exactly 32-bit floats become those.
fn pixel_type(root: &Path, array: &ZarrArray) -> Result<PixelType> {
    match array.dtype() {
        NumberType::U8 => Ok(PixelType::U8),
        dtype if dtype.fits_f32() && dtype != NumberType::Bool => Ok(PixelType::F32),
        other => Err(Error::Dtype {
            path: root.join(array.name()),
            found: format!("{other:?}"),
            wanted: "frames",
        }),
    }
}

/// Row after the last one of every episode.
fn read_ends(store: &Arc<ZarrStore>) -> Result<Vec<usize>> {
    let array = ZarrArray::open(store, ENDS)?;
    let path = store.path_of(ENDS);
    let fault = |detail: String| Error::Length {
        path: path.clone(),
        detail,
    };
    if !array.dtype().is_integer() || array.shape().len() != 1 {
        return Err(Error::Dtype {
            path,
            found: format!("{:?} of shape {:?}", array.dtype(), array.shape()),
            wanted: "the ends of episodes, a list of whole numbers",
        });
    }
    if array.missing_chunks() > 0 {
        return Err(Error::Missing { path });
    }
    let bytes = array.rows(0..array.shape()[0])?;
    let mut ends = Vec::with_capacity(array.shape()[0]);
    let mut before = 0;
    for (episode, end) in integers(array.dtype(), &bytes).into_iter().enumerate() {
        let end = usize::try_from(end)
            .map_err(|_| fault(format!("episode {episode} ends at row {end}")))?;
        if end < before {
            return Err(fault(format!(
                "episode {episode} ends at row {end}, before its start at row {before}"
            )));
        }
        ends.push(end);
        before = end;
    }
    if ends.is_empty() {
        return Err(Error::EmptyDataset {
            path: store.root().to_path_buf(),
        });
    }
    Ok(ends)
}

/// Task string of every episode, where our own export wrote them.
fn read_tasks(store: &Arc<ZarrStore>, episodes: usize) -> Result<Vec<String>> {
    let attributes = store.document("meta/.zattrs")?.unwrap_or_default();
    let Some(tasks) = attributes.get("tasks").and_then(Value::as_array) else {
        return Ok(Vec::new());
    };
    let Some(indices) = episode_numbers(store, TASK_INDEX, episodes)? else {
        return Ok(Vec::new());
    };
    let of = |index: f64| {
        let task = tasks.get(index as usize).filter(|_| index >= 0.0)?;
        task.as_str().map(String::from)
    };
    let missing = |index: f64| Error::MissingKey {
        path: store.path_of("meta/.zattrs"),
        key: format!("tasks[{index}]"),
    };
    indices
        .into_iter()
        .map(|index| of(index).ok_or_else(|| missing(index)))
        .collect()
}

/// Every other `meta` array of one number per episode.
fn read_extras(store: &Arc<ZarrStore>, episodes: usize) -> Result<Vec<(String, Vec<f64>)>> {
    let mut extras = Vec::new();
    for name in store.children("meta")?.0 {
        let key = format!("meta/{name}");
        if key == ENDS || key == TASK_INDEX {
            continue;
        }
        if let Some(values) = episode_numbers(store, &key, episodes)? {
            extras.push((name, values));
        }
    }
    Ok(extras)
}

/// An array of one number per episode; nothing if there is no such array, or it is of another kind.
fn episode_numbers(
    store: &Arc<ZarrStore>,
    name: &str,
    episodes: usize,
) -> Result<Option<Vec<f64>>> {
    if store.document(&format!("{name}/.zarray"))?.is_none() {
        return Ok(None);
    }
    let array = match ZarrArray::open(store, name) {
        Ok(array) => array,
        // Text per episode and the like: no number, no extra.
        Err(Error::ObjectArray { .. } | Error::Dtype { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if array.shape() != [episodes] {
        return Ok(None);
    }
    let bytes = array.rows(0..episodes)?;
    Ok(Some(numbers(array.dtype(), &bytes)))
}

/// Provenance, and what is known before any array is.
fn draft(store: &Arc<ZarrStore>, groups: Vec<String>) -> Result<ManifestDraft> {
    let mut inputs = BTreeMap::new();
    for key in [format!("{ENDS}/.zarray"), format!("{ENDS}/0")] {
        if let Some(bytes) = store.read(&key, 1 << 30)? {
            inputs.insert(key, sha256(&bytes));
        }
    }
    let unread = groups
        .into_iter()
        .map(|group| format!("group data/{group} was not read: the format has no groups there"));
    Ok(ManifestDraft {
        source: jepa_datasets::Source {
            name: ENTRY.name.into(),
            url: None,
            revision: None,
            inputs,
        },
        fields: Vec::new(),
        cameras: Vec::new(),
        fps: 1.0,
        control_hz: None,
        extra_last_obs: false,
        licence: None,
        citation: None,
        notes: unread.collect(),
    })
}

/// The field that a `data` array becomes.
fn field(key: &str, array: &ZarrArray, notes: &mut Vec<String>) -> Field {
    let width = array.width();
    let meaning = match array.shape().len() {
        1 | 2 => format!("`data/{key}` of the store"),
        _ => format!(
            "`data/{key}` of the store, {:?} row by row",
            &array.shape()[1..]
        ),
    };
    let narrowed = |notes: &mut Vec<String>| {
        if !array.dtype().fits_f32() {
            notes.push(format!("data/{key} was rounded to float32"));
        }
    };
    match key {
        "action" => {
            narrowed(notes);
            Field::action(width, "unitless", &meaning)
        }
        "proprio" => {
            narrowed(notes);
            Field::proprio(width, "unitless", &meaning)
        }
        "reward" if width == 1 => {
            narrowed(notes);
            Field::reward(&meaning)
        }
        "state" => Field::state(wide_type(array.dtype(), 2), width, "unitless", &meaning),
        other => Field::new(
            other,
            wide_type(array.dtype(), width),
            width,
            "unitless",
            &meaning,
            Alignment::AtRow,
        ),
    }
}

/// The type of a column that holds every value of an array. Integers are kept as such one per row only.
fn wide_type(dtype: NumberType, width: usize) -> Dtype {
    match dtype {
        dtype if dtype.is_integer() && width == 1 => Dtype::I64,
        dtype if dtype.fits_f32() => Dtype::F32,
        _ => Dtype::F64,
    }
}

/// Says what the numbers of Push-T mean, and adds what a model may see of its state.
fn describe_pusht(fields: &mut Vec<Field>, manifest: &mut ManifestDraft) {
    for field in fields.iter_mut() {
        let (units, meaning) = match field.name.as_str() {
            ACTION => ("pixels", "absolute target x, y of the agent, 0 to 512"),
            STATE => ("pixels, radians", "agent x, y, block x, y, block angle"),
            _ => continue,
        };
        field.units = units.into();
        field.meaning = meaning.into();
    }
    fields.push(Field::proprio(2, "pixels", "agent x, y"));
    manifest.fps = PUSHT_HZ;
    manifest.control_hz = Some(PUSHT_HZ);
    manifest.notes.push(
        "a state of 5 and an action of 2 numbers are those of Push-T: the proprioception is the first two \
         numbers of the state, the rate is 10 Hz"
            .into(),
    );
    manifest.notes.push(
        "actions are absolute pixels; those of DINO-WM's Push-T are (action - agent) / 100".into(),
    );
}

/// Agent x, y of a Push-T state.
fn first_two(state: &Column) -> Column {
    let values = state.to_f32();
    let rows = values.chunks_exact(state.width().max(2));
    Column::F32 {
        width: 2,
        values: rows.flat_map(|row| [row[0], row[1]]).collect(),
    }
}

/// Values of a field; nothing if one of them would not be what it was.
fn column(field: &Field, dtype: NumberType, bytes: &[u8]) -> Option<Column> {
    let width = field.width();
    if field.dtype == Dtype::I64 {
        let values = integers(dtype, bytes).into_iter();
        let values: Option<Vec<i64>> = values.map(|v| i64::try_from(v).ok()).collect();
        return values.map(Column::I64);
    }
    let exact = |v: &i128| v.unsigned_abs() <= EXACT_IN_F64;
    if !integers(dtype, bytes).iter().all(exact) {
        return None;
    }
    let values = numbers(dtype, bytes);
    Some(match field.dtype {
        Dtype::F32 => Column::F32 {
            width,
            values: values.into_iter().map(|v| v as f32).collect(),
        },
        _ => Column::F64 { width, values },
    })
}

/// Little-endian values as whole numbers; nothing for floats.
fn integers(dtype: NumberType, bytes: &[u8]) -> Vec<i128> {
    macro_rules! each {
        ($kind:ty) => {
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| i128::from(<$kind>::from_le_bytes(*b)))
                .collect()
        };
    }
    match dtype {
        NumberType::I64 => each!(i64),
        NumberType::I32 => each!(i32),
        NumberType::I16 => each!(i16),
        NumberType::I8 => each!(i8),
        NumberType::U64 => each!(u64),
        NumberType::U32 => each!(u32),
        NumberType::U16 => each!(u16),
        NumberType::U8 | NumberType::Bool => each!(u8),
        NumberType::F64 | NumberType::F32 => Vec::new(),
    }
}

/// Little-endian values as floats.
fn numbers(dtype: NumberType, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        NumberType::F64 => {
            let values = bytes.as_chunks().0.iter();
            values.map(|b| f64::from_le_bytes(*b)).collect()
        }
        NumberType::F32 => {
            let values = bytes.as_chunks().0.iter();
            values.map(|b| f64::from(f32::from_le_bytes(*b))).collect()
        }
        _ => integers(dtype, bytes)
            .into_iter()
            .map(|v| v as f64)
            .collect(),
    }
}
