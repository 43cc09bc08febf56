//! How training went: losses, validation errors by horizon, learning rate.

use super::panel::{decades, from_zero, tick};
use super::{Anchor, Canvas, Frame, Ink, Painted, Panel, Type, WIDTH, dashes, draw};
use crate::error::Result;
use crate::training::{TrainingRun, Validation};

/// Height of a panel's frame in points.
const HEIGHT: f64 = 96.0;

/// A named list of values over steps.
type Curve = (String, Vec<(f64, f64)>);

/// Draws four panels: losses, visual error as L1 and L2, learning rate.
pub(crate) fn training_curves(name: &str, run: &TrainingRun) -> Result<String> {
    draw(name, 2.0 * (HEIGHT + 76.0), |canvas| {
        let end = last_step(run);
        let frame = |column: usize, row: usize| {
            let left = 34.0 + column as f64 * (WIDTH / 2.0 + 4.0);
            let top = 40.0 + row as f64 * (HEIGHT + 76.0);
            Frame {
                left,
                top,
                right: left + WIDTH / 2.0 - 46.0,
                bottom: top + HEIGHT,
            }
        };
        scaled(canvas, frame(0, 0), end, "Training losses", &losses(run))?;
        linear(
            canvas,
            frame(1, 0),
            end,
            "Learning rate",
            &[("lr".into(), values(run, "lr"))],
        )?;
        let l1 = |v: &Validation| v.visual_l1.clone();
        let l2 = |v: &Validation| v.visual_l2.clone();
        linear(
            canvas,
            frame(0, 1),
            end,
            "Validation error, L1",
            &by_horizon(run, l1),
        )?;
        linear(
            canvas,
            frame(1, 1),
            end,
            "Validation error, L2",
            &by_horizon(run, l2),
        )
    })
}

/// The total loss and its parts, in the order of the file, that are positive somewhere.
fn losses(run: &TrainingRun) -> Vec<Curve> {
    let series = run
        .series
        .iter()
        .filter(|series| series.name == "loss" || series.name.starts_with("loss_"));
    series
        .filter(|series| series.points.iter().any(|&(_, value)| value > 0.0))
        .map(|series| (loss_name(&series.name), series.points.clone()))
        .collect()
}

fn loss_name(field: &str) -> String {
    if field == "loss" {
        "total".into()
    } else {
        field.trim_start_matches("loss_").replace('_', " ")
    }
}

fn values(run: &TrainingRun, name: &str) -> Vec<(f64, f64)> {
    run.series(name)
        .map(|series| series.points.clone())
        .unwrap_or_default()
}

/// One curve per horizon 1, 2, 3, ..
fn by_horizon(run: &TrainingRun, errors: impl Fn(&Validation) -> Vec<f64>) -> Vec<Curve> {
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
    let range = decades(
        curves
            .iter()
            .flat_map(|(_, points)| points.iter().map(|&(_, value)| value)),
    );
    paint(
        canvas,
        frame,
        &Panel::logarithmic(canvas, frame, (0.0, end), range),
        title,
        curves,
    )
}

fn linear(canvas: &Canvas<'_>, frame: Frame, end: f64, title: &str, curves: &[Curve]) -> Painted {
    let range = from_zero(
        curves
            .iter()
            .flat_map(|(_, points)| points.iter().map(|&(_, value)| value)),
    );
    paint(
        canvas,
        frame,
        &Panel::new(canvas, frame, (0.0, end), range),
        title,
        curves,
    )
}

fn paint(
    canvas: &Canvas<'_>,
    frame: Frame,
    panel: &Panel<'_, '_>,
    title: &str,
    curves: &[Curve],
) -> Painted {
    panel.title(title)?;
    panel.base()?;
    if curves.iter().all(|(_, points)| points.is_empty()) {
        let middle = (
            f64::midpoint(frame.left, frame.right),
            f64::midpoint(frame.top, frame.bottom),
        );
        return canvas.text(middle, Anchor::Middle, Type::TICK, "not recorded");
    }
    panel.rows(5, tick)?;
    panel.columns(5, false, tick)?;
    panel.x_name("optimizer step")?;
    for (k, (_, points)) in curves.iter().enumerate() {
        panel.line(points, Ink::series(k), dashes(k))?;
    }
    if curves.len() > 1 {
        let legend: Vec<_> = curves
            .iter()
            .enumerate()
            .map(|(k, (name, _))| (name.clone(), Ink::series(k), dashes(k)))
            .collect();
        canvas.legend(
            (frame.left, frame.bottom + 33.0),
            frame.right + 10.0,
            &legend,
        )?;
    }
    Ok(())
}
