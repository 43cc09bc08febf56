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
mod validation;

use burn::module::Module;
use burn::tensor::Tensor;

pub use config::{CrossingConfig, TrainConfig, TrainingConfig};
pub use loader::training_slices;
pub use metrics::MetricsLine;
pub use run::{Finished, Hooks, TrainRequest, load, run};
pub use synthetic::SyntheticTraining;
pub use synthetic_transformer::{NamedArray, SyntheticTransformer, TransformerSizes};
pub use validation::ValidationErrors;

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
    /// Network input of every frame, `[B * (H + 1), 3, h, w]`, slice after slice.
    pub images: Tensor<4>,
    /// Normalised action blocks, `[B, H, A]`.
    pub actions: Tensor<3>,
    /// Normalised proprio of every frame, `[B * (H + 1), P]`.
    pub proprio: Tensor<2>,
    /// Normalised proprio of every row, `[B, H * f + 1, P]`.
    pub rows_proprio: Tensor<3>,
}

/// What the training loop needs of a model with one latent vector per frame.
pub(crate) trait Trainable: Module + Send + 'static {
    /// Weights of the loss terms.
    type Weights: Copy + Send + Sync;

    /// Latents `[n, D]` of images `[n, 3, h, w]`.
    fn encode(&self, images: Tensor<4>) -> Tensor<2>;

    /// Latents `[E, B, D]` of `E` predictors after each of the `H` action blocks `[B, H, A]`, from
    /// latents `[B, D]`.
    fn unroll(&self, start: Tensor<2>, actions: &Tensor<3>) -> Vec<Tensor<3>>;

    /// Terms of the training loss.
    fn losses(&self, slices: &SliceTensors, weights: &Self::Weights) -> Vec<LossTerm>;
}
