//! GELU of plain slices, in blocks over threads.
#![expect(
    clippy::inline_always,
    reason = "a kernel must be compiled into the function that enables its instructions"
)]

use rayon::prelude::*;

use crate::layer::elementary::gelu;
use crate::layer::simd::{Kernel, fastest};

/// Numbers per parallel task.
const BLOCK: usize = 16 * 1024;

/// Writes GELU over its arguments.
pub(super) fn values(values: &mut [f32]) {
    let blocks = values.par_chunks_mut(BLOCK);
    blocks.for_each(|values| fastest(Values(values)));
}

/// GELU of `arguments`, which its derivative is written over.
pub(super) fn values_and_derivatives(arguments: &mut [f32]) -> Vec<f32> {
    let mut values = vec![0.0; arguments.len()];
    let blocks = arguments
        .par_chunks_mut(BLOCK)
        .zip(values.par_chunks_mut(BLOCK));
    blocks.for_each(|(arguments, values)| fastest(Both { arguments, values }));
    values
}

/// `values *= factors`.
pub(super) fn multiply(values: &mut [f32], factors: &[f32]) {
    let blocks = values.par_chunks_mut(BLOCK).zip(factors.par_chunks(BLOCK));
    blocks.for_each(|(values, factors)| {
        for (value, factor) in values.iter_mut().zip(factors) {
            *value *= factor;
        }
    });
}

struct Values<'a>(&'a mut [f32]);

impl Kernel for Values<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for value in self.0 {
            *value = gelu(*value).0;
        }
    }
}

struct Both<'a> {
    arguments: &'a mut [f32],
    values: &'a mut [f32],
}

impl Kernel for Both<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (argument, value) in self.arguments.iter_mut().zip(self.values) {
            (*value, *argument) = gelu(*argument);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::simd::InstructionSet;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        // A length with a rest for every register width.
        let arguments: Vec<f32> = (0..20_011)
            .map(|i| (i as f32 - 10_005.0) * 1.3e-3)
            .collect();
        let run = |set: InstructionSet| {
            let (mut a, mut values) = (arguments.clone(), vec![0.0; arguments.len()]);
            set.run(Both {
                arguments: &mut a,
                values: &mut values,
            });
            let mut alone = arguments.clone();
            set.run(Values(&mut alone));
            [values, a, alone].map(|v| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
        };
        let portable = run(InstructionSet::Portable);
        assert_eq!(portable[0], portable[2]);
        for set in InstructionSet::available() {
            assert!(run(set) == portable, "{set:?}");
        }
    }
}
