// What the kernels are compiled for.
#pragma once

#include "../common/number.h"

namespace cgckit::cuda {

template <typename T>
using Sum = Computed<T>;

}  // namespace cgckit::cuda
