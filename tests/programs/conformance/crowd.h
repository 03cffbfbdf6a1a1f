// SPDX-License-Identifier: Apache-2.0

// A server with many peers, within the program itself. Most of them say nothing and some read nothing: the
// others must be served all the same. Part of preview2.c.
#pragma once

enum { IDLE_MAX = 1500, SLOW = 100 };

typedef struct {
    connection client, server;
    pollable spoken; // The server's end can be read.
} peer;

static peer peers[IDLE_MAX];

// Little room in the host's buffers, so that a peer that does not read is soon one to which nothing can be written.
enum { ROOM = 8192 };

static void make_peer(tcp_socket server, address *at, peer *it) {
    socket_error error;
    tcp_socket client = must_make_tcp(IPV4);
    must_socket(TCP(set_receive_buffer_size)(TCP_SOCKET(client), ROOM, &error), error, "set-receive-buffer-size");
    must_socket(connect_tcp(client, at, &it->client, &error), error, "connect");
    must_socket(accept_tcp(server, &it->server, &error), error, "accept");
    it->spoken = IN(subscribe)(INPUT(it->server.input));
}

// Writes as much as is permitted of `much` bytes; how much that was.
static u64 write_some(output_stream it, u64 much) {
    static u8 bytes[4096];
    stream_error error;
    u64 permitted;
    must(OUT(check_write)(OUTPUT(it), &permitted, &error), "check-write");
    if (much > permitted) much = permitted;
    if (much > sizeof bytes) much = sizeof bytes;
    if (much == 0) return 0;
    command_list_u8_t piece = {bytes, much};
    must(OUT(write)(OUTPUT(it), &piece, &error), "write");
    return much;
}

static u64 read_some(input_stream it, u64 much) {
    command_list_u8_t bytes;
    stream_error error;
    must(IN(read)(INPUT(it), much, &bytes, &error), "read");
    u64 length = bytes.len;
    command_list_u8_free(&bytes);
    return length;
}

// Reads from whichever peer speaks first; its number, or `count` when `longest` ns are over.
static u32 hear(u32 count, u64 longest, u64 *length) {
    static wasi_io_poll_borrow_pollable_t list[IDLE_MAX + 1];
    pollable late = wasi_clocks_monotonic_clock_subscribe_duration(longest);
    for (u32 i = 0; i < count; i++) list[i] = POLLABLE(peers[i].spoken);
    list[count] = POLLABLE(late);
    wasi_io_poll_list_borrow_pollable_t all = {list, count + 1};
    u32 heard;
    do {
        command_list_u32_t ready;
        wasi_io_poll_poll(&all, &ready);
        heard = ready.ptr[0];
        command_list_u32_free(&ready);
        // A stream may be called ready without a byte.
        *length = heard == count ? 0 : read_some(peers[heard].server.input, 10);
    } while (heard != count && *length == 0);
    wasi_io_poll_pollable_drop_own(late);
    return heard;
}

// One peer sends a byte and gets it back.
static void speaks(u32 count, u32 speaker) {
    must(write_some(peers[speaker].client.output, 1) == 1, "to write a byte");
    u64 length, back;
    u32 heard = hear(count, 60 * SECOND, &length);
    if (heard == count) fail("who speaks", "nobody is heard");
    while (write_some(peers[heard].server.output, 1) == 0) {
        pollable writable = OUT(subscribe)(OUTPUT(peers[heard].server.output));
        wasi_io_poll_method_pollable_block(POLLABLE(writable));
        wasi_io_poll_pollable_drop_own(writable);
    }
    while ((back = read_some(peers[speaker].client.input, 10)) == 0) {
        pollable readable = IN(subscribe)(INPUT(peers[speaker].client.input));
        wasi_io_poll_method_pollable_block(POLLABLE(readable));
        wasi_io_poll_pollable_drop_own(readable);
    }
    say("peer %u of %u: heard %u, %llu byte, %llu back\n", speaker, count, heard, length, back);
    // A call that has nothing to do with it.
    flush_output();
}

static void crowd(u32 count) {
    if (count < SLOW + 10 || count > IDLE_MAX) fail("the size of a crowd", "is out of range");
    network = wasi_sockets_instance_network_instance_network();
    address at;
    tcp_socket server = listener(IPV4, &at);
    socket_error error;
    // The sockets that it accepts have it too.
    must_socket(TCP(set_send_buffer_size)(TCP_SOCKET(server), ROOM, &error), error, "set-send-buffer-size");
    for (u32 i = 0; i < count; i++) make_peer(server, &at, &peers[i]);
    u64 length;
    say("nobody speaks: %s\n", hear(count, 50 * MILLISECOND, &length) == count ? "ok" : "somebody is heard");
    u32 speakers[] = {0, 1, 63, 64, count / 2, count - 1};
    for (u32 i = 0; i < sizeof speakers / sizeof *speakers; i++) speaks(count, speakers[i]);
    // Peers that do not read: the server writes until it may no more.
    for (u32 i = 0; i < SLOW; i++) {
        output_stream out = peers[i].server.output;
        for (u32 patience = 0; patience < 3;) {
            patience = write_some(out, 4096) ? 0 : patience + 1;
            pollable writable = OUT(subscribe)(OUTPUT(out)), late = wasi_clocks_monotonic_clock_subscribe_duration(MILLISECOND);
            wasi_io_poll_borrow_pollable_t list[] = {POLLABLE(writable), POLLABLE(late)};
            wasi_io_poll_list_borrow_pollable_t both = {list, 2};
            command_list_u32_t ready;
            wasi_io_poll_poll(&both, &ready);
            command_list_u32_free(&ready);
            wasi_io_poll_pollable_drop_own(writable);
            wasi_io_poll_pollable_drop_own(late);
        }
    }
    say("slow peers: %d\n", SLOW);
    for (u32 i = 0; i < sizeof speakers / sizeof *speakers; i++)
        if (speakers[i] >= SLOW) speaks(count, speakers[i]);
    // One of them reads again, and is written to again.
    pollable writable = OUT(subscribe)(OUTPUT(peers[7].server.output));
    while (!wasi_io_poll_method_pollable_ready(POLLABLE(writable))) read_some(peers[7].client.input, 1 << 16);
    wasi_io_poll_pollable_drop_own(writable);
    say("a slow peer that reads is written to\n");
}
