// The CPU side of every operator in library.cpp: hands tensors, checked, to the kernels.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <atomic>

#include "../common/operators.h"
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

// A new tensor in large pages, where it is that large.
Tensor in_large_pages(Tensor tensor) {
  prefer_large_pages(tensor.mutable_data_ptr(), static_cast<size_t>(tensor.numel()) * tensor.element_size());
  return tensor;
}

ThreeTensors patch_statistics(const Tensor& features, const Tensor& probability,
                              const std::optional<Tensor>& mask, const std::vector<int64_t>& patch_size,
                              const std::vector<int64_t>& stride, double threshold, bool pooled) {
  const PatchGrid grid = patch_grid(features, patch_size, stride);
  check_statistics_inputs(features, probability, mask, grid);
  const ThreeTensors found = new_statistics(features, grid, pooled);
  const int64_t groups = std::get<0>(found).size(0);
  dispatch(features, [&](auto zero) {
    using S = decltype(zero);
    statistics<S>(statistics_inputs<S>(features, probability, mask, grid, threshold, groups),
                  statistics_outputs<S>(found), on_thread_pool);
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
  const ThreeTensors terms = new_terms(norm);
  const int64_t size = keep ? kept_size(grid, norm.size(0)) : 0;
  Tensor kept = in_large_pages(torch::stable::new_empty(norm, {size}));
  dispatch(features, [&](auto zero) {
    using S = decltype(zero);
    forward<S>(contrast_inputs<S>(features, temperature, norm, order, counts, grid), contrast_outputs(terms),
               size > 0 ? kept.mutable_data_ptr<Computed<S>>() : nullptr, on_thread_pool);
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
  STD_TORCH_CHECK(kept.scalar_type() == computed_type(features) && kept.is_contiguous() &&
                      (kept.numel() == 0 || kept.numel() == kept_size(grid, norm.size(0))),
                  "kept must be what patch_contrast returned, or empty");
  Tensor grad_features = in_large_pages(torch::stable::empty_like(features));
  if (!grid.overlaps() && !grid.fills_map()) torch::stable::zero_(grad_features);
  Tensor grad_temperature = torch::stable::empty_like(temperature);
  dispatch(features, [&](auto zero) {
    using S = decltype(zero);
    backward<S>(contrast_inputs<S>(features, temperature, norm, order, counts, grid),
                gradient_inputs(grad_log_z, grad_pos, log_z, expected),
                kept.numel() > 0 ? kept.const_data_ptr<Computed<S>>() : nullptr,
                gradient_outputs<S>(grad_features, grad_temperature), on_thread_pool);
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
