// 2^x for x <= 0, written so that compilers vectorise a loop over it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "macros.h"

namespace cgckit {

constexpr double kLog2E = 1.4426950408889634;

// x = n + r with integer n and |r| <= 1/2; a minimax polynomial of degree 6 for 2^r (relative error 2e-8
// before rounding) times 2^n, put together from its bits. Below 2^-126 the result stays there, which no sum
// of ours can feel; NaN stays NaN.
CGCKIT_HOST_DEVICE CGCKIT_INLINE float exp2_nonpositive(float x) {
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer
  constexpr int32_t kRounderBits = 0x4b400000;
  const float clamped = x < -126.0f ? -126.0f : x;
  const float shifted = clamped + kRounder;
  const float r = clamped - (shifted - kRounder);
  float p = 0.000153458121f;
  p = p * r + 0.00133999314f;
  p = p * r + 0.00961848896f;
  p = p * r + 0.0555032878f;
  p = p * r + 0.240226469f;
  p = p * r + 0.693147206f;
  p = p * r + 1.0f;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  const uint32_t scale_bits = static_cast<uint32_t>(bits - kRounderBits + 127) << 23;
  float scale;
  std::memcpy(&scale, &scale_bits, sizeof scale);
  return p * scale;
}

CGCKIT_HOST_DEVICE CGCKIT_INLINE double exp2_nonpositive(double x) { return std::exp2(x); }

}  // namespace cgckit
