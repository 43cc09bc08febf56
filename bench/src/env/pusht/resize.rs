//! Bilinear reduction of the canvas, with the bits of `OpenCV` (`INTER_LINEAR` of 8-bit images, versions 4 and 5).
//!
//! Weights are multiples of 1/2048. Sums along rows keep all bits; of these, four are dropped before the sums along
//! columns and 16 after each product, and what is left is rounded to a quarter.

use super::canvas::{Area, Canvas};
use crate::env::Image;

/// One on the scale of weights.
const ONE: f32 = 2048.0;

/// The two source pixels of an output pixel along an axis, and their weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tap {
    low: i32,
    high: i32,
    weights: [i32; 2],
}

/// Reduces square images of one size to another.
#[derive(Debug, Clone)]
pub(super) struct Resize {
    taps: Vec<Tap>,
}

impl Resize {
    pub(super) fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let last = from as i32 - 1;
        let tap = |at: usize| {
            let position = ((at as f64 + 0.5) * scale - 0.5) as f32;
            let low = position.floor();
            let share = position - low;
            let (low, share) = match low as i32 {
                low if low < 0 => (0, 0.0),
                low if low >= last => (last, 0.0),
                low => (low, share),
            };
            Tap {
                low,
                high: (low + 1).min(last),
                weights: [1.0 - share, share].map(|weight| (weight * ONE).round_ties_even() as i32),
            }
        };
        Self {
            taps: (0..to).map(tap).collect(),
        }
    }

    /// Output pixels that depend on an area of the source, along both axes.
    fn touched(&self, area: Area) -> [std::ops::Range<usize>; 2] {
        [0, 1].map(|axis| {
            let first = self.taps.partition_point(|tap| tap.high < area.from[axis]);
            let end = self.taps.partition_point(|tap| tap.low < area.to[axis]);
            first..end.max(first)
        })
    }

    /// The area of the source that must be known to update what depends on `area`.
    pub(super) fn needed(&self, area: Area) -> Option<Area> {
        let ranges = self.touched(area);
        if ranges.iter().any(std::ops::Range::is_empty) {
            return None;
        }
        let [columns, rows] = ranges.map(|range| {
            [
                self.taps[range.start].low,
                self.taps[range.end - 1].high + 1,
            ]
        });
        Some(Area {
            from: [columns[0], rows[0]],
            to: [columns[1], rows[1]],
        })
    }

    /// Writes every pixel of `image` that depends on `area`; `source` holds what [`Self::needed`] says.
    pub(super) fn update(&self, image: &mut Image, source: &Canvas, area: Area) {
        let [columns, rows] = self.touched(area);
        let columns = &self.taps[columns.clone()];
        let first_column = self.touched(area)[0].start;
        let mut wide = [Row::new(columns.len()), Row::new(columns.len())];
        for row in rows {
            let tap = self.taps[row];
            if wide[1].is(tap.low) {
                wide.swap(0, 1);
            }
            wide[0].fill(source, columns, tap.low);
            wide[1].fill(source, columns, tap.high);
            let at = 3 * (row * image.width + first_column);
            let out = &mut image.rgb[at..at + 3 * columns.len()];
            let [upper, lower] = &wide;
            for ((out, upper), lower) in out.iter_mut().zip(&upper.sums).zip(&lower.sums) {
                let sum = ((tap.weights[0] * (upper >> 4)) >> 16)
                    + ((tap.weights[1] * (lower >> 4)) >> 16);
                *out = ((sum + 2) >> 2) as u8;
            }
        }
    }
}

/// A row of the source, summed along itself.
struct Row {
    /// Its number, or -1.
    row: i32,
    /// `[w, 3]`.
    sums: Vec<i32>,
}

impl Row {
    fn new(width: usize) -> Self {
        Self {
            row: -1,
            sums: vec![0; 3 * width],
        }
    }

    fn is(&self, row: i32) -> bool {
        self.row == row
    }

    fn fill(&mut self, source: &Canvas, columns: &[Tap], row: i32) {
        if self.is(row) {
            return;
        }
        self.row = row;
        let left = source.area.from[0];
        let start = source.at([left, row]);
        let pixels = source.rgb[start..].as_chunks::<3>().0;
        for (sums, tap) in self.sums.as_chunks_mut::<3>().0.iter_mut().zip(columns) {
            let (low, high) = (
                pixels[(tap.low - left) as usize],
                pixels[(tap.high - left) as usize],
            );
            for channel in 0..3 {
                sums[channel] = tap.weights[0] * i32::from(low[channel])
                    + tap.weights[1] * i32::from(high[channel]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_updated_to_what_the_whole_gives() {
        let whole = Area {
            from: [0; 2],
            to: [64; 2],
        };
        let mut canvas = Canvas::filled(whole, [10, 20, 30]);
        for (at, value) in canvas.rgb.iter_mut().enumerate() {
            *value = (at * at % 251) as u8;
        }
        let resize = Resize::new(64, 28);
        let mut expected = Image::filled(28, 28, [0; 3]);
        resize.update(&mut expected, &canvas, whole);
        let area = Area {
            from: [13, 20],
            to: [31, 27],
        };
        let mut changed = canvas.clone();
        for row in area.from[1]..area.to[1] {
            for column in area.from[0]..area.to[0] {
                let at = changed.at([column, row]);
                changed.rgb[at..at + 3].copy_from_slice(&[1, 2, 3]);
            }
        }
        let mut found = expected.clone();
        let part = changed.cut(resize.needed(area).unwrap());
        resize.update(&mut found, &part, area);
        let mut expected = Image::filled(28, 28, [0; 3]);
        resize.update(&mut expected, &changed, whole);
        assert_eq!(found, expected);
    }

    #[test]
    fn weights_are_rounded_as_in_the_reference() {
        // 512 to 224 is 16 to 7: the first pixel lies at 0.642857.
        let resize = Resize::new(512, 224);
        assert_eq!(
            resize.taps[0],
            Tap {
                low: 0,
                high: 1,
                weights: [731, 1317]
            }
        );
        assert_eq!(Resize::new(8, 8).taps[7].weights, [2048, 0]);
    }
}
