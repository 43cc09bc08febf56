//! The public surface on arbitrary input and on real folders.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, like tests"
)]

#[cfg(feature = "jpeg")]
mod jpeg;
mod properties;
mod reads;
