// SPDX-License-Identifier: Apache-2.0

// Traffic of one TCP connection: a component that connects to the port of 127.0.0.1 that it is given, and then reads all
// that comes (down), sends so many MiB (up), or sends back what comes (echo). The bindings are generated (see build.sh).
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

// The bindings call this when an import is called first: only the conformance programs want to know.
void called(const char *interface, const char *function) { (void)interface, (void)function; }

#define PIECE 65536u
#define TCP(function) wasi_sockets_tcp_method_tcp_socket_##function
#define IN(function) wasi_io_streams_method_input_stream_##function
#define OUT(function) wasi_io_streams_method_output_stream_##function

typedef wasi_io_streams_stream_error_t stream_error;

static wasi_io_streams_borrow_input_stream_t in;
static wasi_io_streams_borrow_output_stream_t out;

static uint64_t number(command_string_t text) {
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) value = value * 10 + (uint64_t)(text.ptr[i] - '0');
    return value;
}

static void wait_for(wasi_io_poll_own_pollable_t pollable) {
    wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(pollable));
    wasi_io_poll_pollable_drop_own(pollable);
}

static bool connect_to(uint16_t port, wasi_sockets_tcp_own_tcp_socket_t *made) {
    uint8_t error;
    if (!wasi_sockets_tcp_create_socket_create_tcp_socket(WASI_SOCKETS_NETWORK_IP_ADDRESS_FAMILY_IPV4, made, &error)) return false;
    wasi_sockets_tcp_borrow_tcp_socket_t it = wasi_sockets_tcp_borrow_tcp_socket(*made);
    wasi_sockets_network_own_network_t network = wasi_sockets_instance_network_instance_network();
    wasi_sockets_network_ip_socket_address_t address = {.tag = WASI_SOCKETS_NETWORK_IP_SOCKET_ADDRESS_IPV4};
    address.val.ipv4.address = (wasi_sockets_network_ipv4_address_t){127, 0, 0, 1};
    address.val.ipv4.port = port;
    if (!TCP(start_connect)(it, wasi_sockets_network_borrow_network(network), &address, &error)) return false;
    wasi_sockets_tcp_tuple2_own_input_stream_own_output_stream_t streams;
    while (!TCP(finish_connect)(it, &streams, &error)) {
        if (error != WASI_SOCKETS_NETWORK_ERROR_CODE_WOULD_BLOCK) return false;
        wait_for(TCP(subscribe)(it));
    }
    in = wasi_io_streams_borrow_input_stream(streams.f0);
    out = wasi_io_streams_borrow_output_stream(streams.f1);
    return true;
}

// As much at a time as the stream takes.
static bool send(uint8_t *bytes, uint64_t length) {
    while (length > 0) {
        uint64_t room;
        stream_error error;
        if (!OUT(check_write)(out, &room, &error)) return false;
        if (room == 0) {
            wait_for(OUT(subscribe)(out));
            continue;
        }
        command_list_u8_t piece = {bytes, room < length ? room : length};
        if (!OUT(write)(out, &piece, &error)) return false;
        bytes += piece.len;
        length -= piece.len;
    }
    return true;
}

// The next bytes; false at the end.
static bool receive(command_list_u8_t *piece) {
    stream_error error;
    do
        if (!IN(blocking_read)(in, PIECE, piece, &error)) return false;
    while (piece->len == 0);
    return true;
}

bool exports_wasi_cli_run_run(void) {
    static uint8_t piece[PIECE];
    command_list_string_t arguments;
    wasi_cli_environment_get_arguments(&arguments);
    if (arguments.len != 4) return false;
    uint64_t length = number(arguments.ptr[3]) << 20;
    wasi_sockets_tcp_own_tcp_socket_t socket;
    if (!connect_to((uint16_t)number(arguments.ptr[1]), &socket)) return false;
    command_list_u8_t got;
    switch (arguments.ptr[2].ptr[0]) {
    case 'd':
        for (; receive(&got); command_list_u8_free(&got)) length -= got.len;
        if (length != 0) return false;
        break;
    case 'u':
        for (; length > 0; length -= PIECE)
            if (!send(piece, PIECE)) return false;
        break;
    case 'e':
        for (; receive(&got); command_list_u8_free(&got))
            if (!send(got.ptr, got.len)) return false;
        break;
    default:
        return false;
    }
    stream_error error;
    uint8_t code;
    return OUT(blocking_flush)(out, &error) &&
           TCP(shutdown)(wasi_sockets_tcp_borrow_tcp_socket(socket), WASI_SOCKETS_TCP_SHUTDOWN_TYPE_BOTH, &code);
}
