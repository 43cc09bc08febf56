//! Training losses, each a function of plain tensors.
//!
//! Models with one vector per frame use [`prediction`] and [`variance_covariance`]. Token-grid models train
//! with an [`objective`]: [`teacher_forcing`], and [`rollout`] terms on the model's own predictions, both made of
//! the per-token losses of [`elementwise`]. [`vjepa2_ac`] is the loss of V-JEPA-2-AC as its authors train it.

pub(crate) mod cross_entropy;
pub(crate) mod elementwise;
pub(crate) mod inverse_dynamics;
pub(crate) mod objective;
pub(crate) mod prediction;
pub(crate) mod rollout;
pub(crate) mod scheduled_sampling;
pub(crate) mod sigreg;
pub(crate) mod teacher_forcing;
#[cfg(test)]
pub(crate) mod toy;
pub(crate) mod variance_covariance;
pub(crate) mod vcreg;
pub(crate) mod vjepa2_ac;
