#include "settings.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include "fault.h"

namespace cusim {

static unsigned long long number(const char* variable, unsigned long long otherwise) {
    const char* text = getenv(variable);
    if (!text) return otherwise;
    char* end = nullptr;
    const unsigned long long value = strtoull(text, &end, 10);
    if (end == text || *end != '\0') die("%s=%s is not a number", variable, text);
    return value;
}

static std::optional<Order> order() {
    const char* text = getenv("CUSIM_ORDER");
    if (!text) return std::nullopt;
    for (const Order order : {Order::forward, Order::reverse, Order::shuffled}) {
        if (std::string(text) == name_of(order)) return order;
    }
    die("CUSIM_ORDER=%s is none of forward, reverse, shuffled", text);
}

static Settings read() {
    Settings settings{
        .devices = int(number("CUSIM_DEVICES", 9)),
        .driver_version = int(number("CUSIM_DRIVER_VERSION", 13000)),
        .capability_major = 9,
        .capability_minor = 0,
        .memory_bytes = size_t(number("CUSIM_MEMORY", 8ull << 30)),
        .short_buffers = number("CUSIM_SHORT_BUFFERS", 0) != 0,
        .cublaslt_version = size_t(number("CUSIM_CUBLASLT_VERSION", 130000)),
        .no_epilogue = number("CUSIM_NO_EPILOGUE", 0) != 0,
        .fastest_algorithm = unsigned(number("CUSIM_FASTEST_ALGORITHM", 0)),
        .failing_algorithms = unsigned(number("CUSIM_FAILING_ALGORITHMS", 0)),
        .failures_stay = number("CUSIM_FAILURES_STAY", 0) != 0,
        .no_algorithm_check = number("CUSIM_NO_ALGORITHM_CHECK", 0) != 0,
        .no_write_combining = number("CUSIM_NO_WRITE_COMBINING", 0) != 0,
        .order = order(),
        .report_leaks = number("CUSIM_LEAKS", 0) != 0,
    };
    const char* capability = getenv("CUSIM_COMPUTE_CAPABILITY");
    if (capability && sscanf(capability, "%d.%d", &settings.capability_major, &settings.capability_minor) != 2) {
        die("CUSIM_COMPUTE_CAPABILITY=%s is not of the form 9.0", capability);
    }
    return settings;
}

const Settings& settings() {
    static const Settings known = read();
    return known;
}

}  // namespace cusim
