//! Released layouts from end to end: what the reference loaders return, and what damaged files do.

mod bad;
mod pointmaze;
#[cfg(feature = "video")]
mod pusht;
mod support;
#[cfg(feature = "video")]
mod video;
