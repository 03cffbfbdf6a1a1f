// SPDX-License-Identifier: Apache-2.0

//! The launch: digest, page types, refusals, ID block.

use crate::fake::{Conversation, POLICY, SECRETS_GPA, genoa, load, machine, vmsa};
use enarx_simulator::{Launching, Settings, Status};
use enarx_snp::bits::{GuestPolicy, PlatformInfo};
use enarx_snp::cpuid::{CpuidPage, Entry};
use enarx_snp::id_block::{CURVE_P384, IdAuth, IdBlock, PublicKey};
use enarx_snp::launch::{PageType, VMSA_GPA};
use enarx_snp::product::GENOA;
use enarx_snp::report::Signature;
use p384::ecdsa::SigningKey;
use p384::ecdsa::signature::Signer;
use proptest::prelude::*;
use sha2::{Digest, Sha384};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// One step of the launch digest, implemented independently from 56860 table 67.
fn extend(digest: [u8; 48], kind: u8, gpa: u64, page: &[u8]) -> [u8; 48] {
    let mut info = [0; 0x70];
    info[..48].copy_from_slice(&digest);
    if kind == 1 || kind == 2 {
        info[48..96].copy_from_slice(&Sha384::digest(page));
    }
    info[0x60] = 0x70;
    info[0x62] = kind;
    info[0x68..].copy_from_slice(&gpa.to_le_bytes());
    Sha384::digest(info).into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_digest_is_that_of_the_specification(
        pages in proptest::collection::vec((1u8..=5, any::<u8>()), 0..8),
        vcpus in 1u64..4,
    ) {
        let mut launching = Launching::start(genoa(), POLICY, [0; 16]).unwrap();
        let mut digest = [0; 48];
        for (n, (kind, fill)) in pages.into_iter().enumerate() {
            let gpa = 0x10_0000 + n as u64 * 4096;
            let mut page = [fill; 4096];
            let page_type = PageType::from_number(kind).unwrap();
            if page_type == PageType::Vmsa {
                prop_assert_eq!(launching.update(page_type, gpa, &mut page), Err(Status::InvalidParam));
                continue;
            }
            digest = extend(digest, kind, gpa, &page);
            launching.update(page_type, gpa, &mut page).unwrap();
            prop_assert_eq!(launching.update(page_type, gpa, &mut page), Err(Status::InvalidPageState));
            match page_type {
                PageType::Zero => prop_assert_eq!(page, [0; 4096]),
                PageType::Secrets => prop_assert_ne!(page, [fill; 4096]),
                _ => prop_assert_eq!(page, [fill; 4096]),
            }
        }
        for rip in 0..vcpus {
            let mut state = vmsa();
            state.rip.set(rip);
            launching.update_vmsa(&state).unwrap();
            digest = extend(digest, 2, VMSA_GPA, state.as_bytes());
        }
        let guest = launching.finish(None, [0; 32]).unwrap();
        prop_assert_eq!(guest.measurement(), digest);
    }
}

#[test]
fn each_guest_has_secrets_of_its_own() {
    let secrets = || {
        let mut launching = Launching::start(genoa(), POLICY, [0x60; 16]).unwrap();
        load(&mut launching)
    };
    let (a, b) = (secrets(), secrets());
    assert_eq!(a.gosvw, [0x60; 16]);
    assert_eq!(a.fms.get(), 0x00A1_0F11);
    assert!(a.version.get() >= 2);
    let keys: std::collections::BTreeSet<_> = a.vmpck.iter().chain(&b.vmpck).collect();
    assert_eq!(keys.len(), 8);
    assert_eq!(a.os_area.as_bytes(), [0; 96]);
}

#[test]
fn pages_and_vcpus_are_checked() {
    let mut launching = Launching::start(genoa(), POLICY, [0; 16]).unwrap();
    for gpa in [1, 0x1008, 1 << 52] {
        let refused = launching.update(PageType::Normal, gpa, &mut [0; 4096]);
        assert_eq!(refused, Err(Status::InvalidAddress), "{gpa:#x}");
    }
    let mut state = vmsa();
    state.sev_features.set(0);
    assert_eq!(launching.update_vmsa(&state), Err(Status::InvalidParam));
    state.sev_features.set(0x21);
    assert_eq!(launching.update_vmsa(&state), Ok(()));
    assert_eq!(launching.update_vmsa(&vmsa()), Err(Status::InvalidParam));

    let launching = Launching::start(genoa(), POLICY, [0; 16]).unwrap();
    assert_eq!(
        launching.finish(None, [0; 32]).unwrap_err(),
        Status::InvalidParam
    );
}

#[test]
fn policies_are_compared_with_the_machine() {
    let refused = |change: fn(&mut Settings), policy: u64| {
        let mut settings = Settings::new(&GENOA);
        change(&mut settings);
        Launching::start(machine(settings), GuestPolicy(policy), [0; 16]).err()
    };
    let same = |_: &mut Settings| {};
    let bit = |bit: enarx_snp::bits::Bit| POLICY.0 | bit.mask();
    assert_eq!(refused(same, POLICY.0), None);
    assert_eq!(refused(same, 0x3D3_013A), None);
    assert_eq!(
        refused(same, POLICY.0 & !(1 << 17)),
        Some(Status::InvalidParam)
    );
    assert_eq!(
        refused(same, POLICY.0 | 1 << 40),
        Some(Status::InvalidParam)
    );
    // SMT is on; ABI 1.59 and 2.0 are newer than the firmware.
    for policy in [0x2_0133, 0x3_013B, 0x3_0200] {
        assert_eq!(refused(same, policy), Some(Status::PolicyFailure));
    }
    assert_eq!(refused(|s| s.platform = PlatformInfo(0), 0x2_0133), None);
    assert_eq!(refused(same, bit(GuestPolicy::DEBUG)), None);
    for (change, policy) in [
        (
            (|s| s.allow_debug = false) as fn(&mut Settings),
            GuestPolicy::DEBUG,
        ),
        (|s| s.aes_256_xts = false, GuestPolicy::MEM_AES_256_XTS),
        (
            |s| s.platform = PlatformInfo(s.platform.0 & !PlatformInfo::RAPL_DIS.mask()),
            GuestPolicy::RAPL_DIS,
        ),
        (
            |s| s.platform = PlatformInfo(0x69),
            GuestPolicy::CIPHERTEXT_HIDING_DRAM,
        ),
    ] {
        assert_eq!(refused(change, POLICY.0), None, "{}", policy.name);
        assert_eq!(
            refused(change, bit(policy)),
            Some(Status::PolicyFailure),
            "{}",
            policy.name
        );
    }
}

#[test]
fn a_wrong_cpuid_page_is_corrected_and_refused() {
    let mut entry = Entry::new_zeroed();
    entry.eax_in.set(0x8000_001F);
    entry.eax.set(0x1A);
    entry.ebx.set(51);
    let mut settings = Settings::new(&GENOA);
    settings.cpuid = vec![entry];
    let mut launching = Launching::start(machine(settings), POLICY, [0; 16]).unwrap();

    let mut proposed = entry;
    proposed.eax.set(0xFF);
    let mut page = CpuidPage::default();
    page.push(proposed).unwrap();
    let mut bytes = [0; 4096];
    bytes.copy_from_slice(page.as_bytes());
    let refused = launching.update(PageType::Cpuid, 0x2000, &mut bytes);
    assert_eq!(refused, Err(Status::InvalidParam));
    let corrected = CpuidPage::read_from_bytes(&bytes).unwrap();
    assert_eq!(corrected.entries(), [entry]);
    // The refused page is not in the launch: it can be added again.
    launching
        .update(PageType::Cpuid, 0x2000, &mut bytes)
        .unwrap();

    let mut page = CpuidPage::default();
    page.count.set(65);
    bytes.copy_from_slice(page.as_bytes());
    let refused = launching.update(PageType::Cpuid, 0x4000, &mut bytes);
    assert_eq!(refused, Err(Status::InvalidParam));
    launching.update_vmsa(&vmsa()).unwrap();
    let expected = extend(
        extend([0; 48], 6, 0x2000, &[]),
        2,
        VMSA_GPA,
        vmsa().as_bytes(),
    );
    let guest = launching.finish(None, [0; 32]).unwrap();
    assert_eq!(guest.measurement(), expected);
}

fn public(key: &SigningKey) -> PublicKey {
    let point = key.verifying_key().to_sec1_point(false);
    let half = |range: std::ops::Range<usize>| {
        let mut le = [0; 72];
        for (to, from) in le.iter_mut().zip(point.as_bytes()[range].iter().rev()) {
            *to = *from;
        }
        le
    };
    let mut public = PublicKey::new_zeroed();
    public.curve.set(CURVE_P384);
    public.qx = half(1..49);
    public.qy = half(49..97);
    public
}

fn sign(key: &SigningKey, bytes: &[u8]) -> Signature {
    let signature: p384::ecdsa::Signature = key.sign(bytes);
    let (r, s) = signature.split_bytes();
    Signature::from_scalars(&r.into(), &s.into())
}

fn owner(digest: [u8; 48]) -> (IdBlock, IdAuth) {
    let (id_key, author_key) = (
        SigningKey::from_slice(&[3; 48]).unwrap(),
        SigningKey::from_slice(&[5; 48]).unwrap(),
    );
    let mut block = IdBlock::new_zeroed();
    block.launch_digest = digest;
    block.family_id = [0xFA; 16];
    block.image_id = [0x1A; 16];
    block.version.set(1);
    block.guest_svn.set(9);
    block.policy.set(POLICY.0);
    let mut auth = IdAuth::new_zeroed();
    auth.id_key_algo.set(1);
    auth.author_key_algo.set(1);
    auth.id_key = public(&id_key);
    auth.author_key = public(&author_key);
    auth.id_block_signature = sign(&id_key, block.as_bytes());
    auth.id_key_signature = sign(&author_key, auth.id_key.as_bytes());
    (block, auth)
}

#[test]
fn the_report_contains_the_id_block() {
    let mut launching = Launching::start(genoa(), POLICY, [0; 16]).unwrap();
    let mut page = [0; 4096];
    launching
        .update(PageType::Secrets, SECRETS_GPA, &mut page)
        .unwrap();
    launching.update_vmsa(&vmsa()).unwrap();
    let secrets = enarx_snp::secrets::SecretsPage::read_from_bytes(&page).unwrap();
    let digest = extend(
        extend([0; 48], 5, SECRETS_GPA, &[]),
        2,
        VMSA_GPA,
        vmsa().as_bytes(),
    );
    let (block, auth) = owner(digest);
    let guest = launching.finish(Some((&block, &auth)), [0; 32]).unwrap();
    let report = crate::machine::ask(&mut Conversation::new((guest, secrets)), [0; 64], 0).report;
    assert_eq!(report.family_id, [0xFA; 16]);
    assert_eq!(report.image_id, [0x1A; 16]);
    assert_eq!(report.guest_svn.get(), 9);
    let digest = |key: &PublicKey| <[u8; 48]>::from(Sha384::digest(key.as_bytes()));
    assert_eq!(report.id_key_digest, digest(&auth.id_key));
    assert_eq!(report.author_key_digest, digest(&auth.author_key));
    assert!(report.keys().author_key_enabled());
}

#[test]
fn a_wrong_id_block_ends_the_launch() {
    let digest = extend([0; 48], 2, VMSA_GPA, vmsa().as_bytes());
    let outcome = |change: &dyn Fn(&mut IdBlock, &mut IdAuth)| {
        let mut launching = Launching::start(genoa(), POLICY, [0; 16]).unwrap();
        launching.update_vmsa(&vmsa()).unwrap();
        let (mut block, mut auth) = owner(digest);
        change(&mut block, &mut auth);
        launching.finish(Some((&block, &auth)), [0; 32]).err()
    };
    assert_eq!(outcome(&|_, _| {}), None);
    // Without an author key the rest of its fields do not matter.
    let unauthored = |_: &mut IdBlock, auth: &mut IdAuth| {
        auth.author_key_algo.set(0);
        auth.id_key_signature.r[0] ^= 1;
    };
    assert_eq!(outcome(&unauthored), None);
    assert_eq!(
        outcome(&|b, _| b.policy.set(POLICY.0 | 1 << 19)),
        Some(Status::PolicyFailure)
    );
    assert_eq!(
        outcome(&|b, _| b.launch_digest[0] ^= 1),
        Some(Status::BadMeasurement)
    );
    assert_eq!(
        outcome(&|b, _| b.guest_svn.set(10)),
        Some(Status::BadSignature)
    );
    assert_eq!(
        outcome(&|_, a| a.id_block_signature.s[3] ^= 1),
        Some(Status::BadSignature)
    );
    assert_eq!(
        outcome(&|_, a| a.id_block_signature.s[71] = 1),
        Some(Status::BadSignature)
    );
    assert_eq!(
        outcome(&|_, a| a.id_key_signature.r[3] ^= 1),
        Some(Status::BadSignature)
    );
    for malformed in [
        (|b: &mut IdBlock, _: &mut IdAuth| b.version.set(2)) as fn(&mut IdBlock, &mut IdAuth),
        |_, a| a.id_key_algo.set(2),
        |_, a| a.author_key_algo.set(2),
        |_, a| a.id_key.curve.set(1),
        |_, a| a.id_key.qx[0] ^= 1,
        |_, a| a.id_key.qx[71] = 1,
        |_, a| a.id_key.reserved[0] = 1,
        |_, a| a.reserved0[0] = 1,
        |_, a| a.reserved1[0] = 1,
        |_, a| a.reserved2[0] = 1,
    ] {
        assert_eq!(outcome(&malformed), Some(Status::InvalidParam));
    }
}
