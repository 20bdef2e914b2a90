//! `leaky_relu` and its gradient.

use crate::tensor::Scalar;
use rayon::prelude::*;

const VALUES_PER_TASK: usize = 1 << 15;

/// The derivative. Choosing between constants and multiplying always leaves no branch: signs of activations are as
/// good as random, and a mispredicted branch an element costs ten times the memory traffic.
#[inline(always)]
fn factor<T: Scalar>(x: T, slope: T) -> T {
    if x > T::ZERO { T::ONE } else { slope }
}

/// `x` where positive, `slope·x` elsewhere.
pub(super) fn leaky_relu<T: Scalar>(input: &[T], slope: f64, out: &mut [T]) {
    let slope = T::from_f64(slope);
    out.par_chunks_mut(VALUES_PER_TASK).zip(input.par_chunks(VALUES_PER_TASK)).for_each(|(out, input)| {
        for (out, &x) in out.iter_mut().zip(input) {
            *out = x * factor(x, slope);
        }
    });
}

/// `dy` where the input was positive, `slope·dy` elsewhere.
pub(super) fn leaky_relu_backward<T: Scalar>(gradient: &[T], input: &[T], slope: f64, out: &mut [T]) {
    let slope = T::from_f64(slope);
    out.par_chunks_mut(VALUES_PER_TASK)
        .zip(input.par_chunks(VALUES_PER_TASK))
        .zip(gradient.par_chunks(VALUES_PER_TASK))
        .for_each(|((out, input), gradient)| {
            for ((out, &x), &dy) in out.iter_mut().zip(input).zip(gradient) {
                *out = dy * factor(x, slope);
            }
        });
}
