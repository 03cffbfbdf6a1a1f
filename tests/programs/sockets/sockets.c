// SPDX-License-Identifier: Apache-2.0
// A program of WASI preview 1 that uses the sockets which it finds open, by their names in FD_NAMES:
//   echo N   accepts N connections at `listener`, one after the other, and sends back what comes, until a line is "bye"
//   many N   the same with all connections at a time, without waiting at any of them
//   give N   accepts a connection at `listener`, sends N bytes and ends at once
//   ask TEXT sends a line to `server`, and prints the line that comes back, and what comes after it
//   names    prints FD_COUNT and FD_NAMES, and a file that it writes in its file system

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST = 64 };

static void fail(const char *what) {
    printf("%s: %s\n", what, strerror(errno));
    fflush(stdout);
}

// The descriptor of a name.
static int named(const char *name) {
    const char *names = getenv("FD_NAMES");
    size_t length = strlen(name);
    for (int fd = 0; names != NULL; fd++) {
        const char *end = strchr(names, ':');
        size_t here = end == NULL ? strlen(names) : (size_t)(end - names);
        if (here == length && memcmp(names, name, length) == 0) return fd;
        names = end == NULL ? NULL : end + 1;
    }
    printf("there is no %s\n", name);
    exit(2);
}

// Writes all of it, and waits where it has to.
static int write_all(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t count = write(fd, bytes, length);
        if (count < 0 && errno == EAGAIN) {
            struct pollfd room = {.fd = fd, .events = POLLOUT};
            if (poll(&room, 1, -1) < 0) return -1;
            continue;
        }
        if (count < 0) return -1;
        bytes += count;
        length -= (size_t)count;
    }
    return 0;
}

// Sends back what comes. Returns if the connection goes on.
static int echo(int fd) {
    static char bytes[65536];
    static char last[MOST * 2][4];
    ssize_t count = read(fd, bytes, sizeof bytes);
    if (count < 0 && errno == EAGAIN) return 1;
    if (count < 0) {
        fail("read");
        return 0;
    }
    if (count == 0) return 0;
    if (write_all(fd, bytes, (size_t)count) < 0) {
        fail("write");
        return 0;
    }
    // The last four bytes, however they were cut.
    char *tail = last[fd % (MOST * 2)];
    for (ssize_t place = count > 4 ? count - 4 : 0; place < count; place++) {
        memmove(tail, tail + 1, 3);
        tail[3] = bytes[place];
    }
    if (memcmp(tail, "bye\n", 4) != 0) return 1;
    memset(tail, 0, 4);
    return 0;
}

static void one_by_one(int listener, int number) {
    for (; number > 0; number--) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) {
            fail("accept");
            exit(3);
        }
        while (echo(fd)) {}
        close(fd);
    }
}

static void many(int listener, int number) {
    struct pollfd all[MOST + 1] = {{.fd = listener, .events = POLLIN}};
    nfds_t open = 0;
    if (fcntl(listener, F_SETFL, O_NONBLOCK) < 0) fail("fcntl");
    // Perhaps nobody is there yet, and then it does not wait.
    int early = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (early >= 0) all[++open] = (struct pollfd){.fd = early, .events = POLLIN};
    else if (errno != EAGAIN) fail("accept");
    while (number > 0) {
        if (poll(all, open + 1, -1) < 0) {
            fail("poll");
            exit(4);
        }
        if (all[0].revents != 0 && open < MOST) {
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (fd >= 0) {
                all[++open] = (struct pollfd){.fd = fd, .events = POLLIN};
            } else if (errno != EAGAIN) {
                fail("accept");
                exit(3);
            }
        }
        for (nfds_t place = open; place > 0; place--) {
            if (all[place].revents == 0 || echo(all[place].fd)) continue;
            close(all[place].fd);
            all[place] = all[open--];
            number--;
        }
    }
}

static void give(int listener, size_t length) {
    int fd = accept(listener, NULL, NULL);
    char *bytes = malloc(length);
    if (fd < 0 || bytes == NULL) exit(3);
    for (size_t place = 0; place < length; place++) bytes[place] = (char)(place % 251);
    if (write_all(fd, bytes, length) < 0) fail("write");
}

static void ask(int fd, const char *text) {
    char bytes[4096];
    struct stat kind;
    if (fstat(fd, &kind) < 0 || !S_ISSOCK(kind.st_mode)) puts("it is no socket");
    if (lseek(fd, 0, SEEK_CUR) >= 0 || errno != ESPIPE) fail("lseek");
    if (write_all(fd, text, strlen(text)) < 0 || write_all(fd, "\n", 1) < 0) fail("write");
    ssize_t peeked = recv(fd, bytes, 1, MSG_PEEK);
    if (peeked == 1) printf("first: %c\n", bytes[0]);
    if (shutdown(fd, SHUT_WR) < 0) fail("shutdown");
    if (write(fd, "x", 1) >= 0 || errno != EPIPE) fail("write after the end");
    ssize_t count;
    while ((count = read(fd, bytes, sizeof bytes)) > 0) fwrite(bytes, 1, (size_t)count, stdout);
    if (count < 0) fail("read");
}

static void names(void) {
    printf("%s %s\n", getenv("FD_COUNT"), getenv("FD_NAMES"));
    FILE *file = fopen("/file", "w+");
    if (file == NULL) {
        fail("fopen");
        return;
    }
    fputs("written", file);
    fclose(file);
    char text[16] = "";
    file = fopen("/file", "r");
    if (file != NULL) puts(fgets(text, sizeof text, file));
}

int main(int count, char **words) {
    const char *mode = count > 1 ? words[1] : "";
    const char *rest = count > 2 ? words[2] : "1";
    if (strcmp(mode, "echo") == 0) one_by_one(named("listener"), atoi(rest));
    if (strcmp(mode, "many") == 0) many(named("listener"), atoi(rest));
    if (strcmp(mode, "give") == 0) give(named("listener"), (size_t)atol(rest));
    if (strcmp(mode, "ask") == 0) ask(named("server"), rest);
    if (strcmp(mode, "names") == 0) names();
    puts("done");
    return 0;
}
