// SPDX-License-Identifier: Apache-2.0

//! Addresses as a program names them: those that a socket can have or reach. The host says which of them it may reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::error::{Errno, Result};

/// The address that means every address of this machine, with a port that the host chooses.
pub fn any(ipv6: bool) -> SocketAddr {
    let address = if ipv6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    };
    SocketAddr::new(address, 0)
}

/// Refuses an address of the other family, and an IPv4 address in IPv6's clothes.
///
/// # Errors
/// [`Errno::Invalid`].
pub fn of_family(address: SocketAddr, ipv6: bool) -> Result<SocketAddr> {
    let disguised = match address.ip() {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.to_ipv4_mapped().is_some(),
    };
    if address.is_ipv6() != ipv6 || disguised {
        return Err(Errno::Invalid);
    }
    Ok(address)
}

/// Refuses the address of a group, besides.
///
/// # Errors
/// [`Errno::Invalid`].
pub fn single_receiver(address: SocketAddr, ipv6: bool) -> Result<SocketAddr> {
    let group = match address.ip() {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    if group {
        return Err(Errno::Invalid);
    }
    of_family(address, ipv6)
}

/// Refuses an address that cannot be a peer's: the unspecified one, and port 0.
///
/// # Errors
/// [`Errno::Invalid`].
pub fn possible_peer(address: SocketAddr) -> Result<SocketAddr> {
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err(Errno::Invalid);
    }
    Ok(address)
}

/// The own address of a socket that has one peer, of which its host does not know: this machine is reached from its loopback
/// address (ip(7)). `own` is the address that the host says.
pub fn towards(own: SocketAddr, peer: Option<SocketAddr>) -> SocketAddr {
    let is_here = peer.is_some_and(|peer| peer.ip().is_loopback());
    if !is_here || !own.ip().is_unspecified() {
        return own;
    }
    let address = if own.is_ipv6() {
        Ipv6Addr::LOCALHOST.into()
    } else {
        IpAddr::from(Ipv4Addr::LOCALHOST)
    };
    SocketAddr::new(address, own.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_of_one_family() {
        for (text, ipv6) in [("127.0.0.1:80", false), ("[::1]:80", true)] {
            assert_eq!(of_family(address(text), ipv6), Ok(address(text)));
            assert_eq!(of_family(address(text), !ipv6), Err(Errno::Invalid));
        }
        let disguised = address("[::ffff:127.0.0.1]:80");
        assert_eq!(of_family(disguised, true), Err(Errno::Invalid));
        assert_eq!(of_family(any(true), true), Ok(any(true)));
        assert_eq!(of_family(any(false), false), Ok(any(false)));
    }

    #[test]
    fn a_local_peer_is_reached_from_the_loopback_address() {
        for (own, peer, told) in [
            ("0.0.0.0:5", "127.0.0.2:7", "127.0.0.1:5"),
            ("[::]:5", "[::1]:7", "[::1]:5"),
            ("0.0.0.0:5", "192.0.2.1:7", "0.0.0.0:5"),
            ("192.0.2.9:5", "127.0.0.1:7", "192.0.2.9:5"),
        ] {
            assert_eq!(towards(address(own), Some(address(peer))), address(told));
            assert_eq!(towards(address(own), None), address(own));
        }
    }

    #[test]
    fn multicast_and_unspecified_addresses_are_recognized() {
        for group in ["224.0.0.1:80", "255.255.255.255:80", "[ff02::1]:80"] {
            let group = address(group);
            assert_eq!(single_receiver(group, group.is_ipv6()), Err(Errno::Invalid));
            assert_eq!(of_family(group, group.is_ipv6()), Ok(group));
        }
        for nobody in ["0.0.0.0:80", "[::]:80", "127.0.0.1:0"] {
            let nobody = address(nobody);
            assert_eq!(possible_peer(nobody), Err(Errno::Invalid));
            assert_eq!(single_receiver(nobody, nobody.is_ipv6()), Ok(nobody));
        }
    }
}
