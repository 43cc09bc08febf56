//! Where the released episodes of `PointMaze` begin and end (evaluation.md section 1.2).

use jepa_datasets::mt19937::{self, Mt19937};

use super::STATE;
use crate::Result;
use crate::env::numpy_seed;

/// Coordinates that are drawn, before those outside the corridors are drawn again.
const RANGE: [f64; 2] = [0.5, 3.1];
/// Largest velocity, for goals too.
const FASTEST: f64 = 5.226_255_4;

/// Initial state and goal of a seed.
///
/// # Errors
/// When the seed does not fit the reference generator (2^32 and above).
pub fn sample(seed: u64) -> Result<[[f64; STATE]; 2]> {
    let mut random = mt19937::numpy_random_state(numpy_seed(seed, "pointmaze")?);
    Ok([draw(&mut random), draw(&mut random)])
}

fn draw(random: &mut Mt19937) -> [f64; STATE] {
    state(|low, high| random.uniform(low, high))
}

/// A state in a corridor, from uniform numbers between two bounds.
pub(super) fn state(mut uniform: impl FnMut(f64, f64) -> f64) -> [f64; STATE] {
    let [low, high] = RANGE;
    loop {
        let (x, y) = (uniform(low, high), uniform(low, high));
        if is_in_a_corridor(x, y) {
            let mut velocity = || uniform(-FASTEST, FASTEST);
            return [x, y, velocity(), velocity()];
        }
    }
}

/// The two arms along y, and the bend at their upper end.
fn is_in_a_corridor(x: f64, y: f64) -> bool {
    let in_an_arm = (0.5..=1.1).contains(&x) || (2.5..=3.1).contains(&x);
    in_an_arm || (1.1 < x && x < 2.5 && (2.5..=3.1).contains(&y))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Npz;

    #[test]
    fn starts_and_goals_are_those_of_the_reference_to_the_bit() {
        let recorded = Npz::read("sims/pointmaze_init_goal.npz");
        let seeds = recorded.values("seed");
        let expected = recorded.values("init_goal").as_chunks::<8>().0;
        assert_eq!(seeds.len(), 100);
        for (seed, expected) in seeds.iter().zip(expected) {
            let [init, goal] = sample(*seed as u64).unwrap();
            for (found, expected) in init.iter().chain(&goal).zip(expected) {
                let ulp = found.to_bits().abs_diff(expected.to_bits());
                assert!(ulp <= 1, "seed {seed}: {found} {expected}");
            }
        }
    }

    #[test]
    fn seeds_that_the_generator_does_not_take_are_refused() {
        assert!(sample(1 << 32).is_err());
    }
}
