//! Raw releases that become datasets: one file per source.

#[cfg(all(feature = "hdf5", feature = "video"))]
pub mod droid;
#[cfg(feature = "hdf5")]
pub mod franka;
#[cfg(feature = "hdf5")]
mod hdf5_release;
#[cfg(feature = "video")]
pub mod lerobot;
#[cfg(feature = "video")]
pub mod metaworld;
pub mod npz;
pub mod pointmaze;
#[cfg(any(feature = "video", feature = "hdf5"))]
mod port;
#[cfg(feature = "video")]
pub mod pusht;
#[cfg(feature = "hdf5")]
pub mod robocasa;
mod support;
#[cfg(feature = "hdf5")]
pub mod swm;
pub mod tdmpc2;
pub mod wall;
pub mod window;
pub mod zarr;

use std::ops::Range;
use std::path::Path;

use jepa_datasets::{CameraFrames, Episode, FrameSink, ManifestDraft, SplitRule};

use crate::{Error, Result};
use window::FpsMode;

/// A raw release, opened: what it declares, and its episodes one by one, from any thread.
pub trait Source: Send + Sync {
    /// Fields, cameras and provenance of the dataset it becomes.
    fn manifest(&self) -> &ManifestDraft;

    /// Number of episodes in the release, unusable ones included.
    fn total(&self) -> u64;

    /// Folder of the release. Messages in the ledger name files relative to it.
    fn root(&self) -> &Path;

    /// The file an episode comes from, relative to the release, for the ledger.
    fn path_of(&self, index: u64) -> String;

    /// Reads one episode. Its frames go to `frames` as they are decoded; what comes back has none.
    ///
    /// # Errors
    /// Whatever makes this episode unusable; the others do not depend on it.
    fn read_into(&self, index: u64, frames: &mut dyn FrameSink) -> Result<Episode>;

    /// Reads one episode with its frames, all of it in memory.
    ///
    /// # Errors
    /// As [`read_into`](Self::read_into).
    fn read(&self, index: u64) -> Result<Episode> {
        let mut cameras: Vec<CameraFrames> = Vec::new();
        let episode = self.read_into(index, &mut cameras)?;
        Ok(Episode { cameras, ..episode })
    }

    /// The split that the release comes with; all episodes are for training where it has none.
    fn released_split(&self) -> SplitRule {
        let released = SplitRule::Released.resolve(&self.manifest().source.name);
        released.unwrap_or(SplitRule::First {
            train: self.total(),
            seed: SplitRule::JEPA_WMS.seed(),
        })
    }

    /// Indices of the episodes whose file is missing, as far as is known without reading them.
    fn missing(&self) -> Vec<u64>;

    /// Bytes of the release that have to be read, as far as is known, for `--dry-run`.
    fn bytes(&self) -> u64;
}

/// How a source is read, and how it turns frames into what is stored. Options that a source has no use
/// for are an error there, not ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// Height and width to resize to; nothing keeps the native size.
    pub size: Option<[usize; 2]>,
    /// Cameras to keep, by the name that the source gives them; empty keeps what the source keeps by default.
    pub cameras: Vec<String>,
    /// Tasks to keep; empty keeps all.
    pub tasks: Vec<String>,
    /// Where the rate of a recording is taken from, for the stride that is noted with an episode; nothing
    /// takes it as the reference loaders do.
    pub fps_mode: Option<FpsMode>,
    /// Frames of the clips that will be cut, at [`window::CLIP_FPS`]: episodes without room for one are
    /// refused. Nothing keeps every episode.
    pub frames_per_clip: Option<usize>,
    /// Takes Robocasa's quaternions in the wrong order, as the reference loader does.
    pub compat_quaternion: bool,
    /// Takes poses between the first and the goal of a sample archive by interpolation, as the reference
    /// evaluation does, in place of the measured ones.
    pub compat_poses: bool,
    /// Keeps the states of Robocasa's simulator, which must have one width in all episodes that are read.
    pub simulator_states: bool,
    /// The episodes that will be read; nothing means all. What a source declares may depend on them where it
    /// would otherwise be refused, and on nothing else.
    pub episodes: Option<Range<u64>>,
}

/// One source of the registry.
#[derive(Debug, Clone, Copy)]
pub struct SourceEntry {
    /// Name on the command line.
    pub name: &'static str,
    /// What it reads, in one sentence.
    pub summary: &'static str,
    /// What a user has to know: the layout, what is kept and what changes, examples. Lines of at most 98
    /// characters.
    pub details: &'static str,
    /// Options of the command line that mean something here and not to every source.
    pub options: &'static [&'static str],
    /// Opens a release.
    pub open: fn(&Path, SourceOptions) -> Result<Box<dyn Source>>,
}

/// Every source of this build.
pub const SOURCES: &[SourceEntry] = &[
    #[cfg(all(feature = "hdf5", feature = "video"))]
    droid::ENTRY,
    #[cfg(feature = "hdf5")]
    franka::ENTRY,
    #[cfg(feature = "video")]
    lerobot::ENTRY,
    #[cfg(feature = "video")]
    metaworld::ENTRY,
    npz::ENTRY,
    pointmaze::ENTRY,
    #[cfg(feature = "video")]
    pusht::ENTRY,
    #[cfg(feature = "hdf5")]
    robocasa::ENTRY,
    #[cfg(feature = "hdf5")]
    swm::ENTRY,
    tdmpc2::ENTRY,
    wall::ENTRY,
    zarr::ENTRY,
];

/// Sources that need features of this crate, which a build may lack.
const NEEDING_FEATURES: [(&str, &str); 7] = [
    ("droid", "`hdf5` and `video`"),
    ("franka", "`hdf5`"),
    ("lerobot", "`video`"),
    ("metaworld", "`video`"),
    ("pusht", "`video`"),
    ("robocasa", "`hdf5`"),
    ("swm", "`hdf5`"),
];

/// Formats that are specified and not read by this build.
const PLANNED: &[&str] = &["minari"];

/// Options that only some sources have a use for: a source names those that it has.
pub const SPECIAL_OPTIONS: [&str; 7] = [
    "camera",
    "task",
    "fps-mode",
    "frames-per-clip",
    "compat-quaternion",
    "compat-poses",
    "simulator-states",
];

/// Refuses options that only other sources have a use for. Cameras and tasks are for the source to refuse:
/// it knows which there are.
fn refuse_meaningless(entry: &SourceEntry, options: &SourceOptions) -> Result<()> {
    let given = [
        ("fps-mode", options.fps_mode.is_some()),
        ("frames-per-clip", options.frames_per_clip.is_some()),
        ("compat-quaternion", options.compat_quaternion),
        ("compat-poses", options.compat_poses),
        ("simulator-states", options.simulator_states),
    ];
    let has_use = |entry: &SourceEntry, option| entry.options.contains(&option);
    let mut given = given.into_iter().filter(|(_, is_given)| *is_given);
    match given.find(|(option, _)| !has_use(entry, *option)) {
        Some((option, _)) => {
            let others = SOURCES.iter().filter(|entry| has_use(entry, option));
            let names: Vec<&str> = others.map(|entry| entry.name).collect();
            Err(Error::Invalid {
                what: "option",
                value: format!("--{option}"),
                detail: format!(
                    "`{}` has no use for it; it is for {}",
                    entry.name,
                    names.join(", ")
                ),
            })
        }
        None => Ok(()),
    }
}

/// Opens a release by the name of its format; paths never decide.
pub fn open(name: &str, root: &Path, options: SourceOptions) -> Result<Box<dyn Source>> {
    if let Some(entry) = SOURCES.iter().find(|entry| entry.name == name) {
        refuse_meaningless(entry, &options)?;
        return (entry.open)(root, options);
    }
    let needed = NEEDING_FEATURES.iter().find(|(source, _)| *source == name);
    Err(match needed {
        Some((_, features)) => Error::Invalid {
            what: "source",
            value: name.into(),
            detail: format!("this build lacks the features that it needs, {features}"),
        },
        None => Error::UnknownSource {
            name: name.into(),
            planned: PLANNED.contains(&name),
            known: SOURCES.iter().map(|entry| entry.name).collect(),
        },
    })
}
