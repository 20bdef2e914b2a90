#include "tensor_core.h"

#include <algorithm>
#include <cstring>

namespace cusim {

namespace {

constexpr unsigned ROW_BYTES = 16;
constexpr unsigned MATRIX_ROWS = 8;

// What a lane brings to a product, widened: two halves a register.
struct Operands {
    float a[4][2];
    float b[2][2];
};
static_assert(sizeof(Operands) <= WIDEST_EXCHANGE);

// Exact, NaN and subnormals included; the compiler's own conversion is a call.
float widened(unsigned bits) {
    const unsigned magnitude = (bits & 0x7FFFu) << 13;
    // A half's exponent is 112 smaller than that of the float with its bits.
    float value = __builtin_bit_cast(float, magnitude) * 0x1p112f;
    if (magnitude >= 0x0F800000u) value = __builtin_bit_cast(float, magnitude | 0x7F800000u);
    return __builtin_bit_cast(float, __builtin_bit_cast(unsigned, value) | (bits & 0x8000u) << 16);
}

void widen(unsigned halves, float (&values)[2]) {
    values[0] = widened(halves & 0xFFFFu);
    values[1] = widened(halves >> 16);
}

// Where eight rows of sixteen bytes lie in different banks, one access serves them; this is how many more it takes.
unsigned conflicts(const void* const (&rows)[MATRIX_ROWS]) {
    unsigned lines[MATRIX_ROWS] = {}, most = 0;
    for (unsigned i = 0; i < MATRIX_ROWS; ++i) {
        // A row that two lanes name is read once.
        bool repeated = false;
        for (unsigned j = 0; j < i; ++j) repeated |= rows[j] == rows[i];
        if (!repeated) most = std::max(most, ++lines[reinterpret_cast<uintptr_t>(rows[i]) / ROW_BYTES % MATRIX_ROWS]);
    }
    return most - 1;  // the first row is always one
}

}  // namespace

void mma_m16n8k16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, std::source_location where) {
    Operands own;
    for (unsigned i = 0; i < 4; ++i) widen(a[i], own.a[i]);
    widen(b0, own.b[0]);
    widen(b1, own.b[1]);
    const auto* slots = exchange(~0u, &own, sizeof own, where);
    const auto operands = [&](unsigned lane) { return reinterpret_cast<const Operands*>(slots[lane]); };
    const unsigned group = current_thread->lane / 4, pair = 2 * (current_thread->lane % 4);

    // Rows group and group + 8 of a, from the four lanes of the group; column pair and the next of b, from the four lanes of
    // the group of that number.
    for (unsigned k = 0; k < 16; ++k) {
        const unsigned lane = k % 8 / 2, half = k / 8;
        for (unsigned row = 0; row < 2; ++row) {
            const float left = operands(4 * group + lane)->a[2 * half + row][k % 2];
            for (unsigned column = 0; column < 2; ++column) {
                const float right = operands(4 * (pair + column) + lane)->b[half][k % 2];
                // Products of halves are exact in float.
                sum[2 * row + column] += left * right;
            }
        }
    }
}

void ldmatrix_x4(unsigned (&matrices)[4], const __half* row, std::source_location where) {
    if (reinterpret_cast<uintptr_t>(row) % ROW_BYTES != 0) kernel_fault("a row of a matrix is not aligned", where);
    const auto* slots = exchange(~0u, &row, sizeof row, where);
    const auto address = [&](unsigned lane) {
        const __half* address;
        memcpy(&address, slots[lane], sizeof address);
        return address;
    };
    const unsigned group = current_thread->lane / 4, pair = 2 * (current_thread->lane % 4);
    for (unsigned i = 0; i < 4; ++i) memcpy(&matrices[i], address(MATRIX_ROWS * i + group) + pair, sizeof matrices[i]);

    // One lane counts for each matrix.
    if (current_thread->lane >= 4) return;
    const void* rows[MATRIX_ROWS];
    for (unsigned i = 0; i < MATRIX_ROWS; ++i) rows[i] = address(MATRIX_ROWS * current_thread->lane + i);
    current_block->bank_conflicts += conflicts(rows);
}

void copy_async(void* to, const void* from, size_t bytes, size_t source_bytes, std::source_location where) {
    const auto aligned = [&](const void* address) { return reinterpret_cast<uintptr_t>(address) % bytes == 0; };
    if (!aligned(to) || !aligned(from)) kernel_fault("an asynchronous copy is not aligned", where);
    Thread& thread = *current_thread;
    Copy copy{to, {}, unsigned(bytes), thread.groups};
    memcpy(copy.data, from, source_bytes);
    thread.copies.push_back(copy);
    memset(to, 0xFF, bytes);
}

void commit_copies() { ++current_thread->groups; }

void wait_for_copies(unsigned pending) {
    Thread& thread = *current_thread;
    std::erase_if(thread.copies, [&](const Copy& copy) {
        const bool lands = copy.group + pending < thread.groups;
        if (lands) memcpy(copy.to, copy.data, copy.bytes);
        return lands;
    });
}

}  // namespace cusim
