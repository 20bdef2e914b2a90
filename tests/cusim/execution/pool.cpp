#include "pool.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <thread>

namespace cusim {

namespace {

struct Job {
    const std::function<void()>* work;
    unsigned running = 0;
};

class Pool {
  public:
    Pool() {
#ifndef __SANITIZE_ADDRESS__
        const char* wish = getenv("CUSIM_THREADS");
        const unsigned threads = wish ? unsigned(strtoul(wish, nullptr, 10)) : std::thread::hardware_concurrency();
        for (unsigned i = 1; i < std::min(threads, 64u); ++i) std::thread([this] { serve(); }).detach();
        helpers_ = std::max(1u, std::min(threads, 64u)) - 1;
#endif
    }

    void run(const std::function<void()>& work) {
        Job job{&work};
        if (helpers_ > 0) {
            std::lock_guard guard(mutex_);
            waiting_.insert(waiting_.end(), helpers_, &job);
            work_came_.notify_all();
        }
        work();
        if (helpers_ > 0) {
            std::unique_lock guard(mutex_);
            std::erase(waiting_, &job);  // who has not come yet finds nothing left to do
            helper_left_.wait(guard, [&] { return job.running == 0; });
        }
    }

  private:
    void serve() {
        std::unique_lock guard(mutex_);
        for (;;) {
            work_came_.wait(guard, [&] { return !waiting_.empty(); });
            Job* job = waiting_.front();
            waiting_.pop_front();
            ++job->running;
            guard.unlock();
            (*job->work)();
            guard.lock();
            if (--job->running == 0) helper_left_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable work_came_, helper_left_;
    std::deque<Job*> waiting_;
    unsigned helpers_ = 0;
};

}  // namespace

void run_on_all_workers(const std::function<void()>& work) {
    // Never destroyed, because its threads never end.
    static Pool* pool = new Pool;
    pool->run(work);
}

}  // namespace cusim
