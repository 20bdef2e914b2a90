#include "common.cuh"

// end_step: the cursor of an epoch moves to the next step.
//
// A step's kernels read what is theirs through the cursor: gather_rows its images, noise the step that its draws
// belong to, adam its bias corrections. No argument of theirs changes from step to step, and all steps of one size are
// the same work. One thread, 16 bytes.

// `cursor`: finished steps of the epoch, at most its `steps`, then finished optimiser steps in all. One block of one
// thread.
extern "C" __global__ void __launch_bounds__(1) end_step(unsigned* __restrict__ cursor, unsigned steps) {
    if (cursor[0] >= steps) return;
    ++cursor[0];
    ++cursor[1];
}
