// SPDX-License-Identifier: Apache-2.0

//! The calls that a vCPU thread may still make on the host: run the guest, serve its requests, end; and those of a
//! whole process that serves a Keep: the same, and to start vCPUs and threads.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use seccompiler::{BpfProgram, SeccompAction};

use enarx_confine::ConfineError;
use enarx_confine::landlock::{self, Enforcement, Tcp};
use enarx_confine::process;
use enarx_confine::seccomp::{Allow, apply, compile, thread, word};
use enarx_executor::grant::{Grant, Services};
use enarx_executor::interrupt;

/// `KVM_RUN`, `KVM_GET_REGS`, `KVM_GET_SREGS`, `KVM_INTERRUPT` (Linux `linux/kvm.h`).
const REQUESTS: &[u32] = &[0xae80, 0x8090_ae81, 0x8138_ae83, 0x4004_ae86];
const _: () = assert!(super::vcpu_ops::KVM_INTERRUPT == REQUESTS[3] as u64);

/// The calls of vCPU threads.
fn allowed(services: Services, platform: Vec<Allow>) -> impl Iterator<Item = Allow> {
    thread()
        .chain(enarx_executor::allowed(services))
        .chain([
            Allow::ioctl(REQUESTS),
            // The one signal, to threads of this program: the kernel takes the number of any process.
            Allow::call(libc::SYS_tgkill)
                .word(0, &[std::process::id()])
                .word(2, &[word(interrupt::signal())]),
        ])
        .chain(platform)
}

/// The ioctls by which a vCPU gets its first state: `KVM_SET_REGS`, `KVM_GET_SREGS`, `KVM_SET_SREGS`,
/// `KVM_SET_MSRS`, `KVM_GET_LAPIC`, `KVM_SET_LAPIC`, `KVM_SET_CPUID2`, `KVM_SET_MP_STATE`, `KVM_SET_XCRS` (Linux
/// `linux/kvm.h`).
const FIRST_STATE: &[u32] = &[
    0x4090_ae82,
    0x8138_ae83,
    0x4138_ae84,
    0x4008_ae89,
    0x8400_ae8e,
    0x4400_ae8f,
    0x4008_ae90,
    0x4004_ae99,
    0x4188_aea7,
];

/// The calls of a process that serves a Keep: those of its vCPU threads, and those of the thread that starts them.
fn allowed_in_process(
    services: Services,
    platform: Vec<Allow>,
    control: Vec<Allow>,
) -> impl Iterator<Item = Allow> {
    allowed(services, platform)
        .chain(process::threads())
        .chain([Allow::ioctl(FIRST_STATE)])
        .chain(control)
}

/// The rules for the vCPU threads of one Keep.
#[derive(Debug)]
pub struct Confinement {
    filter: BpfProgram,
    services: Services,
    directories: Vec<(OwnedFd, bool)>,
    tcp: Tcp,
    /// Landlock's enforcement for the process; `None` if there is none yet, and each thread applies it itself.
    process: Option<Enforcement>,
}

impl Confinement {
    /// Prepares the rules that a grant asks for, and the system calls of the platform.
    ///
    /// # Errors
    /// [`ConfineError`]; also when a directory cannot be duplicated.
    pub fn new(grant: &Grant, platform: Vec<Allow>) -> Result<Self, ConfineError> {
        let filter = compile(allowed(grant.services(), platform), SeccompAction::Trap)?;
        let directories = grant
            .directories
            .iter()
            .map(|granted| Ok((granted.directory.try_clone()?, granted.read_only)))
            .collect::<std::io::Result<_>>()
            .map_err(ConfineError::Directory)?;
        Ok(Self {
            filter,
            services: grant.services(),
            directories,
            tcp: grant.tcp(),
            process: None,
        })
    }

    fn directories(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let directories = self.directories.iter();
        directories.map(|(directory, read_only)| (directory.as_fd(), *read_only))
    }

    /// Permanently confines this process, which has one thread; returns what Landlock enforces. `platform` are the
    /// calls that the platform needs, `control` those of the thread that starts the others.
    ///
    /// # Errors
    /// [`ConfineError`] when the kernel refuses: the process must not serve a Keep.
    pub fn confine_process(
        &mut self,
        platform: Vec<Allow>,
        control: Vec<Allow>,
    ) -> Result<Enforcement, ConfineError> {
        // No thread may do it afterwards.
        interrupt::handle_signal();
        let allowed = allowed_in_process(self.services, platform, control);
        let landlock = process::confine(self.directories(), &self.tcp, allowed)?;
        self.process = Some(landlock);
        Ok(landlock)
    }

    /// Permanently confines the calling thread; returns what Landlock enforces.
    ///
    /// # Errors
    /// [`ConfineError`] when the kernel refuses.
    pub fn apply(&self) -> Result<Enforcement, ConfineError> {
        let landlock = match self.process {
            Some(landlock) => landlock,
            None => landlock::restrict(self.directories(), &self.tcp)?,
        };
        apply(&self.filter)?;
        Ok(landlock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_confine::bpf::allows;
    use enarx_confine::seccomp::checks::check;
    use enarx_executor::grant::NetworkGrant;

    const NOTHING: NetworkGrant = NetworkGrant {
        tcp: false,
        udp: false,
        name_lookup: false,
    };

    fn filter(network: NetworkGrant) -> BpfProgram {
        check(allowed(network.into(), Vec::new()))
    }

    #[test]
    fn only_the_interrupt_signal_to_this_program_is_permitted() {
        let program = filter(NOTHING);
        let [own, other] = [std::process::id(), 1].map(u64::from);
        let signal = u64::from(word(interrupt::signal()));
        let with =
            |process, signal| allows(&program, libc::SYS_tgkill, [process, 2, signal, 0, 0, 0]);
        assert!(with(own, signal));
        assert!(!with(other, signal) && !with(own, 9) && !with(own, 0));
        for call in [libc::SYS_kill, libc::SYS_tkill, libc::SYS_rt_tgsigqueueinfo] {
            assert!(!allows(&program, call, [own, own, signal, 0, 0, 0]));
        }
    }

    #[test]
    fn only_the_door_and_the_listener_accept_connections() {
        let services = Services {
            network: NOTHING,
            door: Some(12),
            listener: Some(13),
        };
        let program = check(allowed(services, Vec::new()));
        let accept = |fd| allows(&program, libc::SYS_accept4, [fd, 0, 0, 0, 0, 0]);
        assert!(accept(12) && accept(13) && !accept(11));
        for call in [libc::SYS_socket, libc::SYS_connect, libc::SYS_listen] {
            assert!(!allows(&program, call, [12, 0, 0, 0, 0, 0]), "{call}");
        }
    }

    #[test]
    fn sockets_are_of_the_granted_kinds() {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let [stream, datagram, raw] = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW]
            .map(|kind| u64::from(word(kind | flags)));
        let [inet, inet6] = [libc::AF_INET, libc::AF_INET6].map(|family| u64::from(word(family)));
        for (tcp, udp) in [(false, false), (true, false), (false, true), (true, true)] {
            let program = filter(NetworkGrant {
                tcp,
                udp,
                name_lookup: true,
            });
            let socket = |family, kind, protocol| {
                allows(
                    &program,
                    libc::SYS_socket,
                    [family, kind, protocol, 0, 0, 0],
                )
            };
            for family in [inet, inet6] {
                assert_eq!(socket(family, stream, 0), tcp);
                assert_eq!(socket(family, datagram, 0), udp);
                assert!(!socket(family, raw, 0));
                // MPTCP, SCTP, ICMP.
                for protocol in [262, 132, 1] {
                    assert!(!socket(family, stream, protocol));
                    assert!(!socket(family, datagram, protocol));
                }
            }
            // Every other family: sockets of system services, netlink, packets, the kernel's cryptography.
            for family in (0..64).filter(|&family| family != inet && family != inet6) {
                for kind in [stream, datagram, raw] {
                    assert!(!socket(family, kind, 0), "{family}");
                }
            }
            for (call, granted) in [
                (libc::SYS_connect, tcp),
                (libc::SYS_accept4, tcp),
                (libc::SYS_listen, tcp),
                (libc::SYS_sendto, udp),
                (libc::SYS_recvfrom, udp),
                (libc::SYS_bind, tcp || udp),
                (libc::SYS_sendmsg, false),
            ] {
                assert_eq!(allows(&program, call, [0; 6]), granted, "{call}");
            }
            let option = |call, level: libc::c_int, name: libc::c_int| {
                let [level, name] = [level, name].map(|word_| u64::from(word(word_)));
                allows(&program, call, [5, level, name, 0, 0, 0])
            };
            let both = [libc::SYS_setsockopt, libc::SYS_getsockopt];
            for call in both {
                assert_eq!(
                    option(call, libc::IPPROTO_TCP, libc::TCP_NODELAY),
                    tcp || udp
                );
                for (level, name) in [
                    (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
                    (libc::SOL_SOCKET, libc::SO_ATTACH_BPF),
                    (libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
                    (libc::IPPROTO_TCP, libc::TCP_ULP),
                    (libc::IPPROTO_TCP, libc::TCP_REPAIR),
                    (libc::IPPROTO_IP, libc::MCAST_JOIN_GROUP),
                    (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT),
                ] {
                    assert!(!option(call, level, name), "{level} {name}");
                }
            }
            let [set, get] = both;
            let error = |call| option(call, libc::SOL_SOCKET, libc::SO_ERROR);
            assert_eq!((error(set), error(get)), (false, tcp || udp));
        }
    }
}
