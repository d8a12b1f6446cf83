// 16-bit floating-point numbers as they lie in memory; arithmetic is done in float.
#pragma once

#include <cstdint>
#include <cstring>

#include "../common/macros.h"
#include "../common/number.h"

namespace cgckit::cpu {

CGCKIT_INLINE float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

CGCKIT_INLINE uint32_t to_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

CGCKIT_INLINE float load(float value) { return value; }
CGCKIT_INLINE double load(double value) { return value; }
CGCKIT_INLINE float load(BFloat16 value) { return from_bits(static_cast<uint32_t>(value.bits) << 16); }

// The exponent moves from bias 15 to 127 by a product, which also makes subnormals normal.
CGCKIT_INLINE float load(Float16 value) {
  const uint32_t magnitude = value.bits & 0x7fffu;
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const float finite = from_bits(magnitude << 13) * 0x1p112f;
  const uint32_t bits = magnitude >= 0x7c00u ? 0x7f800000u | (magnitude & 0x3ffu) << 13 : to_bits(finite);
  return from_bits(bits | sign);
}

CGCKIT_INLINE void store(float value, float& out) { out = value; }
CGCKIT_INLINE void store(double value, double& out) { out = value; }

// Rounds to nearest, ties to even.
CGCKIT_INLINE void store(float value, BFloat16& out) {
  const uint32_t bits = to_bits(value);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  out.bits = static_cast<uint16_t>(nan ? 0x7fc0u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// Rounds to nearest, ties to even: adding a number whose last bit is the last of the result rounds there.
CGCKIT_INLINE void store(float value, Float16& out) {
  const uint32_t sign = to_bits(value) >> 16 & 0x8000u;
  const uint32_t magnitude = to_bits(value) & 0x7fffffffu;
  uint32_t bits;
  if (magnitude > 0x7f800000u) {
    bits = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // 65520 and more: infinity
    bits = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // below 2^-14: multiples of 2^-24
    bits = to_bits(from_bits(magnitude) + 0.5f) - to_bits(0.5f);
  } else {
    bits = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
  }
  out.bits = static_cast<uint16_t>(bits | sign);
}

}  // namespace cgckit::cpu
