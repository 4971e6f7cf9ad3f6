#include "pool.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include "module.h"
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace gs4d {
namespace {

constexpr int SPINS = 2000;  // some tens of microseconds: longer than the gap between two stages, shorter than a time slice

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

int available_cores() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    unsigned cores = std::thread::hardware_concurrency();
    return cores ? int(cores) : 1;
}

thread_local bool inside = false;

struct Pool {
    // Only the number of chunks not yet claimed lives in the word that threads race for. Who takes a chunk may read the
    // job below, because the job cannot end before that chunk is done.
    std::atomic<int64_t> unclaimed{0};
    std::atomic<int64_t> unfinished{0};
    void (*run)(const void*, int64_t) = nullptr;
    const void* context = nullptr;
    int64_t count = 0;
    std::exception_ptr error;

    std::mutex busy;    // held by the one caller whose job is running
    std::mutex asleep;  // guards sleeping, the conditions and error
    std::condition_variable wake, finished;
    std::atomic<int> sleeping{0};
    std::atomic<bool> caller_sleeps{false};
    std::atomic<int> threads{available_cores()};
    int helpers = 0;

    bool work_on_one() {
        int64_t left = unclaimed.load(std::memory_order_acquire);
        do {
            if (left <= 0) return false;
        } while (!unclaimed.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel));
        try {
            run(context, count - left);
        } catch (...) {
            std::lock_guard<std::mutex> lock(asleep);
            if (!error) error = std::current_exception();
        }
        if (unfinished.fetch_sub(1) == 1 && caller_sleeps.load()) {
            std::lock_guard<std::mutex> lock(asleep);
            finished.notify_one();
        }
        return true;
    }

    void help(int index) {
        inside = true;
        for (;;) {
            for (int spin = 0; spin < SPINS; ++spin) {
                if (index < threads.load(std::memory_order_relaxed) && work_on_one()) spin = 0;
                pause();
            }
            std::unique_lock<std::mutex> lock(asleep);
            sleeping.fetch_add(1);
            wake.wait(lock, [&] { return unclaimed.load() > 0 && index < threads.load(); });
            sleeping.fetch_sub(1);
        }
    }

    void call(int64_t chunks, void (*function)(const void*, int64_t), const void* argument) {
        while (helpers + 1 < threads.load()) {
            try {
                std::thread(&Pool::help, this, helpers + 1).detach();
                ++helpers;
            } catch (const std::system_error&) {  // the system gives no more threads: go on with those that are there
                threads = helpers + 1;
            }
        }
        run = function, context = argument, count = chunks, error = nullptr;
        unfinished.store(chunks);
        unclaimed.store(chunks);
        if (sleeping.load() > 0) {
            { std::lock_guard<std::mutex> lock(asleep); }  // a helper between its test and its wait must hear the call
            wake.notify_all();
        }
        inside = true;
        while (work_on_one()) {
        }
        inside = false;
        for (int spin = 0; spin < SPINS && unfinished.load() > 0; ++spin) pause();
        if (unfinished.load() > 0) {
            std::unique_lock<std::mutex> lock(asleep);
            caller_sleeps = true;
            finished.wait(lock, [&] { return unfinished.load() == 0; });
            caller_sleeps = false;
        }
        if (error) std::rethrow_exception(error);
    }
};

// Never destroyed: helpers may still be waiting on it when the process ends. A forked child has none of the helpers, so
// it starts with a new pool.
Pool* pool = new Pool;

void forget_in_child() {
    int threads = pool->threads;
    pool = new Pool;
    pool->threads = threads;
    inside = false;
}

}  // namespace

void run_chunks(int64_t count, void (*run)(const void*, int64_t), const void* context) {
    std::unique_lock<std::mutex> lock(pool->busy, std::defer_lock);
    if (count > 1 && !inside && pool->threads.load() > 1 && lock.try_lock()) {
        pool->call(count, run, context);
    } else {
        for (int64_t chunk = 0; chunk < count; ++chunk) run(context, chunk);
    }
}

int num_threads() { return pool->threads; }

void set_num_threads(int threads) {
    if (threads < 1) throw std::invalid_argument("set_num_threads(" + std::to_string(threads) + "): wanted at least 1");
    pool->threads = threads;
}

void bind_pool(nb::module_& m) {
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork(nullptr, nullptr, forget_in_child);
#endif
    m.def("num_threads", num_threads);
    m.def("set_num_threads", set_num_threads, nb::arg("threads"));
}

}  // namespace gs4d
