// What the kernels are compiled for.
#pragma once

#include "../common/number.h"

namespace cgckit::cuda {

template <typename T>
using Sum = Computed<T>;

// What rows are packed as and tensor cores multiply. Rows are brought to a norm in [1, 2), so that float16
// holds bfloat16 too: of its elements only those below 2^-14 of the row are rounded, to 2^-25 of it.
template <typename T>
using Element = std::conditional_t<sizeof(T) == 2, Float16, T>;

}  // namespace cgckit::cuda
