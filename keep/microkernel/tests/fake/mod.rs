// SPDX-License-Identifier: Apache-2.0

//! A fake machine: physical memory in a vector, page tables walked as the CPU walks them, and a
//! translation buffer per vCPU that forgets nothing by itself.
//!
//! It checks at every step what hardware would let a hostile program use: no word that the
//! microkernel writes by [`Platform::write`] or [`Platform::fill_run`] (page tables, free lists)
//! may lie where a vCPU in user code has a writable translation.
#![allow(dead_code, reason = "each test program uses its part")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use zerocopy::FromZeros;

use enarx_boot::address::{Gpa, PhysAddr};
use enarx_boot::boot_page::{self, BootInfo};
use enarx_boot::layout::{
    LARGE, LAUNCH_END, PAGE, SALLYPORT_USER, SHARED_END, USER_END, VDSO_USER,
};
use enarx_boot::page_table::{ADDRESS, Pte, PteFlags, Rights};
use enarx_exits::{ExitFunction, HostFacts, Reason};
use enarx_microkernel::epoch::Epoch;
use enarx_microkernel::frame::{LargeFrame, Place, Slot, Words};
use enarx_microkernel::kernel::Guarded;
use enarx_microkernel::kernel::Kernel;
use enarx_microkernel::launch::{BootPage, Launch};
use enarx_microkernel::platform::Platform;
use enarx_microkernel::registers::{Registers, vector};
use enarx_microkernel::signal::{USER_CS, USER_SS};
use enarx_microkernel::snp::ghcb::{Answer, Call};
use enarx_microkernel::snp::instructions::{Entry, Instructions, NewVmsa, Unvalidated, Validated};
use enarx_microkernel::snp::message::MessageKey;
use enarx_microkernel::syscall::{After, system_call};
use enarx_microkernel::threads::State;

pub const ROOT: u64 = PAGE;
pub const HEAP: u64 = 0x60_0000;
/// First free 4 KiB frame of the launch area.
const LAUNCH_FREE: u64 = 0x10_0000;
/// The frame of the pinned pages.
const PINNED_FRAME: u64 = LAUNCH_END;
const FREE_START: u64 = SHARED_END;
/// The value of every entry in the kernel half of the root table.
const KERNEL_HALF: u64 = 0xdead_0000_0000_0001;

/// A translation as the CPU keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    pub frame: u64,
    pub write: bool,
    pub execute: bool,
}

pub struct World {
    pub words: Vec<u64>,
    /// End of the memory that the host has provided.
    pub memory_there: u64,
    /// Per vCPU: translations of 4 KiB pages.
    pub buffers: Vec<BTreeMap<u64, Translation>>,
    pub in_user: Vec<bool>,
    pub fs: Vec<u64>,
    pub log: Vec<u8>,
    /// Arguments of [`ExitFunction::Refused`].
    pub refused: Vec<Vec<u64>>,
    pub unparked: Vec<u64>,
    pub kicks: u64,
    pub tsc: u64,
    /// The latest time returned, here or in the vDSO.
    pub latest: u64,
    /// The next answers of RDRAND; normal ones follow.
    pub random: VecDeque<Option<u64>>,
    last: u64,
    pub epoch: Rc<Epoch>,
    /// Page addresses that speculation may load at any time.
    pub touched: BTreeSet<u64>,
    /// A vCPU leaves the kernel after this many writes by the others.
    pub leaves: Option<(usize, u64)>,
}

impl World {
    pub fn word(&self, physical: u64) -> u64 {
        let frame = physical - physical % LARGE;
        assert!(physical.is_multiple_of(8) && frame < self.memory_there);
        self.words[usize::try_from(physical / 8).unwrap()]
    }

    fn set(&mut self, physical: u64, value: u64) {
        self.words[usize::try_from(physical / 8).unwrap()] = value;
    }

    /// Walks the tables as the CPU does.
    pub fn walk(&self, address: u64) -> Option<Translation> {
        if address >> 47 != 0 {
            return None;
        }
        let mut table = ROOT;
        for level in (1..=4u32).rev() {
            let shift = 12 + 9 * (level - 1);
            let entry = self.word(table + ((address >> shift) & 511) * 8);
            if entry & PteFlags::PRESENT.bits() == 0 {
                return None;
            }
            if level == 1 || entry & PteFlags::LARGE.bits() != 0 {
                if entry & PteFlags::USER.bits() == 0 {
                    return None;
                }
                let offset = address & ((1 << shift) - 1) & !(PAGE - 1);
                return Some(Translation {
                    frame: (entry & ADDRESS & !((1 << shift) - 1)) + offset,
                    write: entry & PteFlags::WRITE.bits() != 0,
                    execute: entry & PteFlags::NO_EXECUTE.bits() == 0,
                });
            }
            table = entry & ADDRESS;
        }
        None
    }

    /// A vCPU loads the translations that it can.
    pub fn speculate(&mut self, vcpu: usize) {
        for &page in &self.touched.clone() {
            if let Some(found) = self.walk(page) {
                self.buffers[vcpu].insert(page, found);
            }
        }
    }

    pub fn leave(&mut self, vcpu: usize) {
        if self.epoch.leave_kernel(vcpu) {
            self.buffers[vcpu].clear();
        }
        self.in_user[vcpu] = true;
        self.speculate(vcpu);
    }

    fn kernel_writes(&mut self, physical: u64) {
        if let Some((vcpu, left)) = self.leaves {
            if left == 0 {
                self.leaves = None;
                self.leave(vcpu);
            } else {
                self.leaves = Some((vcpu, left - 1));
            }
        }
        let frame = physical & !(PAGE - 1);
        for vcpu in 0..self.buffers.len() {
            if self.in_user[vcpu] {
                let reached = self.buffers[vcpu]
                    .iter()
                    .find(|(_, found)| found.frame == frame && found.write);
                assert!(
                    reached.is_none(),
                    "vCPU {vcpu} can write where the kernel writes: {reached:x?}"
                );
            }
        }
    }
}

/// A boot page of the test.
struct Given(BootInfo);

impl BootPage for Given {
    fn boot_info(&self) -> BootInfo {
        self.0
    }
}

/// The machine as one vCPU sees it.
#[derive(Clone)]
pub struct Fake {
    pub world: Rc<RefCell<World>>,
    pub me: usize,
}

/// Plain KVM has none of it.
impl Instructions for Fake {
    fn pvalidate(&mut self, _: &Unvalidated) -> Validated {
        unreachable!()
    }
    fn rmpadjust(&mut self, _: &NewVmsa) -> u64 {
        unreachable!()
    }
    fn clear_large(&mut self, _: LargeFrame) {
        unreachable!()
    }
    fn sev_status(&self) -> u64 {
        unreachable!()
    }
    fn msr_protocol(&mut self, _: u64) -> u64 {
        unreachable!()
    }
    fn ghcb_exit(&mut self, _: &Call<'_>) -> Answer {
        unreachable!()
    }
    fn put_message(&mut self, _: &[[u8; 8]]) {
        unreachable!()
    }
    fn take_message(&self, _: &mut [[u8; 8]]) {
        unreachable!()
    }
    fn entry_point(&self) -> Entry {
        unreachable!()
    }
}

impl Platform for Fake {
    fn memory_there(&self) -> u64 {
        self.world.borrow().memory_there
    }

    fn read(&self, slot: Slot) -> u64 {
        let physical = slot.address().get();
        self.world.borrow().word(physical)
    }

    fn write(&mut self, slot: Slot, value: u64) {
        let physical = slot.address().get();
        let mut world = self.world.borrow_mut();
        world.kernel_writes(physical);
        world.set(physical, value);
        for vcpu in 0..world.buffers.len() {
            if world.in_user[vcpu] {
                world.speculate(vcpu);
            }
        }
    }

    fn run_length(&self, words: Words, value: u64) -> u64 {
        let (physical, most) = (words.first().address().get(), words.count());
        assert!(physical % PAGE + most * 8 <= PAGE);
        let world = self.world.borrow();
        (0..most)
            .take_while(|index| world.word(physical + index * 8) == value)
            .count() as u64
    }

    fn fill_run(&mut self, words: Words, value: u64) {
        let (physical, count) = (words.first().address().get(), words.count());
        assert!(physical % PAGE + count * 8 <= PAGE);
        let mut world = self.world.borrow_mut();
        world.kernel_writes(physical);
        for index in 0..count {
            world.set(physical + index * 8, value);
        }
    }

    fn fill_rising(&mut self, words: Words, first: u64) {
        let (physical, count) = (words.first().address().get(), words.count());
        assert!(physical % PAGE + count * 8 <= PAGE);
        let mut world = self.world.borrow_mut();
        world.kernel_writes(physical);
        for index in 0..count {
            world.set(physical + index * 8, first + index * PAGE);
        }
    }

    fn change_run(&mut self, words: Words, kept: u64, set: u64) -> u64 {
        let (physical, count) = (words.first().address().get(), words.count());
        assert!(physical % PAGE + count * 8 <= PAGE);
        let mut world = self.world.borrow_mut();
        world.kernel_writes(physical);
        let first = world.word(physical) & !ADDRESS;
        for index in 0..count {
            let word = world.word(physical + index * 8);
            if word & !ADDRESS != first {
                return index;
            }
            world.set(physical + index * 8, word & kept | set);
        }
        count
    }

    fn read_bytes(&self, from: Place, to: &mut [u8]) -> usize {
        let physical = from.address().get();
        let count = to.len().min(usize::try_from(from.room()).unwrap());
        let world = self.world.borrow();
        for (at, byte) in (physical..).zip(&mut to[..count]) {
            *byte = world.word(at & !7).to_le_bytes()[(at & 7) as usize];
        }
        count
    }

    fn write_bytes(&mut self, to: Place, from: &[u8]) -> usize {
        let physical = to.address().get();
        let count = from.len().min(usize::try_from(to.room()).unwrap());
        let mut world = self.world.borrow_mut();
        for (at, &byte) in (physical..).zip(&from[..count]) {
            let mut bytes = world.word(at & !7).to_le_bytes();
            bytes[(at & 7) as usize] = byte;
            world.set(at & !7, u64::from_le_bytes(bytes));
        }
        count
    }

    fn flush(&mut self) {
        self.world.borrow_mut().buffers[self.me].clear();
    }

    fn exit(&mut self, function: ExitFunction, args: &[u64]) -> u64 {
        let mut world = self.world.borrow_mut();
        match function {
            ExitFunction::Kick => {
                world.kicks += 1;
                for vcpu in 0..world.buffers.len() {
                    if args[0] >> vcpu & 1 == 1 && world.in_user[vcpu] {
                        world.epoch.enter_kernel(vcpu);
                        world.leave(vcpu);
                    }
                }
            }
            ExitFunction::Refused => world.refused.push(args.to_vec()),
            ExitFunction::Memory => {
                assert!(args[0].is_multiple_of(LARGE) && args[0] > world.memory_there);
                world.memory_there = args[0];
            }
            ExitFunction::Discard => {
                let [start, size] = [args[0], args[1]];
                assert!(start.is_multiple_of(LARGE) && size == LARGE);
                for offset in (0..size).step_by(8) {
                    world.set(start + offset, 0);
                }
                for page in (0..size).step_by(4096) {
                    world.kernel_writes(start + page);
                }
            }
            ExitFunction::Unpark => world.unparked.push(args[0]),
            ExitFunction::Park => {
                let step = if args[0] == u64::MAX { 1000 } else { args[0] };
                world.tsc += step;
            }
            ExitFunction::Log => {
                let bytes: Vec<u8> = args[1..].iter().flat_map(|w| w.to_le_bytes()).collect();
                world
                    .log
                    .extend(&bytes[..usize::try_from(args[0]).unwrap()]);
            }
            _ => {}
        }
        0
    }

    fn wipe_stack(&mut self) {}

    fn ended(&self) -> bool {
        false
    }

    fn random(&mut self) -> Option<u64> {
        let mut world = self.world.borrow_mut();
        let word = world.random.pop_front();
        // An odd step visits all words, so none occurs twice in a row.
        world.last = world.last.wrapping_add(0x9e37_79b9_7f4a_7c15);
        word.unwrap_or(Some(world.last))
    }

    fn tsc(&self) -> u64 {
        self.world.borrow().tsc
    }

    fn latest(&mut self, now: u64) -> u64 {
        let mut world = self.world.borrow_mut();
        world.latest = world.latest.max(now);
        world.latest
    }

    fn set_fs_base(&mut self, base: u64) {
        self.world.borrow_mut().fs[self.me] = base;
    }

    fn fs_base(&self) -> u64 {
        self.world.borrow().fs[self.me]
    }

    fn set_gs_base(&mut self, _: u64) {}
}

/// The kernel behind a lock that must never be taken twice.
pub struct Locked(RefCell<Kernel>, MessageKey);

impl Guarded for Locked {
    fn with<R>(&self, f: impl FnOnce(&mut Kernel) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }

    fn key(&self) -> &MessageKey {
        &self.1
    }
}

/// A booted Keep.
pub struct Keep {
    pub kernel: Locked,
    pub epoch: Rc<Epoch>,
    pub world: Rc<RefCell<World>>,
    pub memory: u64,
}

/// The result of a user access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    Done(u64),
    Denied,
    OutOfMemory,
}

impl Keep {
    /// A Keep of `large` free 2 MiB frames and `vcpus` vCPUs, the first of which runs.
    pub fn new(large: u64, vcpus: usize) -> Self {
        let memory = FREE_START + large * LARGE;
        let epoch = Rc::new(Epoch::new());
        let world = World {
            words: vec![0; usize::try_from(memory / 8).unwrap()],
            memory_there: FREE_START,
            buffers: vec![BTreeMap::new(); vcpus],
            in_user: vec![false; vcpus],
            fs: vec![0; vcpus],
            log: Vec::new(),
            refused: Vec::new(),
            unparked: Vec::new(),
            kicks: 0,
            tsc: 1_000_000,
            latest: 0,
            random: VecDeque::new(),
            last: 0,
            epoch: Rc::clone(&epoch),
            touched: BTreeSet::new(),
            leaves: None,
        };
        let world = Rc::new(RefCell::new(world));
        {
            let mut w = world.borrow_mut();
            for slot in 256..512 {
                w.set(ROOT + slot * 8, KERNEL_HALF);
            }
            let mut next = ROOT + PAGE;
            let mut map = |address: u64, leaf: u32, entry: u64| {
                let mut table = ROOT;
                for level in (leaf + 1..=4).rev() {
                    let at = table + ((address >> (12 + 9 * (level - 1))) & 511) * 8;
                    if w.word(at) == 0 {
                        w.set(at, Pte::table(PhysAddr::shared(Gpa::new(next))).bits());
                        next += PAGE;
                    }
                    table = w.word(at) & ADDRESS;
                }
                w.set(
                    table + ((address >> (12 + 9 * (leaf - 1))) & 511) * 8,
                    entry,
                );
            };
            let pinned = PteFlags::PRESENT.bits()
                | PteFlags::RESERVED.bits()
                | PteFlags::FRAME.bits()
                | PteFlags::PINNED.bits();
            map(
                SALLYPORT_USER,
                2,
                PINNED_FRAME | pinned | PteFlags::LARGE.bits() | Rights::ReadWrite.flags().bits(),
            );
            map(
                VDSO_USER,
                1,
                0x8000 | pinned | Rights::ReadExecute.flags().bits(),
            );
            // `ud2`, the system-call page's only code.
            w.set(0x8000 + boot_page::SYSCALL_OFFSET, 0x0b0f);
        }
        let keep = Self {
            kernel: Locked(RefCell::new(Kernel::new()), MessageKey::new()),
            epoch,
            world,
            memory,
        };
        let info = BootInfo {
            magic: boot_page::MAGIC,
            flags: 0,
            reserved: 0,
            root: ROOT,
            launch_free: LAUNCH_FREE,
            free_start: FREE_START,
            user_entry: 0x40_0000,
            user_stack: 0x7000_0000,
            random_bytes: 0,
            heap_start: HEAP,
            heap_mapped: HEAP,
            ..BootInfo::new_zeroed()
        };
        let facts = HostFacts {
            tsc_khz: 1_000_000,
            wall_ns: 5,
            memory_end: memory,
            vcpus: vcpus as u64,
            processors: 1,
        };
        keep.kernel
            .with(|kernel| kernel.boot(&Launch::new(&Given(info))?, &facts, 1_000_000))
            .unwrap();
        keep.world.borrow_mut().leave(0);
        keep
    }

    pub fn machine(&self, me: usize) -> Fake {
        Fake {
            world: Rc::clone(&self.world),
            me,
        }
    }

    /// Lets another vCPU run user code.
    pub fn start(&self, vcpu: usize) {
        self.kernel
            .with(|kernel| kernel.threads.get(vcpu).state = State::Running);
        self.world.borrow_mut().leave(vcpu);
    }

    /// A system call of vCPU `me`, with every register that it may change.
    pub fn call_with(&self, me: usize, registers: &mut Registers) -> After {
        self.epoch.enter_kernel(me);
        self.world.borrow_mut().in_user[me] = false;
        let mut machine = self.machine(me);
        let after = system_call(&self.kernel, &self.epoch, &mut machine, me, registers)
            .expect("no fatal end");
        if after == After::User {
            self.world.borrow_mut().leave(me);
        }
        after
    }

    pub fn call_of(&self, me: usize, number: u64, args: &[u64]) -> i64 {
        let arg = |index: usize| args.get(index).copied().unwrap_or(0);
        let mut registers = Registers {
            rax: number,
            rdi: arg(0),
            rsi: arg(1),
            rdx: arg(2),
            r10: arg(3),
            r8: arg(4),
            r9: arg(5),
            rip: 0x40_1000,
            cs: USER_CS,
            ss: USER_SS,
            ..Registers::default()
        };
        self.call_with(me, &mut registers);
        registers.rax.cast_signed()
    }

    pub fn call(&self, number: u64, args: &[u64]) -> i64 {
        self.call_of(0, number, args)
    }

    /// A load (`None`) or a store by user code of vCPU `me`, with its current translations.
    pub fn touch(&self, me: usize, address: u64, store: Option<u64>) -> Touch {
        let page = address & !(PAGE - 1);
        loop {
            let found = self.world.borrow().buffers[me].get(&page).copied();
            if let Some(found) = found
                && (store.is_none() || found.write)
            {
                let mut world = self.world.borrow_mut();
                let physical = found.frame + address % PAGE;
                if let Some(value) = store {
                    world.set(physical, value);
                }
                return Touch::Done(world.word(physical));
            }
            let walked = self.world.borrow().walk(page);
            if let Some(walked) = walked
                && (store.is_none() || walked.write)
            {
                let mut world = self.world.borrow_mut();
                world.touched.insert(page);
                world.buffers[me].insert(page, walked);
                continue;
            }
            self.world.borrow_mut().buffers[me].remove(&page);
            let mut registers = Registers {
                vector: vector::PAGE_FAULT,
                error_code: 4 | if store.is_some() { 2 } else { 0 } | u64::from(walked.is_some()),
                rip: 0x40_1000,
                cs: USER_CS,
                ss: USER_SS,
                ..Registers::default()
            };
            self.epoch.enter_kernel(me);
            self.world.borrow_mut().in_user[me] = false;
            let mut machine = self.machine(me);
            let result = self
                .kernel
                .with(|kernel| kernel.exception(&mut machine, me, &mut registers, address));
            self.world.borrow_mut().leave(me);
            match result {
                Ok(()) => {}
                Err(fatal) if fatal.0.reason == Reason::OutOfMemory as u64 => {
                    return Touch::OutOfMemory;
                }
                Err(fatal) => {
                    // A store to read-only memory is not a cause that could be verified.
                    let reason = match self.rights(address) {
                        None | Some(Rights::None) if address < USER_END => Reason::Unhandled,
                        _ => Reason::Unexpected,
                    };
                    assert_eq!(fatal.0.reason, reason as u64);
                    return Touch::Denied;
                }
            }
        }
    }

    /// The rights of the process at an address.
    pub fn rights(&self, address: u64) -> Option<Rights> {
        let machine = self.machine(0);
        self.kernel
            .with(|kernel| kernel.space.rights(&machine, address))
    }

    /// Checks all invariants, whatever the process did.
    pub fn check(&self) {
        let world = self.world.borrow();
        let mut small = BTreeSet::new();
        let mut large = BTreeSet::new();
        let mut tables = vec![(ROOT, 4u32, 0u64)];
        let mut launch_tables = 0;
        while let Some((table, level, base)) = tables.pop() {
            if table < LAUNCH_FREE {
                launch_tables += 1;
            } else {
                assert!(small.insert(table), "table {table:#x} used twice");
            }
            for slot in 0..512 {
                let entry = world.word(table + slot * 8);
                if level == 4 && slot >= 256 {
                    assert_eq!(entry, KERNEL_HALF, "kernel half changed");
                    continue;
                }
                let address = base + (slot << (12 + 9 * (level - 1)));
                if entry & PteFlags::PRESENT.bits() != 0 && entry & PteFlags::RESERVED.bits() == 0 {
                    assert!(level > 1);
                    assert_eq!(entry, Pte::table(Pte::from_bits(entry).address()).bits());
                    tables.push((entry & ADDRESS, level - 1, address));
                    continue;
                }
                if entry == 0 {
                    continue;
                }
                assert_ne!(
                    entry & PteFlags::RESERVED.bits(),
                    0,
                    "{address:#x}: {entry:#x}"
                );
                assert!(
                    entry & PteFlags::WRITE.bits() == 0 || entry & PteFlags::NO_EXECUTE.bits() != 0,
                    "W and X at {address:#x}"
                );
                assert!(address < USER_END);
                if entry & PteFlags::PINNED.bits() != 0 {
                    assert!(address == VDSO_USER || address == SALLYPORT_USER);
                    continue;
                }
                if entry & PteFlags::FRAME.bits() == 0 {
                    assert_eq!(entry & (PteFlags::PRESENT.bits() | ADDRESS), 0);
                    continue;
                }
                let frame = entry & ADDRESS;
                let new = match level {
                    1 => small.insert(frame),
                    2 => large.insert(frame),
                    _ => panic!("a frame at level {level}"),
                };
                assert!(new, "frame {frame:#x} mapped twice");
            }
        }
        assert_eq!(launch_tables, 4, "the launch's tables");
        for &frame in &large {
            assert!(frame.is_multiple_of(LARGE) && frame >= FREE_START && frame < self.memory);
            assert!(small.range(frame..frame + LARGE).next().is_none());
        }
        for &frame in &small {
            assert!(frame >= LAUNCH_FREE && frame < self.memory);
            assert!(!(LAUNCH_END..FREE_START).contains(&frame));
        }
        assert_eq!(
            world.walk(VDSO_USER).map(|found| found.frame),
            Some(0x8000),
            "pinned page moved"
        );
        assert_eq!(
            world.walk(SALLYPORT_USER).map(|found| found.frame),
            Some(PINNED_FRAME)
        );
        let free = self.kernel.with(|kernel| kernel.space.free_memory());
        let used = small.len() as u64 * PAGE + large.len() as u64 * LARGE;
        let all = (LAUNCH_END - LAUNCH_FREE) + (self.memory - FREE_START);
        assert_eq!(free + used, all, "frames lost or invented");
        for (vcpu, buffer) in world.buffers.iter().enumerate() {
            if !world.in_user[vcpu] {
                continue;
            }
            for (&page, kept) in buffer {
                let Some(now) = world.walk(page) else {
                    panic!("vCPU {vcpu} still reaches {page:#x}")
                };
                assert_eq!(kept.frame, now.frame, "vCPU {vcpu} at {page:#x}");
                assert!(kept.write <= now.write && kept.execute <= now.execute);
            }
        }
    }
}
