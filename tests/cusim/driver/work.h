// What a stream or a graph holds: one piece of work of the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "result.h"

namespace cusim {

class Device;

class Work {
  public:
    virtual ~Work() = default;

    // For messages, as "kernel leaky_relu_f32".
    virtual std::string name() const = 0;

    // The addresses are in memory that is alive. Asked when the work is enqueued and again before it runs, because a
    // graph may outlive the buffers it was captured with.
    virtual Result check(Device&) const { return SUCCESS; }

    virtual void run(Device& device) = 0;

    // What it takes on the device's clock.
    virtual uint64_t nanoseconds() const { return 1000; }

    // Host memory that the work holds until it has run.
    virtual size_t staged_bytes() const { return 0; }

    // The work reads or writes pinned memory in this range.
    virtual bool uses_host(const void*, size_t) const { return false; }
};

using WorkPointer = std::shared_ptr<Work>;

// Checks, runs, and looks at the canaries afterwards.
void run_checked(Work& work, Device& device);

}  // namespace cusim
