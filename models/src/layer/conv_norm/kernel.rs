//! Arithmetic of the fused convolution block on plain slices, forward and backward.
//!
//! A convolution is a matrix product over patches. Where sizes and processor allow it they are read where they lie
//! ([`super::direct`]); else one image at a time is unfolded into a scratch buffer that stays in cache
//! ([`super::patches`]). Images are spread over threads in groups of fixed size, and the weight gradients of the groups
//! are added in order, so the result does not depend on the number of threads.
#![expect(
    clippy::inline_always,
    reason = "a kernel must be compiled into the function that enables its instructions"
)]

use rayon::prelude::*;

use super::direct::Direct;
use super::patches::{Scratch, fold, pad, split, unfold};
use crate::layer::matrix::{Matrix, multiply};
use crate::layer::simd::{Kernel, LANES, fastest};

/// Images per parallel task; also the grouping of the weight-gradient sums.
const IMAGES_PER_TASK: usize = 8;

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
    pub(super) fn input_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Output pixels per filter.
    pub(super) fn pixels(&self) -> usize {
        self.out_height() * self.out_width()
    }

    /// Numbers per output image.
    pub(crate) fn output_len(&self) -> usize {
        self.filters * self.pixels()
    }

    /// Numbers per patch.
    pub(super) fn patch_len(&self) -> usize {
        self.channels * self.kernel * self.kernel
    }

    /// Rows of a padded image, as far as the kernel reaches.
    pub(super) fn padded_height(&self) -> usize {
        (self.out_height() - 1) * self.stride + self.kernel
    }

    /// Columns of one phase of a padded row: every `stride`-th column, as far as the kernel reaches.
    pub(super) fn phase_len(&self) -> usize {
        ((self.out_width() - 1) * self.stride + self.kernel).div_ceil(self.stride)
    }

    /// Columns of a padded row.
    pub(super) fn row_len(&self) -> usize {
        self.stride * self.phase_len()
    }

    /// Where the first patch has its numbers in an image of split rows, tap after tap: `[C, k, k]`.
    pub(super) fn tap_places(self) -> impl Iterator<Item = usize> {
        (0..self.patch_len()).map(move |tap| {
            let (row, kx) = (tap / self.kernel, tap % self.kernel);
            let (channel, ky) = (row / self.kernel, row % self.kernel);
            let row = (channel * self.padded_height() + ky) * self.row_len();
            row + kx % self.stride * self.phase_len() + kx / self.stride
        })
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

/// Convolution, group norm and ReLU of a batch of images `[B, C, H, W]`.
pub(crate) fn forward(shape: &BlockShape, input: &[f32], weights: BlockWeights<'_>) -> Forward {
    let images = input.len() / shape.input_len();
    assert_eq!(input.len(), images * shape.input_len(), "whole images");
    let out_len = shape.output_len();
    let mut output = vec![0.0; images * out_len];
    let mut normed = vec![0.0; images * out_len];
    let mut inverse_std = vec![0.0; images * shape.groups];
    let convolution = Convolution::new(shape, weights.weight);
    output
        .par_chunks_mut(IMAGES_PER_TASK * out_len)
        .zip(normed.par_chunks_mut(IMAGES_PER_TASK * out_len))
        .zip(inverse_std.par_chunks_mut(IMAGES_PER_TASK * shape.groups))
        .zip(input.par_chunks(IMAGES_PER_TASK * shape.input_len()))
        .for_each(|(((output, normed), inverse_std), input)| {
            let mut scratch = Scratch::new(shape, convolution.unfolds());
            let images = input
                .chunks_exact(shape.input_len())
                .zip(output.chunks_exact_mut(out_len))
                .zip(
                    normed
                        .chunks_exact_mut(out_len)
                        .zip(inverse_std.chunks_exact_mut(shape.groups)),
                );
            for ((image, output), (normed, inverse_std)) in images {
                convolution.run(image, &mut scratch, normed);
                fastest(Finish {
                    shape,
                    weights,
                    normed,
                    inverse_std,
                    output,
                });
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
    let direct = Direct::new(shape);
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
            let mut scratch = Scratch::new(shape, wants_input || direct.is_none());
            let mut grad = vec![0.0; shape.output_len()];
            let mut packed = Vec::new();
            let first = task * IMAGES_PER_TASK;
            for image in first..images.min(first + IMAGES_PER_TASK) {
                let saved = ImageState {
                    input: part(input, image, in_len),
                    normed: part(normed, image, shape.output_len()),
                    inverse_std: part(inverse_std, image, shape.groups),
                };
                grad.copy_from_slice(part(output_grad, image, shape.output_len()));
                fastest(ThroughBlock {
                    shape,
                    weights,
                    saved: &saved,
                    grad: &mut grad,
                    sums: &mut sums,
                });
                pad(shape, saved.input, &mut scratch);
                if let Some(direct) = &direct {
                    direct.pack(&grad, shape.pixels(), &mut packed);
                    direct.add_weight_gradient(&packed, &scratch.padded, &mut sums.weight);
                } else {
                    sums.add_unfolded(shape, &grad, &mut scratch);
                }
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

    /// Adds the weight gradient of one image, which is in `scratch.padded`.
    fn add_unfolded(&mut self, shape: &BlockShape, grad: &[f32], scratch: &mut Scratch) {
        split(shape, scratch);
        unfold(shape, scratch);
        let pixels = shape.pixels();
        let patches = Matrix::row_major(&scratch.patches, shape.patch_len(), pixels).transposed();
        let grad = Matrix::row_major(grad, shape.filters, pixels);
        multiply(&mut self.weight, true, 1.0, grad, patches);
    }
}

/// Turns the gradient of a block's output into that of its convolution, and adds those of norm and bias.
struct ThroughBlock<'a> {
    shape: &'a BlockShape,
    weights: BlockWeights<'a>,
    saved: &'a ImageState<'a>,
    grad: &'a mut [f32],
    sums: &'a mut ParameterSums,
}

impl Kernel for ThroughBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        self.through_activation();
        through_norm(self.shape, self.saved, self.grad);
        let rows = self.grad.chunks_exact(self.shape.pixels());
        for (sum, row) in self.sums.bias.iter_mut().zip(rows) {
            *sum += sum_of(row);
        }
    }
}

impl ThroughBlock<'_> {
    /// Back through ReLU, scale and shift; `grad` becomes the gradient of the normalised values.
    #[inline(always)]
    fn through_activation(&mut self) {
        let pixels = self.shape.pixels();
        let normed = self.saved.normed.chunks_exact(pixels);
        let rows = self.grad.chunks_exact_mut(pixels).zip(normed).enumerate();
        for (filter, (grad, normed)) in rows {
            let (gamma, beta) = (self.weights.gamma[filter], self.weights.beta[filter]);
            for (g, &x) in grad.iter_mut().zip(normed) {
                *g = if x * gamma + beta > 0.0 { *g } else { 0.0 };
            }
            self.sums.gamma[filter] += dot(grad, normed);
            self.sums.beta[filter] += sum_of(grad);
            for g in grad.iter_mut() {
                *g *= gamma;
            }
        }
    }
}

/// Back through the norm: `dz = s * (dx - mean(dx) - x * mean(dx * x))` per group.
#[inline(always)]
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
    multiply(&mut scratch.patches, false, 1.0, kernel, grad);
    fold(shape, scratch, input_grad);
}

/// The product of a block's weights with the patches of an image.
struct Convolution<'a> {
    shape: &'a BlockShape,
    way: Way<'a>,
}

enum Way<'a> {
    /// With the packed weights.
    Direct(Direct, Vec<f32>),
    /// With the weights, `[filters, channels, kernel, kernel]`.
    Unfold(&'a [f32]),
}

impl<'a> Convolution<'a> {
    fn new(shape: &'a BlockShape, weight: &'a [f32]) -> Self {
        let way = Direct::new(shape).map_or(Way::Unfold(weight), |direct| {
            let mut packed = Vec::new();
            direct.pack(weight, shape.patch_len(), &mut packed);
            Way::Direct(direct, packed)
        });
        Self { shape, way }
    }

    fn unfolds(&self) -> bool {
        matches!(self.way, Way::Unfold(_))
    }

    fn run(&self, image: &[f32], scratch: &mut Scratch, target: &mut [f32]) {
        let shape = self.shape;
        pad(shape, image, scratch);
        split(shape, scratch);
        match &self.way {
            Way::Direct(direct, packed) => direct.convolve(packed, &scratch.phases, target),
            Way::Unfold(weight) => {
                unfold(shape, scratch);
                let (taps, pixels) = (shape.patch_len(), shape.pixels());
                let kernel = Matrix::row_major(weight, shape.filters, taps);
                let patches = Matrix::row_major(&scratch.patches, taps, pixels);
                multiply(target, false, 1.0, kernel, patches);
            }
        }
    }
}

/// Bias, norm and activation of one image.
struct Finish<'a> {
    shape: &'a BlockShape,
    weights: BlockWeights<'a>,
    /// The product; becomes the normalised convolution output.
    normed: &'a mut [f32],
    inverse_std: &'a mut [f32],
    output: &'a mut [f32],
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.normed.chunks_exact_mut(self.shape.pixels());
        for (row, &bias) in rows.zip(self.weights.bias) {
            for value in row {
                *value += bias;
            }
        }
        normalise(self.shape, self.normed, self.inverse_std);
        activate(self.shape, self.weights, self.normed, self.output);
    }
}

/// Mean 0 and (biased) variance 1 over each group of channels.
#[inline(always)]
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
#[inline(always)]
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

fn add_into(target: &mut [f32], values: &[f32]) {
    for (t, &v) in target.iter_mut().zip(values) {
        *t += v;
    }
}

/// Sum in a fixed order of [`LANES`] partial sums.
#[inline(always)]
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
#[inline(always)]
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

/// What the tests of this module and its neighbours work on.
#[cfg(test)]
pub(super) mod testing {
    use super::BlockShape;

    /// A small block with an odd image.
    pub(in super::super) fn shape() -> BlockShape {
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
    pub(in super::super) fn values(n: usize, salt: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| {
                let x = (i ^ salt).wrapping_mul(2_654_435_761).wrapping_add(salt);
                (x >> 8) as f32 / (1u32 << 23) as f32 - 1.0
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{shape, values};
    use super::*;

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
