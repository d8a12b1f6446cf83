// The inner loops, in one version per instruction set.
#pragma once

#include <cstdint>

#include "elements.h"

namespace cgckit::cpu {

// What the micro-kernel of any instruction set makes at most: a tile of so many rows and columns.
constexpr int64_t kMostRows = 12;
constexpr int64_t kMostColumns = 32;

inline int64_t panels(int64_t size, int64_t panel) { return (size + panel - 1) / panel; }
inline int64_t padded(int64_t size, int64_t panel) { return panels(size, panel) * panel; }

// A distance between rows of at least `size`: an odd number of cache lines, so that rows do not compete for
// the same places in the cache.
inline int64_t row_distance(int64_t size) {
  constexpr int64_t kLine = 16;
  return panels(size, kLine) / 2 * 2 * kLine + kLine;
}

// A row of the matrix of patches, read in place: element d lies at first[quad[d / 4] + d % 4].
template <typename T>
struct Row {
  const T* first;
  const int64_t* quad;
  int64_t quads;
};

// A row of Gram products x_i . x_k, and what turns it into similarities s_k = gram[k] row_scale
// inverse_norm[k].
template <typename T>
struct GramRow {
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

constexpr int64_t kRowsTogether = 8;  // patches that are read side by side, as neighbours share cache lines

// The gradient with respect to a patch, from that with respect to its unit vector.
template <typename T>
struct GradientRow {
  const T* unit;   // [D]
  T scale;         // a factor of `unit`
  T inverse_norm;  // 1 / |x_i|
  T* out;          // element d goes to out[out_quad[d / 4] + d % 4]
};

template <typename T>
struct TileKernels {
  int64_t rows;     // R, of the tile that `multiply` makes
  int64_t columns;  // C
  // c[R][C] = sum_k a(i, k) b[k][C], or added to it; a(i, k) at a[i row + k step], rows of c `ldc` apart.
  void (*multiply)(int64_t inner, const T* a, int64_t row, int64_t step, const T* b, T* c, int64_t ldc,
                   bool add);
  // packed[4 quads][C]: the elements `quad` of C rows side by side.
  void (*pack_columns)(const T* const* rows, const int64_t* quad, int64_t quads, T* packed);
  // packed[k][C] = scale[k] x_k for C elements, or four times `quads` < C / 4 and then zeros.
  void (*pack_rows)(const T* const* rows, const T* scale, int64_t count, const int64_t* quad, int64_t quads,
                    T* packed);
  // gram[k] <- E_k = 2^((s_k - shift) scale), scale = log2(e) / tau.
  ExpSums<T> (*exponentials)(const GramRow<T>& row, T scale, T shift);
  // max_k s_k, at least -1.
  T (*largest)(const GramRow<T>& row);
  // squared[i] = |x_i|^2 of kRowsTogether rows.
  void (*squared_norms)(const T* const* rows, const int64_t* quad, int64_t quads, double* squared);
  // sum[d] += weight x_d.
  void (*add_to)(double* sum, const Row<T>& row, double weight);
  // sum_d x_d y[d].
  double (*dot)(const Row<T>& row, const double* y);
  // Of kRowsTogether rows: what lies along x_i is taken off the gradient, the rest divided by the norm.
  void (*project)(const T* const* rows, const int64_t* quad, int64_t quads, const GradientRow<T>* gradient,
                  const int64_t* out_quad);
};

// The kernels for this processor; float64 has the portable ones only.
template <typename T>
const TileKernels<T>& tile_kernels();

}  // namespace cgckit::cpu
