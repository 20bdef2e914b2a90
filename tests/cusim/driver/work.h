// What a stream or a graph holds: one piece of work of the device.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "result.h"

namespace cusim {

class Device;
struct Record;

class Work {
  public:
    virtual ~Work() = default;

    // For messages, as "kernel leaky_relu_f32".
    virtual std::string name() const = 0;

    // The addresses are in memory that is alive. Asked when the work is enqueued and again before it runs, because a
    // graph may outlive the buffers it was captured with.
    virtual Result check(Device&) const { return SUCCESS; }

    virtual void run(Device& device) = 0;

    // The point of another stream that this work waits for.
    virtual std::shared_ptr<Record> awaited() const { return nullptr; }
};

using WorkPointer = std::shared_ptr<Work>;

// Checks, runs, and looks at the canaries afterwards.
void run_checked(Work& work, Device& device);

}  // namespace cusim
