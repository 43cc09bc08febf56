//! Learned position tables for another grid than that they were trained on (models.md sections 1.2 and 1.4).
//!
//! Every rule is separable: a target row is a weighted sum of source rows, then the same with columns (and
//! frames). A rule therefore gives, for one axis, the sources and weights of every target; `resize` applies
//! them axis by axis. All three follow `PyTorch`'s interpolation with `align_corners` false, of which the
//! back end has neither the scale-factor form nor the antialiased one.

use serde::{Deserialize, Serialize};

/// How the table of a `DINOv2` model is resized.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PositionResize {
    /// Added to the target size before the scale is taken from it: 0.1 in models without registers, which
    /// shifts every source coordinate; 0 in models with registers.
    pub offset: f64,
    /// Whether the kernel widens with the scale: in models with registers.
    pub antialias: bool,
}

impl PositionResize {
    /// Models without registers: by the factor `(target + 0.1) / source`.
    pub const FACTOR: Self = Self {
        offset: 0.1,
        antialias: false,
    };
    /// Models with registers: to the target size, antialiased.
    pub const ANTIALIASED: Self = Self {
        offset: 0.0,
        antialias: true,
    };

    /// The rule of a released model with so many registers.
    pub(super) const fn of(registers: usize) -> Self {
        if registers == 0 {
            Self::FACTOR
        } else {
            Self::ANTIALIASED
        }
    }

    /// Sources and weights of every one of `to` targets.
    fn axis(self, from: usize, to: usize) -> Vec<Taps> {
        let scale = from as f64 / (to as f64 + self.offset);
        let rule = if self.antialias { antialiased } else { bicubic };
        (0..to).map(|target| rule(target, scale, from)).collect()
    }

    /// The patch rows of a table of `from x from` positions for a grid.
    ///
    /// A grid of the table's own size takes the table as it is, without the shift of the offset.
    ///
    /// # Shapes
    /// - `table`: `[from * from, D]`; output: `[grid[0] * grid[1], D]`
    pub(crate) fn apply(self, table: &[f32], from: usize, grid: [usize; 2]) -> Vec<f32> {
        if grid == [from, from] {
            return table.to_vec();
        }
        resize(
            table,
            &[self.axis(from, grid[0]), self.axis(from, grid[1])],
            &[from, from],
        )
    }
}

/// A video table for one frame of a grid: trilinear, by `(1, rows, columns) / from`.
///
/// # Shapes
/// - `table`: `[from[0] * from[1] * from[2], D]`; output: `[grid[0] * grid[1], D]`
pub(crate) fn trilinear(table: &[f32], from: [usize; 3], grid: [usize; 2]) -> Vec<f32> {
    let axis = |from: usize, to: usize| -> Vec<Taps> {
        let scale = from as f64 / to as f64;
        (0..to).map(|target| linear(target, scale, from)).collect()
    };
    let axes = [
        axis(from[0], 1),
        axis(from[1], grid[0]),
        axis(from[2], grid[1]),
    ];
    resize(table, &axes, &from)
}

/// Sources of one target with their weights.
type Taps = Vec<(usize, f64)>;

/// `values`, whose leading sizes are `from`, with every leading axis resized.
fn resize(values: &[f32], axes: &[Vec<Taps>], from: &[usize]) -> Vec<f32> {
    let mut values = values.to_vec();
    let mut outer = 1;
    for (axis, &length) in axes.iter().zip(from) {
        let inner = values.len() / (outer * length);
        let mut resized = Vec::with_capacity(outer * axis.len() * inner);
        for block in values.chunks_exact(length * inner) {
            for taps in axis {
                let mut sum = vec![0.0_f64; inner];
                for &(source, weight) in taps {
                    let row = &block[source * inner..(source + 1) * inner];
                    sum.iter_mut()
                        .zip(row)
                        .for_each(|(sum, value)| *sum += weight * f64::from(*value));
                }
                resized.extend(sum.iter().map(|sum| *sum as f32));
            }
        }
        values = resized;
        outer *= axis.len();
    }
    values
}

/// Source coordinate of a target.
fn coordinate(target: usize, scale: f64) -> f64 {
    (target as f64 + 0.5) * scale - 0.5
}

/// The two neighbours of the source coordinate, which is at least 0.
fn linear(target: usize, scale: f64, from: usize) -> Taps {
    let source = coordinate(target, scale).max(0.0);
    let first = (source as usize).min(from - 1);
    let weight = source - first as f64;
    vec![(first, 1.0 - weight), ((first + 1).min(from - 1), weight)]
}

/// The four neighbours of the source coordinate; outside of the table its border stands in.
fn bicubic(target: usize, scale: f64, from: usize) -> Taps {
    let source = coordinate(target, scale);
    let first = source.floor();
    let neighbours = [-1.0, 0.0, 1.0, 2.0];
    let taps = neighbours.map(|step| {
        let at = (first + step).clamp(0.0, from as f64 - 1.0);
        (at as usize, cubic(first + step - source, -0.75))
    });
    taps.to_vec()
}

/// The window of a kernel as wide as the scale; weights sum to 1.
fn antialiased(target: usize, scale: f64, from: usize) -> Taps {
    let widened = scale.max(1.0);
    let (support, centre) = (2.0 * widened, (target as f64 + 0.5) * scale);
    let first = (centre - support + 0.5).max(0.0) as usize;
    let last = ((centre + support + 0.5) as usize).min(from);
    let weight = |source: usize| cubic((source as f64 - centre + 0.5) / widened, -0.5);
    let total: f64 = (first..last).map(weight).sum();
    (first..last)
        .map(|source| (source, weight(source) / total))
        .collect()
}

/// Keys' cubic convolution kernel at distance `x`.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: f64, expected: f64, tolerance: f64) {
        assert!(
            (value - expected).abs() < tolerance,
            "{value} is not {expected}"
        );
    }

    /// Mean of the sources, which is the source coordinate wherever the kernel keeps straight lines straight.
    fn centre(taps: &Taps) -> f64 {
        taps.iter()
            .map(|(source, weight)| *source as f64 * weight)
            .sum()
    }

    #[test]
    fn the_offset_shifts_the_coordinates_to_those_of_the_reference() {
        // models.md section 1.2.
        for (to, target, expected) in [
            (16_u8, 0, 0.649_07),
            (16, 1, 2.947_20),
            (16, 8, 19.034_16),
            (16, 15, 35.121_12),
            (14, 0, 0.812_06),
            (14, 13, 34.925_53),
        ] {
            close(
                coordinate(target, 37.0 / (f64::from(to) + 0.1)),
                expected,
                1e-5,
            );
        }
        let axis = PositionResize::FACTOR.axis(37, 16);
        let at: Vec<usize> = axis[8].iter().map(|(source, _)| *source).collect();
        assert_eq!(at, [18, 19, 20, 21]);
        close(axis[0].iter().map(|(_, weight)| weight).sum(), 1.0, 1e-12);
        // Source -1 is not there: source 0 stands in for it.
        assert_eq!([axis[0][0].0, axis[0][1].0], [0, 0]);
    }

    #[test]
    fn the_kernel_has_its_known_values() {
        // By hand: (a + 2)/8 - (a + 3)/4 + 1 at 1/2, and a (27/8 - 45/4 + 12 - 4) = a/8 at 3/2.
        close(cubic(0.5, -0.75), 0.593_75, 1e-12);
        close(cubic(1.5, -0.75), -0.093_75, 1e-12);
        close(cubic(0.5, -0.5), 0.562_5, 1e-12);
        close(cubic(1.5, -0.5), -0.062_5, 1e-12);
        close(cubic(1.0, -0.5), 0.0, 1e-12);
        close(cubic(2.0, -0.5), 0.0, 1e-12);
    }

    #[test]
    fn the_antialiased_window_is_that_of_the_reference() {
        // models.md section 1.2: int(c - s + 0.5) to int(c + s + 0.5) - 1 with c = 37/16 (i + 0.5) and
        // s = 2 * 37/16 = 4.625. Target 8: c = 19.65625, so int(15.53) to int(24.78) - 1.
        let axis = PositionResize::ANTIALIASED.axis(37, 16);
        assert_eq!(axis[8].first().unwrap().0, 15);
        assert_eq!(axis[8].last().unwrap().0, 23);
        assert_eq!(axis[0].first().unwrap().0, 0);
        assert_eq!(axis[15].last().unwrap().0, 36);
        for taps in &axis {
            close(taps.iter().map(|(_, weight)| weight).sum(), 1.0, 1e-12);
        }
        // In the middle nothing is cut off: the window lies evenly about c - 0.5.
        close(centre(&axis[8]), 19.156_25, 5e-3);
    }

    #[test]
    fn a_table_of_the_right_size_is_taken_as_it_is() {
        let table: Vec<f32> = (0..18).map(|i| i as f32).collect();
        for resize in [PositionResize::FACTOR, PositionResize::ANTIALIASED] {
            assert_eq!(resize.apply(&table, 3, [3, 3]), table);
        }
    }

    #[test]
    fn rows_and_columns_are_not_exchanged() {
        // A table that only depends on the row.
        let table: Vec<f32> = (0..25).map(|i| (i / 5) as f32).collect();
        let resized = PositionResize::ANTIALIASED.apply(&table, 5, [2, 3]);
        assert_eq!(resized.len(), 6);
        for row in resized.chunks_exact(3) {
            assert!(
                row.iter().all(|value| (value - row[0]).abs() < 1e-6),
                "{resized:?}"
            );
        }
        assert!(resized[3] > resized[0] + 1.0, "{resized:?}");
    }

    #[test]
    fn a_frame_is_the_mean_of_the_two_middle_ones_and_pixels_follow_the_scale() {
        // models.md section 1.4: frame coordinate 3.5; rows (i + 0.5) 14/16 - 0.5, at least 0.
        let frame = linear(0, 8.0, 8);
        assert_eq!(frame, [(3, 0.5), (4, 0.5)]);
        let scale = 14.0 / 16.0;
        assert_eq!(linear(0, scale, 14), [(0, 1.0), (1, 0.0)]);
        close(centre(&linear(1, scale, 14)), 0.8125, 1e-12);
        // 13.0625 lies beyond the last row, which stands in for the next.
        assert_eq!(linear(15, scale, 14), [(13, 0.9375), (13, 0.0625)]);
        // Frames 0 and 1 are constant 1 and 3: their mean everywhere.
        let table = [[1.0_f32; 4], [3.0; 4]].concat();
        assert_eq!(trilinear(&table, [2, 2, 2], [3, 1]), [2.0; 3]);
    }
}
