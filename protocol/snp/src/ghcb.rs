// SPDX-License-Identifier: Apache-2.0

//! The guest-hypervisor communication block and the GHCB MSR protocol (56421). The host controls both: a guest
//! copies what it needs once, then checks the copy.

use crate::assert_layout;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The GHCB MSR (56421 section 2.3.1).
pub const MSR_GHCB: u32 = 0xC001_0130;
/// GHCB usage: the standard layout (56421 table 3).
pub const USAGE_STANDARD: u32 = 0;
/// Protocol version that SNP needs (56421 section 4.1).
pub const PROTOCOL_VERSION: u16 = 2;
/// Bytes of the shared buffer in the GHCB.
pub const SHARED_BUFFER_LEN: usize = 2032;

/// The GHCB, one shared page (56421 table 3).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
#[expect(
    missing_docs,
    reason = "the fields are those of 56421 table 3 under their own names"
)]
pub struct Ghcb {
    pub reserved_000: [u8; 0xCB],
    pub cpl: u8,
    pub reserved_0cc: [u8; 116],
    pub xss: U64,
    pub reserved_148: [u8; 24],
    pub dr7: U64,
    pub reserved_168: [u8; 144],
    pub rax: U64,
    pub reserved_200: [u8; 264],
    pub rcx: U64,
    pub rdx: U64,
    pub rbx: U64,
    pub reserved_320: [u8; 112],
    pub sw_exit_code: U64,
    pub sw_exit_info_1: U64,
    pub sw_exit_info_2: U64,
    pub sw_scratch: U64,
    pub reserved_3b0: [u8; 56],
    pub xcr0: U64,
    pub valid_bitmap: [u8; 16],
    pub x87_state_gpa: U64,
    pub reserved_408: [u8; 1016],
    pub shared_buffer: [u8; SHARED_BUFFER_LEN],
    pub reserved_ff0: [u8; 10],
    pub protocol_version: U16,
    pub ghcb_usage: U32,
}
assert_layout!(
    Ghcb, 4096,
    cpl @ 0x0CB, xss @ 0x140, dr7 @ 0x160, rax @ 0x1F8, rcx @ 0x308, rdx @ 0x310, rbx @ 0x318, sw_exit_code @ 0x390,
    sw_exit_info_1 @ 0x398, sw_exit_info_2 @ 0x3A0, sw_scratch @ 0x3A8, xcr0 @ 0x3E8, valid_bitmap @ 0x3F0,
    x87_state_gpa @ 0x400, shared_buffer @ 0x800, protocol_version @ 0xFFA, ghcb_usage @ 0xFFC,
);

impl Default for Ghcb {
    /// All zero.
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// A field of the GHCB that the valid bitmap covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[expect(
    missing_docs,
    reason = "the names are the specification's, the values the offsets of the fields"
)]
pub enum Field {
    Cpl = 0x0C8,
    Xss = 0x140,
    Dr7 = 0x160,
    Rax = 0x1F8,
    Rcx = 0x308,
    Rdx = 0x310,
    Rbx = 0x318,
    SwExitCode = 0x390,
    SwExitInfo1 = 0x398,
    SwExitInfo2 = 0x3A0,
    SwScratch = 0x3A8,
    Xcr0 = 0x3E8,
}

impl Ghcb {
    /// Sets or clears the bit of `field` in the valid bitmap: bit n stands for bytes 8n to 8n + 7.
    pub fn set_valid(&mut self, field: Field, valid: bool) {
        let n = field as usize / 8;
        if let Some(byte) = self.valid_bitmap.get_mut(n / 8) {
            let mask = 1 << (n % 8);
            *byte = if valid { *byte | mask } else { *byte & !mask };
        }
    }

    /// True if the bit of `field` in the valid bitmap is set.
    pub fn is_valid(&self, field: Field) -> bool {
        let n = field as usize / 8;
        self.valid_bitmap
            .get(n / 8)
            .is_some_and(|byte| byte & (1 << (n % 8)) != 0)
    }
}

/// Software exit codes (56421 table 7).
pub mod exit {
    /// Read or write of a port, instruction as intercepted (APM2 appendix C).
    pub const IOIO: u64 = 0x7B;
    /// Read or write of an MSR (APM2 appendix C).
    pub const MSR: u64 = 0x7C;
    /// CPUID (APM2 appendix C).
    pub const CPUID: u64 = 0x72;
    /// Read of memory-mapped input.
    pub const MMIO_READ: u64 = 0x8000_0001;
    /// Write of memory-mapped output.
    pub const MMIO_WRITE: u64 = 0x8000_0002;
    /// The guest has handled an NMI.
    pub const NMI_COMPLETE: u64 = 0x8000_0003;
    /// Parks this vCPU until it is started again.
    pub const AP_RESET_HOLD: u64 = 0x8000_0004;
    /// Sets or reads the address of the AP jump table.
    pub const AP_JUMP_TABLE: u64 = 0x8000_0005;
    /// Changes the state of pages.
    pub const PAGE_STATE_CHANGE: u64 = 0x8000_0010;
    /// Passes a guest message to the firmware.
    pub const GUEST_REQUEST: u64 = 0x8000_0011;
    /// Passes a guest message to the firmware and returns certificates.
    pub const EXTENDED_GUEST_REQUEST: u64 = 0x8000_0012;
    /// Creates or destroys a vCPU.
    pub const AP_CREATION: u64 = 0x8000_0013;
    /// Sets the address of the #HV doorbell page.
    pub const HV_DOORBELL: u64 = 0x8000_0014;
    /// Run another privilege level.
    pub const RUN_VMPL: u64 = 0x8000_0018;
    /// The host's features.
    pub const HV_FEATURES: u64 = 0x8000_FFFD;
    /// The end of the guest.
    pub const TERMINATE: u64 = 0x8000_FFFE;
    /// The host did not know the event.
    pub const UNSUPPORTED: u64 = 0x8000_FFFF;
}

/// Requests of [`exit::AP_CREATION`] in the low half of SW_EXITINFO1 (56421, SNP AP creation). 0, at the next INIT, is neither made
/// nor served here.
pub mod ap {
    /// Create now.
    pub const CREATE: u64 = 1;
    /// Destroy.
    pub const DESTROY: u64 = 2;
}

/// Features of the host (56421 table 5).
pub mod features {
    /// SEV-SNP.
    pub const SNP: u64 = 1 << 0;
    /// vCPUs are created by the guest.
    pub const SNP_AP_CREATION: u64 = 1 << 1;
    /// Restricted injection.
    pub const RESTRICTED_INJECTION: u64 = 1 << 2;
    /// Restricted injection of a timer.
    pub const RESTRICTED_INJECTION_TIMER: u64 = 1 << 3;
    /// A list of APIC ids.
    pub const APIC_ID_LIST: u64 = 1 << 4;
    /// Several privilege levels.
    pub const MULTI_VMPL: u64 = 1 << 5;
}

/// Operation of a page state change (56421 table 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PageOperation {
    /// Make private.
    Private = 1,
    /// Make shared.
    Shared = 2,
    /// Break a 2 MiB page into 4 KiB pages.
    Psmash = 3,
    /// Join 4 KiB pages to a 2 MiB page.
    Unsmash = 4,
}

/// An entry of a page state change (56421 table 8).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(transparent)]
pub struct PageStateEntry(pub U64);
assert_layout!(PageStateEntry, 8);

impl PageStateEntry {
    /// An entry for the page at guest frame number `gfn`; `None` when `gfn` has more than 40 bits.
    pub fn new(gfn: u64, operation: PageOperation, huge: bool) -> Option<Self> {
        (gfn < 1 << 40).then(|| {
            Self(U64::new(
                gfn << 12 | (operation as u64) << 52 | u64::from(huge) << 56,
            ))
        })
    }

    /// Guest frame number.
    pub fn gfn(self) -> u64 {
        (self.0.get() >> 12) & ((1 << 40) - 1)
    }

    /// How many 4 KiB pages of the entry are done, bits 11:0.
    pub fn current_page(self) -> u64 {
        self.0.get() & 0xFFF
    }

    /// True if the entry is a 2 MiB page.
    pub fn is_huge(self) -> bool {
        self.0.get() & 1 << 56 != 0
    }

    /// The operation.
    pub fn operation(self) -> Option<PageOperation> {
        Some(match (self.0.get() >> 52) & 0xF {
            1 => PageOperation::Private,
            2 => PageOperation::Shared,
            3 => PageOperation::Psmash,
            4 => PageOperation::Unsmash,
            _ => return None,
        })
    }
}

/// Entries of one page state change in the shared buffer.
pub const PAGE_STATE_ENTRIES: usize = 253;

/// A page state change in the shared buffer (56421 table 8).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct PageStateChange {
    /// Next entry to do, advanced by the host.
    pub cur_entry: U16,
    /// Last entry.
    pub end_entry: U16,
    /// Reserved.
    pub reserved: U32,
    /// The entries.
    pub entries: [PageStateEntry; PAGE_STATE_ENTRIES],
}
assert_layout!(PageStateChange, SHARED_BUFFER_LEN, cur_entry @ 0, end_entry @ 2, entries @ 8);

/// The GHCB MSR protocol (56421 section 2.3.1): requests in the low 12 bits, arguments above.
pub mod msr {
    use super::PageOperation;

    /// The bits of the request or response code.
    pub const INFO: u64 = 0xFFF;
    const GFN: u64 = (1 << 52) - 1;

    /// A register that a CPUID request asks for, bits 31:30.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(u8)]
    #[expect(missing_docs, reason = "the names of the registers")]
    pub enum Register {
        Eax = 0,
        Ebx = 1,
        Ecx = 2,
        Edx = 3,
    }

    /// A request that a guest writes to the MSR.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Request {
        /// 000h: use the GHCB at this page-aligned address.
        Ghcb {
            /// Guest physical address.
            gpa: u64,
        },
        /// 002h: protocol versions and position of the C-bit.
        SevInfo,
        /// 004h: one register of a CPUID function.
        Cpuid {
            /// Function.
            function: u32,
            /// Register.
            register: Register,
        },
        /// 006h: park this vCPU.
        ApResetHold,
        /// 010h: the address that the host prefers for the GHCB.
        PreferredGhcb,
        /// 012h: register the GHCB.
        RegisterGhcb {
            /// Guest frame number.
            gfn: u64,
        },
        /// 014h: change the state of one 4 KiB page.
        PageState {
            /// Guest frame number, 40 bits.
            gfn: u64,
            /// Private or shared.
            operation: PageOperation,
        },
        /// 016h: run another privilege level.
        RunVmpl {
            /// The level, 0 to 3.
            vmpl: u8,
        },
        /// 080h: features of the host.
        HvFeatures,
        /// 100h: end the guest.
        Terminate {
            /// The set that defines the reason, 4 bits.
            set: u8,
            /// The reason.
            reason: u8,
        },
    }

    impl Request {
        /// The value to write; bits that do not fit are dropped.
        pub fn encode(self) -> u64 {
            match self {
                Self::Ghcb { gpa } => gpa & !INFO,
                Self::SevInfo => 0x002,
                Self::Cpuid { function, register } => {
                    0x004 | u64::from(function) << 32 | (register as u64) << 30
                }
                Self::ApResetHold => 0x006,
                Self::PreferredGhcb => 0x010,
                Self::RegisterGhcb { gfn } => 0x012 | (gfn & GFN) << 12,
                Self::PageState { gfn, operation } => {
                    0x014 | (gfn & ((1 << 40) - 1)) << 12 | (operation as u64) << 52
                }
                Self::RunVmpl { vmpl } => 0x016 | u64::from(vmpl) << 32,
                Self::HvFeatures => 0x080,
                Self::Terminate { set, reason } => {
                    0x100 | u64::from(set & 0xF) << 12 | u64::from(reason) << 16
                }
            }
        }

        /// The request in a value that a guest wrote, `None` when it is none of them.
        pub fn decode(value: u64) -> Option<Self> {
            let high = value.to_le_bytes();
            Some(match value & INFO {
                0x000 => Self::Ghcb { gpa: value },
                0x002 => Self::SevInfo,
                0x004 => Self::Cpuid {
                    function: u32::from_le_bytes([high[4], high[5], high[6], high[7]]),
                    register: match (value >> 30) & 3 {
                        0 => Register::Eax,
                        1 => Register::Ebx,
                        2 => Register::Ecx,
                        _ => Register::Edx,
                    },
                },
                0x006 => Self::ApResetHold,
                0x010 => Self::PreferredGhcb,
                0x012 => Self::RegisterGhcb { gfn: value >> 12 },
                0x014 => Self::PageState {
                    gfn: (value >> 12) & ((1 << 40) - 1),
                    operation: match (value >> 52) & 0xF {
                        1 => PageOperation::Private,
                        2 => PageOperation::Shared,
                        _ => return None,
                    },
                },
                0x016 => Self::RunVmpl { vmpl: high[4] },
                0x080 => Self::HvFeatures,
                0x100 => Self::Terminate {
                    set: high[1] >> 4,
                    reason: high[2],
                },
                _ => return None,
            })
        }
    }

    /// A response that the host leaves in the MSR.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Response {
        /// 001h: protocol versions and position of the C-bit.
        SevInfo {
            /// Newest version.
            max: u16,
            /// Oldest version.
            min: u16,
            /// Position of the C-bit.
            c_bit: u8,
        },
        /// 005h: a register of a CPUID function.
        Cpuid {
            /// Value.
            value: u32,
        },
        /// 007h: woken; a zero argument is an error.
        ApResetHold {
            /// 52 bits, not zero.
            result: u64,
        },
        /// 011h: preferred frame, all ones for none.
        PreferredGhcb {
            /// Guest frame number.
            gfn: u64,
        },
        /// 013h: registered frame, all ones for a refusal.
        RegisterGhcb {
            /// Guest frame number.
            gfn: u64,
        },
        /// 015h: done, or an error.
        PageState {
            /// Zero for success.
            error: u32,
        },
        /// 017h: done, or an error.
        RunVmpl {
            /// Zero for success.
            error: u32,
        },
        /// 081h: features.
        HvFeatures {
            /// See [`super::features`].
            bitmap: u64,
        },
    }

    impl Response {
        /// The value that the host leaves.
        pub fn encode(self) -> u64 {
            match self {
                Self::SevInfo { max, min, c_bit } => {
                    0x001 | u64::from(max) << 48 | u64::from(min) << 32 | u64::from(c_bit) << 24
                }
                Self::Cpuid { value } => 0x005 | u64::from(value) << 32,
                Self::ApResetHold { result } => 0x007 | (result & GFN) << 12,
                Self::PreferredGhcb { gfn } => 0x011 | (gfn & GFN) << 12,
                Self::RegisterGhcb { gfn } => 0x013 | (gfn & GFN) << 12,
                Self::PageState { error } => 0x015 | u64::from(error) << 32,
                Self::RunVmpl { error } => 0x017 | u64::from(error) << 32,
                Self::HvFeatures { bitmap } => 0x081 | (bitmap & GFN) << 12,
            }
        }

        /// The response in a value that the host left, `None` when it is none of them.
        pub fn decode(value: u64) -> Option<Self> {
            let o = value.to_le_bytes();
            let high = u32::from_le_bytes([o[4], o[5], o[6], o[7]]);
            Some(match value & INFO {
                0x001 => Self::SevInfo {
                    max: u16::from_le_bytes([o[6], o[7]]),
                    min: u16::from_le_bytes([o[4], o[5]]),
                    c_bit: o[3],
                },
                0x005 => Self::Cpuid { value: high },
                0x007 => Self::ApResetHold {
                    result: value >> 12,
                },
                0x011 => Self::PreferredGhcb { gfn: value >> 12 },
                0x013 => Self::RegisterGhcb { gfn: value >> 12 },
                0x015 => Self::PageState { error: high },
                0x017 => Self::RunVmpl { error: high },
                0x081 => Self::HvFeatures {
                    bitmap: value >> 12,
                },
                _ => return None,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::msr::{Register, Request, Response};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_have_the_numbers_of_the_specification() {
        assert_eq!(Request::SevInfo.encode(), 0x002);
        assert_eq!(
            Request::Cpuid {
                function: 0x8000_001F,
                register: Register::Ebx
            }
            .encode(),
            0x8000_001F_4000_0004
        );
        assert_eq!(Request::RegisterGhcb { gfn: 5 }.encode(), 0x5012);
        assert_eq!(
            Request::PageState {
                gfn: 5,
                operation: PageOperation::Shared
            }
            .encode(),
            0x0020_0000_0000_5014
        );
        assert_eq!(Request::Terminate { set: 1, reason: 2 }.encode(), 0x2_1100);
        assert_eq!(
            Response::decode(0x0002_0001_3300_0001),
            Some(Response::SevInfo {
                max: 2,
                min: 1,
                c_bit: 51
            })
        );
    }

    #[test]
    fn the_valid_bitmap_covers_each_field() {
        let mut ghcb = Ghcb::default();
        for field in [Field::Cpl, Field::Rax, Field::SwExitCode, Field::Xcr0] {
            assert!(!ghcb.is_valid(field));
            ghcb.set_valid(field, true);
            assert!(ghcb.is_valid(field));
        }
        // SW_EXITCODE is byte 390h: bit 114.
        assert_eq!(ghcb.valid_bitmap[14] & 1 << 2, 1 << 2);
        ghcb.set_valid(Field::Rax, false);
        assert!(!ghcb.is_valid(Field::Rax));
    }

    #[test]
    fn page_state_entries_keep_their_frame() {
        let entry = PageStateEntry::new(0x1234, PageOperation::Private, true).unwrap();
        assert_eq!(entry.gfn(), 0x1234);
        assert_eq!(entry.operation(), Some(PageOperation::Private));
        assert!(entry.is_huge());
        assert_eq!(entry.current_page(), 0);
        assert!(PageStateEntry::new(1 << 40, PageOperation::Private, false).is_none());
    }

    proptest! {
        #[test]
        fn decoding_is_total_and_encoding_is_its_inverse(value: u64) {
            if let Some(request) = Request::decode(value) {
                prop_assert_eq!(Request::decode(request.encode()), Some(request));
            }
            if let Some(response) = Response::decode(value) {
                prop_assert_eq!(Response::decode(response.encode()), Some(response));
            }
        }
    }
}
