//! The space of Push-T in Chipmunk itself, to compare the simulator of `jepa-bench` with.
//!
//! Without the feature `chipmunk` this crate is empty and links nothing. With it, the system's library is linked
//! (Debian: `libchipmunk-dev`, 7.0.3). Only this crate of the project calls into C.

#[cfg(feature = "chipmunk")]
mod space;

#[cfg(feature = "chipmunk")]
pub use space::{Block, Space};
