// A block's tile of a matrix product C [rows, columns] = A [rows, inner] B [inner, columns], its sums held in
// registers, its operands taken from shared memory a step of the inner dimension at a time.
//
// A thread owns the elements (row(m), column(n)), m < kM and n < kN; every row is shared by kSlots threads.
#pragma once

#include "../common/exp2.h"
#include "members.cuh"

namespace cgckit::cuda {

// Which way an operand lies in shared memory: contiguous along the inner dimension or along its own.
enum class Along { kInner, kOuter };

constexpr int kStepBytes = 64;  // a step of the inner dimension, of an operand's row

// Elements between two rows of an operand in shared memory. The padding spreads what a warp reads at a time
// over all banks.
template <typename T>
constexpr int row_pitch(Along along, int length) {
  return length + (along == Along::kInner ? 16 / static_cast<int>(sizeof(T)) : 8);
}

template <typename V>
struct alignas(16) Quad {
  static constexpr int kSize = 16 / static_cast<int>(sizeof(V));
  V v[kSize];
};

// Fused multiply-adds of T, float or double.
template <typename T, int kRows, int kColumns, Along kAlongB>
class SimtTile {
 public:
  static constexpr int kQuad = Quad<T>::kSize;
  static constexpr int kM = kRows / 8, kN = kColumns / 16;
  static constexpr int kSlots = 16;

  CGCKIT_DEVICE SimtTile() {
    CGCKIT_UNROLL
    for (int m = 0; m < kM; ++m) {
      CGCKIT_UNROLL
      for (int n = 0; n < kN; ++n) sum[m][n] = T(0);
    }
  }

  template <Along kAlongA = Along::kInner>
  CGCKIT_DEVICE static int row(int m) {
    return index<kAlongA, 8>(prim::thread() / 16, m);
  }
  CGCKIT_DEVICE static int column(int n) { return index<kAlongB, 16>(prim::thread() % 16, n); }
  CGCKIT_DEVICE static int slot() { return prim::thread() % 16; }

  // Adds `kInner` steps of the inner dimension.
  template <Along kAlongA, int kInner>
  CGCKIT_DEVICE void multiply(const T* a, int pitch_a, const T* b, int pitch_b) {
    const int thread_row = prim::thread() / 16, thread_column = prim::thread() % 16;
    CGCKIT_UNROLL_BY(1)
    for (int k = 0; k < kInner; k += kQuad) {
      T left[kM][kQuad];
      CGCKIT_UNROLL
      for (int m = 0; m < kM; m += kQuad) load<kAlongA, 8>(a, pitch_a, k, thread_row, m, left + m);
      CGCKIT_UNROLL
      for (int n = 0; n < kN; n += kQuad) {
        T right[kQuad][kQuad];
        load<kAlongB, 16>(b, pitch_b, k, thread_column, n, right);
        CGCKIT_UNROLL
        for (int v = 0; v < kQuad; ++v) {
          CGCKIT_UNROLL
          for (int m = 0; m < kM; ++m) {
            CGCKIT_UNROLL
            for (int e = 0; e < kQuad; ++e) sum[m][n + e] += left[m][v] * right[e][v];
          }
        }
      }
    }
  }

  T sum[kM][kN];

 private:
  // Of `kSpan` threads, which row or column is number i of a thread's.
  template <Along kAlong, int kSpan>
  CGCKIT_DEVICE static int index(int thread, int i) {
    return kAlong == Along::kInner ? thread + kSpan * i : (i / kQuad * kSpan + thread) * kQuad + i % kQuad;
  }

  // out[e][v] = element (index(first + e), k + v) of an operand, by loads of 16 bytes.
  template <Along kAlong, int kSpan>
  CGCKIT_DEVICE static void load(const T* operand, int pitch, int k, int thread, int first, T (*out)[kQuad]) {
    CGCKIT_UNROLL
    for (int j = 0; j < kQuad; ++j) {
      const int line = kAlong == Along::kInner ? index<kAlong, kSpan>(thread, first + j) : k + j;
      const int begin = kAlong == Along::kInner ? k : index<kAlong, kSpan>(thread, first);
      const Quad<T> quad = *reinterpret_cast<const Quad<T>*>(operand + line * pitch + begin);
      CGCKIT_UNROLL
      for (int i = 0; i < kQuad; ++i) {
        (kAlong == Along::kInner ? out[j][i] : out[i][j]) = quad.v[i];
      }
    }
  }
};

// Tensor cores: T is Float16 or BFloat16. Products of two operands of T are exact; float operands are rounded
// to tf32, which holds every T. Each of four warps owns 32 rows of the tile.
template <typename T, int kRows, int kColumns, Along kAlongB>
class MmaTile {
 public:
  static constexpr int kWarpRows = kRows / 32;
  static constexpr int kWarpColumns = kThreads / prim::kLanes / kWarpRows;
  static constexpr int kWidth = kColumns / kWarpColumns;  // columns of a warp
  static constexpr int kM = 4, kN = kWidth / 4;
  static constexpr int kSlots = 4 * kWarpColumns;

  CGCKIT_DEVICE MmaTile() {
    CGCKIT_UNROLL
    for (int m = 0; m < kM; ++m) {
      CGCKIT_UNROLL
      for (int n = 0; n < kN; ++n) sum[m][n] = 0;
    }
  }

  template <Along = Along::kInner>
  CGCKIT_DEVICE static int row(int m) {
    return first_row() + m * 8 + group();
  }
  CGCKIT_DEVICE static int column(int n) { return first_column() + n / 2 * 8 + 2 * member() + n % 2; }
  CGCKIT_DEVICE static int slot() { return warp() % kWarpColumns * 4 + member(); }

  // Both operands along the inner dimension.
  template <Along kAlongA, int kInner>
  CGCKIT_DEVICE void multiply(const T* a, int pitch_a, const T* b, int pitch_b) {
    static_assert(kAlongA == Along::kInner && kAlongB == Along::kInner);
    CGCKIT_UNROLL
    for (int k = 0; k < kInner; k += 16) {
      uint32_t left[2][4];
      CGCKIT_UNROLL
      for (int i = 0; i < 2; ++i) {
        CGCKIT_UNROLL
        for (int j = 0; j < 4; ++j) {
          const T* pair = a + row(2 * i + j % 2) * pitch_a + k + j / 2 * 8 + 2 * member();
          left[i][j] = prim::pair_bits(&pair->bits);
        }
      }
      CGCKIT_UNROLL
      for (int n = 0; n < kN; n += 2) {
        const T* pair = b + (first_column() + n * 4 + group()) * pitch_b + k + 2 * member();
        add(n, left, {prim::pair_bits(&pair->bits), prim::pair_bits(&(pair + 8)->bits)},
            [](float (&c)[4], const uint32_t (&l)[4], const uint32_t (&r)[2]) {
              prim::multiply_add(T{}, c, l, r);
            });
      }
    }
  }

  template <Along kAlongA, int kInner>
  CGCKIT_DEVICE void multiply(const float* a, int pitch_a, const T* b, int pitch_b) {
    static_assert(kAlongB == Along::kOuter);
    CGCKIT_UNROLL
    for (int k = 0; k < kInner; k += 8) {
      uint32_t left[2][4];
      CGCKIT_UNROLL
      for (int i = 0; i < 2; ++i) {
        CGCKIT_UNROLL
        for (int j = 0; j < 4; ++j) {
          const int r = row(2 * i + j % 2), inner = k + j / 2 * 4 + member();
          left[i][j] =
              prim::tf32_bits(kAlongA == Along::kInner ? a[r * pitch_a + inner] : a[inner * pitch_a + r]);
        }
      }
      CGCKIT_UNROLL
      for (int n = 0; n < kN; n += 2) {
        const T* element = b + (k + member()) * pitch_b + first_column() + n * 4 + group();
        add(n, left,
            {prim::tf32_bits(prim::to_float(element[0])),
             prim::tf32_bits(prim::to_float(element[4 * pitch_b]))},
            [](float (&c)[4], const uint32_t (&l)[4], const uint32_t (&r)[2]) {
              prim::multiply_add_tf32(c, l, r);
            });
      }
    }
  }

  float sum[kM][kN];

 private:
  struct Right {
    uint32_t bits[2];
  };

  CGCKIT_DEVICE static int warp() { return prim::thread() / prim::kLanes; }
  CGCKIT_DEVICE static int group() { return prim::thread() % prim::kLanes / 4; }
  CGCKIT_DEVICE static int member() { return prim::thread() % 4; }
  CGCKIT_DEVICE static int first_row() { return warp() / kWarpColumns * 32; }
  CGCKIT_DEVICE static int first_column() { return warp() % kWarpColumns * kWidth; }

  // The two products of 16 x 8 at columns n and n + 1 of this thread.
  template <typename Product>
  CGCKIT_DEVICE void add(int n, const uint32_t (&left)[2][4], const Right& right, Product product) {
    CGCKIT_UNROLL
    for (int i = 0; i < 2; ++i) {
      float c[4] = {sum[2 * i][n], sum[2 * i][n + 1], sum[2 * i + 1][n], sum[2 * i + 1][n + 1]};
      product(c, left[i], right.bits);
      sum[2 * i][n] = c[0];
      sum[2 * i][n + 1] = c[1];
      sum[2 * i + 1][n] = c[2];
      sum[2 * i + 1][n + 1] = c[3];
    }
  }
};

template <typename T>
constexpr bool kHasTensorCores = sizeof(T) == 2;

// 2^x for x <= 0: as accurate as the sums are, by the instruction where they come from tensor cores.
template <typename T>
CGCKIT_DEVICE Sum<T> exp2_of(Sum<T> x) {
  if constexpr (kHasTensorCores<T>) {
    return prim::exp2(x);
  } else {
    return exp2_nonpositive(x);
  }
}

template <typename T, int kRows, int kColumns, Along kAlongB>
using Tile = std::conditional_t<kHasTensorCores<T>, MmaTile<T, kRows, kColumns, kAlongB>,
                                SimtTile<T, kRows, kColumns, kAlongB>>;

// Calls copy(step, buffer) and multiply(buffer) for every step, with two buffers: while one is multiplied the
// next is on its way.
template <typename Copy, typename Multiply>
CGCKIT_DEVICE void pipeline(int64_t steps, Copy copy, Multiply multiply) {
  prim::barrier();  // nobody reads the buffers any more
  if (steps > 0) copy(int64_t{0}, 0);
  for (int64_t step = 0; step < steps; ++step) {
    const int buffer = static_cast<int>(step % 2);
    prim::copy_wait();
    prim::barrier();  // everybody's copies have arrived, and the other buffer has been read
    if (step + 1 < steps) copy(step + 1, 1 - buffer);
    multiply(buffer);
  }
}

// Starts copies of kRows rows of kColumns elements to shared memory; address(row, column) is where a chunk of
// kChunk elements begins, or null for zeros. `readable` is any address of that memory.
template <int kChunk, int kRows, int kColumns, typename T, typename Address>
CGCKIT_DEVICE void copy_tile(T* to, int pitch, const T* readable, Address address) {
  constexpr int kChunks = kColumns / kChunk;
  CGCKIT_UNROLL_BY(4)
  for (int first = 0; first < kRows * kChunks; first += kThreads) {
    const int i = first + prim::thread();
    if (kRows * kChunks % kThreads != 0 && i >= kRows * kChunks) break;
    const int row = i / kChunks, column = i % kChunks * kChunk;
    const T* from = address(row, column);
    prim::copy_async<kChunk* static_cast<int>(sizeof(T))>(to + row * pitch + column,
                                                          from == nullptr ? readable : from, from != nullptr);
  }
}

}  // namespace cgckit::cuda
