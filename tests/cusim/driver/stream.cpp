#include "stream.h"

#include <algorithm>

#include "device.h"
#include "fault.h"
#include "graph.h"

namespace cusim {

// A program that never synchronises still gets on, as it would on a GPU.
constexpr size_t LONGEST_QUEUE = 1024;
constexpr size_t MOST_STAGED_BYTES = 64 << 20;

namespace {

class Reach final : public Work {
  public:
    explicit Reach(std::shared_ptr<Record> record) : record_(std::move(record)) {}
    std::string name() const override { return "an event"; }
    uint64_t nanoseconds() const override { return 0; }
    void run(Device& device) override {
        record_->when = device.clock;
        record_->done = true;
    }

  private:
    std::shared_ptr<Record> record_;
};

class Wait final : public Work {
  public:
    explicit Wait(std::shared_ptr<Record> record) : record_(std::move(record)) {}
    std::string name() const override { return "a wait"; }
    uint64_t nanoseconds() const override { return 0; }
    void run(Device&) override { record_->complete(); }

  private:
    std::shared_ptr<Record> record_;
};

}  // namespace

void run_checked(Work& work, Device& device) {
    const std::string name = work.name();
    if (work.check(device) != SUCCESS) die("%s ran after its memory had been freed", name.c_str());
    work.run(device);
    device.clock += work.nanoseconds();
    device.memory.check(name.c_str());
    pinned_memory().check(name.c_str());
}

void Record::complete() {
    while (!done) stream->run_next();
}

Result Stream::enqueue(WorkPointer work) {
    if (capture && capture->invalid) return STREAM_CAPTURE_INVALIDATED;
    const Result checked = work->check(device);
    if (checked != SUCCESS) return checked;
    if (capture) {
        capture->add(*this, std::move(work));
        return SUCCESS;
    }
    // The null stream and blocking streams wait for each other's earlier work.
    if (this == device.null_stream.get()) {
        for (const auto& other : device.streams) {
            if (other->blocking && other->capture) {
                invalidate(*other->capture);
                return STREAM_CAPTURE_IMPLICIT;
            }
            if (other->blocking && !other->idle()) push(std::make_shared<Wait>(other->record()));
        }
    } else if (blocking && !device.null_stream->idle()) {
        push(std::make_shared<Wait>(device.null_stream->record()));
    }
    push(std::move(work));
    return SUCCESS;
}

void Stream::push(WorkPointer work) {
    staged_bytes_ += work->staged_bytes();
    queue_.push_back(std::move(work));
    if (queue_.size() > LONGEST_QUEUE || staged_bytes_ > MOST_STAGED_BYTES) synchronise();
}

std::shared_ptr<Record> Stream::record() {
    if (capture) return capture->record(*this);
    auto record = std::make_shared<Record>();
    record->stream = shared_from_this();
    push(std::make_shared<Reach>(record));
    return record;
}

Result Stream::wait(const std::shared_ptr<Record>& record) {
    if (capture && capture->invalid) return STREAM_CAPTURE_INVALIDATED;
    if (record->capture) {
        if (record->capture->invalid) return STREAM_CAPTURE_INVALIDATED;
        const bool still_capturing = record->capture->origin()->capture == record->capture;
        if (!still_capturing) return CAPTURED_EVENT;
        if (capture && capture != record->capture) {
            capture->invalid = record->capture->invalid = true;
            return STREAM_CAPTURE_MERGE;
        }
        record->capture->wait(shared_from_this(), *record);
        return SUCCESS;
    }
    if (capture) {
        capture->invalid = true;
        return STREAM_CAPTURE_ISOLATION;
    }
    if (!record->done) push(std::make_shared<Wait>(record));
    return SUCCESS;
}

void Stream::run_next() {
    if (queue_.empty()) die("a stream waits for work that it does not have");
    const WorkPointer work = std::move(queue_.front());
    queue_.pop_front();
    staged_bytes_ -= work->staged_bytes();
    run_checked(*work, device);
}

bool Stream::uses_host(const void* start, size_t bytes) const {
    return std::any_of(queue_.begin(), queue_.end(), [&](auto& work) { return work->uses_host(start, bytes); });
}

void Stream::synchronise() {
    while (!queue_.empty()) run_next();
}

}  // namespace cusim
