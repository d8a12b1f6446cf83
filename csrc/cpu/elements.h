// The elements of a patch in the order that the kernels take them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../common/patch_grid.h"

namespace cgckit::cpu {

constexpr int64_t kQuad = 4;  // elements that are loaded together

// Offsets of a patch's D elements from its first one. The loss does not depend on the order of D, so the
// dimension that is contiguous in memory comes last.
struct PatchElements {
  PatchElements(const PatchGrid& grid, const MapStrides& strides, bool channels_last)
      : offset(static_cast<size_t>(grid.depth())), in_quads(grid.depth() % kQuad == 0) {
    for (int64_t v = 0; v < grid.volume(); ++v) {
      const int64_t voxel = grid.voxel_offset(strides, v);
      for (int64_t c = 0; c < grid.channels; ++c) {
        const int64_t d = channels_last ? v * grid.channels + c : c * grid.volume() + v;
        offset[static_cast<size_t>(d)] = voxel + c * strides.channel;
      }
    }
    for (size_t d = 0; d < offset.size() && in_quads; ++d) {
      in_quads = offset[d] == offset[d / kQuad * kQuad] + static_cast<int64_t>(d % kQuad);
    }
  }

  std::vector<int64_t> offset;  // [D]
  bool in_quads;                // every four elements are contiguous
};

}  // namespace cgckit::cpu
