// SPDX-License-Identifier: Apache-2.0

//! A fake KVM with a fake secure processor: enforces the documented rules of a SEV-SNP launch
//! (Linux `Documentation/virt/kvm/x86/amd-memory-encryption.rst`, `arch/x86/kvm/svm/sev.c`; 56860
//! chapter 8), computes the launch digest by itself, and records the requests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use enarx_snp::cpuid::CpuidPage;
use enarx_snp::id_block::{IdAuth, IdBlock};
use enarx_vmm::snp::device::{CommandError, Device, SourcePage, Vm};
use enarx_vmm::snp::firmware::Status;
use enarx_vmm::vm::registers::NewVcpu;
use kvm_bindings::{
    CpuId, kvm_create_guest_memfd, kvm_memory_attributes, kvm_regs, kvm_segment, kvm_sev_init,
    kvm_sev_snp_launch_finish, kvm_sev_snp_launch_start, kvm_sev_snp_launch_update, kvm_sregs,
    kvm_userspace_memory_region2,
};
use rustix::io::Errno;
use sha2::{Digest, Sha384};

use super::played::{Play, Played};

const PAGE: u64 = 4096;
/// First address of the fake descriptors.
const FIRST_MEMFD: u32 = 100;
/// The C-bit of shipping processors.
pub const C_BIT: u64 = 1 << 51;

/// A request to the fake host, recorded in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    CreateVm(u32),
    EnableCapability(u32, u64),
    Init {
        features: u64,
        ghcb: u16,
    },
    Memfd(u64),
    Slot {
        number: u32,
        gpa: u64,
        size: u64,
        memfd: bool,
    },
    Attributes {
        range: Range<u64>,
        private: bool,
    },
    Start {
        policy: u64,
    },
    Vcpu(u32),
    Registers {
        vcpu: u32,
        what: &'static str,
    },
    Page {
        gpa: u64,
        kind: u8,
    },
    Finish {
        host_data: [u8; 32],
        author_key: bool,
    },
    DiscardPrivate {
        slot: usize,
        range: Range<u64>,
    },
    DiscardShared {
        slot: usize,
        range: Range<u64>,
    },
    /// A vCPU was entered from the VMSA at this address; 0 = the one of the launch.
    Entered {
        vcpu: usize,
        vmsa: u64,
    },
    /// A vCPU continues after a hypercall with this answer.
    Answered {
        vcpu: usize,
        value: u64,
    },
    /// A vCPU takes an interrupt.
    Interrupt {
        vcpu: usize,
        vector: u32,
    },
}

/// The result of one `LAUNCH_UPDATE`, unless it simply takes everything.
#[derive(Clone, Copy, Debug)]
pub enum PartialUpdate {
    /// Takes this many pages, at least one, and returns success.
    Part(u64),
    /// Takes nothing and gives no reason: a signal, or no memory.
    Nothing,
}

/// The firmware's verdict on CPUID pages.
#[derive(Clone, Debug, Default)]
pub enum Cpuid {
    /// Every page is correct.
    #[default]
    Any,
    /// Leaf, subleaf and the required EBX; others are corrected, all at once.
    Ebx(Vec<(u32, u32, u32)>),
    /// The same, but one per round.
    OneByOne(Vec<(u32, u32, u32)>),
    /// Refuses every page, clearing bit after bit of the first EBX.
    Never,
    /// Refuses a page without entries, and corrects nothing.
    NotEmpty,
}

/// The properties and the behaviour of the fake host.
#[derive(Clone, Debug)]
pub struct Script {
    pub extensions: BTreeMap<u32, i32>,
    pub features: Result<Option<u64>, Errno>,
    pub policy_bits: Result<Option<u64>, Errno>,
    /// `create_vm` is interrupted this many times.
    pub interruptions: u32,
    pub hiccups: VecDeque<PartialUpdate>,
    /// Every `LAUNCH_UPDATE` fails without a reason.
    pub stuck: bool,
    /// Answers of `set_memory_attributes` before it succeeds.
    pub attributes: VecDeque<Errno>,
    pub cpuid: Cpuid,
    /// The firmware's answers to these steps.
    pub firmware: BTreeMap<&'static str, Status>,
    /// INIT2 returns EBUSY, with this answer of the firmware; every ASID is taken if it is `SUCCESS`.
    pub busy: Option<Status>,
    /// MSRs that are taken.
    pub msrs: usize,
    /// Adds this many bytes to the reported progress.
    pub miscount: u64,
    /// The firmware accepts an ID block for any digest.
    pub any_digest: bool,
    /// The script of each vCPU when it runs.
    pub runs: BTreeMap<usize, VecDeque<Play>>,
}

impl Default for Script {
    /// A host that does everything at once.
    fn default() -> Self {
        Self {
            extensions: BTreeMap::from([(235, 0x1f), (234, 1), (233, 8), (231, 1), (201, 1 << 12)]),
            features: Ok(Some(1 << 5)),
            policy_bits: Ok(None),
            interruptions: 0,
            hiccups: VecDeque::new(),
            stuck: false,
            attributes: VecDeque::new(),
            cpuid: Cpuid::Any,
            firmware: BTreeMap::new(),
            busy: None,
            msrs: usize::MAX,
            miscount: 0,
            any_digest: false,
            runs: BTreeMap::new(),
        }
    }
}

struct SlotState {
    range: Range<u64>,
    /// Its private side.
    memfd: Option<u32>,
    /// Its part of the private side's file.
    part: Range<u64>,
}

pub struct VcpuState {
    cpuid: bool,
    regs: bool,
    page: Box<[u8; 4096]>,
    /// The VMSA from which another vCPU requests its start.
    pub start: Option<u64>,
}

/// The host and at most one machine on it.
pub struct State {
    pub script: Script,
    pub events: Vec<Event>,
    /// Contents given to the firmware, by address.
    pub contents: BTreeMap<u64, [u8; 4096]>,
    pub digest: [u8; 48],
    features: Option<u64>,
    policy: Option<u64>,
    /// The vCPUs' pages are encrypted: FINISH was attempted.
    encrypted: bool,
    pub finished: bool,
    memfds: Vec<u64>,
    slots: Vec<SlotState>,
    private: BTreeSet<u64>,
    launched: BTreeSet<u64>,
    pub vcpus: Vec<VcpuState>,
    living_vcpus: usize,
    /// The machine was dropped before a vCPU.
    pub dropped_early: bool,
}

type Shared = Arc<Mutex<State>>;

pub struct Host(Shared);
pub struct Machine(Shared);
#[derive(Debug)]
pub struct Memory(pub u64);
pub struct Processor {
    pub state: Shared,
    pub id: usize,
    pub played: Played,
}

impl Host {
    pub fn new(script: Script) -> Self {
        Self(Arc::new(Mutex::new(State::new(script))))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The next answers to `set_memory_attributes`.
    pub fn busy(&self, answers: VecDeque<Errno>) {
        self.state().script.attributes = answers;
    }

    /// The pages that the firmware took, in order.
    pub fn pages(&self) -> Vec<(u64, u8)> {
        let page = |event: &Event| match *event {
            Event::Page { gpa, kind } => Some((gpa, kind)),
            _ => None,
        };
        self.state().events.iter().filter_map(page).collect()
    }
}

fn firmware(status: Status) -> CommandError {
    CommandError {
        errno: Errno::IO,
        firmware: status,
    }
}

/// Sets EBX of an entry that the page must have.
fn correct_ebx(page: &mut CpuidPage, (leaf, subleaf, wanted): (u32, u32, u32)) {
    let place = (leaf, subleaf);
    let entry = page
        .table
        .iter_mut()
        .find(|entry| (entry.eax_in.get(), entry.ecx_in.get()) == place);
    entry.unwrap().ebx.set(wanted);
}

impl State {
    fn new(script: Script) -> Self {
        Self {
            script,
            events: Vec::new(),
            contents: BTreeMap::new(),
            digest: [0; 48],
            features: None,
            policy: None,
            encrypted: false,
            finished: false,
            memfds: Vec::new(),
            slots: Vec::new(),
            private: BTreeSet::new(),
            launched: BTreeSet::new(),
            vcpus: Vec::new(),
            living_vcpus: 0,
            dropped_early: false,
        }
    }

    /// One step of the digest (56860, section 8.17.2), byte by byte.
    fn measure(&mut self, kind: u8, gpa: u64, contents: Option<&[u8]>) {
        let mut info = self.digest.to_vec();
        match contents {
            Some(page) => info.extend(Sha384::digest(page)),
            None => info.extend([0; 48]),
        }
        info.extend([0x70, 0, kind, 0, 0, 0, 0, 0]);
        info.extend(gpa.to_le_bytes());
        assert_eq!(info.len(), 0x70);
        self.digest.copy_from_slice(&Sha384::digest(&info));
    }

    fn step(&self, name: &'static str) -> Result<(), CommandError> {
        match self.script.firmware.get(name) {
            // The kernel's guest context could not be made then (`snp_context_create`).
            Some(&firmware) if name == "start" => Err(CommandError {
                errno: Errno::NOTTY,
                firmware,
            }),
            Some(&status) => Err(firmware(status)),
            None => Ok(()),
        }
    }

    /// Checks a CPUID page like the firmware; an error if the firmware corrected it.
    fn check_cpuid(&self, bytes: &mut [u8; 4096]) -> Result<(), CommandError> {
        let mut page: CpuidPage = zerocopy::transmute!(*bytes);
        let before = page;
        match &self.script.cpuid {
            Cpuid::NotEmpty if page.entries().is_empty() => {
                return Err(firmware(Status::INVALID_PARAM));
            }
            Cpuid::Any | Cpuid::NotEmpty => {}
            Cpuid::Ebx(wanted) => {
                for &one in wanted {
                    correct_ebx(&mut page, one);
                }
            }
            Cpuid::OneByOne(wanted) => {
                let mut left = wanted.iter();
                while page == before
                    && let Some(&one) = left.next()
                {
                    correct_ebx(&mut page, one);
                }
            }
            Cpuid::Never => {
                let ebx = page.table[0].ebx.get();
                page.table[0].ebx.set(ebx & ebx.wrapping_sub(1));
            }
        }
        if page == before {
            return Ok(());
        }
        *bytes = zerocopy::transmute!(page);
        Err(firmware(Status::INVALID_PARAM))
    }

    /// Takes one page.
    fn take(
        &mut self,
        gpa: u64,
        kind: u8,
        source: Option<&mut [u8; 4096]>,
    ) -> Result<(), CommandError> {
        // The kernel reports all of this as EIO, without an answer of the firmware
        // (`snp_launch_update`).
        let slot = self.slots.iter().find(|slot| slot.range.contains(&gpa));
        let private = slot.is_some_and(|slot| slot.memfd.is_some()) && self.private.contains(&gpa);
        if !private || self.launched.contains(&gpa) {
            return Err(Errno::IO.into());
        }
        self.step(if kind == 6 { "cpuid" } else { "update" })?;
        let contents = source.as_deref().copied().unwrap_or([0; 4096]);
        if kind == 6 {
            self.check_cpuid(source.unwrap())?;
        }
        self.measure(kind, gpa, (kind == 1).then_some(&contents[..]));
        self.launched.insert(gpa);
        self.contents.insert(gpa, contents);
        self.events.push(Event::Page { gpa, kind });
        Ok(())
    }
}

impl Device for Host {
    type Vm = Machine;

    fn check_extension(&self, capability: u32) -> i32 {
        let state = self.state();
        state
            .script
            .extensions
            .get(&capability)
            .copied()
            .unwrap_or(0)
    }

    fn attribute(&self, group: u32, attribute: u64) -> Result<Option<u64>, Errno> {
        match (group, attribute) {
            (1, 0) => self.state().script.features,
            (1, 1) => self.state().script.policy_bits,
            _ => Ok(None),
        }
    }

    fn create_vm(&self, kind: u32) -> Result<Machine, Errno> {
        let mut state = self.state();
        if state.script.interruptions > 0 {
            state.script.interruptions -= 1;
            return Err(Errno::INTR);
        }
        if kind != 4 {
            return Err(Errno::INVAL);
        }
        // The machine before this one has ended.
        let script = std::mem::take(&mut state.script);
        let events = std::mem::take(&mut state.events);
        *state = State::new(script);
        state.events = events;
        state.events.push(Event::CreateVm(kind));
        Ok(Machine(Arc::clone(&self.0)))
    }
}

impl Machine {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let mut state = self.state();
        state.dropped_early |= state.living_vcpus != 0;
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        self.state.lock().unwrap().living_vcpus -= 1;
    }
}

impl Vm for Machine {
    type Memory = Memory;
    type Vcpu = Processor;

    fn enable_capability(&mut self, capability: u32, args: [u64; 4]) -> Result<(), Errno> {
        let mut state = self.state();
        if capability != 201 || args != [1 << 12, 0, 0, 0] {
            return Err(Errno::INVAL);
        }
        state
            .events
            .push(Event::EnableCapability(capability, args[0]));
        Ok(())
    }

    fn sev_init(&mut self, init: &mut kvm_sev_init) -> Result<(), CommandError> {
        let mut state = self.state();
        let kvm_sev_init {
            vmsa_features,
            flags,
            ghcb_version,
            pad1,
            pad2,
        } = *init;
        let offered = state.script.features.unwrap().unwrap();
        let reserved = flags != 0 || pad1 != 0 || pad2 != [0; 8];
        let late = !state.vcpus.is_empty() || state.features.is_some();
        if reserved || late || vmsa_features & !offered != 0 || ghcb_version != 2 {
            return Err(Errno::INVAL.into());
        }
        if let Some(firmware) = state.script.busy {
            let errno = Errno::BUSY;
            return Err(CommandError { errno, firmware });
        }
        state.step("init")?;
        state.features = Some(vmsa_features | 1);
        state.events.push(Event::Init {
            features: vmsa_features,
            ghcb: ghcb_version,
        });
        Ok(())
    }

    fn create_guest_memfd(&mut self, request: kvm_create_guest_memfd) -> Result<u32, Errno> {
        let mut state = self.state();
        let kvm_create_guest_memfd {
            size,
            flags,
            reserved,
        } = request;
        if flags != 0 || reserved != [0; 6] || size == 0 || !size.is_multiple_of(PAGE) {
            return Err(Errno::INVAL);
        }
        state.memfds.push(size);
        state.events.push(Event::Memfd(size));
        Ok(FIRST_MEMFD + u32::try_from(state.memfds.len()).unwrap() - 1)
    }

    fn set_memory_region(
        &mut self,
        region: kvm_userspace_memory_region2,
        memory: Memory,
    ) -> Result<(), Errno> {
        let mut state = self.state();
        let kvm_userspace_memory_region2 {
            slot,
            flags,
            guest_phys_addr,
            memory_size,
            userspace_addr,
            guest_memfd_offset,
            guest_memfd,
            pad1,
            pad2,
        } = region;
        let end = guest_phys_addr
            .checked_add(memory_size)
            .ok_or(Errno::INVAL)?;
        let range = guest_phys_addr..end;
        let aligned = (guest_phys_addr | memory_size).is_multiple_of(PAGE) && memory_size != 0;
        // Bit 1 would be a read-only slot, which SEV-SNP machines refuse.
        let reserved = pad1 != 0 || pad2 != [0; 14] || flags & !4 != 0 || userspace_addr != 0;
        let number = usize::try_from(slot).unwrap();
        if reserved || !aligned || memory.0 != memory_size || number != state.slots.len() {
            return Err(Errno::INVAL);
        }
        let memfd = flags & 4 != 0;
        if memfd {
            let index = guest_memfd.checked_sub(FIRST_MEMFD).ok_or(Errno::BADF)?;
            let size = state.memfds.get(usize::try_from(index).unwrap());
            let size = *size.ok_or(Errno::BADF)?;
            let last = guest_memfd_offset.checked_add(memory_size);
            if !guest_memfd_offset.is_multiple_of(PAGE) || last.is_none_or(|last| last > size) {
                return Err(Errno::INVAL);
            }
        }
        let overlaps = |other: &SlotState| other.range.start < end && range.start < other.range.end;
        if state.slots.iter().any(overlaps) {
            return Err(Errno::EXIST);
        }
        let part = guest_memfd_offset..guest_memfd_offset.saturating_add(memory_size);
        let bound = |slot: &SlotState| {
            let taken = &slot.part;
            slot.memfd == memfd.then_some(guest_memfd)
                && taken.start < part.end
                && part.start < taken.end
        };
        if memfd && state.slots.iter().any(bound) {
            return Err(Errno::INVAL);
        }
        state.slots.push(SlotState {
            range,
            memfd: memfd.then_some(guest_memfd),
            part,
        });
        state.events.push(Event::Slot {
            number: slot,
            gpa: guest_phys_addr,
            size: memory_size,
            memfd,
        });
        Ok(())
    }

    fn set_memory_attributes(&self, request: kvm_memory_attributes) -> Result<(), Errno> {
        let mut state = self.state();
        if let Some(errno) = state.script.attributes.pop_front() {
            return Err(errno);
        }
        let kvm_memory_attributes {
            address,
            size,
            attributes,
            flags,
        } = request;
        let end = address.checked_add(size).ok_or(Errno::INVAL)?;
        let aligned = (address | size).is_multiple_of(PAGE) && size != 0;
        if flags != 0 || attributes & !8 != 0 || !aligned {
            return Err(Errno::INVAL);
        }
        let private = attributes == 8;
        for page in (address..end).step_by(4096) {
            if private {
                state.private.insert(page);
            } else {
                state.private.remove(&page);
            }
        }
        state.events.push(Event::Attributes {
            range: address..end,
            private,
        });
        Ok(())
    }

    fn discard_private(&self, slot: usize, offset: u64, length: u64) -> Result<(), Errno> {
        let mut state = self.state();
        if state.slots[slot].memfd.is_none() {
            return Err(Errno::INVAL);
        }
        let range = offset..offset + length;
        state.events.push(Event::DiscardPrivate { slot, range });
        Ok(())
    }

    fn discard_shared(&self, slot: usize, offset: u64, length: u64) -> Result<(), Errno> {
        let mut state = self.state();
        let range = offset..offset + length;
        state.events.push(Event::DiscardShared { slot, range });
        Ok(())
    }

    fn launch_start(&mut self, start: &mut kvm_sev_snp_launch_start) -> Result<(), CommandError> {
        let mut state = self.state();
        let kvm_sev_snp_launch_start {
            policy,
            gosvw,
            flags,
            pad0,
            pad1,
        } = *start;
        let offered = state.script.policy_bits.unwrap().unwrap_or(0x1b_ffff);
        let reserved = flags != 0 || pad0 != [0; 6] || pad1 != [0; 4] || gosvw != [0; 16];
        let wrong = policy & !offered != 0 || policy & 1 << 17 == 0;
        if reserved || wrong || state.features.is_none() || state.policy.is_some() {
            return Err(Errno::INVAL.into());
        }
        state.step("start")?;
        state.policy = Some(policy);
        state.events.push(Event::Start { policy });
        Ok(())
    }

    fn launch_update(
        &mut self,
        update: &mut kvm_sev_snp_launch_update,
        source: &mut [SourcePage],
    ) -> Result<(), CommandError> {
        let mut state = self.state();
        let kvm_sev_snp_launch_update {
            gfn_start,
            uaddr,
            len,
            type_: kind,
            pad0,
            flags,
            pad1,
            pad2,
        } = *update;
        let reserved = pad0 != 0 || flags != 0 || pad1 != 0 || pad2 != [0; 4];
        let zero = kind == 3;
        // VMSAs (2) are handled by KVM itself.
        let known = matches!(kind, 1 | 3 | 4 | 5 | 6);
        let aligned = len.is_multiple_of(PAGE) && len != 0 && uaddr.is_multiple_of(PAGE);
        if reserved || !known || !aligned || state.policy.is_none() || state.encrypted {
            return Err(Errno::INVAL.into());
        }
        let base = source.as_ptr() as u64;
        let first = if zero {
            0
        } else {
            let offset = uaddr.checked_sub(base).ok_or(Errno::FAULT)?;
            if offset + len > size_of_val(source) as u64 {
                return Err(Errno::FAULT.into());
            }
            usize::try_from(offset / PAGE).unwrap()
        };
        let partial_update = if state.script.stuck {
            Some(PartialUpdate::Nothing)
        } else {
            state.script.hiccups.pop_front()
        };
        let most = match partial_update {
            None => u64::MAX,
            Some(PartialUpdate::Part(pages)) => pages,
            Some(PartialUpdate::Nothing) => return Err(Errno::IO.into()),
        };
        let mut done = 0;
        let mut failure = None;
        while done < (len / PAGE).min(most) {
            let place = first + usize::try_from(done).unwrap();
            let page = source.get_mut(place).map(|page| &mut page.0);
            let page = if zero { None } else { page };
            match state.take((gfn_start + done) * PAGE, kind, page) {
                Ok(()) => done += 1,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        // As in the kernel: completed work counts, and a failure is reported only if it comes
        // first.
        if done == 0
            && let Some(error) = failure
        {
            return Err(error);
        }
        update.gfn_start += done;
        update.len -= done * PAGE;
        if !zero {
            update.uaddr += done * PAGE + state.script.miscount;
        }
        Ok(())
    }

    fn create_vcpu(&mut self, id: u32) -> Result<Processor, Errno> {
        let mut state = self.state();
        let number = usize::try_from(id).unwrap();
        if number != state.vcpus.len() || state.encrypted {
            return Err(Errno::INVAL);
        }
        let mut page = Box::new([0; 4096]);
        // Values that KVM adds by itself: DR7, DR6, PAT, MXCSR, FCW.
        put(&mut page, 0x160, &0x400u64.to_le_bytes());
        put(&mut page, 0x168, &0xffff_0ff0u64.to_le_bytes());
        put(&mut page, 0x268, &0x0007_0406_0007_0406u64.to_le_bytes());
        put(&mut page, 0x408, &0x1f80u32.to_le_bytes());
        put(&mut page, 0x410, &0x37fu16.to_le_bytes());
        let features = state.features.unwrap_or(0);
        put(&mut page, 0x3b0, &features.to_le_bytes());
        state.vcpus.push(VcpuState {
            cpuid: false,
            regs: false,
            page,
            start: None,
        });
        state.living_vcpus += 1;
        state.events.push(Event::Vcpu(id));
        drop(state);
        Ok(Processor {
            state: Arc::clone(&self.0),
            id: number,
            played: Played::default(),
        })
    }

    fn launch_finish(
        &mut self,
        finish: &mut kvm_sev_snp_launch_finish,
        identity: Option<(&IdBlock, &IdAuth)>,
    ) -> Result<(), CommandError> {
        let mut state = self.state();
        let kvm_sev_snp_launch_finish {
            id_block_uaddr,
            id_auth_uaddr,
            id_block_en,
            auth_key_en,
            vcek_disabled,
            host_data,
            pad0,
            flags,
            pad1,
        } = *finish;
        let reserved = pad0 != [0; 3] || flags != 0 || pad1 != [0; 4] || vcek_disabled != 0;
        let addresses = id_block_uaddr != 0 || id_auth_uaddr != 0;
        let identified = usize::from(id_block_en) == usize::from(identity.is_some());
        let Some(policy) = state.policy else {
            return Err(Errno::INVAL.into());
        };
        if reserved || addresses || !identified || auth_key_en > id_block_en || state.encrypted {
            return Err(Errno::INVAL.into());
        }
        if state.vcpus.is_empty() || state.vcpus.iter().any(|vcpu| !vcpu.regs) {
            return Err(Errno::INVAL.into());
        }
        state.encrypted = true;
        let vmsas: Vec<_> = state.vcpus.iter().map(|vcpu| vcpu.page.clone()).collect();
        for page in vmsas {
            state.measure(2, 0xffff_ffff_f000, Some(&page[..]));
        }
        state.step("finish")?;
        if let Some((block, _)) = identity {
            if block.launch_digest != state.digest && !state.script.any_digest {
                return Err(firmware(Status(0x0b)));
            }
            if block.policy.get() != policy {
                return Err(firmware(Status(0x07)));
            }
        }
        state.finished = true;
        state.events.push(Event::Finish {
            host_data,
            author_key: auth_key_en == 1,
        });
        Ok(())
    }
}

fn put(page: &mut [u8; 4096], offset: usize, bytes: &[u8]) {
    page[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// `svm_set_segment`.
fn put_segment(page: &mut [u8; 4096], offset: usize, segment: &kvm_segment) {
    let present = segment.present == 1 && segment.unusable == 0;
    let attributes = u16::from(segment.type_ & 15)
        | u16::from(segment.s & 1) << 4
        | u16::from(segment.dpl & 3) << 5
        | u16::from(present) << 7
        | u16::from(segment.avl & 1) << 8
        | u16::from(segment.l & 1) << 9
        | u16::from(segment.db & 1) << 10
        | u16::from(segment.g & 1) << 11;
    put(page, offset, &segment.selector.to_le_bytes());
    put(page, offset + 2, &attributes.to_le_bytes());
    put(page, offset + 4, &segment.limit.to_le_bytes());
    put(page, offset + 8, &segment.base.to_le_bytes());
}

impl Processor {
    /// The vCPU, while its registers may be set.
    fn change(&self, what: &'static str, f: impl FnOnce(&mut VcpuState)) -> Result<(), Errno> {
        let mut state = self.state.lock().unwrap();
        let ready = what == "cpuid" || state.vcpus[self.id].cpuid;
        if state.encrypted || !ready {
            return Err(Errno::INVAL);
        }
        f(&mut state.vcpus[self.id]);
        let vcpu = u32::try_from(self.id).unwrap();
        state.events.push(Event::Registers { vcpu, what });
        Ok(())
    }
}

impl NewVcpu for Processor {
    fn set_cpuid(&mut self, cpuid: &CpuId) -> Result<(), Errno> {
        let leaf = cpuid
            .as_slice()
            .iter()
            .find(|entry| entry.function == 0x8000_001f);
        let has_c_bit = leaf.is_some_and(|entry| 1u64 << (entry.ebx & 63) == C_BIT);
        self.change("cpuid", |vcpu| vcpu.cpuid = has_c_bit)
    }

    fn sregs(&self) -> Result<kvm_sregs, Errno> {
        Ok(kvm_sregs {
            // The first vCPU is the boot processor (bit 8).
            apic_base: if self.id == 0 {
                0xfee0_0900
            } else {
                0xfee0_0800
            },
            ..kvm_sregs::default()
        })
    }

    fn set_sregs(&mut self, sregs: &kvm_sregs) -> Result<(), Errno> {
        if sregs.apic_base != self.sregs()?.apic_base || sregs.efer & 1 << 12 != 0 {
            return Err(Errno::INVAL);
        }
        self.change("sregs", |vcpu| {
            let page = &mut vcpu.page;
            for (offset, segment) in [
                (0x00, &sregs.es),
                (0x10, &sregs.cs),
                (0x20, &sregs.ss),
                (0x30, &sregs.ds),
                (0x40, &sregs.fs),
                (0x50, &sregs.gs),
                (0x70, &sregs.ldt),
                (0x90, &sregs.tr),
            ] {
                put_segment(page, offset, segment);
            }
            for (offset, table) in [(0x60, &sregs.gdt), (0x80, &sregs.idt)] {
                put(page, offset + 4, &u32::from(table.limit).to_le_bytes());
                put(page, offset + 8, &table.base.to_le_bytes());
            }
            put(page, 0xcb, &[sregs.ss.dpl]);
            put(page, 0xd0, &(sregs.efer | 1 << 12).to_le_bytes());
            put(page, 0x148, &(sregs.cr4 | 1 << 6).to_le_bytes());
            put(page, 0x150, &sregs.cr3.to_le_bytes());
            put(page, 0x158, &sregs.cr0.to_le_bytes());
        })
    }

    fn set_xcr0(&mut self, xcr0: u64) -> Result<(), Errno> {
        self.change("xcr0", |vcpu| {
            put(&mut vcpu.page, 0x3e8, &xcr0.to_le_bytes());
        })
    }

    fn set_msrs(&mut self, msrs: &[(u32, u64)]) -> Result<usize, Errno> {
        let most = self.state.lock().unwrap().script.msrs;
        let taken = msrs.len().min(most);
        self.change("msrs", |vcpu| {
            for (msr, value) in &msrs[..taken] {
                let offset = match msr {
                    0xc000_0081 => 0x200,
                    0xc000_0082 => 0x208,
                    0xc000_0083 => 0x210,
                    0xc000_0084 => 0x218,
                    0xc000_0102 => 0x220,
                    0x174 => 0x228,
                    0x175 => 0x230,
                    0x176 => 0x238,
                    0x277 => 0x268,
                    _ => panic!("MSR {msr:#x} is not in the page"),
                };
                put(&mut vcpu.page, offset, &value.to_le_bytes());
            }
        })?;
        Ok(taken)
    }

    fn set_regs(&mut self, regs: &kvm_regs) -> Result<(), Errno> {
        self.change("regs", |vcpu| {
            vcpu.regs = true;
            for (offset, value) in [
                (0x170, regs.rflags),
                (0x178, regs.rip),
                (0x1d8, regs.rsp),
                (0x1f8, regs.rax),
                (0x308, regs.rcx),
                (0x310, regs.rdx),
                (0x318, regs.rbx),
                (0x328, regs.rbp),
                (0x330, regs.rsi),
                (0x338, regs.rdi),
                (0x340, regs.r8),
                (0x348, regs.r9),
                (0x350, regs.r10),
                (0x358, regs.r11),
                (0x360, regs.r12),
                (0x368, regs.r13),
                (0x370, regs.r14),
                (0x378, regs.r15),
            ] {
                put(&mut vcpu.page, offset, &value.to_le_bytes());
            }
        })
    }
}
