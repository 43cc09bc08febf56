//! Where the block touches the agent and the walls (evaluation.md section 1.3, substep algorithm, points 2 and 3).

use super::geometry::{Quad, Vector, add, between, cross, dot, scale, subtract};

/// Radius of the agent.
pub(super) const AGENT_RADIUS: f64 = 15.0;
/// Half the thickness of a wall.
pub(super) const WALL_RADIUS: f64 = 2.0;
/// Middle lines of the walls.
pub(super) const WALLS: [Wall; 4] = [
    Wall::new([5.0, 506.0], [5.0, 5.0], [-1.0, 0.0]),
    Wall::new([5.0, 5.0], [506.0, 5.0], [0.0, -1.0]),
    Wall::new([506.0, 5.0], [506.0, 506.0], [1.0, 0.0]),
    Wall::new([5.0, 506.0], [506.0, 506.0], [0.0, -1.0]),
];

/// A segment with rounded ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wall {
    /// Both ends of the middle line.
    pub(super) ends: [Vector; 2],
    /// Direction of length 1 across it, on the side on which an edge of a [`Quad`] from the first end to the second
    /// would have its outside.
    normal: Vector,
}

impl Wall {
    const fn new(start: Vector, end: Vector, normal: Vector) -> Self {
        Self {
            ends: [start, end],
            normal,
        }
    }
}

/// One point at which an obstacle and a part of the block touch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Point {
    /// Which features of both touch: the same number in the next substep means the same contact.
    pub(super) feature: u8,
    /// On the surface of the obstacle.
    pub(super) obstacle: Vector,
    /// On the surface of the part.
    pub(super) block: Vector,
}

/// All points at which an obstacle and a part touch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Touch {
    /// From the obstacle to the block, of length 1.
    pub(super) normal: Vector,
    points: [Point; 2],
    count: usize,
}

impl Touch {
    fn new(normal: Vector) -> Self {
        Self {
            normal,
            points: [Point::default(); 2],
            count: 0,
        }
    }

    fn push(&mut self, point: Point) {
        self.points[self.count] = point;
        self.count += 1;
    }

    pub(super) fn points(&self) -> &[Point] {
        &self.points[..self.count]
    }
}

/// The contact of the agent around `centre` with a part.
pub(super) fn with_agent(centre: Vector, quad: &Quad) -> Option<Touch> {
    let (beyond, edge) = quad.farthest_beyond(centre);
    if beyond > AGENT_RADIUS {
        return None;
    }
    let (normal, distance) = if beyond <= 0.0 {
        (scale(quad.normals[edge], -1.0), beyond)
    } else {
        nearest_from_outside(centre, quad)
    };
    if distance > AGENT_RADIUS {
        return None;
    }
    let mut touch = Touch::new(normal);
    touch.push(Point {
        feature: 0,
        obstacle: add(centre, scale(normal, AGENT_RADIUS)),
        block: add(centre, scale(normal, distance)),
    });
    Some(touch)
}

/// Direction and distance from a point outside to the nearest point of a part.
fn nearest_from_outside(from: Vector, quad: &Quad) -> (Vector, f64) {
    let mut best = ([0.0; 2], f64::INFINITY);
    for (index, normal) in quad.normals.iter().enumerate() {
        let [start, end] = quad.edge(index);
        let beyond = dot(subtract(from, start), *normal);
        if beyond <= 0.0 {
            continue;
        }
        let along = subtract(end, start);
        let share = dot(subtract(from, start), along) / dot(along, along);
        // Above an edge, its normal is exact however near the point is; beyond its ends a corner is nearest.
        let (direction, distance) = if (0.0..=1.0).contains(&share) {
            (scale(*normal, -1.0), beyond)
        } else {
            towards(from, between(start, end, share))
        };
        if distance < best.1 {
            best = (direction, distance);
        }
    }
    best
}

/// Direction of length 1 and distance between two points.
fn towards(from: Vector, to: Vector) -> (Vector, f64) {
    let apart = subtract(to, from);
    let distance = dot(apart, apart).sqrt();
    (scale(apart, 1.0 / distance), distance)
}

/// The contacts of a wall with a part: none, one or two.
pub(super) fn with_wall(wall: &Wall, quad: &Quad) -> Option<Touch> {
    let (axis, gap) = widest_gap(wall, quad);
    if gap > WALL_RADIUS {
        return None;
    }
    let (normal, distance) = match corner_to_end(wall, quad) {
        // Two corners face each other: what separates them is no normal of either.
        Some((direction, distance)) if gap > 0.0 => (direction, distance),
        _ => (axis, gap),
    };
    (distance <= WALL_RADIUS).then(|| clip(wall, quad, normal))
}

/// Of the normals of both, as directions from the wall to the part, the one along which they are farthest apart (or
/// overlap least: then the gap is negative).
fn widest_gap(wall: &Wall, quad: &Quad) -> (Vector, f64) {
    let lowest = |points: &[Vector], axis: Vector| {
        let along = points.iter().map(|point| dot(*point, axis));
        along.fold(f64::INFINITY, f64::min)
    };
    let mut best = ([0.0; 2], f64::NEG_INFINITY);
    for axis in [wall.normal, scale(wall.normal, -1.0)] {
        let gap = lowest(&quad.corners, axis) - dot(wall.ends[0], axis);
        if gap > best.1 {
            best = (axis, gap);
        }
    }
    for (normal, corner) in quad.normals.iter().zip(quad.corners) {
        let gap = lowest(&wall.ends, *normal) - dot(corner, *normal);
        if gap > best.1 {
            best = (scale(*normal, -1.0), gap);
        }
    }
    best
}

/// Direction and distance from an end of the wall to a corner of the part, where these are the nearest features.
fn corner_to_end(wall: &Wall, quad: &Quad) -> Option<(Vector, f64)> {
    let [start, end] = wall.ends;
    let along = subtract(end, start);
    for (index, corner) in quad.corners.iter().enumerate() {
        let share = dot(subtract(*corner, start), along) / dot(along, along);
        let nearest = match share {
            share if share < 0.0 => start,
            share if share > 1.0 => end,
            _ => continue,
        };
        // The end lies beyond both edges at the corner, past the corner itself.
        let from_corner = subtract(nearest, *corner);
        let [_, next] = quad.edge(index);
        let [previous, _] = quad.edge((index + 3) % 4);
        if dot(from_corner, subtract(next, *corner)) < 0.0
            && dot(from_corner, subtract(previous, *corner)) < 0.0
        {
            return Some(towards(nearest, *corner));
        }
    }
    None
}

/// Clips the facing edges of wall and part against each other along `normal`.
fn clip(wall: &Wall, quad: &Quad, normal: Vector) -> Touch {
    let order = if dot(wall.normal, normal) > 0.0 {
        [0, 1]
    } else {
        [1, 0]
    };
    let obstacle = order.map(|end| wall.ends[end]);
    let edge = quad.facing(scale(normal, -1.0));
    let block = quad.edge(edge);
    let [obstacle_along, block_along] =
        [obstacle, block].map(|ends| ends.map(|at| cross(at, normal)));
    let mut touch = Touch::new(normal);
    for (mine, theirs) in [(0, 1), (1, 0)] {
        let share_of =
            |along: [f64; 2], at: f64| (at - along[0]) / (along[1] - along[0] + f64::MIN_POSITIVE);
        let on_wall = share_of(obstacle_along, block_along[theirs]);
        let on_block = share_of(block_along, obstacle_along[mine]);
        let surface = scale(normal, WALL_RADIUS);
        let point = Point {
            feature: (order[mine] * 4 + (edge + theirs) % 4) as u8,
            obstacle: add(between(obstacle[0], obstacle[1], on_wall), surface),
            block: between(block[0], block[1], on_block),
        };
        if dot(subtract(point.block, point.obstacle), normal) <= 0.0 {
            touch.push(point);
        }
    }
    touch
}
