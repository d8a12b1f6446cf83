// Cuts one allocation into arrays.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cgckit::cuda {

// With a null base it only measures.
class Workspace {
 public:
  explicit Workspace(void* base) : base_(static_cast<unsigned char*>(base)) {}

  template <typename V>
  V* take(int64_t count) {
    unsigned char* begin = base_ == nullptr ? nullptr : base_ + size_;
    size_ += (static_cast<size_t>(count) * sizeof(V) + kAlignment - 1) / kAlignment * kAlignment;
    return reinterpret_cast<V*>(begin);
  }
  size_t size() const { return size_; }

 private:
  static constexpr size_t kAlignment = 256;
  unsigned char* base_;
  size_t size_ = 0;
};

}  // namespace cgckit::cuda
