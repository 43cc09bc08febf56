//! Random states of Push-T (evaluation.md section 1.3, "Random reset").
//!
//! The paper's episodes are replayed from recorded data; this is the release's fallback. Its goals are ours: a second state
//! from the same generator.

use std::f64::consts::PI;

use jepa_datasets::mt19937::Mt19937;

use super::STATE;

/// Pixels between which the agent's and the block's coordinates are drawn, the upper ones excluded.
const AGENT: [i64; 2] = [50, 450];
const BLOCK: [i64; 2] = [100, 400];

/// A source of random numbers.
pub(super) trait Draw {
    /// An integer from the first to before the second.
    fn integer(&mut self, range: [i64; 2]) -> i64;
    /// A standard normal number.
    fn normal(&mut self) -> f64;
}

impl Draw for Mt19937 {
    fn integer(&mut self, [low, high]: [i64; 2]) -> i64 {
        self.randint(low, high)
    }

    fn normal(&mut self) -> f64 {
        self.standard_normal()
    }
}

impl Draw for jepa_datasets::Stream {
    fn integer(&mut self, [low, high]: [i64; 2]) -> i64 {
        low + self.below((high - low) as u64) as i64
    }

    fn normal(&mut self) -> f64 {
        jepa_datasets::Stream::normal(self)
    }
}

/// A state at rest.
pub(super) fn state(random: &mut impl Draw) -> [f64; STATE] {
    let [x, y] = [AGENT, AGENT].map(|range| random.integer(range) as f64);
    let [block_x, block_y] = [BLOCK, BLOCK].map(|range| random.integer(range) as f64);
    let angle = random.normal() * 2.0 * PI - PI;
    [x, y, block_x, block_y, angle, 0.0, 0.0]
}

#[cfg(test)]
mod tests {
    use jepa_datasets::mt19937::numpy_random_state;

    use super::*;
    use crate::fixtures::Npz;

    #[test]
    fn recorded_episodes_begin_where_the_released_reset_puts_them() {
        let recorded = Npz::read("sims/pusht_episodes.npz");
        let seeds = recorded.values("seed");
        let expected = recorded.values("init").as_chunks::<STATE>().0;
        assert_eq!(expected.len(), 40);
        for (seed, expected) in seeds.iter().zip(expected) {
            let found = state(&mut numpy_random_state(*seed as u32));
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-13,
                    "{seed}: {found} {expected}"
                );
            }
        }
    }
}
