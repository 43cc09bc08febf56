//! Writing: crash-safe, resumable, and with the same bytes whatever happened on the way.

use std::ops::Range;
use std::path::Path;

use crate::{Codec, Dataset, Episode, Error, ManifestDraft, Result, SplitRule};

/// What to write, and how.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Fields, cameras and provenance.
    pub manifest: ManifestDraft,
    /// How frames are stored.
    pub codec: Codec,
    /// Replace a finished dataset, or an unfinished one with other settings.
    pub overwrite: bool,
    /// Number of episodes in the source. Splits are drawn over all of them.
    pub total_episodes: u64,
    /// The source episodes to take; the others are `skipped` in the ledger. Nothing means all.
    pub selection: Option<Range<u64>>,
}

/// Writes a dataset episode by episode, from any number of threads.
#[derive(Debug)]
pub struct DatasetWriter {}

impl DatasetWriter {
    /// Creates a dataset, or resumes a matching unfinished one.
    pub fn open(dst: &Path, options: WriterOptions) -> Result<Self> {
        let _ = options;
        Err(Error::NotADataset {
            path: dst.to_path_buf(),
            detail: "the writer is not built yet".into(),
        })
    }

    /// Source indices that are not in the ledger yet, in order.
    pub fn pending(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Adds one episode; durable when it returns. Any thread, any order.
    pub fn accept(&self, episode: Episode) -> Result<()> {
        episode.check()
    }

    /// Records that a source episode could not be used.
    pub fn reject(&self, source_index: u64, path: &str, code: &str, detail: &str) -> Result<()> {
        let _ = (source_index, path, code, detail);
        Ok(())
    }

    /// Assembles the dataset and removes everything temporary.
    pub fn finish(self, split_rule: &SplitRule) -> Result<Dataset> {
        let _ = split_rule;
        Err(Error::invalid(
            "writer",
            "finish",
            "the writer is not built yet",
        ))
    }
}
