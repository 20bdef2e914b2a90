// The tensor cores and what feeds them, from compute capability 8.0 on: one instruction a function, each with a plain
// twin on the simulated GPU (tests/cusim/execution/tensor_core.h). PTX ISA, "Warp Level Matrix Multiply-Accumulate
// Instructions" and "Asynchronous Copy Operations".
//
// All lanes of a warp call the functions for warps together. Of lane l, `group` is l / 4 and `pair` is 2·(l mod 4).
#pragma once

#include "common.cuh"

// Whether the code being compiled may use what this header declares: older GPUs have none of it, and launchers never
// start such a kernel there.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define HAS_TENSOR_CORE_PIPELINE 0
#else
#define HAS_TENSOR_CORE_PIPELINE 1
#endif

#if defined(__CUDACC__) && HAS_TENSOR_CORE_PIPELINE

// sum += a·b for a 16×16 matrix a of halves, a 16×8 matrix b of halves and 16×8 sums in float, spread over the warp.
// A register holds two halves, the one of the smaller index below:
//   a[0], a[1], a[2], a[3]: rows group, group + 8, group, group + 8; columns pair and pair + 1, in the last two + 8
//   b[0], b[1]: column group; rows pair and pair + 1, in the last + 8
//   sum[0], sum[1] | sum[2], sum[3]: row group | group + 8; columns pair, pair + 1
__device__ __forceinline__ void mma_m16n8k16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8×8 matrices of halves from shared memory. Lane l names row l mod 8 of matrix l / 8, sixteen aligned bytes;
// register i receives of matrix i the row `group`, columns pair and pair + 1.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&matrices)[4], const __half* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
                 : "r"(unsigned(__cvta_generic_to_shared(row)))
                 : "memory");
}

// Begins to copy sixteen aligned bytes to shared memory, or zeros where there is nothing to copy: `from` is an address
// that may be read all the same. Until the copy has landed, nobody knows what `to` holds. This one keeps a copy in the
// first-level cache, for who will soon read the same bytes again.
__device__ __forceinline__ void copy_async_16_cached(__half* to, const __half* from, bool inside) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(unsigned(__cvta_generic_to_shared(to))), "l"(from),
                 "r"(inside ? 16 : 0)
                 : "memory");
}

// The same past the first-level cache, for what is read once.
__device__ __forceinline__ void copy_async_16(__half* to, const __half* from, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(unsigned(__cvta_generic_to_shared(to))), "l"(from),
                 "r"(inside ? 16 : 0)
                 : "memory");
}

// The copies that this thread began since its last call form a group, perhaps an empty one.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until all but the last PENDING groups of this thread have landed. Other threads see them behind a barrier.
template <unsigned PENDING> __device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

#elif !defined(__CUDACC__)

__device__ __forceinline__ void mma_m16n8k16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                                             std::source_location where = std::source_location::current()) {
    cusim::mma_m16n8k16(sum, a, b0, b1, where);
}

__device__ __forceinline__ void ldmatrix_x4(unsigned (&matrices)[4], const __half* row,
                                            std::source_location where = std::source_location::current()) {
    cusim::ldmatrix_x4(matrices, row, where);
}

__device__ __forceinline__ void copy_async_16_cached(__half* to, const __half* from, bool inside,
                                                     std::source_location where = std::source_location::current()) {
    cusim::copy_async(to, from, 16, inside ? 16 : 0, where);
}

__device__ __forceinline__ void copy_async_16(__half* to, const __half* from, bool inside,
                                              std::source_location where = std::source_location::current()) {
    cusim::copy_async(to, from, 16, inside ? 16 : 0, where);
}

__device__ __forceinline__ void commit_copies() { cusim::commit_copies(); }

template <unsigned PENDING> __device__ __forceinline__ void wait_for_copies() { cusim::wait_for_copies(PENDING); }

#endif
