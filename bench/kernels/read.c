// SPDX-License-Identifier: Apache-2.0

// Throughput of a file: reads the given file to its end, 64 KiB at a time, and prints its length; the nanoseconds on standard error.
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

#include "figures.h"

#define PIECE 65536u

static uint8_t piece[PIECE];

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    int file = open(argv[1], O_RDONLY);
    if (file < 0)
        return 1;
    uint64_t total = 0, start = nanoseconds();
    ssize_t length;
    while ((length = read(file, piece, PIECE)) > 0)
        total += (uint64_t)length;
    if (length < 0)
        return 1;
    return print(2, nanoseconds() - start) || print(1, total);
}
