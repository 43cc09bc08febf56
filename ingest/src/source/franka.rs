//! The Franka recordings that JEPA-WMs are evaluated on (datasets.md section 10).
//!
//! ```text
//! data/<pick|push|folding>/<task>/run_0001/episode.h5
//!   episode_data/observation/cartesian_position       [T, 6]   metres, radians
//!   episode_data/observation/gripper_position         [T]
//!   episode_data/observation/exterior_image_2_left    [T, h, w, 3], bytes
//! ```
//!
//! Rows come at 30 Hz. Actions are recomputed from the poses, as for DROID.

use std::path::{Path, PathBuf};

use jepa_datasets::{Episode, FrameSink, ManifestDraft, SplitRule, catalog};

use super::hdf5_release::{
    RESIZED, STEPS, camera, find_files, one_camera, pose_columns, pose_fields, read_images,
    read_poses, size_of_file,
};
use super::port::{Port, declared};
use super::support::{Hash, refuse, relative};
use super::window::{CLIP_FPS, FpsMode, Window};
use super::{Source, SourceEntry, SourceOptions};
use crate::container::hdf5::{self, Group};
use crate::container::mapped::FileBytes;
use crate::{Error, Result};

/// The registry entry.
pub const ENTRY: SourceEntry = SourceEntry {
    name: "franka",
    summary: "JEPA-WMs' Franka recordings: `episode.h5` files below a folder, or one such file",
    details: "\
SRC is one `episode.h5`, or a folder that is searched for such files:

  data/<pick|push|folding>/<task>/run_0001/episode.h5
    episode_data/observation/cartesian_position     [T, 6]
    episode_data/observation/gripper_position       [T]
    episode_data/observation/exterior_image_2_left  [T, h, w, 3]

Rows come at 30 Hz. Actions are recomputed from the poses, as for DROID. --camera names the image
column; `exterior_image_2_left` unless given.

Example:
  jepa-bench ingest franka raw/franka_custom data/franka",
    options: &["camera", "frames-per-clip"],
    open: |root, options| Ok(Box::new(FrankaSource::open(root, options)?)),
};

/// Rows per second.
pub const CONTROL_HZ: f64 = 30.0;

/// Name of an episode's file.
const EPISODE: &str = "episode.h5";
/// Group of poses and images.
const OBSERVATION: &str = "episode_data/observation";
/// The camera of the reference configuration.
const CAMERA: &str = "exterior_image_2_left";

/// An opened release.
pub struct FrankaSource {
    root: PathBuf,
    files: Vec<PathBuf>,
    camera: String,
    options: SourceOptions,
    manifest: ManifestDraft,
}

impl FrankaSource {
    /// Opens an episode or a folder of them.
    ///
    /// # Errors
    /// When there is no episode.
    pub fn open(src: &Path, options: SourceOptions) -> Result<Self> {
        refuse(
            "task",
            &options.tasks,
            "this source has no tasks to choose from",
        )?;
        let (root, files) = if src.is_dir() {
            let files = find_files(src, &|name| name == EPISODE)?;
            (src.to_path_buf(), files)
        } else if !src.exists() {
            return Err(Error::Missing {
                path: src.to_path_buf(),
            });
        } else {
            let parent = src.parent().filter(|parent| !parent.as_os_str().is_empty());
            (
                parent.unwrap_or(Path::new(".")).to_path_buf(),
                vec![src.to_path_buf()],
            )
        };
        if files.is_empty() {
            return Err(Error::Nothing {
                path: src.to_path_buf(),
                detail: format!("there is no `{EPISODE}` below it"),
            });
        }
        let asked = one_camera(&options)?.map(str::to_string);
        let groups = || {
            files
                .iter()
                .filter_map(|file| hdf5::open(file).ok()?.group(OBSERVATION).ok())
        };
        let camera_name = asked
            .or_else(|| groups().find_map(|group| default_camera(&group)))
            .unwrap_or_else(|| CAMERA.into());
        let native = groups().find_map(|group| group.data(&camera_name).ok()?.image_size().ok());
        let manifest = declare(&camera_name, native, &options);
        Ok(Self {
            root,
            files,
            camera: camera_name,
            options,
            manifest,
        })
    }

    fn file(&self, index: u64) -> Result<&Path> {
        let file = usize::try_from(index).ok().and_then(|i| self.files.get(i));
        file.map(PathBuf::as_path).ok_or_else(|| Error::Missing {
            path: self.root.join(EPISODE),
        })
    }
}

impl Source for FrankaSource {
    fn manifest(&self) -> &ManifestDraft {
        &self.manifest
    }

    fn total(&self) -> u64 {
        self.files.len() as u64
    }

    fn root(&self) -> &Path {
        &self.root
    }

    /// The recordings are for validation only (datasets.md section 10).
    fn released_split(&self) -> SplitRule {
        SplitRule::First {
            train: 0,
            seed: SplitRule::JEPA_WMS.seed(),
        }
    }

    fn path_of(&self, index: u64) -> String {
        self.file(index)
            .map_or_else(|_| String::new(), |file| relative(&self.root, file))
    }

    fn read_into(&self, index: u64, sink: &mut dyn FrameSink) -> Result<Episode> {
        let path = self.file(index)?;
        let mut hash = Hash::default();
        hash.add(&FileBytes::open(path)?);
        let group = hdf5::open(path)?.group(OBSERVATION)?;
        let poses = read_poses(&group)?;
        let images = group.data(&self.camera)?;
        images.image_size()?;
        let (length, count) = (poses.len(), images.shape().first().copied().unwrap_or(0));
        if length != count {
            let detail = format!("`{}` has {count} frames for {length} rows", images.name());
            return Err(Error::count(path, detail));
        }
        if length == 0 {
            return Err(Error::EmptyEpisode {
                path: path.to_path_buf(),
                episode: index,
            });
        }
        if let Some(frames) = self.options.frames_per_clip {
            let stride = FpsMode::ControlHz.stride(None, CONTROL_HZ, CLIP_FPS);
            Window { frames, stride }.check(path, length)?;
        }
        let camera = declared(&self.manifest, 0, path, &self.camera)?;
        let mut port = Port::open(sink, camera, images.image_size()?, self.options.size, path)?;
        read_images(&images, 0..length, &mut port, &mut |_| {})?;
        Ok(Episode {
            source_index: index,
            source_path: self.path_of(index),
            source_hash: hash.finish(),
            task: task_of(&self.root, path),
            seed: None,
            length,
            columns: pose_columns(&poses),
            cameras: Vec::new(),
            extras: [].into(),
        })
    }

    fn missing(&self) -> Vec<u64> {
        let files = self.files.iter().enumerate();
        let missing = files.filter(|(_, file)| !file.exists());
        missing.map(|(index, _)| index as u64).collect()
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| size_of_file(file)).sum()
    }
}

/// The camera of the reference configuration, or else the first of this group.
fn default_camera(group: &Group) -> Option<String> {
    let names = group.children().ok()?;
    let is_camera = |name: &&String| group.data(name).is_ok_and(|data| data.image_size().is_ok());
    let cameras: Vec<String> = names.iter().filter(is_camera).cloned().collect();
    let preferred = cameras.iter().find(|name| *name == CAMERA);
    preferred.or(cameras.first()).cloned()
}

/// The folder of the task: what is above the runs.
fn task_of(root: &Path, file: &Path) -> String {
    let folder = file.parent().unwrap_or(root);
    let is_run = folder
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("run_"));
    let folder = if is_run {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    let name = folder.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn declare(name: &str, native: Option<[usize; 2]>, options: &SourceOptions) -> ManifestDraft {
    let entry = catalog::find(ENTRY.name);
    let cameras: Vec<_> = native
        .map(|native| camera(name, native, options.size))
        .into_iter()
        .collect();
    let mut notes = vec![
        STEPS.into(),
        format!("frames are those of the camera `{name}`"),
    ];
    if cameras.iter().any(|camera| camera.resized_from.is_some()) {
        notes.push(RESIZED.into());
    }
    ManifestDraft {
        source: jepa_datasets::Source {
            name: ENTRY.name.into(),
            url: Some(
                entry
                    .map_or(
                        "https://huggingface.co/datasets/facebook/jepa-wms (franka_custom/)",
                        |e| e.url,
                    )
                    .into(),
            ),
            revision: None,
            inputs: [].into(),
        },
        fields: pose_fields(),
        cameras,
        fps: CONTROL_HZ,
        control_hz: Some(CONTROL_HZ),
        extra_last_obs: false,
        licence: None,
        citation: entry.map(|entry| entry.citation.into()),
        notes,
    }
}
