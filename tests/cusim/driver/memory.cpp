#include "memory.h"

#include <cstdlib>
#include <cstring>

#include "fault.h"

namespace cusim {

// The driver aligns to 256 bytes at least.
constexpr size_t ALIGNMENT = 256;

// The sanitized build leaves the bounds to AddressSanitizer: an allocation is a malloc of exactly its size there, so that
// reads beyond it are found as well.
#ifdef __SANITIZE_ADDRESS__
constexpr size_t CANARY_BYTES = 0;
#else
constexpr size_t CANARY_BYTES = 256;
#endif
static_assert(CANARY_BYTES % ALIGNMENT == 0);

// No byte of a common number, so that a stray 0, 1.0 or NaN never looks whole.
static const unsigned char* canary() {
    static const struct Pattern {
        unsigned char bytes[256];
        Pattern() { memset(bytes, 0xC5, sizeof bytes); }
    } pattern;
    return pattern.bytes;
}

void* Memory::allocate(size_t bytes) {
    void* raw = nullptr;
    if (posix_memalign(&raw, ALIGNMENT, bytes + 2 * CANARY_BYTES) != 0) return nullptr;
    unsigned char* start = static_cast<unsigned char*>(raw) + CANARY_BYTES;
    memcpy(raw, canary(), CANARY_BYTES);
    memset(start, 0xFF, bytes);
    memcpy(start + bytes, canary(), CANARY_BYTES);
    allocations_[reinterpret_cast<uintptr_t>(start)] = {bytes, static_cast<unsigned char*>(raw)};
    bytes_ += bytes;
    return start;
}

bool Memory::free(const void* start) {
    const auto found = allocations_.find(reinterpret_cast<uintptr_t>(start));
    if (found == allocations_.end()) return false;
    check(found->first, found->second, "work before the buffer was freed");
    bytes_ -= found->second.bytes;
    // What reads it in spite of that shall not find the old numbers.
    memset(const_cast<void*>(start), 0xFF, found->second.bytes);
    ::free(found->second.raw);
    allocations_.erase(found);
    return true;
}

size_t Memory::bytes_at(const void* start) const {
    const auto found = allocations_.find(reinterpret_cast<uintptr_t>(start));
    return found == allocations_.end() ? 0 : found->second.bytes;
}

bool Memory::contains(const void* address, size_t bytes) const {
    const auto at = reinterpret_cast<uintptr_t>(address);
    auto after = allocations_.upper_bound(at);
    if (after == allocations_.begin()) return false;
    const auto& [start, allocation] = *--after;
    const size_t offset = at - start;
    return offset < allocation.bytes && bytes <= allocation.bytes - offset;
}

bool Memory::touches(const void* address, size_t bytes) const {
    const auto at = reinterpret_cast<uintptr_t>(address);
    auto after = allocations_.lower_bound(at + bytes);
    if (after == allocations_.begin()) return false;
    const auto& [start, allocation] = *--after;
    return at < start + allocation.bytes;
}

void Memory::check(const char* culprit) const {
    if (CANARY_BYTES == 0) return;
    for (const auto& [start, allocation] : allocations_) check(start, allocation, culprit);
}

void Memory::check(uintptr_t start, const Allocation& allocation, const char* culprit) {
    const char* where = nullptr;
    if (memcmp(allocation.raw, canary(), CANARY_BYTES) != 0) where = "before the start";
    if (memcmp(reinterpret_cast<void*>(start + allocation.bytes), canary(), CANARY_BYTES) != 0) where = "past the end";
    if (where) die("%s wrote %s of a buffer of %zu bytes", culprit, where, allocation.bytes);
}

}  // namespace cusim
