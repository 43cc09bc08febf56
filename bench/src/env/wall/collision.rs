//! What stops the dot: jambs of the door, faces of the dividing wall, border lines.
//!
//! The order of the tests and every comparison follow evaluation.md section 1.1, "Collision test".

use super::{BORDER, DOOR, SLAB, WALL_X};

/// How far a dot that was stopped is pushed off the surface, in pixels.
const PUSH: f64 = 0.5;
/// How far a dot that would still touch a surface is set off it, in pixels.
const CLEARANCE: f64 = 0.3;
/// Positions next to the faces of the dividing wall. The released simulator computes these two, and
/// only these, in `f32`.
const BESIDE_SLAB: [f64; 2] = [28.7_f32 as f64, 35.3_f32 as f64];

/// What one move touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// The surface that decided the new position.
    pub kind: ContactKind,
    /// The reference would have produced NaN; see the module documentation of `wall`.
    pub nan_guard: bool,
}

/// The surface that decided where a move ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ContactKind {
    /// None: the move was made in full.
    Free = 0,
    /// A vertical plane: left or right border, or a face of the dividing wall.
    Vertical = 1,
    /// A horizontal border.
    Horizontal = 2,
    /// A vertical and a horizontal plane; the nearer one counts.
    Both = 3,
    /// A jamb of the door.
    Jamb = 4,
}

type Point = [f64; 2];

/// The planes that bound the room of a position.
struct Room {
    /// Left and right plane.
    x: [f64; 2],
    /// Positions of a dot set off those planes.
    beside: [f64; 2],
    /// Which of the two has the door.
    has_door: [bool; 2],
}

impl Room {
    fn of(p: Point) -> Self {
        let outer = [BORDER[0] + CLEARANCE, BORDER[1] - CLEARANCE];
        if p[0] < WALL_X {
            let beside = [outer[0], BESIDE_SLAB[0]];
            Self {
                x: [BORDER[0], SLAB[0]],
                beside,
                has_door: [false, true],
            }
        } else {
            let beside = [BESIDE_SLAB[1], outer[1]];
            Self {
                x: [SLAB[1], BORDER[1]],
                beside,
                has_door: [true, false],
            }
        }
    }
}

/// Where a move from `p` to `q` ends, and what it touched.
pub(super) fn resolve(p: Point, q: Point) -> (Point, Contact) {
    let mut line = Line::through(p, q);
    if let Some(end) = hit_jamb(p, q, &line) {
        return (
            end,
            Contact {
                kind: ContactKind::Jamb,
                nan_guard: false,
            },
        );
    }
    let room = Room::of(p);
    let vertical = hit_vertical(p, q, &room, &mut line);
    let horizontal = hit_horizontal(p, q, &mut line);
    let contact = |kind| Contact {
        kind,
        nan_guard: line.guarded,
    };
    match (vertical, horizontal) {
        (None, None) => (q, contact(ContactKind::Free)),
        (Some(hit), None) => (settle(hit, &room), contact(ContactKind::Vertical)),
        (None, Some(hit)) => (settle(hit, &room), contact(ContactKind::Horizontal)),
        (Some(v), Some(h)) => {
            let nearer = if distance(v.at, p) < distance(h.at, p) {
                v
            } else {
                h
            };
            (settle(nearer, &room), contact(ContactKind::Both))
        }
    }
}

/// The straight line of a move, with the degenerate directions made safe.
struct Line {
    from: Point,
    slope: f64,
    intercept: f64,
    /// A coordinate was not finite and was replaced.
    guarded: bool,
}

impl Line {
    fn through(p: Point, q: Point) -> Self {
        let slope = (q[1] - p[1]) / (q[0] - p[0]);
        Self {
            from: p,
            slope,
            intercept: p[1] - slope * p[0],
            guarded: false,
        }
    }

    /// x at height `y`, as the reference computes it: not finite for a vertical move.
    fn raw_x_at(&self, y: f64) -> f64 {
        (y - self.intercept) / self.slope
    }

    /// x at height `y`; a vertical move keeps its x.
    fn x_at(&mut self, y: f64) -> f64 {
        let x = self.raw_x_at(y);
        self.guard(x, self.from[0])
    }

    /// y at column `x`; a move within that column keeps its y.
    fn y_at(&mut self, x: f64) -> f64 {
        let y = self.slope * x + self.intercept;
        self.guard(y, self.from[1])
    }

    fn guard(&mut self, value: f64, otherwise: f64) -> f64 {
        if value.is_finite() {
            value
        } else {
            self.guarded = true;
            otherwise
        }
    }
}

/// A point on a plane, and the direction away from it.
#[derive(Clone, Copy)]
struct Hit {
    at: Point,
    push: Point,
}

/// The end of a move that leaves the doorway through a jamb. Both jambs push to the right.
///
/// An exactly vertical move passes: its x is NaN in the reference, whose comparison fails.
fn hit_jamb(p: Point, q: Point, line: &Line) -> Option<Point> {
    let dy = q[1] - p[1];
    let (jamb, inside) = if dy > 0.0 && q[1] > DOOR[1] && p[1] < DOOR[1] {
        (DOOR[1], -PUSH)
    } else if dy < 0.0 && q[1] < DOOR[0] && p[1] > DOOR[0] {
        (DOOR[0], PUSH)
    } else {
        return None;
    };
    let x = line.raw_x_at(jamb);
    (SLAB[0]..=SLAB[1])
        .contains(&x)
        .then_some([x + PUSH, jamb + inside])
}

/// Where the move is stopped by the left or else the right plane of the room.
fn hit_vertical(p: Point, q: Point, room: &Room, line: &mut Line) -> Option<Hit> {
    (0..2).find_map(|side| {
        let plane = room.x[side];
        if !crosses(p[0], q[0], plane) {
            return None;
        }
        let y = line.y_at(plane);
        let is_blocked = !room.has_door[side] || !(DOOR[0]..=DOOR[1]).contains(&y);
        is_blocked.then(|| Hit {
            at: [plane, y],
            push: [PUSH * sign(p[0] - plane), PUSH],
        })
    })
}

/// Where the move is stopped by the upper or else the lower border.
fn hit_horizontal(p: Point, q: Point, line: &mut Line) -> Option<Hit> {
    let plane = BORDER
        .into_iter()
        .find(|&plane| crosses(p[1], q[1], plane))?;
    let x = line.x_at(plane);
    Some(Hit {
        at: [x, plane],
        push: [PUSH, PUSH * sign(p[1] - plane)],
    })
}

/// Whether a coordinate that moves from `p` to `q` crosses or touches `plane`.
fn crosses(p: f64, q: f64, plane: f64) -> bool {
    sign(p - plane) * sign(q - plane) <= 0.1
}

/// Pushes a hit off its plane and keeps the result inside the room.
fn settle(hit: Hit, room: &Room) -> Point {
    let outer = [BORDER[0] + CLEARANCE, BORDER[1] - CLEARANCE];
    [
        inside(hit.at[0] + hit.push[0], room.x, room.beside),
        inside(hit.at[1] + hit.push[1], BORDER, outer),
    ]
}

/// A coordinate at or beyond a plane is set beside it.
fn inside(value: f64, planes: [f64; 2], beside: [f64; 2]) -> f64 {
    if value <= planes[0] {
        beside[0]
    } else if value >= planes[1] {
        beside[1]
    } else {
        value
    }
}

/// -1, 0 or 1.
fn sign(value: f64) -> f64 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        0.0
    }
}

fn distance(a: Point, b: Point) -> f64 {
    ((a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1])).sqrt()
}

#[cfg(test)]
#[expect(
    clippy::float_cmp,
    clippy::unreadable_literal,
    reason = "golden values, as printed and to the last bit"
)]
mod tests {
    use super::*;

    fn kind(p: Point, q: Point) -> ContactKind {
        resolve(p, q).1.kind
    }

    #[test]
    fn the_slab_limits_are_the_f32_numbers_of_the_release() {
        assert_eq!(BESIDE_SLAB, [28.700000762939453, 35.29999923706055]);
    }

    #[test]
    fn each_surface_stops_a_move() {
        assert_eq!(kind([20.0, 30.0], [26.0, 30.5]), ContactKind::Free);
        assert_eq!(kind([20.0, 20.0], [31.0, 20.5]), ContactKind::Vertical);
        assert_eq!(kind([20.0, 10.0], [21.0, 2.0]), ContactKind::Horizontal);
        assert_eq!(kind([6.0, 6.0], [2.0, 1.0]), ContactKind::Both);
        assert_eq!(kind([32.0, 30.0], [32.5, 40.0]), ContactKind::Jamb);
    }

    #[test]
    fn the_far_face_of_the_dividing_wall_does_not_stop_a_move() {
        let (end, contact) = resolve([31.0, 30.0], [40.0, 33.0]);
        assert_eq!((end, contact.kind), ([40.0, 33.0], ContactKind::Free));
    }

    #[test]
    fn moves_never_end_at_a_number_that_is_not_finite() {
        let coordinates = [4.0, 4.3, 10.0, 26.0, 29.0, 30.0, 32.0, 34.0, 35.0, 60.0];
        let offsets = [-40.0, -4.0, -1e-308, 0.0, 1e-308, 4.0, 40.0];
        for (x, y) in coordinates
            .iter()
            .flat_map(|x| coordinates.iter().map(move |y| (*x, *y)))
        {
            for (dx, dy) in offsets
                .iter()
                .flat_map(|a| offsets.iter().map(move |b| (*a, *b)))
            {
                let (end, _) = resolve([x, y], [x + dx, y + dy]);
                assert!(
                    end.iter().all(|value| value.is_finite()),
                    "({x}, {y}) by ({dx}, {dy})"
                );
            }
        }
    }
}
