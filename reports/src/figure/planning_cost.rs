//! What the planner's search looked like: cost per iteration, over episodes.

use jepa_leaderboard::{Band, CostCurve};

use super::panel::{decades, tick};
use super::{Canvas, Frame, Ink, Painted, Panel, WIDTH, balanced, draw};
use crate::error::Result;

/// Panels per row at most.
const COLUMNS: usize = 3;
/// Height of a row of panels in points.
const ROW: f64 = 138.0;

/// One panel: a plan of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Search {
    pub(crate) title: String,
    pub(crate) curve: CostCurve,
}

/// Draws one panel per search, with a logarithmic scale of its own: costs of different models do not
/// compare.
pub(crate) fn planning_cost(name: &str, searches: &[Search]) -> Result<String> {
    // A single panel is as wide as one of two.
    let columns = balanced(searches.len(), COLUMNS).max(2);
    let rows = searches.len().div_ceil(columns).max(1);
    draw(name, 16.0 + ROW * rows as f64, |canvas| {
        let legend = [
            (
                "lowest cost: median and quartiles".to_string(),
                Ink::series(0),
                &[][..],
            ),
            (
                "elites: mean ± std".to_string(),
                Ink::series(1),
                &[5.0, 2.0],
            ),
        ];
        canvas.legend((30.0, 6.0), WIDTH, &legend)?;
        let width = WIDTH / columns as f64;
        for (k, search) in searches.iter().enumerate() {
            let (column, row) = ((k % columns) as f64, (k / columns) as f64);
            let (left, top) = (30.0 + width * column, 34.0 + ROW * row);
            let frame = Frame {
                left,
                top,
                right: width * (column + 1.0) - 6.0,
                bottom: top + 88.0,
            };
            panel(canvas, frame, search)?;
        }
        Ok(())
    })
}

fn panel(canvas: &Canvas<'_>, frame: Frame, search: &Search) -> Painted {
    let CostCurve {
        best,
        elite_mean,
        elite_std,
        ..
    } = &search.curve;
    let elites: Vec<(f64, f64, f64)> = elite_mean
        .iter()
        .zip(elite_std)
        .map(|(mean, std)| {
            (
                iteration(mean),
                (mean.median - std.median).max(0.0),
                mean.median + std.median,
            )
        })
        .collect();
    let spread = elites.iter().flat_map(|&(_, low, high)| [low, high]);
    let range = decades(spread.chain(best.iter().flat_map(|band| [band.low, band.high])));
    let panel = Panel::logarithmic(canvas, frame, (1.0, (best.len() as f64).max(2.0)), range);
    panel.title(&search.title)?;
    panel.rows(5, tick)?;
    panel.columns(6, false, tick)?;
    panel.x_name("planner iteration")?;
    panel.band(&elites, Ink::series(1))?;
    let quartiles: Vec<_> = best
        .iter()
        .map(|band| (iteration(band), band.low, band.high))
        .collect();
    panel.band(&quartiles, Ink::series(0))?;
    let mean: Vec<_> = elite_mean
        .iter()
        .map(|band| (iteration(band), band.median))
        .collect();
    panel.line(&mean, Ink::series(1), &[5.0, 2.0])?;
    let median: Vec<_> = best
        .iter()
        .map(|band| (iteration(band), band.median))
        .collect();
    panel.line(&median, Ink::series(0), &[])
}

/// Iterations are counted from 1.
fn iteration(band: &Band) -> f64 {
    f64::from(band.at) + 1.0
}
