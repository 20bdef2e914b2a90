// Streams that run their work as late as CUDA allows, and the events that order them.
//
// Work waits in its stream until something synchronises with it. So a program that forgets to make one stream wait for
// another, or that touches a pinned buffer before its copy is over, sees old data every time instead of now and then.
#pragma once

#include <deque>
#include <memory>

#include "work.h"

namespace cusim {

class Capture;
class Stream;

// A point in a stream: what `cuEventRecord` leaves behind in its event.
struct Record {
    std::shared_ptr<Stream> stream;
    bool done = false;
    uint64_t when = 0;  // on the device's clock
    // For a point in a capture: there it is a position, and never done.
    std::shared_ptr<Capture> capture;
    size_t lane = 0;
    size_t position = 0;

    // Runs the stream up to here.
    void complete();
};

class Stream : public std::enable_shared_from_this<Stream> {
  public:
    Stream(Device& device, bool blocking) : device(device), blocking(blocking) {}

    Device& device;
    // Orders itself against the null stream.
    const bool blocking;
    // Set while the stream's work goes into a graph.
    std::shared_ptr<Capture> capture;

    // Checks the work and takes it in: into the graph where the stream is captured.
    Result enqueue(WorkPointer work);

    // Takes in a point that is done once all work before it is.
    std::shared_ptr<Record> record();

    // Later work waits for the point.
    Result wait(const std::shared_ptr<Record>& record);

    void run_next();
    void synchronise();
    bool idle() const { return queue_.empty(); }
    // Deferred work reads or writes pinned memory in this range.
    bool uses_host(const void* start, size_t bytes) const;

  private:
    void push(WorkPointer work);

    std::deque<WorkPointer> queue_;
    size_t staged_bytes_ = 0;
};

struct Event {
    Event(Device& device, bool timing) : device(device), timing(timing) {}
    Device& device;
    const bool timing;
    std::shared_ptr<Record> record;  // null until it is recorded
    unsigned queries = 0;            // in a row that were answered with "not ready"
};

}  // namespace cusim
