// SPDX-License-Identifier: Apache-2.0

// Lines of output of the conformance programs, and small helpers for both.
//
// Everything is collected and written at the end, or before the program asks to be ended: how a line
// is written must not disturb what it is about.
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

static char output[4 << 20], calls[64 << 10];
static size_t output_length, calls_length;

// Writes bytes to standard output; each program has its own way.
static void write_output(const char *bytes, size_t length);

// Writes what was collected. Between lines only.
static void flush_output(void) {
    // The calls of the writing itself come with the next one. The stack of a program is small.
    static char now[sizeof calls];
    size_t length = calls_length;
    calls_length = 0;
    memcpy(now, calls, length);
    write_output(now, length);
    write_output(output, output_length);
    output_length = 0;
}

// Adds to the output. Too much of it ends the program.
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(output + output_length, sizeof output - output_length, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof output - output_length) __builtin_trap();
    output_length += (size_t)length;
}

// The function has been called: what a test compares with the list of functions that are offered. It
// is said by the wrapper of the import itself, never by hand.
void called(const char *interface, const char *function) {
    int length = snprintf(calls + calls_length, sizeof calls - calls_length, "called %s %s\n", interface, function);
    if (length < 0 || (size_t)length >= sizeof calls - calls_length) __builtin_trap();
    calls_length += (size_t)length;
    // A call that ends the program is said before.
    if (!strcmp(function, "proc_exit") || !strncmp(interface, "wasi:cli/exit", strlen("wasi:cli/exit"))) flush_output();
}

// A text that may hold any bytes. Long ones are told by their length.
typedef struct {
    const char *bytes;
    size_t length;
} text;

#define TEXT(literal) ((text){(literal), sizeof(literal) - 1})

static text text_of(const char *string) { return (text){string, strlen(string)}; }

// Adds a text in quotes, with escapes for what is not printable ASCII.
static void say_text(text it) {
    if (it.length > 100) {
        say("\"%c...\" of %zu bytes", it.bytes[0], it.length);
        return;
    }
    say("\"");
    for (size_t i = 0; i < it.length; i++) {
        u8 byte = (u8)it.bytes[i];
        if (byte < ' ' || byte > '~' || byte == '"' || byte == '\\') say("\\x%02x", byte);
        else say("%c", byte);
    }
    say("\"");
}

// A listing that does not depend on the order of the entries: they are sorted before they are said.
#define LISTING_MAX 64
static char listing[LISTING_MAX][300];
static unsigned listing_length;

static void listing_add(text name, const char *kind) {
    if (listing_length == LISTING_MAX) return;
    snprintf(listing[listing_length++], sizeof listing[0], "%.*s%s", (int)name.length, name.bytes, kind);
}

static void say_listing(void) {
    for (unsigned i = 1; i < listing_length; i++)
        for (unsigned j = i; j > 0 && strcmp(listing[j - 1], listing[j]) > 0; j--) {
            char swap[sizeof listing[0]];
            memcpy(swap, listing[j], sizeof swap);
            memcpy(listing[j], listing[j - 1], sizeof swap);
            memcpy(listing[j - 1], swap, sizeof swap);
        }
    for (unsigned i = 0; i < listing_length; i++) {
        say(" ");
        size_t length = strlen(listing[i]);
        if (length > 100) say("%.1s...(%zu)", listing[i], length);
        else
            for (size_t c = 0; c < length; c++) {
                u8 byte = (u8)listing[i][c];
                if (byte < ' ' || byte > '~') say("\\x%02x", byte);
                else say("%c", byte);
            }
    }
    listing_length = 0;
}

// True if 32 bytes or more are other than zero somewhere, and two pieces of them differ.
static bool looks_random(const u8 *one, const u8 *other, size_t length) {
    bool zero = true;
    for (size_t i = 0; i < length; i++) zero = zero && one[i] == 0 && other[i] == 0;
    return !zero && memcmp(one, other, length) != 0;
}

// How many of the 256 values of a byte occur.
static unsigned byte_values(const u8 *bytes, size_t length) {
    bool seen[256] = {false};
    unsigned count = 0;
    for (size_t i = 0; i < length; i++) {
        count += !seen[bytes[i]];
        seen[bytes[i]] = true;
    }
    return count;
}
