// What the driver's entry points share: their linkage, and the way from a handle to a locked device.
#pragma once

#include "device.h"
#include "handles.h"
#include "result.h"
#include "stream.h"

#define CUSIM_API extern "C" __attribute__((visibility("default")))

namespace cusim {

bool initialised();

// Calls `body(device)` with the calling thread's device locked.
template <class Body> int on_current_device(Body body) {
    if (!initialised()) return NOT_INITIALIZED;
    Device* device = current_device();
    if (!device) return INVALID_CONTEXT;
    std::lock_guard guard(device->mutex);
    if (device->counters.contexts == 0) return CONTEXT_IS_DESTROYED;
    return body(*device);
}

// Calls `body(stream)` with the stream's device locked. A null handle is the null stream of the calling thread's device;
// a stream of another device than the thread's is refused, as the driver does.
template <class Body> int on_stream(void* handle, Body body) {
    return on_current_device([&](Device& device) -> int {
        const auto stream = handle ? handles<Stream>().find(handle) : device.null_stream;
        if (!stream || &stream->device != &device) return INVALID_HANDLE;
        if (device.lost) return ILLEGAL_ADDRESS;
        return body(*stream);
    });
}

// Calls `body(event)` with the event's device locked, whichever device the thread has.
template <class Body> int on_event(void* handle, Body body) {
    if (!initialised()) return NOT_INITIALIZED;
    const auto event = handles<Event>().find(handle);
    if (!event) return INVALID_HANDLE;
    std::lock_guard guard(event->device.mutex);
    return body(*event);
}

// For cuBLASLt's stand-in: enqueues a product on a stream by its handle.
Result submit_product(void* stream, WorkPointer work);

// Likewise: the product fails, and under CUSIM_FAILURES_STAY its device is lost.
void fail_product(void* stream);

}  // namespace cusim
