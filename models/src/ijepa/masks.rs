//! Multi-block masks: which patches an I-JEPA sees, and which blocks of them it predicts (arXiv 2301.08243, section 3).

use jepa_datasets::Stream;
use serde::{Deserialize, Serialize};

use crate::predictor::Grid;
use crate::{Error, Result};

/// How blocks are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskConfig {
    /// Blocks that are predicted of every frame.
    pub targets: usize,
    /// Least and largest area of a predicted block, as a share of the grid.
    pub target_scale: [f64; 2],
    /// Least and largest height of a predicted block, in widths.
    pub target_aspect: [f64; 2],
    /// Least and largest area of the square block that is seen, as a share of the grid, before the predicted ones are
    /// cut out of it.
    pub context_scale: [f64; 2],
    /// Patches that are seen of a frame at least; its blocks are drawn again where they leave fewer.
    pub least_seen: usize,
}

impl Default for MaskConfig {
    /// The published ones, but for the least that is seen, which is 10 of larger grids there.
    fn default() -> Self {
        Self {
            targets: 4,
            target_scale: [0.15, 0.2],
            target_aspect: [0.75, 1.5],
            context_scale: [0.85, 1.0],
            least_seen: 8,
        }
    }
}

impl MaskConfig {
    /// Checks the values that no type bounds.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |key, detail: String| Err(Error::Config { key, detail });
        if self.targets == 0 {
            let detail = "must be at least 1".into();
            return wrong("token.encoder.ijepa.masks.targets", detail);
        }
        let scales = [
            (
                "token.encoder.ijepa.masks.target_scale",
                self.target_scale,
                1.0,
            ),
            (
                "token.encoder.ijepa.masks.context_scale",
                self.context_scale,
                1.0,
            ),
            (
                "token.encoder.ijepa.masks.target_aspect",
                self.target_aspect,
                f64::MAX,
            ),
        ];
        for (key, [low, high], most) in scales {
            if !(low > 0.0 && low <= high && high <= most) {
                let detail = format!("must rise from above 0 to at most {most}, is {low}, {high}");
                return wrong(key, detail);
            }
        }
        Ok(())
    }

    /// Checks that blocks of every size can leave enough to see: at worst, when they all lie in one place.
    pub(crate) fn check_on(&self, grid: Grid) -> Result<()> {
        // Rounding adds at most half a patch to a side.
        let area = self.target_scale[1] * grid.tokens() as f64;
        let largest =
            |aspect: f64| area + f64::midpoint((area * aspect).sqrt(), (area / aspect).sqrt());
        let largest = self.target_aspect.map(largest).into_iter();
        let largest = largest.fold(0.0, f64::max) + 0.25;
        let [height, width] = sides(grid, self.context_scale[0], 1.0);
        let left = (height * width) as f64 - largest;
        if self.least_seen == 0 || left < self.least_seen as f64 {
            return Err(Error::Config {
                key: "token.encoder.ijepa.masks.least_seen",
                detail: format!(
                    "must be from 1 to the {} patches that a block may leave of a grid of {}x{}, is {}",
                    left.max(0.0).floor(),
                    grid.rows,
                    grid.columns,
                    self.least_seen
                ),
            });
        }
        Ok(())
    }

    /// Masks of a batch. Sizes of blocks are those of the batch, from the stream `masks` of the step; where they lie in
    /// a frame comes from a stream of the frame's own.
    pub(crate) fn draw(&self, seed: u64, step: u64, frames: usize, grid: Grid) -> Masks {
        let step = step.to_string();
        let mut sizes = Stream::new(seed, &["masks", &step]);
        let target = block_size(&mut sizes, grid, self.target_scale, self.target_aspect);
        let context = block_size(&mut sizes, grid, self.context_scale, [1.0, 1.0]);
        let mut targets = vec![Vec::with_capacity(frames); self.targets];
        let mut visible = Vec::with_capacity(frames);
        for frame in 0..frames {
            let mut places = Stream::new(seed, &["masks", &step, &frame.to_string()]);
            let (seen, blocks) = loop {
                let (seen, blocks) = self.place(&mut places, grid, context, target);
                if seen.len() >= self.least_seen {
                    break (seen, blocks);
                }
            };
            visible.push(seen);
            for (of_frames, block) in targets.iter_mut().zip(blocks) {
                of_frames.push(block);
            }
        }
        let fewest = visible.iter().map(Vec::len).min().unwrap_or_default();
        for seen in &mut visible {
            seen.truncate(fewest);
            seen.sort_unstable();
        }
        Masks { visible, targets }
    }

    /// What is seen of a frame, in random order, and its predicted blocks.
    fn place(
        &self,
        stream: &mut Stream,
        grid: Grid,
        context: [usize; 2],
        target: [usize; 2],
    ) -> (Vec<usize>, Vec<Vec<usize>>) {
        let blocks: Vec<_> = (0..self.targets)
            .map(|_| block(stream, grid, target))
            .collect();
        let mut seen = block(stream, grid, context);
        seen.retain(|place| !blocks.iter().any(|block| block.contains(place)));
        // Another frame of the batch may have fewer: chance decides which of them stay.
        stream.shuffle(&mut seen);
        (seen, blocks)
    }
}

/// Patches by their places in the grid, row by row.
#[derive(Debug, PartialEq)]
pub(crate) struct Masks {
    /// What is seen of every frame, `[B][K]`.
    pub visible: Vec<Vec<usize>>,
    /// Blocks that are predicted, `[M][B][T]`; none of them is seen.
    pub targets: Vec<Vec<Vec<usize>>>,
}

/// Height and width of a block with a share of the grid.
fn sides(grid: Grid, scale: f64, aspect: f64) -> [usize; 2] {
    let area = scale * grid.tokens() as f64;
    let side = |length: f64, most: usize| (length.round() as usize).clamp(1, most);
    [
        side((area * aspect).sqrt(), grid.rows),
        side((area / aspect).sqrt(), grid.columns),
    ]
}

fn block_size(
    stream: &mut Stream,
    grid: Grid,
    [least, most]: [f64; 2],
    [flat, tall]: [f64; 2],
) -> [usize; 2] {
    let scale = least + (most - least) * stream.uniform();
    let aspect = flat + (tall - flat) * stream.uniform();
    sides(grid, scale, aspect)
}

/// The places of a block of this size somewhere in the grid.
fn block(stream: &mut Stream, grid: Grid, [height, width]: [usize; 2]) -> Vec<usize> {
    let mut below = |n: usize| stream.below(n as u64) as usize;
    let (top, left) = (
        below(grid.rows - height + 1),
        below(grid.columns - width + 1),
    );
    let rows = top..top + height;
    rows.flat_map(|row| (left..left + width).map(move |column| row * grid.columns + column))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const GRID: Grid = Grid {
        rows: 8,
        columns: 8,
    };

    #[test]
    fn what_is_predicted_is_a_block_and_is_not_seen() {
        let masks = MaskConfig::default();
        masks.check_on(GRID).unwrap();
        let mut sizes = BTreeSet::new();
        for step in 0..50 {
            let drawn = masks.draw(7, step, 6, GRID);
            let visible = drawn.visible[0].len();
            assert!(visible >= masks.least_seen);
            assert_eq!(drawn.targets.len(), 4);
            for blocks in &drawn.targets {
                for (block, seen) in blocks.iter().zip(&drawn.visible) {
                    assert_eq!(seen.len(), visible);
                    assert!(block.iter().all(|place| !seen.contains(place)));
                    let rows: BTreeSet<usize> = block.iter().map(|place| place / 8).collect();
                    let columns: BTreeSet<usize> = block.iter().map(|place| place % 8).collect();
                    assert_eq!(block.len(), rows.len() * columns.len());
                    let span =
                        |side: &BTreeSet<usize>| side.last().unwrap() - side.first().unwrap();
                    assert_eq!(span(&rows) + 1, rows.len());
                    assert_eq!(span(&columns) + 1, columns.len());
                    sizes.insert((rows.len(), columns.len()));
                }
            }
        }
        // 9.6 to 12.8 patches, three quarters to one and a half times as high as wide.
        let expected = [(3, 3), (3, 4), (4, 3)];
        assert!(
            expected.iter().all(|size| sizes.contains(size)),
            "{sizes:?}"
        );
        assert!(
            sizes
                .iter()
                .all(|(h, w)| (3..=4).contains(h) && (3..=4).contains(w))
        );
    }

    #[test]
    fn masks_depend_on_seed_step_and_frame_alone() {
        let masks = MaskConfig::default();
        let drawn = masks.draw(7, 3, 8, GRID);
        assert_eq!(drawn, masks.draw(7, 3, 8, GRID));
        let few = masks.draw(7, 3, 2, GRID);
        for (blocks, of_few) in drawn.targets.iter().zip(&few.targets) {
            assert_eq!(blocks[..2], of_few[..]);
        }
        assert_ne!(drawn, masks.draw(7, 4, 8, GRID));
        assert_ne!(drawn, masks.draw(8, 3, 8, GRID));
        assert_ne!(drawn.targets[0][0], drawn.targets[0][1]);
    }

    #[test]
    fn blocks_that_could_hide_everything_are_refused() {
        let error = |masks: MaskConfig| masks.check_on(GRID).unwrap_err().to_string();
        let large = MaskConfig {
            target_scale: [0.15, 0.7],
            ..MaskConfig::default()
        };
        assert!(error(large).contains("8x8"), "{}", error(large));
        let named = |change: fn(&mut MaskConfig), key: &str| {
            let mut masks = MaskConfig::default();
            change(&mut masks);
            let error = masks.check().unwrap_err().to_string();
            assert!(error.contains(&format!("ijepa.masks.{key}`")), "{error}");
        };
        named(|m| m.targets = 0, "targets");
        named(|m| m.target_scale = [0.2, 0.1], "target_scale");
        named(|m| m.context_scale = [0.5, 1.5], "context_scale");
        named(|m| m.target_aspect = [0.0, 1.0], "target_aspect");
    }
}
