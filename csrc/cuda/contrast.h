// The three operators on a CUDA device; neither torch nor CUDA headers are needed to call them.
#pragma once

#include <cstddef>

#include "../common/contrast.h"
#include "number.h"

namespace cgckit::cuda {

// Memory that lives for one call: fixed by shapes, never by how many anchors there are. `workspace` may hold
// anything on entry. `stream` is a cudaStream_t.
template <typename T>
size_t statistics_workspace(const StatisticsInputs<T>& in);
template <typename T>
void statistics(const StatisticsInputs<T>& in, const StatisticsOutputs<T>& out, void* workspace,
                void* stream);

// What the backward takes over from the forward; without it (null) it computes it again.
template <typename T>
size_t kept_size(const ContrastInputs<T>& in);

template <typename T>
size_t forward_workspace(const ContrastInputs<T>& in);
template <typename T>
void forward(const ContrastInputs<T>& in, const ContrastOutputs& out, void* kept, void* workspace,
             void* stream);

template <typename T>
size_t backward_workspace(const ContrastInputs<T>& in, bool kept);
template <typename T>
void backward(const ContrastInputs<T>& in, const GradientInputs& gradient, const GradientOutputs<T>& out,
              void* kept, void* workspace, void* stream);

}  // namespace cgckit::cuda
