// The driver's error codes that the simulator plays, with their real numbers, names and texts.
#pragma once

#define CUSIM_RESULTS(X)                                                                                                \
    X(SUCCESS, 0, "CUDA_SUCCESS", "no error")                                                                           \
    X(INVALID_VALUE, 1, "CUDA_ERROR_INVALID_VALUE", "invalid argument")                                                 \
    X(OUT_OF_MEMORY, 2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory")                                                    \
    X(NOT_INITIALIZED, 3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error")                                         \
    X(NO_DEVICE, 100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected")                                     \
    X(INVALID_DEVICE, 101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal")                                       \
    X(INVALID_IMAGE, 200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid")                                 \
    X(INVALID_CONTEXT, 201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context")                                     \
    X(NO_BINARY_FOR_GPU, 209, "CUDA_ERROR_NO_BINARY_FOR_GPU",                                                           \
      "no kernel image is available for execution on the device")                                                       \
    X(INVALID_HANDLE, 400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle")                                      \
    X(ILLEGAL_STATE, 401, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state")         \
    X(NOT_FOUND, 500, "CUDA_ERROR_NOT_FOUND", "named symbol not found")                                                 \
    X(NOT_READY, 600, "CUDA_ERROR_NOT_READY", "device not ready")                                                       \
    X(ILLEGAL_ADDRESS, 700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered")                   \
    X(CONTEXT_IS_DESTROYED, 709, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed")                             \
    X(NOT_SUPPORTED, 801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported")                                        \
    X(STREAM_CAPTURE_UNSUPPORTED, 900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",                                         \
      "operation not permitted when stream is capturing")                                                               \
    X(STREAM_CAPTURE_INVALIDATED, 901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",                                         \
      "operation failed due to a previous error during capture")                                                        \
    X(STREAM_CAPTURE_MERGE, 902, "CUDA_ERROR_STREAM_CAPTURE_MERGE",                                                     \
      "operation would result in a merge of separate capture sequences")                                                \
    X(STREAM_CAPTURE_UNMATCHED, 903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began") \
    X(STREAM_CAPTURE_UNJOINED, 904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work")         \
    X(STREAM_CAPTURE_ISOLATION, 905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",                                             \
      "dependency created on uncaptured work in another stream")                                                        \
    X(STREAM_CAPTURE_IMPLICIT, 906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",                                               \
      "operation would make the legacy stream depend on a capturing blocking stream")                                   \
    X(CAPTURED_EVENT, 907, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream") \
    X(STREAM_CAPTURE_WRONG_THREAD, 908, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",                                       \
      "attempt to terminate a thread-local capture sequence from another thread")

namespace cusim {

enum Result : int {
#define CUSIM_CODE(symbol, code, name, text) symbol = code,
    CUSIM_RESULTS(CUSIM_CODE)
#undef CUSIM_CODE
};

// Null for a code that the simulator never returns.
const char* name_of(Result result);
const char* text_of(Result result);

}  // namespace cusim
