// SPDX-License-Identifier: Apache-2.0

//! The host's side of the GHCB protocol, as KVM plays it (56421): takes the exits of the vCPUs, keeps the reverse map
//! table, passes guest messages on. Everything it reads comes from the guest; it is copied once, then checked.
//!
//! If KVM answers a mistake with an error in the GHCB, so does this. If KVM ends the guest, or hardware would silently
//! show the guest wrong data, the answer is [`Action::Violation`] with the reason.

use crate::guest::Running;
use crate::rmp::{Fault, HUGE, PAGE, Pvalidate, Rmp};
use enarx_snp::ghcb::msr::{Request, Response};
use enarx_snp::ghcb::{
    Field, Ghcb, PAGE_STATE_ENTRIES, PROTOCOL_VERSION, PageOperation, PageStateChange,
    PageStateEntry, SHARED_BUFFER_LEN, USAGE_STANDARD, ap, exit, features,
};
use enarx_snp::guest_message::{MESSAGE_LEN, MessageType};
use std::mem::offset_of;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use zerocopy::{FromZeros, IntoBytes};

/// The guest's shared memory, as the host sees it. Guests change it while it is read. Its methods must not call the
/// [`Hypervisor`], which is locked at that time.
pub trait SharedMemory {
    /// Copies bytes from `gpa` on out; `None` when they are not all shared memory.
    fn read(&self, gpa: u64, to: &mut [u8]) -> Option<()>;
    /// Copies bytes in at `gpa`; `None` when they are not all shared memory.
    fn write(&self, gpa: u64, from: &[u8]) -> Option<()>;
}

/// The properties of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// vCPUs, numbered from 0; 0 runs first.
    pub vcpus: u32,
    /// Position of the C-bit in a guest physical address.
    pub c_bit: u8,
    /// Guest physical addresses that have memory and may change between private and shared.
    pub ram: Range<u64>,
    /// True if 2 MiB page state changes give 2 MiB pages. A host without them gives 4 KiB pages, and a guest's
    /// PVALIDATE must cope.
    pub huge_pages: bool,
}

/// A change of pages that the reverse map table has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageChange {
    /// Guest physical address of the first page.
    pub gpa: u64,
    /// Bytes, whole pages.
    pub bytes: u64,
    /// True if they are private now.
    pub private: bool,
}

/// How a guest broke the protocol so that its host does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A request of the MSR protocol that is not served.
    Msr {
        /// The value.
        value: u64,
    },
    /// There is no such vCPU.
    NoVcpu {
        /// Its number.
        vcpu: u32,
    },
    /// The GHCB is not the registered one.
    NotRegistered {
        /// Its guest physical address.
        gpa: u64,
    },
    /// The GHCB has another protocol version.
    Version {
        /// The version.
        found: u16,
    },
    /// A page for the host is private: on hardware the host would see other data than the guest wrote.
    Private {
        /// Guest physical address.
        gpa: u64,
    },
    /// A page for the host is not memory.
    NoMemory {
        /// Guest physical address.
        gpa: u64,
    },
    /// A vCPU should start from a page that is not a VMSA: its VMRUN would fail.
    NotVmsa {
        /// Guest physical address.
        gpa: u64,
    },
}

/// The next task of the VMM. If the guest continues, the answer is already in the GHCB or MSR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing: resume the vCPU.
    Resume,
    /// A 32 bit write to a port; resume.
    PortOut {
        /// The port.
        port: u16,
        /// The value.
        value: u32,
    },
    /// Start a vCPU from the VMSA in this page; resume the asking one. Only for a vCPU that does not run: KVM would
    /// restart one that does, here the request is refused.
    StartVcpu {
        /// Its number.
        id: u32,
        /// Guest physical address of the VMSA, in private memory.
        vmsa_gpa: u64,
    },
    /// Stop a vCPU, which may be the asking one; resume the asking one otherwise.
    StopVcpu {
        /// Its number.
        id: u32,
    },
    /// Move memory: pages that become private or shared lose what they held; resume.
    PageState(Vec<PageChange>),
    /// End the guest, which asked for it.
    Terminate {
        /// The number of the set that defines the reason.
        set: u8,
        /// The reason.
        reason: u8,
    },
    /// End the guest, which broke the protocol.
    Violation(Violation),
}

impl From<Violation> for Action {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<Vec<PageChange>> for Action {
    fn from(changes: Vec<PageChange>) -> Self {
        if changes.is_empty() {
            Self::Resume
        } else {
            Self::PageState(changes)
        }
    }
}

/// Why a GHCB is refused, in SW_EXITINFO2 (56421, error codes of malformed input).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
enum Malformed {
    Usage = 2,
    ScratchArea = 3,
    MissingInput = 4,
    InvalidInput = 5,
    InvalidEvent = 6,
}

/// SW_EXITINFO1 of a GHCB that is refused (56421).
const MALFORMED_INPUT: u64 = 2;

/// SW_EXITINFO2 of a page state change that failed (56421, page state change).
mod page_state_error {
    /// The header is invalid.
    pub const HEADER: u64 = 1 << 32 | 1;
    /// An entry is invalid.
    pub const ENTRY: u64 = 1 << 32 | 2;
    /// The host cannot.
    pub const GENERIC: u64 = 0x100 << 32;
}

/// EXITINFO1 of a port access (APM2 section 15.10.2).
mod ioio {
    /// The access is IN.
    pub const IN: u64 = 1 << 0;
    /// The access is a string instruction.
    pub const STRING: u64 = 1 << 2;
    /// The operand sizes, of which one is set.
    pub const SIZES: u64 = 7 << 4;
    /// The operand has 32 bits.
    pub const SIZE_32: u64 = 1 << 6;
}

/// Features that are announced.
const FEATURES: u64 = features::SNP | features::SNP_AP_CREATION;
/// Bytes of the certificate table that ends at once (56421, SNP extended guest request).
const EMPTY_CERTIFICATES: [u8; 24] = [0; 24];

struct Vcpu {
    /// Guest physical address of the registered GHCB.
    ghcb: Option<u64>,
    /// The value of the GHCB MSR.
    msr: u64,
    running: bool,
}

struct State {
    guest: Running,
    rmp: Rmp,
    vcpus: Vec<Vcpu>,
}

/// The host of one guest; the threads of its vCPUs share it.
pub struct Hypervisor {
    config: Config,
    state: Mutex<State>,
}

impl std::fmt::Debug for Hypervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hypervisor")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Hypervisor {
    /// The host of a guest that was just launched: its launch pages are private and validated, all other memory is
    /// shared (see [`Self::assign`]).
    pub fn new(mut guest: Running, config: Config) -> Self {
        let rmp = guest.take_rmp();
        let vcpus = (0..config.vcpus)
            .map(|id| Vcpu {
                ghcb: None,
                msr: sev_info(&config),
                running: id == 0,
            })
            .collect();
        let state = State { guest, rmp, vcpus };
        Self {
            config,
            state: Mutex::new(state),
        }
    }

    /// No method panics with the lock held, so a poisoned one is as good.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes memory private before the guest asks for it, as a host does that gives private memory at first touch.
    pub fn assign(&self, range: Range<u64>) {
        self.state().rmp.assign(range, self.config.huge_pages);
    }

    /// True if the page at `gpa` is private.
    pub fn is_private(&self, gpa: u64) -> bool {
        self.state().rmp.is_private(gpa)
    }

    /// True if the page at `gpa` is private and validated.
    pub fn is_validated(&self, gpa: u64) -> bool {
        self.state().rmp.is_validated(gpa)
    }

    /// PVALIDATE, see [`Rmp::pvalidate`].
    ///
    /// # Errors
    /// The fault, when the page is shared.
    pub fn pvalidate(&self, gpa: u64, huge: bool, validate: bool) -> Result<Pvalidate, Fault> {
        self.state().rmp.pvalidate(gpa, huge, validate)
    }

    /// RMPADJUST, see [`Rmp::rmpadjust`].
    ///
    /// # Errors
    /// The fault, when the page is shared or not validated.
    pub fn rmpadjust(
        &self,
        gpa: u64,
        huge: bool,
        vmpl: u8,
        rights: u8,
        vmsa: bool,
    ) -> Result<u32, Fault> {
        self.state().rmp.rmpadjust(gpa, huge, vmpl, rights, vmsa)
    }

    /// Returns the value that a vCPU reads from the GHCB MSR.
    pub fn msr_read(&self, vcpu: u32) -> u64 {
        let state = self.state();
        index(vcpu)
            .and_then(|index| state.vcpus.get(index))
            .map_or(0, |vcpu| vcpu.msr)
    }

    /// A vCPU wrote the GHCB MSR and left by VMGEXIT.
    pub fn msr_write(&self, vcpu: u32, value: u64, memory: &dyn SharedMemory) -> Action {
        let mut state = self.state();
        let state = &mut *state;
        let Some(caller) = index(vcpu).and_then(|index| state.vcpus.get_mut(index)) else {
            return Violation::NoVcpu { vcpu }.into();
        };
        caller.msr = value;
        let unserved = Violation::Msr { value };
        let Some(request) = Request::decode(value) else {
            return unserved.into();
        };
        match request {
            Request::SevInfo => caller.msr = sev_info(&self.config),
            Request::PreferredGhcb => {
                caller.msr = Response::PreferredGhcb { gfn: u64::MAX }.encode();
            }
            Request::RegisterGhcb { gfn } => {
                caller.ghcb = Some(gfn * PAGE);
                caller.msr = Response::RegisterGhcb { gfn }.encode();
            }
            Request::HvFeatures => {
                caller.msr = Response::HvFeatures { bitmap: FEATURES }.encode();
            }
            Request::PageState { gfn, operation } => {
                let start = gfn * PAGE;
                let private = operation == PageOperation::Private;
                let changes = change(
                    &mut state.rmp,
                    &self.config,
                    start..start + PAGE,
                    private,
                    false,
                );
                let error = u32::from(changes.is_none());
                caller.msr = Response::PageState { error }.encode();
                return changes.unwrap_or_default().into();
            }
            Request::Terminate { set, reason } => return Action::Terminate { set, reason },
            Request::Ghcb { gpa } if caller.ghcb != Some(gpa) => {
                return Violation::NotRegistered { gpa }.into();
            }
            Request::Ghcb { gpa } => return self.ghcb_exit(state, gpa, memory),
            Request::Cpuid { .. } | Request::ApResetHold | Request::RunVmpl { .. } => {
                return unserved.into();
            }
        }
        Action::Resume
    }

    /// An exit through the GHCB.
    fn ghcb_exit(&self, state: &mut State, gpa: u64, memory: &dyn SharedMemory) -> Action {
        let mut exit = Exit {
            config: &self.config,
            state,
            memory,
            gpa,
            ghcb: Ghcb::new_zeroed(),
        };
        exit.serve().unwrap_or_else(Action::Violation)
    }
}

fn sev_info(config: &Config) -> u64 {
    let (max, min) = (PROTOCOL_VERSION, PROTOCOL_VERSION);
    let c_bit = config.c_bit;
    Response::SevInfo { max, min, c_bit }.encode()
}

fn index(vcpu: u32) -> Option<usize> {
    usize::try_from(vcpu).ok()
}

/// Changes the state of pages; `None` when they are not all memory.
fn change(
    rmp: &mut Rmp,
    config: &Config,
    range: Range<u64>,
    private: bool,
    huge: bool,
) -> Option<Vec<PageChange>> {
    if range.start < config.ram.start || range.end > config.ram.end {
        return None;
    }
    let changed = if private {
        rmp.assign(range, huge)
    } else {
        rmp.share(range)
    };
    let page_change = |range: Range<u64>| PageChange {
        gpa: range.start,
        bytes: range.end - range.start,
        private,
    };
    Some(changed.into_iter().map(page_change).collect())
}

/// Why an exit is not served.
enum Refused {
    Malformed(Malformed),
    Violation(Violation),
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Violation> for Refused {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// One exit through a GHCB; `ghcb` is the copy.
struct Exit<'a> {
    config: &'a Config,
    state: &'a mut State,
    memory: &'a dyn SharedMemory,
    gpa: u64,
    ghcb: Ghcb,
}

impl Exit<'_> {
    fn serve(&mut self) -> Result<Action, Violation> {
        let mut ghcb = Ghcb::new_zeroed();
        self.read(self.gpa, ghcb.as_mut_bytes())?;
        self.ghcb = ghcb;
        let found = self.ghcb.protocol_version.get();
        if found != PROTOCOL_VERSION {
            return Err(Violation::Version { found });
        }
        let (action, info_1, info_2) = match self.event() {
            Ok((action, info_2)) => (action, 0, info_2),
            Err(Refused::Malformed(reason)) => (Action::Resume, MALFORMED_INPUT, reason as u64),
            Err(Refused::Violation(violation)) => return Err(violation),
        };
        // Fields that come from the host are valid, all others are not, as KVM leaves them.
        self.ghcb.valid_bitmap = [0; 16];
        self.ghcb.sw_exit_info_1.set(info_1);
        self.ghcb.sw_exit_info_2.set(info_2);
        self.ghcb.set_valid(Field::SwExitInfo1, true);
        self.ghcb.set_valid(Field::SwExitInfo2, true);
        let at = |offset: usize| self.gpa + offset as u64;
        self.write(
            at(offset_of!(Ghcb, sw_exit_info_1)),
            &[info_1.to_le_bytes(), info_2.to_le_bytes()].concat(),
        )?;
        self.write(at(offset_of!(Ghcb, valid_bitmap)), &self.ghcb.valid_bitmap)?;
        Ok(action)
    }

    fn read(&self, gpa: u64, to: &mut [u8]) -> Result<(), Violation> {
        self.shared(gpa)?;
        self.memory.read(gpa, to).ok_or(Violation::NoMemory { gpa })
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), Violation> {
        self.shared(gpa)?;
        self.memory
            .write(gpa, from)
            .ok_or(Violation::NoMemory { gpa })
    }

    /// Nothing here is longer than a page or crosses one.
    fn shared(&self, gpa: u64) -> Result<(), Violation> {
        if self.state.rmp.is_private(gpa) {
            return Err(Violation::Private { gpa });
        }
        Ok(())
    }

    fn need(&self, field: Field) -> Result<(), Malformed> {
        if self.ghcb.is_valid(field) {
            Ok(())
        } else {
            Err(Malformed::MissingInput)
        }
    }

    /// Serves the event: what to do and SW_EXITINFO2.
    fn event(&mut self) -> Result<(Action, u64), Refused> {
        if self.ghcb.ghcb_usage.get() != USAGE_STANDARD {
            return Err(Malformed::Usage.into());
        }
        for field in [Field::SwExitCode, Field::SwExitInfo1, Field::SwExitInfo2] {
            self.need(field)?;
        }
        let info_1 = self.ghcb.sw_exit_info_1.get();
        let info_2 = self.ghcb.sw_exit_info_2.get();
        match self.ghcb.sw_exit_code.get() {
            exit::IOIO => self.port(info_1),
            exit::PAGE_STATE_CHANGE => self.page_state(),
            exit::GUEST_REQUEST => self.guest_request(info_1, info_2, false),
            exit::EXTENDED_GUEST_REQUEST => self.guest_request(info_1, info_2, true),
            exit::AP_CREATION => self.ap_creation(info_1, info_2),
            exit::HV_FEATURES => Ok((Action::Resume, FEATURES)),
            exit::TERMINATE => {
                // Bits 3:0 the set, bits 11:4 the reason (56421, termination request).
                let [low, high, ..] = info_1.to_le_bytes();
                let action = Action::Terminate {
                    set: low & 0xF,
                    reason: low >> 4 | high << 4,
                };
                Ok((action, 0))
            }
            _ => Err(Malformed::InvalidEvent.into()),
        }
    }

    /// OUT with an operand of 32 bits.
    fn port(&self, info: u64) -> Result<(Action, u64), Refused> {
        self.need(Field::Rax)?;
        let out = info & (ioio::IN | ioio::STRING) == 0;
        if !out || info & ioio::SIZES != ioio::SIZE_32 {
            return Err(Malformed::InvalidInput.into());
        }
        let [_, _, low, high, ..] = info.to_le_bytes();
        let [a, b, c, d, ..] = self.ghcb.rax.get().to_le_bytes();
        let action = Action::PortOut {
            port: u16::from_le_bytes([low, high]),
            value: u32::from_le_bytes([a, b, c, d]),
        };
        Ok((action, 0))
    }

    /// Where in the shared buffer the page state change begins; it reaches to the buffer's end at most.
    fn scratch(&self) -> Result<usize, Malformed> {
        self.need(Field::SwScratch)?;
        let buffer = self.gpa + offset_of!(Ghcb, shared_buffer) as u64;
        self.ghcb
            .sw_scratch
            .get()
            .checked_sub(buffer)
            .and_then(|offset| usize::try_from(offset).ok())
            .filter(|offset| *offset < SHARED_BUFFER_LEN)
            .ok_or(Malformed::ScratchArea)
    }

    fn page_state(&mut self) -> Result<(Action, u64), Refused> {
        const HEADER: usize = offset_of!(PageStateChange, entries);
        const ENTRY: usize = size_of::<PageStateEntry>();
        let scratch = self.scratch()?;
        let mut request = PageStateChange::new_zeroed();
        let in_buffer = SHARED_BUFFER_LEN - scratch;
        request
            .as_mut_bytes()
            .iter_mut()
            .zip(self.ghcb.shared_buffer.iter().skip(scratch))
            .for_each(|(to, from)| *to = *from);
        let (first, last) = (request.cur_entry.get(), request.end_entry.get());
        let count = usize::from(last) + 1;
        if count > PAGE_STATE_ENTRIES {
            return Ok((Action::Resume, page_state_error::HEADER));
        }
        if HEADER + count * ENTRY > in_buffer {
            return Err(Malformed::ScratchArea.into());
        }
        let mut changes = Vec::new();
        let mut error = 0;
        for entry in request
            .entries
            .iter_mut()
            .take(count)
            .skip(usize::from(first))
        {
            match self.page_state_entry(*entry) {
                Ok(done) => changes.extend(done),
                Err(code) => {
                    error = code;
                    break;
                }
            }
            // Progress, as KVM leaves it: every page of the entry is done.
            let pages = if entry.is_huge() { HUGE / PAGE } else { 1 };
            entry.0.set(entry.0.get() & !0xFFF | pages);
            let current = request.cur_entry.get();
            request.cur_entry.set(current.saturating_add(1));
        }
        let buffer = self.gpa + offset_of!(Ghcb, shared_buffer) as u64 + scratch as u64;
        let written = request.as_bytes().split_at(HEADER + count * ENTRY).0;
        self.write(buffer, written)?;
        Ok((changes.into(), error))
    }

    /// One entry, from its current page on.
    fn page_state_entry(&mut self, entry: PageStateEntry) -> Result<Vec<PageChange>, u64> {
        let pages = if entry.is_huge() { HUGE / PAGE } else { 1 };
        let done = entry.current_page();
        if done > pages || !entry.gfn().is_multiple_of(pages) {
            return Err(page_state_error::ENTRY);
        }
        let private = match entry.operation() {
            Some(PageOperation::Private) => true,
            Some(PageOperation::Shared) => false,
            // A hint about sizes, which KVM takes as done.
            Some(PageOperation::Psmash | PageOperation::Unsmash) => return Ok(Vec::new()),
            None => return Err(page_state_error::ENTRY),
        };
        let range = (entry.gfn() + done) * PAGE..(entry.gfn() + pages) * PAGE;
        let huge = entry.is_huge() && done == 0 && self.config.huge_pages;
        change(&mut self.state.rmp, self.config, range, private, huge)
            .ok_or(page_state_error::GENERIC)
    }

    fn guest_request(
        &mut self,
        request_gpa: u64,
        response_gpa: u64,
        extended: bool,
    ) -> Result<(Action, u64), Refused> {
        if !request_gpa.is_multiple_of(PAGE)
            || !response_gpa.is_multiple_of(PAGE)
            || request_gpa == response_gpa
        {
            return Err(Malformed::MissingInput.into());
        }
        let mut request = [0; MESSAGE_LEN];
        self.read(request_gpa, &mut request)?;
        if extended {
            self.certificates(&request)?;
        }
        // The page of the answer must be the host's before the firmware acts, or the answer would be lost.
        self.write(response_gpa, &[0; MESSAGE_LEN])?;
        let firmware_error = match self.state.guest.guest_request(&request) {
            Ok(response) => {
                self.write(response_gpa, &response)?;
                0
            }
            Err(status) => status.code(),
        };
        Ok((Action::Resume, firmware_error.into()))
    }

    /// The certificate table that accompanies a report: empty.
    fn certificates(&self, request: &[u8; MESSAGE_LEN]) -> Result<(), Refused> {
        const TYPE: usize = offset_of!(enarx_snp::guest_message::Header, msg_type);
        const { assert!(TYPE < MESSAGE_LEN) };
        self.need(Field::Rax)?;
        self.need(Field::Rbx)?;
        if request[TYPE] != MessageType::ReportRequest as u8 {
            return Ok(());
        }
        let (table, pages) = (self.ghcb.rax.get(), self.ghcb.rbx.get());
        if !table.is_multiple_of(PAGE) {
            return Err(Malformed::InvalidInput.into());
        }
        if pages > 0 {
            self.write(table, &EMPTY_CERTIFICATES)?;
        }
        Ok(())
    }

    fn ap_creation(&mut self, info_1: u64, vmsa_gpa: u64) -> Result<(Action, u64), Refused> {
        let request = info_1 & u64::from(u32::MAX);
        let invalid = Refused::from(Malformed::InvalidInput);
        let id = u32::try_from(info_1 >> 32).map_err(|_| Malformed::InvalidInput)?;
        let features = self.state.guest.sev_features();
        let target = index(id)
            .and_then(|index| self.state.vcpus.get_mut(index))
            .ok_or(Malformed::InvalidInput)?;
        match request {
            ap::DESTROY => {
                target.running = false;
                Ok((Action::StopVcpu { id }, 0))
            }
            ap::CREATE => {
                let valid = self.ghcb.is_valid(Field::Rax);
                if !valid {
                    return Err(Malformed::MissingInput.into());
                }
                // At 2 MiB an erratum of the RMP check of VMSA pages bites; KVM refuses such pages.
                if self.ghcb.rax.get() != features
                    || target.running
                    || !vmsa_gpa.is_multiple_of(PAGE)
                    || vmsa_gpa.is_multiple_of(HUGE)
                {
                    return Err(invalid);
                }
                if !self.state.rmp.is_vmsa(vmsa_gpa) {
                    return Err(Violation::NotVmsa { gpa: vmsa_gpa }.into());
                }
                target.running = true;
                Ok((Action::StartVcpu { id, vmsa_gpa }, 0))
            }
            _ => Err(invalid),
        }
    }
}
