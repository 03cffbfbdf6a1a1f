// SPDX-License-Identifier: Apache-2.0

// Debian's C library for WASI takes all memory that is there for its heap at the first malloc. In
// a component, the adapter of preview 1 has put its state there by then, unless malloc is first:
// before the constructor that asks for the directories (priority 51).
#include <stdlib.h>

static __attribute__((constructor(1))) void first(void) {
    void *volatile piece = malloc(1);
    free(piece);
}
