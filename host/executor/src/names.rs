// SPDX-License-Identifier: Apache-2.0

//! Name look-ups with the C library, which offers no other way, and the confinement of the process that
//! makes them: the C library needs more files and sockets than serving a Keep does.

use std::fs::File;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::AsFd;

use enarx_confine::landlock::{self, Tcp};
use enarx_confine::seccomp::{self, Allow, apply, calls, compile, wide, word};
use enarx_sallyport::Status;
use seccompiler::{BpfProgram, SeccompAction};

use crate::answer::Result;

/// The result of a look-up.
pub type Addresses = Result<Vec<IpAddr>>;

/// Look-ups that wait for the thread, at most, cancelled ones included.
pub const MAX_LOOKUPS: usize = 16;

/// The port of name servers (RFC 1035, section 4.2).
const DNS: u16 = 53;

/// Where a C library keeps its settings (resolv.conf, hosts, nsswitch.conf, also by links into /run) and the
/// modules that nsswitch.conf names; the last two are those of NixOS and Guix.
const READABLE: &[&str] = &[
    "/etc",
    "/run",
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/gnu/store",
];

/// Calls of getaddrinfo(3) and of the modules of the C library, with any arguments: to read files, speak on
/// sockets and wait.
const CALLS: &[i64] = &[
    libc::SYS_access,
    libc::SYS_bind,
    libc::SYS_clock_getres,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fstat,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_lseek,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sched_getaffinity,
    libc::SYS_select,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_stat,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_time,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
];

/// `FIONREAD` (Linux, include/uapi/asm-generic/ioctls.h): how much has come in.
const FIONREAD: u32 = 0x541b;

/// The addresses of a name.
pub fn look_up(name: &str) -> Addresses {
    match (name, 0).to_socket_addrs() {
        Ok(addresses) => {
            let mut found = Vec::new();
            for address in addresses.map(|address| address.ip()) {
                if !found.contains(&address) {
                    found.push(address);
                }
            }
            Ok(found)
        }
        // The standard library does not say which error of getaddrinfo(3) it was.
        Err(_) => Err(Status::NameUnresolvable),
    }
}

/// The filter of the thread's system calls. A module of the C library that makes another one gets "not
/// implemented", and does without.
pub fn filter() -> std::io::Result<BpfProgram> {
    let otherwise = SeccompAction::Errno(word(libc::ENOSYS));
    compile(allowed(), otherwise).map_err(std::io::Error::other)
}

/// The calls of the thread: those of any thread, [`CALLS`], and some with arguments.
fn allowed() -> impl Iterator<Item = Allow> {
    let option = |level, names: &[libc::c_int]| {
        let names: Vec<u32> = names.iter().copied().map(word).collect();
        Allow::call(libc::SYS_setsockopt)
            .word(1, &[word(level)])
            .word(2, &names)
    };
    let execute = wide(libc::PROT_READ | libc::PROT_EXEC);
    let shape = wide(libc::MAP_TYPE | libc::MAP_ANONYMOUS);
    seccomp::thread().chain(calls(CALLS)).chain([
        // Modules of the C library, from files.
        Allow::call(libc::SYS_mmap)
            .long(2, &[execute])
            .bits(3, shape, wide(libc::MAP_PRIVATE)),
        Allow::ioctl(&[FIONREAD]),
        // No signals for events on a descriptor: `F_SETOWN` and `F_SETSIG` name any process.
        Allow::call(libc::SYS_fcntl).word(
            1,
            &[
                libc::F_DUPFD_CLOEXEC,
                libc::F_GETFD,
                libc::F_GETFL,
                libc::F_SETFD,
                libc::F_SETFL,
            ]
            .map(word),
        ),
        // Asking for limits of its own; setting one has an address in the third argument.
        Allow::call(libc::SYS_prlimit64).word(0, &[0]).long(2, &[0]),
        // Name servers, and the sockets of resolvers of the system.
        Allow::call(libc::SYS_socket)
            .word(0, &[libc::AF_INET, libc::AF_INET6, libc::AF_UNIX].map(word)),
        // The addresses of this machine decide on the order of answers.
        Allow::call(libc::SYS_socket)
            .word(0, &[word(libc::AF_NETLINK)])
            .word(2, &[word(libc::NETLINK_ROUTE)]),
        option(libc::IPPROTO_IP, &[libc::IP_RECVERR, libc::IP_PKTINFO]),
        option(
            libc::IPPROTO_IPV6,
            &[
                libc::IPV6_RECVERR,
                libc::IPV6_RECVPKTINFO,
                libc::IPV6_V6ONLY,
            ],
        ),
        option(
            libc::SOL_SOCKET,
            &[
                libc::SO_RCVBUF,
                libc::SO_RCVTIMEO,
                libc::SO_SNDBUF,
                libc::SO_SNDTIMEO,
                libc::SO_REUSEADDR,
                libc::SO_PASSCRED,
            ],
        ),
    ])
}

/// Leaves the calling thread the files of the C library to read, name servers, and the calls of `filter`.
pub fn confine(filter: &BpfProgram) -> std::result::Result<(), enarx_confine::ConfineError> {
    let folders: Vec<File> = READABLE
        .iter()
        .filter_map(|folder| File::open(folder).ok())
        .collect();
    let folders = folders.iter().map(|folder| (folder.as_fd(), true));
    landlock::restrict(folders, &Tcp::Resolver(DNS))?;
    apply(filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_confine::bpf::allows;
    use enarx_confine::seccomp::checks::check;
    use std::thread;

    #[test]
    fn the_filter_permits_no_signals_limits_or_code() {
        let program = check(allowed());
        let fcntl = |command: libc::c_int| {
            allows(&program, libc::SYS_fcntl, [3, wide(command), 1, 0, 0, 0])
        };
        assert!(fcntl(libc::F_GETFL) && fcntl(libc::F_SETFL));
        // `F_SETSIG`, `F_SETOWN_EX` and `F_NOTIFY` (Linux, include/uapi/linux/fcntl.h).
        for command in [
            libc::F_SETOWN,
            10,
            15,
            1026,
            libc::F_SETLK,
            libc::F_SETPIPE_SZ,
        ] {
            assert!(!fcntl(command), "{command}");
        }
        let limit =
            |process, new| allows(&program, libc::SYS_prlimit64, [process, 7, new, 9, 0, 0]);
        assert!(limit(0, 0) && !limit(1, 0) && !limit(0, 0x7e00_0000_0000));
        let map = |protection, flags| {
            let arguments = [0, 0x1000, wide(protection), wide(flags), 3, 0];
            allows(&program, libc::SYS_mmap, arguments)
        };
        let read = libc::PROT_READ | libc::PROT_EXEC;
        assert!(map(read, libc::MAP_PRIVATE));
        assert!(!map(read, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS));
        assert!(!map(read, libc::MAP_SHARED));
        assert!(!map(read | libc::PROT_WRITE, libc::MAP_PRIVATE));
        let packets = [wide(libc::AF_PACKET), wide(libc::SOCK_RAW), 0, 0, 0, 0];
        assert!(!allows(&program, libc::SYS_socket, packets));
    }

    #[test]
    fn the_confined_thread_can_only_look_up_names() {
        let filter = filter().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        let path = outside.path().to_owned();
        thread::spawn(move || {
            confine(&filter).unwrap();
            let localhost = look_up("localhost").unwrap();
            assert!(localhost.iter().all(IpAddr::is_loopback) && !localhost.is_empty());
            assert!(look_up("no such name").is_err());
            assert!(File::open("/etc/hosts").is_ok());
            assert!(File::options().append(true).open("/etc/hosts").is_err());
            assert!(File::open(path).is_err(), "a file of somebody else");
            assert!(std::fs::create_dir("/tmp/enarx-resolver").is_err());
            assert!(std::process::Command::new("/bin/true").status().is_err());
        })
        .join()
        .unwrap();
        drop(outside);
    }
}
