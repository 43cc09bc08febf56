//! Containers that raw releases come in.

pub mod mapped;
pub mod pickle;
pub mod torch_zip;
#[cfg(feature = "video")]
pub mod video;
pub mod zarr_v2;
pub mod zip_archive;
