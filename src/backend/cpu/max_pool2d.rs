//! `max_pool2d`: ResNet's 3×3 maximum, stride 2, padding 1.

use crate::tensor::Scalar;
use rayon::prelude::*;

/// Padding never wins: a window holds at least one pixel of the image.
pub(super) fn max_pool2d<T: Scalar>(input: &[T], [_, h, w, channels]: [usize; 4], out: &mut [T]) {
    let (out_h, out_w) = (h.div_ceil(2), w.div_ceil(2));
    out.par_chunks_mut(out_w * channels).enumerate().for_each(|(row, line)| {
        let (image, out_y) = (row / out_h, row % out_h);
        for (out_x, out) in line.chunks_exact_mut(channels).enumerate() {
            out.fill(T::from_f64(f64::NEG_INFINITY));
            for y in (2 * out_y).saturating_sub(1)..(2 * out_y + 2).min(h) {
                for x in (2 * out_x).saturating_sub(1)..(2 * out_x + 2).min(w) {
                    let source = &input[((image * h + y) * w + x) * channels..][..channels];
                    for (out, &value) in out.iter_mut().zip(source) {
                        *out = if value < *out { *out } else { value };
                    }
                }
            }
        }
    });
}
