//! Layer norm of plain slices, forward and backward, in groups of rows over threads.
#![expect(
    clippy::inline_always,
    reason = "a kernel must be compiled into the function that enables its instructions"
)]

use rayon::prelude::*;

use crate::layer::simd::{Kernel, fastest, sum_of, sum_of_pairs};

/// How rows are arranged: groups of `rows` rows of `width` numbers; the last group may be shorter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Groups {
    pub width: usize,
    pub rows: usize,
    /// Added to the variance.
    pub epsilon: f32,
}

/// Scale and shift after the norm: one row for all groups, or one per group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine<'a> {
    /// `[1 or groups, width]`
    pub scale: &'a [f32],
    /// `[1 or groups, width]`
    pub shift: &'a [f32],
}

impl<'a> Affine<'a> {
    /// The scale of one group.
    fn scale_of(&self, group: usize, width: usize) -> &'a [f32] {
        row_of(self.scale, group, width)
    }
}

fn row_of(rows: &[f32], group: usize, width: usize) -> &[f32] {
    let at = if rows.len() == width {
        0
    } else {
        group * width
    };
    &rows[at..at + width]
}

/// What the forward pass knows of a row: its mean and the inverse of its standard deviation.
pub(crate) type RowStatistics = [f32; 2];

/// `(x - mean) / sqrt(var + epsilon) * scale + shift` of every row, and the statistics.
pub(crate) fn forward(
    groups: Groups,
    input: &[f32],
    affine: Affine<'_>,
) -> (Vec<f32>, Vec<RowStatistics>) {
    let Groups { width, rows, .. } = groups;
    let mut output = vec![0.0; input.len()];
    let mut statistics = vec![[0.0; 2]; input.len() / width];
    output
        .par_chunks_mut(rows * width)
        .zip(statistics.par_chunks_mut(rows))
        .zip(input.par_chunks(rows * width))
        .enumerate()
        .for_each(|(group, ((output, statistics), input))| {
            fastest(Normalise {
                groups,
                input,
                scale: affine.scale_of(group, width),
                shift: row_of(affine.shift, group, width),
                output,
                statistics,
            });
        });
    (output, statistics)
}

/// Sums over the rows of every group: the gradients of its shift and of its scale.
#[derive(Debug)]
pub(crate) struct GroupSums {
    /// Sum of the gradient, `[groups, width]`.
    pub shift: Vec<f32>,
    /// Sum of the gradient times the normalised input, `[groups, width]`.
    pub scale: Vec<f32>,
}

/// Turns the gradient of the output into that of the input, in place, and sums it over the rows of each group.
pub(crate) fn backward(
    groups: Groups,
    input: &[f32],
    statistics: &[RowStatistics],
    affine: Affine<'_>,
    grad: &mut [f32],
) -> GroupSums {
    let Groups { width, rows, .. } = groups;
    let count = statistics.len().div_ceil(rows);
    let mut sums = GroupSums {
        shift: vec![0.0; count * width],
        scale: vec![0.0; count * width],
    };
    grad.par_chunks_mut(rows * width)
        .zip(input.par_chunks(rows * width))
        .zip(statistics.par_chunks(rows))
        .zip(sums.shift.par_chunks_mut(width))
        .zip(sums.scale.par_chunks_mut(width))
        .enumerate()
        .for_each(|(group, ((((grad, input), statistics), shift), scale))| {
            fastest(Propagate {
                width,
                input,
                statistics,
                factor: affine.scale_of(group, width),
                grad,
                shift_sum: shift,
                scale_sum: scale,
            });
        });
    sums
}

/// Forward pass of one group.
struct Normalise<'a> {
    groups: Groups,
    input: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    output: &'a mut [f32],
    statistics: &'a mut [RowStatistics],
}

impl Kernel for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let width = self.groups.width;
        let (scale, shift) = (&self.scale[..width], &self.shift[..width]);
        let rows = self
            .input
            .chunks_exact(width)
            .zip(self.output.chunks_exact_mut(width));
        for ((x, y), statistics) in rows.zip(self.statistics) {
            let (x, y) = (&x[..width], &mut y[..width]);
            let mean = sum_of(x, |x| x) / width as f32;
            // Squares of differences and not the difference of squares, which cancels.
            let squares = sum_of(x, |x| (x - mean) * (x - mean));
            let inverse = 1.0 / (squares / width as f32 + self.groups.epsilon).sqrt();
            for i in 0..width {
                y[i] = ((x[i] - mean) * inverse).mul_add(scale[i], shift[i]);
            }
            *statistics = [mean, inverse];
        }
    }
}

/// Backward pass of one group.
struct Propagate<'a> {
    width: usize,
    input: &'a [f32],
    statistics: &'a [RowStatistics],
    factor: &'a [f32],
    grad: &'a mut [f32],
    shift_sum: &'a mut [f32],
    scale_sum: &'a mut [f32],
}

impl Kernel for Propagate<'_> {
    type Output = ();

    /// ```text
    /// dx = s (f - mean(f) - n mean(f n))        n = (x - mean) s normalised input, s inverse std, f = dy * scale
    /// ```
    #[inline(always)]
    fn run(self) {
        let width = self.width;
        let factor = &self.factor[..width];
        let (shift_sum, scale_sum) = (&mut self.shift_sum[..width], &mut self.scale_sum[..width]);
        let rows = self
            .input
            .chunks_exact(width)
            .zip(self.grad.chunks_exact_mut(width));
        for ((x, grad), &[mean, inverse]) in rows.zip(self.statistics) {
            let (x, grad) = (&x[..width], &mut grad[..width]);
            for i in 0..width {
                let normed = (x[i] - mean) * inverse;
                shift_sum[i] += grad[i];
                scale_sum[i] = grad[i].mul_add(normed, scale_sum[i]);
                grad[i] *= factor[i];
            }
            let average = sum_of(grad, |g| g) / width as f32;
            let along = sum_of_pairs(x, grad, |x, g| (x - mean) * inverse * g) / width as f32;
            for i in 0..width {
                let normed = (x[i] - mean) * inverse;
                grad[i] = inverse * (-normed).mul_add(along, grad[i] - average);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::simd::InstructionSet;

    fn values(n: usize, salt: f32) -> Vec<f32> {
        (0..n)
            .map(|i| (i as f32 * 0.731 + salt).sin() * 2.0)
            .collect()
    }

    #[test]
    fn results_do_not_depend_on_the_instruction_set() {
        let (width, rows) = (37, 3);
        let groups = Groups {
            width,
            rows,
            epsilon: 1e-6,
        };
        let (input, scale, shift) = (
            values(width * rows, 0.0),
            values(width, 1.0),
            values(width, 2.0),
        );
        let run = |set: InstructionSet| {
            let mut output = vec![0.0; input.len()];
            let mut statistics = vec![[0.0; 2]; rows];
            set.run(Normalise {
                groups,
                input: &input,
                scale: &scale,
                shift: &shift,
                output: &mut output,
                statistics: &mut statistics,
            });
            let mut grad = values(width * rows, 3.0);
            let (mut shift_sum, mut scale_sum) = (vec![0.0; width], vec![0.0; width]);
            set.run(Propagate {
                width,
                input: &input,
                statistics: &statistics,
                factor: &scale,
                grad: &mut grad,
                shift_sum: &mut shift_sum,
                scale_sum: &mut scale_sum,
            });
            let all = [output, statistics.concat(), grad, shift_sum, scale_sum].concat();
            all.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        let portable = run(InstructionSet::Portable);
        for set in InstructionSet::available() {
            assert!(run(set) == portable, "{set:?}");
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let groups = Groups {
            width: 20,
            rows: 3,
            epsilon: 1e-6,
        };
        let (input, scale, shift) = (values(20 * 100, 0.0), values(20, 1.0), values(20, 2.0));
        let affine = Affine {
            scale: &scale,
            shift: &shift,
        };
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let (output, statistics) = forward(groups, &input, affine);
                let mut grad = values(input.len(), 4.0);
                let sums = backward(groups, &input, &statistics, affine, &mut grad);
                (output, grad, sums.shift, sums.scale)
            })
        };
        assert_eq!(run(1), run(3));
    }
}
