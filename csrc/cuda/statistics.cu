// Which patches take part, which are anchors, and their norms.
#include <cfloat>

#include "rows.cuh"

namespace cgckit::cuda {
namespace {

enum Role : uint8_t { kAnchor, kCandidate, kLeftOut };
constexpr int kRoles = 3;

// Sum of a map over the voxels of a patch.
template <int kTeam, typename V>
CGCKIT_DEVICE double patch_sum(const PatchGrid& grid, const V* map, const MapStrides& strides,
                               int64_t index) {
  const V* patch = map + grid.origin(strides, index);
  double sum = 0;
  for (int64_t v = Team<kTeam>::lane(); v < grid.volume(); v += kTeam) {
    sum += static_cast<double>(patch[grid.voxel_offset(strides, v)]);
  }
  return Team<kTeam>::sum(sum);
}

// A team a patch.
template <typename T, int kTeam>
CGCKIT_KERNEL(kThreads)
find_roles(StatisticsInputs<T> in, const int64_t* offset, Sum<T>* norm, uint8_t* role) {
  const int64_t index = Team<kTeam>::row();
  if (index >= in.grid.total()) return;
  const T* patch = in.features + in.grid.origin(in.features_strides, index);
  double squared = 0;
  for (int64_t d = Team<kTeam>::lane(); d < in.grid.depth(); d += kTeam) {
    const double x = static_cast<double>(prim::to_float(patch[offset[d]]));
    squared += x * x;
  }
  squared = Team<kTeam>::sum(squared);
  const double volume = static_cast<double>(in.grid.volume());
  const double probability = patch_sum<kTeam>(in.grid, in.probability, in.probability_strides, index);
  const double inside =
      in.mask == nullptr ? volume : patch_sum<kTeam>(in.grid, in.mask, in.mask_strides, index);
  if (Team<kTeam>::lane() != 0) return;
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

constexpr int kSortThreads = 512;

// A block a group: each thread owns a run of patches and learns how many of each role come before it.
static CGCKIT_KERNEL(kSortThreads)
    sort_by_role(const uint8_t* CGCKIT_RESTRICT role, int64_t patches, int64_t* CGCKIT_RESTRICT order,
                 int64_t* CGCKIT_RESTRICT counts) {
  int64_t (*upto)[kSortThreads][kRoles] =
      reinterpret_cast<int64_t (*)[kSortThreads][kRoles]>(prim::shared_memory());
  const int64_t g = prim::block();
  const int thread = prim::thread();
  const int64_t run = panels(patches, kSortThreads);
  const int64_t begin = least(thread * run, patches), end = least(begin + run, patches);
  role += g * patches;
  order += g * patches;
  int64_t next[kRoles] = {0, 0, 0};
  CGCKIT_UNROLL_BY(8)
  for (int64_t i = begin; i < end; ++i) {
    for (int r = 0; r < kRoles; ++r) next[r] += role[i] == r;
  }
  const int64_t found[kRoles] = {next[0], next[1], next[2]};
  // How many there are up to and with this thread's, over a distance that doubles.
  int from = 0;
  for (int distance = 1; distance < kSortThreads; distance *= 2, from = 1 - from) {
    for (int r = 0; r < kRoles; ++r) upto[from][thread][r] = next[r];
    prim::barrier();
    if (thread >= distance) {
      for (int r = 0; r < kRoles; ++r) next[r] += upto[from][thread - distance][r];
    }
  }
  for (int r = 0; r < kRoles; ++r) upto[from][thread][r] = next[r];
  prim::barrier();
  int64_t first = 0;
  int64_t total[kRoles];
  for (int r = 0; r < kRoles; ++r) {
    total[r] = upto[from][kSortThreads - 1][r];
    next[r] += first - found[r];
    first += total[r];
  }
  for (int64_t i = begin; i < end; ++i) {
    for (int r = 0; r < kRoles; ++r) {
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
  launch_offsets(in.grid, in.features_strides, nullptr, arrays.offset, on);
  launch_teams(find_roles<T, prim::kLanes>, find_roles<T, kThreads>, in.grid.total(), in.grid.depth(), on, in,
               arrays.offset, out.norm, arrays.role);
  prim::launch(sort_by_role, in.groups, kSortThreads, 2 * kRoles * kSortThreads * sizeof(int64_t), on,
               arrays.role, in.grid.per_group(in.groups), out.order, out.counts);
}

#define CGCKIT_INSTANTIATE(T)                                       \
  template size_t statistics_workspace(const StatisticsInputs<T>&); \
  template void statistics(const StatisticsInputs<T>&, const StatisticsOutputs<T>&, void*, void*);
CGCKIT_TYPES(CGCKIT_INSTANTIATE)
#undef CGCKIT_INSTANTIATE

}  // namespace cgckit::cuda
