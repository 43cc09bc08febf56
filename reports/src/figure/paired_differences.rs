//! Differences of success rates on the same episodes: one interval per pair of runs.

use jepa_leaderboard::Comparison;

use super::{Anchor, Canvas, Frame, Ink, Painted, Panel, Type, WIDTH, draw};
use crate::error::Result;
use crate::text::{p_value, points};

/// Height of a row in points.
const ROW: f64 = 19.0;

/// Draws one row per comparison.
pub(crate) fn paired_differences(name: &str, comparisons: &[Comparison]) -> Result<String> {
    let bottom = 20.0 + ROW * comparisons.len() as f64;
    let reach = comparisons
        .iter()
        .flat_map(|c| [c.success.interval.low, c.success.interval.high]);
    let reach = reach.fold(0.1_f64, |reach, end| reach.max(end.abs()));
    let reach = (reach * 10.0).ceil() * 10.0;
    draw(name, bottom + 30.0, |canvas| {
        let frame = Frame {
            left: 186.0,
            top: 16.0,
            right: WIDTH - 100.0,
            bottom,
        };
        let panel = Panel::new(canvas, frame, (-reach, reach), (0.0, 1.0));
        panel.columns(5, true, |value| {
            points(value / 100.0).trim_end_matches(".0").to_string()
        })?;
        panel.x_name("difference in success rate, percentage points")?;
        let zero = panel.at((0.0, 0.0)).0;
        canvas.line(&[(zero, frame.top), (zero, frame.bottom)], Ink::AXIS, 1.0)?;
        canvas.text((WIDTH - 48.0, 6.0), Anchor::End, Type::TICK, "difference")?;
        canvas.text((WIDTH, 6.0), Anchor::End, Type::TICK, "p (Holm)")?;
        for (k, comparison) in comparisons.iter().enumerate() {
            row(canvas, &panel, comparison, 18.0 + ROW * (k as f64 + 0.5))?;
        }
        Ok(())
    })
}

fn row(canvas: &Canvas<'_>, panel: &Panel<'_, '_>, comparison: &Comparison, y: f64) -> Painted {
    let across = |share: f64| panel.at((100.0 * share, 0.0)).0;
    let interval = comparison.success.interval;
    let ink = match (comparison.is_significant(), comparison.success.mean > 0.0) {
        (false, _) => Ink::MUTED,
        (true, true) => Ink::GOOD,
        (true, false) => Ink::BAD,
    };
    let kind = if comparison.is_significant() {
        Type::LABEL.bold()
    } else {
        Type::LABEL
    };
    canvas.line(
        &[(across(interval.low), y), (across(interval.high), y)],
        ink,
        2.0,
    )?;
    canvas.dot((across(comparison.success.mean), y), 3.2, ink)?;
    let pair = format!("{} − {}", comparison.first, comparison.second);
    canvas.text((180.0, y), Anchor::End, Type::LABEL, &pair)?;
    canvas.text(
        (WIDTH - 48.0, y),
        Anchor::End,
        kind,
        &points(comparison.success.mean),
    )?;
    canvas.text(
        (WIDTH, y),
        Anchor::End,
        Type::TICK,
        &p_value(comparison.p_holm),
    )
}
