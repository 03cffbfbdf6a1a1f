// SPDX-License-Identifier: Apache-2.0

// A command that asks servers over wasi:http, for the tests of `enarx run` and `enarx deploy`: each argument is a URL. All are
// asked at once, and for each, in their order, it writes the status and the body, or the number of the error. Before them may
// stand the limits of time of the requests, connect=MS, first-byte=MS and between-bytes=MS. Without URLs these are the lines of
// standard input, and each is asked when it has come. The bindings are generated (see ../src/main.rs).
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

// The bindings call this when an import is called first: only the conformance programs want to know.
void called(const char *interface, const char *function) { (void)interface, (void)function; }

typedef wasi_http_types_own_future_incoming_response_t future;

enum { MOST = 64 };

// Limits of time, in nanoseconds; none is 0.
static wasi_http_types_duration_t connect_limit, first_byte_limit, between_bytes_limit;

static void say(const uint8_t *bytes, size_t count) {
    wasi_io_streams_own_output_stream_t out = wasi_cli_stdout_get_stdout();
    // As much as one call takes.
    while (count > 0) {
        size_t much = count < 4096 ? count : 4096;
        client_list_u8_t piece = {(uint8_t *)bytes, much};
        wasi_io_streams_stream_error_t error;
        if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(wasi_io_streams_borrow_output_stream(out), &piece, &error))
            __builtin_trap();
        bytes += much;
        count -= much;
    }
    wasi_io_streams_output_stream_drop_own(out);
}
static void say_text(const char *words) { say((const uint8_t *)words, strlen(words)); }
static void say_number(uint64_t number) {
    char digits[20];
    size_t at = sizeof digits;
    do digits[--at] = '0' + number % 10;
    while (number /= 10);
    say((uint8_t *)digits + at, sizeof digits - at);
}

static void wait_for(wasi_io_poll_own_pollable_t pollable) {
    wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(pollable));
    wasi_io_poll_pollable_drop_own(pollable);
}

static bool skip(client_string_t *text, const char *start) {
    size_t length = strlen(start);
    if (text->len < length || memcmp(text->ptr, start, length) != 0) return false;
    text->ptr += length;
    text->len -= length;
    return true;
}

// Reads a limit of time in milliseconds behind its name, if that is what it is.
static bool limit(client_string_t word, const char *name, wasi_http_types_duration_t *limit) {
    if (!skip(&word, name)) return false;
    *limit = 0;
    for (size_t i = 0; i < word.len; i++) *limit = *limit * 10 + (word.ptr[i] - '0');
    *limit *= 1000000;
    return true;
}

static wasi_http_types_own_request_options_t limits(void) {
    wasi_http_types_own_request_options_t options = wasi_http_types_constructor_request_options();
    wasi_http_types_borrow_request_options_t it = wasi_http_types_borrow_request_options(options);
    if (!wasi_http_types_method_request_options_set_connect_timeout(it, connect_limit ? &connect_limit : NULL) ||
        !wasi_http_types_method_request_options_set_first_byte_timeout(it, first_byte_limit ? &first_byte_limit : NULL) ||
        !wasi_http_types_method_request_options_set_between_bytes_timeout(it, between_bytes_limit ? &between_bytes_limit : NULL))
        __builtin_trap();
    return options;
}

// Begins to ask; the error if it cannot.
static bool ask(client_string_t url, future *answer, wasi_http_types_error_code_t *error) {
    wasi_http_types_own_outgoing_request_t request = wasi_http_types_constructor_outgoing_request(wasi_http_types_constructor_fields());
    wasi_http_types_borrow_outgoing_request_t it = wasi_http_types_borrow_outgoing_request(request);
    wasi_http_types_scheme_t scheme = {.tag = WASI_HTTP_TYPES_SCHEME_HTTPS};
    if (!skip(&url, "https://")) {
        if (!skip(&url, "http://")) __builtin_trap();
        scheme.tag = WASI_HTTP_TYPES_SCHEME_HTTP;
    }
    size_t host = 0;
    while (host < url.len && url.ptr[host] != '/') host++;
    client_string_t authority = {url.ptr, host}, path = {url.ptr + host, url.len - host};
    if (!wasi_http_types_method_outgoing_request_set_scheme(it, &scheme) ||
        !wasi_http_types_method_outgoing_request_set_authority(it, &authority) ||
        !wasi_http_types_method_outgoing_request_set_path_with_query(it, &path))
        __builtin_trap();
    wasi_http_types_own_request_options_t options = limits();
    return wasi_http_outgoing_handler_handle(request, &options, answer, error);
}

static void say_error(wasi_http_types_error_code_t error) {
    say_text("error ");
    say_number(error.tag);
    say_text("\n");
}

static void say_body(wasi_http_types_borrow_incoming_response_t response) {
    wasi_http_types_own_incoming_body_t body;
    wasi_io_streams_own_input_stream_t in;
    if (!wasi_http_types_method_incoming_response_consume(response, &body) ||
        !wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(body), &in))
        __builtin_trap();
    client_list_u8_t bytes;
    wasi_io_streams_stream_error_t error;
    while (wasi_io_streams_method_input_stream_blocking_read(wasi_io_streams_borrow_input_stream(in), 64 << 10, &bytes, &error)) {
        say(bytes.ptr, bytes.len);
        client_list_u8_free(&bytes);
    }
    // One that is not whole is not to look so.
    if (error.tag != 1) {
        wasi_http_types_error_code_t code;
        say_text("cut\n");
        if (wasi_http_types_http_error_code(wasi_io_error_borrow_error(error.val.last_operation_failed), &code)) say_error(code);
        // An error is told once, then the stream is closed (WIT).
        if (wasi_io_streams_method_input_stream_blocking_read(wasi_io_streams_borrow_input_stream(in), 1, &bytes, &error) || error.tag != 1)
            __builtin_trap();
    }
    wasi_io_streams_input_stream_drop_own(in);
}

static void say_answer(future answer) {
    wasi_http_types_borrow_future_incoming_response_t late = wasi_http_types_borrow_future_incoming_response(answer);
    wait_for(wasi_http_types_method_future_incoming_response_subscribe(late));
    wasi_http_types_result_result_own_incoming_response_error_code_void_t result;
    if (!wasi_http_types_method_future_incoming_response_get(late, &result) || result.is_err) __builtin_trap();
    if (result.val.ok.is_err) {
        say_error(result.val.ok.val.err);
        return;
    }
    wasi_http_types_borrow_incoming_response_t response = wasi_http_types_borrow_incoming_response(result.val.ok.val.ok);
    say_number(wasi_http_types_method_incoming_response_status(response));
    say_text(" ");
    say_body(response);
}

// Asks what standard input says.
static void ask_lines(void) {
    static uint8_t line[512];
    size_t length = 0;
    wasi_io_streams_own_input_stream_t in = wasi_cli_stdin_get_stdin();
    client_list_u8_t bytes;
    wasi_io_streams_stream_error_t error;
    while (wasi_io_streams_method_input_stream_blocking_read(wasi_io_streams_borrow_input_stream(in), sizeof line, &bytes, &error)) {
        for (size_t i = 0; i < bytes.len; i++) {
            if (bytes.ptr[i] != '\n') {
                if (length == sizeof line) __builtin_trap();
                line[length++] = bytes.ptr[i];
                continue;
            }
            future answer;
            wasi_http_types_error_code_t refused;
            if (ask((client_string_t){line, length}, &answer, &refused)) say_answer(answer);
            else say_error(refused);
            length = 0;
        }
        client_list_u8_free(&bytes);
    }
}

bool exports_wasi_cli_run_run(void) {
    client_list_string_t arguments;
    wasi_cli_environment_get_arguments(&arguments);
    while (arguments.len > 1 && (limit(arguments.ptr[1], "connect=", &connect_limit) ||
                                 limit(arguments.ptr[1], "first-byte=", &first_byte_limit) ||
                                 limit(arguments.ptr[1], "between-bytes=", &between_bytes_limit))) {
        arguments.ptr++;
        arguments.len--;
    }
    if (arguments.len <= 1) {
        ask_lines();
        return true;
    }
    static future answers[MOST];
    static wasi_http_types_error_code_t errors[MOST];
    static bool asked[MOST];
    if (arguments.len > MOST) __builtin_trap();
    for (size_t i = 1; i < arguments.len; i++) asked[i] = ask(arguments.ptr[i], &answers[i], &errors[i]);
    for (size_t i = 1; i < arguments.len; i++) {
        if (!asked[i]) {
            say_error(errors[i]);
            continue;
        }
        say_answer(answers[i]);
    }
    return true;
}
