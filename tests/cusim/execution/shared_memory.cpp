#include "shared_memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <link.h>
#include <memory>
#include <unordered_map>

#include "../driver/fault.h"

namespace cusim {

// Behind dynamic shared memory; the sanitized build has AddressSanitizer's red zone there.
#ifdef __SANITIZE_ADDRESS__
constexpr size_t CANARY_BYTES = 0;
#else
constexpr size_t CANARY_BYTES = 256;
#endif
constexpr unsigned char CANARY = 0xC5;

namespace {

struct Range {
    void* start = nullptr;
    size_t bytes = 0;
};

// The calling thread's copy of the thread-local storage that `address` lies in: the `__shared__` arrays of one file.
Range thread_local_storage_around(void* address) {
    struct Search {
        char* address;
        Range found;
    } search{static_cast<char*>(address), {}};
    dl_iterate_phdr(
        [](dl_phdr_info* object, size_t, void* data) {
            auto& search = *static_cast<Search*>(data);
            if (!object->dlpi_tls_data) return 0;
            for (int i = 0; i < object->dlpi_phnum; ++i) {
                const auto& header = object->dlpi_phdr[i];
                char* start = static_cast<char*>(object->dlpi_tls_data);
                if (header.p_type != PT_TLS || search.address < start || search.address >= start + header.p_memsz) continue;
                search.found = {start, header.p_memsz};
                return 1;
            }
            return 0;
        },
        &search);
    if (!search.found.start) die("a kernel library without thread-local storage");
    return search.found;
}

Range static_shared(const Library& library) {
    using Known = std::unordered_map<const Library*, Range>;
    static thread_local std::unique_ptr<Known> known = std::make_unique<Known>();
    Range& range = (*known)[&library];
    if (!range.start) range = thread_local_storage_around(library.anchor());
    return range;
}

}  // namespace

SharedMemory::SharedMemory(const Kernel& kernel, size_t dynamic_bytes)
    : kernel_(kernel), dynamic_bytes_(dynamic_bytes), static_(nullptr), static_bytes_(0) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, dynamic_bytes + CANARY_BYTES) != 0) die("no memory for shared memory");
    dynamic_ = static_cast<unsigned char*>(memory);
    std::fill_n(dynamic_ + dynamic_bytes_, CANARY_BYTES, CANARY);
#ifndef __SANITIZE_ADDRESS__
    const Range range = static_shared(*kernel.library);
    static_ = range.start;
    static_bytes_ = range.bytes;
#endif
}

SharedMemory::~SharedMemory() { free(dynamic_); }

void SharedMemory::poison() {
    if (static_bytes_ > 0) memset(static_, 0xFF, static_bytes_);
    memset(dynamic_, 0xFF, dynamic_bytes_);
}

void SharedMemory::check() const {
    const auto* canary = dynamic_ + dynamic_bytes_;
    if (std::any_of(canary, canary + CANARY_BYTES, [](unsigned char byte) { return byte != CANARY; })) {
        die("kernel %s wrote past the end of its %zu bytes of dynamic shared memory", kernel_.name.c_str(), dynamic_bytes_);
    }
}

}  // namespace cusim
