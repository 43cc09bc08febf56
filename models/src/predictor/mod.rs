//! Latent predictors.

pub(crate) mod residual_mlp;
