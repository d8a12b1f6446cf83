#include "simt.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cgckit::simt {
namespace {

constexpr int kLanes = 32;
constexpr int kMostThreads = 1024;
constexpr size_t kStackBytes = 256 * 1024;
constexpr size_t kMostExchanged = 32;

enum class Order { kAscending, kDescending, kRandom };

struct Settings {
  Order order = Order::kAscending;
  bool late_copies = false;
  int bug = 0;
};

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  bool valid;
  int group;
};

enum class State { kReady, kAtBarrier, kAtExchange, kDone };

struct Fibre {
  jmp_buf context;
  State state;
  bool started;
  int exchanges;
  std::vector<Copy> copies;
  int groups;  // of copies, ended
  void* fake_stack;
};

struct Machine {
  Settings settings;
  std::mt19937_64 random;
  std::unique_ptr<Fibre[]> fibres{new Fibre[kMostThreads]};
  unsigned char* stacks = nullptr;
  jmp_buf scheduler;
  ucontext_t scheduler_start;
  void* scheduler_fake_stack = nullptr;
  const void* scheduler_stack = nullptr;
  size_t scheduler_stack_bytes = 0;

  const std::function<void()>* kernel = nullptr;
  int threads = 0;
  int current = -1;
  int64_t block = 0;
  int epoch = 0;
  std::exception_ptr error;
  std::vector<unsigned char> shared;
};

Machine machine;

#if defined(__SANITIZE_ADDRESS__)
void begin_switch(void** save, const void* stack, size_t bytes) {
  __sanitizer_start_switch_fiber(save, stack, bytes);
}
void end_switch(void* saved, const void** from, size_t* bytes) {
  __sanitizer_finish_switch_fiber(saved, from, bytes);
}
#else
void begin_switch(void**, const void*, size_t) {}
void end_switch(void*, const void**, size_t*) {}
#endif

// Two rounds of every warp, behind the stacks: nobody can be two ahead of another lane.
unsigned char* exchanged(int warp, int round) {
  return machine.stacks + kMostThreads * kStackBytes +
         static_cast<size_t>(2 * warp + round) * kLanes * kMostExchanged;
}
constexpr size_t kMemoryBytes = kMostThreads * (kStackBytes + 2 * kMostExchanged);

unsigned char* stack_of(int thread) { return machine.stacks + static_cast<size_t>(thread) * kStackBytes; }

// Back to the scheduler; returns when the scheduler resumes this fibre.
void give_way(State state) {
  Fibre& fibre = machine.fibres[machine.current];
  fibre.state = state;
  begin_switch(state == State::kDone ? nullptr : &fibre.fake_stack, machine.scheduler_stack,
               machine.scheduler_stack_bytes);
  if (_setjmp(fibre.context) == 0) _longjmp(machine.scheduler, 1);
  end_switch(fibre.fake_stack, nullptr, nullptr);
}

void fibre_main() {
  end_switch(nullptr, &machine.scheduler_stack, &machine.scheduler_stack_bytes);
  try {
    (*machine.kernel)();
  } catch (...) {
    machine.error = std::current_exception();
  }
  give_way(State::kDone);
}

void resume(int thread) {
  machine.current = thread;
  Fibre& fibre = machine.fibres[thread];
  begin_switch(&machine.scheduler_fake_stack, stack_of(thread), kStackBytes);
  if (_setjmp(machine.scheduler) == 0) {
    if (fibre.started) _longjmp(fibre.context, 1);
    fibre.started = true;
    ucontext_t start;
    getcontext(&start);
    start.uc_stack.ss_sp = stack_of(thread);
    start.uc_stack.ss_size = kStackBytes;
    start.uc_link = nullptr;
    makecontext(&start, fibre_main, 0);
    setcontext(&start);
  }
  end_switch(machine.scheduler_fake_stack, nullptr, nullptr);
  machine.current = -1;
}

bool all(int begin, int end, State state) {
  for (int t = begin; t < end; ++t) {
    if (machine.fibres[t].state != state) return false;
  }
  return true;
}

void release(int begin, int end) {
  for (int t = begin; t < end; ++t) machine.fibres[t].state = State::kReady;
}

void arrange(std::vector<int64_t>& items) {
  if (machine.settings.order == Order::kDescending) std::reverse(items.begin(), items.end());
  if (machine.settings.order == Order::kRandom) std::shuffle(items.begin(), items.end(), machine.random);
}

std::vector<int64_t> count_to(int64_t size) {
  std::vector<int64_t> items(static_cast<size_t>(size));
  for (int64_t i = 0; i < size; ++i) items[static_cast<size_t>(i)] = i;
  return items;
}

void run_block() {
  const int threads = machine.threads;
  for (int t = 0; t < threads; ++t) {
    Fibre& fibre = machine.fibres[t];
    fibre.state = State::kReady;
    fibre.started = false;
    fibre.exchanges = 0;
    fibre.copies.clear();
    fibre.groups = 0;
  }
  std::vector<int64_t> order = count_to(threads);
  if (machine.settings.order != Order::kRandom) arrange(order);
  while (!all(0, threads, State::kDone)) {
    bool moved = false;
    if (machine.settings.order == Order::kRandom) arrange(order);
    for (const int64_t t : order) {
      if (machine.fibres[t].state != State::kReady) continue;
      resume(static_cast<int>(t));
      if (machine.error) std::rethrow_exception(std::exchange(machine.error, nullptr));
      moved = true;
    }
    for (int warp = 0; warp < threads; warp += kLanes) {
      const int end = std::min(warp + kLanes, threads);
      if (all(warp, end, State::kAtExchange)) {
        release(warp, end);
        moved = true;
      }
    }
    if (all(0, threads, State::kAtBarrier)) {
      release(0, threads);
      ++machine.epoch;
      moved = true;
    }
    if (!moved) throw std::runtime_error("threads wait for others that never come");
  }
}

}  // namespace

// Without the race check nobody takes note.
__attribute__((weak)) void note_copy(const void*, const void*, size_t, bool) {}
__attribute__((weak)) void note_arrival(const void*, size_t) {}
__attribute__((weak)) void note_launch() {}
__attribute__((weak)) void note_block(const void*, size_t) {}

bool planted(int bug) { return machine.settings.bug == bug; }

int thread() { return machine.current; }
int64_t block() { return machine.block; }
unsigned char* shared_memory() { return machine.shared.data(); }
void barrier() { give_way(State::kAtBarrier); }

const void* exchange(const void* value, size_t bytes) {
  Fibre& fibre = machine.fibres[machine.current];
  unsigned char* values = exchanged(machine.current / kLanes, fibre.exchanges++ % 2);
  std::memcpy(values + static_cast<size_t>(machine.current % kLanes) * bytes, value, bytes);
  give_way(State::kAtExchange);
  return values;
}

namespace {
void perform(const Copy& copy) {
  if (copy.valid) {
    std::memcpy(copy.to, copy.from, copy.bytes);
  } else {
    std::memset(copy.to, 0, copy.bytes);
  }
}
}  // namespace

const void* aligned(const void* pointer, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(pointer) % bytes != 0) throw std::runtime_error("an access is not aligned");
  return pointer;
}

void copy_async(void* to, const void* from, size_t bytes, bool valid) {
  aligned(to, bytes);
  if (valid) aligned(from, bytes);
  note_copy(to, from, bytes, valid);
  Fibre& fibre = machine.fibres[machine.current];
  const Copy copy{to, from, bytes, valid, fibre.groups};
  if (!machine.settings.late_copies) perform(copy);
  fibre.copies.push_back(copy);
}

void copy_commit() { ++machine.fibres[machine.current].groups; }

void copy_wait(int pending) {
  Fibre& fibre = machine.fibres[machine.current];
  std::vector<Copy> left;
  for (const Copy& copy : fibre.copies) {
    if (copy.group >= fibre.groups - pending) {
      left.push_back(copy);
      continue;
    }
    if (machine.settings.late_copies) perform(copy);
    note_arrival(copy.to, copy.bytes);
  }
  fibre.copies = left;
}

Here here() {
  return {machine.current >= 0, machine.block,  machine.current,
          machine.epoch,        machine.stacks, machine.stacks + kMemoryBytes};
}

void launch(const std::function<void()>& kernel, int64_t blocks, int threads, size_t shared_bytes) {
  if (threads > kMostThreads || threads % kLanes != 0) throw std::runtime_error("no such number of threads");
  if (machine.stacks == nullptr) {
    void* memory = mmap(nullptr, kMemoryBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    machine.stacks = static_cast<unsigned char*>(memory);
  }
  machine.kernel = &kernel;
  machine.threads = threads;
  note_launch();
  std::vector<int64_t> order = count_to(blocks);
  arrange(order);
  for (const int64_t block : order) {
    machine.block = block;
    machine.epoch = 0;
    // A block of its own on the heap, so that the address sanitizer sees both ends. Whatever was not written
    // reads as NaN, or as -1.
    machine.shared = std::vector<unsigned char>(shared_bytes, 0xff);
    note_block(machine.shared.data(), shared_bytes);
    run_block();
  }
}

}  // namespace cgckit::simt

// order: 0 ascending, 1 descending, 2 random.
extern "C" __attribute__((visibility("default"))) void simt_configure(int order, uint64_t seed,
                                                                      int late_copies) {
  using namespace cgckit::simt;
  machine.settings.order = static_cast<Order>(order);
  machine.settings.late_copies = late_copies != 0;
  machine.random.seed(seed);
}

extern "C" __attribute__((visibility("default"))) void simt_plant(int bug) {
  cgckit::simt::machine.settings.bug = bug;
}
