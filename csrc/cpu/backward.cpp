// Gradient of sum_i (g_i log Z_i + h_i pos_i) with respect to the feature map and the temperature.
//
// Similarities are computed again, a block of anchors at a time, and turned into the weights
// W_ik = g_i P_ik / tau. Each weight pulls both ends of its pair: sum_k W_ik u_k on the anchor i and
// sum_i W_ik u_i on the member k. Memory is O(N D).
#include <algorithm>
#include <vector>

#include "../common/coefficients.h"
#include "../common/exp2.h"
#include "contrast.h"
#include "products.h"

namespace cgckit::cpu {
namespace {

// Gradients with respect to the unit vectors, a row a member, padded to whole panels both ways.
template <typename T>
struct UnitGradients {
  explicit UnitGradients(const Members<T>& members)
      : ld(padded(members.depth, kPanelColumns)), rows(padded(members.count, kPanelRows) * ld) {
    rows.zero();
  }
  T* row(int64_t i) { return rows.data() + i * ld; }
  int64_t ld;
  Buffer<T> rows;
};

template <typename T>
void add_softmax_part(const Members<T>& members, double temperature, const int64_t* order,
                      const GradientInputs& gradient, UnitGradients<T>& out,
                      const ParallelFor& parallel_for) {
  const auto softmax_weights = tile_kernels<T>().softmax_weights;
  const T scale = static_cast<T>(kLog2E / temperature);
  const int64_t width = column_block(members.count);
  for (int64_t begin = 0; begin < members.anchors; begin += kAnchorBlock) {
    const int64_t end = std::min(begin + kAnchorBlock, members.anchors);
    const AnchorPanels<T> anchors(members, begin, end, parallel_for);
    CoefficientPanels<T> by_anchor(end - begin, members.count);
    CoefficientPanels<T> by_member(members.count, end - begin);
    parallel_for(panels(members.count, width), [&](int64_t first, int64_t last) {
      TileScratch<T> scratch(end - begin);
      for (int64_t t = first; t < last; ++t) {
        const int64_t column = t * width;
        const int64_t columns = std::min(width, members.count - column);
        gram_tile(members, anchors, column, column + columns, scratch);
        for (int64_t i = begin; i < end; ++i) {
          T* weight = scratch.tile.data() + (i - begin) * kMaxColumnBlock;
          const TileRow<T> row{weight, members.inverse_norm.data() + column, members.scale(i), columns};
          const SoftmaxScale row_scale =
              softmax_scale<T>(gradient.grad_log_z[order[i]], gradient.log_z[order[i]], temperature);
          softmax_weights(row, scale, static_cast<T>(row_scale.shift), static_cast<T>(row_scale.factor));
          if (i >= column && i < column + columns) weight[i - column] = T(0);
          for (int64_t k = 0; k < columns; ++k) {
            by_anchor.at(i - begin, column + k) = weight[k];
            by_member.at(column + k, i - begin) = weight[k];
          }
        }
      }
    });
    accumulate(by_anchor, members, 0, out.row(begin), out.ld, parallel_for);
    accumulate(by_member, members, begin, out.row(0), out.ld, parallel_for);
  }
}

// Adds what pos contributes, removes the part along u_i and divides by the norm: row i becomes dL / dx_i.
template <typename T>
void finish_rows(const Members<T>& members, const int64_t* order, const double* grad_pos,
                 UnitGradients<T>& out, const ParallelFor& parallel_for) {
  const size_t anchors = static_cast<size_t>(members.anchors);
  std::vector<double> h(anchors), weight(anchors), weight_h(anchors);
  for (size_t i = 0; i < anchors; ++i) {
    h[i] = grad_pos[order[i]];
    weight[i] = static_cast<double>(members.inverse_norm[i]);
    weight_h[i] = weight[i] * h[i];
  }
  std::vector<double> mean(static_cast<size_t>(members.depth)), mean_h(mean.size());
  weighted_sum(members, weight.data(), mean.data(), parallel_for);
  weighted_sum(members, weight_h.data(), mean_h.data(), parallel_for);
  parallel_for(members.count, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T* gradient = out.row(i);
      const T* x = members.row(i);
      const double inverse_norm = static_cast<double>(members.scale(i));
      PositiveCoefficients c{};
      if (i < members.anchors) {
        c = positive_coefficients(h[static_cast<size_t>(i)], static_cast<double>(members.anchors));
      }
      double along = 0;
      for (int64_t d = 0; d < members.depth; ++d) {
        const double u = static_cast<double>(x[members.offset[d]]) * inverse_norm;
        const double total = static_cast<double>(gradient[d]) + c.mean * mean[static_cast<size_t>(d)] +
                             c.weighted_mean * mean_h[static_cast<size_t>(d)];
        gradient[d] = static_cast<T>(total);
        along += u * total;
      }
      for (int64_t d = 0; d < members.depth; ++d) {
        const double u = static_cast<double>(x[members.offset[d]]) * inverse_norm;
        gradient[d] = static_cast<T>((static_cast<double>(gradient[d]) - along * u) * inverse_norm);
      }
    }
  });
}

// Adds the rows to the map. Only patches of one image can overlap, and only channel by channel, so an item
// owns one channel of one image and takes the patches in order.
template <typename T>
void scatter(const ContrastInputs<T>& in, int64_t g, UnitGradients<T>& rows, const GradientOutputs<T>& out,
             const ParallelFor& parallel_for) {
  const PatchGrid& grid = in.grid;
  const PatchElements elements(grid, in.channels_last());
  const std::vector<int64_t> offset = elements.offsets(out.strides);
  const int64_t first = g * in.patches();
  const int64_t members = in.counts[2 * g + 1];
  parallel_for(grid.batch * grid.channels, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t image = item / grid.channels, c = item % grid.channels;
      for (int64_t i = 0; i < members; ++i) {
        const int64_t index = first + in.order[first + i];
        if (index / grid.per_image() != image) continue;
        T* map = out.features + grid.origin(out.strides, index);
        const T* row = rows.row(i);
        for (int64_t v = 0; v < grid.volume(); ++v) {
          const int64_t d = elements.index(c, v);
          map[offset[static_cast<size_t>(d)]] += row[d];
        }
      }
    }
  });
}

}  // namespace

template <typename T>
void backward(const ContrastInputs<T>& in, const GradientInputs& gradient, const GradientOutputs<T>& out,
              const ParallelFor& parallel_for) {
  const std::vector<int64_t> offset = PatchElements(in.grid, in.channels_last()).offsets(in.strides);
  double by_temperature = 0;
  for (int64_t g = 0; g < in.groups; ++g) {
    const Members<T> members = in.members(g, offset);
    if (members.anchors < 2) continue;
    const int64_t first = g * in.patches();
    const int64_t* order = in.order + first;
    const GradientInputs of_group{gradient.grad_log_z + first, gradient.grad_pos + first,
                                  gradient.log_z + first, gradient.expected + first};
    UnitGradients<T> rows(members);
    add_softmax_part(members, in.temperature, order, of_group, rows, parallel_for);
    finish_rows(members, order, of_group.grad_pos, rows, parallel_for);
    scatter(in, g, rows, out, parallel_for);
    for (int64_t i = 0; i < members.anchors; ++i) {
      by_temperature +=
          of_group.grad_log_z[order[i]] * log_z_by_temperature(of_group.expected[order[i]], in.temperature);
    }
  }
  *out.temperature = by_temperature;
}

template void backward(const ContrastInputs<float>&, const GradientInputs&, const GradientOutputs<float>&,
                       const ParallelFor&);
template void backward(const ContrastInputs<double>&, const GradientInputs&, const GradientOutputs<double>&,
                       const ParallelFor&);

}  // namespace cgckit::cpu
