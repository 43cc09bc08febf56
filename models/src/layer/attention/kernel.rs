//! Attention of packed queries, keys and values on plain slices, forward and backward, heads over threads.
//!
//! Queries are taken a block at a time, so that a block's scores stay in cache; keys that no query of the block may
//! see are left out of its products. The backward pass computes the probabilities again, from the largest score and
//! the sum of every row: one more product of five, for `B heads L L` numbers less to write, keep and read.
#![expect(
    clippy::inline_always,
    reason = "a kernel must be compiled into the function that enables its instructions"
)]

use rayon::prelude::*;

use super::turn::{Turn, TurnBack};
use crate::layer::elementary::exp_of_negative;
use crate::layer::matrix::{Matrix, multiply};
use crate::layer::rope::Rope;
use crate::layer::simd::{Kernel, LANES, fastest, largest, sum_lanes, sum_of_pairs};

/// Queries of a block, at most.
const BLOCK: usize = 64;

/// Sizes of an attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes<'a> {
    /// Tokens, `L`.
    pub length: usize,
    pub heads: usize,
    /// Width of a head, `h`.
    pub head: usize,
    /// Tokens of a frame; a token sees no later frame. `L` for no mask.
    pub frame: usize,
    pub rope: Option<&'a Rope>,
}

impl Sizes<'_> {
    /// Width of a token of the output.
    fn width(&self) -> usize {
        self.heads * self.head
    }

    /// Keys that a query sees: the first ones, as many as this.
    fn visible(&self, query: usize) -> usize {
        ((query / self.frame + 1) * self.frame).min(self.length)
    }

    /// First query of every block and the one after its last: whole frames if they are small.
    fn blocks(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let (frame, length) = (self.frame, self.length);
        let step = if frame <= BLOCK {
            BLOCK / frame * frame
        } else {
            BLOCK
        };
        (0..length)
            .step_by(step)
            .map(move |first| first..length.min(first + step))
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head as f32).sqrt()
    }

    /// Where a head's columns of a packed token start: its query, key, value.
    fn columns(&self, head: usize) -> [usize; 3] {
        [0, 1, 2].map(|part| part * self.width() + head * self.head)
    }
}

/// Largest score of a query and the inverse of the sum of its exponentials.
pub(crate) type RowStatistics = [f32; 2];

/// `[B, L, heads h]` of packed `[B, L, 3 heads h]`, and the statistics of every row, `[B, heads, L]`.
pub(crate) fn forward(sizes: Sizes<'_>, packed: &[f32]) -> (Vec<f32>, Vec<RowStatistics>) {
    let (length, width) = (sizes.length, sizes.width());
    let mut output = vec![0.0; packed.len() / 3];
    let mut statistics = vec![[0.0; 2]; packed.len() / 3 / sizes.head];
    let rows = SharedRows::new(&mut output, width);
    statistics.par_chunks_mut(length).enumerate().for_each_init(
        || Scratch::new(sizes),
        |scratch, (task, statistics)| {
            let (image, head) = (task / sizes.heads, task % sizes.heads);
            let packed = &packed[image * length * 3 * width..][..length * 3 * width];
            let operands = Operands::read(sizes, packed, head, &mut scratch.placed);
            for block in sizes.blocks() {
                let result = &mut scratch.result[..block.len() * sizes.head];
                let statistics = &mut statistics[block.clone()];
                operands.attend(&block, &mut scratch.scores, statistics, result);
                for (query, (values, &[_, inverse])) in
                    block.zip(result.chunks_exact(sizes.head).zip(&*statistics))
                {
                    // SAFETY: `(image, query, head)` belongs to this task alone.
                    let row =
                        unsafe { rows.part(image * length + query, head * sizes.head, sizes.head) };
                    for (y, x) in row.iter_mut().zip(values) {
                        *y = x * inverse;
                    }
                }
            }
        },
    );
    (output, statistics)
}

/// Gradient of the packed input, `[B, L, 3 heads h]`, for the gradient of the output, `[B, L, heads h]`.
pub(crate) fn backward(
    sizes: Sizes<'_>,
    packed: &[f32],
    statistics: &[RowStatistics],
    grad: &[f32],
) -> Vec<f32> {
    let (length, width) = (sizes.length, sizes.width());
    let mut packed_grad = vec![0.0; packed.len()];
    let rows = SharedRows::new(&mut packed_grad, 3 * width);
    statistics.par_chunks(length).enumerate().for_each_init(
        || (Scratch::new(sizes), vec![0.0; 3 * length * sizes.head]),
        |(scratch, grads), (task, statistics)| {
            let (image, head) = (task / sizes.heads, task % sizes.heads);
            let packed = &packed[image * length * 3 * width..][..length * 3 * width];
            let grad = &grad[image * length * width..][..length * width];
            let operands = Operands::read(sizes, packed, head, &mut scratch.placed);
            let buffers = [&mut scratch.scores, &mut scratch.score_grads].map(Vec::as_mut_slice);
            operands.propagate(statistics, &grad[head * sizes.head..], buffers, grads);
            let parts = grads.chunks_exact(length * sizes.head);
            for ((part, values), start) in parts.enumerate().zip(sizes.columns(head)) {
                for (token, values) in values.chunks_exact(sizes.head).enumerate() {
                    // SAFETY: `(image, token, head)` belongs to this task alone.
                    let row = unsafe { rows.part(image * length + token, start, sizes.head) };
                    match sizes.rope {
                        Some(rope) if part < 2 => fastest(TurnBack {
                            rope,
                            token,
                            grad: values,
                            target: row,
                        }),
                        _ => row.copy_from_slice(values),
                    }
                }
            }
        },
    );
    packed_grad
}

/// Rows of numbers of which every task writes its own columns.
struct SharedRows<'a> {
    start: *mut f32,
    width: usize,
    count: usize,
    whole: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer stands for an exclusive borrow of numbers; `part` hands out pieces of it, and who calls it promises
// that no two of them overlap.
unsafe impl Sync for SharedRows<'_> {}

impl<'a> SharedRows<'a> {
    fn new(values: &'a mut [f32], width: usize) -> Self {
        Self {
            start: values.as_mut_ptr(),
            width,
            count: values.len() / width,
            whole: std::marker::PhantomData,
        }
    }

    /// `count` numbers of a row.
    ///
    /// # Safety
    /// No other part that is alive has any of these numbers.
    #[expect(clippy::mut_from_ref, reason = "parts do not overlap: see Safety")]
    unsafe fn part(&self, row: usize, column: usize, count: usize) -> &mut [f32] {
        assert!(row < self.count && column + count <= self.width, "inside");
        // SAFETY: inside the borrowed numbers (asserted), and nobody else has them (the caller promises).
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.width + column), count) }
    }
}

/// Buffers of one thread.
struct Scratch {
    /// Queries and keys with their positions in, `[2, L, h]`.
    placed: Vec<f32>,
    /// Scores or probabilities of a block, `[block, L]`.
    scores: Vec<f32>,
    /// Their gradients.
    score_grads: Vec<f32>,
    /// A block of results, `[block, h]`.
    result: Vec<f32>,
}

impl Scratch {
    fn new(sizes: Sizes<'_>) -> Self {
        let block = sizes.blocks().map(|block| block.len()).max().unwrap_or(0);
        Self {
            placed: vec![0.0; 2 * sizes.length * sizes.head],
            scores: vec![0.0; block * sizes.length],
            score_grads: vec![0.0; block * sizes.length],
            result: vec![0.0; block * sizes.head],
        }
    }
}

/// Queries, keys and values of one head, each row after row with a stride.
#[derive(Clone, Copy)]
struct Operands<'a> {
    sizes: Sizes<'a>,
    queries: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    /// Stride of queries and keys.
    stride: usize,
    /// Stride of values.
    value_stride: usize,
}

impl<'a> Operands<'a> {
    /// A head of the packed tokens of one image; queries and keys are turned into `placed` if there is a position code.
    fn read(sizes: Sizes<'a>, packed: &'a [f32], head: usize, placed: &'a mut [f32]) -> Self {
        let value_stride = 3 * sizes.width();
        let [query, key, value] = sizes.columns(head);
        let Some(rope) = sizes.rope else {
            return Self {
                sizes,
                queries: &packed[query..],
                keys: &packed[key..],
                values: &packed[value..],
                stride: value_stride,
                value_stride,
            };
        };
        let (queries, keys) = placed.split_at_mut(sizes.length * sizes.head);
        for (start, target) in [(query, &mut *queries), (key, &mut *keys)] {
            fastest(Turn {
                rope,
                source: &packed[start..],
                stride: value_stride,
                target,
            });
        }
        Self {
            sizes,
            queries,
            keys,
            values: &packed[value..],
            stride: sizes.head,
            value_stride,
        }
    }

    fn queries(&self, block: &std::ops::Range<usize>) -> Matrix<'a> {
        let rows = &self.queries[block.start * self.stride..];
        Matrix::strided(rows, block.len(), self.sizes.head, self.stride)
    }

    fn keys(&self, count: usize) -> Matrix<'a> {
        Matrix::strided(self.keys, count, self.sizes.head, self.stride)
    }

    fn values(&self, count: usize) -> Matrix<'a> {
        Matrix::strided(self.values, count, self.sizes.head, self.value_stride)
    }

    /// Scores of a block of queries against the keys that its last one sees; `[block, keys]`.
    fn score(&self, block: &std::ops::Range<usize>, scores: &mut [f32]) {
        let keys = self.keys(self.sizes.visible(block.end - 1));
        let scale = self.sizes.scale();
        multiply(scores, false, scale, self.queries(block), keys.transposed());
    }

    /// The block's sums of values, not yet divided by the sums of weights, and the statistics of its rows.
    fn attend(
        &self,
        block: &std::ops::Range<usize>,
        scores: &mut [f32],
        statistics: &mut [RowStatistics],
        result: &mut [f32],
    ) {
        let count = self.sizes.visible(block.end - 1);
        let scores = &mut scores[..block.len() * count];
        self.score(block, scores);
        fastest(Weights {
            sizes: self.sizes,
            first: block.start,
            scores,
            statistics,
        });
        let weights = Matrix::row_major(scores, block.len(), count);
        multiply(result, false, 1.0, weights, self.values(count));
    }

    /// Gradients of (turned) queries, keys and values, `[3, L, h]`.
    fn propagate(
        &self,
        statistics: &[RowStatistics],
        grad: &[f32],
        [scores, score_grads]: [&mut [f32]; 2],
        grads: &mut [f32],
    ) {
        let (head, scale) = (self.sizes.head, self.sizes.scale());
        let (queries, rest) = grads.split_at_mut(self.sizes.length * head);
        let (keys, values) = rest.split_at_mut(self.sizes.length * head);
        keys.fill(0.0);
        values.fill(0.0);
        for block in self.sizes.blocks() {
            let count = self.sizes.visible(block.end - 1);
            let scores = &mut scores[..block.len() * count];
            let score_grads = &mut score_grads[..block.len() * count];
            self.score(&block, scores);
            let width = self.sizes.width();
            let grad = Matrix::strided(&grad[block.start * width..], block.len(), head, width);
            multiply(
                score_grads,
                false,
                1.0,
                grad,
                self.values(count).transposed(),
            );
            fastest(ScoreGradients {
                sizes: self.sizes,
                first: block.start,
                scores,
                statistics: &statistics[block.clone()],
                grads: score_grads,
            });
            let weights = Matrix::row_major(scores, block.len(), count).transposed();
            multiply(&mut values[..count * head], true, 1.0, weights, grad);
            let score_grads = Matrix::row_major(score_grads, block.len(), count);
            let of_block = &mut queries[block.start * head..block.end * head];
            multiply(of_block, false, scale, score_grads, self.keys(count));
            let of_keys = &mut keys[..count * head];
            multiply(
                of_keys,
                true,
                scale,
                score_grads.transposed(),
                self.queries(&block),
            );
        }
    }
}

/// Writes `exp(score - largest)` over the scores of a block, and 0 where a query may not look.
struct Weights<'a> {
    sizes: Sizes<'a>,
    /// First query of the block.
    first: usize,
    scores: &'a mut [f32],
    statistics: &'a mut [RowStatistics],
}

impl Kernel for Weights<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let count = self.scores.len() / self.statistics.len();
        let rows = self.scores.chunks_exact_mut(count).zip(self.statistics);
        for (i, (row, statistics)) in rows.enumerate() {
            let (seen, blocked) = row.split_at_mut(self.sizes.visible(self.first + i));
            let top = largest(seen);
            let mut lanes = [0.0; LANES];
            let mut chunks = seen.chunks_exact_mut(LANES);
            for chunk in &mut chunks {
                for lane in 0..LANES {
                    let weight = exp_of_negative(chunk[lane] - top);
                    chunk[lane] = weight;
                    lanes[lane] += weight;
                }
            }
            for (score, lane) in chunks.into_remainder().iter_mut().zip(&mut lanes) {
                *score = exp_of_negative(*score - top);
                *lane += *score;
            }
            blocked.fill(0.0);
            *statistics = [top, 1.0 / sum_lanes(lanes)];
        }
    }
}

/// Turns scores into probabilities, and gradients of probabilities into those of scores.
///
/// ```text
/// ds = p (dp - sum(p dp))
/// ```
struct ScoreGradients<'a> {
    sizes: Sizes<'a>,
    /// First query of the block.
    first: usize,
    scores: &'a mut [f32],
    statistics: &'a [RowStatistics],
    grads: &'a mut [f32],
}

impl Kernel for ScoreGradients<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let count = self.scores.len() / self.statistics.len();
        let rows = self
            .scores
            .chunks_exact_mut(count)
            .zip(self.grads.chunks_exact_mut(count));
        for (i, ((scores, grads), &[top, inverse])) in rows.zip(self.statistics).enumerate() {
            let visible = self.sizes.visible(self.first + i);
            let (seen, blocked) = scores.split_at_mut(visible);
            let (grads, blocked_grads) = grads.split_at_mut(visible);
            for score in seen.iter_mut() {
                *score = exp_of_negative(*score - top) * inverse;
            }
            let mean = sum_of_pairs(seen, grads, |p, dp| p * dp);
            for (grad, p) in grads.iter_mut().zip(&*seen) {
                *grad = p * (*grad - mean);
            }
            blocked.fill(0.0);
            blocked_grads.fill(0.0);
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

    fn sizes(length: usize, frame: usize) -> Sizes<'static> {
        Sizes {
            length,
            heads: 2,
            head: 5,
            frame,
            rope: None,
        }
    }

    #[test]
    fn blocks_hold_whole_small_frames_and_parts_of_large_ones() {
        let of = |length, frame| sizes(length, frame).blocks().collect::<Vec<_>>();
        assert_eq!(of(130, 65), [0..64, 64..128, 128..130]);
        assert_eq!(of(60, 20), vec![0..60; 1]);
        assert_eq!(of(120, 20), [0..60, 60..120]);
        let visible = |query| sizes(60, 20).visible(query);
        assert_eq!(
            [visible(0), visible(19), visible(20), visible(59)],
            [20, 20, 40, 60]
        );
    }

    #[test]
    fn weights_have_the_same_bits_on_every_instruction_set_and_are_zero_where_blocked_or_far() {
        let sizes = sizes(60, 20);
        let run = |set: InstructionSet| {
            let mut scores = values(40 * 60, 0.5);
            scores[3] = 90.0;
            let mut statistics = [[0.0; 2]; 40];
            set.run(Weights {
                sizes,
                first: 0,
                scores: &mut scores,
                statistics: &mut statistics,
            });
            let (mut again, mut grads) = (values(40 * 60, 0.5), values(40 * 60, 1.5));
            again[3] = 90.0;
            set.run(ScoreGradients {
                sizes,
                first: 0,
                scores: &mut again,
                statistics: &statistics,
                grads: &mut grads,
            });
            (scores, statistics, again, grads)
        };
        let (scores, statistics, again, grads) = run(InstructionSet::Portable);
        // The first row holds one large score: all others are exactly 0, not 1e-38.
        let expected: Vec<f32> = (0..60).map(|i| f32::from(u8::from(i == 3))).collect();
        assert_eq!(scores[..60], expected);
        for row in 0..40 {
            let blocked = (row / 20 + 1) * 20;
            assert!(
                scores[row * 60..][blocked..60].iter().all(|x| *x == 0.0),
                "{row}"
            );
            assert!(
                again[row * 60..][blocked..60].iter().all(|x| *x == 0.0),
                "{row}"
            );
            assert!(
                grads[row * 60..][blocked..60].iter().all(|x| *x == 0.0),
                "{row}"
            );
            let total: f32 = again[row * 60..][..60].iter().sum();
            assert!((total - 1.0).abs() < 1e-6, "{row}: {total}");
            let of_scores: f32 = grads[row * 60..][..60].iter().sum();
            assert!(of_scores.abs() < 1e-6, "{row}: {of_scores}");
        }
        for set in InstructionSet::available() {
            let found = run(set);
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(bits(&found.0) == bits(&scores), "{set:?}");
            assert!(
                bits(&found.1.concat()) == bits(&statistics.concat()),
                "{set:?}"
            );
            assert!(bits(&found.2) == bits(&again), "{set:?}");
            assert!(bits(&found.3) == bits(&grads), "{set:?}");
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let sizes = sizes(130, 13);
        let (packed, grad) = (values(3 * 130 * 30, 0.0), values(3 * 130 * 10, 1.0));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let (output, statistics) = forward(sizes, &packed);
                let grads = backward(sizes, &packed, &statistics, &grad);
                (output, grads)
            })
        };
        assert_eq!(run(1), run(3));
    }
}
