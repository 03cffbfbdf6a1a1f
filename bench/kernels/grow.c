// SPDX-License-Identifier: Apache-2.0

// Memory that grows in steps of one page, which is written to at once, so many times. Prints the nanoseconds that it took.
#include <stdint.h>
#include <stdlib.h>

#include "figures.h"

#define PAGE 65536u

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
    return print(1, nanoseconds() - start);
}
