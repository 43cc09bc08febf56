//! Embedding of actions and of proprio outside of a predictor (models.md section 3).
//!
//! The released classes run a convolution of kernel 1 over time, which is one linear layer per step. Files
//! hold its weight as `patch_embed.weight` with the kernel as a third side, `[out, in, 1]`; `squeeze` takes
//! that side away. The perceptron that the class can put behind it is used by no released model and left out.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::layer::linear::linear;
use crate::weights::Checkpoint;

/// # Shapes
/// - input `[.., in]`, output `[.., out]`
#[derive(Module, Debug)]
pub(crate) struct StepEmbedding {
    patch_embed: Linear,
}

impl StepEmbedding {
    pub(crate) fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self {
            patch_embed: LinearConfig::new(inputs, outputs).init(device),
        }
    }

    pub(crate) fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        linear(&self.patch_embed, input)
    }
}

/// Takes the kernel side of length 1 away from the weight of the embedding called `name`, if it is there.
pub(crate) fn squeeze(checkpoint: &mut Checkpoint, name: &str) {
    let key = format!("{name}.patch_embed.weight");
    if let Some(mut array) = checkpoint.remove(&key) {
        if let [outputs, inputs, 1] = array.shape[..] {
            array.shape = vec![outputs, inputs];
        }
        checkpoint.insert(&key, array);
    }
}
