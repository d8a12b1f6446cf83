// The scalars of the loss that every device must agree on.
//
// E_ik = exp((s_ik - shift) / tau). As s <= 1, the fixed shift 1 needs no running maximum and underflows for
// no tau above 0.023; but rounding (s - 1) / tau costs 6e-8 / tau of E, so that below the limit here the
// shift is the largest similarity of the row, as in a plain softmax.
#pragma once

#include <cmath>

#include "macros.h"

namespace cgckit {

constexpr double kFixedShiftLimit = 0.1;

CGCKIT_HOST_DEVICE inline bool shift_is_fixed(double temperature) { return temperature >= kFixedShiftLimit; }

// The weight g P_k / tau = factor * E_k of a row with gradient g and log_z = log sum_k exp((s_k - 1) / tau).
// Without the fixed shift, E_k is taken relative to the soft maximum tau LSE, as T holds it: `factor` makes
// up for its rounding, and no product with 1 / Z can overflow.
struct SoftmaxScale {
  double shift;
  double factor;
};

template <typename T>
CGCKIT_HOST_DEVICE inline SoftmaxScale softmax_scale(double g, double log_z, double temperature) {
  if (shift_is_fixed(temperature)) return {1.0, g / temperature * std::exp(-log_z)};
  const double soft_maximum = 1.0 + temperature * log_z;
  const double shift = static_cast<double>(static_cast<T>(soft_maximum));
  return {shift, g / temperature * std::exp((shift - soft_maximum) / temperature)};
}

// d log Z / d tau with log Z = log sum exp((s - 1) / tau), from the expected similarity sum_k P_ik s_ik.
CGCKIT_HOST_DEVICE inline double log_z_by_temperature(double expected, double temperature) {
  return (1.0 - expected) / (temperature * temperature);
}

// Coefficients of m and of m_h in the gradient of sum_i h_i pos_i with respect to u_i, where
// pos_i = (u_i . m - |u_i|^2) / (n - 1) and m = sum u_j, m_h = sum h_j u_j over the n positives. What lies
// along u_i is left out: the projection that follows removes it.
struct PositiveCoefficients {
  double mean;
  double weighted_mean;
};

CGCKIT_HOST_DEVICE inline PositiveCoefficients positive_coefficients(double h, double positives) {
  const double share = 1.0 / (positives - 1.0);
  return {h * share, share};
}

}  // namespace cgckit
