// The thread pool as the kernels see it.
#pragma once

#include <cstdint>
#include <functional>

namespace cgckit::cpu {

// Calls body(begin, end) on disjoint ranges that cover 0 .. items, of at most `together` items each, as many
// as are worth what a range costs. Work is cut into items by shape alone and every output has one item as its
// only producer, so results do not depend on the number of threads.
using ParallelFor =
    std::function<void(int64_t items, int64_t together, const std::function<void(int64_t, int64_t)>& body)>;

}  // namespace cgckit::cpu
