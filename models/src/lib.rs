//! Encoders, predictors, losses and training of the world models, behind one plain-array seam.
//!
//! Planners and the program talk to [`WorldModel`]; the tensors of the back end (burn) stay inside.
#![recursion_limit = "256"]

mod device;
pub mod eb_jepa;
pub mod encoder;
mod error;
pub mod features;
pub mod head;
pub mod ijepa;
mod layer;
pub mod lejepa;
pub mod lewm;
mod loss;
pub mod pldm;
pub mod pldm_maze;
pub mod policy;
mod predictor;
pub mod token;
mod token_planner;
pub mod train;
mod vector_model;
pub mod weights;
mod world_model;
pub mod world_models;
pub mod zoo;

pub use device::Compute;
pub use error::{Error, Result};
pub use policy::GoalPolicy;
pub use token_planner::TokenPlanner;
pub use train::{load, load_policy};
pub use world_model::{
    ActionBatch, CostGradients, CostSpec, Distance, Frame, Latent, ModelInfo, Rollout,
    ScoreRequest, Steps, TrainingInfo, WorldModel,
};
pub use zoo::{MODELS, ModelEntry, RECIPES, Recipe};
