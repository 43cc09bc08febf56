//! Drawing without antialiasing into a part of the 512-pixel canvas, to the pixel as pygame 2.6.1 draws it.
//!
//! The rules were found by drawing thousands of figures with pygame and looking at the pixels. Coordinates are those of
//! the whole canvas; what lies outside the part is cut off.

/// A colour, red first.
pub(super) type Colour = [u8; 3];
/// A pixel, column first.
pub(super) type Pixel = [i32; 2];

/// Half the width of the rows of discs, from the middle outwards.
const DISC_2: [i32; 2] = [2, 1];
const DISC_11: [i32; 11] = [11, 11, 11, 10, 10, 9, 8, 8, 6, 5, 3];
const DISC_15: [i32; 15] = [15, 15, 15, 14, 14, 14, 13, 13, 12, 11, 10, 9, 8, 6, 3];
/// Pixels farther away than this are not drawn anyway; the limit keeps products within `i64`.
const FAR: f64 = 1e6;

/// A disc of one of the three sizes that are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disc {
    /// Radius 2: ends of fat lines.
    End,
    /// Radius 11: the inner part of the agent.
    Inner,
    /// Radius 15: the agent.
    Outer,
}

/// Rounds a point to a pixel, halves to even.
pub(super) fn pixel(point: [f64; 2]) -> Pixel {
    point.map(|at| at.round_ties_even().clamp(-FAR, FAR) as i32)
}

/// A rectangle of pixels: first column and row, and the ones after the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) from: Pixel,
    pub(super) to: Pixel,
}

/// A part of the canvas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Canvas {
    pub(super) area: Area,
    /// `[h, w, 3]`.
    pub(super) rgb: Vec<u8>,
}

impl Canvas {
    /// A part of one colour.
    pub(super) fn filled(area: Area, colour: Colour) -> Self {
        let [width, height] = [0, 1].map(|axis| (area.to[axis] - area.from[axis]) as usize);
        Self {
            area,
            rgb: colour.repeat(width * height),
        }
    }

    /// A copy of a part of this part; `area` must lie within it.
    pub(super) fn cut(&self, area: Area) -> Self {
        let width = (area.to[0] - area.from[0]) as usize;
        let rows = area.from[1]..area.to[1];
        let mut rgb = Vec::with_capacity(3 * width * rows.len());
        for row in rows {
            let at = self.at([area.from[0], row]);
            rgb.extend_from_slice(&self.rgb[at..at + 3 * width]);
        }
        Self { area, rgb }
    }

    fn width(&self) -> usize {
        (self.area.to[0] - self.area.from[0]) as usize
    }

    /// Where the colour of a pixel is.
    pub(super) fn at(&self, [column, row]: Pixel) -> usize {
        let [left, top] = self.area.from;
        3 * ((row - top) as usize * self.width() + (column - left) as usize)
    }

    /// Whether a pixel lies in this part.
    pub(super) fn holds(&self, pixel: Pixel) -> bool {
        (0..2).all(|axis| (self.area.from[axis]..self.area.to[axis]).contains(&pixel[axis]))
    }

    /// The pixels of a row from one column to another, both included.
    fn row(&mut self, row: i32, from: i32, to: i32, colour: Colour) {
        let (from, to) = (from.max(self.area.from[0]), to.min(self.area.to[0] - 1));
        if (self.area.from[1]..self.area.to[1]).contains(&row) && from <= to {
            let start = self.at([from, row]);
            let pixels = &mut self.rgb[start..start + 3 * (to - from + 1) as usize];
            for pixel in pixels.as_chunks_mut::<3>().0 {
                *pixel = colour;
            }
        }
    }

    /// A filled polygon of up to four corners. In every row, pixels between the first and the second edge that it
    /// crosses belong to it, and so on, ends included and rounded down.
    pub(super) fn polygon(&mut self, corners: &[Pixel; 4], colour: Colour) {
        let rows = corners.map(|corner| corner[1]);
        let (top, bottom) = rows
            .iter()
            .fold((i32::MAX, i32::MIN), |(top, bottom), row| {
                (top.min(*row), bottom.max(*row))
            });
        let edges = [0, 1, 2, 3].map(|index| {
            let (a, b) = (corners[index], corners[(index + 1) % 4]);
            if a[1] <= b[1] { [a, b] } else { [b, a] }
        });
        for row in top.max(self.area.from[1])..=bottom.min(self.area.to[1] - 1) {
            let mut crossings = [0; 4];
            let mut count = 0;
            for [a, b] in &edges {
                let is_crossed = a[1] <= row && row < b[1] || row == bottom && b[1] == bottom;
                if a[1] < b[1] && is_crossed {
                    let across = i64::from(row - a[1]) * i64::from(b[0] - a[0]);
                    crossings[count] = a[0] + across.div_euclid(i64::from(b[1] - a[1])) as i32;
                    count += 1;
                }
            }
            let crossings = &mut crossings[..count];
            crossings.sort_unstable();
            for pair in crossings.as_chunks::<2>().0 {
                self.row(row, pair[0], pair[1], colour);
            }
        }
        for [a, b] in &edges {
            if a[1] == b[1] {
                self.row(a[1], a[0].min(b[0]), a[0].max(b[0]), colour);
            }
        }
    }

    /// A disc around a corner of pixels: rows and columns `-r` to `r - 1` from it.
    pub(super) fn disc(&mut self, [x, y]: Pixel, disc: Disc, colour: Colour) {
        let halves: &[i32] = match disc {
            Disc::End => &DISC_2,
            Disc::Inner => &DISC_11,
            Disc::Outer => &DISC_15,
        };
        for (away, half) in (0..).zip(halves) {
            self.row(y - 1 - away, x - half, x + half - 1, colour);
            self.row(y + away, x - half, x + half - 1, colour);
        }
    }

    /// A line that is four pixels wide across its longer axis.
    fn wide_line(&mut self, a: Pixel, b: Pixel, colour: Colour) {
        let [across, down] = [0, 1].map(|axis| b[axis] - a[axis]);
        let is_steep = down.abs() >= across.abs();
        let (long, short) = if is_steep {
            (down, across)
        } else {
            (across, down)
        };
        let length = i64::from(long.abs());
        for step in 0..=length {
            // The nearest pixel on the shorter axis; of two, the nearer to the start.
            let aside = 2 * step * i64::from(short.abs()) - length;
            let aside =
                (aside + 2 * length - 1).div_euclid((2 * length).max(1)) as i32 * short.signum();
            let along = step as i32 * long.signum();
            if is_steep {
                let [x, y] = [a[0] + aside, a[1] + along];
                self.row(y, x - 1, x + 2, colour);
            } else {
                let [x, y] = [a[0] + along, a[1] + aside];
                for row in y - 1..=y + 2 {
                    self.row(row, x, x, colour);
                }
            }
        }
    }

    /// A line with round ends, drawn three times over: a wide line, a quadrilateral and two discs. The quadrilateral is
    /// a rectangle only where the line goes up to the right.
    pub(super) fn fat_line(&mut self, a: Pixel, b: Pixel, colour: Colour) {
        self.wide_line(a, b, colour);
        let [across, down] = [0, 1].map(|axis| f64::from((b[axis] - a[axis]).abs()));
        let length = (across * across + down * down).sqrt();
        if length == 0.0 {
            return;
        }
        let [x, y] = [down, across].map(|side| (side * (2.0 / length)).round_ties_even() as i32);
        let corners = [
            [a[0] - x, a[1] - y],
            [a[0] + x, a[1] + y],
            [b[0] + x, b[1] + y],
            [b[0] - x, b[1] - y],
        ];
        self.polygon(&corners, colour);
        self.disc(a, Disc::End, colour);
        self.disc(b, Disc::End, colour);
    }

    /// A line of one pixel, its colour shared between the two pixels next to it.
    pub(super) fn thin_line(&mut self, a: Pixel, b: Pixel, colour: Colour) {
        let is_steep = (b[1] - a[1]).abs() > (b[0] - a[0]).abs();
        let turn = |[x, y]: Pixel| if is_steep { [y, x] } else { [x, y] };
        let (a, b) = (turn(a), turn(b));
        let (a, b) = if a[0] <= b[0] { (a, b) } else { (b, a) };
        let slope = if a[0] == b[0] {
            0.0
        } else {
            f64::from(b[1] - a[1]) / f64::from(b[0] - a[0])
        };
        for x in a[0]..=b[0] {
            let y = f64::from(a[1]) + f64::from(x - a[0]) * slope;
            let share = y - y.floor();
            let y = y.floor() as i32;
            self.blend(turn([x, y]), 1.0 - share, colour);
            self.blend(turn([x, y + 1]), share, colour);
        }
    }

    fn blend(&mut self, pixel: Pixel, share: f64, colour: Colour) {
        if share > 0.0 && self.holds(pixel) {
            let at = self.at(pixel);
            for (value, new) in self.rgb[at..at + 3].iter_mut().zip(colour) {
                *value = (share * f64::from(new) + (1.0 - share) * f64::from(*value)) as u8;
            }
        }
    }
}
