//! Multi-head self-attention with an optional rotary position code and an optional frame-causal mask.
//!
//! ```text
//! softmax(q k' / sqrt(h)) v        per head of width h
//! ```

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Bool, Device, Tensor, TensorData, activation};

use super::rope::Rope;

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
    plain(packed, heads, rope, mask)
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
        let packed = self.qkv.forward(input);
        self.proj.forward(attend(packed, self.heads, rope, mask))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

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
