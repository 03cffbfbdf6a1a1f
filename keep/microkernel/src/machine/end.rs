// SPDX-License-Identifier: Apache-2.0

//! The end of the Keep, for all vCPUs at once: the first one reports the end to the host, the others stop.

use core::sync::atomic::{AtomicBool, Ordering};

use enarx_exits::ExitFunction;
use enarx_microkernel::epoch::Epoch;
use enarx_microkernel::frame::WORDS;
use enarx_microkernel::kind::HAS_SNP;
use enarx_microkernel::launch::Launch;
use enarx_microkernel::platform::Platform;
use enarx_microkernel::snp::message::MessageKey;

use super::cpu::Machine;

/// The Keep has ended: no vCPU goes back to user code, and nothing is signed any more, whether the host
/// obeys or not.
static ENDED: AtomicBool = AtomicBool::new(false);
/// The epoch of all vCPUs.
pub static EPOCH: Epoch = Epoch::new();
/// The key of the messages to the firmware, which does not outlive the Keep.
pub static KEY: MessageKey = MessageKey::new();

/// Ends the Keep for all vCPUs, before the host learns of it.
pub fn begin_end() {
    ENDED.store(true, Ordering::SeqCst);
    KEY.wipe();
    // In this order: a vCPU that sees the epoch sees the end.
    EPOCH.advance_all();
    // User code on other vCPUs can talk to the host without entering the microkernel, so its pages are
    // unmapped; translations that are still in TLBs do not last.
    if HAS_SNP {
        take_user_memory();
    }
}

/// Clears the user half of the root page table.
fn take_user_memory() {
    let mut machine = Machine::new(0);
    if let Ok(launch) = Launch::new(&machine) {
        machine.fill_run(launch.root.words().split(WORDS / 2).0, 0);
    }
}

/// True if the Keep has ended.
pub fn ended() -> bool {
    ENDED.load(Ordering::Relaxed)
}

/// Goes no further once the Keep has ended.
#[inline]
pub fn stop_if_ended(machine: &mut Machine) {
    if ended() {
        stop(machine);
    }
}

/// Sleeps forever: the vCPU that ended the Keep reports the end.
#[cold]
#[inline(never)]
fn stop(machine: &mut Machine) -> ! {
    loop {
        machine.exit(ExitFunction::Park, &[u64::MAX]);
    }
}
