//! Matrix products, by the `gemm` crate.

use crate::tensor::Scalar;
use gemm::Parallelism;

/// A matrix inside a slice.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// `rows × columns`, row-major.
    pub(super) fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a {rows}×{columns} matrix needs that many elements");
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The same elements with rows and columns exchanged.
    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// What happens to the previous content of the destination.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Destination {
    /// It is not read.
    Overwrite,
    /// The product is added to it.
    Accumulate,
}

/// `out (+)= left·right`, row-major, on all threads.
///
/// `gemm` splits the work by output tiles and sums over the inner dimension in one fixed order, so the bits do not
/// depend on the number of threads (`bits_do_not_depend_on_threads` holds it to that).
pub(super) fn multiply<T: Scalar>(
    out: &mut [T],
    left: Matrix<'_, T>,
    right: Matrix<'_, T>,
    destination: Destination,
) {
    assert_eq!(left.columns, right.rows, "inner dimensions of a product agree");
    assert_eq!(out.len(), left.rows * right.columns, "the destination holds the product");
    if out.is_empty() {
        return;
    }
    let accumulate = destination == Destination::Accumulate;
    // SAFETY: the three pointers come from slices whose lengths were checked against the extents and strides above
    // (Matrix::new is the only constructor, transposition permutes within the same elements); `out` is borrowed
    // mutably, so it overlaps neither operand; strides fit isize because slices do.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            out.as_mut_ptr(),
            1,
            right.columns as isize,
            accumulate,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::philox::{Philox, Stream};

    fn random(len: usize, step: u32) -> Vec<f32> {
        let philox = Philox::new(1, Stream::Initialisation, step);
        (0..len).map(|i| philox.uniform(i as u64) as f32 - 0.5).collect()
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        // The shapes of a head (forward, both gradients), of convolutions, and odd ones.
        for (m, n, k) in [
            (3136, 384, 384),
            (1024, 384, 3136),
            (784, 384, 1024),
            (196, 256, 2304),
            (57, 33, 19),
            (1, 1024, 192),
        ] {
            let (left, right) = (random(m * k, 0), random(k * n, 1));
            let products: Vec<Vec<f32>> = [1, 2, 3, 4, 7]
                .iter()
                .map(|&threads| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let mut out = vec![f32::NAN; m * n];
                    pool.install(|| {
                        multiply(
                            &mut out,
                            Matrix::new(&left, m, k),
                            Matrix::new(&right, n, k).transposed(),
                            Destination::Overwrite,
                        );
                    });
                    out
                })
                .collect();
            for other in &products[1..] {
                assert!(
                    products[0].iter().zip(other).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{m}×{n}×{k}"
                );
            }
        }
    }

    #[test]
    fn products_equal_the_definition() {
        let (m, n, k) = (5, 7, 3);
        let (left, right) = (random(m * k, 2), random(k * n, 3));
        let mut out = random(m * n, 4);
        let mut expected = out.clone();
        for i in 0..m {
            for j in 0..n {
                expected[i * n + j] += (0..k).map(|l| left[i * k + l] * right[l * n + j]).sum::<f32>();
            }
        }
        multiply(&mut out, Matrix::new(&left, m, k), Matrix::new(&right, k, n), Destination::Accumulate);
        assert!(crate::tensor::relative_error(&out, &expected) < 1e-6);
    }
}
