//! Training losses, each a function of plain tensors.

pub(crate) mod prediction;
pub(crate) mod variance_covariance;
