// SPDX-License-Identifier: Apache-2.0

// Calls: a recursive Fibonacci number and calls through a table of functions.
#include "kernel.h"

typedef uint64_t operation(uint64_t, uint64_t);

static uint64_t add(uint64_t a, uint64_t b) { return a + b; }
static uint64_t exclusive(uint64_t a, uint64_t b) { return a ^ (b << 1); }
static uint64_t multiply(uint64_t a, uint64_t b) { return a * (b | 1); }
static uint64_t turn(uint64_t a, uint64_t b) { return a << 7 | (a + b) >> 57; }

// Volatile: the compiler must not see through the table.
static operation *volatile table[4] = {add, exclusive, multiply, turn};

static __attribute__((noinline)) uint32_t fibonacci(uint32_t n) {
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint64_t kernel(uint32_t count) {
    uint64_t sum = 0, state = 5;
    for (uint32_t round = 0; round < count; round++) {
        sum = mix(sum, fibonacci(25 + round % 3));
        for (uint32_t i = 0; i < 300000; i++) {
            state = table[(state ^ i) & 3](state, i);
        }
        sum = mix(sum, state);
    }
    return sum;
}

KERNEL("calls")
