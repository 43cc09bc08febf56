//! How far two pictures are apart, without weights of any kind: MSE, PSNR and SSIM.
//!
//! Pure functions in `f64`. Pictures are channels of rows, `[C, h, w]`; `None` is a comparison that means nothing.

use std::fmt;

use serde::Serialize;

/// Side of SSIM's window and standard deviation of its weights.
const WINDOW: usize = 11;
const WINDOW_STD: f64 = 1.5;

/// A picture in memory, channel after channel.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// Values, `[C, height, width]`.
    pub values: &'a [f32],
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Mean of the squared differences.
///
/// `None` for pictures of different or no size.
pub fn mse(ours: &[f32], theirs: &[f32]) -> Option<f64> {
    if ours.len() != theirs.len() || ours.is_empty() {
        return None;
    }
    let squares = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    Some(squares.sum::<f64>() / ours.len() as f64)
}

/// Peak signal-to-noise ratio in decibels, `10 log10(range^2 / mse)`; infinite for equal pictures.
///
/// `range` is the difference of white and black. `None` for pictures of different or no size, or a range that is not
/// positive.
pub fn psnr(ours: &[f32], theirs: &[f32], range: f64) -> Option<f64> {
    let error = mse(ours, theirs)?;
    (range > 0.0).then(|| 10.0 * libm::log10(range * range / error))
}

/// Structural similarity, `(-1, 1]`, the mean over channels and windows (Wang et al. 2004): windows of 11 x 11 with
/// Gaussian weights of 1.5 that lie wholly inside, variances divided by the weights' sum, `K1` 0.01 and `K2` 0.03.
///
/// `None` for pictures of different sizes, smaller than a window, or a range that is not positive.
pub fn ssim(ours: Picture<'_>, theirs: Picture<'_>, range: f64) -> Option<f64> {
    let plane = ours.height * ours.width;
    let same = (ours.height, ours.width, ours.values.len())
        == (theirs.height, theirs.width, theirs.values.len());
    let whole = plane > 0 && !ours.values.is_empty() && ours.values.len().is_multiple_of(plane);
    let large = ours.height >= WINDOW && ours.width >= WINDOW;
    if !(same && whole && large && range > 0.0) {
        return None;
    }
    let weights = gaussian();
    let channels = ours
        .values
        .chunks_exact(plane)
        .zip(theirs.values.chunks_exact(plane));
    let means = channels.map(|(a, b)| channel_ssim(a, b, ours.width, &weights, range));
    let count = ours.values.len() / plane;
    Some(means.sum::<f64>() / count as f64)
}

/// Weights of one side of the window; they sum to 1.
fn gaussian() -> [f64; WINDOW] {
    let centre = (WINDOW / 2) as f64;
    let mut weights = [0.0; WINDOW];
    for (i, weight) in weights.iter_mut().enumerate() {
        let z = (i as f64 - centre) / WINDOW_STD;
        *weight = libm::exp(-0.5 * z * z);
    }
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}

fn channel_ssim(a: &[f32], b: &[f32], width: usize, weights: &[f64; WINDOW], range: f64) -> f64 {
    let product = |x: &[f32], y: &[f32]| -> Vec<f64> {
        x.iter()
            .zip(y)
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .collect()
    };
    let plain = |x: &[f32]| -> Vec<f64> { x.iter().map(|x| f64::from(*x)).collect() };
    let windowed = |values: Vec<f64>| window_means(&values, width, weights);
    let (mean_a, mean_b) = (windowed(plain(a)), windowed(plain(b)));
    let (square_a, square_b, cross) = (
        windowed(product(a, a)),
        windowed(product(b, b)),
        windowed(product(a, b)),
    );
    let (c1, c2) = ((0.01 * range).powi(2), (0.03 * range).powi(2));
    let total: f64 = (0..mean_a.len())
        .map(|i| {
            let (ma, mb) = (mean_a[i], mean_b[i]);
            let (va, vb) = (square_a[i] - ma * ma, square_b[i] - mb * mb);
            let covariance = cross[i] - ma * mb;
            (2.0 * ma * mb + c1) * (2.0 * covariance + c2)
                / ((ma * ma + mb * mb + c1) * (va + vb + c2))
        })
        .sum();
    total / mean_a.len() as f64
}

/// Weighted means over every window that lies inside, first along the rows, then down the columns.
fn window_means(values: &[f64], width: usize, weights: &[f64; WINDOW]) -> Vec<f64> {
    let across: Vec<f64> = values
        .chunks_exact(width)
        .flat_map(|row| row.windows(WINDOW))
        .map(|window| window.iter().zip(weights).map(|(v, w)| v * w).sum())
        .collect();
    let columns = width - WINDOW + 1;
    let rows = across.len() / columns - WINDOW + 1;
    (0..rows * columns)
        .map(|place| {
            let down = (0..WINDOW).map(|i| across[place + i * columns] * weights[i]);
            down.sum()
        })
        .collect()
}

/// What is said of a decoded picture; [`fmt::Display`] marks what could not be measured as "n/a".
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Scores {
    /// [`mse`].
    pub mse: Option<f64>,
    /// [`psnr`].
    pub psnr: Option<f64>,
    /// [`ssim`].
    pub ssim: Option<f64>,
    /// LPIPS; needs weights that cannot be shipped ([`super::lpips`]).
    pub lpips: Option<f64>,
}

impl Scores {
    /// All that needs no weights.
    pub fn new(ours: Picture<'_>, theirs: Picture<'_>, range: f64) -> Self {
        Self {
            mse: mse(ours.values, theirs.values),
            psnr: psnr(ours.values, theirs.values, range),
            ssim: ssim(ours, theirs, range),
            lpips: None,
        }
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "n/a".to_string(), |value| format!("{value:.digits$}"))
        };
        let lpips = match self.lpips {
            Some(value) => format!("{value:.4}"),
            None => {
                "n/a (needs the weights `vgg16` and `lpips_vgg`: `jepa-bench weights list`)".into()
            }
        };
        write!(
            out,
            "MSE {}, PSNR {} dB, SSIM {}, LPIPS {lpips}",
            number(self.mse, 6),
            number(self.psnr, 2),
            number(self.ssim, 4)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(values: &[f32], width: usize) -> Picture<'_> {
        Picture {
            values,
            height: values.len() / width,
            width,
        }
    }

    fn close(value: Option<f64>, expected: f64) {
        let value = value.unwrap();
        assert!(
            (value - expected).abs() < 1e-9 * expected.abs().max(1.0),
            "{value} {expected}"
        );
    }

    #[test]
    fn values_worked_out_by_hand() {
        // Differences 1, 0, -2, 1: mean square 6/4; 10 log10(255^2 / 1.5) = 46.3699..
        let (a, b) = ([1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 5.0, 3.0]);
        close(mse(&a, &b), 1.5);
        close(psnr(&a, &b, 255.0), 10.0 * (65_025.0_f64 / 1.5).log10());
        close(
            psnr(&[0.0], &[0.1], 1.0),
            -20.0 * f64::from(0.1_f32).log10(),
        );
    }

    #[test]
    fn flat_pictures_differ_by_their_means_only() {
        let (a, b) = (vec![0.25_f32; 12 * 13], vec![0.5_f32; 12 * 13]);
        // (2 m n + c1) / (m^2 + n^2 + c1): the variances are 0.
        let expected = (2.0 * 0.125 + 1e-4) / (0.0625 + 0.25 + 1e-4);
        close(ssim(picture(&a, 13), picture(&b, 13), 1.0), expected);
    }

    #[test]
    fn a_single_window_is_the_formula_itself() {
        let a: Vec<f32> = (0..121).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
        let b: Vec<f32> = (0..121).map(|i| (i * 53 % 97) as f32 / 97.0).collect();
        let weight = |i: usize| {
            let z = |k: usize| (k as f64 - 5.0) / 1.5;
            (-0.5 * (z(i / 11).powi(2) + z(i % 11).powi(2))).exp()
        };
        let total: f64 = (0..121).map(weight).sum();
        let mean =
            |f: &dyn Fn(usize) -> f64| (0..121).map(|i| weight(i) * f(i)).sum::<f64>() / total;
        let (x, y) = (|i: usize| f64::from(a[i]), |i: usize| f64::from(b[i]));
        let (ma, mb) = (mean(&x), mean(&y));
        let va = mean(&|i| (x(i) - ma).powi(2));
        let vb = mean(&|i| (y(i) - mb).powi(2));
        let cov = mean(&|i| (x(i) - ma) * (y(i) - mb));
        let expected = (2.0 * ma * mb + 1e-4) * (2.0 * cov + 9e-4)
            / ((ma * ma + mb * mb + 1e-4) * (va + vb + 9e-4));
        close(ssim(picture(&a, 11), picture(&b, 11), 1.0), expected);
    }

    #[test]
    fn equal_pictures_are_perfect_and_inverted_ones_are_not_alike() {
        let a: Vec<f32> = (0..3 * 15 * 12)
            .map(|i| (i * 37 % 101) as f32 / 101.0)
            .collect();
        let inverted: Vec<f32> = a.iter().map(|v| 1.0 - v).collect();
        let whole = |values| Picture {
            values,
            height: 15,
            width: 12,
        };
        close(ssim(whole(&a), whole(&a), 1.0), 1.0);
        close(mse(&a, &a), 0.0);
        assert_eq!(psnr(&a, &a, 1.0), Some(f64::INFINITY));
        let there = ssim(whole(&a), whole(&inverted), 1.0).unwrap();
        assert!((-1.0..0.0).contains(&there), "{there}");
        assert_eq!(ssim(whole(&inverted), whole(&a), 1.0), Some(there));
    }

    #[test]
    fn comparisons_that_mean_nothing_are_undefined() {
        assert_eq!(mse(&[], &[]), None);
        assert_eq!(mse(&[1.0], &[1.0, 2.0]), None);
        assert_eq!(psnr(&[1.0], &[0.0], 0.0), None);
        let small = vec![0.0_f32; 10 * 20];
        assert_eq!(ssim(picture(&small, 20), picture(&small, 20), 1.0), None);
        let large = vec![0.0_f32; 20 * 20];
        assert_eq!(ssim(picture(&large, 20), picture(&small, 20), 1.0), None);
        assert_eq!(ssim(picture(&large, 20), picture(&large, 20), 0.0), None);
    }

    #[test]
    fn what_was_not_measured_is_said_to_be_so() {
        let values = vec![0.5_f32; 11 * 11];
        let mut scores = Scores::new(picture(&values, 11), picture(&values, 11), 1.0);
        let text = scores.to_string();
        assert!(
            text.starts_with("MSE 0.000000, PSNR inf dB, SSIM 1.0000, LPIPS n/a (needs"),
            "{text}"
        );
        scores.lpips = Some(0.25);
        assert!(scores.to_string().ends_with("LPIPS 0.2500"));
    }
}
