//! What a vCPU thread may still do on the host: run the guest, serve its requests, end.

use std::os::fd::{AsFd, OwnedFd};

use seccompiler::{BpfProgram, SeccompAction};

use enarx_confine::ConfineError;
use enarx_confine::landlock::{self, Tcp};
use enarx_confine::seccomp::{Allow, THREAD_CALLS, apply, compile};
use enarx_executor::grant::Grant;

/// `KVM_RUN`, `KVM_GET_REGS`, `KVM_GET_SREGS`, `KVM_INTERRUPT` (Linux `linux/kvm.h`).
const REQUESTS: &[u32] = &[0xae80, 0x8090_ae81, 0x8138_ae83, 0x4004_ae86];
const _: () = assert!(super::vcpu::KVM_INTERRUPT == REQUESTS[3] as u64);

/// The rules for the vCPU threads of one Keep.
#[derive(Debug)]
pub struct Confinement {
    filter: BpfProgram,
    directories: Vec<(OwnedFd, bool)>,
    tcp: Tcp,
}

impl Confinement {
    /// Prepares the rules that a grant asks for, and the system calls of the platform.
    ///
    /// # Errors
    /// [`ConfineError`]; also when a directory cannot be duplicated.
    pub fn new(grant: &Grant, platform: &[Allow]) -> Result<Self, ConfineError> {
        let any = THREAD_CALLS.iter().map(|&call| Allow::Call(call));
        let allowed = any.chain(enarx_executor::allowed(grant.network)).chain([
            Allow::ioctl(REQUESTS),
            // Kicks of other vCPU threads; the thread group is checked by the kernel.
            Allow::Call(libc::SYS_tgkill),
        ]);
        let allowed = allowed.chain(platform.iter().copied());
        let filter = compile(allowed, SeccompAction::Trap)?;
        let directories = grant
            .directories
            .iter()
            .map(|granted| Ok((granted.directory.try_clone()?, granted.read_only)))
            .collect::<std::io::Result<_>>()
            .map_err(ConfineError::Directory)?;
        Ok(Self {
            filter,
            directories,
            tcp: Tcp::granted(grant.network.tcp),
        })
    }

    /// Confines the calling thread, for good.
    ///
    /// # Errors
    /// [`ConfineError`] when the kernel refuses.
    pub fn apply(&self) -> Result<(), ConfineError> {
        let directories = self
            .directories
            .iter()
            .map(|(directory, read_only)| (directory.as_fd(), *read_only));
        landlock::restrict(directories, self.tcp)?;
        apply(&self.filter)
    }
}
