// cuBLASLt's objects as programs describe them: layouts, operations, preferences. Enumerations have cuBLASLt's numbers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cusim {

enum Status : int {
    STATUS_SUCCESS = 0,
    STATUS_NOT_INITIALIZED = 1,
    STATUS_INVALID_VALUE = 7,
    STATUS_EXECUTION_FAILED = 13,
    STATUS_NOT_SUPPORTED = 15,
};

enum DataType : int { R_32F = 0, R_16F = 2 };

enum ComputeType : int { COMPUTE_32F = 68, COMPUTE_32F_PEDANTIC = 69, COMPUTE_32F_FAST_TF32 = 77 };

enum EpilogueKind : int { EPILOGUE_DEFAULT = 1, EPILOGUE_RELU = 2, EPILOGUE_BIAS = 4, EPILOGUE_RELU_BIAS = 6 };

enum Operation : int { OPERATION_NONE = 0, OPERATION_TRANSPOSE = 1 };

enum StorageOrder : int { COLUMN_MAJOR = 0, ROW_MAJOR = 1 };

struct MatrixLayout {
    int type;
    int order = COLUMN_MAJOR;
    uint64_t rows;
    uint64_t columns;
    int64_t leading_dimension;
    int batches = 1;
    int64_t batch_stride = 0;
};

struct MatmulOperation {
    int compute;
    int scale;
    int pointer_mode = 0;
    int transpose_a = OPERATION_NONE;
    int transpose_b = OPERATION_NONE;
    int transpose_c = OPERATION_NONE;
    int epilogue = EPILOGUE_DEFAULT;
    uint64_t bias = 0;  // an address on the device
    int64_t bias_batch_stride = 0;
    int bias_type = -1;  // that of D
};

struct MatmulPreference {
    uint64_t workspace_bytes = 0;
    uint32_t reduction_schemes = 7;  // all; every algorithm here sums in one piece
    // What cuBLASLt assumes unless it is told better.
    uint32_t alignment_a = 256, alignment_b = 256, alignment_c = 256, alignment_d = 256;
};

// What cublasLtMatmulAlgo_t holds: opaque to programs, 64 bytes, copied and stored freely.
struct Algorithm {
    uint64_t problem;  // a digest of what it was made for
    uint64_t workspace_bytes;
    uint32_t alignment_a, alignment_b, alignment_c, alignment_d;
    uint64_t number;  // in ALGORITHMS
    uint64_t reserved[2];
    uint64_t seal;  // a digest of all of the above
};
static_assert(sizeof(Algorithm) == 64);

}  // namespace cusim
