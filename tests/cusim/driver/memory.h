// Allocations with canaries around them: a device's memory, and pinned host memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace cusim {

class Memory {
  public:
    // The address of `bytes` poisoned bytes, or null.
    void* allocate(size_t bytes);

    // False if no allocation starts there.
    bool free(const void* start);

    // The size of the allocation that starts there, or 0.
    size_t bytes_at(const void* start) const;

    // The address lies in an allocation, with `bytes` from there on to its end at least.
    bool contains(const void* address, size_t bytes) const;

    // Any byte of the range lies in an allocation.
    bool touches(const void* address, size_t bytes) const;

    // Ends the process if a canary is damaged; `culprit` is what ran last.
    void check(const char* culprit) const;

    size_t count() const { return allocations_.size(); }
    size_t bytes() const { return bytes_; }

  private:
    struct Allocation {
        size_t bytes;
        unsigned char* raw;
    };

    static void check(uintptr_t start, const Allocation& allocation, const char* culprit);

    std::map<uintptr_t, Allocation> allocations_;
    size_t bytes_ = 0;
};

}  // namespace cusim
