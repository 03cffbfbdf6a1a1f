// SPDX-License-Identifier: Apache-2.0

// Memory that grows in steps of one page, which is written to at once, so many times. Prints the nanoseconds that it took.
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define PAGE 65536u

static uint64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    uint32_t count = (uint32_t)strtoul(argv[1], NULL, 10);
    uint64_t start = nanoseconds();
    for (uint32_t i = 0; i < count; i++) {
        size_t page = __builtin_wasm_memory_grow(0, 1);
        if (page == SIZE_MAX)
            return 1;
        for (uint32_t at = 0; at < PAGE; at += 4096)
            *(volatile uint8_t *)(page * PAGE + at) = 1;
    }
    uint64_t left = nanoseconds() - start;
    char line[24];
    int at = sizeof line;
    line[--at] = '\n';
    do
        line[--at] = (char)('0' + left % 10);
    while ((left /= 10) > 0);
    return write(1, line + at, sizeof line - (size_t)at) > 0 ? 0 : 1;
}
