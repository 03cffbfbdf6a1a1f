// SPDX-License-Identifier: Apache-2.0

// A component that uses WASI 0.2 and 0.3 together: both see the same files, and the output of both is in order.
#include "mixed.h"
// Not all of its helpers are needed here.
#pragma clang diagnostic ignored "-Wunused-function"
#include "no_files.h"
#include "output.h"

#define OLD(function) wasi_filesystem_0_2_12_types_method_descriptor_##function
#define NEW(function) wasi_filesystem_0_3_0_types_method_descriptor_##function

enum { READ = 1, WRITE = 2, CREATE = 1 };

static void must(bool ok) {
    if (!ok) __builtin_trap();
}

// Waits for a read or a write that is under way.
static u32 done(u32 waitable, u32 status) {
    if (status != MIXED_WAITABLE_STATUS_BLOCKED) return status;
    mixed_waitable_set_t set = mixed_waitable_set_new();
    mixed_waitable_join(waitable, set);
    mixed_event_t event;
    mixed_waitable_set_wait(set, &event);
    mixed_waitable_join(waitable, 0);
    mixed_waitable_set_drop(set);
    return event.code;
}

static void write_all(u32 to, const char *bytes, size_t length) {
    while (length > 0) {
        u32 status = done(to, wasi_cli_0_3_0_stdout_stream_u8_write(to, (const u8 *)bytes, length));
        must(MIXED_WAITABLE_STATE(status) == MIXED_WAITABLE_COMPLETED);
        bytes += MIXED_WAITABLE_COUNT(status);
        length -= MIXED_WAITABLE_COUNT(status);
    }
    wasi_cli_0_3_0_stdout_stream_u8_drop_writable(to);
}

// By 0.3.
static void write_output(const char *bytes, size_t length) {
    wasi_cli_0_3_0_stdout_stream_u8_writer_t to;
    wasi_cli_0_3_0_stdout_stream_u8_t from = wasi_cli_0_3_0_stdout_stream_u8_new(&to);
    u32 future = wasi_cli_0_3_0_stdout_write_via_stream(from);
    write_all(to, bytes, length);
    wasi_cli_0_3_0_stdout_result_void_error_code_t result;
    done(future, wasi_cli_0_3_0_stdout_future_result_void_error_code_read(future, &result));
    must(!result.is_err);
    wasi_cli_0_3_0_stdout_future_result_void_error_code_drop_readable(future);
}

// By 0.2.
static void write_old_output(const char *line) {
    wasi_cli_0_2_12_stdout_own_output_stream_t out = wasi_cli_0_2_12_stdout_get_stdout();
    mixed_list_u8_t bytes = {(u8 *)line, strlen(line)};
    wasi_io_streams_stream_error_t error;
    must(wasi_io_streams_method_output_stream_blocking_write_and_flush(wasi_io_streams_borrow_output_stream(out), &bytes, &error));
    wasi_io_streams_output_stream_drop_own(out);
}

static void clocks(void) {
    u64 start = wasi_clocks_0_3_0_monotonic_clock_now(), old = wasi_clocks_0_2_12_monotonic_clock_now();
    wasi_clocks_0_2_12_monotonic_clock_own_pollable_t timer = wasi_clocks_0_2_12_monotonic_clock_subscribe_duration(300000000);
    wasi_clocks_0_3_0_monotonic_clock_wait_for(10000000);
    say("0.2 after 10 ms of 0.3: %d\n", wasi_io_poll_method_pollable_ready(wasi_io_poll_borrow_pollable(timer)));
    wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(timer));
    wasi_io_poll_pollable_drop_own(timer);
    u64 elapsed = wasi_clocks_0_3_0_monotonic_clock_now() - start, of_old = wasi_clocks_0_2_12_monotonic_clock_now() - old;
    say("0.2 and 0.3 together: %s\n", elapsed >= 300000000 && of_old >= 300000000 && elapsed < 10000000000 ? "in time" : "WRONG");
}

static void files(void) {
    wasi_filesystem_0_2_12_preopens_list_tuple2_own_descriptor_string_t olds;
    wasi_filesystem_0_3_0_preopens_list_tuple2_own_descriptor_string_t news;
    wasi_filesystem_0_2_12_preopens_get_directories(&olds);
    wasi_filesystem_0_3_0_preopens_get_directories(&news);
    must(olds.len == 1 && news.len == 1);
    mixed_string_t name = {(u8 *)"shared", 6};
    // Written by 0.2.
    wasi_filesystem_0_2_12_types_own_descriptor_t old;
    wasi_filesystem_0_2_12_types_error_code_t old_error;
    must(OLD(open_at)(wasi_filesystem_0_2_12_types_borrow_descriptor(olds.ptr[0].f0), 0, &name, CREATE, READ | WRITE, &old, &old_error));
    mixed_list_u8_t bytes = {(u8 *)"of 0.2, ", 8};
    u64 written;
    must(OLD(write)(wasi_filesystem_0_2_12_types_borrow_descriptor(old), &bytes, 0, &written, &old_error));
    // Continued by 0.3.
    wasi_filesystem_0_3_0_types_own_descriptor_t new;
    wasi_filesystem_0_3_0_types_error_code_t new_error;
    must(NEW(open_at)(wasi_filesystem_0_3_0_types_borrow_descriptor(news.ptr[0].f0), 0, &name, 0, READ | WRITE, &new, &new_error));
    wasi_cli_0_3_0_stdout_stream_u8_writer_t to;
    wasi_cli_0_3_0_stdout_stream_u8_t from = wasi_cli_0_3_0_stdout_stream_u8_new(&to);
    u32 future = NEW(append_via_stream)(wasi_filesystem_0_3_0_types_borrow_descriptor(new), from);
    write_all(to, "of 0.3", 6);
    wasi_filesystem_0_3_0_types_result_void_error_code_t result;
    done(future, wasi_filesystem_0_3_0_types_future_result_void_error_code_read(future, &result));
    must(!result.is_err);
    mixed_tuple2_list_u8_bool_t read;
    must(OLD(read)(wasi_filesystem_0_2_12_types_borrow_descriptor(old), 100, 0, &read, &old_error));
    say("file: ");
    say_text((text){(char *)read.f0.ptr, read.f0.len});
    say("\n");
    wasi_filesystem_0_2_12_types_descriptor_drop_own(old);
    wasi_filesystem_0_3_0_types_descriptor_drop_own(new);
}

static void random_numbers(void) {
    mixed_list_u8_t one, other;
    wasi_random_0_2_12_random_get_random_bytes(32, &one);
    wasi_random_0_3_0_random_get_random_bytes(32, &other);
    say("random bytes: %s\n", one.len == 32 && other.len == 32 && looks_random(one.ptr, other.ptr, 32) ? "random" : "NOT RANDOM");
}

bool exports_wasi_cli_0_3_0_run_run(void) {
    clocks();
    files();
    random_numbers();
    say("output of 0.3\n");
    flush_output();
    write_old_output("output of 0.2\n");
    say("output of 0.3 again\n");
    flush_output();
    flush_output();
    return true;
}
