//! Grids of patches: their fixed position table, and grids of another size.

use burn::tensor::{Device, Tensor, TensorData};

use crate::weights::Array;
use crate::{Error, Result};

/// How far a table in a file may be off ours: it is stored as 32-bit floats.
const TABLE_TOLERANCE: f32 = 1e-5;

/// The two-dimensional sine and cosine table (models.md section 6.1).
///
/// The first half of the channels is from the row, the second from the column; each half is
/// `[sin(p w_0), .., cos(p w_0), ..]` with `w_j = 10000^(-j / (D/4))`.
///
/// # Shapes
/// - result: `[rows columns, width]`; `width` is a multiple of 4
pub(super) fn position_table(rows: usize, columns: usize, width: usize) -> Vec<f32> {
    let quarter = width / 4;
    let frequency: Vec<f64> = (0..quarter)
        .map(|j| libm::pow(10_000.0, -(j as f64) / quarter as f64))
        .collect();
    let mut table = Vec::with_capacity(rows * columns * width);
    for patch in 0..rows * columns {
        for place in [patch / columns, patch % columns] {
            let angle = |w: &f64| place as f64 * w;
            table.extend(frequency.iter().map(|w| libm::sin(angle(w)) as f32));
            table.extend(frequency.iter().map(|w| libm::cos(angle(w)) as f32));
        }
    }
    table
}

/// Compares the position table of a file with ours; the file's is not used.
///
/// # Errors
/// [`Error::Weights`] when it has another size or other values.
pub(super) fn check_table(name: &str, in_file: &Array, ours: &[f32]) -> Result<()> {
    let broken = |detail: String| Error::Weights {
        name: name.to_string(),
        detail,
    };
    if in_file.values.len() != ours.len() {
        let detail = format!(
            "`decoder_pos_embed` is of shape {:?}, not {} numbers: it is for another grid",
            in_file.shape,
            ours.len()
        );
        return Err(broken(detail));
    }
    let pairs = in_file.values.iter().zip(ours);
    let off = pairs.filter(|(theirs, ours)| {
        let difference = (*theirs - *ours).abs();
        difference.is_nan() || difference > TABLE_TOLERANCE
    });
    match off.count() {
        0 => Ok(()),
        count => Err(broken(format!(
            "`decoder_pos_embed` is not the fixed sine and cosine table: {count} numbers differ"
        ))),
    }
}

/// Weights of bilinear interpolation along one side, for corners that are not aligned: the border repeats.
///
/// # Shapes
/// - result: `[to, from]`
fn side(from: usize, to: usize) -> Vec<f64> {
    let mut weights = vec![0.0; from * to];
    for (i, row) in weights.chunks_exact_mut(from).enumerate() {
        let place = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        let first = (place as usize).min(from - 1);
        let second = (first + 1).min(from - 1);
        let share = place - first as f64;
        row[first] += 1.0 - share;
        row[second] += share;
    }
    weights
}

/// Features on a grid of another size, by bilinear interpolation.
///
/// # Shapes
/// - input: `[frames, h w, D]` on the grid `from`; output: the same on the grid `to`
pub(super) fn resize(features: Tensor<3>, from: [usize; 2], to: [usize; 2]) -> Tensor<3> {
    if from == to {
        return features;
    }
    let weights = interpolation(from, to, &features.device());
    weights.matmul(features)
}

/// Both sides in one matrix: `[1, to, from]`.
fn interpolation(from: [usize; 2], to: [usize; 2], device: &Device) -> Tensor<3> {
    let (rows, columns) = (side(from[0], to[0]), side(from[1], to[1]));
    let (inputs, outputs) = (from[0] * from[1], to[0] * to[1]);
    let weight = |output: usize, input: usize| {
        let row = rows[output / to[1] * from[0] + input / from[1]];
        let column = columns[output % to[1] * from[1] + input % from[1]];
        (row * column) as f32
    };
    let values: Vec<f32> = (0..outputs)
        .flat_map(|output| (0..inputs).map(move |input| (output, input)))
        .map(|(output, input)| weight(output, input))
        .collect();
    Tensor::from_data(TensorData::new(values, [1, outputs, inputs]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_is_in_the_first_half_of_the_channels() {
        let table = position_table(2, 3, 8);
        // Patch 5 is row 1, column 2; w = 1, 0.01.
        let expected = [
            1_f64.sin(),
            0.01_f64.sin(),
            1_f64.cos(),
            0.01_f64.cos(),
            2_f64.sin(),
            0.02_f64.sin(),
            2_f64.cos(),
            0.02_f64.cos(),
        ];
        for (value, expected) in table[5 * 8..].iter().zip(expected) {
            assert!((f64::from(*value) - expected).abs() < 1e-7);
        }
        assert_eq!(table.len(), 6 * 8);
    }

    #[test]
    fn a_table_of_columns_first_or_of_another_grid_is_refused() {
        let ours = position_table(2, 2, 8);
        let file = |values: Vec<f32>| Array::new(vec![1, values.len() / 8, 8], values).unwrap();
        assert!(check_table("x", &file(ours.clone()), &ours).is_ok());
        let mut turned = ours.clone();
        turned.copy_within(16..24, 8);
        turned[16..24].copy_from_slice(&ours[8..16]);
        let error = check_table("x", &file(turned), &ours)
            .unwrap_err()
            .to_string();
        assert!(error.contains("not the fixed"), "{error}");
        let error = check_table("x", &file(position_table(2, 3, 8)), &ours).unwrap_err();
        assert!(error.to_string().contains("another grid"), "{error}");
    }

    #[test]
    fn sizes_that_double_take_a_quarter_of_the_neighbour() {
        // Centres at -0.25, 0.25, 0.75, 1.25 of the old grid; the border repeats.
        let expected = [1.0, 0.0, 0.75, 0.25, 0.25, 0.75, 0.0, 1.0];
        assert_eq!(side(2, 4), expected);
        // From three to two: centres at 0.25 and 1.75.
        assert_eq!(side(3, 2), [0.75, 0.25, 0.0, 0.0, 0.25, 0.75]);
    }

    #[test]
    fn a_plane_stays_a_plane_inside_and_sides_are_not_mixed_up() {
        let device = Device::flex();
        let from = [2, 4];
        let values: Vec<f32> = (0..8).map(|i| (10 * (i / 4) + i % 4) as f32).collect();
        let input = Tensor::<3>::from_data(TensorData::new(values, [1, 8, 1]), &device);
        let out = resize(input, from, [2, 8])
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        assert_eq!(out[..8], [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]);
        assert!((out[8] - 10.0).abs() < f32::EPSILON);
    }
}
