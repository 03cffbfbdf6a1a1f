// SPDX-License-Identifier: Apache-2.0

// Random numbers, which 0.2 and 0.3 name alike but for the seed. Part of preview2.c and preview3.c.
#pragma once

static void say_random(const char *function, u64 length, command_list_u8_t *one, command_list_u8_t *other) {
    say("%s %llu: %zu %zu", function, length, one->len, other->len);
    if (length >= 16) say(" %s", looks_random(one->ptr, other->ptr, length) ? "random" : "NOT RANDOM");
    if (length >= 100000) say(" %u values", byte_values(one->ptr, length));
    say("\n");
    command_list_u8_free(one);
    command_list_u8_free(other);
}

static void bytes_and_numbers(void) {
    static const u64 LENGTHS[] = {0, 1, 16, 5000, 100000};
    for (int i = 0; i < 5; i++) {
        command_list_u8_t one, other;
        wasi_random_random_get_random_bytes(LENGTHS[i], &one);
        wasi_random_random_get_random_bytes(LENGTHS[i], &other);
        say_random("get-random-bytes", LENGTHS[i], &one, &other);
        wasi_random_insecure_get_insecure_random_bytes(LENGTHS[i], &one);
        wasi_random_insecure_get_insecure_random_bytes(LENGTHS[i], &other);
        say_random("get-insecure-random-bytes", LENGTHS[i], &one, &other);
    }
    u64 one = wasi_random_random_get_random_u64(), other = wasi_random_random_get_random_u64();
    say("get-random-u64: %s\n", one != other && (one >> 32 || other >> 32) ? "random" : "NOT RANDOM");
    one = wasi_random_insecure_get_insecure_random_u64();
    other = wasi_random_insecure_get_insecure_random_u64();
    say("get-insecure-random-u64: %s\n", one != other && (one >> 32 || other >> 32) ? "random" : "NOT RANDOM");
}

static void say_seed(const char *function, command_tuple2_u64_u64_t seed) {
    say("%s: %s\n", function, seed.f0 != seed.f1 ? "random" : "NOT RANDOM");
}
