// The scalars of the loss that every device must agree on.
//
// With E_ik = exp((s_ik - shift) / tau): s <= 1, so the fixed shift 1 needs no running maximum, and in
// float32 the smallest term, exp(-2 / tau), is a normal number for every tau down to the limit below.
#pragma once

#include "macros.h"

namespace cgckit {

constexpr double kFixedShiftLimit = 0.0229;

CGCKIT_HOST_DEVICE inline bool fixed_shift_is_safe(double temperature) {
  return temperature >= kFixedShiftLimit;
}

// d log Z / d tau with log Z = log sum exp((s - 1) / tau), from the expected similarity sum_k P_ik s_ik.
CGCKIT_HOST_DEVICE inline double log_z_by_temperature(double expected, double temperature) {
  return (1.0 - expected) / (temperature * temperature);
}

// Coefficients of m, of u_i and of m_h in the gradient of sum_i h_i pos_i with respect to u_i, where
// pos_i = (u_i . m - |u_i|^2) / (n - 1) and m = sum u_j, m_h = sum h_j u_j over the n positives.
struct PositiveCoefficients {
  double mean;
  double self;
  double weighted_mean;
};

CGCKIT_HOST_DEVICE inline PositiveCoefficients positive_coefficients(double h, double positives) {
  const double share = 1.0 / (positives - 1.0);
  return {h * share, -2.0 * h * share, share};
}

}  // namespace cgckit
