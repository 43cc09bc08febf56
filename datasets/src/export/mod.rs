//! Datasets in the layouts of other libraries, and single slices as NumPy archives ([`npz`]).
//!
//! [`export`] writes under a temporary name beside the destination and renames at the end: an interrupted
//! export, or one on a disk that is full, leaves nothing under the final name. What an export cannot keep is
//! in [`Summary::changes`] and in the provenance that every export carries.

pub mod lerobot;
pub mod npz;
mod provenance;
#[cfg(feature = "hdf5")]
pub mod swm;
pub mod zarr;

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;
use tempfile::TempDir;

use crate::{Camera, Dataset, EpisodeMeta, Error, Field, PixelType, Result};

/// Name of the provenance inside a folder export; other readers ignore it.
pub(crate) const PROVENANCE: &str = "meta/jepa_bench.json";
/// Frames read and encoded at a time.
const FRAMES_AT_ONCE: usize = 64;

/// The layout of another library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `LeRobotDataset` version 3.0, frames as PNG: a folder.
    Lerobot,
    /// `stable-worldmodel`: one HDF5 file.
    Swm,
    /// `diffusion_policy`: a Zarr v2 folder.
    Zarr,
}

impl Format {
    /// Every format, by its name on the command line.
    pub const ALL: [(&'static str, Self); 3] = [
        ("lerobot", Self::Lerobot),
        ("swm", Self::Swm),
        ("zarr", Self::Zarr),
    ];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lerobot => "lerobot",
            Self::Swm => "swm",
            Self::Zarr => "zarr",
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, format)| *format).ok_or_else(|| {
            Error::invalid(
                "export format",
                text,
                "the formats are `lerobot`, `swm` and `zarr`",
            )
        })
    }
}

/// Who is told, and who may stop it.
pub struct Progress<'a> {
    /// Called after every episode.
    pub tick: &'a dyn Fn(),
    /// Whether to stop after the episode in hand.
    pub stopped: &'a dyn Fn() -> bool,
}

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The folder or file.
    pub out: PathBuf,
    /// Its layout.
    pub format: Format,
    /// Episodes written.
    pub episodes: u64,
    /// Rows written.
    pub rows: u64,
    /// Frames of all cameras written.
    pub frames: u64,
    /// Length of all files in bytes.
    pub bytes: u64,
    /// What differs from the dataset, because the layout has no place for it.
    pub changes: Vec<String>,
}

/// What an export would write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// Its layout.
    pub format: Format,
    /// Fields and cameras of the dataset, each with its name in the export.
    pub columns: Vec<(String, String)>,
    /// What would differ from the dataset, because the layout has no place for it.
    pub changes: Vec<String>,
}

/// Says what [`export`] would write.
///
/// # Errors
/// For a dataset whose names do not fit the layout.
pub fn plan(dataset: &Dataset, format: Format) -> Result<Outline> {
    let plan = Plan::new(dataset, format)?;
    let fields = plan
        .fields
        .iter()
        .map(|(f, name)| (f.name.clone(), name.clone()));
    let cameras = plan
        .cameras
        .iter()
        .map(|(c, name)| (c.name.clone(), name.clone()));
    Ok(Outline {
        format,
        columns: fields.chain(cameras).collect(),
        changes: plan.changes,
    })
}

/// Writes a whole dataset to `out` in another layout.
///
/// # Errors
/// [`Error::Occupied`] for an `out` that exists, unless `overwrite` and it is an earlier export;
/// [`Error::Stopped`] when asked to stop.
pub fn export(
    dataset: &Dataset,
    format: Format,
    out: &Path,
    overwrite: bool,
    progress: &Progress<'_>,
) -> Result<Summary> {
    let plan = Plan::new(dataset, format)?;
    let destination = Destination::open(out, overwrite)?;
    let new = destination.new_path();
    match format {
        Format::Lerobot => lerobot::write(&plan, &new, progress)?,
        Format::Zarr => zarr::write(&plan, &new, progress)?,
        #[cfg(feature = "hdf5")]
        Format::Swm => swm::write(&plan, &new, progress)?,
        #[cfg(not(feature = "hdf5"))]
        Format::Swm => {
            return Err(Error::invalid(
                "export format",
                "swm",
                "this build is without HDF5; build it with the feature `hdf5`",
            ));
        }
    }
    let counts = dataset.manifest().counts;
    let summary = Summary {
        out: out.to_path_buf(),
        format,
        episodes: counts.episodes,
        rows: counts.rows,
        frames: counts.rows * plan.cameras.len() as u64,
        bytes: size_of(&new)?,
        changes: plan.changes,
    };
    destination.commit()?;
    Ok(summary)
}

/// What goes where, and what is lost on the way.
pub(crate) struct Plan<'a> {
    dataset: &'a Dataset,
    format: Format,
    /// Fields with their names in the export.
    fields: Vec<(&'a Field, String)>,
    /// Cameras with their names in the export.
    cameras: Vec<(&'a Camera, String)>,
    changes: Vec<String>,
}

/// Name of a field in an export.
type FieldName = fn(&str) -> &str;
/// Name of the camera at a position in an export.
type CameraName = fn(usize, &str) -> String;

impl<'a> Plan<'a> {
    fn new(dataset: &'a Dataset, format: Format) -> Result<Self> {
        let draft = &dataset.manifest().draft;
        let (field_name, camera_name): (FieldName, CameraName) = match format {
            Format::Lerobot => (lerobot::field_name, lerobot::camera_name),
            Format::Swm => (short_name, |k, name| numbered("pixels", k, name)),
            Format::Zarr => (short_name, |k, name| numbered("img", k, name)),
        };
        let fields = draft.fields.iter();
        let cameras = draft.cameras.iter().enumerate();
        let plan = Self {
            dataset,
            format,
            fields: fields
                .map(|f| (f, field_name(&f.name).to_string()))
                .collect(),
            cameras: cameras.map(|(k, c)| (c, camera_name(k, &c.name))).collect(),
            changes: changes(dataset, format),
        };
        plan.check_names()?;
        Ok(plan)
    }

    /// No two columns of the export may have one name.
    fn check_names(&self) -> Result<()> {
        let reserved: &[&str] = match self.format {
            Format::Lerobot => &lerobot::BOOKKEEPING,
            Format::Swm => &["episode_idx", "step_idx", "ep_len", "ep_offset", "task"],
            Format::Zarr => &[],
        };
        let mut seen: BTreeSet<&str> = reserved.iter().copied().collect();
        let fields = self.fields.iter().map(|(_, name)| name.as_str());
        let cameras = self.cameras.iter().map(|(_, name)| name.as_str());
        for name in fields.chain(cameras) {
            if name.contains('/') || !seen.insert(name) {
                return Err(Error::invalid(
                    "column",
                    name,
                    format!(
                        "the layout `{}` needs unique names without `/`",
                        self.format.name()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// A run of frames of an episode as bytes, `[range, height, width, 3]`.
    fn frames(
        &self,
        camera: &Camera,
        episode: &EpisodeMeta,
        range: Range<usize>,
    ) -> Result<Vec<u8>> {
        let indices: Vec<usize> = range.collect();
        let pixels = self
            .dataset
            .read_frames(&camera.name, episode.episode_index, &indices)?;
        Ok(pixels.into_u8())
    }

    /// Index of an episode's task in the list of tasks.
    fn task_index(&self, episode: &EpisodeMeta) -> Result<i64> {
        let tasks = &self.dataset.manifest().tasks;
        let found = tasks.iter().position(|task| *task == episode.task);
        found
            .map(|index| index as i64)
            .ok_or_else(|| Error::UnknownName {
                kind: "task",
                name: episode.task.clone(),
                known: tasks.clone(),
            })
    }
}

/// Runs of at most [`FRAMES_AT_ONCE`] rows that make up an episode.
fn runs(length: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length)
        .step_by(FRAMES_AT_ONCE)
        .map(move |start| start..(start + FRAMES_AT_ONCE).min(length))
}

/// Ends an export that was asked to stop.
fn go_on(progress: &Progress<'_>) -> Result<()> {
    if (progress.stopped)() {
        return Err(Error::Stopped);
    }
    Ok(())
}

/// `observation.proprio` -> `proprio`, `next.reward` -> `reward`; others keep their name.
fn short_name(name: &str) -> &str {
    match name {
        crate::PROPRIO => "proprio",
        crate::STATE => "state",
        crate::REWARD => "reward",
        other => other,
    }
}

/// The first camera has the plain name that readers look for.
fn numbered(plain: &str, index: usize, camera: &str) -> String {
    match index {
        0 => plain.to_string(),
        _ => format!("{plain}_{camera}"),
    }
}

/// What an export cannot keep, in words.
fn changes(dataset: &Dataset, format: Format) -> Vec<String> {
    let draft = &dataset.manifest().draft;
    let mut changes = Vec::new();
    for camera in draft.cameras.iter().filter(|c| c.dtype == PixelType::F32) {
        changes.push(format!(
            "frames of camera `{}` are floats in the dataset; they were rounded to whole numbers, half to even",
            camera.name
        ));
    }
    for (camera, loss) in &dataset.manifest().loss {
        changes.push(format!(
            "frames of camera `{camera}` are what the dataset's {} decodes to, not those of the source: {loss}",
            dataset.manifest().codec
        ));
    }
    if draft.extra_last_obs {
        changes.push(
            "the frame after the last action of every episode is left out: the layout has one frame per row"
                .into(),
        );
    }
    match format {
        Format::Lerobot if draft.fps.fract() > 0.0 || draft.fps < 1.0 => changes.push(format!(
            "the rate of the timestamps is {} per second in the dataset; the layout wants a whole number, {} was written",
            draft.fps,
            lerobot::fps(draft.fps)
        )),
        Format::Swm => changes.extend(
            [
                "the action of the last row of every episode is NaN: no row follows it",
                "rewards stand at the row they lead to; the reward of row 0 is NaN, the one after the last row is left out",
            ]
            .iter()
            .zip([crate::ACTION, crate::REWARD])
            .filter(|(_, field)| dataset.manifest().field(field).is_some())
            .map(|(text, _)| (*text).to_string()),
        ),
        _ => {}
    }
    changes
}

/// A place beside the destination, until the export is whole.
struct Destination {
    out: PathBuf,
    temporary: TempDir,
}

impl Destination {
    fn open(out: &Path, overwrite: bool) -> Result<Self> {
        if fs::symlink_metadata(out).is_ok() {
            if !overwrite {
                return Err(Error::Occupied {
                    path: out.to_path_buf(),
                });
            }
            if !is_export(out)? {
                return Err(Error::NotAnExport {
                    path: out.to_path_buf(),
                });
            }
        }
        let parent = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
        let name = out.file_name().unwrap_or_default().to_string_lossy();
        let temporary = tempfile::Builder::new()
            .prefix(&format!(".{name}.export-"))
            .tempdir_in(parent)
            .map_err(|e| Error::io("create a folder in", parent, e))?;
        Ok(Self {
            out: out.to_path_buf(),
            temporary,
        })
    }

    /// Where the export is written.
    fn new_path(&self) -> PathBuf {
        self.temporary.path().join("new")
    }

    /// Gives the export its name; what had it before goes.
    fn commit(self) -> Result<()> {
        let rename =
            |from: &Path, to: &Path| fs::rename(from, to).map_err(|e| Error::io("rename", from, e));
        let old = self.temporary.path().join("old");
        let replaced = fs::symlink_metadata(&self.out).is_ok();
        if replaced {
            rename(&self.out, &old)?;
        }
        let renamed = rename(&self.new_path(), &self.out);
        if renamed.is_err() && replaced {
            rename(&old, &self.out)?;
        }
        renamed
    }
}

/// Whether something is an earlier export, which may be replaced: a folder with our provenance, an HDF5
/// file, or an empty folder.
fn is_export(path: &Path) -> Result<bool> {
    let read = |e| Error::io("read", path, e);
    if path.is_dir() {
        let is_empty = fs::read_dir(path).map_err(read)?.next().is_none();
        return Ok(is_empty || path.join(PROVENANCE).is_file());
    }
    let mut head = [0; 8];
    let mut file = fs::File::open(path).map_err(read)?;
    match std::io::Read::read_exact(&mut file, &mut head) {
        Ok(()) => Ok(head == *b"\x89HDF\r\n\x1a\n"),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(read(error)),
    }
}

/// Bytes of a file, or of all files in a folder.
fn size_of(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path).map_err(|e| Error::io("read", path, e))?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path).map_err(|e| Error::io("read", path, e))? {
        bytes += size_of(&entry.map_err(|e| Error::io("read", path, e))?.path())?;
    }
    Ok(bytes)
}

/// Writes a file and the folders it lies in.
fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
    }
    fs::write(path, bytes).map_err(|e| Error::io("write", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_export_is_replaced_and_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        fs::write(out.join("thesis.tex"), "x").unwrap();
        assert!(matches!(
            Destination::open(&out, false),
            Err(Error::Occupied { .. })
        ));
        assert!(matches!(
            Destination::open(&out, true),
            Err(Error::NotAnExport { .. })
        ));
        fs::create_dir(out.join("meta")).unwrap();
        fs::write(out.join(PROVENANCE), "{}").unwrap();
        let destination = Destination::open(&out, true).unwrap();
        fs::create_dir(destination.new_path()).unwrap();
        fs::write(destination.new_path().join("new.txt"), "y").unwrap();
        assert!(
            out.join("thesis.tex").exists(),
            "nothing is lost before the end"
        );
        destination.commit().unwrap();
        assert!(out.join("new.txt").exists() && !out.join("thesis.tex").exists());
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing temporary is left");
    }

    #[test]
    fn an_abandoned_export_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let destination = Destination::open(&folder.path().join("a/out"), false).unwrap();
        fs::write(destination.new_path(), "half").unwrap();
        drop(destination);
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 0);
    }

    #[test]
    fn runs_cover_an_episode_once() {
        let all: Vec<Range<usize>> = runs(130).collect();
        assert_eq!(all, [0..64, 64..128, 128..130]);
        assert_eq!(runs(0).count(), 0);
    }
}
