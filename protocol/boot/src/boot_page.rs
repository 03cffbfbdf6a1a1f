// SPDX-License-Identifier: Apache-2.0

//! The boot page: what the microkernel is told at launch. In a measured Keep it is part of the
//! measurement; the host's unmeasured facts come in `HostFacts` of `enarx-exits`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First bytes of the boot page ("ENARXBT1").
pub const MAGIC: u64 = u64::from_le_bytes(*b"ENARXBT1");

/// The SYSCALL instruction does not raise the privilege level here (KVM hosts of the kind
/// `kvm_pvm`): system calls arrive through the invalid opcode of the system-call page.
pub const FLAG_SYSCALL_BY_UD: u32 = 1 << 0;
/// The Keep runs under SEV-SNP: `c_bit` and the fields after it count.
pub const FLAG_SNP: u32 = 1 << 1;
/// Fault reports contain addresses. A host sees them, and can cause a fault whenever it likes, so a measured
/// Keep leaves them out unless the launch, and so the measurement, says otherwise.
pub const FLAG_FAULT_ADDRESSES: u32 = 1 << 2;
/// All of them.
pub const FLAGS: u32 = FLAG_SYSCALL_BY_UD | FLAG_SNP | FLAG_FAULT_ADDRESSES;

/// Contents of the boot page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootInfo {
    /// [`MAGIC`].
    pub magic: u64,
    /// Bits `FLAG_…`; unknown bits end the Keep.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// Guest physical address of the first page table (PML4).
    pub root: u64,
    /// First guest physical address that no page of the launch uses; a multiple of 4 KiB, inside
    /// the launch area. From here to the end of the launch area are free 4 KiB frames.
    pub launch_free: u64,
    /// First free guest physical address after the runtime image, a multiple of 2 MiB.
    pub free_start: u64,
    /// User address of the first program's entry point: the runtime, or the loader.
    pub user_entry: u64,
    /// User stack pointer at the entry; argument count, vectors and auxiliary vector lie there.
    pub user_stack: u64,
    /// Guest physical address of the 16 bytes that `AT_RANDOM` points to.
    pub random_bytes: u64,
    /// First address of the heap (`brk`), a multiple of 2 MiB.
    pub heap_start: u64,
    /// End of the part of the heap that is mapped at launch, a multiple of 2 MiB.
    pub heap_mapped: u64,
    /// The C-bit: the bit of a guest physical address that makes a page private; 0 without SNP.
    pub c_bit: u64,
    /// SEV_FEATURES of every vCPU.
    pub sev_features: u64,
    /// Guest physical address of the CPUID page.
    pub cpuid_page: u64,
    /// Guest physical address of the secrets page.
    pub secrets_page: u64,
    /// Guest physical address of the shared pages that hold the runtime image until the loader has
    /// copied it, a multiple of 2 MiB; they end at `free_start`.
    pub image_start: u64,
    /// Virtual address of the GDT.
    pub gdt: u64,
    /// Virtual address of the IDT.
    pub idt: u64,
    /// End of the user addresses of the loader, a multiple of 2 MiB; nothing else lies below.
    pub loader_end: u64,
}

const _: () = assert!(size_of::<BootInfo>() == 144);
const _: () = assert!(core::mem::offset_of!(BootInfo, root) == 16);
const _: () = assert!(core::mem::offset_of!(BootInfo, heap_mapped) == 72);
const _: () = assert!(core::mem::offset_of!(BootInfo, idt) == 128);

/// First bytes of the microkernel image: where the launcher finds its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ImageHeader {
    /// [`IMAGE_MAGIC`].
    pub magic: u64,
    /// Entry of every vCPU: stack pointer below the top of its kernel stack, its number in RDI.
    pub entry: u64,
    /// Entry by SYSCALL (LSTAR).
    pub syscall_entry: u64,
    /// Entry for vector 0; the others follow every [`VECTOR_STRIDE`] bytes.
    pub vectors: u64,
    /// First of the user pages: the vDSO, read and execute.
    pub user_code: u64,
    /// The clock page, read and write for the user.
    pub user_data: u64,
    /// The boot page.
    pub boot_page: u64,
    /// Where a vCPU begins that only its host has started: it ends the Keep.
    pub unexpected_vcpu_entry: u64,
}

/// First bytes of the microkernel image ("ENARXMK1").
pub const IMAGE_MAGIC: u64 = u64::from_le_bytes(*b"ENARXMK1");
/// Distance between exception entries, in bytes.
pub const VECTOR_STRIDE: u64 = 16;
/// Exception entries: vectors 0 to 32.
pub const VECTORS: u64 = 33;
/// Offset of the invalid opcode in the user code page that replaces SYSCALL on `kvm_pvm`.
pub const SYSCALL_OFFSET: u64 = 0xff0;

const _: () = assert!(size_of::<ImageHeader>() == 64);
