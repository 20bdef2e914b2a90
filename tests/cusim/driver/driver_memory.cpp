// Entry points of the driver: memory, copies, fills.

#include "api.h"
#include "copies.h"
#include "fault.h"

using namespace cusim;

using DevicePointer = unsigned long long;

static void* pointer(DevicePointer address) { return reinterpret_cast<void*>(address); }

// --- Allocation -----------------------------------------------------------------------------------------------------------

static Result allocate(Device& device, DevicePointer* address, size_t bytes) {
    if (bytes == 0) return INVALID_VALUE;
    void* start = device.allocate(bytes);
    if (!start) return OUT_OF_MEMORY;
    *address = reinterpret_cast<DevicePointer>(start);
    return SUCCESS;
}

CUSIM_API int cuMemAlloc_v2(DevicePointer* address, size_t bytes) {
    return on_current_device([&](Device& device) {
        if (device.forbidden_by_capture()) return STREAM_CAPTURE_UNSUPPORTED;
        return allocate(device, address, bytes);
    });
}

CUSIM_API int cuMemAllocAsync(DevicePointer* address, size_t bytes, void* stream) {
    return on_stream(stream, [&](Stream& stream) {
        // A graph could own the allocation; the simulator does not play that.
        if (stream.capture) return invalidate(*stream.capture), STREAM_CAPTURE_UNSUPPORTED;
        return allocate(stream.device, address, bytes);
    });
}

// The device that a buffer belongs to need not be the thread's own.
template <class Body> static int on_owner(DevicePointer address, Body body) {
    if (!initialised()) return NOT_INITIALIZED;
    for (Device* device : devices()) {
        std::lock_guard guard(device->mutex);
        if (device->memory.contains(pointer(address), 0)) return body(*device);
    }
    explain("a free of %#llx, which is no live buffer", address);
    return INVALID_VALUE;
}

CUSIM_API int cuMemFree_v2(DevicePointer address) {
    if (address == 0) return SUCCESS;
    return on_owner(address, [&](Device& device) {
        if (device.forbidden_by_capture()) return STREAM_CAPTURE_UNSUPPORTED;
        device.synchronise();
        if (device.free(pointer(address))) return SUCCESS;
        explain("a free of %#llx, which is inside a buffer", address);
        return INVALID_VALUE;
    });
}

namespace {

class Free final : public Work {
  public:
    explicit Free(void* start) : start_(start) {}
    std::string name() const override { return "a free"; }
    void run(Device& device) override {
        if (!device.free(start_)) die("a buffer was freed twice");
    }

  private:
    void* start_;
};

}  // namespace

CUSIM_API int cuMemFreeAsync(DevicePointer address, void* stream) {
    return on_stream(stream, [&](Stream& stream) {
        if (stream.capture) return invalidate(*stream.capture), STREAM_CAPTURE_UNSUPPORTED;
        if (!stream.device.memory.contains(pointer(address), 0)) return INVALID_VALUE;
        return stream.enqueue(std::make_shared<Free>(pointer(address)));
    });
}

CUSIM_API int cuMemGetInfo_v2(size_t* free, size_t* total) {
    return on_current_device([&](Device& device) {
        *total = settings().memory_bytes;
        *free = *total - device.counters.device_bytes;
        return SUCCESS;
    });
}

constexpr unsigned WRITE_COMBINED = 4;

CUSIM_API int cuMemHostAlloc(void** address, size_t bytes, unsigned flags) {
    return on_current_device([&](Device& device) {
        if (device.forbidden_by_capture()) return STREAM_CAPTURE_UNSUPPORTED;
        if (bytes == 0) return INVALID_VALUE;
        if (settings().no_write_combining && (flags & WRITE_COMBINED)) return NOT_SUPPORTED;
        *address = pinned_memory().allocate(bytes, device);
        return *address ? SUCCESS : OUT_OF_MEMORY;
    });
}

CUSIM_API int cuMemFreeHost(void* address) {
    if (!initialised()) return NOT_INITIALIZED;
    // Work that still uses it comes first, whichever device it is on.
    const size_t bytes = pinned_memory().bytes_at(address);
    for (Device* device : devices()) {
        std::lock_guard guard(device->mutex);
        if (device->uses_host(address, bytes)) device->synchronise();
    }
    if (pinned_memory().free(address)) return SUCCESS;
    explain("a free of %p, which is no live pinned buffer", address);
    return INVALID_VALUE;
}

// --- Copies and fills -----------------------------------------------------------------------------------------------------

// Waits for the stream, in a call that a capture of it forbids.
static Result synchronise(Stream& stream) {
    ++stream.device.counters.synchronisations;
    stream.synchronise();
    return SUCCESS;
}

static Result upload(Stream& stream, DevicePointer to, const void* from, size_t bytes) {
    const bool pinned = pinned_memory().touches(from, bytes);
    if (stream.capture && !pinned) {
        explain("a copy from pageable memory cannot be captured");
        return invalidate(*stream.capture), STREAM_CAPTURE_UNSUPPORTED;
    }
    if (!from || stream.device.memory.touches(from, bytes)) {
        explain("a copy to the device has %p as its host side", from);
        return INVALID_VALUE;
    }
    ++stream.device.counters.uploads;
    stream.device.counters.uploaded_bytes += bytes;
    return stream.enqueue(std::make_shared<Upload>(pointer(to), from, bytes, pinned));
}

static Result download(Stream& stream, void* to, DevicePointer from, size_t bytes) {
    const bool pinned = pinned_memory().touches(to, bytes);
    if (stream.capture && !pinned) {
        explain("a copy to pageable memory cannot be captured");
        return invalidate(*stream.capture), STREAM_CAPTURE_UNSUPPORTED;
    }
    ++stream.device.counters.downloads;
    stream.device.counters.downloaded_bytes += bytes;
    const Result result = stream.enqueue(std::make_shared<Download>(to, pointer(from), bytes));
    // Into pageable memory the driver copies before it returns.
    return result != SUCCESS || pinned ? result : synchronise(stream);
}

CUSIM_API int cuMemcpyHtoDAsync_v2(DevicePointer to, const void* from, size_t bytes, void* stream) {
    return on_stream(stream, [&](Stream& stream) { return bytes == 0 ? SUCCESS : upload(stream, to, from, bytes); });
}

CUSIM_API int cuMemcpyDtoHAsync_v2(void* to, DevicePointer from, size_t bytes, void* stream) {
    return on_stream(stream, [&](Stream& stream) { return bytes == 0 ? SUCCESS : download(stream, to, from, bytes); });
}

CUSIM_API int cuMemcpyDtoDAsync_v2(DevicePointer to, DevicePointer from, size_t bytes, void* stream) {
    return on_stream(stream, [&](Stream& stream) {
        if (bytes == 0) return SUCCESS;
        return stream.enqueue(std::make_shared<DeviceCopy>(pointer(to), pointer(from), bytes));
    });
}

CUSIM_API int cuMemsetD8Async(DevicePointer to, unsigned char value, size_t bytes, void* stream) {
    return on_stream(stream, [&](Stream& stream) {
        if (bytes == 0) return SUCCESS;
        return stream.enqueue(std::make_shared<Fill>(pointer(to), value, bytes));
    });
}

// The synchronous forms work in the null stream and wait for it alone.
template <class Body> static int on_null_stream(Body body) {
    return on_current_device([&](Device& device) {
        if (device.forbidden_by_capture()) return STREAM_CAPTURE_UNSUPPORTED;
        const Result result = body(*device.null_stream);
        return result != SUCCESS ? result : synchronise(*device.null_stream);
    });
}

CUSIM_API int cuMemcpyHtoD_v2(DevicePointer to, const void* from, size_t bytes) {
    return on_null_stream([&](Stream& stream) { return bytes == 0 ? SUCCESS : upload(stream, to, from, bytes); });
}

CUSIM_API int cuMemcpyDtoH_v2(void* to, DevicePointer from, size_t bytes) {
    return on_null_stream([&](Stream& stream) { return bytes == 0 ? SUCCESS : download(stream, to, from, bytes); });
}

CUSIM_API int cuMemcpyDtoD_v2(DevicePointer to, DevicePointer from, size_t bytes) {
    return on_null_stream([&](Stream& stream) {
        if (bytes == 0) return SUCCESS;
        return stream.enqueue(std::make_shared<DeviceCopy>(pointer(to), pointer(from), bytes));
    });
}

CUSIM_API int cuMemsetD8_v2(DevicePointer to, unsigned char value, size_t bytes) {
    return on_null_stream([&](Stream& stream) {
        if (bytes == 0) return SUCCESS;
        return stream.enqueue(std::make_shared<Fill>(pointer(to), value, bytes));
    });
}
