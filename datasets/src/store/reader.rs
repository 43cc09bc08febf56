//! Reading: one slice touches its frames and one run of rows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use crate::{
    Column, EpisodeMeta, Error, Manifest, Pixels, Result, Slice, SliceIndex, SliceRef, SliceSpec,
    Split, Stats,
};

/// An open dataset. All methods take `&self` and may be called from many threads.
#[derive(Debug)]
pub struct Dataset {
    manifest: Manifest,
    episodes: Vec<EpisodeMeta>,
    stats: Stats,
}

impl Dataset {
    /// Opens a finished dataset.
    pub fn open(path: &Path) -> Result<Self> {
        Err(Error::NotADataset {
            path: path.to_path_buf(),
            detail: "the reader is not built yet".into(),
        })
    }

    /// `dataset.json`.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Every episode, by index.
    pub fn episodes(&self) -> &[EpisodeMeta] {
        &self.episodes
    }

    /// The split `train`, `val` or `all`.
    pub fn split(&self, name: &str) -> Result<&Split> {
        Err(Error::UnknownName {
            kind: "split",
            name: name.into(),
            known: Vec::new(),
        })
    }

    /// Statistics of every field, over the training split and over everything.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Hash of the manifest, which covers every file.
    pub fn content_hash(&self) -> &str {
        &self.manifest.content_hash
    }

    /// A run of rows of one episode, every field.
    pub fn read_rows(&self, episode: u64, range: Range<usize>) -> Result<BTreeMap<String, Column>> {
        let _ = (episode, range);
        Ok(BTreeMap::new())
    }

    /// Some frames of one episode, `[indices, height, width, 3]`.
    pub fn read_frames(&self, camera: &str, episode: u64, indices: &[usize]) -> Result<Pixels> {
        let _ = (camera, episode, indices);
        Ok(Pixels::U8(Vec::new()))
    }

    /// The slices of a split, by number.
    pub fn slices(&self, spec: &SliceSpec) -> Result<SliceIndex> {
        SliceIndex::new(spec, &[], crate::slice::Shuffle::None)
    }

    /// One slice.
    pub fn read_slice(&self, spec: &SliceSpec, at: SliceRef) -> Result<Slice> {
        let _ = (spec, at);
        Err(Error::invalid(
            "reader",
            "read_slice",
            "the reader is not built yet",
        ))
    }
}
