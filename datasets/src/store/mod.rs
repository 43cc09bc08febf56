//! The dataset on disk, format version 1: [`DatasetWriter`] makes one, [`Dataset`] reads one.
//!
//! ```text
//! NAME/
//!   dataset.json                manifest, written last: a folder without it is not finished
//!   steps/part-00000.parquet    one row per native step
//!   episodes.parquet            one row per episode
//!   frames/<camera>.zarr        Zarr v3, [frames, height, width, 3], sharded, one inner chunk per frame
//!   stats.json  splits.json  ledger.parquet
//! ```
//!
//! While a dataset is being written, `.staging/` holds finished episodes and a journal.

mod assembly;
mod disk;
mod journal;
mod jpeg;
mod manifest;
mod measure;
mod parquet;
mod random_access;
mod reader;
mod shard;
mod staging;
mod writer;
mod zarr;

#[cfg(test)]
mod tests;

pub(crate) use disk::hash_file;
pub(crate) use jpeg::MAX_SIDE;
pub use measure::SizeMeter;
pub use reader::{Dataset, ReadCount};
pub(crate) use reader::{check_numbering, list_files, read_manifest};
pub use shard::{is_shard, merge_shards};
pub use writer::{DatasetWriter, EpisodeWriter, WriterOptions};

/// File name of the manifest.
pub(crate) const MANIFEST: &str = "dataset.json";
/// Folder of what encoders made of the frames, beside the files that the manifest lists.
pub const FEATURES: &str = "features";
/// File name of the statistics.
pub(crate) const STATS: &str = "stats.json";
/// File name of the splits.
pub(crate) const SPLITS: &str = "splits.json";
/// File name of the episode table.
pub(crate) const EPISODES: &str = "episodes.parquet";
/// File name of the ledger.
pub(crate) const LEDGER: &str = "ledger.parquet";
/// Everything a finished dataset consists of, for the writer to replace.
pub(crate) const ENTRIES: [&str; 7] =
    [MANIFEST, STATS, SPLITS, EPISODES, LEDGER, "steps", "frames"];
/// Folder of everything temporary.
pub(crate) const STAGING: &str = ".staging";
