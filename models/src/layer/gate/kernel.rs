//! Gated sum of plain slices, forward and backward, frames over threads.
#![expect(
    clippy::inline_always,
    reason = "a kernel must be compiled into the function that enables its instructions"
)]

use rayon::prelude::*;

use crate::layer::simd::{Kernel, fastest};

/// `skip + gate * branch`, with one row of `gate` per `rows` rows of the others, all of `width` numbers.
pub(super) fn forward(
    width: usize,
    rows: usize,
    skip: &[f32],
    gate: &[f32],
    branch: &[f32],
) -> Vec<f32> {
    let mut output = vec![0.0; skip.len()];
    output
        .par_chunks_mut(rows * width)
        .zip(skip.par_chunks(rows * width))
        .zip(branch.par_chunks(rows * width))
        .zip(gate.par_chunks(width))
        .for_each(|(((output, skip), branch), gate)| {
            fastest(Add {
                output,
                skip,
                gate,
                branch,
            });
        });
    output
}

/// Gradients of the gate and of the branch for the gradient of the sum.
pub(super) fn backward(
    width: usize,
    rows: usize,
    gate: &[f32],
    branch: &[f32],
    grad: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (mut of_gate, mut of_branch) = (vec![0.0; gate.len()], vec![0.0; branch.len()]);
    of_branch
        .par_chunks_mut(rows * width)
        .zip(of_gate.par_chunks_mut(width))
        .zip(branch.par_chunks(rows * width))
        .zip(grad.par_chunks(rows * width))
        .zip(gate.par_chunks(width))
        .for_each(|((((of_branch, of_gate), branch), grad), gate)| {
            fastest(Propagate {
                gate,
                branch,
                grad,
                of_gate,
                of_branch,
            });
        });
    (of_gate, of_branch)
}

struct Add<'a> {
    output: &'a mut [f32],
    skip: &'a [f32],
    gate: &'a [f32],
    branch: &'a [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let width = self.gate.len();
        let rows = self
            .output
            .chunks_exact_mut(width)
            .zip(self.skip.chunks_exact(width))
            .zip(self.branch.chunks_exact(width));
        for ((output, skip), branch) in rows {
            for i in 0..width {
                output[i] = self.gate[i].mul_add(branch[i], skip[i]);
            }
        }
    }
}

struct Propagate<'a> {
    gate: &'a [f32],
    branch: &'a [f32],
    grad: &'a [f32],
    of_gate: &'a mut [f32],
    of_branch: &'a mut [f32],
}

impl Kernel for Propagate<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let width = self.gate.len();
        let of_gate = &mut self.of_gate[..width];
        let rows = self
            .of_branch
            .chunks_exact_mut(width)
            .zip(self.branch.chunks_exact(width))
            .zip(self.grad.chunks_exact(width));
        for ((of_branch, branch), grad) in rows {
            for i in 0..width {
                of_gate[i] = grad[i].mul_add(branch[i], of_gate[i]);
                of_branch[i] = grad[i] * self.gate[i];
            }
        }
    }
}
