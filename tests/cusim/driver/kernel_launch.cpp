#include "kernel_launch.h"

#include <cstring>

#include "device.h"
#include "fault.h"

namespace cusim {

KernelLaunch::KernelLaunch(const Kernel& kernel, dim3 grid, dim3 block, size_t dynamic_shared_bytes, void** arguments)
    : kernel_(kernel), grid_(grid), block_(block), dynamic_shared_bytes_(dynamic_shared_bytes) {
    size_t bytes = 0;
    for (const Parameter& parameter : kernel.parameters) {
        bytes = (bytes + parameter.alignment - 1) / parameter.alignment * parameter.alignment;
        offsets_.push_back(bytes);
        bytes += parameter.bytes;
    }
    storage_.resize(bytes / sizeof(std::max_align_t) + 1);
    for (size_t i = 0; i < offsets_.size(); ++i) memcpy(argument(i), arguments[i], kernel.parameters[i].bytes);
}

void* KernelLaunch::argument(size_t index) const {
    return const_cast<char*>(reinterpret_cast<const char*>(storage_.data())) + offsets_[index];
}

const char* KernelLaunch::pointer(size_t index) const {
    const char* pointer = nullptr;
    if (kernel_.parameters[index].pointer) memcpy(&pointer, argument(index), sizeof pointer);
    return pointer;
}

bool KernelLaunch::uses_host(const void* start, size_t bytes) const {
    const auto* first = static_cast<const char*>(start);
    for (size_t i = 0; i < offsets_.size(); ++i) {
        if (pointer(i) >= first && pointer(i) < first + bytes) return true;
    }
    return false;
}

Result KernelLaunch::check(Device& device) const {
    for (size_t i = 0; i < offsets_.size(); ++i) {
        if (!pointer(i) || device.accessible(pointer(i), 1)) continue;
        explain("kernel %s: argument %zu is %p, which is in no buffer of device %d", kernel_.name.c_str(), i,
                static_cast<const void*>(pointer(i)), device.ordinal);
        return ILLEGAL_ADDRESS;
    }
    return SUCCESS;
}

void KernelLaunch::run(Device& device) {
    std::vector<void*> arguments;
    for (size_t i = 0; i < offsets_.size(); ++i) arguments.push_back(argument(i));
    device.counters.bank_conflicts +=
        execute({&kernel_, grid_, block_, dynamic_shared_bytes_, arguments.data(), device.order});
    ++device.counters.kernels_run;
}

}  // namespace cusim
