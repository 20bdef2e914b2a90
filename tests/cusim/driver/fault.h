// The end of a process whose program did what would be silent damage on a GPU.
#pragma once

namespace cusim {

// Writes "cusim: ..." to stderr and aborts.
[[noreturn]] void die(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Writes "cusim: ..." to stderr: the cause of an error that the call returns without words.
void explain(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace cusim
