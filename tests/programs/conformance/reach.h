// SPDX-License-Identifier: Apache-2.0

// Tries places of the network that the arguments name, one after the other, and says what becomes of each: for the tests of
// rules for the network. Part of preview2.c and preview3.c, which have the actions for themselves.
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
    address it = ipv6(0, 0, 0, 0, numbers[8]);
    for (int i = 0; i < 8; i++) (&it.val.ipv6.address.f0)[i] = numbers[i];
    return it;
}

static bool starts_with(const char *argument, const char *action, const char **rest) {
    size_t length = strlen(action);
    *rest = argument + length;
    return !strncmp(argument, action, length);
}

static void reach(command_list_string_t arguments) {
    for (size_t i = 2; i < arguments.len; i++) {
        char argument[300];
        snprintf(argument, sizeof argument, "%.*s", (int)arguments.ptr[i].len, arguments.ptr[i].ptr);
        const char *rest, *result = NULL;
        if (starts_with(argument, "tcp/", &rest)) result = reach_tcp(place_of(rest), false);
        else if (starts_with(argument, "udp/", &rest)) result = reach_udp(place_of(rest));
        else if (starts_with(argument, "listen-tcp/", &rest)) result = reach_tcp(place_of(rest), true);
        else if (starts_with(argument, "listen-udp/", &rest)) result = listen_udp(place_of(rest));
        else if (starts_with(argument, "name/", &rest)) result = look_up_name(rest);
        else fail(argument, "is no action");
        say("%s %s\n", argument, result);
    }
}
