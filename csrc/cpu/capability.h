// Which instruction set the CPU kernels use, decided at run time.
#pragma once

#include <cstdlib>
#include <cstring>

namespace cgckit::cpu {

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define CGCKIT_X86 1
#define CGCKIT_TARGET_AVX2 __attribute__((target("avx2,fma")))
#define CGCKIT_TARGET_AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")))
#else
#define CGCKIT_X86 0
#endif

// kPortable is plain C++ for the oldest processor that the compiler makes code for.
enum class Capability { kPortable, kAvx2, kAvx512 };

inline const char* name(Capability capability) {
  switch (capability) {
    case Capability::kAvx512:
      return "avx512";
    case Capability::kAvx2:
      return "avx2";
    default:
#if defined(__ARM_NEON)
      return "neon";
#else
      return "scalar";
#endif
  }
}

// The least first.
#if CGCKIT_X86
constexpr Capability kCapabilities[] = {Capability::kPortable, Capability::kAvx2, Capability::kAvx512};
#else
constexpr Capability kCapabilities[] = {Capability::kPortable};
#endif

inline bool supported([[maybe_unused]] Capability capability) {
#if CGCKIT_X86
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (capability == Capability::kAvx2) return avx2;
  if (capability == Capability::kAvx512) {
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  }
#endif
  return true;
}

// The best one, unless the environment variable CGCKIT_CPU_CAPABILITY names another that this processor has.
inline Capability capability() {
  static const Capability chosen = [] {
    const char* wanted = std::getenv("CGCKIT_CPU_CAPABILITY");
    Capability best = Capability::kPortable;
    for (const Capability each : kCapabilities) {
      if (!supported(each)) continue;
      if (wanted != nullptr && std::strcmp(wanted, name(each)) == 0) return each;
      best = each;
    }
    return best;
  }();
  return chosen;
}

}  // namespace cgckit::cpu
