// The three operators on plain pointers; no torch header reaches the kernels. S is the type of the map,
// Computed<S> that of the arithmetic.
#pragma once

#include <cstdint>

#include "../common/patch_grid.h"
#include "elements.h"
#include "half.h"
#include "parallel.h"

namespace cgckit::cpu {

// The order of D in what the forward pass keeps.
enum KeptCode { kNothingKept, kChannelsFirst, kChannelsLast };

template <typename S>
struct StatisticsInputs {
  PatchGrid grid;
  const S* features;  // [B, C, H, W, L]
  MapStrides features_strides;
  const float* probability;  // [B, H, W, L]
  MapStrides probability_strides;
  const bool* mask;  // [B, H, W, L] or null
  MapStrides mask_strides;
  double threshold;
  int64_t groups;
};

template <typename S>
struct StatisticsOutputs {
  typename Computed<S>::type* norm;  // [G, N]
  int64_t* order;                    // [G, N]
  int64_t* counts;                   // [G, 2]
};

template <typename S>
struct ContrastInputs {
  PatchGrid grid;
  const S* features;  // [B, C, H, W, L]
  MapStrides strides;
  const typename Computed<S>::type* norm;  // [G, N]
  const int64_t* order;                    // [G, N]
  const int64_t* counts;                   // [G, 2]
  int64_t groups;
  double temperature;

  int64_t patches() const { return grid.total() / groups; }
  bool channels_last() const { return strides.channel == 1; }
  KeptCode kept_code() const { return channels_last() ? kChannelsLast : kChannelsFirst; }
};

// What the forward pass keeps for the backward pass: a row a patch, the gradient of its group's sum_i log Z_i
// with respect to the unit vectors; then, for every group, a code that says whether it was kept and in which
// order of D. Overlapping patches have more elements than the map, so of them nothing is kept.
inline int64_t kept_depth(const PatchGrid& grid) { return (grid.depth() + kQuad - 1) / kQuad * kQuad; }
inline int64_t kept_size(const PatchGrid& grid, int64_t groups) {
  return grid.overlaps() ? 0 : grid.total() * kept_depth(grid) + groups;
}
struct ContrastOutputs {  // [G, N] each
  double* log_z;
  double* pos;
  double* expected;
};

struct GradientInputs {  // [G, N] each
  const double* grad_log_z;
  const double* grad_pos;
  const double* expected;
};

template <typename S>
struct GradientOutputs {
  S* features;  // [B, C, H, W, L]
  MapStrides strides;
  double* temperature;  // []
};

template <typename S>
void statistics(const StatisticsInputs<S>& in, const StatisticsOutputs<S>& out,
                const ParallelFor& parallel_for);

// `kept` [kept_size] or null.
template <typename S>
void forward(const ContrastInputs<S>& in, const ContrastOutputs& out, typename Computed<S>::type* kept,
             const ParallelFor& parallel_for);

// `kept` as `forward` left it, or null.
template <typename S>
void backward(const ContrastInputs<S>& in, const GradientInputs& gradient,
              const typename Computed<S>::type* kept, const GradientOutputs<S>& out,
              const ParallelFor& parallel_for);

}  // namespace cgckit::cpu
