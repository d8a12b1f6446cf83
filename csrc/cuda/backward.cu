// Gradient of sum_i (g_i log Z_i + h_i pos_i) with respect to the feature map and the temperature.
//
// With W_ik = g_i P_ik / tau on anchors i and 0 on other rows, the pair (i, k) pulls with
// V_ik = (W_ik + W_ki) / (r_i r_k): before what pos adds and the projection, dL/dx_i = R_i = sum_k V_ik x_k.
// V is symmetric and zero where neither end is an anchor. Similarities are computed again; each R_i has one
// producer at a time, and one order.
//   D <= 256: a block owns 32 rows, holds their R in registers and meets every column (`own_rows`);
//   else:     V is written for a block of pairs that stays in the cache (`weigh_pairs`), then multiplied with
//   X
//             from the left and from the right (`spread`).
#include "../common/coefficients.h"
#include "gram.cuh"

namespace cgckit::cuda {
namespace {

// W_ik = factor * 2^((s_ik - shift) * scale), scale = log2(e) / tau; the factor is 0 where i is no anchor.
template <typename V>
struct RowWeight {
  V shift;
  V factor;
};

template <typename T>
CGCKIT_KERNEL(kThreads)
weigh_rows(Members<T> x, const int64_t* order, GradientInputs gradient, RowWeight<Sum<T>>* weight) {
  const int64_t row = prim::block() * kThreads + prim::thread();
  if (row >= x.groups * x.patches) return;
  const int64_t g = row / x.patches;
  weight[row] = {Sum<T>(1), Sum<T>(0)};
  if (row - g * x.patches >= x.rows(g)) return;
  const int64_t index = g * x.patches + order[row];
  const SoftmaxScale of =
      softmax_scale<Sum<T>>(gradient.grad_log_z[index], gradient.log_z[index], *x.temperature);
  weight[row] = {static_cast<Sum<T>>(of.shift), static_cast<Sum<T>>(of.factor)};
}

// Turns a tile of Gram products into V and hands every element to store(row, column, value): zeros outside,
// on the diagonal, and where no end is an anchor.
template <typename T, int kRows, int kColumns, typename Store>
CGCKIT_DEVICE void weigh_tile(const Tile<T, kRows, kColumns, Along::kInner>& tile, const Members<T>& x,
                              const RowWeight<Sum<T>>* weight, int64_t g, int64_t row, int64_t column,
                              Store store) {
  using V = Sum<T>;
  using Of = Tile<T, kRows, kColumns, Along::kInner>;
  const V scale = static_cast<V>(kLog2E / *x.temperature);
  const int rows = static_cast<int>(least(kRows, x.count(g) - row));
  const int columns = static_cast<int>(least(kColumns, x.count(g) - column));
  const int64_t first = g * x.patches;
  const V* of_rows = x.inverse_norm + first + row;
  const V* of_columns = x.inverse_norm + first + column;
  const RowWeight<V>* row_weight = weight + first + row;
  const RowWeight<V>* column_weight = weight + first + column;
  const int diagonal = static_cast<int>(row - column);
  CGCKIT_UNROLL
  for (int n = 0; n < Of::kN; ++n) {
    const int k = Of::column(n);
    const V column_scale = k < columns ? of_columns[k] : V(0);
    const RowWeight<V> of_column = k < columns ? column_weight[k] : RowWeight<V>{V(1), V(0)};
    CGCKIT_UNROLL
    for (int m = 0; m < Of::kM; ++m) {
      const int i = Of::row(m);
      V value = 0;
      if (i < rows && k < columns && i + diagonal != k) {
        const V scales = of_rows[i] * column_scale;
        const V s = tile.sum[m][n] * scales;
        const RowWeight<V> of_row = row_weight[i];
        value = of_row.factor * exp2_of<T>((s - of_row.shift) * scale);
        if (of_column.factor != 0) value += of_column.factor * exp2_of<T>((s - of_column.shift) * scale);
        value *= scales;
      }
      store(i, k, value);
    }
  }
}

constexpr int64_t kPairRows = 2048;
constexpr int64_t kPairColumns = 4096;

// Pairs whose V is in memory at a time: groups x anchors x members. V has room for whole tiles.
struct PairBlock {
  int64_t group, groups;
  int64_t row, rows;
  int64_t column, columns;

  template <typename T>
  int64_t tiles() const {
    return groups * (rows / kTileRows<T>)*(columns / kTileColumns);
  }
};

template <typename T, typename Source>
CGCKIT_KERNEL(kThreads)
weigh_pairs(Members<T> x, Source source, const RowWeight<Sum<T>>* weight, PairBlock pairs, Sum<T>* v) {
  const int64_t column_blocks = pairs.columns / kTileColumns, row_blocks = pairs.rows / kTileRows<T>;
  const int64_t column = prim::block() % column_blocks * kTileColumns;
  const int64_t row = prim::block() / column_blocks % row_blocks * kTileRows<T>;
  const int64_t of_group = prim::block() / column_blocks / row_blocks;
  const int64_t g = pairs.group + of_group;
  if (pairs.row + row >= x.rows(g) || pairs.column + column >= x.count(g)) return;
  Tile<T, kTileRows<T>, kTileColumns, Along::kInner> tile;
  source.template add<kTileRows<T>, kTileColumns>(tile, x, g, pairs.row + row, pairs.column + column);
  Sum<T>* out = v + (of_group * pairs.rows + row) * pairs.columns + column;
  weigh_tile<T, kTileRows<T>, kTileColumns>(
      tile, x, weight, g, pairs.row + row, pairs.column + column,
      [&](int i, int k, Sum<T> value) { out[i * pairs.columns + k] = value; });
}

constexpr int kSpreadColumns = 128;

// R[rows] (+)= V X: the rows are the anchors of the block of pairs (kAlong = kInner), or those of its members
// that are none (kAlong = kOuter: V is read the other way round).
template <typename T, int kChunk, Along kAlong>
struct Spread {
  using V = Sum<T>;
  static constexpr int kInner = kStepBytes / static_cast<int>(sizeof(V));
  static constexpr int kPitchV = row_pitch<V>(kAlong, kAlong == Along::kInner ? kInner : kTileRows<T>);
  static constexpr int kPitchX = row_pitch<T>(Along::kOuter, kSpreadColumns);
  static constexpr size_t kBytesV = (kAlong == Along::kInner ? kTileRows<T> : kInner) * kPitchV * sizeof(V);
  static constexpr size_t kBytesX = kInner * kPitchX * sizeof(T);
  static constexpr size_t kSharedBytes = 2 * (kBytesV + kBytesX);
};

template <typename T, int kChunk, Along kAlong>
CGCKIT_KERNEL(kThreads)
spread(Members<T> x, PairBlock pairs, const Sum<T>* v, Sum<T>* r) {
  using V = Sum<T>;
  using Shape = Spread<T, kChunk, kAlong>;
  using Of = Tile<T, kTileRows<T>, kSpreadColumns, Along::kOuter>;
  constexpr int kQuad = Quad<V>::kSize, kInner = Shape::kInner;
  constexpr bool kOfAnchors = kAlong == Along::kInner;
  const int64_t depth_blocks = panels(x.depth, kSpreadColumns);
  const int64_t row_blocks = (kOfAnchors ? pairs.rows : pairs.columns) / kTileRows<T>;
  const int64_t first_d = prim::block() % depth_blocks * kSpreadColumns;
  const int64_t row = prim::block() / depth_blocks % row_blocks * kTileRows<T>;
  const int64_t of_group = prim::block() / depth_blocks / row_blocks;
  const int64_t g = pairs.group + of_group;
  const int64_t first_row = (kOfAnchors ? pairs.row : pairs.column) + row;
  const int64_t first_inner = kOfAnchors ? pairs.column : pairs.row;
  const int64_t rows_from = kOfAnchors ? 0 : x.rows(g), rows_to = kOfAnchors ? x.rows(g) : x.count(g);
  const int64_t inner = kOfAnchors ? least(pairs.columns, x.count(g) - first_inner)
                                   : least(pairs.rows, x.rows(g) - first_inner);
  if (first_row >= rows_to || first_row + kTileRows<T> <= rows_from || inner <= 0) return;

  unsigned char* shared = prim::shared_memory();
  const auto buffer_v = [&](int buffer) {
    return reinterpret_cast<V*>(shared + static_cast<size_t>(buffer) * Shape::kBytesV);
  };
  const auto buffer_x = [&](int buffer) {
    return reinterpret_cast<T*>(shared + 2 * Shape::kBytesV + static_cast<size_t>(buffer) * Shape::kBytesX);
  };
  const int64_t* origin = x.origin + g * x.patches;
  v += of_group * pairs.rows * pairs.columns;
  Of tile;
  pipeline(
      panels(inner, kInner),
      [&](int64_t step, int buffer) {
        const int64_t k = step * kInner;
        // V is whole tiles, with zeros outside; past the last tile there is nothing to read.
        if constexpr (kOfAnchors) {
          copy_tile<kQuad, kTileRows<T>, kInner>(
              buffer_v(buffer), Shape::kPitchV, v, [&](int i, int j) -> const V* {
                return k + j < inner ? v + (row + i) * pairs.columns + k + j : nullptr;
              });
        } else {
          copy_tile<kQuad, kInner, kTileRows<T>>(
              buffer_v(buffer), Shape::kPitchV, v, [&](int j, int i) -> const V* {
                return k + j < inner ? v + (k + j) * pairs.columns + row + i : nullptr;
              });
        }
        copy_tile<kChunk, kInner, kSpreadColumns>(
            buffer_x(buffer), Shape::kPitchX, x.map, [&](int j, int d) -> const T* {
              if (k + j >= inner || first_d + d >= x.depth) return nullptr;
              return x.map + origin[first_inner + k + j] + x.offset[first_d + d];
            });
      },
      [&](int buffer) {
        tile.template multiply<kAlong, kInner>(buffer_v(buffer), Shape::kPitchV, buffer_x(buffer),
                                               Shape::kPitchX);
      });

  CGCKIT_UNROLL
  for (int m = 0; m < Of::kM; ++m) {
    const int64_t i = first_row + Of::template row<kAlong>(m);
    if (i < rows_from || i >= rows_to) continue;
    V* out = r + (g * x.patches + i) * x.depth;
    CGCKIT_UNROLL
    for (int n = 0; n < Of::kN; ++n) {
      const int64_t d = first_d + Of::column(n);
      if (d < x.depth) out[d] = first_inner == 0 ? tile.sum[m][n] : out[d] + tile.sum[m][n];
    }
  }
}

constexpr int kOwnRows = 32;
constexpr int kOwnColumns = 128;  // columns met at a time

template <typename T, int kChunk, int kDepth>
struct Own {
  using V = Sum<T>;
  static constexpr int kInner = kStepBytes / static_cast<int>(sizeof(V));
  static constexpr int kPitchV = row_pitch<V>(Along::kInner, kOwnColumns);
  static constexpr int kPitchX = row_pitch<T>(Along::kOuter, kDepth);
  static constexpr size_t kBytesV = kOwnRows * kPitchV * sizeof(V);
  static constexpr size_t kBytesX = kInner * kPitchX * sizeof(T);
  static constexpr size_t kBytesGram = FromMap<T, kChunk>::template shared_bytes<kOwnRows, kOwnColumns>();
  // What the products take turns to use, then V.
  static constexpr size_t kBytesTurns = kBytesGram > 2 * kBytesX ? kBytesGram : 2 * kBytesX;
  static constexpr size_t kSharedBytes = kBytesTurns + kBytesV;
};

// R of kOwnRows rows, D <= kDepth.
template <typename T, int kChunk, int kDepth>
CGCKIT_KERNEL(kThreads)
own_rows(Members<T> x, const RowWeight<Sum<T>>* weight, Sum<T>* r) {
  using V = Sum<T>;
  using Shape = Own<T, kChunk, kDepth>;
  using Of = Tile<T, kOwnRows, kDepth, Along::kOuter>;
  constexpr int kInner = Shape::kInner;
  const int64_t row_blocks = panels(x.patches, kOwnRows);
  const int64_t row = prim::block() % row_blocks * kOwnRows, g = prim::block() / row_blocks;
  if (row >= x.count(g)) return;
  unsigned char* shared = prim::shared_memory();
  V* v = reinterpret_cast<V*>(shared + Shape::kBytesTurns);
  const auto buffer_x = [&](int buffer) {
    return reinterpret_cast<T*>(shared + static_cast<size_t>(buffer) * Shape::kBytesX);
  };
  const int64_t* origin = x.origin + g * x.patches;
  const int64_t columns = row < x.rows(g) ? x.count(g) : x.rows(g);
  Of tile;
  for (int64_t column = 0; column < columns; column += kOwnColumns) {
    Tile<T, kOwnRows, kOwnColumns, Along::kInner> gram;
    FromMap<T, kChunk>{}.template add<kOwnRows, kOwnColumns>(gram, x, g, row, column);
    weigh_tile<T, kOwnRows, kOwnColumns>(gram, x, weight, g, row, column,
                                         [&](int i, int k, V value) { v[i * Shape::kPitchV + k] = value; });
    const int64_t inner = least(kOwnColumns, x.count(g) - column);
    pipeline(
        panels(inner, kInner),
        [&](int64_t step, int buffer) {
          const int64_t k = step * kInner;
          copy_tile<kChunk, kInner, kDepth>(buffer_x(buffer), Shape::kPitchX, x.map,
                                            [&](int j, int d) -> const T* {
                                              if (k + j >= inner || d >= x.depth) return nullptr;
                                              return x.map + origin[column + k + j] + x.offset[d];
                                            });
        },
        [&, step = 0](int buffer) mutable {
          tile.template multiply<Along::kInner, kInner>(v + step++ * kInner, Shape::kPitchV, buffer_x(buffer),
                                                        Shape::kPitchX);
        });
  }
  CGCKIT_UNROLL
  for (int m = 0; m < Of::kM; ++m) {
    const int64_t i = row + Of::row(m);
    if (i >= x.count(g)) continue;
    CGCKIT_UNROLL
    for (int n = 0; n < Of::kN; ++n) {
      const int d = Of::column(n);
      if (d < x.depth) r[(g * x.patches + i) * x.depth + d] = tile.sum[m][n];
    }
  }
}

// A block a row: adds what pos contributes and removes the part along u_i, so that R_i becomes dL/dx_i.
template <typename T>
CGCKIT_KERNEL(kThreads)
finish_rows(Members<T> x, const int64_t* order, const double* grad_pos, const double* mean,
            const double* mean_h, Sum<T>* r) {
  double* scratch = reinterpret_cast<double*>(prim::shared_memory());
  const int64_t g = prim::block() / x.patches, i = prim::block() % x.patches;
  if (i >= x.count(g)) return;
  const int64_t row = g * x.patches + i;
  const T* patch = x.map + x.origin[row];
  const double inverse_norm = static_cast<double>(x.inverse_norm[row]);
  PositiveCoefficients c{0, 0};
  if (i < x.rows(g)) {
    c = positive_coefficients(grad_pos[g * x.patches + order[row]], static_cast<double>(x.anchors(g)));
  }
  r += row * x.depth;
  mean += g * x.depth;
  mean_h += g * x.depth;
  const auto total = [&](int64_t d) {
    return static_cast<double>(r[d]) + inverse_norm * (c.mean * mean[d] + c.weighted_mean * mean_h[d]);
  };
  const auto unit = [&](int64_t d) {
    return static_cast<double>(prim::to_float(patch[x.offset[d]])) * inverse_norm;
  };
  double along = 0;
  for (int64_t d = prim::thread(); d < x.depth; d += kThreads) along += unit(d) * total(d);
  along = block_sum(along, scratch);
  for (int64_t d = prim::thread(); d < x.depth; d += kThreads) {
    r[d] = static_cast<Sum<T>>(total(d) - along * unit(d));
  }
}

// A thread an element of the map: the sum over the patches that cover it, in their order.
template <typename T>
CGCKIT_KERNEL(kThreads)
gather_rows(Members<T> x, PatchGrid grid, MapStrides strides, const int64_t* position, const Sum<T>* r,
            GradientOutputs<T> out) {
  const bool channels_last = strides.channel == 1;
  const int64_t voxels = grid.map[0] * grid.map[1] * grid.map[2];
  int64_t element = prim::block() * kThreads + prim::thread();
  if (element >= grid.batch * grid.channels * voxels) return;
  const int64_t image = element / (grid.channels * voxels);
  element -= image * grid.channels * voxels;
  const int64_t channel = channels_last ? element % grid.channels : element / voxels;
  int64_t rest = channels_last ? element / grid.channels : element % voxels;
  int64_t at[3], first[3], last[3];
  for (int axis = 2; axis >= 0; --axis) {
    at[axis] = rest % grid.map[axis];
    rest /= grid.map[axis];
    first[axis] = at[axis] < grid.patch[axis] ? 0 : (at[axis] - grid.patch[axis]) / grid.stride[axis] + 1;
    last[axis] = least(at[axis] / grid.stride[axis], grid.count(axis) - 1);
  }
  double sum = 0;
  for (int64_t h = first[0]; h <= last[0]; ++h) {
    for (int64_t w = first[1]; w <= last[1]; ++w) {
      for (int64_t l = first[2]; l <= last[2]; ++l) {
        const int64_t index = image * grid.per_image() + (h * grid.count(1) + w) * grid.count(2) + l;
        const int64_t g = index / x.patches;
        if (position[index] >= x.count(g)) continue;
        const int64_t voxel =
            ((at[0] - h * grid.stride[0]) * grid.patch[1] + at[1] - w * grid.stride[1]) * grid.patch[2] +
            at[2] - l * grid.stride[2];
        const int64_t row = g * x.patches + position[index];
        sum += static_cast<double>(r[row * x.depth + element_index(grid, strides, channel, voxel)]);
      }
    }
  }
  out.features[image * out.strides.batch + channel * out.strides.channel + at[0] * out.strides.axis[0] +
               at[1] * out.strides.axis[1] + at[2] * out.strides.axis[2]] = prim::rounded<T>(sum);
}

// One block.
template <typename T>
CGCKIT_KERNEL(kThreads)
sum_by_temperature(Members<T> x, const int64_t* order, GradientInputs gradient, double* by_temperature) {
  double* scratch = reinterpret_cast<double*>(prim::shared_memory());
  double sum = 0;
  for (int64_t g = 0; g < x.groups; ++g) {
    for (int64_t i = prim::thread(); i < x.rows(g); i += kThreads) {
      const int64_t index = g * x.patches + order[g * x.patches + i];
      sum += gradient.grad_log_z[index] * log_z_by_temperature(gradient.expected[index], *x.temperature);
    }
  }
  sum = block_sum(sum, scratch);
  if (prim::thread() == 0) *by_temperature = sum;
}

template <typename T>
constexpr int kMostOwnDepth = sizeof(T) == 8 ? 128 : 256;  // as many sums as registers hold

// How much of the pairs is in memory at a time; nothing where blocks own rows.
template <typename T>
PairBlock pair_block(const ContrastInputs<T>& in) {
  const int64_t patches = in.grid.per_group(in.groups);
  if (in.grid.depth() <= kMostOwnDepth<T> || patches == 0) return {};
  PairBlock pairs{};
  pairs.rows = least(kPairRows, panels(patches, kTileRows<T>) * kTileRows<T>);
  pairs.columns = least(kPairColumns, panels(patches, kTileColumns) * kTileColumns);
  pairs.groups = least(in.groups, most(1, kPairRows * kPairColumns / (pairs.rows * pairs.columns)));
  return pairs;
}

template <typename T>
struct Arrays {
  Tables<T> tables;
  AnchorSum<T> mean;
  AnchorSum<T> mean_h;
  FromSlices<T> sliced;
  RowWeight<Sum<T>>* weight;  // [G, N]
  PairBlock pairs;
  Sum<T>* v;  // [groups, rows, columns] of a block of pairs
  Sum<T>* r;  // [G, N, D]

  Arrays(const ContrastInputs<T>& in, Workspace& workspace)
      : tables(in, workspace),
        mean(in, workspace),
        mean_h(in, workspace),
        sliced(in, workspace),
        weight(workspace.take<RowWeight<Sum<T>>>(in.grid.total())),
        pairs(pair_block(in)),
        v(workspace.take<Sum<T>>(pairs.groups * pairs.rows * pairs.columns)),
        r(workspace.take<Sum<T>>(in.grid.total() * in.grid.depth())) {}
};

template <typename T, int kChunk, int kDepth>
void launch_own_rows(const Members<T>& x, const Arrays<T>& arrays, prim::Stream on) {
  prim::launch(own_rows<T, kChunk, kDepth>, x.groups * panels(x.patches, kOwnRows), kThreads,
               Own<T, kChunk, kDepth>::kSharedBytes, on, x, arrays.weight, arrays.r);
}

template <typename T, int kChunk, typename Source>
void spread_blocks(const Members<T>& x, Source source, const Arrays<T>& arrays, prim::Stream on) {
  if (x.patches == 0) return;  // a block of no pairs has no size to step by
  PairBlock pairs = arrays.pairs;
  const int64_t depth_blocks = panels(x.depth, kSpreadColumns);
  for (; pairs.group < x.groups; pairs.group += pairs.groups) {
    pairs.groups = least(pairs.groups, x.groups - pairs.group);
    for (pairs.row = 0; pairs.row < x.patches; pairs.row += pairs.rows) {
      for (pairs.column = 0; pairs.column < x.patches; pairs.column += pairs.columns) {
        prim::launch(weigh_pairs<T, Source>, pairs.template tiles<T>(), kThreads,
                     Source::template shared_bytes<kTileRows<T>, kTileColumns>(), on, x, source,
                     arrays.weight, pairs, arrays.v);
        prim::launch(spread<T, kChunk, Along::kInner>,
                     pairs.groups * (pairs.rows / kTileRows<T>)*depth_blocks, kThreads,
                     Spread<T, kChunk, Along::kInner>::kSharedBytes, on, x, pairs, arrays.v, arrays.r);
        prim::launch(spread<T, kChunk, Along::kOuter>,
                     pairs.groups * (pairs.columns / kTileRows<T>)*depth_blocks, kThreads,
                     Spread<T, kChunk, Along::kOuter>::kSharedBytes, on, x, pairs, arrays.v, arrays.r);
      }
    }
  }
}

}  // namespace

template <typename T>
size_t backward_workspace(const ContrastInputs<T>& in) {
  Workspace workspace(nullptr);
  Arrays<T>(in, workspace);
  return workspace.size();
}

template <typename T>
void backward(const ContrastInputs<T>& in, const GradientInputs& gradient, const GradientOutputs<T>& out,
              void* memory, void* stream) {
  Workspace workspace(memory);
  const Arrays<T> arrays(in, workspace);
  const prim::Stream on = static_cast<prim::Stream>(stream);
  const Members<T> x = arrays.tables.members(in);
  constexpr size_t kScratch = kThreads / prim::kLanes * sizeof(double);
  prepare(in, arrays.tables, on);
  arrays.mean.compute(x, in.order, nullptr, on);
  arrays.mean_h.compute(x, in.order, gradient.grad_pos, on);
  prim::launch(weigh_rows<T>, panels(in.grid.total(), kThreads), kThreads, 0, on, x, in.order, gradient,
               arrays.weight);
  if (x.depth <= kMostOwnDepth<T>) {
    with_chunk(in, [&](auto chunk) {
      if (x.depth <= kMostOwnDepth<T> / 2) {
        launch_own_rows<T, chunk, kMostOwnDepth<T> / 2>(x, arrays, on);
      } else {
        launch_own_rows<T, chunk, kMostOwnDepth<T>>(x, arrays, on);
      }
    });
  } else {
    with_gram(in, x, arrays.sliced, on,
              [&](auto source, auto chunk) { spread_blocks<T, chunk>(x, source, arrays, on); });
  }
  prim::launch(finish_rows<T>, in.grid.total(), kThreads, kScratch, on, x, in.order, gradient.grad_pos,
               arrays.mean.total, arrays.mean_h.total, arrays.r);
  const int64_t elements =
      in.grid.batch * in.grid.channels * in.grid.map[0] * in.grid.map[1] * in.grid.map[2];
  prim::launch(gather_rows<T>, panels(elements, kThreads), kThreads, 0, on, x, in.grid, in.strides,
               arrays.tables.position, arrays.r, out);
  prim::launch(sum_by_temperature<T>, 1, kThreads, kScratch, on, x, in.order, gradient, out.temperature);
}

#define CGCKIT_INSTANTIATE(T)                                                                               \
  template size_t backward_workspace(const ContrastInputs<T>&);                                             \
  template void backward(const ContrastInputs<T>&, const GradientInputs&, const GradientOutputs<T>&, void*, \
                         void*);
CGCKIT_TYPES(CGCKIT_INSTANTIATE)
#undef CGCKIT_INSTANTIATE

}  // namespace cgckit::cuda
