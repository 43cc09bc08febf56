//! Containers that raw releases come in.

pub mod pickle;
pub mod torch_zip;
