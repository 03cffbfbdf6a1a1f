// SPDX-License-Identifier: Apache-2.0

//! The SEV-SNP launcher against a fake KVM and secure processor.

mod enforced;
mod entered;
mod fake;
mod first_day;
mod played;
mod run;

use std::collections::{BTreeMap, VecDeque};

use enarx_boot_image::{LOADER, MICROKERNEL};
use enarx_executor::fault::{KeepFault, MemoryFault, StrayExit, Termination};
use enarx_exits::Reason;
use enarx_launch::Runtime;
use enarx_launch::layout::{Launch, Page};
use enarx_launch::measured::{self, Images, Parameters};
use enarx_launch::variant::{Property, Variant};
use enarx_snp::bits::GuestPolicy;
use enarx_snp::cpuid::CpuidPage;
use enarx_snp::id_block::{IdAuth, IdBlock};
use enarx_snp::launch::{PageType, VMSA_GPA};
use enarx_snp::vmsa::{Segment, Vmsa};
use enarx_test_keeps::expected_digest;
use enarx_vmm::snp::cpuid::{Correction, CpuidError, Difference, Place};
use enarx_vmm::snp::device::Device;
use enarx_vmm::snp::exits::{Answer, Exit, hypercall, serve};
use enarx_vmm::snp::firmware::Status;
use enarx_vmm::snp::guest::{Guest, Request};
use enarx_vmm::snp::launcher::{Identity, Launcher, Sealed, Settings, SnpError};
use enarx_vmm::snp::memory::{Extent, Slot};
use enarx_vmm::snp::probe::Missing;
use enarx_vmm::vm::registers::VcpuError;
use fake::{C_BIT, Cpuid, Event, Host, Machine, Memory, PartialUpdate, Script};
use kvm_bindings::{CpuId, kvm_cpuid_entry2};
use proptest::prelude::*;
use rustix::io::Errno;
use zerocopy::FromZeros;

const MIB: u64 = 1 << 20;
const WINDOW: std::ops::Range<u64> = 2 * MIB..3 * MIB;
const POLICY: GuestPolicy = GuestPolicy(0x2_0000);
const SETTINGS: Settings = Settings {
    policy: POLICY,
    vmsa_features: 0,
};
const HOST_DATA: [u8; 32] = [0xcd; 32];
/// The firmware's answer about an ID block for another policy (56860, chapter 5, status codes).
const POLICY_FAILURE: Status = Status(0x07);

/// 4 MiB of private memory with a window, and 64 KiB that stay shared.
fn slots() -> Vec<Slot<Memory>> {
    [(0, 4 * MIB, true), (4 * MIB, 0x1_0000, false)]
        .map(|(gpa, size, private)| Slot {
            extent: Extent { gpa, size, private },
            memory: Memory(size),
        })
        .into()
}

fn cpuid() -> CpuId {
    let encryption = kvm_cpuid_entry2 {
        function: 0x8000_001f,
        eax: 0x1a,
        ebx: 51,
        ..kvm_cpuid_entry2::default()
    };
    CpuId::from_entries(&[encryption]).unwrap()
}

fn page(gpa: u64, kind: PageType, fill: u8) -> Page {
    Page {
        gpa,
        kind,
        bytes: Box::new([fill; 4096]),
    }
}

/// The first state of a vCPU.
fn vmsa(vcpu: u64, features: u64) -> Page {
    let data = Segment::new(0x10, 0xc93, 0xffff_ffff, 0);
    let vmsa = Vmsa {
        cs: Segment::new(0x08, 0xa9b, 0xffff_ffff, 0),
        ss: data,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        gdtr: Segment::new(0, 0, 39, 0x1_0000),
        idtr: Segment::new(0, 0, 0xfff, 0x2_0000),
        tr: Segment::new(0x28, 0x8b, 103, 0x3_0000 + vcpu * 128),
        efer: 0x1d01.into(),
        cr0: 0x8005_0033.into(),
        cr3: (C_BIT | 0x6000).into(),
        cr4: 0x5_06e0.into(),
        dr6: 0xffff_0ff0.into(),
        dr7: 0x400.into(),
        rflags: 2.into(),
        rip: 0xffff_8000_0010_0000.into(),
        rsp: (0xffff_8000_0020_0000 + vcpu * 0x8000).into(),
        rdi: vcpu.into(),
        r8_to_r15: [1, 2, 3, 4, 5, 6, 7, 8].map(Into::into),
        star: (0x13 << 48 | 0x08 << 32).into(),
        lstar: 0xffff_8000_0010_1000.into(),
        sfmask: 0x25_7f00.into(),
        kernel_gs_base: 0x7000.into(),
        g_pat: 0x0007_0406_0007_0406.into(),
        sev_features: (features | 1).into(),
        xcr0: 7.into(),
        mxcsr: 0x1f80.into(),
        x87_fcw: 0x37f.into(),
        ..Vmsa::default()
    };
    Page {
        gpa: VMSA_GPA,
        kind: PageType::Vmsa,
        bytes: Box::new(zerocopy::transmute!(vmsa)),
    }
}

fn cpuid_page(gpa: u64) -> Page {
    let mut page = CpuidPage::default();
    for (leaf, ebx) in [(1, 0x0080_0800), (7, 0x219c_07ab)] {
        let mut entry = page.table[0];
        entry.eax_in.set(leaf);
        entry.ebx.set(ebx);
        page.push(entry).unwrap();
    }
    Page {
        gpa,
        kind: PageType::Cpuid,
        bytes: Box::new(zerocopy::transmute!(page)),
    }
}

/// One page of every type, two vCPUs.
fn plan() -> Vec<Page> {
    vec![
        page(0x1000, PageType::Normal, 1),
        page(0x2000, PageType::Normal, 2),
        page(0x3000, PageType::Zero, 0),
        page(0x4000, PageType::Unmeasured, 4),
        page(0x5000, PageType::Secrets, 0),
        cpuid_page(0x6000),
        page(0x3f_f000, PageType::Normal, 7),
        vmsa(0, 0),
        vmsa(1, 0),
    ]
}

fn vcpus(pages: &[Page]) -> Vec<CpuId> {
    let vmsas = pages.iter().filter(|page| page.kind == PageType::Vmsa);
    vmsas.map(|_| cpuid()).collect()
}

fn launch(
    host: &Host,
    settings: Settings,
    pages: &[Page],
    identity: Option<Identity>,
) -> Result<Sealed<Machine>, SnpError> {
    Launcher::create(host, settings)?
        .start(slots(), &[WINDOW])?
        .load(pages, &vcpus(pages))?
        .seal(identity, HOST_DATA)
}

fn simple(script: Script) -> (Host, Result<Sealed<Machine>, SnpError>) {
    let host = Host::new(script);
    let sealed = launch(&host, SETTINGS, &plan(), None);
    (host, sealed)
}

fn refusal(script: Script) -> SnpError {
    let (host, sealed) = simple(script);
    let error = sealed.map(|_| ()).unwrap_err();
    assert!(!host.state().dropped_early);
    error
}

/// The firmware's answer to a refused step.
#[track_caller]
fn firmware_answer(error: &SnpError) -> Status {
    match error {
        SnpError::Refused { source, .. } => source.firmware,
        other => panic!("not a refused step: {other}"),
    }
}

#[test]
fn a_launch_makes_every_call_in_order() {
    let (host, sealed) = simple(Script {
        interruptions: 3,
        ..Script::default()
    });
    let sealed = sealed.unwrap();
    let registers = |vcpu| {
        let steps = ["cpuid", "sregs", "xcr0", "msrs", "regs"];
        let step = move |what| Event::Registers { vcpu, what };
        [Event::Vcpu(vcpu)].into_iter().chain(steps.map(step))
    };
    let page = |gpa, kind| Event::Page { gpa, kind };
    let mut expected = vec![
        Event::CreateVm(4),
        Event::EnableCapability(201, 1 << 12),
        Event::Init {
            features: 0,
            ghcb: 2,
        },
        Event::Memfd(4 * MIB),
        Event::Slot {
            number: 0,
            gpa: 0,
            size: 4 * MIB,
            memfd: true,
        },
        Event::Slot {
            number: 1,
            gpa: 4 * MIB,
            size: 0x1_0000,
            memfd: false,
        },
        Event::Attributes {
            range: 0..2 * MIB,
            private: true,
        },
        Event::Attributes {
            range: 3 * MIB..4 * MIB,
            private: true,
        },
        Event::Start { policy: POLICY.0 },
    ];
    expected.extend(registers(0));
    expected.extend(registers(1));
    expected.extend([
        page(0x1000, 1),
        page(0x2000, 1),
        page(0x3000, 3),
        page(0x4000, 4),
        page(0x5000, 5),
        page(0x6000, 6),
        page(0x3f_f000, 1),
        Event::Finish {
            host_data: HOST_DATA,
            author_key: false,
        },
    ]);
    assert_eq!(host.state().events, expected);
    assert_eq!(host.state().digest, expected_digest(&plan()));
    assert_eq!(sealed.vcpus.len(), 2);
    assert!(sealed.corrections.is_empty());
    drop(sealed);
    assert!(!host.state().dropped_early);
}

/// A static executable for x86-64 of 8 KiB, all in one read-only segment (System V ABI, chapter 4).
fn executable() -> Vec<u8> {
    let (base, size) = (0x40_0000u64, 0x2000u64);
    let mut image = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // Type, machine, version; entry; program and section headers' offsets.
    image.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    image.extend([base + 0x78, 64, 0].map(u64::to_le_bytes).concat());
    // Flags; sizes of this header and of one program header; their number; no sections.
    image.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // One PT_LOAD, readable and executable.
    image.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    let fields = [0, base, base, size, size, 0x1000];
    image.extend(fields.map(u64::to_le_bytes).concat());
    image.resize(0x2000, 0xcc);
    image
}

/// The launch of the real images.
fn laid_out(vcpus: u32, variant: Variant) -> Launch {
    let runtime = executable();
    let images = Images {
        microkernel: MICROKERNEL,
        loader: LOADER,
        runtime: Runtime::of(&runtime),
    };
    let parameters = Parameters {
        vcpus,
        c_bit: C_BIT.trailing_zeros(),
        fault_addresses: false,
        variant,
    };
    measured::launch(&images, &parameters).unwrap()
}

/// A launch of the real images with these properties on this host.
fn launch_variant(script: Script, options: &[(&str, bool)]) -> (Host, Result<(), SnpError>) {
    let variant = options.iter().fold(Variant::PLAIN, |variant, (name, on)| {
        variant.with(Property::named(name).unwrap(), *on)
    });
    let plan = laid_out(3, variant);
    let size = 64 * MIB;
    let cpuids = vcpus(&plan.pages);
    let request = Request {
        pages: plan.pages,
        shared: &plan.shared,
        cpuid_page: zerocopy::transmute!(*cpuid_page(0).bytes),
        cpuids: &cpuids,
        size,
        memory: Memory(size),
        identity: None,
        host_data: HOST_DATA,
        variant,
    };
    let host = Host::new(script);
    let launched = Guest::launch(&host, request).map(|_| ());
    (host, launched)
}

/// A policy's requirement reaches KVM and the firmware, or the launch is refused by name.
#[test]
fn a_launch_has_the_requested_variant() {
    // Linux 6.19: every bit that requires nothing of KVM (`KVM_SNP_POLICY_MASK_VALID`).
    let newest = || Script {
        policy_bits: Ok(Some(0xffff | 0x3fb << 16)),
        ..Script::default()
    };
    let all = [
        ("smt", false),
        ("single-socket", true),
        ("aes-256-xts", true),
        ("rapl-disabled", true),
        ("ciphertext-hiding", true),
        ("page-swap-disabled", true),
        ("debug-swap", true),
    ];
    let (host, launched) = launch_variant(newest(), &all);
    launched.unwrap();
    let events = &host.state().events;
    let policy = 0x3d2_0000;
    assert!(events.contains(&Event::Start { policy }), "{events:?}");
    let features = 1 << 5;
    assert!(
        events.contains(&Event::Init { features, ghcb: 2 }),
        "{events:?}"
    );

    // Older kernels know only SMT and sockets.
    launch_variant(Script::default(), &all[..2]).1.unwrap();
    for ((name, on), bit) in all[2..6].iter().zip(22..) {
        let (host, launched) = launch_variant(Script::default(), &[(*name, *on)]);
        let error = launched.unwrap_err();
        assert!(
            matches!(error, SnpError::Missing(Missing::Policy(bits)) if bits == 1 << bit),
            "{name}: {error}"
        );
        assert!(host.state().events.is_empty(), "no machine was made");
    }
    let script = Script {
        features: Ok(Some(0)),
        ..Script::default()
    };
    let error = launch_variant(script, &all[6..]).1.unwrap_err();
    assert!(
        matches!(error, SnpError::Missing(Missing::VmsaFeatures(bits)) if bits == features),
        "{error}"
    );
    // A feature that KVM does not offer is refused by name; an offered one is launched.
    for (name, bit) in [
        ("prevent-host-ibs", 6),
        ("btb-isolation", 7),
        ("smt-protection", 15),
    ] {
        let refused = launch_variant(Script::default(), &[(name, true)]).1;
        let error = refused.unwrap_err();
        let features = 1 << bit;
        assert!(
            matches!(error, SnpError::Missing(Missing::VmsaFeatures(bits)) if bits == features),
            "{error}"
        );
        let named = format!("{name} (bit {bit})");
        assert!(error.to_string().contains(&named), "{error}");
        let offers = Script {
            features: Ok(Some(features)),
            ..Script::default()
        };
        let (host, launched) = launch_variant(offers, &[(name, true)]);
        launched.unwrap();
        let init = Event::Init { features, ghcb: 2 };
        assert!(host.state().events.contains(&init), "{name}");
    }
    // The machine itself does not satisfy the policy.
    let mut script = newest();
    script.firmware.insert("start", POLICY_FAILURE);
    let error = launch_variant(script, &all).1.unwrap_err().to_string();
    for words in [
        "smt off",
        "single-socket",
        "ciphertext-hiding",
        "POLICY_FAILURE",
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn a_keep_of_the_real_images_is_launched_as_listed() {
    let plan = laid_out(4, Variant::PLAIN);
    let listed = plan.pages.len();
    let digest = expected_digest(&plan.pages);
    let cpuid_gpa = plan.pages.iter().find(|page| page.kind == PageType::Cpuid);
    let cpuid_gpa = cpuid_gpa.unwrap().gpa;
    let size = 64 * MIB;
    let cpuid_page: CpuidPage = zerocopy::transmute!(*cpuid_page(0).bytes);
    let host = Host::new(Script {
        cpuid: Cpuid::Ebx(vec![(7, 0, 0x219c_078b)]),
        ..Script::default()
    });
    let cpuids = vcpus(&plan.pages);
    let request = Request {
        pages: plan.pages,
        shared: &plan.shared,
        cpuid_page,
        cpuids: &cpuids,
        size,
        memory: Memory(size),
        identity: None,
        host_data: HOST_DATA,
        variant: Variant::PLAIN,
    };
    let guest = Guest::launch(&host, request).unwrap();
    assert_eq!(host.pages().len() + 4, listed);
    assert_eq!(host.state().digest, digest);
    let slots: Vec<Event> = host.state().events[4..5].to_vec();
    let whole = Event::Slot {
        number: 0,
        gpa: 0,
        size,
        memfd: true,
    };
    assert_eq!(slots, [whole]);
    // The page has the VMM's proposal, without the features that the firmware removed.
    let launched: CpuidPage = zerocopy::transmute!(host.state().contents[&cpuid_gpa]);
    assert_eq!(launched.entries()[1].ebx.get(), 0x219c_078b);
    assert_eq!(guest.corrections().len(), 1);
    // Every vCPU is handed out once.
    let vcpus: Vec<_> = (0..5).map(|id| guest.vcpu(id)).collect();
    let given: Vec<bool> = vcpus.iter().map(Option::is_some).collect();
    assert_eq!(given, [true, true, true, true, false]);
    assert!(guest.vcpu(0).is_none());

    // The guest returns the window of its image, and ends.
    let before = host.state().events.len();
    let [_, window] = &plan.shared[..] else {
        panic!("sallyport and image")
    };
    let pages = (window.end - window.start) / 4096;
    let release = Exit::Hypercall {
        number: 12,
        args: [window.start, pages, 0x11, 0, 0, 0],
    };
    assert_eq!(guest.serve(release), Ok(Answer::Done));
    let range = window.clone();
    let expected = [
        Event::Attributes {
            range: range.clone(),
            private: true,
        },
        Event::DiscardShared { slot: 0, range },
    ];
    assert_eq!(host.state().events[before..], expected);
    drop((vcpus, guest));
    assert!(!host.state().dropped_early);
}

#[test]
fn only_permitted_exits_do_not_end_the_keep() {
    let (_, sealed) = simple(Script::default());
    let sealed = sealed.unwrap();
    let ask = |number, args| Exit::Hypercall { number, args };
    let event = |kind, data| Exit::SystemEvent { kind, data };
    let fault = |flags, gpa| Exit::MemoryFault {
        flags,
        gpa,
        size: 4096,
    };
    let terminated = |termination| Err(KeepFault::Terminated(termination));
    let memory = |gpa, as_private, began_private| {
        Err(KeepFault::MemoryFault(MemoryFault {
            gpa,
            size: 4096,
            as_private,
            began_private,
        }))
    };
    let out_of_memory = KeepFault::Reported {
        reason: Reason::OutOfMemory,
        detail: None,
    };
    for (exit, expected) in [
        (ask(12, [0, 1, 0, 0, 0, 0]), Ok(Answer::Done)),
        (ask(12, [8 * MIB, 1, 0, 0, 0, 0]), Ok(Answer::Invalid)),
        (event(6, Some(0x4_1100)), Err(out_of_memory)),
        (event(6, None), terminated(Termination::Event { kind: 6 })),
        (
            event(2, Some(0)),
            terminated(Termination::Event { kind: 2 }),
        ),
        (
            fault(8, WINDOW.start),
            memory(WINDOW.start, true, Some(false)),
        ),
        (fault(0, 0x1000), memory(0x1000, false, Some(true))),
        (fault(0, 64 * MIB), memory(64 * MIB, false, None)),
    ] {
        assert_eq!(serve(&sealed.vm, &sealed.map, exit), expected);
    }
    let stray = serve(&sealed.vm, &sealed.map, ask(5, [0; 6]));
    assert_eq!(stray, Err(KeepFault::Exit(StrayExit::Hypercall(5))));
}

#[test]
fn features_are_part_of_the_measurement() {
    let host = Host::new(Script::default());
    let settings = Settings {
        vmsa_features: 1 << 5,
        ..SETTINGS
    };
    let pages = [page(0, PageType::Normal, 9), vmsa(0, 1 << 5)];
    launch(&host, settings, &pages, None).unwrap();
    assert_eq!(host.state().digest, expected_digest(&pages));

    // A list for other features is refused before KVM sees a page.
    let host = Host::new(Script::default());
    let error = launch(&host, SETTINGS, &pages, None)
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, SnpError::State(state) if state.offset == 0x3b0));
    assert!(host.pages().is_empty());
}

#[test]
fn cleared_cpuid_bits_are_accepted_and_reported() {
    let (host, sealed) = simple(Script {
        cpuid: Cpuid::Ebx(vec![(7, 0, 0x219c_078b)]),
        ..Script::default()
    });
    let sealed = sealed.unwrap();
    let report: Vec<String> = sealed.corrections.iter().map(ToString::to_string).collect();
    let cleared = "CPUID leaf 0x7, subleaf 0x0, EBX: the firmware cleared bits 5 (0x00000020)";
    assert_eq!(report, [cleared]);
    // The contents of that page are not measured, so the tenant's digest stays the same.
    assert_eq!(host.state().digest, expected_digest(&plan()));
    let launched: CpuidPage = zerocopy::transmute!(host.state().contents[&0x6000]);
    assert_eq!(launched.entries()[1].ebx.get(), 0x219c_078b);
}

#[test]
fn other_cpuid_corrections_are_refused_with_all_differences() {
    let place = |leaf| Place {
        leaf,
        subleaf: 0,
        register: "EBX",
    };
    let error = refusal(Script {
        cpuid: Cpuid::Ebx(vec![(1, 0, 0x0080_0c00), (7, 0, 0x219c_078b)]),
        ..Script::default()
    });
    let expected = [
        Difference {
            place: place(1),
            proposed: 0x0080_0800,
            wanted: 0x0080_0c00,
        },
        Difference {
            place: place(7),
            proposed: 0x219c_07ab,
            wanted: 0x219c_078b,
        },
    ];
    assert!(
        matches!(&error, SnpError::Cpuid(CpuidError::Added(found)) if *found == expected),
        "{error}"
    );
}

/// A page whose first EBX has every bit set.
fn wide_page() -> Vec<Page> {
    let mut pages = plan();
    let page = pages
        .iter_mut()
        .find(|page| page.kind == PageType::Cpuid)
        .unwrap();
    let mut wide: CpuidPage = zerocopy::transmute!(*page.bytes);
    wide.table[0].ebx.set(u32::MAX);
    *page.bytes = zerocopy::transmute!(wide);
    pages
}

#[test]
fn the_firmware_may_correct_several_times_but_not_for_ever() {
    let wanted = vec![(1, 0, 0x0080_0000), (7, 0, 0x219c_078b)];
    for cpuid in [Cpuid::Ebx(wanted.clone()), Cpuid::OneByOne(wanted)] {
        let (host, sealed) = simple(Script {
            cpuid,
            ..Script::default()
        });
        let corrections = sealed.unwrap().corrections;
        let cleared: Vec<(u32, u32)> = corrections
            .iter()
            .map(|correction| (correction.place.leaf, correction.cleared))
            .collect();
        assert_eq!(cleared, [(1, 0x800), (7, 0x20)]);
        let launched: CpuidPage = zerocopy::transmute!(host.state().contents[&0x6000]);
        let ebx = launched.entries().iter().map(|entry| entry.ebx.get());
        assert_eq!(ebx.collect::<Vec<_>>(), [0x0080_0000, 0x219c_078b]);
    }
    let host = Host::new(Script {
        cpuid: Cpuid::Never,
        ..Script::default()
    });
    let error = launch(&host, SETTINGS, &wide_page(), None)
        .map(|_| ())
        .unwrap_err();
    let SnpError::Cpuid(CpuidError::Again {
        rounds: 8,
        corrections,
    }) = &error
    else {
        panic!("{error}");
    };
    let [Correction { cleared: 0xff, .. }] = corrections[..] else {
        panic!("{error}");
    };
    assert!(
        error.to_string().contains("8 times (CPUID leaf 0x1"),
        "{error}"
    );
    // A page without entries, which some firmware may refuse, is refused without a reason.
    let host = Host::new(Script {
        cpuid: Cpuid::NotEmpty,
        ..Script::default()
    });
    let mut pages = plan();
    *pages[5].bytes = [0; 4096];
    let error = launch(&host, SETTINGS, &pages, None).map(|_| ());
    assert!(matches!(
        error,
        Err(SnpError::Cpuid(CpuidError::Unexplained))
    ));
}

#[test]
fn an_id_block_must_be_of_this_launch() {
    let mut block = IdBlock::new_zeroed();
    block.launch_digest = expected_digest(&plan());
    block.policy.set(POLICY.0);
    let auth = IdAuth::new_zeroed();
    let attempt = |block: &IdBlock, author_key| {
        let host = Host::new(Script::default());
        let identity = Identity {
            block,
            auth: &auth,
            author_key,
        };
        let sealed = launch(&host, SETTINGS, &plan(), Some(identity));
        let last = host.state().events.last().cloned();
        (sealed.map(|_| ()), last)
    };
    for author_key in [false, true] {
        let (sealed, last) = attempt(&block, author_key);
        sealed.unwrap();
        let finish = Event::Finish {
            host_data: HOST_DATA,
            author_key,
        };
        assert_eq!(last, Some(finish));
    }
    let mut other = block;
    other.launch_digest[0] ^= 1;
    let error = attempt(&other, true).0.unwrap_err();
    assert_eq!(firmware_answer(&error), Status::BAD_MEASUREMENT);
    let mut other = block;
    other.policy.set(0x3_0000);
    let error = attempt(&other, true).0.unwrap_err();
    assert_eq!(firmware_answer(&error), POLICY_FAILURE);
}

#[test]
fn missing_requirements_are_named_before_a_machine_is_created() {
    for (capability, answer, name) in [
        (235, 0x0f, "SEV-SNP guests in KVM"),
        (234, 0, "private guest memory"),
        (233, 0, "private memory attributes"),
        (231, 0, "memory slots with two sides"),
        (201, 0x0800, "page state changes"),
    ] {
        let mut script = Script::default();
        script.extensions.insert(capability, answer);
        let (host, sealed) = simple(script);
        let error = sealed.map(|_| ()).unwrap_err();
        let SnpError::Missing(Missing::Capability {
            name: found, next, ..
        }) = error
        else {
            panic!("{error}");
        };
        assert!(found.contains(name) && !next.is_empty(), "{found}: {next}");
        assert!(host.state().events.is_empty());
    }
    for (policy, features, missing) in [
        (0x6_0000, 0, Missing::Policy(1 << 18)),
        (0x40_0000 | 0x2_0000, 0, Missing::Policy(1 << 22)),
        (0x1_0000, 0, Missing::PolicyReserved),
        (0x2_0000, 1, Missing::FeatureActive),
        (0x2_0000, 0x208, Missing::VmsaFeatures(0x208)),
    ] {
        let host = Host::new(Script::default());
        let settings = Settings {
            policy: GuestPolicy(policy),
            vmsa_features: features,
        };
        let error = launch(&host, settings, &plan(), None).map(|_| ());
        assert!(matches!(error, Err(SnpError::Missing(found)) if found == missing));
        assert!(host.state().events.is_empty());
    }
}

#[test]
fn answers_of_the_firmware_are_explained() {
    for (step, status, words) in [
        (
            "init",
            0x20,
            [
                "initialize SEV-SNP",
                "the RMP is not initialized (RMP_INIT_REQUIRED, 0x20)",
            ],
        ),
        (
            "start",
            0x07,
            [
                "a guest policy with smt off",
                "the policy is not fulfilled by this platform",
            ],
        ),
        (
            "update",
            0x1c,
            ["launch page at 0x1000 (Normal)", "another owner"],
        ),
        (
            "finish",
            0x0a,
            ["finish the launch", "a signature is wrong"],
        ),
        (
            "cpuid",
            0x1a,
            [
                "launch page at 0x6000 (Cpuid)",
                "the wrong state in the RMP",
            ],
        ),
        (
            "update",
            u32::MAX,
            ["launch page at 0x1000", "was not called"],
        ),
    ] {
        let error = refusal(Script {
            firmware: BTreeMap::from([(step, Status(status))]),
            ..Script::default()
        })
        .to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn a_full_host_and_a_dead_processor_are_distinguished() {
    let busy = |firmware| {
        refusal(Script {
            busy: Some(firmware),
            ..Script::default()
        })
    };
    let full = busy(Status::SUCCESS);
    assert!(matches!(full, SnpError::Full), "{full}");
    let text = full.to_string();
    for cause in ["ASID", "sev_es", "ccp", "ciphertext_hiding_asids"] {
        assert!(text.contains(cause), "{text}");
    }
    let text = busy(Status(0x13)).to_string();
    assert!(text.contains("HWERROR_PLATFORM, 0x13"), "{text}");
}

#[test]
fn a_stalled_or_miscounting_kernel_is_given_up() {
    let error = refusal(Script {
        stuck: true,
        ..Script::default()
    });
    let kind = PageType::Normal;
    assert!(
        matches!(error, SnpError::Stalled { gpa: 0x1000, kind: found } if found == kind),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("dynamic_debug") && text.contains("10 times (EIO)"),
        "{text}"
    );
    let error = refusal(Script {
        miscount: 4096,
        ..Script::default()
    });
    assert!(
        matches!(error, SnpError::Progress { gpa: 0x1000 }),
        "{error}"
    );
    let error = refusal(Script {
        msrs: 4,
        ..Script::default()
    });
    let SnpError::Vcpu(VcpuError::Msr { vcpu, msr }) = error else {
        panic!("{error}");
    };
    assert_eq!((vcpu, msr), (0, 0xc000_0102));
    let error = refusal(Script {
        attributes: [Errno::AGAIN, Errno::NOMEM].into(),
        ..Script::default()
    });
    assert!(
        matches!(&error, SnpError::Refused { source, .. } if source.errno == Errno::NOMEM),
        "{error}"
    );
}

#[test]
fn conversions_are_performed_and_the_other_side_is_freed() {
    let (host, sealed) = simple(Script::default());
    let Sealed { vm, map, vcpus, .. } = sealed.unwrap();
    let before = host.state().events.len();
    let ask = |gpa, pages, flags| hypercall(&vm, &map, 12, [gpa, pages, flags, 0, 0, 0]);

    assert_eq!(ask(0x10_0000, 2, 0), Ok(Answer::Done));
    assert_eq!(ask(2 * MIB, 256, 0x10), Ok(Answer::Done));
    for (gpa, pages, flags) in [(4 * MIB, 1, 0x10), (0, 0, 0), (0, 1, 2), (1, 1, 0)] {
        assert_eq!(ask(gpa, pages, flags), Ok(Answer::Invalid));
    }
    let shared = 0x10_0000..0x10_2000;
    let expected = [
        Event::Attributes {
            range: shared.clone(),
            private: false,
        },
        Event::DiscardPrivate {
            slot: 0,
            range: shared,
        },
        Event::Attributes {
            range: WINDOW,
            private: true,
        },
        Event::DiscardShared {
            slot: 0,
            range: WINDOW,
        },
    ];
    assert_eq!(host.state().events[before..], expected);
    let stray = hypercall(&vm, &map, 1, [0; 6]);
    assert_eq!(stray.err(), Some(KeepFault::Exit(StrayExit::Hypercall(1))));
    drop(vcpus);
}

#[test]
fn a_busy_kernel_is_asked_again_and_a_failing_one_ends_the_keep() {
    for (answers, expected) in [
        (
            vec![Errno::AGAIN, Errno::INTR, Errno::AGAIN],
            Some(Answer::Done),
        ),
        (vec![Errno::AGAIN; 1001], Some(Answer::Again)),
        (vec![Errno::INTR, Errno::NOMEM], None),
    ] {
        // The launch itself sets attributes twice; its answers come first.
        let (host, sealed) = simple(Script::default());
        let sealed = sealed.unwrap();
        host.busy(answers.into());
        let answer = hypercall(&sealed.vm, &sealed.map, 12, [0, 1, 0, 0, 0, 0]);
        match expected {
            Some(expected) => assert_eq!(answer, Ok(expected)),
            None => assert_eq!(
                answer,
                Err(KeepFault::kvm("change the state of pages", libc::ENOMEM))
            ),
        }
    }
}

#[test]
fn devices_get_only_known_requests() {
    let host = Host::new(Script::default());
    assert_eq!(host.attribute(0, 0), Ok(None));
    assert_eq!(host.create_vm(0).map(|_| ()), Err(Errno::INVAL));
}

fn partial_update() -> impl Strategy<Value = PartialUpdate> {
    // Fewer in a row than a launch tolerates.
    prop_oneof![
        4 => (1u64..4).prop_map(PartialUpdate::Part),
        1 => Just(PartialUpdate::Nothing),
    ]
}

fn pages() -> impl Strategy<Value = Vec<Page>> {
    let kind = prop_oneof![
        4 => Just(PageType::Normal),
        3 => Just(PageType::Zero),
        1 => Just(PageType::Unmeasured),
        1 => Just(PageType::Secrets),
        1 => Just(PageType::Cpuid),
    ];
    // Runs of up to 100 pages in 2 MiB, each address once, in any order of runs.
    let run = (0u64..512, 1u64..100, kind, any::<u8>());
    (prop::collection::vec(run, 0..8), 1u64..4).prop_map(|(runs, vcpus)| {
        let mut seen = std::collections::BTreeSet::new();
        let mut list: Vec<Page> = runs
            .into_iter()
            .flat_map(|(start, length, kind, fill)| {
                (start..(start + length).min(512)).map(move |gfn| (gfn << 12, kind, fill))
            })
            .filter(|(gpa, ..)| seen.insert(*gpa))
            .map(|(gpa, kind, fill)| match kind {
                PageType::Cpuid => cpuid_page(gpa),
                kind => page(gpa, kind, fill),
            })
            .collect();
        list.extend((0..vcpus).map(|vcpu| vmsa(vcpu, 0)));
        list
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the kernel fails, it gets the list's pages once each, in the list's order.
    #[test]
    fn the_order_and_the_digest_do_not_depend_on_the_kernel(
        pages in pages(),
        hiccups in prop::collection::vec(partial_update(), 0..9),
    ) {
        let host = Host::new(Script {
            hiccups: VecDeque::from(hiccups),
            ..Script::default()
        });
        let sealed = launch(&host, SETTINGS, &pages, None);
        prop_assert!(sealed.is_ok(), "{:?}", sealed.map(|_| ()));
        let loaded = pages.iter().filter(|page| page.kind != PageType::Vmsa);
        let listed: Vec<(u64, u8)> = loaded.clone().map(|page| (page.gpa, page.kind as u8)).collect();
        prop_assert_eq!(host.pages(), listed);
        prop_assert_eq!(host.state().digest, expected_digest(&pages));
        for page in loaded.filter(|page| page.kind != PageType::Zero) {
            prop_assert_eq!(&host.state().contents[&page.gpa], &*page.bytes);
        }
    }
}
