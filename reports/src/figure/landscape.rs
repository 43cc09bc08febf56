//! What a planner sees of a task: cost over two components of an action, as a heat map.

use super::panel::tick;
use super::{Anchor, Frame, Ink, Panel, Type, draw};
use crate::error::Result;

/// Left edge of the map in points.
const LEFT: f64 = 60.0;
/// Upper edge of the map in points.
const TOP: f64 = 30.0;
/// Side of the map in points.
const SIDE: f64 = 300.0;
/// Left edge and width of the scale beside it.
const SCALE: [f64; 2] = [380.0, 14.0];
/// Steps of the scale.
const LEVELS: usize = 60;
/// The colour map viridis at equal distances, from low to high; between them it is interpolated.
const VIRIDIS: [[u8; 3]; 9] = [
    [68, 1, 84],
    [71, 44, 122],
    [59, 81, 139],
    [44, 113, 142],
    [33, 144, 141],
    [39, 173, 129],
    [92, 200, 99],
    [170, 220, 50],
    [253, 231, 37],
];

/// A cost over a square grid of actions.
#[derive(Debug, Clone, PartialEq)]
pub struct Landscape {
    /// What it is of.
    pub title: String,
    /// Names of the components along x and y.
    pub names: [String; 2],
    /// The grid reaches from `-span` to `span` on both axes.
    pub span: f64,
    /// Points per axis, at least 2.
    pub side: usize,
    /// Costs, `[side, side]`, rows along y from low to high.
    pub costs: Vec<f64>,
}

impl Landscape {
    /// The action of a point of the grid, x and y.
    pub fn action(&self, point: usize) -> [f64; 2] {
        let along = |at: usize| self.span * (2.0 * at as f64 / (self.side - 1) as f64 - 1.0);
        [along(point % self.side), along(point / self.side)]
    }

    /// The point with the lowest cost; the first of several.
    pub fn lowest(&self) -> usize {
        let better = |best: usize, at: usize| {
            if self.costs[at] < self.costs[best] {
                at
            } else {
                best
            }
        };
        (0..self.costs.len()).reduce(better).unwrap_or(0)
    }
}

/// Draws the map with a scale; a ring marks the lowest cost.
///
/// # Errors
/// When the drawing library refuses.
pub fn landscape_figure(landscape: &Landscape) -> Result<String> {
    let Landscape {
        title,
        names,
        span,
        side,
        costs,
    } = landscape;
    let range = |values: &[f64]| {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (low, if high > low { high } else { low + 1.0 })
    };
    let (low, high) = range(costs);
    draw("landscape", TOP + SIDE + 44.0, |canvas| {
        let frame = Frame {
            left: LEFT,
            top: TOP,
            right: LEFT + SIDE,
            bottom: TOP + SIDE,
        };
        // Points are in the middles of their cells.
        let half = span / (*side - 1) as f64;
        let reach = (-span - half, span + half);
        let panel = Panel::new(canvas, frame, reach, reach);
        panel.title(title)?;
        // Under the map, so that only their labels show.
        panel.rows(6, tick)?;
        for (point, cost) in costs.iter().enumerate() {
            let [x, y] = landscape.action(point);
            let corners =
                [(x - half, y - half), (x + half, y + half)].map(|corner| panel.at(corner));
            canvas.bar(corners, viridis((cost - low) / (high - low)), 1.0)?;
        }
        panel.columns(6, false, tick)?;
        panel.x_name(&format!("across: {}", names[0]))?;
        let below = (LEFT + SIDE / 2.0, TOP + SIDE + 34.0);
        canvas.text(
            below,
            Anchor::Middle,
            Type::TICK,
            &format!("up: {}", names[1]),
        )?;
        let [x, y] = landscape.action(landscape.lowest());
        let (column, row) = panel.at((x, y));
        let ring: Vec<(f64, f64)> = (0..=24)
            .map(|at| f64::from(at) * std::f64::consts::TAU / 24.0)
            .map(|turn| (column + 5.0 * turn.cos(), row + 5.0 * turn.sin()))
            .collect();
        canvas.line(&ring, Ink(0xff, 0xff, 0xff), 1.4)?;
        for level in 0..LEVELS {
            let share = |level: usize| level as f64 / LEVELS as f64;
            let edge = |level: usize| TOP + SIDE * (1.0 - share(level));
            let [left, width] = SCALE;
            let corners = [(left, edge(level)), (left + width, edge(level + 1))];
            canvas.bar(corners, viridis(share(level)), 1.0)?;
        }
        for (value, y) in [
            (low, TOP + SIDE),
            (f64::midpoint(low, high), TOP + SIDE / 2.0),
            (high, TOP),
        ] {
            let place = (SCALE[0] + SCALE[1] + 4.0, y);
            canvas.text(place, Anchor::Start, Type::TICK, &format!("{value:.3}"))?;
        }
        Ok(())
    })
}

/// The colour of a share of the range.
fn viridis(share: f64) -> Ink {
    let place = share.clamp(0.0, 1.0) * (VIRIDIS.len() - 1) as f64;
    let below = (place as usize).min(VIRIDIS.len() - 2);
    let mix = |channel: usize| {
        let [from, to] = [VIRIDIS[below][channel], VIRIDIS[below + 1][channel]].map(f64::from);
        (from + (to - from) * (place - below as f64) + 0.5) as u8
    };
    Ink(mix(0), mix(1), mix(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bowl() -> Landscape {
        let mut landscape = Landscape {
            title: "wall@1, episode 3".into(),
            names: ["first".into(), "second".into()],
            span: 2.0,
            side: 5,
            costs: vec![0.0; 25],
        };
        landscape.costs = (0..25)
            .map(|point| {
                let [x, y] = landscape.action(point);
                (x - 1.0) * (x - 1.0) + (y + 2.0) * (y + 2.0)
            })
            .collect();
        landscape
    }

    #[test]
    fn points_are_actions_and_the_lowest_is_found() {
        let bowl = bowl();
        assert_eq!(bowl.action(0), [-2.0, -2.0]);
        assert_eq!(bowl.action(24), [2.0, 2.0]);
        assert_eq!(bowl.action(bowl.lowest()), [1.0, -2.0]);
    }

    #[test]
    fn colours_run_from_low_to_high() {
        assert_eq!(
            (viridis(0.0), viridis(1.0)),
            (Ink(68, 1, 84), Ink(253, 231, 37))
        );
        assert_eq!(viridis(0.5), Ink(33, 144, 141));
        assert_eq!(viridis(-3.0), viridis(0.0));
    }

    #[test]
    fn the_map_has_a_cell_per_point_with_names_and_a_scale() {
        let svg = landscape_figure(&bowl()).unwrap();
        assert_eq!(svg.matches("<rect ").count(), 25 + LEVELS);
        for text in [
            "wall@1, episode 3",
            "first",
            "up: second",
            "0.000",
            "25.000",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        // Lowest and highest cost have the ends of the colour map.
        assert!(svg.contains("#440154") && svg.contains("#FDE725"));
    }

    #[test]
    fn a_flat_landscape_is_drawn() {
        let flat = Landscape {
            costs: vec![3.0; 25],
            ..bowl()
        };
        assert!(landscape_figure(&flat).unwrap().contains("3.000"));
    }
}
