// A kernel with its arguments, as work of a stream.
#pragma once

#include <vector>

#include "../execution/executor.h"
#include "work.h"

namespace cusim {

class KernelLaunch final : public Work {
  public:
    // Copies the arguments: the caller's may be gone when the kernel runs.
    KernelLaunch(const Kernel& kernel, dim3 grid, dim3 block, size_t dynamic_shared_bytes, void** arguments);

    std::string name() const override { return "kernel " + kernel_.name; }
    Result check(Device& device) const override;
    void run(Device& device) override;
    // A launch, and its blocks one after the other.
    uint64_t nanoseconds() const override { return 1000 + 10 * uint64_t(grid_.x) * grid_.y * grid_.z; }
    bool uses_host(const void* start, size_t bytes) const override;

  private:
    void* argument(size_t index) const;
    // Null for an argument that is no pointer.
    const char* pointer(size_t index) const;

    const Kernel& kernel_;
    dim3 grid_;
    dim3 block_;
    size_t dynamic_shared_bytes_;
    std::vector<std::max_align_t> storage_;
    std::vector<size_t> offsets_;
};

}  // namespace cusim
