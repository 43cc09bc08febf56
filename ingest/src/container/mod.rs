//! Containers that raw releases come in.

pub mod mapped;
pub mod npy;
pub mod pickle;
pub mod pickle_file;
pub mod table;
pub mod torch_zip;
#[cfg(feature = "video")]
pub mod video;
pub mod zip;
