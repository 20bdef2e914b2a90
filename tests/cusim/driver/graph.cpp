#include "graph.h"

#include <algorithm>
#include <functional>

#include "device.h"

namespace cusim {

// Walks the first lane, and of each other lane what is waited for. Returns how far each lane got.
static std::vector<size_t> walk(const std::vector<Lane>& lanes, const std::function<void(Work&)>& visit) {
    std::vector<size_t> reached(lanes.size(), 0);
    const std::function<void(size_t, size_t)> advance = [&](size_t lane, size_t position) {
        while (reached[lane] < position) {
            const Step& step = lanes[lane][reached[lane]++];
            if (step.work) {
                visit(*step.work);
            } else {
                advance(step.lane, step.position);
            }
        }
    };
    advance(0, lanes[0].size());
    return reached;
}

Capture::Capture(std::shared_ptr<Stream> origin, CaptureMode mode) : mode(mode), streams_{origin}, lanes_(1) {
    origin->device.captures.insert(this);
}

Capture::~Capture() { origin()->device.captures.erase(this); }

Lane& Capture::lane_of(const Stream& stream) {
    const auto found = std::find_if(streams_.begin(), streams_.end(), [&](auto& own) { return own.get() == &stream; });
    return lanes_[size_t(found - streams_.begin())];
}

void Capture::add(const Stream& stream, WorkPointer work) { lane_of(stream).push_back({std::move(work)}); }

std::shared_ptr<Record> Capture::record(const Stream& stream) {
    const Lane& lane = lane_of(stream);
    auto record = std::make_shared<Record>();
    record->capture = shared_from_this();
    record->lane = size_t(&lane - lanes_.data());
    record->position = lane.size();
    return record;
}

void Capture::wait(const std::shared_ptr<Stream>& stream, const Record& record) {
    if (!stream->capture) {
        stream->capture = shared_from_this();
        streams_.push_back(stream);
        lanes_.emplace_back();
    }
    lane_of(*stream).push_back({nullptr, record.lane, record.position});
}

bool Capture::joined() const {
    const auto reached = walk(lanes_, [](Work&) {});
    for (size_t lane = 0; lane < lanes_.size(); ++lane) {
        if (reached[lane] < lanes_[lane].size()) return false;
    }
    return true;
}

Result Capture::end(std::shared_ptr<Graph>& graph) {
    graph = nullptr;
    const auto self = shared_from_this();
    for (const auto& stream : streams_) stream->capture = nullptr;
    origin()->device.captures.erase(this);
    if (invalid) return STREAM_CAPTURE_INVALIDATED;
    if (!joined()) return STREAM_CAPTURE_UNJOINED;
    graph = std::make_shared<Graph>(Graph{origin()->device, std::move(lanes_)});
    return SUCCESS;
}

void Replay::run(Device& device) {
    walk(graph_->lanes, [&](Work& work) { run_checked(work, device); });
}

bool Replay::uses_host(const void* start, size_t bytes) const {
    bool uses = false;
    walk(graph_->lanes, [&](Work& work) { uses |= work.uses_host(start, bytes); });
    return uses;
}

}  // namespace cusim
