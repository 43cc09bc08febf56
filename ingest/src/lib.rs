//! Raw releases to datasets.
//!
//! A [`Source`] opens one release format and hands out episodes; [`run`] reads them in parallel into a
//! [`jepa_datasets::DatasetWriter`]. Containers (torch files, pickles) are read without executing
//! anything they say.

pub mod container;
mod error;
mod estimate;
mod run;
pub mod source;

pub use error::{Error, Result};
pub use estimate::{Estimate, estimate};
pub use jepa_datasets::pose;
pub use run::{Broken, OnBroken, Progress, Summary, Tick, concrete, run, run_shard, summarize};
pub use source::{SOURCES, Source, SourceEntry, SourceOptions};
