//! Released layouts from end to end: what the reference loaders return, and what damaged files do.

#![expect(
    clippy::unwrap_used,
    reason = "a fixture that cannot be read ends its test"
)]

mod bad;
mod pointmaze;
#[cfg(feature = "video")]
mod pusht;
mod support;
#[cfg(feature = "video")]
mod video;
