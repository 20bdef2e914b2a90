// What a device holds and what it has done, for tests: `cusim_counters` copies it out.
#pragma once

#include <cstdint>

// support.rs declares the same fields in the same order.
struct cusim_counters_t {
    // Alive now.
    uint64_t device_allocations;
    uint64_t device_bytes;
    uint64_t pinned_allocations;  // those that were made while this device was current
    uint64_t contexts;
    uint64_t streams;
    uint64_t events;
    uint64_t modules;
    uint64_t graphs;  // captured graphs and their executable forms
    uint64_t cublaslt_objects;  // of the whole process: handles, descriptors, layouts, preferences
    // Since the process began.
    uint64_t peak_device_bytes;
    uint64_t allocations;
    uint64_t launches;        // calls that start one kernel; a replay of a graph makes none
    uint64_t products;        // likewise
    uint64_t graph_launches;
    uint64_t kernels_run;     // by launches and by replays
    uint64_t products_run;
    uint64_t uploads;         // copies from host to device, as calls
    uint64_t uploaded_bytes;
    uint64_t downloads;
    uint64_t downloaded_bytes;
    uint64_t synchronisations;  // calls in which the host waited for the device
    uint64_t elapsed_times;     // questions for the time between two events
    uint64_t cublaslt_questions;  // of the whole process: for algorithms, and whether one is good
};
