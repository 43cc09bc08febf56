//! Lines over a numeric design value, one per task group, and the mean over all groups in black (evaluation.md section 6).

use super::{Canvas, Frame, Ink, Marker, Painted, Panel, WIDTH, draw, markers_height};
use crate::error::Result;

/// Left edge of the frame in points.
const LEFT: f64 = 40.0;
/// Height of the frame in points.
const HEIGHT: f64 = 178.0;
/// Markers of different groups stand apart by this much at most, to either side, in units of the axis.
const OFFSET: f64 = 0.05;

/// A value at a position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LinePoint {
    pub(crate) position: f64,
    /// In percent.
    pub(crate) value: f64,
    /// Lower and upper end of the whisker, if there is one.
    pub(crate) whisker: Option<(f64, f64)>,
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DesignLine {
    pub(crate) name: String,
    pub(crate) points: Vec<LinePoint>,
    /// The mean over groups is black and heavier.
    pub(crate) is_average: bool,
}

/// Draws `lines` over an axis called `axis` with these ticks.
pub(crate) fn design_lines(
    name: &str,
    axis: &str,
    ticks: &[(f64, String)],
    lines: &[DesignLine],
) -> Result<String> {
    let marks: Vec<(String, Ink, Marker)> = lines
        .iter()
        .enumerate()
        .map(|(k, line)| (line.name.clone(), ink(k, line), Marker::of(k)))
        .collect();
    let top = markers_height(LEFT, WIDTH, &marks) + 20.0;
    let positions = || ticks.iter().map(|tick| tick.0);
    let low = positions().fold(f64::INFINITY, f64::min);
    let high = positions().fold(f64::NEG_INFINITY, f64::max);
    let room = 0.06 * (high - low).max(1.0) + OFFSET;
    draw(name, top + HEIGHT + 32.0, |canvas| {
        canvas.markers((LEFT, 7.0), WIDTH, &marks)?;
        let frame = Frame {
            left: LEFT,
            top,
            right: WIDTH - 4.0,
            bottom: top + HEIGHT,
        };
        let panel = Panel::new(canvas, frame, (low - room, high + room), (0.0, 100.0));
        panel.rows(6, |value| format!("{value}"))?;
        panel.named_columns(ticks)?;
        panel.x_name(axis)?;
        panel.y_name("Performance (%)")?;
        for (k, line) in lines.iter().enumerate() {
            one_line(canvas, &panel, k, line, lines.len())?;
        }
        Ok(())
    })
}

fn ink(k: usize, line: &DesignLine) -> Ink {
    if line.is_average {
        Ink::TEXT
    } else {
        Ink::variant(k)
    }
}

fn one_line(
    canvas: &Canvas<'_>,
    panel: &Panel<'_, '_>,
    k: usize,
    line: &DesignLine,
    count: usize,
) -> Painted {
    let middle = (count.max(2) - 1) as f64 / 2.0;
    let shift = if line.is_average {
        0.0
    } else {
        OFFSET * (k as f64 - middle) / middle
    };
    let ink = ink(k, line);
    let width = if line.is_average { 2.2 } else { 1.2 };
    let at = |position: f64, value: f64| panel.at((position + shift, value.clamp(0.0, 100.0)));
    let places: Vec<(f64, f64)> = line
        .points
        .iter()
        .map(|p| at(p.position, p.value))
        .collect();
    canvas.line(&places, ink, width)?;
    for (point, &place) in line.points.iter().zip(&places) {
        if let Some((low, high)) = point.whisker {
            let ends = [at(point.position, low), at(point.position, high)];
            canvas.faint_line(&ends, ink, 0.9, 0.7)?;
        }
        canvas.marker(place, 3.0, ink, Marker::of(k))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_has_a_marker_and_every_tick_its_name() {
        let point = |position, value| LinePoint {
            position,
            value,
            whisker: None,
        };
        let line = |name: &str, points, is_average| DesignLine {
            name: name.into(),
            points,
            is_average,
        };
        let lines = [
            line(
                "Maze",
                vec![point(1.0, 20.0), point(2.0, 30.0), point(6.0, 25.0)],
                false,
            ),
            line("Avg", vec![point(1.0, 20.0)], true),
        ];
        let ticks = [1.0, 2.0, 6.0].map(|value| (value, format!("{value}")));
        let svg = design_lines("test", "rollout steps", &ticks, &lines).unwrap();
        // Marker 0 is a disc: three of the line and one of the legend; marker 1 is a filled square.
        assert_eq!(svg.matches("<circle").count(), 4, "{svg}");
        assert_eq!(svg.matches("<rect").count(), 2);
        for text in ["Maze", "Avg", "rollout steps", "6"] {
            assert!(svg.contains(&format!("\n{text}\n")), "{text}");
        }
    }
}
