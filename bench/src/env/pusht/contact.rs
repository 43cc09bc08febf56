//! Contacts from one substep to the next, and the impulses that keep block and obstacles apart (evaluation.md section
//! 1.3, substep algorithm, points 4 to 7).

use super::collision::Touch;
use super::dynamics::TIME_STEP;
use super::geometry::{Vector, cross, dot, subtract};

/// Rounds over all contacts per substep.
const ITERATIONS: usize = 10;
/// Overlap in pixels that is left alone: a single-precision number in the reference.
const SLOP: f64 = 0.1_f32 as f64;
/// Share of the overlap that a sixtieth of a second leaves: a single-precision number as well.
const OVERLAP_LEFT: f64 = 0.9_f32 as f64;
/// Substeps after which a pair that does not touch is forgotten.
const PERSISTENCE: u64 = 3;

/// What the impulses act on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Motion {
    /// Velocity of the centre of gravity and turning speed, of a body or of what moves overlapping bodies apart.
    pub(super) velocity: Vector,
    pub(super) spin: f64,
}

impl Motion {
    pub(super) const NONE: Self = Self {
        velocity: [0.0; 2],
        spin: 0.0,
    };

    pub(super) fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// Velocity, along `normal`, of a point with this arm.
    fn along(&self, arm: Vector, normal: Vector) -> f64 {
        dot(self.velocity, normal) + self.spin * cross(arm, normal)
    }
}

/// Mass properties of the block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Inertia {
    /// One over the moment of inertia; the mass is 1.
    pub(super) inverse_moment: f64,
}

impl Inertia {
    fn push(self, motion: &mut Motion, arm: Vector, normal: Vector, impulse: f64) {
        motion.velocity[0] += normal[0] * impulse;
        motion.velocity[1] += normal[1] * impulse;
        motion.spin += self.inverse_moment * cross(arm, normal) * impulse;
    }
}

/// One point of a touching pair.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Contact {
    feature: u8,
    /// The point on the surface of the obstacle.
    on_obstacle: Vector,
    /// From the block's centre of gravity to the point on the surface of the block.
    arm: Vector,
    /// One over the velocity along the normal that an impulse of 1 makes.
    mass: f64,
    /// Velocity that takes the overlap away.
    bias: f64,
    /// Impulse so far, and the one that works on the overlap.
    impulse: f64,
    bias_impulse: f64,
}

/// An obstacle and a part of the block.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Pair {
    /// Substep of the last touch; 0 is never.
    touched: u64,
    normal: Vector,
    contacts: [Contact; 2],
    count: usize,
    /// Velocity of the obstacle along the normal.
    approach: f64,
    /// Whether it touched in the substep before as well.
    is_old: bool,
}

/// All pairs of obstacles and parts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Contacts<const PAIRS: usize> {
    pairs: [Pair; PAIRS],
    /// Pairs that touch in the present substep, in the order in which they are solved.
    touching: [usize; PAIRS],
    count: usize,
    /// Substeps so far.
    substep: u64,
    /// Share of the overlap that a substep takes away.
    correction: f64,
}

impl<const PAIRS: usize> Contacts<PAIRS> {
    pub(super) fn new() -> Self {
        Self {
            pairs: [Pair::default(); PAIRS],
            touching: [0; PAIRS],
            count: 0,
            substep: 0,
            correction: 1.0 - libm::pow(OVERLAP_LEFT, 60.0 * TIME_STEP),
        }
    }

    /// Forgets which pairs touch; what they pushed with is kept for a while.
    pub(super) fn begin_substep(&mut self) {
        self.substep += 1;
        self.count = 0;
    }

    /// Adds a touching pair. `centre` is the block's centre of gravity, `velocity` that of the obstacle.
    pub(super) fn add(
        &mut self,
        index: usize,
        touch: &Touch,
        centre: Vector,
        velocity: Vector,
        inertia: Inertia,
    ) {
        let known = self.pairs[index];
        let age = self.substep - known.touched;
        let is_known = known.touched > 0 && age <= PERSISTENCE;
        let mut pair = Pair {
            touched: self.substep,
            normal: touch.normal,
            contacts: [Contact::default(); 2],
            count: touch.points().len(),
            approach: dot(velocity, touch.normal),
            is_old: is_known && age == 1,
        };
        for (contact, point) in pair.contacts.iter_mut().zip(touch.points()) {
            let before = known.contacts[..known.count]
                .iter()
                .find(|before| is_known && before.feature == point.feature);
            let arm = subtract(point.block, centre);
            let turn = cross(arm, touch.normal);
            let distance = dot(subtract(point.block, point.obstacle), touch.normal);
            *contact = Contact {
                feature: point.feature,
                on_obstacle: point.obstacle,
                arm,
                mass: 1.0 / (1.0 + turn * turn * inertia.inverse_moment),
                bias: -self.correction * (distance + SLOP).min(0.0) / TIME_STEP,
                impulse: before.map_or(0.0, |before| before.impulse),
                bias_impulse: 0.0,
            };
        }
        self.pairs[index] = pair;
        self.touching[self.count] = index;
        self.count += 1;
    }

    /// Finds impulses after which no contact closes any more, and gives them to the block.
    pub(super) fn solve(&mut self, inertia: Inertia, motion: &mut Motion, correction: &mut Motion) {
        for index in &self.touching[..self.count] {
            let pair = &self.pairs[*index];
            if pair.is_old {
                for contact in &pair.contacts[..pair.count] {
                    inertia.push(motion, contact.arm, pair.normal, contact.impulse);
                }
            }
        }
        for _ in 0..ITERATIONS {
            for index in &self.touching[..self.count] {
                self.pairs[*index].solve(inertia, motion, correction);
            }
        }
    }

    /// Contact points of the present substep.
    pub(super) fn point_count(&self) -> usize {
        let pairs = self.touching[..self.count].iter();
        pairs.map(|index| self.pairs[*index].count).sum()
    }

    /// Indices of the pairs that touch in the present substep.
    pub(super) fn touching(&self) -> &[usize] {
        &self.touching[..self.count]
    }

    /// For every contact point: where it is on the obstacle and, from the block's centre of gravity, on the block, and
    /// the normal.
    pub(super) fn points(&self) -> impl Iterator<Item = [Vector; 3]> {
        self.touching().iter().flat_map(|index| {
            let pair = &self.pairs[*index];
            let contacts = pair.contacts[..pair.count].iter();
            contacts.map(|contact| [contact.on_obstacle, contact.arm, pair.normal])
        })
    }

    /// Appends everything that later substeps depend on, as numbers.
    pub(super) fn write(&self, out: &mut Vec<f64>) {
        out.push(self.count as f64);
        out.extend(self.touching().iter().map(|index| *index as f64));
        for pair in &self.pairs {
            let age = self.substep - pair.touched;
            if pair.touched == 0 || age > PERSISTENCE {
                out.push(-1.0);
                continue;
            }
            out.push(age as f64);
            out.extend(pair.normal);
            out.push(pair.count as f64);
            for contact in &pair.contacts[..pair.count] {
                out.extend([f64::from(contact.feature), contact.impulse]);
                out.extend(contact.on_obstacle);
                out.extend(contact.arm);
            }
        }
    }

    /// Reads what [`Self::write`] wrote; `None` when there is too little or it is something else.
    pub(super) fn read(values: &mut impl Iterator<Item = f64>) -> Option<Self> {
        let mut contacts = Self::new();
        contacts.substep = PERSISTENCE + 1;
        contacts.count = index_below(values.next()?, PAIRS + 1)?;
        for index in &mut contacts.touching[..contacts.count] {
            *index = index_below(values.next()?, PAIRS)?;
        }
        for pair in &mut contacts.pairs {
            let age = values.next()?;
            if age < 0.0 {
                continue;
            }
            let age = index_below(age, PERSISTENCE as usize + 1)?;
            pair.touched = contacts.substep - age as u64;
            pair.normal = [values.next()?, values.next()?];
            pair.count = index_below(values.next()?, pair.contacts.len() + 1)?;
            for contact in &mut pair.contacts[..pair.count] {
                contact.feature = index_below(values.next()?, usize::from(u8::MAX))? as u8;
                contact.impulse = values.next()?;
                contact.on_obstacle = [values.next()?, values.next()?];
                contact.arm = [values.next()?, values.next()?];
            }
        }
        Some(contacts)
    }
}

/// A number that was an index, if it still is.
fn index_below(value: f64, limit: usize) -> Option<usize> {
    (value >= 0.0 && value < limit as f64 && value.fract() == 0.0).then_some(value as usize)
}

impl Pair {
    fn solve(&mut self, inertia: Inertia, motion: &mut Motion, correction: &mut Motion) {
        let normal = self.normal;
        for contact in &mut self.contacts[..self.count] {
            let parting = correction.along(contact.arm, normal);
            let wanted = contact.bias_impulse + (contact.bias - parting) * contact.mass;
            let wanted = wanted.max(0.0);
            inertia.push(
                correction,
                contact.arm,
                normal,
                wanted - contact.bias_impulse,
            );
            contact.bias_impulse = wanted;

            let parting = motion.along(contact.arm, normal) - self.approach;
            let wanted = (contact.impulse - parting * contact.mass).max(0.0);
            inertia.push(motion, contact.arm, normal, wanted - contact.impulse);
            contact.impulse = wanted;
        }
    }
}
