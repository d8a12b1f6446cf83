// The three operators on plain device pointers; neither torch nor CUDA headers are needed to call them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../common/patch_grid.h"
#include "number.h"

namespace cgckit::cuda {

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
  Sum<T>* norm;     // [G, N]
  int64_t* order;   // [G, N]
  int64_t* counts;  // [G, 2]
};

template <typename T>
struct ContrastInputs {
  PatchGrid grid;
  const T* features;  // [B, C, H, W, L]
  MapStrides strides;
  const Sum<T>* norm;         // [G, N]
  const int64_t* order;       // [G, N]
  const int64_t* counts;      // [G, 2]
  const double* temperature;  // []
  int64_t groups;
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
  T* features;  // [B, C, H, W, L]
  MapStrides strides;
  double* temperature;  // []
};

// Memory that lives for one call: fixed by shapes, never by how many anchors there are. `workspace` may hold
// anything on entry. `stream` is a cudaStream_t.
template <typename T>
size_t statistics_workspace(const StatisticsInputs<T>& in);
template <typename T>
void statistics(const StatisticsInputs<T>& in, const StatisticsOutputs<T>& out, void* workspace,
                void* stream);

template <typename T>
size_t forward_workspace(const ContrastInputs<T>& in);
template <typename T>
void forward(const ContrastInputs<T>& in, const ContrastOutputs& out, void* workspace, void* stream);

template <typename T>
size_t backward_workspace(const ContrastInputs<T>& in);
template <typename T>
void backward(const ContrastInputs<T>& in, const GradientInputs& gradient, const GradientOutputs<T>& out,
              void* workspace, void* stream);

}  // namespace cgckit::cuda
