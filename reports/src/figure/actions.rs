//! Actions, one panel per dimension (evaluation.md section 6, Figure S5.10).

use super::panel::tick;
use super::{
    Canvas, Entry, Frame, Ink, Painted, Panel, WIDTH, balanced, dashes, draw, legend_height,
};
use crate::error::Result;

/// Left edge of the first frame in points.
const LEFT: f64 = 34.0;
/// Height of a row of panels in points.
const ROW: f64 = 112.0;

/// Numbers of one run, of one dimension each.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ActionSeries {
    pub(crate) label: String,
    /// By dimension: pairs of step and action, or of recorded and planned action.
    pub(crate) dimensions: Vec<Vec<(f64, f64)>>,
}

/// How pairs are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ActionKind {
    /// Lines over the steps of an episode.
    OverSteps,
    /// A dot per episode, with the line on which planned and recorded are equal.
    PlannedOverRecorded,
}

/// Draws a panel per dimension.
pub(crate) fn actions(name: &str, kind: ActionKind, series: &[ActionSeries]) -> Result<String> {
    let legend: Vec<Entry<'_>> = series
        .iter()
        .enumerate()
        .map(|(k, each)| (each.label.clone(), Ink::series(k), dashes(k)))
        .collect();
    let dimensions = series
        .iter()
        .map(|each| each.dimensions.len())
        .max()
        .unwrap_or(0);
    let columns = balanced(dimensions, 4).max(2);
    let rows = dimensions.div_ceil(columns).max(1);
    let top = legend_height(LEFT, WIDTH, &legend) + 20.0;
    draw(name, top + ROW * rows as f64, |canvas| {
        canvas.legend((LEFT, 6.0), WIDTH, &legend)?;
        let width = (WIDTH - 4.0) / columns as f64;
        for dimension in 0..dimensions {
            let (column, row) = ((dimension % columns) as f64, (dimension / columns) as f64);
            let top = top + ROW * row;
            let frame = Frame {
                left: LEFT + width * column,
                top,
                right: width * (column + 1.0) - 3.0,
                bottom: top + ROW - 42.0,
            };
            panel(canvas, frame, kind, series, dimension)?;
        }
        Ok(())
    })
}

fn panel(
    canvas: &Canvas<'_>,
    frame: Frame,
    kind: ActionKind,
    series: &[ActionSeries],
    dimension: usize,
) -> Painted {
    let of = |each: &ActionSeries| each.dimensions.get(dimension).cloned().unwrap_or_default();
    let all: Vec<(f64, f64)> = series.iter().flat_map(of).collect();
    let vertical = around(all.iter().map(|pair| pair.1));
    let (horizontal, name) = match kind {
        ActionKind::OverSteps => {
            let end = all.iter().map(|pair| pair.0).fold(1.0, f64::max);
            ((0.0, end), "environment step")
        }
        ActionKind::PlannedOverRecorded => (around(all.iter().map(|pair| pair.0)), "recorded"),
    };
    let panel = Panel::new(canvas, frame, horizontal, vertical);
    panel.title(&format!("dimension {}", dimension + 1))?;
    panel.rows(5, tick)?;
    panel.base()?;
    panel.columns(4, false, tick)?;
    panel.x_name(name)?;
    if kind == ActionKind::PlannedOverRecorded {
        let (low, high) = (horizontal.0.max(vertical.0), horizontal.1.min(vertical.1));
        canvas.dashed(
            &[panel.at((low, low)), panel.at((high, high))],
            Ink::AXIS,
            0.7,
            &[2.0, 2.0],
        )?;
    }
    for (k, each) in series.iter().enumerate() {
        let pairs = of(each);
        match kind {
            ActionKind::OverSteps => {
                let places: Vec<(f64, f64)> = pairs.iter().map(|&pair| panel.at(pair)).collect();
                canvas.dashed(&places, Ink::series(k), 1.2, dashes(k))?;
            }
            ActionKind::PlannedOverRecorded => {
                for &pair in &pairs {
                    canvas.dot(panel.at(pair), 1.6, Ink::series(k))?;
                }
            }
        }
    }
    Ok(())
}

/// A range with room on both sides; `(-1, 1)` for nothing, and around a single value.
fn around(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if low > high {
        return (-1.0, 1.0);
    }
    let room = if high > low {
        0.06 * (high - low)
    } else {
        low.abs().max(1e-3)
    };
    (low - room, high + room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn episodes_are_dots_and_dimensions_are_panels() {
        let series = [ActionSeries {
            label: "ours".into(),
            dimensions: vec![vec![(0.1, 0.2), (0.3, 0.1)], vec![(0.0, 0.0), (0.0, 0.0)]],
        }];
        let svg = actions("test", ActionKind::PlannedOverRecorded, &series).unwrap();
        assert_eq!(svg.matches("<circle").count(), 4);
        for text in ["dimension 1", "dimension 2", "recorded", "ours"] {
            assert!(svg.contains(&format!("\n{text}\n")), "{text}");
        }
        assert!(actions("test", ActionKind::OverSteps, &[]).is_ok());
    }

    #[test]
    fn ranges_have_room() {
        assert_eq!(around([].into_iter()), (-1.0, 1.0));
        let (low, high) = around([0.0, 1.0].into_iter());
        assert!((low + 0.06).abs() < 1e-12 && (high - 1.06).abs() < 1e-12);
        assert_eq!(around([2.0].into_iter()), (0.0, 4.0));
    }
}
