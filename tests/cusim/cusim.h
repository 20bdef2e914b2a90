// What a kernel sees of the simulated GPU: `common.cuh` includes this header where nvcc is not the compiler.
//
// The language's keywords become plain C++, a thread's coordinates come from the block that is running, barriers and
// shuffles suspend the thread (see execution/executor.h). Nothing here knows any kernel of the project.
#pragma once

#include "execution/vectors.h"

#include "execution/block.h"
#include "execution/half.h"
#include "execution/registry.h"

#include "execution/intrinsics.h"
#include "execution/tensor_core.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __restrict__ __restrict

// A worker runs one block at a time, so that what is shared in a block is private to a worker. The sanitized build has a
// single worker and uses plain statics, because AddressSanitizer puts red zones around those alone.
#ifdef __SANITIZE_ADDRESS__
#define __shared__ static
#else
#define __shared__ static thread_local
#endif

// The block's dynamic shared memory as an array of T.
#define DYNAMIC_SHARED(T, name) T* const name = reinterpret_cast<T*>(::cusim::current_block->dynamic_shared)

#define threadIdx (::cusim::current_thread->index)
#define blockIdx (::cusim::current_block->index)
#define blockDim (::cusim::current_block->size)
#define gridDim (::cusim::current_block->grid)
constexpr int warpSize = 32;
