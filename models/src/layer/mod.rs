//! Layers of our own: fused operations with a plain version beside each, and seeded initialisation.

pub(crate) mod attention;
pub(crate) mod batch_norm;
pub(crate) mod block;
pub(crate) mod conv_norm;
pub(crate) mod elementary;
pub(crate) mod flat;
pub(crate) mod gate;
pub(crate) mod gelu;
pub(crate) mod gru;
pub(crate) mod init;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod lstm;
pub(crate) mod matrix;
pub(crate) mod mlp;
pub(crate) mod patch_embedding;
pub(crate) mod rope;
pub(crate) mod simd;
