//! Teacher forcing: every frame predicted from the encoded frames before it (models.md section 4.2).
//!
//! One pass over all `T` frames; slot `t` of the output is compared with frame `t + 1`. The mask makes slot `t` a
//! prediction from `t + 1` frames, so one pass trains every context length. The last slot has no target.

use burn::tensor::Tensor;

use super::elementwise::{StateLoss, StateLossConfig};
use crate::predictor::{TokenModel, TokenState};

/// Predictions of frames `1..T`, from the encoded frames.
///
/// # Shapes
/// - `truth`: `T` frames; `actions`: `[B, T, A]`; output: `T - 1` frames
pub(crate) fn predictions<M: TokenModel>(
    model: &M,
    truth: &TokenState,
    actions: &Tensor<3>,
) -> TokenState {
    let frames = truth.frames();
    let predicted = model.predict(truth.clone(), actions.clone());
    predicted.slice(0, frames - 1)
}

/// Loss of the [`predictions`].
///
/// The proprio target comes from an encoder that trains with the predictor. The released code lets the gradient
/// reach it through the target; `detach_proprio_target` cuts that, as the original DINO-WM does.
pub(crate) fn loss(
    config: &StateLossConfig,
    predicted: &TokenState,
    truth: &TokenState,
    detach_proprio_target: bool,
) -> StateLoss {
    let target = truth.slice(1, truth.frames());
    let target = if detach_proprio_target {
        target.detach()
    } else {
        target
    };
    config.between(predicted.clone(), target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::toy::{Toy, ToyProprio, gradient, number, state};

    #[test]
    fn slot_t_is_compared_with_frame_t_plus_1_and_the_last_has_no_target() {
        // models.md section 4.3: predictions 0.9, 2.8, 5.7 of 1, 3, 6.
        let toy = Toy::new(0.9);
        let (truth, actions) = (
            toy.frames(&[0.0, 1.0, 3.0, 6.0]),
            toy.actions(&[1.0, 2.0, 3.0, 50.0]),
        );
        let predicted = predictions(&toy, &truth, &actions);
        assert_eq!(predicted.frames(), 3);
        let loss = loss(&StateLossConfig::default(), &predicted, &truth, false);
        assert!((number(&loss.total) - 0.14 / 3.0).abs() < 1e-6);
        assert!((gradient(&loss.total, &toy.coefficient) + 0.933_333).abs() < 1e-5);
    }

    #[test]
    fn the_gradient_reaches_the_proprio_encoder_through_the_target_unless_it_is_detached() {
        // Features c * p with c = 0.5 and p = 1, 3: the toy predicts that proprio stays at 0.5; the target is 1.5.
        let toy = ToyProprio::new(0.5);
        let slope = |detach: bool| {
            let truth = state(&toy, &[0.0, 0.0], &[1.0, 3.0]);
            let predicted = predictions(&toy, &truth, &Toy::new(0.0).actions(&[0.0, 0.0]));
            let loss = loss(&StateLossConfig::default(), &predicted, &truth, detach);
            assert!((number(&loss.total) - 1.0).abs() < 1e-6);
            gradient(&loss.total, &toy.encoder)
        };
        // 2 (0.5 - 1.5) (1 - 3), and without the target's 3: 2 (0.5 - 1.5) 1.
        assert!((slope(false) - 4.0).abs() < 1e-6);
        assert!((slope(true) + 2.0).abs() < 1e-6);
    }
}
