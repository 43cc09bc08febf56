//! Encoders, predictors, losses and training of the world models, behind one plain-array seam.
//!
//! Planners and the program talk to [`WorldModel`]; the tensors of the back end (burn) stay inside.
#![recursion_limit = "256"]

mod error;
mod world_model;

pub use error::{Error, Result};
pub use world_model::{
    ActionBatch, CostSpec, Distance, Frame, Latent, ModelInfo, Rollout, Steps, TrainingInfo,
    WorldModel,
};
