//! Policies that choose actions without a planner: the baselines that a world model is compared with.
//!
//! A [`GoalPolicy`] sees the present frame and a picture of the goal, and says what to do next. It imagines nothing, so
//! there is nothing to plan with and no cost to search; how its answers become the actions of an episode is the
//! runner's business.

mod action_bins;
mod decoder;
mod examples;
mod gcbc_tokens;
mod trained;

use crate::Result;
use crate::world_model::{Frame, Latent, ModelInfo};

pub use action_bins::ActionBins;
pub use gcbc_tokens::GcbcTokensConfig;
pub(crate) use gcbc_tokens::GcbcTokensFile;
pub(crate) use trained::TokenPolicy;

/// A trained policy that is told its goal by a picture. One value may be used from many threads.
pub trait GoalPolicy: Send + Sync {
    /// Sizes, statistics and provenance.
    fn info(&self) -> &ModelInfo;

    /// Encodes a frame of the size in [`ModelInfo`]: the present one, or that of the goal.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for a frame of another size.
    fn encode(&self, frame: Frame<'_>) -> Result<Latent>;

    /// Native actions of the next steps, the first one first, row-major `[H, A_e]`: the same ones for the same latents.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for latents of another model.
    fn actions(&self, now: &Latent, goal: &Latent) -> Result<Vec<f64>>;
}
