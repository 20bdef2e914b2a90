//! `max_pool2d`: ResNet's 3×3 maximum, stride 2, padding 1.

use crate::tensor::Scalar;
use rayon::prelude::*;

/// Padding never wins: a window holds at least one pixel of the image. NaN wins always, as in PyTorch.
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
                        *out = out.max(value);
                    }
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_wins_wherever_it_stands() {
        for place in 0..4 {
            let mut input = [1.0f32, 2.0, 3.0, 4.0];
            input[place] = f32::NAN;
            let mut out = [0.0];
            max_pool2d(&input, [1, 2, 2, 1], &mut out);
            assert!(out[0].is_nan(), "at {place}");
        }
    }
}
