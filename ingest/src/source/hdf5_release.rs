//! What the sources of HDF5 files do alike: finding files, arm poses, frames, hashes.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use jepa_datasets::transform::Plane;
use jepa_datasets::{
    ACTION, Alignment, Camera, CameraFrames, Column, Dtype, Field, PROPRIO, PixelType, STATE,
};
use sha2::{Digest, Sha256};

use super::SourceOptions;
use crate::container::hdf5::{Data, Group};
use crate::pose::{Pose, deltas};
use crate::{Error, Result};

/// Folders below a release are searched this deep.
const DEEPEST: usize = 16;

/// Frames read at a time when they are resized.
const BLOCK: usize = 64;

/// More memory than this is taken as frames come, not before.
const MOST_RESERVED: usize = 1 << 30;

/// Numbers of an arm pose.
const POSE: usize = 7;

/// Hash of the bytes that an episode comes from.
#[derive(Default)]
pub(super) struct Hash(Sha256);

impl Hash {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds values as little-endian bytes.
    pub(super) fn add_column(&mut self, column: &Column) {
        match column {
            Column::F32 { values, .. } => values.iter().for_each(|v| self.add(&v.to_le_bytes())),
            Column::F64 { values, .. } => values.iter().for_each(|v| self.add(&v.to_le_bytes())),
            Column::I64(values) => values.iter().for_each(|v| self.add(&v.to_le_bytes())),
        }
    }

    pub(super) fn finish(self) -> String {
        let digits: Vec<String> = self
            .0
            .finalize()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        format!("sha256:{}", digits.concat())
    }
}

/// Files below a folder whose name is accepted, sorted by path. Hidden files, what macOS puts into
/// archives and linked folders are passed over.
pub(super) fn find_files(folder: &Path, accept: &dyn Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    search(folder, accept, DEEPEST, &mut found)?;
    found.sort();
    Ok(found)
}

fn search(
    folder: &Path,
    accept: &dyn Fn(&str) -> bool,
    depth: usize,
    found: &mut Vec<PathBuf>,
) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') || name == "__MACOSX" {
            continue;
        }
        let kind = entry.file_type().map_err(|e| Error::io(&path, e))?;
        if kind.is_dir() && depth > 0 {
            search(&path, accept, depth - 1, found)?;
        } else if !kind.is_dir() && accept(&name) {
            found.push(path);
        }
    }
    Ok(())
}

/// Size of a file; 0 when it is not there.
pub(super) fn size_of_file(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Refuses what these releases cannot be asked: they are not ordered by task, only recordings have a rate
/// of their own, and only Robocasa has quaternions.
pub(super) fn refuse_unused(
    options: &SourceOptions,
    has_recordings: bool,
    has_quaternions: bool,
) -> Result<()> {
    let invalid = |what, value: String, detail: &str| {
        let detail = detail.into();
        Err(Error::Invalid {
            what,
            value,
            detail,
        })
    };
    if let Some(task) = options.tasks.first() {
        return invalid(
            "task",
            task.clone(),
            "this source has no tasks to choose from",
        );
    }
    if let Some(mode) = options.fps_mode.filter(|_| !has_recordings) {
        return invalid(
            "fps mode",
            format!("{mode:?}"),
            "this source has no videos with a rate of their own",
        );
    }
    if options.compat_quaternion && !has_quaternions {
        return invalid(
            "compat quaternion",
            "true".into(),
            "this source has no quaternions",
        );
    }
    Ok(())
}

/// Refuses a choice of more than one camera where one is all that is read, and returns it.
pub(super) fn one_camera(options: &SourceOptions) -> Result<Option<&str>> {
    match options.cameras.as_slice() {
        [] => Ok(None),
        [camera] => Ok(Some(camera)),
        [_, second, ..] => Err(Error::Invalid {
            what: "camera",
            value: second.clone(),
            detail: "this source is read with one camera".into(),
        }),
    }
}

/// Frames of an episode as they are stored: `[count, height, width, 3]`, resized one by one.
pub(super) struct Frames {
    native: [usize; 2],
    size: [usize; 2],
    pixels: Vec<u8>,
}

impl Frames {
    /// Room for about `likely` frames of `native` size, to be stored in the size that is wanted.
    pub(super) fn new(native: [usize; 2], wanted: Option<[usize; 2]>, likely: usize) -> Self {
        let size = wanted.unwrap_or(native);
        let bytes = likely.saturating_mul(size[0] * size[1] * 3);
        Self {
            native,
            size,
            pixels: Vec::with_capacity(bytes.min(MOST_RESERVED)),
        }
    }

    /// Appends frames, `[.., height, width, 3]` of the native size.
    pub(super) fn push(&mut self, rgb: &[u8]) {
        if self.native == self.size {
            self.pixels.extend_from_slice(rgb);
            return;
        }
        let [height, width] = self.native;
        for frame in rgb.chunks_exact(height * width * 3) {
            let [red, green, blue] = [0, 1, 2].map(|c| self.resize(frame, c));
            let resized = red.iter().zip(&green).zip(&blue);
            self.pixels.extend(
                resized.flat_map(|((r, g), b)| [r, g, b].map(|v| v.round_ties_even() as u8)),
            );
        }
    }

    /// One channel of a frame, resized without antialias (datasets.md section 4.1).
    fn resize(&self, frame: &[u8], channel: usize) -> Vec<f32> {
        let values = frame.iter().skip(channel).step_by(3);
        let plane = Plane {
            height: self.native[0],
            width: self.native[1],
            values: values.copied().map(f32::from).collect(),
        };
        plane.bilinear(self.size[0], self.size[1]).values
    }

    /// Reads rows of a data set of images; `see` is handed every frame in its native size before it is
    /// stored, and may change it. Frames that are resized are read a few at a time.
    pub(super) fn read(
        images: &Data,
        rows: Range<usize>,
        wanted: Option<[usize; 2]>,
        see: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self> {
        let native = images.image_size()?;
        let size = wanted.unwrap_or(native);
        if size == native {
            let mut pixels = images.u8(Some(rows))?;
            see(&mut pixels);
            return Ok(Self {
                native,
                size,
                pixels,
            });
        }
        let mut frames = Self::new(native, wanted, rows.len());
        for first in rows.clone().step_by(BLOCK) {
            let mut block = images.u8(Some(first..rows.end.min(first + BLOCK)))?;
            see(&mut block);
            frames.push(&block);
        }
        Ok(frames)
    }

    /// The first `count` frames, checked against the size that the manifest declares.
    pub(super) fn finish(
        mut self,
        path: &Path,
        camera: &Camera,
        count: usize,
    ) -> Result<CameraFrames> {
        let [height, width] = self.size;
        if (height, width) != (camera.height, camera.width) {
            let (h, w) = (camera.height, camera.width);
            return Err(Error::count(
                path,
                format!(
                    "its frames are {height}x{width}, those of the first episode {h}x{w}; \
                     a common size has to be asked for"
                ),
            ));
        }
        self.pixels.truncate(count * height * width * 3);
        Ok(CameraFrames {
            camera: camera.name.clone(),
            height,
            width,
            count,
            pixels: self.pixels.into(),
        })
    }
}

/// A camera of byte frames, as it is stored.
pub(super) fn camera(name: &str, native: [usize; 2], wanted: Option<[usize; 2]>) -> Camera {
    let [height, width] = wanted.unwrap_or(native);
    Camera {
        resized_from: ([height, width] != native).then_some(native),
        ..Camera::new(name, height, width, PixelType::U8)
    }
}

/// What to say about frames that are resized.
pub(super) const RESIZED: &str = "frames were resized by bilinear interpolation without antialias";

/// The poses of a recording: `cartesian_position` `[N, 6]` and `gripper_position` `[N]` of a group.
pub(super) fn read_poses(group: &Group) -> Result<Vec<Pose>> {
    let (cartesian, gripper) = (
        group.data("cartesian_position")?,
        group.data("gripper_position")?,
    );
    let (rows, grips) = (cartesian.rows_of(&[6])?, gripper.rows_of(&[1])?);
    if rows != grips {
        let names = (cartesian.name(), gripper.name());
        let detail = format!("`{}` has {rows} rows, `{}` has {grips}", names.0, names.1);
        return Err(Error::count(group.path(), detail));
    }
    let (cartesian, gripper) = (cartesian.f64(None)?, gripper.f64(None)?);
    let (places, _) = cartesian.as_chunks::<6>();
    let pose = |(p, g): (&[f64; 6], &f64)| [p[0], p[1], p[2], p[3], p[4], p[5], *g];
    Ok(places.iter().zip(&gripper).map(pose).collect())
}

/// State, proprioception and the steps between rows, the last of which is zero.
pub(super) fn pose_columns(poses: &[Pose]) -> BTreeMap<String, Column> {
    let column = |poses: &[Pose]| Column::F64 {
        width: POSE,
        values: poses.as_flattened().to_vec(),
    };
    let mut steps = deltas(poses);
    steps.resize(poses.len(), [0.0; POSE]);
    BTreeMap::from([
        (STATE.into(), column(poses)),
        (PROPRIO.into(), column(poses)),
        (ACTION.into(), column(&steps)),
    ])
}

/// The fields of [`pose_columns`].
pub(super) fn pose_fields() -> Vec<Field> {
    let units = "metres, radians, unitless";
    let pose = "x, y, z in the base frame, extrinsic xyz Euler angles, gripper (0 open, 1 closed)";
    let step = "change of position, rotation to the next row as extrinsic xyz Euler angles, change of the gripper";
    let field =
        |name, meaning, alignment| Field::new(name, Dtype::F64, POSE, units, meaning, alignment);
    vec![
        field(ACTION, step, Alignment::AppliedAtRow),
        field(PROPRIO, pose, Alignment::AtRow),
        field(STATE, pose, Alignment::AtRow),
    ]
}

/// What to say about the actions of [`pose_columns`].
pub(super) const STEPS: &str = "action is the step from the pose of its row to that of the next one; the last row of an episode has no next one and holds zeros. Commanded actions are not kept";
