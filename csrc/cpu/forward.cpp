// Log-sum-exp over all members and mean similarity to the positives, for every anchor.
#include <algorithm>

#include "contrast.h"
#include "members.h"
#include "positives.h"
#include "softmax.h"

namespace cgckit::cpu {
namespace {

// pos_i = (u_i . m - 1) / (n - 1), in float64.
template <typename T>
void positive_similarity(const Members<T>& members, const int64_t* order, double* pos,
                         const ParallelFor& parallel_for) {
  const TileKernels<T>& kernels = tile_kernels<T>();
  const std::vector<double> sum = sum_of_anchors(members, nullptr, parallel_for);
  parallel_for(members.anchors(), kRowsTogether, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const double inverse_norm = static_cast<double>(*members.inverse_norm(i));
      const double to_all = kernels.dot(members.row(i), sum.data()) * inverse_norm;
      pos[order[i]] = (to_all - 1.0) / static_cast<double>(members.anchors() - 1);
    }
  });
}

}  // namespace

template <typename S>
void forward(const ContrastInputs<S>& in, const ContrastOutputs& out, Computed<S>* kept,
             const ParallelFor& parallel_for) {
  using T = Computed<S>;
  const PatchElements elements(in.grid, in.strides, in.channels_last());
  for (double* values : {out.log_z, out.pos, out.expected}) std::fill_n(values, in.grid.total(), 0.0);
  const int64_t patches = in.patches(), depth = kept_depth(in.grid);
  for (int64_t g = 0; g < in.groups; ++g) {
    const int64_t first = g * patches;
    T* gradient = kept == nullptr ? nullptr : kept + first * depth;
    const int64_t contrasted = in.counts[2 * g] < 2 ? 0 : in.counts[2 * g + 1];
    if (kept != nullptr) {
      kept[in.grid.total() * depth + g] = contrasted > 0 ? kept_code(in) : kNothingKept;
      std::fill(gradient + contrasted * depth, gradient + patches * depth, T(0));
    }
    if (contrasted == 0) continue;
    const Members<T> members(in, g, elements, parallel_for);
    const int64_t* order = in.order + first;
    const std::vector<AnchorSoftmax> rows =
        softmax<T>(members, *in.temperature, nullptr, gradient, parallel_for);
    for (int64_t i = 0; i < members.anchors(); ++i) {
      out.log_z[first + order[i]] = rows[static_cast<size_t>(i)].log_z;
      out.expected[first + order[i]] = rows[static_cast<size_t>(i)].expected;
    }
    positive_similarity(members, order, out.pos + first, parallel_for);
  }
}

#define CGCKIT_INSTANTIATE(S) \
  template void forward(const ContrastInputs<S>&, const ContrastOutputs&, Computed<S>*, const ParallelFor&);
CGCKIT_TYPES(CGCKIT_INSTANTIATE)
#undef CGCKIT_INSTANTIATE

}  // namespace cgckit::cpu
