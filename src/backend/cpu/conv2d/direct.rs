//! Convolution as products with weights that were laid out once.
//!
//! A task takes some rows and some panels of weights through three nested loops: strips of rows, panels, and within
//! them the rows of one product. If all panels stay in the core's second-level cache, a strip is one product's rows:
//! residual and output are walked through as they lie. If not, a strip is as many rows as stay there, and the panels
//! pass.
//!
//! A 1×1 convolution reads its rows where they lie, if they lie well; every other one gathers its patches (im2col) a
//! strip at a time.

use super::Call;
use super::disjoint::Disjoint;
use super::epilogue::Epilogue;
use super::im2col::gather;
use crate::backend::cpu::instructions::{Instructions, Vectorized};
use crate::backend::cpu::operand::Operand;
use crate::backend::cpu::panels::{
    PANEL, Panels, Rows, Store, most_rows, multiply_panel, rows_together, share,
};
use rayon::prelude::*;
use std::ops::Range;

/// Bytes of panels, or of a strip, that stay in half of a core's second-level cache.
pub(super) const RESIDENT_BYTES: usize = 512 << 10;
/// Panels a task takes at least, as each time its rows are brought again: if there are as many, and tasks enough.
const FEWEST_PANELS: usize = 8;
/// Tasks a thread, before fewer panels are taken.
const TASKS_PER_THREAD: usize = 2;
/// Multiplications of a task at least: enough that starting it costs nothing beside it.
pub(super) const TASK_PRODUCTS: usize = 3 << 20;
/// Gathered rows are held this many elements farther apart than they are long, so that rows of a power of two of bytes
/// do not all want the same place in a cache.
pub(super) const GAP: usize = 16;
/// Rows that lie a multiple of this many bytes apart do: they are copied. At half of it two places share them, which have ways
/// enough.
pub(super) const ALIASING_BYTES: usize = 4096;

/// `panels` holds the weights `[kh·kw·I, O]`.
pub(super) fn conv2d<O: Operand>(call: &Call<'_, O::Sum>, panels: &Panels<O>, out: &mut [O::Sum]) {
    let patch = call.geometry.patch();
    let rows = out.len() / call.bias.len();
    let aliasing = (patch * size_of::<O>()).is_multiple_of(ALIASING_BYTES);
    let in_place = if call.geometry.is_pointwise() && !aliasing { O::in_place(call.input) } else { None };
    let cut = Cut::new(rows, panels, call.instructions);
    let (blocks, groups) = (rows.div_ceil(cut.rows), panels.count().div_ceil(cut.panels));
    let epilogue = Epilogue::new(call.bias, call.residual, call.relu);
    let out = Disjoint::new(out);
    // Neighbouring tasks share their panels.
    (0..blocks * groups).into_par_iter().with_max_len(1).for_each(|task| {
        let (first, panel) = (task % blocks * cut.rows, task / blocks * cut.panels);
        let stride = panels.depth() + GAP;
        let numbers = if in_place.is_some() { 0 } else { cut.strip * stride + patch };
        let mut scratch = call.pool.tensor(&[numbers]);
        call.instructions.run(Task {
            call,
            panels,
            epilogue,
            in_place,
            scratch: scratch.data_mut(),
            out: &out,
            resident: cut.resident,
            strip: cut.strip,
            rows: first..(first + cut.rows).min(rows),
            chosen: panel..(panel + cut.panels).min(panels.count()),
        });
    });
}

/// How a product is cut into tasks: by its shape and the number of threads. The sums are the same however it is cut.
struct Cut {
    /// Whether all panels stay in the second-level cache.
    resident: bool,
    /// Rows of a strip.
    strip: usize,
    /// Rows of a task.
    rows: usize,
    /// Panels of a task.
    panels: usize,
}

impl Cut {
    fn new<O: Operand>(rows: usize, panels: &Panels<O>, instructions: Instructions) -> Self {
        let (together, most_rows) = (rows_together(instructions), most_rows(instructions));
        let row_bytes = panels.depth() * size_of::<O>();
        if panels.bytes() <= RESIDENT_BYTES {
            let products = panels.depth() * O::NUMBERS * panels.count() * PANEL;
            let rows = TASK_PRODUCTS.div_ceil(products).next_multiple_of(most_rows);
            return Self { resident: true, strip: most_rows, rows, panels: panels.count() };
        }
        let most = (RESIDENT_BYTES / row_bytes).max(most_rows);
        let strip = rows.div_ceil(rows.div_ceil(most)).next_multiple_of(together);
        let products = panels.depth() * O::NUMBERS * strip * PANEL;
        let spread =
            rows.div_ceil(strip) * panels.count() / (TASKS_PER_THREAD * rayon::current_num_threads());
        let fewest = TASK_PRODUCTS.div_ceil(products).max(FEWEST_PANELS.min(spread));
        Self { resident: false, strip, rows: strip, panels: fewest.clamp(1, panels.count()) }
    }
}

/// Some rows by some panels.
struct Task<'a, O: Operand> {
    call: &'a Call<'a, O::Sum>,
    panels: &'a Panels<O>,
    epilogue: Epilogue<'a, O::Sum>,
    /// The left matrix, if nothing need be gathered.
    in_place: Option<&'a [O]>,
    /// Room for a strip and a patch, if something must.
    scratch: &'a mut [O::Sum],
    /// All of the output.
    out: &'a Disjoint<'a, O::Sum>,
    resident: bool,
    strip: usize,
    rows: Range<usize>,
    chosen: Range<usize>,
}

impl<O: Operand> Vectorized for Task<'_, O> {
    #[inline(always)]
    fn run(self) {
        let Self { call, panels, epilogue, in_place, out, .. } = self;
        let g = &call.geometry;
        let (depth, outputs) = (panels.depth(), epilogue.channels());
        let most_rows = most_rows(call.instructions);
        let stride = if in_place.is_some() { depth } else { depth + GAP };
        let (gathered, patch) = self.scratch.split_at_mut(self.scratch.len().saturating_sub(g.patch()));
        let gathered: &mut [O] = bytemuck::cast_slice_mut(gathered);
        for first in self.rows.clone().step_by(self.strip) {
            let count = self.strip.min(self.rows.end - first);
            let left = match in_place {
                Some(input) => &input[first * depth..],
                None => {
                    for (row, to) in gathered.chunks_exact_mut(stride).take(count).enumerate() {
                        let position = first + row;
                        if g.is_pointwise() {
                            O::pack(&call.input[position * g.inputs..][..g.inputs], to);
                        } else {
                            gather(call.input, g, position, patch);
                            O::pack(patch, to);
                        }
                    }
                    &*gathered
                }
            };
            for panel in self.chosen.clone() {
                let channel = panel * PANEL;
                let width = PANEL.min(outputs - channel);
                // Behind a task's last panel comes another task's first.
                let next = (panel + 1) % panels.count();
                let products = count.div_ceil(most_rows);
                for offset in (0..count).step_by(most_rows) {
                    let (row, count) = (first + offset, most_rows.min(count - offset));
                    let store = Store {
                        out: out.rows(row * outputs + channel, count, outputs, width),
                        stride: outputs,
                        width,
                        finish: Some(epilogue.at(row, channel)),
                    };
                    let rows = Rows::unbroken(&left[offset * stride..], stride, count);
                    let ahead = match in_place {
                        // The panels are there already: what comes from afar are the next strip's rows.
                        Some(input) if self.resident => {
                            let next_strip = input.get((first + self.strip) * depth..).unwrap_or_default();
                            let next_strip = &next_strip[..(self.strip * depth).min(next_strip.len())];
                            if panel == self.chosen.start { [next_strip, &[]] } else { [&[][..]; 2] }
                        }
                        _ => share(panels.panel(next), offset / most_rows, products),
                    };
                    // SAFETY: no other task has these rows and this panel.
                    unsafe { multiply_panel(call.instructions, rows, panels.panel(panel), ahead, store) };
                }
            }
        }
    }
}
