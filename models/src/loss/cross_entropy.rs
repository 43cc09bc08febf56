//! Surprise of a classifier at what was the case.
//!
//! ```text
//! mean over rows of  log sum_b exp(x_b) - x_target
//! ```

use burn::tensor::{Int, Tensor, activation};

/// Mean cross-entropy in nats, `[1]`.
///
/// # Shapes
/// - `odds`: `[n, B]`, before the softmax; `targets`: `[n]`, below `B`
pub(crate) fn cross_entropy(odds: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let logs = activation::log_softmax(odds, 1);
    logs.gather(1, targets.unsqueeze_dim::<2>(1)).mean().neg()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    const ODDS: [[f32; 3]; 2] = [[0.5, -1.0, 2.0], [100.0, 99.0, -40.0]];
    const TARGETS: [usize; 2] = [1, 0];

    #[test]
    fn it_is_the_mean_surprise_worked_out_by_hand_and_so_is_its_slope() {
        let device = Device::flex().autodiff();
        let odds = Tensor::<2>::from_floats(ODDS, &device).require_grad();
        let targets = Tensor::<1, Int>::from_ints([1, 0], &device);
        let loss = cross_entropy(odds.clone(), targets);
        let softmax = |row: [f32; 3]| {
            let powers = row.map(|x| (f64::from(x) - f64::from(row[0])).exp());
            let sum: f64 = powers.iter().sum();
            powers.map(|power| power / sum)
        };
        let expected: f64 = (0..2)
            .map(|row| -softmax(ODDS[row])[TARGETS[row]].ln())
            .sum::<f64>()
            / 2.0;
        let found = f64::from(loss.clone().into_scalar::<f32>());
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");

        let slopes = odds.grad(&loss.backward()).unwrap().into_data();
        for (at, slope) in slopes.iter::<f32>().enumerate() {
            let (row, bin) = (at / 3, at % 3);
            let hit = if bin == TARGETS[row] { 1.0 } else { 0.0 };
            let expected = (softmax(ODDS[row])[bin] - hit) / 2.0;
            assert!(
                (f64::from(slope) - expected).abs() < 1e-6,
                "{at}: {slope} {expected}"
            );
        }
    }

    #[test]
    fn a_guess_that_knows_nothing_costs_the_logarithm_of_the_choices() {
        let device = Device::flex();
        let targets = Tensor::<1, Int>::from_ints([7, 999], &device);
        let loss = cross_entropy(Tensor::zeros([2, 1000], &device), targets);
        let expected = 1000f32.ln();
        assert!((loss.into_scalar::<f32>() - expected).abs() < 1e-5);
    }
}
