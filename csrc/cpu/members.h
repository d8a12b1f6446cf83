// The patches of a group as a matrix that is read in place from the feature map.
#pragma once

#include <cstdint>
#include <vector>

#include "buffer.h"
#include "contrast.h"
#include "elements.h"
#include "tile.h"

namespace cgckit::cpu {

// Row i of the matrix [count, depth] is patch order[i]; anchors come first. Where the map cannot be read four
// elements at a time (they are not contiguous, or not of type T), the rows are copied, once and converted;
// `depth` is then padded with zeros.
template <typename T>
class Members {
 public:
  template <typename S>
  Members(const ContrastInputs<S>& in, int64_t group, const PatchElements& elements,
          const ParallelFor& parallel_for);

  int64_t count() const { return static_cast<int64_t>(first_.size()); }
  int64_t anchors() const { return anchors_; }
  int64_t depth() const { return static_cast<int64_t>(quad_.size()) * kQuad; }
  const int64_t* quad() const { return quad_.data(); }
  const T* const* first(int64_t i = 0) const { return first_.data() + i; }
  const T* inverse_norm(int64_t i = 0) const { return inverse_norm_.data() + i; }
  Row<T> row(int64_t i) const {
    return {first_[static_cast<size_t>(i)], quad_.data(), static_cast<int64_t>(quad_.size())};
  }

 private:
  int64_t anchors_;
  std::vector<const T*> first_;
  std::vector<T> inverse_norm_;
  std::vector<int64_t> quad_;
  Buffer<T> copy_;
};

}  // namespace cgckit::cpu
