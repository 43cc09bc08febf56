//! Numbers as people read them: fixed digits, real minus signs, grouped thousands.

use jepa_leaderboard::Interval;

/// A dash for a value that does not exist.
pub(crate) const NONE: &str = "–";

/// A share of 1 in percent: `85.4%`.
pub(crate) fn percent(share: f64) -> String {
    format!("{}%", decimal(100.0 * share, 1))
}

/// An interval of shares: `77.0–91.1%`.
pub(crate) fn percent_interval(interval: Interval) -> String {
    format!(
        "{}–{}%",
        decimal(100.0 * interval.low, 1),
        decimal(100.0 * interval.high, 1)
    )
}

/// A difference of shares in percentage points: `+6.3`.
pub(crate) fn points(share: f64) -> String {
    signed(100.0 * share, 1)
}

/// An interval of differences of shares: `−2.1 to +9.8`.
pub(crate) fn points_interval(interval: Interval) -> String {
    format!("{} to {}", points(interval.low), points(interval.high))
}

/// An interval of signed numbers.
pub(crate) fn signed_interval(interval: Interval, digits: usize) -> String {
    format!(
        "{} to {}",
        signed(interval.low, digits),
        signed(interval.high, digits)
    )
}

/// A number with its sign, zero without.
pub(crate) fn signed(value: f64, digits: usize) -> String {
    let text = decimal(value, digits);
    let is_zero = text.chars().all(|c| c == '0' || c == '.');
    if value > 0.0 && !is_zero {
        format!("+{text}")
    } else {
        text
    }
}

/// A number with a fixed number of digits and a real minus sign; never `−0`.
pub(crate) fn decimal(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let magnitude = text.trim_start_matches('-');
    if magnitude.len() == text.len() || magnitude.chars().all(|c| c == '0' || c == '.') {
        magnitude.into()
    } else {
        format!("−{magnitude}")
    }
}

/// A number with about three significant digits: `0.0123`, `1.23`, `123`, `1.2e−7`.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".into();
    }
    if !(1e-4..1e6).contains(&size) {
        return format!("{value:.1e}").replace('-', "−");
    }
    let digits = [(100.0, 0), (10.0, 1), (1.0, 2), (0.1, 3), (0.01, 4)];
    let digits = digits
        .iter()
        .find(|(limit, _)| size >= *limit)
        .map_or(5, |&(_, digits)| digits);
    decimal(value, digits)
}

/// A p-value: `0.031`, `< 0.001`.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.001 {
        "< 0.001".into()
    } else {
        decimal(p, 3)
    }
}

/// A count with its thousands apart: `1 284 930`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push('\u{a0}');
        }
        text.push(digit);
    }
    text
}

/// A time: `0.85 s`, `12.3 s`, `21 min 4 s`, `3 h 12 min`.
pub(crate) fn seconds(value: f64) -> String {
    let whole = value.round().max(0.0) as u64;
    match whole {
        0..10 => format!("{} s", decimal(value, 2)),
        10..60 => format!("{} s", decimal(value, 1)),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// The first twelve digits of a hash.
pub(crate) fn short_hash(hash: &str) -> String {
    hash.get(..12).unwrap_or(hash).into()
}

/// `1 episode`, `2 episodes`.
pub(crate) fn plural(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A sentence list: `a`, `a and b`, `a, b and c`.
pub(crate) fn listed(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(percent(82.0 / 96.0), "85.4%");
        assert_eq!(
            percent_interval(Interval {
                low: 0.7699,
                high: 0.9111
            }),
            "77.0–91.1%"
        );
        assert_eq!(
            points_interval(Interval {
                low: -0.021,
                high: 0.0984
            }),
            "−2.1 to +9.8"
        );
        assert_eq!((points(0.0), points(-0.0001)), ("0.0".into(), "0.0".into()));
        assert_eq!(
            (short(0.012_34), short(1234.0), short(1.2e-7)),
            ("0.0123".into(), "1234".into(), "1.2e−7".into())
        );
        assert_eq!(
            (p_value(0.0004), p_value(0.0312)),
            ("< 0.001".into(), "0.031".into())
        );
        assert_eq!(count(1_284_930), "1\u{a0}284\u{a0}930");
        assert_eq!(count(0), "0");
    }

    #[test]
    fn times_change_their_unit() {
        let texts: Vec<String> = [0.854, 12.34, 1264.0, 11_520.0].map(seconds).into();
        assert_eq!(texts, ["0.85 s", "12.3 s", "21 min 4 s", "3 h 12 min"]);
    }

    #[test]
    fn lists_end_in_and() {
        let words: Vec<String> = ["a", "b", "c"].map(String::from).into();
        assert_eq!(listed(&words), "a, b and c");
        assert_eq!(listed(&words[..1]), "a");
        assert_eq!(
            (plural(1, "run"), plural(2, "run")),
            ("1 run".into(), "2 runs".into())
        );
    }
}
