// Blocked matrix products over the members of a group, cut into items by shape alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include "buffer.h"
#include "members.h"
#include "parallel.h"
#include "tile.h"

namespace cgckit::cpu {

constexpr int64_t kDepthBlock = 256;      // of the inner dimension, held by a panel of 16 columns in L1
constexpr int64_t kAnchorBlock = 384;     // anchors packed at once; a multiple of kPanelRows
constexpr int64_t kMaxColumnBlock = 192;  // columns of a tile; a multiple of kPanelColumns
constexpr int64_t kMinItems = 8;          // small problems are cut finer, so that threads find work

inline int64_t panels(int64_t size, int64_t panel) { return (size + panel - 1) / panel; }
inline int64_t padded(int64_t size, int64_t panel) { return panels(size, panel) * panel; }

// Columns of a block such that `size` columns give at least kMinItems blocks where that is possible.
inline int64_t column_block(int64_t size) {
  return std::min(kMaxColumnBlock, padded(panels(size, kMinItems), kPanelColumns));
}

// Anchors `begin` .. `end` as panels of six rows: element (i, d) at [i / 6][d][i % 6], zero past the end.
template <typename T>
class AnchorPanels {
 public:
  AnchorPanels(const Members<T>& members, int64_t begin, int64_t end, const ParallelFor& parallel_for);
  const T* panel(int64_t panel, int64_t d) const { return data_.data() + (panel * depth_ + d) * kPanelRows; }
  int64_t rows() const { return rows_; }

 private:
  int64_t rows_;
  int64_t depth_;
  Buffer<T> data_;
};

// Scratch of one thread for `gram_tile`.
template <typename T>
struct TileScratch {
  explicit TileScratch(int64_t rows)
      : columns(kMaxColumnBlock * kDepthBlock), tile(padded(rows, kPanelRows) * kMaxColumnBlock) {}
  Buffer<T> columns;
  Buffer<T> tile;  // [rows][kMaxColumnBlock]
};

// scratch.tile(i, k) = x_i . x_k for the packed anchors and the members `begin` .. `end`.
template <typename T>
void gram_tile(const Members<T>& members, const AnchorPanels<T>& anchors, int64_t begin, int64_t end,
               TileScratch<T>& scratch);

// Coefficients [rows, inner] as panels of six rows: element (i, k) at [i / 6][k][i % 6], zero past the end.
template <typename T>
class CoefficientPanels {
 public:
  CoefficientPanels(int64_t rows, int64_t inner)
      : rows_(rows), inner_(inner), data_(padded(rows, kPanelRows) * inner) {
    data_.zero();
  }
  T& at(int64_t i, int64_t k) { return data_[(i / kPanelRows * inner_ + k) * kPanelRows + i % kPanelRows]; }
  const T* panel(int64_t panel, int64_t k) const { return data_.data() + (panel * inner_ + k) * kPanelRows; }
  int64_t rows() const { return rows_; }
  int64_t inner() const { return inner_; }

 private:
  int64_t rows_;
  int64_t inner_;
  Buffer<T> data_;
};

// out(i, d) += sum_k coefficients(i, k) u(first + k, d), u the unit vectors of the members; `out` has rows of
// `ld` elements, padded to whole panels both ways.
template <typename T>
void accumulate(const CoefficientPanels<T>& coefficients, const Members<T>& members, int64_t first, T* out,
                int64_t ld, const ParallelFor& parallel_for);

// out[d] = sum_i weight[i] x(i, d) over the anchors, in float64.
template <typename T>
void weighted_sum(const Members<T>& members, const double* weight, double* out,
                  const ParallelFor& parallel_for);

}  // namespace cgckit::cpu
