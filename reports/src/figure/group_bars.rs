//! Bars per task group, one per variant, with the mean over all groups at the end (evaluation.md section 6).

use super::{Anchor, Canvas, Frame, Ink, Painted, Panel, Type, WIDTH, draw, swatches_height};
use crate::error::Result;

/// Left edge of the frame in points.
const LEFT: f64 = 40.0;
/// Height of the frame in points.
const HEIGHT: f64 = 178.0;
/// Share of a group's place that its bars take.
const FILLED: f64 = 0.84;
/// Width of a bar at most, in points.
const WIDEST: f64 = 14.0;

/// A bar, if there is a value, and what its whisker spans.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct GroupBar {
    /// In percent.
    pub(crate) value: f64,
    /// Lower and upper end of the whisker; none for means over groups.
    pub(crate) whisker: Option<(f64, f64)>,
    /// The paper's number.
    pub(crate) published: Option<f64>,
}

/// A group of bars.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BarGroup {
    pub(crate) name: String,
    /// One per variant.
    pub(crate) bars: Vec<Option<GroupBar>>,
    /// What is said where no variant has a bar, a word per line.
    pub(crate) missing: String,
}

/// Draws `groups`, whose last one stands apart; `variants` names the bars of each.
pub(crate) fn group_bars(name: &str, variants: &[String], groups: &[BarGroup]) -> Result<String> {
    let top = swatches_height(LEFT, WIDTH, variants) + 20.0;
    draw(name, top + HEIGHT + 22.0, |canvas| {
        canvas.swatches((LEFT, 7.0), WIDTH, variants)?;
        let frame = Frame {
            left: LEFT,
            top,
            right: WIDTH - 4.0,
            bottom: top + HEIGHT,
        };
        let panel = Panel::new(canvas, frame, (0.0, groups.len() as f64), (0.0, 100.0));
        panel.rows(6, |value| format!("{value}"))?;
        panel.y_name("Performance (%)")?;
        for (k, group) in groups.iter().enumerate() {
            one_group(canvas, &panel, k as f64, group)?;
        }
        let (x, _) = panel.at((groups.len() as f64 - 1.0, 0.0));
        canvas.dashed(
            &[(x, frame.top), (x, frame.bottom)],
            Ink::AXIS,
            0.6,
            &[2.0, 2.0],
        )
    })
}

fn one_group(canvas: &Canvas<'_>, panel: &Panel<'_, '_>, left: f64, group: &BarGroup) -> Painted {
    let (middle, floor) = panel.at((left + 0.5, 0.0));
    let place = panel.at((left + 1.0, 0.0)).0 - panel.at((left, 0.0)).0;
    canvas.text(
        (middle, floor + 10.0),
        Anchor::Middle,
        Type::LABEL,
        &group.name,
    )?;
    if group.bars.iter().all(Option::is_none) {
        let lines: Vec<&str> = group.missing.split('\n').collect();
        for (k, line) in lines.iter().rev().enumerate() {
            let y = floor - 8.0 - 9.0 * k as f64;
            canvas.text((middle, y), Anchor::Middle, Type::TICK, line)?;
        }
        return Ok(());
    }
    let width = (FILLED * place / group.bars.len() as f64).min(WIDEST);
    let start = middle - width * group.bars.len() as f64 / 2.0;
    for (k, bar) in group.bars.iter().enumerate() {
        let (x0, x1) = (start + width * k as f64, start + width * (k as f64 + 1.0));
        match bar {
            Some(bar) => one_bar(canvas, panel, (x0 + 0.4, x1 - 0.4), k, *bar)?,
            // A place without a value is no value of zero.
            None => canvas.text(
                (f64::midpoint(x0, x1), floor - 4.0),
                Anchor::Middle,
                Type::TICK,
                "×",
            )?,
        }
    }
    Ok(())
}

fn one_bar(
    canvas: &Canvas<'_>,
    panel: &Panel<'_, '_>,
    (x0, x1): (f64, f64),
    k: usize,
    bar: GroupBar,
) -> Painted {
    let up = |value: f64| panel.at((0.0, value.clamp(0.0, 100.0))).1;
    canvas.hatched([(x0, up(bar.value)), (x1, up(0.0))], k)?;
    let middle = f64::midpoint(x0, x1);
    if let Some((low, high)) = bar.whisker {
        let (low, high) = (up(low), up(high));
        canvas.line(&[(middle, low), (middle, high)], Ink::TEXT, 0.9)?;
        for y in [low, high] {
            canvas.line(&[(middle - 1.6, y), (middle + 1.6, y)], Ink::TEXT, 0.9)?;
        }
    }
    match bar.published {
        Some(value) => canvas.diamond((middle, up(value)), 2.6),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_a_bar_and_every_gap_a_mark() {
        let bar = |value| {
            Some(GroupBar {
                value,
                whisker: Some((value - 5.0, value + 5.0)),
                published: Some(30.0),
            })
        };
        let group = |name: &str, bars| BarGroup {
            name: name.into(),
            bars,
            missing: "no\nrun".into(),
        };
        let groups = [
            group("Maze", vec![bar(40.0), None]),
            group("Wall", vec![bar(10.0), bar(60.0)]),
            group("Avg", vec![None, None]),
        ];
        let svg = group_bars("test", &["a".into(), "b".into()], &groups).unwrap();
        // Two swatches of the legend and three bars.
        assert_eq!(svg.matches("<rect").count(), 2 + 3);
        assert_eq!(svg.matches(">\n×").count(), 1, "{svg}");
        for text in ["Maze", "Wall", "Avg", "no", "run", "Performance (%)"] {
            assert!(svg.contains(&format!("\n{text}\n")), "{text}");
        }
    }
}
