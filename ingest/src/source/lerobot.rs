//! `LeRobotDataset` of versions 3 and 2 (datasets.md sections 14.1 and 14.2).
//!
//! ```text
//! meta/info.json                     features, rates, templates of the paths
//! meta/tasks.parquet                 task_index, task                        (v2: tasks.jsonl)
//! meta/episodes/chunk-000/file-*     length, files and times of each episode (v2: episodes.jsonl)
//! data/chunk-000/file-000.parquet    one row per step, many episodes per file (v2: one file each)
//! videos/<camera>/chunk-000/*.mp4    many episodes per file                  (v2: one file each)
//! ```
//!
//! Names change as follows, since here `state` is what success is judged by: `observation.state` becomes
//! proprioception, `observation.environment_state` the state (without it, `observation.state` is both),
//! `next.reward` the reward; other numbers keep their names. Texts are not stored.
//!
//! Rows are found by their `episode_index`, tasks by their `task_index`, frames by their number: frame `k` of an
//! episode is frame `from_timestamp * fps + k` of the file that the camera's own index names. Times of rows
//! are never used to choose a frame.

mod meta;
mod png_column;

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use jepa_datasets::{
    ACTION, Alignment, Camera, Column, Dtype, Episode, Field, FrameSink, ManifestDraft, PROPRIO,
    PixelType, REWARD, STATE,
};

use self::meta::{Clip, EpisodeEntry, Feature, Layout, Meta};
use super::port::{Port, declared};
use super::support::{
    Hash, f32_column, finite, float_column, refuse, relative, rounded_note, sha256_of, total_bytes,
};
use super::{Source, SourceEntry, SourceOptions};
use crate::container::mapped::FileBytes;
use crate::container::table::{Rows, TableFile};
use crate::container::video::Video;
use crate::{Error, Result};

/// The registry entry.
pub const ENTRY: SourceEntry = SourceEntry {
    name: "lerobot",
    summary: "LeRobotDataset v3.x, v2.1 and v2.0: Parquet tables with videos or PNG images",
    details: "\
SRC is the folder with `meta/info.json` of a LeRobotDataset v3.x, v2.1 or v2.0.

  meta/        features, rates, tasks, lengths and times of the episodes
  data/        Parquet tables, one row per step
  videos/      MP4 files of many episodes each (v2: one each), or PNG columns in the tables

Names change as follows, since `observation.state` here is what success is judged by:
  observation.state              becomes  observation.proprio
  observation.environment_state  becomes  observation.state (without it, both are the first)
  other numbers keep their names; texts are not stored, which the notes of the dataset say

Frame k of an episode is frame `from_timestamp * fps + k` of its file; the times of rows never
choose.

Example:
  jepa-bench ingest lerobot raw/pusht data/pusht --camera top",
    options: &["camera", "task"],
    open: |root, options| Ok(Box::new(LerobotSource::open(root, options)?)),
};

/// Columns that number rows; they become the dataset's own.
const NUMBERING: [&str; 5] = [
    "timestamp",
    "frame_index",
    "episode_index",
    "index",
    "task_index",
];
/// Largest difference of a row's time from that of its frame, in seconds.
const TIME_TOLERANCE: f64 = 1e-4;
/// Episodes that are looked at for what all have in common.
const SAMPLES: usize = 50;
const ROBOT_STATE: &str = "observation.state";
const ENVIRONMENT_STATE: &str = "observation.environment_state";

/// An opened release.
pub struct LerobotSource {
    root: PathBuf,
    meta: Meta,
    episodes: Vec<EpisodeEntry>,
    /// Files of the episode table that cannot be used.
    broken: Vec<PathBuf>,
    /// Fields, and the columns they come from.
    columns: Vec<(Field, String)>,
    /// Cameras, by their names here and in the release.
    cameras: Vec<(String, Feature)>,
    options: SourceOptions,
    manifest: ManifestDraft,
}

impl LerobotSource {
    /// Opens a release at the folder that holds `meta`.
    ///
    /// # Errors
    /// Anything wrong with `meta/info.json`; an old version; two episodes of one number; no usable
    /// file of rows.
    pub fn open(root: &Path, options: SourceOptions) -> Result<Self> {
        let meta = Meta::read(root)?;
        let (mut episodes, broken) = meta.episodes(root)?;
        let total = episodes.len();
        let remarks = meta.remarks(&episodes);
        if !options.tasks.is_empty() {
            episodes.retain(|episode| {
                episode
                    .tasks
                    .iter()
                    .any(|task| options.tasks.contains(task))
            });
        }
        if episodes.is_empty() {
            let known = meta.tasks.values().cloned().collect::<Vec<_>>().join(", ");
            return Err(Error::Nothing {
                path: root.to_path_buf(),
                detail: format!("0 of {total} episodes match; available tasks: {known}"),
            });
        }
        let cameras = choose_cameras(&meta, &options.cameras)?;
        let mut source = Self {
            root: root.to_path_buf(),
            columns: columns(&meta),
            manifest: declare(&meta),
            meta,
            episodes,
            broken,
            cameras,
            options,
        };
        source.check_data()?;
        source.describe();
        source.manifest.notes.extend(remarks);
        source.manifest.notes.extend(source.remark_on_times());
        Ok(source)
    }

    /// Without a usable file of rows there is no episode at all.
    fn check_data(&self) -> Result<()> {
        let mut paths: Vec<PathBuf> = Vec::new();
        let mut first_fault = None;
        for episode in &self.episodes {
            let path = self.meta.data_path(&self.root, episode)?;
            if paths.last() == Some(&path) {
                continue;
            }
            match TableFile::open(&path) {
                Ok(_) => return Ok(()),
                Err(fault) => {
                    first_fault.get_or_insert(fault);
                }
            }
            paths.push(path);
        }
        first_fault.map_or(Ok(()), Err)
    }

    /// Takes the size of each camera from the first episode whose frames can be read, or else from
    /// `info.json`.
    fn describe(&mut self) {
        let cameras = self.cameras.iter().map(|(name, feature)| {
            let native = self.native_size(feature);
            let size = self.options.size.unwrap_or(native);
            let mut camera = Camera::new(name, size[0], size[1], PixelType::U8);
            camera.resized_from = (size != native).then_some(native);
            camera
        });
        let cameras = cameras.collect();
        let mut fields: Vec<Field> = Vec::new();
        let mut rounded = Vec::new();
        for (field, column) in &self.columns {
            let mut field = field.clone();
            match field.name.as_str() {
                STATE => field.dtype = self.state_dtype(column),
                ACTION | PROPRIO | REWARD if self.state_dtype(column) == Dtype::F64 => {
                    rounded.push(rounded_note(column));
                }
                _ => {}
            }
            fields.push(field);
        }
        self.manifest.cameras = cameras;
        self.manifest.fields = fields;
        self.manifest.notes.extend(rounded);
    }

    /// Says whether the times of the first episode are those of its frames. They are not used either way.
    fn remark_on_times(&self) -> Option<String> {
        let some = self
            .episodes
            .iter()
            .filter(|episode| episode.length > 0)
            .take(SAMPLES);
        let mut times = some.filter_map(|episode| self.times(episode).ok());
        let times = times.next()?;
        let fits =
            |(k, time): (usize, &f64)| (time - k as f64 / self.meta.fps).abs() <= TIME_TOLERANCE;
        if times.iter().enumerate().all(fits) {
            return None;
        }
        let note =
            "the times of the rows are not those of the frames; frames are taken by their number";
        tracing::warn!("{note}");
        Some(note.into())
    }

    /// Times of the rows of one episode, in seconds.
    fn times(&self, episode: &EpisodeEntry) -> Result<Vec<f64>> {
        let path = self.meta.data_path(&self.root, episode)?;
        let table = TableFile::open(&path)?;
        let run = find_rows(&table, episode)?;
        Ok(table
            .read(&["timestamp"], run)?
            .numbers("timestamp")?
            .values)
    }

    fn native_size(&self, feature: &Feature) -> [usize; 2] {
        let some = self
            .episodes
            .iter()
            .filter(|episode| episode.length > 0)
            .take(SAMPLES);
        let mut seen = some.filter_map(|episode| self.size_in(feature, episode).ok());
        seen.next().or(feature.image_size).unwrap_or([1, 1])
    }

    /// Height and width of a camera in one episode.
    fn size_in(&self, feature: &Feature, episode: &EpisodeEntry) -> Result<[usize; 2]> {
        if feature.dtype == "image" {
            let path = self.meta.data_path(&self.root, episode)?;
            let first = TableFile::open(&path)?.read(&[feature.name.as_str()], 0..1)?;
            return png_column::size(&path, &first.bytes(&feature.name)?);
        }
        let clip = clip_of(&self.root, feature, episode)?;
        let path = self.meta.video_path(&self.root, feature, episode, clip)?;
        let video = Video::open(FileBytes::open(&path)?)?;
        Ok([video.info().height, video.info().width])
    }

    /// States keep the type of their file.
    fn state_dtype(&self, column: &str) -> Dtype {
        match self
            .meta
            .features
            .iter()
            .find(|feature| feature.name == column)
        {
            Some(feature) if feature.fits_f32() => Dtype::F32,
            _ => Dtype::F64,
        }
    }

    /// The rows of one episode, found by its number.
    fn rows(&self, episode: &EpisodeEntry) -> Result<Rows> {
        let path = self.meta.data_path(&self.root, episode)?;
        let table = TableFile::open(&path)?;
        let run = find_rows(&table, episode)?;
        let mut wanted: Vec<&str> = self
            .columns
            .iter()
            .map(|(_, column)| column.as_str())
            .collect();
        wanted.extend(["frame_index", "task_index"]);
        let images = self
            .cameras
            .iter()
            .filter(|(_, feature)| feature.dtype == "image");
        wanted.extend(images.map(|(_, feature)| feature.name.as_str()));
        wanted.sort_unstable();
        wanted.dedup();
        let rows = table.read(&wanted, run.clone())?;
        let order = rows.integers("frame_index")?;
        if !order.iter().copied().eq(0..run.len() as i64) {
            let detail = format!("the rows of episode {} are not in order", episode.index);
            return Err(Error::count(&path, detail));
        }
        Ok(rows)
    }

    /// Tasks of the rows, each once, in order; those of the entry where the table of tasks lacks one.
    fn task(&self, episode: &EpisodeEntry, rows: &Rows) -> Result<String> {
        let mut tasks: Vec<&str> = Vec::new();
        for index in rows.integers("task_index")? {
            let Some(task) = self.meta.tasks.get(&index) else {
                if episode.tasks.is_empty() {
                    return Err(Error::MissingKey {
                        path: self.root.join("meta"),
                        key: format!("task {index}"),
                    });
                }
                return Ok(episode.tasks.join("; "));
            };
            if !tasks.contains(&task.as_str()) {
                tasks.push(task);
            }
        }
        Ok(tasks.join("; "))
    }

    /// Values of a field in the rows of an episode.
    fn column(&self, path: &Path, rows: &Rows, field: &Field, column: &str) -> Result<Column> {
        if field.dtype == Dtype::I64 {
            return Ok(Column::I64(rows.integers(column)?));
        }
        let numbers = rows.numbers(column)?;
        let width: usize = numbers.shape.iter().product();
        if width != field.width() {
            let detail = format!(
                "`{column}` has {width} numbers per row, not {}",
                field.width()
            );
            return Err(Error::count(path, detail));
        }
        finite(path, "a number", &numbers.values, width, 0)?;
        let declared = self
            .manifest
            .fields
            .iter()
            .find(|declared| declared.name == field.name);
        let dtype = declared.map_or(field.dtype, |declared| declared.dtype);
        Ok(float_column(dtype, width, numbers.values))
    }

    /// The frames of one camera.
    /// Hands the frames of one camera to the sink; returns the hash of their pixels before resizing.
    fn frames(
        &self,
        episode: &EpisodeEntry,
        position: usize,
        rows: &Rows,
        sink: &mut dyn FrameSink,
    ) -> Result<String> {
        let (name, feature) = &self.cameras[position];
        let wanted = self.options.size;
        if feature.dtype == "image" {
            let path = self.meta.data_path(&self.root, episode)?;
            let images = rows.bytes(&feature.name)?;
            let native = png_column::size(&path, &images)?;
            let camera = declared(&self.manifest, position, &path, name)?;
            let mut port = Port::open(sink, camera, native, wanted, &path)?;
            return png_column::decode(&path, &images, native, &mut port);
        }
        let clip = clip_of(&self.root, feature, episode)?;
        let path = self.meta.video_path(&self.root, feature, episode, clip)?;
        let video = Video::open(FileBytes::open(&path)?)?;
        let native = [video.info().height, video.info().width];
        let camera = declared(&self.manifest, position, &path, name)?;
        let mut port = Port::open(sink, camera, native, wanted, &path)?;
        self.video_frames(&path, &video, (episode, clip), &mut port)
    }

    /// Decodes a video from a key frame before the episode to its last frame.
    fn video_frames(
        &self,
        path: &Path,
        video: &Video,
        (episode, clip): (&EpisodeEntry, &Clip),
        port: &mut Port<'_>,
    ) -> Result<String> {
        let first = clip.first_frame(self.meta.fps);
        let end = first.saturating_add(episode.length);
        if let Some(announced) = clip.frames(self.meta.fps)
            && announced != episode.length
        {
            let detail = format!(
                "episode {} has {} rows and {announced} frames by its times",
                episode.index, episode.length
            );
            return Err(Error::count(path, detail));
        }
        let mut rgb = Vec::new();
        let mut hash = Hash::default();
        let is_whole_file = self.meta.layout == Layout::V2;
        let found = video.decode_from(first, &mut |k, frame| {
            if (first..end).contains(&k) {
                rgb.clear();
                frame.rgb_into(&mut rgb)?;
                hash.add(&rgb);
                port.push(&rgb)?;
            }
            // In a file of one episode the count is checked, in a shared one the next episode follows.
            Ok(if k + 1 >= end && !is_whole_file {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        if found < end || (is_whole_file && found != end) {
            let detail = format!(
                "episode {} needs frames {first} to {end}, the file has {found}",
                episode.index
            );
            return Err(Error::count(path, detail));
        }
        Ok(hash.finish())
    }
}

/// The rows of one episode in a table, found by its number.
fn find_rows(table: &TableFile, episode: &EpisodeEntry) -> Result<Range<usize>> {
    let path = table.path();
    let numbers = table.read(&["episode_index"], 0..table.rows())?;
    let numbers = numbers.integers("episode_index")?;
    let first = numbers.iter().position(|&n| n == episode.index);
    let first = first
        .ok_or_else(|| Error::count(path, format!("it has no row of episode {}", episode.index)))?;
    let found = numbers.iter().filter(|&&n| n == episode.index).count();
    let run = numbers[first..]
        .iter()
        .take_while(|&&n| n == episode.index)
        .count();
    if found != episode.length || run != found {
        let detail = format!(
            "episode {} has {found} rows, {run} of them together; its entry says {}",
            episode.index, episode.length
        );
        return Err(Error::count(path, detail));
    }
    Ok(first..first + run)
}

/// Where the frames of an episode are in a video.
fn clip_of<'a>(root: &Path, feature: &Feature, episode: &'a EpisodeEntry) -> Result<&'a Clip> {
    let clip = episode.clips.get(&feature.name);
    clip.ok_or_else(|| Error::MissingKey {
        path: root.join("meta/episodes"),
        key: format!("videos/{}", feature.name),
    })
}

/// The fields to store, and the column each comes from.
fn columns(meta: &Meta) -> Vec<(Field, String)> {
    let mut columns = Vec::new();
    let has_environment = meta.has(ENVIRONMENT_STATE);
    for feature in &meta.features {
        let (name, width) = (feature.name.as_str(), feature.width());
        if !feature.is_numeric() || NUMBERING.contains(&name) || width == 0 {
            continue;
        }
        let meaning = feature.meaning.as_str();
        let mut add = |field: Field| columns.push((field, name.to_string()));
        match name {
            "action" => add(Field::action(width, "as recorded", meaning)),
            ROBOT_STATE => {
                add(Field::proprio(width, "as recorded", meaning));
                if !has_environment {
                    add(Field::state(Dtype::F32, width, "as recorded", meaning));
                }
            }
            ENVIRONMENT_STATE => add(Field::state(Dtype::F32, width, "as recorded", meaning)),
            REWARD if width == 1 => add(Field::reward("reward for the action of the row")),
            _ => {
                let dtype = if width == 1 && feature.is_whole() {
                    Dtype::I64
                } else if feature.fits_f32() {
                    Dtype::F32
                } else {
                    Dtype::F64
                };
                let alignment = if name.starts_with("next.") {
                    Alignment::AfterRow
                } else {
                    Alignment::AtRow
                };
                add(Field::new(
                    name,
                    dtype,
                    width,
                    "as recorded",
                    meaning,
                    alignment,
                ));
            }
        }
    }
    columns
}

/// The cameras to keep, by short names where these are distinct.
fn choose_cameras(meta: &Meta, wanted: &[String]) -> Result<Vec<(String, Feature)>> {
    let all: Vec<&Feature> = meta
        .features
        .iter()
        .filter(|feature| feature.is_camera())
        .collect();
    let short = |feature: &Feature| {
        let name = feature
            .name
            .strip_prefix("observation.")
            .unwrap_or(&feature.name);
        name.strip_prefix("images.").unwrap_or(name).to_string()
    };
    let names: Vec<String> = all.iter().map(|feature| short(feature)).collect();
    let named: Vec<(String, Feature)> = all
        .into_iter()
        .map(|feature| {
            let name = short(feature);
            let is_distinct = names.iter().filter(|other| **other == name).count() == 1;
            (
                if is_distinct {
                    name
                } else {
                    feature.name.clone()
                },
                feature.clone(),
            )
        })
        .collect();
    for name in wanted {
        if !named
            .iter()
            .any(|(short, feature)| short == name || feature.name == *name)
        {
            let known: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
            let why = format!("the cameras are {}", known.join(", "));
            refuse("camera", std::slice::from_ref(name), &why)?;
        }
    }
    let is_wanted = |(short, feature): &(String, Feature)| {
        wanted.is_empty()
            || wanted
                .iter()
                .any(|name| name == short || *name == feature.name)
    };
    Ok(named.into_iter().filter(is_wanted).collect())
}

fn declare(meta: &Meta) -> ManifestDraft {
    let mut notes = meta.notes.clone();
    let texts = meta
        .features
        .iter()
        .filter(|feature| !feature.is_numeric() && !feature.is_camera());
    let texts: Vec<&str> = texts.map(|feature| feature.name.as_str()).collect();
    if !texts.is_empty() {
        notes.push(format!(
            "not stored, being no numbers or frames: {}",
            texts.join(", ")
        ));
    }
    ManifestDraft {
        source: jepa_datasets::Source {
            name: ENTRY.name.into(),
            url: None,
            revision: Some(format!("LeRobotDataset {}", meta.version)),
            inputs: meta.inputs.clone(),
        },
        fields: Vec::new(),
        cameras: Vec::new(),
        fps: meta.fps,
        control_hz: Some(meta.fps),
        extra_last_obs: false,
        licence: None,
        citation: None,
        notes,
    }
}

impl Source for LerobotSource {
    fn manifest(&self) -> &ManifestDraft {
        &self.manifest
    }

    fn total(&self) -> u64 {
        (self.episodes.len() + self.broken.len()) as u64
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn path_of(&self, index: u64) -> String {
        let index = index as usize;
        let path = match self.episodes.get(index) {
            Some(episode) => self.meta.data_path(&self.root, episode).ok(),
            None => self.broken.get(index - self.episodes.len()).cloned(),
        };
        path.map(|path| relative(&self.root, &path))
            .unwrap_or_default()
    }

    fn read_into(&self, index: u64, sink: &mut dyn FrameSink) -> Result<Episode> {
        let Some(episode) = self.episodes.get(index as usize) else {
            let path = self.broken.get(index as usize - self.episodes.len());
            let path = path.unwrap_or(&self.root);
            let again = self.meta.episodes_of(path).err();
            return Err(again.unwrap_or_else(|| Error::count(path, "its episodes cannot be told")));
        };
        if episode.length == 0 {
            return Err(Error::EmptyEpisode {
                path: self.root.join(self.path_of(index)),
                episode: u64::try_from(episode.index).unwrap_or_default(),
            });
        }
        let rows = self.rows(episode)?;
        let path = self.meta.data_path(&self.root, episode)?;
        let mut columns = BTreeMap::new();
        let mut bytes: Vec<u8> = Vec::new();
        for (field, column) in &self.columns {
            let values = match field.name.as_str() {
                ACTION | PROPRIO | REWARD => f32_column(
                    field.width(),
                    &self.column(&path, &rows, field, column)?.to_f64(),
                ),
                _ => self.column(&path, &rows, field, column)?,
            };
            bytes.extend(values.to_f64().iter().flat_map(|v| v.to_le_bytes()));
            columns.insert(field.name.clone(), values);
        }
        for position in 0..self.cameras.len() {
            let hash = self.frames(episode, position, &rows, sink)?;
            bytes.extend_from_slice(hash.as_bytes());
        }
        Ok(Episode {
            source_index: index,
            source_path: self.path_of(index),
            source_hash: sha256_of(&[&bytes]),
            task: self.task(episode, &rows)?,
            seed: None,
            length: episode.length,
            columns,
            cameras: Vec::new(),
            extras: BTreeMap::from([("episode_index".into(), episode.index as f64)]),
        })
    }

    fn missing(&self) -> Vec<u64> {
        let is_missing = |episode: &EpisodeEntry| {
            let data = self.meta.data_path(&self.root, episode);
            let videos = self.cameras.iter().filter_map(|(_, feature)| {
                let clip = episode.clips.get(&feature.name)?;
                Some(self.meta.video_path(&self.root, feature, episode, clip))
            });
            videos
                .chain([data])
                .any(|path| path.is_ok_and(|path| !path.exists()))
        };
        let missing = self
            .episodes
            .iter()
            .enumerate()
            .filter(|(_, episode)| is_missing(episode));
        missing.map(|(index, _)| index as u64).collect()
    }

    fn bytes(&self) -> u64 {
        let mut paths: Vec<PathBuf> = self
            .episodes
            .iter()
            .flat_map(|episode| {
                let data = self.meta.data_path(&self.root, episode).ok();
                let videos = self.cameras.iter().filter_map(|(_, feature)| {
                    let clip = episode.clips.get(&feature.name)?;
                    self.meta
                        .video_path(&self.root, feature, episode, clip)
                        .ok()
                });
                videos.chain(data).collect::<Vec<_>>()
            })
            .collect();
        paths.sort();
        paths.dedup();
        total_bytes(paths.iter().map(PathBuf::as_path))
    }
}
