// The patches of a group as a matrix that is read in place from the feature map.
#pragma once

#include <cstdint>
#include <vector>

#include "../common/patch_grid.h"

namespace cgckit::cpu {

// Offsets of a patch's D elements from its first one. The loss does not depend on the order of D, so the
// dimension that is contiguous in memory comes last.
class PatchElements {
 public:
  PatchElements(const PatchGrid& grid, bool channels_last) : grid_(grid), channels_last_(channels_last) {}

  // Index into D of voxel v of channel c.
  int64_t index(int64_t c, int64_t v) const {
    return channels_last_ ? v * grid_.channels + c : c * grid_.volume() + v;
  }

  std::vector<int64_t> offsets(const MapStrides& strides) const {
    std::vector<int64_t> offsets(static_cast<size_t>(grid_.depth()));
    for (int64_t v = 0; v < grid_.volume(); ++v) {
      const int64_t voxel = grid_.voxel_offset(strides, v);
      for (int64_t c = 0; c < grid_.channels; ++c) {
        offsets[static_cast<size_t>(index(c, v))] = voxel + c * strides.channel;
      }
    }
    return offsets;
  }

 private:
  PatchGrid grid_;
  bool channels_last_;
};

// Row i of the matrix [members, D] is patch order[i]: x(i, d) = map[origin[i] + offset[d]]. Anchors come
// first.
template <typename T>
struct Members {
  const T* map;
  const int64_t* offset;        // [depth]
  std::vector<int64_t> origin;  // [count]
  std::vector<T> inverse_norm;  // [count]
  int64_t depth;
  int64_t anchors;
  int64_t count;

  const T* row(int64_t i) const { return map + origin[static_cast<size_t>(i)]; }
  T scale(int64_t i) const { return inverse_norm[static_cast<size_t>(i)]; }
};

}  // namespace cgckit::cpu
