//! Motion of agent and block: what Chipmunk computes for this space (evaluation.md section 1.3).
//!
//! The space has no friction and its damping stops the block before every substep, so the block moves only while it is
//! pushed. Agent and walls cannot be moved by it. States agree with recorded episodes to 1e-12 while at most one pair
//! of shapes touches at a time; with several, the reference solves them in an order that depends on the history of its
//! search tree; here it is walls first, then the agent, and the last part first (docs/pusht.md has what that changes).

use std::sync::Arc;

use super::collision::{self, AGENT_RADIUS, WALL_RADIUS, WALLS};
use super::contact::{Contacts, Inertia, Motion};
use super::geometry::{Bounds, Quad, Rotation, Vector, add, dot, scale, subtract};
use super::shape::{Block, MOST_PARTS, Shape};

/// Numbers in a state: agent x, y, block x, y, angle, agent velocity x, y.
pub const STATE: usize = 7;

/// Seconds per substep.
pub(super) const TIME_STEP: f64 = 0.01;
/// Environment steps hold a target for this many substeps.
const SUBSTEPS: usize = 10;
/// Pixels per unit of action.
pub(super) const REACH: f64 = 100.0;
/// Gains of the controller that moves the agent: on the distance to its target and on its velocity.
const STIFFNESS: f64 = 100.0;
const DAMPING: f64 = 20.0;
/// Pixels by which a contact mark reaches beyond both surfaces.
const MARK: f64 = 2.0;
/// Obstacles: the walls and the agent.
const OBSTACLES: usize = WALLS.len() + 1;
const AGENT: usize = WALLS.len();
const PAIRS: usize = OBSTACLES * MOST_PARTS;

/// Agent, block and walls.
#[derive(Debug, Clone)]
pub struct Dynamics {
    shape: Shape,
    block: Arc<Block>,
    inertia: Inertia,
    /// Distance from the centre of gravity to the farthest corner.
    radius: f64,
    agent: Vector,
    agent_velocity: Vector,
    /// Centre of gravity of the block.
    centre: Vector,
    /// Angle of the block, not reduced.
    angle: f64,
    /// What the last substep gave the block, for the next one.
    motion: Motion,
    /// The part of it that takes overlaps away.
    correction: Motion,
    /// Parts of the block where it is.
    parts: [Quad; MOST_PARTS],
    bounds: [Bounds; MOST_PARTS],
    contacts: Contacts<PAIRS>,
    /// Contact points of all substeps since the last step began.
    points: usize,
}

impl Dynamics {
    /// A space with the agent at (256, 400) and the block upright at (256, 300).
    pub fn new(shape: Shape) -> Self {
        let block = shape.block();
        let nowhere = Quad::rectangle([0.0; 4]);
        let mut dynamics = Self {
            shape,
            inertia: Inertia {
                inverse_moment: 1.0 / block.moment,
            },
            radius: block.radius(),
            block: Arc::new(block),
            agent: [0.0; 2],
            agent_velocity: [0.0; 2],
            centre: [0.0; 2],
            angle: 0.0,
            motion: Motion::NONE,
            correction: Motion::NONE,
            parts: [nowhere; MOST_PARTS],
            bounds: [Bounds::around(&[[0.0; 2]]); MOST_PARTS],
            contacts: Contacts::new(),
            points: 0,
        };
        dynamics.reset([256.0, 400.0, 256.0, 300.0, 0.0, 0.0, 0.0]);
        dynamics
    }

    /// What is pushed.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// A new space in this state, after the substep that the reference takes: the state that is reached is another
    /// one where the agent moves or shapes overlap.
    pub fn reset(&mut self, state: [f64; STATE]) {
        self.motion = Motion::NONE;
        self.correction = Motion::NONE;
        self.contacts = Contacts::new();
        self.set(state);
    }

    /// Puts agent and block elsewhere in the same space and takes a substep: contacts and the velocity of the block
    /// are what they were.
    pub fn set(&mut self, state: [f64; STATE]) {
        let [x, y, block_x, block_y, angle, velocity_x, velocity_y] = state;
        self.agent = [x, y];
        self.agent_velocity = [velocity_x, velocity_y];
        self.angle = angle;
        let rotation = Rotation::new(angle);
        self.centre = add([block_x, block_y], rotation.apply(self.block.centre));
        self.place_parts(rotation);
        self.points = 0;
        self.substep();
    }

    /// The present state: agent x, y, block x, y, angle in `[0, 2 pi)`, agent velocity.
    pub fn state(&self) -> [f64; STATE] {
        let [x, y] = self.agent;
        let offset = Rotation::new(self.angle).apply(self.block.centre);
        let [block_x, block_y] = subtract(self.centre, offset);
        let angle = self.angle.rem_euclid(std::f64::consts::TAU);
        let [velocity_x, velocity_y] = self.agent_velocity;
        [x, y, block_x, block_y, angle, velocity_x, velocity_y]
    }

    /// One environment step of 0.1 s: the agent is drawn towards a target, relative to where it is, in units of 100
    /// pixels.
    pub fn step(&mut self, action: [f64; 2]) {
        let target = add(self.agent, scale(action, REACH));
        self.points = 0;
        for _ in 0..SUBSTEPS {
            let towards = subtract(target, self.agent);
            for (velocity, towards) in self.agent_velocity.iter_mut().zip(towards) {
                let acceleration = STIFFNESS * towards + DAMPING * (0.0 - *velocity);
                *velocity += acceleration * TIME_STEP;
            }
            self.substep();
        }
    }

    /// Contact points per substep of the last step, rounded up, as the reference reports them.
    pub fn contact_count(&self) -> usize {
        self.points.div_ceil(SUBSTEPS)
    }

    /// Pairs of an obstacle and a part that touch since the last substep: the walls', and the agent's.
    pub fn touching(&self) -> [usize; 2] {
        let touching = self.contacts.touching().iter();
        let of_agent = touching
            .filter(|index| *index / MOST_PARTS == AGENT)
            .count();
        [self.contacts.touching().len() - of_agent, of_agent]
    }

    /// Parts of the block where they are.
    pub(super) fn parts(&self) -> &[Quad] {
        &self.parts[..self.block.parts.len()]
    }

    /// Where the agent is.
    pub(super) fn agent(&self) -> Vector {
        self.agent
    }

    /// Marks of the contacts of the last substep: lines across the surfaces that touch.
    pub(super) fn marks(&self) -> Vec<[Vector; 2]> {
        let mark = |[on_obstacle, arm, normal]: [Vector; 3]| {
            let beyond = scale(normal, MARK);
            [
                subtract(on_obstacle, beyond),
                add(add(self.centre, arm), beyond),
            ]
        };
        self.contacts.points().map(mark).collect()
    }

    /// Everything that decides what follows, as numbers.
    pub fn snapshot(&self) -> Vec<f64> {
        let mut out = Vec::with_capacity(64);
        for vector in [
            self.agent,
            self.agent_velocity,
            self.centre,
            self.motion.velocity,
            self.correction.velocity,
        ] {
            out.extend(vector);
        }
        out.extend([self.angle, self.motion.spin, self.correction.spin]);
        out.push(self.points as f64);
        self.contacts.write(&mut out);
        out
    }

    /// Goes back to a snapshot of a space with the same shape; says whether it is one.
    pub fn restore(&mut self, snapshot: &[f64]) -> bool {
        let Some((&head, rest)) = snapshot.split_first_chunk::<14>() else {
            return false;
        };
        let mut rest = rest.iter().copied();
        let contacts = Contacts::read(&mut rest);
        let (Some(contacts), None) = (contacts, rest.next()) else {
            return false;
        };
        let pair = |at: usize| [head[at], head[at + 1]];
        self.agent = pair(0);
        self.agent_velocity = pair(2);
        self.centre = pair(4);
        self.motion.velocity = pair(6);
        self.correction.velocity = pair(8);
        self.angle = head[10];
        self.motion.spin = head[11];
        self.correction.spin = head[12];
        self.points = head[13] as usize;
        self.contacts = contacts;
        self.place_parts(Rotation::new(self.angle));
        true
    }

    fn substep(&mut self) {
        self.agent = add(self.agent, scale(self.agent_velocity, TIME_STEP));
        self.move_block();
        self.find_contacts();
        self.points += self.contacts.point_count();
        self.motion = Motion::NONE;
        let (motion, correction) = (&mut self.motion, &mut self.correction);
        self.contacts.solve(self.inertia, motion, correction);
    }

    fn move_block(&mut self) {
        if self.motion.is_none() && self.correction.is_none() {
            return;
        }
        for axis in 0..2 {
            let velocity = self.motion.velocity[axis] + self.correction.velocity[axis];
            self.centre[axis] += velocity * TIME_STEP;
        }
        self.angle += (self.motion.spin + self.correction.spin) * TIME_STEP;
        self.correction = Motion::NONE;
        self.place_parts(Rotation::new(self.angle));
    }

    fn place_parts(&mut self, rotation: Rotation) {
        let origin = subtract(self.centre, rotation.apply(self.block.centre));
        let placed = self.parts.iter_mut().zip(&mut self.bounds);
        for ((part, bounds), own) in placed.zip(&self.block.parts) {
            *part = own.placed(rotation, origin);
            *bounds = Bounds::around(&part.corners);
        }
    }

    /// Finds what touches the block, in the order in which it is solved.
    fn find_contacts(&mut self) {
        self.contacts.begin_substep();
        let around = Bounds::around(&[self.centre]).wider(self.radius);
        let apart = subtract(self.agent, self.centre);
        let reach = self.radius + AGENT_RADIUS;
        for (wall, line) in WALLS.iter().enumerate() {
            let near = Bounds::around(&line.ends).wider(WALL_RADIUS);
            if !near.meets(&around) {
                continue;
            }
            for part in (0..self.block.parts.len()).rev() {
                if near.meets(&self.bounds[part])
                    && let Some(touch) = collision::with_wall(line, &self.parts[part])
                {
                    let index = wall * MOST_PARTS + part;
                    self.contacts
                        .add(index, &touch, self.centre, [0.0; 2], self.inertia);
                }
            }
        }
        if dot(apart, apart) > reach * reach {
            return;
        }
        for part in (0..self.block.parts.len()).rev() {
            if let Some(touch) = collision::with_agent(self.agent, &self.parts[part]) {
                let index = AGENT * MOST_PARTS + part;
                let (centre, velocity) = (self.centre, self.agent_velocity);
                self.contacts
                    .add(index, &touch, centre, velocity, self.inertia);
            }
        }
    }
}
