//! Image encoders.

pub(crate) mod conv;
