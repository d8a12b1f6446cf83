// Element types of a feature map, and what they are computed in.
#pragma once

#include <cstdint>
#include <type_traits>

namespace cgckit {

struct Float16 {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

template <typename S>
using Computed = std::conditional_t<std::is_same_v<S, double>, double, float>;

}  // namespace cgckit
