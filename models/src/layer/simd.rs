//! One source of arithmetic for every instruction set, with the same bits on all of them.
//!
//! A [`Kernel`] is ordinary code over slices. It is compiled once per instruction set, and the widest one that the
//! machine has is chosen when it runs. Results do not depend on that choice: products and sums are contracted only
//! where the code says `mul_add`, and reductions go through [`LANES`] partial sums whatever the width of a register.
#![expect(
    clippy::inline_always,
    reason = "a kernel must be compiled into the function that enables its instructions"
)]

/// Independent partial sums of one reduction: a fixed order that vectorises.
pub(crate) const LANES: usize = 16;

/// Arithmetic to run. `run` and everything that it calls must be `#[inline(always)]`: only then is it compiled for
/// the instruction set, and a `mul_add` is one instruction and not a call.
pub(crate) trait Kernel {
    type Output;
    fn run(self) -> Self::Output;
}

/// What a kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    /// What every processor of the architecture has.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl InstructionSet {
    /// The sets that this machine has, the widest last.
    pub(crate) fn available() -> impl DoubleEndedIterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let sets = [Self::Portable, Self::Avx2, Self::Avx512];
        #[cfg(not(target_arch = "x86_64"))]
        let sets = [Self::Portable];
        sets.into_iter().filter(|set| set.is_available())
    }

    fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
            }
        }
    }

    /// Runs a kernel compiled for this set.
    ///
    /// # Panics
    /// If the machine does not have it.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        assert!(self.is_available(), "{self:?} on a machine without it");
        match self {
            Self::Portable => kernel.run(),
            // SAFETY: the machine has the features that the function is compiled for (asserted above).
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2(kernel) },
            // SAFETY: the same.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512(kernel) },
        }
    }
}

/// Runs a kernel with the widest instructions of this machine.
pub(crate) fn fastest<K: Kernel>(kernel: K) -> K::Output {
    let widest = InstructionSet::available().next_back();
    widest.unwrap_or(InstructionSet::Portable).run(kernel)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

/// Sum of [`LANES`] partial sums, in pairs: the same tree for every instruction set.
#[inline(always)]
pub(crate) fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Sum of `value` of every number of a row, in the fixed order: index `i` goes to lane `i % LANES`.
#[inline(always)]
pub(crate) fn sum_of(row: &[f32], value: impl Fn(f32) -> f32) -> f32 {
    sum_of_pairs(row, row, |x, _| value(x))
}

/// Sum of `value` of every index of two rows, in the same order.
#[inline(always)]
pub(crate) fn sum_of_pairs(a: &[f32], b: &[f32], value: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = (a_chunks.remainder(), b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += value(a[lane], b[lane]);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(rest.0.iter().zip(rest.1)) {
        *lane += value(*a, *b);
    }
    sum_lanes(lanes)
}

/// Largest number of a row; `-inf` if it is empty. A row with NaN may give any of its numbers.
#[inline(always)]
pub(crate) fn largest(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    let all = lanes.iter().chain(rest);
    all.fold(f32::NEG_INFINITY, |a, &b| larger(a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Total<'a>(&'a [f32]);

    impl Kernel for Total<'_> {
        type Output = (f32, f32, f32);

        #[inline(always)]
        fn run(self) -> (f32, f32, f32) {
            let squares = sum_of_pairs(self.0, self.0, |a, b| a.mul_add(b, 0.25));
            (sum_of(self.0, |x| x), squares, largest(self.0))
        }
    }

    #[test]
    fn sums_are_right_and_have_the_same_bits_on_every_instruction_set() {
        for length in [0, 1, 15, 16, 17, 400, 1003] {
            let row: Vec<f32> = (0..length).map(|i| (i as f32 * 0.37).sin()).collect();
            let portable = InstructionSet::Portable.run(Total(&row));
            let exact: f64 = row.iter().map(|x| f64::from(*x)).sum();
            assert!((f64::from(portable.0) - exact).abs() < 1e-4, "{length}");
            let squares: f64 = row.iter().map(|x| f64::from(*x).powi(2) + 0.25).sum();
            assert!((f64::from(portable.1) - squares).abs() < 1e-3, "{length}");
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(portable.2.to_bits(), top.to_bits(), "{length}");
            for set in InstructionSet::available() {
                let found = set.run(Total(&row));
                let bits = |x: (f32, f32, f32)| [x.0, x.1, x.2].map(f32::to_bits);
                assert_eq!(bits(found), bits(portable), "{set:?} {length}");
            }
        }
    }
}
