// SPDX-License-Identifier: Apache-2.0

// Takes memory of a Keep until there is none left, in the way that each argument says, and says how far it
// came. What is used up must be told by an error: the program goes on.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEBI (1 << 20)

static char piece[MEBI];

static const char *error(int number) {
    switch (number) {
    case ENOSPC: return "ENOSPC";
    case ENOMEM: return "ENOMEM";
    case 0: return "no error";
    default: return strerror(number);
    }
}

// Says how many MiB, or how many, were taken, and why no more.
static void say(const char *what, long long count, int number) {
    printf("%s %lld %s\n", what, count, error(number));
    fflush(stdout);
}

static int create(const char *path) { return open(path, O_CREAT | O_WRONLY, 0666); }

// One file, in pieces of so many bytes.
static void fill(const char *what, size_t length) {
    int file = create("/file");
    long long count = 0;
    int number = file < 0 ? errno : 0;
    while (!number) {
        ssize_t written = write(file, piece, length);
        if (written <= 0) number = written ? errno : EIO;
        else count += written;
    }
    close(file);
    say(what, count / MEBI, number);
}

// The number by which the next of many files is called.
static long long next;

// Files of so many bytes, or with a length of -1 symbolic links with long targets.
static void many(const char *what, ssize_t length) {
    mkdir("/many", 0777);
    long long count = 0;
    int number = 0;
    while (!number) {
        char path[64];
        snprintf(path, sizeof path, "/many/%lld", next);
        if (length < 0) {
            char target[4001];
            memset(target, 't', sizeof target - 1);
            target[sizeof target - 1] = 0;
            if (symlink(target, path)) number = errno;
        } else {
            int file = create(path);
            if (file < 0) {
                number = errno;
            } else {
                if (length && write(file, piece, (size_t)length) != length) number = errno ? errno : ENOSPC;
                close(file);
            }
        }
        count += !number;
        // One that was made and not filled is there as well.
        next++;
        errno = 0;
    }
    say(what, count, number);
}

// Removes all of them, by their numbers: to list them would take memory, of which there may be none.
static void removed(const char *what) {
    long long count = 0;
    int number = 0;
    for (long long each = 0; each < next && !number; each++) {
        char path[64];
        snprintf(path, sizeof path, "/many/%lld", each);
        if (!unlink(path)) count++;
        else if (errno != ENOENT) number = errno;
    }
    if (!number && rmdir("/many")) number = errno;
    say(what, count, number);
}

int main(int count, char **arguments) {
    memset(piece, 7, sizeof piece);
    for (int i = 1; i < count; i++) {
        const char *what = arguments[i];
        const char *value = strchr(what, '=');
        long number = value ? atol(value + 1) : 0;
        if (!strncmp(what, "write", 5)) {
            fill(what, (size_t)number);
        } else if (!strcmp(what, "unlink")) {
            say(what, unlink("/file"), 0);
        } else if (!strcmp(what, "truncate")) {
            say(what, truncate("/file", 0), 0);
        } else if (!strcmp(what, "malloc")) {
            long long taken = 0;
            // It is used, too: an allocation alone takes nothing, and may be left out by the compiler.
            static volatile char *memory;
            while ((memory = malloc(MEBI))) {
                for (size_t at = 0; at < MEBI; at += 512) memory[at] = 1;
                taken++;
            }
            say(what, taken, errno);
        } else if (!strncmp(what, "files", 5)) {
            many(what, number);
        } else if (!strcmp(what, "links")) {
            many(what, -1);
        } else if (!strcmp(what, "remove")) {
            removed(what);
        } else {
            fprintf(stderr, "%s is not known\n", what);
            return 2;
        }
    }
    puts("done");
    return 0;
}
