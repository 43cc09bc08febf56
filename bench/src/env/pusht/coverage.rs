//! The reward of Push-T: how much of the green T the block covers (evaluation.md section 1.3).

use super::geometry::{Quad, Rotation, Vector, add, cross, dot, scale, subtract};
use super::shape::Shape;

/// Where the green shape lies: its origin and its angle.
pub(super) const TARGET: (Vector, f64) = ([256.0, 256.0], std::f64::consts::FRAC_PI_4);
/// Covering this share is worth a reward of 1.
const ENOUGH: f64 = 0.95;
/// A quadrilateral cut by four lines has no more corners.
const MOST_CORNERS: usize = 8;

/// Computes rewards. Parts of a shape do not overlap, so areas add up.
#[derive(Debug, Clone)]
pub(super) struct Coverage {
    parts: Vec<Quad>,
    target: Vec<Quad>,
    /// Area of the shape.
    area: f64,
}

impl Coverage {
    pub(super) fn new(shape: Shape) -> Self {
        let parts = shape.block().parts;
        let (origin, angle) = TARGET;
        let rotation = Rotation::new(angle);
        Self {
            target: parts
                .iter()
                .map(|part| part.placed(rotation, origin))
                .collect(),
            area: parts.iter().map(|part| area(&part.corners)).sum(),
            parts,
        }
    }

    /// The reward with the block's origin at `origin`, turned by `angle`.
    pub(super) fn reward(&self, origin: Vector, angle: f64) -> f64 {
        let rotation = Rotation::new(angle);
        let mut covered = 0.0;
        for part in &self.parts {
            let part = part.placed(rotation, origin);
            covered += self
                .target
                .iter()
                .map(|target| common_area(&part, target))
                .sum::<f64>();
        }
        (covered / self.area / ENOUGH).clamp(0.0, 1.0)
    }
}

/// Area of a polygon whose edges turn in the direction of those of a [`Quad`].
fn area(corners: &[Vector]) -> f64 {
    let next = corners.iter().cycle().skip(1);
    let crosses = corners.iter().zip(next).map(|(a, b)| cross(*a, *b));
    crosses.sum::<f64>() / 2.0
}

/// Area of what two quadrilaterals have in common: one is cut along the edges of the other.
fn common_area(quad: &Quad, by: &Quad) -> f64 {
    let mut corners = [[0.0; 2]; MOST_CORNERS];
    corners[..4].copy_from_slice(&quad.corners);
    let mut count = 4;
    for (normal, on_line) in by.normals.iter().zip(by.corners) {
        let beyond = |point: Vector| dot(subtract(point, on_line), *normal);
        let mut kept = [[0.0; 2]; MOST_CORNERS];
        let mut kept_count = 0;
        let mut keep = |point: Vector| {
            kept[kept_count] = point;
            kept_count += 1;
        };
        for index in 0..count {
            let (from, to) = (corners[index], corners[(index + 1) % count]);
            let (before, after) = (beyond(from), beyond(to));
            if before <= 0.0 {
                keep(from);
            }
            if (before <= 0.0) != (after <= 0.0) {
                keep(add(
                    from,
                    scale(subtract(to, from), before / (before - after)),
                ));
            }
        }
        (corners, count) = (kept, kept_count);
        if count < 3 {
            return 0.0;
        }
    }
    area(&corners[..count])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Npz;

    #[test]
    fn a_block_in_the_target_is_worth_1_and_one_far_away_nothing() {
        for (name, shape) in Shape::ALL {
            let coverage = Coverage::new(shape);
            let (origin, angle) = TARGET;
            assert!(
                (coverage.reward(origin, angle) - 1.0).abs() < 1e-12,
                "{name}"
            );
            assert!(
                coverage.reward([-300.0, 0.0], angle).abs() < 1e-12,
                "{name}"
            );
        }
    }

    #[test]
    fn shares_are_areas() {
        assert!((Coverage::new(Shape::Plus).area - 8000.0).abs() < 1e-9);
        assert!((Coverage::new(Shape::T).area - 6300.0).abs() < 1e-9);
        // Half of a square of 80 by 80, moved by 40 along its own side.
        let coverage = Coverage::new(Shape::Square);
        let (origin, angle) = TARGET;
        let aside = Rotation::new(angle).apply([40.0, 0.0]);
        let found = coverage.reward(add(origin, aside), angle);
        assert!((found - 0.5 / 0.95).abs() < 1e-12, "{found}");
    }

    #[test]
    fn rewards_are_those_of_the_recorded_episodes() {
        for (file, shapes) in [
            ("sims/pusht_episodes.npz", None),
            ("sims/pusht_shapes.npz", Some("shape_code")),
        ] {
            let recorded = Npz::read(file);
            let (episodes, steps) = (
                recorded.array("reward").shape[0],
                recorded.array("reward").shape[1],
            );
            for episode in 0..episodes {
                let code = shapes.map_or(0.0, |key| recorded.values(key)[episode]);
                let coverage = Coverage::new(Shape::ALL[code as usize].1);
                for step in 0..steps {
                    let at = (episode * (steps + 1) + step + 1) * 7;
                    let state = &recorded.values("states")[at..at + 7];
                    let expected = recorded.values("reward")[episode * steps + step];
                    let found = coverage.reward([state[2], state[3]], state[4]);
                    assert!(
                        (found - expected).abs() <= 1e-6,
                        "{file}, episode {episode}, step {step}: {found} {expected}"
                    );
                }
            }
        }
    }
}
