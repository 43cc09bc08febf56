//! DROID, the raw release (datasets.md section 9).
//!
//! ```text
//! <LAB>/success/<date>/<time>/
//!   metadata_<uuid>.json                 which camera is left, right and at the wrist
//!   trajectory.h5                        one row per 15 Hz control step
//!     observation/robot_state/cartesian_position   [N, 6]   metres, radians
//!     observation/robot_state/gripper_position     [N]      0 open, 1 closed
//!   recordings/MP4/<serial>.mp4          one frame per row, sometimes one less or more
//! ```
//!
//! Episodes are stored at their own rate, whatever the reference loaders sample from them: [`window`] has
//! that arithmetic. Actions are recomputed from the poses, as the reference loaders do; the commanded ones
//! are not kept. Poses are 64-bit, because steps between poses are small differences.
//!
//! [`window`]: super::window

mod list;
mod metadata;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use jepa_datasets::{Episode, FrameSink, ManifestDraft, catalog};

use super::hdf5_release::{
    RESIZED, STEPS, camera, pose_columns, pose_fields, read_poses, size_of_file,
};
use super::port::{Port, declared};
use super::support::{Hash, refuse, relative};
use super::window::{CLIP_FPS, FpsMode, Window};
use super::{Source, SourceEntry, SourceOptions};
use crate::container::hdf5;
use crate::container::mapped::FileBytes;
use crate::container::video::Video;
use crate::pose::Pose;
use crate::{Error, Result};
use list::{List, TRAJECTORY};
use metadata::Metadata;

/// The registry entry.
pub const ENTRY: SourceEntry = SourceEntry {
    name: "droid",
    summary: "DROID's raw release: a list of episode folders (csv), or a folder to search for `trajectory.h5`",
    details: "\
SRC is a csv list of episode folders, one a line, or a folder that is searched for
`trajectory.h5`:

  <LAB>/success/<date>/<time>/
    metadata_<uuid>.json         which serial number is the left, right and wrist camera
    trajectory.h5                one row per 15 Hz control step
    recordings/MP4/<serial>.mp4  one frame per row, give or take one

What is kept: the pose as state and proprioception (x, y, z, three Euler angles, gripper), the
step to the next pose as action, with exact rotations, and the frames of the cameras asked for:
`left` (the default), `right`, `wrist`, `ext1`, `ext2`. Frames stay 1280x720 unless --size says
otherwise.

What to know:
  - Rows come at 15 Hz, although the headers of the videos say 60. --fps-mode says which of the
    two the stride of a clip is counted in; every row and frame is kept either way.
  - A video with one frame more or less than rows is cut to the shorter; a larger difference, a
    missing recording or a damaged file rejects that episode, with its reason, and no other.
  - No episode is ever replaced by another one.

Examples:
  jepa-bench ingest droid lists/droid_paths.csv data/droid --camera left --size 256x456
  jepa-bench ingest droid raw/droid data/droid --dry-run
  jepa-bench ingest droid raw/droid data/droid.0 --shard 0/8     # and so on to 7/8, then
  jepa-bench merge data/droid data/droid.*",
    options: &["camera", "fps-mode", "frames-per-clip"],
    open: |root, options| Ok(Box::new(DroidSource::open(root, options)?)),
};

/// Control steps, rows and frames per second.
pub const CONTROL_HZ: f64 = 15.0;

/// Views that the metadata may name; `left` is what the reference configurations use.
const VIEWS: [&str; 5] = ["left", "right", "wrist", "ext1", "ext2"];

/// Group of the poses in a trajectory.
const ROBOT_STATE: &str = "observation/robot_state";

/// Rows without frames, or frames without rows, that are let go: recorders lose one at an end.
const LOST: usize = 1;

/// An opened release.
pub struct DroidSource {
    list: List,
    views: Vec<&'static str>,
    options: SourceOptions,
    manifest: ManifestDraft,
}

impl DroidSource {
    /// Opens a list of folders, or a folder to search.
    ///
    /// # Errors
    /// When there is no episode at all, or a camera that DROID does not have is asked for.
    pub fn open(src: &Path, options: SourceOptions) -> Result<Self> {
        refuse(
            "task",
            &options.tasks,
            "this source has no tasks to choose from",
        )?;
        let views = views(&options.cameras)?;
        let list = List::open(src)?;
        let manifest = declare(&list, &options);
        let mut source = Self {
            list,
            views,
            options,
            manifest,
        };
        source.declare_cameras();
        Ok(source)
    }

    /// Takes the size of the frames from the first episode whose recordings can be opened, so that the
    /// manifest does not depend on which episode is read first.
    fn declare_cameras(&mut self) {
        let headers = |folder: &PathBuf| {
            let metadata = Metadata::of_folder(folder, 0)?;
            let open =
                |view: &&str| Video::open(FileBytes::open(&metadata.video(folder, &key(view))?)?);
            self.views.iter().map(open).collect::<Result<Vec<_>>>()
        };
        let Some(videos) = self
            .list
            .folders
            .iter()
            .find_map(|folder| headers(folder).ok())
        else {
            return;
        };
        let size = self.options.size;
        let cameras = self.views.iter().zip(&videos).map(|(view, video)| {
            let info = video.info();
            camera(view, [info.height, info.width], size)
        });
        self.manifest.cameras = cameras.collect();
        if self
            .manifest
            .cameras
            .iter()
            .any(|camera| camera.resized_from.is_some())
        {
            self.manifest.notes.push(RESIZED.into());
        }
        if let Some(info) = videos.first().map(Video::info) {
            self.manifest.notes.push(format!(
                "the first recording is {} of {}x{} pixels",
                info.codec, info.height, info.width
            ));
        }
        if let Some(fps) = videos.iter().find_map(|video| video.info().fps)
            && (fps - CONTROL_HZ).abs() > 1.0
        {
            tracing::warn!(
                "the recordings say {fps} frames per second; they have one per control step, {CONTROL_HZ} per second"
            );
        }
    }

    fn folder(&self, index: u64) -> Result<&Path> {
        let folder = usize::try_from(index)
            .ok()
            .and_then(|i| self.list.folders.get(i));
        let folder = folder.map_or(Path::new(""), PathBuf::as_path);
        if folder.is_dir() {
            return Ok(folder);
        }
        Err(Error::Missing {
            path: folder.to_path_buf(),
        })
    }

    /// Decodes the frames of every view; stops where there are more than rows can account for.
    fn footage(
        &self,
        paths: &[PathBuf],
        rows: usize,
        hash: &mut Hash,
        sink: &mut dyn FrameSink,
    ) -> Result<Vec<Footage>> {
        let mut footage = Vec::with_capacity(paths.len());
        for (position, path) in paths.iter().enumerate() {
            let bytes = FileBytes::open(path)?;
            hash.add(&bytes);
            let video = Video::open(bytes)?;
            let info = video.info();
            let camera = declared(&self.manifest, position, path, self.views[position])?;
            let native = [info.height, info.width];
            let mut port = Port::open(sink, camera, native, self.options.size, path)?;
            let decoded = Footage::decode(&video, rows, &mut port)?;
            decoded.check(path, rows)?;
            footage.push(decoded);
        }
        Ok(footage)
    }

    /// What is noted with an episode: how many rows and frames its files have, and how a reference loader
    /// would sample it.
    fn extras(
        &self,
        rows: usize,
        footage: &[Footage],
        metadata: &Metadata,
    ) -> BTreeMap<String, f64> {
        let mut extras = BTreeMap::from([("rows_in_file".into(), rows as f64)]);
        for (view, footage) in self.views.iter().zip(footage) {
            extras.insert(format!("frames_in_file.{view}"), footage.count as f64);
        }
        let fps = footage.first().and_then(|footage| footage.fps);
        extras.extend(fps.map(|fps| ("container_fps".into(), fps)));
        extras.insert("stride".into(), self.stride(fps) as f64);
        let success = metadata.flag("success");
        extras.extend(success.map(|success| ("success".into(), f64::from(u8::from(success)))));
        extras
    }

    fn stride(&self, container_fps: Option<f64>) -> usize {
        let mode = self.options.fps_mode.unwrap_or_default();
        mode.stride(container_fps, CONTROL_HZ, CLIP_FPS)
    }

    /// Whether there is room for a clip, where that is asked for.
    fn check_room(&self, folder: &Path, length: usize, footage: &[Footage]) -> Result<()> {
        let Some(frames) = self.options.frames_per_clip else {
            return Ok(());
        };
        let stride = self.stride(footage.first().and_then(|footage| footage.fps));
        Window { frames, stride }.check(folder, length)
    }
}

impl Source for DroidSource {
    fn manifest(&self) -> &ManifestDraft {
        &self.manifest
    }

    fn total(&self) -> u64 {
        self.list.folders.len() as u64
    }

    fn root(&self) -> &Path {
        &self.list.root
    }

    fn path_of(&self, index: u64) -> String {
        let folder = self.list.folders.get(index as usize);
        folder.map_or_else(String::new, |folder| relative(&self.list.root, folder))
    }

    fn read_into(&self, index: u64, sink: &mut dyn FrameSink) -> Result<Episode> {
        let folder = self.folder(index)?;
        let metadata = Metadata::of_folder(folder, index)?;
        let recording = |view: &&str| existing(metadata.video(folder, &key(view))?);
        let paths = self
            .views
            .iter()
            .map(recording)
            .collect::<Result<Vec<_>>>()?;
        let trajectory = FileBytes::open(&folder.join(TRAJECTORY))?;
        let mut hash = Hash::default();
        hash.add(&trajectory);
        hash.add(&metadata.bytes);
        let poses = read_trajectory(trajectory.path(), index)?;
        let footage = self.footage(&paths, poses.len(), &mut hash, sink)?;
        let counts = footage.iter().map(|footage| footage.count);
        let length = counts.fold(poses.len(), usize::min);
        self.check_room(folder, length, &footage)?;
        let extras = self.extras(poses.len(), &footage, &metadata);
        sink.keep_first(length);
        Ok(Episode {
            source_index: index,
            source_path: self.path_of(index),
            source_hash: hash.finish(),
            task: metadata.text("current_task").unwrap_or_default().into(),
            seed: None,
            length,
            columns: pose_columns(&poses[..length]),
            cameras: Vec::new(),
            extras,
        })
    }

    fn missing(&self) -> Vec<u64> {
        let folders = self.list.folders.iter().enumerate();
        let missing = folders.filter(|(_, folder)| !folder.is_dir());
        missing.map(|(index, _)| index as u64).collect()
    }

    fn bytes(&self) -> u64 {
        let of_episode = |folder: &PathBuf| {
            let metadata = Metadata::of_folder(folder, 0).ok();
            let recordings = metadata.iter().flat_map(|metadata| {
                let path = |view: &&str| metadata.video(folder, &key(view)).ok();
                self.views.iter().filter_map(path)
            });
            let sizes = recordings.map(|path| size_of_file(&path));
            sizes.sum::<u64>() + size_of_file(&folder.join(TRAJECTORY))
        };
        self.list.folders.iter().map(of_episode).sum()
    }
}

/// What is known of one recording.
struct Footage {
    /// Frames of the recording; of a far too long one only how many were looked at.
    count: usize,
    fps: Option<f64>,
}

impl Footage {
    fn decode(video: &Video, rows: usize, port: &mut Port<'_>) -> Result<Self> {
        let most = rows + LOST;
        let mut rgb = Vec::new();
        let count = video.decode(&mut |k, frame| {
            if k >= most {
                return Ok(ControlFlow::Break(()));
            }
            rgb.clear();
            frame.rgb_into(&mut rgb)?;
            port.push(&rgb)?;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Self {
            count,
            fps: video.info().fps,
        })
    }

    /// datasets.md section 16, cases 3 and 4: one frame more or less than rows is cut off, more is not.
    fn check(&self, path: &Path, rows: usize) -> Result<()> {
        let count = self.count;
        if count.abs_diff(rows) <= LOST {
            return Ok(());
        }
        let count = if count > rows {
            format!("more than {}", rows + LOST)
        } else {
            count.to_string()
        };
        Err(Error::count(
            path,
            format!("it has {count} frames for {rows} rows of `{TRAJECTORY}`"),
        ))
    }
}

fn read_trajectory(path: &Path, episode: u64) -> Result<Vec<Pose>> {
    let poses = read_poses(&hdf5::open(path)?.group(ROBOT_STATE)?)?;
    if poses.is_empty() {
        return Err(Error::EmptyEpisode {
            path: path.to_path_buf(),
            episode,
        });
    }
    Ok(poses)
}

fn existing(path: PathBuf) -> Result<PathBuf> {
    if path.exists() {
        return Ok(path);
    }
    Err(Error::Missing { path })
}

/// The key of a view in the metadata.
fn key(view: &str) -> String {
    format!("{view}_mp4_path")
}

/// The views of that name, each once; `left` when none is named.
fn views(names: &[String]) -> Result<Vec<&'static str>> {
    if names.is_empty() {
        return Ok(vec![VIEWS[0]]);
    }
    let mut views = Vec::new();
    for name in names {
        let short = name.strip_suffix("_mp4_path").unwrap_or(name);
        let view = VIEWS.into_iter().find(|view| *view == short);
        let view = view.filter(|view| !views.contains(view));
        views.push(view.ok_or_else(|| Error::Invalid {
            what: "camera",
            value: name.clone(),
            detail: format!("DROID has {}, each once", VIEWS.join(", ")),
        })?);
    }
    Ok(views)
}

/// Fields and provenance; cameras are added once a recording has been opened.
fn declare(list: &List, options: &SourceOptions) -> ManifestDraft {
    let entry = catalog::find(ENTRY.name);
    let rate = match options.fps_mode.unwrap_or_default() {
        FpsMode::Reference => "the rate in the header of its recording",
        FpsMode::ControlHz => "the control rate",
    };
    let mut notes = vec![
        STEPS.into(),
        "rows and frames are as many as both files of an episode have; `rows_in_file` and `frames_in_file` say where one was left over at the end".into(),
        format!("`container_fps` is what the header of the recording says, mostly the rate of the camera; `stride` is what a reference loader takes at {CLIP_FPS} frames per second, from {rate}"),
        "rows in which the operator did not move are kept".into(),
    ];
    notes.extend(list.notes.iter().cloned());
    ManifestDraft {
        source: jepa_datasets::Source {
            name: ENTRY.name.into(),
            url: entry.map(|entry| entry.url.into()),
            revision: None,
            inputs: list.input.iter().cloned().collect(),
        },
        fields: pose_fields(),
        cameras: Vec::new(),
        fps: CONTROL_HZ,
        control_hz: Some(CONTROL_HZ),
        extra_last_obs: false,
        licence: None,
        citation: entry.map(|entry| entry.citation.into()),
        notes,
    }
}
