// D = epilogue(alpha · op(A) · op(B) + beta · C), the arithmetic behind `cublasLtMatmul`.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cusim {

enum class Element { f32, f16 };

inline size_t bytes_of(Element element) { return element == Element::f32 ? 4 : 2; }

// Element (i, j) of a batch's matrix lies at data[batch · batch_step + i · row_step + j · column_step]; transposition and
// storage order are in the steps.
struct View {
    void* data = nullptr;
    Element element = Element::f32;
    int64_t row_step = 0;
    int64_t column_step = 0;
    int64_t batch_step = 0;
};

struct Product {
    int64_t m = 0, n = 0, k = 0, batches = 1;
    View a, b, c, d;  // m×k, k×n, m×n, m×n
    float alpha = 1, beta = 0;
    // Rounds the factors to TF32: 10 bits of mantissa, to nearest, ties to even.
    bool tf32 = false;
    bool relu = false;
    // One value a row of D; null without a bias.
    View bias;
    int64_t depth = 256;  // of a partial sum
};

// Every element is summed in one order, whatever the number of threads: partial sums over `depth` neighbouring k, in f32. C
// is not read where beta is 0. NaN passes through ReLU.
void compute(const Product& product);

}  // namespace cusim
