//! Vectors of the plane and convex quadrilaterals: every part of every block is a rectangle.

/// A point or a direction, `(x, y)`; y points down on the screen.
pub(super) type Vector = [f64; 2];

pub(super) fn add(a: Vector, b: Vector) -> Vector {
    [a[0] + b[0], a[1] + b[1]]
}

pub(super) fn subtract(a: Vector, b: Vector) -> Vector {
    [a[0] - b[0], a[1] - b[1]]
}

pub(super) fn scale(a: Vector, factor: f64) -> Vector {
    [a[0] * factor, a[1] * factor]
}

pub(super) fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

/// The third component of the cross product.
pub(super) fn cross(a: Vector, b: Vector) -> f64 {
    a[0] * b[1] - a[1] * b[0]
}

/// The point of the segment from `a` to `b` at `share` of its length; shares outside `[0, 1]` are clamped.
pub(super) fn between(a: Vector, b: Vector, share: f64) -> Vector {
    add(a, scale(subtract(b, a), share.clamp(0.0, 1.0)))
}

/// A rotation by an angle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rotation {
    cosine: f64,
    sine: f64,
}

impl Rotation {
    pub(super) fn new(angle: f64) -> Self {
        let (sine, cosine) = libm::sincos(angle);
        Self { cosine, sine }
    }

    pub(super) fn apply(self, [x, y]: Vector) -> Vector {
        let Self { cosine, sine } = self;
        [x * cosine - y * sine, x * sine + y * cosine]
    }
}

/// An axis-aligned box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub(super) low: Vector,
    pub(super) high: Vector,
}

impl Bounds {
    /// The smallest box around some points.
    pub(super) fn around(points: &[Vector]) -> Self {
        let mut bounds = Self {
            low: [f64::INFINITY; 2],
            high: [f64::NEG_INFINITY; 2],
        };
        for point in points {
            for (axis, at) in point.iter().enumerate() {
                bounds.low[axis] = bounds.low[axis].min(*at);
                bounds.high[axis] = bounds.high[axis].max(*at);
            }
        }
        bounds
    }

    /// This box with a margin on all sides.
    pub(super) fn wider(self, margin: f64) -> Self {
        Self {
            low: self.low.map(|at| at - margin),
            high: self.high.map(|at| at + margin),
        }
    }

    /// Whether two boxes have a point in common.
    pub(super) fn meets(&self, other: &Self) -> bool {
        (0..2).all(|axis| self.low[axis] <= other.high[axis] && other.low[axis] <= self.high[axis])
    }
}

/// A convex quadrilateral.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quad {
    /// Corners, in the order in which the cross product of two edges is positive.
    pub(super) corners: [Vector; 4],
    /// Outward normals of length 1; `normals[i]` belongs to the edge from corner `i` to the next.
    pub(super) normals: [Vector; 4],
}

impl Quad {
    /// The rectangle `[left, top, right, bottom]`.
    pub(super) const fn rectangle([left, top, right, bottom]: [f64; 4]) -> Self {
        Self {
            corners: [[left, top], [right, top], [right, bottom], [left, bottom]],
            normals: [[0.0, -1.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]],
        }
    }

    /// This quadrilateral turned about (0, 0), then moved.
    pub(super) fn placed(&self, rotation: Rotation, origin: Vector) -> Self {
        Self {
            corners: self.corners.map(|at| add(rotation.apply(at), origin)),
            normals: self.normals.map(|normal| rotation.apply(normal)),
        }
    }

    /// Start and end of the edge with a normal of the same index.
    pub(super) fn edge(&self, index: usize) -> [Vector; 2] {
        [self.corners[index], self.corners[(index + 1) % 4]]
    }

    /// How far a point lies beyond the edge that it is farthest beyond, and that edge; negative inside.
    pub(super) fn farthest_beyond(&self, point: Vector) -> (f64, usize) {
        let mut best = (f64::NEG_INFINITY, 0);
        for (index, normal) in self.normals.iter().enumerate() {
            let beyond = dot(subtract(point, self.corners[index]), *normal);
            if beyond > best.0 {
                best = (beyond, index);
            }
        }
        best
    }

    /// The edge that faces a direction: of the two at the farthest corner, the one whose normal is closer to it.
    pub(super) fn facing(&self, direction: Vector) -> usize {
        let mut farthest = (f64::NEG_INFINITY, 0);
        for (index, corner) in self.corners.iter().enumerate() {
            let along = dot(*corner, direction);
            if along > farthest.0 {
                farthest = (along, index);
            }
        }
        let after = farthest.1;
        let before = (after + 3) % 4;
        if dot(self.normals[before], direction) > dot(self.normals[after], direction) {
            before
        } else {
            after
        }
    }
}
