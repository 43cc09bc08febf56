//! The VICReg terms that keep a latent from collapsing (models.md section 7.3; arXiv 2105.04906).

use burn::tensor::Tensor;

/// Added to the variance under the root.
const VARIANCE_EPSILON: f64 = 1e-4;

/// Hinge on the standard deviation: `mean_d max(0, 1 - sqrt(var_d + 1e-4))`, unbiased variance.
///
/// # Shapes
/// - `latents`: `[n, D]`, `n >= 2`; output `[1]`
pub(crate) fn std_hinge(latents: Tensor<2>) -> Tensor<1> {
    hinge(unbiased_variance(latents, 0))
}

/// The same hinge on the standard deviation over the frames of each sample.
///
/// # Shapes
/// - `latents`: `[B, T, D]`, `T >= 2`; output `[1]`
pub(crate) fn std_hinge_over_time(latents: Tensor<3>) -> Tensor<1> {
    hinge(unbiased_variance(latents, 1))
}

/// Squared covariances off the diagonal: `sum_{i != j} C_ij^2 / (D (D - 1))`, `C` unbiased.
///
/// # Shapes
/// - `latents`: `[n, D]`, `n >= 2`, `D >= 2`; output `[1]`
pub(crate) fn covariance(latents: Tensor<2>) -> Tensor<1> {
    let [count, width] = latents.dims();
    let centred = latents.clone() - latents.clone().mean_dim(0);
    if count < width {
        return off_diagonal(centred.unsqueeze_dim(0));
    }
    // Written out, not as a group of one: the published weights of `pldm` depend on the order of these operations.
    let matrix = centred.clone().transpose().matmul(centred) / (count as f64 - 1.0);
    let everything = matrix.square().sum();
    let diagonal = unbiased_variance(latents, 0).square().sum();
    (everything - diagonal) / (width * (width - 1)) as f64
}

/// `mean max(0, 1 - sqrt(variance + 1e-4))` over all variances given.
pub(crate) fn hinge<const D: usize>(variances: Tensor<D>) -> Tensor<1> {
    let std = (variances + VARIANCE_EPSILON).sqrt();
    (std.neg() + 1.0).clamp_min(0.0).mean()
}

/// Unbiased variance along one dimension, which is kept with size 1.
pub(crate) fn unbiased_variance<const D: usize>(input: Tensor<D>, dimension: usize) -> Tensor<D> {
    let count = input.dims()[dimension] as f64;
    let centred = input.clone() - input.mean_dim(dimension);
    centred.square().sum_dim(dimension) / (count - 1.0)
}

/// `sum_{i != j} M_ij^2 / (D (D - 1))` with `M = X' X / (n - 1)`, mean over groups.
///
/// The diagonal is taken out by subtracting its squares, so no mask is built. Where a group has fewer rows
/// than columns, `X X'` is formed in place of `X' X`: the sum of its squares is the same, and a maze latent of
/// 10,816 numbers would need a matrix of 117 million entries (models.md section 7.3).
///
/// # Shapes
/// - `rows`: `[G, n, D]`, centred by the caller; `n >= 2`, `D >= 2`; output `[1]`
pub(crate) fn off_diagonal(rows: Tensor<3>) -> Tensor<1> {
    let [groups, count, width] = rows.dims();
    let divisor = count as f64 - 1.0;
    let turned = rows.clone().swap_dims(1, 2);
    let product = if count < width {
        rows.clone().matmul(turned)
    } else {
        turned.matmul(rows.clone())
    };
    let everything = (product / divisor).square().sum();
    let diagonal = (rows.square().sum_dim(1) / divisor).square().sum();
    (everything - diagonal) / (groups * width * (width - 1)) as f64
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};
    use safetensors::SafeTensors;

    use super::*;

    fn example(scale: f64) -> Tensor<2> {
        let rows = [[1.0, 2.0], [3.0, 0.0], [2.0, 4.0], [0.0, 2.0]];
        Tensor::<2>::from_floats(rows, &Device::flex()) * scale
    }

    fn scalar(value: Tensor<1>) -> f32 {
        value.into_scalar()
    }

    #[test]
    fn values_worked_out_by_hand() {
        // models.md section 7.3.
        assert!((scalar(covariance(example(1.0))) - 0.444_444_4).abs() < 1e-6);
        assert!(scalar(std_hinge(example(1.0))).abs() < 1e-7);
        assert!((scalar(std_hinge(example(0.1))) - 0.853_454_3).abs() < 1e-6);
    }

    #[test]
    fn few_wide_latents_have_the_covariance_of_the_full_matrix() {
        // Three rows of five columns take the short way.
        let device = Device::flex();
        let rows = [
            [1.0, 2.0, -1.0, 0.5, 0.0],
            [3.0, 0.0, 1.0, 0.25, 2.0],
            [2.0, 4.0, 0.0, -0.75, 1.0],
        ];
        let latents = Tensor::<2>::from_floats(rows, &device);
        let centred = latents.clone() - latents.clone().mean_dim(0);
        let matrix = centred.clone().transpose().matmul(centred) / 2.0;
        let matrix = matrix.into_data().try_to_vec::<f32>().unwrap();
        let off: f32 = (0..25)
            .filter(|i| i / 5 != i % 5)
            .map(|i| matrix[i].powi(2))
            .sum();
        assert!((scalar(covariance(latents)) - off / 20.0).abs() < 1e-6);
    }

    #[test]
    fn a_sample_that_stands_still_has_the_largest_hinge_over_time() {
        let device = Device::flex();
        let moving = [[0.0], [4.0], [8.0]];
        let still = [[3.0], [3.0], [3.0]];
        let latents = Tensor::<3>::from_floats([moving, still], &device);
        assert!((scalar(std_hinge_over_time(latents)) - 0.99 / 2.0).abs() < 1e-5);
    }

    #[test]
    fn constant_latents_have_the_largest_hinge_and_no_covariance() {
        let constant = Tensor::<2>::ones([5, 3], &Device::flex());
        assert!((scalar(std_hinge(constant.clone())) - 0.99).abs() < 1e-5);
        assert!(scalar(covariance(constant)).abs() < 1e-9);
    }

    #[test]
    fn values_and_gradients_equal_the_reference_classes() {
        // eb_jepa losses.py HingeStdLoss and CovarianceLoss, run by their authors' code.
        let folder = "../tests/fixtures/models/eb_jepa_losses/";
        let read = |name: &str| std::fs::read(format!("{folder}{name}")).unwrap();
        let (inputs, outputs) = (read("inputs.safetensors"), read("outputs.safetensors"));
        let inputs = SafeTensors::deserialize(&inputs).unwrap();
        let outputs = SafeTensors::deserialize(&outputs).unwrap();
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_data(data(&inputs, "vic"), &device).require_grad();
        let check = |loss: Tensor<1>, value: &str, grad: &str| {
            let close = Tolerance::<f32>::absolute(1e-6).set_relative(1e-4);
            let flat = |d: TensorData| {
                Tensor::<1>::from_data(d.try_to_vec::<f32>().unwrap().as_slice(), &Device::flex())
                    .into_data()
            };
            flat(loss.to_data()).assert_approx_eq::<f32>(&flat(data(&outputs, value)), close);
            let grads = loss.backward();
            let ours = x.grad(&grads).unwrap().into_data();
            ours.assert_approx_eq::<f32>(&data(&outputs, grad), close);
        };
        check(std_hinge(x.clone()), "hinge_std", "grad_hinge");
        check(covariance(x.clone()), "cov", "grad_cov");
    }

    fn data(file: &SafeTensors<'_>, name: &str) -> TensorData {
        let view = file.tensor(name).unwrap();
        let values: Vec<f32> = view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        TensorData::new(values, view.shape().to_vec())
    }
}
