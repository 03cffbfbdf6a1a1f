// SPDX-License-Identifier: Apache-2.0

//! The host's side of the GHCB protocol takes whatever a guest writes: a GHCB, then values of the GHCB MSR.
#![cfg_attr(fuzzing, no_main)]

use enarx_simulator::{Action, Config, Hypervisor, Launching, Machine, Settings, SharedMemory};
use enarx_snp::bits::GuestPolicy;
use enarx_snp::ghcb::msr::Request;
use enarx_snp::launch::PageType;
use enarx_snp::product::GENOA;
use enarx_snp::vmsa::Vmsa;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex};

const RAM: Range<u64> = 0..8 << 20;
/// Four pages of shared memory, the GHCB first.
const SHARED: u64 = RAM.end;
/// Values of the GHCB MSR after the first.
const VALUES: usize = 8;

struct Memory(Mutex<Vec<u8>>);

impl Memory {
    fn at<T>(&self, gpa: u64, len: usize, then: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
        let start = usize::try_from(gpa.checked_sub(SHARED)?).ok()?;
        let mut bytes = self.0.lock().ok()?;
        bytes.get_mut(start..start.checked_add(len)?).map(then)
    }
}

impl SharedMemory for Memory {
    fn read(&self, gpa: u64, to: &mut [u8]) -> Option<()> {
        self.at(gpa, to.len(), |from| to.copy_from_slice(from))
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Option<()> {
        self.at(gpa, from.len(), |to| to.copy_from_slice(from))
    }
}

static MACHINE: LazyLock<Arc<Machine>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for the keys");
    let machine = Machine::open(folder.path(), Settings::new(&GENOA));
    Arc::new(machine.expect("a machine"))
});

fn host() -> Hypervisor {
    let mut launching = Launching::start(Arc::clone(&MACHINE), GuestPolicy(0x3_0000), [0; 16])
        .expect("a plain policy");
    launching
        .update(PageType::Secrets, 0, &mut [0; 4096])
        .expect("a first page");
    let mut vmsa = Vmsa::default();
    vmsa.sev_features.set(1);
    launching.update_vmsa(&vmsa).expect("a plain vCPU");
    let guest = launching.finish(None, [0; 32]).expect("a whole launch");
    let config = Config {
        vcpus: 2,
        c_bit: 40,
        ram: RAM,
        huge_pages: true,
    };
    Hypervisor::new(guest, config)
}

// The keys of a machine take a minute to make under the address sanitizer.
enarx_fuzz::target!(init: LazyLock::force(&MACHINE), |input: &[u8]| {
    // The values come first, followed by zeros: a fuzzer produces short inputs.
    let (values, page) = input.split_at(input.len().min(VALUES * 8));
    let page = &page[..page.len().min(4096)];
    let mut bytes = vec![0; 4 * 4096];
    bytes[..page.len()].copy_from_slice(page);
    let (host, memory) = (host(), Memory(Mutex::new(bytes)));
    let register = Request::RegisterGhcb { gfn: SHARED / 4096 };
    assert_eq!(
        host.msr_write(0, register.encode(), &memory),
        Action::Resume
    );
    let first = [SHARED.to_le_bytes()];
    for value in first.iter().chain(values.as_chunks().0) {
        let action = host.msr_write(0, u64::from_le_bytes(*value), &memory);
        if let Action::PageState(changes) = &action {
            for change in changes {
                assert!(change.bytes > 0 && change.gpa + change.bytes <= RAM.end);
                assert!((change.gpa | change.bytes).is_multiple_of(4096));
            }
        }
        if matches!(action, Action::Violation(_) | Action::Terminate { .. }) {
            return;
        }
    }
});
