// SPDX-License-Identifier: Apache-2.0

//! Limits of a guest's CPU that CPUID does not set: the registers that it reaches, and how long it holds a processor or
//! the bus. The guest may run code of an attacker's at CPL0.

use kvm_bindings::{
    KVM_BUS_LOCK_DETECTION_EXIT, KVM_CAP_PMU_CAPABILITY, KVM_CAP_X86_BUS_LOCK_EXIT,
    KVM_CAP_X86_MSR_FILTER, KVM_CAP_X86_NOTIFY_VMEXIT, KVM_CAP_X86_USER_SPACE_MSR,
    KVM_MSR_EXIT_REASON_FILTER, KVM_MSR_EXIT_REASON_UNKNOWN, KVM_PMU_CAP_DISABLE,
    KVM_X86_NOTIFY_VMEXIT_ENABLED, kvm_enable_cap,
};
use kvm_ioctls::{MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VmFd};

/// Neighbouring model-specific registers (MSRs): the first, and how many; at most eight.
pub type Registers = (u32, u32);

/// FS base and GS base, the only MSRs that a microkernel writes (AMD64 APM volume 2, section 4.5.3).
pub const SEGMENT_BASES: Registers = (0xc000_0100, 2);

/// LSTAR, which the simulated build of the microkernel writes as well.
pub const LSTAR: Registers = (0xc000_0082, 1);

/// The limits of a guest. KVM may not offer all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Access to another MSR than those of a list ends the Keep: none reaches KVM's code for it.
    pub msrs: bool,
    /// The other limits, each with true if it is in effect.
    others: [(&'static str, bool); 3],
}

impl Limits {
    /// Sets all limits that KVM offers, before the first vCPU. Of the MSRs only `registers` stay KVM's.
    pub fn set(vm: &VmFd, registers: &[Registers]) -> Self {
        let offered = |capability: u32| {
            let answer = vm.check_extension_raw(capability.into());
            u32::try_from(answer).unwrap_or(0)
        };
        let enable = |capability: u32, argument: u32| {
            let mut request = kvm_enable_cap {
                cap: capability,
                ..kvm_enable_cap::default()
            };
            request.args[0] = argument.into();
            vm.enable_cap(&request).is_ok()
        };
        let enable_flag =
            |capability, flag| offered(capability) & flag != 0 && enable(capability, flag);
        // A register that is neither the guest's nor KVM's exits as well, instead of an exception in the guest.
        let reasons = KVM_MSR_EXIT_REASON_FILTER | KVM_MSR_EXIT_REASON_UNKNOWN;
        Self {
            msrs: offered(KVM_CAP_X86_USER_SPACE_MSR) != 0
                && offered(KVM_CAP_X86_MSR_FILTER) != 0
                && enable(KVM_CAP_X86_USER_SPACE_MSR, reasons)
                && leave(vm, registers).is_ok(),
            others: [
                (
                    "counters of performance",
                    enable_flag(KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE),
                ),
                // A guest that occupies its CPU without exits is forced to exit. Without an explicit window (the upper
                // half of the argument), the CPU's own threshold applies.
                (
                    "time without an exit",
                    enable_flag(KVM_CAP_X86_NOTIFY_VMEXIT, KVM_X86_NOTIFY_VMEXIT_ENABLED),
                ),
                // A bus lock stalls every CPU of the host, so the first one ends the Keep.
                (
                    "locks of the bus",
                    enable_flag(KVM_CAP_X86_BUS_LOCK_EXIT, KVM_BUS_LOCK_DETECTION_EXIT),
                ),
            ],
        }
    }

    /// Names the limits that are not in effect, other than that of MSRs.
    pub fn missing(self) -> impl Iterator<Item = &'static str> {
        let others = self.others.into_iter();
        others.filter_map(|(name, holds)| (!holds).then_some(name))
    }
}

/// Leaves KVM these MSRs, and no other.
fn leave(vm: &VmFd, registers: &[Registers]) -> Result<(), kvm_ioctls::Error> {
    let ranges: Vec<_> = registers
        .iter()
        .map(|&(base, msr_count)| MsrFilterRange {
            flags: MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE,
            base,
            msr_count,
            // A set bit leaves the access to KVM.
            bitmap: &[0xff],
        })
        .collect();
    vm.set_msr_filter(MsrFilterDefaultAction::DENY, &ranges)
}

#[cfg(test)]
mod tests {
    use kvm_ioctls::{Kvm, VcpuExit};

    use super::*;
    use crate::launched::create_vm;
    use crate::vm::memory::GuestMemory;

    /// Where the guest's code lies.
    const CODE: u64 = 0x1000;

    /// The exit of a guest in real mode, which has all privileges, that runs this code.
    fn exit(code: &[u8]) -> String {
        let kvm = Kvm::new().unwrap();
        let memory = GuestMemory::new(2 << 20, &[]).unwrap();
        memory.load(CODE, code);
        let vm = create_vm(&kvm).unwrap();
        let limits = Limits::set(&vm, &[SEGMENT_BASES]);
        assert!(limits.msrs, "this KVM has no filter of MSRs");
        memory.register_aliased(&vm, 0).unwrap();
        let mut vcpu = vm.create_vcpu(0).unwrap();
        let mut sregs = vcpu.get_sregs().unwrap();
        sregs.cs.base = 0;
        sregs.cs.selector = 0;
        vcpu.set_sregs(&sregs).unwrap();
        let mut regs = vcpu.get_regs().unwrap();
        (regs.rip, regs.rflags) = (CODE, 2);
        vcpu.set_regs(&regs).unwrap();
        match vcpu.run().unwrap() {
            VcpuExit::X86Rdmsr(exit) => format!("read {:x}", exit.index),
            VcpuExit::X86Wrmsr(exit) => format!("write {:x}", exit.index),
            exit => format!("{exit:?}"),
        }
    }

    /// MOV ECX, `register`; `instruction`; HLT.
    fn code(register: u32, instruction: [u8; 2]) -> Vec<u8> {
        let [a, b, c, d] = register.to_le_bytes();
        let [first, second] = instruction;
        vec![0x66, 0xb9, a, b, c, d, first, second, 0xf4]
    }

    const RDMSR: [u8; 2] = [0x0f, 0x32];
    const WRMSR: [u8; 2] = [0x0f, 0x30];

    #[test]
    fn a_guest_reaches_the_registers_of_the_list_and_no_other() {
        enarx_harness::needs::kvm();
        for register in [0xc000_0100, 0xc000_0101] {
            assert_eq!(exit(&code(register, RDMSR)), "Hlt", "{register:x}");
            assert_eq!(exit(&code(register, WRMSR)), "Hlt", "{register:x}");
        }
        // Time stamps, a counter and its event of Intel's and AMD's, nested virtualization of both, VMX features,
        // KVM's clocks, page faults, stolen time, end of interrupt and migration (Linux, asm/kvm_para.h), and EFER.
        for register in [
            0x10,
            0xc1,
            0x186,
            0xc001_0000,
            0xc001_0004,
            0x3a,
            0x480,
            0xc001_0114,
            0xc001_0117,
            0x11,
            0x12,
            0x4b56_4d00,
            0x4b56_4d01,
            0x4b56_4d02,
            0x4b56_4d03,
            0x4b56_4d04,
            0x4b56_4d08,
            0xc000_0080,
        ] {
            assert_eq!(exit(&code(register, RDMSR)), format!("read {register:x}"));
            assert_eq!(exit(&code(register, WRMSR)), format!("write {register:x}"));
        }
    }

    #[test]
    fn a_limit_that_kvm_does_not_offer_is_named() {
        enarx_harness::needs::kvm();
        let kvm = Kvm::new().unwrap();
        let limits = Limits::set(&create_vm(&kvm).unwrap(), &[SEGMENT_BASES]);
        let missing: Vec<_> = limits.missing().collect();
        for (capability, name) in [
            (KVM_CAP_PMU_CAPABILITY, "counters of performance"),
            (KVM_CAP_X86_NOTIFY_VMEXIT, "time without an exit"),
            (KVM_CAP_X86_BUS_LOCK_EXIT, "locks of the bus"),
        ] {
            let offered = kvm.check_extension_raw(capability.into()) > 0;
            assert_eq!(missing.contains(&name), !offered, "{name}");
        }
    }
}
