// Log-sum-exp over all members and mean similarity to the positives, for every anchor.
#include "gram.cuh"

namespace cgckit::cuda {
namespace {

// What is known of a row's softmax from some of its columns: E = exp((s - top) / tau).
template <typename V>
struct Partial {
  V top;       // the largest similarity, at least -1
  V z;         // sum of E
  V weighted;  // sum of E s
};

constexpr int64_t kMostStrips = 32;

// Column blocks are dealt to so many blocks of threads.
inline int64_t strip_count(int64_t patches) { return least(kMostStrips, panels(patches, kTileColumns)); }

// partials[g][strip][i] of the anchors in a row block over the column blocks strip, strip + strips, ...
template <typename T, typename Source>
CGCKIT_KERNEL(kThreads)
sum_softmax(Members<T> x, Source source, int64_t strips, Partial<Sum<T>>* partials) {
  using V = Sum<T>;
  using Of = Tile<T, kTileRows<T>, kTileColumns, Along::kInner>;
  const int64_t row_blocks = panels(x.patches, kTileRows<T>);
  const int64_t strip = prim::block() % strips;
  const int64_t row = prim::block() / strips % row_blocks * kTileRows<T>;
  const int64_t g = prim::block() / strips / row_blocks;
  if (row >= x.rows(g) || strip * kTileColumns >= x.count(g)) return;
  const V scale = static_cast<V>(kLog2E / *x.temperature);
  const V* inverse_norm = x.inverse_norm + g * x.patches;

  Partial<V> part[Of::kM];
  CGCKIT_UNROLL
  for (int m = 0; m < Of::kM; ++m) part[m] = {V(-1), V(0), V(0)};
  for (int64_t column = strip * kTileColumns; column < x.count(g); column += strips * kTileColumns) {
    Of tile;
    source.template add<kTileRows<T>, kTileColumns>(tile, x, g, row, column);
    const int columns = static_cast<int>(least(kTileColumns, x.count(g) - column));
    const V* of_columns = inverse_norm + column;
    V column_scale[Of::kN];
    CGCKIT_UNROLL
    for (int n = 0; n < Of::kN; ++n)
      column_scale[n] = Of::column(n) < columns ? of_columns[Of::column(n)] : V(0);
    CGCKIT_UNROLL
    for (int m = 0; m < Of::kM; ++m) {
      const int64_t i = row + Of::row(m);
      const V row_scale = i < x.rows(g) ? inverse_norm[i] : V(0);
      const int self = static_cast<int>(i - column);
      V top = part[m].top;
      CGCKIT_UNROLL
      for (int n = 0; n < Of::kN; ++n) {
        tile.sum[m][n] *= row_scale * column_scale[n];
        const bool counts = Of::column(n) < columns && Of::column(n) != self;
        if (counts && tile.sum[m][n] > top) top = tile.sum[m][n];
      }
      const V before = exp2_of<T>((part[m].top - top) * scale);
      V z = part[m].z * before, weighted = part[m].weighted * before;
      CGCKIT_UNROLL
      for (int n = 0; n < Of::kN; ++n) {
        const bool counts = Of::column(n) < columns && Of::column(n) != self;
        const V e = counts ? exp2_of<T>((tile.sum[m][n] - top) * scale) : V(0);
        z += e;
        weighted += e * tile.sum[m][n];
      }
      part[m] = {top, z, weighted};
    }
  }

  // The threads that share a row leave what they know in shared memory; one adds it up in order.
  Partial<V>* known = reinterpret_cast<Partial<V>*>(prim::shared_memory());  // [kSlots][kTileRows]
  prim::barrier();                                                           // the tiles are read
  CGCKIT_UNROLL
  for (int m = 0; m < Of::kM; ++m) known[Of::slot() * kTileRows<T> + Of::row(m)] = part[m];
  prim::barrier();
  const int r = prim::thread();
  if (r >= kTileRows<T> || row + r >= x.rows(g)) return;
  Partial<V> total = {V(-1), V(0), V(0)};
  for (int slot = 0; slot < Of::kSlots; ++slot) {
    const V top = known[slot * kTileRows<T> + r].top;
    if (top > total.top) total.top = top;
  }
  for (int slot = 0; slot < Of::kSlots; ++slot) {
    const Partial<V> of = known[slot * kTileRows<T> + r];
    const V factor = exp2_of<T>((of.top - total.top) * scale);
    total.z += of.z * factor;
    total.weighted += of.weighted * factor;
  }
  partials[(g * strips + strip) * x.patches + row + r] = total;
}

// A block a patch: its strips added up in order, and pos_i = u_i . (m - u_i) / (n - 1), in float64.
template <typename T>
CGCKIT_KERNEL(kThreads)
finish_anchors(Members<T> x, const int64_t* order, const Partial<Sum<T>>* partials, int64_t strips,
               const double* mean, ContrastOutputs out) {
  double* scratch = reinterpret_cast<double*>(prim::shared_memory());
  const int64_t g = prim::block() / x.patches, i = prim::block() % x.patches;
  const int64_t row = g * x.patches + i;
  const int64_t index = g * x.patches + order[row];
  if (i >= x.rows(g)) {
    if (prim::thread() == 0) out.log_z[index] = out.pos[index] = out.expected[index] = 0;
    return;
  }
  const T* patch = x.map + x.origin[row];
  const double inverse_norm = static_cast<double>(x.inverse_norm[row]);
  double similarity = 0;
  for (int64_t d = prim::thread(); d < x.depth; d += kThreads) {
    const double u = static_cast<double>(prim::to_float(patch[x.offset[d]])) * inverse_norm;
    similarity += u * (mean[g * x.depth + d] - u);
  }
  similarity = block_sum(similarity, scratch);
  if (prim::thread() != 0) return;
  const int64_t used = least(strips, panels(x.count(g), kTileColumns));
  const Partial<Sum<T>>* part = partials + g * strips * x.patches + i;
  double top = -1;
  for (int64_t s = 0; s < used; ++s) {
    const double of_strip = static_cast<double>(part[s * x.patches].top);
    if (of_strip > top) top = of_strip;
  }
  double z = 0, weighted = 0;
  for (int64_t s = 0; s < used; ++s) {
    const Partial<Sum<T>> of = part[s * x.patches];
    const double factor = exp((static_cast<double>(of.top) - top) / *x.temperature);
    z += factor * static_cast<double>(of.z);
    weighted += factor * static_cast<double>(of.weighted);
  }
  out.log_z[index] = log(z) + (top - 1) / *x.temperature;
  out.expected[index] = weighted / z;
  out.pos[index] = similarity / static_cast<double>(x.anchors(g) - 1);
}

template <typename T>
struct Arrays {
  Tables<T> tables;
  AnchorSum<T> mean;
  FromSlices<T> sliced;
  Partial<Sum<T>>* partials;  // [G, strips, N]

  Arrays(const ContrastInputs<T>& in, Workspace& workspace)
      : tables(in, workspace),
        mean(in, workspace),
        sliced(in, workspace),
        partials(
            workspace.take<Partial<Sum<T>>>(strip_count(in.grid.per_group(in.groups)) * in.grid.total())) {}
};

}  // namespace

template <typename T>
size_t forward_workspace(const ContrastInputs<T>& in) {
  Workspace workspace(nullptr);
  Arrays<T>(in, workspace);
  return workspace.size();
}

template <typename T>
void forward(const ContrastInputs<T>& in, const ContrastOutputs& out, void* memory, void* stream) {
  Workspace workspace(memory);
  const Arrays<T> arrays(in, workspace);
  const prim::Stream on = static_cast<prim::Stream>(stream);
  const Members<T> x = arrays.tables.members(in);
  const int64_t strips = strip_count(x.patches);
  prepare(in, arrays.tables, on);
  arrays.mean.compute(x, in.order, nullptr, on);
  with_gram(in, x, arrays.sliced, on, [&](auto source, auto) {
    using Source = decltype(source);
    using Of = Tile<T, kTileRows<T>, kTileColumns, Along::kInner>;
    const size_t bytes = static_cast<size_t>(most(Source::template shared_bytes<kTileRows<T>, kTileColumns>(),
                                                  Of::kSlots * kTileRows<T> * sizeof(Partial<Sum<T>>)));
    prim::launch(sum_softmax<T, Source>, x.groups * strips * panels(x.patches, kTileRows<T>), kThreads, bytes,
                 on, x, source, strips, arrays.partials);
  });
  prim::launch(finish_anchors<T>, in.grid.total(), kThreads, kThreads / prim::kLanes * sizeof(double), on, x,
               in.order, arrays.partials, strips, arrays.mean.total, out);
}

#define CGCKIT_INSTANTIATE(T)                                  \
  template size_t forward_workspace(const ContrastInputs<T>&); \
  template void forward(const ContrastInputs<T>&, const ContrastOutputs&, void*, void*);
CGCKIT_TYPES(CGCKIT_INSTANTIATE)
#undef CGCKIT_INSTANTIATE

}  // namespace cgckit::cuda
