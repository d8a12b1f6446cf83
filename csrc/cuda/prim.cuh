// Every intrinsic and line of assembly that the CUDA kernels use, each with a body for the device and a model
// for the host. The rest of the kernels is ordinary C++: tests/simt runs the same source on the CPU.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../common/macros.h"
#include "number.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#define CGCKIT_KERNEL(threads) __global__ void __launch_bounds__(threads, 2)
#define CGCKIT_DEVICE __device__ __forceinline__
#define CGCKIT_UNROLL _Pragma("unroll")
#define CGCKIT_UNROLL_BY(n) CGCKIT_PRAGMA(unroll n)
#define CGCKIT_PRAGMA(text) _Pragma(#text)
#else
#include "simt.h"  // the host runner
#define CGCKIT_KERNEL(threads) void
#define CGCKIT_DEVICE inline
#define CGCKIT_UNROLL
#define CGCKIT_UNROLL_BY(n)
#endif

namespace cgckit::cuda {

namespace prim {

constexpr int kLanes = 32;

#if defined(__CUDACC__)

CGCKIT_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
CGCKIT_DEVICE int64_t block() { return blockIdx.x; }
CGCKIT_DEVICE void barrier() { __syncthreads(); }

CGCKIT_DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(16) unsigned char bytes[];
  return bytes;
}

template <typename V>
CGCKIT_DEVICE V shuffle_xor(V value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

// Copies 16 bytes, aligned so, to shared memory in the background, or zeros if not `valid`. They are there
// for the thread itself once it has waited for them, for others after a barrier that follows.
CGCKIT_DEVICE void copy_async(void* to, const void* from, bool valid) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}

// Ends a group of copies, which may be empty.
CGCKIT_DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for all of this thread's groups but the last kPending.
template <int kPending>
CGCKIT_DEVICE void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four matrices of 8 rows of 16 bytes in shared memory: lane 8 j + r hands in row r of matrix j. Lane 4 g + t
// gets of every matrix the four bytes t of row g; transposed, of 16-bit elements, those of rows 2t and 2t + 1
// in column g.
CGCKIT_DEVICE void load_matrices(uint32_t (&out)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}
CGCKIT_DEVICE void load_transposed_matrices(uint32_t (&out)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

CGCKIT_DEVICE uint32_t bits_of(float x) { return __float_as_uint(x); }
CGCKIT_DEVICE float float_of(uint32_t bits) { return __uint_as_float(bits); }

CGCKIT_DEVICE float to_float(float x) { return x; }
CGCKIT_DEVICE double to_float(double x) { return x; }
CGCKIT_DEVICE float to_float(BFloat16 x) { return __uint_as_float(static_cast<uint32_t>(x.bits) << 16); }
CGCKIT_DEVICE float to_float(Float16 x) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(x.bits));
  return value;
}

template <typename T>
CGCKIT_DEVICE T rounded(double x) {
  if constexpr (sizeof(T) > 2) {
    return static_cast<T>(x);
  } else {
    T value;
    const float single = static_cast<float>(x);
    if constexpr (std::is_same_v<T, Float16>) {
      asm("cvt.rn.f16.f32 %0, %1;" : "=h"(value.bits) : "f"(single));
    } else {
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(value.bits) : "f"(single));
    }
    return value;
  }
}

// 2^x to 2^-22 of it; results below 2^-126 are zero.
CGCKIT_DEVICE float exp2(float x) {
  float value;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
  return value;
}

// c [16, 8] += a [16, 16] b [16, 8] over a warp. Lane 4 g + t holds, of
//   a: (g, 2t..), (g + 8, 2t..), (g, 2t + 8..), (g + 8, 2t + 8..), pairs along the second index;
//   b: (2t.., g), (2t + 8.., g), pairs along the first;     c: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t
//   + 1).
CGCKIT_DEVICE void multiply_add(Float16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
CGCKIT_DEVICE void multiply_add(BFloat16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// c [16, 8] = a [16, 8] b [8, 8] in tf32, or += if kAdd; of operands the last 13 bits are not read. Lane 4 g
// + t holds, of
//   a: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4);     b: (t, g), (t + 4, g);     c: as above.
template <bool kAdd>
CGCKIT_DEVICE void multiply_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (kAdd) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%10,%10,%10};"
        : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(0.0f));
  }
}

using Stream = cudaStream_t;

inline void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(std::string("cgckit: ") + cudaGetErrorString(status));
}

// Of the current device.
inline int64_t processors() {
  int device = 0, count = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

// Starts kernel(arguments...) on `blocks` blocks, none if it is 0.
template <typename... P, typename... A>
void launch(void (*kernel)(P...), int64_t blocks, int threads, size_t shared_bytes, Stream stream,
            A... arguments) {
  constexpr size_t kWithoutAsking = 48 * 1024;
  if (blocks == 0) return;
  if (blocks > INT32_MAX) throw std::runtime_error("cgckit: too many patches for one launch");
  if (shared_bytes > kWithoutAsking) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)));
  }
  kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads), shared_bytes, stream>>>(
      P(arguments)...);
  check(cudaGetLastError());
}

#else  // the host models

inline int thread() { return simt::thread(); }
inline int64_t block() { return simt::block(); }
inline void barrier() { simt::barrier(); }
inline unsigned char* shared_memory() { return simt::shared_memory(); }

template <typename V>
V shuffle_xor(V value, int mask) {
  return simt::exchange(value)[thread() % kLanes ^ mask];
}

inline void copy_async(void* to, const void* from, bool valid) { simt::copy_async(to, from, 16, valid); }
inline void copy_commit() { simt::copy_commit(); }
template <int kPending>
void copy_wait() {
  simt::copy_wait(kPending);
}

inline void load_matrices(uint32_t (&out)[4], const void* row) {
  const void* const* rows = simt::exchange(simt::aligned(row, 16));
  const int lane = thread() % kLanes;
  for (int j = 0; j < 4; ++j) out[j] = static_cast<const uint32_t*>(rows[8 * j + lane / 4])[lane % 4];
}
inline void load_transposed_matrices(uint32_t (&out)[4], const void* row) {
  const void* const* rows = simt::exchange(simt::aligned(row, 16));
  const int lane = thread() % kLanes;
  for (int j = 0; j < 4; ++j) {
    const auto element = [&](int r) {
      return uint32_t{static_cast<const uint16_t*>(rows[8 * j + r])[lane / 4]};
    };
    out[j] = element(lane % 4 * 2) | element(lane % 4 * 2 + 1) << 16;
  }
}

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline float to_float(float x) { return x; }
inline double to_float(double x) { return x; }
inline float to_float(BFloat16 x) { return float_of(static_cast<uint32_t>(x.bits) << 16); }
inline float to_float(Float16 x) {
  _Float16 value;
  std::memcpy(&value, &x, sizeof value);
  return static_cast<float>(value);
}

template <typename T>
T rounded(double x) {
  if constexpr (sizeof(T) > 2) {
    return static_cast<T>(x);
  } else if constexpr (std::is_same_v<T, Float16>) {
    const _Float16 value = static_cast<_Float16>(static_cast<float>(x));
    T result;
    std::memcpy(&result, &value, sizeof result);
    return result;
  } else {
    const float single = static_cast<float>(x);
    const uint32_t bits = bits_of(single);
    if (std::isnan(single)) return T{0x7fff};
    return T{static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
  }
}

// Off by the most that the device's instruction may be, upwards or downwards as the argument's last bit says.
inline float exp2(float x) {
  const double error = bits_of(x) & 1 ? 0x1p-22 : -0x1p-22;
  const double value = std::exp2(static_cast<double>(x)) * (1 + error);
  return value < 0x1p-126 ? 0.0f : static_cast<float>(value);
}

struct Fragments {
  uint32_t a[4];
  uint32_t b[2];
};

inline void add_products(const Fragments* lanes, float (&c)[4], int depth,
                         float (*a)(const Fragments*, int, int), float (*b)(const Fragments*, int, int)) {
  const int g = thread() % kLanes / 4, t = thread() % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = g + i / 2 * 8, column = 2 * t + i % 2;
    for (int k = 0; k < depth; ++k) c[i] += a(lanes, row, k) * b(lanes, k, column);
  }
}

template <typename T>
float half_of(uint32_t pair, int which) {
  return to_float(T{static_cast<uint16_t>(pair >> 16 * which)});
}

template <typename T>
void multiply_add(T, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const Fragments* lanes = simt::exchange(Fragments{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
  add_products(
      lanes, c, 16,
      [](const Fragments* of, int row, int k) {
        return half_of<T>(of[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2], k % 2);
      },
      [](const Fragments* of, int k, int column) {
        return half_of<T>(of[column * 4 + k % 8 / 2].b[k / 8], k % 2);
      });
}

template <bool kAdd>
void multiply_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  for (int i = 0; i < 4 && !kAdd; ++i) c[i] = 0;
  const Fragments* lanes = simt::exchange(Fragments{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
  // The device reads no more than 19 of the 32 bits.
  add_products(
      lanes, c, 8,
      [](const Fragments* of, int row, int k) {
        return float_of(of[row % 8 * 4 + k % 4].a[row / 8 + k / 4 * 2] & ~uint32_t{0x1fff});
      },
      [](const Fragments* of, int k, int column) {
        return float_of(of[column * 4 + k % 4].b[k / 4] & ~uint32_t{0x1fff});
      });
}

using Stream = void*;

inline int64_t processors() { return simt::kProcessors; }

template <typename... P, typename... A>
void launch(void (*kernel)(P...), int64_t blocks, int threads, size_t shared_bytes, Stream, A... arguments) {
  simt::launch([&] { kernel(P(arguments)...); }, blocks, threads, shared_bytes);
}

#endif

}  // namespace prim
}  // namespace cgckit::cuda
