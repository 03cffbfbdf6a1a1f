// SPDX-License-Identifier: Apache-2.0

//! The session's machines over TLS: from ATTEST to BYE, and with an attacker in between.

use crate::pair::{keep_for, key, open_keep, pump};
use enarx_contract::Contract;
use enarx_session::binding::State;
use enarx_session::deployment::Part;
use enarx_session::document::{Exit, ExitKind, Started};
use enarx_session::keep::{self, Keep, Output};
use enarx_session::tenant::{self, Channel, Outcome, Session, Unjudged, Wanted};
use enarx_session::{Moment, Refusal};
use enarx_session_drivers::fixture::{self, KEEP, Marks, TENANT, Values};
use enarx_tls::{Connection, Facts, Key};

const NOW: Moment = Moment(0);

/// A key pair of the fixture, in PKCS #8 without the public key (RFC 5208, RFC 5915).
fn fixture_key(seed: u8) -> Key {
    let mut der = vec![
        0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02,
        0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25,
        0x02, 0x01, 0x01, 0x04, 0x20,
    ];
    der.extend([seed; 32]);
    let key = Key::from_pkcs8(&der).expect("a scalar of the curve");
    assert_eq!(
        key.public(),
        fixture::key(seed),
        "as RustCrypto computes it"
    );
    key
}

/// A Keep with one session.
struct KeepSide {
    keep: Keep,
    session: keep::Connection,
    delivered: Values,
    started: bool,
}

impl KeepSide {
    fn new(contract: &Contract, facts: &Facts) -> Result<Self, Refusal> {
        let mut keep = Keep::new(contract.clone(), facts.own, fixture::own(contract), NOW);
        let session = keep.connect(facts.peer, facts.exporter.clone(), NOW)?;
        Ok(Self {
            keep,
            session,
            delivered: Vec::new(),
            started: false,
        })
    }

    /// Takes plaintext and returns the bytes to send.
    fn serve(&mut self, mut input: &[u8]) -> Vec<u8> {
        loop {
            let event = self.session.receive(&mut self.keep, &mut input, NOW);
            let report_data = match event.expect("an honest tenant") {
                None => break,
                Some(keep::Event::Attest(data)) => data,
                Some(keep::Event::Part(_, bytes)) => {
                    match self.delivered.last_mut() {
                        Some(last) => last.extend_from_slice(bytes),
                        None => self.delivered.push(bytes.to_vec()),
                    }
                    continue;
                }
                Some(keep::Event::PartComplete(_)) => {
                    self.delivered.push(Vec::new());
                    continue;
                }
                Some(keep::Event::Start(_)) => {
                    self.started = true;
                    continue;
                }
                Some(_) => continue,
            };
            let report = fixture::report_bytes(self.keep.contract(), report_data, 1);
            self.session
                .evidence(&mut self.keep, Some(&report), NOW)
                .expect("a Keep of this contract");
        }
        let mut all = Vec::new();
        loop {
            let bytes = self.session.outgoing(&mut self.keep, NOW).to_vec();
            if bytes.is_empty() {
                return all;
            }
            self.session.sent(bytes.len());
            all.extend(bytes);
        }
    }
}

/// The session of a tenant over its own connection.
fn attest(contract: &Contract, facts: &Facts) -> Session<Unjudged> {
    let channel = Channel {
        keep: facts.peer,
        tenant: facts.own,
        exporter: facts.exporter.clone(),
    };
    Session::attest(contract.clone(), channel, Wanted::Fresh, None, [3; 32], NOW)
}

fn send(end: &mut Connection, bytes: &[u8]) {
    assert_eq!(end.write(bytes), bytes.len(), "less than the limit");
}

#[test]
fn an_application_is_delivered_and_run_and_has_a_receipt() {
    let contract = fixture::named();
    let keep_key = fixture_key(KEEP);
    let mut tenant_tls = Connection::tenant(&fixture_key(TENANT)).unwrap();
    let mut keep_tls = keep_for(&keep_key, fixture::key(TENANT));
    pump(&mut tenant_tls, &mut keep_tls).unwrap();
    let mut side = KeepSide::new(&contract, keep_tls.facts().unwrap()).unwrap();

    let mut session = attest(&contract, tenant_tls.facts().unwrap());
    send(&mut tenant_tls, session.outgoing());
    session.sent(session.outgoing().len());
    let (_, to_keep) = pump(&mut tenant_tls, &mut keep_tls).unwrap();
    send(&mut keep_tls, &side.serve(&to_keep));
    let (evidence, _) = pump(&mut tenant_tls, &mut keep_tls).unwrap();
    assert!(session.receive(&mut evidence.as_slice()).unwrap());
    let mut session = session.judge(&Marks, NOW, 3_600_000).unwrap();
    assert_eq!(session.state(), State::Unprovisioned);

    let (deployment, values) = fixture::smallest(&contract, &vec![0x61; 200_000]);
    session.release(&deployment, NOW).unwrap();
    let (mut stdout, mut phase, mut question) = (Vec::new(), 0, None);
    let mut quiet = 0;
    while quiet < 4 {
        loop {
            let bytes = session.outgoing(NOW).unwrap().to_vec();
            session.sent(bytes.len());
            send(&mut tenant_tls, &bytes);
            if let Some((part, offset, room)) = session.wanted(NOW) {
                let value = match part {
                    Part::Application => &values[0],
                    Part::Configuration => &values[1],
                    other => panic!("{other:?} was not announced"),
                };
                let from = usize::try_from(offset).unwrap();
                let supplied = session.supply(&value[from..][..room], NOW).unwrap();
                assert_eq!(supplied, room);
            } else if bytes.is_empty() {
                break;
            }
        }
        let (_, to_keep) = pump(&mut tenant_tls, &mut keep_tls).unwrap();
        send(&mut keep_tls, &side.serve(&to_keep));
        let (to_tenant, _) = pump(&mut tenant_tls, &mut keep_tls).unwrap();
        let mut input = to_tenant.as_slice();
        while let Some(event) = session.receive(&mut input, NOW).unwrap() {
            if let tenant::Event::Output(output, bytes) = event {
                assert_eq!(output, Output::Stdout);
                stdout.extend_from_slice(bytes);
                let count = bytes.len();
                session.consumed(output, count);
            }
        }
        if !(to_keep.is_empty() && to_tenant.is_empty()) {
            quiet = 0;
            continue;
        }
        quiet += 1;
        phase += 1;
        match phase {
            1 => {
                assert!(side.started && side.delivered[..2] == values[..]);
                side.keep.started(Started::default());
                assert_eq!(session.stdin(b"question", NOW), 8);
            }
            2 => {
                let mut buffer = [0; 16];
                let count = side.keep.read_stdin(&mut buffer).unwrap();
                question = Some(buffer[..count].to_vec());
                assert_eq!(side.keep.write(Output::Stdout, b"answer"), 6);
            }
            3 => {
                let exit = Exit {
                    kind: ExitKind::Exited,
                    code: 3,
                };
                let sealing = side.keep.exited(exit, NOW).unwrap();
                // The Keep's key signs documents as well as TLS.
                let signature = keep_key.sign(&sealing.signing_input).unwrap();
                let report = fixture::report_bytes(&contract, sealing.report_data, 1);
                side.keep.seal(signature, Some(&report)).unwrap();
            }
            4 => session.bye(),
            _ => {}
        }
    }
    assert_eq!(
        (stdout.as_slice(), question),
        (&b"answer"[..], Some(b"question".to_vec()))
    );
    assert!(side.keep.is_finished() && side.session.is_closed());
    let Ok(Outcome::Complete(receipt)) = session.finish() else {
        panic!("the session is complete");
    };
    assert_eq!(receipt.body.exit.code, 3);
    tenant_tls.close();
    keep_tls.close();
    pump(&mut tenant_tls, &mut keep_tls).unwrap();
    assert!(tenant_tls.is_closed_by_peer() && keep_tls.is_closed_by_peer());
}

#[test]
fn a_relay_is_refused_by_the_evidence_even_with_the_key_of_the_keep() {
    let contract = fixture::open();
    let (tenant_key, keep_key) = (key(), key());
    for relay_key in [key(), keep_key.clone()] {
        // The relay terminates TLS with the tenant, and carries the frames to a genuine Keep over its own connection.
        let mut tenant_tls = Connection::tenant(&tenant_key).unwrap();
        let mut relay_server = open_keep(&relay_key);
        pump(&mut tenant_tls, &mut relay_server).unwrap();
        let mut relay_client = Connection::tenant(&key()).unwrap();
        let mut keep_tls = open_keep(&keep_key);
        pump(&mut relay_client, &mut keep_tls).unwrap();

        let mut side = KeepSide::new(&contract, keep_tls.facts().unwrap()).unwrap();
        let mut session = attest(&contract, tenant_tls.facts().unwrap());
        send(&mut tenant_tls, session.outgoing());
        session.sent(session.outgoing().len());
        let (_, frames) = pump(&mut tenant_tls, &mut relay_server).unwrap();
        send(&mut relay_client, &frames);
        let (_, frames) = pump(&mut relay_client, &mut keep_tls).unwrap();
        send(&mut keep_tls, &side.serve(&frames));
        let (frames, _) = pump(&mut relay_client, &mut keep_tls).unwrap();
        send(&mut relay_server, &frames);
        let (evidence, _) = pump(&mut tenant_tls, &mut relay_server).unwrap();
        assert!(session.receive(&mut evidence.as_slice()).unwrap());
        let refusal = session.judge(&Marks, NOW, 3_600_000).err().unwrap();
        assert_eq!(refusal.code(), "guest.report-data");
    }
}
