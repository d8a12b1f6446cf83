// What the operators do alike on every device: they check tensors, allocate results and name pointers.
// Included by registration files alone.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <optional>
#include <tuple>
#include <vector>

#include "contrast.h"
#include "tensors.h"

namespace cgckit {

using ThreeTensors = std::tuple<Tensor, Tensor, Tensor>;

// Calls run(S{}) with the C++ type of `features`.
template <typename Run>
void dispatch(const Tensor& features, const Run& run) {
  switch (features.scalar_type()) {
    case ScalarType::Float:
      return run(float{});
    case ScalarType::Double:
      return run(double{});
    case ScalarType::Half:
      return run(Float16{});
    case ScalarType::BFloat16:
      return run(BFloat16{});
    default:
      STD_TORCH_CHECK(false, "features must be float64, float32, float16 or bfloat16");
  }
}

template <typename S>
const S* values(const Tensor& features) {
  return static_cast<const S*>(features.const_data_ptr());
}

// norm, order and counts, to be filled.
inline ThreeTensors new_statistics(const Tensor& features, const PatchGrid& grid, bool pooled) {
  const int64_t groups = pooled ? 1 : grid.batch;
  const int64_t patches = groups == 0 ? grid.per_image() : grid.total() / groups;
  return {torch::stable::new_empty(features, {groups, patches}, computed_type(features)),
          torch::stable::new_empty(features, {groups, patches}, ScalarType::Long),
          torch::stable::new_empty(features, {groups, 2}, ScalarType::Long)};
}

template <typename S>
StatisticsInputs<S> statistics_inputs(const Tensor& features, const Tensor& probability,
                                      const std::optional<Tensor>& mask, const PatchGrid& grid,
                                      double threshold, int64_t groups) {
  StatisticsInputs<S> in{};
  in.grid = grid;
  in.features = values<S>(features);
  in.features_strides = map_strides(features);
  in.probability = probability.const_data_ptr<float>();
  in.probability_strides = map_strides(probability);
  if (mask) {
    in.mask = mask->const_data_ptr<bool>();
    in.mask_strides = map_strides(*mask);
  }
  in.threshold = threshold;
  in.groups = groups;
  return in;
}

template <typename S>
StatisticsOutputs<S> statistics_outputs(const ThreeTensors& found) {
  const auto& [norm, order, counts] = found;
  return {norm.mutable_data_ptr<Computed<S>>(), order.mutable_data_ptr<int64_t>(),
          counts.mutable_data_ptr<int64_t>()};
}

template <typename S>
ContrastInputs<S> contrast_inputs(const Tensor& features, const Tensor& temperature, const Tensor& norm,
                                  const Tensor& order, const Tensor& counts, const PatchGrid& grid) {
  return {grid,
          values<S>(features),
          map_strides(features),
          norm.const_data_ptr<Computed<S>>(),
          order.const_data_ptr<int64_t>(),
          counts.const_data_ptr<int64_t>(),
          temperature.const_data_ptr<double>(),
          norm.size(0)};
}

// log_z, pos and expected, to be filled.
inline ThreeTensors new_terms(const Tensor& norm) {
  return {torch::stable::new_empty(norm, norm.sizes(), ScalarType::Double),
          torch::stable::new_empty(norm, norm.sizes(), ScalarType::Double),
          torch::stable::new_empty(norm, norm.sizes(), ScalarType::Double)};
}

inline ContrastOutputs contrast_outputs(const ThreeTensors& terms) {
  const auto& [log_z, pos, expected] = terms;
  return {log_z.mutable_data_ptr<double>(), pos.mutable_data_ptr<double>(),
          expected.mutable_data_ptr<double>()};
}

inline GradientInputs gradient_inputs(const Tensor& grad_log_z, const Tensor& grad_pos, const Tensor& log_z,
                                      const Tensor& expected) {
  return {grad_log_z.const_data_ptr<double>(), grad_pos.const_data_ptr<double>(),
          log_z.const_data_ptr<double>(), expected.const_data_ptr<double>()};
}

template <typename S>
GradientOutputs<S> gradient_outputs(const Tensor& grad_features, const Tensor& grad_temperature) {
  return {static_cast<S*>(grad_features.mutable_data_ptr()), map_strides(grad_features),
          grad_temperature.mutable_data_ptr<double>()};
}

}  // namespace cgckit
