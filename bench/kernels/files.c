// SPDX-License-Identifier: Apache-2.0

// Single calls of a file of 4 MiB: one of read, write, stat, path and open, so many times, at places of the file that do not
// follow each other. Prints the nanoseconds that all of them took.
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "figures.h"

#define PIECE 4096
#define PIECES 1024u

static uint8_t piece[PIECE];

// One call; false if it has failed.
static int call(const char *name, int file, const char *path, off_t place) {
    struct stat status;
    switch (name[0]) {
    case 'r': return pread(file, piece, PIECE, place) == PIECE;
    case 'w': return pwrite(file, piece, PIECE, place) == PIECE;
    case 's': return fstat(file, &status) == 0;
    case 'p': return stat(path, &status) == 0;
    default: {
        int other = open(path, O_RDONLY);
        return other >= 0 && close(other) == 0;
    }
    }
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    const char *name = argv[1], *path = argv[2];
    uint32_t count = (uint32_t)strtoul(argv[3], NULL, 10);
    int file = open(path, O_RDWR);
    if (file < 0)
        return 1;
    uint32_t number = 1;
    uint64_t start = nanoseconds();
    for (uint32_t i = 0; i < count; i++) {
        number = number * 1103515245u + 12345u;
        if (!call(name, file, path, (off_t)(number >> 8) % PIECES * PIECE))
            return 1;
    }
    return print(1, nanoseconds() - start);
}
