// The race check: every access of a kernel to memory that others can reach, with who made it and when.
//
// Kernels are compiled with -fsanitize=thread, but linked with these hooks instead of the sanitizer's own.
// Two accesses to one place, one of them a write, race if they come from two blocks of a launch, or from two
// threads of a block with no barrier between them. Whatever is written by a background copy may be touched by
// nobody until the copy was waited for, and by other threads only after a barrier that follows.
#include <cstdio>
#include <string>
#include <unordered_map>
#include <vector>

#include "simt.h"

namespace cgckit::simt {
namespace {

struct Visit {
  int64_t block = -1;
  int thread = -1;
  int epoch = -1;
};

struct Cell {
  Visit write, read;
  bool several_threads = false;  // have read it in the epoch of `read`
  bool several_blocks = false;   // have read it
  bool on_its_way = false;
};

constexpr size_t kGrain = 2;  // bytes; single bytes have cells of their own

std::unordered_map<uintptr_t, Cell> words, bytes_alone;  // of global memory
std::vector<Cell> shared_cells;
uintptr_t shared_begin = 0;
std::vector<std::string> found;
int64_t launches = 0;
bool watching = false;

void report(const char* what, uintptr_t address, const Here& now, const Visit& other) {
  if (found.size() >= 8) return;
  const bool shared = address - shared_begin < shared_cells.size() * kGrain;
  char text[256];
  std::snprintf(text, sizeof text,
                "launch %ld: %s of %s memory%s: block %ld thread %d and block %ld thread %d",
                static_cast<long>(launches), what, shared ? "shared" : "global",
                shared ? (" at byte " + std::to_string(address - shared_begin)).c_str() : "",
                static_cast<long>(now.block), now.thread, static_cast<long>(other.block), other.thread);
  found.emplace_back(text);
}

bool together(const Visit& visit, const Here& now) {
  if (visit.block < 0) return false;
  return visit.block != now.block || (visit.epoch == now.epoch && visit.thread != now.thread);
}

void visit(Cell& cell, uintptr_t address, bool is_write, const Here& now) {
  if (cell.on_its_way) report("use before a copy arrived", address, now, cell.write);
  if (together(cell.write, now))
    report(is_write ? "write and write" : "write and read", address, now, cell.write);
  if (is_write) {
    const bool others = cell.several_blocks || (cell.read.epoch == now.epoch && cell.several_threads);
    if (others || together(cell.read, now)) report("read and write", address, now, cell.read);
    cell.write = {now.block, now.thread, now.epoch};
    return;
  }
  const bool same_block = cell.read.block == now.block;
  if (cell.read.block >= 0 && !same_block) cell.several_blocks = true;
  cell.several_threads =
      same_block && cell.read.epoch == now.epoch && (cell.several_threads || cell.read.thread != now.thread);
  cell.read = {now.block, now.thread, now.epoch};
}

template <typename Do>
void for_cells(const void* pointer, size_t bytes, Do act) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(pointer);
  if (bytes == 1 && begin - shared_begin >= shared_cells.size() * kGrain) {
    act(bytes_alone[begin], begin);
    return;
  }
  for (uintptr_t at = begin / kGrain * kGrain; at < begin + bytes; at += kGrain) {
    const size_t in_shared = (at - shared_begin) / kGrain;
    act(at >= shared_begin && in_shared < shared_cells.size() ? shared_cells[in_shared] : words[at], at);
  }
}

void access(const void* pointer, size_t bytes, bool is_write) {
  if (!watching) return;
  const Here now = here();
  if (!now.in_kernel || (pointer >= now.own_memory && pointer < now.own_memory_end)) return;
  for_cells(pointer, bytes, [&](Cell& cell, uintptr_t at) { visit(cell, at, is_write, now); });
}

}  // namespace

void note_copy(const void* to, const void* from, size_t bytes, bool valid) {
  if (!watching) return;
  if (valid) access(from, bytes, false);
  access(to, bytes, true);
  for_cells(to, bytes, [](Cell& cell, uintptr_t) { cell.on_its_way = true; });
}

void note_arrival(const void* to, size_t bytes) {
  if (!watching) return;
  for_cells(to, bytes, [](Cell& cell, uintptr_t) { cell.on_its_way = false; });
  access(to, bytes, true);
}

void note_launch() {
  words.clear();
  bytes_alone.clear();
  ++launches;
}

void note_block(const void* shared, size_t bytes) {
  shared_begin = reinterpret_cast<uintptr_t>(shared);
  shared_cells.assign((bytes + kGrain - 1) / kGrain, Cell{});
}

}  // namespace cgckit::simt

using cgckit::simt::access;

extern "C" {

// Begins or ends the watch, and gives the races since it was last called, a line each.
__attribute__((visibility("default"))) int simt_watch(int on, char* text, int size) {
  using namespace cgckit::simt;
  std::string lines;
  for (const std::string& line : found) lines += line + "\n";
  std::snprintf(text, static_cast<size_t>(size), "%s", lines.c_str());
  const int count = static_cast<int>(found.size());
  found.clear();
  launches = 0;
  watching = on != 0;
  return count;
}

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
#define CGCKIT_HOOKS(bytes)                                               \
  void __tsan_read##bytes(void* p) { access(p, bytes, false); }           \
  void __tsan_write##bytes(void* p) { access(p, bytes, true); }           \
  void __tsan_unaligned_read##bytes(void* p) { access(p, bytes, false); } \
  void __tsan_unaligned_write##bytes(void* p) { access(p, bytes, true); }
CGCKIT_HOOKS(1)
CGCKIT_HOOKS(2)
CGCKIT_HOOKS(4)
CGCKIT_HOOKS(8)
CGCKIT_HOOKS(16)
void __tsan_read_range(void* p, size_t bytes) { access(p, bytes, false); }
void __tsan_write_range(void* p, size_t bytes) { access(p, bytes, true); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
}
