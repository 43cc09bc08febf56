//! Marks that differ without colour: hatches of bars, shapes of points, and their legends.

use super::{Anchor, Canvas, Ink, LEGEND_ROW, Painted, Type};

/// Colours of Okabe and Ito, apart for the colour-blind; the yellow is darker, to be seen on white.
const VARIANTS: [Ink; 8] = [
    Ink(0x00, 0x72, 0xb2),
    Ink(0xe6, 0x9f, 0x00),
    Ink(0x00, 0x9e, 0x73),
    Ink(0xcc, 0x79, 0xa7),
    Ink(0xd5, 0x5e, 0x00),
    Ink(0x56, 0xb4, 0xe9),
    Ink(0xb8, 0xa9, 0x00),
    Ink(0x8c, 0x95, 0x9f),
];
/// Distance between the lines of a hatch in points.
const HATCH: f64 = 3.0;

impl Ink {
    /// Colour of variant `k` of a comparison.
    pub(crate) fn variant(k: usize) -> Self {
        VARIANTS[k % VARIANTS.len()]
    }
}

/// Shape of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    Disc,
    Square,
    Up,
    Down,
    Diamond,
    Ring,
    Box,
    Cross,
    Plus,
}

impl Marker {
    /// Shape of series `k`.
    pub(crate) fn of(k: usize) -> Self {
        [
            Self::Disc,
            Self::Square,
            Self::Up,
            Self::Down,
            Self::Diamond,
            Self::Ring,
            Self::Box,
            Self::Cross,
            Self::Plus,
        ][k % 9]
    }
}

impl Canvas<'_> {
    /// A point of some shape.
    pub(crate) fn marker(&self, (x, y): (f64, f64), r: f64, ink: Ink, marker: Marker) -> Painted {
        let polygon = |points: &[(f64, f64)]| {
            let outline: Vec<(f64, f64)> = points
                .iter()
                .map(|&(dx, dy)| (x + r * dx, y + r * dy))
                .collect();
            self.shape(&outline, ink, 1.0)
        };
        match marker {
            Marker::Disc => self.dot((x, y), r, ink),
            Marker::Square => self.bar([(x - r, y - r), (x + r, y + r)], ink, 1.0),
            Marker::Up => polygon(&[(-1.1, 0.9), (1.1, 0.9), (0.0, -1.2)]),
            Marker::Down => polygon(&[(-1.1, -0.9), (1.1, -0.9), (0.0, 1.2)]),
            Marker::Diamond => polygon(&[(-1.2, 0.0), (0.0, -1.2), (1.2, 0.0), (0.0, 1.2)]),
            Marker::Ring => {
                self.dot((x, y), r, ink)?;
                self.dot((x, y), r - 1.2, Ink::PAPER)
            }
            Marker::Box => {
                self.bar([(x - r, y - r), (x + r, y + r)], ink, 1.0)?;
                self.bar(
                    [(x - r + 1.2, y - r + 1.2), (x + r - 1.2, y + r - 1.2)],
                    Ink::PAPER,
                    1.0,
                )
            }
            Marker::Cross => {
                self.line(&[(x - r, y - r), (x + r, y + r)], ink, 1.5)?;
                self.line(&[(x - r, y + r), (x + r, y - r)], ink, 1.5)
            }
            Marker::Plus => {
                self.line(&[(x - r, y), (x + r, y)], ink, 1.5)?;
                self.line(&[(x, y - r), (x, y + r)], ink, 1.5)
            }
        }
    }

    /// A hollow diamond: a published number.
    pub(crate) fn diamond(&self, (x, y): (f64, f64), r: f64) -> Painted {
        let corners = [(x - r, y), (x, y - r), (x + r, y), (x, y + r)];
        self.shape(&corners, Ink::PAPER, 1.0)?;
        let closed = [corners[0], corners[1], corners[2], corners[3], corners[0]];
        self.line(&closed, Ink::TEXT, 0.9)
    }

    /// A bar of variant `k`: its colour, and a hatch so that bars differ in grey, too. The corners are upper left and
    /// lower right.
    pub(crate) fn hatched(&self, [(x0, y0), (x1, y1)]: [(f64, f64); 2], k: usize) -> Painted {
        self.bar([(x0, y0), (x1, y1)], Ink::variant(k), 1.0)?;
        let (rising, falling) = [(false, false), (true, false), (false, true), (true, true)][k % 4];
        for line in [rising, falling]
            .into_iter()
            .enumerate()
            .filter(|(_, is)| *is)
        {
            self.hatch([(x0, y0), (x1, y1)], line.0 == 0)?;
        }
        Ok(())
    }

    /// Slanted lines inside a rectangle.
    fn hatch(&self, [(x0, y0), (x1, y1)]: [(f64, f64); 2], rises: bool) -> Painted {
        let (width, height) = (x1 - x0, y1 - y0);
        let mut start = HATCH;
        while start < width + height {
            // The line x + y = start in the rectangle, from its left or lower edge to its upper or right one.
            let (from, to) = ((start - height).max(0.0), start.min(width));
            let points = [(from, start - from), (to, start - to)];
            let place = |(x, y): (f64, f64)| (x0 + x, if rises { y0 + y } else { y1 - y });
            self.line(&points.map(place), Ink::PAPER, 0.7)?;
            start += HATCH;
        }
        Ok(())
    }

    /// Names of variants with a sample of their bar.
    pub(crate) fn swatches(&self, place: (f64, f64), right: f64, names: &[String]) -> Painted {
        for (k, (name, (x, y))) in names.iter().zip(places(place, right, names)).enumerate() {
            self.hatched([(x, y - 4.5), (x + 13.0, y + 4.5)], k)?;
            self.text((x + 18.0, y), Anchor::Start, Type::LABEL, name)?;
        }
        Ok(())
    }

    /// Names of lines with a sample of their marker.
    pub(crate) fn markers(
        &self,
        place: (f64, f64),
        right: f64,
        marks: &[(String, Ink, Marker)],
    ) -> Painted {
        let names: Vec<String> = marks.iter().map(|mark| mark.0.clone()).collect();
        for ((name, ink, marker), (x, y)) in marks.iter().zip(places(place, right, &names)) {
            self.line(&[(x, y), (x + 13.0, y)], *ink, 1.2)?;
            self.marker((x + 6.5, y), 3.0, *ink, *marker)?;
            self.text((x + 18.0, y), Anchor::Start, Type::LABEL, name)?;
        }
        Ok(())
    }
}

/// Where the entries of a legend go, on as many rows as needed.
fn places((left, top): (f64, f64), right: f64, names: &[String]) -> Vec<(f64, f64)> {
    let (mut x, mut y) = (left, top);
    let mut places = Vec::with_capacity(names.len());
    for name in names {
        let width = 18.0 + Type::LABEL.width(name) + 12.0;
        if x > left && x + width - 12.0 > right {
            (x, y) = (left, y + LEGEND_ROW);
        }
        places.push((x, y));
        x += width;
    }
    places
}

/// Height of [`Canvas::swatches`] in points.
pub(crate) fn swatches_height(left: f64, right: f64, names: &[String]) -> f64 {
    places((left, 0.0), right, names)
        .last()
        .map_or(0.0, |&(_, y)| y + LEGEND_ROW)
}

/// Height of [`Canvas::markers`] in points.
pub(crate) fn markers_height(left: f64, right: f64, marks: &[(String, Ink, Marker)]) -> f64 {
    let names: Vec<String> = marks.iter().map(|mark| mark.0.clone()).collect();
    swatches_height(left, right, &names)
}
