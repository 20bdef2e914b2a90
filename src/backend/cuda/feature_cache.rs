//! `append_features` and `gather_rows`: the features of all training images, as near to the kernels as they fit.
//!
//! On the device; where they do not fit, in page-locked host memory, which kernels read over the bus; beyond the
//! user's limit for host memory, in a mapped file, as on the CPU.

use super::context::Context;
use super::error::CudaError;
use super::launch::{Grid, In, Kernel, Out, THREADS, kernels};
use super::memory::{Buffer, CudaTensor, Element, ElementType, Memory, Scratch};
use super::schedule::CudaSchedule;
use super::staging::Pinned;
use crate::backend::cpu::CpuFeatureCache;
use crate::backend::{BackendError, CachePrecision, FeatureCacheOptions, Result};
use crate::tensor::Tensor;
use half::f16;
use std::sync::Arc;

/// Values that one thread of the kernels moves.
const VALUES_PER_THREAD: u64 = 4;
/// Device memory that is left free for what a training step allocates.
const RESERVE: usize = 1 << 30;

/// Features of the training images, `[rows, channels]` each, appended once and then only read.
#[derive(Debug)]
pub struct CudaFeatureCache {
    rows: usize,
    channels: usize,
    precision: CachePrecision,
    /// Values appended so far, and those there is room for.
    filled: usize,
    capacity: usize,
    storage: Storage,
    /// The bits of the largest magnitude that half precision cannot hold; zero if there is none.
    overflow: Scratch<u32>,
    memory: Arc<Memory>,
}

#[derive(Debug)]
enum Storage {
    Device(Buffer),
    Host(Pinned),
    File(CpuFeatureCache),
}

impl CudaFeatureCache {
    pub(super) fn new(
        context: &Context,
        [images, rows, channels]: [usize; 3],
        options: &FeatureCacheOptions,
    ) -> Result<Self> {
        let capacity = images * rows * channels;
        let bytes = capacity
            * match options.precision {
                CachePrecision::F32 => size_of::<f32>(),
                CachePrecision::F16 => size_of::<f16>(),
            };
        let on_device = match context.feature_memory {
            Some(limit) => limit,
            None => context.memory.available()?.saturating_sub(RESERVE),
        };
        let storage = if bytes <= on_device {
            Storage::Device(context.memory.buffer(bytes)?)
        } else if bytes as u64 <= options.limit_bytes {
            Storage::Host(Pinned::new(&context.cuda, bytes)?)
        } else {
            Storage::File(CpuFeatureCache::new(images, rows, channels, options)?)
        };
        let overflow = context.scratch(1)?;
        overflow.buffer().fill(0)?;
        let (precision, memory) = (options.precision, Arc::clone(&context.memory));
        Ok(Self { rows, channels, precision, filled: 0, capacity, storage, overflow, memory })
    }

    /// Where the features are: `device memory`, `host memory` or `a file`.
    pub fn place(&self) -> &'static str {
        match &self.storage {
            Storage::Device(_) => "device memory",
            Storage::Host(_) => "host memory",
            Storage::File(_) => "a file",
        }
    }

    /// Whether kernels can read the features.
    pub(super) fn is_mapped(&self) -> bool {
        !matches!(self.storage, Storage::File(_))
    }

    pub(super) fn append_features(&mut self, context: &Context, features: &CudaTensor) -> Result<()> {
        let count = features.len();
        assert!(count.is_multiple_of(self.rows * self.channels), "whole images are appended");
        assert!(self.filled + count <= self.capacity, "no more images are appended than there is room for");
        let input = features.read();
        match (&mut self.storage, self.precision) {
            (Storage::File(file), _) => {
                let mut values = vec![0.0f32; count];
                context.staging().download(features.buffer(), bytemuck::must_cast_slice_mut(&mut values))?;
                file.append(&values)?;
            }
            (_, CachePrecision::F32) => {
                append::<f32>(context, input, self.from(self.filled), self.overflow.write())?;
            }
            (_, CachePrecision::F16) => {
                append::<f16>(context, input, self.from(self.filled), self.overflow.write())?;
            }
        }
        self.filled += count;
        Ok(())
    }

    /// Ends the appending, and reports features that half precision could not hold: asking after each batch would
    /// make the host wait for the device every time.
    pub(super) fn finish(&mut self, context: &Context) -> Result<()> {
        if let Storage::File(file) = &mut self.storage {
            return file.finish();
        }
        let mut bits = [0u32];
        context.staging().download(self.overflow.buffer(), bytemuck::must_cast_slice_mut(&mut bits))?;
        match bits {
            [0] => Ok(()),
            [bits] => Err(BackendError::FeatureOverflow { value: f32::from_bits(bits) }),
        }
    }

    /// Copies the rows of the `images` images of the schedule's present step, multiplied by `scale`.
    pub(super) fn gather_rows(
        &self,
        context: &Context,
        schedule: &CudaSchedule,
        images: usize,
        scale: f64,
    ) -> Result<CudaTensor> {
        let per_image = self.rows * self.channels;
        let shape = [images * self.rows, self.channels];
        if let Storage::File(file) = &self.storage {
            let mut values = Tensor::full(shape, 0.0f32);
            file.gather_rows(schedule.enqueued_images(images), scale, values.data_mut());
            let out = context.tensor(&shape, ElementType::F32)?;
            context.staging().upload(bytemuck::must_cast_slice(values.data()), out.buffer())?;
            return Ok(out);
        }
        let appended = self.filled / per_image;
        assert!((schedule.largest_image() as usize) < appended, "images that were appended");
        assert!(images <= schedule.batch(), "no more images than a step has");
        let mut out = context.tensor(&shape, ElementType::F32)?;
        let (rows, scale) = (out.write(), scale as f32);
        match self.precision {
            CachePrecision::F32 => gather::<f32>(context, self.all(), rows, schedule, per_image, scale)?,
            CachePrecision::F16 => gather::<f16>(context, self.all(), rows, schedule, per_image, scale)?,
        }
        Ok(out)
    }

    fn pointer(&self) -> u64 {
        match &self.storage {
            Storage::Device(buffer) => buffer.pointer(),
            Storage::Host(pinned) => pinned.device_pointer(),
            Storage::File(_) => unreachable!("a file is read by the host"),
        }
    }

    fn all<T>(&self) -> In<'_, T> {
        In::new(self.pointer(), self.capacity)
    }

    /// The room behind `offset` values.
    fn from<'a, T>(&self, offset: usize) -> Out<'a, T> {
        Out::new(self.pointer(), self.capacity).from(offset)
    }
}

fn append<T: Element>(
    context: &Context,
    features: In<'_, f32>,
    cache: Out<'_, T>,
    overflow: Out<'_, u32>,
) -> std::result::Result<(), CudaError> {
    let count = features.len() as u64;
    kernels::AppendFeatures { features, cache, overflow, count }
        .launch(context, Grid::threads(count.div_ceil(VALUES_PER_THREAD)))
}

fn gather<T: Element>(
    context: &Context,
    cache: In<'_, T>,
    out: Out<'_, f32>,
    schedule: &CudaSchedule,
    per_image: usize,
    scale: f32,
) -> std::result::Result<(), CudaError> {
    let images = (out.len() / per_image) as u64;
    let (order, cursor) = (schedule.order(), schedule.cursor());
    let (batch, per_image) = (schedule.batch() as u32, per_image as u64);
    let blocks = per_image.div_ceil(VALUES_PER_THREAD * u64::from(THREADS));
    kernels::GatherRows { cache, out, order, cursor, batch, per_image, scale }
        .launch(context, Grid::plane(blocks, images, THREADS))
}

impl Drop for CudaFeatureCache {
    /// Host memory is given back at once, and kernels may still read it. (Device memory goes back to a list that is
    /// ordered by the stream.)
    fn drop(&mut self) {
        if let Storage::Host(_) = &self.storage {
            self.memory.wait();
        }
    }
}
