// SPDX-License-Identifier: Apache-2.0

//! A fake SNP machine: private memory behind a reverse map, the direct map walked as the CPU walks
//! it, a host that obeys, and the firmware's end of the message channel.
//!
//! It checks at every step what must hold whatever the host does: the microkernel touches memory
//! only by a present, private entry of the direct map and after validation, and never validates a
//! page a second time.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, Key, KeyInit, Nonce, Tag};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use enarx_boot::address::{CBit, Gpa, PhysAddr};
use enarx_boot::boot_page::{self, BootInfo};
use enarx_boot::image_info;
use enarx_boot::layout::{
    DIRECT_MAP, EXIT_PHYSICAL, IMAGE_USER, LARGE, LAUNCH_END, PAGE, SHARED_END, STACKS_VIRTUAL,
};
use enarx_boot::page_table::{ADDRESS, PteFlags};
use enarx_exits::{ExitFunction, HostFacts, MESSAGE_OFFSET};
use enarx_microkernel::fatal::Fatal;
use enarx_microkernel::frame::{LargeFrame, Place, Slot, Words};
use enarx_microkernel::frames::Frames;
use enarx_microkernel::kernel::Guarded;
use enarx_microkernel::kernel::Kernel;
use enarx_microkernel::launch::{BootPage, Launch, SnpLaunch};
use enarx_microkernel::platform::Platform;
use enarx_microkernel::snp::ghcb::{Answer, Call};
use enarx_microkernel::snp::instructions::{Entry, Instructions, NewVmsa, Unvalidated, Validated};
use enarx_microkernel::snp::message::MessageKey;
use enarx_snp::cpuid::{CpuidPage, Entry as ExitFunction64};
use enarx_snp::ghcb::msr::{Request, Response};
use enarx_snp::ghcb::{PageOperation, PageStateEntry, exit, features};
use enarx_snp::guest_message::{HEADER_LEN, Header, MessageType};

pub const C_BIT: u64 = 1 << 51;
pub const ROOT: u64 = 0x1000;
/// The tables of the direct map: of 512 GiB, of the first GiB, of the first 2 MiB.
pub const DIRECT: [u64; 3] = [0x2000, 0x3000, 0x4000];
/// The tables above the kernel stacks.
const STACKS: [u64; 3] = [0x5000, 0x6000, 0x7000];
/// The tables above the window with the runtime image.
const WINDOW: [u64; 2] = [0x8000, 0x9000];
/// The tables above the loader.
const LOADER: [u64; 3] = [0xe000, 0xf000, 0x1_0000];
pub const CPUID_PAGE: u64 = 0xa000;
pub const SECRETS_PAGE: u64 = 0xb000;
/// First 4 KiB frame that the launch does not use.
pub const LAUNCH_FREE: u64 = 0x1f_0000;
/// The host's leftover data in memory that the guest has not accepted.
pub const JUNK: u64 = 0x6a75_6e6b_6a75_6e6b;
pub const GHCB: u64 = EXIT_PHYSICAL + 0x1_0000;
pub const KEY: [u8; 32] = [0x5a; 32];
/// VMPCK 1 to 3.
pub const OTHER_KEYS: [u8; 96] = [0xc3; 96];
pub const ENTRY: Entry = Entry {
    rip: 0xffff_ffff_8001_2345,
    lstar: 0xffff_ffff_8001_4567,
};

/// Memory that the host has made private, or not, in the reverse map.
#[derive(Clone, Copy, Debug, Default)]
struct Page {
    shared: bool,
    validated: bool,
    vmsa: bool,
}

/// The answer that replaces the honest one of the host or the CPU, if any.
type Trick<Q, A> = Box<dyn FnMut(Q) -> Option<A>>;

/// A change to the firmware's answer on its way.
type Tamper = Box<dyn FnMut(&mut [u8; 4096])>;

/// An exit as the host sees it, with its own copy of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub code: u64,
    pub info1: u64,
    pub info2: u64,
    pub rax: Option<u64>,
    pub buffer: Vec<u64>,
}

/// The firmware's end of the message channel.
pub struct Firmware {
    sequence: u64,
    /// Status of the next answers; any other than 0 comes without a payload.
    pub status: u32,
    /// Changes the page with the answer on its way.
    pub tamper: Tamper,
    /// Distinct messages that were sent, with the number of times each was sent.
    pub messages: Vec<(Vec<u8>, usize)>,
    message: Vec<u8>,
    reply: [u8; 4096],
}

impl Firmware {
    /// The channel after a launch.
    pub fn restart(&mut self) {
        self.sequence = 0;
        self.messages.clear();
    }
}

pub struct Machine {
    /// 4 KiB pages that have been written to.
    memory: HashMap<u64, Box<[u64; 512]>>,
    /// 2 MiB that have been cleared at once.
    cleared: HashSet<u64>,
    rmp: HashMap<u64, Page>,
    /// PVALIDATE instructions executed.
    pub pvalidates: u64,
    /// An answer for an address and size of a PVALIDATE that replaces the CPU's.
    pub pvalidate: Trick<(u64, bool), Validated>,
    pub exit: Trick<Exit, Answer>,
    pub msr: Trick<Request, u64>,
    pub exits: Vec<Exit>,
    pub requests: Vec<Request>,
    pub sev_status: u64,
    /// RMPADJUST's answer.
    pub rmpadjust: u64,
    /// RMPADJUST instructions: page and attributes.
    pub adjusted: Vec<(u64, u64)>,
    pub firmware: Firmware,
    pub flushes: u64,
    /// Limits of the sleeps, in nanoseconds.
    pub parked: Vec<u64>,
    pub wiped_stacks: u64,
    /// The answers of RDRAND.
    pub random: VecDeque<Option<u64>>,
    /// The Keep has ended on another vCPU.
    pub ended: bool,
}

impl Machine {
    /// A machine after a launch: tables, CPUID page, secrets page.
    pub fn new() -> Self {
        let mut machine = Self {
            memory: HashMap::new(),
            cleared: HashSet::new(),
            rmp: HashMap::new(),
            pvalidates: 0,
            pvalidate: Box::new(|_| None),
            exit: Box::new(|_| None),
            msr: Box::new(|_| None),
            exits: Vec::new(),
            requests: Vec::new(),
            sev_status: 0b111,
            rmpadjust: 0,
            adjusted: Vec::new(),
            firmware: Firmware {
                sequence: 0,
                status: 0,
                tamper: Box::new(|_| ()),
                messages: Vec::new(),
                message: Vec::new(),
                reply: [0; 4096],
            },
            flushes: 0,
            parked: Vec::new(),
            wiped_stacks: 0,
            random: VecDeque::new(),
            ended: false,
        };
        for page in (ROOT..LAUNCH_FREE).step_by(4096) {
            machine.memory.insert(page, Box::new([0; 512]));
            machine.rmp.insert(
                page,
                Page {
                    validated: true,
                    ..Page::default()
                },
            );
        }
        let table =
            PteFlags::PRESENT.bits() | PteFlags::WRITE.bits() | PteFlags::USER.bits() | C_BIT;
        machine.link(DIRECT_MAP, &DIRECT, table);
        machine.link(STACKS_VIRTUAL, &STACKS, table);
        machine.link(IMAGE_USER, &WINDOW, table);
        machine.link(image_info::ADDRESS, &LOADER, table);
        let leaf = PteFlags::KERNEL_DATA.bits() | C_BIT;
        for page in (ROOT..LAUNCH_FREE).step_by(4096) {
            machine.put(DIRECT[2] + page / PAGE * 8, page | leaf);
        }
        machine.put_bytes(CPUID_PAGE, cpuid_page(&ordinary_cpuid()).as_bytes());
        machine.put_bytes(SECRETS_PAGE, &3u32.to_le_bytes());
        machine.put_bytes(SECRETS_PAGE + 32, &KEY);
        machine.put_bytes(SECRETS_PAGE + 64, &OTHER_KEYS);
        machine
    }

    /// Puts `tables` one below the other on the path to `address`.
    fn link(&mut self, address: u64, tables: &[u64], entry: u64) {
        let mut above = ROOT;
        for (level, table) in (0..).zip(tables) {
            let index = (address >> (39 - 9 * level)) & 511;
            self.put(above + index * 8, table | entry);
            above = *table;
        }
    }

    /// The word at a guest physical address, regardless of the tables.
    pub fn word(&self, gpa: u64) -> u64 {
        match self.memory.get(&(gpa & !(PAGE - 1))) {
            Some(page) => page[usize::try_from(gpa % PAGE / 8).unwrap()],
            None if self.cleared.contains(&(gpa & !(LARGE - 1))) => 0,
            None => JUNK,
        }
    }

    /// Writes the word at a guest physical address, regardless of the tables.
    pub fn put(&mut self, gpa: u64, value: u64) {
        let old = self.word(gpa & !(PAGE - 1));
        let page = self.memory.entry(gpa & !(PAGE - 1));
        let page = page.or_insert_with(|| Box::new([old; 512]));
        page[usize::try_from(gpa % PAGE / 8).unwrap()] = value;
    }

    pub fn put_bytes(&mut self, gpa: u64, bytes: &[u8]) {
        for (at, chunk) in (gpa..).step_by(8).zip(bytes.chunks(8)) {
            let mut word = self.word(at).to_le_bytes();
            word[..chunk.len()].copy_from_slice(chunk);
            self.put(at, u64::from_le_bytes(word));
        }
    }

    /// The bytes of a page.
    pub fn page(&self, gpa: u64) -> Vec<u8> {
        (gpa..gpa + PAGE)
            .step_by(8)
            .flat_map(|at| self.word(at).to_le_bytes())
            .collect()
    }

    /// True if all of `start..start + size` reads zero.
    pub fn is_zero(&self, start: u64, size: u64) -> bool {
        (start..start + size).step_by(4096).all(|page| {
            match (
                self.memory.get(&page),
                self.cleared.contains(&(page & !(LARGE - 1))),
            ) {
                (Some(words), _) => words.iter().all(|&word| word == 0),
                (None, cleared) => cleared,
            }
        })
    }

    /// Walks the tables: the leaf entry for a virtual address, and its size.
    pub fn walk(&self, address: u64) -> Option<(u64, u64)> {
        let mut table = ROOT;
        for level in (1..=4u32).rev() {
            let entry = self.word(table + ((address >> (3 + 9 * level)) & 511) * 8);
            if entry & PteFlags::PRESENT.bits() == 0 {
                return None;
            }
            if level == 1 || entry & PteFlags::LARGE.bits() != 0 {
                return Some((entry, PAGE << (9 * (level - 1))));
            }
            assert_ne!(entry & C_BIT, 0, "a table in shared memory");
            table = entry & ADDRESS & !C_BIT;
        }
        None
    }

    /// The target of an access through the direct map.
    fn reach(&self, physical: u64, write: bool) -> u64 {
        assert_ne!(physical & C_BIT, 0, "{physical:#x} is not private");
        let gpa = physical & !C_BIT;
        let (entry, size) = self
            .walk(DIRECT_MAP + gpa)
            .unwrap_or_else(|| panic!("{gpa:#x} is not in the direct map"));
        assert_eq!(entry & ADDRESS, (gpa & !(size - 1)) | C_BIT, "{gpa:#x}");
        assert!(
            !write || entry & PteFlags::WRITE.bits() != 0,
            "{gpa:#x} is read-only"
        );
        let page = self.rmp.get(&(gpa & !(PAGE - 1)));
        assert!(
            page.is_some_and(|page| page.validated && !page.shared && !(write && page.vmsa)),
            "{gpa:#x} is not the guest's: {page:?}"
        );
        gpa
    }

    /// Checks that the direct map holds exactly the private pages that have been validated, once.
    pub fn check_ledger(&self) {
        let mut mapped = BTreeSet::new();
        let mut tables = vec![(DIRECT[0], 3u32, 0u64)];
        while let Some((table, level, base)) = tables.pop() {
            for slot in 0..512 {
                let entry = self.word(table + slot * 8);
                let gpa = base + (slot << (3 + 9 * level));
                if entry == 0 {
                    continue;
                }
                assert_ne!(entry & PteFlags::PRESENT.bits(), 0, "{gpa:#x}");
                if level > 1 && entry & PteFlags::LARGE.bits() == 0 {
                    tables.push((entry & ADDRESS & !C_BIT, level - 1, gpa));
                    continue;
                }
                assert!(level < 3, "a leaf of 1 GiB");
                let kind = if level == 2 {
                    PteFlags::LARGE.bits()
                } else {
                    0
                };
                assert_eq!(
                    entry,
                    gpa | C_BIT | PteFlags::KERNEL_DATA.bits() | kind,
                    "{gpa:#x} is mapped otherwise"
                );
                mapped.extend((gpa..gpa + (PAGE << (9 * (level - 1)))).step_by(4096));
            }
        }
        let validated: BTreeSet<u64> = self
            .rmp
            .iter()
            .filter(|(_, page)| page.validated)
            .inspect(|(gpa, page)| assert!(!page.shared, "{gpa:#x} is shared"))
            .map(|(gpa, _)| *gpa)
            .collect();
        assert_eq!(mapped, validated);
    }

    fn change_pages(&mut self, buffer: &[u64]) -> Answer {
        let (header, entries) = buffer.split_first().expect("a header");
        let last = header >> 16;
        assert_eq!(header & 0xffff, 0);
        assert_eq!(entries.len() as u64, last + 1);
        for &word in entries {
            let entry = PageStateEntry(word.into());
            let gpa = entry.gfn() * PAGE;
            assert!(entry.is_huge() && gpa.is_multiple_of(LARGE) && entry.current_page() == 0);
            let shared = entry.operation() == Some(PageOperation::Shared);
            assert!(shared || entry.operation() == Some(PageOperation::Private));
            assert!(
                self.walk(DIRECT_MAP + gpa).is_none(),
                "{gpa:#x} is in the direct map"
            );
            for page in (gpa..gpa + LARGE).step_by(4096) {
                let page = self.rmp.entry(page).or_default();
                assert!(!page.validated);
                page.shared = shared;
            }
        }
        Answer {
            info1: 0,
            info2: 0,
            buffer: (last + 1) | (last << 16),
        }
    }

    /// The host carries the message, and the firmware answers.
    fn carry(&mut self) {
        let firmware = &mut self.firmware;
        let header = Header::read_from_prefix(&firmware.message).unwrap().0;
        let kind = header.msg_type;
        let length = usize::from(header.msg_size.get());
        let mut body = firmware.message[HEADER_LEN..HEADER_LEN + length].to_vec();
        let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(KEY));
        cipher
            .decrypt_inout_detached(
                &Nonce::from(header.iv()),
                header.aad(),
                body.as_mut_slice().into(),
                &Tag::from(*header.auth_tag.first_chunk::<16>().unwrap()),
            )
            .expect("an honest message");
        let sequence = header.msg_seqno.get();
        assert_eq!(
            sequence,
            firmware.sequence + 1,
            "the firmware refuses this number"
        );
        firmware.sequence += 2;
        let (kind, answer) = if kind == MessageType::ReportRequest as u8 {
            (MessageType::ReportResponse, report_for(&body[..64]))
        } else {
            assert_eq!(kind, MessageType::KeyRequest as u8);
            (MessageType::KeyResponse, key_for(&body).to_vec())
        };
        let mut payload = vec![0; 32];
        payload[..4].copy_from_slice(&firmware.status.to_le_bytes());
        if firmware.status == 0 {
            payload.extend(answer);
        }
        firmware.reply = sealed(kind, sequence + 1, &mut payload);
        (firmware.tamper)(&mut firmware.reply);
    }
}

/// The page of a sealed message from the firmware.
pub fn sealed(kind: MessageType, sequence: u64, payload: &mut [u8]) -> [u8; 4096] {
    let mut header = Header::new(kind, 1, payload.len(), sequence, 0).unwrap();
    let tag = Aes256Gcm::new(&Key::<Aes256Gcm>::from(KEY))
        .encrypt_inout_detached(
            &Nonce::from(header.iv()),
            header.aad(),
            (&mut *payload).into(),
        )
        .unwrap();
    header.auth_tag[..16].copy_from_slice(&tag);
    let mut page = [0; 4096];
    page[..HEADER_LEN].copy_from_slice(header.as_bytes());
    page[HEADER_LEN..HEADER_LEN + payload.len()].copy_from_slice(payload);
    page
}

/// The report that the fake firmware gives over `data`.
pub fn report_for(data: &[u8]) -> Vec<u8> {
    let mut report: Vec<u8> = (0..0x4a0u32).map(|index| index.to_le_bytes()[0]).collect();
    report[0x50..0x90].copy_from_slice(data);
    report
}

/// The key that the fake firmware derives for `request`.
pub fn key_for(request: &[u8]) -> [u8; 32] {
    let mut key = [0x77; 32];
    for (to, from) in key.iter_mut().zip(request) {
        *to ^= from;
    }
    key
}

impl Instructions for Machine {
    fn pvalidate(&mut self, page: &Unvalidated) -> Validated {
        let (address, large) = (page.address().get(), page.is_large());
        self.pvalidates += 1;
        let (entry, size) = self.walk(address).expect("PVALIDATE of an unmapped page");
        assert!(entry & C_BIT != 0 && address.is_multiple_of(if large { LARGE } else { PAGE }));
        let offset = address & (size - 1);
        let gpa = (entry & ADDRESS & !C_BIT & !(size - 1)) + offset;
        if let Some(answer) = (self.pvalidate)((gpa, large)) {
            return answer;
        }
        assert!(!large || size == LARGE);
        let end = gpa + if large { LARGE } else { PAGE };
        for page in (gpa..end).step_by(4096) {
            let page = self.rmp.entry(page).or_default();
            assert!(!page.shared, "PVALIDATE of the shared page {gpa:#x}");
            assert!(!page.validated, "{gpa:#x} is validated twice");
            page.validated = true;
        }
        Validated {
            code: 0,
            unchanged: false,
        }
    }

    fn rmpadjust(&mut self, page: &NewVmsa) -> u64 {
        let gpa = self.reach(page.frame().address().get(), true);
        self.adjusted.push((gpa, NewVmsa::ATTRIBUTES));
        if self.rmpadjust == 0 {
            self.rmp.get_mut(&gpa).unwrap().vmsa = true;
        }
        self.rmpadjust
    }

    fn clear_large(&mut self, frame: LargeFrame) {
        let address = frame.mapped().get();
        let start = address - DIRECT_MAP;
        assert_eq!(frame.address().get(), start | C_BIT);
        assert!(start.is_multiple_of(LARGE));
        for page in (start..start + LARGE).step_by(4096) {
            let state = self.rmp.get(&page);
            assert!(
                state.is_some_and(|state| state.validated && !state.shared && !state.vmsa),
                "{page:#x} is not the guest's: {state:?}"
            );
            self.memory.remove(&page);
        }
        assert!(self.walk(address).is_some_and(|(_, size)| size == LARGE));
        self.cleared.insert(start);
    }

    fn sev_status(&self) -> u64 {
        self.sev_status
    }

    fn msr_protocol(&mut self, request: u64) -> u64 {
        let request = Request::decode(request).expect("a request");
        self.requests.push(request);
        if let Some(answer) = (self.msr)(request) {
            return answer;
        }
        match request {
            Request::SevInfo => Response::SevInfo {
                max: 2,
                min: 1,
                c_bit: 51,
            },
            Request::HvFeatures => Response::HvFeatures {
                bitmap: features::SNP | features::SNP_AP_CREATION,
            },
            Request::PageState { gfn, operation } => {
                assert_eq!((gfn, operation), (GHCB / PAGE, PageOperation::Shared));
                Response::PageState { error: 0 }
            }
            Request::RegisterGhcb { gfn } => Response::RegisterGhcb { gfn },
            other => panic!("{other:?}"),
        }
        .encode()
    }

    fn ghcb_exit(&mut self, call: &Call<'_>) -> Answer {
        let seen = Exit {
            code: call.code,
            info1: call.info1,
            info2: call.info2,
            rax: call.rax,
            buffer: call.buffer.to_vec(),
        };
        if seen.code == exit::GUEST_REQUEST {
            let page = EXIT_PHYSICAL + MESSAGE_OFFSET as u64;
            assert_eq!((seen.info1, seen.info2), (page, page + PAGE));
            let message = self.firmware.message.clone();
            match self.firmware.messages.last_mut() {
                Some((last, times)) if *last == message => *times += 1,
                _ => self.firmware.messages.push((message, 1)),
            }
        } else {
            self.exits.push(seen.clone());
        }
        if let Some(answer) = (self.exit)(seen) {
            return answer;
        }
        match call.code {
            exit::PAGE_STATE_CHANGE => return self.change_pages(call.buffer),
            exit::GUEST_REQUEST => self.carry(),
            exit::AP_CREATION => {}
            other => panic!("exit {other:#x}"),
        }
        Answer {
            info1: 0,
            info2: 0,
            buffer: 0,
        }
    }

    fn put_message(&mut self, words: &[[u8; 8]]) {
        self.firmware.message = words.as_flattened().to_vec();
    }

    fn take_message(&self, to: &mut [[u8; 8]]) {
        let to = to.as_flattened_mut();
        to.copy_from_slice(&self.firmware.reply[..to.len()]);
    }

    fn entry_point(&self) -> Entry {
        ENTRY
    }
}

impl Platform for Machine {
    fn memory_there(&self) -> u64 {
        unreachable!("plain KVM asks for it")
    }

    fn read(&self, slot: Slot) -> u64 {
        self.word(self.reach(slot.address().get(), false))
    }

    fn write(&mut self, slot: Slot, value: u64) {
        self.put(self.reach(slot.address().get(), true), value);
    }

    fn run_length(&self, words: Words, value: u64) -> u64 {
        let (physical, most) = (words.first().address().get(), words.count());
        let gpa = self.reach(physical, false);
        (0..most)
            .take_while(|index| self.word(gpa + index * 8) == value)
            .count() as u64
    }

    fn fill_run(&mut self, words: Words, value: u64) {
        let (physical, count) = (words.first().address().get(), words.count());
        assert!(physical % PAGE + count * 8 <= PAGE);
        let gpa = self.reach(physical, true);
        for index in 0..count {
            self.put(gpa + index * 8, value);
        }
    }

    fn fill_rising(&mut self, words: Words, first: u64) {
        let (physical, count) = (words.first().address().get(), words.count());
        assert!(physical % PAGE + count * 8 <= PAGE);
        let gpa = self.reach(physical, true);
        for index in 0..count {
            self.put(gpa + index * 8, first + index * PAGE);
        }
    }

    fn change_run(&mut self, words: Words, kept: u64, set: u64) -> u64 {
        let (physical, count) = (words.first().address().get(), words.count());
        assert!(physical % PAGE + count * 8 <= PAGE);
        let gpa = self.reach(physical, true);
        let first = self.word(gpa) & !ADDRESS;
        let is_like_it = |index: &u64| self.word(gpa + index * 8) & !ADDRESS == first;
        let alike = (0..count).take_while(is_like_it).count() as u64;
        for index in 0..alike {
            let word = self.word(gpa + index * 8);
            self.put(gpa + index * 8, word & kept | set);
        }
        alike
    }

    fn read_bytes(&self, from: Place, to: &mut [u8]) -> usize {
        let gpa = self.reach(from.address().get(), false);
        let count = to.len().min(usize::try_from(from.room()).unwrap());
        for (at, byte) in (gpa..).zip(&mut to[..count]) {
            *byte = self.word(at & !7).to_le_bytes()[usize::try_from(at & 7).unwrap()];
        }
        count
    }

    fn write_bytes(&mut self, to: Place, from: &[u8]) -> usize {
        let gpa = self.reach(to.address().get(), true);
        let count = from.len().min(usize::try_from(to.room()).unwrap());
        for (at, &byte) in (gpa..).zip(&from[..count]) {
            let mut bytes = self.word(at & !7).to_le_bytes();
            bytes[usize::try_from(at & 7).unwrap()] = byte;
            self.put(at & !7, u64::from_le_bytes(bytes));
        }
        count
    }

    fn flush(&mut self) {
        self.flushes += 1;
    }

    fn exit(&mut self, function: ExitFunction, args: &[u64]) -> u64 {
        assert_eq!(
            function,
            ExitFunction::Park,
            "no test leads to {function:?}"
        );
        self.parked.push(args[0]);
        0
    }

    fn wipe_stack(&mut self) {
        self.wiped_stacks += 1;
    }

    fn ended(&self) -> bool {
        self.ended
    }

    fn random(&mut self) -> Option<u64> {
        self.random.pop_front().flatten()
    }

    fn tsc(&self) -> u64 {
        0
    }

    fn latest(&mut self, now: u64) -> u64 {
        now
    }

    fn set_fs_base(&mut self, _: u64) {}

    fn fs_base(&self) -> u64 {
        0
    }

    fn set_gs_base(&mut self, _: u64) {}
}

/// One line of a CPUID page: function, sub-function, EAX to EDX.
pub type Line = (u32, u32, [u32; 4]);

/// The functions of an ordinary CPU with AVX-512.
pub fn ordinary_cpuid() -> Vec<Line> {
    vec![
        (0, 0, [0x10, 1, 2, 3]),
        (1, 0, [0x00a1_0f11, 0xff04_0800, 0x7400_0201, 0x0178_bfff]),
        (7, 0, [1, 0x0010_0081 | (1 << 16), 1 << 2, 0x10]),
        (7, 1, [0x20, 0, 0, 0]),
        (0xb, 0, [1, 2, 0x100, 0]),
        (0xd, 0, [0xe7, 0x240, 0x980, 0]),
        (0xd, 1, [0xf, 0x240, 0x1800, 0]),
        (0xd, 2, [0x100, 0x240, 0, 0]),
        (0xd, 5, [0x40, 0x340, 0, 0]),
        (0xd, 6, [0x200, 0x380, 0, 0]),
        (0xd, 7, [0x400, 0x580, 0, 0]),
        (0x8000_0008, 0, [0x3030, 0x1ad8_7207, 0x7007, 0]),
        (0x8000_001e, 0, [0, 0x100, 0, 0]),
    ]
}

/// A CPUID page with these functions.
pub fn cpuid_page(lines: &[Line]) -> CpuidPage {
    let mut page = CpuidPage::default();
    for &(leaf, subleaf, [eax, ebx, ecx, edx]) in lines {
        let mut entry = ExitFunction64::new_zeroed();
        entry.eax_in.set(leaf);
        entry.ecx_in.set(subleaf);
        entry.eax.set(eax);
        entry.ebx.set(ebx);
        entry.ecx.set(ecx);
        entry.edx.set(edx);
        page.push(entry).unwrap();
    }
    page
}

/// The boot page of a Keep whose runtime image takes `image` 2 MiB frames.
pub fn boot_info(image: u64) -> BootInfo {
    BootInfo {
        magic: boot_page::MAGIC,
        flags: boot_page::FLAG_SNP,
        root: ROOT,
        launch_free: LAUNCH_FREE,
        free_start: SHARED_END + image * LARGE,
        user_entry: 0x10_1000,
        user_stack: 0x7000_0000,
        heap_start: 4 * LARGE,
        heap_mapped: 4 * LARGE,
        c_bit: C_BIT,
        sev_features: 1,
        cpuid_page: CPUID_PAGE,
        secrets_page: SECRETS_PAGE,
        image_start: SHARED_END,
        gdt: DIRECT_MAP + 0xc000,
        idt: DIRECT_MAP + 0xd000,
        loader_end: LARGE,
        ..BootInfo::new_zeroed()
    }
}

/// A boot page of the test.
pub struct Given(pub BootInfo);

impl BootPage for Given {
    fn boot_info(&self) -> BootInfo {
        self.0
    }
}

/// The launch of that boot page.
pub fn launch(image: u64) -> Launch {
    Launch::new(&Given(boot_info(image))).unwrap()
}

/// An allocator whose launch left `small` 4 KiB pages, `large` 2 MiB pages and, once they are added, `image` more.
pub fn frames(small: u64, large: u64, image: u64) -> Frames {
    let info = BootInfo {
        launch_free: LAUNCH_END - small * PAGE,
        ..boot_info(image)
    };
    let launch = Launch::new(&Given(info)).unwrap();
    let mut frames = Frames::none();
    frames.boot(&launch, Gpa::new(info.free_start + large * LARGE));
    if image > 0 {
        frames.add(&launch.snp.unwrap(), CBit::new(C_BIT).unwrap());
    }
    frames
}

/// Its part under SNP.
pub fn snp_launch(image: u64) -> SnpLaunch {
    launch(image).snp.unwrap()
}

/// A private page, as in page-table entries.
pub fn private(gpa: u64) -> PhysAddr {
    CBit::new(C_BIT).unwrap().private(Gpa::new(gpa))
}

/// The facts of an honest host whose Keep has memory up to `memory_end`.
pub fn facts(memory_end: u64) -> HostFacts {
    HostFacts {
        tsc_khz: 1_000_000,
        wall_ns: 5,
        memory_end,
        vcpus: 8,
        processors: 6,
    }
}

/// The kernel behind a lock that must never be taken twice.
pub struct Locked {
    kernel: RefCell<Kernel>,
    key: MessageKey,
}

impl Guarded for Locked {
    fn with<R>(&self, f: impl FnOnce(&mut Kernel) -> R) -> R {
        f(&mut self.kernel.borrow_mut())
    }

    fn key(&self) -> &MessageKey {
        &self.key
    }
}

impl Locked {
    /// A Keep without SNP that has not been booted.
    pub fn unbooted() -> Self {
        Self {
            kernel: RefCell::new(Kernel::new()),
            key: MessageKey::new(),
        }
    }

    /// A booted Keep.
    pub fn boot(machine: &mut Machine) -> Self {
        let key = MessageKey::new();
        let kernel = RefCell::new(boot_with(machine, 1, 1, &key).unwrap());
        Self { kernel, key }
    }
}

/// Boots a Keep with `image` 2 MiB frames of runtime image and `free` others.
pub fn boot(machine: &mut Machine, image: u64, free: u64) -> Result<Kernel, Fatal> {
    boot_with(machine, image, free, &MessageKey::new())
}

/// As [`boot`]; `key` becomes the key of the messages.
fn boot_with(
    machine: &mut Machine,
    image: u64,
    free: u64,
    key: &MessageKey,
) -> Result<Kernel, Fatal> {
    let info = boot_info(image);
    for frame in 0..image {
        let rights = PteFlags::PRESENT.bits()
            | PteFlags::USER.bits()
            | PteFlags::LARGE.bits()
            | PteFlags::RESERVED.bits()
            | PteFlags::PINNED.bits();
        machine.put(WINDOW[1] + window_slot(frame), info.image_start | rights);
    }
    let mut kernel = Kernel::new();
    let (launch, facts) = (
        Launch::new(&Given(info))?,
        facts(info.free_start + free * LARGE),
    );
    kernel.boot(&launch, &facts, 1_000_000)?;
    kernel.boot_snp(machine, &launch, key)?;
    Ok(kernel)
}

fn window_slot(frame: u64) -> u64 {
    (((IMAGE_USER + frame * LARGE) >> 21) & 511) * 8
}

/// The user's mapping of a frame of the runtime image.
pub fn window(machine: &Machine, frame: u64) -> u64 {
    machine.word(WINDOW[1] + window_slot(frame))
}

/// The entry above the loader's pages.
pub fn loader(machine: &Machine) -> u64 {
    machine.word(LOADER[1])
}

const _: () = assert!(LAUNCH_FREE < LAUNCH_END);
