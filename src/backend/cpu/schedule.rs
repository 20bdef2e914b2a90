//! `begin_epoch` and `end_step`: where an epoch stands.

use crate::backend::Epoch;

/// The steps of one epoch, and how many are done.
#[derive(Clone, Debug)]
pub struct CpuSchedule {
    images: usize,
    batch: usize,
    order: Vec<u32>,
    first_step: u32,
    done: usize,
}

impl CpuSchedule {
    pub(super) fn new(images: usize, batch: usize) -> Self {
        assert!(images > 0 && batch > 0, "an epoch has a step");
        Self { images, batch, order: Vec::new(), first_step: 0, done: 0 }
    }

    pub(super) fn begin_epoch(&mut self, epoch: &Epoch<'_>) {
        assert_eq!(epoch.order.len(), self.images, "an epoch has the schedule's images");
        self.order.clear();
        self.order.extend_from_slice(epoch.order);
        (self.first_step, self.done) = (epoch.first_step, epoch.done);
        self.assert_unfinished();
    }

    /// Optimiser steps before the present one.
    pub(super) fn step(&self) -> u32 {
        self.assert_unfinished();
        self.first_step + self.done as u32
    }

    /// The first `count` images of the present step.
    pub fn images(&self, count: usize) -> &[u32] {
        self.assert_unfinished();
        assert!(count <= self.batch, "no more images than a step has");
        &self.order[self.done * self.batch..][..count]
    }

    pub(super) fn end_step(&mut self) {
        self.assert_unfinished();
        self.done += 1;
    }

    fn assert_unfinished(&self) {
        assert!(self.done < self.order.len().div_ceil(self.batch), "the epoch has another step");
    }
}
