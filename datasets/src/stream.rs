//! Named, counter-based random streams: the only source of randomness in the project.
//!
//! A stream is keyed by one seed and a list of names, for instance
//! `(1, ["planner", "wall@1", "episode", "17", "replan", "0"])`. The key decides every number that
//! comes out, so results do not depend on the number of threads, workers or shards, nor on which
//! other streams were used before.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Domain of the key derivation. Changing it changes every random number of the project.
const CONTEXT: &str = "jepa-bench 2026 random stream v1";

/// Words of 32 bits that one Box-Muller pair consumes: two uniforms of 64 bits.
const WORDS_PER_PAIR: u128 = 4;

/// One independent stream of random numbers (`ChaCha` with 8 rounds, keyed by BLAKE3 of the names).
///
/// ```
/// use jepa_datasets::Stream;
///
/// let mut a = Stream::new(1, &["init", "wall@1", "episode", "17"]);
/// let mut b = Stream::new(1, &["init", "wall@1", "episode", "17"]);
/// assert_eq!(a.next_u64(), b.next_u64());
/// ```
#[derive(Debug, Clone)]
pub struct Stream {
    rng: ChaCha8Rng,
    /// The sine half of the last Box-Muller pair, until `normal` hands it out.
    spare: Option<f64>,
}

impl Stream {
    /// The stream of `seed` and `names`.
    ///
    /// Names are hashed with their lengths, so `("a", "bc")` and `("ab", "c")` differ. Numbers are
    /// passed as decimal strings.
    pub fn new(seed: u64, names: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&seed.to_le_bytes());
        for name in names {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
        }
        Self {
            rng: ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()),
            spare: None,
        }
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        self.spare = None;
        self.rng.next_u32()
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.spare = None;
        self.rng.next_u64()
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        const SCALE: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.next_u64() >> 11) as f64 * SCALE
    }

    /// An unbiased integer in `0..n` (Lemire's multiplication with rejection).
    ///
    /// # Panics
    /// When `n` is 0: there is no such integer.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "an integer below 0 was asked for");
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// A standard normal number (Box-Muller in `libm`, so the bits are the same on every machine).
    ///
    /// Both values of a pair are used. A draw of another kind in between drops the second one, which
    /// keeps [`position`](Self::position) a complete description of the stream.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (cosine, sine) = self.normal_pair();
        self.spare = Some(sine);
        cosine
    }

    /// Fills `out` with standard normal numbers, as repeated calls of [`normal`](Self::normal) would.
    pub fn fill_normal(&mut self, out: &mut [f64]) {
        for value in out {
            *value = self.normal();
        }
    }

    /// Shuffles `items` (Fisher-Yates from the end).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }

    /// Where the stream stands, for an exact resume with [`seek`](Self::seek).
    pub fn position(&self) -> u128 {
        self.rng.get_word_pos() << 1 | u128::from(self.spare.is_some())
    }

    /// Goes to a position that [`position`](Self::position) returned for a stream of the same key.
    pub fn seek(&mut self, position: u128) {
        let word = position >> 1;
        self.spare = None;
        if position & 1 == 1 && word >= WORDS_PER_PAIR {
            self.rng.set_word_pos(word - WORDS_PER_PAIR);
            self.spare = Some(self.normal_pair().1);
        }
        self.rng.set_word_pos(word);
    }

    /// Two independent standard normal numbers from two uniforms.
    fn normal_pair(&mut self) -> (f64, f64) {
        let radius = (-2.0 * libm::log(1.0 - self.uniform())).sqrt();
        let angle = std::f64::consts::TAU * self.uniform();
        (radius * libm::cos(angle), radius * libm::sin(angle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_words(seed: u64, names: &[&str]) -> Vec<u64> {
        let mut stream = Stream::new(seed, names);
        (0..4).map(|_| stream.next_u64()).collect()
    }

    #[test]
    fn the_key_is_seed_and_names_with_their_boundaries() {
        assert_eq!(first_words(1, &["a", "bc"]), first_words(1, &["a", "bc"]));
        assert_ne!(first_words(1, &["a", "bc"]), first_words(1, &["ab", "c"]));
        assert_ne!(first_words(1, &["a", "bc"]), first_words(1, &["bc", "a"]));
        assert_ne!(first_words(1, &["a"]), first_words(1, &["a", ""]));
        assert_ne!(first_words(1, &["a"]), first_words(2, &["a"]));
    }

    /// The numbers every published result rests on: if this fails, all of them change.
    #[test]
    fn the_first_words_never_change() {
        let expected = [
            3_270_789_666_715_887_243,
            553_042_423_167_836_352,
            3_391_555_207_364_330_139,
            3_251_187_448_596_375_404,
        ];
        assert_eq!(first_words(1, &["planner", "wall@1"]), expected);
    }

    #[test]
    fn normal_numbers_have_mean_zero_variance_one_and_normal_tails() {
        let mut values = vec![0.0; 200_000];
        Stream::new(3, &["normal"]).fill_normal(&mut values);
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let beyond_two = values.iter().filter(|v| v.abs() > 2.0).count() as f64 / n;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((variance - 1.0).abs() < 0.015, "{variance}");
        assert!((beyond_two - 0.045_500).abs() < 0.003, "{beyond_two}");
    }

    #[test]
    fn below_reaches_every_value_evenly_and_no_other() {
        let mut counts = [0_u32; 7];
        let mut stream = Stream::new(9, &["below"]);
        for _ in 0..70_000 {
            counts[stream.below(7) as usize] += 1;
        }
        assert!(
            counts.iter().all(|&c| (9_500..10_500).contains(&c)),
            "{counts:?}"
        );
        assert_eq!(stream.below(1), 0);
    }

    #[test]
    fn uniform_stays_below_one_and_has_the_mean_of_a_uniform() {
        let mut stream = Stream::new(4, &["uniform"]);
        let values: Vec<f64> = (0..100_000).map(|_| stream.uniform()).collect();
        assert!(values.iter().all(|v| (0.0..1.0).contains(v)));
        assert!((values.iter().sum::<f64>() / 1e5 - 0.5).abs() < 0.005);
    }

    #[test]
    fn seek_returns_to_any_position_with_or_without_a_spare_normal() {
        for draws in 0..9 {
            let mut stream = Stream::new(5, &["resume"]);
            for _ in 0..draws {
                stream.normal();
            }
            let position = stream.position();
            let expected: Vec<f64> = (0..5).map(|_| stream.normal()).collect();
            let mut resumed = Stream::new(5, &["resume"]);
            resumed.seek(position);
            assert_eq!(resumed.position(), position);
            let found: Vec<f64> = (0..5).map(|_| resumed.normal()).collect();
            assert_eq!(found, expected, "after {draws} draws");
        }
    }

    #[test]
    fn a_draw_of_another_kind_drops_the_spare_normal() {
        let mut stream = Stream::new(6, &["spare"]);
        stream.normal();
        assert_eq!(stream.position() & 1, 1);
        stream.next_u32();
        assert_eq!(stream.position() & 1, 0);
    }

    #[test]
    fn shuffle_is_a_permutation() {
        let mut items: Vec<u32> = (0..100).collect();
        Stream::new(7, &["shuffle"]).shuffle(&mut items);
        let mut sorted = items.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_ne!(items, sorted);
    }
}
