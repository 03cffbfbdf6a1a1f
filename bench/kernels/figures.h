// SPDX-License-Identifier: Apache-2.0

// The clock, and numbers as text. No printf: it would be most of what is compiled.
#ifndef FIGURES_H
#define FIGURES_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

// Appends a number in the given base with at least `width` digits.
static inline char *append(char *end, uint64_t value, unsigned base, int width) {
    char digits[24];
    int length = 0;
    do {
        digits[length++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0 || length < width);
    while (length > 0)
        *end++ = digits[--length];
    return end;
}

// Prints a number on a line of its own to standard output or error; returns the exit code.
static inline int print(int to, uint64_t value) {
    char line[24];
    char *end = append(line, value, 10, 1);
    *end++ = '\n';
    return write(to, line, (size_t)(end - line)) == end - line ? 0 : 1;
}

#endif
