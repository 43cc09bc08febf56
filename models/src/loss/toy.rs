//! Models of one parameter, for losses whose values and gradients can be worked out by hand.

use burn::module::Param;
use burn::tensor::{Device, Tensor};

use crate::predictor::{TokenModel, TokenState};

/// `next = last state + coefficient * last action`, one token of one channel; with a memory, `next = mean of all
/// states so far + coefficient * last action`.
#[derive(Debug)]
pub(crate) struct Toy {
    pub coefficient: Param<Tensor<1>>,
    has_memory: bool,
}

impl Toy {
    pub(crate) fn new(coefficient: f32) -> Self {
        let device = Device::flex().autodiff();
        Self {
            coefficient: Param::from_tensor(Tensor::from_floats([coefficient], &device)),
            has_memory: false,
        }
    }

    pub(crate) fn with_memory(self) -> Self {
        Self {
            has_memory: true,
            ..self
        }
    }

    /// Frames of one sample, without proprio.
    pub(crate) fn frames(&self, values: &[f32]) -> TokenState {
        TokenState {
            visual: Tensor::<1>::from_floats(values, &self.device()).reshape([
                1,
                values.len(),
                1,
                1,
            ]),
            proprio: None,
        }
    }

    /// Actions of one sample.
    pub(crate) fn actions(&self, values: &[f32]) -> Tensor<3> {
        Tensor::<1>::from_floats(values, &self.device()).reshape([1, values.len(), 1])
    }

    fn device(&self) -> Device {
        self.coefficient.val().device()
    }
}

impl TokenModel for Toy {
    fn embed_proprio(&self, _proprio: Tensor<3>) -> Option<Tensor<4>> {
        None
    }

    fn predict(&self, state: TokenState, actions: Tensor<3>) -> TokenState {
        let frames = state.frames();
        let from = if self.has_memory {
            let so_far = |last: usize| state.visual.clone().slice_dim(1, 0..last + 1).mean_dim(1);
            Tensor::cat((0..frames).map(so_far).collect(), 1)
        } else {
            state.visual
        };
        let moved = actions.unsqueeze_dim::<4>(2) * self.coefficient.val().reshape([1, 1, 1, 1]);
        TokenState {
            visual: from + moved,
            proprio: state.proprio,
        }
    }
}

/// Predicts that nothing changes; proprio features are `encoder * proprio`.
#[derive(Debug)]
pub(crate) struct ToyProprio {
    pub encoder: Param<Tensor<1>>,
    predicts_proprio: bool,
}

impl ToyProprio {
    pub(crate) fn new(encoder: f32) -> Self {
        let device = Device::flex().autodiff();
        Self {
            encoder: Param::from_tensor(Tensor::from_floats([encoder], &device)),
            predicts_proprio: true,
        }
    }

    /// Takes proprio and does not predict it.
    pub(crate) fn blind(self) -> Self {
        Self {
            predicts_proprio: false,
            ..self
        }
    }
}

impl TokenModel for ToyProprio {
    fn embed_proprio(&self, proprio: Tensor<3>) -> Option<Tensor<4>> {
        Some(proprio.unsqueeze_dim::<4>(2) * self.encoder.val().reshape([1, 1, 1, 1]))
    }

    fn predict(&self, state: TokenState, _actions: Tensor<3>) -> TokenState {
        TokenState {
            proprio: state.proprio.filter(|_| self.predicts_proprio),
            ..state
        }
    }
}

/// Frames of one sample with encoded proprio.
pub(crate) fn state(toy: &ToyProprio, visual: &[f32], proprio: &[f32]) -> TokenState {
    let device = toy.encoder.val().device();
    let values = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
    TokenState {
        visual: values(visual).reshape([1, visual.len(), 1, 1]),
        proprio: toy.embed_proprio(values(proprio).reshape([1, proprio.len(), 1])),
    }
}

/// The value of a loss.
pub(crate) fn number(value: &Tensor<1>) -> f64 {
    f64::from(value.clone().into_scalar::<f32>())
}

/// The gradient of a loss; 0 where none arrives.
pub(crate) fn gradient(loss: &Tensor<1>, parameter: &Param<Tensor<1>>) -> f64 {
    let grads = loss.clone().backward();
    parameter
        .val()
        .grad(&grads)
        .map_or(0.0, |g| f64::from(g.into_scalar::<f32>()))
}
