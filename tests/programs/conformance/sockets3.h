// SPDX-License-Identifier: Apache-2.0

// The network of WASI 0.3, within the program itself: what it listens for, it connects to. Part of preview3.c.
//
// Sockets are made in every state, and every function is called in every state.
#pragma once

typedef wasi_sockets_types_own_tcp_socket_t tcp_socket;
typedef wasi_sockets_types_own_udp_socket_t udp_socket;
typedef wasi_sockets_types_ip_socket_address_t address;
typedef wasi_sockets_types_error_code_t socket_error;
typedef wasi_sockets_types_stream_own_tcp_socket_t accepted;
typedef wasi_sockets_types_tuple2_stream_u8_future_result_void_error_code_t received;

#define TCP(function) wasi_sockets_types_method_tcp_socket_##function
#define UDP(function) wasi_sockets_types_method_udp_socket_##function
#define TCP_SOCKET(it) wasi_sockets_types_borrow_tcp_socket(it)
#define UDP_SOCKET(it) wasi_sockets_types_borrow_udp_socket(it)
#define IPV4 WASI_SOCKETS_TYPES_IP_ADDRESS_FAMILY_IPV4
#define IPV6 WASI_SOCKETS_TYPES_IP_ADDRESS_FAMILY_IPV6

static const char *const SOCKET_ERROR[] = {
    "access-denied", "not-supported", "invalid-argument", "out-of-memory", "timeout", "invalid-state", "address-not-bindable",
    "address-in-use", "remote-unreachable", "connection-refused", "connection-broken", "connection-reset",
    "connection-aborted", "datagram-too-large", "other",
};
static const char *const NAME_ERROR[] = {
    "access-denied", "invalid-argument", "name-unresolvable", "temporary-resolver-failure", "permanent-resolver-failure", "other",
};

static const char *socket_result(bool ok, socket_error error) { return ok ? "ok" : SOCKET_ERROR[error.tag]; }

static void must_socket(bool ok, socket_error error, const char *what) {
    if (!ok) fail(what, SOCKET_ERROR[error.tag]);
}

typedef wasi_sockets_types_ipv4_address_t ipv4_address;
typedef wasi_sockets_types_ipv6_address_t ipv6_address;
#define ADDRESS_IPV4 WASI_SOCKETS_TYPES_IP_SOCKET_ADDRESS_IPV4
#define ADDRESS_IPV6 WASI_SOCKETS_TYPES_IP_SOCKET_ADDRESS_IPV6
#include "addresses.h"

// ---- calls that go on while the program does something else

typedef struct {
    wasi_sockets_types_borrow_tcp_socket_t self;
    address to;
} connect_parameters;
typedef wasi_sockets_types_result_void_error_code_t connect_result;
typedef wasi_sockets_types_result_tuple2_list_u8_ip_socket_address_error_code_t receive_result;

__attribute__((__import_module__("wasi:sockets/types@0.3.0"), __import_name__("[async-lower][method]tcp-socket.connect")))
u32 start_connect(const connect_parameters *parameters, connect_result *result);
__attribute__((__import_module__("wasi:sockets/types@0.3.0"), __import_name__("[async-lower][method]udp-socket.receive")))
u32 start_receive(wasi_sockets_types_borrow_udp_socket_t self, receive_result *result);

// Gives a call up that is not over.
static void give_up(u32 status, const char *what) {
    must(COMMAND_SUBTASK_STATE(status) == COMMAND_SUBTASK_STARTED, what);
    u32 subtask = COMMAND_SUBTASK_HANDLE(status);
    must(command_subtask_cancel(subtask) == COMMAND_SUBTASK_RETURNED_CANCELLED, what);
    command_subtask_drop(subtask);
}

// Waits for the end of a call.
static void await_call(u32 status, const char *what) {
    if (COMMAND_SUBTASK_STATE(status) == COMMAND_SUBTASK_RETURNED) return;
    u32 subtask = COMMAND_SUBTASK_HANDLE(status);
    command_waitable_set_t set = command_waitable_set_new();
    command_waitable_join(subtask, set);
    command_event_t event;
    do command_waitable_set_wait(set, &event);
    while (event.code != COMMAND_SUBTASK_RETURNED);
    must(event.waitable == subtask, what);
    command_waitable_join(subtask, 0);
    command_waitable_set_drop(set);
    command_subtask_drop(subtask);
}

// ---- connections

static void drop_tcp(tcp_socket it) { wasi_sockets_types_tcp_socket_drop_own(it); }

static bool make_tcp(u8 family, tcp_socket *it, socket_error *error) {
    return wasi_sockets_types_static_tcp_socket_create(family, it, error);
}

static tcp_socket must_make_tcp(u8 family) {
    tcp_socket it;
    socket_error error;
    must_socket(make_tcp(family, &it, &error), error, "tcp-socket.create");
    return it;
}

static bool connect_tcp(tcp_socket it, address *to, socket_error *error) { return TCP(connect)(TCP_SOCKET(it), to, error); }

// A socket that listens, the connections that it is given, and its address.
static tcp_socket listener(u8 family, accepted *connections, address *at) {
    tcp_socket it = must_make_tcp(family);
    socket_error error;
    address local = loopback(family, 0);
    must_socket(TCP(bind)(TCP_SOCKET(it), &local, &error), error, "bind");
    must_socket(TCP(listen)(TCP_SOCKET(it), connections, &error), error, "listen");
    must_socket(TCP(get_local_address)(TCP_SOCKET(it), at, &error), error, "get-local-address");
    return it;
}

static tcp_socket accept_tcp(accepted from) {
    tcp_socket it;
    u32 status = done(from, wasi_sockets_types_stream_own_tcp_socket_read(from, &it, 1));
    must(COMMAND_WAITABLE_COUNT(status) == 1, "a connection");
    return it;
}

static void drop_listener(tcp_socket it, accepted connections) {
    wasi_sockets_types_stream_own_tcp_socket_drop_readable(connections);
    drop_tcp(it);
}

// Both ends of a connection.
typedef struct {
    tcp_socket near, far;
} both_ends;

static both_ends connected(accepted from, address *at) {
    both_ends it = {.near = must_make_tcp(at->tag)};
    socket_error error;
    must_socket(connect_tcp(it.near, at, &error), error, "connect");
    it.far = accept_tcp(from);
    return it;
}

static void drop_ends(both_ends it) {
    drop_tcp(it.near);
    drop_tcp(it.far);
}

// Starts to send; the stream is written by the program.
static u32 start_send(tcp_socket it, writer *to) {
    stream from = wasi_cli_stdin_stream_u8_new(to);
    return TCP(send)(TCP_SOCKET(it), from);
}

static received receive_tcp(tcp_socket it) {
    received all;
    TCP(receive)(TCP_SOCKET(it), &all);
    return all;
}

// How sending or receiving ended.
static const char *tcp_outcome(u32 future) {
    wasi_sockets_types_result_void_error_code_t result;
    u32 status = done(future, wasi_sockets_types_future_result_void_error_code_read(future, &result));
    must(COMMAND_WAITABLE_STATE(status) == COMMAND_WAITABLE_COMPLETED, "a future");
    wasi_sockets_types_future_result_void_error_code_drop_readable(future);
    return socket_result(!result.is_err, result.val.err);
}

static void drop_outcome(u32 future) { wasi_sockets_types_future_result_void_error_code_drop_readable(future); }
static void drop_input(received it) {
    wasi_cli_stdin_stream_u8_drop_readable(it.f0);
    drop_outcome(it.f1);
}

static void must_send(writer to, const char *text) {
    must(write_all(to, (const u8 *)text, strlen(text)) == strlen(text), "to send");
}

// Says what one read gives.
static void say_read(const char *title, stream from, size_t most) {
    u8 bytes[100];
    size_t count;
    bool more = read_some(from, bytes, most, &count);
    say("%s: ", title);
    say_text((text){(char *)bytes, count});
    say("%s\n", more ? "" : " the end");
}

// Sends and receives nothing, and says how that ended.
static void say_directions(wasi_sockets_types_borrow_tcp_socket_t it) {
    writer to;
    u32 sent = TCP(send)(it, wasi_cli_stdin_stream_u8_new(&to));
    wasi_cli_stdin_stream_u8_drop_writable(to);
    received all;
    TCP(receive)(it, &all);
    wasi_cli_stdin_stream_u8_drop_readable(all.f0);
    say(" %s", tcp_outcome(sent));
    say(" %s", tcp_outcome(all.f1));
}

// ---- every state

enum { UNBOUND, BOUND, LISTENING, CONNECTING, GIVEN_UP, CONNECTED, ACCEPTED, FAILED, STATES };
static const char *const STATE[] = {"unbound", "bound", "listening", "connecting", "given-up", "connected", "accepted", "failed"};

static tcp_socket common_listener;
static accepted common_connections;
static address common_address, refused_address, full_address;

// Further needs of a socket in a state; dropped with it.
static tcp_socket other_end;
static accepted own_connections;
static u32 attempt;
static connect_result attempt_result;

static tcp_socket in_state(int state) {
    tcp_socket it;
    socket_error error;
    address any = loopback(IPV4, 0);
    if (state == CONNECTED || state == ACCEPTED) {
        both_ends ends = connected(common_connections, &common_address);
        it = state == CONNECTED ? ends.near : ends.far;
        other_end = state == CONNECTED ? ends.far : ends.near;
        return it;
    }
    it = must_make_tcp(IPV4);
    if (state == BOUND || state == LISTENING) must_socket(TCP(bind)(TCP_SOCKET(it), &any, &error), error, "bind");
    if (state == LISTENING) must_socket(TCP(listen)(TCP_SOCKET(it), &own_connections, &error), error, "listen");
    if (state == CONNECTING || state == GIVEN_UP) {
        connect_parameters parameters = {TCP_SOCKET(it), full_address};
        attempt = start_connect(&parameters, &attempt_result);
        must(COMMAND_SUBTASK_STATE(attempt) == COMMAND_SUBTASK_STARTED, "to wait for a connection");
    }
    if (state == GIVEN_UP) give_up(attempt, "to give a connection up");
    if (state == FAILED && connect_tcp(it, &refused_address, &error)) fail("connect to nobody", "succeeds");
    return it;
}

static void leave_state(int state, tcp_socket it) {
    if (state == CONNECTING) give_up(attempt, "to give a connection up");
    if (state == LISTENING) wasi_sockets_types_stream_own_tcp_socket_drop_readable(own_connections);
    if (state == CONNECTED || state == ACCEPTED) drop_tcp(other_end);
    drop_tcp(it);
}

#define IN_EVERY_STATE(title, call, more)                                \
    for (int state = 0; state < STATES; state++) {                       \
        tcp_socket socket = in_state(state);                             \
        wasi_sockets_types_borrow_tcp_socket_t it = TCP_SOCKET(socket);  \
        socket_error error = {0};                                        \
        bool ok = (call);                                                \
        say("%s %s: %s", title, STATE[state], socket_result(ok, error)); \
        if (ok) { more; }                                                \
        say("\n");                                                       \
        leave_state(state, socket);                                      \
    }

static void tcp_states(void) {
    socket_error ignored, error;
    common_listener = listener(IPV4, &common_connections, &common_address);
    // An address where nobody listens: it was bound, and is no longer.
    accepted connections;
    tcp_socket gone = listener(IPV4, &connections, &refused_address);
    drop_listener(gone, connections);
    // A listener whose queue is full: a connection to it is neither made nor refused.
    tcp_socket full = must_make_tcp(IPV4), waiting[2];
    address any = loopback(IPV4, 0), at;
    must_socket(TCP(set_listen_backlog_size)(TCP_SOCKET(full), 1, &error), error, "set-listen-backlog-size");
    must_socket(TCP(bind)(TCP_SOCKET(full), &any, &error), error, "bind");
    must_socket(TCP(listen)(TCP_SOCKET(full), &connections, &error), error, "listen");
    must_socket(TCP(get_local_address)(TCP_SOCKET(full), &full_address, &error), error, "get-local-address");
    for (int i = 0; i < 2; i++) {
        waiting[i] = must_make_tcp(IPV4);
        must_socket(connect_tcp(waiting[i], &full_address, &error), error, "connect");
    }

    IN_EVERY_STATE("bind", TCP(bind)(it, &any, &error), )
    for (int state = 0; state < STATES; state++) {
        tcp_socket socket = in_state(state);
        bool ok = connect_tcp(socket, &common_address, &error);
        say("connect %s: %s", STATE[state], socket_result(ok, error));
        if (ok) {
            tcp_socket server = accept_tcp(common_connections);
            must_socket(TCP(get_remote_address)(TCP_SOCKET(server), &at, &error), error, "get-remote-address");
            say(" from");
            say_address(&at);
            drop_tcp(server);
        }
        say("\n");
        leave_state(state, socket);
    }
    accepted more;
    IN_EVERY_STATE("listen", TCP(listen)(it, &more, &error),
                   if (TCP(get_local_address)(it, &at, &ignored)) say_address(&at);
                   wasi_sockets_types_stream_own_tcp_socket_drop_readable(more))
    IN_EVERY_STATE("send and receive", true, say_directions(it))
    // The first attempt to connect binds the socket at once or later.
    IN_EVERY_STATE("get-local-address", state == CONNECTING ? true : TCP(get_local_address)(it, &at, &error),
                   if (state != CONNECTING) say_address(&at))
    IN_EVERY_STATE("get-remote-address", TCP(get_remote_address)(it, &at, &error), say_address(&at))
    IN_EVERY_STATE("get-is-listening", true, say(" %d", TCP(get_is_listening)(it)))
    IN_EVERY_STATE("get-address-family", true, say(" %d", TCP(get_address_family)(it)))
    IN_EVERY_STATE("set-listen-backlog-size 0", TCP(set_listen_backlog_size)(it, 0, &error), )
    IN_EVERY_STATE("set-listen-backlog-size 5", TCP(set_listen_backlog_size)(it, 5, &error), )
    IN_EVERY_STATE("set-listen-backlog-size of the largest", TCP(set_listen_backlog_size)(it, ~0ull, &error), )
    bool enabled;
    IN_EVERY_STATE("get-keep-alive-enabled", TCP(get_keep_alive_enabled)(it, &enabled, &error), say(" %d", enabled))
    IN_EVERY_STATE("set-keep-alive-enabled", TCP(set_keep_alive_enabled)(it, true, &error),
                   if (TCP(get_keep_alive_enabled)(it, &enabled, &ignored)) say(" then %d", enabled))
    u64 time, size;
    u32 count;
    u8 limit;
    IN_EVERY_STATE("get-keep-alive-idle-time", TCP(get_keep_alive_idle_time)(it, &time, &error), say(" %llu", time))
    IN_EVERY_STATE("get-keep-alive-interval", TCP(get_keep_alive_interval)(it, &time, &error), say(" %llu", time))
    static const u64 DURATIONS[] = {0, 1, SECOND - 1, SECOND, 100 * SECOND + 1, 1ull << 45, ~0ull};
    for (unsigned d = 0; d < sizeof DURATIONS / sizeof *DURATIONS; d++) {
        IN_EVERY_STATE("set-keep-alive-idle-time", TCP(set_keep_alive_idle_time)(it, DURATIONS[d], &error),
                       if (TCP(get_keep_alive_idle_time)(it, &time, &ignored)) say(" then %llu", time))
        IN_EVERY_STATE("set-keep-alive-interval", TCP(set_keep_alive_interval)(it, DURATIONS[d], &error),
                       if (TCP(get_keep_alive_interval)(it, &time, &ignored)) say(" then %llu", time))
    }
    IN_EVERY_STATE("get-keep-alive-count", TCP(get_keep_alive_count)(it, &count, &error), say(" %u", count))
    static const u32 COUNTS[] = {0, 1, 127, 128, ~0u};
    for (unsigned c = 0; c < sizeof COUNTS / sizeof *COUNTS; c++)
        IN_EVERY_STATE("set-keep-alive-count", TCP(set_keep_alive_count)(it, COUNTS[c], &error),
                       if (TCP(get_keep_alive_count)(it, &count, &ignored)) say(" then %u", count))
    IN_EVERY_STATE("get-hop-limit", TCP(get_hop_limit)(it, &limit, &error), say(" %u", limit))
    static const u8 LIMITS[] = {0, 1, 255};
    for (unsigned l = 0; l < sizeof LIMITS; l++)
        IN_EVERY_STATE("set-hop-limit", TCP(set_hop_limit)(it, LIMITS[l], &error),
                       if (TCP(get_hop_limit)(it, &limit, &ignored)) say(" then %u", limit))
    IN_EVERY_STATE("get-receive-buffer-size", TCP(get_receive_buffer_size)(it, &size, &error), say(" %s", size ? "not 0" : "0"))
    IN_EVERY_STATE("get-send-buffer-size", TCP(get_send_buffer_size)(it, &size, &error), say(" %s", size ? "not 0" : "0"))
    static const u64 SIZES[] = {0, 1, 10000, 1ull << 31, ~0ull};
    for (unsigned s = 0; s < sizeof SIZES / sizeof *SIZES; s++) {
        u64 least = SIZES[s] < 5000 ? SIZES[s] : 5000;
        IN_EVERY_STATE("set-receive-buffer-size", TCP(set_receive_buffer_size)(it, SIZES[s], &error),
                       if (TCP(get_receive_buffer_size)(it, &size, &ignored)) say(" then %s", size == SIZES[s] ? "as much" : size >= least ? "enough" : "LITTLE"))
        IN_EVERY_STATE("set-send-buffer-size", TCP(set_send_buffer_size)(it, SIZES[s], &error),
                       if (TCP(get_send_buffer_size)(it, &size, &ignored)) say(" then %s", size == SIZES[s] ? "as much" : size >= least ? "enough" : "LITTLE"))
    }
    // The options of a listener are those of what it accepts.
    tcp_socket it = must_make_tcp(IPV4);
    must_socket(TCP(bind)(TCP_SOCKET(it), &any, &error), error, "bind");
    must_socket(TCP(set_hop_limit)(TCP_SOCKET(it), 42, &error), error, "set-hop-limit");
    must_socket(TCP(set_keep_alive_enabled)(TCP_SOCKET(it), true, &error), error, "set-keep-alive-enabled");
    must_socket(TCP(set_keep_alive_idle_time)(TCP_SOCKET(it), 60 * SECOND, &error), error, "set-keep-alive-idle-time");
    must_socket(TCP(set_keep_alive_interval)(TCP_SOCKET(it), 7 * SECOND, &error), error, "set-keep-alive-interval");
    must_socket(TCP(set_keep_alive_count)(TCP_SOCKET(it), 3, &error), error, "set-keep-alive-count");
    must_socket(TCP(listen)(TCP_SOCKET(it), &more, &error), error, "listen");
    must_socket(TCP(get_local_address)(TCP_SOCKET(it), &at, &error), error, "get-local-address");
    both_ends ends = connected(more, &at);
    wasi_sockets_types_borrow_tcp_socket_t inherits = TCP_SOCKET(ends.far);
    must_socket(TCP(get_hop_limit)(inherits, &limit, &error), error, "get-hop-limit");
    must_socket(TCP(get_keep_alive_enabled)(inherits, &enabled, &error), error, "get-keep-alive-enabled");
    must_socket(TCP(get_keep_alive_count)(inherits, &count, &error), error, "get-keep-alive-count");
    say("accepted: hop-limit %u keep-alive-enabled %d count %u", limit, enabled, count);
    must_socket(TCP(get_keep_alive_idle_time)(inherits, &time, &error), error, "get-keep-alive-idle-time");
    say(" idle %llu", time);
    must_socket(TCP(get_keep_alive_interval)(inherits, &time, &error), error, "get-keep-alive-interval");
    say(" interval %llu\n", time);
    // A connected socket knows both addresses, from both ends.
    address near_local, near_remote, far_local, far_remote;
    must_socket(TCP(get_local_address)(TCP_SOCKET(ends.near), &near_local, &error), error, "get-local-address");
    must_socket(TCP(get_remote_address)(TCP_SOCKET(ends.near), &near_remote, &error), error, "get-remote-address");
    must_socket(TCP(get_local_address)(TCP_SOCKET(ends.far), &far_local, &error), error, "get-local-address");
    must_socket(TCP(get_remote_address)(TCP_SOCKET(ends.far), &far_remote, &error), error, "get-remote-address");
    say("both ends: %s\n", port_of(&near_local) == port_of(&far_remote) && port_of(&near_remote) == port_of(&far_local) ? "agree" : "DISAGREE");
    drop_ends(ends);
    drop_listener(it, more);
    // A connection that finds room after all: two are taken, so that the attempt is answered when it is repeated.
    tcp_socket late = must_make_tcp(IPV4);
    connect_parameters parameters = {TCP_SOCKET(late), full_address};
    u32 status = start_connect(&parameters, &attempt_result);
    say("connect to a full listener: %s\n", COMMAND_SUBTASK_STATE(status) == COMMAND_SUBTASK_STARTED ? "waits" : "IS OVER");
    for (int i = 0; i < 2; i++) drop_tcp(accept_tcp(connections));
    await_call(status, "a late connection");
    say("connect when there is room: %s\n", socket_result(!attempt_result.is_err, attempt_result.val.err));
    drop_tcp(late);
    for (int i = 0; i < 2; i++) drop_tcp(waiting[i]);
    drop_listener(full, connections);
    drop_listener(common_listener, common_connections);
}

// ---- addresses

static void addresses(void) {
    static const u8 FAMILIES[] = {IPV4, IPV6};
    address LOCALS[] = LOCAL_ADDRESSES;
    for (int f = 0; f < 2; f++)
        for (unsigned i = 0; i < sizeof LOCALS / sizeof *LOCALS; i++) {
            socket_error error = {0};
            tcp_socket tcp = must_make_tcp(FAMILIES[f]);
            bool ok = TCP(bind)(TCP_SOCKET(tcp), &LOCALS[i], &error);
            say("tcp bind, family %d, to", FAMILIES[f]);
            say_address(&LOCALS[i]);
            say(": %s\n", socket_result(ok, error));
            drop_tcp(tcp);
            udp_socket udp;
            must_socket(wasi_sockets_types_static_udp_socket_create(FAMILIES[f], &udp, &error), error, "udp-socket.create");
            ok = UDP(bind)(UDP_SOCKET(udp), &LOCALS[i], &error);
            say("udp bind, family %d, to", FAMILIES[f]);
            say_address(&LOCALS[i]);
            say(": %s\n", socket_result(ok, error));
            wasi_sockets_types_udp_socket_drop_own(udp);
        }
    address REMOTES[] = REMOTE_ADDRESSES;
    for (int f = 0; f < 2; f++)
        for (unsigned i = 0; i < sizeof REMOTES / sizeof *REMOTES; i++) {
            // Of the right kind and yet impossible, or of the other family.
            socket_error error = {0};
            tcp_socket tcp = must_make_tcp(FAMILIES[f]);
            bool ok = connect_tcp(tcp, &REMOTES[i], &error);
            say("tcp connect, family %d, to", FAMILIES[f]);
            say_address(&REMOTES[i]);
            say(": %s\n", socket_result(ok, error));
            drop_tcp(tcp);
        }
    // An address that is taken cannot be bound again; a socket that failed can be bound elsewhere.
    address at, any = loopback(IPV4, 0);
    accepted connections;
    tcp_socket first = listener(IPV4, &connections, &at), second = must_make_tcp(IPV4);
    socket_error error = {0};
    bool ok = TCP(bind)(TCP_SOCKET(second), &at, &error);
    say("bind to what is taken: %s\n", socket_result(ok, error));
    ok = TCP(bind)(TCP_SOCKET(second), &any, &error);
    say("bind after that: %s\n", socket_result(ok, error));
    drop_listener(first, connections);
    drop_tcp(second);
    // The port of a listener that is gone can be taken at once.
    first = listener(IPV4, &connections, &at);
    drop_ends(connected(connections, &at));
    drop_listener(first, connections);
    first = must_make_tcp(IPV4);
    ok = TCP(bind)(TCP_SOCKET(first), &at, &error);
    say("bind to what was left: %s\n", socket_result(ok, error));
    drop_tcp(first);
    first = must_make_tcp(IPV4);
    ok = connect_tcp(first, &at, &error);
    say("connect to nobody: %s\n", socket_result(ok, error));
    drop_tcp(first);
    // Two clients with one address cannot have one connection each to the same place.
    first = listener(IPV4, &connections, &at);
    tcp_socket clients[2];
    for (int i = 0; i < 2; i++) {
        clients[i] = must_make_tcp(IPV4);
        address own = any;
        if (i > 0) must_socket(TCP(get_local_address)(TCP_SOCKET(clients[0]), &own, &error), error, "get-local-address");
        must_socket(TCP(bind)(TCP_SOCKET(clients[i]), &own, &error), error, "bind");
    }
    for (int i = 0; i < 2; i++) {
        ok = connect_tcp(clients[i], &at, &error);
        say("connect of client %d: %s\n", i, socket_result(ok, error));
    }
    for (int i = 0; i < 2; i++) drop_tcp(clients[i]);
    drop_listener(first, connections);
}

// ---- data

static u8 large[500000];

// Sends much, more than the buffers of both ends hold: who writes waits, who reads makes room.
static void send_much(writer to, stream from) {
    static u8 piece[65536];
    for (u32 i = 0; i < sizeof large; i++) large[i] = (u8)(i * 11 + i / 253);
    size_t sent = 0, got = 0;
    bool writes = false, reads = false, same = true, ended = false;
    command_waitable_set_t set = command_waitable_set_new();
    command_waitable_join(to, set);
    command_waitable_join(from, set);
    while (got < sizeof large && !ended) {
        u32 wrote = COMMAND_WAITABLE_STATUS_BLOCKED, read = COMMAND_WAITABLE_STATUS_BLOCKED;
        if (!writes && sent < sizeof large) {
            wrote = wasi_cli_stdin_stream_u8_write(to, large + sent, sizeof large - sent);
            writes = wrote == COMMAND_WAITABLE_STATUS_BLOCKED;
        }
        if (!reads) {
            read = wasi_cli_stdin_stream_u8_read(from, piece, sizeof piece);
            reads = read == COMMAND_WAITABLE_STATUS_BLOCKED;
        }
        if (wrote == COMMAND_WAITABLE_STATUS_BLOCKED && read == COMMAND_WAITABLE_STATUS_BLOCKED) {
            command_event_t event;
            command_waitable_set_wait(set, &event);
            if (event.waitable == to) wrote = event.code, writes = false;
            else read = event.code, reads = false;
        }
        if (wrote != COMMAND_WAITABLE_STATUS_BLOCKED) {
            sent += COMMAND_WAITABLE_COUNT(wrote);
            ended = ended || COMMAND_WAITABLE_STATE(wrote) != COMMAND_WAITABLE_COMPLETED;
        }
        if (read != COMMAND_WAITABLE_STATUS_BLOCKED) {
            size_t count = COMMAND_WAITABLE_COUNT(read);
            same = same && got + count <= sizeof large && !memcmp(piece, large + got, count);
            got += count;
            ended = ended || COMMAND_WAITABLE_STATE(read) != COMMAND_WAITABLE_COMPLETED;
        }
    }
    // The host has told of everything it took by now, or tells at once.
    if (writes) sent += COMMAND_WAITABLE_COUNT(done(to, COMMAND_WAITABLE_STATUS_BLOCKED));
    say("500000 bytes: %zu sent %zu received %s\n", sent, got, same ? "same" : "OTHER");
    command_waitable_join(to, 0);
    command_waitable_join(from, 0);
    command_waitable_set_drop(set);
}

// A write to a peer that does not read is given up: no byte is lost of those that were written, and none is sent of the others.
static void give_up_write(accepted connections, address *at) {
    both_ends ends = connected(connections, at);
    socket_error error;
    must_socket(TCP(set_send_buffer_size)(TCP_SOCKET(ends.near), 8192, &error), error, "set-send-buffer-size");
    must_socket(TCP(set_receive_buffer_size)(TCP_SOCKET(ends.far), 8192, &error), error, "set-receive-buffer-size");
    writer to;
    u32 sent = start_send(ends.near, &to);
    received all = receive_tcp(ends.far);
    size_t wrote = 0, got = 0;
    u32 cancelled = 0;
    bool same = true;
    static u8 piece[30000];
    for (int round = 0; round < 3; round++) {
        // Until there has been no room for a while: what is in the buffers was said to be written.
        for (int patience = 0; patience < 3;) {
            u32 status = wasi_cli_stdin_stream_u8_write(to, large + wrote, 20000);
            if (status == COMMAND_WAITABLE_STATUS_BLOCKED) {
                wasi_clocks_monotonic_clock_wait_for(2 * MILLISECOND);
                status = wasi_cli_stdin_stream_u8_cancel_write(to);
                cancelled += COMMAND_WAITABLE_STATE(status) == COMMAND_WAITABLE_CANCELLED;
                patience = COMMAND_WAITABLE_COUNT(status) ? 0 : patience + 1;
            }
            wrote += COMMAND_WAITABLE_COUNT(status);
            if (wrote > sizeof large - 20000) fail("a peer that does not read", "takes all");
        }
        size_t count;
        if (!read_some(all.f0, piece, sizeof piece, &count)) fail("a peer", "ended");
        same = same && !memcmp(piece, large + got, count);
        got += count;
    }
    wasi_cli_stdin_stream_u8_drop_writable(to);
    for (bool more = true; more;) {
        size_t count;
        more = read_some(all.f0, piece, sizeof piece, &count);
        same = same && got + count <= wrote && !memcmp(piece, large + got, count);
        got += count;
    }
    say("given up: %s, %s\n", cancelled >= 9 ? "several times" : "NOT OFTEN", got == wrote && same ? "all that was written arrived" : "BYTES LOST OR SENT AGAIN");
    say("sent after it: %s\n", tcp_outcome(sent));
    wasi_cli_stdin_stream_u8_drop_readable(all.f0);
    say("received after it: %s\n", tcp_outcome(all.f1));
    drop_ends(ends);
}

static void tcp_data(u8 family) {
    say("tcp data, family %d\n", family);
    address at;
    accepted connections;
    tcp_socket listening = listener(family, &connections, &at);
    // Nobody connects.
    tcp_socket none;
    u32 status = wasi_sockets_types_stream_own_tcp_socket_read(connections, &none, 1);
    say("accept of nothing yet: %s", status == COMMAND_WAITABLE_STATUS_BLOCKED ? "waits" : "HAS SOMETHING");
    status = wasi_sockets_types_stream_own_tcp_socket_cancel_read(connections);
    say(" then %s %u\n", COMMAND_WAITABLE_STATE(status) == COMMAND_WAITABLE_CANCELLED ? "cancelled" : "OTHER", COMMAND_WAITABLE_COUNT(status));
    both_ends ends = connected(connections, &at);
    writer to, back_to;
    u32 sent = start_send(ends.near, &to), back_sent = start_send(ends.far, &back_to);
    received in = receive_tcp(ends.far), back_in = receive_tcp(ends.near);
    // Both can be had once.
    say("again:");
    say_directions(TCP_SOCKET(ends.near));
    say("\n");
    u8 nothing, bytes[10];
    status = wasi_cli_stdin_stream_u8_read(in.f0, bytes, sizeof bytes);
    say("read of nothing yet: %s", status == COMMAND_WAITABLE_STATUS_BLOCKED ? "waits" : "HAS SOMETHING");
    status = wasi_cli_stdin_stream_u8_cancel_read(in.f0);
    say(" then %s %u\n", COMMAND_WAITABLE_STATE(status) == COMMAND_WAITABLE_CANCELLED ? "cancelled" : "OTHER", COMMAND_WAITABLE_COUNT(status));
    status = wasi_cli_stdin_stream_u8_read(in.f0, &nothing, 0);
    say("read 0: %s", status == COMMAND_WAITABLE_STATUS_BLOCKED ? "waits" : "DOES NOT WAIT");
    must_send(to, "hello");
    status = done(in.f0, status);
    say(" then %u\n", COMMAND_WAITABLE_COUNT(status));
    say_read("read 2", in.f0, 2);
    say_read("read 10", in.f0, 10);
    u32 ready = done(to, wasi_cli_stdin_stream_u8_write(to, &nothing, 0));
    say("write 0: %u %u\n", COMMAND_WAITABLE_STATE(ready), COMMAND_WAITABLE_COUNT(ready));
    send_much(to, in.f0);
    // The handles of sockets are not needed for streams.
    drop_ends(ends);
    // The end of one way: the rest arrives, then the end; the other way still works.
    must_send(to, "last words");
    wasi_cli_stdin_stream_u8_drop_writable(to);
    say("sent: %s\n", tcp_outcome(sent));
    say_read("the rest", in.f0, 100);
    say_read("the end", in.f0, 100);
    wasi_cli_stdin_stream_u8_drop_readable(in.f0);
    say("received: %s\n", tcp_outcome(in.f1));
    must_send(back_to, "the other way");
    say_read("the other way", back_in.f0, 100);
    // A reader that has enough does not fail, nor does its peer at once.
    must_send(back_to, "unread");
    wasi_cli_stdin_stream_u8_drop_readable(back_in.f0);
    say("received in part: %s\n", tcp_outcome(back_in.f1));
    wasi_cli_stdin_stream_u8_drop_writable(back_to);
    say("sent to nobody: %s\n", tcp_outcome(back_sent));

    // A peer that goes with bytes unread: the connection is reset, for who reads and for who writes.
    ends = connected(connections, &at);
    sent = start_send(ends.near, &to);
    in = receive_tcp(ends.near);
    must_send(to, "never read");
    drop_tcp(ends.far);
    say_read("read of a connection that is reset", in.f0, 10);
    wasi_cli_stdin_stream_u8_drop_readable(in.f0);
    say("received: %s\n", tcp_outcome(in.f1));
    size_t wrote = write_all(to, (const u8 *)"more", 4);
    wasi_cli_stdin_stream_u8_drop_writable(to);
    say("sent: %zu %s\n", wrote, tcp_outcome(sent));
    drop_tcp(ends.near);
    // One that goes and has read everything: an end, and whoever writes after it learns soon.
    ends = connected(connections, &at);
    sent = start_send(ends.near, &to);
    in = receive_tcp(ends.near);
    drop_tcp(ends.far);
    say_read("read of a connection that has ended", in.f0, 10);
    say("received: %s\n", tcp_outcome(in.f1));
    wasi_cli_stdin_stream_u8_drop_readable(in.f0);
    for (int i = 0; i < 100 && write_all(to, (const u8 *)"more", 4) == 4; i++) wasi_clocks_monotonic_clock_wait_for(MILLISECOND);
    wasi_cli_stdin_stream_u8_drop_writable(to);
    say("sent: %s\n", tcp_outcome(sent));
    drop_tcp(ends.near);
    // Bytes that come in go out again, without the program.
    ends = connected(connections, &at);
    in = receive_tcp(ends.far);
    back_sent = TCP(send)(TCP_SOCKET(ends.far), in.f0);
    sent = start_send(ends.near, &to);
    back_in = receive_tcp(ends.near);
    send_much(to, back_in.f0);
    must_send(to, "echo");
    say_read("echo", back_in.f0, 100);
    wasi_cli_stdin_stream_u8_drop_writable(to);
    say_read("the end of the echo", back_in.f0, 100);
    say("echo: %s", tcp_outcome(in.f1));
    say(" %s", tcp_outcome(back_sent));
    say(" %s", tcp_outcome(sent));
    wasi_cli_stdin_stream_u8_drop_readable(back_in.f0);
    say(" %s\n", tcp_outcome(back_in.f1));
    drop_ends(ends);
    // Nobody waits for the outcome, and what was written arrives.
    ends = connected(connections, &at);
    sent = start_send(ends.near, &to);
    must_send(to, "sent and forgotten");
    wasi_cli_stdin_stream_u8_drop_writable(to);
    drop_outcome(sent);
    drop_tcp(ends.near);
    in = receive_tcp(ends.far);
    say_read("read", in.f0, 100);
    say_read("read", in.f0, 100);
    drop_input(in);
    drop_tcp(ends.far);
    give_up_write(connections, &at);
    // The handle of a listener is not needed for what it is given.
    drop_tcp(listening);
    drop_ends(connected(connections, &at));
    wasi_sockets_types_stream_own_tcp_socket_drop_readable(connections);
    tcp_socket client = must_make_tcp(family);
    socket_error error;
    bool ok = connect_tcp(client, &at, &error);
    say("connect when both are gone: %s\n", socket_result(ok, error));
    drop_tcp(client);
}

// More connections than the sallyport has slots, all of which are waited for: each of them is heard.
static void tcp_crowd(void) {
    enum { PEERS = 150 };
    static both_ends ends[PEERS];
    static received in[PEERS];
    static writer to[PEERS];
    static u32 sent[PEERS];
    static u8 heard[PEERS];
    address at;
    accepted connections;
    tcp_socket listening = listener(IPV4, &connections, &at);
    command_waitable_set_t set = command_waitable_set_new();
    for (int i = 0; i < PEERS; i++) {
        ends[i] = connected(connections, &at);
        in[i] = receive_tcp(ends[i].far);
        sent[i] = start_send(ends[i].near, &to[i]);
        must(wasi_cli_stdin_stream_u8_read(in[i].f0, &heard[i], 1) == COMMAND_WAITABLE_STATUS_BLOCKED, "nothing to read");
        command_waitable_join(in[i].f0, set);
    }
    int right = 0;
    for (int i = 0; i < PEERS; i++) {
        int speaker = (i * 77 + 5) % PEERS;
        u8 word = (u8)(speaker + 1);
        must(write_all(to[speaker], &word, 1) == 1, "to speak");
        command_event_t event;
        command_waitable_set_wait(set, &event);
        right += event.waitable == in[speaker].f0 && event.code == (1 << 4 | COMMAND_WAITABLE_COMPLETED) && heard[speaker] == word;
    }
    say("150 peers: %d heard\n", right);
    // Half of them are left while they are waited for, which ends that.
    for (int i = 0; i < PEERS; i++) {
        must(wasi_cli_stdin_stream_u8_read(in[i].f0, &heard[i], 1) == COMMAND_WAITABLE_STATUS_BLOCKED, "nothing to read");
        if (i % 2) {
            command_waitable_join(in[i].f0, 0);
            wasi_cli_stdin_stream_u8_cancel_read(in[i].f0);
        } else {
            wasi_cli_stdin_stream_u8_drop_writable(to[i]);
        }
    }
    int ended = 0;
    for (int i = 0; i < PEERS / 2; i++) {
        command_event_t event;
        command_waitable_set_wait(set, &event);
        ended += event.code == COMMAND_WAITABLE_DROPPED;
    }
    say("75 peers: %d ended\n", ended);
    for (int i = 0; i < PEERS; i++) {
        command_waitable_join(in[i].f0, 0);
        drop_input(in[i]);
        if (i % 2) wasi_cli_stdin_stream_u8_drop_writable(to[i]);
        drop_outcome(sent[i]);
        drop_ends(ends[i]);
    }
    command_waitable_set_drop(set);
    drop_listener(listening, connections);
}

// ---- datagrams

static bool make_udp(u8 family, udp_socket *it, socket_error *error) {
    return wasi_sockets_types_static_udp_socket_create(family, it, error);
}

static udp_socket must_make_udp(u8 family) {
    udp_socket it;
    socket_error error;
    must_socket(make_udp(family, &it, &error), error, "udp-socket.create");
    return it;
}

static udp_socket must_bind_udp(u8 family, address *at) {
    udp_socket it = must_make_udp(family);
    socket_error error;
    address any = loopback(family, 0);
    must_socket(UDP(bind)(UDP_SOCKET(it), &any, &error), error, "bind");
    must_socket(UDP(get_local_address)(UDP_SOCKET(it), at, &error), error, "get-local-address");
    return it;
}

static void drop_udp(udp_socket it) { wasi_sockets_types_udp_socket_drop_own(it); }

static bool send_udp(udp_socket from, const void *data, size_t length, address *to, socket_error *error) {
    command_list_u8_t bytes = {(u8 *)data, length};
    return UDP(send)(UDP_SOCKET(from), &bytes, to, error);
}

static void say_send(const char *title, udp_socket from, const void *data, size_t length, address *to) {
    socket_error error = {0};
    bool ok = send_udp(from, data, length, to, &error);
    say("%s: %s\n", title, socket_result(ok, error));
}

static void say_datagram(bool ok, wasi_sockets_types_tuple2_list_u8_ip_socket_address_t *it, socket_error error, const address *from) {
    if (!ok) {
        say(" %s\n", SOCKET_ERROR[error.tag]);
        return;
    }
    say(" ");
    say_text((text){(char *)it->f0.ptr, it->f0.len});
    say(" from %s", port_of(&it->f1) == port_of(from) ? "the sender" : "ANOTHER");
    say_address(&it->f1);
    say("\n");
    wasi_sockets_types_tuple2_list_u8_ip_socket_address_free(it);
}

// Waits for a datagram and says it.
static void receive_udp(const char *title, udp_socket to, const address *from) {
    wasi_sockets_types_tuple2_list_u8_ip_socket_address_t it;
    socket_error error = {0};
    say("%s:", title);
    bool ok = UDP(receive)(UDP_SOCKET(to), &it, &error);
    say_datagram(ok, &it, error, from);
}

enum { UDP_UNBOUND, UDP_BOUND, UDP_CONNECTED, UDP_CONNECTED_UNBOUND, UDP_HAS_SENT, UDP_STATES };
static const char *const UDP_STATE[] = {"unbound", "bound", "connected", "connected-unbound", "has-sent"};

static udp_socket udp_in_state(int state, address *peer) {
    address own;
    udp_socket it = state == UDP_BOUND || state == UDP_CONNECTED ? must_bind_udp(IPV4, &own) : must_make_udp(IPV4);
    socket_error error;
    if (state == UDP_CONNECTED || state == UDP_CONNECTED_UNBOUND) must_socket(UDP(connect)(UDP_SOCKET(it), peer, &error), error, "connect");
    if (state == UDP_HAS_SENT) must_socket(send_udp(it, "x", 1, peer, &error), error, "send");
    return it;
}

#define UDP_IN_EVERY_STATE(title, call, more)                                \
    for (int state = 0; state < UDP_STATES; state++) {                       \
        udp_socket socket = udp_in_state(state, &peer);                      \
        wasi_sockets_types_borrow_udp_socket_t it = UDP_SOCKET(socket);      \
        socket_error error = {0};                                            \
        bool ok = (call);                                                    \
        say("udp %s %s: %s", title, UDP_STATE[state], socket_result(ok, error)); \
        if (ok) { more; }                                                    \
        say("\n");                                                           \
        drop_udp(socket);                                                    \
    }

static void udp_states(void) {
    address any = loopback(IPV4, 0), peer, at;
    udp_socket other = must_bind_udp(IPV4, &peer);
    socket_error ignored;
    u64 size;
    u8 limit;
    UDP_IN_EVERY_STATE("bind", UDP(bind)(it, &any, &error), )
    UDP_IN_EVERY_STATE("connect", UDP(connect)(it, &peer, &error), if (UDP(get_remote_address)(it, &at, &ignored)) say_address(&at))
    UDP_IN_EVERY_STATE("disconnect", UDP(disconnect)(it, &error), say(" then %s", UDP(get_remote_address)(it, &at, &ignored) ? "CONNECTED" : "not connected"))
    UDP_IN_EVERY_STATE("get-local-address", UDP(get_local_address)(it, &at, &error), say_address(&at))
    UDP_IN_EVERY_STATE("get-remote-address", UDP(get_remote_address)(it, &at, &error), say_address(&at))
    UDP_IN_EVERY_STATE("get-address-family", true, say(" %d", UDP(get_address_family)(it)))
    UDP_IN_EVERY_STATE("get-unicast-hop-limit", UDP(get_unicast_hop_limit)(it, &limit, &error), say(" %u", limit))
    static const u8 LIMITS[] = {0, 1, 255};
    for (unsigned l = 0; l < sizeof LIMITS; l++)
        UDP_IN_EVERY_STATE("set-unicast-hop-limit", UDP(set_unicast_hop_limit)(it, LIMITS[l], &error),
                           if (UDP(get_unicast_hop_limit)(it, &limit, &ignored)) say(" then %u", limit))
    UDP_IN_EVERY_STATE("get-receive-buffer-size", UDP(get_receive_buffer_size)(it, &size, &error), say(" %s", size ? "not 0" : "0"))
    UDP_IN_EVERY_STATE("get-send-buffer-size", UDP(get_send_buffer_size)(it, &size, &error), say(" %s", size ? "not 0" : "0"))
    static const u64 SIZES[] = {0, 1, 10000, 1ull << 31, ~0ull};
    for (unsigned s = 0; s < sizeof SIZES / sizeof *SIZES; s++) {
        u64 least = SIZES[s] < 5000 ? SIZES[s] : 5000;
        UDP_IN_EVERY_STATE("set-receive-buffer-size", UDP(set_receive_buffer_size)(it, SIZES[s], &error),
                           if (UDP(get_receive_buffer_size)(it, &size, &ignored)) say(" then %s", size == SIZES[s] ? "as much" : size >= least ? "enough" : "LITTLE"))
        UDP_IN_EVERY_STATE("set-send-buffer-size", UDP(set_send_buffer_size)(it, SIZES[s], &error),
                           if (UDP(get_send_buffer_size)(it, &size, &ignored)) say(" then %s", size == SIZES[s] ? "as much" : size >= least ? "enough" : "LITTLE"))
    }
    // A receive that is given up, where it waits.
    for (int state = 0; state < UDP_STATES; state++) {
        udp_socket socket = udp_in_state(state, &peer);
        receive_result result;
        u32 status = start_receive(UDP_SOCKET(socket), &result);
        bool waits = COMMAND_SUBTASK_STATE(status) == COMMAND_SUBTASK_STARTED;
        say("udp receive %s: %s\n", UDP_STATE[state], waits ? "waits" : socket_result(!result.is_err, result.val.err));
        if (waits) give_up(status, "to receive");
        drop_udp(socket);
    }
    udp_socket second = must_make_udp(IPV4);
    bool ok = UDP(bind)(UDP_SOCKET(second), &peer, &ignored);
    say("udp bind to what is taken: %s\n", socket_result(ok, ignored));
    drop_udp(second);
    drop_udp(other);
}

static void udp_data(u8 family) {
    say("udp data, family %d\n", family);
    address one_at, two_at, three_at;
    socket_error error = {0};
    static u8 many[65536];
    memset(many, 'x', sizeof many);
    udp_socket one = must_bind_udp(family, &one_at), two = must_bind_udp(family, &two_at), three = must_bind_udp(family, &three_at);
    must_socket(UDP(connect)(UDP_SOCKET(two), &one_at, &error), error, "connect");
    say_send("send to an address", one, "to two", 6, &two_at);
    receive_udp("receive", two, &one_at);
    say_send("send to the peer", two, "to one", 6, NULL);
    receive_udp("receive", one, &two_at);
    say_send("send to the peer by address", two, "to one again", 12, &one_at);
    receive_udp("receive", one, &two_at);
    say_send("send to another than the peer", two, "x", 1, &three_at);
    say_send("send without a peer or an address", one, "x", 1, NULL);
    say_send("send nothing", one, "", 0, &two_at);
    receive_udp("receive nothing", two, &one_at);
    say_send("send 60000 bytes", one, many, 60000, &two_at);
    receive_udp("receive", two, &one_at);
    say_send("send 65507 bytes", one, many, family == IPV4 ? 65507 : 65487, &two_at);
    receive_udp("receive", two, &one_at);
    say_send("send 65528 bytes", one, many, 65528, &two_at);
    say_send("send 65536 bytes", one, many, 65536, &two_at);
    address wrong = loopback(!family, 9);
    say_send("send to the other family", one, "x", 1, &wrong);
    bool ok = UDP(connect)(UDP_SOCKET(three), &wrong, &error);
    say("connect to the other family: %s\n", socket_result(ok, error));
    wrong = loopback(family, 0);
    say_send("send to port 0", one, "x", 1, &wrong);
    ok = UDP(connect)(UDP_SOCKET(three), &wrong, &error);
    say("connect to port 0: %s\n", socket_result(ok, error));
    wrong = family == IPV4 ? ipv4(0, 0, 0, 0, 9) : ipv6(0, 0, 0, 0, 9);
    say_send("send to no address", one, "x", 1, &wrong);
    ok = UDP(connect)(UDP_SOCKET(three), &wrong, &error);
    say("connect to no address: %s\n", socket_result(ok, error));
    // A socket with one peer does not hear others, whether it waits already or not.
    receive_result result;
    u32 status = start_receive(UDP_SOCKET(two), &result);
    say_send("send from a third", three, "from three", 10, &two_at);
    say_send("send from the peer", one, "from one", 8, &two_at);
    await_call(status, "to receive");
    say("receive of the peer:");
    say_datagram(!result.is_err, &result.val.ok, result.val.err, &one_at);
    // One that was given up takes nothing.
    status = start_receive(UDP_SOCKET(two), &result);
    give_up(status, "to receive");
    say_send("send after it", one, "after it", 8, &two_at);
    receive_udp("receive", two, &one_at);
    // A new peer, and none.
    ok = UDP(connect)(UDP_SOCKET(two), &three_at, &error);
    say("connect to another peer: %s\n", socket_result(ok, error));
    say_send("send to it", two, "to three", 8, NULL);
    receive_udp("receive", three, &two_at);
    ok = UDP(disconnect)(UDP_SOCKET(two), &error);
    say("disconnect: %s\n", socket_result(ok, error));
    say_send("send without a peer", two, "x", 1, NULL);
    say_send("send to an address", two, "to one", 6, &one_at);
    receive_udp("receive", one, &two_at);
    drop_udp(one);
    drop_udp(two);
    drop_udp(three);
}

// ---- names

static void look_up(const char *name) {
    command_string_t text = wit_of(name);
    wasi_sockets_ip_name_lookup_list_ip_address_t found;
    wasi_sockets_ip_name_lookup_error_code_t error;
    bool ok = wasi_sockets_ip_name_lookup_resolve_addresses(&text, &found, &error);
    say("resolve-addresses ");
    say_text(text_of(name));
    say(": %s", ok ? "ok" : NAME_ERROR[error.tag]);
    listing_length = 0;
    for (size_t i = 0; ok && i < found.len; i++) {
        char told[60];
        if (found.ptr[i].tag == WASI_SOCKETS_TYPES_IP_ADDRESS_IPV4) {
            wasi_sockets_types_ipv4_address_t ip = found.ptr[i].val.ipv4;
            snprintf(told, sizeof told, "%u.%u.%u.%u", ip.f0, ip.f1, ip.f2, ip.f3);
        } else {
            wasi_sockets_types_ipv6_address_t ip = found.ptr[i].val.ipv6;
            snprintf(told, sizeof told, "%x:%x:%x:%x:%x:%x:%x:%x", ip.f0, ip.f1, ip.f2, ip.f3, ip.f4, ip.f5, ip.f6, ip.f7);
        }
        // One name may have an address twice.
        bool before = false;
        for (unsigned other = 0; other < listing_length; other++) before = before || !strcmp(listing[other], told);
        if (!before) listing_add(text_of(told), "");
    }
    say_listing();
    say("\n");
}

static void sockets(void) {
    tcp_states();
    addresses();
    tcp_data(IPV4);
    tcp_data(IPV6);
    tcp_crowd();
    udp_states();
    udp_data(IPV4);
    udp_data(IPV6);
    // Names that would be asked of somebody else are not here: what he would say is not ours to know.
    static const char *const NAMES[] = {"127.0.0.1", "::1", "2001:db8::1", "::ffff:127.0.0.1", "0.0.0.0", "localhost",
                                        "", "a b", "a/b", "a:b", "[::1]", "127.0.0.1:80"};
    for (unsigned i = 0; i < sizeof NAMES / sizeof *NAMES; i++) look_up(NAMES[i]);
}

// Without a grant nothing of it works.
static void no_network(void) {
    for (u8 family = 0; family < 2; family++) {
        tcp_socket tcp;
        udp_socket udp;
        socket_error error = {0};
        bool ok = make_tcp(family, &tcp, &error);
        say("tcp-socket.create %u: %s\n", family, socket_result(ok, error));
        ok = make_udp(family, &udp, &error);
        say("udp-socket.create %u: %s\n", family, socket_result(ok, error));
    }
    look_up("127.0.0.1");
    look_up("localhost");
}

// ---- single places of the network, each with what became of it: see reach.h

static const char *reach_tcp(address to, bool listens) {
    tcp_socket it;
    accepted connections;
    socket_error error = {0};
    if (!make_tcp(to.tag, &it, &error)) return socket_result(false, error);
    bool ok = listens ? TCP(bind)(TCP_SOCKET(it), &to, &error) && TCP(listen)(TCP_SOCKET(it), &connections, &error) : connect_tcp(it, &to, &error);
    if (ok && listens) wasi_sockets_types_stream_own_tcp_socket_drop_readable(connections);
    drop_tcp(it);
    return socket_result(ok, error);
}

static const char *reach_udp(address to) {
    udp_socket it;
    socket_error error = {0};
    if (!make_udp(to.tag, &it, &error)) return socket_result(false, error);
    bool ok = send_udp(it, "x", 1, &to, &error);
    drop_udp(it);
    return socket_result(ok, error);
}

static const char *listen_udp(address at) {
    udp_socket it;
    socket_error error = {0};
    if (!make_udp(at.tag, &it, &error)) return socket_result(false, error);
    bool ok = UDP(bind)(UDP_SOCKET(it), &at, &error);
    drop_udp(it);
    return socket_result(ok, error);
}

static const char *look_up_name(const char *text) {
    command_string_t name = wit_of(text);
    wasi_sockets_ip_name_lookup_list_ip_address_t found;
    wasi_sockets_ip_name_lookup_error_code_t error;
    if (!wasi_sockets_ip_name_lookup_resolve_addresses(&name, &found, &error)) return NAME_ERROR[error.tag];
    wasi_sockets_ip_name_lookup_list_ip_address_free(&found);
    return "ok";
}
