//! The features of all training images: in memory, or in a mapped file where they do not fit.

use crate::backend::{BackendError, CachePrecision, FeatureCacheOptions, Result};
use crate::tensor::Scalar;
use half::f16;
use memmap2::Mmap;
use rayon::prelude::*;
use std::fs::File;
use std::io::Write;

/// Features of `images` images, `[rows, channels]` each, appended once and then only read.
#[derive(Debug)]
pub struct CpuFeatureCache {
    rows: usize,
    channels: usize,
    precision: CachePrecision,
    folder: String,
    total_bytes: u64,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    /// Bytes in `u64`s, so that they are aligned for any element type.
    Memory {
        words: Vec<u64>,
        filled: usize,
    },
    /// An unnamed file: written with `write`, which reports a full disk (a mapped write would be killed by it), and
    /// mapped for reading when complete.
    Writing {
        file: File,
    },
    Mapped(Mmap),
}

impl CpuFeatureCache {
    pub(in crate::backend) fn new(
        images: usize,
        rows: usize,
        channels: usize,
        options: &FeatureCacheOptions,
    ) -> Result<Self> {
        let element = match options.precision {
            CachePrecision::F32 => 4,
            CachePrecision::F16 => 2,
        };
        let total_bytes = (images * rows * channels * element) as u64;
        let folder = options.spill_folder.display().to_string();
        let mut cache = Self {
            rows,
            channels,
            precision: options.precision,
            folder,
            total_bytes,
            storage: Storage::Memory { words: Vec::new(), filled: 0 },
        };
        if total_bytes <= options.limit_bytes {
            let words = vec![0; total_bytes.div_ceil(8) as usize];
            cache.storage = Storage::Memory { words, filled: 0 };
        } else {
            let file =
                tempfile::tempfile_in(&options.spill_folder).map_err(|error| cache.spill_error(error))?;
            cache.storage = Storage::Writing { file };
        }
        Ok(cache)
    }

    fn spill_error(&self, source: std::io::Error) -> BackendError {
        BackendError::Spill { needed: self.total_bytes, folder: self.folder.clone(), source }
    }

    /// Rows and channels of one image.
    pub(super) fn image_shape(&self) -> (usize, usize) {
        (self.rows, self.channels)
    }

    /// Whether the features live in a file.
    pub fn is_spilled(&self) -> bool {
        !matches!(self.storage, Storage::Memory { .. })
    }

    /// Size of all features in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    pub(in crate::backend) fn append<T: Scalar>(&mut self, features: &[T]) -> Result<()> {
        assert!(features.len().is_multiple_of(self.rows * self.channels), "whole images are appended");
        match self.precision {
            CachePrecision::F32 => {
                let values: Vec<f32> = features.iter().map(|&x| x.to_f32()).collect();
                self.append_bytes(bytemuck::must_cast_slice(&values))
            }
            CachePrecision::F16 => {
                let values: Vec<f16> = features.iter().map(|&x| f16::from_f32(x.to_f32())).collect();
                if let Some(i) = values.iter().position(|value| !value.is_finite()) {
                    return Err(BackendError::FeatureOverflow { value: features[i].to_f32() });
                }
                self.append_bytes(bytemuck::must_cast_slice(&values))
            }
        }
    }

    fn append_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.storage {
            Storage::Memory { words, filled } => {
                bytemuck::must_cast_slice_mut::<u64, u8>(words)[*filled..][..bytes.len()]
                    .copy_from_slice(bytes);
                *filled += bytes.len();
                Ok(())
            }
            Storage::Writing { file } => file.write_all(bytes).map_err(|error| self.spill_error(error)),
            Storage::Mapped(_) => panic!("a finished cache takes no more images"),
        }
    }

    /// Ends the appending; a file is mapped from here on.
    pub(in crate::backend) fn finish(&mut self) -> Result<()> {
        if let Storage::Writing { file } = &self.storage {
            // SAFETY: the file is unnamed and owned by this value alone, so nobody else can truncate or change it
            // while it is mapped; it is never written again.
            let map = unsafe { Mmap::map(file) }.map_err(|error| self.spill_error(error))?;
            self.storage = Storage::Mapped(map);
        }
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        match &self.storage {
            Storage::Memory { words, filled } => &bytemuck::must_cast_slice::<u64, u8>(words)[..*filled],
            Storage::Writing { .. } => panic!("the cache is read when it is finished"),
            Storage::Mapped(map) => map,
        }
    }

    /// Copies the rows of the given images, in the given order, multiplied by `scale`: an `f32` product in every type.
    pub(in crate::backend) fn gather_rows<T: Scalar>(&self, images: &[u32], scale: f64, out: &mut [T]) {
        let (bytes, scale) = (self.bytes(), scale as f32);
        match self.precision {
            CachePrecision::F32 => self.gather::<f32, T>(bytemuck::cast_slice(bytes), images, scale, out),
            CachePrecision::F16 => self.gather::<f16, T>(bytemuck::cast_slice(bytes), images, scale, out),
        }
    }

    fn gather<S: Copy + Into<f32> + Sync, T: Scalar>(
        &self,
        values: &[S],
        images: &[u32],
        scale: f32,
        out: &mut [T],
    ) {
        let per_image = self.rows * self.channels;
        // A piece of an image each, so that small batches keep every thread busy too.
        let piece = per_image.div_ceil(8).max(1);
        out.par_chunks_mut(per_image).zip(images).for_each(|(out, &image)| {
            let values = &values[image as usize * per_image..][..per_image];
            out.par_chunks_mut(piece).zip(values.par_chunks(piece)).for_each(|(out, values)| {
                for (out, &value) in out.iter_mut().zip(values) {
                    *out = T::from_f32(value.into() * scale);
                }
            });
        });
    }
}
