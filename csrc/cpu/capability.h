// Which instruction set the CPU kernels use, decided at run time.
#pragma once

#include <cstdlib>
#include <cstring>

namespace cgckit::cpu {

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define CGCKIT_HAS_AVX2 1
#define CGCKIT_TARGET_AVX2 __attribute__((target("avx2,fma")))
#else
#define CGCKIT_HAS_AVX2 0
#endif

enum class Capability { kScalar, kAvx2 };

inline const char* name(Capability capability) { return capability == Capability::kAvx2 ? "avx2" : "scalar"; }

inline Capability best_capability() {
#if CGCKIT_HAS_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Capability::kAvx2;
#endif
  return Capability::kScalar;
}

// The best one, unless the environment variable CGCKIT_CPU_CAPABILITY=scalar asks for the portable kernels.
inline Capability capability() {
  static const Capability chosen = [] {
    const char* wanted = std::getenv("CGCKIT_CPU_CAPABILITY");
    return wanted != nullptr && std::strcmp(wanted, "scalar") == 0 ? Capability::kScalar : best_capability();
  }();
  return chosen;
}

}  // namespace cgckit::cpu
