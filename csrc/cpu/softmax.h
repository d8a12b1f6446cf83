// The O(n N D) part of the loss: the softmax of every anchor over all other members, and its gradient.
#pragma once

#include <vector>

#include "members.h"
#include "parallel.h"

namespace cgckit::cpu {

struct AnchorSoftmax {
  double log_z;     // log sum_{k != i} exp((s_ik - 1) / tau)
  double expected;  // sum_k P_ik s_ik
};

// The softmax of every anchor. Unless `gradient` is null, it becomes the gradient of sum_i weight_i log Z_i
// with respect to the members' unit vectors, [count][depth]; `weight` null stands for ones.
template <typename T>
std::vector<AnchorSoftmax> softmax(const Members<T>& members, double temperature, const double* weight,
                                   T* gradient, const ParallelFor& parallel_for);

}  // namespace cgckit::cpu
