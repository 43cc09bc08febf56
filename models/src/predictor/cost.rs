//! The planning objective over unrolled frames (evaluation.md section 2).
//!
//! ```text
//! c_t = d(goal, z_t) + weight * d(goal_proprio, proprio_t)
//! d   = mean of squared or absolute differences over all tokens and channels, or minus the cosine of the angle
//!       between the two as one vector each
//! ```
//!
//! Proprio that is spread over tokens has the mean of one of them. The reference compares it in the way it
//! compares tokens: by absolute differences under `L1`, by the angle under the cosine.

use burn::tensor::Tensor;

use super::TokenState;
use crate::world_model::{CostSpec, Distance};

/// Below this a length is taken for this, as in the reference.
const SHORTEST: f64 = 1e-8;

/// Cost of every frame of every candidate.
///
/// # Shapes
/// - `states`: `T` frames of `S` candidates; `goal`: one frame of one; output `[S, T]`
pub(crate) fn frame_costs(states: &TokenState, goal: &TokenState, spec: CostSpec) -> Tensor<2> {
    let visual = distance(states.visual.clone(), goal.visual.clone(), spec.distance);
    match (&states.proprio, &goal.proprio) {
        (Some(states), Some(goal)) if spec.proprio_weight != 0.0 => {
            let proprio = distance(states.clone(), goal.clone(), spec.distance);
            visual + proprio * spec.proprio_weight
        }
        _ => visual,
    }
}

/// # Shapes
/// - `states`: `[S, T, N, D]`; `goal`: `[1, 1, N, D]`; output `[S, T]`
fn distance(states: Tensor<4>, goal: Tensor<4>, distance: Distance) -> Tensor<2> {
    let [samples, frames, tokens, width] = states.dims();
    let states = states.reshape([samples, frames, tokens * width]);
    let goal = goal.reshape([1, 1, tokens * width]);
    let compared = match distance {
        Distance::L2 => (states - goal).square().mean_dim(2),
        Distance::L1 => (states - goal).abs().mean_dim(2),
        Distance::Cosine => {
            let length = |x: Tensor<3>| x.square().sum_dim(2).sqrt().clamp_min(SHORTEST);
            let lengths = length(states.clone()) * length(goal.clone());
            (states * goal).sum_dim(2).neg() / lengths
        }
    };
    compared.reshape([samples, frames])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::world_model::Steps;

    fn tensor(values: &[f32], shape: [usize; 4]) -> Tensor<4> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    /// One candidate, two frames of two tokens of width one, with proprio.
    fn states() -> TokenState {
        TokenState {
            visual: tensor(&[3.0, 4.0, 1.0, 0.0], [1, 2, 2, 1]),
            proprio: Some(tensor(&[2.0, 5.0], [1, 2, 1, 1])),
        }
    }

    fn goal() -> TokenState {
        TokenState {
            visual: tensor(&[1.0, 0.0], [1, 1, 2, 1]),
            proprio: Some(tensor(&[1.0], [1, 1, 1, 1])),
        }
    }

    fn costs(distance: Distance, proprio_weight: f32) -> Vec<f32> {
        let spec = CostSpec {
            distance,
            steps: Steps::Last,
            proprio_weight,
        };
        frame_costs(&states(), &goal(), spec)
            .into_data()
            .iter::<f32>()
            .collect()
    }

    #[test]
    fn costs_worked_out_by_hand() {
        // Differences (2, 4) and (0, 0); angles of cosine 0.6 and 1.
        assert_eq!(costs(Distance::L2, 0.0), [10.0, 0.0]);
        assert_eq!(costs(Distance::L1, 0.0), [3.0, 0.0]);
        let cosine = costs(Distance::Cosine, 0.0);
        assert!(
            (cosine[0] + 0.6).abs() < 1e-6 && (cosine[1] + 1.0).abs() < 1e-6,
            "{cosine:?}"
        );
    }

    #[test]
    fn proprio_adds_its_own_comparison_of_the_same_kind() {
        // Differences 1 and 4; both point the way of the goal.
        assert_eq!(costs(Distance::L2, 0.5), [10.5, 8.0]);
        assert_eq!(costs(Distance::L1, 0.5), [3.5, 2.0]);
        let cosine = costs(Distance::Cosine, 0.5);
        assert!(
            (cosine[0] + 1.1).abs() < 1e-6 && (cosine[1] + 1.5).abs() < 1e-6,
            "{cosine:?}"
        );
    }
}
