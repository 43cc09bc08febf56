//! Rotary position codes: tables of cosines and sines, and their application to queries and keys.
//!
//! Three kinds are used (models.md):
//! - [`Rope::frames_and_grid`]: V-JEPA 2's three-axis code as released (section 1.6), in which the two
//!   members of a rotated pair have *different* frequencies; not a rotation, kept for its checkpoints;
//! - the same with [`Variant::Standard`], which is one;
//! - [`Rope::axial`]: `DINOv3`'s code over rows and columns (section 1.3), a true rotation of the two halves of
//!   the head.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Which frequencies the members of a pair have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Channel `i` of a chunk of width `c` has frequency `i mod (c/2)`, as released.
    #[default]
    VjepaCompat,
    /// Both channels of pair `m` have frequency `m`.
    Standard,
}

/// Which channels are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairing {
    /// Channels `2m` and `2m + 1`.
    Adjacent,
    /// Channels `m` and `m + h/2`.
    Halves,
}

/// Where one token is. Tokens without a row rotate by their frame only, those without anything not at all.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Position {
    pub frame: Option<f64>,
    pub row: Option<f64>,
    pub column: Option<f64>,
}

/// Cosines and sines for every token and channel of a head.
///
/// # Shapes
/// - `cosines`, `sines`: `[L, h]`; `out = x * cos + rotate(x) * sin`
#[derive(Debug, Clone)]
pub(crate) struct Rope {
    pub cosines: Vec<f32>,
    pub sines: Vec<f32>,
    pub tokens: usize,
    pub head: usize,
    pub pairing: Pairing,
}

impl Rope {
    /// V-JEPA 2's code for tokens at `positions` in heads of width `head` (models.md section 1.6): channels
    /// `[0, c)` rotate by the frame, `[c, 2c)` by the row, `[2c, 3c)` by the column, the rest not, with
    /// `c = 2 floor(floor(head / 3) / 2)`.
    pub(crate) fn frames_and_grid(positions: &[Position], head: usize, variant: Variant) -> Self {
        let chunk = 2 * (head / 3 / 2);
        let half = chunk / 2;
        let frequency = |channel: usize| {
            let j = match variant {
                Variant::VjepaCompat => channel % half,
                Variant::Standard => channel / 2,
            };
            libm::pow(10_000.0, -(j as f64) / half as f64)
        };
        let angle = |position: &Position, channel: usize| {
            let axes = [position.frame, position.row, position.column];
            let axis = channel.checked_div(chunk).unwrap_or(axes.len());
            let place = axes.get(axis).copied().flatten()?;
            Some(place * frequency(channel % chunk))
        };
        Self::new(
            positions.len(),
            head,
            Pairing::Adjacent,
            |token, channel| angle(&positions[token], channel),
        )
    }

    /// `DINOv3`'s code: `prefix` tokens that are not rotated, then a grid of `rows x columns` patches, with the
    /// periods of the file (models.md section 1.3).
    pub(crate) fn axial(
        prefix: usize,
        rows: usize,
        columns: usize,
        head: usize,
        periods: &[f32],
    ) -> Self {
        let quarter = head / 4;
        assert_eq!(
            periods.len(),
            quarter,
            "one period per row angle of a head of {head}"
        );
        let centre = |index: usize, count: usize| 2.0 * (index as f64 + 0.5) / count as f64 - 1.0;
        Self::new(
            prefix + rows * columns,
            head,
            Pairing::Halves,
            |token, channel| {
                let patch = token.checked_sub(prefix)?;
                let place = match channel % (2 * quarter) / quarter {
                    0 => centre(patch / columns, rows),
                    _ => centre(patch % columns, columns),
                };
                let period = f64::from(periods[channel % quarter]);
                Some(2.0 * std::f64::consts::PI * place / period)
            },
        )
    }

    fn new(
        tokens: usize,
        head: usize,
        pairing: Pairing,
        angle: impl Fn(usize, usize) -> Option<f64>,
    ) -> Self {
        let mut rope = Self {
            cosines: Vec::with_capacity(tokens * head),
            sines: Vec::with_capacity(tokens * head),
            tokens,
            head,
            pairing,
        };
        for token in 0..tokens {
            for channel in 0..head {
                let angle = angle(token, channel).unwrap_or(0.0);
                rope.cosines.push(libm::cos(angle) as f32);
                rope.sines.push(libm::sin(angle) as f32);
            }
        }
        rope
    }

    /// Cosines and sines of one token.
    pub(crate) fn of_token(&self, token: usize) -> [&[f32]; 2] {
        let row = token * self.head..(token + 1) * self.head;
        [&self.cosines[row.clone()], &self.sines[row]]
    }

    /// Queries or keys with their positions in, made of the back end's own operations: what the kernels are
    /// compared with.
    ///
    /// # Shapes
    /// - input and output: `[B, heads, L, h]`
    pub(crate) fn apply(&self, input: Tensor<4>) -> Tensor<4> {
        let device = input.device();
        let table = |values: &[f32]| {
            let data = TensorData::new(values.to_vec(), [1, 1, self.tokens, self.head]);
            Tensor::<4>::from_data(data, &device)
        };
        let turned = match self.pairing {
            Pairing::Adjacent => turn_pairs(input.clone()),
            Pairing::Halves => turn_halves(input.clone()),
        };
        input * table(&self.cosines) + turned * table(&self.sines)
    }
}

/// `[x0, x1, x2, x3, ..]` to `[-x1, x0, -x3, x2, ..]`; an odd last channel becomes zero.
fn turn_pairs(input: Tensor<4>) -> Tensor<4> {
    let [batch, heads, tokens, width] = input.dims();
    let even = width / 2 * 2;
    let paired = input
        .slice([0..batch, 0..heads, 0..tokens, 0..even])
        .reshape([batch, heads, tokens, even / 2, 2]);
    let first = paired.clone().slice_dim(4, 0..1);
    let second = paired.slice_dim(4, 1..2);
    let turned = Tensor::cat(vec![second.neg(), first], 4).reshape([batch, heads, tokens, even]);
    if even == width {
        return turned;
    }
    let rest = Tensor::zeros([batch, heads, tokens, width - even], &turned.device());
    Tensor::cat(vec![turned, rest], 3)
}

/// `[a, b]` to `[-b, a]`, where both are half of the head.
fn turn_halves(input: Tensor<4>) -> Tensor<4> {
    let width = input.dims()[3];
    let first = input.clone().slice_dim(3, 0..width / 2);
    let second = input.slice_dim(3, width / 2..width);
    Tensor::cat(vec![second.neg(), first], 3)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn rotate(head: usize, variant: Variant, frame: f64, values: &[f32]) -> Vec<f32> {
        let position = Position {
            frame: Some(frame),
            ..Position::default()
        };
        let rope = Rope::frames_and_grid(&[position], head, variant);
        let data = TensorData::new(values.to_vec(), [1, 1, 1, head]);
        let input = Tensor::<4>::from_data(data, &Device::flex());
        rope.apply(input).into_data().try_to_vec::<f32>().unwrap()
    }

    fn close(values: &[f32], expected: &[f32]) {
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 2e-6, "{values:?} {expected:?}");
        }
    }

    #[test]
    fn the_released_code_gives_its_test_vectors() {
        // models.md section 1.6; heads of 12 have chunks of 4, heads of 24 chunks of 8.
        let four: Vec<f32> = (1..=12).map(|i| i as f32).collect();
        let out = rotate(12, Variant::VjepaCompat, 1.0, &four);
        close(
            &out[..4],
            &[-1.142_639_7, 2.009_899_8, -1.744_977, 4.029_799_5],
        );
        assert_eq!(out[4..], four[4..], "no row and no column: not rotated");
        let out = rotate(12, Variant::VjepaCompat, 2.0, &four);
        close(
            &out[..4],
            &[-2.234_741_7, 2.019_598_7, -4.885_63, 4.059_196],
        );
        let eight: Vec<f32> = (1..=24).map(|i| i as f32).collect();
        let out = rotate(24, Variant::VjepaCompat, 3.0, &eight);
        close(
            &out[..8],
            &[
                -1.272_232_5,
                2.206_193_2,
                2.878_668,
                4.008_982,
                -5.796_682_5,
                7.209_62,
                6.756_886,
                8.020_964,
            ],
        );
    }

    #[test]
    fn the_standard_code_keeps_lengths_and_the_released_one_does_not() {
        let values: Vec<f32> = (0..25).map(|i| (i as f32 * 0.7).sin()).collect();
        let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>();
        let standard = rotate(25, Variant::Standard, 2.0, &values);
        assert!((length(&standard) - length(&values)).abs() < 1e-5);
        let released = rotate(25, Variant::VjepaCompat, 2.0, &values);
        assert!((length(&released) - length(&values)).abs() > 1e-2);
        assert_eq!(
            standard[24].to_bits(),
            values[24].to_bits(),
            "25 = 3 * 8 + 1: the last is left"
        );
    }

    #[test]
    fn axial_angles_are_those_of_dinov3() {
        // models.md section 1.3: periods 100^(j/16); prefix tokens are not rotated.
        let periods: Vec<f32> = (0..16).map(|j| 100_f32.powf(j as f32 / 16.0)).collect();
        let rope = Rope::axial(5, 4, 2, 64, &periods);
        assert!(
            rope.cosines[..5 * 64]
                .iter()
                .all(|c| (c - 1.0).abs() < f32::EPSILON)
        );
        // Token 5 + 3 is row 1, column 1: row centre -0.25, column centre 0.5.
        let at = (5 + 3) * 64;
        let angle =
            |place: f64, j: usize| 2.0 * std::f64::consts::PI * place / f64::from(periods[j]);
        for j in 0..16 {
            for offset in [0, 32] {
                let (row, column) = (at + offset + j, at + offset + 16 + j);
                assert!((f64::from(rope.cosines[row]) - angle(-0.25, j).cos()).abs() < 1e-6);
                assert!((f64::from(rope.sines[column]) - angle(0.5, j).sin()).abs() < 1e-6);
            }
        }
    }
}
