//! Products of matrices that are views of plain slices.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// A matrix view: values with a row and a column stride.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// All of `values`, row after row.
    pub(crate) fn row_major(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "matrix of {rows} x {columns}");
        Self::strided(values, rows, columns, columns)
    }

    /// Rows that start `row_stride` numbers apart.
    pub(crate) fn strided(
        values: &'a [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        assert!(
            rows > 0 && columns <= row_stride,
            "rows that do not overlap"
        );
        assert!(
            (rows - 1) * row_stride + columns <= values.len(),
            "{rows} rows of {columns}, {row_stride} apart, in {} numbers",
            values.len()
        );
        Self {
            values,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// `target = factor * a * b`, or `target += factor * a * b`; `target` is row-major. One thread.
pub(crate) fn multiply(
    target: &mut [f32],
    accumulate: bool,
    factor: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    assert_eq!(target.len(), a.rows * b.columns, "size of the product");
    // SAFETY: `target` is a mutable slice of as many numbers as the product has.
    unsafe {
        run(
            target.as_mut_ptr(),
            accumulate,
            factor,
            a,
            b,
            gemm::Parallelism::None,
        );
    }
}

/// `target += a * b` on all threads. The result does not depend on their number.
pub(crate) fn multiply_rows(target: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    assert_eq!(target.len(), a.rows * b.columns, "size of the product");
    // SAFETY: `target` is a mutable slice of as many numbers as the product has.
    unsafe { run(target.as_mut_ptr(), true, 1.0, a, b, threads(a, b)) }
}

/// `a * b` on all threads, row-major. The result does not depend on their number.
pub(crate) fn product(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let count = a.rows * b.columns;
    let mut target = Vec::with_capacity(count);
    // SAFETY: there is memory for `count` numbers; without `accumulate` all of them are written and none is read.
    unsafe {
        run(target.as_mut_ptr(), false, 1.0, a, b, threads(a, b));
        target.set_len(count);
    }
    target
}

/// The same row `count` times, written by all threads.
pub(crate) fn repeated(row: &[f32], count: usize) -> Vec<f32> {
    let mut target = Vec::with_capacity(row.len() * count);
    let memory: &mut [MaybeUninit<f32>] = &mut target.spare_capacity_mut()[..row.len() * count];
    memory
        .par_chunks_exact_mut(row.len().max(1))
        .for_each(|memory| {
            memory.write_copy_of_slice(row);
        });
    // SAFETY: the chunks above are all of the memory, and every one of them was written.
    unsafe { target.set_len(row.len() * count) };
    target
}

/// Products below this many multiplications are not worth a second thread.
const SMALL: usize = 128 * 128 * 128;

fn threads(a: Matrix<'_>, b: Matrix<'_>) -> gemm::Parallelism {
    if a.rows * a.columns * b.columns < SMALL {
        gemm::Parallelism::None
    } else {
        gemm::Parallelism::Rayon(0)
    }
}

/// # Safety
/// `target` points to `a.rows * b.columns` numbers that nobody else uses; they need not be initialised without
/// `accumulate`, as they are not read then.
unsafe fn run(
    target: *mut f32,
    accumulate: bool,
    factor: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    parallelism: gemm::Parallelism,
) {
    assert_eq!(a.columns, b.rows, "inner sizes");
    // SAFETY: a `Matrix` addresses only numbers inside its slice (asserted where it is made), each once; the caller
    // answers for `target`.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            target,
            1,
            b.columns as isize,
            accumulate,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "small whole numbers are exact")]
mod tests {
    use super::*;

    #[test]
    fn strided_and_transposed_views_multiply_as_what_they_show() {
        // Two rows [1, 2], [4, 5] out of three columns.
        let values = [1.0, 2.0, 3.0, 4.0, 5.0];
        let a = Matrix::strided(&values, 2, 2, 3);
        let b = Matrix::row_major(&[1.0, 0.0, -1.0, 2.0, 1.0, 0.0], 2, 3);
        let mut target = [1.0; 6];
        multiply(&mut target, false, 1.0, a, b);
        assert_eq!(target, [5.0, 2.0, -1.0, 14.0, 5.0, -4.0]);
        multiply(&mut target, true, 2.0, a.transposed(), b);
        // [1 4; 2 5] b = [9 4 -1; 12 5 -2].
        assert_eq!(target, [23.0, 10.0, -3.0, 38.0, 15.0, -8.0]);
    }

    #[test]
    fn what_a_product_overwrites_is_not_read() {
        // Sizes of every path: vectors, small and large matrices.
        for (rows, inner, columns) in [
            (1, 5, 1),
            (1, 40, 70),
            (70, 40, 1),
            (9, 1, 9),
            (3, 5, 7),
            (90, 300, 70),
        ] {
            let (a, b) = (vec![1.0; rows * inner], vec![0.5; inner * columns]);
            let (a, b) = (
                Matrix::row_major(&a, rows, inner),
                Matrix::row_major(&b, inner, columns),
            );
            let mut target = vec![f32::NAN; rows * columns];
            multiply(&mut target, false, 1.0, a, b);
            let expected = vec![inner as f32 / 2.0; rows * columns];
            assert_eq!(target, expected, "{rows} {inner} {columns}");
            assert_eq!(product(a, b), expected, "{rows} {inner} {columns}");
        }
    }

    #[test]
    fn repeated_rows_are_added_to() {
        let mut target = repeated(&[1.0, 2.0], 3);
        assert_eq!(target, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        let (a, b) = ([1.0, 0.0, -1.0], [10.0, 20.0]);
        multiply_rows(
            &mut target,
            Matrix::row_major(&a, 3, 1),
            Matrix::row_major(&b, 1, 2),
        );
        assert_eq!(target, [11.0, 22.0, 1.0, 2.0, -9.0, -18.0]);
    }

    #[test]
    #[should_panic(expected = "3 rows of 2, 2 apart, in 5 numbers")]
    fn a_view_beyond_its_slice_is_refused() {
        let _ = Matrix::strided(&[0.0; 5], 3, 2, 2);
    }
}
