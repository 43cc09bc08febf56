//! Small drawings in the page: intervals, curves, paths. Colours come from the style sheet, by class.

use maud::{Markup, html};

use super::format::number;

/// Width of an interval drawing in its own units; 0% is at its left end.
const BAR: f64 = 100.0;

/// What stands behind the interval of a success rate.
#[derive(Debug, Clone, Default)]
pub(super) struct Scale {
    /// Success rate of the random floor.
    pub(super) floor: Option<f64>,
    /// Success rate of the ceiling.
    pub(super) ceiling: Option<f64>,
}

/// A rate with its interval on a line from 0 to 100%, and single rates as dots.
pub(super) fn interval(rate: f64, low: f64, high: f64, dots: &[f64], scale: &Scale) -> Markup {
    let at = |share: f64| format!("{:.1}", BAR * share.clamp(0.0, 1.0));
    let width = format!("{:.1}", (BAR * (high - low)).max(0.5));
    html! {
        svg.bar viewBox="-3 0 106 14" width="106" height="14" aria-hidden="true" focusable="false" {
            line.axis x1="0" y1="7" x2="100" y2="7" {}
            @if let Some(floor) = scale.floor { line.floor x1=(at(floor)) y1="1" x2=(at(floor)) y2="13" {} }
            @if let Some(ceiling) = scale.ceiling { line.ceiling x1=(at(ceiling)) y1="1" x2=(at(ceiling)) y2="13" {} }
            rect.range x=(at(low)) y="4" width=(width) height="6" rx="1.5" {}
            @for dot in dots { circle.dot cx=(at(*dot)) cy="7" r="2" {} }
            line.value x1=(at(rate)) y1="2" x2=(at(rate)) y2="12" {}
        }
    }
}

/// Where the points of a drawing lie, for marks that a script moves.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Points(pub(super) Vec<(f64, f64)>);

impl Points {
    fn attribute(&self) -> String {
        let points: Vec<String> = self
            .0
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        points.join(" ")
    }
}

/// Size of a curve's drawing.
const WIDTH: f64 = 560.0;
/// Height of a curve's drawing.
const HEIGHT: f64 = 150.0;
/// Room for the numbers at the left and below.
const MARGIN: (f64, f64) = (52.0, 22.0);

/// Places the values of a curve: step to the right, value upwards.
pub(super) fn curve_points(values: &[f64], steps: usize) -> Points {
    let (low, high) = range(values.iter().copied());
    let place = |(step, value): (usize, &f64)| {
        let x = MARGIN.0 + (WIDTH - MARGIN.0 - 8.0) * step as f64 / steps.max(1) as f64;
        let y = 8.0 + (HEIGHT - MARGIN.1 - 8.0) * (1.0 - (value - low) / (high - low));
        (x, y)
    };
    Points(values.iter().enumerate().map(place).collect())
}

/// A curve over the steps of an episode. `label` says what it shows, for those who cannot see it.
pub(super) fn curve(values: &[f64], steps: usize, label: &str) -> Markup {
    let (low, high) = range(values.iter().copied());
    let points = curve_points(values, steps);
    let (right, bottom) = (WIDTH - 8.0, HEIGHT - MARGIN.1);
    let (last_x, last_y) = points.0.last().copied().unwrap_or((MARGIN.0, bottom));
    html! {
        svg.curve viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(label) {
            line.axis x1=(MARGIN.0) y1=(bottom) x2=(right) y2=(bottom) {}
            line.axis x1=(MARGIN.0) y1="8" x2=(MARGIN.0) y2=(bottom) {}
            text.end x=(MARGIN.0 - 5.0) y="13" { (number(high)) }
            text.end x=(MARGIN.0 - 5.0) y=(bottom) { (number(low)) }
            text x=(MARGIN.0) y=(HEIGHT - 6.0) { "0" }
            text.end x=(right) y=(HEIGHT - 6.0) { "step " (steps) }
            polyline.line points=(points.attribute()) {}
            line.mark data-mark x1=(format!("{last_x:.1}")) x2=(format!("{last_x:.1}")) y1="8" y2=(bottom) {}
            circle.at data-mark cx=(format!("{last_x:.1}")) cy=(format!("{last_y:.1}")) r="3.5" {}
        }
    }
}

/// A path in the plane with its start, its goal and where it ends.
pub(super) struct Path<'a> {
    /// The way, point by point.
    pub(super) way: &'a [(f64, f64)],
    /// The goal.
    pub(super) goal: (f64, f64),
    /// What moves: `agent`, `block`.
    pub(super) name: &'a str,
}

/// Side of a drawing of paths.
const SIDE: f64 = 220.0;

/// Places the points of several paths in one square with equal scales; second coordinate downwards, as
/// in the frames of the simulators.
pub(super) fn path_points(paths: &[Path<'_>]) -> Vec<(Points, (f64, f64))> {
    let all = || {
        paths
            .iter()
            .flat_map(|path| path.way.iter().chain([&path.goal]))
    };
    let (left, right) = range(all().map(|point| point.0));
    let (top, bottom) = range(all().map(|point| point.1));
    let scale = (SIDE - 28.0) / (right - left).max(bottom - top);
    let middle = (f64::midpoint(left, right), f64::midpoint(top, bottom));
    let place = |point: &(f64, f64)| {
        (
            SIDE / 2.0 + scale * (point.0 - middle.0),
            SIDE / 2.0 + scale * (point.1 - middle.1),
        )
    };
    paths
        .iter()
        .map(|path| {
            (
                Points(path.way.iter().map(place).collect()),
                place(&path.goal),
            )
        })
        .collect()
}

/// Draws paths.
pub(super) fn paths(paths: &[Path<'_>], label: &str) -> Markup {
    let placed = path_points(paths);
    html! {
        svg.path viewBox={ "0 0 " (SIDE) " " (SIDE) } role="img" aria-label=(label) {
            rect.frame x="0.5" y="0.5" width=(SIDE - 1.0) height=(SIDE - 1.0) rx="4" {}
            @for (k, (path, (points, goal))) in paths.iter().zip(&placed).enumerate() {
                @let start = points.0.first().copied().unwrap_or(*goal);
                @let end = points.0.last().copied().unwrap_or(*goal);
                g class={ "way way-" (k) } data-path=(k) {
                    polyline.line points=(points.attribute()) {}
                    rect.start x=(format!("{:.1}", start.0 - 3.5)) y=(format!("{:.1}", start.1 - 3.5)) width="7" height="7" {}
                    path.goal d=(cross(*goal)) {}
                    circle.at data-mark cx=(format!("{:.1}", end.0)) cy=(format!("{:.1}", end.1)) r="4.5" {
                        title { (path.name) }
                    }
                }
            }
        }
    }
}

fn cross((x, y): (f64, f64)) -> String {
    let (left, right, top, bottom) = (x - 6.0, x + 6.0, y - 6.0, y + 6.0);
    format!("M{left:.1} {top:.1}L{right:.1} {bottom:.1}M{left:.1} {bottom:.1}L{right:.1} {top:.1}")
}

/// Smallest and largest finite value, never equal.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|value| value.is_finite()) {
        low = low.min(value);
        high = high.max(value);
    }
    match () {
        () if low > high => (0.0, 1.0),
        () if high - low < 1e-12 => (low - 0.5, high + 0.5),
        () => (low, high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_fills_its_frame() {
        let points = curve_points(&[4.0, 2.0, 0.0], 2).0;
        assert_eq!(points[0], (52.0, 8.0));
        assert_eq!(points[1], (302.0, 68.0));
        assert_eq!(points[2], (552.0, 128.0));
        let drawn = curve(&[4.0, 2.0, 0.0], 2, "distance").into_string();
        assert!(
            drawn.contains("points=\"52.0,8.0 302.0,68.0 552.0,128.0\""),
            "{drawn}"
        );
    }

    #[test]
    fn values_that_are_no_numbers_do_not_spoil_a_drawing() {
        assert_eq!(range([f64::NAN, f64::INFINITY].into_iter()), (0.0, 1.0));
        assert_eq!(range([3.0, f64::NAN].into_iter()), (2.5, 3.5));
        let drawn = curve(&[], 0, "nothing").into_string();
        assert!(drawn.contains("polyline"), "{drawn}");
    }

    #[test]
    fn paths_share_one_scale_and_keep_their_proportions() {
        let way = [(0.0, 0.0), (10.0, 0.0)];
        let placed = path_points(&[
            Path {
                way: &way,
                goal: (10.0, 5.0),
                name: "agent",
            },
            Path {
                way: &[(5.0, 2.5)],
                goal: (5.0, 2.5),
                name: "block",
            },
        ]);
        let points = &placed[0].0.0;
        assert_eq!((points[0].0, points[1].0), (14.0, 206.0));
        assert_eq!(placed[0].1.1 - points[0].1, 96.0, "half as high as wide");
        assert_eq!(placed[1].0.0[0], (110.0, 110.0));
    }

    #[test]
    fn an_interval_is_drawn_where_it_lies() {
        let scale = Scale {
            floor: Some(0.02),
            ceiling: Some(1.0),
        };
        let drawn = interval(0.5, 0.4, 0.61, &[0.45], &scale).into_string();
        for part in [
            "x=\"40.0\"",
            "width=\"21.0\"",
            "x1=\"50.0\"",
            "cx=\"45.0\"",
            "x1=\"2.0\"",
        ] {
            assert!(drawn.contains(part), "{part} in {drawn}");
        }
    }
}
