#include "product.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <vector>

#include "../execution/pool.h"

// One source, compiled for several generations of processors; the newest that fits is chosen when the library is loaded.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EVERY_PROCESSOR
#endif

namespace cusim {

namespace {

constexpr int64_t PANEL_ROWS = 16;     // of D in one call of the kernel
constexpr int64_t PANEL_COLUMNS = 6;   // likewise: twelve AVX2 registers of sums in all
constexpr int64_t TILE_ROWS = 8 * PANEL_ROWS;
constexpr int64_t TILE_COLUMNS = 16 * PANEL_COLUMNS;

// Without help from other threads a small product is over sooner.
constexpr int64_t WORTH_SHARING = 1 << 21;

// One AVX2 register: wider vectors go through memory where the processor lacks them.
constexpr int64_t VECTOR_FLOATS = 8;
typedef float Vector __attribute__((vector_size(VECTOR_FLOATS * sizeof(float))));

float to_tf32(float value) {
    uint32_t bits = std::bit_cast<uint32_t>(value);
    constexpr uint32_t DROPPED = 13;
    if ((bits & 0x7F800000u) == 0x7F800000u) return value;  // infinities and NaN stay
    bits += (1u << (DROPPED - 1)) - 1 + ((bits >> DROPPED) & 1);
    return std::bit_cast<float>(bits & ~((1u << DROPPED) - 1));
}

FOR_EVERY_PROCESSOR void widen(const _Float16* from, int64_t step, int64_t count, float* to, int64_t to_step) {
    for (int64_t i = 0; i < count; ++i) to[i * to_step] = float(from[i * step]);
}

// `count` elements of a matrix, `step` apart, as floats.
void gather(const View& view, int64_t offset, int64_t step, int64_t count, bool tf32, float* to, int64_t to_step) {
    if (view.element == Element::f16) {
        widen(static_cast<const _Float16*>(view.data) + offset, step, count, to, to_step);
        return;
    }
    const float* from = static_cast<const float*>(view.data) + offset;
    for (int64_t i = 0; i < count; ++i) to[i * to_step] = tf32 ? to_tf32(from[i * step]) : from[i * step];
}

// Lines of a factor (rows of A, columns of B) in panels of `width`, each panel k-major and filled up with zeros, so that
// the kernel reads memory in the order in which it lies.
std::vector<float> pack(const View& view, int64_t offset, int64_t lines, int64_t line_step, int64_t k, int64_t k_step,
                        int64_t width, bool tf32) {
    const int64_t panels = (lines + width - 1) / width;
    std::vector<float> packed(size_t(panels * width * k), 0.0f);
    std::atomic<int64_t> next{0};
    const auto work = [&] {
        for (int64_t panel; (panel = next++) < panels;) {
            float* to = packed.data() + panel * width * k;
            const int64_t first = panel * width, count = std::min(width, lines - first);
            const int64_t start = offset + first * line_step;
            if (std::abs(k_step) < std::abs(line_step)) {
                for (int64_t line = 0; line < count; ++line) {
                    gather(view, start + line * line_step, k_step, k, tf32, to + line, width);
                }
            } else {
                for (int64_t p = 0; p < k; ++p) gather(view, start + p * k_step, line_step, count, tf32, to + p * width, 1);
            }
        }
    };
    if (lines * k < WORTH_SHARING / 16) {
        work();
    } else {
        run_on_all_workers(work);
    }
    return packed;
}

// Adds the products of two panels over `depth` to `sums`, columns of 16 rows. The loops over vectors are unrolled, so that
// the partial sums stay in registers.
FOR_EVERY_PROCESSOR void multiply_panels(const float* a, const float* b, int64_t depth, float* sums) {
    constexpr int64_t VECTORS = PANEL_ROWS / VECTOR_FLOATS;
    Vector partial[PANEL_COLUMNS * VECTORS] = {};
    for (int64_t p = 0; p < depth; ++p) {
        Vector rows[VECTORS];
        memcpy(rows, a + p * PANEL_ROWS, sizeof rows);
#pragma GCC unroll 12
        for (int64_t j = 0; j < PANEL_COLUMNS * VECTORS; ++j) {
            partial[j] += rows[j % VECTORS] * b[p * PANEL_COLUMNS + j / VECTORS];
        }
    }
#pragma GCC unroll 12
    for (int64_t j = 0; j < PANEL_COLUMNS * VECTORS; ++j) {
        Vector sum;
        memcpy(&sum, sums + j * VECTOR_FLOATS, sizeof sum);
        sum += partial[j];
        memcpy(sums + j * VECTOR_FLOATS, &sum, sizeof sum);
    }
}

float read(const View& view, int64_t index) {
    if (view.element == Element::f16) return float(static_cast<const _Float16*>(view.data)[index]);
    return static_cast<const float*>(view.data)[index];
}

void write(const View& view, int64_t index, float value) {
    if (view.element == Element::f16) {
        static_cast<_Float16*>(view.data)[index] = _Float16(value);
    } else {
        static_cast<float*>(view.data)[index] = value;
    }
}

void finish(const Product& product, int64_t batch, int64_t i, int64_t j, float sum) {
    float value = product.alpha * sum;
    if (product.beta != 0.0f) {
        const View& c = product.c;
        value += product.beta * read(c, batch * c.batch_step + i * c.row_step + j * c.column_step);
    }
    if (product.bias.data) value += read(product.bias, batch * product.bias.batch_step + i);
    if (product.relu && value < 0.0f) value = 0.0f;
    const View& d = product.d;
    write(d, batch * d.batch_step + i * d.row_step + j * d.column_step, value);
}

void compute_tile(const Product& product, int64_t batch, const float* a, const float* b, int64_t first_row,
                  int64_t first_column) {
    const int64_t rows = std::min(TILE_ROWS, product.m - first_row);
    const int64_t columns = std::min(TILE_COLUMNS, product.n - first_column);
    constexpr int64_t PANEL_SUMS = PANEL_ROWS * PANEL_COLUMNS;
    constexpr int64_t ROW_PANELS = TILE_ROWS / PANEL_ROWS;
    std::vector<float> sums(size_t(TILE_ROWS * TILE_COLUMNS), 0.0f);
    for (int64_t start = 0; start < product.k; start += product.depth) {
        const int64_t depth = std::min(product.depth, product.k - start);
        for (int64_t j = 0; j < columns; j += PANEL_COLUMNS) {
            for (int64_t i = 0; i < rows; i += PANEL_ROWS) {
                multiply_panels(a + (first_row + i) * product.k + start * PANEL_ROWS,
                                b + (first_column + j) * product.k + start * PANEL_COLUMNS, depth,
                                sums.data() + (j / PANEL_COLUMNS * ROW_PANELS + i / PANEL_ROWS) * PANEL_SUMS);
            }
        }
    }
    for (int64_t j = 0; j < columns; ++j) {
        for (int64_t i = 0; i < rows; ++i) {
            const int64_t panel = j / PANEL_COLUMNS * ROW_PANELS + i / PANEL_ROWS;
            const float sum = sums[size_t(panel * PANEL_SUMS + j % PANEL_COLUMNS * PANEL_ROWS + i % PANEL_ROWS)];
            finish(product, batch, first_row + i, first_column + j, sum);
        }
    }
}

}  // namespace

void compute(const Product& product) {
    const int64_t row_tiles = (product.m + TILE_ROWS - 1) / TILE_ROWS;
    const int64_t tiles = row_tiles * ((product.n + TILE_COLUMNS - 1) / TILE_COLUMNS);
    for (int64_t batch = 0; batch < product.batches; ++batch) {
        const View &a = product.a, &b = product.b;
        const auto packed_a = pack(a, batch * a.batch_step, product.m, a.row_step, product.k, a.column_step, PANEL_ROWS,
                                   product.tf32);
        const auto packed_b = pack(b, batch * b.batch_step, product.n, b.column_step, product.k, b.row_step, PANEL_COLUMNS,
                                   product.tf32);
        std::atomic<int64_t> next{0};
        const auto work = [&] {
            for (int64_t tile; (tile = next++) < tiles;) {
                compute_tile(product, batch, packed_a.data(), packed_b.data(), tile % row_tiles * TILE_ROWS,
                             tile / row_tiles * TILE_COLUMNS);
            }
        };
        if (tiles == 1 || product.m * product.n * product.k < WORTH_SHARING) {
            work();
        } else {
            run_on_all_workers(work);
        }
    }
}

}  // namespace cusim
