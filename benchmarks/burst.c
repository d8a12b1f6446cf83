/* Fused multiply-adds on registers alone: what one core can do at best. Compiled with -march=native. */
#include <stdint.h>

#define CHAINS 12

/* The widest vectors there are. */
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float vector __attribute__((vector_size(4 * LANES)));

int lanes(void) { return LANES; }

/* Runs `count` steps of 12 independent chains of LANES lanes; 24 LANES floating-point operations a step. */
float burst(int64_t count) {
  vector a, b;
  for (int lane = 0; lane < LANES; ++lane) {
    a[lane] = 0.5f;
    b[lane] = (float)(lane + 1);
  }
  vector sum[CHAINS];
#pragma GCC unroll 12
  for (int c = 0; c < CHAINS; ++c) sum[c] = b * (float)(c + 3); /* chains that differ are not merged */
  for (int64_t i = 0; i < count; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; ++c) sum[c] = sum[c] * a + b;
  }
  vector total = sum[0];
#pragma GCC unroll 12
  for (int c = 1; c < CHAINS; ++c) total += sum[c];
  float all = 0;
  for (int lane = 0; lane < LANES; ++lane) all += total[lane];
  return all;
}

/* c = a + b: what memory can do at best. */
void triad(const float* a, const float* b, float* c, int64_t count) {
  for (int64_t i = 0; i < count; ++i) c[i] = a[i] + b[i];
}
