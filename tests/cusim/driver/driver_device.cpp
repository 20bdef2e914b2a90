// Entry points of the driver: initialisation, devices, contexts, errors, and what tests ask the simulator itself.

#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <filesystem>
#include <mutex>

#include "api.h"
#include "fault.h"

namespace cusim {

static std::atomic<bool> ready{false};

bool initialised() { return ready; }

// Each file of kernels is a library of its own, beside this one; opening it registers its kernels.
static void open_kernel_libraries() {
    Dl_info own;
    if (!dladdr(reinterpret_cast<void*>(&open_kernel_libraries), &own)) die("libcuda.so.1 does not know where it is");
    const auto folder = std::filesystem::canonical(own.dli_fname).parent_path() / "kernels";
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (entry.path().extension() != ".so") continue;
        if (!dlopen(entry.path().c_str(), RTLD_NOW | RTLD_LOCAL)) die("%s", dlerror());
    }
}

static void report_leaks() {
    for (Device* device : devices()) {
        const auto& now = device->counters;
        const size_t pinned = pinned_memory().count(*device);
        if (!(now.device_allocations + pinned + now.contexts + now.streams + now.events + now.modules + now.graphs)) continue;
        explain("device %d still holds %llu buffers (%llu bytes), %zu pinned buffers, %llu contexts, %llu streams, "
                "%llu events, %llu modules, %llu graphs",
                device->ordinal, (unsigned long long)now.device_allocations, (unsigned long long)now.device_bytes, pinned,
                (unsigned long long)now.contexts, (unsigned long long)now.streams, (unsigned long long)now.events,
                (unsigned long long)now.modules, (unsigned long long)now.graphs);
    }
    const uint64_t objects = cublaslt_objects();
    if (objects > 0) explain("cuBLASLt still holds %llu objects", (unsigned long long)objects);
}

static Device* device_at(int ordinal) {
    if (ordinal < 0 || ordinal >= int(devices().size())) return nullptr;
    return devices()[size_t(ordinal)];
}

// The limits are those that CUDA guarantees or that most GPUs have; the numbers are CUdevice_attribute's.
static std::optional<int> attribute_value(int attribute) {
    switch (attribute) {
        case 1:  // MAX_THREADS_PER_BLOCK
        case 2:  // MAX_BLOCK_DIM_X
        case 3:  // MAX_BLOCK_DIM_Y
            return 1024;
        case 4:  // MAX_BLOCK_DIM_Z
            return 64;
        case 5:  // MAX_GRID_DIM_X
            return 2147483647;
        case 6:  // MAX_GRID_DIM_Y
        case 7:  // MAX_GRID_DIM_Z
            return 65535;
        case 8:  // MAX_SHARED_MEMORY_PER_BLOCK
            return 48 << 10;
        case 9:  // TOTAL_CONSTANT_MEMORY
            return 64 << 10;
        case 10:  // WARP_SIZE
            return 32;
        case 12:  // MAX_REGISTERS_PER_BLOCK
        case 82:  // MAX_REGISTERS_PER_MULTIPROCESSOR
            return 65536;
        case 13:  // CLOCK_RATE, kHz
            return 1000000;
        case 14:  // TEXTURE_ALIGNMENT
            return 512;
        case 16:  // MULTIPROCESSOR_COUNT
            return 8;
        case 15:   // GPU_OVERLAP
        case 19:   // CAN_MAP_HOST_MEMORY
        case 31:   // CONCURRENT_KERNELS
        case 41:   // UNIFIED_ADDRESSING
        case 78:   // STREAM_PRIORITIES_SUPPORTED
        case 115:  // MEMORY_POOLS_SUPPORTED
            return 1;
        case 36:  // MEMORY_CLOCK_RATE, kHz
            return 1000000;
        case 37:  // GLOBAL_MEMORY_BUS_WIDTH, bits
            return 256;
        case 38:  // L2_CACHE_SIZE
            return L2_CACHE_BYTES;
        case 39:  // MAX_THREADS_PER_MULTIPROCESSOR
            return 2048;
        case 40:  // ASYNC_ENGINE_COUNT
            return 2;
        case 75:
            return settings().capability_major;
        case 76:
            return settings().capability_minor;
        case 81:  // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
            return 100 << 10;
        case 97:  // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
            return 99 << 10;
        case 106:  // MAX_BLOCKS_PER_MULTIPROCESSOR
            return 32;
        case 111:  // RESERVED_SHARED_MEMORY_PER_BLOCK
            return 1 << 10;
        default:
            return attribute > 0 && attribute < 200 ? std::optional(0) : std::nullopt;
    }
}

}  // namespace cusim

using namespace cusim;

CUSIM_API int cuInit(unsigned flags) {
    if (flags != 0) return INVALID_VALUE;
    static std::once_flag once;
    std::call_once(once, [] {
        if (settings().devices == 0) return;
        open_kernel_libraries();
        if (settings().report_leaks) atexit(report_leaks);
        ready = true;
    });
    return ready ? SUCCESS : NO_DEVICE;
}

CUSIM_API int cuDriverGetVersion(int* version) {
    *version = settings().driver_version;
    return SUCCESS;
}

CUSIM_API int cuGetErrorName(int code, const char** name) {
    *name = name_of(Result(code));
    return *name ? SUCCESS : INVALID_VALUE;
}

CUSIM_API int cuGetErrorString(int code, const char** text) {
    *text = text_of(Result(code));
    return *text ? SUCCESS : INVALID_VALUE;
}

// --- Devices ------------------------------------------------------------------------------------------------------------

CUSIM_API int cuDeviceGetCount(int* count) {
    if (!initialised()) return NOT_INITIALIZED;
    *count = int(devices().size());
    return SUCCESS;
}

CUSIM_API int cuDeviceGet(int* device, int ordinal) {
    if (!initialised()) return NOT_INITIALIZED;
    if (!device_at(ordinal)) return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}

CUSIM_API int cuDeviceGetName(char* name, int length, int device) {
    if (!device_at(device)) return INVALID_DEVICE;
    snprintf(name, size_t(length), "cusim (CPU)");
    return SUCCESS;
}

CUSIM_API int cuDeviceGetUuid_v2(unsigned char (*uuid)[16], int device) {
    if (!device_at(device)) return INVALID_DEVICE;
    memcpy(uuid, "cusim simulated", 16);
    (*uuid)[15] = static_cast<unsigned char>(device);
    return SUCCESS;
}

CUSIM_API int cuDeviceTotalMem_v2(size_t* bytes, int device) {
    if (!device_at(device)) return INVALID_DEVICE;
    *bytes = settings().memory_bytes;
    return SUCCESS;
}

CUSIM_API int cuDeviceGetAttribute(int* value, int attribute, int device) {
    if (!device_at(device)) return INVALID_DEVICE;
    const auto known = attribute_value(attribute);
    if (!known) return INVALID_VALUE;
    *value = *known;
    return SUCCESS;
}

// --- Contexts: the primary one of each device; its handle is the device ---------------------------------------------------

CUSIM_API int cuDevicePrimaryCtxRetain(void** context, int ordinal) {
    if (!initialised()) return NOT_INITIALIZED;
    Device* device = device_at(ordinal);
    if (!device) return INVALID_DEVICE;
    std::lock_guard guard(device->mutex);
    ++device->counters.contexts;
    *context = device;
    return SUCCESS;
}

CUSIM_API int cuDevicePrimaryCtxRelease_v2(int ordinal) {
    if (!initialised()) return NOT_INITIALIZED;
    Device* device = device_at(ordinal);
    if (!device) return INVALID_DEVICE;
    std::lock_guard guard(device->mutex);
    if (device->counters.contexts == 0) return INVALID_CONTEXT;
    if (--device->counters.contexts == 0) device->synchronise();
    return SUCCESS;
}

CUSIM_API int cuCtxSetCurrent(void* context) {
    if (!initialised()) return NOT_INITIALIZED;
    const auto& all = devices();
    if (context && std::find(all.begin(), all.end(), context) == all.end()) return INVALID_CONTEXT;
    current_device() = static_cast<Device*>(context);
    return SUCCESS;
}

CUSIM_API int cuCtxGetCurrent(void** context) {
    if (!initialised()) return NOT_INITIALIZED;
    *context = current_device();
    return SUCCESS;
}

CUSIM_API int cuCtxGetDevice(int* device) {
    if (!current_device()) return INVALID_CONTEXT;
    *device = current_device()->ordinal;
    return SUCCESS;
}

CUSIM_API int cuCtxSynchronize() {
    return on_current_device([](Device& device) {
        if (!device.captures.empty()) {
            for (Capture* capture : device.captures) invalidate(*capture);
            return STREAM_CAPTURE_UNSUPPORTED;
        }
        ++device.counters.synchronisations;
        device.synchronise();
        return SUCCESS;
    });
}

CUSIM_API int cuCtxSetFlags(unsigned) {
    return on_current_device([](Device&) { return SUCCESS; });
}

CUSIM_API int cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    return on_current_device([&](Device&) {
        *least = 0;
        *greatest = -5;
        return SUCCESS;
    });
}

// --- The simulator's own ------------------------------------------------------------------------------------------------

CUSIM_API int cusim_counters(int ordinal, cusim_counters_t* counters) {
    Device* device = device_at(ordinal);
    if (!device) return INVALID_DEVICE;
    std::lock_guard guard(device->mutex);
    *counters = device->counters;
    counters->pinned_allocations = pinned_memory().count(*device);
    counters->cublaslt_objects = cublaslt_objects();
    counters->cublaslt_questions = cublaslt_questions();
    return SUCCESS;
}
