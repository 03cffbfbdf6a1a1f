// SPDX-License-Identifier: Apache-2.0

// Floating point over matrices: product of two 256 x 256 matrices of doubles.
#include "kernel.h"

#define N 256

static double a[N][N], b[N][N], c[N][N];

static uint64_t kernel(uint32_t count) {
    uint64_t state = 1;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (double)(next_number(&state) >> 40) / 16777216.0;
            b[i][j] = (double)(next_number(&state) >> 40) / 16777216.0;
        }
    uint64_t sum = 0;
    for (uint32_t round = 0; round < count; round++) {
        for (int i = 0; i < N; i++) {
            for (int j = 0; j < N; j++)
                c[i][j] = 0;
            for (int k = 0; k < N; k++) {
                double factor = a[i][k];
                for (int j = 0; j < N; j++)
                    c[i][j] += factor * b[k][j];
            }
        }
        sum = mix(sum, bits_of(c[round % N][(round * 7) % N]));
        a[round % N][round % N] += 1.0 / 1024;
    }
    return sum;
}

KERNEL("matmul")
