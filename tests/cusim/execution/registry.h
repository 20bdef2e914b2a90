// Kernels by name, with what a launch must know of their parameters.
//
// The builder writes, for each file of kernels, a translation unit that includes the file and registers the kernels that
// it found in its text; the kernels themselves hold no word of it.
#pragma once

#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace cusim {

struct Parameter {
    size_t bytes;
    size_t alignment;
    bool pointer;
};

// One file of kernels: a shared library of its own, whose thread-local storage is the file's `__shared__` arrays.
struct Library {
    const char* file;
    void* (*anchor)();  // an address inside the calling thread's copy of that storage
};

struct Kernel {
    std::string name;
    const Library* library;
    unsigned max_threads;  // its `__launch_bounds__`
    std::vector<Parameter> parameters;
    void (*function)();
    // One thread's run: calls `function` with the values that `arguments` point at.
    void (*call)(void (*function)(), void** arguments);
};

void add_kernel(Kernel kernel);

// Null if no file defines it.
const Kernel* find_kernel(const std::string& name);

template <class... A, size_t... I>
void call_with(void (*function)(A...), void** arguments, std::index_sequence<I...>) {
    function(*static_cast<std::remove_cvref_t<A>*>(arguments[I])...);
}

template <class... A>
void add_kernel(const Library& library, const char* name, unsigned max_threads, void (*function)(A...)) {
    static_assert((std::is_trivially_copyable_v<A> && ...), "kernel parameters are copied byte by byte");
    add_kernel(Kernel{
        name,
        &library,
        max_threads,
        {Parameter{sizeof(A), alignof(A), std::is_pointer_v<A>}...},
        reinterpret_cast<void (*)()>(function),
        [](void (*erased)(), void** arguments) {
            call_with(reinterpret_cast<void (*)(A...)>(erased), arguments, std::index_sequence_for<A...>{});
        },
    });
}

}  // namespace cusim
