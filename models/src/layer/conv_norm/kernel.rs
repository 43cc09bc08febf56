//! Arithmetic of the fused convolution block on plain slices, forward and backward.
//!
//! A convolution is a matrix product over unfolded patches. One image at a time is unfolded into a
//! scratch buffer that stays in cache, multiplied, normalised and rectified. Images are spread over
//! threads in groups of fixed size, and the weight gradients of the groups are added in order, so the
//! result does not depend on the number of threads.

use rayon::prelude::*;

/// Images per parallel task; also the grouping of the weight-gradient sums.
const IMAGES_PER_TASK: usize = 8;

/// Independent partial sums of one reduction: a fixed order that vectorises.
const LANES: usize = 16;

/// Sizes of one block: a `kernel x kernel` convolution with stride and zero padding, then group norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BlockShape {
    /// Input channels.
    pub channels: usize,
    /// Input rows.
    pub height: usize,
    /// Input columns.
    pub width: usize,
    /// Output channels.
    pub filters: usize,
    /// Side of the convolution kernel.
    pub kernel: usize,
    /// Stride, the same in both directions.
    pub stride: usize,
    /// Zeros added on each side.
    pub padding: usize,
    /// Groups of the group norm; divides `filters`.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f32,
}

impl BlockShape {
    pub(crate) fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub(crate) fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Numbers per input image.
    fn input_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Output pixels per filter.
    fn pixels(&self) -> usize {
        self.out_height() * self.out_width()
    }

    /// Numbers per output image.
    pub(crate) fn output_len(&self) -> usize {
        self.filters * self.pixels()
    }

    /// Numbers per patch.
    fn patch_len(&self) -> usize {
        self.channels * self.kernel * self.kernel
    }

    /// Columns of one phase of a padded row: every `stride`-th column, as far as the kernel reaches.
    fn phase_len(&self) -> usize {
        ((self.out_width() - 1) * self.stride + self.kernel).div_ceil(self.stride)
    }

    fn scratch(&self) -> Scratch {
        Scratch {
            phases: vec![0.0; self.channels * self.height * self.stride * self.phase_len()],
            patches: vec![0.0; self.patch_len() * self.pixels()],
        }
    }
}

/// Parameters of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockWeights<'a> {
    /// `[filters, channels, kernel, kernel]`
    pub weight: &'a [f32],
    /// `[filters]`
    pub bias: &'a [f32],
    /// Scale of the norm, `[filters]`.
    pub gamma: &'a [f32],
    /// Shift of the norm, `[filters]`.
    pub beta: &'a [f32],
}

/// Output of the forward pass and what the backward pass needs of it.
#[derive(Debug)]
pub(crate) struct Forward {
    /// `[B, filters, h, w]`
    pub output: Vec<f32>,
    /// Normalised convolution output before scale and shift, like `output`.
    pub normed: Vec<f32>,
    /// Inverse standard deviation, `[B, groups]`.
    pub inverse_std: Vec<f32>,
}

/// Gradients of a block.
#[derive(Debug)]
pub(crate) struct Gradients {
    /// Like the input; `None` when the input needs none.
    pub input: Option<Vec<f32>>,
    /// `[filters, channels, kernel, kernel]`
    pub weight: Vec<f32>,
    /// `[filters]`
    pub bias: Vec<f32>,
    /// `[filters]`
    pub gamma: Vec<f32>,
    /// `[filters]`
    pub beta: Vec<f32>,
}

/// Buffers of one task.
struct Scratch {
    /// Padded rows split by column modulo stride: `[C, H, stride, phase_len]`.
    phases: Vec<f32>,
    /// Unfolded patches, `[C * k * k, pixels]`.
    patches: Vec<f32>,
}

/// Convolution, group norm and ReLU of a batch of images `[B, C, H, W]`.
pub(crate) fn forward(shape: &BlockShape, input: &[f32], weights: BlockWeights<'_>) -> Forward {
    let images = input.len() / shape.input_len();
    assert_eq!(input.len(), images * shape.input_len(), "whole images");
    let out_len = shape.output_len();
    let mut output = vec![0.0; images * out_len];
    let mut normed = vec![0.0; images * out_len];
    let mut inverse_std = vec![0.0; images * shape.groups];
    output
        .par_chunks_mut(IMAGES_PER_TASK * out_len)
        .zip(normed.par_chunks_mut(IMAGES_PER_TASK * out_len))
        .zip(inverse_std.par_chunks_mut(IMAGES_PER_TASK * shape.groups))
        .zip(input.par_chunks(IMAGES_PER_TASK * shape.input_len()))
        .for_each(|(((output, normed), inverse_std), input)| {
            let mut scratch = shape.scratch();
            let images = input
                .chunks_exact(shape.input_len())
                .zip(output.chunks_exact_mut(out_len))
                .zip(
                    normed
                        .chunks_exact_mut(out_len)
                        .zip(inverse_std.chunks_exact_mut(shape.groups)),
                );
            for ((image, output), (normed, inverse_std)) in images {
                unfold(shape, image, &mut scratch);
                convolve(shape, weights, &scratch.patches, normed);
                normalise(shape, normed, inverse_std);
                activate(shape, weights, normed, output);
            }
        });
    Forward {
        output,
        normed,
        inverse_std,
    }
}

/// Gradients of [`forward`] for the output gradient `[B, filters, h, w]`.
pub(crate) fn backward(
    shape: &BlockShape,
    input: &[f32],
    weights: BlockWeights<'_>,
    normed: &[f32],
    inverse_std: &[f32],
    output_grad: &[f32],
    wants_input: bool,
) -> Gradients {
    let in_len = shape.input_len();
    let images = input.len() / in_len;
    let mut input_grad = vec![0.0; if wants_input { images * in_len } else { 0 }];
    let tasks = images.div_ceil(IMAGES_PER_TASK);
    // An empty chunk per task when the input needs no gradient.
    let mut input_chunks: Vec<&mut [f32]> = if wants_input {
        input_grad.chunks_mut(IMAGES_PER_TASK * in_len).collect()
    } else {
        (0..tasks).map(|_| Default::default()).collect()
    };
    let partial: Vec<ParameterSums> = input_chunks
        .par_iter_mut()
        .enumerate()
        .map(|(task, input_grad)| {
            let mut sums = ParameterSums::zeros(shape);
            let mut scratch = shape.scratch();
            let mut grad = vec![0.0; shape.output_len()];
            let first = task * IMAGES_PER_TASK;
            for image in first..images.min(first + IMAGES_PER_TASK) {
                let saved = ImageState {
                    input: part(input, image, in_len),
                    normed: part(normed, image, shape.output_len()),
                    inverse_std: part(inverse_std, image, shape.groups),
                };
                grad.copy_from_slice(part(output_grad, image, shape.output_len()));
                sums.add_image(shape, weights, &saved, &mut grad, &mut scratch);
                if wants_input {
                    let at = (image - first) * in_len;
                    propagate(
                        shape,
                        weights,
                        &grad,
                        &mut scratch,
                        &mut input_grad[at..at + in_len],
                    );
                }
            }
            sums
        })
        .collect();
    drop(input_chunks);
    let total = ParameterSums::total(shape, partial);
    Gradients {
        input: wants_input.then_some(input_grad),
        weight: total.weight,
        bias: total.bias,
        gamma: total.gamma,
        beta: total.beta,
    }
}

fn part(values: &[f32], index: usize, len: usize) -> &[f32] {
    &values[index * len..(index + 1) * len]
}

/// What the forward pass left of one image.
struct ImageState<'a> {
    input: &'a [f32],
    normed: &'a [f32],
    inverse_std: &'a [f32],
}

/// Parameter gradients summed over some images.
struct ParameterSums {
    weight: Vec<f32>,
    bias: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl ParameterSums {
    fn zeros(shape: &BlockShape) -> Self {
        Self {
            weight: vec![0.0; shape.filters * shape.patch_len()],
            bias: vec![0.0; shape.filters],
            gamma: vec![0.0; shape.filters],
            beta: vec![0.0; shape.filters],
        }
    }

    /// Sum in the order of the tasks.
    fn total(shape: &BlockShape, partial: Vec<Self>) -> Self {
        partial
            .into_iter()
            .fold(Self::zeros(shape), |mut total, sums| {
                add_into(&mut total.weight, &sums.weight);
                add_into(&mut total.bias, &sums.bias);
                add_into(&mut total.gamma, &sums.gamma);
                add_into(&mut total.beta, &sums.beta);
                total
            })
    }

    /// Adds one image; turns `grad` from the gradient of the output into that of the convolution.
    fn add_image(
        &mut self,
        shape: &BlockShape,
        weights: BlockWeights<'_>,
        saved: &ImageState<'_>,
        grad: &mut [f32],
        scratch: &mut Scratch,
    ) {
        self.through_activation(shape, weights, saved, grad);
        through_norm(shape, saved, grad);
        let pixels = shape.pixels();
        for (sum, row) in self.bias.iter_mut().zip(grad.chunks_exact(pixels)) {
            *sum += sum_of(row);
        }
        unfold(shape, saved.input, scratch);
        let patches = Matrix::row_major(&scratch.patches, shape.patch_len(), pixels).transposed();
        multiply(
            &mut self.weight,
            true,
            Matrix::row_major(grad, shape.filters, pixels),
            patches,
        );
    }

    /// Back through ReLU, scale and shift; `grad` becomes the gradient of the normalised values.
    fn through_activation(
        &mut self,
        shape: &BlockShape,
        weights: BlockWeights<'_>,
        saved: &ImageState<'_>,
        grad: &mut [f32],
    ) {
        let pixels = shape.pixels();
        let rows = grad
            .chunks_exact_mut(pixels)
            .zip(saved.normed.chunks_exact(pixels))
            .enumerate();
        for (filter, (grad, normed)) in rows {
            let (gamma, beta) = (weights.gamma[filter], weights.beta[filter]);
            for (g, &x) in grad.iter_mut().zip(normed) {
                *g = if x * gamma + beta > 0.0 { *g } else { 0.0 };
            }
            self.gamma[filter] += dot(grad, normed);
            self.beta[filter] += sum_of(grad);
            for g in grad.iter_mut() {
                *g *= gamma;
            }
        }
    }
}

/// Back through the norm: `dz = s * (dx - mean(dx) - x * mean(dx * x))` per group.
fn through_norm(shape: &BlockShape, saved: &ImageState<'_>, grad: &mut [f32]) {
    let group_len = shape.output_len() / shape.groups;
    let groups = grad
        .chunks_exact_mut(group_len)
        .zip(saved.normed.chunks_exact(group_len));
    for ((grad, normed), &inverse_std) in groups.zip(saved.inverse_std) {
        let mean = sum_of(grad) / group_len as f32;
        let projection = dot(grad, normed) / group_len as f32;
        for (g, &x) in grad.iter_mut().zip(normed) {
            *g = inverse_std * (*g - mean - x * projection);
        }
    }
}

/// Gradient of the input image from the gradient of the convolution output.
fn propagate(
    shape: &BlockShape,
    weights: BlockWeights<'_>,
    grad: &[f32],
    scratch: &mut Scratch,
    input_grad: &mut [f32],
) {
    let kernel = Matrix::row_major(weights.weight, shape.filters, shape.patch_len()).transposed();
    let grad = Matrix::row_major(grad, shape.filters, shape.pixels());
    multiply(&mut scratch.patches, false, kernel, grad);
    fold(shape, scratch, input_grad);
}

/// `normed = weight * patches + bias`, before normalisation.
fn convolve(shape: &BlockShape, weights: BlockWeights<'_>, patches: &[f32], normed: &mut [f32]) {
    let kernel = Matrix::row_major(weights.weight, shape.filters, shape.patch_len());
    multiply(
        normed,
        false,
        kernel,
        Matrix::row_major(patches, shape.patch_len(), shape.pixels()),
    );
    for (row, &bias) in normed.chunks_exact_mut(shape.pixels()).zip(weights.bias) {
        for value in row {
            *value += bias;
        }
    }
}

/// Mean 0 and (biased) variance 1 over each group of channels.
fn normalise(shape: &BlockShape, values: &mut [f32], inverse_std: &mut [f32]) {
    let group_len = shape.output_len() / shape.groups;
    for (group, inverse_std) in values.chunks_exact_mut(group_len).zip(inverse_std) {
        let mean = sum_of(group) / group_len as f32;
        for value in group.iter_mut() {
            *value -= mean;
        }
        let variance = dot(group, group) / group_len as f32;
        *inverse_std = 1.0 / (variance + shape.epsilon).sqrt();
        for value in group.iter_mut() {
            *value *= *inverse_std;
        }
    }
}

/// Scale, shift and ReLU.
fn activate(shape: &BlockShape, weights: BlockWeights<'_>, normed: &[f32], output: &mut [f32]) {
    let pixels = shape.pixels();
    let rows = output
        .chunks_exact_mut(pixels)
        .zip(normed.chunks_exact(pixels))
        .enumerate();
    for (filter, (output, normed)) in rows {
        let (gamma, beta) = (weights.gamma[filter], weights.beta[filter]);
        for (y, &x) in output.iter_mut().zip(normed) {
            *y = (x * gamma + beta).max(0.0);
        }
    }
}

/// Copies every patch of an image into a column of `scratch.patches`.
///
/// Padded rows are first split by column modulo stride, so that a row of patches is a run of memory.
fn unfold(shape: &BlockShape, image: &[f32], scratch: &mut Scratch) {
    split_phases(shape, image, &mut scratch.phases);
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    let mut rows = scratch.patches.chunks_exact_mut(out_width);
    for_each_tap(shape, |channel, ky, kx| {
        for oy in 0..out_height {
            let Some(row) = rows.next() else { return };
            match source_row(shape, oy, ky) {
                Some(y) => {
                    let at = phase_start(shape, channel, y, kx);
                    row.copy_from_slice(&scratch.phases[at..at + out_width]);
                }
                None => row.fill(0.0),
            }
        }
    });
}

/// Adds every patch gradient back to the pixels it was read from; the inverse walk of [`unfold`].
fn fold(shape: &BlockShape, scratch: &mut Scratch, image_grad: &mut [f32]) {
    scratch.phases.fill(0.0);
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    let mut rows = scratch.patches.chunks_exact(out_width);
    for_each_tap(shape, |channel, ky, kx| {
        for oy in 0..out_height {
            let Some(row) = rows.next() else { return };
            if let Some(y) = source_row(shape, oy, ky) {
                let at = phase_start(shape, channel, y, kx);
                add_into(&mut scratch.phases[at..at + out_width], row);
            }
        }
    });
    join_phases(shape, &scratch.phases, image_grad);
}

/// Calls `visit(channel, ky, kx)` in the order of the rows of the patch matrix.
fn for_each_tap(shape: &BlockShape, mut visit: impl FnMut(usize, usize, usize)) {
    for channel in 0..shape.channels {
        for ky in 0..shape.kernel {
            for kx in 0..shape.kernel {
                visit(channel, ky, kx);
            }
        }
    }
}

/// Input row under kernel row `ky` of output row `oy`; `None` in the padding.
fn source_row(shape: &BlockShape, oy: usize, ky: usize) -> Option<usize> {
    (oy * shape.stride + ky)
        .checked_sub(shape.padding)
        .filter(|y| *y < shape.height)
}

/// Where the run of columns `kx, kx + stride, ..` of a padded row starts in the phases.
fn phase_start(shape: &BlockShape, channel: usize, y: usize, kx: usize) -> usize {
    let row = (channel * shape.height + y) * shape.stride + kx % shape.stride;
    row * shape.phase_len() + kx / shape.stride
}

fn split_phases(shape: &BlockShape, image: &[f32], phases: &mut [f32]) {
    let row_len = shape.stride * shape.phase_len();
    // Columns past the last patch are not kept.
    let kept = shape.width.min(row_len.saturating_sub(shape.padding));
    let mut padded = vec![0.0; row_len];
    for (source, split) in image
        .chunks_exact(shape.width)
        .zip(phases.chunks_exact_mut(row_len))
    {
        padded[row_len.min(shape.padding)..][..kept].copy_from_slice(&source[..kept]);
        for (phase, run) in split.chunks_exact_mut(shape.phase_len()).enumerate() {
            let columns = padded[phase..].iter().step_by(shape.stride);
            for (value, column) in run.iter_mut().zip(columns) {
                *value = *column;
            }
        }
    }
}

fn join_phases(shape: &BlockShape, phases: &[f32], image: &mut [f32]) {
    let row_len = shape.stride * shape.phase_len();
    for (target, split) in image
        .chunks_exact_mut(shape.width)
        .zip(phases.chunks_exact(row_len))
    {
        for (column, value) in target.iter_mut().enumerate() {
            let padded = column + shape.padding;
            let (q, phase) = (padded / shape.stride, padded % shape.stride);
            // Columns past the last patch are never read, so their gradient is 0.
            *value = if q < shape.phase_len() {
                split[phase * shape.phase_len() + q]
            } else {
                0.0
            };
        }
    }
}

fn add_into(target: &mut [f32], values: &[f32]) {
    for (t, &v) in target.iter_mut().zip(values) {
        *t += v;
    }
}

/// Sum in a fixed order of [`LANES`] partial sums.
fn sum_of(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += v;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Dot product in the same fixed order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks
        .remainder()
        .iter()
        .zip(b_chunks.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// A matrix view: values with a row and a column stride.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    fn row_major(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "matrix of {rows} x {columns}");
        Self {
            values,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// `target = a * b`, or `target += a * b`; `target` is row-major. One thread.
fn multiply(target: &mut [f32], accumulate: bool, a: Matrix<'_>, b: Matrix<'_>) {
    assert_eq!(a.columns, b.rows, "inner sizes");
    assert_eq!(target.len(), a.rows * b.columns, "size of the product");
    // SAFETY: `Matrix` is built from slices of exactly rows * columns values and its strides address
    // every one of them once; `target` has rows * columns values and is borrowed mutably, so it cannot
    // overlap the inputs.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            target.as_mut_ptr(),
            1,
            b.columns as isize,
            accumulate,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> BlockShape {
        BlockShape {
            channels: 3,
            height: 9,
            width: 7,
            filters: 4,
            kernel: 4,
            stride: 2,
            padding: 1,
            groups: 2,
            epsilon: 1e-5,
        }
    }

    /// Values without pattern, in [-1, 1).
    fn values(n: usize, salt: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| {
                let x = (i ^ salt).wrapping_mul(2_654_435_761).wrapping_add(salt);
                (x >> 8) as f32 / (1u32 << 23) as f32 - 1.0
            })
            .collect()
    }

    #[test]
    fn unfolded_patches_hold_the_pixels_under_the_kernel() {
        let s = shape();
        let image = values(s.input_len(), 1);
        let mut scratch = s.scratch();
        unfold(&s, &image, &mut scratch);
        let pixel = |c: usize, y: isize, x: isize| -> f32 {
            if y < 0 || x < 0 || y >= s.height as isize || x >= s.width as isize {
                return 0.0;
            }
            image[(c * s.height + y as usize) * s.width + x as usize]
        };
        let mut row = 0;
        for c in 0..s.channels {
            for ky in 0..s.kernel {
                for kx in 0..s.kernel {
                    for oy in 0..s.out_height() {
                        for ox in 0..s.out_width() {
                            let expected = pixel(
                                c,
                                (oy * s.stride + ky) as isize - s.padding as isize,
                                (ox * s.stride + kx) as isize - s.padding as isize,
                            );
                            let at = (row * s.out_height() + oy) * s.out_width() + ox;
                            assert_eq!(
                                scratch.patches[at].to_bits(),
                                expected.to_bits(),
                                "{c} {ky} {kx} {oy} {ox}"
                            );
                        }
                    }
                    row += 1;
                }
            }
        }
    }

    #[test]
    fn fold_is_the_transpose_of_unfold() {
        // <unfold(x), p> = <x, fold(p)> for every x and p.
        let s = shape();
        let image = values(s.input_len(), 3);
        let mut scratch = s.scratch();
        unfold(&s, &image, &mut scratch);
        let weights = values(scratch.patches.len(), 5);
        let left: f64 = scratch
            .patches
            .iter()
            .zip(&weights)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum();
        scratch.patches.copy_from_slice(&weights);
        let mut back = vec![0.0; s.input_len()];
        fold(&s, &mut scratch, &mut back);
        let right: f64 = image
            .iter()
            .zip(&back)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum();
        assert!((left - right).abs() < 1e-4, "{left} {right}");
    }

    #[test]
    fn sums_equal_plain_sums() {
        let v = values(1003, 9);
        let plain: f64 = v.iter().map(|x| f64::from(*x)).sum();
        assert!((f64::from(sum_of(&v)) - plain).abs() < 1e-3);
        let square: f64 = v.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        assert!((f64::from(dot(&v, &v)) - square).abs() < 1e-3);
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let s = shape();
        let images = 37;
        let input = values(images * s.input_len(), 11);
        let (weight, bias) = (values(4 * 48, 12), values(4, 13));
        let (gamma, beta) = (values(4, 14), values(4, 15));
        let weights = BlockWeights {
            weight: &weight,
            bias: &bias,
            gamma: &gamma,
            beta: &beta,
        };
        let grad = values(images * s.output_len(), 16);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let f = forward(&s, &input, weights);
                let g = backward(&s, &input, weights, &f.normed, &f.inverse_std, &grad, true);
                (
                    f.output,
                    g.weight,
                    g.input.unwrap(),
                    g.gamma,
                    g.beta,
                    g.bias,
                )
            })
        };
        assert_eq!(run(1), run(3));
    }
}
