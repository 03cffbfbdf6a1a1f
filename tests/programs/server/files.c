// SPDX-License-Identifier: Apache-2.0

// A component that answers HTTP and keeps files in the first directory that it is given, for the tests of `enarx serve`.
// The bindings are generated (see ../src/main.rs).
//
//   /append?N    writes N bytes at the end of the file "log", and answers "appended"; "full", with status 507, if there is no room
//   /empty       makes the file empty
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

// The bindings call this when an import is called first: only the conformance programs want to know.
void called(const char *interface, const char *function) { (void)interface, (void)function; }

#define FILE_CALL(function) wasi_filesystem_types_method_descriptor_##function
#define DESCRIPTOR(it) wasi_filesystem_types_borrow_descriptor(it)

static files_string_t string(const char *text) { return (files_string_t){(uint8_t *)text, strlen(text)}; }

static void must(bool done) {
    if (!done) __builtin_trap();
}

// Answers with a status and one piece of text.
static void answer(exports_wasi_http_incoming_handler_own_response_outparam_t out, uint16_t status, const char *text) {
    wasi_http_types_own_outgoing_response_t response =
        wasi_http_types_constructor_outgoing_response(wasi_http_types_constructor_fields());
    wasi_http_types_borrow_outgoing_response_t it = wasi_http_types_borrow_outgoing_response(response);
    must(wasi_http_types_method_outgoing_response_set_status_code(it, status));
    wasi_http_types_own_outgoing_body_t body;
    must(wasi_http_types_method_outgoing_response_body(it, &body));
    wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = false, .val.ok = response};
    wasi_http_types_static_response_outparam_set(out, &result);
    wasi_io_streams_own_output_stream_t stream;
    must(wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(body), &stream));
    files_list_u8_t bytes = {(uint8_t *)text, strlen(text)};
    wasi_io_streams_stream_error_t stream_error;
    must(wasi_io_streams_method_output_stream_blocking_write_and_flush(
        wasi_io_streams_borrow_output_stream(stream), &bytes, &stream_error));
    wasi_io_streams_output_stream_drop_own(stream);
    wasi_http_types_error_code_t error;
    must(wasi_http_types_static_outgoing_body_finish(body, NULL, &error));
}

// Opens the file, and returns its size.
static uint64_t open_log(wasi_filesystem_types_own_descriptor_t *log) {
    wasi_filesystem_preopens_list_tuple2_own_descriptor_string_t directories;
    wasi_filesystem_preopens_get_directories(&directories);
    must(directories.len > 0);
    files_string_t name = string("log");
    wasi_filesystem_types_error_code_t error;
    must(FILE_CALL(open_at)(DESCRIPTOR(directories.ptr[0].f0), 0, &name, WASI_FILESYSTEM_TYPES_OPEN_FLAGS_CREATE,
                            WASI_FILESYSTEM_TYPES_DESCRIPTOR_FLAGS_READ | WASI_FILESYSTEM_TYPES_DESCRIPTOR_FLAGS_WRITE, log, &error));
    wasi_filesystem_types_descriptor_stat_t found;
    must(FILE_CALL(stat)(DESCRIPTOR(*log), &found, &error));
    return found.size;
}

void exports_wasi_http_incoming_handler_handle(exports_wasi_http_incoming_handler_own_incoming_request_t request,
                                               exports_wasi_http_incoming_handler_own_response_outparam_t out) {
    files_string_t path;
    must(wasi_http_types_method_incoming_request_path_with_query(wasi_http_types_borrow_incoming_request(request), &path));
    char *name = strndup((char *)path.ptr, path.len), *value = strchr(name, '?');
    wasi_filesystem_types_own_descriptor_t log;
    wasi_filesystem_types_error_code_t error;
    uint64_t end = open_log(&log);
    if (!value) {
        must(FILE_CALL(set_size)(DESCRIPTOR(log), 0, &error));
        answer(out, 200, "empty\n");
        return;
    }
    static uint8_t piece[64 << 10];
    for (uint64_t left = strtoull(value + 1, NULL, 10); left > 0;) {
        files_list_u8_t bytes = {piece, left < sizeof piece ? left : sizeof piece};
        wasi_filesystem_types_filesize_t written;
        if (!FILE_CALL(write)(DESCRIPTOR(log), &bytes, end, &written, &error)) {
            must(error == WASI_FILESYSTEM_TYPES_ERROR_CODE_INSUFFICIENT_SPACE || error == WASI_FILESYSTEM_TYPES_ERROR_CODE_QUOTA);
            answer(out, 507, "full\n");
            return;
        }
        end += written;
        left -= written;
    }
    answer(out, 200, "appended\n");
}
