// SPDX-License-Identifier: Apache-2.0

// Calls every function of every interface of WASI 0.3 that a Keep offers, with what succeeds and with what must
// fail, and writes a line for each result. As in preview1.c the lines are the same in every run. The bindings are
// generated (see ../src/main.rs); it is they that say what has been called.
//
// The powers of paths and descriptors are told by preview2.c at length: the functions of both are the same below.
//
// usage: preview3 [all | read-only | terminals | stdin N | wait-stdin | give-up-stdin | pass | exit | exit-error |
//                  exit-with-code N | error | trap | sockets | no-network |
//                  reach WHERE...]
#include <stdlib.h>
#include "command.h"
#include "no_files.h"
#include "output.h"
#include "random.h"

typedef wasi_filesystem_types_own_descriptor_t descriptor;
typedef wasi_filesystem_types_borrow_descriptor_t borrowed;
typedef wasi_filesystem_types_error_code_t fs_error;
typedef wasi_filesystem_types_descriptor_stat_t stat_record;
typedef wasi_filesystem_types_new_timestamp_t timestamp;
typedef wasi_cli_stdin_stream_u8_t stream;
typedef wasi_cli_stdin_stream_u8_writer_t writer;

#define FS(function) wasi_filesystem_types_method_descriptor_##function
#define DESCRIPTOR(it) wasi_filesystem_types_borrow_descriptor(it)

#define MILLISECOND 1000000ull
#define SECOND (1000 * MILLISECOND)

static const char *const FS_ERROR[] = {
    "access", "already", "bad-descriptor", "busy", "deadlock", "quota", "exist", "file-too-large",
    "illegal-byte-sequence", "in-progress", "interrupted", "invalid", "io", "is-directory", "loop",
    "too-many-links", "message-size", "name-too-long", "no-device", "no-entry", "no-lock",
    "insufficient-memory", "insufficient-space", "not-directory", "not-empty", "not-recoverable",
    "unsupported", "no-tty", "no-such-device", "overflow", "not-permitted", "pipe", "read-only",
    "invalid-seek", "text-file-busy", "cross-device", "other",
};
static const char *const CLI_ERROR[] = {"io", "illegal-byte-sequence", "pipe"};
static const char *const TYPES[] = {"b", "c", "/", "|", "@", "", "=", "?"};
enum { READ = 1, WRITE = 2, FILE_SYNC = 4, DATA_SYNC = 8, READ_SYNC = 16, MUTATE = 32 };
enum { CREATE = 1, DIRECTORY = 2, EXCLUSIVE = 4, TRUNCATE = 8 };
enum { FOLLOW = 1 };

static void fail(const char *what, const char *why) {
    say("FAILED %s: %s\n", what, why);
    flush_output();
    __builtin_trap();
}

static void must(bool ok, const char *what) {
    if (!ok) fail(what, "does not succeed");
}

static command_string_t wit(text it) { return (command_string_t){(u8 *)it.bytes, it.length}; }
static command_string_t wit_of(const char *it) { return wit(text_of(it)); }
static text text_from(command_string_t it) { return (text){(char *)it.ptr, it.len}; }
static const char *fs_result(bool ok, fs_error error) { return ok ? "ok" : FS_ERROR[error.tag]; }

// ---- streams and futures

// Waits for a read or a write that is under way.
static u32 done(u32 waitable, u32 status) {
    if (status != COMMAND_WAITABLE_STATUS_BLOCKED) return status;
    command_waitable_set_t set = command_waitable_set_new();
    command_waitable_join(waitable, set);
    command_event_t event;
    command_waitable_set_wait(set, &event);
    command_waitable_join(waitable, 0);
    command_waitable_set_drop(set);
    must(event.waitable == waitable, "an event");
    return event.code;
}

// Reads at most so many bytes; whether the stream may have more.
static bool read_some(stream from, u8 *bytes, size_t most, size_t *count) {
    u32 status = done(from, wasi_cli_stdin_stream_u8_read(from, bytes, most));
    *count = COMMAND_WAITABLE_COUNT(status);
    return COMMAND_WAITABLE_STATE(status) == COMMAND_WAITABLE_COMPLETED;
}

// Writes all bytes, as far as they are wanted; how many were.
static size_t write_all(writer to, const u8 *bytes, size_t length) {
    size_t count = 0;
    while (count < length) {
        u32 status = done(to, wasi_cli_stdin_stream_u8_write(to, bytes + count, length - count));
        count += COMMAND_WAITABLE_COUNT(status);
        if (COMMAND_WAITABLE_STATE(status) == COMMAND_WAITABLE_DROPPED) break;
    }
    return count;
}

// How a standard stream ended.
static const char *cli_outcome(wasi_cli_stdin_future_result_void_error_code_t future) {
    wasi_cli_stdin_result_void_error_code_t result;
    u32 status = done(future, wasi_cli_stdin_future_result_void_error_code_read(future, &result));
    must(COMMAND_WAITABLE_STATE(status) == COMMAND_WAITABLE_COMPLETED, "a future");
    wasi_cli_stdin_future_result_void_error_code_drop_readable(future);
    return result.is_err ? CLI_ERROR[result.val.err] : "ok";
}

// How a stream of a file ended.
static const char *fs_outcome(wasi_filesystem_types_future_result_void_error_code_t future) {
    wasi_filesystem_types_result_void_error_code_t result;
    u32 status = done(future, wasi_filesystem_types_future_result_void_error_code_read(future, &result));
    must(COMMAND_WAITABLE_STATE(status) == COMMAND_WAITABLE_COMPLETED, "a future");
    wasi_filesystem_types_future_result_void_error_code_drop_readable(future);
    return result.is_err ? FS_ERROR[result.val.err.tag] : "ok";
}

static void write_output(const char *bytes, size_t length) {
    writer to;
    stream from = wasi_cli_stdin_stream_u8_new(&to);
    u32 future = wasi_cli_stdout_write_via_stream(from);
    must(write_all(to, (const u8 *)bytes, length) == length, "output");
    wasi_cli_stdin_stream_u8_drop_writable(to);
    must(!strcmp(cli_outcome(future), "ok"), "output");
}

// ---- arguments, environment, terminals

static void environment(void) {
    command_list_string_t arguments;
    wasi_cli_environment_get_arguments(&arguments);
    say("get-arguments: %zu", arguments.len);
    // The first is the path of the program, which need not be the same everywhere.
    for (size_t i = 1; i < arguments.len; i++) {
        say(" ");
        say_text(text_from(arguments.ptr[i]));
    }
    say("\n");
    command_list_string_free(&arguments);
    command_list_tuple2_string_string_t variables;
    wasi_cli_environment_get_environment(&variables);
    say("get-environment:");
    for (size_t i = 0; i < variables.len; i++) {
        say(" ");
        say_text(text_from(variables.ptr[i].f0));
        say("=");
        say_text(text_from(variables.ptr[i].f1));
    }
    say("\n");
    command_list_tuple2_string_string_free(&variables);
    command_string_t directory;
    say("get-initial-cwd: %s\n", wasi_cli_environment_get_initial_cwd(&directory) ? "some" : "none");
}

static void terminals(void) {
    wasi_cli_terminal_stdin_own_terminal_input_t input;
    bool some = wasi_cli_terminal_stdin_get_terminal_stdin(&input);
    say("get-terminal-stdin: %s\n", some ? "some" : "none");
    if (some) wasi_cli_terminal_input_terminal_input_drop_own(input);
    wasi_cli_terminal_stdout_own_terminal_output_t terminal;
    some = wasi_cli_terminal_stdout_get_terminal_stdout(&terminal);
    say("get-terminal-stdout: %s\n", some ? "some" : "none");
    if (some) wasi_cli_terminal_output_terminal_output_drop_own(terminal);
    some = wasi_cli_terminal_stderr_get_terminal_stderr(&terminal);
    say("get-terminal-stderr: %s\n", some ? "some" : "none");
    if (some) wasi_cli_terminal_output_terminal_output_drop_own(terminal);
}

// ---- clocks, random numbers

static u64 now(void) { return wasi_clocks_monotonic_clock_now(); }

static u64 wall(void) {
    wasi_clocks_system_clock_instant_t time;
    wasi_clocks_system_clock_now(&time);
    return (u64)time.seconds * SECOND + time.nanoseconds;
}

static void say_time(const char *what, u64 start, u64 least) {
    u64 elapsed = now() - start;
    say("%s: %s\n", what, elapsed < least ? "TOO EARLY" : elapsed < least + 10 * SECOND ? "in time" : "TOO LATE");
}

static void clocks(void) {
    u64 last = now();
    bool back = false, moved = false;
    for (int i = 0; i < 10000; i++) {
        u64 next = now();
        back = back || next < last;
        moved = moved || next > last;
        last = next;
    }
    say("monotonic-clock: %s %s\n", back ? "WENT BACK" : "never back", moved ? "moves" : "STANDS");
    u64 resolution = wasi_clocks_monotonic_clock_get_resolution();
    say("monotonic-clock resolution: %s\n", resolution > 0 && resolution <= 10 * MILLISECOND ? "at most 10 ms" : "WRONG");
    wasi_clocks_system_clock_instant_t time;
    wasi_clocks_system_clock_now(&time);
    // From 2024 on, before 2200.
    say("system-clock: %s %s\n", time.seconds > 1704067200 && time.seconds < 7258118400 ? "plausible" : "WRONG",
        time.nanoseconds < SECOND ? "ns below a second" : "WRONG");
    resolution = wasi_clocks_system_clock_get_resolution();
    say("system-clock resolution: %s\n", resolution > 0 && resolution <= 10 * MILLISECOND ? "at most 10 ms" : "WRONG");
    u64 start = now(), elapsed = wall();
    wasi_clocks_monotonic_clock_wait_for(20 * MILLISECOND);
    say_time("wait-for", start, 20 * MILLISECOND);
    elapsed = wall() - elapsed;
    say("system-clock meanwhile: %s\n", elapsed >= 15 * MILLISECOND && elapsed < 10 * SECOND ? "about the same" : "WRONG");
    start = now();
    wasi_clocks_monotonic_clock_wait_until(start + 20 * MILLISECOND);
    say_time("wait-until", start, 20 * MILLISECOND);
    start = now();
    wasi_clocks_monotonic_clock_wait_until(0);
    say_time("wait-until a time that has passed", start, 0);
    wasi_clocks_monotonic_clock_wait_for(0);
    say_time("wait-for no time", start, 0);
}

static void random_numbers(void) {
    bytes_and_numbers();
    command_tuple2_u64_u64_t seed;
    wasi_random_insecure_seed_get_insecure_seed(&seed);
    say_seed("get-insecure-seed", seed);
    command_tuple2_u64_u64_t again;
    wasi_random_insecure_seed_get_insecure_seed(&again);
    say("get-insecure-seed again: %s\n", again.f0 == seed.f0 && again.f1 == seed.f1 ? "the same" : "ANOTHER");
}

// ---- files

static descriptor preopen, tree;
static bool tree_is_open;

static void drop(descriptor it) { wasi_filesystem_types_descriptor_drop_own(it); }

static bool open_at(descriptor from, const char *path, u8 path_flags, u8 open_flags, u8 flags, descriptor *result, fs_error *error) {
    command_string_t name = wit_of(path);
    return FS(open_at)(DESCRIPTOR(from), path_flags, &name, open_flags, flags, result, error);
}

static descriptor must_open(descriptor from, const char *path, u8 open_flags, u8 flags) {
    descriptor result;
    fs_error error;
    if (!open_at(from, path, 0, open_flags, flags, &result, &error)) fail(path, FS_ERROR[error.tag]);
    return result;
}

// Starts to write a file, from a position on or, with none, at the end.
static u32 start_writing(descriptor file, const u64 *position, writer *to) {
    stream from = wasi_cli_stdin_stream_u8_new(to);
    return position ? FS(write_via_stream)(DESCRIPTOR(file), from, *position) : FS(append_via_stream)(DESCRIPTOR(file), from);
}

// Writes a file; the outcome.
static const char *write_file(descriptor file, const u64 *position, const char *content, size_t *count) {
    writer to;
    u32 future = start_writing(file, position, &to);
    *count = write_all(to, (const u8 *)content, strlen(content));
    wasi_cli_stdin_stream_u8_drop_writable(to);
    return fs_outcome(future);
}

// Reads a file; the outcome.
static const char *read_file(descriptor file, u64 position, u8 *bytes, size_t most, size_t *count) {
    wasi_filesystem_types_tuple2_stream_u8_future_result_void_error_code_t opened;
    FS(read_via_stream)(DESCRIPTOR(file), position, &opened);
    *count = 0;
    for (bool more = true; more && *count < most;) {
        size_t some;
        more = read_some(opened.f0, bytes + *count, most - *count, &some);
        *count += some;
    }
    wasi_cli_stdin_stream_u8_drop_readable(opened.f0);
    return fs_outcome(opened.f1);
}

static void must_make(descriptor from, const char *path, const char *content) {
    descriptor file = must_open(from, path, CREATE | EXCLUSIVE, READ | WRITE);
    u64 start = 0;
    size_t count;
    must(!strcmp(write_file(file, &start, content, &count), "ok") && count == strlen(content), path);
    drop(file);
}

static void make_tree(void) {
    static unsigned number;
    char name[20];
    fs_error error;
    if (tree_is_open) drop(tree);
    snprintf(name, sizeof name, "tree%u", number++);
    command_string_t path = wit_of(name), dir = wit_of("dir"), file = wit_of("file"), link = wit_of("link");
    must(FS(create_directory_at)(DESCRIPTOR(preopen), &path, &error), name);
    tree = must_open(preopen, name, DIRECTORY, READ | MUTATE);
    tree_is_open = true;
    must(FS(create_directory_at)(DESCRIPTOR(tree), &dir, &error), "dir");
    must_make(tree, "file", "0123456789");
    must(FS(symlink_at)(DESCRIPTOR(tree), &file, &link, &error), "link");
}

// Adds the entries of a directory to the listing; the outcome.
static const char *list(descriptor directory) {
    wasi_filesystem_types_tuple2_stream_directory_entry_future_result_void_error_code_t opened;
    FS(read_directory)(DESCRIPTOR(directory), &opened);
    for (bool more = true; more;) {
        wasi_filesystem_types_directory_entry_t entries[3];
        u32 status = done(opened.f0, wasi_filesystem_types_stream_directory_entry_read(opened.f0, entries, 3));
        more = COMMAND_WAITABLE_STATE(status) == COMMAND_WAITABLE_COMPLETED;
        for (u32 i = 0; i < COMMAND_WAITABLE_COUNT(status); i++) {
            listing_add(text_from(entries[i].name), TYPES[entries[i].type.tag]);
            wasi_filesystem_types_directory_entry_free(&entries[i]);
        }
    }
    wasi_filesystem_types_stream_directory_entry_drop_readable(opened.f0);
    return fs_outcome(opened.f1);
}

static void say_tree(const char *what) {
    say("%s: %s", what, list(tree));
    say_listing();
    say("\n");
}

static bool recent(wasi_filesystem_types_option_instant_t time) {
    u64 at = (u64)time.val.seconds * SECOND + time.val.nanoseconds;
    return time.is_some && at > wall() - 3600 * SECOND && at < wall() + 3600 * SECOND;
}

static void say_stat(const stat_record *stat) {
    say(" type %u links %s", stat->type.tag, stat->link_count ? "not 0" : "0");
    // Every file system decides for itself about the size of a directory.
    if (stat->type.tag != 2) say(" size %llu", stat->size);
    say(" times%s%s%s", recent(stat->data_access_timestamp) ? "" : " a other",
        recent(stat->data_modification_timestamp) ? "" : " m other", recent(stat->status_change_timestamp) ? "" : " c other");
}

static struct {
    const char *name;
    descriptor it;
} descriptors[5];
#define DESCRIPTORS 5

// One line for each kind of descriptor; `call` is an expression with `it`, `more` says what else is to be said.
#define EACH(title, call, more)                                             \
    for (int i = 0; i < DESCRIPTORS; i++) {                                 \
        borrowed it = DESCRIPTOR(descriptors[i].it);                        \
        fs_error error = {0};                                               \
        bool ok = (call);                                                   \
        say("%s %s: %s", title, descriptors[i].name, fs_result(ok, error)); \
        if (ok) { more; }                                                   \
        say("\n");                                                          \
    }

static timestamp at_time(int64_t seconds, u32 nanoseconds) {
    timestamp time = {.tag = WASI_FILESYSTEM_TYPES_NEW_TIMESTAMP_TIMESTAMP};
    time.val.timestamp.seconds = seconds;
    time.val.timestamp.nanoseconds = nanoseconds;
    return time;
}

static void every_descriptor(void) {
    make_tree();
    descriptors[0].name = "preopen", descriptors[0].it = preopen;
    descriptors[1].name = "directory", descriptors[1].it = must_open(tree, "dir", DIRECTORY, READ | MUTATE);
    descriptors[2].name = "file", descriptors[2].it = must_open(tree, "file", 0, READ | WRITE);
    descriptors[3].name = "reader", descriptors[3].it = must_open(tree, "file", 0, READ);
    descriptors[4].name = "writer", descriptors[4].it = must_open(tree, "file", 0, WRITE);
    u8 flags, bytes[4];
    wasi_filesystem_types_descriptor_type_t type;
    stat_record stat;
    wasi_filesystem_types_metadata_hash_value_t hash;
    EACH("get-flags", FS(get_flags)(it, &flags, &error), say(" %u", flags))
    EACH("get-type", FS(get_type)(it, &type, &error), say(" %u", type.tag))
    EACH("stat", FS(stat)(it, &stat, &error), say_stat(&stat))
    for (u8 advice = 0; advice < 6; advice++) EACH("advise", FS(advise)(it, 1, 2, advice, &error), )
    EACH("sync-data", FS(sync_data)(it, &error), )
    EACH("sync", FS(sync)(it, &error), )
    EACH("set-size", FS(set_size)(it, 12, &error), )
    EACH("set-size too far", FS(set_size)(it, 1ull << 63, &error), )
    timestamp keep = {.tag = WASI_FILESYSTEM_TYPES_NEW_TIMESTAMP_NO_CHANGE}, now_ = {.tag = WASI_FILESYSTEM_TYPES_NEW_TIMESTAMP_NOW};
    timestamp one = at_time(1, 5), two = at_time(2, 0);
    // A directory's times are another matter: see preview2.c.
    for (int i = 2; i < DESCRIPTORS; i++) {
        fs_error error = {0};
        borrowed it = DESCRIPTOR(descriptors[i].it);
        bool ok = FS(set_times)(it, &one, &two, &error);
        say("set-times %s: %s", descriptors[i].name, fs_result(ok, error));
        must(FS(stat)(it, &stat, &error), "stat");
        say(" a %lld.%u m %lld.%u", stat.data_access_timestamp.val.seconds, stat.data_access_timestamp.val.nanoseconds,
            stat.data_modification_timestamp.val.seconds, stat.data_modification_timestamp.val.nanoseconds);
        ok = FS(set_times)(it, &keep, &now_, &error);
        say(" then %s", fs_result(ok, error));
        must(FS(stat)(it, &stat, &error), "stat");
        say_stat(&stat);
        say("\n");
    }
    EACH("metadata-hash", FS(metadata_hash)(it, &hash, &error), say(" %s", hash.lower || hash.upper ? "not 0" : "0"))
    for (int i = 0; i < DESCRIPTORS; i++)
        for (int j = 0; j < DESCRIPTORS; j++)
            say("is-same-object %s %s: %d\n", descriptors[i].name, descriptors[j].name,
                FS(is_same_object)(DESCRIPTOR(descriptors[i].it), DESCRIPTOR(descriptors[j].it)));
    for (int i = 0; i < DESCRIPTORS; i++) {
        say("read-directory %s: %s\n", descriptors[i].name, i == 0 ? "not here" : list(descriptors[i].it));
        listing_length = 0;
        static const u64 PLACES[] = {0, 8, 12, 1ull << 63};
        for (int p = 0; p < 4; p++) {
            size_t count;
            const char *outcome = read_file(descriptors[i].it, PLACES[p], bytes, sizeof bytes, &count);
            say("read-via-stream %s %llu: %s %zu\n", descriptors[i].name, PLACES[p], outcome, count);
        }
        for (int p = 0; p < 5; p++) {
            size_t count;
            const char *outcome = write_file(descriptors[i].it, p < 4 ? &PLACES[p] : NULL, "ab", &count);
            // How much a stream takes before it fails is its own matter.
            say("%s %s %llu: %s", p < 4 ? "write-via-stream" : "append-via-stream", descriptors[i].name, p < 4 ? PLACES[p] : 0, outcome);
            if (!strcmp(outcome, "ok")) say(" %zu", count);
            say("\n");
        }
    }
    u8 content[50];
    size_t count;
    const char *outcome = read_file(descriptors[3].it, 0, content, sizeof content, &count);
    say("content: %s ", outcome);
    say_text((text){(char *)content, count});
    say("\n");
    for (int i = 1; i < DESCRIPTORS; i++) drop(descriptors[i].it);
}

static void paths(void) {
    make_tree();
    static const char *const PATHS[] = {"", ".", "..", "/", "file", "file/", "file/x", "dir", "dir/", "dir/..", "link", "none", "none/x"};
    stat_record stat;
    wasi_filesystem_types_metadata_hash_value_t hash;
    timestamp one = at_time(1, 0), keep = {.tag = WASI_FILESYSTEM_TYPES_NEW_TIMESTAMP_NO_CHANGE};
    fs_error error;
    for (unsigned i = 0; i < sizeof PATHS / sizeof *PATHS; i++) {
        command_string_t path = wit_of(PATHS[i]), target;
        for (u8 flags = 0; flags < 2; flags++) {
            bool ok = FS(stat_at)(DESCRIPTOR(tree), flags, &path, &stat, &error);
            say("stat-at \"%s\" %u: %s", PATHS[i], flags, fs_result(ok, error));
            if (ok) say_stat(&stat);
            ok = FS(metadata_hash_at)(DESCRIPTOR(tree), flags, &path, &hash, &error);
            say(" metadata-hash-at %s\n", fs_result(ok, error));
        }
        bool ok = FS(readlink_at)(DESCRIPTOR(tree), &path, &target, &error);
        say("readlink-at \"%s\": %s", PATHS[i], fs_result(ok, error));
        if (ok) {
            say(" ");
            say_text(text_from(target));
            command_string_free(&target);
        }
        say("\n");
        static const u8 WAYS[][3] = {
            {0, 0, READ}, {FOLLOW, 0, READ}, {FOLLOW, 0, READ | WRITE}, {FOLLOW, DIRECTORY, READ | MUTATE}, {0, CREATE | EXCLUSIVE, WRITE},
            {FOLLOW, DIRECTORY | CREATE, READ}, {FOLLOW, 0, WRITE | FILE_SYNC}, {FOLLOW, 0, WRITE | DATA_SYNC}, {FOLLOW, 0, READ | READ_SYNC}};
        for (unsigned w = 0; w < sizeof WAYS / sizeof *WAYS; w++) {
            descriptor opened;
            ok = open_at(tree, PATHS[i], WAYS[w][0], WAYS[w][1], WAYS[w][2], &opened, &error);
            say("open-at \"%s\" %u %u %u: %s", PATHS[i], WAYS[w][0], WAYS[w][1], WAYS[w][2], fs_result(ok, error));
            if (ok) {
                u8 flags;
                must(FS(get_flags)(DESCRIPTOR(opened), &flags, &error), "get-flags");
                say(" flags %u", flags);
                drop(opened);
                if (WAYS[w][1] & CREATE) make_tree();
            }
            say("\n");
        }
        ok = FS(set_times_at)(DESCRIPTOR(tree), FOLLOW, &path, &one, &keep, &error);
        say("set-times-at \"%s\": %s\n", PATHS[i], fs_result(ok, error));
    }
    // Calls that change the tree.
    make_tree();
    command_string_t dir = wit_of("dir"), file = wit_of("file"), link = wit_of("link"), new = wit_of("new"), none = wit_of("none"), up = wit_of("../new"),
                     root = wit_of("/x");
    borrowed it = DESCRIPTOR(tree);
    bool ok;
#define CHANGE(title, call)                          \
    ok = (call);                                     \
    say("%s: %s\n", title, fs_result(ok, error));    \
    if (ok) say_tree("tree")
    CHANGE("create-directory-at", FS(create_directory_at)(it, &new, &error));
    CHANGE("create-directory-at again", FS(create_directory_at)(it, &new, &error));
    CHANGE("create-directory-at above", FS(create_directory_at)(it, &up, &error));
    CHANGE("remove-directory-at", FS(remove_directory_at)(it, &new, &error));
    CHANGE("remove-directory-at of a file", FS(remove_directory_at)(it, &file, &error));
    CHANGE("link-at", FS(link_at)(it, 0, &file, it, &new, &error));
    CHANGE("link-at of a directory", FS(link_at)(it, 0, &dir, it, &none, &error));
    command_string_t here = wit_of(".");
    CHANGE("link-at of the root", FS(link_at)(DESCRIPTOR(preopen), 0, &here, it, &none, &error));
    CHANGE("unlink-file-at", FS(unlink_file_at)(it, &new, &error));
    CHANGE("unlink-file-at of none", FS(unlink_file_at)(it, &none, &error));
    CHANGE("rename-at", FS(rename_at)(it, &file, it, &new, &error));
    CHANGE("rename-at of none", FS(rename_at)(it, &none, it, &new, &error));
    CHANGE("rename-at above", FS(rename_at)(it, &new, it, &up, &error));
    CHANGE("symlink-at", FS(symlink_at)(it, &new, &none, &error));
    CHANGE("symlink-at of a root", FS(symlink_at)(it, &root, &file, &error));
    CHANGE("unlink-file-at of a link", FS(unlink_file_at)(it, &link, &error));
}

// Much at once: 300000 bytes there and back, two files together, and a directory with many entries.
static void much(void) {
    make_tree();
    static u8 large[300000], back[300001];
    for (u32 i = 0; i < sizeof large; i++) large[i] = (u8)(i * 7 + i / 251);
    descriptor one = must_open(tree, "one", CREATE, READ | WRITE), other = must_open(tree, "other", CREATE, READ | WRITE);
    u64 start = 0;
    writer to[2];
    u32 futures[2] = {start_writing(one, &start, &to[0]), start_writing(other, NULL, &to[1])};
    for (size_t at = 0; at < sizeof large; at += 1000)
        for (int i = 0; i < 2; i++) must(write_all(to[i], large + at, 1000) == 1000, "write");
    for (int i = 0; i < 2; i++) {
        wasi_cli_stdin_stream_u8_drop_writable(to[i]);
        say("write of much: %s\n", fs_outcome(futures[i]));
    }
    descriptor files[2] = {one, other};
    for (int i = 0; i < 2; i++) {
        size_t count;
        const char *outcome = read_file(files[i], 0, back, sizeof back, &count);
        say("read of much: %s %zu %s\n", outcome, count, count == sizeof large && !memcmp(back, large, count) ? "same" : "OTHER");
    }
    // From one file to the other, without the program.
    wasi_filesystem_types_tuple2_stream_u8_future_result_void_error_code_t opened;
    FS(read_via_stream)(DESCRIPTOR(one), 100000, &opened);
    u32 written = FS(write_via_stream)(DESCRIPTOR(other), opened.f0, 0);
    say("from file to file: %s", fs_outcome(written));
    say(" %s", fs_outcome(opened.f1));
    size_t count;
    const char *outcome = read_file(other, 0, back, sizeof back, &count);
    say(" %s %zu %s\n", outcome, count, !memcmp(back, large + 100000, 200000) && !memcmp(back + 200000, large + 200000, 100000) ? "same" : "OTHER");
    drop(one);
    drop(other);
    descriptor dir = must_open(tree, "dir", DIRECTORY, READ | MUTATE);
    for (int i = 0; i < 50; i++) {
        char name[20];
        snprintf(name, sizeof name, "entry%d", i);
        must_make(dir, name, "");
    }
    say("many entries: %s", list(dir));
    say_listing();
    say("\n");
    drop(dir);
    // A stream that nobody reads to its end, and one that nobody writes.
    descriptor file = must_open(tree, "file", 0, READ | WRITE);
    FS(read_via_stream)(DESCRIPTOR(file), 0, &opened);
    wasi_cli_stdin_stream_u8_drop_readable(opened.f0);
    say("read of nothing: %s\n", fs_outcome(opened.f1));
    u32 future = start_writing(file, &start, &to[0]);
    wasi_cli_stdin_stream_u8_drop_writable(to[0]);
    say("write of nothing: %s\n", fs_outcome(future));
    drop(file);
    // Standard error takes it all; nobody has to read it.
    stream from = wasi_cli_stdin_stream_u8_new(&to[0]);
    future = wasi_cli_stderr_write_via_stream(from);
    size_t length = write_all(to[0], (const u8 *)"to standard error\n", 18);
    wasi_cli_stdin_stream_u8_drop_writable(to[0]);
    say("standard error: %s %zu\n", cli_outcome(future), length);
}

// Streams of files: places before, at and behind the end, reads and writes of nothing, and reads that are given up.
static void edges(void) {
    static const u64 PLACES[] = {0, 299999, 300000, 300001, 1ull << 62, INT64_MAX - 1, INT64_MAX, 1ull << 63, ~0ull};
    make_tree();
    descriptor file = must_open(tree, "edges", CREATE, READ | WRITE);
    fs_error error;
    stat_record stat;
    must(FS(set_size)(DESCRIPTOR(file), 300000, &error), "set-size");
    wasi_filesystem_types_tuple2_stream_u8_future_result_void_error_code_t opened;
    u8 bytes[100];
    size_t count;
    for (unsigned p = 0; p < sizeof PLACES / sizeof *PLACES; p++) {
        FS(read_via_stream)(DESCRIPTOR(file), PLACES[p], &opened);
        say("at %llu:", PLACES[p]);
        // Of nothing, of one byte, of nothing, of many.
        static const size_t LENGTHS[] = {0, 1, 0, sizeof bytes, 0};
        for (int i = 0; i < 5; i++) {
            bool more = read_some(opened.f0, bytes, LENGTHS[i], &count);
            say(" %zu%s", count, more ? "" : " end");
            // One that has ended is not read any more.
            if (!more) break;
        }
        wasi_cli_stdin_stream_u8_drop_readable(opened.f0);
        say(" %s\n", fs_outcome(opened.f1));
    }
    static const u64 TARGETS[] = {0, 100, 300001, INT64_MAX, 1ull << 63, ~0ull};
    for (unsigned t = 0; t <= sizeof TARGETS / sizeof *TARGETS; t++)
        for (size_t length = 0; length < 3; length += 2) {
            const u64 *place = t < sizeof TARGETS / sizeof *TARGETS ? &TARGETS[t] : NULL;
            must(FS(set_size)(DESCRIPTOR(file), 10, &error), "set-size");
            writer to;
            u32 future = start_writing(file, place, &to);
            u32 status = done(to, wasi_cli_stdin_stream_u8_write(to, (const u8 *)"ab", length));
            say("%s %llu, %zu: %u", place ? "to" : "append", place ? *place : 0, length, COMMAND_WAITABLE_STATE(status) == COMMAND_WAITABLE_COMPLETED);
            wasi_cli_stdin_stream_u8_drop_writable(to);
            say(" %s", fs_outcome(future));
            must(FS(stat)(DESCRIPTOR(file), &stat, &error), "stat");
            say(" size %llu\n", stat.size);
        }
    // A file that grows while it is read, and one that is cut.
    must(FS(set_size)(DESCRIPTOR(file), 10, &error), "set-size");
    FS(read_via_stream)(DESCRIPTOR(file), 0, &opened);
    bool more = read_some(opened.f0, bytes, 4, &count);
    say("read: %zu %d", count, more);
    must(FS(set_size)(DESCRIPTOR(file), 300000, &error), "set-size");
    size_t all = count;
    while (more) {
        more = read_some(opened.f0, bytes, sizeof bytes, &count);
        all += count;
    }
    say(" in all %zu", all);
    wasi_cli_stdin_stream_u8_drop_readable(opened.f0);
    say(" %s\n", fs_outcome(opened.f1));
    // Itself, from its beginning to its end: a stream of itself that comes to an end.
    must(FS(set_size)(DESCRIPTOR(file), 10, &error), "set-size");
    FS(read_via_stream)(DESCRIPTOR(file), 5, &opened);
    u32 written = FS(write_via_stream)(DESCRIPTOR(file), opened.f0, 0);
    say("onto itself: %s", fs_outcome(written));
    say(" %s\n", fs_outcome(opened.f1));
    drop(file);
}

// A directory that may only be read.
static void read_only(void) {
    command_string_t file = wit_of("file"), new = wit_of("new"), dir = wit_of("dir");
    timestamp one = at_time(1, 0);
    fs_error error;
    borrowed it = DESCRIPTOR(preopen);
    bool ok;
#define TRY(title, call) \
    ok = (call);         \
    say("%s: %s\n", title, fs_result(ok, error))
    TRY("create-directory-at", FS(create_directory_at)(it, &new, &error));
    TRY("remove-directory-at", FS(remove_directory_at)(it, &dir, &error));
    TRY("unlink-file-at", FS(unlink_file_at)(it, &file, &error));
    TRY("symlink-at", FS(symlink_at)(it, &file, &new, &error));
    TRY("link-at", FS(link_at)(it, 0, &file, it, &new, &error));
    TRY("rename-at", FS(rename_at)(it, &file, it, &new, &error));
    TRY("set-times-at", FS(set_times_at)(it, 0, &file, &one, &one, &error));
    descriptor opened;
    TRY("open-at to write", open_at(preopen, "file", 0, 0, WRITE, &opened, &error));
    TRY("open-at creating", open_at(preopen, "new", 0, CREATE, WRITE, &opened, &error));
    opened = must_open(preopen, "file", 0, READ);
    TRY("set-size", FS(set_size)(DESCRIPTOR(opened), 0, &error));
    TRY("set-times", FS(set_times)(DESCRIPTOR(opened), &one, &one, &error));
    u64 start = 0;
    size_t count;
    say("write-via-stream: %s\n", write_file(opened, &start, "x", &count));
    say("append-via-stream: %s\n", write_file(opened, NULL, "x", &count));
    u8 content[20];
    const char *outcome = read_file(opened, 0, content, sizeof content, &count);
    say("content: %s ", outcome);
    say_text((text){(char *)content, count});
    say("\n");
    drop(opened);
}

// ---- standard input

// Reads so many bytes, to the end if there are fewer.
static void read_stdin(u64 wanted) {
    wasi_cli_stdin_tuple2_stream_u8_future_result_void_error_code_t input;
    wasi_cli_stdin_read_via_stream(&input);
    u8 bytes[100];
    u64 had = 0;
    for (bool more = true; more && had < wanted;) {
        size_t count, most = wanted - had < 10 ? (size_t)(wanted - had) : 10;
        more = read_some(input.f0, bytes, most, &count);
        say("read: ");
        say_text((text){(char *)bytes, count});
        say("%s\n", more ? "" : " the end");
        had += count;
    }
    wasi_cli_stdin_stream_u8_drop_readable(input.f0);
    say("standard input: %s\n", cli_outcome(input.f1));
}

// Waits until there is something to read, and leaves it there.
static void wait_stdin(void) {
    wasi_cli_stdin_tuple2_stream_u8_future_result_void_error_code_t input;
    wasi_cli_stdin_read_via_stream(&input);
    u8 nothing;
    size_t count;
    bool more = read_some(input.f0, &nothing, 0, &count);
    say("read of nothing: %zu %d\n", count, more);
    wasi_cli_stdin_stream_u8_drop_readable(input.f0);
    say("standard input: %s\n", cli_outcome(input.f1));
}

// Waits for a clock while nobody writes to standard input, and gives the read up.
static void give_up_stdin(void) {
    wasi_cli_stdin_tuple2_stream_u8_future_result_void_error_code_t input;
    wasi_cli_stdin_read_via_stream(&input);
    u8 bytes[10];
    u32 status = wasi_cli_stdin_stream_u8_read(input.f0, bytes, sizeof bytes);
    say("read: %s\n", status == COMMAND_WAITABLE_STATUS_BLOCKED ? "waits" : "HAS SOMETHING");
    u64 start = now();
    wasi_clocks_monotonic_clock_wait_for(50 * MILLISECOND);
    say_time("wait-for meanwhile", start, 50 * MILLISECOND);
    status = wasi_cli_stdin_stream_u8_cancel_read(input.f0);
    say("cancel-read: %s %u\n", COMMAND_WAITABLE_STATE(status) == COMMAND_WAITABLE_CANCELLED ? "cancelled" : "OTHER", COMMAND_WAITABLE_COUNT(status));
    wasi_cli_stdin_stream_u8_drop_readable(input.f0);
    say("standard input: %s\n", cli_outcome(input.f1));
}

// Passes standard input on to standard output, without looking at it.
static void pass(void) {
    wasi_cli_stdin_tuple2_stream_u8_future_result_void_error_code_t input;
    wasi_cli_stdin_read_via_stream(&input);
    u32 future = wasi_cli_stdout_write_via_stream(input.f0);
    say("standard output: %s\n", cli_outcome(future));
    say("standard input: %s\n", cli_outcome(input.f1));
}

// A call that ends the program, by WIT: two reads of one stream at the same time.
static void trap(void) {
    flush_output();
    writer to;
    stream from = wasi_cli_stdin_stream_u8_new(&to);
    u8 bytes[2];
    wasi_cli_stdin_stream_u8_read(from, bytes, 1);
    wasi_cli_stdin_stream_u8_read(from, bytes, 1);
    say("trap: nothing\n");
}

#include "sockets3.h"
#include "reach.h"

static void all(void) {
    environment();
    terminals();
    clocks();
    random_numbers();
    every_descriptor();
    paths();
    much();
    edges();
}

bool exports_wasi_cli_run_run(void) {
    command_list_string_t arguments;
    wasi_cli_environment_get_arguments(&arguments);
    char mode[30] = "all", number[30] = "0";
    if (arguments.len > 1) snprintf(mode, sizeof mode, "%.*s", (int)arguments.ptr[1].len, arguments.ptr[1].ptr);
    if (arguments.len > 2) snprintf(number, sizeof number, "%.*s", (int)arguments.ptr[2].len, arguments.ptr[2].ptr);
    u64 value = strtoull(number, NULL, 10);
    wasi_filesystem_preopens_list_tuple2_own_descriptor_string_t preopens;
    wasi_filesystem_preopens_get_directories(&preopens);
    for (size_t i = 0; i < preopens.len; i++) {
        say("get-directories: ");
        say_text(text_from(preopens.ptr[i].f1));
        say("\n");
        preopen = preopens.ptr[i].f0;
    }
    wasi_cli_exit_result_void_void_t status = {.is_err = !strcmp(mode, "exit-error")};
    if (!strcmp(mode, "all")) all();
    else if (!strcmp(mode, "read-only")) read_only();
    else if (!strcmp(mode, "terminals")) terminals();
    else if (!strcmp(mode, "stdin")) read_stdin(value);
    else if (!strcmp(mode, "wait-stdin")) wait_stdin();
    else if (!strcmp(mode, "give-up-stdin")) give_up_stdin();
    else if (!strcmp(mode, "pass")) pass();
    else if (!strcmp(mode, "exit") || status.is_err) wasi_cli_exit_exit(&status);
    else if (!strcmp(mode, "exit-with-code")) wasi_cli_exit_exit_with_code((u8)value);
    else if (!strcmp(mode, "trap")) trap();
    else if (!strcmp(mode, "sockets")) sockets();
    else if (!strcmp(mode, "no-network")) no_network();
    else if (!strcmp(mode, "reach")) reach(arguments);
    else if (strcmp(mode, "error")) fail(mode, "is no mode");
    flush_output();
    // The calls of the writing itself.
    flush_output();
    return strcmp(mode, "error") != 0;
}
