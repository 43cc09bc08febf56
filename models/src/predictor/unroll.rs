//! Predicting many steps under given actions, feeding predictions back (models.md section 2.6).
//!
//! ```text
//! frames:   z_0 .. z_{tau-1}     given, with the tau - 1 actions between them
//! step h:   predict from the last `window` frames and their actions; its last slot is the next frame
//! ```
//!
//! The reference code gives no past actions and so is right for one frame of context only; here they are
//! asked for.

use burn::tensor::{Tensor, TensorData};
use jepa_datasets::pose::{Pose, compose};

use super::{TokenModel, TokenState};
use crate::{Error, Result};

/// Numbers of a pose: position, Euler angles, gripper.
const POSE: usize = 7;

/// Where the proprio of predicted frames comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProprioStep {
    /// The model predicts it.
    Predicted,
    /// It is integrated from the actions, which are changes of pose in its units. Carries no gradient.
    Integrated,
}

/// How to unroll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unroll {
    /// Frames that the predictor sees at most.
    pub window: usize,
    pub proprio: ProprioStep,
}

impl Default for Unroll {
    fn default() -> Self {
        Self {
            window: 2,
            proprio: ProprioStep::Predicted,
        }
    }
}

impl Unroll {
    /// The context and then one predicted frame per action, `tau + H` frames.
    ///
    /// # Shapes
    /// - `context`: `tau` frames; `past`: the actions between them, `[B, tau - 1, A]`, `None` for one frame
    /// - `actions`: `[B, H, A]`, normalised
    ///
    /// # Errors
    /// [`Error::Shape`] when the past actions do not fit the context, the window is empty, or the predicted
    /// proprio is not what the predictor takes.
    pub(crate) fn run(
        self,
        model: &impl TokenModel,
        context: &TokenState,
        past: Option<&Tensor<3>>,
        actions: Tensor<3>,
    ) -> Result<TokenState> {
        let known = context.frames();
        let given = past.map_or(0, |past| past.dims()[1]);
        if given + 1 != known || self.window == 0 {
            return Err(Error::Shape {
                what: "past actions of an unroll",
                expected: format!(
                    "{} for {known} frames, a window above 0",
                    known.saturating_sub(1)
                ),
                actual: format!("{given}, a window of {}", self.window),
            });
        }
        let horizon = actions.dims()[1];
        let actions = match past {
            Some(past) => Tensor::cat(vec![past.clone(), actions], 1),
            None => actions,
        };
        let mut frames: Vec<TokenState> = (0..known).map(|t| context.slice(t, t + 1)).collect();
        for last in known - 1..known - 1 + horizon {
            let first = (last + 1).saturating_sub(self.window);
            let seen = TokenState::concat(&frames[first..]);
            let acts = actions.clone().slice_dim(1, first..last + 1);
            let next = self.next(model, seen, acts)?;
            frames.push(next);
        }
        Ok(TokenState::concat(&frames))
    }

    /// The frame after the last one seen.
    fn next(
        self,
        model: &impl TokenModel,
        seen: TokenState,
        actions: Tensor<3>,
    ) -> Result<TokenState> {
        let frames = seen.frames();
        let before = seen.slice(frames - 1, frames).proprio;
        let action = actions.clone().slice_dim(1, frames - 1..frames);
        let predicted = model.predict(seen, actions).slice(frames - 1, frames);
        let proprio = match self.proprio {
            ProprioStep::Predicted => predicted.proprio,
            ProprioStep::Integrated => before
                .clone()
                .map(|pose| integrate(pose, action))
                .transpose()?,
        };
        let width = |proprio: &Option<Tensor<4>>| proprio.as_ref().map_or(0, |p| p.dims()[3]);
        if width(&proprio) != width(&before) {
            return Err(Error::Shape {
                what: "predicted proprio, to be fed back",
                expected: format!("width {}", width(&before)),
                actual: format!("width {}", width(&proprio)),
            });
        }
        Ok(TokenState {
            visual: predicted.visual,
            proprio,
        })
    }
}

/// Poses after a step: positions added, rotations composed, the gripper added and kept in 0 to 1 (datasets.md
/// section 9.6). What stands behind the pose stays.
///
/// # Shapes
/// - `poses`: `[B, 1, 1, P]`, `P >= 7`; `steps`: `[B, 1, A]`, `A >= 7`; output as `poses`
fn integrate(poses: Tensor<4>, steps: Tensor<3>) -> Result<Tensor<4>> {
    let (dims, device) = (poses.dims(), poses.device());
    let (width, action) = (dims[3], steps.dims()[2]);
    if width < POSE || action != POSE || dims[2] != 1 {
        return Err(Error::Shape {
            what: "poses to be integrated",
            expected: format!("one pose and one action of {POSE} numbers per frame"),
            actual: format!("{} rows of {width} numbers, actions of {action}", dims[2]),
        });
    }
    let mut values: Vec<f32> = poses.into_data().iter::<f32>().collect();
    let steps: Vec<f32> = steps.into_data().iter::<f32>().collect();
    for (pose, step) in values.chunks_exact_mut(width).zip(steps.chunks_exact(POSE)) {
        let wide = |numbers: &[f32]| -> Pose { std::array::from_fn(|i| f64::from(numbers[i])) };
        let moved = compose(&wide(pose), &wide(step));
        for (number, moved) in pose.iter_mut().zip(moved) {
            *number = moved as f32;
        }
    }
    Ok(Tensor::from_data(TensorData::new(values, dims), &device))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Next visual = visual + 0.9 of the first number of the action, plus a hundredth of the number of frames
    /// seen; proprio is kept.
    struct Toy;

    impl TokenModel for Toy {
        fn embed_proprio(&self, proprio: Tensor<3>) -> Option<Tensor<4>> {
            Some(proprio.unsqueeze_dim(2))
        }

        fn predict(&self, state: TokenState, actions: Tensor<3>) -> TokenState {
            let seen = state.frames() as f64;
            let first = actions.slice_dim(2, 0..1).unsqueeze_dim::<4>(2);
            TokenState {
                visual: state.visual + first * 0.9 + seen / 100.0,
                proprio: state.proprio,
            }
        }
    }

    fn tensor<const D: usize>(values: &[f32], shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    fn unroll(
        context: &[f32],
        past: Option<&[f32]>,
        actions: &[f32],
        window: usize,
    ) -> Result<Vec<f32>> {
        let state = TokenState {
            visual: tensor(context, [1, context.len(), 1, 1]),
            proprio: None,
        };
        let unroll = Unroll {
            window,
            ..Unroll::default()
        };
        let past = past.map(|past| tensor(past, [1, past.len(), 1]));
        let all = unroll.run(
            &Toy,
            &state,
            past.as_ref(),
            tensor(actions, [1, actions.len(), 1]),
        )?;
        Ok(all.visual.into_data().iter::<f32>().collect())
    }

    #[track_caller]
    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn every_step_sees_no_more_than_the_window_and_its_own_action() {
        // 0 + 0.9 + 0.01; then two frames: + 1.8 + 0.02; then still two: + 2.7 + 0.02.
        let found = unroll(&[0.0], None, &[1.0, 2.0, 3.0], 2).unwrap();
        close(&found, &[0.0, 0.91, 2.73, 5.45]);
        let found = unroll(&[0.0], None, &[1.0, 2.0, 3.0], 3).unwrap();
        close(&found, &[0.0, 0.91, 2.73, 5.46]);
    }

    #[test]
    fn a_longer_context_needs_the_actions_inside_it() {
        let found = unroll(&[5.0, 7.0], Some(&[1.0]), &[2.0], 2).unwrap();
        close(&found, &[5.0, 7.0, 8.82]);
        assert!(unroll(&[5.0, 7.0], None, &[2.0], 2).is_err());
        assert!(unroll(&[5.0], Some(&[1.0]), &[2.0], 2).is_err());
        assert!(unroll(&[5.0], None, &[2.0], 0).is_err());
    }

    #[test]
    fn integrated_poses_follow_the_actions_and_not_the_model() {
        let state = TokenState {
            visual: tensor(&[0.0], [1, 1, 1, 1]),
            proprio: Some(tensor(
                &[0.1, 0.2, 0.3, 3.0, 0.1, -1.9, 0.6, 42.0],
                [1, 1, 1, 8],
            )),
        };
        let step = [
            1.0,
            0.0,
            -1.0,
            -0.106_037_78,
            -0.157_193_12,
            0.044_590_574,
            0.5,
        ];
        let unroll = Unroll {
            proprio: ProprioStep::Integrated,
            ..Unroll::default()
        };
        let all = unroll
            .run(&Toy, &state, None, tensor(&step, [1, 1, 7]))
            .unwrap();
        let poses: Vec<f32> = all.proprio.unwrap().into_data().iter::<f32>().collect();
        // datasets.md section 17; the eighth number is no part of the pose.
        close(&poses[8..], &[1.1, 0.2, -0.7, -3.1, 0.05, -1.85, 1.0, 42.0]);
    }
}
