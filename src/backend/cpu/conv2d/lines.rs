//! Convolutions of few weights, on lines of the image.
//!
//! Along a line of outputs each patch begins `stride·I` numbers behind the one before, and is `kh` runs of `kw·I` numbers that
//! lie a line of the image apart. So the lines are the matrix that im2col would write, with rows that overlap, and are
//! multiplied where they are. Only where there is padding they are copied, once each, with zeros around them.

use super::Call;
use super::direct::{ALIASING_BYTES, RESIDENT_BYTES, TASK_PRODUCTS};
use super::disjoint::Disjoint;
use super::epilogue::Epilogue;
use super::im2col::Geometry;
use crate::backend::cpu::instructions::{Instructions, Vectorized};
use crate::backend::cpu::panels::{PANEL, Panels, Rows, Store, most_rows, multiply_panel, share};
use crate::tensor::Scalar;
use rayon::prelude::*;
use std::ops::Range;

/// Whether such a convolution is computed like this. A pointwise one has its matrix as it is; with many weights, a line has
/// too few patches to bring them for.
pub(super) fn serves<T: Scalar>(geometry: &Geometry, panels: &Panels<T>) -> bool {
    let patch_bytes = geometry.stride * geometry.inputs * size_of::<T>();
    !geometry.is_pointwise()
        && panels.bytes() <= RESIDENT_BYTES
        && !patch_bytes.is_multiple_of(ALIASING_BYTES)
}

/// `panels` holds the weights `[kh·kw·I, O]`.
pub(super) fn conv2d<T: Scalar>(call: &Call<'_, T>, panels: &Panels<T>, out: &mut [T]) {
    let g = &call.geometry;
    let line_products = panels.depth() * panels.count() * PANEL * g.out_w;
    let lines = TASK_PRODUCTS.div_ceil(line_products).min(g.out_h);
    let tasks = g.out_h.div_ceil(lines);
    let images = out.len() / (g.out_h * g.out_w * call.bias.len());
    let padded_lines = if g.padding == 0 { 0 } else { (lines - 1) * g.stride + g.kernel_h };
    let epilogue = Epilogue::new(call.bias, call.residual, call.relu);
    let out = Disjoint::new(out);
    (0..images * tasks).into_par_iter().with_max_len(1).for_each(|task| {
        let (image, first) = (task / tasks, task % tasks * lines);
        let mut padded = call.pool.tensor(&[padded_lines, padded_line(g)]);
        call.instructions.run(Task {
            instructions: call.instructions,
            geometry: g,
            image: &call.input[image * g.h * g.w * g.inputs..][..g.h * g.w * g.inputs],
            padded: padded.data_mut(),
            panels,
            epilogue,
            first_line: image * g.out_h,
            lines: first..(first + lines).min(g.out_h),
            out: &out,
        });
    });
}

/// Numbers of a line of the image with its padding.
fn padded_line(g: &Geometry) -> usize {
    (g.w + 2 * g.padding) * g.inputs
}

/// Some lines of an image's outputs.
struct Task<'a, T: Scalar> {
    instructions: Instructions,
    geometry: &'a Geometry,
    image: &'a [T],
    /// Room for the lines of the image that they depend on, if there is padding.
    padded: &'a mut [T],
    panels: &'a Panels<T>,
    epilogue: Epilogue<'a, T>,
    /// The image's first line of outputs, over all images.
    first_line: usize,
    lines: Range<usize>,
    /// All of the output.
    out: &'a Disjoint<'a, T>,
}

impl<T: Scalar> Vectorized for Task<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Self { geometry: g, panels, epilogue, out, .. } = self;
        let (line, outputs) = (padded_line(g), epilogue.channels());
        let top = self.lines.start * g.stride;
        let input = if g.padding == 0 {
            &self.image[top * line..]
        } else {
            pad(self.image, g, top, self.padded);
            &*self.padded
        };
        let groups = g.out_w.div_ceil(most_rows(self.instructions));
        let group = g.out_w.div_ceil(groups);
        for y in self.lines.clone() {
            let lines = &input[(y - self.lines.start) * g.stride * line..];
            // Lines that were not copied come from afar.
            let next = if g.padding == 0 { lines.get(g.stride * line..).unwrap_or_default() } else { &[] };
            let next = &next[..line.min(next.len())];
            for panel in 0..panels.count() {
                let channel = panel * PANEL;
                let width = PANEL.min(outputs - channel);
                for x in (0..g.out_w).step_by(group) {
                    let count = group.min(g.out_w - x);
                    let row = (self.first_line + y) * g.out_w + x;
                    let rows = Rows {
                        data: &lines[x * g.stride * g.inputs..],
                        stride: g.stride * g.inputs,
                        count,
                        runs: g.kernel_h,
                        run_stride: line,
                    };
                    let store = Store {
                        out: out.rows(row * outputs + channel, count, outputs, width),
                        stride: outputs,
                        width,
                        finish: Some(epilogue.at(row, channel)),
                    };
                    let ahead = if panel == 0 { share(next, x / group, groups) } else { [&[][..]; 2] };
                    // SAFETY: no other task has these rows.
                    unsafe { multiply_panel(self.instructions, rows, panels.panel(panel), ahead, store) };
                }
            }
        }
    }
}

/// Copies lines of an image, from line `top` of the padded one on, with zeros around them.
#[inline(always)]
fn pad<T: Scalar>(image: &[T], g: &Geometry, top: usize, padded: &mut [T]) {
    let (width, padding) = (g.w * g.inputs, g.padding * g.inputs);
    for (offset, to) in padded.chunks_exact_mut(padded_line(g)).enumerate() {
        // In coordinates shifted by the padding, so that they are never negative.
        let y = top + offset;
        if y < g.padding || y >= g.h + g.padding {
            to.fill(T::ZERO);
            continue;
        }
        to[..padding].fill(T::ZERO);
        to[padding..padding + width].copy_from_slice(&image[(y - g.padding) * width..][..width]);
        to[padding + width..].fill(T::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition::Case;
    use super::super::panels;
    use super::*;

    /// Odd sizes, lines of one patch and of several tasks, with and without padding, strides that skip pixels, part panels,
    /// one image and five, against sums of gathered patches in `f64`. What was in the output before is NaN.
    #[test]
    fn lines_sum_the_definition() {
        // Images, h, w, inputs, outputs, kernel, stride, padding.
        let cases = [
            (1, 224, 224, 3, 64, 7, 2, 3),
            (5, 31, 45, 3, 40, 7, 2, 3),
            (5, 13, 29, 40, 70, 1, 2, 0),
            (1, 28, 28, 256, 512, 1, 2, 0),
            (2, 9, 17, 5, 33, 3, 1, 1),
            (1, 11, 12, 7, 5, 5, 3, 0),
            (3, 3, 3, 2, 32, 3, 1, 0),
            (1, 1, 1, 3, 8, 7, 2, 3),
        ];
        for (images, h, w, inputs, outputs, kernel, stride, padding) in cases {
            let case = Case::new([images, h, w, inputs, outputs], kernel, stride, padding);
            for instructions in Instructions::available() {
                let panels = panels::<f32>(instructions, &case.weights);
                assert!(serves(&case.geometry, &panels));
                let error = case.error(instructions, |call, out| conv2d(call, &panels, out));
                // Sums of 256 products and less, each rounded by 2⁻²⁴.
                assert!(
                    error < 1e-6,
                    "{images} × {h} × {w}, {kernel}×{kernel}/{stride}, {instructions:?}: {error:.1e}"
                );
            }
        }
    }
}
