//! Formats of other ecosystems.

pub mod npz;
