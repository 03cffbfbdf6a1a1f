// SPDX-License-Identifier: Apache-2.0

//! Tests of the fake kernel itself: it refuses what the real one refuses.

use enarx_vmm::snp::device::{CommandError, Device, SourcePage, Vm};
use enarx_vmm::snp::firmware::Status;
use enarx_vmm::vm::registers::NewVcpu;
use kvm_bindings::{
    kvm_create_guest_memfd, kvm_memory_attributes, kvm_regs, kvm_sev_init,
    kvm_sev_snp_launch_finish, kvm_sev_snp_launch_start, kvm_sev_snp_launch_update, kvm_sregs,
    kvm_userspace_memory_region2,
};
use rustix::io::Errno;

use super::cpuid;
use super::fake::{Host, Machine, Memory, Processor, Script};

const INVALID: CommandError = CommandError {
    errno: Errno::INVAL,
    firmware: Status::SUCCESS,
};

fn init() -> kvm_sev_init {
    kvm_sev_init {
        ghcb_version: 2,
        ..kvm_sev_init::default()
    }
}

fn start() -> kvm_sev_snp_launch_start {
    kvm_sev_snp_launch_start {
        policy: 0x2_0000,
        ..kvm_sev_snp_launch_start::default()
    }
}

/// A machine with 64 KiB of memory, the first half private, and the measurement begun.
fn measuring() -> Machine {
    measuring_by(Script::default())
}

/// The same on a host with this behaviour.
fn measuring_by(script: Script) -> Machine {
    let mut vm = Host::new(script).create_vm(4).unwrap();
    vm.sev_init(&mut init()).unwrap();
    let request = kvm_create_guest_memfd {
        size: 0x1_0000,
        ..kvm_create_guest_memfd::default()
    };
    let region = kvm_userspace_memory_region2 {
        flags: 4,
        memory_size: 0x1_0000,
        guest_memfd: vm.create_guest_memfd(request).unwrap(),
        ..kvm_userspace_memory_region2::default()
    };
    vm.set_memory_region(region, Memory(0x1_0000)).unwrap();
    vm.set_memory_attributes(kvm_memory_attributes {
        address: 0,
        size: 0x8000,
        attributes: 8,
        flags: 0,
    })
    .unwrap();
    vm.launch_start(&mut start()).unwrap();
    vm
}

fn update(gfn: u64, source: &[SourcePage]) -> kvm_sev_snp_launch_update {
    kvm_sev_snp_launch_update {
        gfn_start: gfn,
        uaddr: source.as_ptr() as u64,
        len: size_of_val(source) as u64,
        type_: 1,
        ..kvm_sev_snp_launch_update::default()
    }
}

#[test]
fn steps_out_of_order() {
    let host = Host::new(Script::default());
    let mut vm = host.create_vm(4).unwrap();
    assert_eq!(vm.launch_start(&mut start()), Err(INVALID), "before INIT2");
    let mut early = Host::new(Script::default()).create_vm(4).unwrap();
    let vcpu = early.create_vcpu(0).unwrap();
    assert_eq!(early.sev_init(&mut init()), Err(INVALID), "after a vCPU");
    drop(vcpu);
    let mut source = [SourcePage([0; 4096])];
    let mut first = update(0, &source);
    assert_eq!(
        vm.launch_update(&mut first, &mut source),
        Err(INVALID),
        "before START"
    );
    let mut finish = kvm_sev_snp_launch_finish::default();
    assert_eq!(
        vm.launch_finish(&mut finish, None),
        Err(INVALID),
        "before START"
    );
    vm.sev_init(&mut init()).unwrap();
    assert_eq!(vm.sev_init(&mut init()), Err(INVALID), "twice");

    let mut vm = measuring();
    assert_eq!(vm.launch_start(&mut start()), Err(INVALID), "twice");
    assert_eq!(
        vm.launch_finish(&mut finish, None),
        Err(INVALID),
        "without vCPUs"
    );
    let mut vcpu = vm.create_vcpu(0).unwrap();
    let sregs = vcpu.sregs().unwrap();
    assert_eq!(vcpu.set_sregs(&sregs), Err(Errno::INVAL), "before CPUID");
    vcpu.set_cpuid(&cpuid()).unwrap();
    vcpu.set_sregs(&sregs).unwrap();
    vcpu.set_regs(&kvm_regs::default()).unwrap();
    vm.launch_finish(&mut finish, None).unwrap();
    assert_eq!(vm.launch_finish(&mut finish, None), Err(INVALID), "twice");
    assert_eq!(vcpu.set_sregs(&sregs), Err(Errno::INVAL), "after FINISH");
    assert_eq!(
        vm.create_vcpu(1).map(|_| ()),
        Err(Errno::INVAL),
        "after FINISH"
    );
    let mut late = update(0, &source);
    assert_eq!(
        vm.launch_update(&mut late, &mut source),
        Err(INVALID),
        "after FINISH"
    );
}

#[test]
fn reserved_fields_and_values() {
    for change in [
        (|init| init.flags = 1) as fn(&mut kvm_sev_init),
        |init| init.pad1 = 1,
        |init| init.pad2[7] = 1,
        |init| init.ghcb_version = 1,
        |init| init.vmsa_features = 1,
    ] {
        let mut vm = Host::new(Script::default()).create_vm(4).unwrap();
        let mut init = init();
        change(&mut init);
        assert_eq!(vm.sev_init(&mut init), Err(INVALID));
    }
    for change in [
        (|start| start.flags = 1) as fn(&mut kvm_sev_snp_launch_start),
        |start| start.pad0[5] = 1,
        |start| start.pad1[3] = 1,
        |start| start.policy = 0x1_0000,
        |start| start.policy = 0x6_0000,
    ] {
        let mut vm = Host::new(Script::default()).create_vm(4).unwrap();
        vm.sev_init(&mut init()).unwrap();
        let mut start = start();
        change(&mut start);
        assert_eq!(vm.launch_start(&mut start), Err(INVALID));
    }
    let mut vm = measuring();
    for change in [
        (|finish| finish.flags = 1) as fn(&mut kvm_sev_snp_launch_finish),
        |finish| finish.pad0[0] = 1,
        |finish| finish.pad1[0] = 1,
        |finish| finish.vcek_disabled = 1,
        |finish| finish.id_block_en = 1,
        |finish| finish.auth_key_en = 1,
    ] {
        let mut finish = kvm_sev_snp_launch_finish::default();
        change(&mut finish);
        assert_eq!(vm.launch_finish(&mut finish, None), Err(INVALID));
    }
}

#[test]
fn pages() {
    let errno = |errno: Errno| Err(CommandError::from(errno));
    let mut source = [SourcePage([0; 4096]), SourcePage([1; 4096])];
    let mut vm = measuring();
    for change in [
        (|update| update.type_ = 2) as fn(&mut kvm_sev_snp_launch_update),
        |update| update.type_ = 0,
        |update| update.type_ = 7,
        |update| update.len = 0x800,
        |update| update.len = 0,
        |update| update.uaddr += 0x800,
        |update| update.flags = 1,
        |update| update.pad0 = 1,
        |update| update.pad1 = 1,
        |update| update.pad2[0] = 1,
    ] {
        let mut update = update(0, &source);
        change(&mut update);
        assert_eq!(
            vm.launch_update(&mut update, &mut source),
            errno(Errno::INVAL)
        );
    }
    // Memory that is not private, and no memory: the kernel does not distinguish these failures.
    for gfn in [8, 0x10] {
        let mut update = update(gfn, &source);
        let before = update;
        let answer = vm.launch_update(&mut update, &mut source);
        assert_eq!((answer, update), (errno(Errno::IO), before));
    }
    for change in [
        (|update| update.len = 0x3000) as fn(&mut kvm_sev_snp_launch_update),
        |update| update.uaddr += 0x1000,
        |update| update.uaddr -= 0x1000,
    ] {
        let mut update = update(0, &source);
        change(&mut update);
        assert_eq!(
            vm.launch_update(&mut update, &mut source),
            errno(Errno::FAULT)
        );
    }
    // The second page of the command was launched before: the first counts, then it is refused.
    let mut second = update(3, &source[..1]);
    vm.launch_update(&mut second, &mut source[..1]).unwrap();
    let mut both = update(2, &source);
    let address = both.uaddr;
    vm.launch_update(&mut both, &mut source).unwrap();
    assert_eq!(
        (both.gfn_start, both.uaddr, both.len),
        (3, address + 4096, 4096)
    );
    assert_eq!(vm.launch_update(&mut both, &mut source), errno(Errno::IO));
}

#[test]
fn memory() {
    let mut vm = measuring();
    let attributes = |address, size, attributes, flags| kvm_memory_attributes {
        address,
        size,
        attributes,
        flags,
    };
    for request in [
        attributes(1, 0x1000, 8, 0),
        attributes(0, 0, 8, 0),
        attributes(0, 0x1000, 1, 0),
        attributes(0, 0x1000, 8, 1),
        attributes(u64::MAX - 0xfff, 0x2000, 8, 0),
    ] {
        assert_eq!(vm.set_memory_attributes(request), Err(Errno::INVAL));
    }
    for request in [
        kvm_create_guest_memfd::default(),
        kvm_create_guest_memfd {
            size: 0x1000,
            flags: 1,
            reserved: [0; 6],
        },
        kvm_create_guest_memfd {
            size: 0x1000,
            flags: 0,
            reserved: [1; 6],
        },
    ] {
        assert_eq!(vm.create_guest_memfd(request), Err(Errno::INVAL));
    }
    let region = kvm_userspace_memory_region2 {
        slot: 1,
        guest_phys_addr: 0x1_0000,
        memory_size: 0x1000,
        ..kvm_userspace_memory_region2::default()
    };
    for (change, answer) in [
        (
            (|region| region.flags = 2) as fn(&mut kvm_userspace_memory_region2),
            Errno::INVAL,
        ),
        (|region| region.pad1 = 1, Errno::INVAL),
        (|region| region.slot = 2, Errno::INVAL),
        (|region| region.guest_phys_addr = 0xf000, Errno::EXIST),
        (
            |region| (region.flags, region.guest_memfd) = (4, 7),
            Errno::BADF,
        ),
        // A part of the private memory that belongs to another slot.
        (
            |region| (region.flags, region.guest_memfd) = (4, 100),
            Errno::INVAL,
        ),
    ] {
        let mut region = region;
        change(&mut region);
        assert_eq!(vm.set_memory_region(region, Memory(0x1000)), Err(answer));
    }
    assert_eq!(
        vm.set_memory_region(region, Memory(0x2000)),
        Err(Errno::INVAL)
    );
    assert_eq!(vm.enable_capability(201, [1, 0, 0, 0]), Err(Errno::INVAL));
}

#[test]
fn vcpus() {
    let mut vm = measuring();
    assert_eq!(
        vm.create_vcpu(1).map(|_| ()),
        Err(Errno::INVAL),
        "out of order"
    );
    let mut vcpu = vm.create_vcpu(0).unwrap();
    let bare = kvm_bindings::CpuId::new(0).unwrap();
    vcpu.set_cpuid(&bare).unwrap();
    let sregs = vcpu.sregs().unwrap();
    assert_eq!(
        vcpu.set_sregs(&sregs),
        Err(Errno::INVAL),
        "without the C-bit"
    );
    vcpu.set_cpuid(&cpuid()).unwrap();
    let svme = kvm_sregs {
        efer: 1 << 12,
        ..sregs
    };
    assert_eq!(vcpu.set_sregs(&svme), Err(Errno::INVAL), "SVME is KVM's");
    let other = vm.create_vcpu(1).unwrap();
    let base = |vcpu: &Processor| vcpu.sregs().unwrap().apic_base;
    assert_eq!((base(&vcpu), base(&other)), (0xfee0_0900, 0xfee0_0800));
}

#[test]
fn a_failed_finish_is_final() {
    let mut script = Script::default();
    script.firmware.insert("finish", Status(0x0b));
    let mut vm = measuring_by(script);
    let mut vcpu = vm.create_vcpu(0).unwrap();
    vcpu.set_cpuid(&cpuid()).unwrap();
    let sregs = vcpu.sregs().unwrap();
    vcpu.set_regs(&kvm_regs::default()).unwrap();
    let mut finish = kvm_sev_snp_launch_finish::default();
    let refused = vm.launch_finish(&mut finish, None).unwrap_err();
    assert_eq!(refused.firmware, Status(0x0b));
    // The vCPUs' pages are encrypted by now.
    assert_eq!(vcpu.set_sregs(&sregs), Err(Errno::INVAL));
    assert_eq!(vm.launch_finish(&mut finish, None), Err(INVALID));
}
