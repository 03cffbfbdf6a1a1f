// SPDX-License-Identifier: Apache-2.0

//! Certificates and reports: each report is checked here independently, without the project's verifier.

use crate::fake::{Conversation, POLICY, guest_with, machine};
use der::{Decode, Encode};
use enarx_simulator::{Certificates, Machine, Settings, Tcb};
use enarx_snp::bits::SigningKey;
use enarx_snp::guest_message::{MessageType, ReportRequest, ReportResponse};
use enarx_snp::product::{GENERATIONS, GENOA, MILAN, TURIN};
use enarx_snp::report::{REPORT_LEN, Report};
use enarx_snp::tcb::{Component, TcbVersion};
use enarx_snp_authority::KeyKind;
use p384::ecdsa::signature::Verifier;
use p384::ecdsa::{Signature, VerifyingKey};
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::{RsaPublicKey, pss};
use sha2::{Digest, Sha256, Sha384};
use x509_cert::Certificate;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

pub fn ask(talk: &mut Conversation, data: [u8; 64], key_select: u32) -> ReportResponse {
    let mut request = ReportRequest::new_zeroed();
    request.report_data = data;
    request.key_select.set(key_select);
    let answer = talk
        .ask(
            MessageType::ReportRequest,
            1,
            request.as_bytes(),
            MessageType::ReportResponse,
        )
        .unwrap();
    ReportResponse::read_from_bytes(&answer).unwrap()
}

fn report(machine: &std::sync::Arc<Machine>, key_select: u32) -> Report {
    let mut talk = Conversation::new(guest_with(machine.clone(), POLICY));
    let answer = ask(&mut talk, [7; 64], key_select);
    assert_eq!(answer.status.get(), 0);
    assert_eq!(answer.report_size.get() as usize, REPORT_LEN);
    assert_eq!(answer.report.measurement, talk.guest.measurement());
    answer.report
}

fn is_signed_by(certificate: &Certificate, issuer: &Certificate) -> bool {
    let key = &issuer.tbs_certificate().subject_public_key_info();
    let key = RsaPublicKey::from_pkcs1_der(key.subject_public_key.raw_bytes()).unwrap();
    let signature = pss::Signature::try_from(certificate.signature().raw_bytes()).unwrap();
    pss::VerifyingKey::<Sha384>::new(key)
        .verify(&certificate.tbs_certificate().to_der().unwrap(), &signature)
        .is_ok()
}

/// True if the chain is valid and its key signed the report.
fn verifies(report: &Report, certificates: &Certificates) -> bool {
    let [ark, ask, vek] = [&certificates.ark, &certificates.ask, &certificates.vek]
        .map(|der| Certificate::from_der(der).unwrap());
    assert!(is_signed_by(&ark, &ark) && is_signed_by(&ask, &ark) && is_signed_by(&vek, &ask));
    for certificate in [&ark, &ask, &vek] {
        let subject = certificate.tbs_certificate().subject().to_string();
        assert!(subject.contains("simulated"), "{subject}");
    }
    let key = vek.tbs_certificate().subject_public_key_info();
    let key = VerifyingKey::from_sec1_bytes(key.subject_public_key.raw_bytes()).unwrap();
    let (r, s) = report.signature.scalars().unwrap();
    let signature = Signature::from_scalars(r, s).unwrap();
    key.verify(report.signed(), &signature).is_ok()
}

#[test]
fn every_generation_signs_reports_under_its_chain() {
    for generation in GENERATIONS {
        let settings = Settings::new(generation);
        let machine = machine(settings.clone());
        let report = report(&machine, 0);
        assert!(
            verifies(&report, &machine.certificates()),
            "{}",
            generation.name
        );
        assert!(report.version_is_known() && report.reserved_is_zero());
        assert_eq!(report.cpu().unwrap().generation(), Some(generation));
        assert_eq!(report.keys().signing_key(), SigningKey::Vcek);
        assert_eq!(report.guest_policy(), POLICY);
        assert_eq!(report.platform(), settings.platform);
        assert_eq!(report.report_data, [7; 64]);
        assert_eq!(report.host_data, [0x40; 32]);
        assert_eq!(report.reported_tcb, settings.tcb.reported);
        assert_eq!(report.id_key_digest, [0; 48]);
        assert_eq!(report.report_id_ma, [0xFF; 32]);
        assert_ne!(report.report_id, [0; 32]);
        let (chip, rest) = report.chip_id.split_at(generation.chip_id_len);
        assert!(chip.starts_with(if generation.chip_id_len == 8 {
            b"SIM"
        } else {
            b"SIMULATED"
        }));
        assert!(rest.iter().all(|byte| *byte == 0));

        let mut changed = report;
        changed.host_data[0] ^= 1;
        assert!(!verifies(&changed, &machine.certificates()));
    }
}

#[test]
fn a_machine_of_a_cloud_provider_has_both_keys() {
    let mut settings = Settings::new(&MILAN);
    settings.key = KeyKind::Vlek;
    let machine = machine(settings);
    for key_select in [0, 2] {
        let vlek = report(&machine, key_select);
        assert!(verifies(&vlek, &machine.certificates()));
        assert_eq!(vlek.keys().signing_key(), SigningKey::Vlek);
        assert_eq!(vlek.chip_id, [0; 64]);
    }
    let vcek = report(&machine, 1);
    assert!(verifies(&vcek, &machine.vcek_certificates()));
    assert!(!verifies(&vcek, &machine.certificates()));
    assert_eq!(vcek.chip_id, machine.chip_id());
}

#[test]
fn a_machine_can_be_outdated_or_uncommitted() {
    let current = Settings::new(&TURIN);
    let mut outdated = current.clone();
    let old = current
        .tcb
        .current
        .with(TURIN.tcb, Component::Microcode, 0x10);
    outdated.tcb = Tcb::all(old);
    let old_machine = machine(outdated.clone());
    let old_report = report(&old_machine, 0);
    assert!(verifies(&old_report, &old_machine.certificates()));
    assert!(
        !old_report
            .reported_tcb
            .at_least(&current.tcb.reported, TURIN.tcb)
    );

    let new_machine = machine(current.clone());
    assert_ne!(
        new_machine.certificates().vek,
        old_machine.certificates().vek
    );
    assert_eq!(
        new_machine.certificates().ark,
        old_machine.certificates().ark
    );
    assert!(!verifies(&old_report, &new_machine.certificates()));

    outdated.tcb.current = TcbVersion([0xFF; 8]);
    outdated.report_version = 2;
    let report = report(&machine(outdated), 0);
    assert_eq!(report.current_tcb, TcbVersion([0xFF; 8]));
    assert_eq!(report.committed_tcb, old);
    assert_eq!((report.cpu(), report.mitigations()), (None, None));
    assert!(report.reserved_is_zero());
}

#[test]
fn two_processes_create_the_same_machine_once() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Machine::open(folder.path(), Settings::new(&GENOA)).unwrap();
    let (a, b) = std::thread::scope(|scope| {
        let other = scope.spawn(open);
        (open(), other.join().unwrap())
    });
    let c = open();
    for machine in [&b, &c] {
        assert_eq!(machine.root_digest(), a.root_digest());
        assert_eq!(machine.chip_id(), a.chip_id());
        assert_eq!(machine.certificates().vek, a.certificates().vek);
        assert_eq!(machine.certificates().ask, a.certificates().ask);
        assert_eq!(machine.certificates().ark, a.certificates().ark);
    }
    let ark = Certificate::from_der(&a.certificates().ark).unwrap();
    let key_info = ark.tbs_certificate().subject_public_key_info();
    let digest: [u8; 32] = Sha256::digest(key_info.to_der().unwrap()).into();
    assert_eq!(digest, a.root_digest());
    assert!(!format!("{a:?}").contains("secret"));
}
