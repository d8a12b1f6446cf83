#include "members.h"

#include <algorithm>
#include <type_traits>

#include "half.h"

namespace cgckit::cpu {
namespace {

constexpr int64_t kRowsOfItem = 16;  // neighbours share cache lines of the map

// Rows `begin` .. `end`, element by element. Where the elements of a patch are far apart, no processor
// foresees the next ones: asks for those of the first and the last row some elements ahead, between which the
// others mostly lie.
template <typename S, typename T>
void copy_rows(const std::vector<const S*>& source, const std::vector<int64_t>& offset, int64_t begin,
               int64_t end, T* copy, int64_t distance) {
  const int64_t depth = static_cast<int64_t>(offset.size());
  constexpr int64_t kAhead = 16;
  const S *first = source[static_cast<size_t>(begin)], *last = source[static_cast<size_t>(end - 1)];
  for (int64_t d = 0; d < depth; ++d) {
    const int64_t ahead = offset[static_cast<size_t>(std::min(d + kAhead, depth - 1))];
    __builtin_prefetch(first + ahead);
    __builtin_prefetch(last + ahead);
    for (int64_t i = begin; i < end; ++i) {
      copy[i * distance + d] = load(source[static_cast<size_t>(i)][offset[static_cast<size_t>(d)]]);
    }
  }
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t d = depth; d < distance; ++d) copy[i * distance + d] = T(0);
  }
}

}  // namespace

template <typename T>
template <typename S>
Members<T>::Members(const ContrastInputs<S>& in, int64_t group, const PatchElements& elements,
                    const ParallelFor& parallel_for)
    : anchors_(in.counts[2 * group]) {
  const int64_t start = group * in.patches();
  const int64_t count = in.counts[2 * group + 1];
  std::vector<const S*> source(static_cast<size_t>(count));
  inverse_norm_.resize(source.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t index = start + in.order[start + i];
    source[static_cast<size_t>(i)] = in.features + in.grid.origin(in.strides, index);
    inverse_norm_[static_cast<size_t>(i)] = T(1) / in.norm[index];
  }
  const int64_t depth = padded(in.grid.depth(), kQuad);
  quad_.resize(static_cast<size_t>(depth / kQuad));
  if constexpr (std::is_same_v<S, T>) {
    if (elements.in_quads) {
      first_ = std::move(source);
      for (size_t q = 0; q < quad_.size(); ++q) quad_[q] = elements.offset[q * kQuad];
      return;
    }
  }
  const int64_t distance = row_distance(depth);
  copy_ = Buffer<T>(count * distance);
  parallel_for(panels(count, kRowsOfItem), 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * kRowsOfItem; i < std::min(end * kRowsOfItem, count); i += kRowsOfItem) {
      copy_rows(source, elements.offset, i, std::min(i + kRowsOfItem, count), copy_.data(), distance);
    }
  });
  first_.resize(source.size());
  for (int64_t i = 0; i < count; ++i) first_[static_cast<size_t>(i)] = copy_.data() + i * distance;
  for (size_t q = 0; q < quad_.size(); ++q) quad_[q] = static_cast<int64_t>(q) * kQuad;
}

template class Members<float>;
template class Members<double>;
#define CGCKIT_INSTANTIATE(S)                                                                     \
  template Members<Computed<S>>::Members(const ContrastInputs<S>&, int64_t, const PatchElements&, \
                                         const ParallelFor&);
CGCKIT_TYPES(CGCKIT_INSTANTIATE)
#undef CGCKIT_INSTANTIATE

}  // namespace cgckit::cpu
