// The tensor cores' product and what feeds it, as instructions of PTX: mma.sync.m16n8k16, ldmatrix.x4, cp.async.
//
// Fragments are laid out over the lanes as PTX ISA documents it. Of lane l, `group` is l / 4 and `pair` is 2·(l mod 4).
#pragma once

#include <cstddef>
#include <source_location>

#include "block.h"
#include "half.h"

namespace cusim {

// sum += a·b: a 16×16 and b 16×8 in halves, sums in float. A sum adds its sixteen products in ascending order, each with
// one rounding; hardware has an order and roundings of its own.
void mma_m16n8k16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, std::source_location where);

// Four 8×8 matrices: lane l names row l mod 8 of matrix l / 8 and receives row `group`, columns pair and pair + 1 of each.
// Rows that are not aligned to sixteen bytes end the process; rows of one matrix that share banks are counted.
void ldmatrix_x4(unsigned (&matrices)[4], const __half* row, std::source_location where);

// Begins a copy of `bytes` (4, 8 or 16), of which only the first `source_bytes` are read and the rest are zeros. It lands
// at the thread's wait and not before; until then the destination holds NaN, so that who reads it too early, or had yet to
// read what was there, shows.
void copy_async(void* to, const void* from, size_t bytes, size_t source_bytes, std::source_location where);

// Makes a group of the copies begun since the last call.
void commit_copies();

// Lands all groups but the last `pending`. Copies that no group holds go on.
void wait_for_copies(unsigned pending);

}  // namespace cusim
