//! A linear probe from latents to proprio, fitted by least squares.

/// Added to the diagonal of the normal equations, as a share of its mean.
const RIDGE: f64 = 1e-6;

/// `proprio = weights * [latent, 1]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LinearProbe {
    /// `[D + 1, P]`
    weights: Vec<f64>,
    latent: usize,
    outputs: usize,
}

impl LinearProbe {
    /// Fits rows of `latents` `[n, D]` to rows of `targets` `[n, P]`.
    ///
    /// `None` when there are no rows or the equations cannot be solved (values that are not finite).
    pub(crate) fn fit(
        latents: &[f32],
        latent: usize,
        targets: &[f32],
        outputs: usize,
    ) -> Option<Self> {
        let rows = latents
            .chunks_exact(latent)
            .zip(targets.chunks_exact(outputs));
        let side = latent + 1;
        let mut gram = vec![0.0; side * side];
        let mut moments = vec![0.0; side * outputs];
        let mut count = 0;
        for (x, y) in rows {
            count += 1;
            let x: Vec<f64> = x.iter().map(|v| f64::from(*v)).chain([1.0]).collect();
            for (i, xi) in x.iter().enumerate() {
                for (j, xj) in x.iter().enumerate() {
                    gram[i * side + j] += xi * xj;
                }
                for (k, yk) in y.iter().enumerate() {
                    moments[i * outputs + k] += xi * f64::from(*yk);
                }
            }
        }
        if count == 0 {
            return None;
        }
        let mean_diagonal = (0..side).map(|i| gram[i * side + i]).sum::<f64>() / side as f64;
        for i in 0..side {
            gram[i * side + i] += RIDGE * mean_diagonal;
        }
        let weights = solve_cholesky(gram, moments, side, outputs)?;
        Some(Self {
            weights,
            latent,
            outputs,
        })
    }

    /// Mean absolute error on rows of `latents` against rows of `targets`; `None` when empty.
    pub(crate) fn mean_absolute_error(&self, latents: &[f32], targets: &[f32]) -> Option<f64> {
        let mut sum = 0.0;
        let mut count = 0;
        for (x, y) in latents
            .chunks_exact(self.latent)
            .zip(targets.chunks_exact(self.outputs))
        {
            for (k, target) in y.iter().enumerate() {
                let linear = x
                    .iter()
                    .enumerate()
                    .map(|(i, v)| f64::from(*v) * self.weights[i * self.outputs + k]);
                let predicted = linear.sum::<f64>() + self.weights[self.latent * self.outputs + k];
                sum += (predicted - f64::from(*target)).abs();
                count += 1;
            }
        }
        (count > 0).then(|| sum / f64::from(count))
    }
}

/// Solves `A X = B` for symmetric positive definite `A` `[n, n]` and `B` `[n, m]`.
fn solve_cholesky(mut a: Vec<f64>, mut b: Vec<f64>, n: usize, m: usize) -> Option<Vec<f64>> {
    for i in 0..n {
        for j in 0..=i {
            let below: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let value = a[i * n + j] - below;
            if i == j {
                if !(value.is_finite() && value > 0.0) {
                    return None;
                }
                a[i * n + i] = value.sqrt();
            } else {
                a[i * n + j] = value / a[j * n + j];
            }
        }
    }
    for column in 0..m {
        for i in 0..n {
            let below: f64 = (0..i).map(|k| a[i * n + k] * b[k * m + column]).sum();
            b[i * m + column] = (b[i * m + column] - below) / a[i * n + i];
        }
        for i in (0..n).rev() {
            let above: f64 = (i + 1..n).map(|k| a[k * n + i] * b[k * m + column]).sum();
            b[i * m + column] = (b[i * m + column] - above) / a[i * n + i];
        }
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_relation_is_recovered() {
        let latents: Vec<f32> = (0..60)
            .map(|i| ((i * 7919) % 101) as f32 / 50.0 - 1.0)
            .collect();
        let targets: Vec<f32> = latents
            .chunks(3)
            .flat_map(|x| [2.0 * x[0] - x[2] + 5.0, x[1] + 1.0])
            .collect();
        let probe = LinearProbe::fit(&latents, 3, &targets, 2).unwrap();
        assert!(probe.mean_absolute_error(&latents, &targets).unwrap() < 1e-4);
        let off: Vec<f32> = targets.iter().map(|t| t + 1.0).collect();
        assert!((probe.mean_absolute_error(&latents, &off).unwrap() - 1.0).abs() < 1e-4);
    }

    #[test]
    fn nothing_to_fit_gives_no_probe() {
        assert!(LinearProbe::fit(&[], 3, &[], 2).is_none());
        assert!(LinearProbe::fit(&[f32::NAN, 1.0], 2, &[0.0], 1).is_none());
    }
}
