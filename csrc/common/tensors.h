// Tensors as the operators take them, checked. Included by registration files alone: kernels see no torch.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <vector>

#include "patch_grid.h"

namespace cgckit {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline PatchGrid patch_grid(const Tensor& features, const std::vector<int64_t>& patch_size,
                            const std::vector<int64_t>& stride) {
  STD_TORCH_CHECK(features.dim() == 5, "features must be [B, C, H, W, L], got ", features.dim(),
                  " dimensions");
  STD_TORCH_CHECK(patch_size.size() == 3 && stride.size() == 3, "patch_size and stride must have 3 entries");
  PatchGrid grid{};
  grid.batch = features.size(0);
  grid.channels = features.size(1);
  for (int axis = 0; axis < 3; ++axis) {
    grid.map[axis] = features.size(axis + 2);
    grid.patch[axis] = patch_size[static_cast<size_t>(axis)];
    grid.stride[axis] = stride[static_cast<size_t>(axis)];
    STD_TORCH_CHECK(grid.patch[axis] >= 1 && grid.patch[axis] <= grid.map[axis],
                    "patch_size must be between 1 and the size of the map");
    STD_TORCH_CHECK(grid.stride[axis] >= 1, "stride must be at least 1");
  }
  return grid;
}

inline MapStrides map_strides(const Tensor& map) {
  const bool has_channels = map.dim() == 5;
  const int64_t axis = has_channels ? 2 : 1;
  return {map.stride(0),
          has_channels ? map.stride(1) : 0,
          {map.stride(axis), map.stride(axis + 1), map.stride(axis + 2)}};
}

// What features are computed in, and the dtype of their norms.
inline ScalarType computed_type(const Tensor& features) {
  return features.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline void check_device(const Tensor& tensor, const Tensor& features, const char* name) {
  STD_TORCH_CHECK(tensor.get_device_index() == features.get_device_index(), name,
                  " must be on the device of features");
}

inline void check_voxel_map(const Tensor& map, const PatchGrid& grid, ScalarType dtype, const char* name) {
  STD_TORCH_CHECK(map.scalar_type() == dtype, name, " has the wrong dtype");
  STD_TORCH_CHECK(map.dim() == 4 && map.size(0) == grid.batch && map.size(1) == grid.map[0] &&
                      map.size(2) == grid.map[1] && map.size(3) == grid.map[2],
                  name, " must be [B, H, W, L] on the grid of features");
}

inline void check_per_patch(const Tensor& values, const Tensor& like, ScalarType dtype, const char* name) {
  STD_TORCH_CHECK(values.scalar_type() == dtype, name, " has the wrong dtype");
  STD_TORCH_CHECK(values.dim() == 2 && values.size(0) == like.size(0) && values.size(1) == like.size(1) &&
                      values.is_contiguous(),
                  name, " must be contiguous and of the shape of norm, [G, N]");
}

inline void check_statistics_inputs(const Tensor& features, const Tensor& probability,
                                    const std::optional<Tensor>& mask, const PatchGrid& grid) {
  check_voxel_map(probability, grid, ScalarType::Float, "probability");
  check_device(probability, features, "probability");
  if (!mask) return;
  check_voxel_map(*mask, grid, ScalarType::Bool, "mask");
  check_device(*mask, features, "mask");
}

// What the two contrast operators take besides their features.
inline void check_contrast_inputs(const Tensor& features, const Tensor& temperature, const Tensor& norm,
                                  const Tensor& order, const Tensor& counts, const PatchGrid& grid) {
  STD_TORCH_CHECK(temperature.scalar_type() == ScalarType::Double && temperature.numel() == 1,
                  "temperature must be one float64");
  check_per_patch(norm, norm, computed_type(features), "norm");
  check_per_patch(order, norm, ScalarType::Long, "order");
  STD_TORCH_CHECK(norm.numel() == grid.total(), "norm must have one entry for every patch");
  STD_TORCH_CHECK(counts.scalar_type() == ScalarType::Long && counts.dim() == 2 &&
                      counts.size(0) == norm.size(0) && counts.size(1) == 2 && counts.is_contiguous(),
                  "counts must be contiguous int64 and [G, 2]");
  check_device(temperature, features, "temperature");
  check_device(norm, features, "norm");
  check_device(order, features, "order");
  check_device(counts, features, "counts");
}

// What the backward operator takes besides.
inline void check_gradient_inputs(const Tensor& features, const Tensor& norm, const Tensor& grad_log_z,
                                  const Tensor& grad_pos, const Tensor& log_z, const Tensor& expected) {
  check_per_patch(grad_log_z, norm, ScalarType::Double, "grad_log_z");
  check_per_patch(grad_pos, norm, ScalarType::Double, "grad_pos");
  check_per_patch(log_z, norm, ScalarType::Double, "log_z");
  check_per_patch(expected, norm, ScalarType::Double, "expected");
  check_device(grad_log_z, features, "grad_log_z");
  check_device(grad_pos, features, "grad_pos");
  check_device(log_z, features, "log_z");
  check_device(expected, features, "expected");
}

}  // namespace cgckit
