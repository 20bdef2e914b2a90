#include "fiber.h"

#include <cstdint>
#include <sys/mman.h>
#include <unistd.h>

#include "../driver/fault.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace cusim {

#ifdef __SANITIZE_ADDRESS__
// Red zones around every local array take room.
constexpr size_t STACK_BYTES = 256 << 10;
#else
constexpr size_t STACK_BYTES = 64 << 10;
#endif

static size_t page_bytes() {
    static const size_t bytes = size_t(sysconf(_SC_PAGESIZE));
    return bytes;
}

// --- The switch itself ------------------------------------------------------------------------------------------------

// Saves the registers that a callee must keep on the current stack and its pointer in `*from`, then takes up the stack
// `to`. C library calls for the same purpose save the signal mask by a system call, or keep no more than this.
extern "C" void cusim_switch_stack(void** from, void* to);

#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.globl cusim_switch_stack
.hidden cusim_switch_stack
.type cusim_switch_stack, @function
cusim_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size cusim_switch_stack, . - cusim_switch_stack
)");

static void* first_frame(char* top, void (*start)()) {
    // As if `start` had just been called: its return address (none), then what the switch pops.
    void** frame = reinterpret_cast<void**>(top);
    *--frame = nullptr;
    *--frame = reinterpret_cast<void*>(start);
    for (int saved = 0; saved < 6; ++saved) *--frame = nullptr;
    return frame;
}
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
.globl cusim_switch_stack
.hidden cusim_switch_stack
.type cusim_switch_stack, %function
cusim_switch_stack:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size cusim_switch_stack, . - cusim_switch_stack
)");

static void* first_frame(char* top, void (*start)()) {
    void** frame = reinterpret_cast<void**>(top) - 20;
    for (int saved = 0; saved < 20; ++saved) frame[saved] = nullptr;
    frame[11] = reinterpret_cast<void*>(start);  // x30, where the switch returns to
    return frame;
}
#else
#error "the simulated GPU switches stacks on x86-64 and aarch64 alone"
#endif

// --- Fibers -------------------------------------------------------------------------------------------------------------

// The fiber that is being entered for the first time: its entry point takes no arguments.
static constinit thread_local Fiber* starting = nullptr;

Fiber::Fiber(Anchor& anchor, void (*body)(Fiber&)) : anchor_(anchor), body_(body) {
    // A page without access below the stack: a kernel that overflows it crashes instead of writing elsewhere.
    mapping_ = mmap(nullptr, STACK_BYTES + page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping_ == MAP_FAILED || mprotect(mapping_, page_bytes(), PROT_NONE) != 0) die("no memory for a thread's stack");
    stack_pointer_ = first_frame(static_cast<char*>(mapping_) + page_bytes() + STACK_BYTES, &Fiber::start);
}

Fiber::~Fiber() { munmap(mapping_, STACK_BYTES + page_bytes()); }

void Fiber::start() {
    Fiber& fiber = *starting;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &fiber.anchor_.bottom, &fiber.anchor_.bytes);
#endif
    fiber.body_(fiber);
    __builtin_unreachable();
}

void Fiber::enter() {
    starting = this;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&anchor_.fake_stack, static_cast<char*>(mapping_) + page_bytes(), STACK_BYTES);
#endif
    cusim_switch_stack(&anchor_.stack_pointer, stack_pointer_);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(anchor_.fake_stack, nullptr, nullptr);
#endif
}

void Fiber::leave() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&fake_stack_, anchor_.bottom, anchor_.bytes);
#endif
    cusim_switch_stack(&stack_pointer_, anchor_.stack_pointer);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_stack_, &anchor_.bottom, &anchor_.bytes);
#endif
}

}  // namespace cusim
