//! Raw releases that become datasets: one file per source.

pub mod wall;
pub mod zarr;

use std::path::Path;

use jepa_datasets::{Episode, ManifestDraft};

use crate::{Error, Result};

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

    /// Reads one episode.
    ///
    /// # Errors
    /// Whatever makes this episode unusable; the others do not depend on it.
    fn read(&self, index: u64) -> Result<Episode>;

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
}

/// One source of the registry.
#[derive(Debug, Clone, Copy)]
pub struct SourceEntry {
    /// Name on the command line.
    pub name: &'static str,
    /// What it reads, in one sentence.
    pub summary: &'static str,
    /// Opens a release.
    pub open: fn(&Path, SourceOptions) -> Result<Box<dyn Source>>,
}

/// Every source of this build.
pub const SOURCES: &[SourceEntry] = &[wall::ENTRY, zarr::ENTRY];

/// Formats that are specified and not read by this build.
const PLANNED: &[&str] = &[
    "droid",
    "franka",
    "lerobot",
    "metaworld",
    "npz",
    "pointmaze",
    "pusht",
    "robocasa",
    "swm",
    "tdmpc2",
];

/// Opens a release by the name of its format; paths never decide.
pub fn open(name: &str, root: &Path, options: SourceOptions) -> Result<Box<dyn Source>> {
    let entry = SOURCES
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| Error::UnknownSource {
            name: name.into(),
            planned: PLANNED.contains(&name),
            known: SOURCES.iter().map(|entry| entry.name).collect(),
        })?;
    (entry.open)(root, options)
}
