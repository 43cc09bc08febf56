//! Multi-head self-attention with an optional rotary position code and an optional frame-causal mask.
//!
//! ```text
//! softmax(q k' / sqrt(h)) v        per head of width h
//! ```
//!
//! The back end's own operations copy queries, keys and values into a layout of their own, write all scores, and take
//! exponentials number by number. [`attend`] reads the packed values where they are, turns them by their positions
//! on the way, keeps the scores of a block of queries in cache, and leaves out the keys that a block may not see.

mod kernel;
mod turn;

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients as GradientStore;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Bool, Device, Tensor, TensorData, activation};
use burn_flex::FlexTensor;

use super::flat::{floats, tensor};
use super::linear::linear;
use super::rope::Rope;
use crate::device::has_fused_operations;
use kernel::{RowStatistics, Sizes};

/// Tokens of a frame see their own frame and all earlier ones (models.md section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameCausal {
    /// Tokens of a frame; the sequence is a whole number of frames.
    pub tokens: usize,
}

impl FrameCausal {
    /// `true` where a query (row) may not look, `[1, 1, L, L]`.
    fn blocked(self, length: usize, device: &Device) -> Tensor<4, Bool> {
        let frame = |token: usize| token / self.tokens;
        let blocked: Vec<bool> = (0..length * length)
            .map(|i| frame(i % length) > frame(i / length))
            .collect();
        Tensor::from_data(TensorData::new(blocked, [1, 1, length, length]), device)
    }
}

/// Attention of packed queries, keys and values.
///
/// # Shapes
/// - `packed`: `[B, L, 3 heads h]`: all queries, then keys, then values, each head after head
/// - output: `[B, L, heads h]`
pub(crate) fn attend(
    packed: Tensor<3>,
    heads: usize,
    rope: Option<&Rope>,
    mask: Option<FrameCausal>,
) -> Tensor<3> {
    if !has_fused_operations(&packed.device()) {
        return plain(packed, heads, rope, mask);
    }
    let settings = Settings {
        heads,
        rope: rope.cloned().map(Arc::new),
        mask,
    };
    Tensor::from_dispatch(<Dispatch as AttentionOps>::attention(
        packed.into_dispatch(),
        settings,
    ))
}

/// [`attend`], made of the back end's own operations.
pub(crate) fn plain(
    packed: Tensor<3>,
    heads: usize,
    rope: Option<&Rope>,
    mask: Option<FrameCausal>,
) -> Tensor<3> {
    let [batch, length, width] = packed.dims();
    let head = width / 3 / heads;
    let parts = packed.reshape([batch, length, 3, heads, head]);
    let part = |index: usize| {
        parts
            .clone()
            .slice_dim(2, index..index + 1)
            .reshape([batch, length, heads, head])
            .swap_dims(1, 2)
    };
    let place = |x: Tensor<4>| match rope {
        Some(rope) => rope.apply(x),
        None => x,
    };
    let (queries, keys, values) = (place(part(0)), place(part(1)), part(2));
    let mut scores = queries.matmul(keys.swap_dims(2, 3)) / (head as f64).sqrt();
    if let Some(mask) = mask.filter(|mask| mask.tokens < length) {
        let blocked = mask.blocked(length, &scores.device());
        scores = scores.mask_fill(blocked, f32::NEG_INFINITY);
    }
    activation::softmax(scores, 3)
        .matmul(values)
        .swap_dims(1, 2)
        .reshape([batch, length, heads * head])
}

/// What an attention is, beside its packed tokens.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    heads: usize,
    rope: Option<Arc<Rope>>,
    mask: Option<FrameCausal>,
}

impl Settings {
    fn sizes(&self, packed: &FlexTensor) -> Sizes<'_> {
        let (length, width) = (packed.shape()[1], packed.shape()[2]);
        let head = width / 3 / self.heads;
        assert_eq!(
            width,
            3 * self.heads * head,
            "width of {} packed heads",
            self.heads
        );
        let rope = self.rope.as_deref();
        if let Some(rope) = rope {
            let expected = [length, head];
            assert_eq!(
                [rope.tokens, rope.head],
                expected,
                "tokens and head of the position code"
            );
        }
        let frame = self.mask.map_or(length, |mask| mask.tokens);
        Sizes {
            length,
            heads: self.heads,
            head,
            frame,
            rope,
        }
    }

    fn forward(&self, packed: &FlexTensor) -> (FlexTensor, Vec<RowStatistics>) {
        let sizes = self.sizes(packed);
        let (output, statistics) = kernel::forward(sizes, floats(packed));
        let shape = [packed.shape()[0], sizes.length, sizes.heads * sizes.head];
        (tensor(output, shape), statistics)
    }
}

/// Operations that the CPU back end runs as one.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait AttentionOps: Backend {
    /// See [`attend`].
    fn attention(packed: FloatTensor<Self>, settings: Settings) -> FloatTensor<Self>;
}

impl AttentionOps for Flex {
    fn attention(packed: FloatTensor<Self>, settings: Settings) -> FloatTensor<Self> {
        settings.forward(&packed.to_contiguous()).0
    }
}

/// What the backward pass needs.
#[derive(Debug, Clone)]
struct Saved {
    packed: FlexTensor,
    statistics: Vec<RowStatistics>,
    settings: Settings,
}

/// Backward pass of the attention.
#[derive(Debug)]
struct AttentionBackward;

impl Backward<Flex, 1> for AttentionBackward {
    type State = Saved;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut GradientStore,
        _checkpointer: &mut Checkpointer,
    ) {
        let [parent] = ops.parents;
        let grad = grads.consume::<Flex>(&ops.node).to_contiguous();
        let Saved {
            packed,
            statistics,
            settings,
        } = &ops.state;
        if let Some(node) = parent {
            let sizes = settings.sizes(packed);
            let of_packed = kernel::backward(sizes, floats(packed), statistics, floats(&grad));
            grads.register::<Flex>(node.id, tensor(of_packed, packed.shape()));
        }
    }
}

impl<C: CheckpointStrategy> AttentionOps for Autodiff<Flex, C> {
    fn attention(packed: FloatTensor<Self>, settings: Settings) -> FloatTensor<Self> {
        let (packed, node) = packed.into_parts();
        let packed = packed.to_contiguous();
        let (output, statistics) = settings.forward(&packed);
        match AttentionBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let saved = Saved {
                    packed,
                    statistics,
                    settings,
                };
                prep.finish(saved, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

/// Self-attention with packed query, key and value weights.
///
/// # Shapes
/// - input and output: `[B, L, D]`
#[derive(Module, Debug)]
pub(crate) struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
}

impl Attention {
    pub(crate) fn new(width: usize, heads: usize, device: &Device) -> Self {
        Self {
            qkv: LinearConfig::new(width, 3 * width).init(device),
            proj: LinearConfig::new(width, width).init(device),
            heads,
        }
    }

    pub(crate) fn forward(
        &self,
        input: Tensor<3>,
        rope: Option<&Rope>,
        mask: Option<FrameCausal>,
    ) -> Tensor<3> {
        let packed = linear(&self.qkv, input);
        linear(&self.proj, attend(packed, self.heads, rope, mask))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;
    use crate::layer::rope::{Position, Variant};

    /// Fused and plain attention on the same numbers, values and gradients.
    fn compare(
        length: usize,
        heads: usize,
        head: usize,
        rope: Option<&Rope>,
        frame: Option<usize>,
    ) {
        let device = Device::flex().autodiff();
        device.seed(11);
        let normal = Distribution::Normal(0.0, 1.3);
        let packed =
            Tensor::<3>::random([2, length, 3 * heads * head], normal, &device).require_grad();
        let mask = frame.map(|tokens| FrameCausal { tokens });
        let fused = attend(packed.clone(), heads, rope, mask);
        let reference = plain(packed.clone(), heads, rope, mask);
        // Sums of up to `length` products, in another order: a few units in the last place of the largest.
        let close = |what: &str, fused: Tensor<3>, plain: Tensor<3>| {
            let largest = plain.clone().abs().max().into_scalar::<f32>();
            let difference = (fused - plain).abs().max().into_scalar::<f32>();
            assert!(
                difference <= 2e-6 * largest,
                "{what}: {difference} of {largest}"
            );
        };
        close("output", fused.clone().inner(), reference.clone().inner());
        let direction = Tensor::<3>::random(fused.dims(), normal, &device);
        let of_fused = (fused * direction.clone()).sum().backward();
        let of_plain = (reference * direction).sum().backward();
        let grad = |grads| packed.grad(grads).unwrap();
        close("gradient", grad(&of_fused), grad(&of_plain));
    }

    /// Positions of frames of `rows x 3` patches.
    fn positions(frames: usize, rows: usize) -> Vec<Position> {
        let place = |i: usize| Some(i as f64);
        (0..frames * rows * 3)
            .map(|token| Position {
                frame: place(token / (3 * rows)),
                row: place(token / 3 % rows),
                column: place(token % 3),
            })
            .collect()
    }

    #[test]
    fn the_fused_attention_equals_the_plain_one_in_values_and_gradients() {
        compare(7, 1, 4, None, None);
        // More than one block, with a rest.
        compare(150, 3, 16, None, None);
    }

    #[test]
    fn it_equals_the_plain_one_behind_a_frame_causal_mask_too() {
        for frame in [1, 6, 30, 66, 132, 1000] {
            compare(132, 2, 12, None, Some(frame));
        }
    }

    #[test]
    fn it_equals_the_plain_one_with_both_position_codes_too() {
        // An odd head, adjacent pairs, in both variants; the released one is no rotation.
        for variant in [Variant::VjepaCompat, Variant::Standard] {
            let rope = Rope::frames_and_grid(&positions(4, 8), 25, variant);
            compare(96, 2, 25, Some(&rope), Some(24));
        }
        let periods: Vec<f32> = (0..4).map(|j| 100_f32.powf(j as f32 / 4.0)).collect();
        let rope = Rope::axial(5, 9, 9, 16, &periods);
        compare(86, 2, 16, Some(&rope), None);
    }

    #[test]
    fn without_gradients_it_is_the_same_function() {
        let device = Device::flex();
        let packed = Tensor::<3>::random([2, 9, 36], Distribution::Normal(0.0, 1.0), &device);
        let tracked =
            Tensor::from_data(packed.to_data(), &device.clone().autodiff()).require_grad();
        let mask = Some(FrameCausal { tokens: 3 });
        assert_eq!(
            attend(packed, 3, None, mask).into_data(),
            attend(tracked, 3, None, mask).into_data()
        );
    }

    #[test]
    fn a_later_frame_does_not_reach_back() {
        let device = Device::flex();
        let attention = Attention::new(12, 2, &device);
        let input = Tensor::<3>::random([1, 6, 12], Distribution::Normal(0.0, 1.0), &device);
        let changed = input
            .clone()
            .slice_assign([0..1, 4..5, 0..12], Tensor::zeros([1, 1, 12], &device));
        let mask = Some(FrameCausal { tokens: 2 });
        let run = |x: Tensor<3>| attention.forward(x, None, mask);
        let (before, after) = (run(input), run(changed));
        let rows = |x: &Tensor<3>, range: std::ops::Range<usize>| {
            x.clone().slice_dim(1, range).into_data()
        };
        assert_eq!(rows(&before, 0..4), rows(&after, 0..4));
        // Token 5 is of the same frame as token 4, so it sees the change.
        assert_ne!(rows(&before, 5..6), rows(&after, 5..6));
    }
}
