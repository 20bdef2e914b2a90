// Entry points of cuBLASLt: choosing an algorithm, and the product itself.

#include <algorithm>
#include <bit>
#include <cstring>

#include "../driver/api.h"
#include "../driver/fault.h"
#include "library.h"
#include "objects.h"
#include "product.h"

namespace cusim {

namespace {

// A way to multiply: they differ in the order of summation, and so in the last bits.
struct Way {
    // An odd amount, to show who passes less than was asked for.
    uint64_t workspace_bytes;
    int64_t depth;  // k in one partial sum
};

// In the order in which the heuristic offers them.
constexpr Way ALGORITHMS[] = {{(256 << 10) + 16, 256}, {0, 256}, {0, 64}, {(64 << 10) + 16, 1024}};

constexpr uint64_t BIAS_ALIGNMENT = 16;

struct HeuristicResult {
    Algorithm algorithm;
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
};

// The descriptors of one product, by value.
struct Problem {
    MatmulOperation operation;
    MatrixLayout a, b, c, d;
};

bool has_bias(int epilogue) { return epilogue == EPILOGUE_BIAS || epilogue == EPILOGUE_RELU_BIAS; }
bool has_relu(int epilogue) { return epilogue == EPILOGUE_RELU || epilogue == EPILOGUE_RELU_BIAS; }

uint64_t rows_of(const MatrixLayout& layout, int transpose) {
    return transpose == OPERATION_TRANSPOSE ? layout.columns : layout.rows;
}
uint64_t columns_of(const MatrixLayout& layout, int transpose) {
    return transpose == OPERATION_TRANSPOSE ? layout.rows : layout.columns;
}

Status check_layout(const MatrixLayout& layout, const char* name) {
    const uint64_t line = layout.order == COLUMN_MAJOR ? layout.rows : layout.columns;
    const uint64_t lines = layout.order == COLUMN_MAJOR ? layout.columns : layout.rows;
    if (layout.rows == 0 || layout.columns == 0 || layout.batches < 1 || layout.leading_dimension < int64_t(line)) {
        explain("matrix %s of %llu×%llu, leading dimension %lld, %d batches is not a layout", name,
                (unsigned long long)layout.rows, (unsigned long long)layout.columns, (long long)layout.leading_dimension,
                layout.batches);
        return STATUS_INVALID_VALUE;
    }
    // Zero repeats one matrix for every batch.
    const bool overlaps = layout.batches > 1 && layout.batch_stride != 0 &&
                          layout.batch_stride < int64_t(lines - 1) * layout.leading_dimension + int64_t(line);
    if (overlaps) {
        explain("the batches of matrix %s overlap", name);
        return STATUS_INVALID_VALUE;
    }
    return STATUS_SUCCESS;
}

Status check_types(const Problem& problem) {
    const auto& [operation, a, b, c, d] = problem;
    const auto known = [](int type) { return type == R_32F || type == R_16F; };
    const bool compute = operation.compute == COMPUTE_32F || operation.compute == COMPUTE_32F_PEDANTIC ||
                         operation.compute == COMPUTE_32F_FAST_TF32;
    if (!compute || operation.scale != R_32F || !known(a.type) || a.type != b.type || !known(d.type) || c.type != d.type) {
        return STATUS_NOT_SUPPORTED;
    }
    // TF32 is a way to multiply floats, and floats are not narrowed on their way out.
    if (operation.compute == COMPUTE_32F_FAST_TF32 && a.type != R_32F) return STATUS_NOT_SUPPORTED;
    if (a.type == R_32F && d.type != R_32F) return STATUS_NOT_SUPPORTED;
    // A bias has the type of D; -1 says so without naming it.
    const bool bias_fits = operation.bias_type == -1 || operation.bias_type == d.type;
    if (has_bias(operation.epilogue) && !bias_fits) return STATUS_NOT_SUPPORTED;
    for (const MatrixLayout* layout : {&a, &b, &c, &d}) {
        if (layout->order != COLUMN_MAJOR && layout->order != ROW_MAJOR) return STATUS_NOT_SUPPORTED;
    }
    return STATUS_SUCCESS;
}

Status check_problem(const Problem& problem) {
    const auto& [operation, a, b, c, d] = problem;
    for (const auto& [layout, name] : {std::pair(&a, "A"), {&b, "B"}, {&c, "C"}, {&d, "D"}}) {
        const Status status = check_layout(*layout, name);
        if (status != STATUS_SUCCESS) return status;
    }
    for (const int transpose : {operation.transpose_a, operation.transpose_b}) {
        if (transpose != OPERATION_NONE && transpose != OPERATION_TRANSPOSE) return STATUS_NOT_SUPPORTED;
    }
    if (operation.transpose_c != OPERATION_NONE || operation.pointer_mode != 0) return STATUS_NOT_SUPPORTED;
    const uint64_t m = rows_of(a, operation.transpose_a), k = columns_of(a, operation.transpose_a);
    const uint64_t n = columns_of(b, operation.transpose_b);
    const bool shapes = rows_of(b, operation.transpose_b) == k && d.rows == m && d.columns == n && c.rows == m &&
                        c.columns == n && c.order == d.order;
    const bool batches = a.batches == d.batches && b.batches == d.batches && c.batches == d.batches;
    if (!shapes || !batches || (d.batches > 1 && d.batch_stride == 0)) {
        explain("a product of matrices that do not fit: op(A) %llu×%llu, op(B) %llu×%llu, C %llu×%llu, D %llu×%llu",
                (unsigned long long)m, (unsigned long long)k, (unsigned long long)rows_of(b, operation.transpose_b),
                (unsigned long long)n, (unsigned long long)c.rows, (unsigned long long)c.columns,
                (unsigned long long)d.rows, (unsigned long long)d.columns);
        return STATUS_INVALID_VALUE;
    }
    const Status types = check_types(problem);
    if (types != STATUS_SUCCESS) return types;
    const int epilogue = operation.epilogue;
    const bool known = epilogue == EPILOGUE_DEFAULT || has_bias(epilogue) || has_relu(epilogue);
    if (!known || (settings().no_epilogue && epilogue != EPILOGUE_DEFAULT)) return STATUS_NOT_SUPPORTED;
    return STATUS_SUCCESS;
}

// FNV-1a over what an algorithm depends on: an algorithm that was chosen for another problem is refused.
uint64_t digest(const Problem& problem) {
    uint64_t hash = 0xcbf29ce484222325ull;
    const auto add = [&](uint64_t value) {
        for (int byte = 0; byte < 8; ++byte) hash = (hash ^ (value >> (8 * byte) & 0xFF)) * 0x100000001b3ull;
    };
    const MatmulOperation& operation = problem.operation;
    for (const int value : {operation.compute, operation.transpose_a, operation.transpose_b, operation.epilogue,
                            operation.bias_type}) {
        add(uint64_t(value));
    }
    for (const MatrixLayout* layout : {&problem.a, &problem.b, &problem.c, &problem.d}) {
        add(uint64_t(layout->type));
        add(uint64_t(layout->order));
        add(layout->rows);
        add(layout->columns);
        add(uint64_t(layout->leading_dimension));
        add(uint64_t(layout->batches));
        add(uint64_t(layout->batch_stride));
    }
    return hash;
}

// FNV-1a over an algorithm but for the seal itself.
uint64_t seal_of(const Algorithm& algorithm) {
    uint64_t hash = 0xcbf29ce484222325ull;
    const auto* bytes = reinterpret_cast<const unsigned char*>(&algorithm);
    for (size_t i = 0; i < offsetof(Algorithm, seal); ++i) hash = (hash ^ bytes[i]) * 0x100000001b3ull;
    return hash;
}

Algorithm algorithm_for(const Problem& problem, const MatmulPreference& preference, size_t number) {
    Algorithm algorithm{digest(problem),
                        ALGORITHMS[number].workspace_bytes,
                        preference.alignment_a,
                        preference.alignment_b,
                        preference.alignment_c,
                        preference.alignment_d,
                        number,
                        {},
                        0};
    algorithm.seal = seal_of(algorithm);
    return algorithm;
}

// Whether these 64 bytes are an algorithm of this problem. The real library may notice less.
bool is_sound(const Algorithm& algorithm, const Problem& problem) {
    return algorithm.seal == seal_of(algorithm) && algorithm.problem == digest(problem) &&
           algorithm.number < std::size(ALGORITHMS);
}

// Each further algorithm takes another ten microseconds, counted from the fastest; a factor that the cache does not hold
// makes all of them slow.
uint64_t duration_of(const Algorithm& algorithm, size_t largest_factor) {
    constexpr size_t COUNT = std::size(ALGORITHMS);
    const size_t rank = (algorithm.number + COUNT - settings().fastest_algorithm % COUNT) % COUNT;
    const uint64_t cached = 10000 * (1 + rank);
    return largest_factor > size_t(L2_CACHE_BYTES) ? 16 * cached : cached;
}

Status read_problem(void* handle, void* operation, void* a, void* b, void* c, void* d, Problem& problem) {
    if (!is_library_handle(handle)) return STATUS_NOT_INITIALIZED;
    const auto found = handles<MatmulOperation>().find(operation);
    if (!found) return STATUS_INVALID_VALUE;
    problem.operation = *found;
    const std::pair<void*, MatrixLayout*> layouts[] = {{a, &problem.a}, {b, &problem.b}, {c, &problem.c}, {d, &problem.d}};
    for (const auto& [layout_handle, layout] : layouts) {
        const auto known = handles<MatrixLayout>().find(layout_handle);
        if (!known) return STATUS_INVALID_VALUE;
        *layout = *known;
    }
    return check_problem(problem);
}

// --- The product as work of a stream ------------------------------------------------------------------------------------

struct Extent {
    const void* start;
    size_t bytes;
    bool overlaps(const Extent& other) const {
        const auto *own = static_cast<const char*>(start), *its = static_cast<const char*>(other.start);
        return own < its + other.bytes && its < own + bytes;
    }
};

Element element_of(int type) { return type == R_16F ? Element::f16 : Element::f32; }

// From the first element of a matrix to the last, all batches.
Extent extent_of(const MatrixLayout& layout, const void* data) {
    const bool columns = layout.order == COLUMN_MAJOR;
    const uint64_t line = columns ? layout.rows : layout.columns, lines = columns ? layout.columns : layout.rows;
    const uint64_t elements = uint64_t(layout.batches - 1) * uint64_t(layout.batch_stride) +
                              (lines - 1) * uint64_t(layout.leading_dimension) + line;
    return {data, elements * bytes_of(element_of(layout.type))};
}

View view_of(const MatrixLayout& layout, const void* data, int transpose) {
    View view{const_cast<void*>(data), element_of(layout.type), 1, layout.leading_dimension, layout.batch_stride};
    if ((layout.order == ROW_MAJOR) != (transpose == OPERATION_TRANSPOSE)) std::swap(view.row_step, view.column_step);
    return view;
}

class Matmul final : public Work {
  public:
    Matmul(const Product& product, std::vector<Extent> operands, Extent workspace, uint64_t nanoseconds)
        : product_(product), operands_(std::move(operands)), workspace_(workspace), nanoseconds_(nanoseconds) {}

    uint64_t nanoseconds() const override { return nanoseconds_; }

    std::string name() const override {
        return "a product of " + std::to_string(product_.m) + "×" + std::to_string(product_.k) + " and " +
               std::to_string(product_.k) + "×" + std::to_string(product_.n);
    }

    Result check(Device& device) const override {
        for (const Extent& operand : operands_) {
            if (device.memory.contains(operand.start, operand.bytes)) continue;
            explain("%s: an operand of %zu bytes at %p leaves the device's buffers", name().c_str(), operand.bytes,
                    operand.start);
            return INVALID_VALUE;
        }
        return SUCCESS;
    }

    void run(Device& device) override {
        // The workspace is scratch: whoever keeps data there loses it.
        if (workspace_.bytes > 0) memset(const_cast<void*>(workspace_.start), 0xFF, workspace_.bytes);
        compute(product_);
        ++device.counters.products_run;
    }

  private:
    Product product_;
    std::vector<Extent> operands_;
    Extent workspace_;
    uint64_t nanoseconds_;
};

bool aligned(const void* address, uint64_t alignment) { return reinterpret_cast<uintptr_t>(address) % alignment == 0; }

Status check_pointers(const Problem& problem, const Algorithm& algorithm, const void* a, const void* b, const void* c,
                      const void* d, bool reads_c) {
    const std::pair<const void*, uint64_t> needs[] = {{a, algorithm.alignment_a},
                                                      {b, algorithm.alignment_b},
                                                      {reads_c ? c : d, reads_c ? algorithm.alignment_c : 1},
                                                      {d, algorithm.alignment_d}};
    for (const auto& [address, alignment] : needs) {
        if (!address) return STATUS_INVALID_VALUE;
        if (aligned(address, alignment)) continue;
        explain("a matrix at %p for an algorithm that was promised an alignment of %llu bytes", address,
                (unsigned long long)alignment);
        return STATUS_INVALID_VALUE;
    }
    const Extent out = extent_of(problem.d, d);
    if (out.overlaps(extent_of(problem.a, a)) || out.overlaps(extent_of(problem.b, b))) {
        explain("a product that is written over one of its factors");
        return STATUS_INVALID_VALUE;
    }
    const bool in_place = c == d && problem.c.leading_dimension == problem.d.leading_dimension &&
                          problem.c.batch_stride == problem.d.batch_stride;
    if (reads_c && !in_place && out.overlaps(extent_of(problem.c, c))) {
        explain("matrices C and D overlap without being the same");
        return STATUS_INVALID_VALUE;
    }
    return STATUS_SUCCESS;
}

}  // namespace
}  // namespace cusim

using namespace cusim;

CUSIM_API int cublasLtMatmulAlgoGetHeuristic(void* handle, void* operation, void* a, void* b, void* c, void* d,
                                             void* preference_handle, int wanted, HeuristicResult* results, int* found) {
    if (!found || !results || wanted < 1) return STATUS_INVALID_VALUE;
    *found = 0;
    ++cublaslt_questions();
    Problem problem;
    const Status status = read_problem(handle, operation, a, b, c, d, problem);
    if (status != STATUS_SUCCESS) return status;
    const auto preference = handles<MatmulPreference>().find(preference_handle);
    if (!preference) return STATUS_INVALID_VALUE;
    for (const uint32_t alignment : {preference->alignment_a, preference->alignment_b, preference->alignment_c,
                                     preference->alignment_d}) {
        if (!std::has_single_bit(alignment)) return STATUS_INVALID_VALUE;
    }
    for (size_t number = 0; number < std::size(ALGORITHMS); ++number) {
        const uint64_t workspace_bytes = ALGORITHMS[number].workspace_bytes;
        if (*found == wanted || workspace_bytes > preference->workspace_bytes) continue;
        results[(*found)++] = {algorithm_for(problem, *preference, number), workspace_bytes, STATUS_SUCCESS, 1.0f, {}};
    }
    return STATUS_SUCCESS;
}

CUSIM_API int cublasLtMatmulAlgoCheck(void* handle, void* operation, void* a, void* b, void* c, void* d,
                                      const Algorithm* algorithm, HeuristicResult* result) {
    if (!algorithm || !result) return STATUS_INVALID_VALUE;
    ++cublaslt_questions();
    Problem problem;
    const Status status = read_problem(handle, operation, a, b, c, d, problem);
    if (status != STATUS_SUCCESS) return status;
    if (settings().no_algorithm_check || !is_sound(*algorithm, problem)) return STATUS_NOT_SUPPORTED;
    *result = {*algorithm, algorithm->workspace_bytes, STATUS_SUCCESS, 1.0f, {}};
    return STATUS_SUCCESS;
}

CUSIM_API int cublasLtMatmul(void* handle, void* operation, const float* alpha, const void* a, void* a_layout,
                             const void* b, void* b_layout, const float* beta, const void* c, void* c_layout, void* d,
                             void* d_layout, const Algorithm* chosen, void* workspace, size_t workspace_bytes,
                             void* stream) {
    Problem problem;
    const Status status = read_problem(handle, operation, a_layout, b_layout, c_layout, d_layout, problem);
    if (status != STATUS_SUCCESS) return status;
    if (!alpha || !beta) return STATUS_INVALID_VALUE;
    // Without an algorithm the library looks at the pointers and finds one that needs nothing.
    const MatmulPreference any{.workspace_bytes = 0, .alignment_a = 1, .alignment_b = 1, .alignment_c = 1, .alignment_d = 1};
    const Algorithm algorithm = chosen ? *chosen : algorithm_for(problem, any, 1);
    if (!is_sound(algorithm, problem)) {
        explain("a product with an algorithm that was chosen for another one");
        return STATUS_INVALID_VALUE;
    }
    if (settings().failing_algorithms >> algorithm.number & 1) {
        fail_product(stream);
        return STATUS_EXECUTION_FAILED;
    }
    const bool too_small = workspace_bytes < algorithm.workspace_bytes || (algorithm.workspace_bytes > 0 && !workspace);
    if (too_small || (workspace && !aligned(workspace, 16))) {
        explain("a product with a workspace of %zu bytes at %p, for an algorithm that needs %llu", workspace_bytes, workspace,
                (unsigned long long)algorithm.workspace_bytes);
        return STATUS_INVALID_VALUE;
    }
    const bool reads_c = *beta != 0.0f;
    const Status pointers = check_pointers(problem, algorithm, a, b, c, d, reads_c);
    if (pointers != STATUS_SUCCESS) return pointers;

    const MatmulOperation& how = problem.operation;
    Product product{
        .m = int64_t(problem.d.rows),
        .n = int64_t(problem.d.columns),
        .k = int64_t(columns_of(problem.a, how.transpose_a)),
        .batches = problem.d.batches,
        .a = view_of(problem.a, a, how.transpose_a),
        .b = view_of(problem.b, b, how.transpose_b),
        .c = view_of(problem.c, c, OPERATION_NONE),
        .d = view_of(problem.d, d, OPERATION_NONE),
        .alpha = *alpha,
        .beta = *beta,
        .tf32 = how.compute == COMPUTE_32F_FAST_TF32,
        .relu = has_relu(how.epilogue),
        .bias = {},
        .depth = ALGORITHMS[algorithm.number].depth,
    };
    std::vector<Extent> operands{extent_of(problem.a, a), extent_of(problem.b, b), extent_of(problem.d, d)};
    const size_t largest_factor = std::max(operands[0].bytes, operands[1].bytes);
    if (reads_c) operands.push_back(extent_of(problem.c, c));
    const Extent scratch{workspace, algorithm.workspace_bytes};
    if (scratch.bytes > 0) {
        for (const Extent& operand : operands) {
            if (!scratch.overlaps(operand)) continue;
            explain("a product whose workspace lies over one of its matrices");
            return STATUS_INVALID_VALUE;
        }
        operands.push_back(scratch);
    }
    if (has_bias(how.epilogue)) {
        // Epilogues read the bias in vectors; the real library fails at less.
        if (how.bias == 0 || how.bias % BIAS_ALIGNMENT != 0) {
            explain("a product with its bias at %#llx: it has to be there, and aligned to %llu bytes",
                    (unsigned long long)how.bias, (unsigned long long)BIAS_ALIGNMENT);
            return STATUS_INVALID_VALUE;
        }
        const Element element = element_of(problem.d.type);
        product.bias = {reinterpret_cast<void*>(how.bias), element, 1, 0, how.bias_batch_stride};
        const uint64_t elements = problem.d.rows + uint64_t(problem.d.batches - 1) * uint64_t(how.bias_batch_stride);
        operands.push_back({product.bias.data, elements * bytes_of(element)});
    }
    const Result result = submit_product(stream, std::make_shared<Matmul>(product, std::move(operands), scratch,
                                                                         duration_of(algorithm, largest_factor)));
    if (result == SUCCESS) return STATUS_SUCCESS;
    return result == INVALID_VALUE || result == INVALID_HANDLE ? STATUS_INVALID_VALUE : STATUS_EXECUTION_FAILED;
}
