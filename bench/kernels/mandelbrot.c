// SPDX-License-Identifier: Apache-2.0

// Floating point of single precision with a branch in each step: the Mandelbrot set.
#include "kernel.h"

#define SIDE 256
#define LIMIT 200

static uint64_t kernel(uint32_t count) {
    uint64_t sum = 0;
    for (uint32_t round = 0; round < count; round++) {
        float scale = 3.0f / (1.0f + (float)round * 0.01f);
        uint64_t inside = 0;
        for (int row = 0; row < SIDE; row++)
            for (int column = 0; column < SIDE; column++) {
                float cr = scale * ((float)column / SIDE - 0.75f);
                float ci = scale * ((float)row / SIDE - 0.5f);
                float zr = 0, zi = 0;
                int n = 0;
                while (n < LIMIT && zr * zr + zi * zi < 4.0f) {
                    float next = zr * zr - zi * zi + cr;
                    zi = 2 * zr * zi + ci;
                    zr = next;
                    n++;
                }
                inside += (uint64_t)n;
            }
        sum = mix(sum, inside);
    }
    return sum;
}

KERNEL("mandelbrot")
