// Uninitialised memory, aligned for vector loads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#include "large_pages.h"

namespace cgckit::cpu {

template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t size)
      : size_(size),
        data_(static_cast<T*>(::operator new(static_cast<size_t>(size) * sizeof(T), kAlignment))) {
    prefer_large_pages(data_, static_cast<size_t>(size) * sizeof(T));
  }
  Buffer() : Buffer(0) {}
  ~Buffer() { ::operator delete(data_, kAlignment); }
  Buffer(Buffer&& other) noexcept : size_(other.size_), data_(std::exchange(other.data_, nullptr)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(size_, other.size_);
    std::swap(data_, other.data_);
    return *this;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }
  void zero() { std::fill_n(data_, size_, T(0)); }

 private:
  static constexpr std::align_val_t kAlignment{64};
  int64_t size_;
  T* data_;
};

}  // namespace cgckit::cpu
