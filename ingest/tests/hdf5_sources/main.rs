//! The sources of HDF5 releases from end to end: what the reference loaders return, and what damaged files do.
#![cfg(all(feature = "hdf5", feature = "video"))]
#![expect(clippy::float_cmp, reason = "the numbers are read, not computed")]

mod container;
mod droid;
mod franka;
mod options;
mod poses;
mod robocasa;
mod support;
mod swm;
