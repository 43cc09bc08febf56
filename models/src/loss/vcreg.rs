//! Variance and covariance of slices, per frame and over time, as stable-worldmodel has them (models.md
//! section 7.3, arXiv 2105.04906).
//!
//! Latents first lose their mean over the batch, frame by frame. The parts over a batch then look at the
//! samples of one frame, those over time at the frames of one sample; the latter do not subtract the mean
//! of a sample, except inside a variance.

use burn::tensor::Tensor;

use super::variance_covariance::{hinge, off_diagonal, unbiased_variance};

/// The four parts, unweighted, each `[1]`.
pub(crate) struct VcReg {
    /// Hinge on the standard deviation over the batch, mean over frames and dimensions.
    pub std: Tensor<1>,
    /// The same over the frames of a sample.
    pub std_time: Tensor<1>,
    /// Squared covariances over the batch, mean over frames.
    pub covariance: Tensor<1>,
    /// The same over the frames of a sample, mean over samples.
    pub covariance_time: Tensor<1>,
}

impl VcReg {
    /// # Shapes
    /// - `latents`: `[B, T, D]`, `B >= 2`, `T >= 2`, `D >= 2`
    pub(crate) fn new(latents: Tensor<3>) -> Self {
        let centred = latents.clone() - latents.mean_dim(0);
        Self {
            std: hinge(unbiased_variance(centred.clone(), 0)),
            std_time: hinge(unbiased_variance(centred.clone(), 1)),
            covariance: off_diagonal(centred.clone().swap_dims(0, 1)),
            covariance_time: off_diagonal(centred),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn the_mean_over_the_batch_does_not_count_and_that_over_time_does() {
        let device = Device::flex();
        let latents = Tensor::<3>::from_floats(
            [[[1.0, 2.0], [0.0, 1.0]], [[3.0, -2.0], [1.0, 0.5]]],
            &device,
        );
        let shift = Tensor::<3>::from_floats([[[5.0, -1.0], [2.0, 7.0]]], &device);
        let parts = |x: Tensor<3>| {
            let parts = VcReg::new(x);
            [
                parts.std,
                parts.std_time,
                parts.covariance,
                parts.covariance_time,
            ]
            .map(|part| part.into_scalar::<f32>())
        };
        let (plain, shifted) = (parts(latents.clone()), parts(latents.clone() + shift));
        for (a, b) in plain.iter().zip(shifted) {
            assert!((a - b).abs() < 1e-5, "{plain:?} {shifted:?}");
        }
        // Frame 0 centred: (-1, 2), (1, -2): covariance -4; frame 1: (-0.5, 0.25), (0.5, -0.25): -0.25.
        // Two dimensions, so the sum of squares off the diagonal counts twice and is divided by two.
        assert!((plain[2] - 8.03125).abs() < 1e-5, "{plain:?}");
        // Sample 0 over time, not centred again: (-1) 2 + (-0.5) 0.25 = -2.125; sample 1 the same.
        assert!((plain[3] - 2.125 * 2.125).abs() < 1e-5, "{plain:?}");
    }
}
