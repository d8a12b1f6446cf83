// Which patches take part, which are anchors, and their norms.
#include <algorithm>
#include <cmath>
#include <limits>

#include "contrast.h"

namespace cgckit::cpu {
namespace {

enum Role : uint8_t { kAnchor, kCandidate, kLeftOut };

template <typename T>
double squared_norm(const T* patch, const std::vector<int64_t>& offset) {
  constexpr size_t kLanes = 8;
  double sum[kLanes] = {};
  const size_t whole = offset.size() / kLanes * kLanes;
  for (size_t d = 0; d < whole; d += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const double x = patch[offset[d + lane]];
      sum[lane] += x * x;
    }
  }
  for (size_t d = whole; d < offset.size(); ++d) {
    const double x = patch[offset[d]];
    sum[d - whole] += x * x;
  }
  double total = 0;
  for (const double lane : sum) total += lane;
  return total;
}

template <typename T>
Role role(const StatisticsInputs<T>& in, int64_t index, double squared) {
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

template <typename T>
void statistics(const StatisticsInputs<T>& in, const StatisticsOutputs<T>& out,
                const ParallelFor& parallel_for) {
  const int64_t patches = in.grid.total() / in.groups;
  const bool channels_last = in.features_strides.channel == 1;
  const std::vector<int64_t> offset = PatchElements(in.grid, channels_last).offsets(in.features_strides);
  std::vector<Role> roles(static_cast<size_t>(in.grid.total()));
  parallel_for(in.grid.total(), [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const double squared = squared_norm(in.features + in.grid.origin(in.features_strides, index), offset);
      out.norm[index] = static_cast<T>(std::sqrt(squared));
      roles[static_cast<size_t>(index)] = role(in, index, squared);
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

template void statistics(const StatisticsInputs<float>&, const StatisticsOutputs<float>&, const ParallelFor&);
template void statistics(const StatisticsInputs<double>&, const StatisticsOutputs<double>&,
                         const ParallelFor&);

}  // namespace cgckit::cpu
