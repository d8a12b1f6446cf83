// A block of anchors at a time: its similarities to all members are computed tile by tile and turned into
// E_ik in place; once the rows are summed, each E_ik / Z_i pulls both ends of its pair. So no similarity is
// computed twice, and memory is O(N) for the block besides what goes in and out.
#include "softmax.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "../common/coefficients.h"
#include "../common/exp2.h"

namespace cgckit::cpu {
namespace {

// Anchors whose similarities are held, a multiple of every panel's rows: as many as take 2 kB a member, since
// each block of them packs all members again.
constexpr int64_t kAnchorBlock = 468;
// Multiples of every panel's rows and columns: members of a tile, which stays in the second-level cache with
// its block, and elements of D that a thread accumulates at once.
constexpr int64_t kTileColumns = 192;
constexpr int64_t kChunkDepth = 128;
constexpr int64_t kMinTiles = 16;     // small problems are cut finer, so that threads find work
constexpr int64_t kDepthBlock = 256;  // of D: a panel of columns stays in the first-level cache

// Whole panels of columns, and of rows too where tiles are large: no part of a tile is then computed in vain.
int64_t tile_width(int64_t members, int64_t rows, int64_t columns) {
  const int64_t both = std::lcm(rows, columns);
  const int64_t wanted = panels(members, kMinTiles);
  return std::min(kTileColumns, padded(wanted, wanted < both ? columns : both));
}

template <typename T>
class Softmax {
 public:
  Softmax(const Members<T>& members, double temperature, const ParallelFor& parallel_for)
      : members_(members),
        kernels_(tile_kernels<T>()),
        parallel_for_(parallel_for),
        temperature_(temperature),
        panel_rows_(kernels_.rows),
        panel_columns_(kernels_.columns),
        rows_(padded(std::min(kAnchorBlock, members.anchors()), panel_rows_)),
        width_(tile_width(members.count(), panel_rows_, panel_columns_)),
        tiles_(panels(members.count(), width_)),
        tile_distance_(row_distance(width_)),
        anchor_distance_(row_distance(members.depth())),
        anchors_(rows_ * anchor_distance_),
        similarities_(tiles_ * rows_ * tile_distance_ + panel_rows_),
        partial_(static_cast<size_t>(rows_ * tiles_)),
        shift_(static_cast<size_t>(rows_), T(1)),
        maxima_(shift_is_fixed(temperature) ? 0 : partial_.size()) {}

  // Members `begin` .. `end`, at most kAnchorBlock, are the anchors of the block.
  void take(int64_t begin, int64_t end) {
    begin_ = begin;
    end_ = end;
    pack_anchors();
    const bool fixed_shift = maxima_.empty();
    parallel_for_(tiles_, 1, [&](int64_t first, int64_t last) {
      Buffer<T> packed(kDepthBlock * panel_columns_);
      for (int64_t t = first; t < last; ++t) {
        gram(t, packed.data());
        if (fixed_shift) {
          exponentials(t);
        } else {
          largest(t);
        }
      }
    });
    if (fixed_shift) return;
    for (int64_t i = 0; i < end - begin; ++i) {
      const T* of_row = maxima_.data() + i * tiles_;
      shift_[static_cast<size_t>(i)] = *std::max_element(of_row, of_row + tiles_);
    }
    parallel_for_(tiles_, 1, [&](int64_t first, int64_t last) {
      for (int64_t t = first; t < last; ++t) exponentials(t);
    });
  }

  // The softmax of anchor `i` of the block; `z` is the sum of its E.
  AnchorSoftmax row(int64_t i, double& z) const {
    double weighted = 0;
    z = 0;
    for (int64_t t = 0; t < tiles_; ++t) {
      const ExpSums<T>& sums = partial_[static_cast<size_t>(i * tiles_ + t)];
      z += static_cast<double>(sums.z);
      weighted += static_cast<double>(sums.weighted);
    }
    const double shift = static_cast<double>(shift_[static_cast<size_t>(i)]);
    return {std::log(z) + (shift - 1.0) / temperature_, weighted / z};
  }

  // gradient(i, :) += factor_i sum_k E_ik u_k and gradient(k, :) += sum_i factor_i E_ik u_i; `add` is false
  // where the gradient holds nothing yet.
  void accumulate(const std::vector<T>& factor, T* gradient, bool add) const {
    std::vector<T> scale(factor);
    for (size_t i = 0; i < scale.size(); ++i)
      scale[i] *= *members_.inverse_norm(begin_ + static_cast<int64_t>(i));
    const int64_t depth = members_.depth();
    const int64_t chunk_panels = kChunkDepth / panel_columns_;
    parallel_for_(panels(depth, panel_columns_), chunk_panels, [&](int64_t first, int64_t last) {
      Scratch scratch(rows_, panel_columns_);
      for (int64_t p = first; p < last; p += chunk_panels) {
        const int64_t d_end = std::min(std::min(p + chunk_panels, last) * panel_columns_, depth);
        accumulate_elements(p * panel_columns_, d_end, factor.data(), scale.data(), gradient, add, scratch);
      }
    });
  }

 private:
  static constexpr int64_t kChunkDistance = kChunkDepth + 16;

  struct Scratch {
    Scratch(int64_t rows, int64_t columns)
        : anchors(rows * kChunkDepth), members(kTileColumns * columns), sum(rows * kChunkDistance) {}
    Buffer<T> anchors;  // [panels][rows][C], scaled unit vectors of the anchors
    Buffer<T> members;  // [columns of a tile][C], unit vectors
    Buffer<T> sum;      // [rows][kChunkDistance]
  };

  T* tile(int64_t t) { return similarities_.data() + t * rows_ * tile_distance_; }
  const T* tile(int64_t t) const { return similarities_.data() + t * rows_ * tile_distance_; }
  int64_t columns(int64_t t) const { return std::min(width_, members_.count() - t * width_); }
  int64_t block() const { return end_ - begin_; }

  void pack_anchors() {
    parallel_for_(rows_, panel_rows_, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        T* packed = anchors_.data() + i * anchor_distance_;
        if (i >= block()) {
          std::fill_n(packed, members_.depth(), T(0));
          continue;
        }
        const Row<T> row = members_.row(begin_ + i);
        for (int64_t q = 0; q < row.quads; ++q) {
          std::memcpy(packed + q * kQuad, row.first + row.quad[q], kQuad * sizeof(T));
        }
      }
    });
  }

  // tile(t)(i, k) = x_i . x_k.
  void gram(int64_t t, T* packed) {
    const int64_t depth = members_.depth();
    const int64_t last = members_.count() - 1;
    const T* rows[kMostColumns];
    for (int64_t d = 0; d < depth; d += kDepthBlock) {
      const int64_t inner = std::min(kDepthBlock, depth - d);
      for (int64_t k = 0; k < columns(t); k += panel_columns_) {
        // Past the last member stands another one, whose products nobody reads.
        for (int64_t c = 0; c < panel_columns_; ++c)
          rows[c] = *members_.first(std::min(t * width_ + k + c, last));
        kernels_.pack_columns(rows, members_.quad() + d / kQuad, inner / kQuad, packed);
        for (int64_t i = 0; i < block(); i += panel_rows_) {
          kernels_.multiply(inner, anchors_.data() + i * anchor_distance_ + d, anchor_distance_, 1, packed,
                            tile(t) + i * tile_distance_ + k, tile_distance_, d > 0);
        }
      }
    }
  }

  GramRow<T> gram_row(int64_t t, int64_t i, int64_t first, int64_t last) {
    return {tile(t) + i * tile_distance_ + first, members_.inverse_norm(t * width_ + first),
            *members_.inverse_norm(begin_ + i), last - first};
  }

  // Calls visit(i, before, after) with the two parts of every row of the tile, the anchor itself left out.
  template <typename Visit>
  void visit_rows(int64_t t, const Visit& visit) {
    for (int64_t i = 0; i < block(); ++i) {
      const int64_t self = begin_ + i - t * width_;
      const bool has_self = self >= 0 && self < columns(t);
      visit(i, gram_row(t, i, 0, has_self ? self : columns(t)),
            gram_row(t, i, has_self ? self + 1 : columns(t), columns(t)));
      if (has_self) tile(t)[i * tile_distance_ + self] = T(0);
    }
  }

  void largest(int64_t t) {
    visit_rows(t, [&](int64_t i, const GramRow<T>& before, const GramRow<T>& after) {
      maxima_[static_cast<size_t>(i * tiles_ + t)] =
          std::max(kernels_.largest(before), kernels_.largest(after));
    });
  }

  void exponentials(int64_t t) {
    const T scale = static_cast<T>(kLog2E / temperature_);
    visit_rows(t, [&](int64_t i, const GramRow<T>& before, const GramRow<T>& after) {
      const T shift = shift_[static_cast<size_t>(i)];
      ExpSums<T> sums = kernels_.exponentials(before, scale, shift);
      if (after.count > 0) {
        const ExpSums<T> more = kernels_.exponentials(after, scale, shift);
        sums = {sums.z + more.z, sums.weighted + more.weighted};
      }
      partial_[static_cast<size_t>(i * tiles_ + t)] = sums;
    });
  }

  // `accumulate` for the elements `begin` .. `end` of D.
  void accumulate_elements(int64_t begin, int64_t end, const T* factor, const T* scale, T* gradient, bool add,
                           Scratch& scratch) const {
    const int64_t depth = members_.depth();
    const int64_t* quad = members_.quad() + begin / kQuad;
    const int64_t quads = panels(end - begin, kQuad), panel_quads = panel_columns_ / kQuad;
    const int64_t chunk_panels = panels(end - begin, panel_columns_);
    for (int64_t j = 0; j < chunk_panels; ++j) {
      kernels_.pack_rows(members_.first(begin_), scale, block(), quad + panel_quads * j,
                         std::min(quads - panel_quads * j, panel_quads),
                         scratch.anchors.data() + j * rows_ * panel_columns_);
    }
    for (int64_t t = 0; t < tiles_; ++t) {
      for (int64_t j = 0; j < chunk_panels; ++j) {
        const T* anchors = scratch.anchors.data() + j * rows_ * panel_columns_;
        T* out = gradient + t * width_ * depth + begin + j * panel_columns_;
        const int64_t wide = std::min(panel_columns_, end - begin - j * panel_columns_);
        for (int64_t k = 0; k < columns(t); k += panel_rows_) {
          multiply_part(block(), tile(t) + k, 1, tile_distance_, anchors, out + k * depth, depth,
                        std::min(panel_rows_, columns(t) - k), wide, add);
        }
        kernels_.pack_rows(members_.first(t * width_), members_.inverse_norm(t * width_), columns(t),
                           quad + panel_quads * j, std::min(quads - panel_quads * j, panel_quads),
                           scratch.members.data());
        for (int64_t i = 0; i < block(); i += panel_rows_) {
          kernels_.multiply(
              columns(t), tile(t) + i * tile_distance_, tile_distance_, 1, scratch.members.data(),
              scratch.sum.data() + i * kChunkDistance + j * panel_columns_, kChunkDistance, t > 0);
        }
      }
    }
    for (int64_t i = 0; i < block(); ++i) {
      T* out = gradient + (begin_ + i) * depth + begin;
      const T* sum = scratch.sum.data() + i * kChunkDistance;
      for (int64_t d = 0; d < end - begin; ++d) out[d] += factor[i] * sum[d];
    }
  }

  // The micro-kernel at an edge of the output: only `tall` rows and `wide` columns of it exist.
  void multiply_part(int64_t inner, const T* a, int64_t row, int64_t step, const T* b, T* c, int64_t ldc,
                     int64_t tall, int64_t wide, bool add) const {
    if (tall == panel_rows_ && wide == panel_columns_) {
      kernels_.multiply(inner, a, row, step, b, c, ldc, add);
      return;
    }
    alignas(64) T whole[kMostRows * kMostColumns];
    kernels_.multiply(inner, a, row, step, b, whole, panel_columns_, false);
    for (int64_t i = 0; i < tall; ++i) {
      for (int64_t j = 0; j < wide; ++j) {
        T& out = c[i * ldc + j];
        out = add ? out + whole[i * panel_columns_ + j] : whole[i * panel_columns_ + j];
      }
    }
  }

  const Members<T>& members_;
  const TileKernels<T>& kernels_;
  const ParallelFor& parallel_for_;
  double temperature_;
  int64_t panel_rows_;
  int64_t panel_columns_;
  int64_t rows_;
  int64_t width_;
  int64_t tiles_;
  int64_t tile_distance_;
  int64_t anchor_distance_;
  int64_t begin_ = 0;
  int64_t end_ = 0;
  Buffer<T> anchors_;                // [rows][anchor_distance]
  Buffer<T> similarities_;           // [tiles][rows][tile_distance], in the end E
  std::vector<ExpSums<T>> partial_;  // [rows][tiles]
  std::vector<T> shift_;             // [rows]
  std::vector<T> maxima_;            // [rows][tiles], empty if the shift is fixed
};

}  // namespace

template <typename T>
std::vector<AnchorSoftmax> softmax(const Members<T>& members, double temperature, const double* weight,
                                   T* gradient, const ParallelFor& parallel_for) {
  std::vector<AnchorSoftmax> rows(static_cast<size_t>(members.anchors()));
  Softmax<T> blocks(members, temperature, parallel_for);
  std::vector<T> factor;
  for (int64_t begin = 0; begin < members.anchors(); begin += kAnchorBlock) {
    const int64_t end = std::min(begin + kAnchorBlock, members.anchors());
    blocks.take(begin, end);
    factor.resize(static_cast<size_t>(end - begin));
    for (int64_t i = begin; i < end; ++i) {
      double z = 0;
      rows[static_cast<size_t>(i)] = blocks.row(i - begin, z);
      factor[static_cast<size_t>(i - begin)] =
          static_cast<T>((weight == nullptr ? 1.0 : weight[i]) / (temperature * z));
    }
    if (gradient != nullptr) blocks.accumulate(factor, gradient, begin > 0);
  }
  return rows;
}

template std::vector<AnchorSoftmax> softmax(const Members<float>&, double, const double*, float*,
                                            const ParallelFor&);
template std::vector<AnchorSoftmax> softmax(const Members<double>&, double, const double*, double*,
                                            const ParallelFor&);

}  // namespace cgckit::cpu
