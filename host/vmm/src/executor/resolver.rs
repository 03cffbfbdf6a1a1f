//! Look-ups of names, when the contract grants them, by a thread of their own: the C library offers no
//! other way. It is confined too, but needs more than its siblings: the C library's files and sockets.

use std::fs::File;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{
    Receiver, Sender, SyncSender, TryRecvError, TrySendError, channel, sync_channel,
};
use std::sync::{Arc, Weak};
use std::thread;

use enarx_sallyport::Status;
use rustix::event::{EventfdFlags, eventfd};
use seccompiler::{BpfProgram, SeccompAction};

use super::{Result, status};
use crate::confine::landlock::{self, Tcp};
use crate::confine::seccomp::{Allow, THREAD_CALLS, apply, compile};

/// What a look-up yields.
pub type Addresses = Result<Vec<IpAddr>>;

/// Look-ups that wait for the thread, at most, cancelled ones included.
const MAX_LOOKUPS: usize = 16;

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

/// What getaddrinfo(3) and the modules of the C library call besides [`THREAD_CALLS`]; the list is that of
/// calls that read files, speak on sockets and wait.
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
    libc::SYS_fcntl,
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
    libc::SYS_prlimit64,
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
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socket,
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

/// A question to the thread.
struct Question {
    name: String,
    answer: Sender<Addresses>,
    /// Gone when nobody wants to know any more: a question holds no descriptor while it waits.
    ready: Weak<OwnedFd>,
}

/// A look-up that was asked for.
#[derive(Debug)]
pub struct Lookup(Receiver<Addresses>);

impl Lookup {
    /// The answer; `None` when it is not there yet.
    pub fn answer(&self) -> Option<Addresses> {
        match self.0.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Status::ResolverFailure)),
        }
    }
}

/// The thread that looks up names, one after the other. It ends when this value is dropped, or
/// once the look-up that it is about has ended.
#[derive(Debug)]
pub struct Resolver {
    questions: SyncSender<Question>,
}

impl Resolver {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's; also when the thread's confinement cannot be prepared.
    pub fn start() -> std::io::Result<Self> {
        let filter = filter()?;
        let (questions, asked) = sync_channel::<Question>(MAX_LOOKUPS);
        thread::Builder::new()
            .name("enarx-resolver".into())
            .spawn(move || {
                // Unconfined it answers nothing: who asks is told that there is no resolver.
                if confine(&filter).is_err() {
                    return;
                }
                for Question {
                    name,
                    // Cancelled while it waited, or by the end of the Keep.
                    if ready.strong_count() == 0 {
                        continue;
                    }
                    answer,
                    ready,
                } in asked
                {
                    // Nobody waits any more: no matter.
                    let _ = answer.send(look_up(&name));
                    if let Some(ready) = ready.upgrade() {
                        let _ = rustix::io::write(&*ready, &1_u64.to_ne_bytes());
                    }
                }
            })?;
        Ok(Self { questions })
    }

    /// Asks for a name; the descriptor becomes readable when the answer is there. Who drops it does not
    /// want to know any more.
    ///
    /// # Errors
    /// [`Status::Again`] when [`MAX_LOOKUPS`] wait.
    pub fn ask(&self, name: String) -> Result<(Lookup, Arc<OwnedFd>)> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let ready = Arc::new(eventfd(0, flags).map_err(status)?);
        let (answer, answered) = channel();
        let question = Question {
            name,
            answer,
            ready: Arc::downgrade(&ready),
        };
        self.questions
            .try_send(question)
            .map_err(|error| match error {
                TrySendError::Full(_) => Status::Again,
                TrySendError::Disconnected(_) => Status::ResolverFailure,
            })?;
        Ok((Lookup(answered), ready))
    }
}

fn look_up(name: &str) -> Addresses {
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

/// The filter of the thread's system calls. A module of the C library that wants another one is told that
/// there is none such, and does without.
fn filter() -> std::io::Result<BpfProgram> {
    let calls = THREAD_CALLS.iter().chain(CALLS);
    let allowed = calls
        .map(|&call| Allow::Call(call))
        .chain([Allow::ioctl(&[FIONREAD])]);
    let otherwise = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    compile(allowed, otherwise).map_err(std::io::Error::other)
}

/// Leaves the calling thread the files of the C library to read, name servers, and the calls of `filter`.
fn confine(filter: &BpfProgram) -> std::result::Result<(), crate::confine::ConfineError> {
    let folders: Vec<File> = READABLE
        .iter()
        .filter_map(|folder| File::open(folder).ok())
        .collect();
    let folders = folders.iter().map(|folder| (folder.as_fd(), true));
    landlock::restrict(folders, Tcp::Port(DNS))?;
    apply(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_confined_thread_looks_up_and_does_nothing_else() {
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
