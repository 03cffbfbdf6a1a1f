// SPDX-License-Identifier: Apache-2.0

// Tries places of the network that the arguments name, one after the other, and says what becomes of each: for the tests of
// rules for the network. Part of preview2.c.
//
//   tcp/PLACE udp/PLACE                connects, sends a datagram
//   listen-tcp/PLACE listen-udp/PLACE  waits for connections, for datagrams
//   name/NAME                          looks the name up, and says its first address
//
// A place is the numbers of an address, and a port: 127.0.0.1.8080, or in hexadecimal 0:0:0:0:0:0:0:1:1f90.
#pragma once

static address place_of(const char *text) {
    u16 numbers[9] = {0};
    int base = strchr(text, ':') ? 16 : 10;
    for (unsigned i = 0; i < 9; i++) {
        char *end;
        numbers[i] = (u16)strtoul(text, &end, base);
        if (!*end) break;
        text = end + 1;
    }
    if (base == 10) return ipv4((u8)numbers[0], (u8)numbers[1], (u8)numbers[2], (u8)numbers[3], numbers[4]);
    address it = {.tag = WASI_SOCKETS_NETWORK_IP_SOCKET_ADDRESS_IPV6};
    it.val.ipv6.address = (wasi_sockets_network_ipv6_address_t){numbers[0], numbers[1], numbers[2], numbers[3],
                                                                 numbers[4], numbers[5], numbers[6], numbers[7]};
    it.val.ipv6.port = numbers[8];
    return it;
}

static bool reach_tcp(address to, bool listens, socket_error *error) {
    tcp_socket it = must_make_tcp(to.tag);
    connection made;
    bool ok = listens ? bind_tcp(it, &to, error) && listen_tcp(it, error) : connect_tcp(it, &to, &made, error);
    if (ok && !listens) drop_streams(made);
    drop_tcp(it);
    return ok;
}

static bool reach_udp(address to, socket_error *error) {
    address own;
    udp_socket it = must_bind_udp(to.tag, &own);
    datagrams made;
    u64 sent;
    bool ok = udp_stream(it, NULL, &made, error);
    if (ok) {
        ok = send(made, "x", 1, &to, &sent, error);
        drop_datagrams(made);
    }
    wasi_sockets_udp_udp_socket_drop_own(it);
    return ok;
}

static bool listen_udp(address at, socket_error *error) {
    udp_socket it;
    bool ok = wasi_sockets_udp_create_socket_create_udp_socket(at.tag, &it, error);
    if (!ok) return false;
    ok = UDP(start_bind)(UDP_SOCKET(it), NETWORK, &at, error);
    if (ok) {
        pollable ready = UDP(subscribe)(UDP_SOCKET(it));
        wasi_io_poll_method_pollable_block(POLLABLE(ready));
        wasi_io_poll_pollable_drop_own(ready);
        ok = UDP(finish_bind)(UDP_SOCKET(it), error);
    }
    wasi_sockets_udp_udp_socket_drop_own(it);
    return ok;
}

static bool look_up(const char *text, socket_error *error) {
    command_string_t name = wit(text_of(text));
    wasi_sockets_ip_name_lookup_own_resolve_address_stream_t stream;
    if (!wasi_sockets_ip_name_lookup_resolve_addresses(NETWORK, &name, &stream, error)) return false;
    wasi_sockets_ip_name_lookup_borrow_resolve_address_stream_t it = wasi_sockets_ip_name_lookup_borrow_resolve_address_stream(stream);
    pollable ready = wasi_sockets_ip_name_lookup_method_resolve_address_stream_subscribe(it);
    wasi_io_poll_method_pollable_block(POLLABLE(ready));
    wasi_io_poll_pollable_drop_own(ready);
    wasi_sockets_ip_name_lookup_option_ip_address_t found;
    bool ok = wasi_sockets_ip_name_lookup_method_resolve_address_stream_resolve_next_address(it, &found, error);
    wasi_sockets_ip_name_lookup_resolve_address_stream_drop_own(stream);
    return ok;
}

static bool starts_with(const char *argument, const char *action, const char **rest) {
    size_t length = strlen(action);
    *rest = argument + length;
    return !strncmp(argument, action, length);
}

static void reach(command_list_string_t arguments) {
    network = wasi_sockets_instance_network_instance_network();
    for (size_t i = 2; i < arguments.len; i++) {
        char argument[300];
        snprintf(argument, sizeof argument, "%.*s", (int)arguments.ptr[i].len, arguments.ptr[i].ptr);
        socket_error error = 0;
        const char *rest;
        bool ok = false;
        if (starts_with(argument, "tcp/", &rest)) ok = reach_tcp(place_of(rest), false, &error);
        else if (starts_with(argument, "udp/", &rest)) ok = reach_udp(place_of(rest), &error);
        else if (starts_with(argument, "listen-tcp/", &rest)) ok = reach_tcp(place_of(rest), true, &error);
        else if (starts_with(argument, "listen-udp/", &rest)) ok = listen_udp(place_of(rest), &error);
        else if (starts_with(argument, "name/", &rest)) ok = look_up(rest, &error);
        else fail(argument, "is no action");
        say("%s %s\n", argument, socket_result(ok, error));
    }
    wasi_sockets_network_network_drop_own(network);
}
