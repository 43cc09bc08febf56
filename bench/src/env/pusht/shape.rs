//! Blocks of Push-T: the T of the released data and the other shapes of its simulator (evaluation.md section 1.3).

use serde::{Deserialize, Serialize};

use super::geometry::{Quad, Vector, dot, subtract};

/// What is pushed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// The T of the released data: a bar of 120 by 30 pixels, a stem of 30 by 90.
    #[default]
    T,
    /// Two bars of 80 by 40 at a right angle.
    L,
    /// Two bars of 80 by 40, one shifted by half its length.
    Z,
    /// 80 by 80.
    #[serde(rename = "square")]
    Square,
    /// 40 by 160.
    I,
    /// A T with a short stem: 120 by 40 and 40 by 40.
    #[serde(rename = "small_tee")]
    SmallTee,
    /// A cross: a bar of 120 by 40 and two squares of 40 by 40 beside its middle.
    #[serde(rename = "plus", alias = "+")]
    Plus,
}

/// The largest number of parts of a block.
pub(super) const MOST_PARTS: usize = 3;

/// Mass and geometry of a block, in its own frame.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// Convex parts; they move as one and do not touch each other.
    pub(super) parts: Vec<Quad>,
    /// Centre of gravity: the mean of the centres of the parts, whatever their sizes.
    pub(super) centre: Vector,
    /// Moment of inertia: the sum over parts, each of mass 1 and about the origin of the frame (not the centre).
    pub(super) moment: f64,
}

impl Block {
    /// Distance from the centre of gravity to the farthest corner.
    pub(super) fn radius(&self) -> f64 {
        let corners = self.parts.iter().flat_map(|part| part.corners);
        let squares = corners.map(|corner| {
            let arm = subtract(corner, self.centre);
            dot(arm, arm)
        });
        squares.fold(0.0, f64::max).sqrt()
    }
}

impl Shape {
    /// Every shape, by its name in settings.
    pub const ALL: [(&str, Self); 7] = [
        ("T", Self::T),
        ("L", Self::L),
        ("Z", Self::Z),
        ("square", Self::Square),
        ("I", Self::I),
        ("small_tee", Self::SmallTee),
        ("plus", Self::Plus),
    ];

    /// Parts as `[left, top, right, bottom]`, in the order in which they are drawn.
    pub fn rectangles(self) -> &'static [[f64; 4]] {
        match self {
            Self::T => &[[-60.0, 0.0, 60.0, 30.0], [-15.0, 30.0, 15.0, 120.0]],
            Self::L => &[[0.0, 0.0, 40.0, 80.0], [0.0, -40.0, 80.0, 0.0]],
            Self::Z => &[[0.0, 0.0, 80.0, 40.0], [-40.0, -40.0, 40.0, 0.0]],
            Self::Square => &[[-40.0, -40.0, 40.0, 40.0]],
            Self::I => &[[-20.0, -80.0, 20.0, 80.0]],
            Self::SmallTee => &[[-60.0, 0.0, 60.0, 40.0], [-20.0, 40.0, 20.0, 80.0]],
            Self::Plus => &[
                [-60.0, -20.0, 60.0, 20.0],
                [-20.0, -60.0, 20.0, -20.0],
                [-20.0, 20.0, 20.0, 60.0],
            ],
        }
    }

    /// Centre of gravity and moment of inertia, in the frame of [`Self::rectangles`]; the mass is 1.
    pub fn mass_properties(self) -> ([f64; 2], f64) {
        let block = self.block();
        (block.centre, block.moment)
    }

    pub(super) fn block(self) -> Block {
        let rectangles = self.rectangles();
        let count = rectangles.len() as f64;
        let mut centre = [0.0; 2];
        for [left, top, right, bottom] in rectangles {
            centre[0] += left.midpoint(*right) / count;
            centre[1] += top.midpoint(*bottom) / count;
        }
        let moments = rectangles.iter().map(|part| moment(*part));
        let moment = match self {
            // The release counts the long bar once for every part, and the others not at all.
            Self::T | Self::Plus => count * moment(rectangles[0]),
            _ => moments.sum(),
        };
        Block {
            parts: rectangles
                .iter()
                .map(|part| Quad::rectangle(*part))
                .collect(),
            centre,
            moment,
        }
    }
}

/// Moment of a rectangle of mass 1 about the origin.
fn moment([left, top, right, bottom]: [f64; 4]) -> f64 {
    let (width, height) = (right - left, bottom - top);
    let (x, y) = (left.midpoint(right), top.midpoint(bottom));
    (width * width + height * height) / 12.0 + x * x + y * y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_centres_are_those_of_the_released_bodies() {
        let expected = [
            (3000.0, [0.0, 45.0]),
            (5333.3333, [30.0, 10.0]),
            (3733.3333, [20.0, 0.0]),
            (1066.6667, [0.0, 0.0]),
            (2266.6667, [0.0, 0.0]),
            (5600.0, [0.0, 40.0]),
            (4000.0, [0.0, 0.0]),
        ];
        for ((name, shape), (moment, centre)) in Shape::ALL.into_iter().zip(expected) {
            let block = shape.block();
            assert!(
                (block.moment - moment).abs() < 1e-4,
                "{name}: {}",
                block.moment
            );
            for (found, expected) in block.centre.iter().zip(centre) {
                assert!((found - expected).abs() < 1e-12, "{name}: {found}");
            }
            assert!(block.parts.len() <= MOST_PARTS);
        }
    }

    #[test]
    fn names_in_settings_are_those_of_the_table() {
        for (name, shape) in Shape::ALL {
            let read: Shape = toml::Value::String(name.into()).try_into().unwrap();
            assert_eq!(read, shape);
        }
        let read: Shape = toml::Value::String("+".into()).try_into().unwrap();
        assert_eq!(read, Shape::Plus);
    }
}
