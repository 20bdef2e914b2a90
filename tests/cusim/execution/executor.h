// Runs a launch: blocks on the workers of the pool, the threads of a block one after another on one worker.
//
// A thread runs until it returns or waits; a barrier opens when all threads that have not returned wait at it. So the
// order of threads decides what a kernel with a missing barrier computes, and each device runs them in another order.
#pragma once

#include "registry.h"
#include "vectors.h"

namespace cusim {

enum class Order { forward, reverse, shuffled };

const char* name_of(Order order);

struct Launch {
    const Kernel* kernel;
    dim3 grid;
    dim3 block;
    size_t dynamic_shared_bytes;
    void** arguments;
    Order order;
};

// Returns when every block has run, and what it has counted: bank conflicts of ldmatrix.
uint64_t execute(const Launch& launch);

}  // namespace cusim
