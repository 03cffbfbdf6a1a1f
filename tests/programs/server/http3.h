// SPDX-License-Identifier: Apache-2.0

// Messages of wasi:http 0.3 for the programs that use them: bodies as streams, trailers as futures. Before it is included, the header
// of the world, and WORLD(name) for names that begin with the world's.
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef WORLD(string_t) string_t;
typedef wasi_http_types_stream_u8_t stream_t;
typedef wasi_http_types_stream_u8_writer_t writer_t;
typedef wasi_http_types_own_fields_t fields_t;
typedef wasi_http_types_own_request_t request_t;
typedef wasi_http_types_own_response_t response_t;
typedef wasi_http_types_error_code_t error_t;
typedef wasi_http_types_future_result_option_own_trailers_error_code_t trailers_t;
typedef wasi_http_types_future_result_option_own_trailers_error_code_writer_t trailers_writer_t;
typedef wasi_http_types_result_option_own_trailers_error_code_t trailers_result_t;
typedef wasi_http_types_future_result_void_error_code_t outcome_t;
typedef wasi_http_types_future_result_void_error_code_writer_t outcome_writer_t;
typedef wasi_http_types_result_void_error_code_t outcome_result_t;

#define FIELDS(it) wasi_http_types_borrow_fields(it)
#define REQUEST(it) wasi_http_types_borrow_request(it)
#define RESPONSE(it) wasi_http_types_borrow_response(it)
#define READ_TRAILERS wasi_http_types_future_result_option_own_trailers_error_code_read
#define WRITE_TRAILERS wasi_http_types_future_result_option_own_trailers_error_code_write
#define READ_OUTCOME wasi_http_types_future_result_void_error_code_read
#define WRITE_OUTCOME wasi_http_types_future_result_void_error_code_write

enum { COMPLETED, DROPPED, CANCELLED };
enum { STARTED = 1, RETURNED = 2 };
static const uint32_t BLOCKED = UINT32_MAX;
#define STATE(status) ((status) & 0xf)
#define COUNT(status) ((status) >> 4)

static string_t string_of(const char *text) { return (string_t){(uint8_t *)text, strlen(text)}; }

static void must_be(bool ok) {
    if (!ok) __builtin_trap();
}

// Waits for the next event of a waitable.
static uint32_t event_of(uint32_t waitable) {
    WORLD(waitable_set_t) set = WORLD(waitable_set_new)();
    WORLD(waitable_join)(waitable, set);
    WORLD(event_t) event;
    WORLD(waitable_set_wait)(set, &event);
    WORLD(waitable_join)(waitable, 0);
    WORLD(waitable_set_drop)(set);
    must_be(event.waitable == waitable);
    return event.code;
}

// Waits for a read or a write that is under way.
static uint32_t done(uint32_t waitable, uint32_t status) { return status == BLOCKED ? event_of(waitable) : status; }

// A body that this program writes, with its trailers.
typedef struct {
    writer_t body;
    trailers_writer_t trailers;
    // How it was sent.
    outcome_t outcome;
} sending_t;

// A body that this program reads, with its trailers.
typedef wasi_http_types_tuple2_stream_u8_future_result_option_own_trailers_error_code_t receiving_t;

// Begins a body; its reader's ends.
static sending_t begin(stream_t *body, trailers_t *trailers) {
    sending_t it;
    *body = wasi_http_types_stream_u8_new(&it.body);
    *trailers = wasi_http_types_future_result_option_own_trailers_error_code_new(&it.trailers);
    it.outcome = 0;
    return it;
}

// Writes all; false when nobody takes it any more.
static bool write_all(writer_t to, const uint8_t *bytes, size_t count) {
    while (count > 0) {
        uint32_t status = done(to, wasi_http_types_stream_u8_write(to, bytes, count));
        bytes += COUNT(status);
        count -= COUNT(status);
        if (STATE(status) == DROPPED) return false;
    }
    return true;
}

static bool write_text(writer_t to, const char *text) { return write_all(to, (const uint8_t *)text, strlen(text)); }

static void write_trailers(trailers_writer_t to, const fields_t *trailers) {
    trailers_result_t result = {.is_err = false, .val.ok.is_some = trailers != NULL};
    if (trailers) result.val.ok.val = *trailers;
    done(to, WRITE_TRAILERS(to, &result));
    wasi_http_types_future_result_option_own_trailers_error_code_drop_writable(to);
}

// How a message was sent.
static outcome_result_t outcome_of(outcome_t future) {
    outcome_result_t result;
    uint32_t status = done(future, READ_OUTCOME(future, &result));
    must_be(STATE(status) == COMPLETED);
    wasi_http_types_future_result_void_error_code_drop_readable(future);
    return result;
}

// Ends a body; how it was sent.
static outcome_result_t finish(sending_t it, const fields_t *trailers) {
    wasi_http_types_stream_u8_drop_writable(it.body);
    write_trailers(it.trailers, trailers);
    return outcome_of(it.outcome);
}

// The future by which whoever reads a body says that it is fine with it.
static outcome_t content(void) {
    outcome_writer_t to;
    outcome_t from = wasi_http_types_future_result_void_error_code_new(&to);
    outcome_result_t result = {.is_err = false};
    // Nobody need wait for that.
    uint32_t status = WRITE_OUTCOME(to, &result);
    if (status != BLOCKED) wasi_http_types_future_result_void_error_code_drop_writable(to);
    return from;
}

static receiving_t body_of_request(request_t it) {
    receiving_t body;
    wasi_http_types_static_request_consume_body(it, content(), &body);
    return body;
}

static receiving_t body_of_response(response_t it) {
    receiving_t body;
    wasi_http_types_static_response_consume_body(it, content(), &body);
    return body;
}

// Reads at most so many bytes; none at the end.
static size_t read_some(receiving_t *from, uint8_t *bytes, size_t most) {
    for (;;) {
        uint32_t status = done(from->f0, wasi_http_types_stream_u8_read(from->f0, bytes, most));
        if (COUNT(status) > 0 || STATE(status) == DROPPED) return COUNT(status);
    }
}

// The trailers of a body whose end was read.
static trailers_result_t end_of(receiving_t *from) {
    wasi_http_types_stream_u8_drop_readable(from->f0);
    trailers_result_t result;
    uint32_t status = done(from->f1, READ_TRAILERS(from->f1, &result));
    must_be(STATE(status) == COMPLETED);
    wasi_http_types_future_result_option_own_trailers_error_code_drop_readable(from->f1);
    return result;
}

// Sends a request; waits for its response.
static wasi_http_client_result_own_response_error_code_t response_of(WORLD(subtask_status_t) status,
                                                                     wasi_http_client_result_own_response_error_code_t *result) {
    WORLD(subtask_t) subtask = status >> 4;
    uint32_t state = STATE(status);
    while (state != RETURNED) state = event_of(subtask);
    if (subtask) WORLD(subtask_drop)(subtask);
    return *result;
}

static bool append(fields_t to, const char *name, const char *value, wasi_http_types_header_error_t *error) {
    string_t key = string_of(name);
    wasi_http_types_field_value_t one = {(uint8_t *)value, strlen(value)};
    return wasi_http_types_method_fields_append(FIELDS(to), &key, &one, error);
}

static void set(fields_t to, const char *name, const char *value) {
    wasi_http_types_header_error_t error;
    must_be(append(to, name, value, &error));
}
