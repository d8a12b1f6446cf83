// The CPU side of every operator in library.cpp: checks tensors and hands their pointers to the kernels.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <tuple>
#include <vector>

#include "contrast.h"

namespace cgckit::cpu {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

void on_thread_pool(int64_t items, const std::function<void(int64_t, int64_t)>& body) {
  torch::stable::parallel_for(0, items, 1, body);
}

PatchGrid patch_grid(const Tensor& features, const std::vector<int64_t>& patch_size,
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

MapStrides map_strides(const Tensor& map) {
  const bool has_channels = map.dim() == 5;
  const int64_t axis = has_channels ? 2 : 1;
  return {map.stride(0),
          has_channels ? map.stride(1) : 0,
          {map.stride(axis), map.stride(axis + 1), map.stride(axis + 2)}};
}

void check_voxel_map(const Tensor& map, const PatchGrid& grid, ScalarType dtype, const char* name) {
  STD_TORCH_CHECK(map.scalar_type() == dtype, name, " has the wrong dtype");
  STD_TORCH_CHECK(map.dim() == 4 && map.size(0) == grid.batch && map.size(1) == grid.map[0] &&
                      map.size(2) == grid.map[1] && map.size(3) == grid.map[2],
                  name, " must be [B, H, W, L] on the grid of features");
}

void check_per_patch(const Tensor& values, const Tensor& like, ScalarType dtype, const char* name) {
  STD_TORCH_CHECK(values.scalar_type() == dtype, name, " has the wrong dtype");
  STD_TORCH_CHECK(values.dim() == 2 && values.size(0) == like.size(0) && values.size(1) == like.size(1) &&
                      values.is_contiguous(),
                  name, " must be contiguous and of the shape of norm, [G, N]");
}

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

ScalarType computed_type(const Tensor& features) {
  return features.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

template <typename S>
const S* values(const Tensor& features) {
  return static_cast<const S*>(features.const_data_ptr());
}

std::tuple<Tensor, Tensor, Tensor> patch_statistics(const Tensor& features, const Tensor& probability,
                                                    const std::optional<Tensor>& mask,
                                                    const std::vector<int64_t>& patch_size,
                                                    const std::vector<int64_t>& stride, double threshold,
                                                    bool pooled) {
  const PatchGrid grid = patch_grid(features, patch_size, stride);
  check_voxel_map(probability, grid, ScalarType::Float, "probability");
  if (mask) check_voxel_map(*mask, grid, ScalarType::Bool, "mask");
  const int64_t groups = pooled ? 1 : grid.batch;
  const int64_t patches = groups == 0 ? grid.per_image() : grid.total() / groups;
  Tensor norm = torch::stable::new_empty(features, {groups, patches}, computed_type(features));
  Tensor order = torch::stable::new_empty(features, {groups, patches}, ScalarType::Long);
  Tensor counts = torch::stable::new_empty(features, {groups, 2}, ScalarType::Long);
  dispatch(features, [&](auto zero) {
    using S = decltype(zero);
    using T = typename Computed<S>::type;
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
    statistics<S>(
        in,
        {norm.mutable_data_ptr<T>(), order.mutable_data_ptr<int64_t>(), counts.mutable_data_ptr<int64_t>()},
        on_thread_pool);
  });
  return {norm, order, counts};
}

template <typename S>
ContrastInputs<S> contrast_inputs(const Tensor& features, const Tensor& temperature, const Tensor& norm,
                                  const Tensor& order, const Tensor& counts, const PatchGrid& grid) {
  STD_TORCH_CHECK(temperature.scalar_type() == ScalarType::Double && temperature.numel() == 1,
                  "temperature must be one float64");
  check_per_patch(norm, norm, computed_type(features), "norm");
  check_per_patch(order, norm, ScalarType::Long, "order");
  STD_TORCH_CHECK(norm.numel() == grid.total(), "norm must have one entry for every patch");
  STD_TORCH_CHECK(counts.scalar_type() == ScalarType::Long && counts.dim() == 2 &&
                      counts.size(0) == norm.size(0) && counts.size(1) == 2 && counts.is_contiguous(),
                  "counts must be contiguous int64 and [G, 2]");
  return {grid,
          values<S>(features),
          map_strides(features),
          norm.const_data_ptr<typename Computed<S>::type>(),
          order.const_data_ptr<int64_t>(),
          counts.const_data_ptr<int64_t>(),
          norm.size(0),
          *temperature.const_data_ptr<double>()};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> patch_contrast(const Tensor& features, const Tensor& temperature,
                                                          const Tensor& norm, const Tensor& order,
                                                          const Tensor& counts,
                                                          const std::vector<int64_t>& patch_size,
                                                          const std::vector<int64_t>& stride, bool keep) {
  const PatchGrid grid = patch_grid(features, patch_size, stride);
  Tensor log_z = torch::stable::new_empty(norm, norm.sizes(), ScalarType::Double);
  Tensor pos = torch::stable::new_empty(norm, norm.sizes(), ScalarType::Double);
  Tensor expected = torch::stable::new_empty(norm, norm.sizes(), ScalarType::Double);
  const int64_t size = keep ? kept_size(grid, norm.size(0)) : 0;
  Tensor kept = torch::stable::new_empty(norm, {size});
  dispatch(features, [&](auto zero) {
    using S = decltype(zero);
    using T = typename Computed<S>::type;
    forward<S>(contrast_inputs<S>(features, temperature, norm, order, counts, grid),
               {log_z.mutable_data_ptr<double>(), pos.mutable_data_ptr<double>(),
                expected.mutable_data_ptr<double>()},
               size > 0 ? kept.mutable_data_ptr<T>() : nullptr, on_thread_pool);
  });
  return {log_z, pos, expected, kept};
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
  STD_TORCH_CHECK(kept.scalar_type() == computed_type(features) && kept.is_contiguous() &&
                      (kept.numel() == 0 || kept.numel() == kept_size(grid, norm.size(0))),
                  "kept must be what patch_contrast returned, or empty");
  Tensor grad_features = torch::stable::empty_like(features);
  if (!grid.overlaps() && !grid.fills_map()) torch::stable::zero_(grad_features);
  Tensor grad_temperature = torch::stable::empty_like(temperature);
  dispatch(features, [&](auto zero) {
    using S = decltype(zero);
    using T = typename Computed<S>::type;
    backward<S>(contrast_inputs<S>(features, temperature, norm, order, counts, grid),
                {grad_log_z.const_data_ptr<double>(), grad_pos.const_data_ptr<double>(),
                 expected.const_data_ptr<double>()},
                kept.numel() > 0 ? kept.const_data_ptr<T>() : nullptr,
                {static_cast<S*>(grad_features.mutable_data_ptr()), map_strides(grad_features),
                 grad_temperature.mutable_data_ptr<double>()},
                on_thread_pool);
  });
  return {grad_features, grad_temperature};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cgckit, CPU, m) {
  m.impl("patch_statistics", TORCH_BOX(&patch_statistics));
  m.impl("patch_contrast", TORCH_BOX(&patch_contrast));
  m.impl("patch_contrast_backward", TORCH_BOX(&patch_contrast_backward));
}

}  // namespace cgckit::cpu
