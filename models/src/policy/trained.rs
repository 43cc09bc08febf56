//! A trained `gcbc-tokens`, ready to act.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::GoalPolicy;
use super::action_bins::ActionBins;
use super::gcbc_tokens::GcbcTokensNet;
use crate::train::FrameInput;
use crate::world_model::{Frame, Latent, ModelInfo};
use crate::{Error, Result};

/// Weights, and what turns their tokens into native actions.
#[derive(Debug)]
pub(crate) struct TokenPolicy {
    info: ModelInfo,
    input: Arc<dyn FrameInput>,
    net: GcbcTokensNet,
    bins: ActionBins,
    device: Device,
}

impl TokenPolicy {
    /// `net` must be on `device`, without gradients; `bins` are those of native actions.
    pub(crate) fn new(
        info: ModelInfo,
        input: Arc<dyn FrameInput>,
        net: GcbcTokensNet,
        bins: ActionBins,
        device: Device,
    ) -> Self {
        Self {
            info,
            input,
            net,
            bins,
            device,
        }
    }

    fn tensor(&self, what: &'static str, latent: &Latent) -> Result<Tensor<2>> {
        let width = self.info.latent_width;
        if latent.visual.len() != width {
            return Err(Error::Shape {
                what,
                expected: format!("{width} numbers"),
                actual: format!("{} numbers", latent.visual.len()),
            });
        }
        let data = TensorData::new(latent.visual.clone(), [1, width]);
        Ok(Tensor::from_data(data, &self.device))
    }
}

impl GoalPolicy for TokenPolicy {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn encode(&self, frame: Frame<'_>) -> Result<Latent> {
        self.info.check_frame(frame)?;
        let [channels, height, width] = self.input.shape();
        let input = TensorData::new(self.input.convert(frame.rgb)?, [1, channels, height, width]);
        let encoded = self.net.encode(Tensor::from_data(input, &self.device));
        Ok(Latent {
            visual: encoded.into_data().iter::<f32>().collect(),
            proprio: Vec::new(),
        })
    }

    fn actions(&self, now: &Latent, goal: &Latent) -> Result<Vec<f64>> {
        let now = self.tensor("present latent", now)?;
        let goal = self.tensor("goal latent", goal)?;
        Ok(self.bins.actions(&self.net.act(now, goal)))
    }
}
