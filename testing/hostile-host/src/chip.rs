// SPDX-License-Identifier: Apache-2.0

//! A chip of our own with its certificates, the reports that it signs, and a policy that accepts them. The verifier is
//! the real one.

use crate::unix_seconds;
use enarx_attestation::hex::Hex as PolicyHex;
use enarx_attestation::policy::{SnpPolicy, TcbFloor};
use enarx_attestation::snp::MAX_LISTS;
use enarx_attestation::{AmdEndorsements, Policy};
use enarx_contract::canonical::{Base64, Hex, Name};
use enarx_contract::{Backend, Image, MinTcb, Tee};
use enarx_manager_api::{Collateral, PlatformOffer};
use enarx_snp::product::MILAN;
use enarx_snp::report::{ALGO_ECDSA_P384_SHA384, REPORT_LEN, Report};
use enarx_snp::tcb::{Component, TcbVersion};
use enarx_snp_authority::{
    Authority, AuthorityKeys, CrlSpec, EndorsementSpec, Hierarchy, KeyKind, Validity,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use zerocopy::{FromBytes, IntoBytes};

/// The launch digest of the tenant's image.
pub const MEASUREMENT: [u8; 48] = [0x4d; 48];
/// The guest policy of launches: SMT allowed, bit 17.
pub const GUEST_POLICY: u64 = 0x3_0000;
/// The debug bit of a guest policy.
pub const DEBUG: u64 = 1 << 19;
/// The TCB version of the chip in each component, and the floor of the policy.
const SVN: u8 = 0xF0;
/// Serial number of the VCEK.
const SERIAL: u64 = 0x1234;
const DAY: u64 = 86_400;

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

/// The lists of revoked keys that there are of a chip's authorities.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lists {
    /// Lists of today.
    Current,
    /// Lists of ten days ago, which are over.
    Stale,
    /// Lists of twenty days ago, which are still in force.
    Old,
    /// Lists of ten days hence.
    Early,
    /// None.
    Missing,
    /// Lists of today, as many as a verifier accepts.
    Many,
    /// Lists of today by the thousand.
    Thousands,
}

/// A chip.
#[derive(Clone)]
pub struct Chip {
    hierarchy: Hierarchy,
    spec: EndorsementSpec,
    revoked: bool,
    lists: Lists,
}

impl Default for Chip {
    fn default() -> Self {
        Self::new()
    }
}

impl Chip {
    /// The chip whose root the policy names.
    pub fn new() -> Self {
        static HIERARCHY: OnceLock<Hierarchy> = OnceLock::new();
        let now = unix_seconds();
        let validity = Validity {
            from: now - 30 * DAY,
            to: now + 30 * DAY,
        };
        let hierarchy = HIERARCHY.get_or_init(|| {
            let keys = AuthorityKeys::generate(&mut rng()).expect("keys");
            Hierarchy::new(&MILAN, keys, validity, &mut rng()).expect("a hierarchy")
        });
        let spec = EndorsementSpec {
            kind: KeyKind::Vcek,
            product_name: "Milan-B0".to_owned(),
            tcb: tcb(SVN),
            chip_id: [0xC1; 64],
            validity,
            serial: SERIAL,
            wrapped_hwid: false,
            without: None,
            seed: [7; 32],
        };
        Self {
            hierarchy: hierarchy.clone(),
            spec,
            revoked: false,
            lists: Lists::Current,
        }
    }

    /// Its identity, as reports have it.
    pub fn id(&self) -> [u8; 64] {
        self.spec.chip_id
    }

    /// The same chip with old firmware.
    #[must_use]
    pub fn with_old_firmware(mut self) -> Self {
        self.spec.tcb = tcb(SVN - 1);
        self
    }

    /// The same chip, after its key was revoked.
    #[must_use]
    pub fn revoked(mut self) -> Self {
        self.revoked = true;
        self
    }

    /// The same chip, of whose keys no newer lists have come.
    #[must_use]
    pub fn stale(mut self) -> Self {
        self.lists = Lists::Stale;
        self
    }

    /// The same chip, of whose keys no newer lists have come, while those of before are in force.
    #[must_use]
    pub fn old(mut self) -> Self {
        self.lists = Lists::Old;
        self
    }

    /// The same chip in ten days: its lists are not in force yet.
    #[must_use]
    pub fn early(mut self) -> Self {
        self.lists = Lists::Early;
        self
    }

    /// The same chip, for whose keys there are as many lists as a verifier accepts.
    #[must_use]
    pub fn with_many_lists(mut self) -> Self {
        self.lists = Lists::Many;
        self
    }

    /// The same chip, of whose keys there are thousands of lists.
    #[must_use]
    pub fn with_thousands_of_lists(mut self) -> Self {
        self.lists = Lists::Thousands;
        self
    }

    /// The same chip, for whose keys there are no lists.
    #[must_use]
    pub fn without_lists(mut self) -> Self {
        self.lists = Lists::Missing;
        self
    }

    /// Another chip of the same make.
    #[must_use]
    pub fn another(mut self) -> Self {
        self.spec.chip_id = [0xC2; 64];
        self.spec.seed = [8; 32];
        self
    }

    /// A report on these values, signed after `change`.
    pub fn report(
        &self,
        report_data: [u8; 64],
        host_data: [u8; 32],
        change: impl FnOnce(&mut Report),
    ) -> Vec<u8> {
        let mut report = Report::read_from_bytes(&[0; REPORT_LEN]).expect("a report");
        report.version.set(5);
        report.policy.set(GUEST_POLICY);
        report.signature_algo.set(ALGO_ECDSA_P384_SHA384);
        for version in [
            &mut report.current_tcb,
            &mut report.committed_tcb,
            &mut report.launch_tcb,
            &mut report.reported_tcb,
        ] {
            *version = self.spec.tcb;
        }
        // SMT, ECC, RAPL off, ciphertext hiding, alias check, IOMMU.
        report.platform_info.set(0x7D);
        report.report_data = report_data;
        report.measurement = MEASUREMENT;
        report.host_data = host_data;
        report.report_id = [8; 32];
        report.report_id_ma = [0xFF; 32];
        (
            report.cpuid_family,
            report.cpuid_model,
            report.cpuid_stepping,
        ) = (0x19, 1, 1);
        report.chip_id = self.spec.chip_id;
        change(&mut report);
        let endorsement = self.hierarchy.endorse(&self.spec, &mut rng());
        endorsement.expect("a key").sign(&mut report);
        report.as_bytes().to_vec()
    }

    /// The host's copy of the vendor's statements about this chip.
    pub fn collateral(&self) -> Collateral {
        let endorsement = self.hierarchy.endorse(&self.spec, &mut rng());
        let (now, days) = match self.lists {
            Lists::Stale => (unix_seconds() - 10 * DAY, 1),
            Lists::Old => (unix_seconds(), 20),
            Lists::Early => (unix_seconds() + 10 * DAY, 1),
            _ => (unix_seconds(), 1),
        };
        let list = |authority, revoked| {
            let spec = CrlSpec {
                issuer: authority,
                signer: authority,
                this_update: now - days * DAY,
                next_update: Some(now + days * DAY),
                revoked,
                extensions: Vec::new(),
                entry_extensions: Vec::new(),
            };
            Base64(self.hierarchy.crl(&spec, &mut rng()).expect("a list"))
        };
        let revoked = if self.revoked {
            vec![SERIAL]
        } else {
            Vec::new()
        };
        Collateral {
            vek: Base64(endorsement.expect("a key").certificate),
            ask: Base64(self.hierarchy.ask.clone()),
            ark: Base64(self.hierarchy.ark.clone()),
            crls: {
                let lists = [
                    list(Authority::Ark, Vec::new()),
                    list(Authority::Ask, revoked),
                ];
                let count = match self.lists {
                    Lists::Missing => 0,
                    Lists::Many => MAX_LISTS,
                    Lists::Thousands => 5_000,
                    _ => lists.len(),
                };
                lists.into_iter().cycle().take(count).collect()
            },
        }
    }

    /// The same, as a tenant has it.
    pub fn endorsements(&self) -> AmdEndorsements {
        let Collateral {
            vek,
            ask,
            ark,
            crls,
        } = self.collateral();
        AmdEndorsements {
            vek: Some(vek.0),
            ask: Some(ask.0),
            ark: Some(ark.0),
            crls: crls.into_iter().map(|list| list.0.into()).collect(),
        }
    }

    /// The host's claims about this chip.
    pub fn offer(&self) -> PlatformOffer {
        PlatformOffer {
            tee: Tee::Simulated,
            backend: Backend::Sim,
            product: Name::new("milan"),
            guest_policy: Some(Hex(GUEST_POLICY.to_be_bytes())),
            chip_id: Some(Hex(self.spec.chip_id)),
            tcb: Some(Hex(self.spec.tcb.0)),
            simulated_root: None,
        }
    }

    /// The digest of its root, which a policy names.
    pub fn root(&self) -> [u8; 32] {
        self.hierarchy.root_digest().expect("a root")
    }

    /// A policy that accepts the chip, and says nothing about the values on which a session depends.
    pub fn policy(&self) -> Policy {
        let floor = TcbFloor {
            fmc: None,
            bootloader: Some(SVN),
            tee: Some(SVN),
            snp: Some(SVN),
            microcode: Some(SVN),
        };
        Policy {
            name: "test".to_owned(),
            insecure_simulated_roots: vec![PolicyHex(self.root())],
            snp: SnpPolicy {
                min_tcb: BTreeMap::from([("milan".to_owned(), floor)]),
                products: vec!["milan".to_owned()],
                ..SnpPolicy::default()
            },
            ..Policy::default()
        }
    }
}

fn tcb(svn: u8) -> TcbVersion {
    Component::ALL
        .iter()
        .fold(TcbVersion([0; 8]), |tcb, component| {
            tcb.with(MILAN.tcb, *component, svn)
        })
}

/// The floor of the policy, in the form of a contract.
pub fn floor() -> MinTcb {
    MinTcb {
        fmc: None,
        bootloader: SVN,
        tee: SVN,
        snp: SVN,
        microcode: SVN,
    }
}

/// The tenant's image.
pub fn image() -> Image {
    Image {
        release: None,
        measurement: Hex(MEASUREMENT),
    }
}
