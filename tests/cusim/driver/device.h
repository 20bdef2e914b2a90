// A simulated GPU: its memory, its streams, and the one lock under which all of its work runs.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "counters.h"
#include "memory.h"
#include "result.h"
#include "settings.h"

namespace cusim {

class Capture;
class Stream;

constexpr int L2_CACHE_BYTES = 4 << 20;

class Device {
  public:
    explicit Device(int ordinal);

    const int ordinal;
    const Order order;

    // Held by every call that concerns the device, while deferred work runs too: callers on several threads take turns.
    std::mutex mutex;

    Memory memory;
    cusim_counters_t counters{};
    // Nanoseconds since the process began, as events measure them: each piece of work takes a time that depends on
    // itself alone, so that what a program measures is the same every time.
    uint64_t clock = 0;
    std::set<std::shared_ptr<Stream>> streams;
    std::set<Capture*> captures;

    // A product has failed in a way that nothing recovers from.
    bool lost = false;

    // The stream that a null handle means.
    std::shared_ptr<Stream> null_stream;

    // Runs all deferred work.
    void synchronise();

    // Deferred work reads or writes pinned memory in this range.
    bool uses_host(const void* start, size_t bytes) const;

    void* allocate(size_t bytes);
    // False if no allocation starts there.
    bool free(const void* start);

    // The address is one that kernels of this device can use.
    bool accessible(const void* address, size_t bytes) const;

    // For calls that a capture forbids: invalidates the captures that see the call and says whether there are any.
    bool forbidden_by_capture();
};

// Makes every later call on the captured streams fail.
void invalidate(Capture& capture);

// Objects of cuBLASLt that are alive, in the whole process: that library counts them here.
std::atomic<uint64_t>& cublaslt_objects();

// Likewise, what it was asked for without doing any work.
std::atomic<uint64_t>& cublaslt_questions();

// All devices of the machine; made at the first call.
std::vector<Device*>& devices();

// The device of the calling thread's context; null if none is set.
Device*& current_device();

// Pinned host memory, shared by all devices.
class PinnedMemory {
  public:
    void* allocate(size_t bytes, const Device& device);
    bool free(void* start);
    size_t bytes_at(const void* start) const;
    bool contains(const void* address, size_t bytes) const;
    bool touches(const void* address, size_t bytes) const;
    void check(const char* culprit) const;
    // Those that were made while `device` was current.
    size_t count(const Device& device) const;

  private:
    mutable std::mutex mutex_;
    Memory memory_;
    std::map<const void*, const Device*> owners_;
};

PinnedMemory& pinned_memory();

}  // namespace cusim
