#include "tile.h"

#include "../common/exp2.h"
#include "capability.h"

#if CGCKIT_HAS_AVX2
#include <immintrin.h>
#endif

namespace cgckit::cpu {
namespace {

constexpr int64_t kLanes = 16;

template <typename T>
CGCKIT_INLINE ExpSums<T> exp_sums(const TileRow<T>& row, T scale, T shift) {
  const T* gram = row.gram;
  const T* inverse_norm = row.inverse_norm;
  const T row_scale = row.row_scale;
  T z[kLanes] = {}, weighted[kLanes] = {};
  const int64_t whole = row.count / kLanes * kLanes;
  for (int64_t k = 0; k < whole; k += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const T s = gram[k + lane] * row_scale * inverse_norm[k + lane];
      const T e = exp2_nonpositive((s - shift) * scale);
      z[lane] += e;
      weighted[lane] += e * s;
    }
  }
  for (int64_t k = whole; k < row.count; ++k) {
    const T s = gram[k] * row_scale * inverse_norm[k];
    const T e = exp2_nonpositive((s - shift) * scale);
    z[k - whole] += e;
    weighted[k - whole] += e * s;
  }
  ExpSums<T> sums;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    sums.z += z[lane];
    sums.weighted += weighted[lane];
  }
  return sums;
}

template <typename T>
CGCKIT_INLINE void softmax_weights(const TileRow<T>& row, T scale, T shift, T factor) {
  T* gram = row.gram;
  const T* inverse_norm = row.inverse_norm;
  const T row_scale = row.row_scale;
  const int64_t count = row.count;
  for (int64_t k = 0; k < count; ++k) {
    const T s = gram[k] * row_scale * inverse_norm[k];
    gram[k] = factor * exp2_nonpositive((s - shift) * scale);
  }
}

template <typename T>
CGCKIT_INLINE T largest(const TileRow<T>& row) {
  const T* gram = row.gram;
  const T* inverse_norm = row.inverse_norm;
  const T row_scale = row.row_scale;
  T best[kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) best[lane] = T(-1);
  const int64_t whole = row.count / kLanes * kLanes;
  for (int64_t k = 0; k < whole; k += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const T s = gram[k + lane] * row_scale * inverse_norm[k + lane];
      best[lane] = s > best[lane] ? s : best[lane];
    }
  }
  for (int64_t k = whole; k < row.count; ++k) {
    const T s = gram[k] * row_scale * inverse_norm[k];
    best[0] = s > best[0] ? s : best[0];
  }
  for (int64_t lane = 1; lane < kLanes; ++lane) best[0] = best[lane] > best[0] ? best[lane] : best[0];
  return best[0];
}

template <typename T>
void multiply_scalar(int64_t depth, const T* a, const T* b, T* c, int64_t ldc) {
  T sum[kPanelRows][kPanelColumns] = {};
  for (int64_t k = 0; k < depth; ++k, a += kPanelRows, b += kPanelColumns) {
    for (int64_t i = 0; i < kPanelRows; ++i) {
      for (int64_t j = 0; j < kPanelColumns; ++j) sum[i][j] += a[i] * b[j];
    }
  }
  for (int64_t i = 0; i < kPanelRows; ++i) {
    for (int64_t j = 0; j < kPanelColumns; ++j) c[i * ldc + j] += sum[i][j];
  }
}

template <typename T>
ExpSums<T> exp_sums_scalar(const TileRow<T>& row, T scale, T shift) {
  return exp_sums(row, scale, shift);
}

template <typename T>
void softmax_weights_scalar(const TileRow<T>& row, T scale, T shift, T factor) {
  softmax_weights(row, scale, shift, factor);
}

template <typename T>
T largest_scalar(const TileRow<T>& row) {
  return largest(row);
}

template <typename T>
constexpr TileKernels<T> kScalarKernels = {multiply_scalar<T>, exp_sums_scalar<T>, softmax_weights_scalar<T>,
                                           largest_scalar<T>};

#if CGCKIT_HAS_AVX2
// Twelve accumulators, two registers of b and one of a: 15 of the 16 there are.
CGCKIT_TARGET_AVX2 void multiply_avx2(int64_t depth, const float* a, const float* b, float* c, int64_t ldc) {
  __m256 sum[kPanelRows][2];
#pragma GCC unroll 6
  for (int i = 0; i < kPanelRows; ++i) sum[i][0] = sum[i][1] = _mm256_setzero_ps();
  for (int64_t k = 0; k < depth; ++k, a += kPanelRows, b += kPanelColumns) {
    const __m256 left = _mm256_load_ps(b);
    const __m256 right = _mm256_load_ps(b + 8);
#pragma GCC unroll 6
    for (int i = 0; i < kPanelRows; ++i) {
      const __m256 row = _mm256_broadcast_ss(a + i);
      sum[i][0] = _mm256_fmadd_ps(row, left, sum[i][0]);
      sum[i][1] = _mm256_fmadd_ps(row, right, sum[i][1]);
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < kPanelRows; ++i) {
    float* out = c + i * ldc;
    _mm256_storeu_ps(out, _mm256_add_ps(_mm256_loadu_ps(out), sum[i][0]));
    _mm256_storeu_ps(out + 8, _mm256_add_ps(_mm256_loadu_ps(out + 8), sum[i][1]));
  }
}

CGCKIT_TARGET_AVX2 ExpSums<float> exp_sums_avx2(const TileRow<float>& row, float scale, float shift) {
  return exp_sums(row, scale, shift);
}

CGCKIT_TARGET_AVX2 void softmax_weights_avx2(const TileRow<float>& row, float scale, float shift,
                                             float factor) {
  softmax_weights(row, scale, shift, factor);
}

CGCKIT_TARGET_AVX2 float largest_avx2(const TileRow<float>& row) { return largest(row); }

constexpr TileKernels<float> kAvx2Kernels = {multiply_avx2, exp_sums_avx2, softmax_weights_avx2,
                                             largest_avx2};
#endif

}  // namespace

template <>
const TileKernels<float>& tile_kernels<float>() {
#if CGCKIT_HAS_AVX2
  if (capability() == Capability::kAvx2) return kAvx2Kernels;
#endif
  return kScalarKernels<float>;
}

template <>
const TileKernels<double>& tile_kernels<double>() {
  return kScalarKernels<double>;
}

}  // namespace cgckit::cpu
