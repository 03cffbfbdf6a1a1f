// SPDX-License-Identifier: Apache-2.0

//! Symbols that the assembly of the entries and Rust share: the one defines them, the other needs them.

#![expect(unsafe_code, reason = "nothing vouches for symbols of assembly")]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Address of the system-call page where SYSCALL arrives as #UD there; 0 = ordinary SYSCALL. A genuine SNP
/// microkernel has no code for that: a host can inject #UD anywhere.
pub static SYSCALL_PAGE: AtomicU64 = AtomicU64::new(0);
/// The doorbell is a port of plain KVM: it has a short way from the system-call page.
pub static DOORBELL: AtomicBool = AtomicBool::new(false);

/// LSTAR: the ordinary entry, or the page that stands for it.
pub fn system_call_entry(ordinary: u64) -> u64 {
    match SYSCALL_PAGE.load(Ordering::Relaxed) {
        0 => ordinary,
        page => page,
    }
}

/// Has system calls arrive as invalid opcodes from now on, and the doorbell ring by its port where there is one; the address of
/// the page.
#[cfg(any(feature = "plain", feature = "simulated"))]
pub fn detour() -> u64 {
    let page = enarx_boot::layout::VDSO_USER + enarx_boot::boot_page::SYSCALL_OFFSET;
    SYSCALL_PAGE.store(page, Ordering::Relaxed);
    DOORBELL.store(!enarx_microkernel::kind::HAS_SNP, Ordering::Relaxed);
    page
}

// SAFETY: defined by the assembly of `entry` and of `vdso`: functions, and pages of 4096 bytes.
unsafe extern "C" {
    /// The entry of a vCPU.
    pub fn enarx_entry();
    /// The entry by SYSCALL.
    pub fn enarx_syscall();
    /// The boot page.
    #[link_name = "enarx_boot_page"]
    pub static BOOT_PAGE: [u8; 4096];
    /// The clock page.
    #[link_name = "enarx_user_data"]
    pub static mut CLOCK_PAGE: [u64; 512];
}
