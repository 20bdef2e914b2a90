// Capture of streams into graphs, and their replay.
//
// A graph keeps one lane for each captured stream, with its waits for other lanes. A replay runs the first lane and,
// of the others, what is waited for, when it is waited for: an edge that was forgotten shows there too.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "stream.h"
#include "work.h"

namespace cusim {

struct Step {
    WorkPointer work;   // null: this step waits for another lane
    size_t lane = 0;
    size_t position = 0;  // the number of that lane's steps to wait for
};

using Lane = std::vector<Step>;

struct Graph {
    Device& device;
    std::vector<Lane> lanes;
};

struct ExecutableGraph {
    std::shared_ptr<const Graph> graph;
};

enum class CaptureMode { global = 0, thread_local_ = 1, relaxed = 2 };

class Capture : public std::enable_shared_from_this<Capture> {
  public:
    Capture(std::shared_ptr<Stream> origin, CaptureMode mode);
    ~Capture();

    const CaptureMode mode;
    const std::thread::id thread = std::this_thread::get_id();
    bool invalid = false;

    const std::shared_ptr<Stream>& origin() const { return streams_.front(); }

    void add(const Stream& stream, WorkPointer work);
    std::shared_ptr<Record> record(const Stream& stream);
    // Takes the stream in if it is not yet part of the capture.
    void wait(const std::shared_ptr<Stream>& stream, const Record& record);

    // Releases the streams. The graph is null where the capture failed.
    Result end(std::shared_ptr<Graph>& graph);

  private:
    Lane& lane_of(const Stream& stream);
    bool joined() const;

    std::vector<std::shared_ptr<Stream>> streams_;
    std::vector<Lane> lanes_;
};

// One replay, as work of a stream.
class Replay final : public Work {
  public:
    explicit Replay(std::shared_ptr<const Graph> graph) : graph_(std::move(graph)) {}
    std::string name() const override { return "a graph"; }
    void run(Device& device) override;
    bool uses_host(const void* start, size_t bytes) const override;

  private:
    std::shared_ptr<const Graph> graph_;
};

}  // namespace cusim
