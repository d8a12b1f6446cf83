#include "products.h"

namespace cgckit::cpu {

template <typename T>
AnchorPanels<T>::AnchorPanels(const Members<T>& members, int64_t begin, int64_t end,
                              const ParallelFor& parallel_for)
    : rows_(end - begin), depth_(members.depth), data_(padded(end - begin, kPanelRows) * members.depth) {
  parallel_for(panels(rows_, kPanelRows), [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) {
      T* packed = data_.data() + p * depth_ * kPanelRows;
      for (int64_t r = 0; r < kPanelRows; ++r) {
        const int64_t i = begin + p * kPanelRows + r;
        if (i >= end) {
          for (int64_t d = 0; d < depth_; ++d) packed[d * kPanelRows + r] = T(0);
          continue;
        }
        const T* row = members.row(i);
        for (int64_t d = 0; d < depth_; ++d) packed[d * kPanelRows + r] = row[members.offset[d]];
      }
    }
  });
}

namespace {

// Members `begin` .. `end` over depth `d` .. `d + depth` as panels of sixteen columns.
template <typename T>
void pack_members(const Members<T>& members, int64_t begin, int64_t end, int64_t d, int64_t depth,
                  T* packed) {
  const int64_t* offset = members.offset + d;
  for (int64_t first = begin; first < end; first += kPanelColumns, packed += depth * kPanelColumns) {
    for (int64_t c = 0; c < kPanelColumns; ++c) {
      if (first + c >= end) {
        for (int64_t k = 0; k < depth; ++k) packed[k * kPanelColumns + c] = T(0);
        continue;
      }
      const T* row = members.row(first + c);
      for (int64_t k = 0; k < depth; ++k) packed[k * kPanelColumns + c] = row[offset[k]];
    }
  }
}

// Elements `begin` .. `end` of D, scaled to unit vectors, of members `first` .. `first + inner`: panels of
// sixteen columns again, but now the patches run along the inner dimension.
template <typename T>
void pack_elements(const Members<T>& members, int64_t first, int64_t inner, int64_t begin, int64_t end,
                   T* packed) {
  for (int64_t d = begin; d < end; d += kPanelColumns) {
    const int64_t columns = std::min(kPanelColumns, end - d);
    for (int64_t k = 0; k < inner; ++k, packed += kPanelColumns) {
      const T* row = members.row(first + k);
      const T scale = members.scale(first + k);
      for (int64_t c = 0; c < columns; ++c) packed[c] = row[members.offset[d + c]] * scale;
      for (int64_t c = columns; c < kPanelColumns; ++c) packed[c] = T(0);
    }
  }
}

}  // namespace

template <typename T>
void gram_tile(const Members<T>& members, const AnchorPanels<T>& anchors, int64_t begin, int64_t end,
               TileScratch<T>& scratch) {
  const auto multiply = tile_kernels<T>().multiply;
  scratch.tile.zero();
  for (int64_t d = 0; d < members.depth; d += kDepthBlock) {
    const int64_t depth = std::min(kDepthBlock, members.depth - d);
    pack_members(members, begin, end, d, depth, scratch.columns.data());
    for (int64_t j = 0; j < panels(end - begin, kPanelColumns); ++j) {
      const T* columns = scratch.columns.data() + j * depth * kPanelColumns;
      for (int64_t i = 0; i < panels(anchors.rows(), kPanelRows); ++i) {
        T* tile = scratch.tile.data() + i * kPanelRows * kMaxColumnBlock + j * kPanelColumns;
        multiply(depth, anchors.panel(i, d), columns, tile, kMaxColumnBlock);
      }
    }
  }
}

template <typename T>
void accumulate(const CoefficientPanels<T>& coefficients, const Members<T>& members, int64_t first, T* out,
                int64_t ld, const ParallelFor& parallel_for) {
  constexpr int64_t kPanelsOfBlock = kAnchorBlock / kPanelRows;
  const auto multiply = tile_kernels<T>().multiply;
  const int64_t row_panels = panels(coefficients.rows(), kPanelRows);
  const int64_t row_blocks = panels(row_panels, kPanelsOfBlock);
  const int64_t width = column_block(members.depth);
  const int64_t column_blocks = panels(members.depth, width);
  parallel_for(row_blocks * column_blocks, [&](int64_t begin, int64_t end) {
    Buffer<T> columns(width * kDepthBlock);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first_panel = item % row_blocks * kPanelsOfBlock;
      const int64_t last_panel = std::min(first_panel + kPanelsOfBlock, row_panels);
      const int64_t d = item / row_blocks * width;
      const int64_t d_end = std::min(d + width, members.depth);
      for (int64_t k = 0; k < coefficients.inner(); k += kDepthBlock) {
        const int64_t inner = std::min(kDepthBlock, coefficients.inner() - k);
        pack_elements(members, first + k, inner, d, d_end, columns.data());
        for (int64_t j = 0; j < panels(d_end - d, kPanelColumns); ++j) {
          const T* panel = columns.data() + j * inner * kPanelColumns;
          for (int64_t p = first_panel; p < last_panel; ++p) {
            multiply(inner, coefficients.panel(p, k), panel,
                     out + p * kPanelRows * ld + d + j * kPanelColumns, ld);
          }
        }
      }
    }
  });
}

template <typename T>
void weighted_sum(const Members<T>& members, const double* weight, double* out,
                  const ParallelFor& parallel_for) {
  parallel_for(panels(members.depth, kDepthBlock), [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kDepthBlock, last = std::min(end * kDepthBlock, members.depth);
    std::fill(out + first, out + last, 0.0);
    for (int64_t i = 0; i < members.anchors; ++i) {
      const T* row = members.row(i);
      for (int64_t d = first; d < last; ++d)
        out[d] += weight[i] * static_cast<double>(row[members.offset[d]]);
    }
  });
}

#define CGCKIT_INSTANTIATE(T)                                                                            \
  template class AnchorPanels<T>;                                                                        \
  template void gram_tile(const Members<T>&, const AnchorPanels<T>&, int64_t, int64_t, TileScratch<T>&); \
  template void accumulate(const CoefficientPanels<T>&, const Members<T>&, int64_t, T*, int64_t,         \
                           const ParallelFor&);                                                          \
  template void weighted_sum(const Members<T>&, const double*, double*, const ParallelFor&);
CGCKIT_INSTANTIATE(float)
CGCKIT_INSTANTIATE(double)
#undef CGCKIT_INSTANTIATE

}  // namespace cgckit::cpu
