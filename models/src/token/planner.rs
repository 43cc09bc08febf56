//! A trained token-grid model and its frozen encoder, ready to plan with.

use std::sync::Arc;

use super::config::TokenConfig;
use super::net::TokenNet;
use crate::token_planner::TokenPlanner;
use crate::train::FrameInput;
use crate::world_model::{
    ActionBatch, CostGradients, CostSpec, Frame, Latent, ModelInfo, Rollout, WorldModel,
};
use crate::{Error, Result};

/// A [`WorldModel`] of frames: the encoder in front of a [`TokenPlanner`].
#[derive(Debug)]
pub(crate) struct TokenGridModel {
    info: ModelInfo,
    encoder: Arc<dyn FrameInput>,
    planner: TokenPlanner,
}

impl TokenGridModel {
    /// `net` must be on `device`, without gradients.
    pub(crate) fn new(
        config: &TokenConfig,
        info: ModelInfo,
        encoder: Arc<dyn FrameInput>,
        net: TokenNet,
        device: &burn::tensor::Device,
    ) -> Result<Self> {
        Ok(Self {
            info,
            encoder,
            planner: TokenPlanner::new(net.model, config.unroll(), device)?,
        })
    }
}

impl WorldModel for TokenGridModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn encode(&self, frame: Frame<'_>, proprio: &[f32]) -> Result<Latent> {
        self.info.check_frame(frame)?;
        let [width, rows, columns] = self.encoder.shape();
        let count = rows * columns;
        // Channels first in the network's input, tokens first in a latent.
        let planes = self.encoder.convert(frame.rgb)?;
        let visual = (0..count * width).map(|i| planes[i % width * count + i / width]);
        if !self.info.uses_proprio {
            return self.planner.latent(visual.collect(), &[]);
        }
        if proprio.len() != self.info.proprio_dim {
            return Err(Error::Shape {
                what: "proprio",
                expected: format!("{} numbers", self.info.proprio_dim),
                actual: format!("{} numbers", proprio.len()),
            });
        }
        let mut normalised = proprio.to_vec();
        self.info.proprio.normalize(&mut normalised);
        self.planner.latent(visual.collect(), &normalised)
    }

    fn unroll(&self, start: &Latent, actions: ActionBatch<'_>) -> Result<Rollout> {
        self.planner.unroll(start, actions)
    }

    fn candidates_at_a_time(&self, _horizon: usize) -> usize {
        self.planner.candidates_at_a_time()
    }

    fn costs(
        &self,
        start: &Latent,
        goal: &Latent,
        spec: &CostSpec,
        actions: ActionBatch<'_>,
    ) -> Result<Vec<f64>> {
        self.planner.costs(start, goal, spec, actions)
    }

    fn cost_gradients(
        &self,
        start: &Latent,
        goal: &Latent,
        spec: &CostSpec,
        actions: ActionBatch<'_>,
    ) -> Result<CostGradients> {
        self.planner.cost_gradients(start, goal, spec, actions)
    }
}
