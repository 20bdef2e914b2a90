// Entry points of the driver: modules, functions, launches.

#include "api.h"
#include "fault.h"
#include "kernel_launch.h"

namespace cusim {

constexpr size_t DEFAULT_SHARED_BYTES = 48 << 10;
constexpr size_t LARGEST_SHARED_BYTES = 99 << 10;

// Kernels are built for these and newer.
constexpr int OLDEST_MAJOR = 7, OLDEST_MINOR = 5;

struct Module;

struct Function {
    Device& device;
    const Kernel& kernel;
    size_t dynamic_shared_limit = DEFAULT_SHARED_BYTES;
};

struct Module {
    Device& device;
    std::vector<std::shared_ptr<Function>> functions;
};

}  // namespace cusim

using namespace cusim;

// --- Modules: the image is not looked at, every kernel of the build is in each module -------------------------------------

CUSIM_API int cuModuleLoadData(void** handle, const void* image) {
    return on_current_device([&](Device& device) {
        if (!image) return INVALID_VALUE;
        const auto& machine = settings();
        const bool too_old = machine.capability_major < OLDEST_MAJOR ||
                             (machine.capability_major == OLDEST_MAJOR && machine.capability_minor < OLDEST_MINOR);
        if (too_old) return NO_BINARY_FOR_GPU;
        ++device.counters.modules;
        *handle = handles<Module>().add(std::make_shared<Module>(Module{device, {}}));
        return SUCCESS;
    });
}

CUSIM_API int cuModuleUnload(void* handle) {
    return on_current_device([&](Device& device) {
        const auto module = handles<Module>().find(handle);
        if (!module || &module->device != &device) return INVALID_HANDLE;
        for (const auto& function : module->functions) handles<Function>().remove(function.get());
        handles<Module>().remove(handle);
        --device.counters.modules;
        return SUCCESS;
    });
}

CUSIM_API int cuModuleGetFunction(void** handle, void* module_handle, const char* name) {
    return on_current_device([&](Device& device) {
        const auto module = handles<Module>().find(module_handle);
        if (!module || &module->device != &device) return INVALID_HANDLE;
        const Kernel* kernel = find_kernel(name);
        if (!kernel) return NOT_FOUND;
        auto function = std::make_shared<Function>(Function{device, *kernel});
        module->functions.push_back(function);
        *handle = handles<Function>().add(std::move(function));
        return SUCCESS;
    });
}

// --- Functions; the numbers are CUfunction_attribute's ---------------------------------------------------------------------

constexpr int MAX_THREADS_PER_BLOCK = 0;
constexpr int PTX_VERSION = 5;
constexpr int BINARY_VERSION = 6;
constexpr int MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;
constexpr int PREFERRED_SHARED_MEMORY_CARVEOUT = 9;

CUSIM_API int cuFuncGetAttribute(int* value, int attribute, void* handle) {
    const auto function = handles<Function>().find(handle);
    if (!function) return INVALID_HANDLE;
    switch (attribute) {
        case MAX_THREADS_PER_BLOCK:
            *value = int(function->kernel.max_threads);
            return SUCCESS;
        case PTX_VERSION:  // as if nvcc had compiled for the device itself
        case BINARY_VERSION:
            *value = settings().capability_major * 10 + settings().capability_minor;
            return SUCCESS;
        case MAX_DYNAMIC_SHARED_SIZE_BYTES:
            *value = int(function->dynamic_shared_limit);
            return SUCCESS;
        default:
            *value = 0;
            return attribute >= 0 && attribute < 18 ? SUCCESS : INVALID_VALUE;
    }
}

CUSIM_API int cuFuncSetAttribute(void* handle, int attribute, int value) {
    const auto function = handles<Function>().find(handle);
    if (!function) return INVALID_HANDLE;
    if (attribute == PREFERRED_SHARED_MEMORY_CARVEOUT) return SUCCESS;
    if (attribute != MAX_DYNAMIC_SHARED_SIZE_BYTES) return INVALID_VALUE;
    if (value < 0 || size_t(value) > LARGEST_SHARED_BYTES) return INVALID_VALUE;
    std::lock_guard guard(function->device.mutex);
    function->dynamic_shared_limit = size_t(value);
    return SUCCESS;
}

CUSIM_API int cuFuncSetCacheConfig(void* handle, int) {
    return handles<Function>().find(handle) ? SUCCESS : INVALID_HANDLE;
}

CUSIM_API int cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, void* handle, int block_threads,
                                                                  size_t dynamic_shared_bytes, unsigned) {
    const auto function = handles<Function>().find(handle);
    if (!function) return INVALID_HANDLE;
    if (block_threads <= 0) return INVALID_VALUE;
    const bool fits = unsigned(block_threads) <= function->kernel.max_threads &&
                      dynamic_shared_bytes <= function->dynamic_shared_limit;
    const int by_threads = std::min(32, 2048 / block_threads);
    const int by_shared = int((LARGEST_SHARED_BYTES + 1024) / (dynamic_shared_bytes + 1024));
    *blocks = fits ? std::min(by_threads, by_shared) : 0;
    return SUCCESS;
}

CUSIM_API int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* handle, int block_threads,
                                                         size_t dynamic_shared_bytes) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, handle, block_threads, dynamic_shared_bytes, 0);
}

// --- Launches -------------------------------------------------------------------------------------------------------------

static bool within_limits(const Function& function, dim3 grid, dim3 block, size_t dynamic_shared_bytes) {
    const auto between = [](unsigned value, unsigned limit) { return value >= 1 && value <= limit; };
    return between(grid.x, 2147483647) && between(grid.y, 65535) && between(grid.z, 65535) && between(block.x, 1024) &&
           between(block.y, 1024) && between(block.z, 64) &&
           uint64_t(block.x) * block.y * block.z <= function.kernel.max_threads &&
           dynamic_shared_bytes <= function.dynamic_shared_limit;
}

CUSIM_API int cuLaunchKernel(void* handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                             unsigned block_y, unsigned block_z, unsigned dynamic_shared_bytes, void* stream,
                             void** arguments, void** extra) {
    return on_stream(stream, [&](Stream& stream) {
        const auto function = handles<Function>().find(handle);
        if (!function || &function->device != &stream.device) return INVALID_HANDLE;
        const Kernel& kernel = function->kernel;
        const dim3 grid(grid_x, grid_y, grid_z), block(block_x, block_y, block_z);
        if (!within_limits(*function, grid, block, dynamic_shared_bytes)) {
            explain("kernel %s: a grid of (%u,%u,%u) blocks of (%u,%u,%u) threads with %u bytes of shared memory is beyond "
                    "the limits (%u threads, %zu bytes)",
                    kernel.name.c_str(), grid.x, grid.y, grid.z, block.x, block.y, block.z, dynamic_shared_bytes,
                    kernel.max_threads, function->dynamic_shared_limit);
            return INVALID_VALUE;
        }
        if (extra || (!arguments && !kernel.parameters.empty())) return INVALID_VALUE;
        const Result result =
            stream.enqueue(std::make_shared<KernelLaunch>(kernel, grid, block, dynamic_shared_bytes, arguments));
        if (result == SUCCESS) ++stream.device.counters.launches;
        return result;
    });
}
