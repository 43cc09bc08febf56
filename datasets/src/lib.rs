//! Episodes, stores, trajectory slices, splits and normalizers.
//!
//! A dataset is a folder (format version 1): one Parquet table of native steps, one Zarr store of
//! frames per camera, and JSON documents that describe, hash and summarise them. It is written by
//! [`DatasetWriter`] and read by [`Dataset`]; a [`SliceIndex`] numbers the trajectory slices in it.

mod blank;
pub mod catalog;
pub mod conformance;
mod duplicates;
mod episode;
mod error;
pub mod export;
pub mod mt19937;
mod normalizer;
pub mod pages;
mod pcg64;
pub mod pose;
mod schema;
mod shard;
mod slice;
mod split;
mod statistics;
mod store;
mod stream;
pub mod transform;

pub use blank::{BLANK_STD, BlankFrames, blank_frames};
pub use catalog::{CatalogEntry, DATASETS};
pub use duplicates::{Likeness, duplicates, families};
pub use episode::{
    ACTION, CameraFrames, Column, Episode, Frame, FrameSink, PIXEL_RANGE, PROPRIO, Pixels, REWARD,
    STATE,
};
pub use error::{Error, Result, closest, name_hint};
pub use normalizer::{
    CONSTANT_STD, FieldStats, Moments, Normalizer, QUANTILES, Statistics, Stats, quantile,
};
pub use schema::{
    Alignment, Camera, Codec, Counts, Dtype, EpisodeMeta, FORMAT_VERSION, Field, FileEntry,
    FrameLoss, FrameRange, LedgerRow, Manifest, ManifestDraft, Outcome, PixelType, Source,
    StatedLoss,
};
pub use shard::Shard;
pub use slice::{Dropped, Order, Slice, SliceIndex, SliceRef, SliceSpec};
pub use split::{Member, Split, SplitRule, Splits};
pub use store::{
    Dataset, DatasetWriter, EpisodeWriter, FEATURES, ReadCount, SizeMeter, WriterOptions, is_shard,
    merge_shards,
};
pub use stream::Stream;
