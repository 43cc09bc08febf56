//! How the distance to the goal falls along an episode, and where it ends.

use jepa_leaderboard::Band;

use super::panel::{from_zero, tick};
use super::{Canvas, Frame, Ink, Painted, Panel, WIDTH, dashes, draw, legend_height};
use crate::error::Result;

/// Distances of one run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Distances {
    pub(crate) label: String,
    pub(crate) ink: Ink,
    /// Distance after each environment step, over episodes.
    pub(crate) curve: Vec<Band>,
    /// Distance after the last step of each episode.
    pub(crate) last: Vec<f64>,
}

/// Left: median and quartiles per step. Right: share of episodes that end within a distance.
pub(crate) fn distance_to_goal(name: &str, runs: &[Distances]) -> Result<String> {
    let legend: Vec<_> = runs
        .iter()
        .enumerate()
        .map(|(k, run)| (run.label.clone(), run.ink, dashes(k)))
        .collect();
    let top = legend_height(28.0, WIDTH, &legend) + 20.0;
    draw(name, top + 181.0, |canvas| {
        canvas.legend((28.0, 6.0), WIDTH, &legend)?;
        let frame = |left, right| Frame {
            left,
            top,
            right,
            bottom: top + 150.0,
        };
        along(canvas, frame(28.0, 232.0), runs)?;
        at_the_end(canvas, frame(276.0, WIDTH - 6.0), runs)
    })
}

fn along(canvas: &Canvas<'_>, frame: Frame, runs: &[Distances]) -> Painted {
    let steps = runs
        .iter()
        .map(|run| run.curve.len())
        .max()
        .unwrap_or(0)
        .saturating_sub(1)
        .max(1);
    let range = from_zero(
        runs.iter()
            .flat_map(|run| run.curve.iter().map(|band| band.high)),
    );
    let panel = Panel::new(canvas, frame, (0.0, steps as f64), range);
    panel.title("Distance to the goal")?;
    panel.rows(6, tick)?;
    panel.columns(7, false, tick)?;
    panel.x_name("environment step")?;
    for run in runs {
        let band: Vec<_> = run
            .curve
            .iter()
            .map(|b| (f64::from(b.at), b.low, b.high))
            .collect();
        panel.band(&band, run.ink)?;
    }
    for (k, run) in runs.iter().enumerate() {
        let median: Vec<_> = run
            .curve
            .iter()
            .map(|b| (f64::from(b.at), b.median))
            .collect();
        panel.line(&median, run.ink, dashes(k))?;
    }
    Ok(())
}

fn at_the_end(canvas: &Canvas<'_>, frame: Frame, runs: &[Distances]) -> Painted {
    let range = from_zero(runs.iter().flat_map(|run| run.last.iter().copied()));
    let panel = Panel::new(canvas, frame, range, (0.0, 100.0));
    panel.title("Episodes that end within a distance")?;
    panel.rows(6, |value| format!("{value}%"))?;
    panel.columns(6, false, tick)?;
    panel.x_name("distance after the last step")?;
    for (k, run) in runs.iter().enumerate() {
        panel.line(&steps(&run.last, range.1), run.ink, dashes(k))?;
    }
    Ok(())
}

/// Corners of the cumulative share of `values`, in percent, from 0 to `end`.
fn steps(values: &[f64], end: f64) -> Vec<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let share = |count: usize| 100.0 * count as f64 / sorted.len().max(1) as f64;
    let corners = sorted
        .iter()
        .enumerate()
        .flat_map(|(k, &value)| [(value, share(k)), (value, share(k + 1))]);
    std::iter::once((0.0, 0.0))
        .chain(corners)
        .chain([(end, share(sorted.len()))])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_climbs_at_every_value() {
        let corners = steps(&[3.0, 1.0], 5.0);
        assert_eq!(
            corners,
            [
                (0.0, 0.0),
                (1.0, 0.0),
                (1.0, 50.0),
                (3.0, 50.0),
                (3.0, 100.0),
                (5.0, 100.0)
            ]
        );
    }
}
