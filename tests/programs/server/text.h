// SPDX-License-Identifier: Apache-2.0

// Text that grows, for the answers of server.c and service.c.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static char text[64 << 10];
static size_t length;

static void say(const char *bytes, size_t count) {
    if (count > sizeof text - length) __builtin_trap();
    memcpy(text + length, bytes, count);
    length += count;
}
static void say_text(const char *words) { say(words, strlen(words)); }
static void say_number(uint64_t number) {
    char digits[20];
    size_t at = sizeof digits;
    do digits[--at] = '0' + number % 10;
    while (number /= 10);
    say(digits + at, sizeof digits - at);
}
