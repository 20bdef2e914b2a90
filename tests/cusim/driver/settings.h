// Which machine the simulator plays: read from the environment once, when the driver is initialised.
#pragma once

#include <cstddef>
#include <optional>

#include "../execution/executor.h"

namespace cusim {

struct Settings {
    int devices;                 // CUSIM_DEVICES, 9
    int driver_version;          // CUSIM_DRIVER_VERSION, 13000 (major · 1000 + minor · 10)
    int capability_major;        // CUSIM_COMPUTE_CAPABILITY, 9.0
    int capability_minor;
    size_t memory_bytes;         // CUSIM_MEMORY, 8 GiB
    bool short_buffers;          // CUSIM_SHORT_BUFFERS: each allocation ends 4 bytes early
    size_t cublaslt_version;     // CUSIM_CUBLASLT_VERSION, 130000 (major · 10000 + minor · 100 + patch)
    bool no_epilogue;            // CUSIM_NO_EPILOGUE: cuBLASLt offers no fused epilogue
    unsigned fastest_algorithm;  // CUSIM_FASTEST_ALGORITHM, 0: that of cuBLASLt's algorithms which takes the least time
    unsigned failing_algorithms; // CUSIM_FAILING_ALGORITHMS, 0: bit N is set if products fail with cuBLASLt's algorithm N
    bool failures_stay;          // CUSIM_FAILURES_STAY: after such a product nothing works on its device any more
    bool no_algorithm_check;     // CUSIM_NO_ALGORITHM_CHECK: cuBLASLt accepts no algorithm that it is asked about
    bool no_write_combining;     // CUSIM_NO_WRITE_COMBINING: no host memory that passes the caches by
    std::optional<Order> order;  // CUSIM_ORDER, forward, reverse or shuffled: on every device
    bool report_leaks;           // CUSIM_LEAKS: what is still alive is listed on stderr at exit
};

const Settings& settings();

}  // namespace cusim
