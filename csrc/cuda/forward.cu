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

// The tiles of a row block are dealt to as many strips as fill the device, by their column blocks in turn.
template <typename T>
struct Strips {
  int64_t wanted;  // row blocks x strips of a group

  explicit Strips(const Rows<T>& x) : wanted(x.groups == 0 ? 0 : panels(2 * resident_blocks(), x.groups)) {}

  CGCKIT_DEVICE int64_t row_blocks(const Rows<T>& x, int64_t g) const {
    return panels(x.anchors(g), kEdge<T>);
  }
  CGCKIT_DEVICE int64_t strips(const Rows<T>& x, int64_t g) const {
    return least(panels(wanted, most(1, row_blocks(x, g))), panels(x.members(g), kEdge<T>));
  }
  // Rows of partial results that a group has room for.
  int64_t capacity(const Rows<T>& x) const { return (panels(x.patches, kEdge<T>) + wanted) * kEdge<T>; }
};

// partials[g][row block][strip][row] of the anchors.
template <typename T, typename Source>
CGCKIT_KERNEL(kThreads)
sum_softmax(Rows<T> x, Source source, Strips<T> strips, int64_t capacity, int64_t blocks,
            Partial<Sum<T>>* partials) {
  using V = Sum<T>;
  using Of = Tile<T>;
  constexpr int kRows = kEdge<T>;
  const V scale = static_cast<V>(kLog2E / *x.temperature);
  const auto items = [&](int64_t g) { return strips.row_blocks(x, g) * strips.strips(x, g); };
  for_items(x.groups, blocks, items, [&](int64_t g, int64_t item) {
    const int64_t row_blocks = strips.row_blocks(x, g), count = strips.strips(x, g);
    const int64_t row = item % row_blocks * kRows, strip = item / row_blocks;
    const V* inverse_norm = x.inverse_norm + g * x.rows;
    const int64_t members = x.members(g);

    Partial<V> part[Of::kM];
    CGCKIT_UNROLL
    for (int m = 0; m < Of::kM; ++m) part[m] = {V(-1), V(0), V(0)};
    for (int64_t column = strip * kRows; column < members; column += count * kRows) {
      Of tile;
      source.add(tile, x, g, row, column);
      const int columns = static_cast<int>(least(kRows, members - column));
      const int diagonal = static_cast<int>(row - column);
      V column_scale[Of::kN];
      CGCKIT_UNROLL
      for (int n = 0; n < Of::kN; ++n) column_scale[n] = inverse_norm[column + Of::column(n)];
      CGCKIT_UNROLL
      for (int m = 0; m < Of::kM; ++m) {
        const V row_scale = inverse_norm[row + Of::row(m)];
        const int self = diagonal + Of::row(m);
        V top = part[m].top;
        CGCKIT_UNROLL
        for (int n = 0; n < Of::kN; ++n) {
          V& s = tile.sum(m, n);
          s *= row_scale * column_scale[n];
          const bool counts = Of::column(n) < columns && Of::column(n) != self;
          if (counts && s > top) top = s;
        }
        const V before = exp2_of<T>((part[m].top - top) * scale);
        V z = part[m].z * before, weighted = part[m].weighted * before;
        CGCKIT_UNROLL
        for (int n = 0; n < Of::kN; ++n) {
          const bool counts = Of::column(n) < columns && Of::column(n) != self;
          const V e = counts ? exp2_of<T>((tile.sum(m, n) - top) * scale) : V(0);
          z += e;
          weighted += e * tile.sum(m, n);
        }
        part[m] = {top, z, weighted};
      }
    }

    // The threads that share a row leave what they know in shared memory; one adds it up in order.
    Partial<V>* known = reinterpret_cast<Partial<V>*>(prim::shared_memory());  // [kSlots][kRows]

    prim::barrier();  // the tiles are read
    CGCKIT_UNROLL
    for (int m = 0; m < Of::kM; ++m) known[Of::slot() * kRows + Of::row(m)] = part[m];
    prim::barrier();
    const int r = prim::thread();
    if (r < kRows) {
      Partial<V> total = {V(-1), V(0), V(0)};
      for (int slot = 0; slot < Of::kSlots; ++slot) {
        const V top = known[slot * kRows + r].top;
        if (top > total.top) total.top = top;
      }
      for (int slot = 0; slot < Of::kSlots; ++slot) {
        const Partial<V> of = known[slot * kRows + r];
        const V factor = exp2_of<T>((of.top - total.top) * scale);
        total.z += of.z * factor;
        total.weighted += of.weighted * factor;
      }
      partials[g * capacity + (row / kRows * count + strip) * kRows + r] = total;
    }
  });
}

// A team a patch: its strips added up in order, and pos_i = u_i . (m - u_i) / (n - 1), in float64.
template <typename T, int kTeam>
CGCKIT_KERNEL(kThreads)
finish_anchors(Rows<T> x, const int64_t* order, Strips<T> strips, int64_t capacity,
               const Partial<Sum<T>>* partials, ContrastOutputs out) {
  const int64_t row = Team<kTeam>::row();
  if (row >= x.groups * x.patches) return;
  const int64_t g = row / x.patches, i = row % x.patches;
  const int64_t index = g * x.patches + order[row];
  const int lane = Team<kTeam>::lane();
  if (i >= x.anchors(g)) {
    if (lane == 0) out.log_z[index] = out.pos[index] = out.expected[index] = 0;
    return;
  }
  const T* of_row = x.row(g, i);
  const double inverse_norm = static_cast<double>(x.inverse_norm[g * x.rows + i]);
  double similarity = 0;
  for (int64_t d = lane; d < x.depth; d += kTeam) {
    const double u = static_cast<double>(prim::to_float(of_row[d])) * inverse_norm;
    similarity += u * (x.mean[g * x.depth + d] - u);
  }
  similarity = Team<kTeam>::sum(similarity);
  const int64_t count = strips.strips(x, g);
  const Partial<Sum<T>>* part = partials + g * capacity + i / kEdge<T> * count * kEdge<T> + i % kEdge<T>;
  double top = -1;
  for (int64_t s = lane; s < count; s += kTeam) {
    const double of_strip = static_cast<double>(part[s * kEdge<T>].top);
    if (of_strip > top) top = of_strip;
  }
  top = Team<kTeam>::join(top, [](double a, double b) { return a > b ? a : b; });
  double z = 0, weighted = 0;
  for (int64_t s = lane; s < count; s += kTeam) {
    const Partial<Sum<T>> of = part[s * kEdge<T>];
    const double factor = exp((static_cast<double>(of.top) - top) / *x.temperature);
    z += factor * static_cast<double>(of.z);
    weighted += factor * static_cast<double>(of.weighted);
  }
  z = Team<kTeam>::sum(z);
  weighted = Team<kTeam>::sum(weighted);
  if (lane != 0) return;
  out.log_z[index] = log(z) + (top - 1) / *x.temperature;
  out.expected[index] = weighted / z;
  out.pos[index] = similarity / static_cast<double>(x.anchors(g) - 1);
}

template <typename T>
struct Arrays {
  using E = Element<T>;

  Filling<T> filling;
  Strips<E> strips;
  int64_t capacity;
  Partial<Sum<E>>* partials;  // [G, capacity]

  Arrays(const Kept<E>& kept, Workspace& memory)
      : filling(kept, memory),
        strips(kept.x),
        capacity(strips.capacity(kept.x)),
        partials(memory.take<Partial<Sum<E>>>(kept.x.groups * capacity)) {}
};

}  // namespace

template <typename T>
size_t kept_size(const ContrastInputs<T>& in) {
  Workspace memory(nullptr);
  Kept<Element<T>>(in, memory);
  return memory.size();
}

template <typename T>
size_t forward_workspace(const ContrastInputs<T>& in) {
  Workspace memory(nullptr);
  const Kept<Element<T>> kept(in, memory);
  Workspace workspace(nullptr);
  Arrays<T>(kept, workspace);
  return workspace.size();
}

template <typename T>
void forward(const ContrastInputs<T>& in, const ContrastOutputs& out, void* kept_memory, void* memory,
             void* stream) {
  using E = Element<T>;
  Workspace kept_arrays(kept_memory), workspace(memory);
  const Kept<E> kept(in, kept_arrays);
  const Arrays<T> arrays(kept, workspace);
  const prim::Stream on = static_cast<prim::Stream>(stream);
  const Rows<E>& x = kept.x;
  arrays.filling.fill(in, kept, on);
  with_gram(kept.gram, [&](auto source) {
    const int64_t edges = panels(x.patches, kEdge<E>);
    const int64_t blocks = least(resident_blocks(), x.groups * edges * edges);
    constexpr size_t kKnown = Tile<E>::kSlots * kEdge<E> * sizeof(Partial<Sum<E>>);
    static_assert(kKnown <= kTileBytes<E>);
    prim::launch(sum_softmax<E, decltype(source)>, blocks, kThreads, kTileBytes<E>, on, x, source,
                 arrays.strips, arrays.capacity, blocks, arrays.partials);
  });
  launch_teams(finish_anchors<E, prim::kLanes>, finish_anchors<E, kThreads>, x.groups * x.patches, x.depth,
               on, x, in.order, arrays.strips, arrays.capacity, arrays.partials, out);
}

#define CGCKIT_INSTANTIATE(T)                                  \
  template size_t kept_size(const ContrastInputs<T>&);         \
  template size_t forward_workspace(const ContrastInputs<T>&); \
  template void forward(const ContrastInputs<T>&, const ContrastOutputs&, void*, void*, void*);
CGCKIT_TYPES(CGCKIT_INSTANTIATE)
#undef CGCKIT_INSTANTIATE

}  // namespace cgckit::cuda
