// What the three operators of library.cpp take and give, on plain pointers: kernels see no torch. S is the
// type of the map, Computed<S> that of the arithmetic.
#pragma once

#include <cstdint>

#include "number.h"
#include "patch_grid.h"

namespace cgckit {

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
  Computed<S>* norm;  // [G, N]
  int64_t* order;     // [G, N]
  int64_t* counts;    // [G, 2]
};

template <typename S>
struct ContrastInputs {
  PatchGrid grid;
  const S* features;  // [B, C, H, W, L]
  MapStrides strides;
  const Computed<S>* norm;    // [G, N]
  const int64_t* order;       // [G, N]
  const int64_t* counts;      // [G, 2]
  const double* temperature;  // []
  int64_t groups;

  int64_t patches() const { return grid.per_group(groups); }
  bool channels_last() const { return strides.channel == 1; }
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

template <typename S>
struct GradientOutputs {
  S* features;  // [B, C, H, W, L]
  MapStrides strides;
  double* temperature;  // []
};

}  // namespace cgckit
