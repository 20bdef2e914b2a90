//! `normalize`: bytes to the network's input.

use super::context::Context;
use super::launch::{Grid, In, Kernel, kernels};
use super::memory::{Buffer, CudaTensor, Element, by_element};
use crate::backend::Result;

/// Images on the device, u8 RGB `[N, H, W, 3]`.
#[derive(Debug)]
pub struct CudaImages {
    shape: [usize; 3],
    pixels: Buffer,
}

impl CudaImages {
    pub(super) fn new(context: &Context, shape: [usize; 3]) -> Result<Self> {
        let [n, h, w] = shape;
        Ok(Self { shape, pixels: context.memory.buffer(n * h * w * 3)? })
    }

    /// Replaces all pixels, in the order of the compute stream.
    pub(super) fn replace(&mut self, context: &Context, pixels: &[u8]) -> Result<()> {
        assert_eq!(pixels.len(), self.len(), "three bytes for every pixel");
        context.staging().upload_images(&context.memory, pixels, &self.pixels)?;
        Ok(())
    }

    fn len(&self) -> usize {
        self.shape.iter().product::<usize>() * 3
    }
}

/// `(x/255 − mean)/std`: u8 RGB `[N, H, W, 3]` → the backbone's element type.
pub(super) fn normalize(context: &Context, images: &CudaImages) -> Result<CudaTensor> {
    let [n, h, w] = images.shape;
    let mut out = context.tensor(&[n, h, w, 3], context.activation())?;
    by_element!(out.element(), T => run::<T>(context, images, &mut out))?;
    Ok(out)
}

fn run<T: Element>(context: &Context, images: &CudaImages, out: &mut CudaTensor) -> Result<()> {
    let count = images.len() as u64;
    let images = In::new(images.pixels.pointer(), images.len());
    kernels::Normalize::<T> { images, out: out.write(), count }
        .launch(context, Grid::threads(count.div_ceil(T::PACKET as u64)))?;
    Ok(())
}
