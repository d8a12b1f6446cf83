// Gradient of sum_i (g_i log Z_i + h_i pos_i) with respect to the feature map and the temperature.
//
// With W_ik = g_i P_ik / tau on anchors i and 0 on other rows, the pair (i, k) pulls with V_ik = (W_ik +
// W_ki) times both inverse norms: before what pos adds and the projection, the gradient is R_i = sum_k V_ik
// x_k. V is symmetric and zero where neither end is an anchor. The anchors go in chunks: V of a chunk's rows
// and all members is written (`weigh_pairs`), then multiplied with X from both sides (`spread`). Each R_i has
// one producer at a time, and one order.
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

// Of all anchors, by one block: the gradient by the temperature, and the power of two that V is multiplied
// with so that it fits into 16 bits whatever is upstream. |V| <= 2 |g| / tau.
template <typename T>
CGCKIT_KERNEL(kThreads)
look_at_anchors(Rows<T> x, const int64_t* order, GradientInputs gradient, double* scale,
                double* by_temperature) {
  double sum = 0, largest = 0;
  for (int64_t g = 0; g < x.groups; ++g) {
    for (int64_t i = prim::thread(); i < x.anchors(g); i += kThreads) {
      const int64_t index = g * x.patches + order[g * x.patches + i];
      const double upstream = gradient.grad_log_z[index];
      sum += upstream * log_z_by_temperature(gradient.expected[index], *x.temperature);
      if (fabs(upstream) > largest) largest = fabs(upstream);
    }
  }
  sum = Team<kThreads>::sum(sum);
  largest = Team<kThreads>::join(largest, [](double a, double b) { return a > b ? a : b; }) / *x.temperature;
  if (prim::thread() != 0) return;
  constexpr int kLargestExponent = 13;  // 2^14 < 2 |g| scale / tau < 2^15, and float16 ends at 65,504
  const bool some = largest > 0 && largest - largest == 0;
  *scale = some ? ldexp(1.0, kLargestExponent - ilogb(largest)) : 1.0;
  *by_temperature = sum;
}

template <typename T>
CGCKIT_KERNEL(kThreads)
weigh_rows(Rows<T> x, const int64_t* order, GradientInputs gradient, const double* scale,
           RowWeight<Sum<T>>* weight) {
  const int64_t row = prim::block() * kThreads + prim::thread();
  if (row >= x.groups * x.rows) return;
  const int64_t g = row / x.rows, i = row % x.rows;
  weight[row] = {Sum<T>(1), Sum<T>(0)};
  if (i >= x.anchors(g)) return;
  const int64_t index = g * x.patches + order[g * x.patches + i];
  const SoftmaxScale of =
      softmax_scale<Sum<T>>(gradient.grad_log_z[index] * *scale, gradient.log_z[index], *x.temperature);
  weight[row] = {static_cast<Sum<T>>(of.shift), static_cast<Sum<T>>(of.factor)};
}

// The anchors whose V is in memory at a time, of some groups. Where they do not fit at once they are cut
// evenly.
struct Chunk {
  int64_t rows;  // at most: whole tiles
  int64_t group, groups;
  int64_t index;

  CGCKIT_DEVICE int64_t share(int64_t anchors) const {
    const int64_t count = panels(anchors, rows);
    return count == 0 ? 0 : panels(panels(anchors, count), kRowMultiple) * kRowMultiple;
  }
  CGCKIT_HOST_DEVICE Chunk before() const { return {rows, group, groups, index - 1}; }
  CGCKIT_DEVICE int64_t begin(int64_t anchors) const { return least(index * share(anchors), anchors); }
  CGCKIT_DEVICE int64_t size(int64_t anchors) const {
    return least(share(anchors), anchors - begin(anchors));
  }
};

// The elements of a chunk's matrices, by group of the chunk.
template <typename T>
struct Pairs {
  Chunk chunk;
  T* v;  // [groups, chunk rows, rows]

  CGCKIT_DEVICE T* of_group(const Rows<T>& x, int64_t g) const {
    return v + (g - chunk.group) * chunk.rows * x.rows;
  }
  // Anchors of a group that are in the chunk.
  CGCKIT_DEVICE int64_t anchors(const Rows<T>& x, int64_t g) const {
    const bool holds = g >= chunk.group && g < chunk.group + chunk.groups;
    return holds ? chunk.size(x.anchors(g)) : 0;
  }
};

// Products that are summed up before the sum is added to memory: float is to keep its accuracy over long
// rows.
template <typename T>
constexpr int64_t kMostInner = sizeof(T) == 4 ? 4096 : int64_t{1} << 30;

// out [edge, columns of D that there are] (+)= A X over begin .. end, for the rows from rows_from to rows_to.
template <Along kAlong, typename T>
CGCKIT_DEVICE void spread_tile(const Operand<T>& v, const Operand<T>& x, int64_t begin, int64_t end, bool add,
                               int rows_from, int rows_to, int columns, int64_t pitch, Sum<T>* out) {
  using Of = Tile<T>;
  Of tile;
  for (int64_t first = begin; first < end; first += kMostInner<T>) {
    tile.clear();
    add_product<kAlong, Along::kOuter, T>(tile, v, x, first, least(first + kMostInner<T>, end));
    CGCKIT_UNROLL
    for (int m = 0; m < Of::kM; ++m) {
      const int i = Of::row(m);
      if (i < rows_from || i >= rows_to) continue;
      Sum<T>* row = out + i * pitch;
      CGCKIT_UNROLL
      for (int n = 0; n < Of::kN; n += 2) {
        const int column = Of::column(n);
        if (column >= columns) continue;  // of an even number
        Two<Sum<T>> sums{tile.sum(m, n), tile.sum(m, n + 1)};
        Two<Sum<T>>* to = reinterpret_cast<Two<Sum<T>>*>(row + column);
        if (add || first > begin) {
          const Two<Sum<T>> before = *to;
          sums.first += before.first;
          sums.second += before.second;
        }
        *to = sums;
      }
    }
  }
}

// Tiles of R of so many anchors.
template <typename T>
CGCKIT_DEVICE int64_t own_tiles(const Rows<T>& x, int64_t anchors) {
  return panels(anchors, kEdge<T>) * panels(x.depth, kEdge<T>);
}

// R of the chunk's anchors from all members, and of the members that are no anchors from the chunk.
template <typename T>
CGCKIT_KERNEL(kThreads)
spread(Rows<T> x, Pairs<T> pairs, Shares<T> shares, int64_t blocks, Sum<T>* r, Sum<T>* partial) {
  constexpr int kSide = kEdge<T>;
  const int64_t depth_blocks = panels(x.depth, kSide);
  const auto own = [&](int64_t g) { return pairs.anchors(x, g); };
  const auto own_items = [&](int64_t g) {
    const int64_t tiles = own_tiles(x, own(g));
    return tiles * shares.slices(tiles, x.members(g));
  };
  const auto items = [&](int64_t g) {
    if (own(g) == 0) return int64_t{0};
    return own_items(g) + (panels(x.members(g), kSide) - x.anchors(g) / kSide) * depth_blocks;
  };
  for_items(x.groups, blocks, items, [&](int64_t g, int64_t item) {
    const int64_t begin = pairs.chunk.begin(x.anchors(g));
    const T* v = pairs.of_group(x, g);
    if (item < own_items(g)) {
      const int64_t tiles = own_tiles(x, own(g)), slices = shares.slices(tiles, x.members(g));
      const int64_t slice = item / tiles, tile = item % tiles;
      const int64_t d = tile % depth_blocks * kSide, row = tile / depth_blocks * kSide;
      const int64_t length = shares.length(slices, x.members(g));
      const int64_t first = least(slice * length, x.members(g)), last = least(first + length, x.members(g));
      const bool whole = slices == 1;
      Sum<T>* out = whole ? r + (g * x.rows + begin + row) * x.pitch + d
                          : partial + (g - pairs.chunk.group) * shares.room() + item * kSide * kSide;
      const int rows = static_cast<int>(least(kSide, own(g) - row));
      spread_tile<Along::kInner, T>(
          {v + row * x.rows, x.rows, x.rows}, {x.row(g, 0) + d, x.pitch, x.pitch - d}, first, last, false, 0,
          rows, static_cast<int>(least(kSide, x.pitch - d)), whole ? x.pitch : kSide, out);
    } else {
      const int64_t other = item - own_items(g);
      const int64_t d = other % depth_blocks * kSide;
      const int64_t row = (x.anchors(g) / kSide + other / depth_blocks) * kSide;
      spread_tile<Along::kOuter, T>(
          {v + row, x.rows, x.rows - row}, {x.row(g, begin) + d, x.pitch, x.pitch - d}, 0, own(g),
          pairs.chunk.index > 0, static_cast<int>(most(0, x.anchors(g) - row)),
          static_cast<int>(least(kSide, x.members(g) - row)), static_cast<int>(least(kSide, x.pitch - d)),
          x.pitch, r + (g * x.rows + row) * x.pitch + d);
    }
  });
}

// Adds up the slices of the chunk's anchors, if there are any.
template <typename T>
CGCKIT_DEVICE void add_shares(const Rows<T>& x, const Chunk& chunk, const Shares<T>& shares, int64_t blocks,
                              const Sum<T>* partial, Sum<T>* r) {
  constexpr int kSide = kEdge<T>;
  for (int64_t g = chunk.group; g < chunk.group + chunk.groups; ++g) {
    const int64_t begin = chunk.begin(x.anchors(g)), own = chunk.size(x.anchors(g));
    const int64_t tiles = own_tiles(x, own), slices = shares.slices(tiles, x.members(g));
    if (slices == 1) continue;
    for (int64_t e = prim::block() * kThreads + prim::thread(); e < own * x.depth; e += blocks * kThreads) {
      const int64_t i = e / x.depth, d = e % x.depth;
      r[(g * x.rows + begin + i) * x.pitch + d] = shares.sum(
          partial + (g - chunk.group) * shares.room(), tiles, i / kSide * panels(x.depth, kSide) + d / kSide,
          slices, x.members(g), i % kSide, d % kSide);
    }
  }
}

template <typename T>
CGCKIT_KERNEL(kThreads)
add_last_shares(Rows<T> x, Chunk chunk, Shares<T> shares, int64_t blocks, const Sum<T>* partial, Sum<T>* r) {
  add_shares(x, chunk, shares, blocks, partial, r);
}

// V of the chunk, after the slices of the chunk before have been added up: one launch less a chunk. There are
// zeros on the diagonal, past the last member and where i is no anchor: tiles are written whole.
template <typename T, typename Source>
CGCKIT_KERNEL(kThreads)
weigh_pairs(Rows<T> x, Source source, const RowWeight<Sum<T>>* weight, Pairs<T> pairs, Shares<T> shares,
            int64_t blocks, const Sum<T>* partial, Sum<T>* r) {
  using V = Sum<T>;
  using Of = Tile<T>;
  if (pairs.chunk.index > 0) add_shares(x, pairs.chunk.before(), shares, blocks, partial, r);
  const V scale = static_cast<V>(kLog2E / *x.temperature);
  const auto row_blocks = [&](int64_t g) { return panels(pairs.anchors(x, g), kEdge<T>); };
  const auto items = [&](int64_t g) { return row_blocks(g) * panels(x.members(g), kEdge<T>); };
  for_items(x.groups, blocks, items, [&](int64_t g, int64_t item) {
    const int64_t in_chunk = item % row_blocks(g) * kEdge<T>;
    const int64_t row = pairs.chunk.begin(x.anchors(g)) + in_chunk, column = item / row_blocks(g) * kEdge<T>;
    Of tile;
    source.add(tile, x, g, row, column);
    const int rows = static_cast<int>(least(kEdge<T>, x.anchors(g) - row));
    const int columns = static_cast<int>(least(kEdge<T>, x.members(g) - column));
    const int diagonal = static_cast<int>(row - column);
    const V* of_rows = x.inverse_norm + g * x.rows + row;
    const V* of_columns = x.inverse_norm + g * x.rows + column;
    const RowWeight<V>* row_weight = weight + g * x.rows + row;
    const RowWeight<V>* column_weight = weight + g * x.rows + column;
    T* out = pairs.of_group(x, g) + in_chunk * x.rows + column;
    V row_scale[Of::kM];
    RowWeight<V> of_row[Of::kM];
    CGCKIT_UNROLL
    for (int m = 0; m < Of::kM; ++m) {
      row_scale[m] = of_rows[Of::row(m)];
      of_row[m] = row_weight[Of::row(m)];
    }
    CGCKIT_UNROLL
    for (int n = 0; n < Of::kN; n += 2) {
      V column_scale[2];
      RowWeight<V> of_column[2];
      CGCKIT_UNROLL
      for (int e = 0; e < 2; ++e) {
        column_scale[e] = of_columns[Of::column(n + e)];
        of_column[e] = column_weight[Of::column(n + e)];
      }
      CGCKIT_UNROLL
      for (int m = 0; m < Of::kM; ++m) {
        const int i = Of::row(m);
        V value[2];
        CGCKIT_UNROLL
        for (int e = 0; e < 2; ++e) {
          const int k = Of::column(n + e);
          const V scales = row_scale[m] * column_scale[e];
          const V s = tile.sum(m, n + e) * scales;
          V w = of_row[m].factor * exp2_of<T>((s - of_row[m].shift) * scale);
          if (of_column[e].factor != 0)
            w += of_column[e].factor * exp2_of<T>((s - of_column[e].shift) * scale);
          value[e] = i < rows && k < columns && i + diagonal != k ? w * scales : V(0);
        }
        *reinterpret_cast<Two<T>*>(out + i * x.rows + Of::column(n)) = {
            prim::rounded<T>(static_cast<double>(value[0])), prim::rounded<T>(static_cast<double>(value[1]))};
      }
    }
  });
}

// A team a row: adds what pos contributes and removes the part along u_i, so that R_i becomes dL/dx_i. It
// goes to the map, or stays in R where patches overlap or leave some of the map out.
template <typename T, int kTeam, bool kToMap>
CGCKIT_KERNEL(kThreads)
finish_rows(ContrastInputs<T> in, Rows<Element<T>> x, const double* grad_pos, const double* scale,
            const double* mean_h, const int64_t* offset, Sum<T>* r, GradientOutputs<T> out) {
  const int64_t row = Team<kTeam>::row();
  if (row >= x.groups * x.patches) return;
  const int64_t g = row / x.patches, i = row % x.patches;
  const int64_t index = g * x.patches + in.order[row];
  const int lane = Team<kTeam>::lane();
  r += (g * x.rows + i) * x.pitch;
  T* patch = kToMap ? out.features + in.grid.origin(out.strides, index) : nullptr;
  const auto store = [&](int64_t d, double value) {
    if constexpr (kToMap) {
      patch[offset[d]] = prim::rounded<T>(value);
    } else {
      r[d] = static_cast<Sum<T>>(value);
    }
  };
  if (i >= x.members(g)) {
    if (kToMap) {
      for (int64_t d = lane; d < x.depth; d += kTeam) store(d, 0);
    }
    return;
  }
  PositiveCoefficients c{0, 0};
  if (i < x.anchors(g)) c = positive_coefficients(grad_pos[index], static_cast<double>(x.anchors(g)));
  const double inverse_norm = static_cast<double>(x.inverse_norm[g * x.rows + i]);
  const double factor = 1 / (inverse_norm * *scale), outer = 1 / static_cast<double>(in.norm[index]);
  const double* mean = x.mean + g * x.depth;
  mean_h += g * x.depth;
  const Element<T>* of_row = x.row(g, i);
  const auto total = [&](int64_t d) {
    return static_cast<double>(r[d]) * factor + (c.mean * mean[d] + c.weighted_mean * mean_h[d]);
  };
  const auto unit = [&](int64_t d) { return static_cast<double>(prim::to_float(of_row[d])) * inverse_norm; };
  double along = 0;
  for (int64_t d = lane; d < x.depth; d += kTeam) along += unit(d) * total(d);
  along = Team<kTeam>::sum(along);
  for (int64_t d = lane; d < x.depth; d += kTeam) store(d, outer * (total(d) - along * unit(d)));
}

template <typename T>
CGCKIT_KERNEL(kThreads)
fill_positions(Rows<T> x, const int64_t* order, int64_t* position) {
  const int64_t row = prim::block() * kThreads + prim::thread();
  if (row >= x.groups * x.patches) return;
  position[row / x.patches * x.patches + order[row]] = row % x.patches;
}

// A thread an element of the map: the sum over the patches that cover it, in their order.
template <typename T>
CGCKIT_KERNEL(kThreads)
gather_rows(Rows<Element<T>> x, PatchGrid grid, const int64_t* position, const Sum<T>* r,
            GradientOutputs<T> out) {
  const int64_t voxels = grid.map[0] * grid.map[1] * grid.map[2];
  int64_t element = prim::block() * kThreads + prim::thread();
  if (element >= grid.batch * grid.channels * voxels) return;
  // Neighbouring threads write to neighbouring addresses.
  const bool channels_last = out.strides.channel == 1;
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
        if (position[index] >= x.members(g)) continue;
        const int64_t voxel =
            ((at[0] - h * grid.stride[0]) * grid.patch[1] + at[1] - w * grid.stride[1]) * grid.patch[2] +
            at[2] - l * grid.stride[2];
        const int64_t row = g * x.rows + position[index];
        sum += static_cast<double>(r[row * x.pitch + element_index(grid, *x.channels_last, channel, voxel)]);
      }
    }
  }
  out.features[image * out.strides.batch + channel * out.strides.channel + at[0] * out.strides.axis[0] +
               at[1] * out.strides.axis[1] + at[2] * out.strides.axis[2]] = prim::rounded<T>(sum);
}

constexpr int64_t kMostPairBytes = int64_t{1} << 28;  // of V in memory at a time, if kLeastChunkRows fit
constexpr int64_t kMostChunkRows = 2048;
constexpr int64_t kLeastChunkRows = 256;

template <typename T>
Chunk first_chunk(const Rows<T>& x) {
  constexpr int64_t kMostPairs = kMostPairBytes / sizeof(T);
  if (x.rows == 0) return {kRowMultiple, 0, x.groups, 0};  // no chunk of any group
  const int64_t fit = kMostPairs / x.rows / kRowMultiple * kRowMultiple;
  const int64_t rows = least(x.rows, most(kLeastChunkRows, least(kMostChunkRows, fit)));
  return {rows, 0, least(x.groups, most(1, kMostPairs / (rows * x.rows))), 0};
}

template <typename T>
struct Arrays {
  using E = Element<T>;

  Filling<T> filling;
  AnchorSum sum;
  int64_t* offset;            // [D]
  double* mean_h;             // [G, D]
  double* scale;              // []
  RowWeight<Sum<E>>* weight;  // [G, rows]
  int64_t* position;          // [G, N]
  Chunk chunk;
  Shares<E> shares;
  E* v;             // [groups, rows, rows] of a chunk
  Sum<E>* partial;  // slices of a chunk's tiles of R
  Sum<E>* r;        // [G, rows, pitch]

  Arrays(const Kept<E>& kept, Workspace& memory)
      : filling(kept, memory),
        sum(kept.x, memory),
        offset(memory.take<int64_t>(kept.x.depth)),
        mean_h(memory.take<double>(kept.x.groups * kept.x.depth)),
        scale(memory.take<double>(1)),
        weight(memory.take<RowWeight<Sum<E>>>(kept.x.groups * kept.x.rows)),
        position(memory.take<int64_t>(kept.x.groups * kept.x.patches)),
        chunk(first_chunk(kept.x)),
        shares(Shares<E>::of(chunk.groups, panels(chunk.rows, kEdge<E>) * panels(kept.x.depth, kEdge<E>),
                             kept.x.patches)),
        v(memory.take<E>(chunk.groups * chunk.rows * kept.x.rows)),
        partial(memory.take<Sum<E>>(chunk.groups * shares.room())),
        r(memory.take<Sum<E>>(kept.x.groups * kept.x.rows * kept.x.pitch)) {}
};

template <typename T, typename Source>
void spread_chunks(const Rows<Element<T>>& x, Source source, const Arrays<T>& arrays, prim::Stream on) {
  using E = Element<T>;
  const int64_t blocks = resident_blocks();
  for (Chunk chunk = arrays.chunk; chunk.group < x.groups; chunk.group += arrays.chunk.groups) {
    chunk.groups = least(arrays.chunk.groups, x.groups - chunk.group);
    for (chunk.index = 0; chunk.index * chunk.rows < x.patches; ++chunk.index) {
      const Pairs<E> pairs{chunk, arrays.v};
      prim::launch(weigh_pairs<E, Source>, blocks, kThreads, kTileBytes<E>, on, x, source, arrays.weight,
                   pairs, arrays.shares, blocks, arrays.partial, arrays.r);
      prim::launch(spread<E>, blocks, kThreads, kTileBytes<E>, on, x, pairs, arrays.shares, blocks, arrays.r,
                   arrays.partial);
    }
    if (chunk.index == 0) continue;
    prim::launch(add_last_shares<E>, blocks, kThreads, 0, on, x, chunk.before(), arrays.shares, blocks,
                 arrays.partial, arrays.r);
  }
}

}  // namespace

template <typename T>
size_t backward_workspace(const ContrastInputs<T>& in, bool kept) {
  Workspace workspace(nullptr), elsewhere(nullptr);
  Arrays<T>(Kept<Element<T>>(in, kept ? elsewhere : workspace), workspace);
  return workspace.size();
}

template <typename T>
void backward(const ContrastInputs<T>& in, const GradientInputs& gradient, const GradientOutputs<T>& out,
              void* kept_memory, void* memory, void* stream) {
  using E = Element<T>;
  Workspace workspace(memory), kept_arrays(kept_memory);
  const Kept<E> kept(in, kept_memory == nullptr ? workspace : kept_arrays);
  const Arrays<T> arrays(kept, workspace);
  const prim::Stream on = static_cast<prim::Stream>(stream);
  const Rows<E>& x = kept.x;
  if (kept_memory == nullptr) arrays.filling.fill(in, kept, on);
  arrays.sum.compute(x, in.order, gradient.grad_pos, arrays.mean_h, on);
  prim::launch(look_at_anchors<E>, 1, kThreads, kTeamBytes, on, x, in.order, gradient, arrays.scale,
               out.temperature);
  prim::launch(weigh_rows<E>, panels(x.groups * x.rows, kThreads), kThreads, 0, on, x, in.order, gradient,
               arrays.scale, arrays.weight);
  with_gram(kept.gram, [&](auto source) { spread_chunks<T>(x, source, arrays, on); });

  const int64_t patches = in.grid.total();
  if (in.grid.fills_map() && !in.grid.overlaps()) {
    launch_offsets(in.grid, out.strides, x.channels_last, arrays.offset, on);
    launch_teams(finish_rows<T, prim::kLanes, true>, finish_rows<T, kThreads, true>, patches, x.depth, on, in,
                 x, gradient.grad_pos, arrays.scale, arrays.mean_h, arrays.offset, arrays.r, out);
    return;
  }
  launch_teams(finish_rows<T, prim::kLanes, false>, finish_rows<T, kThreads, false>, patches, x.depth, on, in,
               x, gradient.grad_pos, arrays.scale, arrays.mean_h, arrays.offset, arrays.r, out);
  prim::launch(fill_positions<E>, panels(patches, kThreads), kThreads, 0, on, x, in.order, arrays.position);
  const int64_t elements =
      in.grid.batch * in.grid.channels * in.grid.map[0] * in.grid.map[1] * in.grid.map[2];
  prim::launch(gather_rows<T>, panels(elements, kThreads), kThreads, 0, on, x, in.grid, arrays.position,
               arrays.r, out);
}

#define CGCKIT_INSTANTIATE(T)                                                                               \
  template size_t backward_workspace(const ContrastInputs<T>&, bool);                                       \
  template void backward(const ContrastInputs<T>&, const GradientInputs&, const GradientOutputs<T>&, void*, \
                         void*, void*);
CGCKIT_TYPES(CGCKIT_INSTANTIATE)
#undef CGCKIT_INSTANTIATE

}  // namespace cgckit::cuda
