// SPDX-License-Identifier: Apache-2.0

//! Starting further vCPUs: the microkernel writes their first state itself and tells the host to
//! run them (56421, SNP AP Creation).

use enarx_boot::address::VirtAddr;
use enarx_boot::first_state::{TaskState, first_stack_pointer};
use enarx_boot::layout::{KERNEL_STACK, LARGE, PAGE, own_tss, stack_bottom};
use enarx_boot::page_table::{Pte, PteFlags};
use enarx_exits::Reason;
use enarx_snp::ghcb::{ap, exit};
use zerocopy::IntoBytes;

use super::Snp;
use super::ghcb::Call;
use super::instructions::NewVmsa;
use crate::fatal::Fatal;
use crate::frames::Frames;
use crate::platform::Platform;
use crate::table::entry_at;

/// Starts vCPU `vcpu`, which has never run, with a stack, a task state segment and a first state of its
/// own. The page that the launch measured for it shares none of them.
///
/// # Errors
/// [`Reason::OutOfMemory`]; [`Reason::Vcpu`] when the CPU or the host refuses; those of the ledger.
pub fn start<P: Platform>(
    platform: &mut P,
    snp: &mut Snp,
    frames: &mut Frames,
    vcpu: usize,
) -> Result<(), Fatal> {
    let bit = 1u64 << (vcpu % 64);
    if snp.started & bit != 0 {
        return Ok(());
    }
    snp.started |= bit;
    let number = vcpu as u64;
    let refused = Fatal::new(Reason::Vcpu, number);
    let root = frames.ledger().ok_or(refused)?.root();
    let map = |platform: &mut P, frames: &mut Frames, address, flags| {
        let frame = frames.small_or_end(platform, number)?;
        let at = entry_at(platform, root, VirtAddr::new(address), 1).ok_or(refused)?;
        platform.set_entry(at, Pte::new(frame.address(), flags));
        Ok::<_, Fatal>(frame)
    };
    let mut top = None;
    for offset in (0..KERNEL_STACK).step_by(4096) {
        let address = stack_bottom(number) + offset;
        top = Some(map(platform, frames, address, PteFlags::KERNEL_DATA)?);
    }
    // The stack record: where the SYSCALL entry finds the stack.
    let stack = first_stack_pointer(number);
    let record = top.ok_or(refused)?.slot(stack % PAGE / 8);
    platform.write(record, stack);
    let tss = map(platform, frames, own_tss(number), PteFlags::KERNEL_CONSTANT)?;
    platform.write_bytes(tss.place(0), TaskState::new(number).as_bytes());

    let mut page = frames.small_or_end(platform, number)?;
    while page.address().gpa().is_aligned(LARGE) {
        // CPUs mistake a VMSA at a 2 MiB boundary for a large page (AMD erratum, as Linux avoids
        // it); such a frame stays unused.
        page = frames.small_or_end(platform, number)?;
    }
    let state = snp.first_state(platform.entry_point(), root, own_tss(number));
    for (offset, word) in state.words(number) {
        platform.write(page.slot(offset as u64 / 8), word);
    }
    if platform.rmpadjust(&NewVmsa { frame: page }) != 0 {
        return Err(refused);
    }
    let answer = platform.ghcb_exit(&Call {
        code: exit::AP_CREATION,
        info1: ap::CREATE | (number << 32),
        info2: page.address().gpa().get(),
        rax: Some(snp.launch.sev_features),
        buffer: &[],
    });
    if answer.accepted() {
        Ok(())
    } else {
        Err(refused)
    }
}
