// SPDX-License-Identifier: Apache-2.0

// SIMD: a 3 x 3 blur of a 512 x 512 grey image and a dot product, in 128-bit vectors.
#include <wasm_simd128.h>

#include "kernel.h"

#define SIDE 512

static uint8_t from[SIDE][SIDE + 16], to[SIDE][SIDE + 16];
static float left[SIDE * 4], right[SIDE * 4];

static void blur(void) {
    for (int y = 1; y < SIDE - 1; y++)
        for (int x = 0; x < SIDE; x += 16) {
            v128_t up = wasm_v128_load(&from[y - 1][x]);
            v128_t down = wasm_v128_load(&from[y + 1][x]);
            v128_t here = wasm_v128_load(&from[y][x]);
            v128_t next = wasm_v128_load(&from[y][x + 1]);
            v128_t a = wasm_u8x16_avgr(up, down);
            v128_t b = wasm_u8x16_avgr(here, next);
            wasm_v128_store(&to[y][x], wasm_u8x16_avgr(a, b));
        }
}

static float dot(void) {
    v128_t sum = wasm_f32x4_splat(0);
    for (int i = 0; i < SIDE * 4; i += 4)
        sum = wasm_f32x4_add(
            sum, wasm_f32x4_mul(wasm_v128_load(&left[i]), wasm_v128_load(&right[i])));
    return wasm_f32x4_extract_lane(sum, 0) + wasm_f32x4_extract_lane(sum, 1) +
           wasm_f32x4_extract_lane(sum, 2) + wasm_f32x4_extract_lane(sum, 3);
}

static uint64_t kernel(uint32_t count) {
    uint64_t state = 7, sum = 0;
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            from[y][x] = (uint8_t)next_number(&state);
    for (int i = 0; i < SIDE * 4; i++)
        left[i] = (float)(i % 17) / 16, right[i] = (float)(i % 23) / 16;
    for (uint32_t round = 0; round < count; round++) {
        blur();
        for (int i = 0; i < 32; i++) {
            left[(round + i) % (SIDE * 4)] += 0.5f;
            sum = mix(sum, bits_of(dot()));
        }
        // The blurred image, made rough again, is the next one.
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x += 16)
                wasm_v128_store(&from[y][x],
                                wasm_i8x16_add(wasm_v128_load(&to[y][x]),
                                               wasm_i8x16_splat((int8_t)(x + round))));
        sum = mix(sum, from[round % SIDE][(round * 3) % SIDE]);
    }
    return sum;
}

KERNEL("simd")
