// Memory in large pages: new memory costs an interrupt a page, and with pages of 4 KiB that takes longer than
// writing it.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace cgckit::cpu {

// Asks for large pages wherever `bytes` at `data` hold whole ones and the system has not given memory yet.
inline void prefer_large_pages(void* data, size_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t kLargePage = uintptr_t{1} << 21;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(data) + kLargePage - 1) / kLargePage * kLargePage;
  const uintptr_t last = (reinterpret_cast<uintptr_t>(data) + bytes) / kLargePage * kLargePage;
  // Only a wish: without effect where large pages are switched off.
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

}  // namespace cgckit::cpu
