// A block's tile of a matrix product C [edge, edge] = A [edge, inner] B [inner, edge]: sums in registers,
// operands in shared memory a step of the inner dimension at a time, on their way while earlier steps are
// multiplied.
//
// A thread owns the elements (row(m), column(n)), m < kM and n < kN, two neighbouring columns at a time;
// every row is shared by kSlots threads.
#pragma once

#include "../common/exp2.h"
#include "rows.cuh"

namespace cgckit::cuda {

// Which way an operand lies in memory: contiguous along the inner dimension or along its own.
enum class Along { kInner, kOuter };

template <typename T>
constexpr int kEdge = sizeof(T) == 8 ? 64 : 128;  // as many sums as registers hold
constexpr int kStepBytes = 64;                    // of a row along the inner dimension
template <typename T>
constexpr int kStep = kStepBytes / static_cast<int>(sizeof(T));
template <typename T>
constexpr int kChunk = kCopyBytes / static_cast<int>(sizeof(T));  // elements copied at a time
constexpr int kStages = 4;
constexpr int kPadding = 8;  // of rows along the outer dimension in shared memory
template <typename T>
constexpr int kOperand = kStep<T> * (kEdge<T> + kPadding);  // elements of one in shared memory, either way
template <typename T>
constexpr size_t kTileBytes = 2 * kStages * kOperand<T> * sizeof(T);

// A matrix in global memory from the tile's first element on: (o, k) at data[o pitch + k] along the inner
// dimension, at data[k pitch + o] along the outer. Along the contiguous one there are zeros from `limit` on;
// along the other it must reach as far as it is read.
template <typename T>
struct Operand {
  const T* data;
  int64_t pitch;
  int64_t limit;
};

// Elements between two rows of an operand in shared memory, and where chunk `chunk` of row `row` lies: rows
// that a warp reads together use all banks. Rows along the outer dimension are padded, so that addresses are
// a base plus constants; short ones along the inner dimension have their chunks swapped instead.
template <typename T, Along kAlong>
constexpr int kPitch = kAlong == Along::kInner ? kStep<T> : kEdge<T> + kPadding;

template <typename T, Along kAlong>
CGCKIT_DEVICE int place(int row, int chunk) {
  return row * kPitch<T, kAlong> + (kAlong == Along::kInner ? chunk ^ row / 2 % 4 : chunk) * kChunk<T>;
}

// A thread's share of the copies of an operand, step by step.
template <Along kAlong, typename T>
class Copier {
 public:
  CGCKIT_DEVICE Copier(const Operand<T>& from, int64_t begin) {
    const int row = prim::thread() / kChunks, element = prim::thread() % kChunks * kChunk<T>;
    to_ = place<T, kAlong>(row, prim::thread() % kChunks);
    left_ = from.limit - element - (kAlongInner ? begin : 0);
    next_ = from.data + (kAlongInner ? row * from.pitch + begin : (begin + row) * from.pitch) + element;
    apart_ = kApart * from.pitch;
    step_ = kAlongInner ? kStep<T> : kStep<T> * from.pitch;
  }

  CGCKIT_DEVICE void copy(T* operand) {
    const T* from = next_;
    CGCKIT_UNROLL
    for (int i = 0; i < kRows / kApart; ++i, from += apart_) {
      prim::copy_async(operand + to_ + i * kApart * kPitch<T, kAlong>, from, left_ > 0);
    }
    next_ += step_;
    if (kAlongInner) left_ -= kStep<T>;
  }

 private:
  static constexpr bool kAlongInner = kAlong == Along::kInner;
  static constexpr int kRows = kAlongInner ? kEdge<T> : kStep<T>;
  static constexpr int kChunks = (kAlongInner ? kStep<T> : kEdge<T>) / kChunk<T>;
  static constexpr int kApart = kThreads / kChunks;  // rows from one copy to the next
  // So that all copies of a thread are of one column, and in one place of the swapped chunks.
  static_assert(kThreads % kChunks == 0 && kRows % kApart == 0 && (!kAlongInner || kApart % 8 == 0));

  const T* next_;
  int64_t apart_, step_, left_;
  int to_;
};

// Tensor cores. Float16: products are exact. float: every operand is split into two tf32 numbers, and
// all products but the smallest are added up, which leaves about 2^-22 of each; the sums are rounded by
// ordinary additions, for tensor cores cut them off. A warp owns 64 rows.
template <typename T>
class MmaTile {
 public:
  static constexpr int kWarpColumns = kThreads / prim::kLanes / 2;
  static constexpr int kWidth = kEdge<T> / kWarpColumns;  // columns of a warp, which has half of the rows
  static constexpr int kM = 8, kN = kWidth / 4;
  static constexpr int kSlots = 4 * kWarpColumns;

  CGCKIT_DEVICE MmaTile() { clear(); }

  CGCKIT_DEVICE void clear() {
    CGCKIT_UNROLL
    for (int i = 0; i < 4; ++i) {
      CGCKIT_UNROLL
      for (int j = 0; j < kN / 2; ++j) {
        CGCKIT_UNROLL
        for (int e = 0; e < 4; ++e) sums_[i][j][e] = 0;
      }
    }
  }

  CGCKIT_DEVICE static int row(int m) { return first_row() + m * 8 + lane() / 4; }
  CGCKIT_DEVICE static int column(int n) { return first_column() + n / 2 * 8 + 2 * (lane() % 4) + n % 2; }
  CGCKIT_DEVICE static int slot() { return warp() % kWarpColumns * 4 + lane() % 4; }
  CGCKIT_DEVICE float& sum(int m, int n) { return sums_[m / 2][n / 2][m % 2 * 2 + n % 2]; }

  // Adds a step of the inner dimension.
  template <Along kAlongA, Along kAlongB>
  CGCKIT_DEVICE void multiply(const T* a, const T* b) {
    CGCKIT_UNROLL
    for (int k = 0; k < kStep<T>; k += kInner) {
      CGCKIT_UNROLL
      for (int first = 0; first < 4; first += kHeld) {
        Left left[kHeld];
        CGCKIT_UNROLL
        for (int i = 0; i < kHeld; ++i) load_left<kAlongA>(left[i], a, first_row() + 16 * (first + i), k);
        CGCKIT_UNROLL
        for (int j = 0; j < kN / 2; j += 2) {
          Right right[2];
          load_right<kAlongB>(right, b, first_column() + 8 * j, k);
          add(first, j, left, right);
        }
      }
    }
  }

 private:
  static constexpr bool kSplit = sizeof(T) == 4;
  static constexpr int kParts = kSplit ? 2 : 1;
  static constexpr int kHeld = kSplit ? 2 : 4;                     // fragments of rows in registers at a time
  static constexpr int kInner = 32 / static_cast<int>(sizeof(T));  // of one instruction

  struct Left {
    uint32_t bits[kParts][4];
  };
  struct Right {
    uint32_t bits[kParts][2];
  };

  CGCKIT_DEVICE static int warp() { return prim::thread() / prim::kLanes; }
  CGCKIT_DEVICE static int lane() { return prim::thread() % prim::kLanes; }
  CGCKIT_DEVICE static int first_row() { return warp() / kWarpColumns * 64; }
  CGCKIT_DEVICE static int first_column() { return warp() % kWarpColumns * kWidth; }

  // The fragment of rows r.. and inner elements k.., see prim::multiply_add.
  template <Along kAlong>
  CGCKIT_DEVICE static void load_left(Left& left, const T* a, int r, int k) {
    uint32_t bits[4];
    if constexpr (kAlong == Along::kInner) {
      prim::load_matrices(bits, a + place<T, kAlong>(r + lane() % 16, k / kChunk<T> + lane() / 16));
    } else if constexpr (kSplit) {
      CGCKIT_UNROLL
      for (int e = 0; e < 4; ++e)
        bits[e] = element(a, k + e / 2 * 4 + lane() % 4, r + e % 2 * 8 + lane() / 4);
    } else {
      prim::load_transposed_matrices(
          bits, a + place<T, kAlong>(k + lane() / 16 * 8 + lane() % 8, r / kChunk<T> + lane() / 8 % 2));
    }
    CGCKIT_UNROLL
    for (int e = 0; e < 4; ++e) split(left.bits, e, bits[e]);
  }

  // The fragments of columns c.. and c + 8..
  template <Along kAlong>
  CGCKIT_DEVICE static void load_right(Right (&right)[2], const T* b, int c, int k) {
    uint32_t bits[4];
    if constexpr (kAlong == Along::kInner) {
      prim::load_matrices(
          bits, b + place<T, kAlong>(c + lane() / 16 * 8 + lane() % 8, k / kChunk<T> + lane() / 8 % 2));
    } else if constexpr (kSplit) {
      CGCKIT_UNROLL
      for (int e = 0; e < 4; ++e)
        bits[e] = element(b, k + e % 2 * 4 + lane() % 4, c + e / 2 * 8 + lane() / 4);
    } else {
      prim::load_transposed_matrices(bits,
                                     b + place<T, kAlong>(k + lane() % 16, c / kChunk<T> + lane() / 16));
    }
    CGCKIT_UNROLL
    for (int e = 0; e < 4; ++e) split(right[e / 2].bits, e % 2, bits[e]);
  }

  CGCKIT_DEVICE static uint32_t element(const T* from, int k, int o) {
    return prim::bits_of(from[k * kPitch<T, Along::kOuter> + o]);
  }

  template <int kCount>
  CGCKIT_DEVICE static void split(uint32_t (&parts)[kParts][kCount], int e, uint32_t bits) {
    if constexpr (kSplit) {
      // The nearest of 11 significant bits, and what it leaves. A NaN may be lost in the first, never in
      // both.
      parts[0][e] = (bits + 0x1000) & ~uint32_t{0x1fff};
      parts[1][e] = prim::bits_of(prim::float_of(bits) - prim::float_of(parts[0][e]));
    } else {
      parts[0][e] = bits;
    }
  }

  // Products that do not wait for one another come one after another.
  CGCKIT_DEVICE void add(int first, int j, const Left (&left)[kHeld], const Right (&right)[2]) {
    if constexpr (kSplit) {
      float products[2][kHeld][4];
      each([&](int half, int i) {
        prim::multiply_tf32<false>(products[half][i], left[i].bits[1], right[half].bits[0]);
      });
      each([&](int half, int i) {
        prim::multiply_tf32<true>(products[half][i], left[i].bits[0], right[half].bits[1]);
      });
      each([&](int half, int i) {
        prim::multiply_tf32<true>(products[half][i], left[i].bits[0], right[half].bits[0]);
      });
      each([&](int half, int i) {
        CGCKIT_UNROLL
        for (int e = 0; e < 4; ++e) sums_[first + i][j + half][e] += products[half][i][e];
      });
    } else {
      each([&](int half, int i) {
        prim::multiply_add(T{}, sums_[first + i][j + half], left[i].bits[0], right[half].bits[0]);
      });
    }
  }

  template <typename Run>
  CGCKIT_DEVICE static void each(Run run) {
    CGCKIT_UNROLL
    for (int half = 0; half < 2; ++half) {
      CGCKIT_UNROLL
      for (int i = 0; i < kHeld; ++i) run(half, i);
    }
  }

  float sums_[4][kN / 2][4];
};

// Fused multiply-adds of double.
class DoubleTile {
 public:
  static constexpr int kM = 4, kN = 8;
  static constexpr int kSlots = 8;

  CGCKIT_DEVICE DoubleTile() { clear(); }

  CGCKIT_DEVICE void clear() {
    CGCKIT_UNROLL
    for (int m = 0; m < kM; ++m) {
      CGCKIT_UNROLL
      for (int n = 0; n < kN; ++n) sums_[m][n] = 0;
    }
  }

  CGCKIT_DEVICE static int row(int m) { return prim::thread() / kSlots + 16 * m; }
  CGCKIT_DEVICE static int column(int n) { return n / 2 * 16 + prim::thread() % kSlots * 2 + n % 2; }
  CGCKIT_DEVICE static int slot() { return prim::thread() % kSlots; }
  CGCKIT_DEVICE double& sum(int m, int n) { return sums_[m][n]; }

  template <Along kAlongA, Along kAlongB>
  CGCKIT_DEVICE void multiply(const double* a, const double* b) {
    CGCKIT_UNROLL_BY(1)
    for (int k = 0; k < kStep<double>; ++k) {
      CGCKIT_UNROLL
      for (int m = 0; m < kM; ++m) {
        const double left = element<kAlongA>(a, row(m), k);
        CGCKIT_UNROLL
        for (int n = 0; n < kN; ++n) sums_[m][n] += left * element<kAlongB>(b, column(n), k);
      }
    }
  }

 private:
  template <Along kAlong>
  CGCKIT_DEVICE static double element(const double* from, int o, int k) {
    const int line = kAlong == Along::kInner ? o : k, at = kAlong == Along::kInner ? k : o;
    return from[place<double, kAlong>(line, at / kChunk<double>) + at % kChunk<double>];
  }

  double sums_[kM][kN];
};

// Two neighbours in memory.
template <typename V>
struct alignas(2 * sizeof(V)) Two {
  V first, second;
};

template <typename T>
using Tile = std::conditional_t<sizeof(T) == 8, DoubleTile, MmaTile<T>>;

// 2^x for x <= 0: as accurate as the type's products are.
template <typename T>
CGCKIT_DEVICE Sum<T> exp2_of(Sum<T> x) {
  if constexpr (sizeof(T) == 2) {
    return prim::exp2(x);
  } else {
    return exp2_nonpositive(x);
  }
}

// Adds A B over the inner elements begin .. end, of which there are zeros up to the end of the last step.
template <Along kAlongA, Along kAlongB, typename T>
CGCKIT_DEVICE void add_product(Tile<T>& tile, const Operand<T>& a, const Operand<T>& b, int64_t begin,
                               int64_t end) {
  T* shared = reinterpret_cast<T*>(prim::shared_memory());
  const int steps = static_cast<int>(panels(end - begin, kStep<T>));
  Copier<kAlongA, T> copier_a(a, begin);
  Copier<kAlongB, T> copier_b(b, begin);
  const auto copy = [&](int step) {
    if (step < steps) {
      T* to = shared + step % kStages * (2 * kOperand<T>);
      copier_a.copy(to);
      copier_b.copy(to + kOperand<T>);
    }
    prim::copy_commit();
  };
  prim::barrier();  // nobody reads the buffers any more
  for (int step = 0; step < kStages - 1; ++step) copy(step);
  CGCKIT_UNROLL_BY(1)
  for (int step = 0; step < steps; ++step) {
    prim::copy_wait<kStages - 2>();
    prim::barrier();  // everybody's copies have arrived, and the buffer of the step before has been read
    copy(step + kStages - 1);
    const T* from = shared + step % kStages * (2 * kOperand<T>);
    tile.template multiply<kAlongA, kAlongB>(from, from + kOperand<T>);
  }
}

}  // namespace cgckit::cuda
