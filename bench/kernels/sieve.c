// SPDX-License-Identifier: Apache-2.0

// Memory: the sieve of Eratosthenes over 4 MiB of bytes, written with growing strides.
#include <string.h>

#include "kernel.h"

#define SIZE (4u << 20)

static uint8_t composite[SIZE];

static uint64_t kernel(uint32_t count) {
    uint64_t sum = 0;
    for (uint32_t round = 0; round < count; round++) {
        for (uint32_t i = 0; i < SIZE; i++)
            composite[i] = 0;
        for (uint32_t i = 2; i * i < SIZE; i++)
            if (!composite[i])
                for (uint32_t j = i * i; j < SIZE; j += i)
                    composite[j] = 1;
        uint64_t primes = 0;
        for (uint32_t i = 2; i < SIZE; i++)
            primes += !composite[i];
        sum = mix(sum, primes + round);
    }
    return sum;
}

KERNEL("sieve")
