//! The Mersenne Twister MT19937 as torch and NumPy use it.
//!
//! Only for parity with released splits, slice orders and episode lists (datasets.md section 2.2,
//! evaluation.md section 1.0.5); everything of our own draws from [`Stream`](crate::Stream).

/// Number of 32-bit words of state.
const N: usize = 624;
/// Offset of the recurrence.
const M: usize = 397;

/// MT19937 with the classic Knuth initialiser, as in `numpy.random.RandomState(seed)` for a scalar seed.
///
/// ```
/// let mut random = jepa_datasets::mt19937::numpy_random_state(42);
/// assert_eq!(random.permutation(10), [8, 1, 5, 0, 7, 2, 9, 4, 3, 6]);
/// ```
#[derive(Clone)]
pub struct Mt19937 {
    state: [u32; N],
    index: usize,
    /// Normal numbers come in pairs: the second of one.
    spare: Option<f64>,
}

impl std::fmt::Debug for Mt19937 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mt19937")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// NumPy's legacy `RandomState(seed)`.
pub fn numpy_random_state(seed: u32) -> Mt19937 {
    Mt19937::new(seed)
}

impl Mt19937 {
    /// Generator for a 32-bit seed.
    pub fn new(seed: u32) -> Self {
        let mut state = [0_u32; N];
        let mut last = seed;
        state[0] = last;
        for (i, word) in state.iter_mut().enumerate().skip(1) {
            last = 1_812_433_253_u32
                .wrapping_mul(last ^ (last >> 30))
                .wrapping_add(i as u32);
            *word = last;
        }
        Self {
            state,
            index: N,
            spare: None,
        }
    }

    /// The next tempered 32-bit word.
    pub fn next_u32(&mut self) -> u32 {
        if self.index == N {
            self.refill();
        }
        let mut y = self.state[self.index];
        self.index += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `random_sample()`: a number in `[0, 1)` from two words.
    pub fn random_sample(&mut self) -> f64 {
        let a = f64::from(self.next_u32() >> 5);
        let b = f64::from(self.next_u32() >> 6);
        (a * 67_108_864.0 + b) / 9_007_199_254_740_992.0
    }

    /// `uniform(low, high)`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.random_sample()
    }

    /// `randint(low, high)` for `high - low` below 2^32: masked rejection on single words.
    ///
    /// # Panics
    /// When the range is empty or wider than 32 bits.
    pub fn randint(&mut self, low: i64, high: i64) -> i64 {
        let span = high
            .checked_sub(low)
            .and_then(|width| u32::try_from(width - 1).ok());
        let Some(span) = span else {
            panic!("randint({low}, {high}) is empty or too wide")
        };
        low + i64::from(self.at_most(span))
    }

    /// `randn()`: the polar method of Marsaglia and Bray, second number first. Logarithms are those of `libm` here and the
    /// platform's in NumPy: the last bit may differ.
    pub fn standard_normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let a = 2.0 * self.random_sample() - 1.0;
            let b = 2.0 * self.random_sample() - 1.0;
            let square = a * a + b * b;
            if square < 1.0 && square != 0.0 {
                let length = (-2.0 * libm::log(square) / square).sqrt();
                self.spare = Some(length * a);
                return length * b;
            }
        }
    }

    /// `permutation(n)`: Fisher-Yates from the end with masked rejection.
    pub fn permutation(&mut self, n: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n).collect();
        for i in (1..n).rev() {
            let j = self.at_most(i);
            order.swap(i as usize, j as usize);
        }
        order
    }

    /// An integer in `0..=max`: words are masked to the bits of `max` until one fits.
    fn at_most(&mut self, max: u32) -> u32 {
        if max == 0 {
            return 0;
        }
        let mask = u32::MAX >> max.leading_zeros();
        loop {
            let value = self.next_u32() & mask;
            if value <= max {
                return value;
            }
        }
    }

    fn refill(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ twist;
        }
        self.index = 0;
    }
}

/// Largest `n` for which torch uses 32-bit draws in `randperm`.
pub const RANDPERM_LIMIT: u64 = u32::MAX as u64 / 20;

/// `torch.randperm(n, generator=torch.Generator().manual_seed(seed))` on the CPU.
///
/// One draw per position and no rejection: `j = i + (draw mod (n - i))` (datasets.md section 2.2).
/// Equal to torch for `n` up to [`RANDPERM_LIMIT`].
pub fn torch_randperm(n: u32, seed: u64) -> Vec<u32> {
    let mut random = Mt19937::new(seed as u32);
    let mut order: Vec<u32> = (0..n).collect();
    for i in 0..n.saturating_sub(1) {
        let j = i + random.next_u32() % (n - i);
        order.swap(i as usize, j as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// datasets.md section 17, small vectors.
    #[test]
    fn randperm_equals_torch_on_small_sets() {
        assert_eq!(torch_randperm(10, 42), [2, 6, 1, 8, 4, 5, 0, 9, 3, 7]);
        assert_eq!(torch_randperm(5, 42), [2, 4, 3, 0, 1]);
        assert_eq!(torch_randperm(5, 234), [0, 4, 2, 1, 3]);
        assert_eq!(
            torch_randperm(21, 234),
            [
                10, 12, 4, 8, 5, 6, 16, 18, 2, 20, 19, 14, 17, 3, 13, 0, 11, 15, 7, 9, 1
            ]
        );
    }

    #[test]
    fn randperm_of_nothing_and_of_one_draws_nothing() {
        assert!(torch_randperm(0, 1).is_empty());
        assert_eq!(torch_randperm(1, 1), [0]);
    }

    /// datasets.md section 17, slice orders with seed 234: first six and last three.
    #[test]
    fn randperm_equals_torch_on_released_slice_orders() {
        let cases: [(u32, [u32; 6], [u32; 3]); 4] = [
            (
                53_568,
                [47944, 45457, 29582, 4064, 41407, 43989],
                [20201, 15296, 37076],
            ),
            (
                145_800,
                [34120, 94412, 106_170, 111_830, 25195, 65805],
                [121_624, 13392, 103_108],
            ),
            (
                907_200,
                [552_520, 406_477, 773_996, 716_999, 550_559, 693_970],
                [564_633, 562_367, 752_915],
            ),
            (
                1_981_721,
                [228_413, 477_072, 206_021, 1_560_732, 875_574, 1_467_386],
                [1_040_099, 1_617_720, 857_781],
            ),
        ];
        for (n, first, last) in cases {
            let order = torch_randperm(n, 234);
            assert_eq!(order[..6], first, "n = {n}");
            assert_eq!(order[n as usize - 3..], last, "n = {n}");
        }
    }

    /// datasets.md section 17.
    #[test]
    fn numpy_permutation_and_randint_are_reproduced() {
        assert_eq!(
            numpy_random_state(42).permutation(10),
            [8, 1, 5, 0, 7, 2, 9, 4, 3, 6]
        );
        let mut random = numpy_random_state(234);
        let drawn: Vec<i64> = (0..8).map(|_| random.randint(32, 64)).collect();
        assert_eq!(drawn, [40, 63, 36, 57, 63, 33, 35, 39]);
    }

    /// `numpy.random.RandomState(seed).randn(3)` of NumPy 2.4.6.
    #[test]
    fn numpy_normal_numbers_are_reproduced() {
        for (seed, expected) in [
            (
                0,
                [
                    1.764_052_345_967_664,
                    0.400_157_208_367_223_3,
                    0.978_737_984_105_739_2,
                ],
            ),
            (
                2001,
                [
                    -1.176_550_142_740_350_6,
                    1.911_293_851_848_492_3,
                    -1.075_265_228_399_931_5,
                ],
            ),
        ] {
            let mut random = numpy_random_state(seed);
            for expected in expected {
                let found = random.standard_normal();
                assert!((found - expected).abs() < 1e-15, "{found} {expected}");
            }
        }
    }

    /// `numpy.random.RandomState(0).random_sample(3)` and the 5489-seeded reference words of MT19937.
    #[test]
    fn words_and_samples_equal_the_reference_generator() {
        let mut random = Mt19937::new(5489);
        assert_eq!(
            [random.next_u32(), random.next_u32(), random.next_u32()],
            [3_499_211_612, 581_869_302, 3_890_346_734]
        );
        let expected = [
            0.548_813_503_927_324_8_f64,
            0.715_189_366_372_419_5,
            0.602_763_376_071_643_9,
        ];
        let mut random = numpy_random_state(0);
        let drawn = expected.map(|_| random.random_sample());
        assert_eq!(drawn.map(f64::to_bits), expected.map(f64::to_bits));
        let uniform = numpy_random_state(0).uniform(2.0, 4.0);
        assert_eq!(uniform.to_bits(), (2.0 + 2.0 * expected[0]).to_bits());
    }
}
