// The CUDA side of every operator in library.cpp: checks tensors, allocates, and hands pointers to the
// kernels.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <optional>
#include <tuple>
#include <vector>

#include "../common/tensors.h"
#include "contrast.h"
#include "device.h"

namespace cgckit::cuda {
namespace {

void check_device(const Tensor& tensor, const Tensor& features, const char* name) {
  STD_TORCH_CHECK(tensor.get_device_index() == features.get_device_index(), name,
                  " must be on the device of features");
}

// Calls run(T{}) with the C++ type of `features`.
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

Tensor workspace(const Tensor& like, size_t bytes) {
  return torch::stable::new_empty(like, {static_cast<int64_t>(bytes)}, ScalarType::Byte);
}

std::tuple<Tensor, Tensor, Tensor> patch_statistics(const Tensor& features, const Tensor& probability,
                                                    const std::optional<Tensor>& mask,
                                                    const std::vector<int64_t>& patch_size,
                                                    const std::vector<int64_t>& stride, double threshold,
                                                    bool pooled) {
  const PatchGrid grid = patch_grid(features, patch_size, stride);
  check_voxel_map(probability, grid, ScalarType::Float, "probability");
  check_device(probability, features, "probability");
  if (mask) {
    check_voxel_map(*mask, grid, ScalarType::Bool, "mask");
    check_device(*mask, features, "mask");
  }
  const DeviceScope scope(features);
  const int64_t groups = pooled ? 1 : grid.batch;
  const int64_t patches = groups == 0 ? grid.per_image() : grid.total() / groups;
  Tensor norm = torch::stable::new_empty(features, {groups, patches}, computed_type(features));
  Tensor order = torch::stable::new_empty(features, {groups, patches}, ScalarType::Long);
  Tensor counts = torch::stable::new_empty(features, {groups, 2}, ScalarType::Long);
  dispatch(features, [&](auto zero) {
    using T = decltype(zero);
    StatisticsInputs<T> in{};
    in.grid = grid;
    in.features = static_cast<const T*>(features.const_data_ptr());
    in.features_strides = map_strides(features);
    in.probability = probability.const_data_ptr<float>();
    in.probability_strides = map_strides(probability);
    if (mask) {
      in.mask = mask->const_data_ptr<bool>();
      in.mask_strides = map_strides(*mask);
    }
    in.threshold = threshold;
    in.groups = groups;
    Tensor memory = workspace(features, statistics_workspace(in));
    statistics<T>(in,
                  {norm.mutable_data_ptr<Sum<T>>(), order.mutable_data_ptr<int64_t>(),
                   counts.mutable_data_ptr<int64_t>()},
                  memory.mutable_data_ptr(), scope.stream());
  });
  return {norm, order, counts};
}

template <typename T>
ContrastInputs<T> contrast_inputs(const Tensor& features, const Tensor& temperature, const Tensor& norm,
                                  const Tensor& order, const Tensor& counts, const PatchGrid& grid) {
  check_contrast_inputs(features, temperature, norm, order, counts, grid);
  check_device(temperature, features, "temperature");
  check_device(norm, features, "norm");
  check_device(order, features, "order");
  check_device(counts, features, "counts");
  return {grid,
          static_cast<const T*>(features.const_data_ptr()),
          map_strides(features),
          norm.const_data_ptr<Sum<T>>(),
          order.const_data_ptr<int64_t>(),
          counts.const_data_ptr<int64_t>(),
          temperature.const_data_ptr<double>(),
          norm.size(0)};
}

// Nothing is kept: the backward computes similarities again.
std::tuple<Tensor, Tensor, Tensor, Tensor> patch_contrast(const Tensor& features, const Tensor& temperature,
                                                          const Tensor& norm, const Tensor& order,
                                                          const Tensor& counts,
                                                          const std::vector<int64_t>& patch_size,
                                                          const std::vector<int64_t>& stride, bool keep) {
  const PatchGrid grid = patch_grid(features, patch_size, stride);
  const DeviceScope scope(features);
  Tensor log_z = torch::stable::new_empty(norm, norm.sizes(), ScalarType::Double);
  Tensor pos = torch::stable::new_empty(norm, norm.sizes(), ScalarType::Double);
  Tensor expected = torch::stable::new_empty(norm, norm.sizes(), ScalarType::Double);
  dispatch(features, [&](auto zero) {
    using T = decltype(zero);
    const auto in = contrast_inputs<T>(features, temperature, norm, order, counts, grid);
    Tensor memory = workspace(features, forward_workspace(in));
    forward<T>(in,
               {log_z.mutable_data_ptr<double>(), pos.mutable_data_ptr<double>(),
                expected.mutable_data_ptr<double>()},
               memory.mutable_data_ptr(), scope.stream());
  });
  return {log_z, pos, expected, torch::stable::new_empty(norm, {0})};
}

std::tuple<Tensor, Tensor> patch_contrast_backward(const Tensor& grad_log_z, const Tensor& grad_pos,
                                                   const Tensor& features, const Tensor& temperature,
                                                   const Tensor& norm, const Tensor& order,
                                                   const Tensor& counts, const Tensor& log_z,
                                                   const Tensor& expected, const Tensor& kept,
                                                   const std::vector<int64_t>& patch_size,
                                                   const std::vector<int64_t>& stride) {
  const PatchGrid grid = patch_grid(features, patch_size, stride);
  check_per_patch(log_z, norm, ScalarType::Double, "log_z");
  check_per_patch(expected, norm, ScalarType::Double, "expected");
  check_per_patch(grad_log_z, norm, ScalarType::Double, "grad_log_z");
  check_per_patch(grad_pos, norm, ScalarType::Double, "grad_pos");
  check_device(log_z, features, "log_z");
  check_device(expected, features, "expected");
  check_device(grad_log_z, features, "grad_log_z");
  check_device(grad_pos, features, "grad_pos");
  const DeviceScope scope(features);
  Tensor grad_features = torch::stable::empty_like(features);
  Tensor grad_temperature = torch::stable::empty_like(temperature);
  dispatch(features, [&](auto zero) {
    using T = decltype(zero);
    const auto in = contrast_inputs<T>(features, temperature, norm, order, counts, grid);
    Tensor memory = workspace(features, backward_workspace(in));
    backward<T>(in,
                {grad_log_z.const_data_ptr<double>(), grad_pos.const_data_ptr<double>(),
                 log_z.const_data_ptr<double>(), expected.const_data_ptr<double>()},
                {static_cast<T*>(grad_features.mutable_data_ptr()), map_strides(grad_features),
                 grad_temperature.mutable_data_ptr<double>()},
                memory.mutable_data_ptr(), scope.stream());
  });
  return {grad_features, grad_temperature};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(CGCKIT_LIBRARY, CGCKIT_DISPATCH_KEY, m) {
  m.impl("patch_statistics", TORCH_BOX(&patch_statistics));
  m.impl("patch_contrast", TORCH_BOX(&patch_contrast));
  m.impl("patch_contrast_backward", TORCH_BOX(&patch_contrast_backward));
}

}  // namespace cgckit::cuda
