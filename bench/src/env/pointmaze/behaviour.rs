//! The policy behind the released `PointMaze` data: forces drawn anew in every step.

use jepa_datasets::Stream;

use super::sampler;
use crate::env::Behaviour;

/// Independent uniform forces in `[-1, 1]`: the released actions have the mean 0 and the standard deviation 0.577 of these
/// (datasets.md section 3.2).
pub struct RandomForces {
    stream: Stream,
}

impl RandomForces {
    /// Forces that draw everything from `stream`.
    pub fn new(stream: Stream) -> Self {
        Self { stream }
    }
}

impl Behaviour for RandomForces {
    /// A start as the episode sampler draws them.
    fn start(&mut self) -> Vec<f64> {
        sampler::state(|low, high| low + (high - low) * self.stream.uniform()).to_vec()
    }

    fn action(&mut self, _state: &[f64]) -> Vec<f64> {
        let mut force = || 2.0 * self.stream.uniform() - 1.0;
        vec![force(), force()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use crate::env::pointmaze::{PointMaze, STATE};

    #[test]
    fn recorded_states_have_the_spread_of_the_released_data() {
        let (episodes, steps) = (400, 100);
        let (mut sum, mut squares) = ([0.0; STATE], [0.0; STATE]);
        for episode in 0..episodes {
            let mut forces = RandomForces::new(Stream::new(3, &["test", &episode.to_string()]));
            let mut maze = PointMaze::default();
            maze.reset_to(&forces.start()).unwrap();
            for _ in 0..steps {
                for (at, value) in maze.state().iter().enumerate() {
                    sum[at] += value / f64::from(episodes * steps);
                    squares[at] += value * value / f64::from(episodes * steps);
                }
                let action = forces.action(maze.state());
                maze.step(&action).unwrap();
            }
        }
        // Standard deviations of 2,000 released episodes: datasets.md section 3.2.
        let released = [1.0055, 0.963, 1.6803, 1.9319];
        for (at, released) in released.iter().enumerate() {
            let std = (squares[at] - sum[at] * sum[at]).sqrt();
            assert!(
                (std / released - 1.0).abs() < 0.1,
                "number {at}: {std}, released {released}"
            );
        }
    }
}
