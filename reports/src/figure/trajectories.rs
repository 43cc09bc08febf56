//! Where the episodes went, for tasks with a state of two coordinates.

use super::panel::tick;
use super::{Canvas, Frame, Ink, Painted, Panel, WIDTH, balanced, draw};
use crate::error::Result;

/// Panels per row at most.
const COLUMNS: usize = 4;

/// One episode: its states, its goal, and whether it ended there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Path {
    pub(crate) states: Vec<(f64, f64)>,
    pub(crate) goal: (f64, f64),
    pub(crate) success: bool,
}

/// The episodes of one run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Paths {
    pub(crate) title: String,
    pub(crate) paths: Vec<Path>,
}

/// Draws one square panel per run, all to the same scale, with the second coordinate downwards as in
/// a rendered frame.
pub(crate) fn trajectories(name: &str, runs: &[Paths]) -> Result<String> {
    let columns = balanced(runs.len(), COLUMNS);
    let side = (WIDTH / columns as f64 - 30.0).min(130.0);
    let rows = runs.len().div_ceil(columns).max(1);
    let range = shared_range(runs);
    draw(name, 16.0 + rows as f64 * (side + 44.0), |canvas| {
        let legend = [
            ("ends at the goal (dot)".to_string(), Ink::GOOD, &[][..]),
            ("ends elsewhere (cross)".to_string(), Ink::BAD, &[]),
        ];
        canvas.legend((24.0, 6.0), WIDTH, &legend)?;
        for (k, run) in runs.iter().enumerate() {
            let left = 24.0 + (side + 30.0) * (k % columns) as f64;
            let top = 36.0 + (side + 44.0) * (k / columns) as f64;
            panel(
                canvas,
                Frame {
                    left,
                    top,
                    right: left + side,
                    bottom: top + side,
                },
                range,
                run,
            )?;
        }
        Ok(())
    })
}

/// The smallest square range that holds every state and goal.
fn shared_range(runs: &[Paths]) -> (f64, f64) {
    let states = runs
        .iter()
        .flat_map(|run| &run.paths)
        .flat_map(|path| path.states.iter().chain([&path.goal]));
    let (low, high) = states.fold(
        (f64::INFINITY, f64::NEG_INFINITY),
        |(low, high), &(x, y)| (low.min(x).min(y), high.max(x).max(y)),
    );
    if low < high {
        (low - 0.03 * (high - low), high + 0.03 * (high - low))
    } else {
        (0.0, 1.0)
    }
}

fn panel(canvas: &Canvas<'_>, frame: Frame, (low, high): (f64, f64), run: &Paths) -> Painted {
    let panel = Panel::new(canvas, frame, (low, high), (high, low));
    panel.title(&run.title)?;
    canvas.outline(
        [(frame.left, frame.top), (frame.right, frame.bottom)],
        Ink::GRID,
        0.8,
    )?;
    panel.rows(4, tick)?;
    panel.columns(4, false, tick)?;
    let (reached, missed): (Vec<&Path>, Vec<&Path>) =
        run.paths.iter().partition(|path| path.success);
    for (paths, ink) in [(reached, Ink::GOOD), (missed, Ink::BAD)] {
        for path in paths {
            let points: Vec<_> = path.states.iter().map(|&state| panel.at(state)).collect();
            canvas.faint_line(&points, ink, 0.6, 0.55)?;
            if let Some(&end) = points.last() {
                mark(canvas, end, path.success)?;
            }
        }
    }
    Ok(())
}

/// A dot for an episode that ends at its goal, a cross for one that does not.
fn mark(canvas: &Canvas<'_>, (x, y): (f64, f64), success: bool) -> Painted {
    const ARM: f64 = 1.7;
    if success {
        return canvas.dot((x, y), 1.4, Ink::GOOD);
    }
    canvas.line(&[(x - ARM, y - ARM), (x + ARM, y + ARM)], Ink::BAD, 0.9)?;
    canvas.line(&[(x - ARM, y + ARM), (x + ARM, y - ARM)], Ink::BAD, 0.9)
}
