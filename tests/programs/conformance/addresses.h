// SPDX-License-Identifier: Apache-2.0

// Addresses of sockets, of WASI 0.2 and 0.3: whoever includes this has named the types `address`, `ipv4_address` and
// `ipv6_address`, and defined IPV4, the family, and ADDRESS_IPV4 and ADDRESS_IPV6, the tags of an address.
#pragma once

static address ipv4(u8 a, u8 b, u8 c, u8 d, u16 port) {
    address it = {.tag = ADDRESS_IPV4};
    it.val.ipv4.address = (ipv4_address){a, b, c, d};
    it.val.ipv4.port = port;
    return it;
}

static address ipv6(u16 a, u16 f, u16 g, u16 h, u16 port) {
    address it = {.tag = ADDRESS_IPV6};
    it.val.ipv6.address = (ipv6_address){.f0 = a, .f5 = f, .f6 = g, .f7 = h};
    it.val.ipv6.port = port;
    return it;
}

static address loopback(u8 family, u16 port) { return family == IPV4 ? ipv4(127, 0, 0, 1, port) : ipv6(0, 0, 0, 1, port); }

static u16 port_of(const address *it) { return it->tag == ADDRESS_IPV4 ? it->val.ipv4.port : it->val.ipv6.port; }

static void say_address(const address *it) {
    if (it->tag == ADDRESS_IPV4) {
        ipv4_address ip = it->val.ipv4.address;
        say(" %u.%u.%u.%u", ip.f0, ip.f1, ip.f2, ip.f3);
    } else {
        ipv6_address ip = it->val.ipv6.address;
        say(" %x:%x:%x:%x:%x:%x:%x:%x flow %u scope %u", ip.f0, ip.f1, ip.f2, ip.f3, ip.f4, ip.f5, ip.f6, ip.f7,
            it->val.ipv6.flow_info, it->val.ipv6.scope_id);
    }
    say(" port %s", port_of(it) ? "not 0" : "0");
}

// Addresses to have: every one, its own, somebody else's, groups, and one of IPv4 in IPv6's clothes.
#define LOCAL_ADDRESSES                                                                                                        \
    {ipv4(0, 0, 0, 0, 0), ipv4(127, 0, 0, 1, 0), ipv4(192, 0, 2, 1, 0), ipv4(224, 0, 0, 1, 0), ipv4(255, 255, 255, 255, 0),     \
     ipv6(0, 0, 0, 0, 0), ipv6(0, 0, 0, 1, 0), ipv6(0x2001, 0xdb8, 0, 1, 0), ipv6(0xff02, 0, 0, 1, 0), ipv6(0, 0xffff, 0x7f00, 1, 0)}

// Addresses that nobody has.
#define REMOTE_ADDRESSES                                                                                    \
    {ipv4(0, 0, 0, 0, 80), ipv4(127, 0, 0, 1, 0), ipv4(224, 0, 0, 1, 80), ipv4(255, 255, 255, 255, 80),      \
     ipv6(0, 0, 0, 0, 80), ipv6(0, 0, 0, 1, 0), ipv6(0xff02, 0, 0, 1, 80), ipv6(0, 0xffff, 0x7f00, 1, 80)}
