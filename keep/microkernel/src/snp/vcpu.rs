//! Starting further vCPUs: the microkernel writes their first state itself and tells the host to
//! run them (56421, SNP AP Creation).

use enarx_snp::ghcb::exit;
use zerocopy::IntoBytes;

use super::Snp;
use super::ghcb::Call;
use super::instructions::{Instructions, NewVmsa};
use super::pages::plain;
use crate::fatal::Fatal;
use crate::frames::Frames;
use crate::paging::entry_at;
use crate::platform::Platform;
use enarx_boot::first_state::{TaskState, first_stack_pointer};
use enarx_boot::layout::{DIRECT_MAP, KERNEL_STACK, LARGE, PAGE, own_tss, stack_bottom};
use enarx_boot::page_table::bits::{NO_EXECUTE, PRESENT, WRITE};
use enarx_exits::Reason;

/// Create the vCPU at once (56421, SNP AP Creation: SW_EXITINFO1 bits 15:0).
const CREATE: u64 = 1;

/// Starts vCPU `vcpu`, which has never run, with a stack, a task state segment and a first state of its
/// own. What the launch measured for it shares none of them.
///
/// # Errors
/// [`Reason::OutOfMemory`]; [`Reason::Vcpu`] when the CPU or the host refuses.
pub fn start<P: Platform + Instructions>(
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
    let memory = Fatal::new(Reason::OutOfMemory, number);
    let root = snp.boot.root | snp.boot.c_bit;
    let map = |platform: &mut P, frames: &mut Frames, address, rights| {
        let frame = frames.small(platform).ok_or(memory)?;
        let at = entry_at(platform, root, address, 1).ok_or(refused)?;
        platform.write(at, frame | PRESENT | NO_EXECUTE | rights);
        Ok::<_, Fatal>(frame)
    };
    let mut top = 0;
    for offset in (0..KERNEL_STACK).step_by(4096) {
        top = map(platform, frames, stack_bottom(number) + offset, WRITE)?;
    }
    // The stack record: where the SYSCALL entry finds the stack.
    let stack = first_stack_pointer(number);
    platform.write(top + stack % PAGE, stack);
    let tss = map(platform, frames, own_tss(number), 0)?;
    platform.write_bytes(tss, TaskState::new(number).as_bytes());

    let mut page = frames.small(platform).ok_or(memory)?;
    while plain(page).is_multiple_of(LARGE) {
        // CPUs mistake a VMSA at a 2 MiB boundary for a large page (AMD erratum, as Linux avoids
        // it); such a frame stays unused.
        page = frames.small(platform).ok_or(memory)?;
    }
    let state = snp.first_state(platform.entry(), own_tss(number));
    for (offset, word) in state.words(number) {
        platform.write(page + offset as u64, word);
    }
    let address = DIRECT_MAP + plain(page);
    if platform.rmpadjust(&NewVmsa { address }) != 0 {
        return Err(refused);
    }
    let answer = platform.ghcb_exit(&Call {
        code: exit::AP_CREATION,
        info1: CREATE | (number << 32),
        info2: plain(page),
        rax: Some(snp.boot.sev_features),
        buffer: &[],
    });
    if answer.accepted() {
        Ok(())
    } else {
        Err(refused)
    }
}
