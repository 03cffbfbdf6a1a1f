// SPDX-License-Identifier: Apache-2.0

//! Starting further vCPUs.

use std::collections::BTreeSet;

use proptest::prelude::*;
use zerocopy::IntoBytes;

use enarx_boot::first_state::{
    CR4, CR4_MCE, CR4_SMAP, CR4_SMEP, CR4_UMIP, CpuTables, FirstState, TaskState,
    first_stack_pointer,
};
use enarx_boot::layout::{
    DIRECT_MAP, KERNEL_STACK, LARGE, MAX_VCPUS, NO_FAULT, PAGE, own_tss, stack_bottom,
};
use enarx_boot::page_table::{ADDRESS, PteFlags};
use enarx_exits::Reason;
use enarx_microkernel::fatal::Fatal;
use enarx_microkernel::frame::Frame;
use enarx_microkernel::kernel::Kernel;
use enarx_microkernel::random::Random;
use enarx_microkernel::snp::Snp;
use enarx_microkernel::snp::boot::take_over;
use enarx_microkernel::snp::ghcb::Answer;
use enarx_microkernel::snp::message::MessageKey;
use enarx_microkernel::snp::vcpu::start;
use enarx_snp::ghcb::exit;

use crate::machine::{C_BIT, ENTRY, Exit, Machine, ROOT, boot, frames, private, snp_launch};

fn taken_over(machine: &mut Machine) -> Snp {
    let (key, mut random) = (MessageKey::new(), Random::new());
    take_over(machine, &snp_launch(1), &key, &mut random).unwrap()
}

/// The first state of a vCPU.
fn state(vcpu: u64) -> FirstState {
    FirstState {
        rip: ENTRY.rip,
        cr3: private(ROOT),
        cr4: CR4 | CR4_MCE | CR4_SMEP | CR4_SMAP | CR4_UMIP,
        // An injected page fault finds no address of the program in CR2.
        cr2: NO_FAULT,
        xcr0: 0xe7,
        tables: Some(CpuTables {
            gdt: DIRECT_MAP + 0xc000,
            idt: DIRECT_MAP + 0xd000,
            tss: own_tss(vcpu),
        }),
        lstar: ENTRY.lstar,
        sev_features: 1,
    }
}

/// Checks everything of a started vCPU; returns the frames that belong to it.
fn check(machine: &Machine, vcpu: u64) -> BTreeSet<u64> {
    let &(vmsa, attributes) = machine.adjusted.last().unwrap();
    // VMSA, VMPL 1, no rights.
    assert_eq!(attributes, (1 << 16) | 1);
    assert!(!vmsa.is_multiple_of(LARGE));
    assert_eq!(machine.page(vmsa), state(vcpu).vmsa(vcpu).as_bytes());
    assert_eq!(
        machine.exits.last(),
        Some(&Exit {
            code: exit::AP_CREATION,
            info1: 1 | (vcpu << 32),
            info2: vmsa,
            rax: Some(1),
            buffer: Vec::new(),
        })
    );
    let mut own = BTreeSet::from([vmsa]);
    let bottom = stack_bottom(vcpu);
    assert_eq!(machine.walk(bottom - PAGE), None, "no guard page");
    for address in (bottom..bottom + KERNEL_STACK).step_by(4096) {
        let (entry, size) = machine.walk(address).unwrap();
        assert_eq!(size, PAGE);
        let frame = entry & ADDRESS & !C_BIT;
        assert_eq!(entry, frame | PteFlags::KERNEL_DATA.bits() | C_BIT);
        assert!(own.insert(frame));
        for at in (0..PAGE).step_by(8) {
            let record = first_stack_pointer(vcpu);
            let expected = if address + at == record { record } else { 0 };
            assert_eq!(machine.word(frame + at), expected);
        }
    }
    // The task state segment, alone in its page and read-only at its address.
    let (entry, size) = machine.walk(own_tss(vcpu)).unwrap();
    let frame = entry & ADDRESS & !C_BIT;
    assert_eq!(size, PAGE);
    assert_eq!(entry, frame | PteFlags::KERNEL_CONSTANT.bits() | C_BIT);
    assert!(own.insert(frame));
    let mut page = machine.page(frame);
    let rest = page.split_off(size_of::<TaskState>());
    assert_eq!(page, TaskState::new(vcpu).as_bytes());
    assert!(rest.iter().all(|&byte| byte == 0));
    assert_eq!(machine.walk(own_tss(vcpu) - PAGE), None, "no guard page");
    own
}

#[test]
fn every_vcpu_begins_in_a_measured_state_with_its_own_stack() {
    let mut machine = Machine::new();
    let mut kernel = boot(&mut machine, 1, 8).unwrap();
    let mut seen = BTreeSet::new();
    for vcpu in 1..MAX_VCPUS {
        kernel.start_vcpu(&mut machine, vcpu).unwrap();
        for frame in check(&machine, vcpu as u64) {
            assert!(seen.insert(frame), "{frame:#x} serves two vCPUs");
        }
        let exits = machine.exits.len();
        kernel.start_vcpu(&mut machine, vcpu).unwrap();
        assert_eq!(machine.exits.len(), exits, "vCPU {vcpu} starts once");
    }
    // The launch has started the first one.
    kernel.start_vcpu(&mut machine, 0).unwrap();
    assert_eq!(machine.adjusted.len(), MAX_VCPUS - 1);
    machine.check_ledger();
}

#[test]
fn no_vmsa_is_at_a_large_page_boundary() {
    // Free 4 KiB frames at 2 MiB boundaries, several in a row, where the VMSA would be allocated.
    for aligned in 1..4 {
        let mut machine = Machine::new();
        let mut snp = taken_over(&mut machine);
        let mut frames = frames(0, 8, 0);
        let small: Vec<Frame> = (0..4 * 512)
            .map(|_| frames.small(&mut machine).unwrap())
            .collect();
        let (at, others): (Vec<Frame>, Vec<Frame>) = small
            .into_iter()
            .partition(|frame| frame.address().gpa().is_aligned(LARGE));
        assert_eq!(at.len(), 4);
        // The list returns the newest entries first: stack and task state segment, the aligned ones, then an
        // ordinary one.
        frames.free_small(&mut machine, others[0]);
        for &frame in &at[..aligned] {
            frames.free_small(&mut machine, frame);
        }
        for &frame in &others[1..6] {
            frames.free_small(&mut machine, frame);
        }
        start(&mut machine, &mut snp, &mut frames, 1).unwrap();
        check(&machine, 1);
        assert_eq!(machine.adjusted[0].0, others[0].address().gpa().get());
    }
}

#[test]
fn a_cpu_that_refuses_ends_the_keep() {
    for code in [1, 2, 6, u64::MAX] {
        let mut machine = Machine::new();
        let mut kernel = boot(&mut machine, 1, 2).unwrap();
        let exits = machine.exits.len();
        machine.rmpadjust = code;
        assert_eq!(
            kernel.start_vcpu(&mut machine, 3),
            Err(Fatal::new(Reason::Vcpu, 3))
        );
        assert_eq!(machine.exits.len(), exits, "the host is not asked");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_host_that_refuses_ends_the_keep(
        info1 in prop_oneof![any::<u64>(), any::<u32>().prop_map(|high| u64::from(high) << 32)],
        info2 in any::<u64>(),
        buffer in any::<u64>(),
    ) {
        let mut machine = Machine::new();
        let mut kernel = boot(&mut machine, 1, 2).unwrap();
        machine.exit = Box::new(move |_| Some(Answer { info1, info2, buffer }));
        let result = kernel.start_vcpu(&mut machine, 7);
        let refused = Err(Fatal::new(Reason::Vcpu, 7));
        prop_assert_eq!(result, if info1 << 32 == 0 { Ok(()) } else { refused });
    }
}

#[test]
fn a_vcpu_without_memory_ends_the_keep() {
    for pages in 0..6 {
        let mut machine = Machine::new();
        let mut snp = taken_over(&mut machine);
        let mut frames = frames(pages, 0, 0);
        assert_eq!(
            start(&mut machine, &mut snp, &mut frames, 2),
            Err(Fatal::new(Reason::OutOfMemory, 2))
        );
        assert!(machine.adjusted.is_empty() && machine.exits.is_empty());
    }
}

#[test]
fn without_snp_the_host_starts_vcpus() {
    let mut machine = Machine::new();
    assert_eq!(Kernel::new().start_vcpu(&mut machine, 1), Ok(()));
    assert!(machine.exits.is_empty());
}
