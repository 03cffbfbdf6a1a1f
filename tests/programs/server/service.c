// SPDX-License-Identifier: Apache-2.0

// The counterpart of server.c, of WASI 0.3: a component of the world wasi:http/service. Its paths are those of server.c, and
//
//   /pass             sends the body and the trailers back without touching them
//   /forward?HOST     sends the request on to /echo of another server, and its response back
//   /send?HOST        asks another server for /trailers with a body and a trailer, and sends the answer on
//   /hoard?WHAT       as in server.c: fields, names, streams, futures, responses, sets; "call"
//   /drop             reads a piece of the body, and wants no more of it
//
// Whatever is sent has to be sent as the program expects: if not, it traps.
#include "service.h"

#define WORLD(name) service_##name
#include "http3.h"
#include "hoard.h"
#include "text.h"

// The bindings call this when an import is called first: only the conformance programs want to know.
void called(const char *interface, const char *function) { (void)interface, (void)function; }

static void sleep_for(uint64_t milliseconds) { wasi_clocks_monotonic_clock_wait_for(milliseconds * 1000000); }

static fields_t plain(void) {
    fields_t headers = wasi_http_types_constructor_fields();
    set(headers, "content-type", "text/plain");
    return headers;
}

static void give(response_t response) {
    exports_wasi_http_handler_result_own_response_error_code_t result = {.is_err = false, .val.ok = response};
    exports_wasi_http_handler_handle_return(result);
}

// Answers with a status and headers; the body is to be written.
static sending_t answer(uint16_t status, fields_t headers) {
    stream_t body;
    trailers_t trailers;
    sending_t it = begin(&body, &trailers);
    wasi_http_types_tuple2_own_response_future_result_void_error_code_t made;
    wasi_http_types_static_response_new(headers, &body, trailers, &made);
    must_be(wasi_http_types_method_response_set_status_code(RESPONSE(made.f0), status));
    it.outcome = made.f1;
    give(made.f0);
    return it;
}

// Writes a part of a body; false when the peer has gone.
static bool peer_has_gone;
static bool put(sending_t it, const void *bytes, size_t count) {
    if (!write_all(it.body, bytes, count)) peer_has_gone = true;
    return !peer_has_gone;
}
static void put_text(sending_t it, const char *words) { put(it, words, strlen(words)); }

// Ends a body, which is sent unless the peer has gone.
static void finish_well(sending_t it, const fields_t *trailers) {
    outcome_result_t outcome = finish(it, trailers);
    must_be(!outcome.is_err || (peer_has_gone && outcome.val.err.tag == WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_TERMINATED));
}

// Answers with the text.
static void answer_text(uint16_t status) {
    sending_t it = answer(status, plain());
    put(it, text, length);
    finish_well(it, NULL);
}

// Answers without a body.
static void answer_nothing(uint16_t status, fields_t headers) {
    trailers_writer_t to;
    trailers_t trailers = wasi_http_types_future_result_option_own_trailers_error_code_new(&to);
    wasi_http_types_tuple2_own_response_future_result_void_error_code_t made;
    wasi_http_types_static_response_new(headers, NULL, trailers, &made);
    must_be(wasi_http_types_method_response_set_status_code(RESPONSE(made.f0), status));
    give(made.f0);
    write_trailers(to, NULL);
    must_be(!outcome_of(made.f1).is_err);
}

// Copies a body to another one (none: nowhere), and gives its trailers if there are any. Returns its length.
static uint64_t copy(receiving_t from, sending_t *to, fields_t *trailers, bool *has_trailers) {
    static uint8_t bytes[64 << 10];
    uint64_t total = 0;
    for (size_t count; (count = read_some(&from, bytes, sizeof bytes)) > 0;) {
        total += count;
        if (to && !put(*to, bytes, count)) break;
    }
    trailers_result_t end = end_of(&from);
    // One that is not whole is not to look so.
    must_be(!end.is_err);
    *has_trailers = end.val.ok.is_some;
    if (*has_trailers) *trailers = end.val.ok.val;
    return total;
}

// Sends a body back; its trailers go with it.
static void send_back(uint16_t status, receiving_t from) {
    fields_t trailers, headers = plain();
    bool has_trailers;
    set(headers, "trailer", "x-end");
    sending_t it = answer(status, headers);
    copy(from, &it, &trailers, &has_trailers);
    finish_well(it, has_trailers ? &trailers : NULL);
}

static void say_fields(fields_t headers) {
    wasi_http_types_list_tuple2_field_name_field_value_t entries;
    wasi_http_types_method_fields_copy_all(FIELDS(headers), &entries);
    for (size_t i = 0; i < entries.len; i++) {
        say((char *)entries.ptr[i].f0.ptr, entries.ptr[i].f0.len);
        say_text(": ");
        say((char *)entries.ptr[i].f1.ptr, entries.ptr[i].f1.len);
        say_text("\n");
    }
}

static void say_request(request_t it) {
    static const char *const METHODS[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
    wasi_http_types_method_t method;
    wasi_http_types_method_request_get_method(REQUEST(it), &method);
    if (method.tag < WASI_HTTP_TYPES_METHOD_OTHER) say_text(METHODS[method.tag]);
    else say((char *)method.val.other.ptr, method.val.other.len);
    string_t found;
    say_text(" ");
    if (wasi_http_types_method_request_get_path_with_query(REQUEST(it), &found)) say((char *)found.ptr, found.len);
    say_text(" ");
    if (wasi_http_types_method_request_get_authority(REQUEST(it), &found)) say((char *)found.ptr, found.len);
    say_text("\n");
    fields_t headers = wasi_http_types_method_request_get_headers(REQUEST(it));
    say_fields(headers);
    // They are the peer's.
    wasi_http_types_header_error_t error;
    must_be(!append(headers, "x-mine", "1", &error) && error.tag == WASI_HTTP_TYPES_HEADER_ERROR_IMMUTABLE);
    wasi_http_types_fields_drop_own(headers);
}

// Sends so many bytes, and promises others; the wrong ones are told.
// Headers that promise so many bytes.
static fields_t promising(uint64_t count) {
    fields_t headers = plain();
    length = 0;
    say_number(count);
    text[length] = 0;
    set(headers, "content-length", text);
    return headers;
}

static void send_bytes(bool is_promised, uint64_t promised, uint64_t count) {
    fields_t headers = is_promised ? promising(promised) : plain();
    static uint8_t piece[64 << 10];
    for (size_t i = 0; i < sizeof piece; i++) piece[i] = (uint8_t)(i % 251);
    sending_t it = answer(200, headers);
    for (uint64_t sent = 0; sent < count;) {
        // The pattern goes on where it was.
        size_t start = sent % 251, much = sizeof piece - 251;
        if (much > count - sent) much = (size_t)(count - sent);
        if (!put(it, piece + start, much)) break;
        sent += much;
    }
    if (is_promised && promised != count) {
        outcome_result_t outcome = finish(it, NULL);
        must_be(outcome.is_err && outcome.val.err.tag == WASI_HTTP_TYPES_ERROR_CODE_HTTP_RESPONSE_BODY_SIZE);
    } else {
        finish_well(it, NULL);
    }
}

static void try_fields(void) {
    static const char *const SAID[] = {"invalid-syntax", "forbidden", "immutable", "size-exceeded", "other"};
    static const char *const TRIED[][2] = {
        {"connection", "close"}, {"transfer-encoding", "chunked"}, {"host", "x"}, {"x y", "1"}, {"x", "1\r\ny: 2"},
        {"content-length", "-1"}, {"x", "1"},
    };
    fields_t headers = wasi_http_types_constructor_fields();
    for (size_t i = 0; i < sizeof TRIED / sizeof *TRIED; i++) {
        wasi_http_types_header_error_t error;
        say_text(append(headers, TRIED[i][0], TRIED[i][1], &error) ? "set" : SAID[error.tag]);
        say_text("\n");
    }
    wasi_http_types_fields_drop_own(headers);
    answer_text(200);
}

static void address(request_t it, const char *host, const char *path) {
    wasi_http_types_scheme_t scheme = {.tag = WASI_HTTP_TYPES_SCHEME_HTTP};
    if (strncmp(host, "https://", 8) == 0) {
        scheme.tag = WASI_HTTP_TYPES_SCHEME_HTTPS;
        host += 8;
    }
    string_t authority = string_of(host), name = string_of(path);
    must_be(wasi_http_types_method_request_set_scheme(REQUEST(it), &scheme) &&
            wasi_http_types_method_request_set_authority(REQUEST(it), &authority) &&
            wasi_http_types_method_request_set_path_with_query(REQUEST(it), &name));
}

static void answer_error(error_t error) {
    say_text("error ");
    say_number(error.tag);
    say_text("\n");
    answer_text(502);
}

static uint16_t status_of(response_t response) { return wasi_http_types_method_response_get_status_code(RESPONSE(response)); }

static void fetch(const char *host) {
    trailers_writer_t to;
    trailers_t trailers = wasi_http_types_future_result_option_own_trailers_error_code_new(&to);
    wasi_http_types_tuple2_own_request_future_result_void_error_code_t made;
    wasi_http_types_static_request_new(wasi_http_types_constructor_fields(), NULL, trailers, NULL, &made);
    address(made.f0, host, "/hello");
    wasi_http_client_result_own_response_error_code_t result;
    response_of(wasi_http_client_send(made.f0, &result), &result);
    write_trailers(to, NULL);
    if (result.is_err) answer_error(result.val.err);
    else send_back(status_of(result.val.ok), body_of_response(result.val.ok));
}

static void send_to(const char *host) {
    wasi_http_types_method_t method = {.tag = WASI_HTTP_TYPES_METHOD_POST};
    fields_t headers = plain(), last = wasi_http_types_constructor_fields();
    set(headers, "trailer", "x-last");
    set(headers, "te", "trailers");
    set(last, "x-last", "word");
    stream_t body;
    trailers_t trailers;
    sending_t it = begin(&body, &trailers);
    wasi_http_types_tuple2_own_request_future_result_void_error_code_t made;
    wasi_http_types_static_request_new(headers, &body, trailers, NULL, &made);
    it.outcome = made.f1;
    must_be(wasi_http_types_method_request_set_method(REQUEST(made.f0), &method));
    address(made.f0, host, "/trailers");
    wasi_http_client_result_own_response_error_code_t result;
    // The body goes on beside the call, whose answer waits for its end.
    service_subtask_status_t status = wasi_http_client_send(made.f0, &result);
    bool all = write_text(it.body, "one") && write_text(it.body, "two");
    outcome_result_t outcome = finish(it, &last);
    response_of(status, &result);
    if (result.is_err) {
        answer_error(result.val.err);
        return;
    }
    must_be(all && !outcome.is_err);
    send_back(status_of(result.val.ok), body_of_response(result.val.ok));
}

static void forward(request_t it, const char *host) {
    address(it, host, "/echo");
    wasi_http_client_result_own_response_error_code_t result;
    response_of(wasi_http_client_send(it, &result), &result);
    if (result.is_err) answer_error(result.val.err);
    else give(result.val.ok);
}

static void pass(request_t it) {
    receiving_t body = body_of_request(it);
    fields_t headers = plain();
    set(headers, "trailer", "x-end");
    wasi_http_types_tuple2_own_response_future_result_void_error_code_t made;
    wasi_http_types_static_response_new(headers, &body.f0, body.f1, &made);
    wasi_http_types_future_result_void_error_code_drop_readable(made.f1);
    give(made.f0);
}

static response_t empty_response(void) {
    trailers_writer_t to;
    trailers_t trailers = wasi_http_types_future_result_option_own_trailers_error_code_new(&to);
    wasi_http_types_tuple2_own_response_future_result_void_error_code_t made;
    wasi_http_types_static_response_new(plain(), NULL, trailers, &made);
    return made.f0;
}

static request_t empty_request(void) {
    trailers_writer_t to;
    trailers_t trailers = wasi_http_types_future_result_option_own_trailers_error_code_new(&to);
    wasi_http_types_tuple2_own_request_future_result_void_error_code_t made;
    wasi_http_types_static_request_new(plain(), NULL, trailers, NULL, &made);
    return made.f0;
}

// Makes one thing after the other and gives none back. Returns if it was told that there is no more room.
static void hoard(const char *what) {
    begin_to_hoard(what);
#define WHAT(it) (strcmp(what, it) == 0)
    fields_t last[2] = {wasi_http_types_constructor_fields(), wasi_http_types_constructor_fields()};
    for (;;) {
        if (WHAT("fields")) {
            wasi_http_types_header_error_t error;
            fields_t next = wasi_http_types_constructor_fields();
            if (!append(next, "x", much, &error)) {
                must_be(error.tag == WASI_HTTP_TYPES_HEADER_ERROR_SIZE_EXCEEDED);
                // There is room for an answer again.
                wasi_http_types_fields_drop_own(last[0]);
                wasi_http_types_fields_drop_own(last[1]);
                return;
            }
            last[0] = last[1];
            last[1] = next;
        } else if (WHAT("names")) {
            string_t name = string_of(longest);
            must_be(wasi_http_types_method_request_set_authority(REQUEST(empty_request()), &name));
        } else if (WHAT("streams")) {
            writer_t to;
            wasi_http_types_stream_u8_new(&to);
        } else if (WHAT("futures")) {
            trailers_writer_t to;
            wasi_http_types_future_result_option_own_trailers_error_code_new(&to);
        } else if (WHAT("responses")) {
            empty_response();
        } else if (WHAT("sets")) {
            service_waitable_set_new();
        } else {
            return;
        }
    }
}

service_callback_code_t exports_wasi_http_handler_handle(request_t it) {
    static unsigned count;
    string_t path;
    must_be(wasi_http_types_method_request_get_path_with_query(REQUEST(it), &path));
    char *name = strndup((char *)path.ptr, path.len), *value = strchr(name, '?');
    if (value) *value++ = 0;
    uint64_t number = value ? strtoull(value, NULL, 10) : 0;
    count++;
#define IS(route) (strcmp(name, route) == 0)
    if (IS("/hello")) {
        say_text("hello\n");
        answer_text(200);
    } else if (IS("/count")) {
        say_number(count);
        answer_text(200);
    } else if (IS("/request")) {
        say_request(it);
        answer_text(200);
    } else if (IS("/scheme")) {
        wasi_http_types_scheme_t scheme;
        must_be(wasi_http_types_method_request_get_scheme(REQUEST(it), &scheme));
        say_text(scheme.tag == WASI_HTTP_TYPES_SCHEME_HTTPS ? "https\n" : "http\n");
        answer_text(200);
    } else if (IS("/echo")) {
        send_back(200, body_of_request(it));
    } else if (IS("/pass")) {
        pass(it);
    } else if (IS("/drop")) {
        receiving_t body = body_of_request(it);
        uint8_t byte;
        say_number(read_some(&body, &byte, 1));
        wasi_http_types_stream_u8_drop_readable(body.f0);
        wasi_http_types_future_result_option_own_trailers_error_code_drop_readable(body.f1);
        answer_text(200);
    } else if (IS("/length")) {
        fields_t trailers;
        bool has_trailers;
        say_number(copy(body_of_request(it), NULL, &trailers, &has_trailers));
        answer_text(200);
    } else if (IS("/trailers")) {
        fields_t trailers, headers = plain(), own = wasi_http_types_constructor_fields();
        bool has_trailers;
        copy(body_of_request(it), NULL, &trailers, &has_trailers);
        if (has_trailers) say_fields(trailers);
        set(headers, "trailer", "x-end");
        set(own, "x-end", "yes");
        sending_t to = answer(200, headers);
        put(to, text, length);
        finish_well(to, &own);
    } else if (IS("/bytes")) {
        send_bytes(false, 0, number);
    } else if (IS("/sized")) {
        send_bytes(true, number, number);
    } else if (IS("/short")) {
        send_bytes(true, number, number - 1);
    } else if (IS("/long")) {
        send_bytes(true, number, number + 1);
    } else if (IS("/promise")) {
        answer_nothing(200, promising(number));
    } else if (IS("/after")) {
        sleep_for(number);
        say_text("waited\n");
        answer_text(200);
    } else if (IS("/begin")) {
        sending_t to = answer(200, plain());
        put_text(to, "begun\n");
        sleep_for(number);
        put_text(to, "done\n");
        finish_well(to, NULL);
    } else if (IS("/status")) {
        say_text("status\n");
        answer_text((uint16_t)number);
    } else if (IS("/empty")) {
        answer_nothing((uint16_t)number, plain());
    } else if (IS("/fields")) {
        try_fields();
    } else if (IS("/memory")) {
        bool taken = __builtin_wasm_memory_grow(0, number << 4) != (size_t)-1;
        say_text(taken ? "taken\n" : "none\n");
        answer_text(taken ? 200 : 507);
    } else if (IS("/hoard") && value) {
        hoard(value);
        say_text("no more room\n");
        answer_text(507);
    } else if (IS("/spin")) {
        uint64_t end = wasi_clocks_monotonic_clock_now() + number * 1000000;
        while (wasi_clocks_monotonic_clock_now() < end)
            for (volatile int i = 0; i < 1000; i++) continue;
        say_text("spun\n");
        answer_text(200);
    } else if (IS("/trap")) {
        __builtin_trap();
    } else if (IS("/late")) {
        sending_t to = answer(200, plain());
        put_text(to, "begun\n");
        __builtin_trap();
    } else if (IS("/error")) {
        exports_wasi_http_handler_result_own_response_error_code_t result = {.is_err = true};
        result.val.err.tag = WASI_HTTP_TYPES_ERROR_CODE_LOOP_DETECTED;
        exports_wasi_http_handler_handle_return(result);
    } else if (IS("/fetch") && value) {
        fetch(value);
    } else if (IS("/send") && value) {
        send_to(value);
    } else if (IS("/forward") && value) {
        forward(it, value);
    } else if (!IS("/nothing")) {
        say_text("there is no such path\n");
        answer_text(404);
    }
    return SERVICE_CALLBACK_CODE_EXIT;
}

service_callback_code_t exports_wasi_http_handler_handle_callback(service_event_t *event) {
    // It never lets its caller wait for it.
    (void)event;
    __builtin_trap();
}
