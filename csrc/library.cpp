// Every operator of torch.ops.cgckit. Shapes: B images, G groups of N patches each (G = B, or G = 1 when
// `pooled`: all patches of the batch form one group). features: float64, float32, float16 or bfloat16, which
// are computed in float64 for float64 and else in float32; `norm` and `kept` have that dtype.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(CGCKIT_LIBRARY, m) {
  // features [B, C, H, W, L], probability [B, H, W, L] float32, mask [B, H, W, L] bool
  //   -> norm [G, N]; order [G, N] int64: anchors, then the other members, then the patches left out;
  //      counts [G, 2] int64: anchors, members.
  m.def(
      "patch_statistics(Tensor features, Tensor probability, Tensor? mask, int[] patch_size, int[] stride, "
      "float threshold, bool pooled) -> (Tensor norm, Tensor order, Tensor counts)");

  // temperature [] float64 -> per patch, in float64 whatever the features are; 0 where it is no anchor of a
  // group with at least two:
  //   log_z [G, N] = log sum_{k != i} exp((s_ik - 1) / tau), so that LSE_i = log_z_i + 1 / tau;
  //   pos [G, N] mean similarity to the other anchors;
  //   expected [G, N] = sum_k P_ik s_ik, kept for the gradient of the temperature;
  //   kept [K]: what the device's backward can use again, K fixed by shapes and device alone; it may be empty
  //      and is if not `keep`, which a caller passes when no gradient of the features will follow.
  m.def(
      "patch_contrast(Tensor features, Tensor temperature, Tensor norm, Tensor order, Tensor counts, "
      "int[] patch_size, int[] stride, bool keep) -> (Tensor log_z, Tensor pos, Tensor expected, Tensor "
      "kept)");

  // grad_log_z, grad_pos [G, N] float64 -> grad_features [B, C, H, W, L] in the dtype of features,
  // grad_temperature [] float64. The gradients may differ from anchor to anchor; `kept` may be empty.
  m.def(
      "patch_contrast_backward(Tensor grad_log_z, Tensor grad_pos, Tensor features, Tensor temperature, "
      "Tensor norm, Tensor order, Tensor counts, Tensor log_z, Tensor expected, Tensor kept, "
      "int[] patch_size, int[] stride) -> (Tensor grad_features, Tensor grad_temperature)");
}
