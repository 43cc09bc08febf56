//! Motion of the ball: what `MuJoCo` computes for this model, in closed form (evaluation.md section 1.2).
//!
//! `MuJoCo`'s contacts are soft: the accelerations are those that minimise the kinetic part plus a quadratic penalty per
//! contact. With one ball in the plane there are two unknowns and at most a few contacts, so the minimum is found by
//! trying which contacts push.

use serde::{Deserialize, Serialize};

use super::STATE;

/// Environment steps hold an action for this many substeps.
const SUBSTEPS: usize = 5;
/// Seconds per substep, `h`.
const TIME_STEP: f64 = 0.01;
/// Damping of both joints, `b`.
const DAMPING: f64 = 1.0;
/// Force of a motor per unit of action.
const GEAR: f64 = 100.0;
/// Largest size of an action component that has an effect.
const LARGEST_ACTION: f64 = 1.0;
/// Velocities are clipped to this before every environment step.
const FASTEST: f64 = 5.0;
/// Radius of the ball.
const RADIUS: f64 = 0.1;
/// Mass of the ball, `m`: 1000 times its volume.
const MASS: f64 = 4.0 / 3.0 * std::f64::consts::PI * RADIUS * RADIUS * RADIUS * 1000.0;
/// Position of the ball in the world where its coordinates are 0.
pub(super) const ORIGIN: f64 = 1.2;
/// Half the side of a wall's box.
pub(super) const HALF: f64 = 0.5;
/// The maze; the row counts along x, the column along y, and box centres are one apart from (1, 1) on.
pub(super) const MAP: [&[u8; 5]; 5] = [b"#####", b"#GOO#", b"###O#", b"#OOO#", b"#####"];

/// Impedance of a contact at its edge and within, and the depth over which it changes (`solimp`).
const IMPEDANCE: [f64; 2] = [0.9, 0.95];
const IMPEDANCE_WIDTH: f64 = 0.001;
/// Time constant of the contact's spring (`solref`), with critical damping.
const TIME_CONSTANT: f64 = 0.02;

/// Which version of `MuJoCo` the contacts are those of. Motion without contact is the same in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContactModel {
    /// 2.3.3, and presumably 2.1.0, which recorded the released data.
    #[default]
    #[serde(rename = "mujoco-2.3")]
    Mujoco23,
    /// 3.2 to 3.x: another estimate of the ball's inverse inertia at a contact.
    #[serde(rename = "mujoco-3.2")]
    Mujoco32,
    /// 4.0.0: that, and the margins of both bodies add up.
    #[serde(rename = "mujoco-4.0")]
    Mujoco40,
}

impl ContactModel {
    /// Inverse inertia of a contact, `w`.
    fn inverse_inertia(self) -> f64 {
        match self {
            Self::Mujoco23 => 2.0 / (3.0 * MASS),
            Self::Mujoco32 | Self::Mujoco40 => 1.0 / MASS,
        }
    }

    /// Distance at which a contact begins.
    fn margin(self) -> f64 {
        match self {
            Self::Mujoco23 | Self::Mujoco32 => 0.002,
            Self::Mujoco40 => 0.004,
        }
    }
}

/// A touch of the ball and a wall.
#[derive(Debug, Clone, Copy, Default)]
struct Contact {
    /// Direction in which the wall pushes, of length 1.
    normal: [f64; 2],
    /// Acceleration along it that the contact asks for, `aref`.
    wanted: f64,
    /// Softness, `R`: a missing unit of acceleration costs a force of `1 / R`.
    softness: f64,
}

impl Contact {
    /// The force that keeps an acceleration, `f >= 0`.
    fn force(&self, acceleration: [f64; 2]) -> f64 {
        let missing = self.wanted - dot(self.normal, acceleration);
        (missing / self.softness).max(0.0)
    }
}

/// Contacts at a time: a ball in a corner touches two boxes, and those are three boxes of one corner at most.
const MOST: usize = 4;

/// The ball in the maze.
#[derive(Debug, Clone)]
pub struct Dynamics {
    model: ContactModel,
    /// Position and velocity, `[x, y, vx, vy]`.
    state: [f64; STATE],
}

impl Dynamics {
    /// The ball at rest at (0, 0).
    pub fn new(model: ContactModel) -> Self {
        Self {
            model,
            state: [0.0; STATE],
        }
    }

    /// Puts the ball into a state.
    pub fn set(&mut self, state: [f64; STATE]) {
        self.state = state;
    }

    /// The present state, `[x, y, vx, vy]`.
    pub fn state(&self) -> &[f64; STATE] {
        &self.state
    }

    /// One environment step of 0.05 s under forces in `[-1, 1]`; larger ones are clipped.
    pub fn step(&mut self, action: [f64; 2]) {
        let force = action.map(|a| GEAR * a.clamp(-LARGEST_ACTION, LARGEST_ACTION));
        for velocity in &mut self.state[2..] {
            *velocity = velocity.clamp(-FASTEST, FASTEST);
        }
        for _ in 0..SUBSTEPS {
            self.substep(force);
        }
    }

    fn substep(&mut self, force: [f64; 2]) {
        let [x, y, vx, vy] = self.state;
        let velocity = [vx, vy];
        let pushed = [force[0] - DAMPING * vx, force[1] - DAMPING * vy];
        let mut contacts = [Contact::default(); MOST];
        let count = self.touch([x + ORIGIN, y + ORIGIN], velocity, &mut contacts);
        let total = with_contacts(pushed, &contacts[..count]);
        for axis in 0..2 {
            // Damping is implicit: its change over the substep counts.
            let velocity = velocity[axis] + TIME_STEP * total[axis] / (MASS + TIME_STEP * DAMPING);
            self.state[2 + axis] = velocity;
            self.state[axis] += TIME_STEP * velocity;
        }
    }

    /// Finds the walls that the ball at `centre` touches; returns how many.
    fn touch(&self, centre: [f64; 2], velocity: [f64; 2], contacts: &mut [Contact; MOST]) -> usize {
        let mut count = 0;
        let reach = HALF + RADIUS + self.model.margin();
        for (row, tiles) in MAP.iter().enumerate() {
            let from_row = centre[0] - (row + 1) as f64;
            if from_row.abs() >= reach {
                continue;
            }
            for (column, tile) in tiles.iter().enumerate() {
                let from_column = centre[1] - (column + 1) as f64;
                if *tile != b'#' || from_column.abs() >= reach || count == MOST {
                    continue;
                }
                let (normal, distance) = separation([from_row, from_column]);
                if distance < self.model.margin() {
                    contacts[count] = self.contact(normal, distance, velocity);
                    count += 1;
                }
            }
        }
        count
    }

    /// What a contact at `distance` (negative when the ball is in the wall) asks for.
    fn contact(&self, normal: [f64; 2], distance: f64, velocity: [f64; 2]) -> Contact {
        let [edge, within] = IMPEDANCE;
        let depth = distance - self.model.margin();
        let ratio = (depth.abs() / IMPEDANCE_WIDTH).min(1.0);
        let curve = if ratio <= 0.5 {
            2.0 * ratio * ratio
        } else {
            1.0 - 2.0 * (1.0 - ratio) * (1.0 - ratio)
        };
        let impedance = edge + (within - edge) * curve;
        let damping = 2.0 / (within * TIME_CONSTANT);
        let stiffness = 1.0 / (within * TIME_CONSTANT * within * TIME_CONSTANT);
        Contact {
            normal,
            wanted: -damping * dot(normal, velocity) - stiffness * impedance * depth,
            softness: (1.0 - impedance) / impedance * self.model.inverse_inertia(),
        }
    }
}

/// Direction and distance from a box around (0, 0) to the ball at `centre`.
///
/// The reference does not put the ball's centre into a wall; if a state does, the nearest face pushes it out.
fn separation(centre: [f64; 2]) -> ([f64; 2], f64) {
    let beyond = centre.map(|c| c - c.clamp(-HALF, HALF));
    let length = libm::hypot(beyond[0], beyond[1]);
    if length > 0.0 {
        return (beyond.map(|b| b / length), length - RADIUS);
    }
    let depth = centre.map(|c| HALF - c.abs());
    let axis = usize::from(depth[1] < depth[0]);
    let mut normal = [0.0; 2];
    normal[axis] = 1.0_f64.copysign(centre[axis]);
    (normal, -depth[axis] - RADIUS)
}

/// The given force and those of the contacts.
///
/// The acceleration minimises `m/2 |a - a0|^2 + sum 1/(2 R) min(0, n a - aref)^2`. Were it known which contacts push, it would be
/// the solution of two linear equations: every choice is solved, and the one with the least cost is the minimum.
fn with_contacts(pushed: [f64; 2], contacts: &[Contact]) -> [f64; 2] {
    if contacts.is_empty() {
        return pushed;
    }
    let smooth = pushed.map(|force| force / MASS);
    let choices = 0..1_u32 << contacts.len();
    let solved = choices.map(|choice| {
        let pushing = |index: &usize| choice >> index & 1 == 1;
        let chosen = (0..contacts.len()).filter(pushing).map(|at| contacts[at]);
        solve(smooth, chosen)
    });
    let cost = |acceleration: &[f64; 2]| {
        let apart = [acceleration[0] - smooth[0], acceleration[1] - smooth[1]];
        let penalties = contacts.iter().map(|contact| {
            let force = contact.force(*acceleration);
            0.5 * contact.softness * force * force
        });
        0.5 * MASS * dot(apart, apart) + penalties.sum::<f64>()
    };
    let best = solved.min_by(|a, b| cost(a).total_cmp(&cost(b)));
    let acceleration = best.unwrap_or(smooth);
    contacts.iter().fold(pushed, |sum, contact| {
        let force = contact.force(acceleration);
        [0, 1].map(|axis| sum[axis] + force * contact.normal[axis])
    })
}

/// The acceleration when exactly these contacts push: `(m + sum n n^T / R) a = m a0 + sum aref n / R`.
fn solve(smooth: [f64; 2], pushing: impl Iterator<Item = Contact>) -> [f64; 2] {
    let (mut xx, mut xy, mut yy) = (MASS, 0.0, MASS);
    let mut right = smooth.map(|a| MASS * a);
    for contact in pushing {
        let [x, y] = contact.normal;
        let weight = 1.0 / contact.softness;
        xx += weight * x * x;
        xy += weight * x * y;
        yy += weight * y * y;
        right[0] += weight * contact.wanted * x;
        right[1] += weight * contact.wanted * y;
    }
    let determinant = xx * yy - xy * xy;
    [
        (yy * right[0] - xy * right[1]) / determinant,
        (xx * right[1] - xy * right[0]) / determinant,
    ]
}

fn dot(a: [f64; 2], b: [f64; 2]) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays actions from a state and compares with evaluation.md section 8.2, which gives nine decimals.
    fn plays(model: ContactModel, start: [f64; 4], actions: &[[f64; 2]], expected: &[[f64; 4]]) {
        let mut dynamics = Dynamics::new(model);
        dynamics.set(start);
        for (at, (action, expected)) in actions.iter().zip(expected).enumerate() {
            dynamics.step(*action);
            for (found, expected) in dynamics.state().iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-7,
                    "step {at}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn steps_are_those_of_the_specification() {
        plays(
            ContactModel::Mujoco23,
            [1.0, 3.0, 0.0, 0.0],
            &[[0.5, -0.2], [1.0, 1.0], [-0.3, 0.0]],
            &[
                [1.017_805_667, 2.992_877_733, 0.592_580_247, -0.237_032_099],
                [1.082_834_988, 3.016_721_873, 1.770_717_713, 0.950_937_605],
                [1.160_056_897, 3.063_930_112, 1.394_183_718, 0.939_667_469],
            ],
        );
        // Into the inner wall, along it.
        plays(
            ContactModel::Mujoco23,
            [1.2, 2.6, 2.0, -3.0],
            &[[0.5, -1.0]; 3],
            &[
                [1.317_093_441, 2.415_457_006, 2.568_877_037, -4.149_605_679],
                [1.462_428_148, 2.392_699_508, 3.131_011_968, 0.297_504_956],
                [1.635_669_419, 2.399_532_979, 3.686_484_697, 0.071_163_663],
            ],
        );
    }

    #[test]
    fn the_fifth_step_of_a_run_tells_the_versions_apart() {
        let actions = [[1.0, 0.2]; 5];
        let ends = [
            (
                ContactModel::Mujoco23,
                [2.277_649_186, 3.199_934_744, 6.125_902_469, -0.194_117_518],
            ),
            (
                ContactModel::Mujoco40,
                [2.277_649_186, 3.196_373_106, 6.125_902_469, -0.006_806_607],
            ),
        ];
        for (model, expected) in ends {
            let mut dynamics = Dynamics::new(model);
            dynamics.set([1.0, 3.0, 3.0, 0.5]);
            for action in actions {
                dynamics.step(action);
            }
            for (found, expected) in dynamics.state().iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-7,
                    "{model:?}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn contacts_of_a_corner_all_push_and_the_solution_is_a_minimum() {
        let contact = |normal: [f64; 2], wanted: f64| Contact {
            normal,
            wanted,
            softness: 0.01,
        };
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let contacts = [
            contact([1.0, 0.0], 30.0),
            contact([0.0, 1.0], 20.0),
            contact([half, half], 36.0),
            contact([-1.0, 0.0], -500.0),
        ];
        let pushed = [-40.0, -90.0];
        let total = with_contacts(pushed, &contacts);
        // At the minimum the total force is what accelerates the mass: the gradient of the cost is 0.
        let acceleration = total.map(|force| force / MASS);
        for axis in 0..2 {
            let forces = contacts
                .iter()
                .map(|c| c.force(acceleration) * c.normal[axis]);
            let residual = total[axis] - pushed[axis] - forces.sum::<f64>();
            assert!(residual.abs() < 1e-9, "{residual}");
        }
        assert_eq!(contacts[3].force(acceleration).to_bits(), 0.0_f64.to_bits());
        assert!(contacts[..3].iter().all(|c| c.force(acceleration) > 0.0));
    }

    #[test]
    fn a_ball_in_a_wall_is_pushed_out_of_its_nearest_face() {
        let (normal, distance) = separation([-0.4, 0.1]);
        assert_eq!(normal.map(f64::to_bits), [-1.0, 0.0].map(f64::to_bits));
        assert!((distance + 0.2).abs() < 1e-12, "{distance}");
        let mut dynamics = Dynamics::new(ContactModel::Mujoco23);
        // World (2.0, 3.4): inside the inner wall, near the corridor.
        dynamics.set([0.8, 1.15, 0.0, 0.0]);
        for _ in 0..200 {
            dynamics.step([0.0, 0.0]);
            assert!(dynamics.state().iter().all(|x| x.is_finite()));
        }
    }
}
