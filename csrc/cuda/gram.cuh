// Tiles of the Gram matrix x_i . x_k of a group, in registers.
#pragma once

#include <type_traits>

#include "tile.cuh"

namespace cgckit::cuda {

template <typename T>
constexpr int kTileRows = sizeof(T) == 8 ? 32 : 64;  // as many sums as registers hold
constexpr int kTileColumns = 128;

// Straight from the feature map.
template <typename T, int kChunk>
struct FromMap {
  static constexpr int kStep = kStepBytes / static_cast<int>(sizeof(T));
  static constexpr int kPitch = row_pitch<T>(Along::kInner, kStep);

  template <int kRows, int kColumns>
  static constexpr size_t shared_bytes() {
    return 2 * (kRows + kColumns) * kPitch * sizeof(T);
  }

  // Adds the products of rows `row`.. and columns `column`.. over the elements `begin` .. `end` of D, kStep
  // of them at a time from `begin`. Past the last member there are zeros.
  template <int kRows, int kColumns>
  CGCKIT_DEVICE static void add(Tile<T, kRows, kColumns, Along::kInner>& tile, const Members<T>& x, int64_t g,
                                int64_t row, int64_t column, int64_t begin, int64_t end) {
    T* shared = reinterpret_cast<T*>(prim::shared_memory());
    constexpr int kBuffer = (kRows + kColumns) * kPitch;
    const int64_t* origin = x.origin + g * x.patches;
    const int64_t count = x.count(g);
    pipeline(
        panels(end - begin, kStep),
        [&](int64_t step, int buffer) {
          const int64_t first = begin + step * kStep;
          const auto copy_rows = [&](auto rows, T* to, int64_t of) {
            copy_tile<kChunk, rows, kStep>(to, kPitch, x.map, [&](int r, int d) -> const T* {
              if (of + r >= count || first + d >= end) return nullptr;
              return x.map + origin[of + r] + x.offset[first + d];
            });
          };
          T* to = shared + buffer * kBuffer;
          copy_rows(std::integral_constant<int, kRows>{}, to, row);
          copy_rows(std::integral_constant<int, kColumns>{}, to + kRows * kPitch, column);
        },
        [&](int buffer) {
          const T* from = shared + buffer * kBuffer;
          tile.template multiply<Along::kInner, kStep>(from, kPitch, from + kRows * kPitch, kPitch);
        });
  }

  template <int kRows, int kColumns>
  CGCKIT_DEVICE void add(Tile<T, kRows, kColumns, Along::kInner>& tile, const Members<T>& x, int64_t g,
                         int64_t row, int64_t column) const {
    add<kRows, kColumns>(tile, x, g, row, column, 0, x.depth);
  }
};

// For groups of few patches with many elements each: D is cut into slices, which give blocks enough to fill
// the device, and the slices' Gram matrices are added in order.
template <typename T>
struct FromSlices {
  Sum<T>* gram;    // [G, S, N, N]
  int64_t slices;  // S; below 2 there are none
  int64_t depth;   // elements of a slice

  FromSlices(const ContrastInputs<T>& in, Workspace& workspace) : gram(nullptr), slices(1), depth(0) {
    constexpr int64_t kMostPatches = 512, kEnoughBlocks = 256;
    constexpr int64_t kStep = FromMap<T, 1>::kStep, kLeastDepth = 4 * kStep;
    const int64_t patches = in.grid.per_group(in.groups), d = in.grid.depth();
    if (patches == 0 || patches > kMostPatches) return;
    const int64_t tiles = in.groups * panels(patches, kTileRows<T>) * panels(patches, kTileColumns);
    // No more than the elements of the map are stored.
    slices = least(panels(kEnoughBlocks, tiles), least(d / kLeastDepth, d / patches));
    if (slices < 2) return;
    depth = panels(panels(d, slices), kStep) * kStep;
    slices = panels(d, depth);
    if (slices >= 2) gram = workspace.take<Sum<T>>(in.groups * slices * patches * patches);
  }

  template <int kRows, int kColumns>
  static constexpr size_t shared_bytes() {
    return 0;
  }

  template <int kRows, int kColumns>
  CGCKIT_DEVICE void add(Tile<T, kRows, kColumns, Along::kInner>& tile, const Members<T>& x, int64_t g,
                         int64_t row, int64_t column) const {
    using Of = Tile<T, kRows, kColumns, Along::kInner>;
    const int64_t rows = x.rows(g), columns = x.count(g);
    CGCKIT_UNROLL
    for (int m = 0; m < Of::kM; ++m) {
      const int64_t i = row + Of::row(m);
      if (i >= rows) continue;
      const Sum<T>* products = gram + (g * slices * x.patches + i) * x.patches + column;
      CGCKIT_UNROLL_BY(1)
      for (int64_t s = 0; s < slices; ++s, products += x.patches * x.patches) {
        CGCKIT_UNROLL
        for (int n = 0; n < Of::kN; ++n) {
          if (column + Of::column(n) < columns) tile.sum[m][n] += products[Of::column(n)];
        }
      }
    }
  }
};

template <typename T, int kChunk>
CGCKIT_KERNEL(kThreads)
multiply_slices(Members<T> x, FromSlices<T> out) {
  using Of = Tile<T, kTileRows<T>, kTileColumns, Along::kInner>;
  const int64_t column_blocks = panels(x.patches, kTileColumns), row_blocks = panels(x.patches, kTileRows<T>);
  int64_t block = prim::block();
  const int64_t column = block % column_blocks * kTileColumns;
  block /= column_blocks;
  const int64_t row = block % row_blocks * kTileRows<T>;
  block /= row_blocks;
  const int64_t slice = block % out.slices, g = block / out.slices;
  if (row >= x.rows(g) || column >= x.count(g)) return;
  Of tile;
  const int64_t begin = slice * out.depth;
  FromMap<T, kChunk>::template add<kTileRows<T>, kTileColumns>(tile, x, g, row, column, begin,
                                                               least(begin + out.depth, x.depth));
  CGCKIT_UNROLL
  for (int m = 0; m < Of::kM; ++m) {
    CGCKIT_UNROLL
    for (int n = 0; n < Of::kN; ++n) {
      const int64_t i = row + Of::row(m), k = column + Of::column(n);
      if (i >= x.rows(g) || k >= x.count(g)) continue;
      out.gram[((g * out.slices + slice) * x.patches + i) * x.patches + k] = tile.sum[m][n];
    }
  }
}

// Calls run(width) with the chunk that copies may have, as a constant.
template <typename T, typename Run>
void with_chunk(const ContrastInputs<T>& in, Run run) {
  constexpr int kWide = sizeof(T) < 8 ? 16 / static_cast<int>(sizeof(T)) : 1;
  if (chunk(in.grid, in.strides, in.features) == kWide) {
    run(std::integral_constant<int, kWide>{});
  } else {
    run(std::integral_constant<int, 1>{});
  }
}

// Calls run(source, width) with the source of Gram tiles that suits the shapes, having filled it.
template <typename T, typename Run>
void with_gram(const ContrastInputs<T>& in, const Members<T>& x, const FromSlices<T>& sliced,
               prim::Stream stream, Run run) {
  with_chunk(in, [&](auto width) {
    constexpr int kChunk = decltype(width)::value;
    if (sliced.slices >= 2) {
      const int64_t blocks =
          x.groups * sliced.slices * panels(x.patches, kTileRows<T>) * panels(x.patches, kTileColumns);
      prim::launch(multiply_slices<T, kChunk>, blocks, kThreads,
                   FromMap<T, kChunk>::template shared_bytes<kTileRows<T>, kTileColumns>(), stream, x,
                   sliced);
      run(sliced, width);
    } else {
      run(FromMap<T, kChunk>{}, width);
    }
  });
}

}  // namespace cgckit::cuda
