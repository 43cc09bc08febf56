//! The tokens of a frame as the predictors with rotary positions take them: condition tokens, then patches.
//!
//! ```text
//! [action] [proprio] [camera]  patch 0  patch 1  ..        each [visual | proprio | action] wide
//! ```
//!
//! Which of the condition tokens and of the extra channels there are is the predictor's choice.

use burn::tensor::Tensor;

use super::Grid;
use crate::layer::attention::FrameCausal;
use crate::layer::rope::{Position, Rope, Variant};

/// Places of the tokens of a frame.
#[derive(Debug, Clone)]
pub(crate) struct FrameTokens {
    grid: Grid,
    /// Condition tokens before the patches.
    conditions: usize,
    variant: Variant,
    /// Rotations of `frames` frames; those of fewer are its beginning.
    rope: Rope,
    frames: usize,
}

impl FrameTokens {
    /// For heads of width `head`; the rotations of up to `frames` frames are kept ready.
    pub(crate) fn new(
        grid: Grid,
        conditions: usize,
        head: usize,
        variant: Variant,
        frames: usize,
    ) -> Self {
        let positions = positions(grid, conditions, frames);
        Self {
            grid,
            conditions,
            variant,
            rope: Rope::frames_and_grid(&positions, head, variant),
            frames,
        }
    }

    /// Tokens per frame, conditions included.
    pub(crate) fn count(&self) -> usize {
        self.conditions + self.grid.tokens()
    }

    pub(crate) fn mask(&self) -> FrameCausal {
        FrameCausal {
            tokens: self.count(),
        }
    }

    /// Rotations of `frames` frames, counted from the first one fed (models.md section 1.6).
    pub(crate) fn rope(&self, frames: usize) -> Rope {
        if frames > self.frames {
            let positions = positions(self.grid, self.conditions, frames);
            return Rope::frames_and_grid(&positions, self.rope.head, self.variant);
        }
        let tokens = frames * self.count();
        let numbers = tokens * self.rope.head;
        Rope {
            cosines: self.rope.cosines[..numbers].to_vec(),
            sines: self.rope.sines[..numbers].to_vec(),
            tokens,
            ..self.rope
        }
    }

    /// Condition tokens in front of the patches of every frame, all frames in one sequence.
    ///
    /// # Shapes
    /// - `conditions`: `[B, T, 1, D]` each; `patches`: `[B, T, N, D]`; output `[B, T (K + N), D]`
    pub(crate) fn join(&self, conditions: Vec<Tensor<4>>, patches: Tensor<4>) -> Tensor<3> {
        assert_eq!(
            conditions.len(),
            self.conditions,
            "condition tokens per frame"
        );
        let [batch, frames, _, width] = patches.dims();
        let mut tokens = conditions;
        tokens.push(patches);
        let all = if tokens.len() == 1 {
            tokens.remove(0)
        } else {
            Tensor::cat(tokens, 2)
        };
        all.reshape([batch, frames * self.count(), width])
    }

    /// The sequence as frames again, `[B, T, K + N, D]`.
    pub(crate) fn frames(&self, sequence: Tensor<3>) -> Tensor<4> {
        let [batch, length, width] = sequence.dims();
        let count = self.count();
        sequence.reshape([batch, length / count, count, width])
    }

    /// The patches of frames, `[B, T, N, D]`.
    pub(crate) fn patches(&self, frames: Tensor<4>) -> Tensor<4> {
        frames.slice_dim(2, self.conditions..self.count())
    }
}

/// Conditions know their frame only.
fn positions(grid: Grid, conditions: usize, frames: usize) -> Vec<Position> {
    let tokens = (0..frames).flat_map(|frame| {
        let place = move |row_and_column: Option<(usize, usize)>| Position {
            frame: Some(frame as f64),
            row: row_and_column.map(|(row, _)| row as f64),
            column: row_and_column.map(|(_, column)| column as f64),
        };
        let patches = (0..grid.tokens()).map(move |i| Some((i / grid.columns, i % grid.columns)));
        std::iter::repeat_n(None, conditions)
            .chain(patches)
            .map(place)
    });
    tokens.collect()
}

/// More channels for every token: `features` that are the same for all tokens of a frame are repeated.
///
/// # Shapes
/// - `tokens`: `[B, T, N, D]`; `features`: `[B, T, N or 1, F]` each; output `[B, T, N, D + F + ..]`
pub(crate) fn with_features(tokens: Tensor<4>, features: Vec<Tensor<4>>) -> Tensor<4> {
    if features.is_empty() {
        return tokens;
    }
    let count = tokens.dims()[2];
    let mut parts = vec![tokens];
    parts.extend(features.into_iter().map(|feature| match feature.dims()[2] {
        1 => feature.repeat_dim(2, count),
        _ => feature,
    }));
    Tensor::cat(parts, 3)
}

/// Channels `from..to` of every token.
pub(crate) fn channels(tokens: Tensor<4>, from: usize, to: usize) -> Tensor<4> {
    if from == 0 && to == tokens.dims()[3] {
        return tokens;
    }
    tokens.slice_dim(3, from..to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_few_frames_are_the_beginning_of_those_of_many() {
        let grid = Grid {
            rows: 2,
            columns: 3,
        };
        let ready = FrameTokens::new(grid, 2, 13, Variant::VjepaCompat, 3);
        for frames in 1..=5 {
            let fresh = FrameTokens::new(grid, 2, 13, Variant::VjepaCompat, frames);
            let (ours, expected) = (ready.rope(frames), fresh.rope(frames));
            assert_eq!(ours.tokens, frames * 8);
            assert_eq!(ours.cosines, expected.cosines);
            assert_eq!(ours.sines, expected.sines);
        }
    }

    #[test]
    fn conditions_come_first_and_have_no_row() {
        let grid = Grid {
            rows: 2,
            columns: 3,
        };
        let all = positions(grid, 1, 2);
        assert_eq!(all.len(), 14);
        assert_eq!((all[7].frame, all[7].row), (Some(1.0), None));
        let last = Position {
            frame: Some(1.0),
            row: Some(1.0),
            column: Some(2.0),
        };
        assert_eq!(all[13], last);
    }
}
