// Every operator of torch.ops.cgckit. Shapes: B images, G groups of N patches each (G = B, or G = 1 when
// `pooled`: all patches of the batch form one group).
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(cgckit, m) {
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
  //   expected [G, N] = sum_k P_ik s_ik, kept for the gradient of the temperature.
  m.def(
      "patch_contrast(Tensor features, Tensor temperature, Tensor norm, Tensor order, Tensor counts, "
      "int[] patch_size, int[] stride) -> (Tensor log_z, Tensor pos, Tensor expected)");

  // grad_log_z, grad_pos [G, N] -> grad_features [B, C, H, W, L], grad_temperature [] float64
  m.def(
      "patch_contrast_backward(Tensor grad_log_z, Tensor grad_pos, Tensor features, Tensor temperature, "
      "Tensor norm, Tensor order, Tensor counts, Tensor log_z, Tensor expected, int[] patch_size, "
      "int[] stride) -> (Tensor grad_features, Tensor grad_temperature)");
}
