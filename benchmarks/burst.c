/* Fused multiply-adds on registers alone: what one core can do at best. Compiled with -march=native. */
#include <stdint.h>

#define CHAINS 12

typedef float vector __attribute__((vector_size(32)));

/* Runs `count` steps of 12 independent chains of 8 lanes; 192 floating-point operations a step. */
float burst(int64_t count) {
  const vector a = {0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f};
  const vector b = {1, 2, 3, 4, 5, 6, 7, 8};
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
  return total[0] + total[1] + total[2] + total[3] + total[4] + total[5] + total[6] + total[7];
}

/* c = a + b: what memory can do at best. */
void triad(const float* a, const float* b, float* c, int64_t count) {
  for (int64_t i = 0; i < count; ++i) c[i] = a[i] + b[i];
}
