// SPDX-License-Identifier: Apache-2.0

// The network, within the program itself: what it listens for, it connects to. Part of preview2.c.
//
// Sockets are made in every state, and every function is called in every state.
#pragma once

typedef wasi_sockets_tcp_own_tcp_socket_t tcp_socket;
typedef wasi_sockets_udp_own_udp_socket_t udp_socket;
typedef wasi_sockets_network_ip_socket_address_t address;
typedef wasi_sockets_network_error_code_t socket_error;

#define TCP(function) wasi_sockets_tcp_method_tcp_socket_##function
#define UDP(function) wasi_sockets_udp_method_udp_socket_##function
#define TCP_SOCKET(it) wasi_sockets_tcp_borrow_tcp_socket(it)
#define UDP_SOCKET(it) wasi_sockets_udp_borrow_udp_socket(it)
#define NETWORK wasi_sockets_network_borrow_network(network)
#define IPV4 WASI_SOCKETS_NETWORK_IP_ADDRESS_FAMILY_IPV4
#define IPV6 WASI_SOCKETS_NETWORK_IP_ADDRESS_FAMILY_IPV6

static const char *const SOCKET_ERROR[] = {
    "unknown", "access-denied", "not-supported", "invalid-argument", "out-of-memory", "timeout",
    "concurrency-conflict", "not-in-progress", "would-block", "invalid-state", "new-socket-limit",
    "address-not-bindable", "address-in-use", "remote-unreachable", "connection-refused",
    "connection-reset", "connection-aborted", "datagram-too-large", "name-unresolvable",
    "temporary-resolver-failure", "permanent-resolver-failure",
};

static wasi_sockets_network_own_network_t network;

static const char *socket_result(bool ok, socket_error error) { return ok ? "ok" : SOCKET_ERROR[error]; }

static void must_socket(bool ok, socket_error error, const char *what) {
    if (!ok) fail(what, SOCKET_ERROR[error]);
}

typedef wasi_sockets_network_ipv4_address_t ipv4_address;
typedef wasi_sockets_network_ipv6_address_t ipv6_address;
#define ADDRESS_IPV4 WASI_SOCKETS_NETWORK_IP_SOCKET_ADDRESS_IPV4
#define ADDRESS_IPV6 WASI_SOCKETS_NETWORK_IP_SOCKET_ADDRESS_IPV6
#include "addresses.h"

static bool make_tcp(u8 family, tcp_socket *it, socket_error *error) {
    return wasi_sockets_tcp_create_socket_create_tcp_socket(family, it, error);
}

static tcp_socket must_make_tcp(u8 family) {
    tcp_socket it;
    socket_error error;
    must_socket(make_tcp(family, &it, &error), error, "create-tcp-socket");
    return it;
}

static void wait_tcp(tcp_socket it) {
    pollable ready = TCP(subscribe)(TCP_SOCKET(it));
    wasi_io_poll_method_pollable_block(POLLABLE(ready));
    wasi_io_poll_pollable_drop_own(ready);
}

// Waits for the end of what was started. `finish` is a call of finish-bind or the like.
#define FINISH_TCP(it, finish)                                                         \
    while (!(ok = (finish)) && error == WASI_SOCKETS_NETWORK_ERROR_CODE_WOULD_BLOCK) wait_tcp(it)

static bool bind_tcp(tcp_socket it, address *local, socket_error *why) {
    socket_error error = 0;
    bool ok = TCP(start_bind)(TCP_SOCKET(it), NETWORK, local, &error);
    if (ok) FINISH_TCP(it, TCP(finish_bind)(TCP_SOCKET(it), &error));
    *why = error;
    return ok;
}

static bool listen_tcp(tcp_socket it, socket_error *why) {
    socket_error error = 0;
    bool ok = TCP(start_listen)(TCP_SOCKET(it), &error);
    if (ok) FINISH_TCP(it, TCP(finish_listen)(TCP_SOCKET(it), &error));
    *why = error;
    return ok;
}

typedef struct {
    tcp_socket socket;
    input_stream input;
    output_stream output;
} connection;

static bool connect_tcp(tcp_socket it, address *remote, connection *made, socket_error *why) {
    socket_error error = 0;
    wasi_sockets_tcp_tuple2_own_input_stream_own_output_stream_t streams;
    bool ok = TCP(start_connect)(TCP_SOCKET(it), NETWORK, remote, &error);
    if (ok) FINISH_TCP(it, TCP(finish_connect)(TCP_SOCKET(it), &streams, &error));
    *why = error;
    if (ok) *made = (connection){it, streams.f0, streams.f1};
    return ok;
}

static bool accept_tcp(tcp_socket it, connection *made, socket_error *why) {
    socket_error error = 0;
    wasi_sockets_tcp_tuple3_own_tcp_socket_own_input_stream_own_output_stream_t accepted;
    bool ok;
    FINISH_TCP(it, TCP(accept)(TCP_SOCKET(it), &accepted, &error));
    *why = error;
    if (ok) *made = (connection){accepted.f0, accepted.f1, accepted.f2};
    return ok;
}

static void drop_tcp(tcp_socket it) { wasi_sockets_tcp_tcp_socket_drop_own(it); }

static void drop_streams(connection it) {
    wasi_io_streams_input_stream_drop_own(it.input);
    wasi_io_streams_output_stream_drop_own(it.output);
}

static void drop_connection(connection it) {
    drop_streams(it);
    drop_tcp(it.socket);
}

// One that listens, and its address.
static tcp_socket listener(u8 family, address *at) {
    tcp_socket it = must_make_tcp(family);
    socket_error error;
    address local = loopback(family, 0);
    must_socket(bind_tcp(it, &local, &error), error, "bind");
    must_socket(listen_tcp(it, &error), error, "listen");
    must_socket(TCP(local_address)(TCP_SOCKET(it), at, &error), error, "local-address");
    return it;
}

// ---- every state

enum { UNBOUND, BIND_IN_PROGRESS, BOUND, LISTEN_IN_PROGRESS, LISTENING, CONNECT_IN_PROGRESS, CONNECTED, ACCEPTED, FAILED, STATES };
static const char *const STATE[] = {"unbound", "bind-in-progress", "bound", "listen-in-progress", "listening",
                                    "connect-in-progress", "connected", "accepted", "failed"};

static tcp_socket common_listener;
static address common_address, refused_address;

// The other end and the streams of a socket in a state; dropped with it.
static connection other_end, own_streams;
static bool has_other_end, has_own_streams;

static tcp_socket in_state(int state) {
    tcp_socket it = must_make_tcp(IPV4);
    socket_error error = 0;
    address any = loopback(IPV4, 0);
    has_other_end = has_own_streams = false;
    if (state == BIND_IN_PROGRESS) must_socket(TCP(start_bind)(TCP_SOCKET(it), NETWORK, &any, &error), error, "start-bind");
    if (state == BOUND || state == LISTEN_IN_PROGRESS || state == LISTENING) must_socket(bind_tcp(it, &any, &error), error, "bind");
    if (state == LISTEN_IN_PROGRESS) must_socket(TCP(start_listen)(TCP_SOCKET(it), &error), error, "start-listen");
    if (state == LISTENING) must_socket(listen_tcp(it, &error), error, "listen");
    if (state == CONNECT_IN_PROGRESS)
        must_socket(TCP(start_connect)(TCP_SOCKET(it), NETWORK, &common_address, &error), error, "start-connect");
    if (state == CONNECTED || state == ACCEPTED) {
        connection client, server;
        must_socket(connect_tcp(it, &common_address, &client, &error), error, "connect");
        must_socket(accept_tcp(common_listener, &server, &error), error, "accept");
        own_streams = state == CONNECTED ? client : server;
        other_end = state == CONNECTED ? server : client;
        has_own_streams = has_other_end = true;
        it = own_streams.socket;
    }
    if (state == FAILED) {
        connection none;
        if (connect_tcp(it, &refused_address, &none, &error)) fail("connect to nobody", "succeeds");
    }
    return it;
}

static void leave_state(int state, tcp_socket it) {
    socket_error error = 0;
    if (state == CONNECT_IN_PROGRESS) {
        // A host may begin only when it is waited for.
        wasi_sockets_tcp_tuple2_own_input_stream_own_output_stream_t streams;
        bool ok;
        FINISH_TCP(it, TCP(finish_connect)(TCP_SOCKET(it), &streams, &error));
        must_socket(ok, error, "finish-connect");
        connection server;
        must_socket(accept_tcp(common_listener, &server, &error), error, "accept");
        drop_connection(server);
        drop_streams((connection){it, streams.f0, streams.f1});
    }
    if (has_own_streams) drop_streams(own_streams);
    drop_tcp(it);
    if (has_other_end) drop_connection(other_end);
}

#define IN_EVERY_STATE(title, call, more)                              \
    for (int state = 0; state < STATES; state++) {                     \
        tcp_socket socket = in_state(state);                           \
        wasi_sockets_tcp_borrow_tcp_socket_t it = TCP_SOCKET(socket);  \
        socket_error error = 0;                                        \
        bool ok = (call);                                              \
        say("%s %s: %s", title, STATE[state], socket_result(ok, error)); \
        if (ok) { more; }                                              \
        say("\n");                                                     \
        leave_state(state, socket);                                    \
    }

static void tcp_states(void) {
    socket_error ignored;
    common_listener = listener(IPV4, &common_address);
    // An address where nobody listens: it was bound, and is no longer.
    tcp_socket gone = listener(IPV4, &refused_address);
    drop_tcp(gone);

    address any = loopback(IPV4, 0), at;
    wasi_sockets_tcp_tuple2_own_input_stream_own_output_stream_t streams;
    wasi_sockets_tcp_tuple3_own_tcp_socket_own_input_stream_own_output_stream_t accepted;
    IN_EVERY_STATE("start-bind", TCP(start_bind)(it, NETWORK, &any, &error), )
    IN_EVERY_STATE("finish-bind", state == BIND_IN_PROGRESS ? true : TCP(finish_bind)(it, &error), )
    for (int state = 0; state < STATES; state++) {
        if (state == UNBOUND || state == CONNECT_IN_PROGRESS) continue;
        tcp_socket socket = in_state(state);
        socket_error error = 0;
        bool ok = TCP(start_connect)(TCP_SOCKET(socket), NETWORK, &common_address, &error);
        say("start-connect %s: %s", STATE[state], socket_result(ok, error));
        if (ok) {
            connection client = {.socket = socket}, server;
            FINISH_TCP(socket, TCP(finish_connect)(TCP_SOCKET(socket), &streams, &error));
            must_socket(ok, error, "finish-connect");
            client.input = streams.f0, client.output = streams.f1;
            must_socket(accept_tcp(common_listener, &server, &error), error, "accept");
            must_socket(TCP(remote_address)(TCP_SOCKET(server.socket), &at, &error), error, "remote-address");
            say(" from");
            say_address(&at);
            drop_streams(client);
            drop_connection(server);
        }
        say("\n");
        leave_state(state, socket);
    }
    for (int state = 0; state < STATES; state++) {
        if (state != CONNECT_IN_PROGRESS) continue;
        tcp_socket socket = in_state(state);
        socket_error error = 0;
        bool ok = TCP(start_connect)(TCP_SOCKET(socket), NETWORK, &common_address, &error);
        say("start-connect %s: %s\n", STATE[state], socket_result(ok, error));
        leave_state(state, socket);
    }
    IN_EVERY_STATE("finish-connect", state == CONNECT_IN_PROGRESS ? true : TCP(finish_connect)(it, &streams, &error), )
    IN_EVERY_STATE("start-listen", TCP(start_listen)(it, &error), )
    IN_EVERY_STATE("finish-listen", state == LISTEN_IN_PROGRESS ? true : TCP(finish_listen)(it, &error), )
    IN_EVERY_STATE("accept", TCP(accept)(it, &accepted, &error), )
    // An operation in progress may have ended already or not; where the socket is bound is known only then.
    IN_EVERY_STATE("local-address", state == BIND_IN_PROGRESS || state == CONNECT_IN_PROGRESS ? true : TCP(local_address)(it, &at, &error),
                   if (state != BIND_IN_PROGRESS && state != CONNECT_IN_PROGRESS) say_address(&at))
    IN_EVERY_STATE("remote-address", state == CONNECT_IN_PROGRESS ? true : TCP(remote_address)(it, &at, &error),
                   if (state != CONNECT_IN_PROGRESS) say_address(&at))
    IN_EVERY_STATE("is-listening", true, say(" %d", TCP(is_listening)(it)))
    IN_EVERY_STATE("address-family", true, say(" %d", TCP(address_family)(it)))
    IN_EVERY_STATE("set-listen-backlog-size 0", TCP(set_listen_backlog_size)(it, 0, &error), )
    IN_EVERY_STATE("set-listen-backlog-size 5", TCP(set_listen_backlog_size)(it, 5, &error), )
    IN_EVERY_STATE("set-listen-backlog-size of the largest", TCP(set_listen_backlog_size)(it, ~0ull, &error), )
    bool enabled;
    IN_EVERY_STATE("keep-alive-enabled", TCP(keep_alive_enabled)(it, &enabled, &error), say(" %d", enabled))
    IN_EVERY_STATE("set-keep-alive-enabled", TCP(set_keep_alive_enabled)(it, true, &error),
                   if (TCP(keep_alive_enabled)(it, &enabled, &ignored)) say(" then %d", enabled))
    u64 time, size;
    u32 count;
    u8 limit;
    IN_EVERY_STATE("keep-alive-idle-time", TCP(keep_alive_idle_time)(it, &time, &error), say(" %llu", time))
    IN_EVERY_STATE("set-keep-alive-idle-time 0", TCP(set_keep_alive_idle_time)(it, 0, &error), )
    static const u64 DURATIONS[] = {1, SECOND - 1, SECOND, 100 * SECOND + 1, 1ull << 45, ~0ull};
    for (unsigned d = 0; d < sizeof DURATIONS / sizeof *DURATIONS; d++) {
        IN_EVERY_STATE("set-keep-alive-idle-time", TCP(set_keep_alive_idle_time)(it, DURATIONS[d], &error),
                       if (TCP(keep_alive_idle_time)(it, &time, &ignored)) say(" then %llu", time))
        IN_EVERY_STATE("set-keep-alive-interval", TCP(set_keep_alive_interval)(it, DURATIONS[d], &error),
                       if (TCP(keep_alive_interval)(it, &time, &ignored)) say(" then %llu", time))
    }
    IN_EVERY_STATE("keep-alive-interval", TCP(keep_alive_interval)(it, &time, &error), say(" %llu", time))
    IN_EVERY_STATE("set-keep-alive-interval 0", TCP(set_keep_alive_interval)(it, 0, &error), )
    IN_EVERY_STATE("keep-alive-count", TCP(keep_alive_count)(it, &count, &error), say(" %u", count))
    static const u32 COUNTS[] = {0, 1, 127, 128, ~0u};
    for (unsigned c = 0; c < sizeof COUNTS / sizeof *COUNTS; c++)
        IN_EVERY_STATE("set-keep-alive-count", TCP(set_keep_alive_count)(it, COUNTS[c], &error),
                       if (TCP(keep_alive_count)(it, &count, &ignored)) say(" then %u", count))
    IN_EVERY_STATE("hop-limit", TCP(hop_limit)(it, &limit, &error), say(" %u", limit))
    static const u8 LIMITS[] = {0, 1, 255};
    for (unsigned l = 0; l < sizeof LIMITS; l++)
        IN_EVERY_STATE("set-hop-limit", TCP(set_hop_limit)(it, LIMITS[l], &error),
                       if (TCP(hop_limit)(it, &limit, &ignored)) say(" then %u", limit))
    IN_EVERY_STATE("receive-buffer-size", TCP(receive_buffer_size)(it, &size, &error), say(" %s", size ? "not 0" : "0"))
    IN_EVERY_STATE("send-buffer-size", TCP(send_buffer_size)(it, &size, &error), say(" %s", size ? "not 0" : "0"))
    static const u64 SIZES[] = {0, 1, 10000, 1ull << 31, ~0ull};
    for (unsigned s = 0; s < sizeof SIZES / sizeof *SIZES; s++) {
        IN_EVERY_STATE("set-receive-buffer-size", TCP(set_receive_buffer_size)(it, SIZES[s], &error),
                       if (TCP(receive_buffer_size)(it, &size, &ignored)) say(" then %s", size == SIZES[s] ? "as much" : size >= (SIZES[s] < 5000 ? SIZES[s] : 5000) ? "enough" : "LITTLE"))
        IN_EVERY_STATE("set-send-buffer-size", TCP(set_send_buffer_size)(it, SIZES[s], &error),
                       if (TCP(send_buffer_size)(it, &size, &ignored)) say(" then %s", size == SIZES[s] ? "as much" : size >= (SIZES[s] < 5000 ? SIZES[s] : 5000) ? "enough" : "LITTLE"))
    }
    for (u8 how = 0; how < 3; how++) IN_EVERY_STATE("shutdown", TCP(shutdown)(it, how, &error), )
    for (int state = 0; state < STATES; state++) {
        if (state == LISTENING || state == CONNECT_IN_PROGRESS) continue;
        tcp_socket socket = in_state(state);
        pollable ready = TCP(subscribe)(TCP_SOCKET(socket));
        wasi_io_poll_method_pollable_block(POLLABLE(ready));
        say("subscribe %s: %d\n", STATE[state], wasi_io_poll_method_pollable_ready(POLLABLE(ready)));
        wasi_io_poll_pollable_drop_own(ready);
        leave_state(state, socket);
    }
    // The options of a listener are those of what it accepts.
    tcp_socket it = must_make_tcp(IPV4);
    socket_error error;
    must_socket(bind_tcp(it, &any, &error), error, "bind");
    must_socket(TCP(set_hop_limit)(TCP_SOCKET(it), 42, &error), error, "set-hop-limit");
    must_socket(TCP(set_keep_alive_enabled)(TCP_SOCKET(it), true, &error), error, "set-keep-alive-enabled");
    must_socket(TCP(set_keep_alive_idle_time)(TCP_SOCKET(it), 60 * SECOND, &error), error, "set-keep-alive-idle-time");
    must_socket(TCP(set_keep_alive_interval)(TCP_SOCKET(it), 7 * SECOND, &error), error, "set-keep-alive-interval");
    must_socket(TCP(set_keep_alive_count)(TCP_SOCKET(it), 3, &error), error, "set-keep-alive-count");
    must_socket(listen_tcp(it, &error), error, "listen");
    must_socket(TCP(local_address)(TCP_SOCKET(it), &at, &error), error, "local-address");
    tcp_socket client = must_make_tcp(IPV4);
    connection near, far;
    must_socket(connect_tcp(client, &at, &near, &error), error, "connect");
    must_socket(accept_tcp(it, &far, &error), error, "accept");
    wasi_sockets_tcp_borrow_tcp_socket_t inherits = TCP_SOCKET(far.socket);
    must_socket(TCP(hop_limit)(inherits, &limit, &error), error, "hop-limit");
    must_socket(TCP(keep_alive_enabled)(inherits, &enabled, &error), error, "keep-alive-enabled");
    must_socket(TCP(keep_alive_count)(inherits, &count, &error), error, "keep-alive-count");
    say("accepted: hop-limit %u keep-alive-enabled %d count %u", limit, enabled, count);
    must_socket(TCP(keep_alive_idle_time)(inherits, &time, &error), error, "keep-alive-idle-time");
    say(" idle %llu", time);
    must_socket(TCP(keep_alive_interval)(inherits, &time, &error), error, "keep-alive-interval");
    say(" interval %llu\n", time);
    // A connected socket knows both addresses, from both ends.
    address near_local, near_remote, far_local, far_remote;
    must_socket(TCP(local_address)(TCP_SOCKET(near.socket), &near_local, &error), error, "local-address");
    must_socket(TCP(remote_address)(TCP_SOCKET(near.socket), &near_remote, &error), error, "remote-address");
    must_socket(TCP(local_address)(TCP_SOCKET(far.socket), &far_local, &error), error, "local-address");
    must_socket(TCP(remote_address)(TCP_SOCKET(far.socket), &far_remote, &error), error, "remote-address");
    say("both ends: %s\n", port_of(&near_local) == port_of(&far_remote) && port_of(&near_remote) == port_of(&far_local) ? "agree" : "DISAGREE");
    drop_connection(near);
    drop_connection(far);
    drop_tcp(it);
    drop_tcp(common_listener);
}

// ---- addresses

static void addresses(void) {
    static const u8 FAMILIES[] = {IPV4, IPV6};
    address LOCALS[] = LOCAL_ADDRESSES;
    for (int f = 0; f < 2; f++)
        for (unsigned i = 0; i < sizeof LOCALS / sizeof *LOCALS; i++) {
            socket_error error = 0;
            tcp_socket tcp = must_make_tcp(FAMILIES[f]);
            bool ok = bind_tcp(tcp, &LOCALS[i], &error);
            say("tcp bind, family %d, to", FAMILIES[f]);
            say_address(&LOCALS[i]);
            say(": %s\n", socket_result(ok, error));
            drop_tcp(tcp);
            udp_socket udp;
            must_socket(wasi_sockets_udp_create_socket_create_udp_socket(FAMILIES[f], &udp, &error), error, "create-udp-socket");
            ok = UDP(start_bind)(UDP_SOCKET(udp), NETWORK, &LOCALS[i], &error);
            if (ok) {
                pollable ready = UDP(subscribe)(UDP_SOCKET(udp));
                wasi_io_poll_method_pollable_block(POLLABLE(ready));
                wasi_io_poll_pollable_drop_own(ready);
                ok = UDP(finish_bind)(UDP_SOCKET(udp), &error);
            }
            say("udp bind, family %d, to", FAMILIES[f]);
            say_address(&LOCALS[i]);
            say(": %s\n", socket_result(ok, error));
            wasi_sockets_udp_udp_socket_drop_own(udp);
        }
    address REMOTES[] = REMOTE_ADDRESSES;
    for (int f = 0; f < 2; f++)
        for (unsigned i = 0; i < sizeof REMOTES / sizeof *REMOTES; i++) {
            // Of the right kind and yet impossible, or of the other family.
            socket_error error = 0;
            connection made;
            tcp_socket tcp = must_make_tcp(FAMILIES[f]);
            bool ok = connect_tcp(tcp, &REMOTES[i], &made, &error);
            say("tcp connect, family %d, to", FAMILIES[f]);
            say_address(&REMOTES[i]);
            say(": %s\n", socket_result(ok, error));
            if (ok) drop_streams(made);
            drop_tcp(tcp);
        }
    // An address that is taken cannot be bound again; a socket that failed can be bound elsewhere.
    address at, any = loopback(IPV4, 0);
    tcp_socket first = listener(IPV4, &at), second = must_make_tcp(IPV4);
    socket_error error = 0;
    bool ok = bind_tcp(second, &at, &error);
    say("bind to what is taken: %s\n", socket_result(ok, error));
    ok = bind_tcp(second, &any, &error);
    say("bind after that: %s\n", socket_result(ok, error));
    ok = bind_tcp(second, &any, &error);
    say("bind twice: %s\n", socket_result(ok, error));
    drop_tcp(first);
    drop_tcp(second);
    // The port of a listener that is gone can be taken at once.
    first = listener(IPV4, &at);
    connection near, far;
    tcp_socket client = must_make_tcp(IPV4);
    must_socket(connect_tcp(client, &at, &near, &error), error, "connect");
    must_socket(accept_tcp(first, &far, &error), error, "accept");
    drop_connection(far);
    drop_connection(near);
    drop_tcp(first);
    first = must_make_tcp(IPV4);
    ok = bind_tcp(first, &at, &error);
    say("bind to what was left: %s\n", socket_result(ok, error));
    drop_tcp(first);
    connection none;
    client = must_make_tcp(IPV4);
    ok = connect_tcp(client, &at, &none, &error);
    say("connect to nobody: %s\n", socket_result(ok, error));
    drop_tcp(client);
}

// ---- data

static void tcp_data(u8 family) {
    say("tcp data, family %d\n", family);
    address at;
    socket_error error;
    stream_error failed;
    command_list_u8_t bytes;
    u64 count;
    tcp_socket listening = listener(family, &at), client = must_make_tcp(family);
    connection near, far;
    must_socket(connect_tcp(client, &at, &near, &error), error, "connect");
    must_socket(accept_tcp(listening, &far, &error), error, "accept");
    wasi_io_streams_borrow_output_stream_t out = OUTPUT(near.output);
    wasi_io_streams_borrow_input_stream_t in = INPUT(far.input);
    say_stream("read of nothing yet", IN(read)(in, 10, &bytes, &failed), &failed);
    say(" %zu\n", bytes.len);
    say_stream("read 0", IN(read)(in, 0, &bytes, &failed), &failed);
    say(" %zu\n", bytes.len);
    pollable ready = IN(subscribe)(in);
    say("ready at once: %d\n", wasi_io_poll_method_pollable_ready(POLLABLE(ready)));
    command_list_u8_t hello = {(u8 *)"hello", 5};
    say_stream("blocking-write-and-flush", OUT(blocking_write_and_flush)(out, &hello, &failed), &failed);
    wasi_io_poll_method_pollable_block(POLLABLE(ready));
    say(" then ready: %d\n", wasi_io_poll_method_pollable_ready(POLLABLE(ready)));
    wasi_io_poll_pollable_drop_own(ready);
    if (say_stream("read 2", IN(read)(in, 2, &bytes, &failed), &failed)) say(" %.*s\n", (int)bytes.len, bytes.ptr);
    if (say_stream("blocking-skip 1", IN(blocking_skip)(in, 1, &count, &failed), &failed)) say(" %llu\n", count);
    if (say_stream("blocking-read 10", IN(blocking_read)(in, 10, &bytes, &failed), &failed)) say(" %.*s\n", (int)bytes.len, bytes.ptr);
    // Half a megabyte, more than the buffers of both ends hold: who writes waits, who reads makes room.
    static u8 large[500000];
    for (u32 i = 0; i < sizeof large; i++) large[i] = (u8)(i * 11 + i / 253);
    size_t sent = 0, received = 0;
    bool same = true, ended = false;
    pollable both[2] = {OUT(subscribe)(out), IN(subscribe)(in)};
    while (received < sizeof large && !ended) {
        wasi_io_poll_borrow_pollable_t borrowed[2] = {POLLABLE(both[0]), POLLABLE(both[1])};
        wasi_io_poll_list_borrow_pollable_t wait = {sent < sizeof large ? borrowed : borrowed + 1, sent < sizeof large ? 2 : 1};
        command_list_u32_t told;
        wasi_io_poll_poll(&wait, &told);
        command_list_u32_free(&told);
        if (sent < sizeof large) {
            must(OUT(check_write)(out, &count, &failed), "check-write");
            if (count > sizeof large - sent) count = sizeof large - sent;
            if (count) {
                command_list_u8_t piece = {large + sent, count};
                must(OUT(write)(out, &piece, &failed), "write");
                sent += count;
            }
        }
        if (IN(read)(in, 65536, &bytes, &failed)) {
            same = same && received + bytes.len <= sizeof large && !memcmp(bytes.ptr, large + received, bytes.len);
            received += bytes.len;
            command_list_u8_free(&bytes);
        } else {
            ended = true;
        }
    }
    say("500000 bytes: %zu sent %zu received %s\n", sent, received, same ? "same" : "OTHER");
    wasi_io_poll_pollable_drop_own(both[0]);
    wasi_io_poll_pollable_drop_own(both[1]);
    say_stream("blocking-flush", OUT(blocking_flush)(out, &failed), &failed);
    say("\n");
    // Shut down one way: the rest arrives, then the end; the other way still works.
    must(OUT(blocking_write_and_flush)(out, &hello, &failed), "blocking-write-and-flush");
    bool ok = TCP(shutdown)(TCP_SOCKET(near.socket), WASI_SOCKETS_TCP_SHUTDOWN_TYPE_SEND, &error);
    say("shutdown send: %s\n", socket_result(ok, error));
    ok = TCP(shutdown)(TCP_SOCKET(near.socket), WASI_SOCKETS_TCP_SHUTDOWN_TYPE_SEND, &error);
    say("shutdown send again: %s\n", socket_result(ok, error));
    say_stream("check-write after it", OUT(check_write)(out, &count, &failed), &failed);
    say("\n");
    say_stream("write after it", OUT(blocking_write_and_flush)(out, &hello, &failed), &failed);
    say("\n");
    if (say_stream("the rest", IN(blocking_read)(in, 10, &bytes, &failed), &failed)) say(" %.*s", (int)bytes.len, bytes.ptr);
    say("\n");
    say_stream("the end", IN(blocking_read)(in, 10, &bytes, &failed), &failed);
    say("\n");
    say_stream("the end again", IN(read)(in, 10, &bytes, &failed), &failed);
    say("\n");
    out = OUTPUT(far.output);
    in = INPUT(near.input);
    say_stream("the other way", OUT(blocking_write_and_flush)(out, &hello, &failed), &failed);
    if (IN(blocking_read)(in, 10, &bytes, &failed)) say(" %.*s", (int)bytes.len, bytes.ptr);
    say("\n");
    ok = TCP(shutdown)(TCP_SOCKET(near.socket), WASI_SOCKETS_TCP_SHUTDOWN_TYPE_RECEIVE, &error);
    say("shutdown receive: %s\n", socket_result(ok, error));
    say_stream("read after it", IN(blocking_read)(in, 10, &bytes, &failed), &failed);
    say("\n");
    drop_connection(near);
    // The end of the other side is seen.
    in = INPUT(far.input);
    ok = TCP(shutdown)(TCP_SOCKET(far.socket), WASI_SOCKETS_TCP_SHUTDOWN_TYPE_BOTH, &error);
    say("shutdown both after the end: %s\n", ok || error == WASI_SOCKETS_NETWORK_ERROR_CODE_INVALID_STATE ? "ok or invalid-state" : socket_result(ok, error));
    drop_connection(far);

    // Streams of a connection that is dropped at the other end: reads end.
    client = must_make_tcp(family);
    must_socket(connect_tcp(client, &at, &near, &error), error, "connect");
    must_socket(accept_tcp(listening, &far, &error), error, "accept");
    drop_connection(near);
    say_stream("read after the other end is gone", IN(blocking_read)(INPUT(far.input), 10, &bytes, &failed), &failed);
    say("\n");
    // Splice what comes in to what goes out again.
    drop_connection(far);
    client = must_make_tcp(family);
    must_socket(connect_tcp(client, &at, &near, &error), error, "connect");
    must_socket(accept_tcp(listening, &far, &error), error, "accept");
    must(OUT(blocking_write_and_flush)(OUTPUT(near.output), &hello, &failed), "blocking-write-and-flush");
    if (say_stream("blocking-splice", OUT(blocking_splice)(OUTPUT(far.output), INPUT(far.input), 100, &count, &failed), &failed)) say(" %llu", count);
    say("\n");
    if (say_stream("echo", IN(blocking_read)(INPUT(near.input), 10, &bytes, &failed), &failed)) say(" %.*s", (int)bytes.len, bytes.ptr);
    say("\n");
    must(OUT(blocking_write_zeroes_and_flush)(OUTPUT(near.output), 3, &failed), "blocking-write-zeroes-and-flush");
    if (say_stream("zeroes", IN(blocking_read)(INPUT(far.input), 10, &bytes, &failed), &failed)) say(" %zu %d", bytes.len, bytes.ptr[0]);
    say("\n");
    drop_connection(near);
    drop_connection(far);
    drop_tcp(listening);
}

// ---- datagrams

typedef struct {
    wasi_sockets_udp_own_incoming_datagram_stream_t input;
    wasi_sockets_udp_own_outgoing_datagram_stream_t output;
} datagrams;

#define DATAGRAMS_IN(function) wasi_sockets_udp_method_incoming_datagram_stream_##function
#define DATAGRAMS_OUT(function) wasi_sockets_udp_method_outgoing_datagram_stream_##function
#define DATAGRAM_INPUT(it) wasi_sockets_udp_borrow_incoming_datagram_stream(it)
#define DATAGRAM_OUTPUT(it) wasi_sockets_udp_borrow_outgoing_datagram_stream(it)

static udp_socket must_bind_udp(u8 family, address *at) {
    udp_socket it;
    socket_error error;
    address any = loopback(family, 0);
    must_socket(wasi_sockets_udp_create_socket_create_udp_socket(family, &it, &error), error, "create-udp-socket");
    must_socket(UDP(start_bind)(UDP_SOCKET(it), NETWORK, &any, &error), error, "start-bind");
    pollable ready = UDP(subscribe)(UDP_SOCKET(it));
    wasi_io_poll_method_pollable_block(POLLABLE(ready));
    wasi_io_poll_pollable_drop_own(ready);
    must_socket(UDP(finish_bind)(UDP_SOCKET(it), &error), error, "finish-bind");
    must_socket(UDP(local_address)(UDP_SOCKET(it), at, &error), error, "local-address");
    return it;
}

static bool udp_stream(udp_socket it, address *peer, datagrams *made, socket_error *error) {
    wasi_sockets_udp_tuple2_own_incoming_datagram_stream_own_outgoing_datagram_stream_t streams;
    bool ok = UDP(stream)(UDP_SOCKET(it), peer, &streams, error);
    if (ok) *made = (datagrams){streams.f0, streams.f1};
    return ok;
}

static void drop_datagrams(datagrams it) {
    wasi_sockets_udp_incoming_datagram_stream_drop_own(it.input);
    wasi_sockets_udp_outgoing_datagram_stream_drop_own(it.output);
}

static bool send(datagrams from, const void *data, size_t length, address *to, u64 *sent, socket_error *error) {
    u64 permitted;
    if (!DATAGRAMS_OUT(check_send)(DATAGRAM_OUTPUT(from.output), &permitted, error)) return false;
    must(permitted > 0, "check-send");
    wasi_sockets_udp_outgoing_datagram_t datagram = {.data = {(u8 *)data, length}, .remote_address = {.is_some = to}};
    if (to) datagram.remote_address.val = *to;
    wasi_sockets_udp_list_outgoing_datagram_t list = {&datagram, 1};
    return DATAGRAMS_OUT(send)(DATAGRAM_OUTPUT(from.output), &list, sent, error);
}

// Waits for a datagram and says it.
// Receives so many datagrams, in as many calls as it takes: not all need be there at once.
static void receive(const char *title, datagrams to, u64 count, const address *from) {
    say("%s:", title);
    while (count > 0) {
        pollable ready = DATAGRAMS_IN(subscribe)(DATAGRAM_INPUT(to.input));
        wasi_io_poll_method_pollable_block(POLLABLE(ready));
        wasi_io_poll_pollable_drop_own(ready);
        wasi_sockets_udp_list_incoming_datagram_t list;
        socket_error error;
        if (!DATAGRAMS_IN(receive)(DATAGRAM_INPUT(to.input), count, &list, &error)) {
            say(" %s", socket_result(false, error));
            break;
        }
        if (list.len > count) {
            say(" TOO MANY");
            break;
        }
        for (size_t i = 0; i < list.len; i++) {
            say(" ");
            say_text((text){(char *)list.ptr[i].data.ptr, list.ptr[i].data.len});
            say(" from %s", port_of(&list.ptr[i].remote_address) == port_of(from) ? "the sender" : "ANOTHER");
            say_address(&list.ptr[i].remote_address);
        }
        count -= list.len;
        wasi_sockets_udp_list_incoming_datagram_free(&list);
    }
    say("\n");
}

static void say_send(const char *title, datagrams from, const void *data, size_t length, address *to) {
    u64 sent = 0;
    socket_error error = 0;
    bool ok = send(from, data, length, to, &sent, &error);
    say("%s: %s", title, socket_result(ok, error));
    if (ok) say(" %llu", sent);
    say("\n");
}

// Wasmtime frees a socket for a new peer a moment after its streams are gone, and ends the program before.
static void rest(void) {
    pollable later = wasi_clocks_monotonic_clock_subscribe_duration(50 * 1000 * 1000);
    wasi_io_poll_method_pollable_block(POLLABLE(later));
    wasi_io_poll_pollable_drop_own(later);
}

static void udp_data(u8 family) {
    say("udp data, family %d\n", family);
    address one_at, two_at, three_at;
    socket_error error = 0;
    udp_socket one = must_bind_udp(family, &one_at), two = must_bind_udp(family, &two_at), three = must_bind_udp(family, &three_at);
    datagrams a, b, c;
    must_socket(udp_stream(one, NULL, &a, &error), error, "stream");
    must_socket(udp_stream(two, &one_at, &b, &error), error, "stream");
    must_socket(udp_stream(three, NULL, &c, &error), error, "stream");
    address peer;
    bool ok = UDP(remote_address)(UDP_SOCKET(one), &peer, &error);
    say("remote-address without a peer: %s\n", socket_result(ok, error));
    ok = UDP(remote_address)(UDP_SOCKET(two), &peer, &error);
    say("remote-address with one: %s", socket_result(ok, error));
    if (ok) say_address(&peer);
    say("\n");
    wasi_sockets_udp_list_incoming_datagram_t list;
    ok = DATAGRAMS_IN(receive)(DATAGRAM_INPUT(a.input), 5, &list, &error);
    say("receive of nothing yet: %s %zu\n", socket_result(ok, error), ok ? list.len : 0);
    pollable ready = DATAGRAMS_IN(subscribe)(DATAGRAM_INPUT(a.input));
    say("ready at once: %d\n", wasi_io_poll_method_pollable_ready(POLLABLE(ready)));
    wasi_io_poll_pollable_drop_own(ready);
    ready = DATAGRAMS_OUT(subscribe)(DATAGRAM_OUTPUT(a.output));
    wasi_io_poll_method_pollable_block(POLLABLE(ready));
    say("ready to send: %d\n", wasi_io_poll_method_pollable_ready(POLLABLE(ready)));
    wasi_io_poll_pollable_drop_own(ready);
    say_send("send to an address", a, "to two", 6, &two_at);
    receive("receive", b, 1, &one_at);
    say_send("send to the peer", b, "to one", 6, NULL);
    receive("receive", a, 1, &two_at);
    say_send("send to the peer by address", b, "to one again", 12, &one_at);
    receive("receive", a, 1, &two_at);
    say_send("send to another than the peer", b, "x", 1, &three_at);
    say_send("send without a peer or an address", a, "x", 1, NULL);
    say_send("send nothing", a, "", 0, &two_at);
    receive("receive nothing", b, 1, &one_at);
    static u8 large[65536];
    memset(large, 'x', sizeof large);
    say_send("send 60000 bytes", a, large, 60000, &two_at);
    receive("receive", b, 1, &one_at);
    say_send("send 65507 bytes", a, large, family == IPV4 ? 65507 : 65487, &two_at);
    receive("receive", b, 1, &one_at);
    say_send("send 65528 bytes", a, large, 65528, &two_at);
    say_send("send 65536 bytes", a, large, 65536, &two_at);
    address wrong = loopback(!family, 9);
    say_send("send to the other family", a, "x", 1, &wrong);
    wrong = loopback(family, 0);
    say_send("send to port 0", a, "x", 1, &wrong);
    wrong = family == IPV4 ? ipv4(0, 0, 0, 0, 9) : ipv6(0, 0, 0, 0, 9);
    say_send("send to no address", a, "x", 1, &wrong);
    // A socket with one peer does not hear others.
    say_send("send from a third", c, "from three", 10, &two_at);
    say_send("send from the peer", a, "from one", 8, &two_at);
    receive("receive", b, 1, &one_at);
    // At most so many at once, in the order they were sent; none when none are asked for.
    for (int i = 0; i < 5; i++) {
        u64 sent;
        must(send(a, &"12345"[i], 1, &three_at, &sent, &error), "send");
    }
    ok = DATAGRAMS_IN(receive)(DATAGRAM_INPUT(c.input), 0, &list, &error);
    say("receive 0: %s %zu\n", socket_result(ok, error), ok ? list.len : 0);
    receive("receive 2", c, 2, &one_at);
    receive("receive 3", c, 3, &one_at);
    // Several in one call, and none.
    u64 permitted, sent = 99;
    must_socket(DATAGRAMS_OUT(check_send)(DATAGRAM_OUTPUT(a.output), &permitted, &error), error, "check-send");
    say("check-send: %s\n", permitted >= 3 ? "3 or more" : "LITTLE");
    wasi_sockets_udp_outgoing_datagram_t several[3];
    for (int i = 0; i < 3; i++)
        several[i] = (wasi_sockets_udp_outgoing_datagram_t){{(u8 *)&"abc"[i], 1}, {true, three_at}};
    wasi_sockets_udp_list_outgoing_datagram_t all = {several, 3}, nothing = {several, 0};
    ok = DATAGRAMS_OUT(send)(DATAGRAM_OUTPUT(a.output), &all, &sent, &error);
    say("send 3: %s %llu\n", socket_result(ok, error), sent);
    receive("receive", c, 3, &one_at);
    must_socket(DATAGRAMS_OUT(check_send)(DATAGRAM_OUTPUT(a.output), &permitted, &error), error, "check-send");
    ok = DATAGRAMS_OUT(send)(DATAGRAM_OUTPUT(a.output), &nothing, &sent, &error);
    say("send none: %s %llu\n", socket_result(ok, error), sent);
    // A new peer.
    drop_datagrams(b);
    rest();
    ok = udp_stream(two, &three_at, &b, &error);
    say("stream with another peer: %s\n", socket_result(ok, error));
    say_send("send to it", b, "to three", 8, NULL);
    receive("receive", c, 1, &two_at);
    drop_datagrams(b);
    rest();
    ok = udp_stream(two, NULL, &b, &error);
    say("stream without a peer: %s\n", socket_result(ok, error));
    ok = UDP(remote_address)(UDP_SOCKET(two), &peer, &error);
    say("remote-address: %s\n", socket_result(ok, error));
    say_send("send to an address", b, "to one", 6, &one_at);
    receive("receive", a, 1, &two_at);
    drop_datagrams(a);
    drop_datagrams(b);
    drop_datagrams(c);
    wasi_sockets_udp_udp_socket_drop_own(one);
    wasi_sockets_udp_udp_socket_drop_own(two);
    wasi_sockets_udp_udp_socket_drop_own(three);
}

static void udp_states(void) {
    for (int bound = 0; bound < 2; bound++) {
        say("udp %s\n", bound ? "bound" : "unbound");
        udp_socket socket;
        socket_error error = 0;
        address at, any = loopback(IPV4, 0);
        bool ok;
        u64 size;
        u8 limit;
        if (bound) socket = must_bind_udp(IPV4, &at);
        else must_socket(wasi_sockets_udp_create_socket_create_udp_socket(IPV4, &socket, &error), error, "create-udp-socket");
        wasi_sockets_udp_borrow_udp_socket_t it = UDP_SOCKET(socket);
#define UDP_SAY(title, call, more)                       \
    ok = (call);                                         \
    say("%s: %s", title, socket_result(ok, error));      \
    if (ok) { more; }                                    \
    say("\n")
        UDP_SAY("finish-bind", UDP(finish_bind)(it, &error), );
        UDP_SAY("local-address", UDP(local_address)(it, &at, &error), say_address(&at));
        UDP_SAY("remote-address", UDP(remote_address)(it, &at, &error), say_address(&at));
        say("address-family: %d\n", UDP(address_family)(it));
        UDP_SAY("unicast-hop-limit", UDP(unicast_hop_limit)(it, &limit, &error), say(" %u", limit));
        static const u8 LIMITS[] = {0, 1, 255};
        for (unsigned l = 0; l < sizeof LIMITS; l++) {
            UDP_SAY("set-unicast-hop-limit", UDP(set_unicast_hop_limit)(it, LIMITS[l], &error), );
            UDP_SAY("unicast-hop-limit", UDP(unicast_hop_limit)(it, &limit, &error), say(" %u", limit));
        }
        UDP_SAY("receive-buffer-size", UDP(receive_buffer_size)(it, &size, &error), say(" %s", size ? "not 0" : "0"));
        UDP_SAY("send-buffer-size", UDP(send_buffer_size)(it, &size, &error), say(" %s", size ? "not 0" : "0"));
        static const u64 SIZES[] = {0, 1, 10000, 1ull << 31, ~0ull};
        for (unsigned s = 0; s < sizeof SIZES / sizeof *SIZES; s++) {
            UDP_SAY("set-receive-buffer-size", UDP(set_receive_buffer_size)(it, SIZES[s], &error), );
            UDP_SAY("receive-buffer-size", UDP(receive_buffer_size)(it, &size, &error), say(" %s", size == SIZES[s] ? "as much" : size ? "not 0" : "0"));
            UDP_SAY("set-send-buffer-size", UDP(set_send_buffer_size)(it, SIZES[s], &error), );
            UDP_SAY("send-buffer-size", UDP(send_buffer_size)(it, &size, &error), say(" %s", size == SIZES[s] ? "as much" : size ? "not 0" : "0"));
        }
        datagrams streams;
        address wrong[] = {loopback(IPV6, 9), loopback(IPV4, 0), ipv4(0, 0, 0, 0, 9)};
        for (int w = 0; w < 3; w++) {
            UDP_SAY("stream to an impossible address", udp_stream(socket, &wrong[w], &streams, &error), drop_datagrams(streams));
        }
        UDP_SAY("stream", udp_stream(socket, NULL, &streams, &error), drop_datagrams(streams));
        UDP_SAY("start-bind", UDP(start_bind)(it, NETWORK, &any, &error), );
        UDP_SAY("start-bind again", UDP(start_bind)(it, NETWORK, &any, &error), );
        wasi_sockets_udp_udp_socket_drop_own(socket);
    }
    address at;
    udp_socket taken = must_bind_udp(IPV4, &at), second;
    socket_error error;
    must_socket(wasi_sockets_udp_create_socket_create_udp_socket(IPV4, &second, &error), error, "create-udp-socket");
    bool ok = UDP(start_bind)(UDP_SOCKET(second), NETWORK, &at, &error);
    if (ok) {
        pollable ready = UDP(subscribe)(UDP_SOCKET(second));
        wasi_io_poll_method_pollable_block(POLLABLE(ready));
        wasi_io_poll_pollable_drop_own(ready);
        ok = UDP(finish_bind)(UDP_SOCKET(second), &error);
    }
    say("udp bind to what is taken: %s\n", socket_result(ok, error));
    wasi_sockets_udp_udp_socket_drop_own(taken);
    wasi_sockets_udp_udp_socket_drop_own(second);
}

// ---- names

static void names(void) {
    // Names that would be asked of somebody else are not here: what he would say is not ours to know.
    static const char *const NAMES[] = {"127.0.0.1", "::1", "2001:db8::1", "::ffff:127.0.0.1", "0.0.0.0", "localhost",
                                        "", "a b", "a/b", "a:b", "[::1]", "127.0.0.1:80"};
    for (unsigned i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        command_string_t name = wit(text_of(NAMES[i]));
        wasi_sockets_ip_name_lookup_own_resolve_address_stream_t stream;
        socket_error error;
        bool ok = wasi_sockets_ip_name_lookup_resolve_addresses(NETWORK, &name, &stream, &error);
        say("resolve-addresses ");
        say_text(text_of(NAMES[i]));
        say(": %s", socket_result(ok, error));
        if (!ok) {
            say("\n");
            continue;
        }
        wasi_sockets_ip_name_lookup_borrow_resolve_address_stream_t it = wasi_sockets_ip_name_lookup_borrow_resolve_address_stream(stream);
        pollable ready = wasi_sockets_ip_name_lookup_method_resolve_address_stream_subscribe(it);
        wasi_io_poll_method_pollable_block(POLLABLE(ready));
        wasi_io_poll_pollable_drop_own(ready);
        listing_length = 0;
        for (;;) {
            wasi_sockets_ip_name_lookup_option_ip_address_t found;
            ok = wasi_sockets_ip_name_lookup_method_resolve_address_stream_resolve_next_address(it, &found, &error);
            if (!ok) say(" %s", SOCKET_ERROR[error]);
            if (!ok || !found.is_some) break;
            char told[60];
            if (found.val.tag == IPV4) {
                wasi_sockets_network_ipv4_address_t ip = found.val.val.ipv4;
                snprintf(told, sizeof told, "%u.%u.%u.%u", ip.f0, ip.f1, ip.f2, ip.f3);
            } else {
                wasi_sockets_network_ipv6_address_t ip = found.val.val.ipv6;
                snprintf(told, sizeof told, "%x:%x:%x:%x:%x:%x:%x:%x", ip.f0, ip.f1, ip.f2, ip.f3, ip.f4, ip.f5, ip.f6, ip.f7);
            }
            listing_add(text_of(told), "");
        }
        say_listing();
        say("\n");
        wasi_sockets_ip_name_lookup_resolve_address_stream_drop_own(stream);
    }
}

static void sockets(void) {
    network = wasi_sockets_instance_network_instance_network();
    tcp_states();
    addresses();
    tcp_data(IPV4);
    tcp_data(IPV6);
    udp_states();
    udp_data(IPV4);
    udp_data(IPV6);
    names();
    wasi_sockets_network_network_drop_own(network);
}

// Without a grant nothing of it works.
static void no_network(void) {
    network = wasi_sockets_instance_network_instance_network();
    for (u8 family = 0; family < 2; family++) {
        tcp_socket tcp;
        udp_socket udp;
        socket_error error = 0;
        address any = loopback(family, 0), remote = loopback(family, 9);
        connection made;
        bool ok = make_tcp(family, &tcp, &error);
        say("create-tcp-socket %u: %s\n", family, socket_result(ok, error));
        if (ok) {
            ok = bind_tcp(tcp, &any, &error);
            say("bind: %s\n", socket_result(ok, error));
            ok = connect_tcp(tcp, &remote, &made, &error);
            say("connect: %s\n", socket_result(ok, error));
            drop_tcp(tcp);
        }
        ok = wasi_sockets_udp_create_socket_create_udp_socket(family, &udp, &error);
        say("create-udp-socket %u: %s\n", family, socket_result(ok, error));
        if (ok) {
            ok = UDP(start_bind)(UDP_SOCKET(udp), NETWORK, &any, &error);
            if (ok) ok = UDP(finish_bind)(UDP_SOCKET(udp), &error);
            say("bind: %s\n", socket_result(ok, error));
            wasi_sockets_udp_udp_socket_drop_own(udp);
        }
    }
    static const char *const NAMES[] = {"127.0.0.1", "localhost"};
    for (int i = 0; i < 2; i++) {
        command_string_t name = wit(text_of(NAMES[i]));
        wasi_sockets_ip_name_lookup_own_resolve_address_stream_t stream;
        socket_error error = 0;
        bool ok = wasi_sockets_ip_name_lookup_resolve_addresses(NETWORK, &name, &stream, &error);
        say("resolve-addresses %s: %s\n", NAMES[i], socket_result(ok, error));
        if (ok) wasi_sockets_ip_name_lookup_resolve_address_stream_drop_own(stream);
    }
    wasi_sockets_network_network_drop_own(network);
}

// ---- single places of the network, each with what became of it: see reach.h

static const char *reach_tcp(address to, bool listens) {
    tcp_socket it = must_make_tcp(to.tag);
    connection made;
    socket_error error = 0;
    bool ok = listens ? bind_tcp(it, &to, &error) && listen_tcp(it, &error) : connect_tcp(it, &to, &made, &error);
    if (ok && !listens) drop_streams(made);
    drop_tcp(it);
    return socket_result(ok, error);
}

static const char *reach_udp(address to) {
    address own;
    udp_socket it = must_bind_udp(to.tag, &own);
    datagrams made;
    u64 sent;
    socket_error error = 0;
    bool ok = udp_stream(it, NULL, &made, &error);
    if (ok) {
        ok = send(made, "x", 1, &to, &sent, &error);
        drop_datagrams(made);
    }
    wasi_sockets_udp_udp_socket_drop_own(it);
    return socket_result(ok, error);
}

static const char *listen_udp(address at) {
    udp_socket it;
    socket_error error = 0;
    bool ok = wasi_sockets_udp_create_socket_create_udp_socket(at.tag, &it, &error);
    if (!ok) return socket_result(ok, error);
    ok = UDP(start_bind)(UDP_SOCKET(it), NETWORK, &at, &error);
    if (ok) {
        pollable ready = UDP(subscribe)(UDP_SOCKET(it));
        wasi_io_poll_method_pollable_block(POLLABLE(ready));
        wasi_io_poll_pollable_drop_own(ready);
        ok = UDP(finish_bind)(UDP_SOCKET(it), &error);
    }
    wasi_sockets_udp_udp_socket_drop_own(it);
    return socket_result(ok, error);
}

static const char *look_up_name(const char *text) {
    command_string_t name = wit(text_of(text));
    wasi_sockets_ip_name_lookup_own_resolve_address_stream_t stream;
    socket_error error = 0;
    if (!wasi_sockets_ip_name_lookup_resolve_addresses(NETWORK, &name, &stream, &error)) return socket_result(false, error);
    wasi_sockets_ip_name_lookup_borrow_resolve_address_stream_t it = wasi_sockets_ip_name_lookup_borrow_resolve_address_stream(stream);
    pollable ready = wasi_sockets_ip_name_lookup_method_resolve_address_stream_subscribe(it);
    wasi_io_poll_method_pollable_block(POLLABLE(ready));
    wasi_io_poll_pollable_drop_own(ready);
    wasi_sockets_ip_name_lookup_option_ip_address_t found;
    bool ok = wasi_sockets_ip_name_lookup_method_resolve_address_stream_resolve_next_address(it, &found, &error);
    wasi_sockets_ip_name_lookup_resolve_address_stream_drop_own(stream);
    return socket_result(ok, error);
}
