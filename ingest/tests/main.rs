//! Releases from end to end: what the reference loaders return, and what damaged files do.

#![expect(
    clippy::unwrap_used,
    reason = "a fixture that cannot be read ends its test"
)]
#![expect(clippy::float_cmp, reason = "values are read and stored, not computed")]

mod bad;
#[cfg(all(feature = "hdf5", feature = "video"))]
mod droid;
#[cfg(all(feature = "hdf5", feature = "video"))]
mod franka;
#[cfg(feature = "hdf5")]
mod hdf5;
mod hostile;
mod lerobot;
mod metaworld;
mod npz;
#[cfg(all(feature = "hdf5", feature = "video"))]
mod options;
mod page;
mod pointmaze;
#[cfg(feature = "hdf5")]
mod poses;
#[cfg(feature = "video")]
mod pusht;
#[cfg(feature = "hdf5")]
mod robocasa;
mod support;
#[cfg(feature = "hdf5")]
mod swm;
mod tdmpc2;
#[cfg(feature = "video")]
mod video;
mod wall;
mod zarr;
