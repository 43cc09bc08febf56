//! The sample files of V-JEPA-2 and JEPA-WMs (datasets.md section 12): one archive per file, or a folder.
//!
//! ```text
//! V-JEPA-2    observations    [B, T, h, w, 3] u8     states           [B, T, 7]
//! JEPA-WMs    image_sequence  [T, h, w, 3] u8        poses_sequence   [1, P, 7], P >= T
//!             start_pose, goal_pose [1, 1, 7]        actions          [1, T - 1, 7]
//! ```
//!
//! A pose is x, y, z in metres, three extrinsic xyz angles in radians, and the gripper. Actions are
//! the differences of consecutive poses (datasets.md section 9.6), computed in `f64`; the last row has the
//! difference to the pose after the last image where there is one, else zeros. The reference reads JEPA-WMs' file
//! with poses interpolated from start to goal, which are not those of the images; `--compat-poses` does that too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jepa_datasets::{
    ACTION, Camera, Dtype, Episode, Field, FrameSink, ManifestDraft, PROPRIO, PixelType, Pixels,
    STATE,
};

use super::support::{
    f32_column, files_in, finite, float_column, refuse, relative, resized, sha256,
    sort_numerically, total_bytes,
};
use super::{Source, SourceEntry, SourceOptions};
use crate::container::npy::{Array, Npz};
use crate::pose::delta;
use crate::{Error, Result};

/// The registry entry.
pub const ENTRY: SourceEntry = SourceEntry {
    name: "npz",
    summary: "sample trajectories of V-JEPA-2 and JEPA-WMs: NumPy archives of images and poses",
    details: "\
SRC is one `.npz` file or a folder of them, in either of two layouts:

  V-JEPA 2    observations   [B, T, h, w, 3]   states          [B, T, 7]
  JEPA-WMs    image_sequence [T, h, w, 3]      poses_sequence  [1, P, 7]

A pose is x, y, z, three Euler angles and the gripper; actions are the steps between poses. The
reference evaluation replaces the poses of the second layout by a straight line from start to
goal: --compat-poses does that too.

Example:
  jepa-bench ingest npz raw/franka_example_traj.npz data/sample",
    options: &["compat-poses"],
    open: |root, options| Ok(Box::new(NpzSource::open(root, options)?)),
};

/// Name of the only camera.
const CAMERA: &str = "exterior";
/// Numbers of a pose.
const POSE: usize = 7;
/// Task string of every episode: the files have none.
const TASK: &str = "move the arm to the goal pose";

/// Which poses belong to the images of an `image_sequence`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Poses {
    /// Those of `poses_sequence`.
    #[default]
    Measured,
    /// A straight line from `start_pose` to `goal_pose`, as the reference loader has it.
    Interpolated,
}

/// Opened sample files.
pub struct NpzSource {
    root: PathBuf,
    /// File of every episode, and its place in the batch there. A file that cannot be used has one entry.
    places: Vec<(PathBuf, usize)>,
    options: SourceOptions,
    poses: Poses,
    manifest: ManifestDraft,
}

impl NpzSource {
    /// Opens one archive, or every `*.npz` of a folder.
    ///
    /// # Errors
    /// When there is no archive, or none that can be used: the fault of the first.
    pub fn open(root: &Path, options: SourceOptions) -> Result<Self> {
        let poses = if options.compat_poses {
            Poses::Interpolated
        } else {
            Poses::Measured
        };
        refuse("task", &options.tasks, "the files have no tasks")?;
        if let Some(camera) = options.cameras.iter().find(|name| *name != CAMERA) {
            let unknown = [camera.clone()];
            refuse("camera", &unknown, "the only camera is `exterior`")?;
        }
        let (root, paths) = if root.is_dir() {
            let mut paths = files_in(root, &["npz"])?;
            sort_numerically(&mut paths);
            (root.to_path_buf(), paths)
        } else {
            let parent = root.parent().unwrap_or(root).to_path_buf();
            (parent, vec![root.to_path_buf()])
        };
        let mut places = Vec::new();
        let mut broken = Vec::new();
        let mut first_fault = None;
        for path in paths {
            match Npz::open(&path).and_then(|file| Layout::of(&file, poses)) {
                Ok(layout) => {
                    places.extend((0..layout.episodes).map(|episode| (path.clone(), episode)));
                }
                Err(fault) => {
                    first_fault.get_or_insert(fault);
                    broken.push((path, 0));
                }
            }
        }
        if places.is_empty() {
            return Err(first_fault.unwrap_or_else(|| Error::Nothing {
                path: root,
                detail: "there is no file `*.npz` with an episode".into(),
            }));
        }
        places.extend(broken);
        let mut source = Self {
            root,
            places,
            options,
            poses,
            manifest: declare(Dtype::F32, poses),
        };
        source.describe();
        Ok(source)
    }

    /// Takes the size of the frames and the type of the poses from the first episode that can be read.
    fn describe(&mut self) {
        let first = (0..self.places.len()).find_map(|index| self.sample(index).ok());
        let Some(sample) = first else { return };
        self.manifest = declare(sample.dtype, self.poses);
        let mut camera = Camera::new(CAMERA, sample.size[0], sample.size[1], PixelType::U8);
        camera.resized_from = (sample.size != sample.native).then_some(sample.native);
        self.manifest.cameras.push(camera);
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        let (path, episode) = self.places.get(index).ok_or_else(|| Error::Missing {
            path: self.root.clone(),
        })?;
        let file = Npz::open(path)?;
        let layout = Layout::of(&file, self.poses)?;
        let frames = layout.frames(&file, *episode)?;
        let (poses, dtype) = layout.poses(&file, *episode)?;
        finite(path, "a pose", &poses, POSE, 0)?;
        let native = [layout.height, layout.width];
        let (pixels, size) = resized(Pixels::U8(frames), native, self.options.size);
        Ok(Sample {
            length: layout.length,
            pixels,
            size,
            native,
            actions: actions(&poses, layout.length),
            poses: poses[..layout.length * POSE].to_vec(),
            dtype,
            goal: goal(&file)?,
            hash: sha256(file.bytes()),
        })
    }
}

/// One episode, read.
struct Sample {
    length: usize,
    pixels: Pixels,
    size: [usize; 2],
    native: [usize; 2],
    /// `[length, 7]`.
    poses: Vec<f64>,
    /// `[length, 7]`.
    actions: Vec<f64>,
    dtype: Dtype,
    goal: Option<Vec<f64>>,
    hash: String,
}

/// Where a file has its images and poses.
#[derive(Debug)]
struct Layout {
    images: &'static str,
    poses: Poses,
    episodes: usize,
    length: usize,
    height: usize,
    width: usize,
}

impl Layout {
    /// Recognises one of the two layouts by the names of its arrays.
    fn of(file: &Npz, poses: Poses) -> Result<Self> {
        // Each array is read for its header, so that a fault in any of them is that of the file.
        for name in file.names() {
            file.array(name)?;
        }
        let images = ["observations", "image_sequence"]
            .into_iter()
            .find(|name| file.contains(name))
            .ok_or_else(|| Error::MissingKey {
                path: file.path().to_path_buf(),
                key: "observations` or `image_sequence".into(),
            })?;
        let array = file.array(images)?;
        let (episodes, rest) = match array.shape() {
            [episodes, rest @ ..] if rest.len() == 4 => (*episodes, rest),
            rest => (1, rest),
        };
        let &[length, height, width, 3] = rest else {
            let detail = format!(
                "`{images}` has the shape {:?}, not [.., T, h, w, 3]",
                array.shape()
            );
            return Err(Error::count(file.path(), detail));
        };
        if length == 0 {
            return Err(Error::EmptyEpisode {
                path: file.path().to_path_buf(),
                episode: 0,
            });
        }
        let layout = Self {
            images,
            poses,
            episodes,
            length,
            height,
            width,
        };
        layout.poses(file, 0)?;
        Ok(layout)
    }

    /// `[T, h, w, 3]` bytes.
    fn frames(&self, file: &Npz, episode: usize) -> Result<Vec<u8>> {
        let array = file.array(self.images)?;
        let tensor = array.tensor()?;
        let tensor = match tensor.shape().len() {
            5 => tensor.at(episode),
            _ => Some(tensor),
        };
        tensor
            .and_then(|tensor| tensor.to_u8())
            .ok_or_else(|| Error::Dtype {
                path: file.path().to_path_buf(),
                found: format!("{:?} of `{}`", array.dtype(), self.images),
                wanted: "images",
            })
    }

    /// Poses of the images and any that follow, `[rows, 7]`, and the type to store them in.
    fn poses(&self, file: &Npz, episode: usize) -> Result<(Vec<f64>, Dtype)> {
        let poses = match (self.images, self.poses) {
            ("observations", _) => batch_of_poses(file, "states", episode)?,
            (_, Poses::Measured) => batch_of_poses(file, "poses_sequence", episode)?,
            (_, Poses::Interpolated) => self.line(file)?,
        };
        if poses.0.len() < self.length * POSE {
            let rows = poses.0.len() / POSE;
            let detail = format!("it has {} images and {rows} poses", self.length);
            return Err(Error::count(file.path(), detail));
        }
        if self.images == "observations" && poses.0.len() != self.length * POSE {
            let rows = poses.0.len() / POSE;
            let detail = format!("`observations` has {} rows, `states` {rows}", self.length);
            return Err(Error::count(file.path(), detail));
        }
        Ok(poses)
    }

    /// A straight line from the start to the goal, one pose per image, computed in `f32` steps of `f64`.
    fn line(&self, file: &Npz) -> Result<(Vec<f64>, Dtype)> {
        let (start, dtype) = batch_of_poses(file, "start_pose", 0)?;
        let (goal, _) = batch_of_poses(file, "goal_pose", 0)?;
        let last = (self.length - 1).max(1) as f64;
        let at = |k: usize| {
            let share = k as f64 / last;
            let pair = start.iter().zip(&goal).take(POSE);
            pair.map(move |(a, b)| a + share * (b - a))
                .collect::<Vec<f64>>()
        };
        Ok(((0..self.length).flat_map(at).collect(), dtype))
    }
}

/// The pose to reach, where the file has one.
fn goal(file: &Npz) -> Result<Option<Vec<f64>>> {
    if !file.contains("goal_pose") {
        return Ok(None);
    }
    let (goal, _) = batch_of_poses(file, "goal_pose", 0)?;
    finite(file.path(), "the goal pose", &goal, POSE, 0)?;
    Ok(Some(goal))
}

/// The poses of one episode of an array `[.., rows, 7]`; dimensions of 1 in front do not count.
fn batch_of_poses(file: &Npz, name: &str, episode: usize) -> Result<(Vec<f64>, Dtype)> {
    let array: Array<'_> = file.array(name)?;
    let misshapen = || {
        let detail = format!(
            "`{name}` has the shape {:?}, not [.., rows, {POSE}]",
            array.shape()
        );
        Error::count(file.path(), detail)
    };
    let mut tensor = array.tensor()?;
    while tensor.shape().len() > 3 && tensor.shape()[0] == 1 {
        tensor = tensor.at(0).ok_or_else(misshapen)?;
    }
    let one = match tensor.shape() {
        [_, _, POSE] => tensor.at(episode).ok_or_else(misshapen)?,
        [_, POSE] | [POSE] if episode == 0 => tensor,
        _ => return Err(misshapen()),
    };
    let dtype = if one.dtype().fits_f32() {
        Dtype::F32
    } else {
        Dtype::F64
    };
    Ok((one.to_f64(), dtype))
}

/// The difference to the next pose for each of `length` rows; zeros where there is no next one.
fn actions(poses: &[f64], length: usize) -> Vec<f64> {
    let rows = poses.as_chunks::<POSE>().0;
    let one = |t: usize| match (rows.get(t), rows.get(t + 1)) {
        (Some(a), Some(b)) => delta(a, b),
        _ => [0.0; POSE],
    };
    (0..length).flat_map(one).collect()
}

fn declare(dtype: Dtype, poses: Poses) -> ManifestDraft {
    let pose = "x, y, z; extrinsic xyz angles; gripper, 1 closed";
    let mut notes = vec![
        "the files do not say how much time passes between images: `timestamp` counts steps".into(),
        "actions are computed from the poses; that of the last row is zero where no pose follows"
            .into(),
        "a goal image is not stored; a goal pose is, with the episode".into(),
    ];
    if poses == Poses::Interpolated {
        notes.push(
            "poses of `image_sequence` are a straight line from start to goal, as in the reference"
                .into(),
        );
    }
    ManifestDraft {
        source: jepa_datasets::Source {
            name: ENTRY.name.into(),
            url: None,
            revision: None,
            inputs: BTreeMap::new(),
        },
        fields: vec![
            Field::action(
                POSE,
                "m, rad, unitless",
                "change of the pose, seen from the base",
            ),
            Field::proprio(POSE, "m, rad, unitless", pose),
            Field::state(dtype, POSE, "m, rad, unitless", pose),
        ],
        cameras: Vec::new(),
        fps: 1.0,
        control_hz: None,
        extra_last_obs: false,
        licence: None,
        citation: None,
        notes,
    }
}

impl Source for NpzSource {
    fn manifest(&self) -> &ManifestDraft {
        &self.manifest
    }

    fn total(&self) -> u64 {
        self.places.len() as u64
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn path_of(&self, index: u64) -> String {
        let place = self.places.get(index as usize);
        place
            .map(|(path, _)| relative(&self.root, path))
            .unwrap_or_default()
    }

    fn read_into(&self, index: u64, sink: &mut dyn FrameSink) -> Result<Episode> {
        let sample = self.sample(index as usize)?;
        let extras = sample.goal.iter().flatten().enumerate();
        sink.push_all(CAMERA, sample.size, &sample.pixels)?;
        Ok(Episode {
            source_index: index,
            source_path: self.path_of(index),
            source_hash: sample.hash,
            task: TASK.into(),
            seed: None,
            length: sample.length,
            extras: extras
                .take(POSE)
                .map(|(k, &value)| (format!("goal_pose_{k}"), value))
                .collect(),
            columns: BTreeMap::from([
                (ACTION.into(), f32_column(POSE, &sample.actions)),
                (PROPRIO.into(), f32_column(POSE, &sample.poses)),
                (STATE.into(), float_column(sample.dtype, POSE, sample.poses)),
            ]),
            cameras: Vec::new(),
        })
    }

    fn missing(&self) -> Vec<u64> {
        Vec::new()
    }

    fn bytes(&self) -> u64 {
        total_bytes(
            self.places
                .iter()
                .filter(|place| place.1 == 0)
                .map(|place| place.0.as_path()),
        )
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "small whole numbers subtract exactly")]
mod tests {
    use super::*;

    #[test]
    fn the_last_row_has_no_action_unless_a_pose_follows() {
        let poses: Vec<f64> = (0..3)
            .flat_map(|t| [f64::from(t), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
            .collect();
        assert_eq!(actions(&poses, 3)[POSE * 2], 0.0);
        assert_eq!(actions(&poses, 2)[POSE], 1.0);
    }
}
