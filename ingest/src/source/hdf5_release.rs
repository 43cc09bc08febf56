//! What the sources of HDF5 files do alike: finding files, arm poses, frames, hashes.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use jepa_datasets::{ACTION, Alignment, Camera, Column, Dtype, Field, PROPRIO, PixelType, STATE};

use super::SourceOptions;
use super::port::Port;
use crate::container::hdf5::{Data, Group};
use crate::pose::{Pose, deltas};
use crate::{Error, Result};

/// Folders below a release are searched this deep.
const DEEPEST: usize = 16;

/// Frames read at a time.
const BLOCK: usize = 16;

/// Numbers of an arm pose.
const POSE: usize = 7;

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

/// Reads rows of a data set of images a few at a time; `see` is handed them in their native size before they
/// go to the port, and may change them.
pub(super) fn read_images(
    images: &Data,
    rows: Range<usize>,
    port: &mut Port<'_>,
    see: &mut dyn FnMut(&mut [u8]),
) -> Result<()> {
    for first in rows.clone().step_by(BLOCK) {
        let mut block = images.u8(Some(first..rows.end.min(first + BLOCK)))?;
        see(&mut block);
        port.push(&block)?;
    }
    Ok(())
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
