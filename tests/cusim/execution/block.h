// The block that a worker is running, as its threads see it.
#pragma once

#include <source_location>
#include <vector>

#include "vectors.h"

namespace cusim {

class Fiber;
struct Kernel;

constexpr unsigned WARP_SIZE = 32;
constexpr unsigned WIDEST_EXCHANGE = 64;

enum class State : unsigned char { running, at_barrier, at_exchange, done };

// An asynchronous copy to shared memory that has not landed: what it will write, and the group it belongs to.
struct Copy {
    void* to;
    unsigned char data[16];
    unsigned bytes;
    unsigned group;
};

struct Thread {
    uint3 index;
    unsigned lane;
    unsigned warp;
    State state;
    std::source_location where;  // of the barrier or exchange it waits at
    Fiber* fiber;                // that carries its stack while it waits
    std::vector<Copy> copies;
    unsigned groups;  // of copies, made so far
};

// The mailboxes of one warp. Two sets alternate, so that a lane that runs ahead into the next exchange does not overwrite
// what a slower one has yet to read.
struct Warp {
    alignas(WIDEST_EXCHANGE) unsigned char slots[2][WARP_SIZE][WIDEST_EXCHANGE];
    uint32_t live;
    uint32_t arrived;
    uint32_t round;
};

struct Block {
    dim3 grid;
    dim3 size;
    uint3 index;
    const Kernel* kernel = nullptr;
    void** arguments = nullptr;
    unsigned char* dynamic_shared = nullptr;

    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::vector<unsigned> order;  // in which threads start, and resume after a barrier
    unsigned next_to_start = 0;   // position in `order`
    unsigned live = 0;
    unsigned at_barrier = 0;
    uint64_t bank_conflicts = 0;  // since the launch began, on this worker
};

// A fiber never leaves the worker that started it, so that a compiler may keep these addresses over a suspension.
// "initial-exec" saves a call at every use; the library's thread-local storage is small enough for it.
extern constinit thread_local Block* current_block __attribute__((tls_model("initial-exec")));
extern constinit thread_local Thread* current_thread __attribute__((tls_model("initial-exec")));

// Suspends the thread until every thread of the block that has not returned is at this barrier.
void wait_at_barrier(std::source_location where);

// Hands `value` (of `bytes`) to the other lanes of the warp and suspends the thread until all of them have handed in
// theirs. Returns the lanes' slots; those of lanes that do not exist or have returned hold poison.
const unsigned char (*exchange(uint32_t mask, const void* value, size_t bytes, std::source_location where))[WIDEST_EXCHANGE];

// Ends the process: the kernel did what no GPU allows.
[[noreturn]] void kernel_fault(const char* what, std::source_location where);

}  // namespace cusim
