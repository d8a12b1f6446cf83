#include "tile.h"

#include <cstring>

#include "../common/exp2.h"
#include "capability.h"

#if CGCKIT_X86
#include <immintrin.h>
#endif

namespace cgckit::cpu {
namespace {

// Four numbers side by side, in registers of whatever width the caller is compiled for.
template <typename T>
struct Vector;
template <>
struct Vector<float> {
  typedef float type __attribute__((vector_size(16)));
};
template <>
struct Vector<double> {
  typedef double type __attribute__((vector_size(32)));
};
template <typename T>
using Quad = typename Vector<T>::type;
using DoubleQuad = Quad<double>;

template <typename T>
CGCKIT_INLINE void load(const T* from, Quad<T>& value) {
  std::memcpy(&value, from, sizeof value);
}
template <typename T>
CGCKIT_INLINE void store(T* to, const Quad<T>& value) {
  std::memcpy(to, &value, sizeof value);
}
// Number by number: of __builtin_convertvector, GCC 12 makes halves that go through memory.
template <typename T>
CGCKIT_INLINE void widen(const Quad<T>& value, DoubleQuad& wide) {
  wide = DoubleQuad{value[0], value[1], value[2], value[3]};
}

// Numbers a, b, c and d of the eight in two quads.
template <typename T, int a, int b, int c, int d>
CGCKIT_INLINE void shuffle(const Quad<T>& low, const Quad<T>& high, Quad<T>& chosen) {
#if defined(__clang__)
  chosen = __builtin_shufflevector(low, high, a, b, c, d);
#else
  chosen = __builtin_shuffle(low, high, decltype(low < high){a, b, c, d});  // GCC 11 has no other
#endif
}

CGCKIT_INLINE double sum_of(const DoubleQuad& value) { return (value[0] + value[2]) + (value[1] + value[3]); }

// Rows and columns of a micro-kernel's tile.
template <int kRows, int kColumns>
struct Panel {
  static constexpr int64_t rows = kRows;
  static constexpr int64_t columns = kColumns;
};
using NarrowPanel = Panel<6, 16>;
using WidePanel = Panel<kMostRows, kMostColumns>;

template <typename P, typename T>
CGCKIT_INLINE void multiply(int64_t inner, const T* a, int64_t row, int64_t step, const T* b, T* c,
                            int64_t ldc, bool add) {
  T sum[P::rows][P::columns] = {};
  for (int64_t k = 0; k < inner; ++k, a += step, b += P::columns) {
    for (int64_t i = 0; i < P::rows; ++i) {
      for (int64_t j = 0; j < P::columns; ++j) sum[i][j] += a[i * row] * b[j];
    }
  }
  for (int64_t i = 0; i < P::rows; ++i) {
    for (int64_t j = 0; j < P::columns; ++j) c[i * ldc + j] = add ? c[i * ldc + j] + sum[i][j] : sum[i][j];
  }
}

// Patches are read in pieces of a few elements, which no processor foresees: asks for those some quads
// ahead.
template <int64_t kRows, typename T>
CGCKIT_INLINE void prefetch_quads(const T* const* rows, const int64_t* quad, int64_t quads, int64_t q) {
  constexpr int64_t kAhead = 12;
  constexpr int64_t kRowsOfLine = 4;
  if (q + kAhead >= quads) return;
  for (int64_t r = 0; r < kRows; r += kRowsOfLine) __builtin_prefetch(rows[r] + quad[q + kAhead]);
}

template <typename P, typename T>
CGCKIT_INLINE void pack_columns(const T* const* rows, const int64_t* quad, int64_t quads, T* packed) {
  for (int64_t q = 0; q < quads; ++q, packed += kQuad * P::columns) {
    prefetch_quads<P::columns>(rows, quad, quads, q);
    for (int64_t r = 0; r < P::columns; r += kQuad) {
      Quad<T> x0, x1, x2, x3;
      load(rows[r] + quad[q], x0);
      load(rows[r + 1] + quad[q], x1);
      load(rows[r + 2] + quad[q], x2);
      load(rows[r + 3] + quad[q], x3);
      Quad<T> low01, high01, low23, high23, column;
      shuffle<T, 0, 4, 1, 5>(x0, x1, low01);
      shuffle<T, 2, 6, 3, 7>(x0, x1, high01);
      shuffle<T, 0, 4, 1, 5>(x2, x3, low23);
      shuffle<T, 2, 6, 3, 7>(x2, x3, high23);
      shuffle<T, 0, 1, 4, 5>(low01, low23, column);
      store<T>(packed + r, column);
      shuffle<T, 2, 3, 6, 7>(low01, low23, column);
      store<T>(packed + P::columns + r, column);
      shuffle<T, 0, 1, 4, 5>(high01, high23, column);
      store<T>(packed + 2 * P::columns + r, column);
      shuffle<T, 2, 3, 6, 7>(high01, high23, column);
      store<T>(packed + 3 * P::columns + r, column);
    }
  }
}

template <typename P, typename T>
CGCKIT_INLINE void pack_rows(const T* const* rows, const T* scale, int64_t count, const int64_t* quad,
                             int64_t quads, T* packed) {
  constexpr int64_t kQuads = P::columns / kQuad;
  constexpr int64_t kAhead = 16;
  for (int64_t k = 0; k < count; ++k, packed += P::columns) {
    const T* ahead = rows[k + kAhead < count ? k + kAhead : count - 1];
    for (int64_t q = 0; q < quads; ++q) __builtin_prefetch(ahead + quad[q]);
    Quad<T> x;
    for (int64_t q = 0; q < kQuads; ++q) {
      x = Quad<T>{};
      if (q < quads) load(rows[k] + quad[q], x);
      store<T>(packed + q * kQuad, x * scale[k]);
    }
  }
}

constexpr int64_t kLanes = 16;

template <typename T>
CGCKIT_INLINE ExpSums<T> exponentials(const GramRow<T>& row, T scale, T shift) {
  T* gram = row.gram;
  const T* inverse_norm = row.inverse_norm;
  const T row_scale = row.row_scale;
  T z[kLanes] = {}, weighted[kLanes] = {};
  const int64_t whole = row.count / kLanes * kLanes;
  for (int64_t k = 0; k < whole; k += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const T s = gram[k + lane] * row_scale * inverse_norm[k + lane];
      const T e = exp2_nonpositive((s - shift) * scale);
      gram[k + lane] = e;
      z[lane] += e;
      weighted[lane] += e * s;
    }
  }
  for (int64_t k = whole; k < row.count; ++k) {
    const T s = gram[k] * row_scale * inverse_norm[k];
    const T e = exp2_nonpositive((s - shift) * scale);
    gram[k] = e;
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
CGCKIT_INLINE T largest(const GramRow<T>& row) {
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
CGCKIT_INLINE void squared_norms(const T* const* rows, const int64_t* quad, int64_t quads, double* squared) {
  DoubleQuad sum[kRowsTogether] = {};
  for (int64_t q = 0; q < quads; ++q) {
    prefetch_quads<kRowsTogether>(rows, quad, quads, q);
    for (int64_t i = 0; i < kRowsTogether; ++i) {
      Quad<T> x;
      load(rows[i] + quad[q], x);
      DoubleQuad wide;
      widen<T>(x, wide);
      sum[i] += wide * wide;
    }
  }
  for (int64_t i = 0; i < kRowsTogether; ++i) squared[i] = sum_of(sum[i]);
}

template <typename T>
CGCKIT_INLINE void add_to(double* sum, const Row<T>& row, double weight) {
  for (int64_t q = 0; q < row.quads; ++q) {
    prefetch_quads<1>(&row.first, row.quad, row.quads, q);
    Quad<T> x;
    DoubleQuad wide, total;
    load(row.first + row.quad[q], x);
    load(sum + q * kQuad, total);
    widen<T>(x, wide);
    store<double>(sum + q * kQuad, total + weight * wide);
  }
}

template <typename T>
CGCKIT_INLINE double dot(const Row<T>& row, const double* y) {
  DoubleQuad sum[2] = {};
  for (int64_t q = 0; q < row.quads; ++q) {
    prefetch_quads<1>(&row.first, row.quad, row.quads, q);
    Quad<T> x;
    DoubleQuad wide, other;
    load(row.first + row.quad[q], x);
    load(y + q * kQuad, other);
    widen<T>(x, wide);
    sum[q % 2] += wide * other;
  }
  return sum_of(sum[0] + sum[1]);
}

template <typename T>
CGCKIT_INLINE void project(const T* const* rows, const int64_t* quad, int64_t quads,
                           const GradientRow<T>* gradient, const int64_t* out_quad) {
  DoubleQuad sum[kRowsTogether] = {};
  for (int64_t q = 0; q < quads; ++q) {
    prefetch_quads<kRowsTogether>(rows, quad, quads, q);
    for (int64_t i = 0; i < kRowsTogether; ++i) {
      Quad<T> x, unit;
      load(rows[i] + quad[q], x);
      load(gradient[i].unit + q * kQuad, unit);
      DoubleQuad wide_x, wide_unit;
      widen<T>(x, wide_x);
      widen<T>(unit, wide_unit);
      sum[i] += wide_x * wide_unit;
    }
  }
  T along[kRowsTogether], scale[kRowsTogether];
  for (int64_t i = 0; i < kRowsTogether; ++i) {
    const double inverse_norm = static_cast<double>(gradient[i].inverse_norm);
    scale[i] = gradient[i].scale * gradient[i].inverse_norm;
    along[i] = static_cast<T>(sum_of(sum[i]) * inverse_norm * inverse_norm);
  }
  for (int64_t q = 0; q < quads; ++q) {
    for (int64_t i = 0; i < kRowsTogether; ++i) {
      Quad<T> x, unit;
      load(rows[i] + quad[q], x);
      load(gradient[i].unit + q * kQuad, unit);
      store<T>(gradient[i].out + out_quad[q], (unit - along[i] * x) * scale[i]);
    }
  }
}

// One function per kernel and instruction set, compiled for it.
#define CGCKIT_KERNELS(TARGET, NAME, T, PANEL)                                                             \
  struct NAME {                                                                                            \
    TARGET static void pack_columns(const T* const* rows, const int64_t* quad, int64_t quads, T* packed) { \
      cpu::pack_columns<PANEL>(rows, quad, quads, packed);                                                 \
    }                                                                                                      \
    TARGET static void pack_rows(const T* const* rows, const T* scale, int64_t count, const int64_t* quad, \
                                 int64_t quads, T* packed) {                                               \
      cpu::pack_rows<PANEL>(rows, scale, count, quad, quads, packed);                                      \
    }                                                                                                      \
    TARGET static ExpSums<T> exponentials(const GramRow<T>& row, T scale, T shift) {                       \
      return cpu::exponentials(row, scale, shift);                                                         \
    }                                                                                                      \
    TARGET static T largest(const GramRow<T>& row) { return cpu::largest(row); }                           \
    TARGET static void squared_norms(const T* const* rows, const int64_t* quad, int64_t quads,             \
                                     double* squared) {                                                    \
      cpu::squared_norms(rows, quad, quads, squared);                                                      \
    }                                                                                                      \
    TARGET static void add_to(double* sum, const Row<T>& row, double weight) {                             \
      cpu::add_to(sum, row, weight);                                                                       \
    }                                                                                                      \
    TARGET static double dot(const Row<T>& row, const double* y) { return cpu::dot(row, y); }              \
    TARGET static void project(const T* const* rows, const int64_t* quad, int64_t quads,                   \
                               const GradientRow<T>* gradient, const int64_t* out_quad) {                  \
      cpu::project(rows, quad, quads, gradient, out_quad);                                                 \
    }                                                                                                      \
    static constexpr TileKernels<T> with(decltype(TileKernels<T>::multiply) multiply) {                    \
      return {PANEL::rows, PANEL::columns, multiply, pack_columns, pack_rows, exponentials,                \
              largest,     squared_norms,  add_to,   dot,          project};                               \
    }                                                                                                      \
  };

CGCKIT_KERNELS(, PortableFloat, float, NarrowPanel)
CGCKIT_KERNELS(, PortableDouble, double, NarrowPanel)
constexpr TileKernels<float> kPortableFloat = PortableFloat::with(multiply<NarrowPanel, float>);
constexpr TileKernels<double> kPortableDouble = PortableDouble::with(multiply<NarrowPanel, double>);

#if CGCKIT_X86
// Twelve accumulators, two registers of b and one of a: 15 of the 16 there are.
CGCKIT_TARGET_AVX2 void multiply_avx2(int64_t inner, const float* a, int64_t row, int64_t step,
                                      const float* b, float* c, int64_t ldc, bool add) {
  __m256 sum[NarrowPanel::rows][2];
#pragma GCC unroll 6
  for (int i = 0; i < NarrowPanel::rows; ++i) sum[i][0] = sum[i][1] = _mm256_setzero_ps();
  for (int64_t k = 0; k < inner; ++k, a += step, b += NarrowPanel::columns) {
    const __m256 left = _mm256_load_ps(b);
    const __m256 right = _mm256_load_ps(b + 8);
#pragma GCC unroll 6
    for (int i = 0; i < NarrowPanel::rows; ++i) {
      const __m256 value = _mm256_broadcast_ss(a + i * row);
      sum[i][0] = _mm256_fmadd_ps(value, left, sum[i][0]);
      sum[i][1] = _mm256_fmadd_ps(value, right, sum[i][1]);
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < NarrowPanel::rows; ++i) {
    float* out = c + i * ldc;
    if (add) {
      sum[i][0] = _mm256_add_ps(_mm256_loadu_ps(out), sum[i][0]);
      sum[i][1] = _mm256_add_ps(_mm256_loadu_ps(out + 8), sum[i][1]);
    }
    _mm256_storeu_ps(out, sum[i][0]);
    _mm256_storeu_ps(out + 8, sum[i][1]);
  }
}

CGCKIT_KERNELS(CGCKIT_TARGET_AVX2, Avx2Float, float, NarrowPanel)
constexpr TileKernels<float> kAvx2Float = Avx2Float::with(multiply_avx2);

// 24 accumulators, two registers of b and one of a: 27 of the 32 there are.
CGCKIT_TARGET_AVX512 void multiply_avx512(int64_t inner, const float* a, int64_t row, int64_t step,
                                          const float* b, float* c, int64_t ldc, bool add) {
  __m512 sum[WidePanel::rows][2];
#pragma GCC unroll 12
  for (int i = 0; i < WidePanel::rows; ++i) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
  for (int64_t k = 0; k < inner; ++k, a += step, b += WidePanel::columns) {
    const __m512 left = _mm512_load_ps(b);
    const __m512 right = _mm512_load_ps(b + 16);
#pragma GCC unroll 12
    for (int i = 0; i < WidePanel::rows; ++i) {
      const __m512 value = _mm512_set1_ps(a[i * row]);
      sum[i][0] = _mm512_fmadd_ps(value, left, sum[i][0]);
      sum[i][1] = _mm512_fmadd_ps(value, right, sum[i][1]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < WidePanel::rows; ++i) {
    float* out = c + i * ldc;
    if (add) {
      sum[i][0] = _mm512_add_ps(_mm512_loadu_ps(out), sum[i][0]);
      sum[i][1] = _mm512_add_ps(_mm512_loadu_ps(out + 16), sum[i][1]);
    }
    _mm512_storeu_ps(out, sum[i][0]);
    _mm512_storeu_ps(out + 16, sum[i][1]);
  }
}

CGCKIT_KERNELS(CGCKIT_TARGET_AVX512, Avx512Float, float, WidePanel)
constexpr TileKernels<float> kAvx512Float = Avx512Float::with(multiply_avx512);
#endif
#undef CGCKIT_KERNELS

}  // namespace

template <>
const TileKernels<float>& tile_kernels<float>() {
#if CGCKIT_X86
  if (capability() == Capability::kAvx512) return kAvx512Float;
  if (capability() == Capability::kAvx2) return kAvx2Float;
#endif
  return kPortableFloat;
}

template <>
const TileKernels<double>& tile_kernels<double>() {
  return kPortableDouble;
}

}  // namespace cgckit::cpu
