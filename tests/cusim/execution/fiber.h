// Stacks that a worker switches between: one for each thread of a block that waits at a barrier or in an exchange.
#pragma once

#include <cstddef>

namespace cusim {

// The worker's own stack, from which fibers are entered.
struct Anchor {
    void* stack_pointer = nullptr;
    // AddressSanitizer must be told of every switch, with the bounds of the stack that comes next.
    void* fake_stack = nullptr;
    const void* bottom = nullptr;
    size_t bytes = 0;
};

class Fiber {
  public:
    // `body` runs at the first `enter` and never returns.
    Fiber(Anchor& anchor, void (*body)(Fiber&));
    ~Fiber();
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    // From the worker's stack to this one, until it leaves.
    void enter();
    // From this stack back to the worker's.
    void leave();

  private:
    static void start();

    Anchor& anchor_;
    void (*body_)(Fiber&);
    void* mapping_;
    void* stack_pointer_;
    void* fake_stack_ = nullptr;
};

}  // namespace cusim
