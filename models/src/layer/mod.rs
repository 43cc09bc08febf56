//! Layers of our own: fused operations with a plain version beside each, and seeded initialisation.

pub(crate) mod conv_norm;
pub(crate) mod init;
pub(crate) mod mlp;
