// SPDX-License-Identifier: Apache-2.0

// Pointers: a hash map with chained entries on the heap, filled, searched and emptied.
#include "kernel.h"

#define BUCKETS (1u << 16)
#define ENTRIES (1u << 17)

struct entry {
    struct entry *next;
    uint64_t key, value;
};

static struct entry *buckets[BUCKETS];

static struct entry **find(uint64_t key) {
    struct entry **at = &buckets[(key * 0x9E3779B97F4A7C15ull) >> 48];
    while (*at && (*at)->key != key)
        at = &(*at)->next;
    return at;
}

static uint64_t kernel(uint32_t count) {
    uint64_t sum = 0;
    for (uint32_t round = 0; round < count; round++) {
        uint64_t state = 17 + round;
        for (uint32_t i = 0; i < ENTRIES; i++) {
            uint64_t key = next_number(&state) & 0x3FFFF;
            struct entry **at = find(key);
            if (!*at) {
                struct entry *made = malloc(sizeof *made);
                if (!made)
                    return 0;
                *made = (struct entry){NULL, key, 0};
                *at = made;
            }
            (*at)->value += i;
        }
        for (uint32_t i = 0; i < 4 * ENTRIES; i++) {
            struct entry *found = *find(next_number(&state) & 0x3FFFF);
            sum += found ? found->value : 1;
        }
        for (uint32_t i = 0; i < BUCKETS; i++)
            while (buckets[i]) {
                struct entry *gone = buckets[i];
                buckets[i] = gone->next;
                free(gone);
            }
        sum = mix(sum, round);
    }
    return sum;
}

KERNEL("map")
