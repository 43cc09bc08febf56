//! Work in progress.

mod error;
pub use error::{Error, Result};
