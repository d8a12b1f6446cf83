// The three operators on the CPU.
#pragma once

#include <cstdint>

#include "../common/contrast.h"
#include "elements.h"
#include "half.h"
#include "parallel.h"

namespace cgckit::cpu {

// The order of D in what the forward pass keeps.
enum KeptCode { kNothingKept, kChannelsFirst, kChannelsLast };

template <typename S>
KeptCode kept_code(const ContrastInputs<S>& in) {
  return in.channels_last() ? kChannelsLast : kChannelsFirst;
}

// What the forward pass keeps for the backward pass: a row a patch, the gradient of its group's sum_i log Z_i
// with respect to the unit vectors; then, for every group, a code that says whether it was kept and in which
// order of D. Overlapping patches have more elements than the map, so of them nothing is kept.
inline int64_t kept_depth(const PatchGrid& grid) { return (grid.depth() + kQuad - 1) / kQuad * kQuad; }
inline int64_t kept_size(const PatchGrid& grid, int64_t groups) {
  return grid.overlaps() ? 0 : grid.total() * kept_depth(grid) + groups;
}

template <typename S>
void statistics(const StatisticsInputs<S>& in, const StatisticsOutputs<S>& out,
                const ParallelFor& parallel_for);

// `kept` [kept_size] or null.
template <typename S>
void forward(const ContrastInputs<S>& in, const ContrastOutputs& out, Computed<S>* kept,
             const ParallelFor& parallel_for);

// `kept` as `forward` left it, or null.
template <typename S>
void backward(const ContrastInputs<S>& in, const GradientInputs& gradient, const Computed<S>* kept,
              const GradientOutputs<S>& out, const ParallelFor& parallel_for);

}  // namespace cgckit::cpu
