// SPDX-License-Identifier: Apache-2.0

//! KVM's own counters of a vCPU, for `--timings`: how many instructions it had to emulate (on
//! `kvm_pvm` every instruction at CPL0), how often the guest exited.
#![expect(unsafe_code, reason = "an ioctl has no safe interface")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use kvm_ioctls::VcpuFd;

/// `KVM_GET_STATS_FD`, `_IO(KVMIO, 0xce)` (Linux `linux/kvm.h`).
const KVM_GET_STATS_FD: u64 = 0xaece;
/// Size of `struct kvm_stats_header`.
const HEADER: usize = 24;
/// Size of `struct kvm_stats_desc` without the name.
const DESCRIPTOR: usize = 16;

/// The counters of one vCPU.
#[derive(Debug)]
pub struct Stats(File);

impl Stats {
    /// The counters of `vcpu`.
    ///
    /// # Errors
    /// The system's; `ENOTTY` or `EINVAL` from a kernel without them.
    pub fn of(vcpu: &VcpuFd) -> io::Result<Self> {
        // SAFETY: takes no argument; the result is a new descriptor or an error.
        let fd = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_GET_STATS_FD as _, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and has no other owner.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// The counter with a name, if this KVM has it.
    pub fn counter(&self, name: &str) -> Option<u64> {
        let mut header = [0; HEADER];
        self.0.read_exact_at(&mut header, 0).ok()?;
        let word = |bytes: &[u8], at: usize| {
            Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
        };
        let [name_size, count, descriptors, data] = [
            word(&header, 4)?,
            word(&header, 8)?,
            word(&header, 16)?,
            word(&header, 20)?,
        ];
        let size = DESCRIPTOR + usize::try_from(name_size).ok()?;
        for index in 0..count {
            let mut descriptor = vec![0; size];
            let at = u64::from(descriptors) + u64::from(index) * size as u64;
            self.0.read_exact_at(&mut descriptor, at).ok()?;
            let named = descriptor.get(DESCRIPTOR..)?;
            let end = named
                .iter()
                .position(|&byte| byte == 0)
                .unwrap_or(named.len());
            if named.get(..end)? == name.as_bytes() {
                let mut value = [0; 8];
                let offset = u64::from(data) + u64::from(word(&descriptor, 8)?);
                self.0.read_exact_at(&mut value, offset).ok()?;
                return Some(u64::from_le_bytes(value));
            }
        }
        None
    }
}
