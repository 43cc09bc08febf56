//! Success over the epochs of training, one panel per planning setup (evaluation.md section 6, Figures S5.11 and S5.12).

use super::panel::tick;
use super::{
    Canvas, Entry, Frame, Ink, Painted, Panel, WIDTH, balanced, dashes, draw, legend_height,
};
use crate::error::Result;

/// Left edge of the first frame in points.
const LEFT: f64 = 34.0;
/// Height of a row of panels in points.
const ROW: f64 = 150.0;

/// A training run over its kept models.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EpochLine {
    /// Name of the run; lines of one name have one colour.
    pub(crate) label: String,
    /// Optimiser steps, success and smoothed success, in `[0, 1]`.
    pub(crate) points: Vec<(f64, f64, f64)>,
}

/// The training runs in one planning setup.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EpochPanel {
    pub(crate) title: String,
    pub(crate) lines: Vec<EpochLine>,
}

/// Draws the smoothed curves as lines; the area between each and the raw curve is shaded.
pub(crate) fn success_over_epochs(name: &str, panels: &[EpochPanel]) -> Result<String> {
    let mut labels: Vec<&str> = Vec::new();
    for line in panels.iter().flat_map(|panel| &panel.lines) {
        if !labels.contains(&line.label.as_str()) {
            labels.push(&line.label);
        }
    }
    let legend: Vec<Entry<'_>> = labels
        .iter()
        .enumerate()
        .map(|(k, label)| ((*label).to_string(), Ink::series(k), dashes(k)))
        .collect();
    let columns = balanced(panels.len(), 2);
    let rows = panels.len().div_ceil(columns).max(1);
    let top = legend_height(LEFT, WIDTH, &legend) + 20.0;
    draw(name, top + ROW * rows as f64 - 12.0, |canvas| {
        canvas.legend((LEFT, 6.0), WIDTH, &legend)?;
        let width = (WIDTH - 6.0) / columns as f64;
        for (k, each) in panels.iter().enumerate() {
            let (column, row) = ((k % columns) as f64, (k / columns) as f64);
            let top = top + ROW * row;
            let frame = Frame {
                left: width * column + LEFT,
                top,
                right: width * (column + 1.0),
                bottom: top + ROW - 46.0,
            };
            panel(canvas, frame, each, &labels)?;
        }
        Ok(())
    })
}

fn panel(canvas: &Canvas<'_>, frame: Frame, panel: &EpochPanel, labels: &[&str]) -> Painted {
    let points = panel.lines.iter().flat_map(|line| &line.points);
    let end = points.map(|point| point.0).fold(1.0, f64::max);
    let axes = Panel::new(canvas, frame, (0.0, end * 1.02), (0.0, 100.0));
    axes.title(&panel.title)?;
    axes.rows(6, |value| format!("{value}%"))?;
    axes.columns(6, false, tick)?;
    axes.x_name("optimizer step")?;
    for line in &panel.lines {
        let k = labels
            .iter()
            .position(|label| *label == line.label)
            .unwrap_or(0);
        let area: Vec<_> = line
            .points
            .iter()
            .map(|&(x, raw, smooth)| (x, 100.0 * raw, 100.0 * smooth))
            .collect();
        axes.band(&area, Ink::series(k))?;
        let smooth: Vec<_> = area.iter().map(|&(x, _, smooth)| (x, smooth)).collect();
        axes.line(&smooth, Ink::series(k), dashes(k))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kept_model_is_a_dot_and_every_line_has_its_area() {
        let line = |label: &str| EpochLine {
            label: label.into(),
            points: vec![(10.0, 0.2, 0.2), (20.0, 0.8, 0.32), (30.0, 0.4, 0.336)],
        };
        let panels = [
            EpochPanel {
                title: "CEM L2".into(),
                lines: vec![line("seed 0"), line("seed 1")],
            },
            EpochPanel {
                title: "NG L2".into(),
                lines: vec![line("seed 0")],
            },
        ];
        let svg = success_over_epochs("test", &panels).unwrap();
        assert_eq!(svg.matches("<circle").count(), 9);
        assert_eq!(svg.matches("<polygon").count(), 3);
        for text in ["CEM L2", "NG L2", "seed 0", "seed 1"] {
            assert!(svg.contains(&format!("\n{text}\n")), "{text}");
        }
    }
}
