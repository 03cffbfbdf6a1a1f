// SPDX-License-Identifier: Apache-2.0

/* A Keep for tests, without Enarx's own code: speaks the sallyport by the numbers of its SPEC.md.
 * Built static; its first configuration byte says what to do. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <pthread.h>

#define REGION_SIZE (10u << 20)
#define BUFFER(slot) (0x200000u + (slot) * (128u << 10))

static volatile uint8_t *region;
static uint16_t generation;
static uint32_t completed;
/* Second argument of the next request. */
static uint64_t second;

static uint32_t *word(uint32_t offset) { return (uint32_t *)(region + offset); }

/* Posts one request in slot 0. */
static uint32_t post(uint16_t op, uint16_t flags, uint32_t handle, uint32_t length, uint64_t offset, uint64_t argument) {
    uint32_t id = (uint32_t)++generation << 16;
    volatile uint8_t *record = region + 0x1000;
    memset((void *)record, 0, 64);
    memcpy((void *)record, &op, 2);
    memcpy((void *)(record + 2), &flags, 2);
    memcpy((void *)(record + 4), &id, 4);
    memcpy((void *)(record + 8), &handle, 4);
    memcpy((void *)(record + 12), &length, 4);
    memcpy((void *)(record + 16), &offset, 8);
    memcpy((void *)(record + 24), &argument, 8);
    memcpy((void *)(record + 32), &second, 8);
    uint32_t tail = *word(0x040);
    *word(0x200 + tail % 64 * 4) = 0;
    __atomic_store_n(word(0x040), tail + 1, __ATOMIC_SEQ_CST);
    return id;
}

static int wait_until(uint64_t nanoseconds) {
    /* With the byte behind the number: any completion ends the wait. */
    char message[14] = {'W'};
    memcpy(message + 1, &completed, 4);
    memcpy(message + 6, &nanoseconds, 8);
    char answer;
    return write(4, message, sizeof message) == sizeof message && read(4, &answer, 1) == 1;
}

/* Waits for the completion; its status, and the reply's length and value. */
static uint16_t complete(uint32_t *length, uint64_t *value) {
    while (__atomic_load_n(word(0x0c0), __ATOMIC_ACQUIRE) == completed)
        if (!wait_until(UINT64_MAX)) _exit(99);
    volatile uint8_t *record = region + 0x400 + completed % 64 * 32;
    uint16_t status;
    memcpy(&status, (void *)(record + 4), 2);
    if (length) memcpy(length, (void *)(record + 8), 4);
    if (value) memcpy(value, (void *)(record + 16), 8);
    __atomic_store_n(word(0x100), ++completed, __ATOMIC_SEQ_CST);
    return status;
}

static void print(int stream, const char *text) {
    memcpy((void *)(region + BUFFER(0)), text, strlen(text));
    post(3, 0, stream, strlen(text), 0, 0);
    if (write(4, "R", 1) != 1) _exit(98);
    if (complete(0, 0) != 0) _exit(97);
}

static void end(int code) {
    post(6, 0, 0, 0, 0, (uint32_t)code);
    if (write(4, "R", 1) != 1) _exit(96);
    for (;;) pause();
}

static void hostile_ring(void) {
    if (write(4, "R", 1) != 1) _exit(91);
}

static void hostile_wait(uint32_t seen) {
    completed = seen;
    wait_until(UINT64_MAX);
}

#define SALLYPORT region
#include "hostile.h"

static void *nothing(void *argument) { return argument; }

/* The attempts of a process that was taken over; prints one line for each that worked. */
static void probe(void) {
    char line[200];
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0) count++;
    snprintf(line, sizeof line, "descriptors %d\n", count);
    print(1, line);
    if (open("/etc/passwd", O_RDONLY) >= 0) print(1, "opened a file\n");
    if (syscall(SYS_openat2, AT_FDCWD, "/", 0, 0) >= 0) print(1, "opened a directory\n");
    struct stat found;
    if (fstatat(AT_FDCWD, "/etc/passwd", &found, 0) >= 0) print(1, "found a file\n");
    if (syscall(SYS_newfstatat, AT_FDCWD, "/etc/passwd", &found, AT_SYMLINK_NOFOLLOW) >= 0) print(1, "found a name\n");
    if (socket(AF_INET, SOCK_STREAM, 0) >= 0) print(1, "made a socket\n");
    if (syscall(SYS_memfd_create, "x", 0) >= 0) print(1, "made a memory file\n");
    char *none[] = {0};
    if (environ && environ[0]) print(1, "has an environment\n");
    (void)none;
    void *big = mmap(0, 3ul << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (big != MAP_FAILED) print(1, "got 3 GiB\n");
    void *reserved = mmap(0, 64ul << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) print(1, "could not reserve 64 GiB\n");
    pthread_t thread;
    if (pthread_create(&thread, 0, nothing, 0) || pthread_join(thread, 0)) print(1, "could not start a thread\n");
    print(1, "done\n");
    end(0);
}

/* Calls that are forbidden by their arguments. Each should end this process. */
static void breaks_out(char how) {
    /* An address whose lower half is 0, with the structures that are asked for at it. */
    uint64_t *low = mmap((void *)0x7e0000000000, 4096, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (low == MAP_FAILED) _exit(90);
    low[0] = low[1] = 1;
    const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    switch (how) {
    case 'l': /* another process's limit of time */
        syscall(SYS_prlimit64, 1, RLIMIT_CPU, low, 0);
        return;
    case 'o': /* a limit of its own */
        syscall(SYS_prlimit64, 0, RLIMIT_CPU, low, 0);
        return;
    case 'r': /* another process's limits, to read */
        syscall(SYS_prlimit64, 1, RLIMIT_CPU, 0, low);
        return;
    case 'f': fcntl(4, F_SETOWN, 1); return;
    case 's': fcntl(4, F_SETSIG, SIGKILL); return;
    case 'd': fcntl(4, F_DUPFD, 5); return;
    case 'm': mmap(0, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0); return;
    case 'n': mmap(0, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, 3, 0); return;
    case 'g': mmap(0, 4096, PROT_READ, anonymous | MAP_GROWSDOWN, -1, 0); return;
    case 'h': mmap(0, 4096, PROT_READ, anonymous | MAP_HUGETLB, -1, 0); return;
    case 'k': mmap(0, 4096, PROT_READ, anonymous | MAP_LOCKED, -1, 0); return;
    case 'p': syscall(SYS_clone, CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_PIDFD, 0, low, 0, 0); return;
    case 't': syscall(SYS_tgkill, 1, 1, SIGRTMIN); return;
    case 'x': /* another program, by the descriptor of the start, which an absolute path does not need */
        syscall(SYS_execveat, 5, "/proc/self/exe", (char *[]){"x", 0}, (char *[]){0}, AT_EMPTY_PATH);
        return;
    case 'y': /* its own program again: refused at the start of it, by the filters that it is under */
        syscall(SYS_execveat, 5, "", (char *[]){"x", 0}, (char *[]){0}, AT_EMPTY_PATH);
        return;
    case 'c': /* what was there to start it is gone */
        if (syscall(SYS_sendmsg, 4, low, 0) == -1 && errno == ENOSYS &&
            syscall(SYS_seccomp, 0, 0, 0) == -1 && errno == ENOSYS)
            end(0);
        return;
    }
}

int main(int argc, char **argv) {
    if (argc != 2 || strcmp(argv[0], "enarx-runtime") || strcmp(argv[1], "process")) return 95;
    region = mmap(0, REGION_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, 3, 0);
    if (region == MAP_FAILED || memcmp((void *)region, "ENARXSP1", 8)) return 94;
    uint32_t length;
    uint64_t value;
    post(1, 0, 0, 64, 0, 0);
    if (complete(&length, &value) != 0 || length == 0) return 93;
    char mode = region[BUFFER(0)];
    int code;
    switch (mode) {
    case 'h': /* hello, and an exit code */
        print(1, "hello\n");
        print(2, "world\n");
        end(42);
    case 'c': /* copies standard input to standard output */
        for (;;) {
            post(2, 0, 0, 128u << 10, 0, 0);
            if (complete(&length, 0) != 0) end(1);
            if (length == 0) end(0);
            post(3, 0, 1, length, 0, 0);
            if (complete(0, &value) != 0 || value != length) end(2);
        }
    case 's': { /* sleeps 50 ms */
        struct timespec before, after;
        clock_gettime(CLOCK_MONOTONIC, &before);
        wait_until(50000000);
        clock_gettime(CLOCK_MONOTONIC, &after);
        end((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 >= 50 ? 0 : 1);
    }
    case 'l': /* never ends */
        for (;;) ;
    case 'w': /* waits for ever */
        for (;;) wait_until(UINT64_MAX);
    case 'p': probe();
    case 'f': /* forbidden: a new process */
        print(1, "before\n");
        fork();
        end(1);
    case 'o': /* refused: a file */
        if (open("/dev/urandom", O_RDONLY) < 0 && errno == ENOSYS) print(1, "refused\n");
        end(0);
    case 'k': /* forbidden: a signal */
        kill(getpid(), 0);
        end(1);
    case 'e': /* forbidden: another program */
        execve("/bin/true", (char *[]){"true", 0}, (char *[]){0});
        end(1);
    case 'a': abort();
    case 'm': /* uses up its memory, then gives up as Rust's allocator does */
        while (malloc(1 << 20)) ;
        abort();
    case 'v': *(volatile int *)0 = 0; /* dies of a signal */
    case 'q': return 7; /* ends without a word */
    case 'r': /* breaks the ring */
        __atomic_store_n(word(0x040), 5000, __ATOMIC_SEQ_CST);
        code = write(4, "R", 1);
        for (;;) pause();
    case 'd': /* an unknown doorbell */
        code = write(4, "xyz", 3);
        for (;;) pause();
    case 'n': /* listens on 127.0.0.1 by TCP, binds UDP, looks up a name; ends with the failures' bits */
        code = 0;
        for (int udp = 0; udp <= 1; udp++) {
            post(udp ? 0x4d : 0x4c, 0, 0, 0, 0, 0);
            if (complete(0, &value) != 0) {
                code |= udp ? 2 : 1;
                continue;
            }
            second = 0x0100007f;
            post(0x45, 0, (uint32_t)value, 0, 0, 4);
            if (complete(0, 0) != 0) code |= udp ? 2 : 1;
            second = 0;
            if (udp) continue;
            post(0x42, 0, (uint32_t)value, 0, 0, 1);
            if (complete(0, 0) != 0) code |= 1;
        }
        memcpy((void *)(region + BUFFER(0)), "127.0.0.1", 9);
        post(0x40, 0, 0, 9, 0, 0);
        if (complete(0, 0) != 0) code |= 4;
        end(code);
    case 'H': /* what hostile.h says */
        hostile(region[BUFFER(0) + 2]);
        end(0);
    case 'b': /* breaks out, in the way of the next letter */
        breaks_out(region[BUFFER(0) + 2]);
        end(1);
    case 't': /* cuts the region */
        if (ftruncate(3, 0) == 0) end(1);
        end(0);
    }
    return code = 92;
}
