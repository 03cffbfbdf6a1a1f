// SPDX-License-Identifier: Apache-2.0

// Runs the SQL of standard input on the database file that its argument names, and prints every
// row with | between its columns, as the shell of SQLite does.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite3.h"

static int print_row(void *context, int columns, char **values, char **names) {
    (void)context;
    (void)names;
    for (int i = 0; i < columns; i++)
        printf("%s%s", i ? "|" : "", values[i] ? values[i] : "");
    putchar('\n');
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fputs("usage: sql DATABASE < STATEMENTS\n", stderr);
        return 2;
    }
    size_t size = 0, room = 1 << 16;
    char *text = malloc(room + 1);
    for (size_t got; text && (got = fread(text + size, 1, room - size, stdin)) > 0;) {
        size += got;
        if (size == room)
            text = realloc(text, (room *= 2) + 1);
    }
    if (!text)
        return 1;
    text[size] = 0;

    sqlite3 *database = NULL;
    char *message = NULL;
    int code = sqlite3_open(argv[1], &database);
    if (code == SQLITE_OK)
        code = sqlite3_exec(database, text, print_row, NULL, &message);
    if (code != SQLITE_OK)
        fprintf(stderr, "Error: %s (%d)\n", message ? message : sqlite3_errmsg(database),
                sqlite3_extended_errcode(database));
    sqlite3_free(message);
    int closed = sqlite3_close(database);
    free(text);
    return code == SQLITE_OK ? closed : 1;
}
