//! Wall: a dot in two rooms joined by a door (evaluation.md section 1.1).
//!
//! The dynamics are those of the DINO-WM release, quirks included: only the slab face of the room the
//! dot is in can stop it, sliding along a door jamb drifts to the right, and a dot that is pushed
//! back lands half a pixel off the wall. States agree bit for bit with the released simulator (two
//! slab limits are `f32` numbers there, and here), with one exception: an exactly vertical move into
//! a horizontal wall, for which the release computes `0 * inf`. Here the dot keeps its x, and the
//! step reports [`Outcome::nan_guard`].

mod collision;
mod random_walk;
mod render;

use jepa_datasets::Stream;
use jepa_datasets::mt19937;
use serde::Deserialize;

use super::{
    Behaviour, Env, EnvEntry, Fields, Image, Limits, Outcome, Size, Start, check_vector,
    numpy_seed, settings, unknown_behaviour,
};
use crate::Result;

pub use collision::Contact;
pub use random_walk::RandomWalk;

/// The line in [`super::ENVIRONMENTS`].
pub const ENTRY: EnvEntry = EnvEntry {
    name: "wall",
    summary: "a dot in two rooms joined by a door; goal in the other room (DINO-WM, JEPA-WMs)",
    limits: LIMITS,
    check: |table| WallConfig::from_table(table).map(drop),
    build: |settings| Ok(Box::new(Wall::new(WallConfig::from_table(settings)?))),
    behaviours: &["random"],
    outside: false,
    fields: Fields {
        camera: "top",
        action: ["2 pixels", "move of the dot (x, y); y points down"],
        proprio: ["pixels", "position of the dot (x, y)"],
        state: ["pixels", "position of the dot (x, y)"],
    },
};

const LIMITS: Limits = Limits {
    state_width: 2,
    proprio_width: 2,
    action_width: 2,
    native_size: SIZE,
    nominal_action: 1.0,
    settles: false,
    normalizer: "wall",
    distance_unit: "pixels",
    oracle_cost: "squared state distance",
};

/// Rows and columns of a native frame.
const SIZE: usize = 65;
/// Pixels moved per unit of action.
const GAIN: f64 = 2.0;
/// Standard deviation of the drawn dot, in pixels.
const DOT_STD: f64 = 1.7;
/// Column of the middle of the dividing wall.
const WALL_X: f64 = 32.0;
/// Faces of the dividing wall, left and right.
const SLAB: [f64; 2] = [29.0, 35.0];
/// Ends of the door along y.
const DOOR: [f64; 2] = [26.0, 34.0];
/// Border lines, the same on both axes.
const BORDER: [f64; 2] = [4.0, 60.0];
/// Distance that the sampler keeps from walls: two dot widths.
const PADDING: f64 = 2.0 * DOT_STD;
/// Smallest coordinate the sampler draws: one pixel inside `border_wall_loc = 5`, plus the padding.
const SAMPLE_LOW: f64 = 5.0 - 1.0 + PADDING;
/// Largest coordinate the sampler draws.
const SAMPLE_HIGH: f64 = SIZE as f64 - 1.0 - SAMPLE_LOW;

/// Settings of the Wall simulator.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WallConfig {
    /// A state closer to the goal than this, in pixels, has reached it.
    pub success_distance: f64,
}

/// What the settings are, for errors.
const KNOWN: &str = "`wall` knows one setting: `success_distance`, in pixels";

impl Default for WallConfig {
    fn default() -> Self {
        Self {
            success_distance: 4.5,
        }
    }
}

impl WallConfig {
    /// Reads the `[environment]` table of a task, without its `name`.
    ///
    /// # Errors
    /// When a key is unknown or the distance is not a positive number.
    pub fn from_table(table: &toml::Table) -> Result<Self> {
        let config: Self = settings::read(table, KNOWN)?;
        settings::positive("success_distance", config.success_distance, KNOWN)?;
        Ok(config)
    }
}

/// The Wall simulator. A new one has its dot at the centre of the left room.
#[derive(Debug, Clone)]
pub struct Wall {
    config: WallConfig,
    /// Position (x, y) in pixels, x to the right, y down.
    position: [f64; 2],
}

impl Wall {
    /// A simulator with these settings.
    pub fn new(config: WallConfig) -> Self {
        Self {
            config,
            position: [16.5, 32.0],
        }
    }

    /// Moves the dot and reports what it touched.
    pub fn advance(&mut self, action: [f64; 2]) -> Contact {
        let from = self.position;
        let to = [from[0] + GAIN * action[0], from[1] + GAIN * action[1]];
        let (position, contact) = collision::resolve(from, to);
        self.position = position;
        contact
    }
}

impl Default for Wall {
    fn default() -> Self {
        Self::new(WallConfig::default())
    }
}

impl Env for Wall {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn reset_to(&mut self, state: &[f64]) -> Result<()> {
        check_vector("state of `wall`", state, LIMITS.state_width)?;
        self.position = [state[0], state[1]];
        Ok(())
    }

    fn step(&mut self, action: &[f64]) -> Result<Outcome> {
        check_vector("action of `wall`", action, LIMITS.action_width)?;
        let contact = self.advance([action[0], action[1]]);
        Ok(Outcome {
            reward: 0.0,
            nan_guard: contact.nan_guard,
        })
    }

    fn state(&self) -> &[f64] {
        &self.position
    }

    fn proprio(&self) -> Vec<f32> {
        self.position.iter().map(|&value| value as f32).collect()
    }

    fn render(&self, size: Size) -> Result<Image> {
        Ok(match size {
            Size::Native => render::draw(self.position),
            Size::Planner => render::draw_for_planner(self.position),
        })
    }

    fn sample(&self, seed: u64) -> Result<Start> {
        let mut random = mt19937::numpy_random_state(numpy_seed(seed, ENTRY.name)?);
        let mut left_x = random.uniform(SAMPLE_LOW, SLAB[0] - PADDING);
        let mut right_x = random.uniform(SLAB[1] + PADDING, SAMPLE_HIGH);
        let start_y = random.uniform(SAMPLE_LOW, SAMPLE_HIGH);
        let goal_y = random.uniform(SAMPLE_LOW, SAMPLE_HIGH);
        if random.uniform(0.0, 1.0) < 0.5 {
            std::mem::swap(&mut left_x, &mut right_x);
        }
        Ok(Start {
            init: vec![left_x, start_y],
            goal: vec![right_x, goal_y],
            way: Vec::new(),
        })
    }

    fn success(&self, goal: &[f64], state: &[f64]) -> bool {
        self.state_distance(goal, state) < self.config.success_distance
    }

    fn state_distance(&self, goal: &[f64], state: &[f64]) -> f64 {
        let squares = goal.iter().zip(state).map(|(g, s)| (g - s) * (g - s));
        squares.sum::<f64>().sqrt()
    }

    fn behaviour(&self, name: &str, stream: Stream) -> Result<Box<dyn Behaviour>> {
        match name {
            "random" => Ok(Box::new(RandomWalk::new(stream))),
            _ => Err(unknown_behaviour(name, &ENTRY)),
        }
    }

    fn duplicate(&self) -> Result<Box<dyn Env>> {
        Ok(Box::new(self.clone()))
    }
}

#[cfg(test)]
#[expect(
    clippy::float_cmp,
    clippy::unreadable_literal,
    reason = "golden values, as printed and to the last bit"
)]
mod tests {
    use super::*;
    use crate::fixtures::Npz;

    /// Position after each of `steps` repetitions of one action.
    fn repeat(start: [f64; 2], action: [f64; 2], steps: usize) -> Vec<[f64; 2]> {
        let mut wall = Wall {
            position: start,
            ..Wall::default()
        };
        let step = |_| {
            wall.advance(action);
            wall.position
        };
        (0..steps).map(step).collect()
    }

    fn assert_close(actual: &[[f64; 2]], expected: &[[f64; 2]], tolerance: f64) {
        assert_eq!(actual.len(), expected.len());
        for (a, e) in actual.iter().flatten().zip(expected.iter().flatten()) {
            assert!(
                (a - e).abs() <= tolerance,
                "{actual:?} instead of {expected:?}"
            );
        }
    }

    #[test]
    fn the_released_sampler_is_reproduced() {
        let expected = [
            [
                51.416446467978034,
                37.05595810272488,
                17.388405771477313,
                34.20825260344733,
            ],
            [
                51.50990578064728,
                7.405627241013368,
                14.989800485586848,
                22.27476257348652,
            ],
            [
                38.87185741926762,
                34.44339391163249,
                15.33510721898447,
                28.817861716819223,
            ],
        ];
        for (seed, expected) in expected.iter().enumerate() {
            let Start { init, goal, .. } = Wall::default().sample(seed as u64).unwrap();
            assert_eq!([init, goal].concat(), expected);
        }
    }

    #[test]
    fn every_recorded_start_and_goal_is_reproduced_bit_for_bit() {
        let recorded = Npz::read("sims/wall_init_goal.npz");
        assert_eq!(recorded.array("init_goal").shape, [105, 4]);
        let rows = recorded.values("init_goal").chunks(4);
        for (seed, row) in recorded.values("seed").iter().zip(rows) {
            let Start { init, goal, .. } = Wall::default().sample(*seed as u64).unwrap();
            assert_eq!([init, goal].concat(), row, "seed {seed}");
        }
    }

    #[test]
    fn the_documented_moves_are_reproduced() {
        type Point = [f64; 2];
        let third = 1.0 / 3.0;
        #[rustfmt::skip]
        let cases: [(Point, Point, &[Point]); 9] = [
            ([20., 30.], [3., 0.3], &[[26., 30.6], [32., 31.2], [38., 31.8], [44., 32.4], [50., 33.]]),
            ([20., 20.], [3., 0.3], &[[26., 20.6], [28.5, 21.4], [28.5, 21.95], [28.5, 22.5], [28.5, 23.05]]),
            ([32., 30.], [0.1, 3.], &[[32.3 + third, 33.5], [33.15, 33.5], [33. + 2. * third, 33.5]]),
            ([32., 30.], [0.1, -3.], &[[32.3 + third, 26.5], [33.15, 26.5], [33. + 2. * third, 26.5]]),
            ([10., 10.], [-4., -3.], &[[4.5, 6.], [4.5, 6.125]]),
            ([10., 10.], [-3., -4.], &[[6., 4.5], [6.125, 4.5]]),
            ([50., 50.], [2., 6.], &[[53.5 + third, 59.5], [54.5, 59.5]]),
            ([10., 10.], [-4., 0.], &[[4.5, 10.5], [4.5, 11.]]),
            ([28., 24.], [0.4, 2.], &[[28.8, 28.], [29.6, 32.], [30.5, 33.5], [31.1, 33.5]]),
        ];
        for (start, action, expected) in cases {
            assert_close(&repeat(start, action, expected.len()), expected, 1e-6);
        }
    }

    #[test]
    fn every_recorded_episode_is_reproduced_bit_for_bit() {
        let recorded = Npz::read("sims/wall_episodes.npz");
        let [actions, states, events] =
            ["actions", "states", "event"].map(|key| recorded.values(key));
        let mut compared = 0;
        for episode in 0..60 {
            let states = &states[episode * 82..][..82];
            let mut wall = Wall {
                position: [states[0], states[1]],
                ..Wall::default()
            };
            for step in 0..40 {
                let expected = [states[2 * step + 2], states[2 * step + 3]];
                if expected.iter().any(|value| value.is_nan()) {
                    break;
                }
                let at = episode * 40 + step;
                let contact = wall.advance([actions[2 * at], actions[2 * at + 1]]);
                assert_eq!(wall.position, expected, "episode {episode}, step {step}");
                assert_eq!(
                    f64::from(contact.kind as u8),
                    events[at],
                    "episode {episode}, step {step}"
                );
                compared += 1;
            }
        }
        assert_eq!(compared, 60 * 40 - 29);
    }

    #[test]
    fn recorded_goal_checks_are_reproduced() {
        let recorded = Npz::read("sims/wall_episodes.npz");
        let keys = ["states", "check_goal", "check_success", "check_state_dist"];
        let [states, goals, successes, distances] = keys.map(|key| recorded.values(key));
        let wall = Wall::default();
        let mut compared = 0;
        for episode in 0..60 {
            let last = &states[episode * 82 + 80..][..2];
            if last.iter().all(|value| value.is_finite()) {
                let goal = &goals[2 * episode..][..2];
                assert!((wall.state_distance(goal, last) - distances[episode]).abs() <= 1e-5);
                assert_eq!(wall.success(goal, last), successes[episode] == 1.0);
                compared += 1;
            }
        }
        assert_eq!(compared, 59);
    }

    #[test]
    fn a_vertical_move_into_a_border_keeps_x_and_says_so() {
        let mut wall = Wall {
            position: [10.0, 10.0],
            ..Wall::default()
        };
        let outcome = wall.step(&[0.0, -4.0]).unwrap();
        assert!(outcome.nan_guard);
        assert_eq!(wall.position, [10.5, 4.5]);
        assert!(!wall.step(&[0.0, 1.0]).unwrap().nan_guard);
    }

    #[test]
    fn the_goal_is_always_in_the_other_room() {
        for seed in 0..200 {
            let Start { init, goal, .. } = Wall::default().sample(seed).unwrap();
            assert!((init[0] < WALL_X) != (goal[0] < WALL_X), "seed {seed}");
        }
    }

    #[test]
    fn settings_are_checked() {
        let table = |text: &str| text.parse::<toml::Table>().unwrap();
        let config = WallConfig::from_table(&table("success_distance = 9.0")).unwrap();
        assert!(Wall::new(config).success(&[10.0, 10.0], &[18.0, 10.0]));
        assert!(WallConfig::from_table(&table("success_distance = 0.0")).is_err());
        let error = WallConfig::from_table(&table("succes_distance = 1.0")).unwrap_err();
        assert!(error.to_string().contains("succes_distance"), "{error}");
    }
}
