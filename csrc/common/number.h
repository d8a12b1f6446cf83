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

// Calls do(type) with each of them; a build may take fewer.
#if !defined(CGCKIT_TYPES)
#define CGCKIT_TYPES(do) \
  do (float)do(double) do(Float16) do(BFloat16)
#endif

template <typename S>
using Computed = std::conditional_t<std::is_same_v<S, double>, double, float>;

}  // namespace cgckit
