// The patches of a group as the rows of a matrix that is written once: anchors first, aligned, padded with
// zeros.
#pragma once

#include <cmath>

#include "contrast.h"
#include "prim.cuh"
#include "workspace.h"

namespace cgckit::cuda {

constexpr int kThreads = 128;  // of every block but the one that sorts patches by role

CGCKIT_HOST_DEVICE inline int64_t panels(int64_t size, int64_t panel) { return (size + panel - 1) / panel; }
CGCKIT_HOST_DEVICE inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
CGCKIT_HOST_DEVICE inline int64_t most(int64_t a, int64_t b) { return a < b ? b : a; }

// The loss does not depend on the order of the elements of a patch, so the dimension that is contiguous in
// the feature map comes last.
CGCKIT_HOST_DEVICE inline bool channels_come_last(const MapStrides& features) {
  return features.channel == 1;
}

// Offset of element d of a patch from its first one, in a map of these strides.
CGCKIT_HOST_DEVICE inline int64_t element_offset(const PatchGrid& grid, const MapStrides& strides,
                                                 bool channels_last, int64_t d) {
  const int64_t channel = channels_last ? d % grid.channels : d / grid.volume();
  const int64_t voxel = channels_last ? d / grid.channels : d % grid.volume();
  return channel * strides.channel + grid.voxel_offset(strides, voxel);
}

// Index into D of an element.
CGCKIT_HOST_DEVICE inline int64_t element_index(const PatchGrid& grid, bool channels_last, int64_t channel,
                                                int64_t voxel) {
  return channels_last ? voxel * grid.channels + channel : channel * grid.volume() + voxel;
}

static CGCKIT_KERNEL(kThreads)
    fill_offsets(PatchGrid grid, MapStrides strides, const bool* channels_last, int64_t* offset) {
  const int64_t d = prim::block() * kThreads + prim::thread();
  if (d >= grid.depth()) return;
  offset[d] = element_offset(grid, strides,
                             channels_last == nullptr ? channels_come_last(strides) : *channels_last, d);
}

// In the order that suits the map, or in another that is known on the device.
inline void launch_offsets(const PatchGrid& grid, const MapStrides& strides, const bool* channels_last,
                           int64_t* offset, prim::Stream stream) {
  prim::launch(fill_offsets, panels(grid.depth(), kThreads), kThreads, 0, stream, grid, strides,
               channels_last, offset);
}

// Kernels that go through long rows have a team of threads for each: a warp, or the block.
constexpr int64_t kMostWarpDepth = 1024;

template <int kTeam>
struct Team {
  CGCKIT_DEVICE static int64_t row() { return prim::block() * (kThreads / kTeam) + prim::thread() / kTeam; }
  CGCKIT_DEVICE static int lane() { return prim::thread() % kTeam; }

  // join(value, ...) over the team's threads, in one order, known to all of them.
  template <typename V, typename Join>
  CGCKIT_DEVICE static V join(V value, Join join_two) {
    for (int mask = prim::kLanes / 2; mask > 0; mask /= 2) {
      value = join_two(value, prim::shuffle_xor(value, mask));
    }
    if constexpr (kTeam > prim::kLanes) {
      V* of_warps = reinterpret_cast<V*>(prim::shared_memory());
      prim::barrier();  // they may still be read from the sum before
      if (prim::thread() % prim::kLanes == 0) of_warps[prim::thread() / prim::kLanes] = value;
      prim::barrier();
      value = of_warps[0];
      for (int warp = 1; warp < kTeam / prim::kLanes; ++warp) value = join_two(value, of_warps[warp]);
    }
    return value;
  }
  CGCKIT_DEVICE static double sum(double value) {
    return join(value, [](double a, double b) { return a + b; });
  }
};

constexpr size_t kTeamBytes = kThreads / prim::kLanes * sizeof(double);

// Starts the kernel for teams of a warp or that for teams of a block, as the length of a row asks for.
template <typename... P, typename... A>
void launch_teams(void (*by_warp)(P...), void (*by_block)(P...), int64_t rows, int64_t depth,
                  prim::Stream stream, A... arguments) {
  if (depth <= kMostWarpDepth) {
    prim::launch(by_warp, panels(rows, kThreads / prim::kLanes), kThreads, 0, stream, arguments...);
  } else {
    prim::launch(by_block, rows, kThreads, kTeamBytes, stream, arguments...);
  }
}

constexpr int64_t kRowMultiple = 128;  // rows are padded to whole tiles
constexpr int kCopyBytes = 16;

// Row i of group g is the patch at position i of its order, times the power of two that brings its norm to
// [1, 2): nothing overflows, whatever the scale of the features. Rows that take no part are zero. E is an
// `Element`.
template <typename E>
struct Rows {
  E* x;                       // [G, rows, pitch]
  Sum<E>* inverse_norm;       // [G, rows]; of what is in x
  bool* channels_last;        // []: the order of the elements of a row
  double* mean;               // [G, D]: sum of the anchors' unit rows
  const int64_t* counts;      // [G, 2]
  const double* temperature;  // []
  int64_t groups;
  int64_t patches;  // N
  int64_t rows;     // N, padded
  int64_t depth;    // D
  int64_t pitch;    // D, padded to copies

  template <typename T>
  Rows(const ContrastInputs<T>& in, Workspace& memory)
      : counts(in.counts),
        temperature(in.temperature),
        groups(in.groups),
        patches(in.patches()),
        rows(panels(patches, kRowMultiple) * kRowMultiple),
        depth(in.grid.depth()),
        pitch(panels(depth * static_cast<int64_t>(sizeof(E)), kCopyBytes) * kCopyBytes /
              static_cast<int64_t>(sizeof(E))) {
    x = memory.take<E>(groups * rows * pitch);
    inverse_norm = memory.take<Sum<E>>(groups * rows);
    channels_last = memory.take<bool>(1);
    mean = memory.take<double>(groups * depth);
  }

  // Zero where there is nothing to contrast, so that no row or column of such a group is ever reached.
  CGCKIT_DEVICE int64_t anchors(int64_t g) const { return counts[2 * g] < 2 ? 0 : counts[2 * g]; }
  CGCKIT_DEVICE int64_t members(int64_t g) const { return counts[2 * g] < 2 ? 0 : counts[2 * g + 1]; }
  CGCKIT_DEVICE const E* row(int64_t g, int64_t i) const { return x + (g * rows + i) * pitch; }
};

template <typename T, int kTeam>
CGCKIT_KERNEL(kThreads)
pack_rows(ContrastInputs<T> in, const int64_t* offset, Rows<Element<T>> to) {
  using E = Element<T>;
  const int64_t row = Team<kTeam>::row();
  if (row >= to.groups * to.rows) return;
  if (row == 0 && Team<kTeam>::lane() == 0) *to.channels_last = channels_come_last(in.strides);
  const int64_t g = row / to.rows, i = row % to.rows;
  E* x = to.x + row * to.pitch;
  if (i >= to.members(g)) {
    for (int64_t d = Team<kTeam>::lane(); d < to.pitch; d += kTeam) x[d] = E{};
    if (Team<kTeam>::lane() == 0) to.inverse_norm[row] = 0;
    return;
  }
  const int64_t index = g * to.patches + in.order[g * to.patches + i];
  const double norm = static_cast<double>(in.norm[index]);
  const int exponent = norm - norm == 0 ? ilogb(norm) : 0;  // of NaN and infinity there is none
  const double factor = ldexp(1.0, -exponent);
  const T* patch = in.features + in.grid.origin(in.strides, index);
  for (int64_t d = Team<kTeam>::lane(); d < to.pitch; d += kTeam) {
    x[d] =
        d < to.depth ? prim::rounded<E>(static_cast<double>(prim::to_float(patch[offset[d]])) * factor) : E{};
  }
  if (Team<kTeam>::lane() == 0) to.inverse_norm[row] = static_cast<Sum<T>>(1 / (norm * factor));
}

constexpr int64_t kSumChunks = 64;

inline int64_t sum_chunks(int64_t patches) { return least(kSumChunks, panels(patches, 32)); }

// partial[c][g][d] = sum of h_i u_i(d) over a share c of the anchors; h = 1 if it is null.
template <typename E>
CGCKIT_KERNEL(kThreads)
sum_anchors(Rows<E> x, const int64_t* order, const double* h, int64_t chunks, double* partial) {
  const int64_t columns = panels(x.depth, kThreads);
  const int64_t d = prim::block() % columns * kThreads + prim::thread();
  const int64_t c = prim::block() / columns % chunks;
  const int64_t g = prim::block() / columns / chunks;
  if (d >= x.depth) return;
  const int64_t share = panels(x.anchors(g), chunks);
  const int64_t end = least((c + 1) * share, x.anchors(g));
  double sum = 0;
  CGCKIT_UNROLL_BY(4)
  for (int64_t i = c * share; i < end; ++i) {
    const double weight = h == nullptr ? 1.0 : h[g * x.patches + order[g * x.patches + i]];
    const double inverse_norm = static_cast<double>(x.inverse_norm[g * x.rows + i]);
    sum += weight * inverse_norm * static_cast<double>(prim::to_float(x.row(g, i)[d]));
  }
  partial[(c * x.groups + g) * x.depth + d] = sum;
}

static CGCKIT_KERNEL(kThreads)
    add_chunks(const double* partial, int64_t chunks, int64_t size, double* total) {
  const int64_t i = prim::block() * kThreads + prim::thread();
  if (i >= size) return;
  double sum = 0;
  for (int64_t c = 0; c < chunks; ++c) sum += partial[c * size + i];
  total[i] = sum;
}

// total [G, D] = sum of h_i u_i over the anchors of each group, in float64.
class AnchorSum {
 public:
  template <typename E>
  AnchorSum(const Rows<E>& x, Workspace& memory)
      : chunks_(sum_chunks(x.patches)), partial_(memory.take<double>(chunks_ * x.groups * x.depth)) {}

  template <typename E>
  void compute(const Rows<E>& x, const int64_t* order, const double* h, double* total,
               prim::Stream stream) const {
    const int64_t size = x.groups * x.depth;
    prim::launch(sum_anchors<E>, x.groups * chunks_ * panels(x.depth, kThreads), kThreads, 0, stream, x,
                 order, h, chunks_, partial_);
    prim::launch(add_chunks, panels(size, kThreads), kThreads, 0, stream, partial_, chunks_, size, total);
  }

 private:
  int64_t chunks_;
  double* partial_;
};

}  // namespace cgckit::cuda
