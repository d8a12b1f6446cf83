// The CPU side of every operator in library.cpp: checks tensors and hands their pointers to the kernels.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <tuple>
#include <vector>

#include "../common/tensors.h"
#include "contrast.h"
#include "large_pages.h"

namespace cgckit::cpu {
namespace {

// Every thread takes a few items at a time until none is left, so that one that is held up delays no other.
void on_thread_pool(int64_t items, int64_t together, const std::function<void(int64_t, int64_t)>& body) {
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, items, 1, [&](int64_t begin, int64_t end) {
    const int64_t taken = std::clamp<int64_t>((end - begin) / 2, 1, together);
    for (int64_t first = next.fetch_add(taken); first < items; first = next.fetch_add(taken)) {
      body(first, std::min(first + taken, items));
    }
  });
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

template <typename S>
const S* values(const Tensor& features) {
  return static_cast<const S*>(features.const_data_ptr());
}

// A new tensor in large pages, where it is that large.
Tensor in_large_pages(Tensor tensor) {
  prefer_large_pages(tensor.mutable_data_ptr(), static_cast<size_t>(tensor.numel()) * tensor.element_size());
  return tensor;
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
  check_contrast_inputs(features, temperature, norm, order, counts, grid);
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
  Tensor kept = in_large_pages(torch::stable::new_empty(norm, {size}));
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
  Tensor grad_features = in_large_pages(torch::stable::empty_like(features));
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
