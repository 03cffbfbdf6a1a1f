// SPDX-License-Identifier: Apache-2.0

//! A simulated platform: a hierarchy, a report that a fully pinned policy accepts, and that policy.

use enarx_attestation::hex::Hex;
use enarx_attestation::policy::{
    GuestPolicyRules, MissingFacts, PlatformRules, Rule, SnpPolicy, TcbFloor,
};
use enarx_attestation::{
    AmdEndorsements, Endorsements, Expected, Outcome, Overall, Policy, Timestamp, Verdict, Verifier,
};
use enarx_snp::product::Generation;
use enarx_snp::report::{ALGO_ECDSA_P384_SHA384, REPORT_LEN, Report};
use enarx_snp::tcb::{Component, TcbVersion};
use enarx_snp_authority::{
    Authority, AuthorityKeys, CrlSpec, Endorsement, EndorsementSpec, Hierarchy, KeyKind, Validity,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use zerocopy::{FromBytes, IntoBytes};

/// The time of the tests.
pub const NOW: u64 = 1_790_000_000;
pub const DAY: u64 = 86_400;
/// The TCB of the platform and the floor of its policy.
const SVN: u8 = 0x60;

pub fn rng() -> StdRng {
    StdRng::seed_from_u64(2)
}

/// The authorities' keys, generated once per process.
pub fn keys() -> AuthorityKeys {
    static KEYS: OnceLock<AuthorityKeys> = OnceLock::new();
    KEYS.get_or_init(|| AuthorityKeys::generate(&mut rng()).unwrap())
        .clone()
}

pub const VALID: Validity = Validity {
    from: NOW - 365 * DAY,
    to: NOW + 365 * DAY,
};

pub struct Platform {
    pub generation: &'static Generation,
    pub hierarchy: Hierarchy,
    pub spec: EndorsementSpec,
    pub report: Report,
    pub policy: Policy,
    pub crl: CrlSpec,
}

impl Platform {
    pub fn new(generation: &'static Generation) -> Self {
        let hierarchy = Hierarchy::new(generation, keys(), VALID, &mut rng()).unwrap();
        let tcb = Component::ALL
            .iter()
            .fold(TcbVersion([0; 8]), |tcb, component| {
                tcb.with(generation.tcb, *component, SVN)
            });
        let mut chip_id = [0; 64];
        chip_id[..generation.chip_id_len].fill(0xC1);
        let spec = EndorsementSpec {
            kind: KeyKind::Vcek,
            product_name: format!("{}-B0", generation.line),
            tcb,
            chip_id,
            validity: VALID,
            serial: 0,
            wrapped_hwid: false,
            without: None,
            seed: [7; 32],
        };
        let report = report(generation, tcb, chip_id);
        let policy = policy(generation, &report, hierarchy.root_digest().unwrap());
        let crl = CrlSpec {
            issuer: Authority::Ark,
            signer: Authority::Ark,
            this_update: NOW - DAY,
            next_update: Some(NOW + DAY),
            revoked: Vec::new(),
            extensions: Vec::new(),
            entry_extensions: Vec::new(),
        };
        Self {
            generation,
            hierarchy,
            spec,
            report,
            policy,
            crl,
        }
    }

    pub fn endorse(&self) -> Endorsement {
        self.hierarchy.endorse(&self.spec, &mut rng()).unwrap()
    }

    pub fn endorsements(&self, endorsement: &Endorsement) -> Endorsements {
        let ask = match self.spec.kind {
            KeyKind::Vcek => &self.hierarchy.ask,
            KeyKind::Vlek => &self.hierarchy.asvk,
        };
        Endorsements {
            amd: AmdEndorsements {
                vek: Some(endorsement.certificate.clone()),
                ask: Some(ask.clone()),
                ark: Some(self.hierarchy.ark.clone()),
                crls: vec![self.hierarchy.crl(&self.crl, &mut rng()).unwrap().into()],
            },
            intel: None,
        }
    }

    /// Signs the report and verifies it.
    pub fn verify(&self) -> Verdict {
        let endorsement = self.endorse();
        let mut report = self.report;
        endorsement.sign(&mut report);
        self.verify_as_is(&report, &self.endorsements(&endorsement))
    }

    /// Verifies a report as it is.
    pub fn verify_as_is(&self, report: &Report, endorsements: &Endorsements) -> Verdict {
        Verifier::new(self.policy.clone()).verify(
            report.as_bytes(),
            endorsements,
            &Expected::at(Timestamp(NOW)),
        )
    }
}

/// Model and stepping of the generation's part that is in the tables of attacks.
fn part(generation: &Generation) -> (u8, u8) {
    match generation.name {
        "milan" => (0x01, 1),
        "genoa" => (0x11, 1),
        "bergamo-siena" => (0xA0, 2),
        "turin" => (0x02, 1),
        other => panic!("no part for {other}"),
    }
}

fn report(generation: &Generation, tcb: TcbVersion, chip_id: [u8; 64]) -> Report {
    let mut report = Report::read_from_bytes(&[0; REPORT_LEN]).unwrap();
    report.version.set(5);
    report.guest_svn.set(9);
    // SMT, bit 17, single socket, AES-256, RAPL off, ciphertext hiding, no page swaps; ABI 1.58.
    report.policy.set(0x3D3_013A);
    report.family_id = [1; 16];
    report.image_id = [2; 16];
    report.signature_algo.set(ALGO_ECDSA_P384_SHA384);
    report.current_tcb = tcb;
    report.committed_tcb = tcb;
    report.launch_tcb = tcb;
    report.reported_tcb = tcb;
    // SMT, ECC, RAPL off, ciphertext hiding, alias check, IOMMU.
    report.platform_info.set(0x7D);
    report.key_info.set(1);
    report.report_data = [3; 64];
    report.measurement = [4; 48];
    report.host_data = [5; 32];
    report.id_key_digest = [6; 48];
    report.author_key_digest = [7; 48];
    report.report_id = [8; 32];
    report.report_id_ma = [0xFF; 32];
    report.cpuid_family = generation.family;
    (report.cpuid_model, report.cpuid_stepping) = part(generation);
    report.chip_id = chip_id;
    for version in [&mut report.current_version, &mut report.committed_version] {
        (version.major, version.minor, version.build) = (1, 58, 10);
    }
    report.launch_mit_vector.set(0x3F);
    report.current_mit_vector.set(0x3F);
    report
}

/// A policy that pins everything that a policy can pin.
fn policy(generation: &Generation, report: &Report, root: [u8; 32]) -> Policy {
    let floor = |component| generation.tcb.byte(component).map(|_| SVN);
    Policy {
        name: "pinned".to_owned(),
        insecure_simulated_roots: vec![Hex(root)],
        missing: MissingFacts::default(),
        snp: SnpPolicy {
            products: vec![generation.name.to_owned()],
            min_tcb: BTreeMap::from([(
                generation.name.to_owned(),
                TcbFloor {
                    fmc: floor(Component::Fmc),
                    bootloader: floor(Component::Bootloader),
                    tee: floor(Component::Tee),
                    snp: floor(Component::Snp),
                    microcode: floor(Component::Microcode),
                },
            )]),
            attacks: vec!["badram".to_owned(), "iommu-write-buffer".to_owned()],
            insecure_ignored_attacks: vec!["entrysign".to_owned()],
            launch_mitigations: 0x3F,
            current_mitigations: 0x3F,
            min_firmware: Some("1.58.10".to_owned()),
            guest_policy: GuestPolicyRules {
                smt: Rule::Require,
                single_socket: Rule::Require,
                cxl: Rule::Forbid,
                aes_256_xts: Rule::Require,
                rapl_disabled: Rule::Require,
                ciphertext_hiding: Rule::Require,
                page_swap_disabled: Rule::Require,
                min_abi: Some("1.58".to_owned()),
                ..GuestPolicyRules::default()
            },
            platform: PlatformRules {
                smt: Rule::Require,
                tsme: Rule::Forbid,
                ecc: Rule::Require,
                rapl_disabled: Rule::Require,
                ciphertext_hiding: Rule::Require,
                alias_check: Rule::Require,
                iommu_write_safe: Rule::Require,
                tio: Rule::Forbid,
            },
            measurements: vec![Hex(report.measurement)],
            report_data: Some(Hex(report.report_data)),
            host_data: Some(Hex(report.host_data)),
            id_key_digests: vec![Hex(report.id_key_digest)],
            author_key_digests: vec![Hex(report.author_key_digest)],
            family_ids: vec![Hex(report.family_id)],
            image_ids: vec![Hex(report.image_id)],
            min_guest_svn: 9,
            allowed_chips: vec![Hex(report.chip_id)],
            ..SnpPolicy::default()
        },
        ..Policy::default()
    }
}

/// Asserts that the evidence is refused, by at least these checks.
#[track_caller]
pub fn assert_fails(verdict: &Verdict, names: &[&str]) {
    assert_eq!(verdict.overall, Overall::Invalid, "{names:?}\n{verdict}");
    for name in names {
        let outcome = verdict.check(name).map(|c| c.outcome);
        assert_eq!(outcome, Some(Outcome::Fail), "{name}\n{verdict}");
    }
}

/// Asserts that exactly these checks fail.
#[track_caller]
pub fn assert_fails_only(verdict: &Verdict, names: &[&str]) {
    assert_fails(verdict, names);
    let failed: Vec<_> = verdict
        .with_outcome(Outcome::Fail)
        .map(|c| &*c.name)
        .collect();
    assert!(
        failed.iter().all(|f| names.contains(f)),
        "{failed:?} instead of {names:?}"
    );
}
