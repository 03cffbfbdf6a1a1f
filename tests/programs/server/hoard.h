// SPDX-License-Identifier: Apache-2.0

// Much, for the programs that take more than there is. Before it is included, the bindings of wasi:http.
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// As much as a header may have, and a little less than the name of a server.
static char much[100001], longest[60001];

// Hands over so much that no memory has room for it: the same bytes, again and again.
static void hand_over(void) {
    wasi_http_types_tuple2_field_name_field_value_t *entries = calloc(20000, sizeof *entries);
    wasi_http_types_list_tuple2_field_name_field_value_t list = {entries, 20000};
    for (size_t i = 0; i < list.len; i++) {
        entries[i].f0.ptr = (uint8_t *)"x";
        entries[i].f0.len = 1;
        entries[i].f1.ptr = (uint8_t *)much;
        entries[i].f1.len = sizeof much - 1;
    }
    wasi_http_types_own_fields_t made;
    wasi_http_types_header_error_t error;
    wasi_http_types_static_fields_from_list(&list, &made, &error);
}

// Begins to take: by one call, if that is what is to be taken.
static void begin_to_hoard(const char *what) {
    memset(much, 'x', sizeof much - 1);
    memset(longest, 'x', sizeof longest - 1);
    if (strcmp(what, "call") == 0) hand_over();
}
