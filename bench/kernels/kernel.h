// SPDX-License-Identifier: Apache-2.0

// The common part of every kernel: its count, its checksum, its time.
//
// A kernel is `uint64_t kernel(uint32_t count)`, a pure function of its count. The program takes
// the count as its only argument and prints one line: name, checksum (hexadecimal), nanoseconds
// that the kernel took by the monotonic clock. The first two are the same wherever it runs.
#ifndef KERNEL_H
#define KERNEL_H

#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "figures.h"

static uint64_t kernel(uint32_t count);

// xorshift64*: a repeatable source of numbers.
static inline uint64_t next_number(uint64_t *state) {
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545F4914F6CDD1Dull;
}

// One step of a checksum in which the order counts (FNV-1a over 64-bit words).
static inline uint64_t mix(uint64_t sum, uint64_t word) {
    return (sum ^ word) * 0x100000001B3ull;
}

static inline uint64_t bits_of(double value) {
    uint64_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}

static int run(const char *name, int argc, char **argv) {
    if (argc != 2)
        return 2;
    uint32_t count = (uint32_t)strtoul(argv[1], NULL, 10);
    uint64_t start = nanoseconds();
    uint64_t checksum = kernel(count);
    uint64_t end = nanoseconds();

    char line[96];
    char *at = line;
    while (*name)
        *at++ = *name++;
    *at++ = ' ';
    at = append(at, checksum, 16, 16);
    *at++ = ' ';
    at = append(at, end - start, 10, 1);
    *at++ = '\n';
    return write(1, line, (size_t)(at - line)) == at - line ? 0 : 1;
}

#define KERNEL(name) \
    int main(int argc, char **argv) { return run(name, argc, argv); }

#endif
