//! Metaworld, as released by JEPA-WMs (datasets.md section 8.1): Parquet shards with one episode per row.
//!
//! ```text
//! data/train-00000-of-00126.parquet ...
//!   task, seed, episode   which episode it is
//!   states   [T + 1, 39]  simulator states; the first four numbers are what a model may see
//!   actions  [T, 4]
//!   rewards  [T]
//!   video    {bytes}      a video of T + 1 frames
//! ```
//!
//! As in the reference, state and frame `T`, after the last action, are left out. Shards are read in the order
//! of their numbers and rows in the order of the shard; with a task filter the rows of other tasks are not
//! counted, as in the reference. One row is read at a time, so memory does not grow with the release.
//!
//! A shard that cannot be used does not hide the others. How many rows it has is not known: it has one entry
//! after all episodes of the other shards, which is rejected with what is wrong with the shard.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jepa_datasets::{
    ACTION, Camera, Dtype, Episode, Field, FrameSink, ManifestDraft, PROPRIO, PixelType, Pixels,
    REWARD, STATE, catalog,
};

use super::support::{
    f32_column, files_in, finite, float_column, refuse, relative, resized, sha256_of,
    sort_numerically, total_bytes,
};
use super::{Source, SourceEntry, SourceOptions};
use crate::container::mapped::FileBytes;
use crate::container::table::{Numbers, TableFile};
use crate::container::video::Video;
use crate::{Error, Result};

/// The registry entry.
pub const ENTRY: SourceEntry = SourceEntry {
    name: "metaworld",
    summary: "JEPA-WMs' Metaworld release: Parquet shards of states, actions, rewards and videos",
    details: "\
SRC is the folder of the Parquet shards, one above it, or a single shard:

  data/train-00000-of-00126.parquet
    task, seed, episode
    states [T + 1, 39], actions [T, 4], rewards [T]
    video  an MP4 of T + 1 frames

State and frame after the last action are left out, as in the reference loader. --task keeps the
rows of one task; with it, the split is drawn over those rows only. A name that no row has is
refused with the list of names there are.

Examples:
  jepa-bench ingest metaworld raw/Metaworld data/reach --task mw-reach
  jepa-bench ingest metaworld raw/Metaworld data/all --dry-run",
    options: &["task"],
    open: |root, options| Ok(Box::new(MetaworldSource::open(root, options)?)),
};

/// Name of the only camera, as in the simulator.
const CAMERA: &str = "corner2";
/// The numbers of a state that a model may see: hand position and gripper opening.
const PROPRIO_WIDTH: usize = 4;
/// Columns that a shard must have.
const COLUMNS: [&str; 7] = [
    "task", "seed", "episode", "states", "actions", "rewards", "video",
];
/// Frames per second of the timestamps where no video tells them.
const UNKNOWN_FPS: f64 = 1.0;
/// Repeated identities that the manifest lists; beyond them it counts.
const LISTED: usize = 20;

/// An opened release.
pub struct MetaworldSource {
    root: PathBuf,
    shards: Vec<TableFile>,
    places: Vec<Place>,
    /// Shards that cannot be used.
    broken: Vec<PathBuf>,
    options: SourceOptions,
    manifest: ManifestDraft,
}

/// One row of one shard.
#[derive(Debug, Clone)]
struct Place {
    shard: usize,
    row: usize,
    task: String,
    seed: i64,
    episode: i64,
}

/// One row, read.
struct Row {
    length: usize,
    /// Without the last.
    states: Series,
    actions: Series,
    rewards: Series,
    pixels: Pixels,
    native: [usize; 2],
    size: [usize; 2],
    fps: Option<f64>,
    hash: String,
}

impl MetaworldSource {
    /// Opens a release at the folder of the shards or above it, or a single shard.
    ///
    /// # Errors
    /// When there is no shard, or none that can be used: the fault of the first. When no row has one of
    /// the tasks asked for: the tasks there are.
    pub fn open(root: &Path, options: SourceOptions) -> Result<Self> {
        if let Some(camera) = options.cameras.iter().find(|name| *name != CAMERA) {
            let unknown = [camera.clone()];
            refuse("camera", &unknown, "the only camera is `corner2`")?;
        }
        let (root, paths) = find_shards(root)?;
        let mut shards: Vec<TableFile> = Vec::new();
        let mut places = Vec::new();
        let mut broken = Vec::new();
        let mut first_fault = None;
        for path in &paths {
            let opened =
                open_shard(path).and_then(|shard| Ok((list_rows(&shard, shards.len())?, shard)));
            match opened {
                Ok((rows, shard)) => {
                    places.extend(rows);
                    shards.push(shard);
                }
                Err(fault) => {
                    first_fault.get_or_insert(fault);
                    broken.push(path.clone());
                }
            }
        }
        if let Some(fault) = first_fault.filter(|_| shards.is_empty()) {
            return Err(fault);
        }
        let total = places.len();
        let tasks: BTreeSet<String> = places
            .iter()
            .map(|place: &Place| place.task.clone())
            .collect();
        if !options.tasks.is_empty() {
            places.retain(|place| options.tasks.contains(&place.task));
        }
        if places.is_empty() {
            let tasks: Vec<String> = tasks.into_iter().collect();
            return Err(Error::Nothing {
                path: root,
                detail: format!(
                    "0 of {total} rows match; available tasks: {}",
                    tasks.join(", ")
                ),
            });
        }
        let mut source = Self {
            root,
            shards,
            places,
            broken,
            options,
            manifest: declare(),
        };
        source.describe();
        source.manifest.notes.extend(missing_shards(&paths));
        source.manifest.notes.extend(repeated(&source.places));
        Ok(source)
    }

    /// Takes sizes, types and the frame rate from the first episode that can be read.
    fn describe(&mut self) {
        let first = self
            .places
            .iter()
            .find_map(|place| self.row(place).ok().map(|row| (place, row)));
        let Some((place, row)) = first else { return };
        let dtype = self.state_dtype(place.shard);
        let manifest = &mut self.manifest;
        manifest.fields = fields(row.actions.width, row.states.width, dtype);
        manifest.fps = row.fps.unwrap_or(UNKNOWN_FPS);
        let mut camera = Camera::new(CAMERA, row.size[0], row.size[1], PixelType::U8);
        camera.resized_from = (row.size != row.native).then_some(row.native);
        manifest.cameras = vec![camera];
    }

    fn state_dtype(&self, shard: usize) -> Dtype {
        let narrow = self
            .shards
            .get(shard)
            .is_some_and(|shard| shard.fits_f32("states"));
        if narrow { Dtype::F32 } else { Dtype::F64 }
    }

    fn row(&self, place: &Place) -> Result<Row> {
        let shard = self.shards.get(place.shard).ok_or_else(|| Error::Missing {
            path: self.root.clone(),
        })?;
        let path = shard.path();
        let cells = shard.read(&COLUMNS[3..], place.row..place.row + 1)?;
        let [states, actions, rewards] = [
            Series::of(path, "states", cells.numbers("states")?)?,
            Series::of(path, "actions", cells.numbers("actions")?)?,
            Series::of(path, "rewards", cells.numbers("rewards")?)?,
        ];
        let length = actions.rows;
        check_rows(path, place.row, [states.rows, length, rewards.rows])?;
        if states.width < PROPRIO_WIDTH || actions.width == 0 || rewards.width != 1 {
            let detail = format!(
                "states, actions and rewards have {}, {} and {} numbers",
                states.width, actions.width, rewards.width
            );
            return Err(Error::count(path, detail));
        }
        let video = cells.bytes("video")?.pop().unwrap_or_default();
        let hash = sha256_of(&[
            &video,
            &states.to_le_bytes(),
            &actions.to_le_bytes(),
            &rewards.to_le_bytes(),
        ]);
        let clip = decode(path, place.row, video, states.rows)?;
        let (pixels, size) = resized(Pixels::U8(clip.pixels), clip.size, self.options.size);
        Ok(Row {
            length,
            states: states.first(path, "the state", length)?,
            actions: actions.first(path, "the action", length)?,
            rewards: rewards.first(path, "the reward", length)?,
            pixels,
            native: clip.size,
            size,
            fps: clip.fps,
            hash,
        })
    }

    /// File of an entry.
    fn path_at(&self, index: u64) -> Option<&Path> {
        let index = index as usize;
        match self.places.get(index) {
            Some(place) => self.shards.get(place.shard).map(TableFile::path),
            None => self
                .broken
                .get(index - self.places.len())
                .map(PathBuf::as_path),
        }
    }
}

/// A `[rows, width]` cell.
struct Series {
    rows: usize,
    width: usize,
    values: Vec<f64>,
}

impl Series {
    /// Takes the numbers of one row of a table: `[rows, width]`, or `[rows]`.
    fn of(path: &Path, column: &str, numbers: Numbers) -> Result<Self> {
        let (rows, width) = match *numbers.shape.as_slice() {
            [rows] => (rows, 1),
            [rows, width] => (rows, width),
            _ => {
                let detail = format!("`{column}` has the shape {:?}", numbers.shape);
                return Err(Error::count(path, detail));
            }
        };
        Ok(Self {
            rows,
            width,
            values: numbers.values,
        })
    }

    /// The first rows, all finite.
    fn first(mut self, path: &Path, what: &'static str, rows: usize) -> Result<Self> {
        self.values.truncate(rows * self.width);
        finite(path, what, &self.values, self.width, 0)?;
        Ok(Self { rows, ..self })
    }

    fn to_le_bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }
}

/// There is one state more than actions, and a reward for each of these.
fn check_rows(path: &Path, row: usize, [states, actions, rewards]: [usize; 3]) -> Result<()> {
    if actions > 0 && states == actions + 1 && rewards == actions {
        return Ok(());
    }
    let detail = format!(
        "row {row} has {states} states, {actions} actions and {rewards} rewards; there is one state more than actions"
    );
    Err(Error::count(path, detail))
}

/// Decodes a video, which must have a frame for every state, and leaves the last out.
fn decode(path: &Path, row: usize, bytes: Vec<u8>, states: usize) -> Result<Clip> {
    let video = Video::open(FileBytes::inside(path, bytes))?;
    let info = video.info();
    let (size, fps) = ([info.height, info.width], info.fps);
    let mut pixels = Vec::new();
    let found = video.decode(&mut |k, frame| {
        if k + 1 < states {
            frame.rgb_into(&mut pixels)?;
        }
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    if found != states {
        let detail = format!("row {row} has {states} states and {found} frames");
        return Err(Error::count(path, detail));
    }
    Ok(Clip { pixels, size, fps })
}

struct Clip {
    pixels: Vec<u8>,
    size: [usize; 2],
    fps: Option<f64>,
}

/// The folder that paths are relative to, and the shards in the order of their numbers.
fn find_shards(root: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    if root.is_file() {
        let parent = root.parent().unwrap_or(root).to_path_buf();
        return Ok((parent, vec![root.to_path_buf()]));
    }
    for inner in ["", "Metaworld", "metaworld"] {
        let base = root.join(inner);
        for folder in [base.join("data"), base.clone()] {
            if !folder.is_dir() {
                continue;
            }
            let mut paths = files_in(&folder, &["parquet"])?;
            if !paths.is_empty() {
                sort_numerically(&mut paths);
                return Ok((base, paths));
            }
        }
    }
    Err(Error::Missing {
        path: root.join("data").join("*.parquet"),
    })
}

fn open_shard(path: &Path) -> Result<TableFile> {
    let shard = TableFile::open(path)?;
    match COLUMNS.iter().find(|column| !shard.has(column)) {
        Some(column) => Err(Error::MissingKey {
            path: path.to_path_buf(),
            key: (*column).into(),
        }),
        None => Ok(shard),
    }
}

/// Which episode each row of a shard is.
fn list_rows(table: &TableFile, shard: usize) -> Result<Vec<Place>> {
    let rows = table.read(&COLUMNS[..3], 0..table.rows())?;
    let (tasks, seeds, episodes) = (
        rows.texts("task")?,
        rows.integers("seed")?,
        rows.integers("episode")?,
    );
    let numbers = seeds.into_iter().zip(episodes);
    let rows = tasks.into_iter().zip(numbers).enumerate();
    Ok(rows
        .map(|(row, (task, (seed, episode)))| Place {
            shard,
            row,
            task,
            seed,
            episode,
        })
        .collect())
}

/// Says which shards are not there, if their names tell how many there are.
fn missing_shards(paths: &[PathBuf]) -> Option<String> {
    let numbers: Option<BTreeSet<(usize, usize)>> = paths
        .iter()
        .map(|path| {
            let stem = path.file_stem()?.to_string_lossy().into_owned();
            let (rest, total) = stem.rsplit_once("-of-")?;
            let (_, number) = rest.rsplit_once('-')?;
            Some((number.parse().ok()?, total.parse().ok()?))
        })
        .collect();
    let numbers = numbers?;
    let total = numbers.first()?.1.min(100_000);
    let missing: Vec<String> = (0..total)
        .filter(|&k| numbers.iter().all(|(number, _)| *number != k))
        .map(|k| k.to_string())
        .collect();
    if missing.is_empty() {
        return None;
    }
    let listed = missing
        .iter()
        .take(LISTED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let note = format!(
        "{} of {total} shards are not there, such as {listed}",
        missing.len()
    );
    tracing::warn!("{note}");
    Some(note)
}

/// Says which episodes have the task, seed and number of an earlier one. They are kept.
fn repeated(places: &[Place]) -> Option<String> {
    let mut groups: BTreeMap<(&str, i64, i64), Vec<usize>> = BTreeMap::new();
    for (index, place) in places.iter().enumerate() {
        let id = (place.task.as_str(), place.seed, place.episode);
        groups.entry(id).or_default().push(index);
    }
    let groups: Vec<_> = groups
        .into_iter()
        .filter(|(_, group)| group.len() > 1)
        .collect();
    if groups.is_empty() {
        return None;
    }
    let texts = groups
        .iter()
        .take(LISTED)
        .map(|((task, seed, episode), group)| {
            format!("{group:?} are all {task}, seed {seed}, episode {episode}")
        });
    let listed: Vec<String> = texts.collect();
    let note = format!(
        "{} identities occur more than once; all are kept: source episodes {}",
        groups.len(),
        listed.join("; ")
    );
    tracing::warn!("{note}");
    Some(note)
}

fn fields(action: usize, state: usize, dtype: Dtype) -> Vec<Field> {
    vec![
        Field::action(
            action,
            "unitless",
            "hand displacement x, y, z and gripper effort, -1 to 1",
        ),
        Field::proprio(
            PROPRIO_WIDTH,
            "m, unitless",
            "hand x, y, z; gripper opening, 0 to 1",
        ),
        Field::state(
            dtype,
            state,
            "mixed",
            "hand, gripper and two objects, now and at the previous simulator step; goal x, y, z",
        ),
        Field::reward("reward of the environment"),
    ]
}

fn declare() -> ManifestDraft {
    let entry = catalog::find(ENTRY.name);
    let [action, _, state] = entry.map_or([4, PROPRIO_WIDTH, 39], |entry| entry.widths);
    ManifestDraft {
        source: jepa_datasets::Source {
            name: ENTRY.name.into(),
            url: entry.map(|entry| entry.url.into()),
            revision: None,
            inputs: BTreeMap::new(),
        },
        fields: fields(action, state, Dtype::F32),
        cameras: Vec::new(),
        fps: UNKNOWN_FPS,
        control_hz: None,
        extra_last_obs: false,
        licence: None,
        citation: entry.map(|entry| entry.citation.into()),
        notes: vec![
            "state and frame after the last action are not stored, as in the reference loader"
                .into(),
            "images are flipped vertically against the simulator's; other releases flip both axes"
                .into(),
            "the frame rate is that of the videos; the control rate is not recorded".into(),
        ],
    }
}

impl Source for MetaworldSource {
    fn manifest(&self) -> &ManifestDraft {
        &self.manifest
    }

    fn total(&self) -> u64 {
        (self.places.len() + self.broken.len()) as u64
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn path_of(&self, index: u64) -> String {
        self.path_at(index)
            .map(|path| relative(&self.root, path))
            .unwrap_or_default()
    }

    fn read_into(&self, index: u64, sink: &mut dyn FrameSink) -> Result<Episode> {
        let Some(place) = self.places.get(index as usize) else {
            let path = self.path_at(index).unwrap_or(&self.root);
            let again = open_shard(path).and_then(|shard| list_rows(&shard, 0));
            return Err(again.err().unwrap_or_else(|| {
                Error::count(path, "it has changed since the release was opened")
            }));
        };
        let row = self.row(place)?;
        let width = row.states.width;
        let proprio: Vec<f64> = row
            .states
            .values
            .chunks_exact(width)
            .flat_map(|state| &state[..PROPRIO_WIDTH])
            .copied()
            .collect();
        let state = float_column(self.state_dtype(place.shard), width, row.states.values);
        sink.push_all(CAMERA, row.size, &row.pixels)?;
        Ok(Episode {
            source_index: index,
            source_path: self.path_of(index),
            source_hash: row.hash,
            task: place.task.clone(),
            seed: u64::try_from(place.seed).ok(),
            length: row.length,
            columns: BTreeMap::from([
                (
                    ACTION.into(),
                    f32_column(row.actions.width, &row.actions.values),
                ),
                (PROPRIO.into(), f32_column(PROPRIO_WIDTH, &proprio)),
                (REWARD.into(), f32_column(1, &row.rewards.values)),
                (STATE.into(), state),
            ]),
            cameras: Vec::new(),
            extras: BTreeMap::from([
                ("episode".into(), place.episode as f64),
                ("row_in_file".into(), place.row as f64),
            ]),
        })
    }

    fn missing(&self) -> Vec<u64> {
        Vec::new()
    }

    fn bytes(&self) -> u64 {
        let shards = self.shards.iter().map(TableFile::path);
        total_bytes(shards.chain(self.broken.iter().map(PathBuf::as_path)))
    }
}
