//! Training of world models on trajectory slices.
//!
//! [`run`] reads top to bottom: claim the run folder, go on from its newest checkpoint, write the model.

mod checkpoint;
mod config;
pub(crate) mod files;
mod fit;
mod loader;
mod metrics;
pub(crate) mod optimizer;
mod probe;
mod run;
pub(crate) mod schedule;
mod synthetic;
mod synthetic_transformer;
#[cfg(test)]
pub(crate) mod testing;
mod validation;
mod views;

use burn::module::Module;
use burn::tensor::Tensor;

use crate::{Error, Result};

pub(crate) use config::over_defaults;
pub use config::{CrossingConfig, TrainConfig, TrainingConfig};
pub use loader::training_slices;
pub(crate) use loader::{Pixels, Transformed};
pub use metrics::MetricsLine;
pub(crate) use run::Imported;
pub use run::{Finished, Hooks, TrainRequest, holds, load, load_policy, run, run_of};
pub use synthetic::SyntheticTraining;
pub use synthetic_transformer::{NamedArray, SyntheticTransformer, TransformerSizes};
pub use validation::{Imitation, ValidationErrors};
pub(crate) use views::Views;

/// One weighted term of a training loss.
pub(crate) struct LossTerm {
    /// Name in `metrics.jsonl`, after `loss_`.
    pub name: &'static str,
    /// Its weight in the total.
    pub weight: f64,
    /// Unweighted value, `[1]`.
    pub value: Tensor<1>,
}

/// A batch of trajectory slices on the device.
#[derive(Debug, Clone)]
pub(crate) struct SliceTensors {
    /// Network input of every frame, `[B * (H + 1), C, h, w]`, slice after slice: pixels, or the tokens of a frozen
    /// encoder.
    pub images: Tensor<4>,
    /// Normalised action blocks, `[B, H, A]`.
    pub actions: Tensor<3>,
    /// Normalised proprio of every frame, `[B * (H + 1), P]`.
    pub proprio: Tensor<2>,
    /// Normalised proprio of every row, `[B, H * f + 1, P]`.
    pub rows_proprio: Tensor<3>,
}

/// Turns frames into network input, where slices are read.
pub(crate) trait FrameInput: Send + Sync + std::fmt::Debug {
    /// Sizes of the input of one frame, `[C, h, w]`.
    fn shape(&self) -> [usize; 3];

    /// Input of RGB frames, one after the other: `[n, C, h, w]`.
    fn convert(&self, rgb: &[u8]) -> Result<Vec<f32>>;

    /// Whether [`FrameInput::stored`] has the input of every frame of the dataset, so that frames need not be read.
    fn is_stored(&self) -> bool {
        false
    }

    /// Input of some frames of an episode that was computed before, `[n, C, h, w]`.
    fn stored(&self, episode: u64, _rows: &[u64]) -> Result<Vec<f32>> {
        Err(Error::Config {
            key: "features",
            detail: format!("of episode {episode} are not stored"),
        })
    }
}

/// When in its run a step is, and what its random choices are drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moment {
    /// Training seed.
    pub seed: u64,
    /// Optimiser step, from 1.
    pub step: u64,
    /// Share of the steps that are done, `[0, 1)`.
    pub progress: f64,
    /// Slices of the batch before those at hand; more than 0 where a batch is taken in parts.
    pub first_slice: usize,
}

/// Encodings of slices and predictions from their first frames.
pub(crate) struct Rollouts {
    /// Latents of all frames, `[B * (H + 1), D]`.
    pub encoded: Tensor<2>,
    /// Latents after each of the `H` action blocks of each of `E` predictors, `[E, B, D]`; none of a policy.
    pub predicted: Vec<Tensor<3>>,
    /// Tokens that lie one after the other in a latent; 1 for models with one vector per frame.
    pub tokens: usize,
}

impl Rollouts {
    /// Of an encoder, which predicts nothing: the "predictions" are the frames' own tokens, so that the errors of a
    /// validation's probe are those of the encoder, and its latent errors 0.
    ///
    /// # Shapes
    /// - `tokens`: `[B T, N, D]`, samples of `frames` frames
    pub(crate) fn of_encodings(tokens: Tensor<3>, frames: usize) -> Self {
        let [all, count, width] = tokens.dims();
        let flat = count * width;
        let by_frame = tokens.reshape([all / frames, frames, flat]);
        let later = |t: usize| by_frame.clone().slice_dim(1, t..t + 1).swap_dims(0, 1);
        Self {
            predicted: (1..frames).map(later).collect(),
            encoded: by_frame.clone().reshape([all, flat]),
            tokens: count,
        }
    }
}

/// What the training loop needs of a model.
pub(crate) trait Trainable: Module + Send + 'static {
    /// What the loss needs beside the network: weights of its terms, the objective.
    type Weights: Clone + Send + Sync;

    /// Terms of the training loss.
    fn losses(
        &self,
        slices: &SliceTensors,
        weights: &Self::Weights,
        moment: &Moment,
    ) -> Result<Vec<LossTerm>>;

    /// This network once the optimiser has moved it, for parts that follow others without gradients.
    #[must_use]
    fn after_step(self, _weights: &Self::Weights, _moment: &Moment) -> Self {
        self
    }

    /// Encodings and predictions for a validation.
    fn rollouts(&self, slices: &SliceTensors, weights: &Self::Weights) -> Result<Rollouts>;

    /// How well a policy repeats the actions of validation slices, the first of which is number `first_slice`; nothing
    /// of a world model.
    fn imitation(
        &self,
        _slices: &SliceTensors,
        _weights: &Self::Weights,
        _first_slice: usize,
    ) -> Result<Option<Imitation>> {
        Ok(None)
    }
}
