// The inner loops, in one version per instruction set.
#pragma once

#include <cstdint>

namespace cgckit::cpu {

// The micro-kernel multiplies a panel of 6 rows by a panel of 16 columns.
constexpr int64_t kPanelRows = 6;
constexpr int64_t kPanelColumns = 16;

// A row of a tile of Gram products x_i . x_k, and what turns it into similarities:
// s_k = gram[k] * row_scale * inverse_norm[k].
template <typename T>
struct TileRow {
  T* gram;                // [count]
  const T* inverse_norm;  // [count]
  T row_scale;            // 1 / |x_i|
  int64_t count;
};

template <typename T>
struct ExpSums {
  T z = 0;         // sum_k E_k
  T weighted = 0;  // sum_k E_k s_k
};

template <typename T>
struct TileKernels {
  // c[6][ldc] += a b^T over `depth`: a [depth][6], b [depth][16].
  void (*multiply)(int64_t depth, const T* a, const T* b, T* c, int64_t ldc);
  // E_k = 2^((s_k - shift) * scale), scale = log2(e) / tau.
  ExpSums<T> (*exp_sums)(const TileRow<T>& row, T scale, T shift);
  // gram[k] <- factor * E_k, with the very E_k of `exp_sums`.
  void (*softmax_weights)(const TileRow<T>& row, T scale, T shift, T factor);
  // max_k s_k, at least -1.
  T (*largest)(const TileRow<T>& row);
};

// The kernels for this processor; float64 has the portable ones only.
template <typename T>
const TileKernels<T>& tile_kernels();

}  // namespace cgckit::cpu
