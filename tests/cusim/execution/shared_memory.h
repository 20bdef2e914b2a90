// A block's shared memory: undefined when the block starts, and its own.
#pragma once

#include "registry.h"

namespace cusim {

class SharedMemory {
  public:
    // For the blocks of one launch that run on the calling thread.
    SharedMemory(const Kernel& kernel, size_t dynamic_bytes);
    ~SharedMemory();
    SharedMemory(const SharedMemory&) = delete;
    SharedMemory& operator=(const SharedMemory&) = delete;

    unsigned char* dynamic() const { return dynamic_; }

    // Fills static and dynamic arrays with 0xFF: NaN to floats, the largest number to integers.
    void poison();

    // Ends the process if the block wrote past its dynamic shared memory.
    void check() const;

  private:
    const Kernel& kernel_;
    size_t dynamic_bytes_;
    unsigned char* dynamic_;
    void* static_;
    size_t static_bytes_;
};

}  // namespace cusim
