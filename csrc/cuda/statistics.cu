// Which patches take part, which are anchors, and their norms.
#include <cfloat>

#include "members.cuh"

namespace cgckit::cuda {
namespace {

enum Role : uint8_t { kAnchor, kCandidate, kLeftOut };

// Sum of a map over the voxels of a patch.
template <typename V>
CGCKIT_DEVICE double patch_sum(const PatchGrid& grid, const V* map, const MapStrides& strides, int64_t index,
                               double* scratch) {
  const V* patch = map + grid.origin(strides, index);
  double sum = 0;
  for (int64_t v = prim::thread(); v < grid.volume(); v += kThreads) {
    sum += static_cast<double>(patch[grid.voxel_offset(strides, v)]);
  }
  return block_sum(sum, scratch);
}

// A block a patch.
template <typename T>
CGCKIT_KERNEL(kThreads)
find_roles(StatisticsInputs<T> in, const int64_t* offset, Sum<T>* norm, uint8_t* role) {
  double* scratch = reinterpret_cast<double*>(prim::shared_memory());
  const int64_t index = prim::block();
  const T* patch = in.features + in.grid.origin(in.features_strides, index);
  double squared = 0;
  for (int64_t d = prim::thread(); d < in.grid.depth(); d += kThreads) {
    const double x = static_cast<double>(prim::to_float(patch[offset[d]]));
    squared += x * x;
  }
  squared = block_sum(squared, scratch);
  const double volume = static_cast<double>(in.grid.volume());
  const double probability = patch_sum(in.grid, in.probability, in.probability_strides, index, scratch);
  const double inside =
      in.mask == nullptr ? volume : patch_sum(in.grid, in.mask, in.mask_strides, index, scratch);
  if (prim::thread() != 0) return;
  // A norm whose square is not a normal number counts as zero; NaN takes part, so that it shows.
  const double smallest = sizeof(Sum<T>) == sizeof(double) ? DBL_MIN : static_cast<double>(FLT_MIN);
  // In the precision of the probabilities, so that a constant map is not below its own value.
  const double threshold = static_cast<double>(static_cast<float>(in.threshold));
  norm[index] = static_cast<Sum<T>>(sqrt(squared));
  if (squared < smallest || 2 * inside < volume) {
    role[index] = kLeftOut;
  } else {
    role[index] = probability >= threshold * volume ? kAnchor : kCandidate;
  }
}

constexpr int kSortThreads = 256;

// A block a group: each thread owns a run of patches and learns how many of each role come before it.
static CGCKIT_KERNEL(kSortThreads)
    sort_by_role(const uint8_t* role, int64_t patches, int64_t* order, int64_t* counts) {
  int64_t* before = reinterpret_cast<int64_t*>(prim::shared_memory());  // [3][kSortThreads]
  const int64_t g = prim::block();
  const int thread = prim::thread();
  const int64_t run = panels(patches, kSortThreads);
  const int64_t begin = least(thread * run, patches), end = least(begin + run, patches);
  role += g * patches;
  order += g * patches;
  int64_t found[3] = {0, 0, 0};
  for (int64_t i = begin; i < end; ++i) {
    for (int r = 0; r < 3; ++r) found[r] += role[i] == r;
  }
  for (int r = 0; r < 3; ++r) before[r * kSortThreads + thread] = found[r];
  prim::barrier();
  int64_t next[3], total[3];
  int64_t first = 0;
  for (int r = 0; r < 3; ++r) {
    next[r] = first;
    total[r] = 0;
    for (int t = 0; t < kSortThreads; ++t) {
      const int64_t of_thread = before[r * kSortThreads + t];
      if (t < thread) next[r] += of_thread;
      total[r] += of_thread;
    }
    first += total[r];
  }
  for (int64_t i = begin; i < end; ++i) {
    for (int r = 0; r < 3; ++r) {
      if (role[i] == r) order[next[r]++] = i;
    }
  }
  if (thread == 0) {
    counts[2 * g] = total[kAnchor];
    counts[2 * g + 1] = total[kAnchor] + total[kCandidate];
  }
}

struct Arrays {
  int64_t* offset;  // [D]
  uint8_t* role;    // [G, N]

  Arrays(const PatchGrid& grid, Workspace& workspace)
      : offset(workspace.take<int64_t>(grid.depth())), role(workspace.take<uint8_t>(grid.total())) {}
};

}  // namespace

template <typename T>
size_t statistics_workspace(const StatisticsInputs<T>& in) {
  Workspace workspace(nullptr);
  Arrays(in.grid, workspace);
  return workspace.size();
}

template <typename T>
void statistics(const StatisticsInputs<T>& in, const StatisticsOutputs<T>& out, void* memory, void* stream) {
  Workspace workspace(memory);
  const Arrays arrays(in.grid, workspace);
  const prim::Stream on = static_cast<prim::Stream>(stream);
  prim::launch(fill_offsets, panels(in.grid.depth(), kThreads), kThreads, 0, on, in.grid, in.features_strides,
               arrays.offset);
  prim::launch(find_roles<T>, in.grid.total(), kThreads, kThreads / prim::kLanes * sizeof(double), on, in,
               arrays.offset, out.norm, arrays.role);
  prim::launch(sort_by_role, in.groups, kSortThreads, 3 * kSortThreads * sizeof(int64_t), on, arrays.role,
               in.grid.per_group(in.groups), out.order, out.counts);
}

#define CGCKIT_INSTANTIATE(T)                                       \
  template size_t statistics_workspace(const StatisticsInputs<T>&); \
  template void statistics(const StatisticsInputs<T>&, const StatisticsOutputs<T>&, void*, void*);
CGCKIT_TYPES(CGCKIT_INSTANTIATE)
#undef CGCKIT_INSTANTIATE

}  // namespace cgckit::cuda
