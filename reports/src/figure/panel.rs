//! A pair of axes inside a figure: grid, ticks, names, lines and bands.

use plotters::coord::CoordTranslate;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::Ranged;
use plotters::coord::types::RangedCoordf64;

use super::{Anchor, Canvas, Ink, Painted, Type, UNITS, units};
use crate::text;

/// A rectangle in points.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) right: f64,
    pub(crate) bottom: f64,
}

/// Axes over a frame. A logarithmic vertical axis takes values as they are and draws their decimal
/// logarithm.
pub(crate) struct Panel<'a, 'svg> {
    canvas: &'a Canvas<'svg>,
    frame: Frame,
    axes: Cartesian2d<RangedCoordf64, RangedCoordf64>,
    x: (f64, f64),
    y: (f64, f64),
    is_log: bool,
}

impl<'a, 'svg> Panel<'a, 'svg> {
    /// Axes that show `x` and `y` from the first to the second value, upwards and to the right.
    pub(crate) fn new(
        canvas: &'a Canvas<'svg>,
        frame: Frame,
        x: (f64, f64),
        y: (f64, f64),
    ) -> Self {
        let pixels = (
            units(frame.left)..units(frame.right),
            units(frame.bottom)..units(frame.top),
        );
        let axes = Cartesian2d::new(x.0..x.1, y.0..y.1, pixels);
        Self {
            canvas,
            frame,
            axes,
            x,
            y,
            is_log: false,
        }
    }

    /// The same axes with a logarithmic vertical scale over positive values.
    pub(crate) fn logarithmic(
        canvas: &'a Canvas<'svg>,
        frame: Frame,
        x: (f64, f64),
        y: (f64, f64),
    ) -> Self {
        let y = (y.0.log10(), y.1.log10());
        Self {
            is_log: true,
            ..Self::new(canvas, frame, x, y)
        }
    }

    /// A value pair as a point of the canvas. What a logarithmic scale cannot show is on its axis.
    pub(crate) fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let y = if self.is_log {
            y.log10().max(self.y.0)
        } else {
            y
        };
        let (column, row) = self.axes.translate(&(x, y));
        (f64::from(column) / UNITS, f64::from(row) / UNITS)
    }

    /// Heading above the frame.
    pub(crate) fn title(&self, text: &str) -> Painted {
        self.canvas.text(
            (self.frame.left, self.frame.top - 10.0),
            Anchor::Start,
            Type::TITLE,
            &Type::TITLE.fitted(text, self.frame.right - self.frame.left + 24.0),
        )
    }

    /// Horizontal grid lines with their values, at most `count`.
    pub(crate) fn rows(&self, count: usize, label: impl Fn(f64) -> String) -> Painted {
        let Frame { left, right, .. } = self.frame;
        for value in self.row_ticks(count) {
            let (_, y) = self.at((self.x.0, value));
            let is_base = (y - self.frame.bottom).abs() < 0.5;
            self.canvas.line(
                &[(left, y), (right, y)],
                if is_base { Ink::AXIS } else { Ink::GRID },
                0.6,
            )?;
            self.canvas
                .text((left - 4.0, y), Anchor::End, Type::TICK, &label(value))?;
        }
        Ok(())
    }

    /// Ticks of the vertical axis; powers of ten, or 1, 2 and 5 times those, if it is logarithmic.
    fn row_ticks(&self, count: usize) -> Vec<f64> {
        if !self.is_log {
            return RangedCoordf64::from(self.y.0..self.y.1).key_points(count);
        }
        let (low, high) = (self.y.0.floor() as i32, self.y.1.ceil() as i32);
        let steps: &[f64] = if self.y.1 - self.y.0 > 1.5 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let all =
            (low..=high).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        let shown: Vec<f64> = all
            .filter(|value| (self.y.0 - 1e-9..=self.y.1 + 1e-9).contains(&value.log10()))
            .collect();
        // A range narrower than from 1 to 2 may hold none of them.
        if shown.len() < 2 {
            return RangedCoordf64::from(10f64.powf(self.y.0)..10f64.powf(self.y.1))
                .key_points(count);
        }
        shown
    }

    /// Values below the horizontal axis, at most `count`, with grid lines if asked for.
    pub(crate) fn columns(
        &self,
        count: usize,
        has_grid: bool,
        label: impl Fn(f64) -> String,
    ) -> Painted {
        let Frame { top, bottom, .. } = self.frame;
        for value in RangedCoordf64::from(self.x.0..self.x.1).key_points(count) {
            let x = f64::from(self.axes.translate(&(value, self.y.0)).0) / UNITS;
            if has_grid {
                self.canvas.line(&[(x, top), (x, bottom)], Ink::GRID, 0.6)?;
            } else {
                self.canvas
                    .line(&[(x, bottom), (x, bottom + 2.5)], Ink::AXIS, 0.6)?;
            }
            self.canvas
                .text((x, bottom + 9.0), Anchor::Middle, Type::TICK, &label(value))?;
        }
        Ok(())
    }

    /// Name of the horizontal axis, below its values.
    pub(crate) fn x_name(&self, name: &str) -> Painted {
        let middle = f64::midpoint(self.frame.left, self.frame.right);
        self.canvas.text(
            (middle, self.frame.bottom + 21.0),
            Anchor::Middle,
            Type::TICK,
            name,
        )
    }

    /// Name of the vertical axis, above its values.
    pub(crate) fn y_name(&self, name: &str) -> Painted {
        let place = (0.0, self.frame.top - 13.0);
        self.canvas.text(place, Anchor::Start, Type::TICK, name)
    }

    /// Ticks at these values with these names, below the horizontal axis.
    pub(crate) fn named_columns(&self, ticks: &[(f64, String)]) -> Painted {
        let bottom = self.frame.bottom;
        for (value, name) in ticks {
            let x = f64::from(self.axes.translate(&(*value, self.y.0)).0) / UNITS;
            self.canvas
                .line(&[(x, bottom), (x, bottom + 2.5)], Ink::AXIS, 0.6)?;
            self.canvas
                .text((x, bottom + 9.0), Anchor::Middle, Type::TICK, name)?;
        }
        Ok(())
    }

    /// A line of horizontal axis.
    pub(crate) fn base(&self) -> Painted {
        let Frame {
            left,
            right,
            bottom,
            ..
        } = self.frame;
        self.canvas
            .line(&[(left, bottom), (right, bottom)], Ink::AXIS, 0.6)
    }

    /// A line through values, with a dot at each if they are few. Values that are not numbers are left
    /// out.
    pub(crate) fn line(&self, values: &[(f64, f64)], ink: Ink, pattern: &[f64]) -> Painted {
        const FEW: usize = 15;
        let points = self.points(values);
        self.canvas.dashed(&points, ink, 1.5, pattern)?;
        let dots: &[(f64, f64)] = if points.len() <= FEW { &points } else { &[] };
        dots.iter()
            .try_for_each(|&point| self.canvas.dot(point, 1.7, ink))
    }

    /// A band between two values per position.
    pub(crate) fn band(&self, values: &[(f64, f64, f64)], ink: Ink) -> Painted {
        let upper = values.iter().map(|&(x, _, high)| (x, high));
        let lower = values.iter().rev().map(|&(x, low, _)| (x, low));
        let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
        self.canvas.shape(&self.points(&outline), ink, 0.18)
    }

    fn points(&self, values: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let shown = |&&(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
        values
            .iter()
            .filter(shown)
            .map(|&value| self.at(value))
            .collect()
    }
}

/// Numbers at ticks: whole ones without digits, large ones in thousands, others short.
pub(crate) fn tick(value: f64) -> String {
    if value.abs() >= 10_000.0 {
        return format!("{}k", trimmed(value / 1000.0));
    }
    if value != 0.0 && value.abs() < 1e-3 {
        format!("{value:e}").replace('-', "−")
    } else {
        trimmed(value)
    }
}

/// Up to three digits after the point, without trailing zeros.
fn trimmed(value: f64) -> String {
    let text = text::decimal(value, 3);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// Least and greatest finite value, with some room above; `(0, 1)` if there are none.
pub(crate) fn from_zero(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let high = values
        .into_iter()
        .filter(|v| v.is_finite())
        .fold(0.0, f64::max);
    (0.0, if high > 0.0 { high * 1.06 } else { 1.0 })
}

/// Decades that a logarithmic axis shows at most, counted from the greatest value.
const DECADES: i32 = 5;

/// Range of positive values for a logarithmic axis; one decade if there are none. At most
/// [`DECADES`] are shown: values below are drawn on the axis.
pub(crate) fn decades(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let positive = values.into_iter().filter(|v| v.is_finite() && *v > 0.0);
    let (low, high) = positive.fold((f64::INFINITY, 0.0_f64), |(low, high), v| {
        (low.min(v), high.max(v))
    });
    if low > high {
        (0.1, 1.0)
    } else {
        (low.max(high / 10f64.powi(DECADES)) / 1.15, high * 1.15)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_short() {
        let texts: Vec<String> = [0.0, 0.5, 20.0, -5.0, 9000.0, 12_500.0, 2e-4]
            .map(tick)
            .into();
        assert_eq!(texts, ["0", "0.5", "20", "−5", "9000", "12.5k", "2e−4"]);
    }

    #[test]
    fn ranges_survive_odd_data() {
        assert_eq!(from_zero([]), (0.0, 1.0));
        assert_eq!(from_zero([f64::NAN, 0.0]), (0.0, 1.0));
        assert_eq!(decades([0.0, -1.0]), (0.1, 1.0));
        assert!(decades([1.0, 10.0]).0 < 1.0);
    }
}
