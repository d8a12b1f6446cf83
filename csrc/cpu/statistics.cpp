// Which patches take part, which are anchors, and their norms.
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "contrast.h"
#include "elements.h"
#include "half.h"
#include "tile.h"

namespace cgckit::cpu {
namespace {

enum Role : uint8_t { kAnchor, kCandidate, kLeftOut };

// Squared norms of kRowsTogether patches, in float64.
template <typename S>
void squared_norms(const S* const* patches, const PatchElements& elements, const std::vector<int64_t>& quad,
                   double* squared) {
  using T = Computed<S>;
  if constexpr (std::is_same_v<S, T>) {
    if (elements.in_quads) {
      tile_kernels<T>().squared_norms(patches, quad.data(), static_cast<int64_t>(quad.size()), squared);
      return;
    }
  }
  std::fill_n(squared, kRowsTogether, 0.0);
  for (const int64_t offset : elements.offset) {
    for (int64_t i = 0; i < kRowsTogether; ++i) {
      const double x = static_cast<double>(load(patches[i][offset]));
      squared[i] += x * x;
    }
  }
}

template <typename S>
Role role(const StatisticsInputs<S>& in, int64_t index, double squared) {
  using T = Computed<S>;
  const PatchGrid& grid = in.grid;
  // A norm whose square is not a normal number of T counts as zero; NaN takes part, so that it shows.
  if (squared < static_cast<double>(std::numeric_limits<T>::min())) return kLeftOut;
  if (in.mask != nullptr) {
    const bool* mask = in.mask + grid.origin(in.mask_strides, index);
    int64_t inside = 0;
    for (int64_t v = 0; v < grid.volume(); ++v) inside += mask[grid.voxel_offset(in.mask_strides, v)];
    if (2 * inside < grid.volume()) return kLeftOut;
  }
  const float* probability = in.probability + grid.origin(in.probability_strides, index);
  double sum = 0;
  for (int64_t v = 0; v < grid.volume(); ++v)
    sum += probability[grid.voxel_offset(in.probability_strides, v)];
  // In the precision of the probabilities, so that a constant map is not below its own value.
  const double threshold = static_cast<float>(in.threshold);
  return sum >= threshold * static_cast<double>(grid.volume()) ? kAnchor : kCandidate;
}

}  // namespace

template <typename S>
void statistics(const StatisticsInputs<S>& in, const StatisticsOutputs<S>& out,
                const ParallelFor& parallel_for) {
  const int64_t patches = in.grid.per_group(in.groups);
  const PatchElements elements(in.grid, in.features_strides, in.features_strides.channel == 1);
  std::vector<int64_t> quad;
  for (size_t d = 0; d < elements.offset.size(); d += kQuad) quad.push_back(elements.offset[d]);
  std::vector<Role> roles(static_cast<size_t>(in.grid.total()));
  const int64_t total = in.grid.total();
  parallel_for(panels(total, kRowsTogether), 8, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * kRowsTogether; first < std::min(end * kRowsTogether, total);
         first += kRowsTogether) {
      const S* start[kRowsTogether];
      double squared[kRowsTogether];
      for (int64_t i = 0; i < kRowsTogether; ++i) {
        start[i] = in.features + in.grid.origin(in.features_strides, std::min(first + i, total - 1));
      }
      squared_norms(start, elements, quad, squared);
      for (int64_t i = 0; i < std::min(kRowsTogether, total - first); ++i) {
        out.norm[first + i] = static_cast<Computed<S>>(std::sqrt(squared[i]));
        roles[static_cast<size_t>(first + i)] = role(in, first + i, squared[i]);
      }
    }
  });
  for (int64_t g = 0; g < in.groups; ++g) {
    const Role* of_group = roles.data() + g * patches;
    int64_t* order = out.order + g * patches;
    int64_t position = 0;
    for (const Role wanted : {kAnchor, kCandidate, kLeftOut}) {
      for (int64_t index = 0; index < patches; ++index) {
        if (of_group[index] == wanted) order[position++] = index;
      }
      if (wanted != kLeftOut) out.counts[2 * g + wanted] = position;
    }
  }
}

#define CGCKIT_INSTANTIATE(S) \
  template void statistics(const StatisticsInputs<S>&, const StatisticsOutputs<S>&, const ParallelFor&);
CGCKIT_TYPES(CGCKIT_INSTANTIATE)
#undef CGCKIT_INSTANTIATE

}  // namespace cgckit::cpu
