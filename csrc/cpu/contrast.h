// The three operators on plain pointers; no torch header reaches the kernels.
#pragma once

#include <cstdint>

#include "../common/patch_grid.h"
#include "members.h"
#include "parallel.h"

namespace cgckit::cpu {

template <typename T>
struct StatisticsInputs {
  PatchGrid grid;
  const T* features;  // [B, C, H, W, L]
  MapStrides features_strides;
  const float* probability;  // [B, H, W, L]
  MapStrides probability_strides;
  const bool* mask;  // [B, H, W, L] or null
  MapStrides mask_strides;
  double threshold;
  int64_t groups;
};

template <typename T>
struct StatisticsOutputs {
  T* norm;          // [G, N]
  int64_t* order;   // [G, N]
  int64_t* counts;  // [G, 2]
};

template <typename T>
struct ContrastInputs {
  PatchGrid grid;
  const T* features;  // [B, C, H, W, L]
  MapStrides strides;
  const T* norm;          // [G, N]
  const int64_t* order;   // [G, N]
  const int64_t* counts;  // [G, 2]
  int64_t groups;
  double temperature;

  int64_t patches() const { return grid.total() / groups; }
  bool channels_last() const { return strides.channel == 1; }
  // Group `g`; `offset` are the elements of a patch in `features` and must outlive the result.
  Members<T> members(int64_t g, const std::vector<int64_t>& offset) const;
};

struct ContrastOutputs {  // [G, N] each
  double* log_z;
  double* pos;
  double* expected;
};

struct GradientInputs {  // [G, N] each
  const double* grad_log_z;
  const double* grad_pos;
  const double* log_z;
  const double* expected;
};

template <typename T>
struct GradientOutputs {
  T* features;  // [B, C, H, W, L], zero on entry
  MapStrides strides;
  double* temperature;  // []
};

template <typename T>
void statistics(const StatisticsInputs<T>& in, const StatisticsOutputs<T>& out,
                const ParallelFor& parallel_for);

template <typename T>
void forward(const ContrastInputs<T>& in, const ContrastOutputs& out, const ParallelFor& parallel_for);

template <typename T>
void backward(const ContrastInputs<T>& in, const GradientInputs& gradient, const GradientOutputs<T>& out,
              const ParallelFor& parallel_for);

}  // namespace cgckit::cpu
