//! The dataset on disk: [`DatasetWriter`] makes one, [`Dataset`] reads one.

mod reader;
mod writer;

pub use reader::Dataset;
pub use writer::{DatasetWriter, WriterOptions};
