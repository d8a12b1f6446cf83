// Log-sum-exp over all members and mean similarity to the positives, for every anchor.
#include <algorithm>
#include <cmath>
#include <vector>

#include "../common/coefficients.h"
#include "../common/exp2.h"
#include "contrast.h"
#include "products.h"

namespace cgckit::cpu {

template <typename T>
Members<T> ContrastInputs<T>::members(int64_t g, const std::vector<int64_t>& offset) const {
  const int64_t first = g * patches();
  const int64_t count = counts[2 * g + 1];
  Members<T> members{features,
                     offset.data(),
                     std::vector<int64_t>(static_cast<size_t>(count)),
                     std::vector<T>(static_cast<size_t>(count)),
                     grid.depth(),
                     counts[2 * g],
                     count};
  for (int64_t i = 0; i < count; ++i) {
    const int64_t index = first + order[first + i];
    members.origin[static_cast<size_t>(i)] = grid.origin(strides, index);
    members.inverse_norm[static_cast<size_t>(i)] = T(1) / norm[index];
  }
  return members;
}

namespace {

// What a tile knows of a row's softmax.
template <typename T>
struct Partial {
  T shift;
  ExpSums<T> sums;
};

// The row without column `self` (outside the tile if it is negative or at least `count`).
template <typename T>
Partial<T> reduce_row(const TileRow<T>& row, int64_t self, T scale, bool fixed_shift) {
  const TileKernels<T>& kernels = tile_kernels<T>();
  const bool has_self = self >= 0 && self < row.count;
  const int64_t cut = has_self ? self : row.count;
  const int64_t next = has_self ? self + 1 : row.count;
  const TileRow<T> left{row.gram, row.inverse_norm, row.row_scale, cut};
  const TileRow<T> right{row.gram + next, row.inverse_norm + next, row.row_scale, row.count - next};
  const T shift = fixed_shift ? T(1) : std::max(kernels.largest(left), kernels.largest(right));
  const ExpSums<T> before = kernels.exp_sums(left, scale, shift);
  const ExpSums<T> after = kernels.exp_sums(right, scale, shift);
  return {shift, {before.z + after.z, before.weighted + after.weighted}};
}

struct RowSoftmax {
  double log_z;
  double expected;
};

// The partial sums of a row, tile after tile.
template <typename T>
RowSoftmax combine(const Partial<T>* partials, int64_t tiles, double temperature) {
  double shift = partials[0].shift;
  for (int64_t t = 1; t < tiles; ++t) shift = std::max(shift, static_cast<double>(partials[t].shift));
  double z = 0, weighted = 0;
  for (int64_t t = 0; t < tiles; ++t) {
    const double factor = std::exp((static_cast<double>(partials[t].shift) - shift) / temperature);
    z += factor * static_cast<double>(partials[t].sums.z);
    weighted += factor * static_cast<double>(partials[t].sums.weighted);
  }
  return {std::log(z) + (shift - 1.0) / temperature, weighted / z};
}

template <typename T>
void log_sum_exp(const Members<T>& members, double temperature, const int64_t* order,
                 const ContrastOutputs& out, const ParallelFor& parallel_for) {
  const T scale = static_cast<T>(kLog2E / temperature);
  const bool fixed_shift = shift_is_fixed(temperature);
  const int64_t width = column_block(members.count);
  const int64_t tiles = panels(members.count, width);
  std::vector<Partial<T>> partials(static_cast<size_t>(std::min(kAnchorBlock, members.anchors) * tiles));
  for (int64_t begin = 0; begin < members.anchors; begin += kAnchorBlock) {
    const int64_t end = std::min(begin + kAnchorBlock, members.anchors);
    const AnchorPanels<T> anchors(members, begin, end, parallel_for);
    parallel_for(tiles, [&](int64_t first, int64_t last) {
      TileScratch<T> scratch(end - begin);
      for (int64_t t = first; t < last; ++t) {
        const int64_t column = t * width;
        const int64_t columns = std::min(width, members.count - column);
        gram_tile(members, anchors, column, column + columns, scratch);
        for (int64_t i = begin; i < end; ++i) {
          const TileRow<T> row{scratch.tile.data() + (i - begin) * kMaxColumnBlock,
                               members.inverse_norm.data() + column, members.scale(i), columns};
          partials[static_cast<size_t>((i - begin) * tiles + t)] =
              reduce_row(row, i - column, scale, fixed_shift);
        }
      }
    });
    for (int64_t i = begin; i < end; ++i) {
      const RowSoftmax row = combine(partials.data() + (i - begin) * tiles, tiles, temperature);
      out.log_z[order[i]] = row.log_z;
      out.expected[order[i]] = row.expected;
    }
  }
}

// pos_i = u_i . (m - u_i) / (n - 1), in float64: O(n D).
template <typename T>
void positive_similarity(const Members<T>& members, const int64_t* order, double* pos,
                         const ParallelFor& parallel_for) {
  const std::vector<double> weight(members.inverse_norm.begin(),
                                   members.inverse_norm.begin() + members.anchors);
  std::vector<double> sum(static_cast<size_t>(members.depth));
  weighted_sum(members, weight.data(), sum.data(), parallel_for);
  parallel_for(members.anchors, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* row = members.row(i);
      double similarity = 0;
      for (int64_t d = 0; d < members.depth; ++d) {
        const double u = static_cast<double>(row[members.offset[d]]) * weight[static_cast<size_t>(i)];
        similarity += u * (sum[static_cast<size_t>(d)] - u);
      }
      pos[order[i]] = similarity / static_cast<double>(members.anchors - 1);
    }
  });
}

}  // namespace

template <typename T>
void forward(const ContrastInputs<T>& in, const ContrastOutputs& out, const ParallelFor& parallel_for) {
  const std::vector<int64_t> offset = PatchElements(in.grid, in.channels_last()).offsets(in.strides);
  for (double* values : {out.log_z, out.pos, out.expected}) std::fill_n(values, in.grid.total(), 0.0);
  for (int64_t g = 0; g < in.groups; ++g) {
    const Members<T> members = in.members(g, offset);
    if (members.anchors < 2) continue;
    const int64_t first = g * in.patches();
    const ContrastOutputs of_group{out.log_z + first, out.pos + first, out.expected + first};
    log_sum_exp(members, in.temperature, in.order + first, of_group, parallel_for);
    positive_similarity(members, in.order + first, of_group.pos, parallel_for);
  }
}

template struct ContrastInputs<float>;
template struct ContrastInputs<double>;
template void forward(const ContrastInputs<float>&, const ContrastOutputs&, const ParallelFor&);
template void forward(const ContrastInputs<double>&, const ContrastOutputs&, const ParallelFor&);

}  // namespace cgckit::cpu
