//! Exponential and normal distribution without branches, so that they vectorise.
//!
//! The polynomials are minimax fits of our own (Lawson's iteration on Chebyshev nodes, `benches/fit_polynomials.py`).
//! Every step is written as one operation, `mul_add` included, so that all machines give the same bits.
#![expect(
    clippy::inline_always,
    reason = "a kernel must be compiled into the function that enables its instructions"
)]

/// Below this the exponential is exactly 0. `exp(-64)` is 1.6e-28: nothing beside a sum that holds a 1, and far enough
/// from the denormal numbers (below 1.2e-38) that products with it are not denormal; those make everything after them
/// several times slower (burn.md section 3).
const FLOOR: f32 = -64.0;

/// Adding it rounds to a whole number, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;

/// ln 2 in two parts, the first with so few bits that its multiples are exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// `(exp(r) - 1 - r) / r^2` on `|r| <= ln 2 / 2`, relative error of the exponential 3e-9.
const EXPONENTIAL: [f32; 5] = [
    0.499_999_94,
    0.166_665_21,
    0.041_668_39,
    0.008_368_745,
    0.001_381_454,
];

/// `exp(x)` for `x <= 0`, relative error below 1e-7; 0 below -64; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp_of_negative(x: f32) -> f32 {
    let bounded = if x < FLOOR { FLOOR } else { x };
    let rounded = bounded.mul_add(std::f32::consts::LOG2_E, ROUND);
    let power = rounded - ROUND;
    let r = power.mul_add(-LN_2[1], power.mul_add(-LN_2[0], bounded));
    let series = polynomial(&EXPONENTIAL, r);
    let fraction = series.mul_add(r * r, r) + 1.0;
    // The whole number in the low bits of `rounded`, moved to the exponent of 1.0.
    let scale = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    if x < FLOOR { 0.0 } else { fraction * scale }
}

/// Horner's scheme; the coefficient of the highest power is last.
#[inline(always)]
fn polynomial<const N: usize>(coefficients: &[f32; N], x: f32) -> f32 {
    let mut value = coefficients[N - 1];
    for i in (0..N - 1).rev() {
        value = value.mul_add(x, coefficients[i]);
    }
    value
}

/// Beyond this the tail of the normal distribution is 0 here (it is below 1e-29).
const FAR: f32 = 11.5;

/// `(a + 3) exp(a^2 / 2) (1 - Phi(a))` in `u = (a - 3) / (a + 3)` on `0 <= a <= 11.6`, relative error 2.5e-8.
const TAIL: [f32; 9] = [
    0.729_083_66,
    -0.509_332_1,
    0.230_018_93,
    -0.047_259_726,
    -0.010_477_469,
    0.006_943_150_4,
    0.001_078_633_5,
    -0.000_933_609,
    -0.000_286_029_15,
];

/// `1 / sqrt(2 pi)`.
const DENSITY_AT_ZERO: f32 = 0.398_942_3;

/// GELU of `x` and its derivative.
///
/// ```text
/// gelu(x) = x Phi(x) = max(x, 0) - |x| (1 - Phi(|x|))        Phi: distribution of the normal numbers
/// ```
///
/// The second form has no cancellation: the error is below 1e-7 of the larger of `|x|` and 1, and below 5e-7 of the
/// value itself down to -11.3, where the value is 1e-28 and becomes 0. NaN stays NaN; the limits at infinity are given.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> (f32, f32) {
    let size = x.abs();
    let a = if size > FAR { FAR } else { size };
    let t = 1.0 / (a + 3.0);
    let series = polynomial(&TAIL, t.mul_add(-6.0, 1.0));
    // The square in two parts: its rounding would be multiplied by up to 64 in the exponential.
    let square = a * a;
    let lost = a.mul_add(a, -square);
    let rough = exp_of_negative(square * -0.5);
    let bell = (rough * -0.5).mul_add(lost, rough);
    let tail = t * bell * series;
    let positive = if x > 0.0 { x } else { 0.0 };
    let value = (-a).mul_add(tail, positive);
    let below = (-a).mul_add(bell * DENSITY_AT_ZERO, tail);
    let derivative = if x > 0.0 { 1.0 - below } else { below };
    (value, derivative)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 41st number of the range, as its bits count.
    fn grid(limit: f32) -> impl Iterator<Item = f32> {
        (0..=limit.to_bits()).step_by(4_001).map(f32::from_bits)
    }

    #[test]
    fn exponentials_are_exact_to_a_tenth_of_a_millionth() {
        let mut worst = 0.0f64;
        for x in grid(64.0) {
            let exact = libm::exp(-f64::from(x));
            worst = worst.max((f64::from(exp_of_negative(-x)) - exact).abs() / exact);
        }
        assert!(worst < 1e-7, "{worst}");
    }

    #[test]
    fn exponentials_end_in_exact_zero_and_keep_nan() {
        assert_eq!(exp_of_negative(0.0).to_bits(), 1.0f32.to_bits());
        for x in [-64.001, -88.0, -1e30, f32::NEG_INFINITY] {
            assert_eq!(exp_of_negative(x).to_bits(), 0, "{x}");
        }
        assert!(exp_of_negative(-64.0) > 1e-28);
        assert!(exp_of_negative(f32::NAN).is_nan());
    }

    /// `(gelu, derivative)` in double precision.
    fn exact(x: f64) -> (f64, f64) {
        let below = 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
        let density = libm::exp(-0.5 * x * x) / (2.0 * std::f64::consts::PI).sqrt();
        (x * below, x.mul_add(density, below))
    }

    #[test]
    fn gelu_is_exact_to_the_stated_error_over_its_whole_range() {
        let (mut of_size, mut of_value, mut of_derivative) = (0.0f64, 0.0f64, 0.0f64);
        for size in grid(40.0) {
            for x in [size, -size] {
                let (value, derivative) = gelu(x);
                let (expected, slope) = exact(f64::from(x));
                let error = (f64::from(value) - expected).abs();
                of_size = of_size.max(error / f64::from(size).max(1.0));
                if expected.abs() > 1e-27 {
                    of_value = of_value.max(error / expected.abs());
                }
                of_derivative = of_derivative.max((f64::from(derivative) - slope).abs());
            }
        }
        assert!(of_size < 1e-7, "{of_size}");
        assert!(of_value < 5e-7, "{of_value}");
        // Half a unit in the last place of a derivative between 1 and 1.13 is 6e-8; there are three roundings.
        assert!(of_derivative < 2e-7, "{of_derivative}");
    }

    #[test]
    fn gelu_has_its_limits_at_infinity_and_keeps_nan() {
        assert_eq!(gelu(f32::INFINITY), (f32::INFINITY, 1.0));
        assert_eq!(gelu(f32::MAX), (f32::MAX, 1.0));
        for x in [f32::NEG_INFINITY, f32::MIN, -12.0] {
            assert_eq!(gelu(x), (0.0, 0.0), "{x}");
        }
        assert_eq!(gelu(0.0), (0.0, 0.5));
        let (value, derivative) = gelu(f32::NAN);
        assert!(value.is_nan() && derivative.is_nan());
    }
}
