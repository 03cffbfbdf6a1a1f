// SPDX-License-Identifier: Apache-2.0

// memory.copy and memory.fill of 64 bytes to 1 MiB within 32 MiB, some of them overlapping.
#include <string.h>

#include "kernel.h"

#define SIZE (32u << 20)

static uint8_t memory[SIZE];

static uint64_t kernel(uint32_t count) {
    uint64_t state = 3, sum = 0;
    for (uint32_t i = 0; i < SIZE; i++)
        memory[i] = (uint8_t)(i >> 6);
    for (uint32_t round = 0; round < count; round++) {
        uint64_t number = next_number(&state);
        uint32_t length = 64u << (number % 15);
        uint32_t from = (uint32_t)(number >> 8) % (SIZE - length);
        uint32_t to = (uint32_t)(number >> 36) % (SIZE - length);
        // Every eighth move overlaps itself.
        if (round % 8 == 0)
            to = from > length / 2 ? from - length / 2 : 0;
        memmove(memory + to, memory + from, length);
        memset(memory + from, (int)round, length);
        sum = mix(sum, memory[to] + memory[to + length - 1]);
    }
    return sum;
}

KERNEL("bulk")
