// Qualifiers that let one header serve host and device compilers.
#pragma once

#if defined(__CUDACC__)
#define CGCKIT_HOST_DEVICE __host__ __device__
#else
#define CGCKIT_HOST_DEVICE
#endif

#if defined(_MSC_VER)
#define CGCKIT_RESTRICT __restrict
#else
#define CGCKIT_RESTRICT __restrict__
#endif

// Inlined into its caller whatever the caller's instruction set, so that one source serves every target
// and no out-of-line copy, compiled for a newer processor, can be picked by the linker.
#if defined(_MSC_VER)
#define CGCKIT_INLINE static __forceinline
#else
#define CGCKIT_INLINE static inline __attribute__((always_inline))
#endif
