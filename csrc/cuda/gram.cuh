// Tiles of the Gram matrix x_i . x_k of a group: products of its rows, or read from memory.
#pragma once

#include "tile.cuh"

namespace cgckit::cuda {

// Blocks that a device holds at a time; each goes through its share of the tiles, whose number depends on n.
inline int64_t resident_blocks() { return 2 * prim::processors(); }

// Calls run(g, item) for this block's share of items 0 .. count(g) - 1 of every group.
template <typename Count, typename Run>
CGCKIT_DEVICE void for_items(int64_t groups, int64_t blocks, Count count, Run run) {
  int64_t item = prim::block();
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t items = count(g);
    for (; item < items; item += blocks) run(g, item);
    item -= items;
  }
}

template <typename T>
struct FromRows {
  CGCKIT_DEVICE void add(Tile<T>& tile, const Rows<T>& x, int64_t g, int64_t row, int64_t column) const {
    add_product<Along::kInner, Along::kInner, T>(tile, {x.row(g, row), x.pitch, x.pitch},
                                                 {x.row(g, column), x.pitch, x.pitch}, 0, x.depth);
  }
};

inline int64_t square(int64_t x) { return x * x; }

// Tiles of a product that are too few to fill the device are cut along the inner dimension into slices, which
// are added up in order afterwards. How many depends on n; there is room for `wanted` tiles of slices of a
// group.
template <typename T>
struct Shares {
  static constexpr int64_t kLeastInner = 256;  // of a slice
  int64_t wanted;

  // Of products of at most so many tiles a group. Two slices for each block: one alone leaves some idle,
  // where they do not come out even.
  static Shares of(int64_t groups, int64_t tiles, int64_t inner) {
    return {groups == 0 ? 0 : least(2 * resident_blocks() / groups, tiles * (inner / kLeastInner))};
  }
  CGCKIT_HOST_DEVICE int64_t room() const { return wanted * kEdge<T> * kEdge<T>; }

  CGCKIT_DEVICE int64_t slices(int64_t tiles, int64_t inner) const {
    return tiles == 0 ? 1 : most(1, least(wanted / tiles, inner / kLeastInner));
  }
  // Of a slice; the last may be shorter, or empty.
  CGCKIT_DEVICE int64_t length(int64_t slices, int64_t inner) const {
    return panels(panels(inner, slices), kRowMultiple) * kRowMultiple;
  }
  // The element (i, k) of a tile as the sum over its slices in partial[slice][tile][i][k].
  CGCKIT_DEVICE Sum<T> sum(const Sum<T>* partial, int64_t tiles, int64_t tile, int64_t slices, int64_t inner,
                           int64_t i, int64_t k) const {
    const int64_t used = panels(inner, length(slices, inner));
    Sum<T> sum = 0;
    for (int64_t s = 0; s < used; ++s) sum += partial[((s * tiles + tile) * kEdge<T> + i) * kEdge<T> + k];
    return sum;
  }
};

// The Gram matrix of anchors and members, where it is no larger than the rows: once for forward and backward.
template <typename T>
struct Gram {
  Sum<T>* values;  // [G, rows, rows]
  bool kept;

  Gram(const Rows<T>& x, Workspace& memory) : values(nullptr), kept(x.patches <= x.depth) {
    // Twin in cgckit/contrast/ops.py: torch must know the size of what is kept.
    if (kept) values = memory.take<Sum<T>>(x.groups * x.rows * x.rows);
  }

  CGCKIT_DEVICE static int64_t columns(const Rows<T>& x, int64_t g) { return panels(x.members(g), kEdge<T>); }
  CGCKIT_DEVICE static int64_t tiles(const Rows<T>& x, int64_t g) {
    return panels(x.anchors(g), kEdge<T>) * columns(x, g);
  }
};

template <typename T>
CGCKIT_KERNEL(kThreads)
multiply_rows(Rows<T> x, Gram<T> gram, Shares<T> shares, int64_t blocks, Sum<T>* partial) {
  using Of = Tile<T>;
  constexpr int kSide = kEdge<T>;
  const auto items = [&](int64_t g) {
    const int64_t tiles = Gram<T>::tiles(x, g);
    return tiles * shares.slices(tiles, x.depth);
  };
  for_items(x.groups, blocks, items, [&](int64_t g, int64_t item) {
    const int64_t tiles = Gram<T>::tiles(x, g), slices = shares.slices(tiles, x.depth);
    const int64_t tile = item % tiles, length = shares.length(slices, x.depth), begin = item / tiles * length;
    const int64_t row = tile / Gram<T>::columns(x, g) * kSide, column = tile % Gram<T>::columns(x, g) * kSide;
    Of product;
    if (begin < x.depth) {
      add_product<Along::kInner, Along::kInner, T>(product, {x.row(g, row), x.pitch, x.pitch},
                                                   {x.row(g, column), x.pitch, x.pitch}, begin,
                                                   least(begin + length, x.depth));
    }
    const bool whole = slices == 1;
    const int64_t pitch = whole ? x.rows : kSide;
    Sum<T>* out = whole ? gram.values + (g * x.rows + row) * x.rows + column
                        : partial + g * shares.room() + item * kSide * kSide;
    CGCKIT_UNROLL
    for (int m = 0; m < Of::kM; ++m) {
      CGCKIT_UNROLL
      for (int n = 0; n < Of::kN; n += 2) {
        *reinterpret_cast<Two<Sum<T>>*>(out + Of::row(m) * pitch + Of::column(n)) = {product.sum(m, n),
                                                                                     product.sum(m, n + 1)};
      }
    }
  });
}

template <typename T>
CGCKIT_KERNEL(kThreads)
add_slices(Rows<T> x, Gram<T> gram, Shares<T> shares, int64_t blocks, const Sum<T>* partial) {
  constexpr int kSide = kEdge<T>;
  for (int64_t g = 0; g < x.groups; ++g) {
    const int64_t tiles = Gram<T>::tiles(x, g), slices = shares.slices(tiles, x.depth);
    const int64_t members = x.members(g);
    if (slices == 1) continue;
    for (int64_t e = prim::block() * kThreads + prim::thread(); e < x.anchors(g) * members;
         e += blocks * kThreads) {
      const int64_t i = e / members, k = e % members;
      gram.values[(g * x.rows + i) * x.rows + k] =
          shares.sum(partial + g * shares.room(), tiles, i / kSide * Gram<T>::columns(x, g) + k / kSide,
                     slices, x.depth, i % kSide, k % kSide);
    }
  }
}

template <typename T>
struct FromMemory {
  Gram<T> gram;

  // What is outside the anchors and the members was never written.
  CGCKIT_DEVICE void add(Tile<T>& tile, const Rows<T>& x, int64_t g, int64_t row, int64_t column) const {
    CGCKIT_UNROLL
    for (int m = 0; m < Tile<T>::kM; ++m) {
      const int64_t i = row + Tile<T>::row(m);
      CGCKIT_UNROLL
      for (int n = 0; n < Tile<T>::kN; ++n) {
        const int64_t k = column + Tile<T>::column(n);
        if (i < x.anchors(g) && k < x.members(g)) tile.sum(m, n) = gram.values[(g * x.rows + i) * x.rows + k];
      }
    }
  }
};

// Calls run(source) with the source of Gram tiles that suits the shapes.
template <typename T, typename Run>
void with_gram(const Gram<T>& gram, Run run) {
  if (gram.kept) {
    run(FromMemory<T>{gram});
  } else {
    run(FromRows<T>{});
  }
}

// What the forward finds and the backward needs again.
template <typename E>
struct Kept {
  Rows<E> x;
  Gram<E> gram;

  template <typename T>
  Kept(const ContrastInputs<T>& in, Workspace& memory) : x(in, memory), gram(x, memory) {}
};

// Fills it; the arrays are needed for that alone.
template <typename T>
class Filling {
 public:
  using E = Element<T>;

  Filling(const Kept<E>& kept, Workspace& memory)
      : offset_(memory.take<int64_t>(kept.x.depth)),
        mean_(kept.x, memory),
        shares_(Shares<E>::of(kept.x.groups, square(panels(kept.x.patches, kEdge<E>)), kept.x.depth)),
        partial_(memory.take<Sum<E>>(kept.gram.kept ? kept.x.groups * shares_.room() : 0)) {}

  void fill(const ContrastInputs<T>& in, const Kept<E>& kept, prim::Stream stream) const {
    const Rows<E>& x = kept.x;
    launch_offsets(in.grid, in.strides, nullptr, offset_, stream);
    launch_teams(pack_rows<T, prim::kLanes>, pack_rows<T, kThreads>, x.groups * x.rows, x.depth, stream, in,
                 offset_, x);
    mean_.compute(x, in.order, nullptr, x.mean, stream);
    if (!kept.gram.kept) return;
    const int64_t blocks = resident_blocks();
    prim::launch(multiply_rows<E>, blocks, kThreads, kTileBytes<E>, stream, x, kept.gram, shares_, blocks,
                 partial_);
    prim::launch(add_slices<E>, blocks, kThreads, 0, stream, x, kept.gram, shares_, blocks, partial_);
  }

 private:
  int64_t* offset_;
  AnchorSum mean_;
  Shares<E> shares_;
  Sum<E>* partial_;
};

}  // namespace cgckit::cuda
