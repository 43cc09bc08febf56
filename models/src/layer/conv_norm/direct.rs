//! Products of a matrix with patches that are read where they lie.
//!
//! A convolution and the gradient of its weights are products with the matrix of all patches. Writing that matrix
//! takes as long as multiplying with it, and every row of it is a view of the image at some offset: [`Direct`] reads
//! the views. Every number is one chain of fused multiply-adds over the inner index, from first to last, which is how
//! the matrix kernels of `gemm` add too: both ways give the same bits (tested).
#![expect(
    clippy::inline_always,
    reason = "a kernel must be compiled into the function that enables its instructions"
)]

use pulp::NullaryFnOnce;
use pulp::x86::{V3, V4};
use std::arch::x86_64::{__m128, __m256, __m512};

use super::kernel::BlockShape;

/// Vector instructions that this way is written for.
#[derive(Debug, Clone, Copy)]
enum Instructions {
    Avx512(V4),
    Avx2(V3),
}

/// A product whose right side is made of views: `[m, n]`, where row `i` of the right side, `[n]`, is made of
/// runs of numbers that begin at `offsets[i] + starts[..]`.
#[derive(Debug)]
struct Views {
    /// Numbers that lie side by side: 4, 8 or 16.
    run: usize,
    /// Where the rows begin, one per inner index.
    offsets: Vec<usize>,
    /// Where the runs of a row begin, beyond its offset.
    starts: Vec<usize>,
}

impl Views {
    fn columns(&self) -> usize {
        self.starts.len() * self.run
    }
}

/// How the products of a block are computed without unfolding.
#[derive(Debug)]
pub(super) struct Direct {
    instructions: Instructions,
    /// Rows of the left side that are computed together.
    rows: usize,
    /// Right side of the convolution, in the split rows: a row per tap.
    convolution: Views,
    /// Right side of the gradient of the weights, in the padded rows: a row per pixel.
    gradient: Views,
}

impl Direct {
    /// `None` for sizes and processors that this way is not written for.
    pub(super) fn new(shape: &BlockShape) -> Option<Self> {
        let instructions = V4::try_new().map(Instructions::Avx512);
        let instructions = instructions.or_else(|| V3::try_new().map(Instructions::Avx2))?;
        Self::with(shape, instructions)
    }

    fn with(shape: &BlockShape, instructions: Instructions) -> Option<Self> {
        let (lanes, most_rows) = match instructions {
            Instructions::Avx512(_) => (16, 16),
            Instructions::Avx2(_) => (8, 8),
        };
        let mut candidates = [16, 8, 4].into_iter().filter(|rows| *rows <= most_rows);
        let rows = candidates.find(|rows| shape.filters.is_multiple_of(*rows))?;
        let fits = shape.pixels().is_multiple_of(lanes) && shape.patch_len().is_multiple_of(lanes);
        if !fits {
            return None;
        }
        let run = |length: usize| {
            let mut runs = [16, 8, 4].into_iter().filter(|run| *run <= lanes);
            runs.find(|run| length.is_multiple_of(*run))
        };
        let (pixel_run, tap_run) = (run(shape.out_width())?, run(shape.kernel)?);
        let (width, row_len) = (shape.out_width(), shape.row_len());
        let pixel = |place: usize, column: usize| {
            place / width * shape.stride * row_len + place % width * column
        };
        let kernel_row = |tap: usize| {
            let row = tap / shape.kernel;
            let (channel, ky) = (row / shape.kernel, row % shape.kernel);
            (channel * shape.padded_height() + ky) * row_len + tap % shape.kernel
        };
        Some(Self {
            instructions,
            rows,
            convolution: Views {
                run: pixel_run,
                offsets: shape.tap_places().collect(),
                starts: (0..shape.pixels())
                    .step_by(pixel_run)
                    .map(|place| pixel(place, 1))
                    .collect(),
            },
            gradient: Views {
                run: tap_run,
                offsets: (0..shape.pixels())
                    .map(|place| pixel(place, shape.stride))
                    .collect(),
                starts: (0..shape.patch_len())
                    .step_by(tap_run)
                    .map(kernel_row)
                    .collect(),
            },
        })
    }

    /// A row-major matrix as the left side of a product: blocks of `rows` rows, each column after column.
    pub(super) fn pack(&self, matrix: &[f32], columns: usize, packed: &mut Vec<f32>) {
        packed.clear();
        for block in matrix.chunks_exact(self.rows * columns) {
            for column in 0..columns {
                packed.extend(block.iter().skip(column).step_by(columns));
            }
        }
    }

    /// `target = weight * patches`, from the packed weight and the split rows of an image.
    pub(super) fn convolve(&self, weight: &[f32], phases: &[f32], target: &mut [f32]) {
        self.multiply(&self.convolution, weight, phases, target, false);
    }

    /// `target += grad * patches^T`, from the packed gradient of the pixels and the padded rows of an image.
    pub(super) fn add_weight_gradient(&self, grad: &[f32], padded: &[f32], target: &mut [f32]) {
        self.multiply(&self.gradient, grad, padded, target, true);
    }

    fn multiply(
        &self,
        views: &Views,
        left: &[f32],
        values: &[f32],
        target: &mut [f32],
        accumulate: bool,
    ) {
        let product = Product {
            views,
            left,
            values,
            target,
            accumulate,
        };
        match self.instructions {
            Instructions::Avx512(simd) => match (self.rows, views.run) {
                (16, 16) => product.run::<V4, 16, 16>(simd),
                (16, 8) => product.run::<V4, 16, 8>(simd),
                (16, _) => product.run::<V4, 16, 4>(simd),
                (8, 16) => product.run::<V4, 8, 16>(simd),
                (8, 8) => product.run::<V4, 8, 8>(simd),
                (8, _) => product.run::<V4, 8, 4>(simd),
                (_, 16) => product.run::<V4, 4, 16>(simd),
                (_, 8) => product.run::<V4, 4, 8>(simd),
                _ => product.run::<V4, 4, 4>(simd),
            },
            Instructions::Avx2(simd) => match (self.rows, views.run) {
                (8, 8) => product.run::<V3, 8, 8>(simd),
                (8, _) => product.run::<V3, 8, 4>(simd),
                (_, 8) => product.run::<V3, 4, 8>(simd),
                _ => product.run::<V3, 4, 4>(simd),
            },
        }
    }
}

/// One product.
struct Product<'a> {
    views: &'a Views,
    left: &'a [f32],
    values: &'a [f32],
    target: &'a mut [f32],
    accumulate: bool,
}

impl Product<'_> {
    fn run<S: Vectors, const ROWS: usize, const RUN: usize>(self, simd: S) {
        simd.with_instructions(Task::<S, ROWS, RUN> {
            simd,
            product: self,
        });
    }
}

/// A product, `ROWS` rows at a time, of views in runs of `RUN` numbers.
struct Task<'a, S, const ROWS: usize, const RUN: usize> {
    simd: S,
    product: Product<'a>,
}

impl<S: Vectors, const ROWS: usize, const RUN: usize> NullaryFnOnce for Task<'_, S, ROWS, RUN> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, product } = self;
        let Views {
            offsets, starts, ..
        } = product.views;
        let columns = product.views.columns();
        let targets = product.target.chunks_exact_mut(columns * ROWS);
        let lefts = product.left.chunks_exact(offsets.len() * ROWS);
        for (target, left) in targets.zip(lefts) {
            for (tile, starts) in starts.chunks_exact(S::LANES / RUN).enumerate() {
                let mut sums = [simd.zero(); ROWS];
                for (offset, factors) in offsets.iter().zip(left.chunks_exact(ROWS)) {
                    let view = simd.gather::<RUN>(product.values, *offset, starts);
                    for row in 0..ROWS {
                        sums[row] = simd.mul_add(simd.splat(factors[row]), view, sums[row]);
                    }
                }
                for (row, sum) in sums.into_iter().enumerate() {
                    let at = row * columns + tile * S::LANES;
                    let target = &mut target[at..at + S::LANES];
                    simd.write(sum, product.accumulate, target);
                }
            }
        }
    }
}

/// Registers of one instruction set.
trait Vectors: Copy {
    type Register: Copy;
    const LANES: usize;

    fn with_instructions<T: NullaryFnOnce>(self, task: T) -> T::Output;
    fn zero(self) -> Self::Register;
    fn splat(self, value: f32) -> Self::Register;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::Register, b: Self::Register, c: Self::Register) -> Self::Register;
    /// [`Self::LANES`] numbers in runs of `RUN` that begin at `offset + starts[..]`.
    fn gather<const RUN: usize>(
        self,
        values: &[f32],
        offset: usize,
        starts: &[usize],
    ) -> Self::Register;
    /// Writes a register, or adds it to what is there.
    fn write(self, sum: Self::Register, accumulate: bool, target: &mut [f32]);
}

#[inline(always)]
fn numbers<const N: usize>(values: &[f32], at: usize) -> [f32; N] {
    let mut found = [0.0; N];
    found.copy_from_slice(&values[at..at + N]);
    found
}

#[inline(always)]
fn quarter(values: &[f32], at: usize) -> __m128 {
    pulp::cast(numbers::<4>(values, at))
}

#[inline(always)]
fn half(values: &[f32], at: usize) -> __m256 {
    pulp::cast(numbers::<8>(values, at))
}

impl Vectors for V4 {
    type Register = __m512;
    const LANES: usize = 16;

    #[inline(always)]
    fn with_instructions<T: NullaryFnOnce>(self, task: T) -> T::Output {
        self.vectorize(task)
    }

    #[inline(always)]
    fn zero(self) -> __m512 {
        self.avx512f._mm512_setzero_ps()
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        self.avx512f._mm512_set1_ps(value)
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        self.avx512f._mm512_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    fn gather<const RUN: usize>(self, values: &[f32], offset: usize, starts: &[usize]) -> __m512 {
        let avx512 = self.avx512f;
        match RUN {
            16 => pulp::cast(numbers::<16>(values, offset + starts[0])),
            8 => {
                let first = avx512._mm512_castps256_ps512(half(values, offset + starts[0]));
                let second = half(values, offset + starts[1]);
                self.avx512dq._mm512_insertf32x8::<1>(first, second)
            }
            _ => {
                let part = |index: usize| quarter(values, offset + starts[index]);
                let register = avx512._mm512_castps128_ps512(part(0));
                let register = avx512._mm512_insertf32x4::<1>(register, part(1));
                let register = avx512._mm512_insertf32x4::<2>(register, part(2));
                avx512._mm512_insertf32x4::<3>(register, part(3))
            }
        }
    }

    #[inline(always)]
    fn write(self, sum: __m512, accumulate: bool, target: &mut [f32]) {
        let there: __m512 = pulp::cast(numbers::<16>(target, 0));
        let sum = if accumulate {
            self.avx512f._mm512_add_ps(there, sum)
        } else {
            sum
        };
        target.copy_from_slice(&pulp::cast::<__m512, [f32; 16]>(sum));
    }
}

impl Vectors for V3 {
    type Register = __m256;
    const LANES: usize = 8;

    #[inline(always)]
    fn with_instructions<T: NullaryFnOnce>(self, task: T) -> T::Output {
        self.vectorize(task)
    }

    #[inline(always)]
    fn zero(self) -> __m256 {
        self.avx._mm256_setzero_ps()
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        self.avx._mm256_set1_ps(value)
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        self.fma._mm256_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    fn gather<const RUN: usize>(self, values: &[f32], offset: usize, starts: &[usize]) -> __m256 {
        if RUN == 8 {
            return half(values, offset + starts[0]);
        }
        let part = |index: usize| quarter(values, offset + starts[index]);
        let register = self.avx._mm256_castps128_ps256(part(0));
        self.avx._mm256_insertf128_ps::<1>(register, part(1))
    }

    #[inline(always)]
    fn write(self, sum: __m256, accumulate: bool, target: &mut [f32]) {
        let there: __m256 = pulp::cast(numbers::<8>(target, 0));
        let sum = if accumulate {
            self.avx._mm256_add_ps(there, sum)
        } else {
            sum
        };
        target.copy_from_slice(&pulp::cast::<__m256, [f32; 8]>(sum));
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::testing::values;
    use super::super::patches::{Scratch, pad, split, unfold};
    use super::*;

    /// `target[m, n] (+)= sum over k of a[m, k] b(k, n)`, each number one chain of fused multiply-adds.
    fn chain(
        inner: usize,
        a: &[f32],
        columns: usize,
        b: impl Fn(usize, usize) -> f32,
        start: Option<&[f32]>,
    ) -> Vec<u32> {
        let rows = a.chunks_exact(inner);
        let products = rows.flat_map(|row| {
            let b = &b;
            (0..columns).map(move |column| {
                let factors = row.iter().enumerate();
                factors.fold(0.0, |sum, (k, value)| value.mul_add(b(k, column), sum))
            })
        });
        let sums = products
            .enumerate()
            .map(|(at, sum): (usize, f32)| start.map_or(sum, |start| start[at] + sum).to_bits());
        sums.collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|x| x.to_bits()).collect()
    }

    /// Both products of `shape`, directly and as chains over unfolded patches.
    fn compare(shape: &BlockShape, instructions: Instructions) {
        let direct = Direct::with(shape, instructions).unwrap();
        let mut scratch = Scratch::new(shape, true);
        pad(shape, &values(shape.input_len(), 3), &mut scratch);
        split(shape, &mut scratch);
        unfold(shape, &mut scratch);
        let (filters, taps, pixels) = (shape.filters, shape.patch_len(), shape.pixels());
        let patch = |tap: usize, pixel: usize| scratch.patches[tap * pixels + pixel];
        let mut packed = Vec::new();

        let weight = values(filters * taps, 5);
        let expected = chain(taps, &weight, pixels, patch, None);
        let mut found = vec![f32::NAN; filters * pixels];
        direct.pack(&weight, taps, &mut packed);
        direct.convolve(&packed, &scratch.phases, &mut found);
        assert_eq!(bits(&found), expected, "convolution, {shape:?}");

        let grad = values(filters * pixels, 7);
        let transposed = |pixel, tap| patch(tap, pixel);
        let expected = chain(pixels, &grad, taps, transposed, Some(&weight));
        let mut found = weight;
        direct.pack(&grad, pixels, &mut packed);
        direct.add_weight_gradient(&packed, &scratch.padded, &mut found);
        assert_eq!(bits(&found), expected, "gradient, {shape:?}");
    }

    /// `[channels, height, width, filters, kernel, stride, padding]`
    fn shape(sizes: [usize; 7]) -> BlockShape {
        let [channels, height, width, filters, kernel, stride, padding] = sizes;
        BlockShape {
            channels,
            height,
            width,
            filters,
            kernel,
            stride,
            padding,
            groups: 4,
            epsilon: 1e-5,
        }
    }

    #[test]
    fn direct_products_are_chains_of_multiply_adds_over_unfolded_patches() {
        let wall = [
            [3, 65, 65, 16, 8, 4, 2],
            [16, 16, 16, 32, 4, 2, 1],
            [32, 8, 8, 64, 4, 2, 1],
        ];
        // Runs of every length, rows of every count, odd images, padding that is not read, a stride of one.
        let others = [
            [3, 33, 65, 4, 8, 4, 2],
            [1, 9, 9, 8, 4, 2, 1],
            [5, 37, 67, 12, 4, 4, 0],
            [2, 11, 19, 24, 4, 1, 2],
            [4, 31, 31, 8, 16, 1, 0],
        ];
        let avx512 = V4::try_new().map(Instructions::Avx512);
        let avx2 = V3::try_new().map(Instructions::Avx2);
        for instructions in [avx512, avx2].into_iter().flatten() {
            for sizes in wall.iter().chain(&others) {
                compare(&shape(*sizes), instructions);
            }
        }
    }

    #[test]
    fn sizes_that_do_not_fill_registers_are_left_to_unfolding() {
        for sizes in [
            [3, 65, 65, 18, 8, 4, 2],
            [3, 66, 64, 16, 7, 4, 2],
            [3, 68, 68, 16, 8, 4, 2],
        ] {
            assert!(Direct::new(&shape(sizes)).is_none(), "{sizes:?}");
        }
    }
}
