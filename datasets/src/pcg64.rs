//! `numpy.random.default_rng(seed).choice(n, size, replace=False)`, exactly: the split of `diffusion_policy`.
//!
//! `SeedSequence` hashes the seed into the state of PCG64 (O'Neill 2014, XSL-RR output); integers below a
//! bound come from Lemire's multiplication on halves of its words.

/// Multiplier of the 128-bit generator.
const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
/// Populations up to this size, and small choices from larger ones, are drawn by Floyd's method.
const FLOYD_POPULATION: u64 = 10_000;
/// A choice of more than this part of a large population is the tail of a shuffle.
const TAIL_PART: u64 = 50;

/// Words of 32 bits that `SeedSequence(seed).generate_state` returns.
fn seed_words(seed: u64) -> [u32; 8] {
    const MULTIPLY_A: u32 = 0x931e_8875;
    const MULTIPLY_B: u32 = 0x58f3_8ded;
    let mut constant: u32 = 0x43b0_d7e5;
    let mut hash = |value: u32| {
        let value = value ^ constant;
        constant = constant.wrapping_mul(MULTIPLY_A);
        let value = value.wrapping_mul(constant);
        value ^ value >> 16
    };
    let mix = |x: u32, y: u32| {
        let mixed = x
            .wrapping_mul(0xca01_f9dd)
            .wrapping_sub(y.wrapping_mul(0x4973_f715));
        mixed ^ mixed >> 16
    };
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0].map(&mut hash);
    for from in 0..pool.len() {
        for to in (0..pool.len()).filter(|&to| to != from) {
            pool[to] = mix(pool[to], hash(pool[from]));
        }
    }
    let mut constant: u32 = 0x8b51_f9dd;
    std::array::from_fn(|k| {
        let value = pool[k % pool.len()] ^ constant;
        constant = constant.wrapping_mul(MULTIPLY_B);
        let value = value.wrapping_mul(constant);
        value ^ value >> 16
    })
}

/// NumPy's default generator.
struct Pcg64 {
    state: u128,
    increment: u128,
    /// The high half of the last word, until it is handed out.
    half: Option<u32>,
}

impl Pcg64 {
    fn new(seed: u64) -> Self {
        let words = seed_words(seed);
        let long = |k: usize| u128::from(words[2 * k]) | u128::from(words[2 * k + 1]) << 32;
        let (start, sequence) = (long(0) << 64 | long(1), long(2) << 64 | long(3));
        let mut rng = Self {
            state: 0,
            increment: sequence << 1 | 1,
            half: None,
        };
        rng.step();
        rng.state = rng.state.wrapping_add(start);
        rng.step();
        rng
    }

    fn step(&mut self) {
        self.state = self
            .state
            .wrapping_mul(MULTIPLIER)
            .wrapping_add(self.increment);
    }

    fn next_u32(&mut self) -> u32 {
        if let Some(half) = self.half.take() {
            return half;
        }
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        let word = folded.rotate_right((self.state >> 122) as u32);
        self.half = Some((word >> 32) as u32);
        word as u32
    }

    /// A number in `0..=last`.
    fn up_to(&mut self, last: u32) -> u32 {
        if last == 0 {
            return 0;
        }
        let Some(count) = last.checked_add(1) else {
            return self.next_u32();
        };
        let threshold = count.wrapping_neg() % count;
        loop {
            let product = u64::from(self.next_u32()) * u64::from(count);
            if product as u32 >= threshold {
                return (product >> 32) as u32;
            }
        }
    }
}

/// The chosen `size` of `0..n`, in no particular order.
///
/// # Panics
/// When `size` is larger than `n`.
pub(crate) fn choice(n: u32, size: u32, seed: u64) -> Vec<u64> {
    assert!(size <= n, "{size} of {n} without replacement");
    let mut rng = Pcg64::new(seed);
    if u64::from(n) > FLOYD_POPULATION && u64::from(size) > u64::from(n) / TAIL_PART {
        let mut order: Vec<u64> = (0..u64::from(n)).collect();
        for i in ((n - size).max(1)..n).rev() {
            order.swap(i as usize, rng.up_to(i) as usize);
        }
        return order.split_off((n - size) as usize);
    }
    let mut chosen = std::collections::BTreeSet::new();
    for last in n - size..n {
        let value = rng.up_to(last);
        if !chosen.insert(u64::from(value)) {
            chosen.insert(u64::from(last));
        }
    }
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_those_of_numpy() {
        assert_eq!(choice(206, 4, 42), [18, 90, 134, 157]);
        assert_eq!(choice(3, 1, 42), [0]);
        assert_eq!(choice(3, 1, 7), [2]);
        assert_eq!(choice(5, 5, 1), [0, 1, 2, 3, 4]);
        assert_eq!(choice(1, 0, 1), [] as [u64; 0]);
    }

    /// From NumPy 2.4.6: the five smallest and the sum, by the tail of a shuffle and by Floyd's method.
    #[test]
    fn choices_from_large_populations_are_those_of_numpy() {
        for (size, seed, smallest, sum) in [
            (500, 5, [0, 18, 20, 23, 54], 4_873_546),
            (300, (1 << 40) + 3, [29, 68, 209, 240, 295], 2_897_829),
        ] {
            let mut chosen = choice(20_001, size, seed);
            chosen.sort_unstable();
            assert_eq!(chosen[..5], smallest);
            assert_eq!(chosen.iter().sum::<u64>(), sum);
            chosen.dedup();
            assert_eq!(chosen.len(), size as usize);
        }
    }
}
