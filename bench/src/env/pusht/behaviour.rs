//! Policies that record Push-T data: a hand that wanders about the block, and one that pushes it somewhere.
//!
//! Neither is the release's: its data are demonstrations of people, replayed with noise.

use std::f64::consts::PI;

use jepa_datasets::Stream;

use super::dynamics::REACH;
use super::geometry::{Rotation, Vector, add, dot, scale, subtract};
use super::shape::Shape;
use super::{STATE, sampler};
use crate::env::Behaviour;

/// The agent is drawn to places whose coordinates lie between these, in pixels.
const INSIDE: [f64; 2] = [40.0, 472.0];
/// The block is pushed to places between these, so that it stays off the walls.
const MIDDLE: [f64; 2] = [150.0, 362.0];
/// Largest size of an action before noise, in units of 100 pixels.
const LARGEST: f64 = 0.35;
/// A start keeps this distance, in pixels, between the block's farthest corner and the agent's centre.
const CLEARANCE: f64 = 20.0;

/// What both policies know of the block.
#[derive(Debug, Clone, Copy)]
struct Outline {
    /// Centre of gravity in its own frame.
    centre: Vector,
    /// Distance from there to the farthest corner.
    radius: f64,
}

impl Outline {
    fn new(shape: Shape) -> Self {
        let block = shape.block();
        Self {
            centre: block.centre,
            radius: block.radius(),
        }
    }

    /// Centre of gravity in a state.
    fn centre(&self, state: &[f64]) -> Vector {
        add(
            [state[2], state[3]],
            Rotation::new(state[4]).apply(self.centre),
        )
    }

    /// A random state in which the agent does not touch the block: in the release's, it may lie in it.
    fn start(&self, stream: &mut Stream) -> Vec<f64> {
        loop {
            let state: [f64; STATE] = sampler::state(stream);
            let apart = length(subtract([state[0], state[1]], self.centre(&state)));
            if apart > self.radius + CLEARANCE {
                return state.to_vec();
            }
        }
    }
}

fn length(vector: Vector) -> f64 {
    dot(vector, vector).sqrt()
}

fn uniform(stream: &mut Stream, [low, high]: [f64; 2]) -> f64 {
    low + (high - low) * stream.uniform()
}

/// The action towards a place, no larger than `largest`, with noise of standard deviation `noise`.
fn towards(
    place: Vector,
    state: &[f64],
    largest: f64,
    noise: f64,
    stream: &mut Stream,
) -> Vec<f64> {
    let place = place.map(|at| at.clamp(INSIDE[0], INSIDE[1]));
    let move_by = scale(subtract(place, [state[0], state[1]]), 1.0 / REACH);
    let shorter = (largest / length(move_by).max(f64::MIN_POSITIVE)).min(1.0);
    let action = scale(move_by, shorter);
    action.map(|part| part + noise * stream.normal()).to_vec()
}

/// Draws places one after the other and moves towards them: half of them anywhere in the window, half on the block or
/// next to it, so that it is hit from all sides.
pub struct Wander {
    stream: Stream,
    outline: Outline,
    place: Vector,
    /// Steps until another place is drawn.
    left: u64,
    /// Largest size of an action on the way.
    pace: f64,
}

impl Wander {
    /// A policy that draws everything from `stream`.
    pub fn new(shape: Shape, stream: Stream) -> Self {
        Self {
            stream,
            outline: Outline::new(shape),
            place: [0.0; 2],
            left: 0,
            pace: 0.0,
        }
    }

    fn draw_place(&mut self, centre: Vector) {
        self.left = 4 + self.stream.below(9);
        self.pace = uniform(&mut self.stream, [0.1, LARGEST]);
        self.place = if self.stream.uniform() < 0.5 {
            [0, 1].map(|_| uniform(&mut self.stream, INSIDE))
        } else {
            let spread = 0.7 * self.outline.radius;
            centre.map(|at| at + spread * self.stream.normal())
        };
    }
}

impl Behaviour for Wander {
    fn start(&mut self) -> Vec<f64> {
        self.outline.start(&mut self.stream)
    }

    fn action(&mut self, state: &[f64]) -> Vec<f64> {
        if self.left == 0 {
            self.draw_place(self.outline.centre(state));
        }
        self.left -= 1;
        towards(self.place, state, self.pace, 0.05, &mut self.stream)
    }
}

/// Goes round the block to the side from which it can push it towards a place in the middle of the window, pushes for a
/// while, and draws another place.
pub struct Push {
    stream: Stream,
    outline: Outline,
    /// Where the block is to go.
    place: Vector,
    /// Where it is pushed, to the side of its centre of gravity: this turns it.
    aside: f64,
    /// Steps of pushing that are left; none while the agent is on its way round.
    left: u64,
    is_new: bool,
}

impl Push {
    /// A policy that draws everything from `stream`.
    pub fn new(shape: Shape, stream: Stream) -> Self {
        Self {
            stream,
            outline: Outline::new(shape),
            place: [0.0; 2],
            aside: 0.0,
            left: 0,
            is_new: true,
        }
    }

    fn draw_place(&mut self) {
        self.place = [0, 1].map(|_| uniform(&mut self.stream, MIDDLE));
        self.aside = 0.3 * self.outline.radius * self.stream.normal();
        self.is_new = false;
    }

    /// The next place on a circle around the block, on the shorter way to where pushing begins.
    fn way_round(&self, agent: Vector, centre: Vector, from: Vector) -> Vector {
        let angle = |of: Vector| libm::atan2(of[1], of[0]);
        let now = angle(subtract(agent, centre));
        let turn = angle(from) - now;
        let turn = turn - 2.0 * PI * (turn / (2.0 * PI)).round();
        let next = now + turn.clamp(-0.5, 0.5);
        let distance = self.outline.radius + CLEARANCE;
        add(centre, scale([libm::cos(next), libm::sin(next)], distance))
    }
}

impl Behaviour for Push {
    fn start(&mut self) -> Vec<f64> {
        self.outline.start(&mut self.stream)
    }

    fn action(&mut self, state: &[f64]) -> Vec<f64> {
        if self.is_new {
            self.draw_place();
        }
        let (agent, centre) = ([state[0], state[1]], self.outline.centre(state));
        let way = subtract(self.place, centre);
        let direction = scale(way, 1.0 / length(way).max(1.0));
        let sideways = scale([-direction[1], direction[0]], self.aside);
        if self.left == 0 {
            // Behind the block, as seen from where it is to go.
            let behind = scale(direction, -self.outline.radius - CLEARANCE);
            let apart = subtract(subtract(agent, centre), behind);
            if length(apart) > CLEARANCE {
                let next = self.way_round(agent, centre, behind);
                return towards(next, state, LARGEST, 0.03, &mut self.stream);
            }
            self.left = 10 + self.stream.below(15);
        }
        self.left -= 1;
        self.is_new = self.left == 0 || length(way) < CLEARANCE;
        if self.is_new {
            self.left = 0;
        }
        let ahead = add(add(centre, sideways), scale(direction, CLEARANCE));
        let pace = uniform(&mut self.stream, [0.1, 0.25]);
        towards(ahead, state, pace, 0.03, &mut self.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use crate::env::pusht::{PushT, PushTConfig};

    /// Share of steps with contacts, and of episodes of 60 steps in which the block ends elsewhere.
    fn outcome(name: &str, shape: Shape) -> [f64; 2] {
        let episodes = 100;
        let (mut contacts, mut moved) = (0, 0);
        let mut table = PushT::new(PushTConfig {
            shape,
            ..PushTConfig::default()
        });
        for episode in 0..episodes {
            let stream = Stream::new(episode, &["test", name]);
            let mut behaviour = table.behaviour(name, stream).unwrap();
            table.reset_to(&behaviour.start()).unwrap();
            let first = table.state().to_vec();
            for _ in 0..60 {
                let action = behaviour.action(table.state());
                table.step(&action).unwrap();
                contacts += usize::from(table.contact_count() > 0);
                let inside = |at: &f64| (-20.0..=532.0).contains(at);
                assert!(table.state()[..2].iter().all(inside), "{:?}", table.state());
            }
            let last = table.state();
            let turned = (last[4] - first[4]).abs() > 0.1;
            moved += usize::from(turned || length([last[2] - first[2], last[3] - first[3]]) > 10.0);
        }
        [contacts as f64 / 60.0, moved as f64].map(|count| count / episodes as f64)
    }

    #[test]
    fn recorded_data_hold_contacts_and_moved_blocks() {
        let [contacts, moved] = outcome("random", Shape::T);
        println!("random: {contacts} {moved}");
        assert!(contacts > 0.1 && moved > 0.7, "random: {contacts} {moved}");
        for (name, shape) in Shape::ALL {
            let [contacts, moved] = outcome("push", shape);
            println!("push, {name}: {contacts} {moved}");
            assert!(
                contacts > 0.2 && moved > 0.85,
                "push, {name}: {contacts} {moved}"
            );
        }
    }
}
