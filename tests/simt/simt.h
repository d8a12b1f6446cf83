// Runs a CUDA kernel on the CPU: what csrc/cuda/prim.cuh stands on when no CUDA compiler reads it.
//
// Blocks run one after another, the threads of a block as fibres that give way at barriers and warp exchanges
// only. In which order threads and blocks go, and whether background copies arrive at once or at the wait, is
// the test's choice; a right kernel gives the same bits whatever it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace cgckit::simt {

int thread();
int64_t block();
void barrier();
unsigned char* shared_memory();

// Every lane of the warp hands in `bytes` (at most 32) and gets the 32 values, each at a distance of `bytes`.
const void* exchange(const void* value, size_t bytes);

template <typename V>
const V* exchange(const V& value) {
  static_assert(sizeof(V) <= 32);
  return static_cast<const V*>(exchange(&value, sizeof(V)));
}

void copy_async(void* to, const void* from, size_t bytes, bool valid);
void copy_commit();
void copy_wait(int pending);

// The pointer, if it is aligned to so many bytes; else throws std::runtime_error.
const void* aligned(const void* pointer, size_t bytes);

constexpr int64_t kProcessors = 1;  // so few that loops of resident blocks run more than once

// Throws std::runtime_error if threads wait for one another for ever or leave others waiting.
void launch(const std::function<void()>& kernel, int64_t blocks, int threads, size_t shared_bytes);

// Whether the bug of that number is switched on, in builds whose sources carry bugs.
bool planted(int bug);

// Hooks of the race check.
void note_copy(const void* to, const void* from, size_t bytes, bool valid);
void note_arrival(const void* to, size_t bytes);
void note_launch();
void note_block(const void* shared, size_t bytes);

struct Here {
  bool in_kernel;
  int64_t block;
  int thread;
  int epoch;                        // barriers passed by the block
  const unsigned char* own_memory;  // of the runner: stacks and exchanged values
  const unsigned char* own_memory_end;
};
Here here();

}  // namespace cgckit::simt
