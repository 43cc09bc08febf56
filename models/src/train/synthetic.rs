//! Optimiser steps on a made-up batch, for benches: the arithmetic of training without reading data.

use burn::tensor::Device;
use jepa_datasets::{Normalizer, Stream};

use super::config::TrainConfig;
use super::fit::Fit;
use super::loader::SliceArrays;
use super::optimizer::AdamW;
use super::synthetic_transformer::{NamedArray, parameters};
use crate::Result;
use crate::layer::init::initialise;
use crate::pldm::{DataShape, PldmNet};

/// A model in training on one batch of noise.
pub struct SyntheticTraining {
    config: TrainConfig,
    net: Option<PldmNet>,
    optimizer: AdamW,
    batch: SliceArrays,
    step: u64,
}

impl std::fmt::Debug for SyntheticTraining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyntheticTraining")
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

impl SyntheticTraining {
    /// An untrained model and a batch of the configured size.
    pub fn new(config: &TrainConfig, shape: DataShape) -> Result<Self> {
        config.check()?;
        let device = Device::flex().autodiff();
        let net = initialise(config.pldm.init(&shape, &device)?, config.training.seed);
        let optimizer = AdamW::of(&net, &config.training);
        let mut stream = Stream::new(config.training.seed, &["synthetic"]);
        let mut noise = |count: usize| (0..count).map(|_| stream.normal() as f32).collect();
        let batch = SliceArrays::synthetic(
            config,
            shape,
            Normalizer::identity(shape.proprio_dim),
            &mut noise,
        );
        Ok(Self {
            config: config.clone(),
            net: Some(net),
            optimizer,
            batch,
            step: 0,
        })
    }

    /// The parameters and the batch, for another program to do the same with.
    pub fn arrays(&self) -> Vec<NamedArray> {
        let mut arrays = self.net.as_ref().map(parameters).unwrap_or_default();
        arrays.extend(self.batch.named());
        arrays
    }

    /// Forward, backward, clipping and update; returns the loss.
    pub fn step(&mut self) -> Result<f64> {
        let Some(net) = self.net.take() else {
            return Ok(f64::NAN);
        };
        self.step += 1;
        let device = Device::flex().autodiff();
        let weights = self.config.pldm.loss;
        let training = &self.config.training;
        let (net, losses) = Fit::<PldmNet>::update(
            net,
            &mut self.optimizer,
            &self.batch,
            &weights,
            training,
            self.step,
            &device,
        )?;
        self.net = Some(net);
        Ok(losses.total())
    }
}
