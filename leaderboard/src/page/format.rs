//! Numbers, dates and hashes as they stand in cells.

use crate::statistics::{Difference, Interval};

/// A share as a percentage with one digit: `86.5%`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// An interval of shares in percent: `78.2 to 91.9`.
pub(super) fn interval(interval: Interval) -> String {
    format!(
        "{:.1} to {:.1}",
        100.0 * interval.low,
        100.0 * interval.high
    )
}

/// A difference of shares in percentage points with its interval: `+12.3 (4.0 to 20.1)`.
pub(super) fn points(difference: &Difference) -> String {
    format!(
        "{:+.1} ({:.1} to {:.1})",
        100.0 * difference.mean,
        100.0 * difference.interval.low,
        100.0 * difference.interval.high
    )
}

/// A p-value: three digits, `<0.001` below.
pub(super) fn p_value(p: f64) -> String {
    if p < 0.001 {
        "<0.001".into()
    } else {
        format!("{p:.3}")
    }
}

/// A number in four significant digits, or plainly where it is a whole number.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let magnitude = value.abs();
    let is_whole = value.fract() == 0.0;
    if magnitude >= 1e6 || (magnitude < 1e-3 && magnitude > 0.0) {
        format!("{value:.3e}")
    } else if magnitude >= 100.0 || is_whole {
        let digits = usize::from(!is_whole);
        format!("{value:.digits$}")
    } else if magnitude >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

/// A count with thousands apart: `1 284 930`, by narrow spaces that do not break.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 * 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// The first twelve digits of a hash.
pub(super) fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// The day of a time: `2026-01-31`.
pub(super) fn day(utc: &str) -> String {
    utc.chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_short_and_keep_their_sign() {
        let difference = Difference {
            mean: -0.1234,
            interval: Interval {
                low: -0.2,
                high: 0.01,
            },
        };
        assert_eq!(points(&difference), "-12.3 (-20.0 to 1.0)");
        assert_eq!(percent(0.8646), "86.5%");
        assert_eq!(
            (p_value(0.0004), p_value(0.0416)),
            ("<0.001".into(), "0.042".into())
        );
        assert_eq!(number(1234.56), "1234.6");
        assert_eq!(number(3.0), "3");
        assert_eq!(number(0.012_345), "0.0123");
        assert_eq!(number(f64::NAN), "NaN");
        assert_eq!(count(1_284_930), "1\u{202f}284\u{202f}930");
        assert_eq!(count(930), "930");
        assert_eq!(day("2026-01-31T10:00:00Z"), "2026-01-31");
    }
}
