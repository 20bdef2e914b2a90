// Entry points of the driver: streams, events, capture, graphs.

#include "api.h"
#include "fault.h"
#include "graph.h"

namespace cusim {

// A program may wait for an event by asking for it over and over; the device gets on meanwhile.
constexpr unsigned PATIENT_QUERIES = 3;

void invalidate(Capture& capture) { capture.invalid = true; }

Result submit_product(void* stream, WorkPointer work) {
    return Result(on_stream(stream, [&](Stream& stream) {
        const Result result = stream.enqueue(std::move(work));
        if (result == SUCCESS) ++stream.device.counters.products;
        return result;
    }));
}

void fail_product(void* stream) {
    on_stream(stream, [](Stream& stream) {
        stream.device.lost = settings().failures_stay;
        return SUCCESS;
    });
}

// --- Host functions -----------------------------------------------------------------------------------------------------

namespace {

class HostCall final : public Work {
  public:
    HostCall(void (*function)(void*), void* argument) : function_(function), argument_(argument) {}
    std::string name() const override { return "a host function"; }
    void run(Device&) override { function_(argument_); }

  private:
    void (*function_)(void*);
    void* argument_;
};

}  // namespace
}  // namespace cusim

using namespace cusim;

// --- Streams --------------------------------------------------------------------------------------------------------------

CUSIM_API int cuStreamCreate(void** handle, unsigned flags) {
    if (flags > 1) return INVALID_VALUE;
    return on_current_device([&](Device& device) {
        constexpr unsigned NON_BLOCKING = 1;
        auto stream = std::make_shared<Stream>(device, (flags & NON_BLOCKING) == 0);
        device.streams.insert(stream);
        ++device.counters.streams;
        *handle = handles<Stream>().add(std::move(stream));
        return SUCCESS;
    });
}

CUSIM_API int cuStreamCreateWithPriority(void** handle, unsigned flags, int) { return cuStreamCreate(handle, flags); }

CUSIM_API int cuStreamDestroy_v2(void* handle) {
    return on_current_device([&](Device& device) {
        const auto stream = handles<Stream>().find(handle);
        if (!stream || &stream->device != &device) return INVALID_HANDLE;
        if (stream->capture) {
            std::shared_ptr<Graph> unfinished;
            stream->capture->invalid = true;
            stream->capture->end(unfinished);
        }
        stream->synchronise();
        handles<Stream>().remove(handle);
        device.streams.erase(stream);
        --device.counters.streams;
        return SUCCESS;
    });
}

CUSIM_API int cuStreamSynchronize(void* handle) {
    return on_stream(handle, [](Stream& stream) {
        if (stream.capture) return invalidate(*stream.capture), STREAM_CAPTURE_UNSUPPORTED;
        ++stream.device.counters.synchronisations;
        stream.synchronise();
        return SUCCESS;
    });
}

CUSIM_API int cuStreamQuery(void* handle) {
    return on_stream(handle, [](Stream& stream) {
        if (stream.capture) return invalidate(*stream.capture), STREAM_CAPTURE_UNSUPPORTED;
        if (stream.idle()) return SUCCESS;
        stream.run_next();
        return NOT_READY;
    });
}

CUSIM_API int cuStreamWaitEvent(void* handle, void* event_handle, unsigned) {
    return on_stream(handle, [&](Stream& stream) {
        const auto event = handles<Event>().find(event_handle);
        if (!event) return INVALID_HANDLE;
        if (&event->device != &stream.device) {
            explain("waiting for another device's event is not simulated");
            return NOT_SUPPORTED;
        }
        // An event that was never recorded counts as done.
        return event->record ? stream.wait(event->record) : SUCCESS;
    });
}

CUSIM_API int cuLaunchHostFunc(void* handle, void (*function)(void*), void* argument) {
    return on_stream(handle,
                     [&](Stream& stream) { return stream.enqueue(std::make_shared<HostCall>(function, argument)); });
}

// --- Events ---------------------------------------------------------------------------------------------------------------

CUSIM_API int cuEventCreate(void** handle, unsigned flags) {
    constexpr unsigned DISABLE_TIMING = 2;
    return on_current_device([&](Device& device) {
        ++device.counters.events;
        *handle = handles<Event>().add(std::make_shared<Event>(device, (flags & DISABLE_TIMING) == 0));
        return SUCCESS;
    });
}

CUSIM_API int cuEventDestroy_v2(void* handle) {
    return on_event(handle, [&](Event& event) {
        --event.device.counters.events;
        handles<Event>().remove(handle);
        return SUCCESS;
    });
}

CUSIM_API int cuEventRecord(void* handle, void* stream) {
    return on_stream(stream, [&](Stream& stream) {
        const auto event = handles<Event>().find(handle);
        if (!event || &event->device != &stream.device) return INVALID_HANDLE;
        if (stream.capture && stream.capture->invalid) return STREAM_CAPTURE_INVALIDATED;
        event->record = stream.record();
        event->queries = 0;
        return SUCCESS;
    });
}

CUSIM_API int cuEventSynchronize(void* handle) {
    return on_event(handle, [](Event& event) {
        if (!event.record) return SUCCESS;
        if (event.record->capture) return invalidate(*event.record->capture), CAPTURED_EVENT;
        if (event.record->done) return SUCCESS;
        ++event.device.counters.synchronisations;
        event.record->complete();
        return SUCCESS;
    });
}

CUSIM_API int cuEventQuery(void* handle) {
    return on_event(handle, [](Event& event) {
        if (!event.record || event.record->done) return SUCCESS;
        if (event.record->capture) return invalidate(*event.record->capture), CAPTURED_EVENT;
        if (++event.queries < PATIENT_QUERIES) return NOT_READY;
        event.record->complete();
        return SUCCESS;
    });
}

CUSIM_API int cuEventElapsedTime_v2(float* milliseconds, void* start_handle, void* end_handle) {
    const auto end = handles<Event>().find(end_handle);
    if (!end) return INVALID_HANDLE;
    return on_event(start_handle, [&](Event& start) {
        if (&start.device != &end->device || !start.record || !end->record) return INVALID_HANDLE;
        if (!start.timing || !end->timing) return INVALID_HANDLE;
        if (!start.record->done || !end->record->done) return NOT_READY;
        ++start.device.counters.elapsed_times;
        *milliseconds = float(double(int64_t(end->record->when - start.record->when)) * 1e-6);
        return SUCCESS;
    });
}

CUSIM_API int cuEventElapsedTime(float* milliseconds, void* start, void* end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}

// --- Capture and graphs ---------------------------------------------------------------------------------------------------

CUSIM_API int cuStreamBeginCapture_v2(void* handle, unsigned mode) {
    if (mode > unsigned(CaptureMode::relaxed)) return INVALID_VALUE;
    return on_stream(handle, [&](Stream& stream) {
        if (&stream == stream.device.null_stream.get()) return STREAM_CAPTURE_UNSUPPORTED;
        if (stream.capture) return ILLEGAL_STATE;
        stream.capture = std::make_shared<Capture>(stream.shared_from_this(), CaptureMode(mode));
        return SUCCESS;
    });
}

CUSIM_API int cuStreamIsCapturing(void* handle, int* status) {
    return on_stream(handle, [&](Stream& stream) {
        *status = !stream.capture ? 0 : stream.capture->invalid ? 2 : 1;
        return SUCCESS;
    });
}

CUSIM_API int cuStreamEndCapture(void* handle, void** graph_handle) {
    *graph_handle = nullptr;
    return on_stream(handle, [&](Stream& stream) {
        const auto capture = stream.capture;
        if (!capture) return ILLEGAL_STATE;
        if (capture->origin().get() != &stream) return invalidate(*capture), STREAM_CAPTURE_UNMATCHED;
        const bool own_thread = capture->thread == std::this_thread::get_id();
        if (capture->mode != CaptureMode::relaxed && !own_thread) return STREAM_CAPTURE_WRONG_THREAD;
        std::shared_ptr<Graph> graph;
        const Result result = capture->end(graph);
        if (result != SUCCESS) return result;
        ++stream.device.counters.graphs;
        *graph_handle = handles<Graph>().add(std::move(graph));
        return SUCCESS;
    });
}

CUSIM_API int cuGraphInstantiateWithFlags(void** executable, void* graph_handle, unsigned long long) {
    return on_current_device([&](Device& device) {
        const auto graph = handles<Graph>().find(graph_handle);
        if (!graph || &graph->device != &device) return INVALID_VALUE;
        ++device.counters.graphs;
        *executable = handles<ExecutableGraph>().add(std::make_shared<ExecutableGraph>(ExecutableGraph{graph}));
        return SUCCESS;
    });
}

CUSIM_API int cuGraphDestroy(void* handle) {
    const auto graph = handles<Graph>().remove(handle);
    if (!graph) return INVALID_VALUE;
    std::lock_guard guard(graph->device.mutex);
    --graph->device.counters.graphs;
    return SUCCESS;
}

CUSIM_API int cuGraphExecDestroy(void* handle) {
    const auto executable = handles<ExecutableGraph>().remove(handle);
    if (!executable) return INVALID_VALUE;
    Device& device = executable->graph->device;
    std::lock_guard guard(device.mutex);
    --device.counters.graphs;
    return SUCCESS;
}

CUSIM_API int cuGraphUpload(void* handle, void* stream) {
    return on_stream(stream, [&](Stream&) { return handles<ExecutableGraph>().find(handle) ? SUCCESS : INVALID_VALUE; });
}

CUSIM_API int cuGraphLaunch(void* handle, void* stream) {
    return on_stream(stream, [&](Stream& stream) {
        const auto executable = handles<ExecutableGraph>().find(handle);
        if (!executable || &executable->graph->device != &stream.device) return INVALID_VALUE;
        ++stream.device.counters.graph_launches;
        return stream.enqueue(std::make_shared<Replay>(executable->graph));
    });
}
