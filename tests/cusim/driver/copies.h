// Copies and fills as work of a stream.
#pragma once

#include <cstddef>
#include <vector>

#include "work.h"

namespace cusim {

// Host to device. From pageable memory the bytes are taken at the call, as the driver's staging does; from pinned memory
// they are read when the copy runs.
class Upload final : public Work {
  public:
    Upload(void* to, const void* from, size_t bytes, bool pinned);
    std::string name() const override { return "a copy to the device"; }
    Result check(Device& device) const override;
    void run(Device& device) override;
    size_t staged_bytes() const override { return staged_.size(); }
    bool uses_host(const void* start, size_t bytes) const override;

  private:
    void* to_;
    const void* from_;  // null where the bytes were staged
    std::vector<unsigned char> staged_;
    size_t bytes_;
};

// Device to host.
class Download final : public Work {
  public:
    Download(void* to, const void* from, size_t bytes) : to_(to), from_(from), bytes_(bytes) {}
    std::string name() const override { return "a copy from the device"; }
    Result check(Device& device) const override;
    void run(Device& device) override;
    bool uses_host(const void* start, size_t bytes) const override;

  private:
    void* to_;
    const void* from_;
    size_t bytes_;
};

class DeviceCopy final : public Work {
  public:
    DeviceCopy(void* to, const void* from, size_t bytes) : to_(to), from_(from), bytes_(bytes) {}
    std::string name() const override { return "a copy on the device"; }
    Result check(Device& device) const override;
    void run(Device& device) override;

  private:
    void* to_;
    const void* from_;
    size_t bytes_;
};

class Fill final : public Work {
  public:
    Fill(void* to, unsigned char value, size_t bytes) : to_(to), value_(value), bytes_(bytes) {}
    std::string name() const override { return "a fill"; }
    Result check(Device& device) const override;
    void run(Device& device) override;

  private:
    void* to_;
    unsigned char value_;
    size_t bytes_;
};

}  // namespace cusim
