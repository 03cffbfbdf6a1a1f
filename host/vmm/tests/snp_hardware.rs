// SPDX-License-Identifier: Apache-2.0

//! The SEV-SNP launcher on a real EPYC host with Linux 6.11 or later: a guest of five instructions
//! that shares a page and ends itself, and whole Keeps.
//!
//! Ignored, because no other machine can run it; `enarx_vmm::snp` says how it is run.

#![allow(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "what the firmware offers and corrects, for whoever tries this hardware"
)]

mod guest;

use std::ptr::NonNull;
use std::sync::Arc;

use enarx_executor::launch::Outcome;
use enarx_exits::Reason;
use enarx_launch::layout::Page;
use enarx_snp::bits::GuestPolicy;
use enarx_snp::cpuid::CpuidPage;
use enarx_snp::id_block::{CURVE_P384, ID_BLOCK_VERSION, IdAuth, IdBlock, PublicKey};
use enarx_snp::launch::{PageType, VMSA_GPA};
use enarx_snp::report::Signature;
use enarx_snp::vmsa::{Segment, Vmsa};
use enarx_test_keeps::expected_digest;
use enarx_vmm::snp::device::SourcePage;
use enarx_vmm::snp::exits::{Answer, hypercall, memory_fault, system_event};
use enarx_vmm::snp::firmware::Status;
use enarx_vmm::snp::ioctl::{Host, Machine};
use enarx_vmm::snp::launcher::{Identity, Launcher, Sealed, Settings, SnpError};
use enarx_vmm::snp::memory::{Extent, Slot};
use enarx_vmm::snp::probe::Offer;
use enarx_vmm::vm::backing::Backing;
use kvm_bindings::KVM_MAX_CPUID_ENTRIES;
use kvm_ioctls::VcpuExit;
use p384::ecdsa::signature::{Signer, Verifier};
use p384::ecdsa::{SigningKey, VerifyingKey};
use zerocopy::{FromZeros, IntoBytes};

use guest::{Options, run_with};

const MEMORY: usize = 4 << 20;
const TABLES: u64 = 0x1000;
const CODE: u64 = 0x4000;
/// SMT may be on, and the bit that must be one.
const POLICY: GuestPolicy = GuestPolicy(0x3_0000);

/// Asks by the GHCB MSR to share page 0x100, then to end with set 1, code 4.
const PROGRAM: [u8; 38] = [
    0xb9, 0x30, 0x01, 0x01, 0xc0, // mov ecx, 0xc0010130
    0xb8, 0x14, 0x00, 0x10, 0x00, // mov eax, 0x100014
    0xba, 0x00, 0x00, 0x20, 0x00, // mov edx, 0x200000
    0x0f, 0x30, // wrmsr
    0xf3, 0x0f, 0x01, 0xd9, // vmgexit
    0xb8, 0x00, 0x11, 0x04, 0x00, // mov eax, 0x41100
    0x31, 0xd2, // xor edx, edx
    0x0f, 0x30, // wrmsr
    0xf3, 0x0f, 0x01, 0xd9, // vmgexit
    0xf4, // hlt
    0xeb, 0xfe, 0xcc, // loop
];

fn page(gpa: u64, start: &[u8]) -> Page {
    let mut bytes = Box::new([0; 4096]);
    bytes[..start.len()].copy_from_slice(start);
    Page {
        gpa,
        kind: PageType::Normal,
        bytes,
    }
}

/// Three page tables that map the first 2 MiB privately, the program, a CPUID page, one vCPU.
fn plan(cpuid: &CpuidPage) -> Vec<Page> {
    let leaf = std::arch::x86_64::__cpuid(0x8000_001f);
    let c_bit = 1u64 << (leaf.ebx & 63);
    let entry = |target: u64, flags: u64| (target | c_bit | flags).to_le_bytes();
    let flat = Segment::new(0x10, 0xc93, 0xffff_ffff, 0);
    let vmsa = Vmsa {
        cs: Segment::new(0x08, 0xa9b, 0xffff_ffff, 0),
        ss: flat,
        ds: flat,
        es: flat,
        fs: flat,
        gs: flat,
        tr: Segment::new(0x28, 0x8b, 103, 0),
        efer: 0x1d01.into(),
        cr0: 0x8005_0033.into(),
        cr3: (TABLES | c_bit).into(),
        cr4: 0x6e0.into(),
        dr6: 0xffff_0ff0.into(),
        dr7: 0x400.into(),
        rflags: 2.into(),
        rip: CODE.into(),
        rsp: 0x8000.into(),
        g_pat: 0x0007_0406_0007_0406.into(),
        sev_features: 1.into(),
        xcr0: 1.into(),
        mxcsr: 0x1f80.into(),
        x87_fcw: 0x37f.into(),
        ..Vmsa::default()
    };
    vec![
        page(TABLES, &entry(TABLES + 0x1000, 3)),
        page(TABLES + 0x1000, &entry(TABLES + 0x2000, 3)),
        page(TABLES + 0x2000, &entry(0, 0x83)),
        page(CODE, &PROGRAM),
        Page {
            kind: PageType::Cpuid,
            ..page(0x5000, cpuid.as_bytes())
        },
        Page {
            kind: PageType::Secrets,
            ..page(0x6000, &[])
        },
        Page {
            kind: PageType::Vmsa,
            ..page(VMSA_GPA, vmsa.as_bytes())
        },
    ]
}

/// Pages that nobody frees.
struct Memory(NonNull<u8>);

// SAFETY: only the machine uses the pages.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

// SAFETY: whole pages, which live as long as the process and to which there is no reference.
unsafe impl Backing for Memory {
    fn base(&self) -> NonNull<u8> {
        self.0
    }

    fn size(&self) -> usize {
        MEMORY
    }
}

impl Memory {
    fn new() -> Self {
        let pages = vec![SourcePage([0; 4096]); MEMORY / 4096];
        Self(NonNull::from(pages.leak()).cast())
    }
}

fn launch(pages: &[Page], identity: Option<Identity>) -> Result<Sealed<Machine>, SnpError> {
    let host = Host::open().expect("this test needs an EPYC host");
    let cpuid = host
        .kvm()
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .expect("KVM says which CPU it offers");
    let memory: Arc<dyn Backing> = Arc::new(Memory::new());
    let slot = Slot {
        extent: Extent {
            gpa: 0,
            size: MEMORY as u64,
            private: true,
        },
        memory,
    };
    let settings = Settings {
        policy: POLICY,
        vmsa_features: 0,
    };
    let window = 3 << 20..4 << 20;
    Launcher::create(&host, settings)?
        .start(vec![slot], &[window])?
        .load(pages, &[cpuid])?
        .seal(identity, [0xa5; 32])
}

/// The identity of a launch with this digest, by keys made for this test.
fn identity(launch_digest: [u8; 48]) -> (IdBlock, IdAuth) {
    let sign = |key: &SigningKey, bytes: &[u8]| {
        let signature: p384::ecdsa::Signature = key.sign(bytes);
        let (r, s) = signature.split_bytes();
        Signature::from_scalars(&r.into(), &s.into())
    };
    let public = |key: &SigningKey| {
        let point = key.verifying_key().to_sec1_bytes();
        assert_eq!((point.len(), point[0]), (97, 4), "an uncompressed point");
        let mut public = PublicKey::new_zeroed();
        public.curve.set(CURVE_P384);
        for (index, byte) in point[1..].iter().enumerate() {
            let field = if index < 48 {
                &mut public.qx
            } else {
                &mut public.qy
            };
            field[47 - index % 48] = *byte;
        }
        public
    };
    let id = SigningKey::from_slice(&[0x11; 48]).unwrap();
    let author = SigningKey::from_slice(&[0x22; 48]).unwrap();
    let mut block = IdBlock::new_zeroed();
    block.launch_digest = launch_digest;
    block.version.set(ID_BLOCK_VERSION);
    block.policy.set(POLICY.0);
    let mut auth = IdAuth::new_zeroed();
    auth.id_key_algo.set(1);
    auth.author_key_algo.set(1);
    auth.id_block_signature = sign(&id, block.as_bytes());
    auth.id_key = public(&id);
    auth.id_key_signature = sign(&author, auth.id_key.as_bytes());
    auth.author_key = public(&author);
    (block, auth)
}

#[test]
fn the_test_identity_verifies() {
    let (block, auth) = identity([7; 48]);
    for (key, signature, bytes) in [
        (&auth.id_key, &auth.id_block_signature, block.as_bytes()),
        (
            &auth.author_key,
            &auth.id_key_signature,
            auth.id_key.as_bytes(),
        ),
    ] {
        let coordinate = |field: &[u8; 72]| field[..48].iter().rev().copied().collect::<Vec<u8>>();
        let point = [vec![4], coordinate(&key.qx), coordinate(&key.qy)].concat();
        let key = VerifyingKey::from_sec1_bytes(&point).unwrap();
        let (r, s) = signature.scalars().unwrap();
        let signature = p384::ecdsa::Signature::from_scalars(r, s).unwrap();
        key.verify(bytes, &signature).unwrap();
    }
}

#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn the_host_offers_what_a_launch_needs() {
    let host = Host::open().expect("this test needs an EPYC host");
    let offer = Offer::of(&host).unwrap();
    println!("{}", offer.describe());
    offer.check(POLICY, 0).unwrap();
}

#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn a_guest_shares_a_page_and_ends_itself() {
    let sealed = launch(&plan(&CpuidPage::default()), None).unwrap();
    let Sealed {
        mut vcpus, vm, map, ..
    } = sealed;
    let mut shared = Vec::new();
    let ended = loop {
        match vcpus[0].fd().run().expect("KVM runs the guest") {
            VcpuExit::Hypercall(exit) => {
                let answer = hypercall(&vm, &map, exit.nr, exit.args).unwrap();
                assert_eq!(answer, Answer::Done);
                shared.push(exit.args[0]);
                *exit.ret = answer.value();
            }
            VcpuExit::SystemEvent(kind, data) => break system_event(kind, data),
            VcpuExit::MemoryFault { flags, gpa, size } => {
                panic!("{}", memory_fault(&map, flags, gpa, size))
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(shared, [0x10_0000]);
    assert_eq!(ended.reason(), Some(Reason::OutOfMemory));
}

#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn the_firmware_measures_what_the_tenant_computes() {
    let pages = plan(&CpuidPage::default());
    let attempt = |digest| {
        let (block, auth) = identity(digest);
        let identity = Identity {
            block: &block,
            auth: &auth,
            author_key: true,
        };
        launch(&pages, Some(identity)).map(|_| ())
    };
    // With an ID block the firmware compares the digest, so success is the proof.
    attempt(expected_digest(&pages)).unwrap();
    let error = attempt([0; 48]).unwrap_err();
    // The measurement differs from the ID block (56860, chapter 5, status codes).
    assert!(
        matches!(&error, SnpError::Refused { source, .. } if source.firmware == Status(0x0b)),
        "{error}"
    );
}

#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn the_firmware_takes_features_away_that_it_does_not_have() {
    let mut cpuid = CpuidPage::default();
    let mut entry = cpuid.table[0];
    entry.eax_in.set(7);
    entry.ebx.set(u32::MAX);
    cpuid.push(entry).unwrap();
    let sealed = launch(&plan(&cpuid), None).unwrap();
    assert!(!sealed.corrections.is_empty());
    for correction in &sealed.corrections {
        println!("{correction}");
        assert_eq!(correction.place.leaf, 7);
    }
}

/// The programs of `hostile_guest.rs` that end well: a first word, threads on further vCPUs, kicks,
/// traps, memory, clocks, random numbers, system calls, pinned pages, the firmware's reports.
#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn keeps_run_programs() {
    for mode in ["h", "T", "S", "P", "M", "K", "R", "U", "N", "E"] {
        let code = if mode == "h" { 7 } else { 0 };
        let (outcome, output) = run_with(mode, &Options::on(guest::Platform::Snp));
        assert_eq!(outcome, Outcome::Exit(code), "{mode}: {output}");
    }
}
