//! Rotary positions on plain rows, forward and backward: what [`Rope::apply`] does to one token of one head.
#![expect(
    clippy::inline_always,
    reason = "a kernel must be compiled into the function that enables its instructions"
)]

use crate::layer::rope::{Pairing, Rope};
use crate::layer::simd::Kernel;

/// Puts the positions into the queries or keys of a head, token after token.
pub(super) struct Turn<'a> {
    pub rope: &'a Rope,
    /// Rows of `h` numbers, `stride` apart.
    pub source: &'a [f32],
    pub stride: usize,
    /// `[L, h]`
    pub target: &'a mut [f32],
}

impl Kernel for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let head = self.rope.head;
        let rows = self.target.chunks_exact_mut(head).enumerate();
        for (token, target) in rows {
            let source = &self.source[token * self.stride..][..head];
            let [cosines, sines] = self.rope.of_token(token);
            each_pair(
                self.rope.pairing,
                [source, cosines, sines],
                target,
                |[a, b], [cos_a, cos_b], [sin_a, sin_b]| {
                    [a * cos_a - b * sin_a, b * cos_b + a * sin_b]
                },
            );
        }
    }
}

/// Gradient of the source of [`Turn`] for the gradient of its target: the transpose of its matrix, which is the
/// inverse for true rotations only. Row by row, as the rows of the result belong to a larger array.
pub(super) struct TurnBack<'a> {
    pub rope: &'a Rope,
    pub token: usize,
    /// `[h]`
    pub grad: &'a [f32],
    /// `[h]`
    pub target: &'a mut [f32],
}

impl Kernel for TurnBack<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let [cosines, sines] = self.rope.of_token(self.token);
        each_pair(
            self.rope.pairing,
            [self.grad, cosines, sines],
            self.target,
            |[a, b], [cos_a, cos_b], [sin_a, sin_b]| [a * cos_a + b * sin_b, b * cos_b - a * sin_a],
        );
    }
}

/// Applies `map` to values, cosines and sines of every pair of channels; the last channel of an odd head has no
/// partner and is multiplied by its cosine.
#[inline(always)]
fn each_pair(
    pairing: Pairing,
    [values, cosines, sines]: [&[f32]; 3],
    target: &mut [f32],
    map: impl Fn([f32; 2], [f32; 2], [f32; 2]) -> [f32; 2],
) {
    let head = target.len();
    let half = head / 2;
    match pairing {
        Pairing::Adjacent => {
            let turned = values
                .chunks_exact(2)
                .zip(cosines.chunks_exact(2).zip(sines.chunks_exact(2)));
            for (out, (x, (c, s))) in target.chunks_exact_mut(2).zip(turned) {
                let [first, second] = map([x[0], x[1]], [c[0], c[1]], [s[0], s[1]]);
                (out[0], out[1]) = (first, second);
            }
        }
        Pairing::Halves => {
            let (low, high) = target.split_at_mut(half);
            let (x, c, s) = (
                &values[..2 * half],
                &cosines[..2 * half],
                &sines[..2 * half],
            );
            let (low, high) = (&mut low[..half], &mut high[..half]);
            for a in 0..half {
                let b = a + half;
                [low[a], high[a]] = map([x[a], x[b]], [c[a], c[b]], [s[a], s[b]]);
            }
        }
    }
    if !head.is_multiple_of(2) {
        target[head - 1] = values[head - 1] * cosines[head - 1];
    }
}
