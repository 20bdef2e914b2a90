//! `begin_epoch` and `end_step`: the steps of an epoch in device memory, and the cursor by which kernels find theirs.
//!
//! Everything lies in one buffer that is overwritten when an epoch begins, so that kernels find it in the same place in
//! every epoch. The cursor is moved by a kernel.

use super::context::Context;
use super::launch::{Grid, In, Kernel, Out, kernels};
use super::memory::Buffer;
use crate::backend::schedule::adam_corrections;
use crate::backend::{Epoch, Result};

/// The steps of one epoch on the device.
///
/// Behind the last step there is one more that belongs to none: a surplus step stays within the buffer, and its
/// corrections are NaN, so that it does not pass for a step.
#[derive(Debug)]
pub struct CudaSchedule {
    images: usize,
    batch: usize,
    /// `1 − β₁ᵗ`, `[steps + 1]` in f64; `1/√(1 − β₂ᵗ)`, `[steps + 1]` in f32; the order, `[(steps + 1)·batch]` in u32; the
    /// cursor, two u32.
    buffer: Buffer,
    /// The order as the host knows it, for features that it reads from a file.
    order: Vec<u32>,
    /// Steps that were enqueued one operation at a time: the host's cursor, which knows nothing of replayed ones.
    enqueued: usize,
}

impl CudaSchedule {
    pub(super) fn new(context: &Context, images: usize, batch: usize) -> Result<Self> {
        assert!(images > 0 && batch > 0, "an epoch has a step");
        let entries = images.div_ceil(batch) + 1;
        assert!(u32::try_from(entries).is_ok(), "fewer than 2³² steps");
        let bytes = entries * (size_of::<f64>() + size_of::<f32>() + batch * size_of::<u32>()) + 8;
        let buffer = context.memory.buffer(bytes)?;
        Ok(Self { images, batch, buffer, order: Vec::new(), enqueued: 0 })
    }

    fn steps(&self) -> usize {
        self.images.div_ceil(self.batch)
    }

    pub(super) fn begin_epoch(&mut self, context: &Context, epoch: &Epoch<'_>) -> Result<()> {
        assert_eq!(epoch.order.len(), self.images, "an epoch has the schedule's images");
        assert!(epoch.done < self.steps(), "the epoch has another step");
        let mut corrections_1 = vec![f64::NAN; self.steps() + 1];
        let mut inverse_corrections_2 = vec![f32::NAN; self.steps() + 1];
        for (step, (first, second)) in (epoch.first_step..)
            .zip(corrections_1.iter_mut().zip(&mut inverse_corrections_2).take(self.steps()))
        {
            let (correction_1, inverse_correction_2) = adam_corrections(step);
            (*first, *second) = (correction_1, inverse_correction_2 as f32);
        }
        self.order.clear();
        self.order.extend_from_slice(epoch.order);
        let mut padded = self.order.clone();
        padded.resize((self.steps() + 1) * self.batch, epoch.order[0]);
        let cursor = [epoch.done as u32, epoch.first_step + epoch.done as u32];
        let bytes = [
            bytemuck::must_cast_slice(&corrections_1),
            bytemuck::must_cast_slice(&inverse_corrections_2),
            bytemuck::must_cast_slice(&padded),
            bytemuck::must_cast_slice(&cursor),
        ];
        context.staging().upload(&bytes.concat(), &self.buffer)?;
        self.enqueued = epoch.done;
        Ok(())
    }

    /// Moves both cursors.
    pub(super) fn end_step(&mut self, context: &Context) -> Result<()> {
        self.enqueued += 1;
        let steps = self.steps() as u32;
        let cursor = Out::new(self.cursor_pointer(), 2);
        kernels::EndStep { cursor, steps }.launch(context, Grid::blocks(1, 1))?;
        Ok(())
    }

    /// Images of a step, but for the last one.
    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    /// The largest image of the epoch.
    pub(super) fn largest_image(&self) -> u32 {
        *self.order.iter().max().expect("an epoch has begun")
    }

    /// The first `count` images of the step that the host enqueues next.
    pub(super) fn enqueued_images(&self, count: usize) -> &[u32] {
        assert!(count <= self.batch && self.enqueued < self.steps(), "images of a step of the epoch");
        &self.order[self.enqueued * self.batch..][..count]
    }

    /// Finished steps of the epoch, then finished optimiser steps.
    pub(super) fn cursor(&self) -> In<'_, u32> {
        In::new(self.cursor_pointer(), 2)
    }

    /// `1 − β₁ᵗ` of every step.
    pub(super) fn corrections_1(&self) -> In<'_, f64> {
        In::new(self.buffer.pointer(), self.steps() + 1)
    }

    /// `1/√(1 − β₂ᵗ)` of every step.
    pub(super) fn inverse_corrections_2(&self) -> In<'_, f32> {
        let before = self.corrections_1().len() * size_of::<f64>();
        In::new(self.buffer.pointer() + before as u64, self.steps() + 1)
    }

    /// The images of every step.
    pub(super) fn order(&self) -> In<'_, u32> {
        let corrections = self.inverse_corrections_2();
        let before = corrections.len() * size_of::<f32>();
        In::new(corrections.pointer() + before as u64, (self.steps() + 1) * self.batch)
    }

    fn cursor_pointer(&self) -> u64 {
        self.order().pointer() + (self.order().len() * size_of::<u32>()) as u64
    }
}
