#include "device.h"

#include <algorithm>
#include <thread>

#include "graph.h"
#include "stream.h"

namespace cusim {

static Order order_of(int ordinal) {
    constexpr Order ORDERS[] = {Order::forward, Order::reverse, Order::shuffled};
    return settings().order.value_or(ORDERS[ordinal % 3]);
}

Device::Device(int ordinal)
    : ordinal(ordinal), order(order_of(ordinal)), null_stream(std::make_shared<Stream>(*this, false)) {}

void Device::synchronise() {
    // A copy: streams of other threads come and go only under the lock, but running work may release the last owner.
    const auto all = streams;
    null_stream->synchronise();
    for (const auto& stream : all) stream->synchronise();
}

bool Device::uses_host(const void* start, size_t bytes) const {
    return null_stream->uses_host(start, bytes) ||
           std::any_of(streams.begin(), streams.end(), [&](auto& stream) { return stream->uses_host(start, bytes); });
}

void* Device::allocate(size_t bytes) {
    if (bytes > settings().memory_bytes || counters.device_bytes > settings().memory_bytes - bytes) return nullptr;
    const size_t missing = settings().short_buffers ? std::min<size_t>(bytes - 1, 4) : 0;
    void* start = memory.allocate(bytes - missing);
    if (!start) return nullptr;
    ++counters.allocations;
    counters.device_allocations = memory.count();
    counters.device_bytes = memory.bytes();
    counters.peak_device_bytes = std::max(counters.peak_device_bytes, counters.device_bytes);
    return start;
}

bool Device::free(const void* start) {
    if (!memory.free(start)) return false;
    counters.device_allocations = memory.count();
    counters.device_bytes = memory.bytes();
    return true;
}

bool Device::accessible(const void* address, size_t bytes) const {
    return memory.contains(address, bytes) || pinned_memory().contains(address, bytes);
}

bool Device::forbidden_by_capture() {
    bool forbidden = false;
    for (Capture* capture : captures) {
        const bool sees = capture->mode == CaptureMode::global || (capture->mode == CaptureMode::thread_local_ &&
                                                                   capture->thread == std::this_thread::get_id());
        if (!sees) continue;
        capture->invalid = true;
        forbidden = true;
    }
    return forbidden;
}

std::atomic<uint64_t>& cublaslt_objects() {
    static std::atomic<uint64_t> objects{0};
    return objects;
}

std::atomic<uint64_t>& cublaslt_questions() {
    static std::atomic<uint64_t> questions{0};
    return questions;
}

std::vector<Device*>& devices() {
    // Never destroyed: other threads may be in a call while the process ends.
    static auto* all = [] {
        auto* made = new std::vector<Device*>;
        for (int ordinal = 0; ordinal < settings().devices; ++ordinal) made->push_back(new Device(ordinal));
        return made;
    }();
    return *all;
}

Device*& current_device() {
    static thread_local Device* device = nullptr;
    return device;
}

void* PinnedMemory::allocate(size_t bytes, const Device& device) {
    std::lock_guard guard(mutex_);
    void* start = memory_.allocate(bytes);
    if (start) owners_[start] = &device;
    return start;
}

bool PinnedMemory::free(void* start) {
    std::lock_guard guard(mutex_);
    if (!memory_.free(start)) return false;
    owners_.erase(start);
    return true;
}

size_t PinnedMemory::count(const Device& device) const {
    std::lock_guard guard(mutex_);
    return size_t(std::count_if(owners_.begin(), owners_.end(), [&](auto& owner) { return owner.second == &device; }));
}

size_t PinnedMemory::bytes_at(const void* start) const {
    std::lock_guard guard(mutex_);
    return memory_.bytes_at(start);
}

bool PinnedMemory::contains(const void* address, size_t bytes) const {
    std::lock_guard guard(mutex_);
    return memory_.contains(address, bytes);
}

bool PinnedMemory::touches(const void* address, size_t bytes) const {
    std::lock_guard guard(mutex_);
    return memory_.touches(address, bytes);
}

void PinnedMemory::check(const char* culprit) const {
    std::lock_guard guard(mutex_);
    memory_.check(culprit);
}

PinnedMemory& pinned_memory() {
    static auto* memory = new PinnedMemory;
    return *memory;
}

}  // namespace cusim
