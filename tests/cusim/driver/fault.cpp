#include "fault.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace cusim {

// One write a message, so that messages of several threads do not mix.
static void print(const char* format, va_list arguments) {
    char text[1024];
    const int prefix = snprintf(text, sizeof text, "cusim: ");
    vsnprintf(text + prefix, sizeof text - size_t(prefix), format, arguments);
    fprintf(stderr, "%s\n", text);
    fflush(stderr);
}

void die(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print(format, arguments);
    va_end(arguments);
    abort();
}

void explain(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print(format, arguments);
    va_end(arguments);
}

}  // namespace cusim
