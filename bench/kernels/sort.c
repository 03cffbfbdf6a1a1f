// SPDX-License-Identifier: Apache-2.0

// Branches: quicksort and heapsort of random numbers, and binary searches among them.
#include "kernel.h"

#define N 65536

static uint32_t numbers[N];

static void swap(uint32_t *a, uint32_t *b) {
    uint32_t kept = *a;
    *a = *b, *b = kept;
}

static void quicksort(int low, int high) {
    while (low < high) {
        uint32_t pivot = numbers[low + (high - low) / 2];
        int i = low, j = high;
        while (i <= j) {
            while (numbers[i] < pivot)
                i++;
            while (numbers[j] > pivot)
                j--;
            if (i <= j)
                swap(&numbers[i++], &numbers[j--]);
        }
        // The smaller part by recursion: the stack stays small.
        if (j - low < high - i) {
            quicksort(low, j);
            low = i;
        } else {
            quicksort(i, high);
            high = j;
        }
    }
}

static void sink(uint32_t at, uint32_t end) {
    for (uint32_t child; (child = 2 * at + 1) < end; at = child) {
        if (child + 1 < end && numbers[child] < numbers[child + 1])
            child++;
        if (numbers[at] >= numbers[child])
            return;
        swap(&numbers[at], &numbers[child]);
    }
}

static void heapsort_numbers(void) {
    for (uint32_t i = N / 2; i-- > 0;)
        sink(i, N);
    for (uint32_t end = N - 1; end > 0; end--) {
        swap(&numbers[0], &numbers[end]);
        sink(0, end);
    }
}

static uint32_t search(uint32_t wanted) {
    uint32_t low = 0, high = N;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (numbers[middle] < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint64_t kernel(uint32_t count) {
    uint64_t state = 11, sum = 0;
    for (uint32_t round = 0; round < count; round++) {
        for (uint32_t i = 0; i < N; i++)
            numbers[i] = (uint32_t)next_number(&state);
        if (round % 2)
            heapsort_numbers();
        else
            quicksort(0, N - 1);
        for (uint32_t i = 0; i < N; i++)
            sum += search((uint32_t)next_number(&state));
        sum = mix(sum, numbers[round % N]);
    }
    return sum;
}

KERNEL("sort")
