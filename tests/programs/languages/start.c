// SPDX-License-Identifier: Apache-2.0

/* The start of a program in C: what a C library asks of its system before and in `main`. The programs of
 * the other languages beside this do the same and print the same, but for the last line: random, as the
 * language itself has random numbers, or seeds what it needs them for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static const char *yes(int condition) { return condition ? "yes" : "no"; }

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    qsort(argv + 1, argc - 1, sizeof *argv, compare);
    for (int i = 1; i < argc;) {
        int count = 1;
        while (i + count < argc && strcmp(argv[i], argv[i + count]) == 0) count++;
        printf("%s %d\n", argv[i], count);
        i += count;
    }
    printf("NAME %s\n", getenv("NAME") ? getenv("NAME") : "-");
    int lines = 0, c;
    while ((c = getchar()) != EOF) lines += c == '\n';
    printf("lines %d\n", lines);

    FILE *file = fopen("/data/note", "w");
    if (!file || fputs("from C\n", file) < 0 || fclose(file)) return 1;
    file = fopen("/data/note", "r");
    char note[32] = "";
    if (!file || !fgets(note, sizeof note, file)) return 2;
    printf("note %s", note);

    double before = now();
    struct timespec nap = {.tv_nsec = 5000000};
    nanosleep(&nap, 0);
    printf("slept %s\n", yes(now() - before >= 0.005));
    printf("date %s\n", yes(time(0) > 1700000000));

    unsigned long long random;
    if (getentropy(&random, sizeof random)) return 3;
    printf("random %016llx\n", random);
    return 0;
}
