// Gradient of sum_i (g_i log Z_i + h_i pos_i) with respect to the feature map and the temperature.
#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "../common/coefficients.h"
#include "contrast.h"
#include "members.h"
#include "positives.h"
#include "softmax.h"

namespace cgckit::cpu {
namespace {

bool all_equal(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [&](double value) { return value == values[0]; });
}

// The softmax's gradient with respect to the unit vectors, a row a member, and its factor.
template <typename T>
struct SoftmaxGradient {
  const T* rows;
  T factor;
  Buffer<T> computed;
};

// What the forward pass kept serves if all anchors have the same weight, as in every mean; else, and where
// nothing was kept, the similarities are computed again.
template <typename T>
SoftmaxGradient<T> softmax_gradient(const Members<T>& members, double temperature,
                                    const std::vector<double>& weight, const T* kept,
                                    const ParallelFor& parallel_for) {
  if (kept != nullptr && all_equal(weight)) return {kept, static_cast<T>(weight[0]), Buffer<T>(0)};
  Buffer<T> computed(members.count() * members.depth());
  softmax<T>(members, temperature, weight.data(), computed.data(), parallel_for);
  const T* rows = computed.data();
  return {rows, T(1), std::move(computed)};
}

// Gradients with respect to the patches, kRowsTogether at a time.
template <typename T>
class PatchGradients {
 public:
  PatchGradients(const Members<T>& members, const SoftmaxGradient<T>& softmax, const std::vector<double>& h,
                 const ParallelFor& parallel_for)
      : members_(members), softmax_(softmax), h_(h), mean_(sum_of_anchors(members, nullptr, parallel_for)) {
    if (!all_equal(h)) weighted_mean_ = sum_of_anchors(members, h.data(), parallel_for);
  }

  // Of the members from `first` on, as many as there are; element d of row i goes to
  // out[i][out_quad[d / 4] + d % 4].
  void compute(int64_t first, T* const* out, const int64_t* out_quad, T* scratch) const {
    const int64_t depth = members_.depth();
    const T* x[kRowsTogether];
    GradientRow<T> rows[kRowsTogether];
    for (int64_t r = 0; r < kRowsTogether; ++r) {
      // Past the last member it stands again, with the same result.
      const int64_t i = std::min(first + r, members_.count() - 1);
      x[r] = *members_.first(i);
      rows[r] = {softmax_.rows + i * depth, softmax_.factor, *members_.inverse_norm(i), out[i - first]};
      if (i < members_.anchors()) {
        add_positives(i, scratch + r * depth);
        rows[r].unit = scratch + r * depth;
        rows[r].scale = T(1);
      }
    }
    tile_kernels<T>().project(x, members_.quad(), depth / kQuad, rows, out_quad);
  }

 private:
  void add_positives(int64_t i, T* total) const {
    const double h = h_[static_cast<size_t>(i)];
    const PositiveCoefficients c = positive_coefficients(h, static_cast<double>(members_.anchors()));
    const double mean_factor = weighted_mean_.empty() ? c.mean + c.weighted_mean * h : c.mean;
    const double factor = static_cast<double>(softmax_.factor);
    const T* row = softmax_.rows + i * members_.depth();
    for (size_t d = 0; d < mean_.size(); ++d) {
      double sum = factor * static_cast<double>(row[d]) + mean_factor * mean_[d];
      if (!weighted_mean_.empty()) sum += c.weighted_mean * weighted_mean_[d];
      total[d] = static_cast<T>(sum);
    }
  }

  const Members<T>& members_;
  const SoftmaxGradient<T>& softmax_;
  const std::vector<double>& h_;
  std::vector<double> mean_;           // sum_j u_j over the anchors
  std::vector<double> weighted_mean_;  // sum_j h_j u_j; empty if all h are equal
};

// Side by side, as neighbours share cache lines.
template <typename S, typename T>
void put(const T* const* rows, int64_t count, const std::vector<int64_t>& offset, S* const* patches) {
  for (size_t d = 0; d < offset.size(); ++d) {
    for (int64_t r = 0; r < count; ++r) store(rows[r][d], patches[r][offset[d]]);
  }
}

// Offsets of a row's quads where they lie one after the other.
inline std::vector<int64_t> contiguous_quads(int64_t depth) {
  std::vector<int64_t> quad(static_cast<size_t>(depth / kQuad));
  for (size_t q = 0; q < quad.size(); ++q) quad[q] = static_cast<int64_t>(q) * kQuad;
  return quad;
}

// Without overlap every voxel belongs to one patch at most; those that belong to none are zero on entry.
// `gradients` null: all are zero.
template <typename S, typename T>
void write(const ContrastInputs<S>& in, int64_t g, const PatchGradients<T>* gradients,
           const GradientOutputs<S>& out, const ParallelFor& parallel_for) {
  const PatchElements elements(in.grid, out.strides, in.channels_last());
  const int64_t first = g * in.patches(), depth = kept_depth(in.grid);
  const int64_t members = gradients == nullptr ? 0 : in.counts[2 * g + 1];
  const bool in_place = elements.in_quads && std::is_same_v<S, T>;
  std::vector<int64_t> quad = contiguous_quads(depth);
  for (size_t q = 0; q < quad.size() && in_place; ++q) quad[q] = elements.offset[q * kQuad];
  parallel_for(panels(in.patches(), kRowsTogether), 8, [&](int64_t begin, int64_t end) {
    Buffer<T> scratch(kRowsTogether * depth), rows(kRowsTogether * depth);
    for (int64_t i = begin * kRowsTogether; i < std::min(end * kRowsTogether, in.patches());
         i += kRowsTogether) {
      const int64_t count = std::min(kRowsTogether, in.patches() - i);
      S* patch[kRowsTogether];
      T* row[kRowsTogether];
      for (int64_t r = 0; r < count; ++r) {
        patch[r] = out.features + in.grid.origin(out.strides, first + in.order[first + i + r]);
        row[r] = rows.data() + r * depth;
        if constexpr (std::is_same_v<S, T>) {
          if (in_place) row[r] = patch[r];
        }
      }
      const int64_t computed = std::clamp<int64_t>(members - i, 0, count);
      if (computed > 0) gradients->compute(i, row, quad.data(), scratch.data());
      if (!in_place) put(row, computed, elements.offset, patch);
      for (int64_t r = computed; r < count; ++r) {
        for (const int64_t offset : elements.offset) store(T(0), patch[r][offset]);
      }
    }
  });
}

// With overlap voxels sum over patches. Only patches of one image overlap, and only channel by channel, so an
// item owns one channel of one image and takes the patches in order. `members` null: all gradients are zero.
template <typename S, typename T>
void write_sums(const ContrastInputs<S>& in, int64_t g, const Members<T>* members,
                const PatchGradients<T>* gradients, const GradientOutputs<S>& out,
                const ParallelFor& parallel_for) {
  const PatchGrid& grid = in.grid;
  const int64_t first = g * in.patches();
  const int64_t images = grid.batch / in.groups;
  const int64_t count = members == nullptr ? 0 : members->count();
  const int64_t depth = kept_depth(grid);
  Buffer<T> rows(count * depth);
  const std::vector<int64_t> quad = contiguous_quads(depth);
  parallel_for(panels(count, kRowsTogether), 8, [&](int64_t begin, int64_t end) {
    Buffer<T> scratch(kRowsTogether * depth);
    for (int64_t i = begin * kRowsTogether; i < std::min(end * kRowsTogether, count); i += kRowsTogether) {
      T* row[kRowsTogether];
      for (int64_t r = 0; r < kRowsTogether; ++r) row[r] = rows.data() + (i + r) * depth;
      gradients->compute(i, row, quad.data(), scratch.data());
    }
  });
  const int64_t map[3] = {grid.map[0], grid.map[1], grid.map[2]};
  const MapStrides plane{0, 0, {map[1] * map[2], map[2], 1}};
  parallel_for(images * grid.channels, 1, [&](int64_t begin, int64_t end) {
    Buffer<T> sum(map[0] * map[1] * map[2]);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t image = g * images + item / grid.channels, c = item % grid.channels;
      sum.zero();
      for (int64_t i = 0; i < count; ++i) {
        const int64_t index = first + in.order[first + i];
        if (index / grid.per_image() != image) continue;
        T* patch = sum.data() + grid.origin(plane, index);
        const T* row = rows.data() + i * depth;
        for (int64_t v = 0; v < grid.volume(); ++v) {
          patch[grid.voxel_offset(plane, v)] +=
              row[in.channels_last() ? v * grid.channels + c : c * grid.volume() + v];
        }
      }
      S* out_map = out.features + image * out.strides.batch + c * out.strides.channel;
      const T* value = sum.data();
      for (int64_t h = 0; h < map[0]; ++h) {
        for (int64_t w = 0; w < map[1]; ++w) {
          S* line = out_map + h * out.strides.axis[0] + w * out.strides.axis[1];
          for (int64_t l = 0; l < map[2]; ++l) store(*value++, line[l * out.strides.axis[2]]);
        }
      }
    }
  });
}

}  // namespace

template <typename S>
void backward(const ContrastInputs<S>& in, const GradientInputs& gradient, const Computed<S>* kept,
              const GradientOutputs<S>& out, const ParallelFor& parallel_for) {
  using T = Computed<S>;
  const PatchElements elements(in.grid, in.strides, in.channels_last());
  const bool overlaps = in.grid.overlaps();
  const int64_t depth = kept_depth(in.grid);
  double by_temperature = 0;
  for (int64_t g = 0; g < in.groups; ++g) {
    const int64_t first = g * in.patches();
    const int64_t* order = in.order + first;
    const int64_t anchors = in.counts[2 * g];
    if (anchors < 2) {
      if (overlaps) {
        write_sums<S, T>(in, g, nullptr, nullptr, out, parallel_for);
      } else {
        write<S, T>(in, g, nullptr, out, parallel_for);
      }
      continue;
    }
    std::vector<double> weight(static_cast<size_t>(anchors)), h(weight.size());
    for (int64_t i = 0; i < anchors; ++i) {
      const int64_t index = first + order[i];
      weight[static_cast<size_t>(i)] = gradient.grad_log_z[index];
      h[static_cast<size_t>(i)] = gradient.grad_pos[index];
      by_temperature +=
          gradient.grad_log_z[index] * log_z_by_temperature(gradient.expected[index], *in.temperature);
    }
    const Members<T> members(in, g, elements, parallel_for);
    const bool serves = kept != nullptr && kept[in.grid.total() * depth + g] == static_cast<T>(kept_code(in));
    const SoftmaxGradient<T> of_softmax = softmax_gradient(
        members, *in.temperature, weight, serves ? kept + first * depth : nullptr, parallel_for);
    const PatchGradients<T> gradients(members, of_softmax, h, parallel_for);
    if (overlaps) {
      write_sums(in, g, &members, &gradients, out, parallel_for);
    } else {
      write(in, g, &gradients, out, parallel_for);
    }
  }
  *out.temperature = by_temperature;
}

#define CGCKIT_INSTANTIATE(S)                                                                 \
  template void backward(const ContrastInputs<S>&, const GradientInputs&, const Computed<S>*, \
                         const GradientOutputs<S>&, const ParallelFor&);
CGCKIT_TYPES(CGCKIT_INSTANTIATE)
#undef CGCKIT_INSTANTIATE

}  // namespace cgckit::cpu
