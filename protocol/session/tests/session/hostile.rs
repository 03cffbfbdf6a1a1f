// SPDX-License-Identifier: Apache-2.0

//! Attacks on a session, one by one, each with the name of its refusal. Written from SPEC.md and the table of
//! hostile hosts of the design.

use crate::pair::{KeepSide, MAX_AGE, attest, judged, pump, reattach, running};
use enarx_contract::canonical::Hex;
use enarx_contract::{Contract, ContractError, PublicKey, Tee, Tenant};
use enarx_session::binding::{Binding, Exporter, State};
use enarx_session::deployment::{Deployment, DeploymentError, WhenFull, commitment};
use enarx_session::document::ExitKind;
use enarx_session::frame::Kind;
use enarx_session::keep::{Event, Fault, Keep, Output};
use enarx_session::receipt::{Claims, Receipt};
use enarx_session::tenant::{
    self, Channel, InsecureUnattested, Outcome, Session, Streams, Unjudged, Wanted,
};
use enarx_session::verdict::{Expected, Outcome as Compared, Verdict, Verifier};
use enarx_session::{Moment, Refusal, Unfit, WINDOW};
use enarx_session_drivers::drivers::frame_bytes;
use enarx_session_drivers::fixture::{self, KEEP, Marks, OTHER_KEEP, OTHER_TENANT, TENANT};
use enarx_snp::report::Report;
use sha2::{Digest, Sha256};
use zerocopy::IntoBytes;

/// Returns the tenant's verdict on the EVIDENCE of this report, as a Keep of `contract` would send it.
fn verdict_on(session: Session<Unjudged>, report: &Report) -> Result<(), String> {
    let report = serde_json::to_string(&enarx_contract::canonical::Base64(
        report.as_bytes().to_vec(),
    ));
    let report = report.expect("text");
    let evidence =
        format!(r#"{{"seq":1,"state":1,"format":"snp","report":{report},"deployment":null}}"#);
    verdict(session, &evidence)
}

fn verdict(mut session: Session<Unjudged>, evidence: &str) -> Result<(), String> {
    let bytes = frame_bytes(Kind::Evidence, 0, evidence.as_bytes());
    let there = session
        .receive(&mut bytes.as_slice())
        .map_err(|error| error.code().to_owned())?;
    assert!(there);
    match session.judge(&Marks, Moment(0), MAX_AGE) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(refusal.code().to_owned()),
    }
}

fn code<T>(result: Result<T, Refusal>) -> String {
    match result {
        Ok(_) => "accepted".to_owned(),
        Err(refusal) => refusal.code().to_owned(),
    }
}

/// The binding of the first evidence on a connection whose tenant's end is `channel`.
fn report_data(contract: &Contract, channel: &Channel, nonce: u8) -> [u8; 64] {
    let binding = Binding {
        sequence: 1,
        nonce: &[nonce; 32],
        exporter: &channel.exporter,
        keep: &channel.keep,
        tenant: &channel.tenant,
        contract: contract.digest(),
        deployment: None,
    };
    binding.report_data()
}

#[test]
fn evidence_of_another_connection_key_tenant_nonce_or_contract_is_refused() {
    let contract = fixture::open();
    let fresh = || attest(&contract, TENANT, 1, Wanted::Fresh, None);
    let own = fixture::channel(TENANT, 1);
    let nonce = 1 ^ 0x5a;
    let good = report_data(&contract, &own, nonce);
    let report = |data| fixture::report(&contract, data, 1);
    assert_eq!(verdict_on(fresh(), &report(good)), Ok(()));
    let channels = [
        // Relay: the genuine Keep has another connection, with the same key or with another.
        Channel {
            exporter: fixture::exporter(2),
            ..own.clone()
        },
        Channel {
            keep: fixture::key(OTHER_KEEP),
            ..own.clone()
        },
        // The Keep spoke with somebody else.
        Channel {
            tenant: fixture::key(OTHER_TENANT),
            ..own.clone()
        },
    ];
    for channel in channels {
        let data = report_data(&contract, &channel, nonce);
        assert_eq!(
            verdict_on(fresh(), &report(data)),
            Err("guest.report-data".to_owned())
        );
    }
    let replayed = report_data(&contract, &own, nonce ^ 1);
    assert_eq!(
        verdict_on(fresh(), &report(replayed)),
        Err("guest.report-data".to_owned())
    );
    // A Keep of another contract, which says so in HOST_DATA or hides it.
    let other = fixture::named();
    let data = report_data(&other, &own, nonce);
    let honest = fixture::report(&other, data, 1);
    assert_eq!(
        verdict_on(fresh(), &honest),
        Err("guest.report-data".to_owned())
    );
    let half = fixture::report(&other, good, 1);
    assert_eq!(
        verdict_on(fresh(), &half),
        Err("guest.host-data".to_owned())
    );
    // Another image; a report that nobody signed.
    let mut image = report(good);
    image.measurement[0] ^= 1;
    assert_eq!(
        verdict_on(fresh(), &image),
        Err("guest.measurement".to_owned())
    );
    let mut unsigned = report(good);
    unsigned.signature.r[0] = 0;
    assert_eq!(
        verdict_on(fresh(), &unsigned),
        Err("report.signature".to_owned())
    );
    // Terms that the verifier's policy may not know.
    for change in [
        (|r| r.policy.set(0xB_0000)) as fn(&mut Report),
        |r| r.vmpl.set(1),
        |r| r.reported_tcb.0[0] = 0,
        |r| r.cpuid_model = 0x11,
    ] {
        let mut report = report(good);
        change(&mut report);
        assert_eq!(
            verdict_on(fresh(), &report),
            Err("contract.terms".to_owned())
        );
    }
}

#[test]
fn evidence_that_does_not_bind_its_claims_is_refused() {
    let contract = fixture::open();
    let own = fixture::channel(TENANT, 1);
    let mine = [7; 32];
    let data = report_data(&contract, &own, 1 ^ 0x5a);
    let report = serde_json::to_string(&enarx_contract::canonical::Base64(fixture::report_bytes(
        &contract, data, 1,
    )))
    .expect("text");
    let claims = |wanted, state: u8, deployment: Option<[u8; 32]>| {
        let deployment = deployment.map_or_else(
            || "null".to_owned(),
            |digest| format!("\"{}\"", Hex(digest)),
        );
        let evidence = format!(
            r#"{{"seq":1,"state":{state},"format":"snp","report":{report},"deployment":{deployment}}}"#
        );
        verdict(attest(&contract, TENANT, 1, wanted, None), &evidence)
    };
    let refused = |code: &str| Err(code.to_owned());
    // The report says unprovisioned. Whatever the Keep claims, the comparison uses the expected state.
    assert_eq!(claims(Wanted::Fresh, 1, None), Ok(()));
    assert_eq!(claims(Wanted::Either(mine), 1, None), Ok(()));
    assert_eq!(
        claims(Wanted::Running(mine), 2, Some(mine)),
        refused("guest.report-data")
    );
    assert_eq!(
        claims(Wanted::Either(mine), 2, Some(mine)),
        refused("guest.report-data")
    );
    assert_eq!(
        claims(Wanted::Running(mine), 1, None),
        refused("evidence.state")
    );
    assert_eq!(
        claims(Wanted::Fresh, 2, Some(mine)),
        refused("evidence.state")
    );
    assert_eq!(
        claims(Wanted::Running(mine), 2, Some([8; 32])),
        refused("session.continuity")
    );
    assert_eq!(
        claims(Wanted::Either(mine), 2, Some([8; 32])),
        refused("session.continuity")
    );
    assert_eq!(
        claims(Wanted::Fresh, 1, Some(mine)),
        refused("session.protocol")
    );
    assert_eq!(claims(Wanted::Fresh, 2, None), refused("session.protocol"));
    assert_eq!(claims(Wanted::Fresh, 3, None), refused("session.protocol"));
}

#[test]
fn a_keep_cannot_hide_a_missing_tee() {
    // A contract with a TEE: no evidence is no evidence.
    let none = r#"{"seq":1,"state":1,"format":"none","report":null,"deployment":null}"#;
    let bytes = frame_bytes(Kind::Evidence, 0, none.as_bytes());
    let session = |contract: &Contract| {
        let mut session = attest(contract, TENANT, 1, Wanted::Fresh, None);
        assert_eq!(session.receive(&mut bytes.as_slice()), Ok(true));
        session
    };
    let with = fixture::open();
    let judged = session(&with).judge(&Marks, Moment(0), MAX_AGE);
    assert_eq!(code(judged), "evidence.format");
    let accepted = session(&with).accept_unattested(InsecureUnattested, Moment(0));
    assert_eq!(code(accepted), "evidence.format");
    // A contract without: only if the tenant allows it, and never as verified.
    let without = fixture::without_tee();
    let judged = session(&without).judge(&Marks, Moment(0), MAX_AGE);
    assert_eq!(code(judged), "evidence.format");
    let accepted = session(&without).accept_unattested(InsecureUnattested, Moment(0));
    let accepted = accepted.expect("the tenant's own word");
    assert!(!accepted.is_attested());
    // A report under such a contract proves no more than it should.
    let data = report_data(&without, &fixture::channel(TENANT, 1), 1 ^ 0x5a);
    let report = fixture::report(&without, data, 1);
    let fresh = attest(&without, TENANT, 1, Wanted::Fresh, None);
    assert_eq!(
        verdict_on(fresh, &report),
        Err("evidence.format".to_owned())
    );
}

#[test]
fn a_keep_without_a_tee_needs_the_tenants_consent() {
    let contract = fixture::without_tee();
    let mut side = KeepSide::new(contract.clone());
    let mut connection = side.connect(TENANT, 1).expect("an open contract");
    let mut session = attest(&contract, TENANT, 1, Wanted::Fresh, None);
    let up = session.outgoing().to_vec();
    session.sent(up.len());
    let evidence = side.serve(&mut connection, &up).expect("honest");
    session.receive(&mut evidence.as_slice()).expect("honest");
    let released = session
        .accept_unattested(InsecureUnattested, Moment(0))
        .expect("no TEE");
    let mut tenant = crate::pair::TenantSide::new(released);
    let (deployment, values) = fixture::deployment(&contract, b"a");
    tenant.release(&deployment, values);
    pump(&mut side, &mut connection, &mut tenant).expect("honest");
    assert!(side.started);
}

/// A verifier that returns a given result for one check.
struct FixedVerifier(&'static str, Compared);

impl Verifier for FixedVerifier {
    fn verify(&self, report: &[u8], expected: &Expected) -> Verdict {
        let mut verdict = Marks.verify(report, expected);
        match self.0 {
            "guest.report-data" => verdict.report_data = self.1,
            "guest.host-data" => verdict.host_data = self.1,
            "guest.measurement" => verdict.measurement = self.1,
            // It accepts everything, and claims to have checked.
            _ => {
                verdict = Verdict {
                    failed: Vec::new(),
                    report_data: Compared::Pass,
                    host_data: Compared::Pass,
                    measurement: Compared::Pass,
                }
            }
        }
        verdict
    }
}

#[test]
fn a_check_that_was_not_made_is_a_refusal() {
    let contract = fixture::open();
    let judge = |verifier: &FixedVerifier, change: fn(&mut Report)| {
        let mut session = attest(&contract, TENANT, 1, Wanted::Fresh, None);
        let data = report_data(&contract, &fixture::channel(TENANT, 1), 1 ^ 0x5a);
        let mut report = fixture::report(&contract, data, 1);
        change(&mut report);
        let report = serde_json::to_string(&enarx_contract::canonical::Base64(
            report.as_bytes().to_vec(),
        ));
        let evidence = format!(
            r#"{{"seq":1,"state":1,"format":"snp","report":{},"deployment":null}}"#,
            report.expect("text")
        );
        let bytes = frame_bytes(Kind::Evidence, 0, evidence.as_bytes());
        session.receive(&mut bytes.as_slice()).expect("well-formed");
        code(session.judge(verifier, Moment(0), MAX_AGE))
    };
    for name in ["guest.report-data", "guest.host-data", "guest.measurement"] {
        assert_eq!(
            judge(&FixedVerifier(name, Compared::Skipped), |_| {}),
            "evidence.unchecked"
        );
        assert_eq!(judge(&FixedVerifier(name, Compared::Fail), |_| {}), name);
        assert_eq!(
            judge(&FixedVerifier(name, Compared::Pass), |_| {}),
            "accepted"
        );
    }
    // A verifier that lies about having checked does not get far.
    let lies = FixedVerifier("", Compared::Pass);
    assert_eq!(judge(&lies, |_| {}), "accepted");
    assert_eq!(judge(&lies, |r| r.report_data[0] ^= 1), "guest.report-data");
    assert_eq!(judge(&lies, |r| r.host_data[0] ^= 1), "guest.host-data");
    assert_eq!(judge(&lies, |r| r.measurement[0] ^= 1), "contract.terms");
    // Nor does a session without any evidence.
    let session = attest(&contract, TENANT, 1, Wanted::Fresh, None);
    assert_eq!(
        code(session.judge(&Marks, Moment(0), MAX_AGE)),
        "evidence.unchecked"
    );
}

#[test]
fn an_exporter_of_zeros_is_refused() {
    assert_eq!(code(Exporter::new([0; 32])), "session.exporter");
    let mut almost = [0; 32];
    almost[31] = 1;
    assert!(Exporter::new(almost).is_ok());
}

#[test]
fn the_same_evidence_twice_is_refused() {
    let (mut side, mut connection, mut tenant, ..) = running(&fixture::named());
    tenant
        .session
        .reattest([1; 32], tenant.now)
        .expect("it may be asked again");
    let up = tenant.serve(&[]).expect("honest");
    let down = side.serve(&mut connection, &up).expect("honest");
    assert!(tenant.serve(&down).is_ok());
    // Sent again without a request.
    assert_eq!(code(tenant.serve(&down)), "session.protocol");
    // The first evidence in answer to the second request.
    let (mut side, mut connection, mut tenant, ..) = running(&fixture::named());
    tenant
        .session
        .reattest([1; 32], tenant.now)
        .expect("it may be asked again");
    let up = tenant.serve(&[]).expect("honest");
    let down = side.serve(&mut connection, &up).expect("honest");
    // STARTED is on its way too.
    let length = usize::from(down[0]) | usize::from(down[1]) << 8;
    let text = String::from_utf8_lossy(&down[8..8 + length]).replace(r#""seq":2"#, r#""seq":1"#);
    let first = frame_bytes(Kind::Evidence, 0, text.as_bytes());
    assert_eq!(
        tenant.serve(&first).map(|_| ()),
        Err(Refusal::Sequence {
            expected: 2,
            found: 1
        })
    );
    assert_eq!(tenant.session.finish(), Err(Refusal::Truncated));
}

#[test]
fn another_keep_does_not_pass_for_the_earlier_one() {
    let (mut side, connection, tenant, _, digest) = running(&fixture::named());
    let mut identity = *tenant.session.identity();
    side.keep.disconnect(connection, side.now);
    // The same contract launched twice: REPORT_ID is another one.
    identity.report_id = Some([2; 32]);
    let again = reattach(&mut side, digest, 2, identity, Streams::default());
    assert_eq!(code(again.map(|_| ())), "session.continuity");
    side.keep = {
        let KeepSide { keep, .. } = running(&fixture::named()).0;
        keep
    };
    identity.report_id = Some([1; 32]);
    identity.keep = fixture::key(OTHER_KEEP);
    let again = reattach(&mut side, digest, 3, identity, Streams::default());
    assert_eq!(code(again.map(|_| ())), "session.continuity");
}

#[test]
fn a_keep_ends_instead_of_attesting_for_another_contract() {
    let contract = fixture::open();
    let fault = |contract: &Contract, change: fn(&mut Report)| {
        let own = fixture::own(contract);
        let mut keep = Keep::new(contract.clone(), fixture::key(KEEP), own, Moment(0));
        let mut connection = keep
            .connect(fixture::key(TENANT), fixture::exporter(1), Moment(0))
            .expect("an open contract");
        let attest = attest(contract, TENANT, 1, Wanted::Fresh, None)
            .outgoing()
            .to_vec();
        let event = connection.receive(&mut keep, &mut attest.as_slice(), Moment(0));
        let Ok(Some(Event::Attest(data))) = event else {
            panic!("{event:?}");
        };
        let mut report = fixture::report(contract, data, 1);
        change(&mut report);
        let result = connection.evidence(&mut keep, Some(report.as_bytes()), Moment(0));
        assert!(result.is_ok() != connection.outgoing(&mut keep, Moment(0)).is_empty());
        result
    };
    assert_eq!(fault(&contract, |_| {}), Ok(()));
    assert_eq!(
        fault(&contract, |r| r.report_data[0] ^= 1),
        Err(Fault::Report)
    );
    for (expected, change) in [
        (
            "contract.host-data",
            (|r| r.host_data[0] ^= 1) as fn(&mut Report),
        ),
        ("contract.terms", |r| r.measurement[0] ^= 1),
        ("contract.terms", |r| r.policy.set(0xB_0000)),
        ("contract.terms", |r| r.vmpl.set(3)),
    ] {
        let Err(Fault::Contract(error)) = fault(&contract, change) else {
            panic!("{expected}");
        };
        assert_eq!(error.code(), expected);
    }
}

#[test]
fn a_keep_answers_only_its_tenant() {
    let mut side = KeepSide::new(fixture::named());
    assert_eq!(
        code(side.connect(OTHER_TENANT, 1).map(|_| ())),
        "session.tenant"
    );
    assert!(!side.keep.admits(&fixture::key(OTHER_TENANT)));
    let connection = side.connect(TENANT, 2).expect("the tenant");
    let _second = side.connect(TENANT, 3).expect("the tenant");
    assert_eq!(code(side.connect(TENANT, 4).map(|_| ())), "session.full");
    side.keep.disconnect(connection, side.now);
    assert!(side.connect(TENANT, 5).is_ok());
}

#[test]
fn handshakes_and_reports_have_a_rate() {
    let mut side = KeepSide::new(fixture::named());
    let allowed = (0..20)
        .filter(|_| side.keep.may_start_handshake(Moment(0)))
        .count();
    assert_eq!(allowed, 10);
    assert!(
        !side.keep.may_start_handshake(Moment(5999)) && side.keep.may_start_handshake(Moment(6000))
    );
    for number in 1..=4 {
        let (connection, _) =
            judged(&mut side, TENANT, number, Wanted::Fresh, None).expect("within the burst");
        side.keep.disconnect(connection, side.now);
    }
    // Another connection does not have another burst.
    let busy = judged(&mut side, TENANT, 9, Wanted::Fresh, None);
    assert_eq!(code(busy.map(|_| ())), "evidence.busy");
}

/// Returns the Keep's answer to a frame at some time, as its tenant receives it.
fn answer(
    side: &mut KeepSide,
    connection: &mut enarx_session::keep::Connection,
    bytes: &[u8],
) -> String {
    let refusal = side.serve(connection, bytes).expect_err("it was taken");
    let out = connection.outgoing(&mut side.keep, side.now).to_vec();
    let text = String::from_utf8_lossy(&out).into_owned();
    assert!(
        text.contains(&format!(r#""code":"{}""#, refusal.code())),
        "{text}"
    );
    connection.sent(out.len());
    assert!(connection.is_closed());
    // Nothing is accepted any more.
    assert!(
        side.serve(connection, bytes)
            .is_ok_and(|out| out.is_empty())
    );
    refusal.code().to_owned()
}

#[test]
fn a_keep_refuses_frames_before_their_time() {
    let contract = fixture::named();
    let digest = Hex([1; 32]);
    let announcement = format!(r#"{{"digest":"{digest}","size":2}}"#);
    let frames: [(&str, Kind, u8, &[u8]); 9] = [
        ("RELEASE", Kind::Release, 0, announcement.as_bytes()),
        ("BLOB", Kind::Blob, 0, announcement.as_bytes()),
        ("START", Kind::Start, 0, b""),
        ("stdin", Kind::Data, 1, b"x"),
        ("delivery", Kind::Data, 8, b"x"),
        ("END", Kind::End, 1, b""),
        ("ATTACH", Kind::Attach, 0, br#"{"stdout":0,"stderr":0}"#),
        ("STOP", Kind::Stop, 0, br#"{"grace_ms":0}"#),
        ("CREDIT", Kind::Credit, 2, &[1, 0, 0, 0]),
    ];
    for (name, kind, stream, payload) in frames {
        let mut side = KeepSide::new(contract.clone());
        let mut connection = side.connect(TENANT, 1).expect("the tenant");
        let bytes = frame_bytes(kind, stream, payload);
        assert_eq!(
            answer(&mut side, &mut connection, &bytes),
            "session.protocol",
            "{name}"
        );
    }
    // After evidence: RELEASE begins, the others still refer to nothing.
    for (name, kind, stream, payload) in &frames[1..] {
        let mut side = KeepSide::new(contract.clone());
        let (mut connection, _) =
            judged(&mut side, TENANT, 1, Wanted::Fresh, None).expect("honest");
        let bytes = frame_bytes(*kind, *stream, payload);
        let expected = match kind {
            Kind::Attach | Kind::Stop => "attach.state",
            _ => "session.protocol",
        };
        assert_eq!(
            answer(&mut side, &mut connection, &bytes),
            expected,
            "{name}"
        );
    }
    // Between ATTEST and its answer: no second ATTEST, and no RELEASE for missing evidence.
    for bytes in [
        attest_bytes(1, 2),
        frame_bytes(Kind::Release, 0, announcement.as_bytes()),
    ] {
        let own = fixture::own(&contract);
        let mut keep = Keep::new(contract.clone(), fixture::key(KEEP), own, Moment(0));
        let mut connection = keep
            .connect(fixture::key(TENANT), fixture::exporter(1), Moment(0))
            .expect("the tenant");
        let first = attest_bytes(1, 1);
        let event = connection.receive(&mut keep, &mut first.as_slice(), Moment(0));
        assert!(matches!(event, Ok(Some(Event::Attest(_)))));
        let refused = connection.receive(&mut keep, &mut bytes.as_slice(), Moment(0));
        assert_eq!(code(refused.map(|_| ())), "session.protocol");
    }
    for (expected, bytes) in [
        ("session.version", attest_bytes(2, 1)),
        ("evidence.sequence", attest_bytes(1, 0)),
        ("evidence.sequence", attest_bytes(1, 2)),
    ] {
        let mut side = KeepSide::new(contract.clone());
        let mut connection = side.connect(TENANT, 1).expect("the tenant");
        assert_eq!(answer(&mut side, &mut connection, &bytes), expected);
    }
}

fn attest_bytes(version: u32, seq: u64) -> Vec<u8> {
    let nonce = Hex([1; 32]);
    let text = format!(r#"{{"version":{version},"seq":{seq},"nonce":"{nonce}"}}"#);
    frame_bytes(Kind::Attest, 0, text.as_bytes())
}

#[test]
fn headers_that_no_end_may_send_are_refused_before_their_payload() {
    let contract = fixture::named();
    for header in [
        // 4 GiB, one byte too many, one too few, an unknown kind, padding, another stream, a frame of the Keep's.
        [255, 255, 255, 255, Kind::Attest as u8, 0, 0, 0],
        [1, 1, 0, 0, Kind::Attest as u8, 0, 0, 0],
        [1, 0, 0, 0, Kind::Attest as u8, 0, 0, 0],
        [2, 0, 0, 0, 0x40, 0, 0, 0],
        [2, 0, 0, 0, Kind::Attest as u8, 0, 1, 0],
        [2, 0, 0, 0, Kind::Attest as u8, 0, 0, 1],
        [2, 0, 0, 0, Kind::Attest as u8, 1, 0, 0],
        [1, 0, 0, 0, Kind::Data as u8, 2, 0, 0],
        [1, 0, 1, 0, Kind::Data as u8, 1, 0, 0],
        [0, 0, 0, 0, Kind::Data as u8, 1, 0, 0],
        [2, 0, 0, 0, Kind::Evidence as u8, 0, 0, 0],
    ] {
        let mut side = KeepSide::new(contract.clone());
        let mut connection = side.connect(TENANT, 1).expect("the tenant");
        assert_eq!(
            answer(&mut side, &mut connection, &header),
            "session.protocol",
            "{header:?}"
        );
    }
}

/// Delivers an honest tenant's bytes, changed by `change`, and returns the Keep's answer.
fn deliver(
    change: impl Fn(&mut Deployment),
    frames: impl Fn(&Deployment) -> Vec<Vec<u8>>,
) -> String {
    let contract = fixture::named();
    let mut side = KeepSide::new(contract.clone());
    let (mut connection, _) = judged(&mut side, TENANT, 1, Wanted::Fresh, None).expect("honest");
    let (mut deployment, _) = fixture::deployment(&contract, b"application");
    change(&mut deployment);
    // Not with `encode`, which would refuse.
    let document = serde_json::to_vec(&deployment).expect("it is JSON");
    let mut bytes = announce(
        Kind::Release,
        Sha256::digest(&document).into(),
        document.len(),
    );
    for chunk in document.chunks(10_000) {
        bytes.extend(frame_bytes(Kind::Data, 8, chunk));
    }
    bytes.extend(frame_bytes(Kind::End, 8, b""));
    for frame in frames(&deployment) {
        bytes.extend(frame);
    }
    let result = side.serve(&mut connection, &bytes);
    assert!(!side.started);
    code(result)
}

fn announce(kind: Kind, digest: [u8; 32], size: usize) -> Vec<u8> {
    let text = format!(r#"{{"digest":"{}","size":{size}}}"#, Hex(digest));
    frame_bytes(kind, 0, text.as_bytes())
}

#[test]
fn invalid_deployments_are_refused() {
    let none = |_: &Deployment| Vec::new();
    assert_eq!(deliver(|_| {}, none), "accepted");
    for (expected, change) in [
        (
            "release.version",
            (|d| d.version = 2) as fn(&mut Deployment),
        ),
        ("release.contract", |d| d.contract.0[0] ^= 1),
        ("contract.times", |d| d.now = 0),
        ("contract.times", |d| d.detached.seconds = 601),
        ("release.value", |d| d.application.size = 0),
        ("release.value", |d| d.application.size = (512 << 20) + 1),
        ("release.value", |d| d.configuration.size = (4 << 20) + 1),
        ("release.value", |d| d.files[0].size = (256 << 20) + 1),
        ("release.value", |d| {
            d.files[0].path = "../etc/passwd".to_owned();
        }),
        ("release.value", |d| {
            d.files[0].path = "/etc/passwd".to_owned();
        }),
        ("release.value", |d| d.files.swap(0, 1)),
        ("release.value", |d| {
            d.files[1].path = d.files[0].path.clone();
        }),
        ("release.value", |d| {
            d.files[1].path = d.files[0].path.clone() + "/b";
        }),
        ("release.value", |d| d.secrets[0].name = "A=B".to_owned()),
        ("release.value", |d| d.secrets[1].name = "../key".to_owned()),
        ("release.value", |d| d.secrets.swap(0, 1)),
        ("release.value", |d| d.secrets[0].size = (64 << 10) + 1),
        ("release.value", |d| {
            d.secrets = vec![d.secrets[0].clone(); 65];
        }),
        ("release.value", |d| {
            d.detached.buffer_bytes = WINDOW - 1;
        }),
        ("release.value", |d| {
            d.detached.buffer_bytes = (16 << 20) + 1;
        }),
    ] {
        assert_eq!(deliver(change, none), expected);
    }
    // The sum of sizes does not wrap.
    let wraps = |d: &mut Deployment| {
        d.files[0].size = (1 << 53) - 1;
        d.files[1].size = (1 << 53) - 1;
    };
    assert_eq!(deliver(wraps, none), "release.value");
}

#[test]
fn deliveries_that_differ_from_their_digests_are_refused() {
    let application = || Sha256::digest(b"application").into();
    let end = || frame_bytes(Kind::End, 8, b"");
    let data = |bytes: &[u8]| frame_bytes(Kind::Data, 8, bytes);
    for (expected, frames) in [
        (
            "release.digest",
            vec![
                announce(Kind::Blob, application(), 11),
                data(b"APPLICATION"),
                end(),
            ],
        ),
        (
            "session.protocol",
            vec![announce(Kind::Blob, application(), 12)],
        ),
        ("session.protocol", vec![announce(Kind::Blob, [0; 32], 11)]),
        (
            "session.protocol",
            vec![announce(Kind::Blob, application(), 11), data(b"app"), end()],
        ),
        (
            "session.protocol",
            vec![
                announce(Kind::Blob, application(), 11),
                data(b"applications"),
            ],
        ),
        (
            "session.protocol",
            vec![announce(Kind::Blob, application(), 11), end()],
        ),
        (
            "session.protocol",
            vec![
                announce(Kind::Blob, application(), 11),
                announce(Kind::Blob, application(), 11),
            ],
        ),
        ("session.protocol", vec![data(b"x")]),
        ("session.protocol", vec![end()]),
        ("session.protocol", vec![frame_bytes(Kind::Start, 0, b"")]),
        (
            "session.protocol",
            vec![
                announce(Kind::Blob, application(), 11),
                data(b"application"),
                end(),
                frame_bytes(Kind::Start, 0, b""),
            ],
        ),
        // A file before the configuration.
        (
            "session.protocol",
            vec![
                announce(Kind::Blob, application(), 11),
                data(b"application"),
                end(),
                announce(Kind::Blob, Sha256::digest(b"page").into(), 4),
            ],
        ),
        (
            "session.protocol",
            vec![announce(Kind::Release, application(), 11)],
        ),
        ("session.protocol", vec![frame_bytes(Kind::Data, 1, b"x")]),
    ] {
        assert_eq!(deliver(|_| {}, |_| frames.clone()), expected, "{frames:?}");
    }
    // More than the credit, although less than was announced.
    let flood: Vec<Vec<u8>> = std::iter::once(announce(Kind::Release, [0; 32], 2 << 20))
        .chain((0..=WINDOW >> 16).map(|_| data(&vec![0; 64 << 10])))
        .collect();
    let mut side = KeepSide::new(fixture::named());
    let (mut connection, _) = judged(&mut side, TENANT, 1, Wanted::Fresh, None).expect("honest");
    assert_eq!(
        answer(&mut side, &mut connection, &flood.concat()),
        "session.protocol"
    );
}

#[test]
fn a_wrong_deployment_digest_is_detected() {
    let mut side = KeepSide::new(fixture::named());
    let (mut connection, _) = judged(&mut side, TENANT, 1, Wanted::Fresh, None).expect("honest");
    let bytes = [
        announce(Kind::Release, [0; 32], 2),
        frame_bytes(Kind::Data, 8, b"{}"),
        frame_bytes(Kind::End, 8, b""),
    ];
    assert_eq!(
        answer(&mut side, &mut connection, &bytes.concat()),
        "release.digest"
    );
    side.keep.disconnect(connection, side.now);
    let (mut connection, _) = judged(&mut side, TENANT, 2, Wanted::Fresh, None).expect("honest");
    let bytes = [
        announce(Kind::Release, Sha256::digest(b"{}").into(), 2),
        frame_bytes(Kind::Data, 8, b"{}"),
        frame_bytes(Kind::End, 8, b""),
    ];
    assert_eq!(
        answer(&mut side, &mut connection, &bytes.concat()),
        "release.form"
    );
    side.keep.disconnect(connection, side.now);
    let (mut connection, _) = judged(&mut side, TENANT, 3, Wanted::Fresh, None).expect("honest");
    let bytes = announce(Kind::Release, [0; 32], (1 << 20) + 1);
    assert_eq!(
        answer(&mut side, &mut connection, &bytes),
        "session.protocol"
    );
}

#[test]
fn two_tenants_of_an_open_keep_do_not_meet() {
    let contract = fixture::open();
    let mut side = KeepSide::new(contract.clone());
    let (mut first, mut winner) = judged(&mut side, TENANT, 1, Wanted::Fresh, None).expect("free");
    let (mut second, mut loser) =
        judged(&mut side, OTHER_TENANT, 2, Wanted::Fresh, None).expect("free");
    let (deployment, values) = fixture::deployment(&contract, b"first");
    winner.release(&deployment, values);
    // Its RELEASE by itself makes it the owner.
    let up = winner.serve(&[]).expect("honest");
    side.serve(&mut first, &up[..100]).expect("honest");
    let (deployment, values) = fixture::deployment(&contract, b"second");
    loser.release(&deployment, values);
    let up_of_loser = loser.serve(&[]).expect("honest");
    assert_eq!(
        answer(&mut side, &mut second, &up_of_loser),
        "release.taken"
    );
    side.serve(&mut first, &up[100..]).expect("honest");
    pump(&mut side, &mut first, &mut winner).expect("honest");
    assert_eq!(side.delivered[0], b"first");
    side.keep.disconnect(second, side.now);
    assert_eq!(
        code(side.connect(OTHER_TENANT, 3).map(|_| ())),
        "session.tenant"
    );
}

#[test]
fn nothing_is_released_to_a_keep_twice() {
    let (mut side, connection, tenant, deployment, digest) = running(&fixture::named());
    let identity = *tenant.session.identity();
    let (mut second, mut again) = judged(
        &mut side,
        TENANT,
        2,
        Wanted::Running(digest),
        Some(identity),
    )
    .expect("it runs");
    assert_eq!(
        code(again.session.release(&deployment, again.now)),
        "evidence.state"
    );
    let bytes = announce(Kind::Release, [0; 32], 100);
    assert_eq!(answer(&mut side, &mut second, &bytes), "release.taken");
    drop(connection);
    // Nor attached to one that runs nothing.
    let mut side = KeepSide::new(fixture::named());
    let (_connection, mut tenant) =
        judged(&mut side, TENANT, 1, Wanted::Fresh, None).expect("free");
    assert_eq!(
        code(tenant.session.attach(Streams::default(), tenant.now)),
        "evidence.state"
    );
    assert_eq!(code(tenant.session.stop(0)), "attach.state");
    // Nor by an end whose deployment is for another contract.
    let (deployment, _) = fixture::deployment(&fixture::open(), b"a");
    assert_eq!(
        code(tenant.session.release(&deployment, tenant.now)),
        "release.contract"
    );
    assert!(
        tenant
            .session
            .outgoing(tenant.now)
            .is_ok_and(<[u8]>::is_empty)
    );
}

#[test]
fn streams_are_held_to_their_credit_on_both_ends() {
    // Standard input beyond its credit.
    let (mut side, mut connection, ..) = running(&fixture::named());
    let flood: Vec<u8> = (0..=WINDOW >> 16)
        .flat_map(|_| frame_bytes(Kind::Data, 1, &vec![0; 64 << 10]))
        .collect();
    assert_eq!(
        answer(&mut side, &mut connection, &flood),
        "session.protocol"
    );
    // Acknowledging bytes that were not sent, nothing, or too much.
    for count in [0u32, 6, u32::MAX] {
        let (mut side, mut connection, mut tenant, ..) = running(&fixture::named());
        side.keep.write(Output::Stdout, b"12345");
        pump(&mut side, &mut connection, &mut tenant).expect("honest");
        let bytes = frame_bytes(Kind::Credit, 2, &count.to_le_bytes());
        assert_eq!(
            answer(&mut side, &mut connection, &bytes),
            "session.protocol",
            "{count}"
        );
    }
    // The same from a Keep.
    for bytes in [
        (0..=WINDOW >> 16)
            .flat_map(|_| frame_bytes(Kind::Data, 2, &vec![0; 64 << 10]))
            .collect(),
        frame_bytes(Kind::Credit, 1, &1u32.to_le_bytes()),
        frame_bytes(Kind::Credit, 1, &0u32.to_le_bytes()),
        frame_bytes(Kind::Credit, 0, &1u32.to_le_bytes()),
        [
            frame_bytes(Kind::End, 2, b""),
            frame_bytes(Kind::End, 2, b""),
        ]
        .concat(),
        [
            frame_bytes(Kind::End, 2, b""),
            frame_bytes(Kind::Data, 2, b"x"),
        ]
        .concat(),
        frame_bytes(Kind::Exit, 0, br#"{"kind":"exited","code":0}"#),
        frame_bytes(Kind::Bye, 0, br#"{"receipt":null}"#),
        frame_bytes(
            Kind::Attached,
            0,
            br#"{"stdin":0,"stdin_ended":false,"credit":1048576,"stdout":0,"stderr":0}"#,
        ),
    ] {
        let (_side, _connection, mut tenant, ..) = running(&fixture::named());
        assert_eq!(code(tenant.serve(&bytes)), "session.protocol");
        assert_eq!(tenant.session.finish(), Err(Refusal::Truncated));
    }
}

#[test]
fn impossible_offsets_are_refused_on_both_ends() {
    let (mut side, mut connection, mut tenant, _, digest) = running(&fixture::named());
    side.keep.write(Output::Stdout, b"12345");
    pump(&mut side, &mut connection, &mut tenant).expect("honest");
    let identity = *tenant.session.identity();
    let (mut second, mut liar) = judged(
        &mut side,
        TENANT,
        2,
        Wanted::Running(digest),
        Some(identity),
    )
    .expect("it runs");
    liar.session
        .attach(Streams::after(6, 0), liar.now)
        .expect("the Keep has to say");
    let up = liar.serve(&[]).expect("its own");
    assert_eq!(answer(&mut side, &mut second, &up), "attach.offset");
    // The refusal changed nothing for the connection that has the streams.
    side.keep.write(Output::Stdout, b"67890");
    pump(&mut side, &mut connection, &mut tenant).expect("honest");
    assert_eq!(tenant.stdout, b"1234567890");
    side.keep.disconnect(second, side.now);
    // A Keep that goes back, claims input that was never sent, or gives more credit than there is.
    let mut number = 2;
    for attached in [
        r#"{"stdin":0,"stdin_ended":false,"credit":1048576,"stdout":9,"stderr":0}"#,
        r#"{"stdin":0,"stdin_ended":false,"credit":262145,"stdout":10,"stderr":0}"#,
        r#"{"stdin":0,"stdin_ended":false,"credit":1,"stdout":10,"stderr":0}"#,
    ] {
        number += 1;
        side.now = side.now.after(10_000);
        let (second, mut tenant) = judged(
            &mut side,
            TENANT,
            number,
            Wanted::Running(digest),
            Some(identity),
        )
        .expect("it runs");
        tenant
            .session
            .attach(Streams::after(10, 0), tenant.now)
            .expect("it runs");
        tenant.serve(&[]).expect("its own");
        let bytes = frame_bytes(Kind::Attached, 0, attached.as_bytes());
        assert_eq!(
            code(tenant.serve(&bytes)),
            "session.continuity",
            "{attached}"
        );
        side.keep.disconnect(second, side.now);
    }
}

#[test]
fn a_keep_cannot_claim_input_that_was_never_sent() {
    let (mut side, connection, tenant, _, digest) = running(&fixture::named());
    let identity = *tenant.session.identity();
    side.keep.disconnect(connection, side.now);
    let streams = tenant.session.into_streams();
    let (_second, mut tenant) = judged(
        &mut side,
        TENANT,
        2,
        Wanted::Running(digest),
        Some(identity),
    )
    .expect("it runs");
    tenant.session.attach(streams, tenant.now).expect("it runs");
    let attached = r#"{"stdin":1,"stdin_ended":false,"credit":1048576,"stdout":0,"stderr":0}"#;
    let bytes = frame_bytes(Kind::Attached, 0, attached.as_bytes());
    assert_eq!(code(tenant.serve(&bytes)), "session.continuity");
}

#[test]
fn another_program_continues_standard_input() {
    let (mut side, mut connection, mut tenant, _, digest) = running(&fixture::named());
    let identity = *tenant.session.identity();
    tenant.session.stdin(b"first ", tenant.now);
    pump(&mut side, &mut connection, &mut tenant).expect("honest");
    side.keep.disconnect(connection, side.now);
    let (mut second, mut other) =
        reattach(&mut side, digest, 2, identity, Streams::after(0, 0)).expect("it runs");
    assert_eq!(other.session.stdin(b"second", other.now), 6);
    other.session.end_stdin();
    pump(&mut side, &mut second, &mut other).expect("honest");
    side.keep.disconnect(second, side.now);
    // A third finds that it has ended, and learns this instead of being refused.
    let (mut third, mut last) =
        reattach(&mut side, digest, 3, identity, Streams::after(0, 0)).expect("it runs");
    assert_eq!(last.session.stdin(b"third", last.now), 0);
    pump(&mut side, &mut third, &mut last).expect("honest");
    let mut buffer = [0; 32];
    assert_eq!(side.keep.read_stdin(&mut buffer), Some(12));
    assert_eq!(&buffer[..12], b"first second");
    assert_eq!(side.keep.read_stdin(&mut buffer), Some(0));
}

/// A change that turns a receipt into another.
type Change = fn(&mut Receipt);

#[test]
fn receipts_of_other_sessions_are_refused() {
    let contract = fixture::named();
    let (mut side, mut connection, mut tenant, ..) = running(&contract);
    side.keep.write(Output::Stdout, b"answer");
    side.exit(ExitKind::Exited, 0);
    let down = side.serve(&mut connection, &[]).expect("honest");
    let at = down
        .windows(8)
        .rposition(|header| header[4..] == [Kind::Receipt as u8, 0, 0, 0]);
    let (before, receipt) = down.split_at(at.expect("the receipt is there"));
    let good = Receipt::decode(&receipt[8..]).expect("honest");
    tenant.serve(before).expect("honest");
    // The host lacks the Keep's key, so each change needs another signature: with its own key, or the old one.
    let changes: [(&str, Change); 10] = [
        ("receipt.signature", |r| r.signature.0[0] ^= 1),
        ("receipt.signature", |r| r.body.exit.code = 1),
        ("receipt.contract", |r| r.body.contract.0[0] ^= 1),
        ("receipt.deployment", |r| r.body.deployment.0[0] ^= 1),
        ("receipt.report-id", |r| {
            r.body.report_id = Some(Hex([9; 32]));
        }),
        ("receipt.tenant-key", |r| {
            r.body.tenant_key = fixture::key(OTHER_TENANT);
        }),
        ("receipt.exit", |r| r.body.exit.code = 1),
        ("receipt.streams", |r| r.body.streams.stdout.bytes = 5),
        ("receipt.streams", |r| {
            r.body.streams.stdout.sha256.0[0] ^= 1;
        }),
        ("receipt.version", |r| r.body.version = 2),
    ];
    for (index, (expected, change)) in changes.into_iter().enumerate() {
        let mut receipt = good.clone();
        change(&mut receipt);
        // From the third on, as a Keep that lies would do it: signed with its key.
        if index >= 2 {
            let input = receipt.body.signing_input().expect("short");
            receipt.signature = fixture::sign(KEEP, &input);
        }
        let result = fresh_end(&receipt);
        assert_eq!(result, expected);
    }
    let mut other = good.clone();
    other.body.keep_key = fixture::key(OTHER_KEEP);
    other.signature = fixture::sign(OTHER_KEEP, &other.body.signing_input().expect("short"));
    assert_eq!(fresh_end(&other), "receipt.keep-key");
    // By itself, years later.
    let claims = Claims::default();
    assert_eq!(code(good.verify(&Marks, &claims)), "accepted");
    // An invented key signs its own receipt; the report is over another key.
    assert_eq!(code(other.verify(&Marks, &claims)), "guest.report-data");
    let without = Receipt {
        report: None,
        ..good.clone()
    };
    assert_eq!(
        code(without.verify(&Marks, &claims)),
        "receipt.report-missing"
    );
    let open = fixture::open();
    for (expected, claims) in [
        (
            "receipt.contract",
            Claims {
                contract: Some(&open),
                ..claims
            },
        ),
        (
            "receipt.application",
            Claims {
                application: Some(&[0; 32]),
                ..claims
            },
        ),
        (
            "receipt.deployment",
            Claims {
                deployment: Some(&[0; 32]),
                ..claims
            },
        ),
        (
            "receipt.tenant-key",
            Claims {
                tenant: Some(&fixture::key(OTHER_TENANT)),
                ..claims
            },
        ),
    ] {
        assert_eq!(code(good.verify(&Marks, &claims)), expected);
    }
    for name in ["guest.report-data", "guest.host-data", "guest.measurement"] {
        let skips = FixedVerifier(name, Compared::Skipped);
        assert_eq!(code(good.verify(&skips, &claims)), "evidence.unchecked");
    }
    // A report of a session does not count for a receipt, nor one over a receipt for a session.
    let mut mixed = good.clone();
    let data = report_data(&contract, &fixture::channel(TENANT, 1), 1);
    mixed.report = Some(enarx_contract::canonical::Base64(fixture::report_bytes(
        &contract, data, 1,
    )));
    assert_eq!(code(mixed.verify(&Marks, &claims)), "guest.report-data");
    let mut launch = good.clone();
    let data = good.body.report_data().expect("short");
    launch.report = Some(enarx_contract::canonical::Base64(fixture::report_bytes(
        &contract, data, 2,
    )));
    assert_eq!(code(launch.verify(&Marks, &claims)), "receipt.report-id");
}

/// A host launches one open contract twice. Somebody who knows the deployment and all its parts releases them to the
/// other Keep, with other standard input: the receipt is true, and names the Keep that it belongs to.
#[test]
fn a_receipt_of_an_open_contract_names_its_tenant() {
    let contract = fixture::open();
    let (deployment, values) = fixture::deployment(&contract, b"application");
    let digest: [u8; 32] = Sha256::digest(deployment.encode().expect("it is legal")).into();
    let run = |by: u8| {
        let mut side = KeepSide::new(contract.clone());
        let (mut connection, mut tenant) =
            judged(&mut side, by, 1, Wanted::Fresh, None).expect("free");
        tenant.release(&deployment, values.clone());
        pump(&mut side, &mut connection, &mut tenant).expect("honest");
        side.start();
        side.exit(ExitKind::Exited, 0);
        pump(&mut side, &mut connection, &mut tenant).expect("honest");
        tenant.session.bye();
        pump(&mut side, &mut connection, &mut tenant).expect("honest");
        match tenant.session.finish() {
            Ok(Outcome::Complete(receipt)) => *receipt,
            other => panic!("{other:?}"),
        }
    };
    let claims = Claims {
        contract: Some(&contract),
        deployment: Some(&digest),
        ..Claims::default()
    };
    let own = fixture::key(TENANT);
    let of_tenant = Claims {
        tenant: Some(&own),
        ..claims
    };
    for (by, expected) in [(TENANT, "accepted"), (OTHER_TENANT, "receipt.tenant-key")] {
        let receipt = run(by);
        assert_eq!(receipt.body.tenant_key, fixture::key(by));
        assert_eq!(code(receipt.verify(&Marks, &claims)), "accepted");
        assert_eq!(code(receipt.verify(&Marks, &of_tenant)), expected);
    }
}

/// Returns a tenant's answer to this receipt, just after its application has ended.
fn fresh_end(receipt: &Receipt) -> String {
    let (mut side, mut connection, mut tenant, ..) = running(&fixture::named());
    side.keep.write(Output::Stdout, b"answer");
    side.exit(ExitKind::Exited, 0);
    let down = side.serve(&mut connection, &[]).expect("honest");
    let at = down
        .windows(8)
        .rposition(|header| header[4..] == [Kind::Receipt as u8, 0, 0, 0]);
    tenant
        .serve(&down[..at.expect("it is there")])
        .expect("honest");
    let bytes = serde_json::to_vec(receipt).expect("it is JSON");
    let result = tenant.serve(&frame_bytes(Kind::Receipt, 0, &bytes));
    assert_eq!(tenant.session.finish(), Err(Refusal::Truncated));
    code(result)
}

#[test]
fn a_goodbye_for_an_unsent_receipt_does_not_end_the_keep() {
    let (mut side, mut connection, ..) = running(&fixture::named());
    let text = format!(r#"{{"receipt":"{}"}}"#, Hex([0; 32]));
    let bytes = frame_bytes(Kind::Bye, 0, text.as_bytes());
    assert_eq!(
        answer(&mut side, &mut connection, &bytes),
        "session.protocol"
    );
    assert!(!side.keep.is_finished());
    // A goodbye that crosses the receipt on its way is one to a Keep that continues.
    let (mut side, mut connection, mut tenant, _, digest) = running(&fixture::named());
    let identity = *tenant.session.identity();
    tenant.session.bye();
    let up = tenant.serve(&[]).expect("honest");
    side.exit(ExitKind::Exited, 0);
    side.serve(&mut connection, &[]).expect("honest");
    side.serve(&mut connection, &up).expect("honest");
    assert!(!side.keep.is_finished(), "nobody has the receipt");
    side.keep.disconnect(connection, side.now);
    let (_, again) =
        reattach(&mut side, digest, 2, identity, Streams::default()).expect("it waits");
    assert!(again.receipt);
}

#[test]
fn a_part_that_changes_while_it_is_sent_is_not_completed() {
    let contract = fixture::named();
    let mut side = KeepSide::new(contract.clone());
    let (_connection, mut tenant) =
        judged(&mut side, TENANT, 1, Wanted::Fresh, None).expect("free");
    let (deployment, _) = fixture::deployment(&contract, b"application");
    tenant
        .session
        .release(&deployment, tenant.now)
        .expect("free");
    loop {
        let count = tenant.session.outgoing(tenant.now).expect("honest").len();
        if count == 0 {
            break;
        }
        tenant.session.sent(count);
    }
    assert_eq!(
        code(tenant.session.supply(b"APPLICATION", tenant.now)),
        "release.digest"
    );
    assert_eq!(tenant.session.finish(), Err(Refusal::Truncated));
}

#[test]
fn a_commitment_tells_names_from_values() {
    let salt = [1; 32];
    assert_ne!(commitment(&salt, "AB", b"C"), commitment(&salt, "A", b"BC"));
    assert_ne!(
        commitment(&salt, "A", b"B"),
        commitment(&[2; 32], "A", b"B")
    );
}

#[test]
fn names_of_refusals_and_words_of_peers_are_safe_to_print() {
    let hostile = "\u{1b}[2J\u{202e}x";
    for refusal in [
        Refusal::Protocol(hostile.to_owned()),
        Refusal::Evidence(vec![hostile.to_owned()]),
        Refusal::Release(Unfit::Configuration(hostile.to_owned())),
        Refusal::Contract(ContractError::Doors {
            wanted: hostile.to_owned(),
        }),
        Refusal::Deployment(DeploymentError::Version(2)),
        Refusal::State(State::Provisioned),
    ] {
        let refused = enarx_session::document::Refused::new(&refusal);
        let text = serde_json::to_string(&refused).expect("it is JSON");
        assert!(
            text.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{text}"
        );
        // And can be read by the other end.
        let again = enarx_session::document::decode(Kind::Refused, text.as_bytes());
        assert_eq!(again, Ok(refused));
    }
    let bytes = frame_bytes(
        Kind::Refused,
        0,
        "{\"code\":\"x\",\"sentence\":\"\u{7f}\",\"expected\":null,\"actual\":null}".as_bytes(),
    );
    let mut session = attest(&fixture::named(), TENANT, 1, Wanted::Fresh, None);
    assert_eq!(
        code(session.receive(&mut bytes.as_slice())),
        "session.protocol"
    );
    let bytes = frame_bytes(
        Kind::Refused,
        0,
        br#"{"code":"release.taken","sentence":"no","expected":null,"actual":null}"#,
    );
    let mut session = attest(&fixture::named(), TENANT, 1, Wanted::Fresh, None);
    let refusal = session
        .receive(&mut bytes.as_slice())
        .expect_err("the Keep refuses");
    assert!(refusal.is_claimed_by_peer());
    assert_eq!(refusal.code(), "release.taken");
}

#[test]
fn output_is_not_dropped_while_a_session_can_read_it() {
    let contract = fixture::named();
    let mut side = KeepSide::new(contract.clone());
    let (mut connection, mut tenant) =
        judged(&mut side, TENANT, 1, Wanted::Fresh, None).expect("free");
    let (mut deployment, values) = fixture::smallest(&contract, b"a");
    deployment.detached.when_full = WhenFull::Drop;
    tenant.release(&deployment, values);
    pump(&mut side, &mut connection, &mut tenant).expect("honest");
    tenant.consumes = false;
    let flood = vec![0; 1 << 20];
    assert_eq!(side.keep.write(Output::Stdout, &flood), WINDOW as usize);
    pump(&mut side, &mut connection, &mut tenant).expect("honest");
    assert_eq!(side.keep.write(Output::Stdout, &flood), 0, "it waits");
    assert_eq!(tenant.stdout.len(), WINDOW as usize);
    side.keep.disconnect(connection, side.now);
    assert_eq!(
        side.keep.write(Output::Stdout, &flood),
        WINDOW as usize,
        "nobody is there"
    );
}

#[test]
fn genuine_and_simulated_tees_are_distinguished() {
    // The simulated platform is a separate TEE in the contract: a genuine Keep does not serve such a contract, nor the
    // other way round, whatever the report looks like.
    let contract = fixture::open();
    let mut own = fixture::own(&contract);
    own.tee = Tee::Snp;
    let report = fixture::report(&contract, [0; 64], 1);
    let refused = contract.check_keep(&own, Some(&report));
    assert_eq!(refused.map_err(|error| error.code()), Err("contract.terms"));
}

#[test]
fn the_keys_of_a_contract_are_compared_whole() {
    let key = fixture::key(TENANT);
    let mut spki = *key.spki();
    spki[90] ^= 1;
    let near = PublicKey::from_spki(&spki).expect("the form is right");
    assert!(!Tenant::Named(key).admits(&near));
}

#[test]
fn nothing_follows_a_complete_session() {
    let (mut side, mut connection, mut tenant, ..) = running(&fixture::named());
    side.exit(ExitKind::Exited, 0);
    pump(&mut side, &mut connection, &mut tenant).expect("honest");
    tenant.session.bye();
    pump(&mut side, &mut connection, &mut tenant).expect("honest");
    // The Keep is done; bytes that the host adds are ignored.
    let bytes = frame_bytes(Kind::Data, 2, b"more");
    assert_eq!(
        tenant.session.receive(&mut bytes.as_slice(), tenant.now),
        Ok(None::<tenant::Event<'_>>)
    );
    assert_eq!(tenant.session.stdin(b"x", tenant.now), 0);
    assert_eq!(
        code(tenant.session.reattest([1; 32], tenant.now)),
        "session.truncated"
    );
    assert!(matches!(tenant.session.finish(), Ok(Outcome::Complete(_))));
}
