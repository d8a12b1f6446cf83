// Element types of a feature map, and what they are computed in.
#pragma once

#include <cstdint>

namespace cgckit::cuda {

struct Float16 {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

template <typename T>
struct Computed {
  using Type = float;
};
template <>
struct Computed<double> {
  using Type = double;
};
template <typename T>
using Sum = typename Computed<T>::Type;

// What the kernels are compiled for.
#if !defined(CGCKIT_TYPES)
#define CGCKIT_TYPES(instantiate) \
  instantiate(float) instantiate(double) instantiate(Float16) instantiate(BFloat16)
#endif

}  // namespace cgckit::cuda
