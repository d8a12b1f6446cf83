// Where the patches of a feature map lie.
#pragma once

#include <cstdint>

#include "macros.h"

namespace cgckit {

// Element strides of a map [B, C, H, W, L].
struct MapStrides {
  int64_t batch;
  int64_t channel;
  int64_t axis[3];
};

// Patches [ph, pw, pl] cut every `stride` voxels from a map [B, C, H, W, L]; voxels past the last whole
// patch belong to none. Patches are numbered image by image, the last axis fastest.
struct PatchGrid {
  int64_t batch;
  int64_t channels;
  int64_t map[3];
  int64_t patch[3];
  int64_t stride[3];

  CGCKIT_HOST_DEVICE int64_t count(int axis) const { return (map[axis] - patch[axis]) / stride[axis] + 1; }
  CGCKIT_HOST_DEVICE int64_t per_image() const { return count(0) * count(1) * count(2); }
  CGCKIT_HOST_DEVICE int64_t total() const { return batch * per_image(); }
  // Patches of each of `groups`; of an empty batch there may be no group.
  CGCKIT_HOST_DEVICE int64_t per_group(int64_t groups) const { return groups == 0 ? 0 : total() / groups; }
  CGCKIT_HOST_DEVICE int64_t volume() const { return patch[0] * patch[1] * patch[2]; }
  CGCKIT_HOST_DEVICE int64_t depth() const { return channels * volume(); }
  CGCKIT_HOST_DEVICE bool overlaps() const {
    return (count(0) > 1 && stride[0] < patch[0]) || (count(1) > 1 && stride[1] < patch[1]) ||
           (count(2) > 1 && stride[2] < patch[2]);
  }
  // Without overlap: every voxel of the map belongs to a patch.
  CGCKIT_HOST_DEVICE bool fills_map() const { return per_image() * volume() == map[0] * map[1] * map[2]; }

  // Offset of the first element of patch `index`, 0 <= index < total().
  CGCKIT_HOST_DEVICE int64_t origin(const MapStrides& strides, int64_t index) const {
    // Devices divide 64 bits slowly, and a patch has few other instructions.
    bool narrow = index <= UINT32_MAX;
    for (int axis = 0; axis < 3; ++axis)
      narrow = narrow && map[axis] <= UINT32_MAX && stride[axis] <= UINT32_MAX;
    return narrow ? origin_by<uint32_t>(strides, index) : origin_by<uint64_t>(strides, index);
  }

  // Offset of voxel `v` of a patch from the patch's first element, 0 <= v < volume().
  CGCKIT_HOST_DEVICE int64_t voxel_offset(const MapStrides& strides, int64_t v) const {
    const int64_t l = v % patch[2];
    const int64_t w = v / patch[2] % patch[1];
    const int64_t h = v / patch[2] / patch[1];
    return h * strides.axis[0] + w * strides.axis[1] + l * strides.axis[2];
  }

 private:
  template <typename I>
  CGCKIT_HOST_DEVICE int64_t origin_by(const MapStrides& strides, int64_t index) const {
    I counts[3];
    for (int axis = 0; axis < 3; ++axis) {
      counts[axis] = static_cast<I>(map[axis] - patch[axis]) / static_cast<I>(stride[axis]) + 1;
    }
    I rest = static_cast<I>(index);
    int64_t offset = 0;
    for (int axis = 2; axis >= 0; --axis) {
      offset += static_cast<int64_t>(rest % counts[axis]) * stride[axis] * strides.axis[axis];
      rest /= counts[axis];
    }
    return offset + static_cast<int64_t>(rest) * strides.batch;
  }
};

}  // namespace cgckit
