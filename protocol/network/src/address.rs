// SPDX-License-Identifier: Apache-2.0

//! The comparison of addresses, and guarded addresses, which need a rule that names them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::network::Network;

/// The machine at which a packet to an address arrives: an IPv4 address embedded in an IPv6 address is that IPv4
/// address, and the unspecified address is this machine (Linux, ip(7) and ipv6(7)).
#[must_use]
pub fn destination(address: IpAddr) -> IpAddr {
    let address = match address {
        IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// The IPv4 address that is embedded in an IPv6 address, if it is of such a kind.
pub(crate) fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join =
        |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        // Unspecified and loopback.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // Compatible (RFC 4291 section 2.5.5.1), mapped (2.5.5.2), translated (RFC 7915 section 4.1, of RFC 2765), NAT64
        // (RFC 6052 section 2.1), 6to4 (RFC 3056 section 2).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => join(high, low),
        _ => None,
    }
}

/// The prefixes of [`embedded`]: a network within one of them is an IPv4 network in disguise.
const IPV4_DISGUISES: [Network; 5] = [
    Network::v6([0; 8], 96),
    Network::v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
    Network::v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96),
    Network::v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96),
    Network::v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
];

/// The first IPv4 address of a network that is an IPv4 network in disguise.
pub(crate) fn disguised(network: &Network) -> Option<Ipv4Addr> {
    let IpAddr::V6(first) = network.address() else {
        return None;
    };
    // `::1` and `::` are within one of them, but keep their own meaning.
    let itself = network.is_single_address() && (first.is_unspecified() || first.is_loopback());
    let within = IPV4_DISGUISES
        .iter()
        .any(|clothes| clothes.includes(network));
    (within && !itself).then(|| embedded(first).unwrap_or(Ipv4Addr::UNSPECIFIED))
}

/// Networks whose addresses need a rule for an address or network within them: this machine, its neighbours on the
/// link, multicast and broadcast, opaque tunnels to IPv4, and the services that give a virtual machine its credentials.
const GUARDED: [Network; 22] = [
    // This network (RFC 1122 section 3.2.1.3), loopback, link-local (RFC 3927), multicast (RFC 5771), broadcast (RFC 919).
    Network::v4([0, 0, 0, 0], 8),
    Network::v4([127, 0, 0, 0], 8),
    Network::v4([169, 254, 0, 0], 16),
    Network::v4([224, 0, 0, 0], 4),
    Network::v4([255, 255, 255, 255], 32),
    // Loopback, link-local, site-local, multicast (RFC 4291 sections 2.5.3, 2.5.6, 2.5.7 and 2.7).
    Network::v6([0, 0, 0, 0, 0, 0, 0, 1], 128),
    Network::v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    Network::v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),
    Network::v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
    // NAT64 with an operator's own prefix (RFC 8215), Teredo (RFC 4380 section 2.6).
    Network::v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
    Network::v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32),
    // Metadata: of most clouds, by IPv4.
    Network::v4([169, 254, 169, 254], 32),
    // AWS: "Use the Instance Metadata Service", "Task IAM role" of ECS, "EKS Pod Identity".
    Network::v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
    Network::v4([169, 254, 170, 2], 32),
    Network::v4([169, 254, 170, 23], 32),
    Network::v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], 128),
    // Google Cloud: "About VM metadata".
    Network::v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
    // Alibaba Cloud: "Access instance metadata".
    Network::v4([100, 100, 100, 200], 32),
    // Azure: "What is IP address 168.63.129.16?".
    Network::v4([168, 63, 129, 16], 32),
    // Oracle Cloud: "Getting Instance Metadata", and that of its classic platform.
    Network::v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
    Network::v4([192, 0, 0, 192], 32),
    // Scaleway: "How to use cloud-init metadata".
    Network::v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128),
];

/// True if an address needs a rule for an address or network of its kind: host names never allow it.
#[must_use]
pub fn is_guarded(address: IpAddr) -> bool {
    guards(&Network::one(destination(address))).next().is_some()
}

/// The guarded networks that contain an address, or a whole network.
pub(crate) fn guards(network: &Network) -> impl Iterator<Item = &'static Network> + '_ {
    GUARDED.iter().filter(|guarded| guarded.includes(network))
}

impl Network {
    /// True if a rule for this network lets a packet go to `address`: [`destination`] counts, and addresses of this machine,
    /// its link and metadata services are reached only by a network that lies within theirs.
    #[must_use]
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.permits(&Self::one(destination(address)))
    }

    /// True if a rule for this network permits everything that one for `other` does.
    #[must_use]
    pub fn permits(&self, other: &Self) -> bool {
        self.includes(other) && guards(other).all(|guarded| guarded.includes(self))
    }
}
