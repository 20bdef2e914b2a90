//! `max_pool2d`: ResNet's 3×3 maximum, stride 2, padding 1.

use super::context::Context;
use super::launch::{Grid, Kernel, kernels};
use super::memory::{CudaTensor, Element, by_element};
use crate::backend::Result;

/// `[N, H, W, C] → [N, ⌈H/2⌉, ⌈W/2⌉, C]`, in the element type of the input.
pub(super) fn max_pool2d(context: &Context, input: &CudaTensor) -> Result<CudaTensor> {
    let [n, h, w, channels] = input.axes();
    let mut out = context.tensor(&[n, h.div_ceil(2), w.div_ceil(2), channels], input.element())?;
    by_element!(input.element(), T => run::<T>(context, input, &mut out))?;
    Ok(out)
}

fn run<T: Element>(context: &Context, input: &CudaTensor, out: &mut CudaTensor) -> Result<()> {
    let [n, h, w, channels] = input.extents();
    let [_, out_h, out_w, _] = out.axes();
    let lines = u64::from(n) * out_h as u64;
    let grid = |width: usize| Grid::lines(lines, out_w as u64 * (channels as usize / width) as u64);
    let (input, out) = (input.read::<T>(), out.write::<T>());
    if (channels as usize).is_multiple_of(T::PACKET) {
        kernels::MaxPool2d { input, out, h, w, channels }.launch(context, grid(T::PACKET))?;
    } else {
        kernels::MaxPool2dScalar { input, out, h, w, channels }.launch(context, grid(1))?;
    }
    Ok(())
}
