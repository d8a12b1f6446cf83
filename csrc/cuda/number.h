// What the kernels are compiled for.
#pragma once

#include "../common/number.h"

namespace cgckit::cuda {

template <typename T>
using Sum = Computed<T>;

#if !defined(CGCKIT_TYPES)
#define CGCKIT_TYPES(instantiate) \
  instantiate(float) instantiate(double) instantiate(Float16) instantiate(BFloat16)
#endif

}  // namespace cgckit::cuda
