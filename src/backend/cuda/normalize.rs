//! `normalize`: bytes to the network's input.

use super::context::Context;
use super::launch::{Grid, Kernel, kernels};
use super::memory::{CudaTensor, Element, by_element};
use crate::backend::Result;

/// `(x/255 − mean)/std`: u8 RGB `[N, H, W, 3]` → the backbone's element type. The images travel beside the kernels that
/// still work on the last ones.
pub(super) fn normalize(context: &Context, images: &[u8], [n, h, w]: [usize; 3]) -> Result<CudaTensor> {
    let mut out = context.tensor(&[n, h, w, 3], context.activation())?;
    by_element!(out.element(), T => run::<T>(context, images, &mut out))?;
    Ok(out)
}

fn run<T: Element>(context: &Context, images: &[u8], out: &mut CudaTensor) -> Result<()> {
    assert_eq!(images.len(), out.len(), "one value a byte");
    let count = images.len() as u64;
    context.staging().images(&context.memory, images, |images| {
        kernels::Normalize::<T> { images, out: out.write(), count }
            .launch(context, Grid::threads(count.div_ceil(T::PACKET as u64)))
    })?;
    Ok(())
}
