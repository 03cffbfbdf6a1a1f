// SPDX-License-Identifier: Apache-2.0

//! The AMD SEV-SNP structures as bytes: attestation report, TCB versions, guest policy, ID block, launch digest
//! input, VMSA, secrets page, CPUID page, guest messages and GHCB. Trusts nobody: every decoder is total.
//!
//! `no_std`, no allocation, no input or output: the microkernel, the loader of the Keep and the tenant's verifier
//! share these definitions. Sources, quoted as `56860 NAME` and so on where a structure or constant is defined:
//!
//! * 56860: *SEV Secure Nested Paging Firmware ABI Specification*, revision 1.58
//! * 56421: *SEV-ES Guest-Hypervisor Communication Block Standardization*, revision 2.04
//! * 57230: *Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification*, revision 1.00
//! * APM2: *AMD64 Architecture Programmer's Manual, Volume 2: System Programming* (24593), appendix B
//!
//! Integers wider than a byte are [`zerocopy::little_endian`] types, so no structure here has padding or an
//! alignment above 1, and a reference can be taken from any byte slice of the right length.
#![no_std]
#![forbid(unsafe_code)]
// The other side controls the input of this code: it refuses bad input and never panics.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod bits;
pub mod cpuid;
pub mod ghcb;
pub mod guest_message;
pub mod id_block;
pub mod launch;
pub mod product;
pub mod report;
pub mod rmp_codes;
pub mod secrets;
pub mod simulated;
pub mod tcb;
pub mod vmsa;

/// Asserts the size of an ABI structure and the offsets of its fields at compile time.
macro_rules! assert_layout {
    ($type:ty, $size:expr $(, $field:ident @ $offset:expr)* $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$type>() == $size);
            assert!(core::mem::align_of::<$type>() == 1);
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)*
        };
    };
}
pub(crate) use assert_layout;
