// SPDX-License-Identifier: Apache-2.0

// Throughput of standard output: writes the given number of MiB, 64 KiB at a time; the nanoseconds on standard error.
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "figures.h"

#define PIECE 65536u

static uint8_t piece[PIECE];

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    for (uint32_t i = 0; i < PIECE; i++)
        piece[i] = (uint8_t)(i * 31 + (i >> 8));
    uint64_t left = (uint64_t)strtoul(argv[1], NULL, 10) << 20;
    uint64_t start = nanoseconds();
    while (left > 0) {
        ssize_t written = write(1, piece, left < PIECE ? (size_t)left : PIECE);
        if (written <= 0)
            return 1;
        left -= (uint64_t)written;
    }
    return print(2, nanoseconds() - start);
}
