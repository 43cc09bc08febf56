//! Losses between predicted and encoded latents, and between actions.

use burn::tensor::Tensor;

/// Mean squared difference over everything.
///
/// # Shapes
/// - `predicted`, `target`: the same; output `[1]`
pub(crate) fn mean_squared<const D: usize>(predicted: Tensor<D>, target: Tensor<D>) -> Tensor<1> {
    (predicted - target).square().mean()
}

/// Mean distance, rounded near zero: `mean sqrt(mean_d (p - t)^2 + floor^2)`.
///
/// A squared error makes a model that cannot tell whether the agent passes a door or stops at its jamb
/// predict the middle; a distance makes it predict the likelier of the two. `floor` is the distance
/// below which the loss is nearly quadratic.
///
/// # Shapes
/// - `predicted`, `target`: `[.., D]`, the same; output `[1]`
pub(crate) fn mean_distance<const D: usize>(
    predicted: Tensor<D>,
    target: Tensor<D>,
    floor: f64,
) -> Tensor<1> {
    let squared = (predicted - target).square().mean_dim(D - 1);
    (squared + floor * floor).sqrt().mean()
}

/// Time similarity: mean squared change between consecutive latents (models.md section 7.4).
///
/// # Shapes
/// - `latents`: `[B, T, D]`, `T >= 2`
pub(crate) fn time_similarity(latents: Tensor<3>) -> Tensor<1> {
    let [batch, frames, _] = latents.dims();
    let later = latents.clone().slice([0..batch, 1..frames]);
    let earlier = latents.slice([0..batch, 0..frames - 1]);
    mean_squared(later, earlier)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn time_similarity_averages_over_pairs_and_dimensions() {
        let latents =
            Tensor::<3>::from_floats([[[0.0, 1.0], [2.0, 1.0], [2.0, 4.0]]], &Device::flex());
        // Changes (2, 0) and (0, 3): (4 + 0 + 0 + 9) / 4.
        let value: f32 = time_similarity(latents).into_scalar();
        assert!((value - 3.25).abs() < 1e-6);
    }

    #[test]
    fn a_distance_is_the_root_of_each_rows_mean_square() {
        let device = Device::flex();
        let predicted = Tensor::<2>::from_floats([[3.0, 4.0], [0.0, 0.0]], &device);
        let target = Tensor::<2>::zeros([2, 2], &device);
        // Rows sqrt(12.5 + 0.01) and sqrt(0.01).
        let expected = f64::midpoint(12.51f64.sqrt(), 0.1);
        let value: f32 = mean_distance(predicted, target, 0.1).into_scalar();
        assert!((f64::from(value) - expected).abs() < 1e-6);
    }

    #[test]
    fn the_gradient_of_a_distance_is_finite_where_prediction_and_target_agree() {
        let device = Device::flex().autodiff();
        let predicted = Tensor::<2>::ones([1, 3], &device).require_grad();
        let loss = mean_distance(predicted.clone(), Tensor::ones([1, 3], &device), 0.03);
        let grad = predicted
            .grad(&loss.backward())
            .unwrap()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        assert_eq!(grad, [0.0; 3]);
    }
}
