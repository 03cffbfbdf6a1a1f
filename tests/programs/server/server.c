// SPDX-License-Identifier: Apache-2.0

// A component of the world wasi:http/proxy for the tests of `enarx serve`: the path of a request chooses what it does.
// The bindings are generated (see ../src/main.rs).
//
//   /hello            answers "hello"
//   /count            answers how often this instance was asked: always 1
//   /request          answers what it sees of the request
//   /echo             sends the body back as it comes, and its trailers
//   /length           reads the body, and answers its length
//   /trailers         reads the body, answers its trailers, and sends one of its own
//   /bytes?N          sends N bytes, without their length; with /sized?N the length is said before
//   /short?N /long?N  promises N bytes and sends one less or one more
//   /promise?N        promises N bytes and makes no body
//   /after?MS         waits before it answers
//   /begin?MS         waits after its headers and the first bytes
//   /status?N         answers with that status
//   /fields           tries what must not be set, and answers what is said
//   /memory?MIB       takes memory
//   /hoard?WHAT       makes one thing after the other and gives none back, until it is ended: fields, names, bodies, pieces,
//                     pollables, random; "call" hands over much at once
//   /spin?MS          computes, without a call that waits
//   /trap /late       traps, before and after its headers
//   /error /nothing   answers an error; answers nothing
//   /scheme           answers if the request came over TLS: "https" or "http"
//   /fetch?HOST       asks another server for /hello, and sends its answer on; over TLS with https:// before its name
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy.h"
#include "hoard.h"
#include "text.h"

// The bindings call this when an import is called first: only the conformance programs want to know.
void called(const char *interface, const char *function) { (void)interface, (void)function; }

typedef wasi_io_streams_own_input_stream_t input_stream;
typedef wasi_io_streams_own_output_stream_t output_stream;
typedef wasi_io_streams_stream_error_t stream_error;
typedef wasi_http_types_own_fields_t fields;
typedef wasi_http_types_own_outgoing_body_t outgoing_body;
typedef wasi_http_types_own_incoming_body_t incoming_body;
typedef exports_wasi_http_incoming_handler_own_incoming_request_t request;
typedef exports_wasi_http_incoming_handler_own_response_outparam_t outparam;

#define IN(function) wasi_io_streams_method_input_stream_##function
#define OUT(function) wasi_io_streams_method_output_stream_##function
#define INPUT(it) wasi_io_streams_borrow_input_stream(it)
#define OUTPUT(it) wasi_io_streams_borrow_output_stream(it)
#define FIELDS(it) wasi_http_types_borrow_fields(it)
#define REQUEST(it) wasi_http_types_borrow_incoming_request(it)
#define BODY(it) wasi_http_types_borrow_outgoing_body(it)

// As much as one call of blocking-write-and-flush takes.
enum { PIECE = 4096 };

static proxy_string_t string(const char *text) { return (proxy_string_t){(uint8_t *)text, strlen(text)}; }

static void wait_for(wasi_io_poll_own_pollable_t pollable) {
    wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(pollable));
    wasi_io_poll_pollable_drop_own(pollable);
}

static void sleep_for(uint64_t milliseconds) {
    wait_for(wasi_clocks_monotonic_clock_subscribe_duration(milliseconds * 1000000));
}

// Writes all; false when nobody takes it any more.
static bool write_all(output_stream out, const uint8_t *bytes, size_t count) {
    while (count > 0) {
        uint64_t room;
        stream_error error;
        if (!OUT(check_write)(OUTPUT(out), &room, &error)) return false;
        if (room == 0) {
            wait_for(OUT(subscribe)(OUTPUT(out)));
            continue;
        }
        size_t much = count < room ? count : (size_t)room;
        proxy_list_u8_t piece = {(uint8_t *)bytes, much};
        if (!OUT(write)(OUTPUT(out), &piece, &error)) return false;
        bytes += much;
        count -= much;
    }
    return true;
}

static void set(fields headers, const char *name, const char *value) {
    proxy_string_t key = string(name);
    wasi_http_types_field_value_t one = {(uint8_t *)value, strlen(value)};
    wasi_http_types_header_error_t error;
    if (!wasi_http_types_method_fields_append(FIELDS(headers), &key, &one, &error)) __builtin_trap();
}

static void give(outparam out, wasi_http_types_own_outgoing_response_t response) {
    wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = false, .val.ok = response};
    wasi_http_types_static_response_outparam_set(out, &result);
}

// Answers with a status and headers; returns the body.
static outgoing_body answer(outparam out, uint16_t status, fields headers) {
    wasi_http_types_own_outgoing_response_t response = wasi_http_types_constructor_outgoing_response(headers);
    wasi_http_types_borrow_outgoing_response_t it = wasi_http_types_borrow_outgoing_response(response);
    if (!wasi_http_types_method_outgoing_response_set_status_code(it, status)) __builtin_trap();
    outgoing_body body;
    if (!wasi_http_types_method_outgoing_response_body(it, &body)) __builtin_trap();
    give(out, response);
    return body;
}

static fields plain(void) {
    fields headers = wasi_http_types_constructor_fields();
    set(headers, "content-type", "text/plain");
    return headers;
}

static output_stream begin(outgoing_body body) {
    output_stream out;
    if (!wasi_http_types_method_outgoing_body_write(BODY(body), &out)) __builtin_trap();
    return out;
}

static bool finish(outgoing_body body, output_stream out, fields *trailers) {
    wasi_io_streams_output_stream_drop_own(out);
    wasi_http_types_error_code_t error;
    return wasi_http_types_static_outgoing_body_finish(body, trailers, &error);
}

// Answers with the text.
static void answer_text(outparam out, uint16_t status) {
    outgoing_body body = answer(out, status, plain());
    output_stream stream = begin(body);
    write_all(stream, (uint8_t *)text, length);
    finish(body, stream, NULL);
}

static incoming_body consume(request it) {
    incoming_body body;
    if (!wasi_http_types_method_incoming_request_consume(REQUEST(it), &body)) __builtin_trap();
    return body;
}

// Copies a body to a stream (none: nowhere), and gives its trailers if there are any. Returns its length.
static uint64_t copy(incoming_body from, output_stream *to, fields *trailers, bool *has_trailers) {
    input_stream in;
    uint64_t total = 0;
    wasi_http_types_borrow_incoming_body_t it = wasi_http_types_borrow_incoming_body(from);
    if (!wasi_http_types_method_incoming_body_stream(it, &in)) __builtin_trap();
    for (;;) {
        proxy_list_u8_t bytes;
        stream_error error;
        if (!IN(blocking_read)(INPUT(in), 64 << 10, &bytes, &error)) {
            // One that is not whole is not to look so.
            if (error.tag != 1) __builtin_trap();
            break;
        }
        total += bytes.len;
        if (to && !write_all(*to, bytes.ptr, bytes.len)) break;
        proxy_list_u8_free(&bytes);
    }
    wasi_io_streams_input_stream_drop_own(in);
    wasi_http_types_own_future_trailers_t future = wasi_http_types_static_incoming_body_finish(from);
    wasi_http_types_borrow_future_trailers_t late = wasi_http_types_borrow_future_trailers(future);
    wait_for(wasi_http_types_method_future_trailers_subscribe(late));
    wasi_http_types_result_result_option_own_trailers_error_code_void_t result;
    *has_trailers = wasi_http_types_method_future_trailers_get(late, &result) && !result.is_err &&
                    !result.val.ok.is_err && result.val.ok.val.ok.is_some;
    if (*has_trailers) *trailers = result.val.ok.val.ok.val;
    return total;
}

static void say_fields(fields headers) {
    wasi_http_types_list_tuple2_field_name_field_value_t entries;
    wasi_http_types_method_fields_entries(FIELDS(headers), &entries);
    for (size_t i = 0; i < entries.len; i++) {
        say((char *)entries.ptr[i].f0.ptr, entries.ptr[i].f0.len);
        say_text(": ");
        say((char *)entries.ptr[i].f1.ptr, entries.ptr[i].f1.len);
        say_text("\n");
    }
}

static void say_request(request it) {
    static const char *const METHODS[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
    wasi_http_types_method_t method;
    wasi_http_types_method_incoming_request_method(REQUEST(it), &method);
    if (method.tag < WASI_HTTP_TYPES_METHOD_OTHER) say_text(METHODS[method.tag]);
    else say((char *)method.val.other.ptr, method.val.other.len);
    proxy_string_t found;
    say_text(" ");
    if (wasi_http_types_method_incoming_request_path_with_query(REQUEST(it), &found)) say((char *)found.ptr, found.len);
    say_text(" ");
    if (wasi_http_types_method_incoming_request_authority(REQUEST(it), &found)) say((char *)found.ptr, found.len);
    say_text("\n");
    fields headers = wasi_http_types_method_incoming_request_headers(REQUEST(it));
    say_fields(headers);
    // They are the peer's.
    proxy_string_t name = string("x-mine");
    wasi_http_types_field_value_t value = {(uint8_t *)"1", 1};
    wasi_http_types_header_error_t error;
    if (wasi_http_types_method_fields_append(FIELDS(headers), &name, &value, &error) || error.tag != 2) __builtin_trap();
}

// Headers that promise so many bytes.
static fields promising(uint64_t count) {
    fields headers = plain();
    length = 0;
    say_number(count);
    text[length] = 0;
    set(headers, "content-length", text);
    return headers;
}

static void send_bytes(outparam out, uint64_t promised, bool is_promised, uint64_t count) {
    fields headers = is_promised ? promising(promised) : plain();
    static uint8_t piece[64 << 10];
    for (size_t i = 0; i < sizeof piece; i++) piece[i] = (uint8_t)(i % 251);
    outgoing_body body = answer(out, 200, headers);
    output_stream stream = begin(body);
    for (uint64_t sent = 0; sent < count;) {
        // The pattern goes on where it was.
        size_t start = sent % 251, much = sizeof piece - 251;
        if (much > count - sent) much = (size_t)(count - sent);
        if (!write_all(stream, piece + start, much)) break;
        sent += much;
    }
    finish(body, stream, NULL);
}

static void try_fields(outparam out) {
    static const char *const SAID[] = {"invalid-syntax", "forbidden", "immutable"};
    static const char *const TRIED[][2] = {
        {"connection", "close"}, {"transfer-encoding", "chunked"}, {"host", "x"}, {"x y", "1"}, {"x", "1\r\ny: 2"},
        {"content-length", "-1"}, {"x", "1"},
    };
    fields headers = wasi_http_types_constructor_fields();
    for (size_t i = 0; i < sizeof TRIED / sizeof *TRIED; i++) {
        proxy_string_t name = string(TRIED[i][0]);
        wasi_http_types_field_value_t value = {(uint8_t *)TRIED[i][1], strlen(TRIED[i][1])};
        wasi_http_types_header_error_t error;
        bool set = wasi_http_types_method_fields_append(FIELDS(headers), &name, &value, &error);
        say_text(set ? "set" : SAID[error.tag]);
        say_text("\n");
    }
    wasi_http_types_fields_drop_own(headers);
    answer_text(out, 200);
}

static void fetch(outparam out, const char *host) {
    wasi_http_types_own_outgoing_request_t request = wasi_http_types_constructor_outgoing_request(wasi_http_types_constructor_fields());
    wasi_http_types_borrow_outgoing_request_t it = wasi_http_types_borrow_outgoing_request(request);
    wasi_http_types_scheme_t scheme = {.tag = WASI_HTTP_TYPES_SCHEME_HTTP};
    if (strncmp(host, "https://", 8) == 0) {
        scheme.tag = WASI_HTTP_TYPES_SCHEME_HTTPS;
        host += 8;
    }
    proxy_string_t authority = string(host), path = string("/hello");
    if (!wasi_http_types_method_outgoing_request_set_scheme(it, &scheme) ||
        !wasi_http_types_method_outgoing_request_set_authority(it, &authority) ||
        !wasi_http_types_method_outgoing_request_set_path_with_query(it, &path))
        __builtin_trap();
    wasi_http_types_own_future_incoming_response_t future;
    wasi_http_types_error_code_t error;
    wasi_http_types_result_result_own_incoming_response_error_code_void_t result;
    if (wasi_http_outgoing_handler_handle(request, NULL, &future, &error)) {
        wasi_http_types_borrow_future_incoming_response_t late = wasi_http_types_borrow_future_incoming_response(future);
        wait_for(wasi_http_types_method_future_incoming_response_subscribe(late));
        if (!wasi_http_types_method_future_incoming_response_get(late, &result) || result.is_err) __builtin_trap();
        if (!result.val.ok.is_err) {
            wasi_http_types_borrow_incoming_response_t response = wasi_http_types_borrow_incoming_response(result.val.ok.val.ok);
            incoming_body body;
            uint16_t status = wasi_http_types_method_incoming_response_status(response);
            if (!wasi_http_types_method_incoming_response_consume(response, &body)) __builtin_trap();
            outgoing_body to = answer(out, status, plain());
            output_stream stream = begin(to);
            fields trailers;
            bool has_trailers;
            copy(body, &stream, &trailers, &has_trailers);
            finish(to, stream, has_trailers ? &trailers : NULL);
            return;
        }
        error = result.val.ok.val.err;
    }
    say_text("error ");
    say_number(error.tag);
    say_text("\n");
    answer_text(out, 502);
}

static wasi_http_types_own_outgoing_request_t empty_request(void) {
    return wasi_http_types_constructor_outgoing_request(wasi_http_types_constructor_fields());
}

// The stream of a body that is never sent.
static output_stream unsent(void) {
    wasi_http_types_borrow_outgoing_request_t it = wasi_http_types_borrow_outgoing_request(empty_request());
    outgoing_body body;
    if (!wasi_http_types_method_outgoing_request_body(it, &body)) __builtin_trap();
    return begin(body);
}

static void write_some(output_stream out, const uint8_t *bytes, size_t count) {
    proxy_list_u8_t piece = {(uint8_t *)bytes, count};
    stream_error error;
    if (!OUT(write)(OUTPUT(out), &piece, &error)) __builtin_trap();
}

// Makes one thing after the other and gives none back.
static void hoard(const char *what) {
    begin_to_hoard(what);
#define WHAT(it) (strcmp(what, it) == 0)
    for (;;) {
        if (WHAT("fields")) {
            set(wasi_http_types_constructor_fields(), "x", much);
        } else if (WHAT("names")) {
            wasi_http_types_borrow_outgoing_request_t it = wasi_http_types_borrow_outgoing_request(empty_request());
            proxy_string_t name = string(longest);
            if (!wasi_http_types_method_outgoing_request_set_authority(it, &name)) __builtin_trap();
        } else if (WHAT("bodies")) {
            write_some(unsent(), (uint8_t *)much, 60000);
        } else if (WHAT("pieces")) {
            output_stream out = unsent();
            uint64_t room;
            stream_error error;
            while (OUT(check_write)(OUTPUT(out), &room, &error) && room > 0) write_some(out, (uint8_t *)much, 1);
        } else if (WHAT("pollables")) {
            wasi_clocks_monotonic_clock_subscribe_duration(UINT64_C(3600000000000));
        } else if (WHAT("random")) {
            proxy_list_u8_t bytes;
            wasi_random_random_get_random_bytes(64 << 20, &bytes);
        } else {
            return;
        }
    }
}

void exports_wasi_http_incoming_handler_handle(request it, outparam out) {
    static unsigned count;
    proxy_string_t path;
    if (!wasi_http_types_method_incoming_request_path_with_query(REQUEST(it), &path)) __builtin_trap();
    char *name = strndup((char *)path.ptr, path.len), *value = strchr(name, '?');
    if (value) *value++ = 0;
    uint64_t number = value ? strtoull(value, NULL, 10) : 0;
    count++;
#define IS(route) (strcmp(name, route) == 0)
    if (IS("/hello")) {
        say_text("hello\n");
        answer_text(out, 200);
    } else if (IS("/count")) {
        say_number(count);
        answer_text(out, 200);
    } else if (IS("/request")) {
        say_request(it);
        answer_text(out, 200);
    } else if (IS("/scheme")) {
        wasi_http_types_scheme_t scheme;
        if (!wasi_http_types_method_incoming_request_scheme(REQUEST(it), &scheme)) __builtin_trap();
        say_text(scheme.tag == WASI_HTTP_TYPES_SCHEME_HTTPS ? "https\n" : "http\n");
        answer_text(out, 200);
    } else if (IS("/echo")) {
        outgoing_body body = answer(out, 200, plain());
        output_stream stream = begin(body);
        fields trailers;
        bool has_trailers;
        copy(consume(it), &stream, &trailers, &has_trailers);
        finish(body, stream, has_trailers ? &trailers : NULL);
    } else if (IS("/length")) {
        fields trailers;
        bool has_trailers;
        say_number(copy(consume(it), NULL, &trailers, &has_trailers));
        answer_text(out, 200);
    } else if (IS("/trailers")) {
        fields trailers, headers = plain();
        bool has_trailers;
        copy(consume(it), NULL, &trailers, &has_trailers);
        if (has_trailers) say_fields(trailers);
        set(headers, "trailer", "x-end");
        outgoing_body body = answer(out, 200, headers);
        output_stream stream = begin(body);
        write_all(stream, (uint8_t *)text, length);
        fields own = wasi_http_types_constructor_fields();
        set(own, "x-end", "yes");
        finish(body, stream, &own);
    } else if (IS("/bytes")) {
        send_bytes(out, 0, false, number);
    } else if (IS("/sized")) {
        send_bytes(out, number, true, number);
    } else if (IS("/short")) {
        send_bytes(out, number, true, number - 1);
    } else if (IS("/long")) {
        send_bytes(out, number, true, number + 1);
    } else if (IS("/promise")) {
        give(out, wasi_http_types_constructor_outgoing_response(promising(number)));
    } else if (IS("/after")) {
        sleep_for(number);
        say_text("waited\n");
        answer_text(out, 200);
    } else if (IS("/begin")) {
        outgoing_body body = answer(out, 200, plain());
        output_stream stream = begin(body);
        write_all(stream, (uint8_t *)"begun\n", 6);
        sleep_for(number);
        write_all(stream, (uint8_t *)"done\n", 5);
        finish(body, stream, NULL);
    } else if (IS("/status")) {
        say_text("status\n");
        answer_text(out, (uint16_t)number);
    } else if (IS("/fields")) {
        try_fields(out);
    } else if (IS("/memory")) {
        size_t pages = number << 4;
        if (__builtin_wasm_memory_grow(0, pages) == (size_t)-1) {
            say_text("none\n");
            answer_text(out, 507);
        } else {
            say_text("taken\n");
            answer_text(out, 200);
        }
    } else if (IS("/hoard") && value) {
        hoard(value);
        say_text("there was room\n");
        answer_text(out, 200);
    } else if (IS("/spin")) {
        uint64_t end = wasi_clocks_monotonic_clock_now() + number * 1000000;
        while (wasi_clocks_monotonic_clock_now() < end)
            for (volatile int i = 0; i < 1000; i++) continue;
        say_text("spun\n");
        answer_text(out, 200);
    } else if (IS("/trap")) {
        __builtin_trap();
    } else if (IS("/late")) {
        outgoing_body body = answer(out, 200, plain());
        output_stream stream = begin(body);
        write_all(stream, (uint8_t *)"begun\n", 6);
        __builtin_trap();
    } else if (IS("/error")) {
        wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = true};
        result.val.err.tag = WASI_HTTP_TYPES_ERROR_CODE_LOOP_DETECTED;
        wasi_http_types_static_response_outparam_set(out, &result);
    } else if (IS("/fetch") && value) {
        fetch(out, value);
    } else if (!IS("/nothing")) {
        say_text("there is no such path\n");
        answer_text(out, 404);
    }
}
