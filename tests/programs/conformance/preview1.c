// SPDX-License-Identifier: Apache-2.0

// Calls every function of wasi_snapshot_preview1, by its import and not by the C library, with what
// succeeds and with what must fail, and writes a line for each result. The lines are the same in
// every run: what differs from run to run (times, numbers of files, random bytes) is told as a
// property. The test beside it runs this in every kind of Keep and natively, and compares.
//
// usage: preview1 [all | odd | devices | read-only | streams | stdin N | poll-stdin | look-at-stdin | sleep MS | exit CODE | invalid N | pointer N]
#include <stdlib.h>

#include "output.h"
#include "paths.h"

#define MODULE "wasi_snapshot_preview1"

// Declares an import under a wrapper of its own name that says when it is called first.
#define FUNCTION(name, parameters, arguments)                                               \
    __attribute__((import_module(MODULE), import_name(#name))) extern u32 import_##name parameters; \
    static u32 name parameters {                                                            \
        static bool before;                                                                 \
        if (!before) called(MODULE, #name);                                                 \
        before = true;                                                                      \
        return import_##name arguments;                                                     \
    }

typedef struct {
    const void *bytes;
    u32 length;
} vector;

FUNCTION(args_get, (u8 **argv, u8 *buffer), (argv, buffer))
FUNCTION(args_sizes_get, (u32 *count, u32 *size), (count, size))
FUNCTION(environ_get, (u8 **environ, u8 *buffer), (environ, buffer))
FUNCTION(environ_sizes_get, (u32 *count, u32 *size), (count, size))
FUNCTION(clock_res_get, (u32 clock, u64 *result), (clock, result))
FUNCTION(clock_time_get, (u32 clock, u64 precision, u64 *result), (clock, precision, result))
FUNCTION(fd_advise, (u32 fd, u64 offset, u64 length, u32 advice), (fd, offset, length, advice))
FUNCTION(fd_allocate, (u32 fd, u64 offset, u64 length), (fd, offset, length))
FUNCTION(fd_close, (u32 fd), (fd))
FUNCTION(fd_datasync, (u32 fd), (fd))
FUNCTION(fd_fdstat_get, (u32 fd, void *result), (fd, result))
FUNCTION(fd_fdstat_set_flags, (u32 fd, u32 flags), (fd, flags))
FUNCTION(fd_fdstat_set_rights, (u32 fd, u64 base, u64 inheriting), (fd, base, inheriting))
FUNCTION(fd_filestat_get, (u32 fd, void *result), (fd, result))
FUNCTION(fd_filestat_set_size, (u32 fd, u64 size), (fd, size))
FUNCTION(fd_filestat_set_times, (u32 fd, u64 accessed, u64 modified, u32 flags), (fd, accessed, modified, flags))
FUNCTION(fd_pread, (u32 fd, const vector *vectors, u32 count, u64 offset, u32 *result), (fd, vectors, count, offset, result))
FUNCTION(fd_prestat_get, (u32 fd, void *result), (fd, result))
FUNCTION(fd_prestat_dir_name, (u32 fd, char *path, u32 length), (fd, path, length))
FUNCTION(fd_pwrite, (u32 fd, const vector *vectors, u32 count, u64 offset, u32 *result), (fd, vectors, count, offset, result))
FUNCTION(fd_read, (u32 fd, const vector *vectors, u32 count, u32 *result), (fd, vectors, count, result))
FUNCTION(fd_readdir, (u32 fd, u8 *buffer, u32 length, u64 cookie, u32 *result), (fd, buffer, length, cookie, result))
FUNCTION(fd_renumber, (u32 from, u32 to), (from, to))
FUNCTION(fd_seek, (u32 fd, int64_t offset, u32 whence, u64 *result), (fd, offset, whence, result))
FUNCTION(fd_sync, (u32 fd), (fd))
FUNCTION(fd_tell, (u32 fd, u64 *result), (fd, result))
FUNCTION(fd_write, (u32 fd, const vector *vectors, u32 count, u32 *result), (fd, vectors, count, result))
FUNCTION(path_create_directory, (u32 fd, const char *path, u32 length), (fd, path, length))
FUNCTION(path_filestat_get, (u32 fd, u32 flags, const char *path, u32 length, void *result), (fd, flags, path, length, result))
FUNCTION(path_filestat_set_times, (u32 fd, u32 flags, const char *path, u32 length, u64 accessed, u64 modified, u32 times), (fd, flags, path, length, accessed, modified, times))
FUNCTION(path_link, (u32 old_fd, u32 flags, const char *old, u32 old_length, u32 new_fd, const char *new, u32 new_length), (old_fd, flags, old, old_length, new_fd, new, new_length))
FUNCTION(path_open, (u32 fd, u32 lookup, const char *path, u32 length, u32 flags, u64 base, u64 inheriting, u32 descriptor_flags, u32 *result), (fd, lookup, path, length, flags, base, inheriting, descriptor_flags, result))
FUNCTION(path_readlink, (u32 fd, const char *path, u32 length, char *buffer, u32 buffer_length, u32 *result), (fd, path, length, buffer, buffer_length, result))
FUNCTION(path_remove_directory, (u32 fd, const char *path, u32 length), (fd, path, length))
FUNCTION(path_rename, (u32 fd, const char *old, u32 old_length, u32 new_fd, const char *new, u32 new_length), (fd, old, old_length, new_fd, new, new_length))
FUNCTION(path_symlink, (const char *target, u32 target_length, u32 fd, const char *path, u32 length), (target, target_length, fd, path, length))
FUNCTION(path_unlink_file, (u32 fd, const char *path, u32 length), (fd, path, length))
FUNCTION(poll_oneoff, (const void *subscriptions, void *events, u32 count, u32 *result), (subscriptions, events, count, result))
FUNCTION(proc_raise, (u32 signal), (signal))
FUNCTION(random_get, (u8 *buffer, u32 length), (buffer, length))
FUNCTION(sched_yield, (void), ())
FUNCTION(sock_accept, (u32 fd, u32 flags, u32 *result), (fd, flags, result))
FUNCTION(sock_recv, (u32 fd, const vector *vectors, u32 count, u32 flags, u32 *size, u16 *result), (fd, vectors, count, flags, size, result))
FUNCTION(sock_send, (u32 fd, const vector *vectors, u32 count, u32 flags, u32 *size), (fd, vectors, count, flags, size))
FUNCTION(sock_shutdown, (u32 fd, u32 how), (fd, how))

__attribute__((import_module(MODULE), import_name("proc_exit"), noreturn)) extern void import_proc_exit(u32 code);
__attribute__((noreturn)) static void proc_exit(u32 code) {
    called(MODULE, "proc_exit");
    import_proc_exit(code);
}

static void write_output(const char *bytes, size_t length) {
    for (size_t done = 0; done < length;) {
        vector piece = {bytes + done, (u32)(length - done)};
        u32 written;
        if (import_fd_write(1, &piece, 1, &written) != 0) __builtin_trap();
        done += written;
    }
}

// errno of witx, by number.
static const char *const ERRNO[] = {
    "success", "2big", "acces", "addrinuse", "addrnotavail", "afnosupport", "again", "already",
    "badf", "badmsg", "busy", "canceled", "child", "connaborted", "connrefused", "connreset",
    "deadlk", "destaddrreq", "dom", "dquot", "exist", "fault", "fbig", "hostunreach",
    "idrm", "ilseq", "inprogress", "intr", "inval", "io", "isconn", "isdir",
    "loop", "mfile", "mlink", "msgsize", "multihop", "nametoolong", "netdown", "netreset",
    "netunreach", "nfile", "nobufs", "nodev", "noent", "noexec", "nolck", "nolink",
    "nomem", "nomsg", "noprotoopt", "nospc", "nosys", "notconn", "notdir", "notempty",
    "notrecoverable", "notsock", "notsup", "notty", "nxio", "overflow", "ownerdead", "perm",
    "pipe", "proto", "protonosupport", "prototype", "range", "rofs", "spipe", "srch",
    "stale", "timedout", "txtbsy", "xdev", "notcapable",
};

static const char *errno_name(u32 number) {
    return number < sizeof ERRNO / sizeof *ERRNO ? ERRNO[number] : "no errno";
}

typedef struct {
    u64 dev, ino;
    u8 filetype;
    u64 nlink, size, atim, mtim, ctim;
} filestat;
_Static_assert(sizeof(filestat) == 64, "witx: filestat");

typedef struct {
    u8 filetype;
    u16 flags;
    u64 base, inheriting;
} fdstat;
_Static_assert(sizeof(fdstat) == 24, "witx: fdstat");

typedef struct {
    u64 next, ino;
    u32 name_length;
    u8 filetype;
} dirent;
_Static_assert(sizeof(dirent) == 24, "witx: dirent");

typedef struct {
    u64 userdata;
    u8 tag;
    union {
        struct {
            u32 id;
            u64 timeout, precision;
            u16 flags;
        } clock;
        u32 fd;
    };
} subscription;
_Static_assert(sizeof(subscription) == 48, "witx: subscription");

typedef struct {
    u64 userdata;
    u16 error;
    u8 type;
    u64 nbytes;
    u16 flags;
} event;
_Static_assert(sizeof(event) == 32, "witx: event");

enum { REALTIME, MONOTONIC, PROCESS_CPU, THREAD_CPU };
enum { SEEK_START, SEEK_HERE, SEEK_FROM_END };
enum { O_CREATE = 1, O_DIRECTORY_ = 2, O_EXCLUSIVE = 4, O_TRUNCATE = 8 };
enum { FD_APPEND = 1, FD_DSYNC = 2, FD_NONBLOCK = 4, FD_RSYNC = 8, FD_SYNC_ = 16 };
enum { ATIM = 1, ATIM_NOW = 2, MTIM = 4, MTIM_NOW = 8 };
#define RIGHT_READ (1ull << 1)
#define RIGHT_WRITE (1ull << 6)
#define RIGHT_READDIR (1ull << 14)
#define MILLISECOND 1000000ull
#define SECOND (1000 * MILLISECOND)

// The first preopened directory, and the directory of the present tree in it.
#define PREOPEN 3
static u32 tree = PREOPEN;

static const char *FILETYPES[] = {"?", "b", "c", "/", "", "dgram", "=", "@"};

static u32 open_at(u32 fd, text path, u32 lookup, u32 flags, u64 rights, u32 descriptor_flags, u32 *result) {
    *result = ~0u;
    return path_open(fd, lookup, path.bytes, path.length, flags, rights, 0, descriptor_flags, result);
}

// The needs of the program itself must succeed.
static void must(u32 error, const char *what) {
    if (error == 0) return;
    say("FAILED %s: %s\n", what, errno_name(error));
    flush_output();
    __builtin_trap();
}

static u32 must_open(u32 fd, const char *path, u32 flags, u64 rights) {
    u32 result;
    must(open_at(fd, text_of(path), 0, flags, rights, 0, &result), path);
    return result;
}

static void must_write(u32 fd, const char *content) {
    vector piece = {content, strlen(content)};
    u32 written;
    must(fd_write(fd, &piece, 1, &written), "fd_write");
}

static void must_make(u32 fd, const char *path, const char *content) {
    u32 file = must_open(fd, path, O_CREATE | O_EXCLUSIVE, RIGHT_READ | RIGHT_WRITE);
    must_write(file, content);
    must(fd_close(file), "fd_close");
}

// Makes a fresh tree (see paths.h) in a directory of its own.
static void make_tree(void) {
    static unsigned number;
    char name[20];
    if (tree != PREOPEN) must(fd_close(tree), "fd_close");
    u32 length = snprintf(name, sizeof name, "tree%u", number++);
    must(path_create_directory(PREOPEN, name, length), name);
    tree = must_open(PREOPEN, name, O_DIRECTORY_, RIGHT_READ | RIGHT_READDIR);
    must_make(tree, "file", "0123456789");
    must(path_create_directory(tree, "dir", 3), "dir");
    must(path_create_directory(tree, "empty", 5), "empty");
    must_make(tree, "dir/inner", "inner");
    static const char *const links[][2] = {
        {"file", "link"}, {"dir", "dirlink"}, {"nowhere", "dangling"}, {"loop", "loop"}, {"../../x", "up"}};
    for (unsigned i = 0; i < sizeof links / sizeof *links; i++)
        must(path_symlink(links[i][0], strlen(links[i][0]), tree, links[i][1], strlen(links[i][1])), links[i][1]);
}

// Adds the entries of a directory to the listing.
static void list(u32 fd, const char *prefix) {
    static u8 bytes[64 * 1024];
    u32 used;
    must(fd_readdir(fd, bytes, sizeof bytes, 0, &used), "fd_readdir");
    for (u32 at = 0; at + sizeof(dirent) <= used;) {
        dirent entry;
        memcpy(&entry, bytes + at, sizeof entry);
        char name[300];
        u32 length = snprintf(name, sizeof name, "%s%.*s", prefix, (int)entry.name_length, (char *)bytes + at + sizeof entry);
        at += sizeof entry + entry.name_length;
        if (!strcmp(name, ".") || !strcmp(name, "..") || prefix[0]) {
            if (prefix[0] && name[length - 1] == '.') continue;
            if (!prefix[0]) continue;
        }
        listing_add((text){name, length}, entry.filetype < 8 ? FILETYPES[entry.filetype] : "!");
    }
}

// The contents of the tree and of those of its directories that have a name of their own.
static void say_tree(void) {
    list(tree, "");
    static const char *const directories[] = {"dir", "empty", "none"};
    for (unsigned i = 0; i < 3; i++) {
        u32 fd;
        if (open_at(tree, text_of(directories[i]), 0, O_DIRECTORY_, RIGHT_READ | RIGHT_READDIR, 0, &fd)) continue;
        char prefix[10];
        snprintf(prefix, sizeof prefix, "%s:", directories[i]);
        list(fd, prefix);
        must(fd_close(fd), "fd_close");
    }
    say_listing();
}

// Says how a call that may have changed the tree went, and what the tree then is; makes a new one.
static void say_change(u32 error) {
    say("%s", errno_name(error));
    if (error == 0) {
        say(":");
        say_tree();
        make_tree();
    }
    say("\n");
}

// ---- arguments, environment, clocks, random numbers

static void arguments_and_environment(void) {
    u32 count, size;
    say("args_sizes_get: %s", errno_name(args_sizes_get(&count, &size)));
    say(" %u\n", count);
    u8 *pointers[16], buffer[4096];
    say("args_get: %s", errno_name(args_get(pointers, buffer)));
    // The first is the path of the program, which need not be the same everywhere.
    u32 bytes = 0;
    for (u32 i = 0; i < count; i++) {
        bytes += strlen((char *)pointers[i]) + 1;
        if (i > 0) {
            say(" ");
            say_text(text_of((char *)pointers[i]));
        }
    }
    say(" size %s\n", bytes == size ? "right" : "wrong");
    say("environ_sizes_get: %s", errno_name(environ_sizes_get(&count, &size)));
    say(" %u %u\n", count, size);
    say("environ_get: %s", errno_name(environ_get(pointers, buffer)));
    for (u32 i = 0; i < count; i++) {
        say(" ");
        say_text(text_of((char *)pointers[i]));
    }
    say("\n");
}

static u64 now(u32 clock) {
    u64 time = 0;
    must(clock_time_get(clock, 1, &time), "clock_time_get");
    return time;
}

static void clocks(void) {
    for (u32 clock = 0; clock < 4; clock++) {
        u64 resolution = 0, time = 0;
        u32 error = clock_res_get(clock, &resolution);
        say("clock_res_get %u: %s%s\n", clock, errno_name(error),
            error ? "" : resolution > 0 && resolution <= 10 * MILLISECOND ? " at most 10 ms" : " WRONG");
        error = clock_time_get(clock, 0, &time);
        say("clock_time_get %u: %s%s\n", clock, errno_name(error), error ? "" : time > 0 ? " not 0" : " 0");
    }
    // From 2024 on, before 2200.
    u64 wall = now(REALTIME);
    say("realtime: %s\n", wall > 1704067200 * SECOND && wall < 7258118400 * SECOND ? "plausible" : "WRONG");
    u64 last = now(MONOTONIC);
    bool back = false, moved = false;
    for (u32 i = 0; i < 10000; i++) {
        u64 next = now(MONOTONIC);
        back = back || next < last;
        moved = moved || next > last;
        last = next;
    }
    say("monotonic: %s %s\n", back ? "WENT BACK" : "never back", moved ? "moves" : "STANDS");
    u64 elapsed_wall = now(REALTIME), elapsed = now(MONOTONIC);
    while (now(MONOTONIC) < elapsed + 20 * MILLISECOND) {}
    elapsed_wall = now(REALTIME) - elapsed_wall;
    say("realtime over 20 ms of monotonic: %s\n",
        elapsed_wall >= 15 * MILLISECOND && elapsed_wall < 5 * SECOND ? "about the same" : "WRONG");
}

static void random_numbers(void) {
    static u8 one[100000], other[100000];
    say("random_get 0: %s", errno_name(random_get(one, 0)));
    say(" %s\n", one[0] == 0 ? "untouched" : "TOUCHED");
    for (u32 length = 16; length <= sizeof one; length *= 50) {
        say("random_get %u: %s", length, errno_name(random_get(one, length)));
        say(" %s", errno_name(random_get(other, length)));
        say(" %s %s\n", looks_random(one, other, length) ? "random" : "NOT RANDOM",
            length < sizeof one && one[length] != 0 ? "TOO MUCH" : "no more");
        memset(one, 0, sizeof one);
    }
    must(random_get(one, sizeof one), "random_get");
    say("random_get %zu: %u values\n", sizeof one, byte_values(one, sizeof one));
}

static void process(void) {
    say("sched_yield: %s\n", errno_name(sched_yield()));
    for (u32 signal = 0; signal <= 30; signal++) say("proc_raise %u: %s\n", signal, errno_name(proc_raise(signal)));
}

// ---- descriptors

static struct {
    const char *name;
    u32 fd;
} descriptors[10];
static unsigned descriptors_length;

static void describe(const char *name, u32 fd) {
    descriptors[descriptors_length].name = name;
    descriptors[descriptors_length++].fd = fd;
}

// Opens one of each kind. Numbers that are not there, or no longer, are a kind of their own.
static void open_descriptors(void) {
    make_tree();
    descriptors_length = 0;
    describe("stdin", 0);
    describe("stdout", 1);
    describe("stderr", 2);
    describe("preopen", PREOPEN);
    describe("directory", must_open(tree, "dir", O_DIRECTORY_, RIGHT_READ | RIGHT_READDIR));
    describe("file", must_open(tree, "file", 0, RIGHT_READ | RIGHT_WRITE));
    describe("reader", must_open(tree, "file", 0, RIGHT_READ));
    describe("writer", must_open(tree, "file", 0, RIGHT_WRITE));
    u32 fd = must_open(tree, "file", 0, RIGHT_READ);
    must(fd_close(fd), "fd_close");
    describe("closed", fd);
    describe("largest", ~0u);
}

static void close_descriptors(void) {
    for (unsigned i = 4; i < 8; i++) must(fd_close(descriptors[i].fd), "fd_close");
}

// One line for each kind of descriptor; `call` is an expression with `fd`, `more` says what else is to be said.
#define EACH(title, call, more)                                         \
    for (unsigned i = 0; i < descriptors_length; i++) {                 \
        u32 fd = descriptors[i].fd;                                     \
        (void)fd;                                                       \
        u32 error = (call);                                             \
        say("%s %s: %s", title, descriptors[i].name, errno_name(error));\
        if (error == 0) { more; }                                       \
        say("\n");                                                      \
    }

static bool recent(u64 time) { return time > now(REALTIME) - 3600 * SECOND && time < now(REALTIME) + 3600 * SECOND; }

static void say_filestat(const filestat *stat) {
    say(" type %u nlink %s", stat->filetype, stat->nlink ? "not 0" : "0");
    // Every file system decides for itself about the size of a directory.
    if (stat->filetype == 4 || stat->filetype == 7) say(" size %llu", stat->size);
    if (stat->filetype == 3 || stat->filetype == 4 || stat->filetype == 7)
        say(" ino %s times%s%s%s", stat->ino ? "not 0" : "0", recent(stat->atim) ? "" : " a WRONG",
            recent(stat->mtim) ? "" : " m WRONG", recent(stat->ctim) ? "" : " c WRONG");
}

static void every_descriptor(void) {
    open_descriptors();
    static fdstat status;
    static filestat stat;
    EACH("fd_fdstat_get", fd_fdstat_get(fd, &status),
         say(" type %u flags %u base %llx inheriting %llx", status.filetype, status.flags, status.base, status.inheriting))
    EACH("fd_filestat_get", fd_filestat_get(fd, &stat), say_filestat(&stat))
    for (u32 advice = 0; advice < 6; advice++) {
        say("advice %u\n", advice);
        EACH("fd_advise", fd_advise(fd, 1, 2, advice), )
    }
    EACH("fd_advise of nothing", fd_advise(fd, 0, 0, 0), )
    EACH("fd_advise beyond the end", fd_advise(fd, 1ull << 62, 1ull << 62, 0), )
    EACH("fd_allocate", fd_allocate(fd, 0, 20), )
    EACH("fd_allocate of nothing", fd_allocate(fd, 0, 0), )
    EACH("fd_datasync", fd_datasync(fd), )
    EACH("fd_sync", fd_sync(fd), )
    static const u32 flags[] = {0, FD_APPEND, FD_NONBLOCK, FD_APPEND | FD_NONBLOCK, FD_DSYNC, FD_RSYNC, FD_SYNC_, 0x1f, 0};
    for (unsigned f = 0; f < sizeof flags / sizeof *flags; f++) {
        say("flags %u\n", flags[f]);
        EACH("fd_fdstat_set_flags", fd_fdstat_set_flags(fd, flags[f]),
             must(fd_fdstat_get(fd, &status), "fd_fdstat_get");
             say(" now %u", status.flags))
    }
    EACH("fd_fdstat_set_rights", fd_fdstat_set_rights(fd, RIGHT_READ, 0), )
    EACH("fd_fdstat_set_rights to none", fd_fdstat_set_rights(fd, 0, 0), )
    EACH("fd_prestat_get", fd_prestat_get(fd, (u32[2]){}), )
    char name[300];
    EACH("fd_prestat_dir_name", fd_prestat_dir_name(fd, name, sizeof name), )
    u64 position = 0;
    EACH("fd_tell", fd_tell(fd, &position), say(" %llu", position))
    EACH("fd_seek", fd_seek(fd, 3, SEEK_START, &position), say(" %llu", position))
    EACH("fd_seek back", fd_seek(fd, -2, SEEK_HERE, &position), say(" %llu", position))
    EACH("fd_seek before the start", fd_seek(fd, -2, SEEK_HERE, &position), say(" %llu", position))
    EACH("fd_seek from the end", fd_seek(fd, 5, SEEK_FROM_END, &position), say(" %llu", position))
    EACH("fd_seek far", fd_seek(fd, INT64_MAX, SEEK_START, &position), say(" %llu", position))
    EACH("fd_seek too far", fd_seek(fd, 1, SEEK_HERE, &position), say(" %llu", position))
    EACH("fd_seek negative", fd_seek(fd, INT64_MIN, SEEK_START, &position), say(" %llu", position))
    EACH("fd_tell", fd_tell(fd, &position), say(" %llu", position))
    char bytes[8];
    u32 count = 0;
    vector into = {bytes, sizeof bytes}, nothing = {bytes, 0};
    EACH("fd_read far away", fd == 0 ? 0 : fd_read(fd, &into, 1, &count), say(" %u", fd ? count : 0))
    EACH("fd_seek", fd_seek(fd, 0, SEEK_START, &position), )
    EACH("fd_read of nothing", fd_read(fd, &nothing, 1, &count), say(" %u", count))
    EACH("fd_read without buffers", fd_read(fd, &nothing, 0, &count), say(" %u", count))
    EACH("fd_read", fd == 0 ? 0 : fd_read(fd, &into, 1, &count), say(" ");
         say_text((text){bytes, fd ? count : 0}))
    EACH("fd_pread", fd_pread(fd, &into, 1, 4, &count), say(" ");
         say_text((text){bytes, count}))
    EACH("fd_pread of nothing", fd_pread(fd, &nothing, 1, 4, &count), say(" %u", count))
    EACH("fd_pread at the end", fd_pread(fd, &into, 1, 10, &count), say(" %u", count))
    EACH("fd_pread far", fd_pread(fd, &into, 1, INT64_MAX, &count), say(" %u", count))
    EACH("fd_pread too far", fd_pread(fd, &into, 1, 1ull << 63, &count), say(" %u", count))
    vector from = {"ab", 2};
    EACH("fd_write of nothing", fd == 1 || fd == 2 ? 0 : fd_write(fd, &nothing, 1, &count), say(" %u", fd == 1 || fd == 2 ? 0 : count))
    EACH("fd_write", fd == 1 || fd == 2 ? 0 : fd_write(fd, &from, 1, &count), say(" %u", fd == 1 || fd == 2 ? 0 : count))
    EACH("fd_pwrite", fd_pwrite(fd, &from, 1, 5, &count), say(" %u", count))
    EACH("fd_pwrite of nothing", fd_pwrite(fd, &nothing, 1, 5, &count), say(" %u", count))
    EACH("fd_pwrite too far", fd_pwrite(fd, &from, 1, INT64_MAX, &count), say(" %u", count))
    EACH("fd_pwrite much too far", fd_pwrite(fd, &from, 1, 1ull << 63, &count), say(" %u", count))
    EACH("fd_filestat_set_size", fd_filestat_set_size(fd, 12), )
    EACH("fd_filestat_set_size too far", fd_filestat_set_size(fd, 1ull << 63), )
    EACH("fd_filestat_get", fd_filestat_get(fd, &stat), say_filestat(&stat))
    EACH("fd_filestat_set_times", fd_filestat_set_times(fd, SECOND, 2 * SECOND, ATIM | MTIM), )
    EACH("fd_filestat_set_times to nothing", fd_filestat_set_times(fd, SECOND, 2 * SECOND, 0), )
    EACH("fd_filestat_set_times to now", fd_filestat_set_times(fd, SECOND, 2 * SECOND, ATIM_NOW | MTIM_NOW), )
    EACH("fd_filestat_set_times both ways", fd_filestat_set_times(fd, SECOND, 2 * SECOND, ATIM | ATIM_NOW), )
    static u8 entries[4096];
    EACH("fd_readdir", fd == PREOPEN ? 0 : fd_readdir(fd, entries, sizeof entries, 0, &count), say(" %u", fd == PREOPEN ? 0 : count))
    EACH("sock_accept", sock_accept(fd, 0, &count), )
    EACH("sock_accept without waiting", sock_accept(fd, FD_NONBLOCK, &count), )
    u16 received;
    EACH("sock_recv", sock_recv(fd, &into, 1, 0, &count, &received), )
    EACH("sock_recv peeking", sock_recv(fd, &into, 1, 1, &count, &received), )
    EACH("sock_send", sock_send(fd, &from, 1, 0, &count), )
    for (u32 how = 1; how <= 3; how++) EACH("sock_shutdown", sock_shutdown(fd, how), )
    for (unsigned i = 0; i < descriptors_length; i++)
        for (u32 tag = 1; tag <= 2; tag++) {
            if (descriptors[i].fd == 0) continue;
            subscription wish = {.userdata = 7, .tag = tag, .fd = descriptors[i].fd};
            event happened = {};
            u32 error = poll_oneoff(&wish, &happened, 1, &count);
            say("poll_oneoff %s %s: %s", tag == 1 ? "reading" : "writing", descriptors[i].name, errno_name(error));
            if (error == 0)
                say(" %u user %llu error %s type %u flags %u", count, happened.userdata, errno_name(happened.error),
                    happened.type, happened.flags);
            say("\n");
        }
    close_descriptors();
    EACH("fd_close", fd < 4 ? 8 : fd_close(fd), )
}

// ---- files

static u32 file_with(const char *content) {
    static unsigned number;
    char name[20];
    snprintf(name, sizeof name, "file%u", number++);
    must_make(tree, name, content);
    return must_open(tree, name, 0, RIGHT_READ | RIGHT_WRITE);
}

static void say_content(u32 fd) {
    char bytes[300];
    vector into = {bytes, sizeof bytes};
    u32 count;
    must(fd_pread(fd, &into, 1, 0, &count), "fd_pread");
    say(" ");
    say_text((text){bytes, count});
    say("\n");
}

static void files(void) {
    make_tree();
    u32 fd = file_with("0123456789"), count;
    u64 position;
    char one[4], other[4];
    // One call transfers one buffer or several: both are right, so only what was read is told.
    vector into[] = {{one, 0}, {one, 4}, {other, 4}};
    say("fd_read buffers: %s", errno_name(fd_read(fd, into, 3, &count)));
    say(" %s", count == 4 || count == 8 ? "4 or 8" : "WRONG");
    say(" %.4s", one);
    say(" %s\n", errno_name(fd_tell(fd, &position)));
    say("position %s\n", position == count ? "follows" : "WRONG");
    vector from[] = {{"", 0}, {"ABCD", 4}, {"EFGH", 4}};
    say("fd_seek: %s\n", errno_name(fd_seek(fd, 1, SEEK_START, &position)));
    say("fd_write buffers: %s", errno_name(fd_write(fd, from, 3, &count)));
    say(" %s\n", count == 4 || count == 8 ? "4 or 8" : "WRONG");
    vector piece = {"xy", 2};
    say("fd_pwrite behind the end: %s", errno_name(fd_pwrite(fd, &piece, 1, 14, &count)));
    say(" %u\n", count);
    must(fd_filestat_set_size(fd, 5), "fd_filestat_set_size");
    say("fd_filestat_set_size 5:");
    say_content(fd);
    must(fd_filestat_set_size(fd, 8), "fd_filestat_set_size");
    say("fd_filestat_set_size 8:");
    say_content(fd);
    // Large ones: 300000 bytes in one call and back.
    static u8 large[300000], back[300000];
    for (u32 i = 0; i < sizeof large; i++) large[i] = (u8)(i * 7 + i / 251);
    must(fd_seek(fd, 0, SEEK_START, &position), "fd_seek");
    for (u32 done = 0; done < sizeof large; done += count) {
        vector all = {large + done, sizeof large - done};
        must(fd_write(fd, &all, 1, &count), "fd_write");
    }
    must(fd_seek(fd, 0, SEEK_START, &position), "fd_seek");
    u32 done = 0;
    do {
        vector all = {back + done, sizeof back - done};
        must(fd_read(fd, &all, 1, &count), "fd_read");
        done += count;
    } while (count && done < sizeof back);
    say("300000 bytes: %u %s\n", done, memcmp(large, back, sizeof large) ? "WRONG" : "same");
    must(fd_close(fd), "fd_close");

    // Appending.
    must_make(tree, "log", "one ");
    u32 log;
    must(open_at(tree, TEXT("log"), 0, 0, RIGHT_READ | RIGHT_WRITE, FD_APPEND, &log), "log");
    fdstat status;
    must(fd_fdstat_get(log, &status), "fd_fdstat_get");
    say("append: flags %u", status.flags);
    must(fd_tell(log, &position), "fd_tell");
    say(" at %llu", position);
    must_write(log, "two ");
    must(fd_tell(log, &position), "fd_tell");
    say(" at %llu", position);
    must(fd_seek(log, 0, SEEK_START, &position), "fd_seek");
    must_write(log, "three ");
    piece = (vector){"!", 1};
    say(" pwrite %s", errno_name(fd_pwrite(log, &piece, 1, 0, &count)));
    say_content(log);
    must(fd_fdstat_set_flags(log, 0), "fd_fdstat_set_flags");
    must(fd_seek(log, 0, SEEK_START, &position), "fd_seek");
    must_write(log, "ONE");
    must(fd_fdstat_set_flags(log, FD_APPEND), "fd_fdstat_set_flags");
    must_write(log, "end");
    say("append off and on:");
    say_content(log);
    must(fd_close(log), "fd_close");

    // Numbers of descriptors.
    u32 first = file_with("first"), second = file_with("second");
    say("fd_renumber: %s", errno_name(fd_renumber(first, second)));
    say_content(second);
    say("fd_renumber gone: %s\n", errno_name(fd_fdstat_get(first, &status)));
    say("fd_renumber to itself: %s\n", errno_name(fd_renumber(second, second)));
    say("fd_renumber from nothing: %s\n", errno_name(fd_renumber(first, second)));
    say("fd_renumber to nothing: %s\n", errno_name(fd_renumber(second, first)));
    u32 third = file_with("third");
    say("numbers are used again: %s\n", third == first ? "yes" : "no");
    must(fd_close(second), "fd_close");
    say("fd_close twice: %s\n", errno_name(fd_close(second)));
    must(fd_close(third), "fd_close");

    // A file without a name lives while it is open.
    must_make(tree, "gone", "still here");
    u32 gone = must_open(tree, "gone", 0, RIGHT_READ | RIGHT_WRITE);
    must(path_unlink_file(tree, "gone", 4), "path_unlink_file");
    filestat stat;
    must(fd_filestat_get(gone, &stat), "fd_filestat_get");
    say("unlinked: nlink %llu", stat.nlink);
    must_write(gone, "STILL");
    say_content(gone);
    must(fd_close(gone), "fd_close");
    u32 removed = must_open(tree, "empty", O_DIRECTORY_, RIGHT_READ);
    must(path_remove_directory(tree, "empty", 5), "path_remove_directory");
    u32 made;
    say("file in a removed directory: %s\n",
        errno_name(open_at(removed, TEXT("x"), 0, O_CREATE, RIGHT_READ | RIGHT_WRITE, 0, &made)));
    say("directory in a removed directory: %s\n", errno_name(path_create_directory(removed, "x", 1)));
    static u8 entries[4096];
    u32 error = fd_readdir(removed, entries, sizeof entries, 0, &count);
    say("list a removed directory: %s %u\n", errno_name(error), error ? 0 : count);
    must(fd_close(removed), "fd_close");

    // Two names of one file.
    make_tree();
    must(path_link(tree, 0, "file", 4, tree, "second", 6), "path_link");
    filestat a, b;
    must(path_filestat_get(tree, 0, "file", 4, &a), "path_filestat_get");
    must(path_filestat_get(tree, 0, "second", 6, &b), "path_filestat_get");
    say("two names: nlink %llu %s\n", a.nlink, a.dev == b.dev && a.ino == b.ino ? "same file" : "NOT THE SAME");
    fd = must_open(tree, "second", 0, RIGHT_READ);
    must(fd_filestat_get(fd, &b), "fd_filestat_get");
    say("stat by name and by descriptor: %s\n", !memcmp(&a, &b, sizeof a) ? "same" : "DIFFERENT");
    must(fd_close(fd), "fd_close");
    must(path_filestat_get(tree, 0, "dir", 3, &b), "path_filestat_get");
    say("another file: %s\n", a.dev == b.dev && a.ino != b.ino ? "another number" : "WRONG");
}

static void times(void) {
    make_tree();
    // 1970, a second and a half, 2001, the last nanosecond that has 63 bits, years after it, and the last.
    static const u64 TIMES[] = {0, 1500000000, 1000000000000000007, 9223372036854775807u, 9223372036854775808u,
                                9900000000000000001u, 13569465599999999999u};
    filestat stat;
    u32 fd = must_open(tree, "file", 0, RIGHT_READ | RIGHT_WRITE);
    for (unsigned i = 0; i < sizeof TIMES / sizeof *TIMES; i++) {
        u64 time = TIMES[i];
        say("fd_filestat_set_times %llu: %s", time, errno_name(fd_filestat_set_times(fd, time, time / 2, ATIM | MTIM)));
        u32 error = fd_filestat_get(fd, &stat);
        say(" then %s %s %s\n", errno_name(error), stat.atim == time ? "same" : "OTHER", stat.mtim == time / 2 ? "same" : "OTHER");
        for (u32 follow = 0; follow < 2; follow++) {
            say("path_filestat_set_times %llu: %s", time,
                errno_name(path_filestat_set_times(tree, follow, "link", 4, time / 2, time, ATIM | MTIM)));
            error = path_filestat_get(tree, follow, "link", 4, &stat);
            say(" then %s type %u %s %s\n", errno_name(error), stat.filetype, stat.atim == time / 2 ? "same" : "OTHER",
                stat.mtim == time ? "same" : "OTHER");
        }
    }
    must(fd_filestat_set_times(fd, SECOND, 2 * SECOND, ATIM | MTIM), "fd_filestat_set_times");
    static const u32 flags[] = {0, ATIM, MTIM, ATIM_NOW, MTIM_NOW, ATIM | MTIM_NOW, ATIM_NOW | MTIM, ATIM_NOW | MTIM_NOW};
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        must(fd_filestat_set_times(fd, SECOND, 2 * SECOND, ATIM | MTIM), "fd_filestat_set_times");
        say("flags %u: %s", flags[i], errno_name(fd_filestat_set_times(fd, 3 * SECOND, 4 * SECOND, flags[i])));
        must(fd_filestat_get(fd, &stat), "fd_filestat_get");
        if (stat.atim < 5 * SECOND) say(" a %llu", stat.atim);
        else say(" a %s", recent(stat.atim) ? "now" : "WRONG");
        if (stat.mtim < 5 * SECOND) say(" m %llu", stat.mtim);
        else say(" m %s", recent(stat.mtim) ? "now" : "WRONG");
        say(" c %s\n", recent(stat.ctim) ? "now" : "WRONG");
    }
    // A write is a change of the content.
    must_write(fd, "changed");
    must(fd_filestat_get(fd, &stat), "fd_filestat_get");
    say("after a write: m %s\n", recent(stat.mtim) ? "now" : "OLD");
    must(fd_close(fd), "fd_close");
}

// ---- directories

static void directories(void) {
    make_tree();
    must(path_create_directory(tree, "many", 4), "many");
    u32 many = must_open(tree, "many", O_DIRECTORY_, RIGHT_READ | RIGHT_READDIR);
    static u8 buffer[8192];
    u32 used;
    // An empty one has the two entries that every one has.
    for (u32 length = 0; length <= 60; length++) {
        memset(buffer, 0xee, sizeof buffer);
        u32 error = fd_readdir(many, buffer, length, 0, &used);
        say("fd_readdir of %u bytes: %s %u %s\n", length, errno_name(error), used, buffer[length] == 0xee ? "no more" : "TOO MUCH");
    }
    dirent entry;
    must(fd_readdir(many, buffer, sizeof buffer, 0, &used), "fd_readdir");
    memcpy(&entry, buffer, sizeof entry);
    filestat stat;
    must(fd_filestat_get(many, &stat), "fd_filestat_get");
    say("\".\": next %llu type %u length %u number %s\n", entry.next, entry.filetype, entry.name_length,
        entry.ino == stat.ino ? "its own" : "ANOTHER");
    static const u64 cookies[] = {1, 2, 3, 4, 100, ~0u, 1ull << 32, ~0ull};
    for (unsigned i = 0; i < sizeof cookies / sizeof *cookies; i++) {
        u32 error = fd_readdir(many, buffer, sizeof buffer, cookies[i], &used);
        say("fd_readdir from %llu: %s %u\n", cookies[i], errno_name(error), error ? 0 : used);
    }
    // Kinds and numbers of the entries.
    listing_length = 0;
    say("kinds:");
    list(tree, "");
    say_listing();
    say("\n");
    must(fd_readdir(tree, buffer, sizeof buffer, 0, &used), "fd_readdir");
    u32 wrong = 0, entries = 0;
    for (u32 at = 0; at < used; entries++) {
        memcpy(&entry, buffer + at, sizeof entry);
        char *name = (char *)buffer + at + sizeof entry;
        at += sizeof entry + entry.name_length;
        if (name[0] == '.') continue;
        must(path_filestat_get(tree, 0, name, entry.name_length, &stat), "path_filestat_get");
        wrong += stat.ino != entry.ino || stat.filetype != entry.filetype;
    }
    say("entries %u, %u other than what path_filestat_get says\n", entries, wrong);

    // Many, in small pieces, as a C library reads them: each once.
    enum { MANY = 500 };
    for (u32 i = 0; i < MANY; i++) {
        char name[20];
        snprintf(name, sizeof name, "entry%u", i);
        must_make(many, name, "");
    }
    static u8 seen[MANY];
    u64 cookie = 0;
    u32 calls = 0, others = 0;
    do {
        must(fd_readdir(many, buffer, 700, cookie, &used), "fd_readdir");
        calls++;
        for (u32 at = 0; at + sizeof entry <= used;) {
            memcpy(&entry, buffer + at, sizeof entry);
            if (at + sizeof entry + entry.name_length > used) break;
            char name[300];
            snprintf(name, sizeof name, "%.*s", (int)entry.name_length, (char *)buffer + at + sizeof entry);
            u32 number = strncmp(name, "entry", 5) ? MANY : (u32)atoi(name + 5);
            if (number < MANY) seen[number]++;
            else others++;
            cookie = entry.next;
            at += sizeof entry + entry.name_length;
        }
    } while (used == 700);
    u32 once = 0;
    for (u32 i = 0; i < MANY; i++) once += seen[i] == 1;
    say("%u entries: %u once, %u others, %s\n", MANY, once, others, calls > 10 ? "many calls" : "FEW CALLS");

    // Each is deleted as it is read: all are gone, and the directory with them.
    cookie = 0;
    u32 deleted = 0;
    do {
        must(fd_readdir(many, buffer, 700, cookie, &used), "fd_readdir");
        for (u32 at = 0; at + sizeof entry <= used;) {
            memcpy(&entry, buffer + at, sizeof entry);
            if (at + sizeof entry + entry.name_length > used) break;
            char *name = (char *)buffer + at + sizeof entry;
            if (name[0] != '.') deleted += path_unlink_file(many, name, entry.name_length) == 0;
            cookie = entry.next;
            at += sizeof entry + entry.name_length;
        }
    } while (used == 700);
    say("deleted while reading: %s, then the directory: %s\n", deleted == MANY ? "all" : "NOT ALL",
        errno_name(path_remove_directory(tree, "many", 4)));
    must(fd_close(many), "fd_close");

    // An entry that comes after the reading began is there when it begins again.
    make_tree();
    u32 dir = must_open(tree, "dir", O_DIRECTORY_, RIGHT_READ | RIGHT_READDIR);
    must(fd_readdir(dir, buffer, sizeof buffer, 0, &used), "fd_readdir");
    must_make(dir, "later", "");
    say("again from the start:");
    list(dir, "");
    say_listing();
    say("\n");
    must(fd_close(dir), "fd_close");
}

// ---- paths

static void say_path(const char *function, text path) {
    say("%s ", function);
    say_text(path);
    say(": ");
}

static void opening(void) {
    static const struct {
        const char *name;
        u32 lookup, flags;
        u64 rights;
        u32 descriptor_flags;
    } WAYS[] = {
        {"to read", 0, 0, RIGHT_READ, 0},
        {"to read, following", 1, 0, RIGHT_READ, 0},
        {"to write", 0, 0, RIGHT_WRITE, 0},
        {"to write, following", 1, 0, RIGHT_WRITE, 0},
        {"for both", 1, 0, RIGHT_READ | RIGHT_WRITE, 0},
        {"for nothing", 1, 0, 0, 0},
        {"creating", 1, O_CREATE, RIGHT_READ | RIGHT_WRITE, 0},
        {"creating, not following", 0, O_CREATE, RIGHT_READ | RIGHT_WRITE, 0},
        {"creating to read", 1, O_CREATE, RIGHT_READ, 0},
        {"creating a new one", 0, O_CREATE | O_EXCLUSIVE, RIGHT_WRITE, 0},
        {"creating a new one, following", 1, O_CREATE | O_EXCLUSIVE, RIGHT_WRITE, 0},
        {"cutting", 1, O_TRUNCATE, RIGHT_WRITE, 0},
        {"creating and cutting", 1, O_CREATE | O_TRUNCATE, RIGHT_WRITE, 0},
        {"cutting to read", 1, O_TRUNCATE, RIGHT_READ, 0},
        {"exclusively", 1, O_EXCLUSIVE, RIGHT_READ, 0},
        {"a directory", 0, O_DIRECTORY_, RIGHT_READ, 0},
        {"a directory, following", 1, O_DIRECTORY_, RIGHT_READ, 0},
        {"a directory to write", 1, O_DIRECTORY_, RIGHT_READ | RIGHT_WRITE, 0},
        {"creating a directory", 1, O_DIRECTORY_ | O_CREATE, RIGHT_READ, 0},
        {"cutting a directory", 1, O_DIRECTORY_ | O_TRUNCATE, RIGHT_READ, 0},
        {"appending", 1, 0, RIGHT_WRITE, FD_APPEND},
        {"without waiting", 1, 0, RIGHT_READ, FD_NONBLOCK},
        {"synchronously", 1, 0, RIGHT_WRITE, FD_SYNC_},
    };
    make_tree();
    for (unsigned way = 0; way < sizeof WAYS / sizeof *WAYS; way++)
        for (unsigned i = 0; i < PATHS_LENGTH; i++) {
            u32 fd;
            u32 error = open_at(tree, PATHS[i], WAYS[way].lookup, WAYS[way].flags, WAYS[way].rights,
                                WAYS[way].descriptor_flags, &fd);
            say_path("path_open", PATHS[i]);
            say("%s: %s", WAYS[way].name, errno_name(error));
            if (error) {
                say("\n");
                continue;
            }
            fdstat status;
            filestat stat;
            must(fd_fdstat_get(fd, &status), "fd_fdstat_get");
            must(fd_filestat_get(fd, &stat), "fd_filestat_get");
            say(" type %u flags %u base %llx", status.filetype, status.flags, status.base);
            if (status.filetype == 4) say(" size %llu", stat.size);
            char bytes[4];
            vector into = {bytes, sizeof bytes}, from = {"W", 1};
            u32 count;
            say(" read %s", errno_name(fd_read(fd, &into, 1, &count)));
            say(" write %s", errno_name(fd_write(fd, &from, 1, &count)));
            must(fd_close(fd), "fd_close");
            if (WAYS[way].flags || WAYS[way].rights & RIGHT_WRITE) {
                say(":");
                say_tree();
                make_tree();
            }
            say("\n");
        }
}

static void one_path(void) {
    make_tree();
    filestat stat;
    for (u32 follow = 0; follow < 2; follow++)
        for (unsigned i = 0; i < PATHS_LENGTH; i++) {
            u32 error = path_filestat_get(tree, follow, PATHS[i].bytes, PATHS[i].length, &stat);
            say_path(follow ? "path_filestat_get following" : "path_filestat_get", PATHS[i]);
            say("%s", errno_name(error));
            if (error == 0) say_filestat(&stat);
            say("\n");
        }
    for (u32 follow = 0; follow < 2; follow++)
        for (unsigned i = 0; i < PATHS_LENGTH; i++) {
            u32 error = path_filestat_set_times(tree, follow, PATHS[i].bytes, PATHS[i].length, SECOND, 2 * SECOND, ATIM | MTIM);
            say_path(follow ? "path_filestat_set_times following" : "path_filestat_set_times", PATHS[i]);
            say("%s\n", errno_name(error));
        }
    make_tree();
    for (unsigned i = 0; i < PATHS_LENGTH; i++) {
        char target[300];
        u32 length = 0;
        u32 error = path_readlink(tree, PATHS[i].bytes, PATHS[i].length, target, sizeof target, &length);
        say_path("path_readlink", PATHS[i]);
        say("%s", errno_name(error));
        if (error == 0) {
            say(" ");
            say_text((text){target, length});
        }
        say("\n");
    }
    for (u32 size = 0; size < 6; size++) {
        char target[8] = "-------";
        u32 length = 99;
        u32 error = path_readlink(tree, "link", 4, target, size, &length);
        say("path_readlink into %u bytes: %s %u %.7s\n", size, errno_name(error), length, target);
    }
    for (unsigned i = 0; i < PATHS_LENGTH; i++) {
        u32 error = path_create_directory(tree, PATHS[i].bytes, PATHS[i].length);
        say_path("path_create_directory", PATHS[i]);
        say_change(error);
    }
    for (unsigned i = 0; i < PATHS_LENGTH; i++) {
        u32 error = path_remove_directory(tree, PATHS[i].bytes, PATHS[i].length);
        say_path("path_remove_directory", PATHS[i]);
        say_change(error);
    }
    for (unsigned i = 0; i < PATHS_LENGTH; i++) {
        u32 error = path_unlink_file(tree, PATHS[i].bytes, PATHS[i].length);
        say_path("path_unlink_file", PATHS[i]);
        say_change(error);
    }
    for (unsigned i = 0; i < PATHS_LENGTH; i++) {
        u32 error = path_symlink("file", 4, tree, PATHS[i].bytes, PATHS[i].length);
        say_path("path_symlink at", PATHS[i]);
        say_change(error);
    }
    for (unsigned i = 0; i < PATHS_LENGTH; i++) {
        u32 error = path_symlink(PATHS[i].bytes, PATHS[i].length, tree, "none", 4);
        say_path("path_symlink to", PATHS[i]);
        say_change(error);
    }
}

static void two_paths(void) {
    make_tree();
    for (unsigned i = 0; i < PAIRED_LENGTH; i++)
        for (unsigned j = 0; j < PAIRED_LENGTH; j++) {
            u32 error = path_rename(tree, PAIRED[i].bytes, PAIRED[i].length, tree, PAIRED[j].bytes, PAIRED[j].length);
            say("path_rename ");
            say_text(PAIRED[i]);
            say(" to ");
            say_text(PAIRED[j]);
            say(": ");
            say_change(error);
        }
    for (unsigned i = 0; i < PAIRED_LENGTH; i++)
        for (unsigned j = 0; j < PAIRED_LENGTH; j++) {
            u32 error = path_link(tree, 0, PAIRED[i].bytes, PAIRED[i].length, tree, PAIRED[j].bytes, PAIRED[j].length);
            say("path_link ");
            say_text(PAIRED[i]);
            say(" as ");
            say_text(PAIRED[j]);
            say(": ");
            say_change(error);
        }
    say("path_link of the root: ");
    say_change(path_link(PREOPEN, 0, ".", 1, tree, "none", 4));
    say("path_link following: ");
    say_change(path_link(tree, 1, "link", 4, tree, "none", 4));
}

// Descriptors that are no directory of the program's, as the start of a path.
static void starts(void) {
    open_descriptors();
    filestat stat;
    u32 made, count;
    char target[20];
    // Where the start may be used the call must fail for another reason, so that nothing changes.
    EACH("path_create_directory", path_create_directory(fd, "", 0), )
    EACH("path_filestat_get", path_filestat_get(fd, 0, "", 0, &stat), )
    EACH("path_filestat_set_times", path_filestat_set_times(fd, 0, "", 0, 0, 0, 0), )
    EACH("path_link from", path_link(fd, 0, "", 0, tree, "none", 4), )
    EACH("path_link to", path_link(tree, 0, "file", 4, fd, "", 0), )
    EACH("path_open", open_at(fd, TEXT(""), 0, 0, RIGHT_READ, 0, &made), )
    EACH("path_readlink", path_readlink(fd, "", 0, target, sizeof target, &count), )
    EACH("path_remove_directory", path_remove_directory(fd, "", 0), )
    EACH("path_rename from", path_rename(fd, "", 0, tree, "none", 4), )
    EACH("path_rename to", path_rename(tree, "file", 4, fd, "", 0), )
    EACH("path_symlink", path_symlink("file", 4, fd, "", 0), )
    EACH("path_unlink_file", path_unlink_file(fd, "", 0), )
    close_descriptors();
    // The preopened directory knows its name.
    u32 prestat[2] = {99, 99};
    say("fd_prestat_get: %s", errno_name(fd_prestat_get(PREOPEN, prestat)));
    say(" tag %u\n", prestat[0]);
    for (u32 length = 0; length <= prestat[1] + 1; length++) {
        char name[300] = "-----------";
        u32 error = fd_prestat_dir_name(PREOPEN, name, length);
        say("fd_prestat_dir_name %d more than needed: %s %s\n", (int)(length - prestat[1]), errno_name(error),
            name[prestat[1]] == '-' ? "no more" : "TOO MUCH");
    }
    // One level up from a directory that is not preopened.
    u32 dir = must_open(tree, "dir", O_DIRECTORY_, RIGHT_READ), up;
    say("path_open \"../file\" from \"dir\": %s\n", errno_name(open_at(dir, TEXT("../file"), 0, 0, RIGHT_READ, 0, &up)));
    must(fd_close(dir), "fd_close");
    // Not UTF-8: nothing of the kind can be named.
    static const text ILLEGAL[] = {TEXT("\xff"), TEXT("a\xc3"), TEXT("\xed\xa0\x80"), TEXT("\xc0\xaf")};
    for (unsigned i = 0; i < 4; i++) {
        say_path("path_filestat_get", ILLEGAL[i]);
        say("%s\n", errno_name(path_filestat_get(tree, 0, ILLEGAL[i].bytes, ILLEGAL[i].length, &stat)));
        say_path("path_open creating", ILLEGAL[i]);
        say("%s\n", errno_name(open_at(tree, ILLEGAL[i], 0, O_CREATE, RIGHT_WRITE, 0, &made)));
        say_path("path_symlink to", ILLEGAL[i]);
        say("%s\n", errno_name(path_symlink(ILLEGAL[i].bytes, ILLEGAL[i].length, tree, "none", 4)));
    }
}

// ---- waiting

static void say_poll(const char *name, const subscription *wishes, u32 wished, u64 least) {
    event events[4] = {};
    u32 count = 99;
    u64 start = now(MONOTONIC);
    u32 error = poll_oneoff(wishes, events, wished, &count);
    u64 elapsed = now(MONOTONIC) - start;
    say("poll_oneoff %s: %s", name, errno_name(error));
    if (error == 0) {
        say(" %u", count);
        for (u32 i = 0; i < count && i < 4; i++)
            say(", user %llu error %s type %u flags %u", events[i].userdata, errno_name(events[i].error), events[i].type, events[i].flags);
    }
    say(" %s\n", elapsed >= least && elapsed < least + 10 * SECOND ? "in time" : elapsed < least ? "TOO EARLY" : "TOO LATE");
}

static void waiting(void) {
    subscription none = {};
    say_poll("for nothing", &none, 0, 0);
    for (u32 clock = 0; clock < 4; clock++) {
        char name[50];
        subscription wish = {.userdata = 5, .tag = 0, .clock = {.id = clock, .timeout = 30 * MILLISECOND}};
        snprintf(name, sizeof name, "30 ms of clock %u", clock);
        say_poll(name, &wish, 1, 30 * MILLISECOND * (clock < 2));
        wish.clock.timeout = 0;
        snprintf(name, sizeof name, "0 of clock %u", clock);
        say_poll(name, &wish, 1, 0);
        wish.clock.flags = 1;
        u64 time = 0;
        clock_time_get(clock, 0, &time);
        wish.clock.timeout = time + 30 * MILLISECOND;
        snprintf(name, sizeof name, "30 ms from now on clock %u", clock);
        // The wall clock and the one that measures are not the same.
        say_poll(name, &wish, 1, clock == 1 ? 30 * MILLISECOND : clock == 0 ? 25 * MILLISECOND : 0);
        wish.clock.timeout = 1;
        snprintf(name, sizeof name, "a time long ago on clock %u", clock);
        say_poll(name, &wish, 1, 0);
    }
    subscription both[2] = {
        {.userdata = 1, .tag = 0, .clock = {.id = MONOTONIC, .timeout = 3600 * SECOND}},
        {.userdata = 2, .tag = 0, .clock = {.id = MONOTONIC, .timeout = 20 * MILLISECOND}},
    };
    say_poll("an hour or 20 ms", both, 2, 20 * MILLISECOND);
    subscription mixed[3] = {
        {.userdata = 1, .tag = 0, .clock = {.id = MONOTONIC, .timeout = 3600 * SECOND}},
        {.userdata = 2, .tag = 2, .fd = 1},
        {.userdata = 3, .tag = 2, .fd = 2},
    };
    say_poll("an hour or to write", mixed, 3, 0);
    subscription bad[2] = {
        {.userdata = 1, .tag = 0, .clock = {.id = MONOTONIC, .timeout = 0}},
        {.userdata = 2, .tag = 1, .fd = 77},
    };
    say_poll("a descriptor that is not there", bad, 2, 0);
}

// ---- what needs a run of its own

// Reads so many bytes of standard input, to the end when there are fewer.
static void read_stdin(u32 wanted) {
    char bytes[64];
    while (wanted) {
        vector into = {bytes, wanted < sizeof bytes ? wanted : sizeof bytes};
        u32 count;
        u32 error = fd_read(0, &into, 1, &count);
        say("fd_read: %s ", errno_name(error));
        if (error || count == 0) break;
        say_text((text){bytes, count});
        say("\n");
        wanted -= count;
    }
    say("\n");
}

static void sleep_for(u32 milliseconds) {
    subscription wish = {.tag = 0, .clock = {.id = MONOTONIC, .timeout = milliseconds * MILLISECOND}};
    event happened;
    u32 count;
    say("asleep\n");
    flush_output();
    say("poll_oneoff: %s\n", errno_name(poll_oneoff(&wish, &happened, 1, &count)));
}

static void poll_stdin(void) {
    subscription wish = {.userdata = 9, .tag = 1, .fd = 0};
    event happened = {};
    u32 count;
    say("poll_oneoff: %s", errno_name(poll_oneoff(&wish, &happened, 1, &count)));
    say(" %u user %llu error %s type %u\n", count, happened.userdata, errno_name(happened.error), happened.type);
}

// Looks at standard input with a time limit of zero, before and after a read. It is not compared with native
// Wasmtime, which asks another thread and does not wait for it.
static void look_at_stdin(void) {
    subscription wishes[2] = {
        {.userdata = 1, .tag = 0, .clock = {.id = MONOTONIC, .timeout = 0}},
        {.userdata = 2, .tag = 1, .fd = 0},
    };
    for (u32 turn = 0; turn < 3; turn++) {
        event events[2] = {};
        u32 count = 0;
        u32 error = poll_oneoff(wishes, events, 2, &count);
        say("%s", errno_name(error));
        for (u32 i = 0; error == 0 && i < count && i < 2; i++) say(" %llu", events[i].userdata);
        say("\n");
        if (count < 2) break;
        char byte;
        vector into = {&byte, 1};
        fd_read(0, &into, 1, &count);
    }
}

// A directory with what programs rarely meet: sockets, pipes, devices, names that are not UTF-8, files
// from before 1970 and from far in the future.
static void odd(void) {
    static u8 buffer[16384];
    u32 used = 0;
    u32 error = fd_readdir(PREOPEN, buffer, sizeof buffer, 0, &used);
    say("fd_readdir: %s", errno_name(error));
    dirent entry;
    for (u32 at = 0; error == 0 && at + sizeof entry <= used;) {
        memcpy(&entry, buffer + at, sizeof entry);
        char kind[8];
        snprintf(kind, sizeof kind, ":%u", entry.filetype);
        char *name = (char *)buffer + at + sizeof entry;
        if (name[0] != '.') listing_add((text){name, entry.name_length}, kind);
        at += sizeof entry + entry.name_length;
    }
    say_listing();
    say("\n");
    static const char *const NAMES[] = {"socket", "pipe", "to-socket", "to-pipe", "outside", "absolute", "old", "older", "future"};
    for (unsigned i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        text name = text_of(NAMES[i]);
        filestat stat = {};
        for (u32 follow = 0; follow < 2; follow++) {
            error = path_filestat_get(PREOPEN, follow, name.bytes, name.length, &stat);
            say("path_filestat_get%s %s: %s", follow ? " following" : "", NAMES[i], errno_name(error));
            if (error == 0) {
                say(" type %u", stat.filetype);
                if (stat.filetype == 4) say(" size %llu a %llu m %llu", stat.size, stat.atim, stat.mtim);
            }
            say("\n");
        }
        static const u64 RIGHTS[] = {RIGHT_READ, RIGHT_WRITE};
        for (unsigned r = 0; r < 2; r++) {
            u32 fd;
            error = open_at(PREOPEN, name, 1, 0, RIGHTS[r], 0, &fd);
            say("path_open %s %s: %s", r ? "to write" : "to read", NAMES[i], errno_name(error));
            if (error == 0) {
                error = fd_filestat_get(fd, &stat);
                say(" fd_filestat_get %s", errno_name(error));
                if (error == 0) say(" type %u m %llu", stat.filetype, stat.mtim);
                must(fd_close(fd), "fd_close");
            }
            say("\n");
        }
        char target[300];
        error = path_readlink(PREOPEN, name.bytes, name.length, target, sizeof target, &used);
        say("path_readlink %s: %s\n", NAMES[i], errno_name(error));
        error = path_link(PREOPEN, 0, name.bytes, name.length, PREOPEN, "linked", 6);
        say("path_link %s: %s\n", NAMES[i], errno_name(error));
        if (error == 0) must(path_unlink_file(PREOPEN, "linked", 6), "path_unlink_file");
        error = path_rename(PREOPEN, name.bytes, name.length, PREOPEN, "renamed", 7);
        say("path_rename %s: %s\n", NAMES[i], errno_name(error));
        if (error == 0) say("path_unlink_file %s: %s\n", NAMES[i], errno_name(path_unlink_file(PREOPEN, "renamed", 7)));
    }
}

// The devices of the machine.
static void devices(void) {
    static u8 buffer[1 << 16];
    u32 used, fd;
    say("fd_readdir: %s\n", errno_name(fd_readdir(PREOPEN, buffer, sizeof buffer, 0, &used)));
    filestat stat = {};
    say("path_filestat_get null: %s", errno_name(path_filestat_get(PREOPEN, 0, "null", 4, &stat)));
    say(" type %u\n", stat.filetype);
    say("path_open null: %s\n", errno_name(open_at(PREOPEN, TEXT("null"), 1, 0, RIGHT_READ, 0, &fd)));
}

// Standard streams, which may be terminals.
static void streams(void) {
    for (u32 fd = 0; fd < 3; fd++) {
        fdstat status;
        filestat stat;
        say("fd_fdstat_get %u: %s", fd, errno_name(fd_fdstat_get(fd, &status)));
        say(" type %u flags %u base %llx\n", status.filetype, status.flags, status.base);
        say("fd_filestat_get %u: %s", fd, errno_name(fd_filestat_get(fd, &stat)));
        say(" type %u size %llu\n", stat.filetype, stat.size);
    }
}

// A directory that may only be read.
static void read_only(void) {
    u32 fd, count;
    u64 position;
    vector from = {"x", 1};
    fdstat status;
    must(fd_fdstat_get(PREOPEN, &status), "fd_fdstat_get");
    say("fd_fdstat_get: base %llx inheriting %llx\n", status.base, status.inheriting);
    say("path_create_directory: %s\n", errno_name(path_create_directory(PREOPEN, "new", 3)));
    say("path_remove_directory: %s\n", errno_name(path_remove_directory(PREOPEN, "dir", 3)));
    say("path_unlink_file: %s\n", errno_name(path_unlink_file(PREOPEN, "file", 4)));
    say("path_symlink: %s\n", errno_name(path_symlink("file", 4, PREOPEN, "new", 3)));
    say("path_link: %s\n", errno_name(path_link(PREOPEN, 0, "file", 4, PREOPEN, "new", 3)));
    say("path_rename: %s\n", errno_name(path_rename(PREOPEN, "file", 4, PREOPEN, "new", 3)));
    say("path_filestat_set_times: %s\n", errno_name(path_filestat_set_times(PREOPEN, 0, "file", 4, 0, 0, MTIM)));
    static const struct {
        u32 flags;
        u64 rights;
    } WAYS[] = {{O_CREATE, RIGHT_READ}, {O_CREATE | O_EXCLUSIVE, RIGHT_WRITE}, {O_TRUNCATE, RIGHT_READ}, {0, RIGHT_WRITE}, {0, RIGHT_READ | RIGHT_WRITE}};
    static const char *const NAMES[] = {"file", "new"};
    for (unsigned i = 0; i < sizeof WAYS / sizeof *WAYS; i++)
        for (unsigned n = 0; n < 2; n++)
            say("path_open %s flags %u rights %llu: %s\n", NAMES[n], WAYS[i].flags, WAYS[i].rights,
                errno_name(open_at(PREOPEN, text_of(NAMES[n]), 0, WAYS[i].flags, WAYS[i].rights, 0, &fd)));
    fd = must_open(PREOPEN, "file", 0, RIGHT_READ);
    say("fd_write: %s\n", errno_name(fd_write(fd, &from, 1, &count)));
    say("fd_pwrite: %s\n", errno_name(fd_pwrite(fd, &from, 1, 0, &count)));
    say("fd_filestat_set_size: %s\n", errno_name(fd_filestat_set_size(fd, 0)));
    say("fd_filestat_set_times: %s\n", errno_name(fd_filestat_set_times(fd, 0, 0, MTIM)));
    say("fd_allocate: %s\n", errno_name(fd_allocate(fd, 0, 100)));
    say("fd_sync: %s\n", errno_name(fd_sync(fd)));
    say("fd_seek: %s\n", errno_name(fd_seek(fd, 0, SEEK_START, &position)));
    say("content:");
    say_content(fd);
    u32 dir = must_open(PREOPEN, "dir", O_DIRECTORY_, RIGHT_READ | RIGHT_READDIR);
    say("path_create_directory below: %s\n", errno_name(path_create_directory(dir, "new", 3)));
    say("path_open below: %s\n", errno_name(open_at(dir, TEXT("new"), 0, O_CREATE, RIGHT_WRITE, 0, &fd)));
}

// Values that witx does not know. A host may end the program for them, so each has a run of its own.
static void invalid(u32 number) {
    make_tree();
    u32 fd = must_open(tree, "file", 0, RIGHT_READ | RIGHT_WRITE), result;
    u64 position;
    filestat stat;
    subscription wish = {.tag = 3};
    event happened;
    u16 flags;
    vector from = {"x", 1};
    flush_output();
    u32 error = 0;
    switch (number) {
    case 0: error = fd_seek(fd, 0, 3, &position); break;
    case 1: error = fd_advise(fd, 0, 0, 6); break;
    case 2: error = clock_time_get(4, 0, &position); break;
    case 3: error = clock_res_get(4, &position); break;
    case 4: error = proc_raise(31); break;
    case 5: error = open_at(tree, TEXT("file"), 0, 0x10, RIGHT_READ, 0, &result); break;
    case 6: error = open_at(tree, TEXT("file"), 0, 0, RIGHT_READ, 0x20, &result); break;
    case 7: error = open_at(tree, TEXT("file"), 2, 0, RIGHT_READ, 0, &result); break;
    case 8: error = open_at(tree, TEXT("file"), 0, 0, 1ull << 30, 0, &result); break;
    case 9: error = fd_filestat_set_times(fd, 0, 0, 0x10); break;
    case 10: error = path_filestat_get(tree, 2, "file", 4, &stat); break;
    case 11: error = fd_fdstat_set_flags(fd, 0x20); break;
    case 12: error = poll_oneoff(&wish, &happened, 1, &result); break;
    case 13:
        wish = (subscription){.tag = 0, .clock = {.id = 1, .flags = 2}};
        error = poll_oneoff(&wish, &happened, 1, &result);
        break;
    case 14: error = sock_shutdown(fd, 4); break;
    case 15: error = sock_recv(fd, &from, 1, 4, &result, &flags); break;
    case 16: error = sock_send(fd, &from, 1, 1, &result); break;
    case 17: error = sock_accept(fd, 0x20, &result); break;
    case 18: error = fd_fdstat_set_rights(fd, 1ull << 30, 0); break;
    }
    say("invalid %u: %s\n", number, errno_name(error));
}

// Pointers that lead out of memory or are not aligned: by the rules of witx the program ends.
static void pointer(u32 number) {
    u32 count;
    u8 *out = (u8 *)0xfffffff0u;
    vector outside = {out, 8}, wild = {out, 64};
    static u8 bytes[64];
    flush_output();
    u32 error = 0;
    switch (number) {
    case 0: error = random_get(out, 64); break;
    case 1: error = args_get((u8 **)out, bytes); break;
    case 2: error = fd_write(1, &wild, 1, &count); break;
    case 3: error = fd_write(1, (vector *)out, 4, &count); break;
    case 4: error = clock_time_get(1, 0, (u64 *)(bytes + 1)); break;
    case 5: error = path_create_directory(PREOPEN, (char *)out, 64); break;
    case 6: error = fd_fdstat_get(1, out); break;
    case 7: error = fd_read(0, &outside, 1, &count); break;
    }
    say("pointer %u: %s\n", number, errno_name(error));
}

static void all(void) {
    arguments_and_environment();
    clocks();
    random_numbers();
    process();
    every_descriptor();
    files();
    times();
    directories();
    opening();
    one_path();
    two_paths();
    starts();
    waiting();
}

int main(int count, char **arguments) {
    make_long_names();
    const char *mode = count > 1 ? arguments[1] : "all";
    u32 number = count > 2 ? (u32)strtoul(arguments[2], NULL, 10) : 0;
    if (!strcmp(mode, "all")) all();
    else if (!strcmp(mode, "odd")) odd();
    else if (!strcmp(mode, "devices")) devices();
    else if (!strcmp(mode, "read-only")) read_only();
    else if (!strcmp(mode, "streams")) streams();
    else if (!strcmp(mode, "stdin")) read_stdin(number);
    else if (!strcmp(mode, "poll-stdin")) poll_stdin();
    else if (!strcmp(mode, "look-at-stdin")) look_at_stdin();
    else if (!strcmp(mode, "sleep")) sleep_for(number);
    else if (!strcmp(mode, "exit")) proc_exit(number);
    else if (!strcmp(mode, "invalid")) invalid(number);
    else if (!strcmp(mode, "pointer")) pointer(number);
    else return 2;
    flush_output();
    return 0;
}
