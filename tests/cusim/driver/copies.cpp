#include "copies.h"

#include <cstring>

#include "device.h"
#include "fault.h"

namespace cusim {

// The device's side of a copy.
static Result check_device_range(const Device& device, const void* start, size_t bytes, const char* what) {
    if (device.memory.contains(start, bytes)) return SUCCESS;
    explain("%s of %zu bytes at %p leaves the device's buffers", what, bytes, start);
    return INVALID_VALUE;
}

// The host's side: pinned memory has known bounds, and device memory is none of the host's.
static Result check_host_range(const Device& device, const void* start, size_t bytes, const char* what) {
    if (!start || device.memory.touches(start, bytes)) {
        explain("%s has %p as its host side", what, start);
        return INVALID_VALUE;
    }
    if (pinned_memory().touches(start, bytes) && !pinned_memory().contains(start, bytes)) {
        explain("%s of %zu bytes at %p leaves its pinned buffer", what, bytes, start);
        return INVALID_VALUE;
    }
    return SUCCESS;
}

static bool overlap(const void* a, size_t a_bytes, const void* b, size_t b_bytes) {
    const auto *first = static_cast<const char*>(a), *second = static_cast<const char*>(b);
    return first < second + b_bytes && second < first + a_bytes;
}

Upload::Upload(void* to, const void* from, size_t bytes, bool pinned) : to_(to), from_(from), bytes_(bytes) {
    if (pinned) return;
    const auto* first = static_cast<const unsigned char*>(from);
    staged_.assign(first, first + bytes);
    from_ = nullptr;
}

Result Upload::check(Device& device) const {
    const Result result = check_device_range(device, to_, bytes_, "a copy to the device");
    if (result != SUCCESS || !from_) return result;
    return check_host_range(device, from_, bytes_, "a copy to the device");
}

void Upload::run(Device&) { memcpy(to_, from_ ? from_ : staged_.data(), bytes_); }

bool Upload::uses_host(const void* start, size_t bytes) const { return from_ && overlap(from_, bytes_, start, bytes); }

Result Download::check(Device& device) const {
    const Result result = check_device_range(device, from_, bytes_, "a copy from the device");
    return result != SUCCESS ? result : check_host_range(device, to_, bytes_, "a copy from the device");
}

void Download::run(Device&) { memcpy(to_, from_, bytes_); }

bool Download::uses_host(const void* start, size_t bytes) const { return overlap(to_, bytes_, start, bytes); }

Result DeviceCopy::check(Device& device) const {
    for (const void* side : {static_cast<const void*>(to_), from_}) {
        const Result result = check_device_range(device, side, bytes_, "a copy on the device");
        if (result != SUCCESS) return result;
    }
    if (overlap(to_, bytes_, from_, bytes_)) {
        explain("a copy on the device overlaps itself");
        return INVALID_VALUE;
    }
    return SUCCESS;
}

void DeviceCopy::run(Device&) { memcpy(to_, from_, bytes_); }

Result Fill::check(Device& device) const { return check_device_range(device, to_, bytes_, "a fill"); }

void Fill::run(Device&) { memset(to_, value_, bytes_); }

}  // namespace cusim
