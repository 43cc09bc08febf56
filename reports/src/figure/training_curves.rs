//! How training went: losses, validation errors by horizon, learning rate.

use super::panel::{decades, from_zero, tick};
use super::{
    Anchor, Canvas, Entry, Frame, Ink, Painted, Panel, Type, WIDTH, dashes, draw, legend_height,
};
use crate::error::Result;
use crate::training::{TrainingRun, Validation};

/// Left edge of the first frame in points.
const LEFT: f64 = 34.0;
/// Height of the frame of the losses in points.
const LOSSES: f64 = 128.0;
/// Height of a small frame in points.
const SMALL: f64 = 86.0;

/// A named list of values over steps.
type Curve = (String, Vec<(f64, f64)>);

/// Draws the losses on top; below, visual error as L1 and as L2 by horizon, and the learning rate.
pub(crate) fn training_curves(name: &str, run: &TrainingRun) -> Result<String> {
    let losses = losses(run);
    let by_l1 = by_horizon(run, |validation| &validation.visual_l1);
    let by_l2 = by_horizon(run, |validation| &validation.visual_l2);
    let rate = [("lr".to_string(), values(run, "lr"))];
    let top = legend_height(LEFT, WIDTH, &legend(&losses)) + 20.0;
    let middle = top + LOSSES + 42.0;
    let low = middle + legend_height(LEFT, WIDTH, &legend(&by_l1)) + 18.0;
    draw(name, low + SMALL + 30.0, |canvas| {
        let end = last_step(run);
        canvas.legend((LEFT, 6.0), WIDTH, &legend(&losses))?;
        let frame = Frame {
            left: LEFT,
            top,
            right: WIDTH - 8.0,
            bottom: top + LOSSES,
        };
        scaled(canvas, frame, end, "Training losses", &losses)?;
        canvas.legend((LEFT, middle), WIDTH, &legend(&by_l1))?;
        linear(canvas, small(0, low), end, "Validation error, L1", &by_l1)?;
        linear(canvas, small(1, low), end, "Validation error, L2", &by_l2)?;
        linear(canvas, small(2, low), end, "Learning rate", &rate)
    })
}

/// Frame number `column` of the lower row.
fn small(column: usize, top: f64) -> Frame {
    let left = LEFT + column as f64 * (WIDTH / 3.0 + 2.0);
    Frame {
        left,
        top,
        right: left + WIDTH / 3.0 - 46.0,
        bottom: top + SMALL,
    }
}

fn legend(curves: &[Curve]) -> Vec<Entry<'static>> {
    curves
        .iter()
        .enumerate()
        .map(|(k, (name, _))| (name.clone(), Ink::series(k), dashes(k)))
        .collect()
}

/// The total loss and its parts, in the order of the file, that are positive somewhere.
fn losses(run: &TrainingRun) -> Vec<Curve> {
    let series = run
        .series
        .iter()
        .filter(|series| series.name.starts_with("loss"));
    series
        .filter(|series| series.points.iter().any(|&(_, value)| value > 0.0))
        .map(|series| (loss_name(&series.name), series.points.clone()))
        .collect()
}

fn loss_name(field: &str) -> String {
    match field.strip_prefix("loss_") {
        Some(part) => part.replace('_', " "),
        None => "total loss".into(),
    }
}

fn values(run: &TrainingRun, name: &str) -> Vec<(f64, f64)> {
    run.series(name)
        .map(|series| series.points.clone())
        .unwrap_or_default()
}

/// One curve per horizon 1, 2, 3, ..
fn by_horizon(run: &TrainingRun, errors: impl Fn(&Validation) -> &[f64]) -> Vec<Curve> {
    let horizons = run
        .validation
        .iter()
        .map(|v| errors(v).len())
        .max()
        .unwrap_or(0);
    let curve = |h: usize| {
        let points = run
            .validation
            .iter()
            .filter_map(|v| Some((v.step, *errors(v).get(h)?)));
        (format!("H = {}", h + 1), points.collect())
    };
    (0..horizons).map(curve).collect()
}

fn last_step(run: &TrainingRun) -> f64 {
    let trained = run
        .series
        .iter()
        .flat_map(|series| &series.points)
        .map(|&(step, _)| step);
    trained
        .chain(run.validation.iter().map(|v| v.step))
        .fold(1.0, f64::max)
}

fn scaled(canvas: &Canvas<'_>, frame: Frame, end: f64, title: &str, curves: &[Curve]) -> Painted {
    let panel = Panel::logarithmic(canvas, frame, (0.0, end), decades(all_values(curves)));
    paint(canvas, frame, &panel, title, curves, 10)
}

fn linear(canvas: &Canvas<'_>, frame: Frame, end: f64, title: &str, curves: &[Curve]) -> Painted {
    let panel = Panel::new(canvas, frame, (0.0, end), from_zero(all_values(curves)));
    paint(canvas, frame, &panel, title, curves, 4)
}

fn all_values(curves: &[Curve]) -> impl Iterator<Item = f64> {
    curves
        .iter()
        .flat_map(|(_, points)| points.iter().map(|&(_, value)| value))
}

fn paint(
    canvas: &Canvas<'_>,
    frame: Frame,
    panel: &Panel<'_, '_>,
    title: &str,
    curves: &[Curve],
    columns: usize,
) -> Painted {
    panel.title(title)?;
    if curves.iter().all(|(_, points)| points.is_empty()) {
        let middle = (
            f64::midpoint(frame.left, frame.right),
            f64::midpoint(frame.top, frame.bottom),
        );
        return canvas.text(middle, Anchor::Middle, Type::TICK, "not recorded");
    }
    panel.rows(5, tick)?;
    panel.base()?;
    panel.columns(columns, false, tick)?;
    panel.x_name("optimizer step")?;
    for (k, (_, points)) in curves.iter().enumerate() {
        panel.line(points, Ink::series(k), dashes(k))?;
    }
    Ok(())
}
