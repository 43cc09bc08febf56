//! Fixed positions from sines and cosines of frame, row and column, the code that the JEPA-WMs paper names
//! (section 4; released files do not use it, models.md section 0).
//!
//! ```text
//! channels [0, c) frame, [c, 2c) row, [2c, 3c) column, the rest 0         c = 2 floor(D / 6)
//! of a place p:  sin(p w_0) .. sin(p w_{c/2-1})  cos(p w_0) .. cos(p w_{c/2-1})      w_j = 10000^(-j / (c/2))
//! ```
//!
//! The paper gives no formula; thirds and frequencies are those of its rotary code.

use super::Grid;

/// The code of every token, `[T (N + extra), D]`; extra tokens know their frame only.
pub(super) fn table(frames: usize, grid: Grid, extra: usize, width: usize) -> Vec<f32> {
    let half = width / 6;
    let mut table = Vec::with_capacity(frames * (grid.tokens() + extra) * width);
    for frame in 0..frames {
        for token in 0..grid.tokens() + extra {
            let patch = (token < grid.tokens()).then_some(token);
            let row = patch.map(|i| i / grid.columns);
            let column = patch.map(|i| i % grid.columns);
            for place in [Some(frame), row, column] {
                table.extend(code(place, half));
            }
            table.resize(table.len() + width - 6 * half, 0.0);
        }
    }
    table
}

/// `2 half` numbers; zeros for no place.
fn code(place: Option<usize>, half: usize) -> impl Iterator<Item = f32> {
    let angle = move |j: usize| {
        place.map(|place| place as f64 * libm::pow(10_000.0, -(j as f64) / half as f64))
    };
    let sines = (0..half).map(move |j| angle(j).map_or(0.0, libm::sin) as f32);
    let cosines = (0..half).map(move |j| angle(j).map_or(0.0, libm::cos) as f32);
    sines.chain(cosines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_has_a_code_of_its_own_and_its_thirds_are_frame_row_and_column() {
        let grid = Grid {
            rows: 2,
            columns: 3,
        };
        let codes = table(2, grid, 1, 14);
        let token = |i: usize| &codes[i * 14..(i + 1) * 14];
        // Token 7 + 5 is frame 1, row 1, column 2; c = 4, frequencies 1 and 0.01.
        let expected = [
            1.0_f64.sin(),
            0.01_f64.sin(),
            1.0_f64.cos(),
            0.01_f64.cos(),
            1.0_f64.sin(),
            0.01_f64.sin(),
            1.0_f64.cos(),
            0.01_f64.cos(),
            2.0_f64.sin(),
            0.02_f64.sin(),
            2.0_f64.cos(),
            0.02_f64.cos(),
            0.0,
            0.0,
        ];
        for (value, expected) in token(12).iter().zip(expected) {
            assert!(
                (f64::from(*value) - expected).abs() < 1e-7,
                "{:?}",
                token(12)
            );
        }
        assert_eq!(
            token(13)[4..],
            [0.0; 10],
            "the extra token has no row and no column"
        );
        for i in 0..14 {
            for j in 0..i {
                assert_ne!(token(i), token(j), "{i} {j}");
            }
        }
    }
}
