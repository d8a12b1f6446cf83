// The CUDA side of every operator in library.cpp: hands tensors, checked, to the kernels.
#include <torch/csrc/stable/library.h>

#include "../common/operators.h"
#include "contrast.h"
#include "device.h"

namespace cgckit::cuda {
namespace {

Tensor workspace(const Tensor& like, size_t bytes) {
  return torch::stable::new_empty(like, {static_cast<int64_t>(bytes)}, ScalarType::Byte);
}

ThreeTensors patch_statistics(const Tensor& features, const Tensor& probability,
                              const std::optional<Tensor>& mask, const std::vector<int64_t>& patch_size,
                              const std::vector<int64_t>& stride, double threshold, bool pooled) {
  const PatchGrid grid = patch_grid(features, patch_size, stride);
  check_statistics_inputs(features, probability, mask, grid);
  const DeviceScope scope(features);
  const ThreeTensors found = new_statistics(features, grid, pooled);
  const int64_t groups = std::get<0>(found).size(0);
  dispatch(features, [&](auto zero) {
    using T = decltype(zero);
    const auto in = statistics_inputs<T>(features, probability, mask, grid, threshold, groups);
    Tensor memory = workspace(features, statistics_workspace(in));
    statistics<T>(in, statistics_outputs<T>(found), memory.mutable_data_ptr(), scope.stream());
  });
  return found;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> patch_contrast(const Tensor& features, const Tensor& temperature,
                                                          const Tensor& norm, const Tensor& order,
                                                          const Tensor& counts,
                                                          const std::vector<int64_t>& patch_size,
                                                          const std::vector<int64_t>& stride, bool keep) {
  const PatchGrid grid = patch_grid(features, patch_size, stride);
  check_contrast_inputs(features, temperature, norm, order, counts, grid);
  const DeviceScope scope(features);
  const ThreeTensors terms = new_terms(norm);
  Tensor kept = torch::stable::new_empty(norm, {0});
  dispatch(features, [&](auto zero) {
    using T = decltype(zero);
    const auto in = contrast_inputs<T>(features, temperature, norm, order, counts, grid);
    const size_t bytes = kept_size(in);
    Tensor rows = keep ? torch::stable::new_empty(norm, {static_cast<int64_t>(bytes / sizeof(Sum<T>))})
                       : workspace(features, bytes);
    Tensor memory = workspace(features, forward_workspace(in));
    forward<T>(in, contrast_outputs(terms), rows.mutable_data_ptr(), memory.mutable_data_ptr(),
               scope.stream());
    if (keep) kept = rows;
  });
  return std::tuple_cat(terms, std::make_tuple(kept));
}

std::tuple<Tensor, Tensor> patch_contrast_backward(const Tensor& grad_log_z, const Tensor& grad_pos,
                                                   const Tensor& features, const Tensor& temperature,
                                                   const Tensor& norm, const Tensor& order,
                                                   const Tensor& counts, const Tensor& log_z,
                                                   const Tensor& expected, const Tensor& kept,
                                                   const std::vector<int64_t>& patch_size,
                                                   const std::vector<int64_t>& stride) {
  const PatchGrid grid = patch_grid(features, patch_size, stride);
  check_contrast_inputs(features, temperature, norm, order, counts, grid);
  check_gradient_inputs(features, norm, grad_log_z, grad_pos, log_z, expected);
  const DeviceScope scope(features);
  Tensor grad_features = torch::stable::empty_like(features);
  Tensor grad_temperature = torch::stable::empty_like(temperature);
  dispatch(features, [&](auto zero) {
    using T = decltype(zero);
    const auto in = contrast_inputs<T>(features, temperature, norm, order, counts, grid);
    const bool has_kept = kept.numel() > 0;
    STD_TORCH_CHECK(kept.scalar_type() == computed_type(features) && kept.is_contiguous() &&
                        (!has_kept || static_cast<size_t>(kept.numel()) * sizeof(Sum<T>) == kept_size(in)),
                    "kept must be what patch_contrast returned, or empty");
    Tensor memory = workspace(features, backward_workspace(in, has_kept));
    backward<T>(in, gradient_inputs(grad_log_z, grad_pos, log_z, expected),
                gradient_outputs<T>(grad_features, grad_temperature),
                has_kept ? const_cast<void*>(kept.const_data_ptr()) : nullptr, memory.mutable_data_ptr(),
                scope.stream());
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
