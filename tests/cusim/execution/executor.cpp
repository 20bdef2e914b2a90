#include "executor.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <numeric>

#include "../driver/fault.h"
#include "block.h"
#include "fiber.h"
#include "pool.h"
#include "shared_memory.h"

namespace cusim {

constinit thread_local Block* current_block = nullptr;
constinit thread_local Thread* current_thread = nullptr;

// A launch of fewer threads is over before another worker wakes up.
constexpr uint64_t WORTH_SHARING = 4096;

const char* name_of(Order order) {
    return order == Order::forward ? "forward" : order == Order::reverse ? "reverse" : "shuffled";
}

namespace {

// A small generator: the shuffles must be quick and the same in every run, nothing more.
class Shuffler {
  public:
    explicit Shuffler(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 1) {}
    uint32_t below(uint32_t bound) {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return uint32_t((uint64_t(uint32_t(state_)) * bound) >> 32);
    }

  private:
    uint64_t state_;
};

// The block that runs at a given turn.
class BlockOrder {
  public:
    BlockOrder(Order order, uint64_t blocks) : order_(order), blocks_(blocks) {
        while (std::gcd(step_, blocks_) != 1) ++step_;
    }
    uint64_t at(uint64_t turn) const {
        if (order_ == Order::forward) return turn;
        if (order_ == Order::reverse) return blocks_ - 1 - turn;
        // A walk in large steps visits each block once.
        return uint64_t((static_cast<unsigned __int128>(turn) * step_ + blocks_ / 3) % blocks_);
    }

  private:
    Order order_;
    uint64_t blocks_;
    uint64_t step_ = 0x9E3779B9ull;
};

// What one OS thread needs to run blocks. It outlives launches, so that stacks are made once.
class Worker {
  public:
    void run_blocks(const Launch& launch, const BlockOrder& order, std::atomic<uint64_t>& next, uint64_t blocks,
                    std::atomic<uint64_t>& conflicts) {
        prepare(launch);
        SharedMemory shared(*launch.kernel, launch.dynamic_shared_bytes);
        block_.dynamic_shared = shared.dynamic();
        current_block = &block_;
        for (uint64_t turn; (turn = next.fetch_add(1, std::memory_order_relaxed)) < blocks;) {
            const uint64_t number = order.at(turn);
            block_.index = {unsigned(number % launch.grid.x), unsigned(number / launch.grid.x % launch.grid.y),
                            unsigned(number / launch.grid.x / launch.grid.y)};
            if (launch.order == Order::shuffled) shuffle(number);
            shared.poison();
            run_block();
            shared.check();
        }
        current_block = nullptr;
        conflicts.fetch_add(block_.bank_conflicts, std::memory_order_relaxed);
    }

    std::vector<Fiber*> idle;

  private:
    void prepare(const Launch& launch) {
        block_.grid = launch.grid;
        block_.size = launch.block;
        block_.kernel = launch.kernel;
        block_.arguments = launch.arguments;
        block_.bank_conflicts = 0;
        const unsigned threads = launch.block.x * launch.block.y * launch.block.z;
        block_.threads.resize(threads);
        block_.order.resize(threads);
        block_.warps.resize((threads + WARP_SIZE - 1) / WARP_SIZE);
        uint3 index = {0, 0, 0};
        for (unsigned i = 0; i < threads; ++i) {
            block_.threads[i] = {index, i % WARP_SIZE, i / WARP_SIZE, State::done, {}, nullptr, {}, 0};
            block_.order[i] = launch.order == Order::reverse ? threads - 1 - i : i;
            if (++index.x == launch.block.x) {
                index.x = 0;
                if (++index.y == launch.block.y) {
                    index.y = 0;
                    ++index.z;
                }
            }
        }
    }

    void shuffle(uint64_t seed) {
        Shuffler shuffler(seed + 1);
        auto& order = block_.order;
        for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[shuffler.below(uint32_t(i))]);
    }

    void run_block() {
        const unsigned threads = unsigned(block_.threads.size());
        for (unsigned i = 0; i < block_.warps.size(); ++i) {
            const unsigned lanes = std::min(WARP_SIZE, threads - i * WARP_SIZE);
            block_.warps[i].live = lanes == WARP_SIZE ? ~0u : (1u << lanes) - 1;
            block_.warps[i].arrived = 0;
        }
        block_.next_to_start = 0;
        block_.live = threads;
        block_.at_barrier = 0;
        // A fiber starts one thread after another until one of them waits; the rest is another fiber's.
        while (block_.next_to_start < threads) fresh_fiber()->enter();
        while (block_.live > 0) {
            bool ran = false;
            // A shuffle that its whole warp has reached lets that warp run ahead of the others, to the barrier at least.
            for (size_t first = 0; first < block_.order.size(); first += WARP_SIZE) {
                while (run_threads_in_turn(first)) ran = true;
            }
            if (!ran) open_barrier();
        }
    }

    // Up to a warp's number of threads, from a place in the order; whether one of them could run.
    bool run_threads_in_turn(size_t first) {
        const size_t end = std::min<size_t>(first + WARP_SIZE, block_.order.size());
        bool ran = false;
        for (size_t turn = first; turn < end; ++turn) {
            Thread& thread = block_.threads[block_.order[turn]];
            if (thread.state != State::running) continue;
            current_thread = &thread;
            thread.fiber->enter();
            ran = true;
        }
        return ran;
    }

    void open_barrier() {
        const Thread* first = nullptr;
        for (const Thread& thread : block_.threads) {
            if (thread.state != State::at_barrier) continue;
            if (!first) first = &thread;
            const bool same = thread.where.line() == first->where.line() &&
                              strcmp(thread.where.file_name(), first->where.file_name()) == 0;
            if (!same) kernel_fault("threads wait at different barriers", thread.where);
        }
        if (block_.at_barrier != block_.live) {
            for (const Thread& thread : block_.threads) {
                if (thread.state == State::at_exchange) {
                    kernel_fault("some lanes of a warp never reach its shuffle: they wait at a barrier", thread.where);
                }
            }
        }
        for (Thread& thread : block_.threads) {
            if (thread.state == State::at_barrier) thread.state = State::running;
        }
        block_.at_barrier = 0;
    }

    Fiber* fresh_fiber() {
        if (idle.empty()) {
            fibers_.push_back(std::make_unique<Fiber>(anchor_, &Worker::run_threads));
            return fibers_.back().get();
        }
        Fiber* fiber = idle.back();
        idle.pop_back();
        return fiber;
    }

    static void run_threads(Fiber& fiber);

    Block block_;
    Anchor anchor_;
    std::vector<std::unique_ptr<Fiber>> fibers_;
};

// Behind a pointer: thread-local storage of a library that is opened at run time has to be small.
Worker& worker() {
    static thread_local std::unique_ptr<Worker> own = std::make_unique<Worker>();
    return *own;
}

// Lets the lanes of a warp go on once all that are left have arrived.
void close_exchange_if_complete(Block& block, unsigned number) {
    Warp& warp = block.warps[number];
    if (warp.arrived == 0 || warp.arrived != warp.live) return;
    for (unsigned lane = 0; lane < WARP_SIZE; ++lane) {
        if (!(warp.arrived >> lane & 1)) memset(warp.slots[warp.round & 1][lane], 0xFF, WIDEST_EXCHANGE);
    }
    warp.arrived = 0;
    ++warp.round;
    const unsigned first = number * WARP_SIZE;
    const unsigned end = std::min(first + WARP_SIZE, unsigned(block.threads.size()));
    for (unsigned i = first; i < end; ++i) {
        if (block.threads[i].state == State::at_exchange) block.threads[i].state = State::running;
    }
}

void Worker::run_threads(Fiber& fiber) {
    for (;;) {
        Block& block = *current_block;
        while (block.next_to_start < block.threads.size()) {
            Thread& thread = block.threads[block.order[block.next_to_start++]];
            thread.state = State::running;
            thread.fiber = &fiber;
            thread.groups = 0;
            current_thread = &thread;
            block.kernel->call(block.kernel->function, block.arguments);
            // `thread` again by name: the kernel may have waited, and others have run since.
            thread.state = State::done;
            if (!thread.copies.empty()) kernel_fault("a thread returned before its copies had landed", thread.where);
            --block.live;
            block.warps[thread.warp].live &= ~(1u << thread.lane);
            close_exchange_if_complete(block, thread.warp);
        }
        worker().idle.push_back(&fiber);
        fiber.leave();
    }
}

}  // namespace

uint64_t execute(const Launch& launch) {
    const uint64_t blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    const uint64_t threads = blocks * launch.block.x * launch.block.y * launch.block.z;
    const BlockOrder order(launch.order, blocks);
    std::atomic<uint64_t> next{0}, conflicts{0};
    const auto work = [&] { worker().run_blocks(launch, order, next, blocks, conflicts); };
#ifdef __SANITIZE_ADDRESS__
    // Shared arrays are plain statics there: one launch at a time.
    static std::mutex one_launch;
    std::lock_guard guard(one_launch);
    work();
    (void)threads;
#else
    if (blocks == 1 || threads < WORTH_SHARING) {
        work();
    } else {
        run_on_all_workers(work);
    }
#endif
    return conflicts;
}

void wait_at_barrier(std::source_location where) {
    Thread& thread = *current_thread;
    thread.state = State::at_barrier;
    thread.where = where;
    ++current_block->at_barrier;
    thread.fiber->leave();
}

const unsigned char (*exchange(uint32_t mask, const void* value, size_t bytes, std::source_location where))[WIDEST_EXCHANGE] {
    Block& block = *current_block;
    Thread& thread = *current_thread;
    Warp& warp = block.warps[thread.warp];
    if (mask != ~0u) kernel_fault("a shuffle without the full mask (only full masks are simulated)", where);
    if (warp.arrived != 0) {
        // All lanes of a warp must be at the same shuffle, and at the same time.
        const Thread& other = block.threads[thread.warp * WARP_SIZE + unsigned(__builtin_ctz(warp.arrived))];
        if (other.where.line() != where.line()) kernel_fault("lanes of a warp meet at different shuffles", where);
    }
    const auto* slots = warp.slots[warp.round & 1];
    memcpy(warp.slots[warp.round & 1][thread.lane], value, bytes);
    warp.arrived |= 1u << thread.lane;
    thread.where = where;
    thread.state = State::at_exchange;
    close_exchange_if_complete(block, thread.warp);
    if (thread.state == State::at_exchange) thread.fiber->leave();
    return slots;
}

void kernel_fault(const char* what, std::source_location where) {
    const Block& block = *current_block;
    const uint3 at = block.index;
    std::string waiting;
    unsigned shown = 0;
    for (const Thread& thread : block.threads) {
        const bool waits = thread.state == State::at_barrier || thread.state == State::at_exchange;
        if (!waits || ++shown > 4) continue;
        char line[160];
        snprintf(line, sizeof line, "\n  thread (%u,%u,%u) waits at %s, line %u", thread.index.x, thread.index.y,
                 thread.index.z, thread.state == State::at_barrier ? "a barrier" : "a shuffle", thread.where.line());
        waiting += line;
    }
    die("kernel %s, block (%u,%u,%u), %s:%u: %s%s", block.kernel->name.c_str(), at.x, at.y, at.z, where.file_name(),
        where.line(), what, waiting.c_str());
}

}  // namespace cusim
