// The patches of a group as a matrix X [members, D] that is read in place from the feature map.
#pragma once

#include "contrast.h"
#include "prim.cuh"
#include "workspace.h"

namespace cgckit::cuda {

constexpr int kThreads = 128;  // of every block but the one that sorts patches by role

CGCKIT_HOST_DEVICE inline int64_t panels(int64_t size, int64_t panel) { return (size + panel - 1) / panel; }
CGCKIT_HOST_DEVICE inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
CGCKIT_HOST_DEVICE inline int64_t most(int64_t a, int64_t b) { return a < b ? b : a; }

// Offset of element d of a patch from its first one. The loss does not depend on the order of D, so the
// dimension that is contiguous in memory comes last.
CGCKIT_HOST_DEVICE inline int64_t element_offset(const PatchGrid& grid, const MapStrides& strides,
                                                 int64_t d) {
  const bool channels_last = strides.channel == 1;
  const int64_t channel = channels_last ? d % grid.channels : d / grid.volume();
  const int64_t voxel = channels_last ? d / grid.channels : d % grid.volume();
  return channel * strides.channel + grid.voxel_offset(strides, voxel);
}

// Index into D of an element.
CGCKIT_HOST_DEVICE inline int64_t element_index(const PatchGrid& grid, const MapStrides& strides,
                                                int64_t channel, int64_t voxel) {
  return strides.channel == 1 ? voxel * grid.channels + channel : channel * grid.volume() + voxel;
}

// Row i of group g is the patch at position i of its order, anchors first: element d lies at
// map[origin[g N + i] + offset[d]].
template <typename T>
struct Members {
  const T* map;
  const int64_t* offset;       // [D]
  const int64_t* origin;       // [G, N]
  const Sum<T>* inverse_norm;  // [G, N]
  const int64_t* counts;       // [G, 2]
  const double* temperature;   // []
  int64_t groups;
  int64_t patches;  // N
  int64_t depth;    // D

  CGCKIT_DEVICE int64_t anchors(int64_t g) const { return counts[2 * g]; }
  // Zero where there is nothing to contrast, so that no row or column of such a group is ever reached.
  CGCKIT_DEVICE int64_t count(int64_t g) const { return anchors(g) < 2 ? 0 : counts[2 * g + 1]; }
  CGCKIT_DEVICE int64_t rows(int64_t g) const { return anchors(g) < 2 ? 0 : anchors(g); }
};

// Elements that are contiguous and aligned to 16 bytes wherever a multiple of them starts in D, or 1.
template <typename T>
int64_t chunk(const PatchGrid& grid, const MapStrides& strides, const T* map) {
  constexpr int64_t kWide = 16 / static_cast<int64_t>(sizeof(T));
  const bool channels_last = strides.channel == 1;
  const bool contiguous =
      channels_last ? grid.channels % kWide == 0 : strides.axis[2] == 1 && grid.patch[2] % kWide == 0;
  bool aligned = reinterpret_cast<uintptr_t>(map) % 16 == 0 && strides.batch % kWide == 0;
  for (int axis = 0; axis < 3; ++axis) {
    // Along the contiguous axis whole chunks are stepped over, within a patch and from patch to patch.
    const bool inner = !channels_last && axis == 2;
    aligned = aligned && (inner ? grid.stride[2] % kWide == 0 || grid.count(2) == 1
                                : strides.axis[axis] % kWide == 0 || grid.map[axis] == 1);
  }
  if (!channels_last) aligned = aligned && (strides.channel % kWide == 0 || grid.channels == 1);
  return contiguous && aligned && sizeof(T) < 8 ? kWide : 1;
}

// What the kernels look up: written by `prepare`.
template <typename T>
struct Tables {
  int64_t* offset;       // [D]
  int64_t* origin;       // [G, N]
  Sum<T>* inverse_norm;  // [G, N]
  int64_t* position;     // [G, N]: the inverse of `order`

  Tables(const ContrastInputs<T>& in, Workspace& workspace)
      : offset(workspace.take<int64_t>(in.grid.depth())),
        origin(workspace.take<int64_t>(in.grid.total())),
        inverse_norm(workspace.take<Sum<T>>(in.grid.total())),
        position(workspace.take<int64_t>(in.grid.total())) {}

  Members<T> members(const ContrastInputs<T>& in) const {
    return {in.features,    offset,         origin,    inverse_norm,
            in.counts,      in.temperature, in.groups, in.grid.per_group(in.groups),
            in.grid.depth()};
  }
};

static CGCKIT_KERNEL(kThreads) fill_offsets(PatchGrid grid, MapStrides strides, int64_t* offset) {
  const int64_t d = prim::block() * kThreads + prim::thread();
  if (d < grid.depth()) offset[d] = element_offset(grid, strides, d);
}

template <typename T>
CGCKIT_KERNEL(kThreads)
fill_tables(ContrastInputs<T> in, Tables<T> tables) {
  const int64_t i = prim::block() * kThreads + prim::thread();
  if (i >= in.grid.total()) return;
  const int64_t patches = in.grid.per_group(in.groups);
  const int64_t first = i / patches * patches;
  const int64_t index = first + in.order[i];
  tables.origin[i] = in.grid.origin(in.strides, index);
  tables.inverse_norm[i] = 1 / in.norm[index];
  tables.position[index] = i - first;
}

template <typename T>
void prepare(const ContrastInputs<T>& in, const Tables<T>& tables, prim::Stream stream) {
  prim::launch(fill_offsets, panels(in.grid.depth(), kThreads), kThreads, 0, stream, in.grid, in.strides,
               tables.offset);
  prim::launch(fill_tables<T>, panels(in.grid.total(), kThreads), kThreads, 0, stream, in, tables);
}

// The sum over the block's threads, in one order, known to all of them. `scratch` is shared, a value a warp.
template <typename V>
CGCKIT_DEVICE V block_sum(V value, V* scratch) {
  for (int mask = prim::kLanes / 2; mask > 0; mask /= 2) value += prim::shuffle_xor(value, mask);
  prim::barrier();  // `scratch` may still be read from the sum before
  if (prim::thread() % prim::kLanes == 0) scratch[prim::thread() / prim::kLanes] = value;
  prim::barrier();
  V sum = 0;
  for (int warp = 0; warp < kThreads / prim::kLanes; ++warp) sum += scratch[warp];
  return sum;
}

constexpr int64_t kSumChunks = 16;

inline int64_t sum_chunks(int64_t patches) { return least(kSumChunks, panels(patches, 64)); }

// partial[c][g][d] = sum of h_i u_i(d) over a share c of the anchors; h = 1 if it is null.
template <typename T>
CGCKIT_KERNEL(kThreads)
sum_anchors(Members<T> x, const int64_t* order, const double* h, int64_t chunks, double* partial) {
  const int64_t columns = panels(x.depth, kThreads);
  const int64_t d = prim::block() % columns * kThreads + prim::thread();
  const int64_t c = prim::block() / columns % chunks;
  const int64_t g = prim::block() / columns / chunks;
  if (d >= x.depth) return;
  const int64_t share = panels(x.rows(g), chunks);
  const int64_t end = least((c + 1) * share, x.rows(g));
  double sum = 0;
  for (int64_t i = c * share; i < end; ++i) {
    const int64_t row = g * x.patches + i;
    const double value = static_cast<double>(prim::to_float(x.map[x.origin[row] + x.offset[d]]));
    const double weight = h == nullptr ? 1.0 : h[g * x.patches + order[row]];
    sum += weight * static_cast<double>(x.inverse_norm[row]) * value;
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

// m [G, D] = sum of h_i u_i over the anchors of each group, in float64.
template <typename T>
struct AnchorSum {
  double* partial;
  double* total;

  AnchorSum(const ContrastInputs<T>& in, Workspace& workspace)
      : partial(
            workspace.take<double>(sum_chunks(in.grid.per_group(in.groups)) * in.groups * in.grid.depth())),
        total(workspace.take<double>(in.groups * in.grid.depth())) {}

  void compute(const Members<T>& x, const int64_t* order, const double* h, prim::Stream stream) const {
    const int64_t chunks = sum_chunks(x.patches), size = x.groups * x.depth;
    prim::launch(sum_anchors<T>, x.groups * chunks * panels(x.depth, kThreads), kThreads, 0, stream, x, order,
                 h, chunks, partial);
    prim::launch(add_chunks, panels(size, kThreads), kThreads, 0, stream, partial, chunks, size, total);
  }
};

}  // namespace cgckit::cuda
