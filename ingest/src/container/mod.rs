//! Containers that raw releases come in.

pub mod mapped;
pub mod pickle;
pub mod pickle_file;
pub mod torch_zip;
#[cfg(feature = "video")]
pub mod video;
