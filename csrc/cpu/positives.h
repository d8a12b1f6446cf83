// The O(n D) part of the loss: sums over the anchors.
#pragma once

#include <algorithm>
#include <vector>

#include "members.h"
#include "parallel.h"

namespace cgckit::cpu {

// sum_i weight_i u_i over the anchors, [depth] in float64; `weight` null stands for ones.
template <typename T>
std::vector<double> sum_of_anchors(const Members<T>& members, const double* weight,
                                   const ParallelFor& parallel_for) {
  constexpr int64_t kQuadsOfItem = 64;
  std::vector<double> sum(static_cast<size_t>(members.depth()), 0.0);
  const int64_t quads = members.depth() / kQuad;
  parallel_for(panels(quads, kQuadsOfItem), 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kQuadsOfItem;
    const int64_t count = std::min(end * kQuadsOfItem, quads) - first;
    for (int64_t i = 0; i < members.anchors(); ++i) {
      const Row<T> part{*members.first(i), members.quad() + first, count};
      const double inverse_norm = static_cast<double>(*members.inverse_norm(i));
      tile_kernels<T>().add_to(sum.data() + first * kQuad, part,
                               weight == nullptr ? inverse_norm : weight[i] * inverse_norm);
    }
  });
  return sum;
}

}  // namespace cgckit::cpu
