// Threads of our own, because the OpenMP runtime that torch brings spins in its barriers: with one core taken by another
// process it makes a kernel many times slower. Here work is claimed chunk by chunk, the caller works too, and it never
// waits for a helper that has not started a chunk.
#pragma once

#include <cstdint>

namespace gs4d {

// Calls run(context, chunk) once for every chunk in [0, count), on up to num_threads() threads, and returns when all are
// done. Which thread runs which chunk is arbitrary, so a reproducible result may depend on the chunk only. Called from
// inside a chunk, or while another thread's call is under way, it runs serially. The first exception is rethrown here.
void run_chunks(int64_t count, void (*run)(const void* context, int64_t chunk), const void* context);

template <class Function>
void parallel_for(int64_t count, const Function& function) {
    run_chunks(count, [](const void* f, int64_t chunk) { (*static_cast<const Function*>(f))(chunk); }, &function);
}

int num_threads();
void set_num_threads(int threads);  // throws std::invalid_argument below 1

}  // namespace gs4d
