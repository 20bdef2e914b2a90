// The threads that simulate multiprocessors: as many as the machine has cores, started once.
#pragma once

#include <functional>

namespace cusim {

// Runs `work` on the calling thread and, as far as they are free, on the pool's; returns when all of them are done. `work`
// takes its share from a counter of its own, so that it may run once or many times.
void run_on_all_workers(const std::function<void()>& work);

}  // namespace cusim
