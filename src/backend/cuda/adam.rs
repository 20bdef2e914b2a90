//! `adam`: one step of Adam or AdamW for every parameter, in one launch.

use super::context::Context;
use super::launch::{Grid, Kernel, THREADS, kernels};
use super::memory::CudaTensor;
use super::schedule::CudaSchedule;
use crate::backend::{ADAM_BETAS, ADAM_EPSILON, Result};
use cudarc::driver::sys::CUdeviceptr;

/// Parameters of one launch: `ADAM_SLOTS` of `kernels/adam.cu`.
const SLOTS: usize = 16;
/// Elements that a block updates: a packet of four a thread.
const VALUES_PER_BLOCK: u64 = 4 * THREADS as u64;

/// `AdamSlot` of `kernels/adam.cu`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Slot {
    parameter: CUdeviceptr,
    gradient: CUdeviceptr,
    first_moment: CUdeviceptr,
    second_moment: CUdeviceptr,
    count: u64,
    first_block: u32,
    l2: f32,
    decay: f32,
    learning_rate: f64,
}

/// The parameters of one launch, passed by value.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct AdamSlots {
    slot: [Slot; SLOTS],
}

const _: () =
    assert!(size_of::<Slot>() == 64 && size_of::<AdamSlots>() == 1024, "AdamSlots of kernels/adam.cu");

/// Updates every parameter. Constants are computed in f64, as on the CPU.
pub(super) fn adam(
    context: &Context,
    slots: &mut [crate::backend::AdamSlot<'_, CudaTensor>],
    schedule: &CudaSchedule,
) -> Result<()> {
    let (beta_1, beta_2) = ADAM_BETAS;
    for launch in slots.chunks_mut(SLOTS) {
        let mut arguments = AdamSlots::default();
        let mut blocks = 0;
        let used = launch.len() as u32;
        for (slot, argument) in launch.iter_mut().zip(&mut arguments.slot) {
            let rule = slot.rule;
            let (l2, decay) = if rule.decoupled {
                (0.0, rule.learning_rate * rule.weight_decay)
            } else {
                (rule.weight_decay, 0.0)
            };
            let count = slot.parameter.len();
            for other in [slot.gradient, &*slot.first_moment, &*slot.second_moment] {
                assert_eq!(other.len(), count, "a gradient and two moments for every element");
            }
            *argument = Slot {
                parameter: slot.parameter.write::<f32>().pointer(),
                gradient: slot.gradient.read::<f32>().pointer(),
                first_moment: slot.first_moment.write::<f32>().pointer(),
                second_moment: slot.second_moment.write::<f32>().pointer(),
                count: count as u64,
                first_block: blocks as u32,
                l2: l2 as f32,
                decay: decay as f32,
                learning_rate: rule.learning_rate,
            };
            blocks += (count as u64).div_ceil(VALUES_PER_BLOCK);
        }
        // More blocks than a grid takes are refused, so `first_block` never wraps in a launch that runs.
        kernels::Adam {
            slots: arguments,
            used,
            cursor: schedule.cursor(),
            corrections_1: schedule.corrections_1(),
            inverse_corrections_2: schedule.inverse_corrections_2(),
            rate_1: (1.0 - beta_1) as f32,
            keep_2: beta_2 as f32,
            rate_2: (1.0 - beta_2) as f32,
            epsilon: ADAM_EPSILON as f32,
        }
        .launch(context, Grid::blocks(blocks, THREADS))?;
    }
    Ok(())
}
