//! `add`: where two operations read the same tensor, their gradients add.

use crate::tensor::Scalar;
use rayon::prelude::*;

const VALUES_PER_TASK: usize = 1 << 15;

/// `sum + term` into `sum`.
pub(super) fn add<T: Scalar>(sum: &mut [T], term: &[T]) {
    sum.par_chunks_mut(VALUES_PER_TASK).zip(term.par_chunks(VALUES_PER_TASK)).for_each(|(sum, term)| {
        for (sum, &term) in sum.iter_mut().zip(term) {
            *sum += term;
        }
    });
}
