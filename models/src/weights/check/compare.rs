//! Comparing our numbers with those of the reference.

use serde::Serialize;

/// How far a number may be off: `|ours - expected| <= absolute + relative |expected|`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerance {
    /// Part that is the same for all numbers.
    pub absolute: f64,
    /// Part in proportion to the expected number.
    pub relative: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            absolute: 1e-4,
            relative: 1e-4,
        }
    }
}

/// One array compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Name of the output, loss or gradient.
    pub name: String,
    /// Numbers compared.
    pub values: usize,
    /// Largest absolute difference; infinite when a number is not one, or the counts differ.
    pub max_absolute: f64,
    /// Largest difference in proportion to the expected number, over numbers above 1e-6.
    pub max_relative: f64,
    /// What was allowed, in words.
    pub allowed: String,
    /// Whether it is within what is allowed.
    pub passed: bool,
}

/// Every number within the tolerance.
pub fn compare(name: &str, ours: &[f32], expected: &[f32], tolerance: Tolerance) -> Comparison {
    let allowed = format!(
        "{:e} + {:e} |expected|",
        tolerance.absolute, tolerance.relative
    );
    measure(name, ours, expected, allowed, |difference, expected| {
        difference <= tolerance.absolute + tolerance.relative * expected.abs()
    })
}

/// Every number within `relative` of the largest expected one, as gradients are compared.
pub fn compare_to_largest(
    name: &str,
    ours: &[f32],
    expected: &[f32],
    tolerance: Tolerance,
    largest: f64,
) -> Comparison {
    let allowed = format!(
        "{:e} + {:e} of the largest, {largest:e}",
        tolerance.absolute, tolerance.relative
    );
    let limit = tolerance.absolute + tolerance.relative * largest;
    measure(name, ours, expected, allowed, |difference, _| {
        difference <= limit
    })
}

/// One number, relative to itself.
pub fn compare_number(name: &str, ours: f64, expected: f64, relative: f64) -> Comparison {
    let difference = (ours - expected).abs();
    Comparison {
        name: name.to_string(),
        values: 1,
        max_absolute: difference,
        max_relative: difference / expected.abs().max(f64::MIN_POSITIVE),
        allowed: format!("{relative:e} |expected|"),
        passed: difference <= relative * expected.abs().max(1e-12),
    }
}

fn measure(
    name: &str,
    ours: &[f32],
    expected: &[f32],
    allowed: String,
    within: impl Fn(f64, f64) -> bool,
) -> Comparison {
    let mut compared = Comparison {
        name: name.to_string(),
        values: expected.len(),
        max_absolute: 0.0,
        max_relative: 0.0,
        allowed,
        passed: true,
    };
    if ours.len() != expected.len() || expected.is_empty() {
        compared.max_absolute = f64::INFINITY;
        compared.max_relative = f64::INFINITY;
        compared.allowed = format!("{} numbers, got {}", expected.len(), ours.len());
        compared.passed = false;
        return compared;
    }
    for (ours, expected) in ours.iter().zip(expected) {
        let expected = f64::from(*expected);
        let difference = (f64::from(*ours) - expected).abs();
        let difference = if difference.is_finite() {
            difference
        } else {
            f64::INFINITY
        };
        compared.max_absolute = compared.max_absolute.max(difference);
        if expected.abs() > 1e-6 {
            compared.max_relative = compared.max_relative.max(difference / expected.abs());
        }
        compared.passed &= within(difference, expected);
    }
    compared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_counts_against_its_own_number_or_against_the_largest() {
        let tolerance = Tolerance {
            absolute: 0.01,
            relative: 0.1,
        };
        assert!(compare("x", &[1.1, 0.0], &[1.0, 0.005], tolerance).passed);
        assert!(!compare("x", &[1.0, 0.05], &[1.0, 0.005], tolerance).passed);
        assert!(compare_to_largest("x", &[1.0, 0.05], &[1.0, 0.005], tolerance, 1.0).passed);
        assert!(!compare_to_largest("x", &[1.0, 0.2], &[1.0, 0.005], tolerance, 1.0).passed);
    }

    #[test]
    fn what_is_no_number_or_not_there_fails() {
        let tolerance = Tolerance::default();
        assert!(!compare("x", &[f32::NAN], &[1.0], tolerance).passed);
        assert!(!compare("x", &[], &[], tolerance).passed);
        assert!(!compare("x", &[1.0], &[1.0, 1.0], tolerance).passed);
        assert!(!compare_number("x", f64::NAN, 1.0, 1e-4).passed);
        assert!(compare_number("x", 1.00005, 1.0, 1e-4).passed);
    }
}
