// SPDX-License-Identifier: Apache-2.0

//! Keys, contracts, reports and a verifier for tests. The reports are unsigned, and the verifier accepts those that
//! claim to be genuine: the real verifier has its own tests.

use enarx_contract::canonical::{Hex, Name};
use enarx_contract::{
    Backend, Contract, Doors, Host, Image, KeepFacts, MinTcb, Platform, PublicKey, Resources,
    Signature, Tee, Tenant, Terms, Times,
};
use enarx_session::binding::Exporter;
use enarx_session::deployment::{
    Delivery, Deployment, Detached, File, Object, Output, Secret, Sink, WhenFull, commitment,
};
use enarx_session::tenant::Channel;
use enarx_session::verdict::{Expected, Outcome, Verdict, Verifier};
use enarx_snp::report::{REPORT_LEN, Report};
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer;
use sha2::{Digest, Sha256};
use std::sync::OnceLock;
use zerocopy::{FromBytes, IntoBytes};

/// The launch digest of every Keep here.
pub const MEASUREMENT: [u8; 48] = [0x4d; 48];
/// The guest policy of every launch here: SMT allowed, reserved bit 17.
pub const GUEST_POLICY: u64 = 0x3_0000;
/// The memory of every Keep here.
pub const MEMORY: u64 = 1 << 30;
/// The tenant's time.
pub const NOW: u64 = 1_800_000_000;
/// First byte of a report's signature that the verifier takes for genuine.
const GENUINE: u8 = 0x67;

/// A private key made of one byte.
pub fn secret(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).expect("a scalar of the curve")
}

/// The public key of [`secret`].
pub fn key(seed: u8) -> PublicKey {
    // The model asks for few of them, very often.
    static KEYS: [OnceLock<PublicKey>; 256] = [const { OnceLock::new() }; 256];
    *KEYS[usize::from(seed)].get_or_init(|| new_key(seed))
}

fn new_key(seed: u8) -> PublicKey {
    let point = secret(seed).verifying_key().to_sec1_point(false);
    let (x, y) = point.as_bytes()[1..].split_at(32);
    PublicKey::from_coordinates(
        x.try_into().expect("32 bytes"),
        y.try_into().expect("32 bytes"),
    )
}

/// A signature by [`secret`].
pub fn sign(seed: u8, message: &[u8]) -> Signature {
    let signature: p256::ecdsa::Signature = secret(seed).sign(message);
    Hex(signature.to_bytes().into())
}

/// The tenant.
pub const TENANT: u8 = 0x11;
/// Another tenant.
pub const OTHER_TENANT: u8 = 0x12;
/// The host.
pub const HOST: u8 = 0x21;
/// The Keep.
pub const KEEP: u8 = 0x31;
/// Another Keep.
pub const OTHER_KEEP: u8 = 0x32;

/// Terms of a simulated Keep for this tenant.
pub fn terms(tenant: Tenant) -> Terms {
    let name = |text: &str| Name::new(text).expect("a name");
    Terms {
        version: enarx_contract::VERSION,
        id: Hex([7; 16]),
        host: Host {
            key: key(HOST),
            name: name("host.example"),
        },
        tenant,
        platform: Platform {
            tee: Tee::Simulated,
            backend: Backend::Sim,
            product: Some(name("milan")),
            guest_policy: Some(Hex(GUEST_POLICY.to_be_bytes())),
            min_tcb: Some(MinTcb {
                fmc: None,
                bootloader: 4,
                tee: 0,
                snp: 24,
                microcode: 219,
            }),
        },
        image: Some(Image {
            release: Some(name("0.8.0")),
            measurement: Hex(MEASUREMENT),
        }),
        resources: Resources {
            vcpus: 2,
            memory: MEMORY,
        },
        doors: Doors::default(),
        times: Times {
            not_before: NOW - 1000,
            not_after: NOW + 1000,
            unprovisioned_seconds: 60,
            detached_seconds_max: 600,
            runtime_seconds_max: 86_400,
        },
        class: name("standard"),
    }
}

/// A contract that names [`TENANT`].
pub fn named() -> Contract {
    Contract::new(terms(Tenant::Named(key(TENANT)))).expect("terms that make sense")
}

/// A contract for whoever comes first.
pub fn open() -> Contract {
    Contract::new(terms(Tenant::Open)).expect("terms that make sense")
}

/// A contract for a Keep without a TEE.
pub fn without_tee() -> Contract {
    let mut terms = terms(Tenant::Open);
    terms.platform = Platform {
        tee: Tee::None,
        backend: Backend::Kvm,
        product: None,
        guest_policy: None,
        min_tcb: None,
    };
    terms.image = None;
    Contract::new(terms).expect("terms that make sense")
}

/// Returns the knowledge that a Keep of these contracts has of itself.
pub fn own(contract: &Contract) -> KeepFacts {
    KeepFacts {
        tee: contract.terms().platform.tee,
        vcpus: 2,
        memory: MEMORY,
    }
}

/// A report as the secure processor of a Keep of this contract makes it.
pub fn report(contract: &Contract, report_data: [u8; 64], report_id: u8) -> Report {
    let mut report = Report::read_from_bytes(&[0; REPORT_LEN]).expect("the length of a report");
    report.version.set(5);
    report.policy.set(GUEST_POLICY);
    report.signature_algo.set(1);
    report.report_data = report_data;
    report.measurement = MEASUREMENT;
    report.host_data = contract.digest().0;
    report.report_id = [report_id; 32];
    report.cpuid_family = 0x19;
    report.cpuid_model = 1;
    for tcb in [
        &mut report.current_tcb,
        &mut report.reported_tcb,
        &mut report.committed_tcb,
        &mut report.launch_tcb,
    ] {
        tcb.0 = [4, 0, 0, 0, 0, 0, 24, 219];
    }
    report.signature.r[0] = GENUINE;
    report
}

/// The bytes of [`report`].
pub fn report_bytes(contract: &Contract, report_data: [u8; 64], report_id: u8) -> Vec<u8> {
    report(contract, report_data, report_id).as_bytes().to_vec()
}

/// A verifier that makes the given comparisons, and accepts a mark as a signature.
pub struct Marks;

impl Verifier for Marks {
    fn verify(&self, report: &[u8], expected: &Expected) -> Verdict {
        let mut verdict = Verdict {
            failed: Vec::new(),
            report_data: Outcome::Fail,
            host_data: Outcome::Fail,
            measurement: Outcome::Fail,
        };
        let Ok(report) = Report::parse(report) else {
            verdict.failed.push("evidence.readable".to_owned());
            return verdict;
        };
        if report.signature.r[0] != GENUINE {
            verdict.failed.push("report.signature".to_owned());
        }
        for (name, same, outcome) in [
            (
                "guest.report-data",
                report.report_data == expected.report_data,
                &mut verdict.report_data,
            ),
            (
                "guest.host-data",
                report.host_data == expected.host_data,
                &mut verdict.host_data,
            ),
            (
                "guest.measurement",
                report.measurement == MEASUREMENT,
                &mut verdict.measurement,
            ),
        ] {
            if same {
                *outcome = Outcome::Pass;
            } else {
                verdict.failed.push(name.to_owned());
            }
        }
        verdict
    }
}

/// The exporter of a connection made of one byte.
pub fn exporter(seed: u8) -> Exporter {
    Exporter::new([seed; 32]).expect("not zero")
}

/// Returns the tenant's end of a TLS connection with [`KEEP`].
pub fn channel(tenant: u8, connection: u8) -> Channel {
    Channel {
        keep: key(KEEP),
        tenant: key(tenant),
        exporter: exporter(connection),
    }
}

/// The delivery: the value of every part, in order.
pub type Values = Vec<Vec<u8>>;

fn object(value: &[u8]) -> Object {
    Object {
        digest: Hex(Sha256::digest(value).into()),
        size: value.len() as u64,
    }
}

/// A deployment under this contract of an application, a configuration, two files, one of them empty, and two secrets.
pub fn deployment(contract: &Contract, application: &[u8]) -> (Deployment, Values) {
    let salt = [9; 32];
    let values: Values = vec![
        application.to_vec(),
        b"{}".to_vec(),
        b"page".to_vec(),
        Vec::new(),
        b"hunter2".to_vec(),
        Vec::new(),
    ];
    let file = |path: &str, value: &[u8]| File {
        path: path.to_owned(),
        digest: object(value).digest,
        size: value.len() as u64,
    };
    let secret = |name: &str, delivery, value: &[u8]| Secret {
        name: name.to_owned(),
        delivery,
        commitment: Hex(commitment(&salt, name, value)),
        size: value.len() as u64,
    };
    let deployment = Deployment {
        version: enarx_session::deployment::VERSION,
        contract: *contract.digest(),
        application: object(application),
        source: None,
        configuration: object(&values[1]),
        files: vec![
            file("www/a.html", &values[2]),
            file("www/empty", &values[3]),
        ],
        secrets: vec![
            secret("PASSWORD", Delivery::Env, &values[4]),
            secret("empty.txt", Delivery::File, &values[5]),
        ],
        output: Output {
            stdout: Some(Sink::Session),
            stderr: Some(Sink::Session),
        },
        detached: Detached {
            seconds: 60,
            buffer_bytes: 1 << 20,
            when_full: WhenFull::Block,
        },
        now: NOW,
        salt: Hex(salt),
    };
    (deployment, values)
}

/// A deployment of an application and a configuration, and nothing else.
pub fn smallest(contract: &Contract, application: &[u8]) -> (Deployment, Values) {
    let (mut deployment, mut values) = deployment(contract, application);
    deployment.files.clear();
    deployment.secrets.clear();
    values.truncate(2);
    (deployment, values)
}
