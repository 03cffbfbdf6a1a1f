// SPDX-License-Identifier: Apache-2.0

//! The model-specific registers with which the simulated platform emulates features that only an SNP
//! CPU has. Only the `simulated` build of the microkernel uses them; it has a different measurement.
//!
//! Each is read with RDMSR; the VMM finds the arguments in the other registers, and its answer
//! arrives in EDX:EAX. The numbers are in a range that no CPU uses.

/// PVALIDATE of the page at RBX: bit 0 of RBX large, bit 1 validate. Answer: EAX the code, EDX the
/// carry flag.
pub const PVALIDATE: u32 = 0xc001_0f00;
/// RMPADJUST of the page at RBX with the attributes in RSI. Answer: EAX the code.
pub const RMPADJUST: u32 = 0xc001_0f01;
/// Zeroes the 2 MiB at RBX: an emulated CPU would take tens of milliseconds for it.
pub const CLEAR: u32 = 0xc001_0f02;
/// Oddities of this host's virtual CPUs: bits `QUIRK_…`.
pub const QUIRKS: u32 = 0xc001_0f03;
/// SYSCALL does not raise the privilege level.
pub const QUIRK_SYSCALL: u64 = 1 << 0;
/// First of the registers, and how many there are.
pub const REGISTERS: (u32, u32) = (PVALIDATE, 4);
