// SPDX-License-Identifier: Apache-2.0

// Calls every function of wasi:http 0.3 that a Keep offers, with what succeeds and with what must fail, and writes a line for each
// result. As in preview1.c the lines are the same in every run. The bindings are generated (see ../src/main.rs); it is they that say
// what has been called.
//
// usage: http all | ask URL…
//
// `ask` is for the tests of servers, and writes no lines of this kind: each URL is asked with an empty body, or with the text behind
// the URL and a `#`; written are the status and the body, or the number of the error, and the trailers.
#include "http.h"

// The headers have more than this program needs.
#pragma clang diagnostic ignored "-Wunused-function"
#include "no_files.h"
#include "output.h"

#define WORLD(name) http_##name
#include "../server/http3.h"

static const char *const HEADER_ERROR[] = {"invalid-syntax", "forbidden", "immutable", "size-exceeded", "other"};
static const char *const OPTIONS_ERROR[] = {"not-supported", "immutable", "other"};
static const char *const METHODS[] = {"get", "head", "post", "put", "delete", "connect", "options", "trace", "patch", "other"};
static const char *const SCHEMES[] = {"http", "https", "other"};

#define FIELD(function) wasi_http_types_method_fields_##function
#define OPTION(function) wasi_http_types_method_request_options_##function
#define OPTIONS(it) wasi_http_types_borrow_request_options(it)

typedef wasi_http_types_own_request_options_t options_t;
typedef wasi_http_types_header_error_t header_error_t;

static void write_output(const char *bytes, size_t length) {
    wasi_cli_stdout_stream_u8_writer_t to;
    wasi_cli_stdout_stream_u8_t from = wasi_cli_stdout_stream_u8_new(&to);
    wasi_cli_stdout_future_result_void_error_code_t future = wasi_cli_stdout_write_via_stream(from);
    must_be(write_all(to, (const u8 *)bytes, length));
    wasi_cli_stdout_stream_u8_drop_writable(to);
    wasi_cli_stdout_result_void_error_code_t result;
    done(future, wasi_cli_stdout_future_result_void_error_code_read(future, &result));
    must_be(!result.is_err);
    wasi_cli_stdout_future_result_void_error_code_drop_readable(future);
}

static text text_from(string_t it) { return (text){(char *)it.ptr, it.len}; }
static const char *fields_result(bool ok, header_error_t error) { return ok ? "ok" : HEADER_ERROR[error.tag]; }

// ---- fields

static void say_entries(const char *what, fields_t it) {
    wasi_http_types_list_tuple2_field_name_field_value_t entries;
    FIELD(copy_all)(FIELDS(it), &entries);
    say("%s:", what);
    for (size_t i = 0; i < entries.len; i++) {
        say(" ");
        say_text(text_from(entries.ptr[i].f0));
        say("=");
        say_text((text){(char *)entries.ptr[i].f1.ptr, entries.ptr[i].f1.len});
    }
    say("\n");
    wasi_http_types_list_tuple2_field_name_field_value_free(&entries);
}

static void say_values(wasi_http_types_list_field_value_t values) {
    for (size_t i = 0; i < values.len; i++) {
        say(" ");
        say_text((text){(char *)values.ptr[i].ptr, values.ptr[i].len});
    }
    say("\n");
    wasi_http_types_list_field_value_free(&values);
}

// Tries to change fields in every way.
static void change(const char *title, fields_t it, const char *name, const char *value) {
    string_t key = string_of(name);
    wasi_http_types_field_value_t one = {(u8 *)value, strlen(value)};
    wasi_http_types_field_value_t two[] = {one, one};
    wasi_http_types_list_field_value_t values = {two, 2}, taken;
    header_error_t error;
    bool ok = FIELD(append)(FIELDS(it), &key, &one, &error);
    say("%s append: %s\n", title, fields_result(ok, error));
    ok = FIELD(set)(FIELDS(it), &key, &values, &error);
    say("%s set: %s\n", title, fields_result(ok, error));
    ok = FIELD(get_and_delete)(FIELDS(it), &key, &taken, &error);
    say("%s get-and-delete: %s", title, fields_result(ok, error));
    if (ok) say_values(taken);
    else say("\n");
    ok = FIELD(delete)(FIELDS(it), &key, &error);
    say("%s delete: %s\n", title, fields_result(ok, error));
}

static void every_field(void) {
    fields_t it = wasi_http_types_constructor_fields();
    say_entries("none", it);
    header_error_t error;
    must_be(append(it, "One", "1", &error) && append(it, "two", "2", &error) && append(it, "one", "3", &error));
    say_entries("appended", it);
    string_t one = string_of("ONE"), none = string_of("none"), wrong = string_of("no name");
    wasi_http_types_list_field_value_t values;
    FIELD(get)(FIELDS(it), &one, &values);
    say("get:");
    say_values(values);
    FIELD(get)(FIELDS(it), &none, &values);
    say("get none:");
    say_values(values);
    FIELD(get)(FIELDS(it), &wrong, &values);
    say("get what is no name:");
    say_values(values);
    say("has: %d %d %d\n", FIELD(has)(FIELDS(it), &one), FIELD(has)(FIELDS(it), &none), FIELD(has)(FIELDS(it), &wrong));
    change("good", it, "three", "3");
    fields_t copy = FIELD(clone)(FIELDS(it));
    change("clone", copy, "one", "4");
    say_entries("clone", copy);
    say_entries("unchanged", it);
    change("no name", it, "no name", "1");
    change("no value", it, "four", "1\r\nfive: 2");
    change("empty name", it, "", "1");
    change("empty value", it, "six", "");
    static const char *const FORBIDDEN[] = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host", "http2-settings"};
    for (size_t i = 0; i < sizeof FORBIDDEN / sizeof *FORBIDDEN; i++) change(FORBIDDEN[i], it, FORBIDDEN[i], "1");
    change("length", it, "content-length", "5");
    change("no length", it, "content-length", "five");
    static char large[100001];
    memset(large, 'x', sizeof large - 1);
    say("large append: %s\n", fields_result(append(it, "large", large, &error), error));
    say("larger append: %s\n", fields_result(append(it, "larger", large, &error), error));
    wasi_http_types_tuple2_field_name_field_value_t entries[] = {
        {string_of("b"), {(u8 *)"2", 1}}, {string_of("a"), {(u8 *)"1", 1}}, {string_of("b"), {(u8 *)"3", 1}}};
    wasi_http_types_list_tuple2_field_name_field_value_t list = {entries, 3};
    fields_t made;
    must_be(wasi_http_types_static_fields_from_list(&list, &made, &error));
    say_entries("from-list", made);
    entries[1].f0 = string_of("host");
    bool ok = wasi_http_types_static_fields_from_list(&list, &made, &error);
    say("from-list forbidden: %s\n", fields_result(ok, error));
    entries[1].f0 = wrong;
    ok = wasi_http_types_static_fields_from_list(&list, &made, &error);
    say("from-list no name: %s\n", fields_result(ok, error));
    wasi_http_types_fields_drop_own(it);
    wasi_http_types_fields_drop_own(copy);
}

// ---- options

static void say_limit(bool is_some, uint64_t limit) {
    if (is_some) say(" %llu", limit);
    else say(" none");
}

static void say_limits(const char *what, options_t it) {
    uint64_t limit;
    say("%s:", what);
    bool is_some = OPTION(get_connect_timeout)(OPTIONS(it), &limit);
    say_limit(is_some, limit);
    is_some = OPTION(get_first_byte_timeout)(OPTIONS(it), &limit);
    say_limit(is_some, limit);
    is_some = OPTION(get_between_bytes_timeout)(OPTIONS(it), &limit);
    say_limit(is_some, limit);
    say("\n");
}

static void set_limits(const char *what, options_t it, uint64_t limit) {
    wasi_http_types_request_options_error_t error;
    bool ok = OPTION(set_connect_timeout)(OPTIONS(it), &limit, &error);
    say("%s set-connect-timeout: %s\n", what, ok ? "ok" : OPTIONS_ERROR[error.tag]);
    ok = OPTION(set_first_byte_timeout)(OPTIONS(it), &limit, &error);
    say("%s set-first-byte-timeout: %s\n", what, ok ? "ok" : OPTIONS_ERROR[error.tag]);
    ok = OPTION(set_between_bytes_timeout)(OPTIONS(it), limit ? &limit : NULL, &error);
    say("%s set-between-bytes-timeout: %s\n", what, ok ? "ok" : OPTIONS_ERROR[error.tag]);
}

static options_t every_option(void) {
    options_t it = wasi_http_types_constructor_request_options();
    say_limits("new options", it);
    set_limits("options", it, 1000000);
    say_limits("options", it);
    options_t copy = OPTION(clone)(OPTIONS(it));
    set_limits("cloned options", copy, UINT64_MAX);
    say_limits("cloned options", copy);
    set_limits("options again", copy, 0);
    say_limits("options again", copy);
    say_limits("unchanged options", it);
    wasi_http_types_request_options_drop_own(copy);
    return it;
}

// ---- messages

#define REQ(function) wasi_http_types_method_request_##function
#define RES(function) wasi_http_types_method_response_##function

static void say_request(const char *what, request_t it) {
    wasi_http_types_method_t method;
    wasi_http_types_scheme_t scheme;
    string_t path, authority;
    REQ(get_method)(REQUEST(it), &method);
    say("%s: %s", what, METHODS[method.tag]);
    if (method.tag == WASI_HTTP_TYPES_METHOD_OTHER) say_text(text_from(method.val.other));
    if (REQ(get_scheme)(REQUEST(it), &scheme)) {
        say(" %s", SCHEMES[scheme.tag]);
        if (scheme.tag == WASI_HTTP_TYPES_SCHEME_OTHER) say_text(text_from(scheme.val.other));
    }
    if (REQ(get_authority)(REQUEST(it), &authority)) {
        say(" ");
        say_text(text_from(authority));
    }
    if (REQ(get_path_with_query)(REQUEST(it), &path)) {
        say(" ");
        say_text(text_from(path));
    }
    say("\n");
}

static void set_everything(request_t it) {
    for (u8 tag = 0; tag <= WASI_HTTP_TYPES_METHOD_OTHER; tag++) {
        wasi_http_types_method_t method = {.tag = tag, .val.other = string_of("BREW")};
        say("set-method %s: %s\n", METHODS[tag], REQ(set_method)(REQUEST(it), &method) ? "ok" : "error");
        say_request("request", it);
    }
    wasi_http_types_method_t method = {.tag = WASI_HTTP_TYPES_METHOD_OTHER, .val.other = string_of("NO METHOD")};
    say("set-method wrong: %s\n", REQ(set_method)(REQUEST(it), &method) ? "ok" : "error");
    method.val.other = string_of("");
    say("set-method empty: %s\n", REQ(set_method)(REQUEST(it), &method) ? "ok" : "error");
    static const char *const NAMES[] = {"ftp", "no scheme", "", "1a"};
    for (u8 tag = 0; tag <= WASI_HTTP_TYPES_SCHEME_OTHER; tag++)
        for (size_t i = 0; i < (tag == WASI_HTTP_TYPES_SCHEME_OTHER ? sizeof NAMES / sizeof *NAMES : 1); i++) {
            wasi_http_types_scheme_t scheme = {.tag = tag, .val.other = string_of(NAMES[i])};
            say("set-scheme %s %s: %s\n", SCHEMES[tag], NAMES[i], REQ(set_scheme)(REQUEST(it), &scheme) ? "ok" : "error");
            say_request("request", it);
        }
    static const char *const SERVERS[] = {"example.org", "example.org:80", "[::1]:8080", "[::1]", "user@example.org:1", "127.0.0.1",
                                          "example.org:", "example.org:http", "example.org:99999", "no server", "", "a/b"};
    for (size_t i = 0; i < sizeof SERVERS / sizeof *SERVERS; i++) {
        string_t name = string_of(SERVERS[i]);
        say("set-authority \"%s\": %s\n", SERVERS[i], REQ(set_authority)(REQUEST(it), &name) ? "ok" : "error");
        say_request("request", it);
    }
    static const char *const PATHS[] = {"/", "/a/b?c=d&e", "?a", "", "/%20", "/ ", "/#", "a", "*", "http://other/", "//a"};
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++) {
        string_t name = string_of(PATHS[i]);
        say("set-path-with-query \"%s\": %s\n", PATHS[i], REQ(set_path_with_query)(REQUEST(it), &name) ? "ok" : "error");
        say_request("request", it);
    }
    must_be(REQ(set_scheme)(REQUEST(it), NULL) && REQ(set_authority)(REQUEST(it), NULL) && REQ(set_path_with_query)(REQUEST(it), NULL));
    say_request("nothing", it);
}

// Makes a request with a body, if it is to have one.
static request_t make_request(fields_t headers, bool has_body, options_t *options, sending_t *to) {
    stream_t body;
    trailers_t trailers;
    *to = begin(&body, &trailers);
    if (!has_body) {
        wasi_http_types_stream_u8_drop_readable(body);
        wasi_http_types_stream_u8_drop_writable(to->body);
    }
    wasi_http_types_tuple2_own_request_future_result_void_error_code_t made;
    wasi_http_types_static_request_new(headers, has_body ? &body : NULL, trailers, options, &made);
    to->outcome = made.f1;
    return made.f0;
}

static response_t make_response(fields_t headers, bool has_body, sending_t *to) {
    stream_t body;
    trailers_t trailers;
    *to = begin(&body, &trailers);
    if (!has_body) {
        wasi_http_types_stream_u8_drop_readable(body);
        wasi_http_types_stream_u8_drop_writable(to->body);
    }
    wasi_http_types_tuple2_own_response_future_result_void_error_code_t made;
    wasi_http_types_static_response_new(headers, has_body ? &body : NULL, trailers, &made);
    to->outcome = made.f1;
    return made.f0;
}

static fields_t some_headers(void) {
    fields_t headers = wasi_http_types_constructor_fields();
    set(headers, "x-mine", "1");
    return headers;
}

static void say_outcome(const char *what, outcome_result_t it) {
    if (it.is_err) say("%s: error %u\n", what, it.val.err.tag);
    else say("%s: ok\n", what);
}

// Reads what this program writes itself into a message, and says how it was.
static void read_back(const char *what, sending_t to, receiving_t from, bool has_body, outcome_writer_t handled, outcome_result_t verdict) {
    u8 bytes[16];
    if (has_body) {
        // The writer goes on when the reader has read.
        u32 status = wasi_http_types_stream_u8_write(to.body, (const u8 *)"some bytes", 10);
        size_t count = read_some(&from, bytes, 4);
        say("%s body: %zu ", what, count);
        say_text((text){(char *)bytes, count});
        count = read_some(&from, bytes, sizeof bytes);
        say(" %zu ", count);
        say_text((text){(char *)bytes, count});
        say("\n");
        must_be(COUNT(done(to.body, status)) > 0);
        wasi_http_types_stream_u8_drop_writable(to.body);
    }
    say("%s end: %zu\n", what, read_some(&from, bytes, sizeof bytes));
    wasi_http_types_stream_u8_drop_readable(from.f0);
    // A component does not read futures of its own that carry resources: one that is not read any more says so to its writer.
    wasi_http_types_future_result_option_own_trailers_error_code_drop_readable(from.f1);
    trailers_result_t written = {.is_err = false};
    say("%s trailers: %u\n", what, STATE(done(to.trailers, WRITE_TRAILERS(to.trailers, &written))));
    must_be(STATE(done(handled, WRITE_OUTCOME(handled, &verdict))) == COMPLETED);
    say_outcome(what, outcome_of(to.outcome));
}

static void every_request(options_t options) {
    sending_t to;
    request_t it = make_request(some_headers(), true, &options, &to);
    say_request("new request", it);
    set_everything(it);
    fields_t headers = REQ(get_headers)(REQUEST(it));
    say_entries("get-headers", headers);
    change("get-headers", headers, "x-mine", "2");
    fields_t copy = FIELD(clone)(FIELDS(headers));
    change("copy of get-headers", copy, "x-mine", "2");
    options_t limits;
    must_be(REQ(get_options)(REQUEST(it), &limits));
    say_limits("get-options", limits);
    set_limits("get-options", limits, 5);
    options_t own = OPTION(clone)(OPTIONS(limits));
    set_limits("copy of get-options", own, 5);
    wasi_http_types_request_options_drop_own(limits);
    receiving_t from;
    outcome_writer_t handled;
    outcome_t verdict = wasi_http_types_future_result_void_error_code_new(&handled);
    wasi_http_types_static_request_consume_body(it, verdict, &from);
    read_back("request", to, from, true, handled, (outcome_result_t){.is_err = false});
    // The headers are still there.
    say_entries("headers", headers);
    it = make_request(some_headers(), false, NULL, &to);
    say("get-options: %s\n", REQ(get_options)(REQUEST(it), &limits) ? "some" : "none");
    verdict = wasi_http_types_future_result_void_error_code_new(&handled);
    wasi_http_types_static_request_consume_body(it, verdict, &from);
    outcome_result_t failed = {.is_err = true, .val.err.tag = WASI_HTTP_TYPES_ERROR_CODE_LOOP_DETECTED};
    read_back("request without a body", to, from, false, handled, failed);
    // One that nobody wants.
    it = make_request(some_headers(), true, NULL, &to);
    wasi_http_types_request_drop_own(it);
    say("write to a dropped request: %u\n", STATE(done(to.body, wasi_http_types_stream_u8_write(to.body, (const u8 *)"x", 1))));
    trailers_result_t none = {.is_err = false};
    say("trailers of a dropped request: %u\n", STATE(done(to.trailers, WRITE_TRAILERS(to.trailers, &none))));
    say_outcome("dropped request", outcome_of(to.outcome));
}

static void every_response(void) {
    sending_t to;
    response_t it = make_response(some_headers(), true, &to);
    say("get-status-code: %u\n", RES(get_status_code)(RESPONSE(it)));
    static const u16 CODES[] = {0, 99, 100, 101, 199, 200, 204, 304, 404, 451, 599, 600, 999, 1000, 65535};
    for (size_t i = 0; i < sizeof CODES / sizeof *CODES; i++) {
        bool ok = RES(set_status_code)(RESPONSE(it), CODES[i]);
        say("set-status-code %u: %s\n", CODES[i], ok ? "ok" : "error");
    }
    must_be(RES(set_status_code)(RESPONSE(it), 404));
    say("get-status-code: %u\n", RES(get_status_code)(RESPONSE(it)));
    fields_t headers = RES(get_headers)(RESPONSE(it));
    say_entries("get-headers", headers);
    change("get-headers", headers, "x-mine", "2");
    receiving_t from;
    outcome_writer_t handled;
    outcome_t verdict = wasi_http_types_future_result_void_error_code_new(&handled);
    wasi_http_types_static_response_consume_body(it, verdict, &from);
    read_back("response", to, from, true, handled, (outcome_result_t){.is_err = false});
    it = make_response(some_headers(), false, &to);
    wasi_http_types_response_drop_own(it);
    trailers_result_t none = {.is_err = false};
    say("trailers of a dropped response: %u\n", STATE(done(to.trailers, WRITE_TRAILERS(to.trailers, &none))));
    say_outcome("dropped response", outcome_of(to.outcome));
}

// ---- requests to servers

static wasi_http_client_result_own_response_error_code_t answer_to(request_t it, sending_t to, const char *body, bool has_body) {
    wasi_http_client_result_own_response_error_code_t result;
    http_subtask_status_t status = wasi_http_client_send(it, &result);
    if (has_body) {
        write_text(to.body, body);
        wasi_http_types_stream_u8_drop_writable(to.body);
    }
    fields_t last = wasi_http_types_constructor_fields();
    set(last, "x-last", "word");
    write_trailers(to.trailers, has_body ? &last : NULL);
    return response_of(status, &result);
}

static void wrong_requests(void) {
    static const struct { const char *what; u8 scheme; } WRONG[] = {
        {"send by another scheme", WASI_HTTP_TYPES_SCHEME_OTHER}, {"send to nobody", WASI_HTTP_TYPES_SCHEME_HTTP}};
    for (size_t i = 0; i < 2 * sizeof WRONG / sizeof *WRONG; i++) {
        bool has_body = i % 2;
        sending_t to;
        request_t it = make_request(some_headers(), has_body, NULL, &to);
        wasi_http_types_scheme_t scheme = {.tag = WRONG[i / 2].scheme, .val.other = string_of("ftp")};
        // Port 1 is nobody's.
        string_t server = string_of("127.0.0.1:1");
        must_be(REQ(set_scheme)(REQUEST(it), &scheme) && REQ(set_authority)(REQUEST(it), &server));
        wasi_http_client_result_own_response_error_code_t result = answer_to(it, to, "", has_body);
        // A Keep says why there is no connection; Wasmtime names another error.
        if (i < 2) say("%s: %s %u\n", WRONG[i / 2].what, result.is_err ? "error" : "ok", result.val.err.tag);
        else say("%s: %s\n", WRONG[i / 2].what, result.is_err ? "error" : "ok");
        outcome_result_t sent = outcome_of(to.outcome);
        say("%s, %s body, transmission: %s\n", WRONG[i / 2].what, has_body ? "with a" : "no", sent.is_err ? "error" : "ok");
    }
}

// Writes what was said, and not what was called.
static void flush_words(void) {
    calls_length = 0;
    flush_output();
}

static void ask(string_t url) {
    size_t start = url.len > 8 && url.ptr[4] == 's' ? 8 : 7, end = start;
    while (end < url.len && url.ptr[end] != '/') end++;
    size_t stop = end;
    while (stop < url.len && url.ptr[stop] != '#') stop++;
    bool has_body = stop < url.len;
    char *body = has_body ? strndup((char *)url.ptr + stop + 1, url.len - stop - 1) : "";
    fields_t headers = some_headers();
    set(headers, "te", "trailers");
    if (has_body) set(headers, "trailer", "x-last");
    sending_t to;
    request_t it = make_request(headers, has_body, NULL, &to);
    wasi_http_types_scheme_t scheme = {.tag = start == 8 ? WASI_HTTP_TYPES_SCHEME_HTTPS : WASI_HTTP_TYPES_SCHEME_HTTP};
    wasi_http_types_method_t method = {.tag = has_body ? WASI_HTTP_TYPES_METHOD_POST : WASI_HTTP_TYPES_METHOD_GET};
    string_t server = {url.ptr + start, end - start}, path = {url.ptr + end, stop - end};
    must_be(REQ(set_scheme)(REQUEST(it), &scheme) && REQ(set_method)(REQUEST(it), &method) &&
            REQ(set_authority)(REQUEST(it), &server) && REQ(set_path_with_query)(REQUEST(it), &path));
    wasi_http_client_result_own_response_error_code_t result = answer_to(it, to, body, has_body);
    if (result.is_err) {
        say("error %u\n", result.val.err.tag);
        if (has_body) say_outcome("transmission", outcome_of(to.outcome));
        return;
    }
    say("%u ", RES(get_status_code)(RESPONSE(result.val.ok)));
    receiving_t from = body_of_response(result.val.ok);
    static u8 bytes[64 << 10];
    for (size_t count; (count = read_some(&from, bytes, sizeof bytes)) > 0;) {
        flush_words();
        write_output((char *)bytes, count);
    }
    trailers_result_t last = end_of(&from);
    if (last.is_err) say("cut %u\n", last.val.err.tag);
    else if (last.val.ok.is_some) say_entries("trailers", last.val.ok.val);
}

bool exports_wasi_cli_run_run(void) {
    http_list_string_t arguments;
    wasi_cli_environment_get_arguments(&arguments);
    if (arguments.len > 1 && arguments.ptr[1].len == 3 && !memcmp(arguments.ptr[1].ptr, "ask", 3)) {
        for (size_t i = 2; i < arguments.len; i++) ask(arguments.ptr[i]);
        flush_words();
        return true;
    }
    every_field();
    every_request(every_option());
    every_response();
    wrong_requests();
    flush_output();
    // The calls of the writing itself.
    flush_output();
    return true;
}
