//! Images as a convolution reads them: padded, split by column modulo stride, unfolded into patches.
//!
//! What is read of a row of patches lies `stride` columns apart in the image and side by side in a split row.
#![expect(
    clippy::inline_always,
    reason = "a kernel must be compiled into the function that enables its instructions"
)]

use super::kernel::BlockShape;
use crate::layer::simd::{Kernel, fastest};

/// Buffers of one task.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Rows as far as the kernel reaches, with their zeros around, `[C, padded_height, row_len]`.
    pub(super) padded: Vec<f32>,
    /// The same rows split by column modulo stride, `[C, padded_height, stride, phase_len]`.
    pub(super) phases: Vec<f32>,
    /// Unfolded patches, `[C * k * k, pixels]`; empty where nobody asks for them.
    pub(super) patches: Vec<f32>,
}

impl Scratch {
    pub(super) fn new(shape: &BlockShape, with_patches: bool) -> Self {
        let padded = shape.channels * shape.padded_height() * shape.row_len();
        let patches = if with_patches {
            shape.patch_len() * shape.pixels()
        } else {
            0
        };
        Self {
            padded: vec![0.0; padded],
            phases: vec![0.0; padded],
            patches: vec![0.0; patches],
        }
    }
}

/// Copies the part of an image that the kernel reaches between the zeros of `scratch.padded`.
pub(super) fn pad(shape: &BlockShape, image: &[f32], scratch: &mut Scratch) {
    let (rows, padding) = (shape.padded_height(), shape.padding);
    let kept_rows = shape.height.min(rows.saturating_sub(padding));
    let kept = shape.width.min(shape.row_len().saturating_sub(padding));
    let planes = image.chunks_exact(shape.height * shape.width);
    let targets = scratch.padded.chunks_exact_mut(rows * shape.row_len());
    for (plane, target) in planes.zip(targets) {
        let rows = target.chunks_exact_mut(shape.row_len()).skip(padding);
        for (row, target) in plane.chunks_exact(shape.width).take(kept_rows).zip(rows) {
            target[padding..][..kept].copy_from_slice(&row[..kept]);
        }
    }
}

/// Splits the rows of `scratch.padded` into `scratch.phases`.
pub(super) fn split(shape: &BlockShape, scratch: &mut Scratch) {
    fastest(Split {
        stride: shape.stride,
        row_len: shape.row_len(),
        padded: &scratch.padded,
        phases: &mut scratch.phases,
    });
}

struct Split<'a> {
    stride: usize,
    row_len: usize,
    padded: &'a [f32],
    phases: &'a mut [f32],
}

impl Kernel for Split<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // With a stride that is known when this is compiled, the columns of a phase are picked by vector instructions.
        match self.stride {
            2 => self.by(2),
            4 => self.by(4),
            stride => self.by(stride),
        }
    }
}

impl Split<'_> {
    #[inline(always)]
    fn by(self, stride: usize) {
        let rows = self.padded.chunks_exact(self.row_len);
        for (row, split) in rows.zip(self.phases.chunks_exact_mut(self.row_len)) {
            let length = self.row_len / stride;
            for (phase, run) in split.chunks_exact_mut(length).enumerate() {
                for (group, value) in row.chunks_exact(stride).zip(run) {
                    *value = group[phase];
                }
            }
        }
    }
}

/// Puts the split rows together again and leaves what belongs to the image. Pixels past the last patch are never
/// read, so their gradient is 0.
fn join(shape: &BlockShape, phases: &[f32], image: &mut [f32]) {
    let (row_len, phase_len) = (shape.row_len(), shape.phase_len());
    let planes = phases.chunks_exact(shape.padded_height() * row_len);
    for (plane, image) in planes.zip(image.chunks_exact_mut(shape.height * shape.width)) {
        image.fill(0.0);
        let rows = plane.chunks_exact(row_len).skip(shape.padding);
        for (target, split) in image.chunks_exact_mut(shape.width).zip(rows) {
            for (column, value) in target.iter_mut().enumerate() {
                let (q, phase) = (
                    (column + shape.padding) / shape.stride,
                    (column + shape.padding) % shape.stride,
                );
                if q < phase_len {
                    *value = split[phase * phase_len + q];
                }
            }
        }
    }
}

/// Copies every patch of the image in `scratch.phases` into a column of `scratch.patches`.
pub(super) fn unfold(shape: &BlockShape, scratch: &mut Scratch) {
    let Scratch {
        phases, patches, ..
    } = scratch;
    let (width, step) = (shape.out_width(), shape.stride * shape.row_len());
    let taps = patches.chunks_exact_mut(shape.pixels());
    for (tap, rows) in shape.tap_places().zip(taps) {
        for (oy, row) in rows.chunks_exact_mut(width).enumerate() {
            row.copy_from_slice(&phases[tap + oy * step..][..width]);
        }
    }
}

/// Adds every patch gradient back to the pixels it was read from; the inverse walk of [`unfold`].
pub(super) fn fold(shape: &BlockShape, scratch: &mut Scratch, image_grad: &mut [f32]) {
    let Scratch {
        phases, patches, ..
    } = scratch;
    phases.fill(0.0);
    let (width, step) = (shape.out_width(), shape.stride * shape.row_len());
    let taps = patches.chunks_exact(shape.pixels());
    for (tap, rows) in shape.tap_places().zip(taps) {
        for (oy, row) in rows.chunks_exact(width).enumerate() {
            let target = &mut phases[tap + oy * step..][..width];
            for (sum, value) in target.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
    join(shape, phases, image_grad);
}

#[cfg(test)]
mod tests {
    use super::super::kernel::testing::{shape, values};
    use super::*;

    #[test]
    fn unfolded_patches_hold_the_pixels_under_the_kernel() {
        for stride in [1, 2, 3, 4] {
            let s = BlockShape { stride, ..shape() };
            let image = values(s.input_len(), 1);
            let mut scratch = Scratch::new(&s, true);
            pad(&s, &image, &mut scratch);
            split(&s, &mut scratch);
            unfold(&s, &mut scratch);
            let pixel = |c: usize, y: Option<usize>, x: Option<usize>| match (y, x) {
                (Some(y), Some(x)) if y < s.height && x < s.width => {
                    image[(c * s.height + y) * s.width + x]
                }
                _ => 0.0,
            };
            let mut found = scratch.patches.iter();
            for tap in 0..s.patch_len() {
                let (c, ky, kx) = (
                    tap / s.kernel / s.kernel,
                    tap / s.kernel % s.kernel,
                    tap % s.kernel,
                );
                for place in 0..s.pixels() {
                    let (oy, ox) = (place / s.out_width(), place % s.out_width());
                    let y = (oy * stride + ky).checked_sub(s.padding);
                    let x = (ox * stride + kx).checked_sub(s.padding);
                    let expected = pixel(c, y, x);
                    let value = found.next().unwrap();
                    assert_eq!(
                        value.to_bits(),
                        expected.to_bits(),
                        "{stride} {tap} {place}"
                    );
                }
            }
            assert!(found.next().is_none());
        }
    }

    #[test]
    fn fold_is_the_transpose_of_unfold() {
        // <unfold(x), p> = <x, fold(p)> for every x and p.
        for stride in [1, 2, 3, 4] {
            let s = BlockShape { stride, ..shape() };
            let image = values(s.input_len(), 3);
            let mut scratch = Scratch::new(&s, true);
            pad(&s, &image, &mut scratch);
            split(&s, &mut scratch);
            unfold(&s, &mut scratch);
            let weights = values(scratch.patches.len(), 5);
            let product = |a: &[f32], b: &[f32]| -> f64 {
                let pairs = a.iter().zip(b);
                pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let left = product(&scratch.patches, &weights);
            scratch.patches.copy_from_slice(&weights);
            let mut back = vec![f32::NAN; s.input_len()];
            fold(&s, &mut scratch, &mut back);
            let right = product(&image, &back);
            assert!((left - right).abs() < 1e-4, "{stride} {left} {right}");
        }
    }
}
