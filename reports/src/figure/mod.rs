//! Figures: plotters drawing into SVG text.
//!
//! plotters rounds every coordinate to a whole unit, so figures are drawn [`UNITS`] times larger than
//! they are meant and scaled by the `viewBox`: lines stay smooth at any zoom. Sizes here are points,
//! and a figure is as wide as the text of the PDF. Text is text, in the family [`FAMILY`]; colours are
//! those of [`Ink`], which the page turns into variables for its dark form.

mod actions;
mod convergence;
mod design_lines;
mod distance_to_goal;
mod group_bars;
mod landscape;
mod marks;
mod paired_differences;
mod panel;
mod planning_cost;
mod proxy_scatter;
mod success_bars;
mod success_over_epochs;
mod training_curves;
mod trajectories;

use plotters::coord::Shift;
use plotters::prelude::{
    Circle, DrawingArea, DrawingAreaErrorKind, FontStyle, IntoDrawingArea, IntoTextStyle,
    PathElement, Polygon, RGBColor, Rectangle, SVGBackend, Text, TextStyle,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, ShapeStyle};

use crate::error::{Error, Result};

pub(crate) use actions::{ActionKind, ActionSeries, actions};
pub(crate) use convergence::{PlanSearch, convergence};
pub(crate) use design_lines::{DesignLine, LinePoint, design_lines};
pub(crate) use distance_to_goal::{Distances, distance_to_goal};
pub(crate) use group_bars::{BarGroup, GroupBar, group_bars};
pub use landscape::{Landscape, landscape_figure};
pub(crate) use marks::{Marker, markers_height, swatches_height};
pub(crate) use paired_differences::paired_differences;
pub(crate) use panel::{Frame, Panel};
pub(crate) use planning_cost::{Search, planning_cost};
pub use proxy_scatter::{ProxySeries, proxy_figure};
pub(crate) use success_bars::{Bar, BarKind, success_bars};
pub(crate) use success_over_epochs::{EpochLine, EpochPanel, success_over_epochs};
pub(crate) use training_curves::training_curves;
pub(crate) use trajectories::{Path, Paths, trajectories};

/// Drawing units per point.
const UNITS: f64 = 10.0;
/// Height of a row of a legend in points.
const LEGEND_ROW: f64 = 13.0;
/// Width of every figure in points.
pub(crate) const WIDTH: f64 = 480.0;
/// Font families, first one embedded in the PDF and the page.
pub(crate) const FAMILY: &str = "Inter, Helvetica, Arial, sans-serif";

/// What a painting function returns.
pub(crate) type Painted = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// The colours of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ink(pub(crate) u8, pub(crate) u8, pub(crate) u8);

impl Ink {
    /// Text and whiskers.
    pub(crate) const TEXT: Self = Self(0x1f, 0x23, 0x28);
    /// Tick labels and notes.
    pub(crate) const MUTED: Self = Self(0x65, 0x6d, 0x76);
    /// Grid lines.
    pub(crate) const GRID: Self = Self(0xe2, 0xe5, 0xe9);
    /// Axis and zero lines.
    pub(crate) const AXIS: Self = Self(0x9a, 0xa2, 0xab);
    /// The background, for gaps between marks.
    pub(crate) const PAPER: Self = Self(0xff, 0xff, 0xff);
    /// Floors.
    pub(crate) const FLOOR: Self = Self(0x8c, 0x95, 0x9f);
    /// The ceiling.
    pub(crate) const CEILING: Self = Self(0x4f, 0x6d, 0x7a);
    /// What one hopes for.
    pub(crate) const GOOD: Self = Self(0x2a, 0x8f, 0x6a);
    /// What one does not.
    pub(crate) const BAD: Self = Self(0xd0, 0x57, 0x2a);
    /// Series, in order; readable on white and on black, apart for the colour-blind.
    const SERIES: [Self; 6] = [
        Self(0x2f, 0x6f, 0xde),
        Self(0xe0, 0x7b, 0x27),
        Self(0x2a, 0x9d, 0x8f),
        Self(0xa4, 0x5a, 0xc8),
        Self(0xc9, 0x4a, 0x5f),
        Self(0x7a, 0x8b, 0x2f),
    ];

    /// Colour of series `k`.
    pub(crate) fn series(k: usize) -> Self {
        Self::SERIES[k % Self::SERIES.len()]
    }

    fn rgb(self) -> RGBColor {
        RGBColor(self.0, self.1, self.2)
    }
}

/// Lengths of drawn and left-out stretches of series `k`; lines differ without colour, too.
pub(crate) fn dashes(k: usize) -> &'static [f64] {
    [&[][..], &[5.0, 2.0], &[1.5, 1.5], &[6.0, 2.0, 1.5, 2.0]][k % 4]
}

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Type {
    size: f64,
    ink: Ink,
    is_bold: bool,
}

impl Type {
    /// Names beside marks.
    pub(crate) const LABEL: Self = Self {
        size: 8.0,
        ink: Ink::TEXT,
        is_bold: false,
    };
    /// Numbers at ticks, names of axes.
    pub(crate) const TICK: Self = Self {
        size: 7.5,
        ink: Ink::MUTED,
        is_bold: false,
    };
    /// Heading of a panel.
    pub(crate) const TITLE: Self = Self {
        size: 8.5,
        ink: Ink::TEXT,
        is_bold: true,
    };

    /// The same in bold.
    pub(crate) fn bold(self) -> Self {
        Self {
            is_bold: true,
            ..self
        }
    }

    /// The same in another colour.
    pub(crate) fn ink(self, ink: Ink) -> Self {
        Self { ink, ..self }
    }

    /// `text`, cut off with an ellipsis where it would be wider than `width` points.
    pub(crate) fn fitted(self, text: &str, width: f64) -> String {
        if self.width(text) <= width {
            return text.into();
        }
        let room = (width / self.width("x")).floor().max(1.0) as usize;
        text.chars().take(room - 1).chain(['…']).collect()
    }

    /// Estimated width of `text` in points: Inter's letters are a little over half an em wide.
    pub(crate) fn width(self, text: &str) -> f64 {
        text.chars().count() as f64 * self.size * if self.is_bold { 0.59 } else { 0.545 }
    }
}

/// A drawing surface measured in points.
pub(crate) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

/// Draws a figure [`WIDTH`] points wide and returns its SVG text.
///
/// # Errors
/// When the drawing library refuses.
pub(crate) fn draw(
    name: &str,
    height: f64,
    paint: impl FnOnce(&Canvas<'_>) -> Painted,
) -> Result<String> {
    let mut svg = String::new();
    let size = (units(WIDTH) as u32, units(height) as u32);
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let canvas = Canvas { area };
    let painted = paint(&canvas).and_then(|()| canvas.area.present());
    drop(canvas);
    painted.map_err(|error| Error::Figure {
        figure: name.into(),
        detail: error.to_string(),
    })?;
    Ok(scalable(&svg, size))
}

/// Takes the size in units off the root element: the `viewBox` alone lets every reader scale.
fn scalable(svg: &str, (width, height): (u32, u32)) -> String {
    svg.replacen(
        &format!("<svg width=\"{width}\" height=\"{height}\" "),
        "<svg ",
        1,
    )
}

fn units(points: f64) -> i32 {
    (points * UNITS).round() as i32
}

fn at((x, y): (f64, f64)) -> (i32, i32) {
    (units(x), units(y))
}

impl Canvas<'_> {
    /// Text at a point, vertically centred on it.
    pub(crate) fn text(
        &self,
        point: (f64, f64),
        anchor: Anchor,
        kind: Type,
        text: &str,
    ) -> Painted {
        let horizontal = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        // The back end writes the size divided by 1.24.
        let style = if kind.is_bold {
            FontStyle::Bold
        } else {
            FontStyle::Normal
        };
        let color = kind.ink.rgb();
        let font: TextStyle<'_> =
            (FAMILY, kind.size * UNITS * 1.24, style).into_text_style(&self.area);
        let font = font.color(&color).pos(Pos::new(horizontal, VPos::Center));
        self.area
            .draw(&Text::new(text.to_string(), at(point), font))
    }

    /// A line through points.
    pub(crate) fn line(&self, points: &[(f64, f64)], ink: Ink, width: f64) -> Painted {
        let points: Vec<(i32, i32)> = points.iter().copied().map(at).collect();
        self.area
            .draw(&PathElement::new(points, stroke(ink, 1.0, width)))
    }

    /// A faint line through points.
    pub(crate) fn faint_line(
        &self,
        points: &[(f64, f64)],
        ink: Ink,
        width: f64,
        opacity: f64,
    ) -> Painted {
        let points: Vec<(i32, i32)> = points.iter().copied().map(at).collect();
        self.area
            .draw(&PathElement::new(points, stroke(ink, opacity, width)))
    }

    /// A line with gaps: lengths of strokes and gaps in turn, solid if there are none.
    pub(crate) fn dashed(
        &self,
        points: &[(f64, f64)],
        ink: Ink,
        width: f64,
        pattern: &[f64],
    ) -> Painted {
        if pattern.is_empty() {
            return self.line(points, ink, width);
        }
        for stroke in cut(points, pattern) {
            self.line(&stroke, ink, width)?;
        }
        Ok(())
    }

    /// A filled shape.
    pub(crate) fn shape(&self, outline: &[(f64, f64)], ink: Ink, opacity: f64) -> Painted {
        let outline: Vec<(i32, i32)> = outline.iter().copied().map(at).collect();
        self.area
            .draw(&Polygon::new(outline, ink.rgb().mix(opacity).filled()))
    }

    /// A filled rectangle between two corners.
    pub(crate) fn bar(&self, corners: [(f64, f64); 2], ink: Ink, opacity: f64) -> Painted {
        self.area.draw(&Rectangle::new(
            corners.map(at),
            ink.rgb().mix(opacity).filled(),
        ))
    }

    /// The outline of a rectangle.
    pub(crate) fn outline(
        &self,
        [(x0, y0), (x1, y1)]: [(f64, f64); 2],
        ink: Ink,
        width: f64,
    ) -> Painted {
        self.line(
            &[(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)],
            ink,
            width,
        )
    }

    /// A disc.
    pub(crate) fn dot(&self, center: (f64, f64), radius: f64, ink: Ink) -> Painted {
        self.area
            .draw(&Circle::new(at(center), units(radius), ink.rgb().filled()))
    }

    /// Names of series with a sample of their line, laid out by [`legend_places`].
    pub(crate) fn legend(&self, place: (f64, f64), right: f64, entries: &[Entry<'_>]) -> Painted {
        for ((name, ink, pattern), (x, y)) in
            entries.iter().zip(legend_places(place, right, entries))
        {
            self.dashed(&[(x, y), (x + 17.0, y)], *ink, 1.8, pattern)?;
            self.text((x + 22.0, y), Anchor::Start, Type::LABEL, name)?;
        }
        Ok(())
    }
}

/// An entry of a legend: name, colour and dashes of a series.
pub(crate) type Entry<'a> = (String, Ink, &'a [f64]);

/// Where the entries of a legend go: from `left`, `top` on, on as many rows as needed.
fn legend_places((left, top): (f64, f64), right: f64, entries: &[Entry<'_>]) -> Vec<(f64, f64)> {
    let (mut x, mut y) = (left, top);
    let mut places = Vec::with_capacity(entries.len());
    for (name, ..) in entries {
        let width = 22.0 + Type::LABEL.width(name) + 14.0;
        if x > left && x + width > right {
            (x, y) = (left, y + LEGEND_ROW);
        }
        places.push((x, y));
        x += width;
    }
    places
}

/// Height of a legend in points.
pub(crate) fn legend_height(left: f64, right: f64, entries: &[Entry<'_>]) -> f64 {
    legend_places((left, 0.0), right, entries)
        .last()
        .map_or(0.0, |&(_, y)| y + LEGEND_ROW)
}

/// Panels per row, at most `most`, so that rows are about equally long.
pub(crate) fn balanced(panels: usize, most: usize) -> usize {
    panels.div_ceil(panels.div_ceil(most).max(1)).max(1)
}

fn stroke(ink: Ink, opacity: f64, width: f64) -> ShapeStyle {
    ink.rgb().mix(opacity).stroke_width(units(width) as u32)
}

/// Cuts a line into the strokes of a dash pattern.
fn cut(points: &[(f64, f64)], pattern: &[f64]) -> Vec<Vec<(f64, f64)>> {
    let mut strokes = Vec::new();
    let (mut part, mut left) = (0, pattern[0]);
    let mut open: Vec<(f64, f64)> = points.first().copied().into_iter().collect();
    for pair in points.windows(2) {
        let ((mut x, mut y), (x1, y1)) = (pair[0], pair[1]);
        loop {
            let length = ((x1 - x).powi(2) + (y1 - y).powi(2)).sqrt();
            if length <= left {
                left -= length;
                open.push((x1, y1));
                break;
            }
            (x, y) = (x + (x1 - x) * left / length, y + (y1 - y) * left / length);
            open.push((x, y));
            if part % 2 == 0 {
                strokes.push(std::mem::take(&mut open));
            }
            part += 1;
            left = pattern[part % pattern.len()];
            open = vec![(x, y)];
        }
    }
    if part % 2 == 0 && open.len() > 1 {
        strokes.push(open);
    }
    strokes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_scales_and_is_the_same_every_time() {
        let paint = || {
            draw("test", 100.0, |canvas| {
                canvas.text((10.0, 10.0), Anchor::Start, Type::LABEL, "5 < 6 & so on")?;
                canvas.line(&[(0.0, 0.0), (100.05, 50.0)], Ink::TEXT, 1.0)
            })
            .unwrap()
        };
        let svg = paint();
        assert!(
            svg.starts_with("<svg viewBox=\"0 0 4800 1000\""),
            "{}",
            &svg[..60]
        );
        assert!(svg.contains("5 &lt; 6 &amp; so on") && svg.contains("1001,500"));
        assert_eq!(svg, paint());
    }

    #[test]
    fn texts_that_do_not_fit_end_in_an_ellipsis() {
        // A letter of a label is 8 * 0.545 = 4.36 points wide.
        assert_eq!(Type::LABEL.fitted("twelve chars", 52.4), "twelve chars");
        assert_eq!(Type::LABEL.fitted("twelve chars", 30.0), "twelv…");
    }

    #[test]
    fn rows_of_panels_are_about_equally_long() {
        assert_eq!(
            [0, 1, 4, 5, 7, 9].map(|panels| balanced(panels, 4)),
            [1, 1, 4, 3, 4, 3]
        );
    }

    #[test]
    fn dashes_cover_their_share_of_a_line() {
        let strokes = cut(&[(0.0, 0.0), (6.0, 0.0), (20.0, 0.0)], &[4.0, 1.0]);
        let drawn: f64 = strokes.iter().map(|s| s[s.len() - 1].0 - s[0].0).sum();
        assert_eq!((strokes.len(), drawn), (4, 16.0));
        assert_eq!(strokes[1], [(5.0, 0.0), (6.0, 0.0), (9.0, 0.0)]);
    }
}
