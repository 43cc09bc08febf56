//! Datasets of stable-worldmodel in its HDF5 format (datasets.md section 14.4).
//!
//! ```text
//! <name>.h5
//!   ep_len, ep_offset   [E]              rows of an episode and its first row
//!   action, proprio, state, reward, ...  [N, ...], one row per step
//!   pixels, pixels_<view>                [N, h, w, 3], bytes
//! ```
//!
//! The last action of an episode is the filler of the next reset, and the reward of its first row comes
//! from no action: both are NaN in the file, and stored as zeros. They are known by their place; NaN
//! anywhere else is an error of that episode.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use jepa_datasets::{
    ACTION, Alignment, Camera, Column, Dtype, Episode, Field, FrameSink, ManifestDraft, PROPRIO,
    REWARD, STATE, catalog,
};

use super::hdf5_release::{RESIZED, camera, find_files, read_images, size_of_file};
use super::port::Port;
use super::support::{Hash, refuse, relative};
use super::window::Window;
use super::{Source, SourceEntry, SourceOptions};
use crate::container::hdf5::{self, Data, Group, Kind};
use crate::{Error, Result};

/// The registry entry.
pub const ENTRY: SourceEntry = SourceEntry {
    name: "swm",
    summary: "stable-worldmodel's HDF5 datasets: a file, or a folder of files with equal columns",
    details: "\
SRC is an HDF5 file of stable-worldmodel, or a folder of files with the same columns:

  ep_len, ep_offset  [E]                rows of an episode, and its first row
  action, proprio, state, reward, ...   [N, ...], one row per step
  pixels, pixels_<view>                 [N, h, w, 3]

The last action of an episode and the reward of its first row come from no step: they are NaN in
the file and zero in the dataset. NaN anywhere else rejects that episode. Lance tables are not
read.

Example:
  jepa-bench ingest swm raw/pusht_expert_train.h5 data/pusht",
    options: &["camera", "frames-per-clip"],
    open: |root, options| Ok(Box::new(SwmSource::open(root, options)?)),
};

/// Columns that number episodes and rows, as the store does itself.
const NUMBERING: [&str; 2] = ["episode_idx", "step_idx"];
/// Columns that say which rows are an episode.
const INDEX: [&str; 2] = ["ep_len", "ep_offset"];
/// Names that columns have in the store.
const RENAMED: [(&str, &str); 4] = [
    ("action", ACTION),
    ("proprio", PROPRIO),
    ("state", STATE),
    ("reward", REWARD),
];
/// Names that the store has taken; columns of these names get the prefix `source.`.
const TAKEN: [&str; 5] = [
    "episode_index",
    "frame_index",
    "timestamp",
    "index",
    "task_index",
];
/// How the names of cameras start.
const PIXELS: &str = "pixels";

/// An opened dataset.
pub struct SwmSource {
    root: PathBuf,
    files: Vec<File>,
    episodes: Vec<(usize, Range<usize>)>,
    options: SourceOptions,
    manifest: ManifestDraft,
}

/// One file, with its columns ready to be read.
struct File {
    path: PathBuf,
    columns: Vec<StepColumn>,
    cameras: Vec<StepCamera>,
    episodes: Vec<Range<usize>>,
    /// What is left out, and why.
    left_out: Vec<String>,
}

/// A column of numbers.
struct StepColumn {
    field: Field,
    data: Data,
}

/// A column of images.
struct StepCamera {
    name: String,
    native: [usize; 2],
    /// Whether it has one channel, which is repeated.
    is_grey: bool,
    data: Data,
}

impl SwmSource {
    /// Opens a file or a folder of files.
    ///
    /// # Errors
    /// When a file cannot be read, its columns disagree, or files differ in their columns.
    pub fn open(src: &Path, options: SourceOptions) -> Result<Self> {
        refuse(
            "task",
            &options.tasks,
            "this source has no tasks to choose from",
        )?;
        let (root, paths) = find(src)?;
        let open = |path: &PathBuf| File::open(path, &options.cameras);
        let files = paths.iter().map(open).collect::<Result<Vec<_>>>()?;
        let Some((first, others)) = files.split_first() else {
            return Err(Error::Nothing {
                path: src.to_path_buf(),
                detail: "there is no `.h5` or `.hdf5` file in it".into(),
            });
        };
        others.iter().try_for_each(|other| first.is_like(other))?;
        let manifest = declare(first, &files, &options);
        let numbered = files.iter().enumerate();
        let episodes = numbered.flat_map(|(file, opened)| {
            opened.episodes.iter().map(move |rows| (file, rows.clone()))
        });
        Ok(Self {
            root,
            episodes: episodes.collect(),
            files,
            options,
            manifest,
        })
    }

    fn episode(&self, index: u64) -> Result<(&File, Range<usize>)> {
        let episode = usize::try_from(index)
            .ok()
            .and_then(|i| self.episodes.get(i));
        let found = episode.and_then(|(file, rows)| Some((self.files.get(*file)?, rows.clone())));
        found.ok_or_else(|| Error::MissingKey {
            path: self.root.clone(),
            key: format!("episode {index}"),
        })
    }
}

impl Source for SwmSource {
    fn manifest(&self) -> &ManifestDraft {
        &self.manifest
    }

    fn total(&self) -> u64 {
        self.episodes.len() as u64
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn path_of(&self, index: u64) -> String {
        self.episode(index).map_or_else(
            |_| String::new(),
            |(file, _)| relative(&self.root, &file.path),
        )
    }

    fn read_into(&self, index: u64, sink: &mut dyn FrameSink) -> Result<Episode> {
        let (file, rows) = self.episode(index)?;
        if rows.is_empty() {
            return Err(Error::EmptyEpisode {
                path: file.path.clone(),
                episode: index,
            });
        }
        if let Some(frames) = self.options.frames_per_clip {
            // Nothing says how many rows make a second: clips are of consecutive rows.
            Window { frames, stride: 1 }.check(&file.path, rows.len())?;
        }
        let mut hash = Hash::default();
        let (mut columns, mut extras) = (BTreeMap::new(), BTreeMap::new());
        for column in &file.columns {
            let mut values = column.read(rows.clone())?;
            let filled = match column.field.name.as_str() {
                ACTION => fill(&mut values, rows.len() - 1),
                REWARD => fill(&mut values, 0),
                _ => false,
            };
            if filled {
                extras.insert(format!("filled.{}", column.data.name()), 1.0);
            }
            hash.add_column(&values);
            columns.insert(column.field.name.clone(), values);
        }
        let cameras = file.cameras.iter().zip(&self.manifest.cameras);
        for (from, to) in cameras {
            let (path, wanted) = (from.data.path(), self.options.size);
            let mut port = Port::open(sink, to, from.native, wanted, path)?;
            from.read(rows.clone(), &mut port, &mut hash)?;
        }
        Ok(Episode {
            source_index: index,
            source_path: self.path_of(index),
            source_hash: hash.finish(),
            task: file
                .path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            seed: None,
            length: rows.len(),
            columns,
            cameras: Vec::new(),
            extras,
        })
    }

    fn missing(&self) -> Vec<u64> {
        Vec::new()
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| size_of_file(&file.path)).sum()
    }
}

impl File {
    fn open(path: &Path, cameras: &[String]) -> Result<Self> {
        let root = hdf5::open(path)?;
        let mut file = Self {
            path: path.to_path_buf(),
            columns: Vec::new(),
            cameras: Vec::new(),
            episodes: Vec::new(),
            left_out: Vec::new(),
        };
        for name in root.children()? {
            if INDEX.contains(&name.as_str()) {
                continue;
            }
            if NUMBERING.contains(&name.as_str()) {
                file.left_out.push(format!(
                    "`{name}`: the store numbers episodes and rows itself"
                ));
            } else if root.group(&name).is_ok() {
                file.left_out.push(format!("`{name}`: it is a group"));
            } else {
                file.add(root.data(&name)?)?;
            }
        }
        file.keep_cameras(cameras)?;
        let rows = file.rows()?;
        file.episodes = episodes(&root, rows)?;
        Ok(file)
    }

    /// Sorts a data set into columns and cameras by its name, shape and type.
    fn add(&mut self, data: Data) -> Result<()> {
        let name = data.name().to_string();
        if name.starts_with(PIXELS) && data.shape().len() == 4 {
            let grey = match (data.kind(), data.shape()) {
                (Kind::Unsigned(1), &[_, height, width, 1]) if height > 0 && width > 0 => {
                    Some([height, width])
                }
                _ => None,
            };
            let native = grey.map_or_else(|| data.image_size(), Ok)?;
            self.cameras.push(StepCamera {
                name,
                native,
                is_grey: grey.is_some(),
                data,
            });
            return Ok(());
        }
        let width: usize = data.shape().iter().skip(1).product();
        let reason = match data.kind() {
            Kind::Text { .. } => Some("it is text"),
            Kind::Other => Some("it holds no numbers"),
            _ if data.shape().is_empty() => Some("it has no rows"),
            _ if width == 0 => Some("its rows are empty"),
            Kind::Unsigned(1) if data.shape().len() > 2 => {
                Some("it looks like images of another name")
            }
            _ => None,
        };
        match reason {
            Some(reason) => self.left_out.push(format!("`{name}`: {reason}")),
            None => self.columns.push(StepColumn {
                field: field(&data, width),
                data,
            }),
        }
        Ok(())
    }

    /// Keeps the cameras that were asked for, in that order; all of them when none was.
    fn keep_cameras(&mut self, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut kept = Vec::new();
        for name in names {
            let at = self.cameras.iter().position(|camera| camera.name == *name);
            let at = at.ok_or_else(|| Error::MissingKey {
                path: self.path.clone(),
                key: name.clone(),
            })?;
            kept.push(self.cameras.remove(at));
        }
        for camera in &self.cameras {
            self.left_out
                .push(format!("`{}`: another camera was asked for", camera.name));
        }
        self.cameras = kept;
        Ok(())
    }

    /// Rows of the file, which all columns have.
    fn rows(&self) -> Result<usize> {
        let data = || {
            let columns = self.columns.iter().map(|column| &column.data);
            columns.chain(self.cameras.iter().map(|camera| &camera.data))
        };
        let rows = |data: &Data| data.shape().first().copied().unwrap_or(0);
        let Some(first) = data().next() else {
            return Err(Error::MissingKey {
                path: self.path.clone(),
                key: "action".into(),
            });
        };
        match data().find(|other| rows(other) != rows(first)) {
            None => Ok(rows(first)),
            Some(other) => Err(Error::count(
                &self.path,
                format!(
                    "`{}` has {} rows, `{}` has {}",
                    first.name(),
                    rows(first),
                    other.name(),
                    rows(other)
                ),
            )),
        }
    }

    /// Whether another file can be read into one dataset with this one.
    fn is_like(&self, other: &Self) -> Result<()> {
        let fields = |file: &Self| {
            file.columns
                .iter()
                .map(|c| c.field.clone())
                .collect::<Vec<_>>()
        };
        let cameras = |file: &Self| {
            let cameras = file.cameras.iter();
            cameras
                .map(|c| (c.name.clone(), c.native))
                .collect::<Vec<_>>()
        };
        if fields(self) == fields(other) && cameras(self) == cameras(other) {
            return Ok(());
        }
        let first = self.path.display();
        Err(Error::count(
            &other.path,
            format!("its columns or cameras differ from those of `{first}`; ingest it by itself"),
        ))
    }
}

impl StepColumn {
    /// Values of some rows in the type of the field.
    fn read(&self, rows: Range<usize>) -> Result<Column> {
        let width = self.field.width();
        Ok(match (self.field.dtype, self.data.kind()) {
            (Dtype::I64, _) => Column::I64(self.data.i64(Some(rows))?),
            (Dtype::F64, _) => Column::F64 {
                width,
                values: self.data.f64(Some(rows))?,
            },
            (Dtype::F32, Kind::Float(2 | 4)) => Column::F32 {
                width,
                values: self.data.f32(Some(rows))?,
            },
            (Dtype::F32, _) => {
                let values = self.data.f64(Some(rows))?.into_iter();
                Column::F32 {
                    width,
                    values: values.map(|v| v as f32).collect(),
                }
            }
        })
    }
}

impl StepCamera {
    fn read(&self, rows: Range<usize>, port: &mut Port<'_>, hash: &mut Hash) -> Result<()> {
        if !self.is_grey {
            return read_images(&self.data, rows, port, &mut |pixels| hash.add(pixels));
        }
        for row in rows {
            let grey = self.data.u8(Some(row..row + 1))?;
            hash.add(&grey);
            let rgb: Vec<u8> = grey.iter().flat_map(|&v| [v; 3]).collect();
            port.push(&rgb)?;
        }
        Ok(())
    }
}

/// The files of a dataset, and the folder that they are named relative to.
fn find(src: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    if src.is_dir() {
        let mut files = find_files(src, &|name| {
            let extension = Path::new(name).extension();
            extension.is_some_and(|ext| ext == "h5" || ext == "hdf5")
        })?;
        files.retain(|file| file.parent() == Some(src));
        return Ok((src.to_path_buf(), files));
    }
    let parent = src.parent().filter(|parent| !parent.as_os_str().is_empty());
    let root = parent.unwrap_or(Path::new(".")).to_path_buf();
    Ok((root, vec![src.to_path_buf()]))
}

/// Rows of every episode: within the file, without overlap, and all rows in one of them.
fn episodes(root: &Group, rows: usize) -> Result<Vec<Range<usize>>> {
    let [lengths, offsets] = INDEX.map(|name| {
        let data = root.data(name)?;
        data.rows_of(&[1])?;
        data.i64(None)
    });
    let (lengths, offsets) = (lengths?, offsets?);
    let refused = |detail: String| Err(Error::count(root.path(), detail));
    if lengths.len() != offsets.len() {
        let (e, o) = (lengths.len(), offsets.len());
        return refused(format!("`ep_len` has {e} episodes, `ep_offset` {o}"));
    }
    let sum: i128 = lengths.iter().map(|&n| i128::from(n)).sum();
    if sum != rows as i128 {
        return refused(format!(
            "`ep_len` adds up to {sum} rows, the columns have {rows}"
        ));
    }
    let mut episodes = Vec::with_capacity(lengths.len());
    for (episode, (&length, &offset)) in lengths.iter().zip(&offsets).enumerate() {
        let range = usize::try_from(offset)
            .ok()
            .zip(usize::try_from(length).ok());
        let range = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
        let Some(range) = range.filter(|range| range.end <= rows) else {
            return Err(Error::Length {
                path: root.path().to_path_buf(),
                detail: format!("episode {episode} has {length} rows from row {offset}, of {rows}"),
            });
        };
        episodes.push(range);
    }
    let mut order: Vec<&Range<usize>> = episodes.iter().filter(|rows| !rows.is_empty()).collect();
    order.sort_by_key(|rows| rows.start);
    match order.windows(2).find(|pair| pair[0].end != pair[1].start) {
        Some(pair) => {
            let (first, second) = (pair[0], pair[1]);
            refused(format!(
                "the episodes at rows {first:?} and {second:?} do not follow each other"
            ))
        }
        None => Ok(episodes),
    }
}

/// Replaces a row by zeros if it has NaN.
fn fill(column: &mut Column, row: usize) -> bool {
    let width = column.width();
    let place = row * width..(row + 1) * width;
    match column {
        Column::F32 { values, .. } => {
            let row = values
                .get_mut(place)
                .filter(|row| row.iter().any(|v| v.is_nan()));
            row.map(|row| row.fill(0.0)).is_some()
        }
        Column::F64 { values, .. } => {
            let row = values
                .get_mut(place)
                .filter(|row| row.iter().any(|v| v.is_nan()));
            row.map(|row| row.fill(0.0)).is_some()
        }
        Column::I64(_) => false,
    }
}

/// How a column is stored: action, proprioception and reward as `float32`, others in their own type.
fn field(data: &Data, width: usize) -> Field {
    let renamed = RENAMED.iter().find(|(name, _)| *name == data.name());
    let prefixed = format!("source.{}", data.name());
    let name = match renamed {
        Some((_, name)) => *name,
        None if TAKEN.contains(&data.name()) => prefixed.as_str(),
        None => data.name(),
    };
    let dtype = match (name, data.kind()) {
        (ACTION | PROPRIO | REWARD, _) | (_, Kind::Float(2 | 4)) => Dtype::F32,
        (_, Kind::Float(_)) => Dtype::F64,
        _ if width == 1 => Dtype::I64,
        _ => Dtype::F64,
    };
    let meaning = format!("column `{}` of the file", data.name());
    let alignment = match name {
        ACTION => Alignment::AppliedAtRow,
        REWARD => Alignment::AfterRow,
        _ => Alignment::AtRow,
    };
    Field::new(name, dtype, width, "unknown", &meaning, alignment)
}

fn declare(first: &File, files: &[File], options: &SourceOptions) -> ManifestDraft {
    let entry = catalog::find(ENTRY.name);
    let cameras = first.cameras.iter();
    let cameras: Vec<Camera> = cameras
        .map(|from| camera(&from.name, from.native, options.size))
        .collect();
    let mut notes = vec![
        "nothing says how many rows make a second: `timestamp` counts steps".to_string(),
        "the last action of an episode is the filler of the next reset and is stored as zeros where it is NaN; so is the reward of the first row. `filled.action` and `filled.reward` mark the episodes".into(),
    ];
    if cameras.iter().any(|camera| camera.resized_from.is_some()) {
        notes.push(RESIZED.into());
    }
    let rounded = first.columns.iter().filter(|column| {
        column.field.dtype == Dtype::F32 && !matches!(column.data.kind(), Kind::Float(2 | 4))
    });
    notes.extend(rounded.map(|column| {
        let (name, kind) = (column.data.name(), column.data.kind());
        format!("`{name}` is {kind} in the file and stored as the nearest float32")
    }));
    let grey = first.cameras.iter().filter(|camera| camera.is_grey);
    notes.extend(grey.map(|camera| {
        format!(
            "`{}` has one channel in the file, repeated three times",
            camera.name
        )
    }));
    let mut left_out: Vec<&String> = files.iter().flat_map(|file| &file.left_out).collect();
    left_out.sort();
    left_out.dedup();
    notes.extend(left_out.iter().map(|reason| format!("left out: {reason}")));
    ManifestDraft {
        source: jepa_datasets::Source {
            name: ENTRY.name.into(),
            url: entry.map(|entry| entry.url.into()),
            revision: None,
            inputs: BTreeMap::new(),
        },
        fields: first
            .columns
            .iter()
            .map(|column| column.field.clone())
            .collect(),
        cameras,
        fps: 1.0,
        control_hz: None,
        extra_last_obs: false,
        licence: None,
        citation: entry.map(|entry| entry.citation.into()),
        notes,
    }
}
