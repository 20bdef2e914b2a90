//! im2col: the patches of a convolution as the rows of a matrix.

use crate::tensor::Scalar;
use rayon::prelude::*;

/// The sizes im2col needs.
#[derive(Clone, Copy)]
pub(super) struct Geometry {
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) inputs: usize,
    pub(super) kernel_h: usize,
    pub(super) kernel_w: usize,
    pub(super) out_h: usize,
    pub(super) out_w: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl Geometry {
    /// Elements of a patch.
    pub(super) fn patch(&self) -> usize {
        self.kernel_h * self.kernel_w * self.inputs
    }

    /// Whether a patch is one pixel and every pixel is a patch: then the input is the matrix.
    pub(super) fn is_pointwise(&self) -> bool {
        self.kernel_h * self.kernel_w == 1 && self.stride == 1 && self.padding == 0
    }
}

/// Gathers the patches of output positions `first …` into the rows of a matrix; `columns` holds as many as are wanted.
pub(super) fn im2col<T: Scalar>(input: &[T], g: &Geometry, first: usize, columns: &mut [T]) {
    columns.par_chunks_mut(g.patch() * 32).enumerate().for_each(|(task, columns)| {
        for (offset, row) in columns.chunks_exact_mut(g.patch()).enumerate() {
            gather(input, g, first + task * 32 + offset, row);
        }
    });
}

/// Gathers the patch of one output position, `[kh, kw, I]`, zeros where it leaves the image.
#[inline(always)]
pub(super) fn gather<T: Scalar>(input: &[T], g: &Geometry, position: usize, row: &mut [T]) {
    let (image, out_y, out_x) =
        (position / (g.out_h * g.out_w), position / g.out_w % g.out_h, position % g.out_w);
    // In coordinates shifted by the padding, so that they are never negative.
    let (top, left) = (out_y * g.stride, out_x * g.stride);
    // Taps x in [begin, end) lie inside the image: one contiguous copy.
    let begin = g.padding.saturating_sub(left).min(g.kernel_w);
    let end = (g.w + g.padding).saturating_sub(left).clamp(begin, g.kernel_w);
    for (ky, line) in row.chunks_exact_mut(g.kernel_w * g.inputs).enumerate() {
        let y = top + ky;
        if y < g.padding || y >= g.h + g.padding || begin == end {
            line.fill(T::ZERO);
            continue;
        }
        line[..begin * g.inputs].fill(T::ZERO);
        line[end * g.inputs..].fill(T::ZERO);
        let source = ((image * g.h + y - g.padding) * g.w + left + begin - g.padding) * g.inputs;
        copy(&input[source..][..(end - begin) * g.inputs], &mut line[begin * g.inputs..end * g.inputs]);
    }
}

/// `to.copy_from_slice(from)` without a call: a patch is many short lines.
#[inline(always)]
fn copy<T: Scalar>(from: &[T], to: &mut [T]) {
    const LANES: usize = 16;
    let Some(last) = from.len().checked_sub(LANES) else {
        to.copy_from_slice(from);
        return;
    };
    for start in (0..last).step_by(LANES).chain([last]) {
        if let (Some(to), Some(from)) =
            (to[start..].first_chunk_mut::<LANES>(), from[start..].first_chunk::<LANES>())
        {
            *to = *from;
        }
    }
}
