// Entry points of cuBLASLt: making, setting and destroying its objects.

#include "objects.h"

#include <cstring>

#include "../driver/api.h"
#include "../driver/fault.h"
#include "library.h"

using namespace cusim;

namespace cusim {

struct LibraryHandle {};

template <class T> static Status create(void** handle, T object) {
    if (!handle) return STATUS_INVALID_VALUE;
    *handle = handles<T>().add(std::make_shared<T>(object));
    ++cublaslt_objects();
    return STATUS_SUCCESS;
}

template <class T> static Status destroy(void* handle) {
    if (!handles<T>().remove(handle)) return STATUS_INVALID_VALUE;
    --cublaslt_objects();
    return STATUS_SUCCESS;
}

bool is_library_handle(void* handle) { return handles<LibraryHandle>().find(handle) != nullptr; }

// A field of an object together with the size that a program has to give.
struct Field {
    void* address;
    size_t bytes;
};

template <class T> static Field field(T& value) { return {&value, sizeof value}; }

static Status set(Field field, const void* value, size_t bytes) {
    if (!field.address || !value || bytes != field.bytes) return STATUS_INVALID_VALUE;
    memcpy(field.address, value, bytes);
    return STATUS_SUCCESS;
}

static Field field_of(MatrixLayout& layout, int attribute) {
    switch (attribute) {
        case 0:
            return field(layout.type);
        case 1:
            return field(layout.order);
        case 2:
            return field(layout.rows);
        case 3:
            return field(layout.columns);
        case 4:
            return field(layout.leading_dimension);
        case 5:
            return field(layout.batches);
        case 6:
            return field(layout.batch_stride);
        default:
            return {};
    }
}

static Field field_of(MatmulOperation& operation, int attribute) {
    switch (attribute) {
        case 0:
            return field(operation.compute);
        case 1:
            return field(operation.scale);
        case 2:
            return field(operation.pointer_mode);
        case 3:
            return field(operation.transpose_a);
        case 4:
            return field(operation.transpose_b);
        case 5:
            return field(operation.transpose_c);
        case 7:
            return field(operation.epilogue);
        case 8:
            return field(operation.bias);
        case 10:
            return field(operation.bias_batch_stride);
        case 26:
            return field(operation.bias_type);
        default:
            return {};
    }
}

static Field field_of(MatmulPreference& preference, int attribute) {
    switch (attribute) {
        case 1:
            return field(preference.workspace_bytes);
        case 3:
            return field(preference.reduction_schemes);
        case 5:
            return field(preference.alignment_a);
        case 6:
            return field(preference.alignment_b);
        case 7:
            return field(preference.alignment_c);
        case 8:
            return field(preference.alignment_d);
        default:
            return {};
    }
}

template <class T> static Status set_attribute(void* handle, int attribute, const void* value, size_t bytes) {
    const auto object = handles<T>().find(handle);
    return object ? set(field_of(*object, attribute), value, bytes) : STATUS_INVALID_VALUE;
}

template <class T> static Status get_attribute(void* handle, int attribute, void* value, size_t bytes, size_t* written) {
    const auto object = handles<T>().find(handle);
    if (!object) return STATUS_INVALID_VALUE;
    const Field field = field_of(*object, attribute);
    if (written) *written = field.bytes;
    if (!field.address || !value || bytes < field.bytes) return STATUS_INVALID_VALUE;
    memcpy(value, field.address, field.bytes);
    return STATUS_SUCCESS;
}

}  // namespace cusim

// --- The library ----------------------------------------------------------------------------------------------------------

CUSIM_API size_t cublasLtGetVersion() { return settings().cublaslt_version; }

CUSIM_API const char* cublasLtGetStatusName(int status) {
    switch (status) {
        case STATUS_SUCCESS:
            return "CUBLAS_STATUS_SUCCESS";
        case STATUS_NOT_INITIALIZED:
            return "CUBLAS_STATUS_NOT_INITIALIZED";
        case STATUS_INVALID_VALUE:
            return "CUBLAS_STATUS_INVALID_VALUE";
        case STATUS_EXECUTION_FAILED:
            return "CUBLAS_STATUS_EXECUTION_FAILED";
        case STATUS_NOT_SUPPORTED:
            return "CUBLAS_STATUS_NOT_SUPPORTED";
        default:
            return "unknown status";
    }
}

CUSIM_API const char* cublasLtGetStatusString(int status) { return cublasLtGetStatusName(status); }

CUSIM_API int cublasLtCreate(void** handle) {
    if (!initialised() || !current_device()) return STATUS_NOT_INITIALIZED;
    return create(handle, LibraryHandle{});
}

CUSIM_API int cublasLtDestroy(void* handle) { return destroy<LibraryHandle>(handle); }

// --- Layouts --------------------------------------------------------------------------------------------------------------

CUSIM_API int cublasLtMatrixLayoutCreate(void** handle, int type, uint64_t rows, uint64_t columns,
                                         int64_t leading_dimension) {
    return create(handle, MatrixLayout{.type = type, .rows = rows, .columns = columns, .leading_dimension = leading_dimension});
}

CUSIM_API int cublasLtMatrixLayoutDestroy(void* handle) { return destroy<MatrixLayout>(handle); }

CUSIM_API int cublasLtMatrixLayoutSetAttribute(void* handle, int attribute, const void* value, size_t bytes) {
    return set_attribute<MatrixLayout>(handle, attribute, value, bytes);
}

CUSIM_API int cublasLtMatrixLayoutGetAttribute(void* handle, int attribute, void* value, size_t bytes, size_t* written) {
    return get_attribute<MatrixLayout>(handle, attribute, value, bytes, written);
}

// --- Operations -----------------------------------------------------------------------------------------------------------

CUSIM_API int cublasLtMatmulDescCreate(void** handle, int compute, int scale) {
    return create(handle, MatmulOperation{.compute = compute, .scale = scale});
}

CUSIM_API int cublasLtMatmulDescDestroy(void* handle) { return destroy<MatmulOperation>(handle); }

CUSIM_API int cublasLtMatmulDescSetAttribute(void* handle, int attribute, const void* value, size_t bytes) {
    return set_attribute<MatmulOperation>(handle, attribute, value, bytes);
}

CUSIM_API int cublasLtMatmulDescGetAttribute(void* handle, int attribute, void* value, size_t bytes, size_t* written) {
    return get_attribute<MatmulOperation>(handle, attribute, value, bytes, written);
}

// --- Preferences ----------------------------------------------------------------------------------------------------------

CUSIM_API int cublasLtMatmulPreferenceCreate(void** handle) { return create(handle, MatmulPreference{}); }

CUSIM_API int cublasLtMatmulPreferenceDestroy(void* handle) { return destroy<MatmulPreference>(handle); }

CUSIM_API int cublasLtMatmulPreferenceSetAttribute(void* handle, int attribute, const void* value, size_t bytes) {
    return set_attribute<MatmulPreference>(handle, attribute, value, bytes);
}

CUSIM_API int cublasLtMatmulPreferenceGetAttribute(void* handle, int attribute, void* value, size_t bytes,
                                                   size_t* written) {
    return get_attribute<MatmulPreference>(handle, attribute, value, bytes, written);
}
