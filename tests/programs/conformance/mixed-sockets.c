// SPDX-License-Identifier: Apache-2.0

// A component that uses the sockets of WASI 0.2 and 0.3 together: each listens, and the other connects.
#include "mixed_sockets.h"
// Not all of its helpers are needed here.
#pragma clang diagnostic ignored "-Wunused-function"
#include "no_files.h"
#include "output.h"

#define OLD(function) wasi_sockets_0_2_12_tcp_method_tcp_socket_##function
#define NEW(function) wasi_sockets_0_3_0_types_method_tcp_socket_##function

static void must(bool ok) {
    if (!ok) __builtin_trap();
}

static void write_output(const char *bytes, size_t length) {
    wasi_cli_0_2_12_stdout_own_output_stream_t out = wasi_cli_0_2_12_stdout_get_stdout();
    for (size_t some; length > 0; bytes += some, length -= some) {
        // As much as one call takes.
        some = length < 4096 ? length : 4096;
        mixed_sockets_list_u8_t piece = {(u8 *)bytes, some};
        wasi_io_streams_stream_error_t error;
        must(wasi_io_streams_method_output_stream_blocking_write_and_flush(wasi_io_streams_borrow_output_stream(out), &piece, &error));
    }
    wasi_io_streams_output_stream_drop_own(out);
}

// ---- 0.2

static wasi_sockets_0_2_12_network_own_network_t network;
static wasi_sockets_0_2_12_network_error_code_t old_error;

static wasi_sockets_0_2_12_tcp_own_tcp_socket_t old_socket(void) {
    wasi_sockets_0_2_12_tcp_own_tcp_socket_t it;
    must(wasi_sockets_0_2_12_tcp_create_socket_create_tcp_socket(WASI_SOCKETS_0_2_12_NETWORK_IP_ADDRESS_FAMILY_IPV4, &it, &old_error));
    return it;
}

// Waits, and makes a call, until it does not have to wait. It waits in any case, so that every run makes the same calls.
#define WAIT(it, call)                                                                                \
    do {                                                                                              \
        wasi_sockets_0_2_12_tcp_own_pollable_t ready = OLD(subscribe)(wasi_sockets_0_2_12_tcp_borrow_tcp_socket(it)); \
        wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(ready));                      \
        wasi_io_poll_pollable_drop_own(ready);                                                        \
        if (call) break;                                                                              \
        must(old_error == WASI_SOCKETS_0_2_12_NETWORK_ERROR_CODE_WOULD_BLOCK);                        \
    } while (1);

static wasi_sockets_0_2_12_network_ip_socket_address_t old_loopback(u16 port) {
    wasi_sockets_0_2_12_network_ip_socket_address_t it = {.tag = WASI_SOCKETS_0_2_12_NETWORK_IP_SOCKET_ADDRESS_IPV4};
    it.val.ipv4.address = (wasi_sockets_0_2_12_network_ipv4_address_t){127, 0, 0, 1};
    it.val.ipv4.port = port;
    return it;
}

// Writes what is given, reads what comes, and says it.
static void old_talk(const char *who, wasi_io_streams_own_input_stream_t in, wasi_io_streams_own_output_stream_t out, const char *words) {
    mixed_sockets_list_u8_t bytes = {(u8 *)words, strlen(words)};
    wasi_io_streams_stream_error_t error;
    must(wasi_io_streams_method_output_stream_blocking_write_and_flush(wasi_io_streams_borrow_output_stream(out), &bytes, &error));
    must(wasi_io_streams_method_input_stream_blocking_read(wasi_io_streams_borrow_input_stream(in), 100, &bytes, &error));
    say("%s of 0.2 hears: ", who);
    say_text((text){(char *)bytes.ptr, bytes.len});
    say("\n");
    wasi_io_streams_input_stream_drop_own(in);
    wasi_io_streams_output_stream_drop_own(out);
}

// ---- 0.3

static wasi_sockets_0_3_0_types_error_code_t new_error;

// Waits for a read or a write that is under way.
static u32 done(u32 waitable, u32 status) {
    if (status != MIXED_SOCKETS_WAITABLE_STATUS_BLOCKED) return status;
    mixed_sockets_waitable_set_t set = mixed_sockets_waitable_set_new();
    mixed_sockets_waitable_join(waitable, set);
    mixed_sockets_event_t event;
    mixed_sockets_waitable_set_wait(set, &event);
    mixed_sockets_waitable_join(waitable, 0);
    mixed_sockets_waitable_set_drop(set);
    return event.code;
}

static wasi_sockets_0_3_0_types_own_tcp_socket_t new_socket(void) {
    wasi_sockets_0_3_0_types_own_tcp_socket_t it;
    must(wasi_sockets_0_3_0_types_static_tcp_socket_create(WASI_SOCKETS_0_3_0_TYPES_IP_ADDRESS_FAMILY_IPV4, &it, &new_error));
    return it;
}

static wasi_sockets_0_3_0_types_ip_socket_address_t new_loopback(u16 port) {
    wasi_sockets_0_3_0_types_ip_socket_address_t it = {.tag = WASI_SOCKETS_0_3_0_TYPES_IP_SOCKET_ADDRESS_IPV4};
    it.val.ipv4.address = (wasi_sockets_0_3_0_types_ipv4_address_t){127, 0, 0, 1};
    it.val.ipv4.port = port;
    return it;
}

// A connection of 0.3 that has written what was given, and waits.
typedef struct {
    wasi_sockets_0_3_0_types_own_tcp_socket_t socket;
    wasi_sockets_0_3_0_types_tuple2_stream_u8_future_result_void_error_code_t in;
    wasi_sockets_0_3_0_types_stream_u8_writer_t to;
    u32 sent;
} talker;

static talker new_talk(wasi_sockets_0_3_0_types_own_tcp_socket_t socket, const char *words) {
    talker it = {.socket = socket};
    wasi_sockets_0_3_0_types_borrow_tcp_socket_t borrowed = wasi_sockets_0_3_0_types_borrow_tcp_socket(socket);
    wasi_sockets_0_3_0_types_stream_u8_t from = wasi_sockets_0_3_0_types_stream_u8_new(&it.to);
    it.sent = NEW(send)(borrowed, from);
    NEW(receive)(borrowed, &it.in);
    u32 status = done(it.to, wasi_sockets_0_3_0_types_stream_u8_write(it.to, (const u8 *)words, strlen(words)));
    must(MIXED_SOCKETS_WAITABLE_COUNT(status) == strlen(words));
    return it;
}

static void new_hear(const char *who, talker it) {
    u8 bytes[100];
    u32 status = done(it.in.f0, wasi_sockets_0_3_0_types_stream_u8_read(it.in.f0, bytes, sizeof bytes));
    say("%s of 0.3 hears: ", who);
    say_text((text){(char *)bytes, MIXED_SOCKETS_WAITABLE_COUNT(status)});
    say("\n");
    wasi_sockets_0_3_0_types_stream_u8_drop_writable(it.to);
    wasi_sockets_0_3_0_types_result_void_error_code_t result;
    done(it.sent, wasi_sockets_0_3_0_types_future_result_void_error_code_read(it.sent, &result));
    must(!result.is_err);
    wasi_sockets_0_3_0_types_future_result_void_error_code_drop_readable(it.sent);
    wasi_sockets_0_3_0_types_stream_u8_drop_readable(it.in.f0);
    wasi_sockets_0_3_0_types_future_result_void_error_code_drop_readable(it.in.f1);
    wasi_sockets_0_3_0_types_tcp_socket_drop_own(it.socket);
}

// ---- together

static void old_listens(void) {
    wasi_sockets_0_2_12_tcp_own_tcp_socket_t listener = old_socket();
    wasi_sockets_0_2_12_tcp_borrow_tcp_socket_t it = wasi_sockets_0_2_12_tcp_borrow_tcp_socket(listener);
    wasi_sockets_0_2_12_network_ip_socket_address_t at = old_loopback(0);
    must(OLD(start_bind)(it, wasi_sockets_0_2_12_network_borrow_network(network), &at, &old_error));
    WAIT(listener, OLD(finish_bind)(it, &old_error))
    must(OLD(start_listen)(it, &old_error));
    WAIT(listener, OLD(finish_listen)(it, &old_error))
    must(OLD(local_address)(it, &at, &old_error));
    wasi_sockets_0_3_0_types_own_tcp_socket_t client = new_socket();
    wasi_sockets_0_3_0_types_ip_socket_address_t to = new_loopback(at.val.ipv4.port);
    must(NEW(connect)(wasi_sockets_0_3_0_types_borrow_tcp_socket(client), &to, &new_error));
    talker talks = new_talk(client, "a client of 0.3");
    wasi_sockets_0_2_12_tcp_tuple3_own_tcp_socket_own_input_stream_own_output_stream_t server;
    WAIT(listener, OLD(accept)(it, &server, &old_error))
    old_talk("a server", server.f1, server.f2, "a server of 0.2");
    new_hear("a client", talks);
    wasi_sockets_0_2_12_tcp_tcp_socket_drop_own(server.f0);
    wasi_sockets_0_2_12_tcp_tcp_socket_drop_own(listener);
}

static void new_listens(void) {
    wasi_sockets_0_3_0_types_own_tcp_socket_t listener = new_socket();
    wasi_sockets_0_3_0_types_borrow_tcp_socket_t it = wasi_sockets_0_3_0_types_borrow_tcp_socket(listener);
    wasi_sockets_0_3_0_types_ip_socket_address_t at = new_loopback(0);
    wasi_sockets_0_3_0_types_stream_own_tcp_socket_t connections;
    must(NEW(bind)(it, &at, &new_error));
    must(NEW(listen)(it, &connections, &new_error));
    must(NEW(get_local_address)(it, &at, &new_error));
    wasi_sockets_0_2_12_tcp_own_tcp_socket_t client = old_socket();
    wasi_sockets_0_2_12_network_ip_socket_address_t to = old_loopback(at.val.ipv4.port);
    wasi_sockets_0_2_12_tcp_borrow_tcp_socket_t borrowed = wasi_sockets_0_2_12_tcp_borrow_tcp_socket(client);
    must(OLD(start_connect)(borrowed, wasi_sockets_0_2_12_network_borrow_network(network), &to, &old_error));
    wasi_sockets_0_2_12_tcp_tuple2_own_input_stream_own_output_stream_t streams;
    WAIT(client, OLD(finish_connect)(borrowed, &streams, &old_error))
    wasi_sockets_0_3_0_types_own_tcp_socket_t server;
    u32 status = done(connections, wasi_sockets_0_3_0_types_stream_own_tcp_socket_read(connections, &server, 1));
    must(MIXED_SOCKETS_WAITABLE_COUNT(status) == 1);
    talker talks = new_talk(server, "a server of 0.3");
    old_talk("a client", streams.f0, streams.f1, "a client of 0.2");
    new_hear("a server", talks);
    wasi_sockets_0_2_12_tcp_tcp_socket_drop_own(client);
    wasi_sockets_0_3_0_types_stream_own_tcp_socket_drop_readable(connections);
    wasi_sockets_0_3_0_types_tcp_socket_drop_own(listener);
}

bool exports_wasi_cli_0_3_0_run_run(void) {
    network = wasi_sockets_0_2_12_instance_network_instance_network();
    old_listens();
    new_listens();
    wasi_sockets_0_2_12_network_network_drop_own(network);
    flush_output();
    flush_output();
    return true;
}
