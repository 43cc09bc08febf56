//! SIGReg: latents whose projections all look standard normal cannot collapse (`LeJEPA`, models.md
//! section 7.1).
//!
//! A projection is compared with the normal distribution by their characteristic functions, at fixed
//! knots `t` with weights `w` (the Epps-Pulley statistic):
//!
//! ```text
//! distance = sum_k w_k [ (mean_n cos(t_k y_n) - phi_k)^2 + (mean_n sin(t_k y_n))^2 ],   phi_k = exp(-t_k^2 / 2)
//! ```
//!
//! SIGReg is `N` times the mean distance over random directions, so its scale grows with the batch where
//! latents are not normal. eb_jepa's variant, [`bcs`], has other knots and no factor `N`.

use burn::tensor::{Device, Tensor, TensorData};
use jepa_datasets::Stream;

/// Where characteristic functions are compared, and how much each place counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Knots {
    /// `t_k`
    points: Vec<f64>,
    /// `phi_k` times the quadrature weight.
    weights: Vec<f64>,
}

impl Knots {
    /// `count` knots on `[0, 3]`, each standing for `-t` too: 17 in `LeJEPA` and LeWM.
    pub(crate) fn half_line(count: usize) -> Self {
        Self::trapezoid(count, 0.0, 3.0, 2.0)
    }

    /// `count` knots on `[low, high]`: 10 on `[-3, 3]` in eb_jepa.
    pub(crate) fn interval(count: usize, low: f64, high: f64) -> Self {
        Self::trapezoid(count, low, high, 1.0)
    }

    fn trapezoid(count: usize, low: f64, high: f64, factor: f64) -> Self {
        assert!(count >= 2, "a trapezoid has two ends, got {count} knots");
        let step = (high - low) / (count - 1) as f64;
        let points: Vec<f64> = (0..count).map(|k| low + step * k as f64).collect();
        let weight = |(k, t): (usize, &f64)| {
            let ends = if k == 0 || k == count - 1 { 0.5 } else { 1.0 };
            ends * factor * step * normal(*t)
        };
        let weights = points.iter().enumerate().map(weight).collect();
        Self { points, weights }
    }
}

/// Characteristic function of the standard normal distribution.
fn normal(t: f64) -> f64 {
    (-t * t / 2.0).exp()
}

/// `count` random directions, `[D, count]`; their lengths are taken out by the losses.
///
/// A fresh draw every step; the stream is named `sigreg` and the step.
pub(crate) fn directions(
    seed: u64,
    step: u64,
    width: usize,
    count: usize,
    device: &Device,
) -> Tensor<2> {
    let mut stream = Stream::new(seed, &["sigreg", &step.to_string()]);
    let values: Vec<f32> = (0..width * count).map(|_| stream.normal() as f32).collect();
    Tensor::from_data(TensorData::new(values, [width, count]), device)
}

/// SIGReg, the mean over `T` groups of latents (LeWM has one group per frame).
///
/// # Shapes
/// - `latents`: `[T, N, D]`; `directions`: `[D, M]`, of any length; output `[1]`
pub(crate) fn sigreg(latents: Tensor<3>, directions: Tensor<2>, knots: &Knots) -> Tensor<1> {
    let count = latents.dims()[1] as f64;
    distances(latents, directions, knots).mean() * count
}

/// eb_jepa's variant: the mean distance, without the factor `N`.
///
/// # Shapes
/// - `latents`: `[N, D]`; `directions`: `[D, M]`; output `[1]`
pub(crate) fn bcs(latents: Tensor<2>, directions: Tensor<2>, knots: &Knots) -> Tensor<1> {
    distances(latents.unsqueeze_dim(0), directions, knots).mean()
}

/// Distance of every projection from the standard normal distribution, `[T, 1, M]`.
fn distances(latents: Tensor<3>, directions: Tensor<2>, knots: &Knots) -> Tensor<3> {
    let lengths = directions.clone().square().sum_dim(0).sqrt();
    let projected = latents.matmul((directions / lengths).unsqueeze_dim(0));
    let terms = knots.points.iter().zip(&knots.weights).map(|(t, weight)| {
        let angles = projected.clone() * *t;
        let real = angles.clone().cos().mean_dim(1) - normal(*t);
        let imaginary = angles.sin().mean_dim(1);
        (real.square() + imaginary.square()) * *weight
    });
    let zero = Tensor::zeros(
        [projected.dims()[0], 1, projected.dims()[2]],
        &projected.device(),
    );
    terms.fold(zero, |sum, term| sum + term)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(loss: Tensor<1>) -> f64 {
        f64::from(loss.into_scalar::<f32>())
    }

    #[test]
    fn values_worked_out_by_hand() {
        // models.md section 7.1.
        let device = Device::flex();
        let knots = Knots::half_line(17);
        let one = || Tensor::<2>::ones([1, 1], &device);
        let x = Tensor::<3>::from_floats([[[-1.0], [-0.5], [0.5], [1.0]]], &device);
        assert!((value(sigreg(x, one(), &knots)) - 0.061_863_1).abs() < 1e-6);
        for (count, expected) in [(4, 1.608_190_32), (128, 51.462_09)] {
            let zeros = Tensor::<3>::zeros([1, count, 1], &device);
            let ours = value(sigreg(zeros, one(), &knots));
            assert!(
                (ours - expected).abs() < 1e-5 * expected,
                "{ours} {expected}"
            );
        }
    }

    #[test]
    fn every_direction_gives_its_own_statistic_and_its_length_does_not_count() {
        let device = Device::flex();
        let x = [[[-1.0, 0.5], [-0.5, 2.0], [0.5, -1.0], [1.0, 0.0]]];
        let x = Tensor::<3>::from_floats(x, &device);
        let directions = Tensor::<2>::from_floats([[3.0, 0.0], [4.0, 0.1]], &device);
        let each = distances(x.clone(), directions.clone(), &Knots::half_line(17)) * 4.0;
        let each = each.into_data().try_to_vec::<f32>().unwrap();
        assert!(
            (each[0] - 0.316_982_2).abs() < 1e-6 && (each[1] - 0.214_214_4).abs() < 1e-6,
            "{each:?}"
        );
        let mean = value(sigreg(x, directions, &Knots::half_line(17)));
        assert!((mean - 0.265_598_33).abs() < 1e-6, "{mean}");
    }

    #[test]
    fn normal_latents_score_lower_than_uniform_and_collapsed_ones() {
        let device = Device::flex();
        let mut stream = Stream::new(1, &["test"]);
        let mut draw = |scale: f64| {
            let values: Vec<f32> = (0..4096)
                .map(|_| (scale * stream.normal()) as f32)
                .collect();
            Tensor::<2>::from_data(TensorData::new(values, [1024, 4]), &device)
        };
        let (normal, narrow) = (draw(1.0), draw(0.3));
        let knots = Knots::interval(10, -3.0, 3.0);
        let directions = directions(5, 0, 4, 32, &device);
        let score = |x: Tensor<2>| value(bcs(x, directions.clone(), &knots));
        let (normal, narrow) = (score(normal), score(narrow));
        let collapsed = score(Tensor::zeros([1024, 4], &device));
        assert!(
            normal < 0.01 && normal < narrow && narrow < collapsed,
            "{normal} {narrow} {collapsed}"
        );
    }

    #[test]
    fn a_step_has_its_own_directions_and_always_the_same() {
        let device = Device::flex();
        let data = |step| directions(7, step, 3, 5, &device).into_data();
        assert_eq!(data(1), data(1));
        assert_ne!(data(1), data(2));
    }
}
