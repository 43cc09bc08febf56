//! Containers that raw releases come in.

#[cfg(feature = "hdf5")]
pub mod hdf5;
pub mod mapped;
pub mod npy;
pub mod pickle;
pub mod pickle_file;
pub mod table;
pub mod torch_zip;
#[cfg(feature = "video")]
pub mod video;
#[cfg(feature = "video")]
pub mod video_writer;
pub mod zarr_v2;
pub mod zip;
pub mod zip_archive;
