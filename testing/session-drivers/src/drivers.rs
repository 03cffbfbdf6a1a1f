// SPDX-License-Identifier: Apache-2.0

//! Any peer at all, made of a script of bytes: drivers for the property tests and the fuzz targets. Each panics when
//! something happens that no peer may bring about.

use crate::fixture::{self, KEEP, Marks, OTHER_TENANT, TENANT};
use enarx_contract::{Agreement, Contract};
use enarx_session::deployment::{Deployment, Part};
use enarx_session::document::{self, Exit, ExitKind, Started};
use enarx_session::frame::{self, Decoder, End, FrameError, HEADER, Kind};
use enarx_session::keep::{self, Connection, Keep, Output};
use enarx_session::receipt::Receipt;
use enarx_session::tenant::{Event, Released, Session, Streams, Wanted};
use enarx_session::{Moment, Refusal, WINDOW};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// Bytes, taken from the front; zeros when they are used up.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        front
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The decoder on any bytes, cut anywhere: the same frames and the same error as in one piece, each frame legal.
pub fn frames(script: &[u8]) {
    let mut script = Script(script);
    let from = if script.byte() & 1 == 0 {
        End::Tenant
    } else {
        End::Keep
    };
    let bytes = script.0;
    let whole = decode(from, |decoder, frames| take(decoder, bytes, frames));
    let pieces = decode(from, |decoder, frames| {
        let mut result = Ok(());
        for piece in bytes.chunks(1 + bytes.first().copied().map_or(0, usize::from)) {
            result = take(decoder, piece, frames);
        }
        result
    });
    assert_eq!(whole, pieces);
    for (kind, stream, payload) in &whole.0 {
        assert!(kind.may_be_sent_on(*stream, from));
        let encoded = frame::encode(*kind, *stream, payload).expect("it was legal");
        assert_eq!(encoded.len(), HEADER + payload.len());
    }
}

type Frames = Vec<(Kind, u8, Vec<u8>)>;

fn decode(
    from: End,
    run: impl FnOnce(&mut Decoder, &mut Frames) -> Result<(), FrameError>,
) -> (Frames, Result<(), FrameError>) {
    let mut frames = Vec::new();
    let result = run(&mut Decoder::new(from), &mut frames);
    (frames, result)
}

fn take(decoder: &mut Decoder, mut input: &[u8], frames: &mut Frames) -> Result<(), FrameError> {
    while let Some(frame) = decoder.take(&mut input)? {
        frames.push((frame.kind, frame.stream, frame.payload.to_vec()));
    }
    assert!(input.is_empty());
    Ok(())
}

/// Every document on any bytes: an error, or a value that encodes to the same bytes.
pub fn documents(script: &[u8]) {
    fn one<T: Serialize + DeserializeOwned>(kind: Kind, bytes: &[u8]) {
        if let Ok(value) = document::decode::<T>(kind, bytes) {
            assert_eq!(serde_json::to_vec(&value).expect("it was JSON"), bytes);
        }
    }
    let mut script = Script(script);
    let which = script.byte();
    let bytes = script.0;
    match which % 16 {
        0 => one::<document::Attest>(Kind::Attest, bytes),
        1 => one::<document::Evidence>(Kind::Evidence, bytes),
        2 => one::<document::Announcement>(Kind::Blob, bytes),
        3 => one::<Started>(Kind::Started, bytes),
        4 => one::<document::Attach>(Kind::Attach, bytes),
        5 => one::<document::Attached>(Kind::Attached, bytes),
        6 => one::<document::Stop>(Kind::Stop, bytes),
        7 => one::<Exit>(Kind::Exit, bytes),
        8 => one::<document::Bye>(Kind::Bye, bytes),
        9 => one::<document::Refused>(Kind::Refused, bytes),
        10 => {
            if let Ok(deployment) = Deployment::decode(bytes) {
                assert_eq!(deployment.encode().expect("it was legal"), bytes);
                let mut part = None;
                while let Some(next) = deployment.next(part) {
                    assert!(deployment.object(next).is_some());
                    part = Some(next);
                }
            }
        }
        11 => {
            if let Ok(receipt) = Receipt::decode(bytes) {
                assert_eq!(receipt.encode().expect("it was short"), bytes);
                let _ = receipt.check_signature();
            }
        }
        12 => {
            if let Ok(agreement) = Agreement::decode(bytes) {
                assert_eq!(agreement.encode().expect("it was short"), bytes);
                let _ = agreement.verify();
            }
        }
        _ => {
            if let Ok(contract) = Contract::decode(bytes) {
                assert_eq!(contract.bytes(), bytes);
                let again = Contract::new(contract.terms().clone()).expect("it was one");
                assert_eq!(again.digest(), contract.digest());
            }
        }
    }
}

/// A frame that a peer might send: often a right one, sometimes any bytes.
fn peer_frame(script: &mut Script<'_>, report_data: Option<[u8; 64]>) -> Vec<u8> {
    let choice = script.byte();
    if choice >= 0xf0 {
        let count = usize::from(script.byte());
        return script.bytes(count).to_vec();
    }
    let kind = Kind::ALL[usize::from(choice) % Kind::ALL.len()];
    let stream = match kind {
        Kind::Data | Kind::End | Kind::Credit => [0, 1, 2, 3, 8][usize::from(script.byte()) % 5],
        _ => 0,
    };
    let number = u64::from(script.byte());
    let contract = fixture::open();
    let (deployment, values) = fixture::smallest(&contract, b"application");
    let encoded = deployment.encode().expect("it is legal");
    let digest = fixture_hex(&Sha256::digest(&encoded));
    let payload = match kind {
        Kind::Attest => format!(r#"{{"version":1,"seq":{},"nonce":"{digest}"}}"#, number % 8),
        Kind::Evidence => {
            let report = report_data.map(|data| fixture::report_bytes(&contract, data, 1));
            let report = report.map_or_else(
                || "null".to_owned(),
                |bytes| format!("\"{}\"", base64(&bytes)),
            );
            let format = if number & 1 == 0 { "snp" } else { "none" };
            let (state, deployment) = if number & 2 == 0 {
                (1, "null".to_owned())
            } else {
                (2, format!("\"{digest}\""))
            };
            let seq = number >> 4;
            format!(
                r#"{{"seq":{seq},"state":{state},"format":"{format}","report":{report},"deployment":{deployment}}}"#
            )
        }
        Kind::Release => format!(r#"{{"digest":"{digest}","size":{}}}"#, encoded.len()),
        Kind::Blob => {
            let part = if number & 1 == 0 {
                Part::Application
            } else {
                Part::Configuration
            };
            let object = deployment.object(part).expect("both are there");
            format!(r#"{{"digest":"{}","size":{}}}"#, object.digest, object.size)
        }
        Kind::Data => {
            let bytes = match number % 4 {
                0 => encoded,
                1 => values[0].clone(),
                2 => values[1].clone(),
                _ => vec![0; usize::from(script.byte()) << 8 | 1],
            };
            return frame_bytes(kind, stream, &bytes);
        }
        Kind::Credit => {
            let count = match number % 4 {
                0 => 0,
                1 => WINDOW / 2,
                2 => u32::MAX,
                _ => u32::from(script.byte()),
            };
            return frame_bytes(kind, stream, &count.to_le_bytes());
        }
        Kind::Started => r#"{"timings":[]}"#.to_owned(),
        Kind::Attach => format!(r#"{{"stdout":{number},"stderr":0}}"#),
        Kind::Attached => {
            format!(
                r#"{{"stdin":{number},"stdin_ended":false,"credit":{WINDOW},"stdout":0,"stderr":0}}"#
            )
        }
        Kind::Stop => format!(r#"{{"grace_ms":{number}}}"#),
        Kind::Exit => r#"{"kind":"exited","code":0}"#.to_owned(),
        Kind::Receipt => "{}".to_owned(),
        Kind::Bye if number & 1 == 0 => r#"{"receipt":null}"#.to_owned(),
        Kind::Bye => format!(r#"{{"receipt":"{digest}"}}"#),
        Kind::Refused => {
            r#"{"code":"release.taken","sentence":"no","expected":null,"actual":null}"#.to_owned()
        }
        Kind::Start | Kind::End => String::new(),
    };
    frame_bytes(kind, stream, payload.as_bytes())
}

/// A frame without asking if it is a legal one.
pub fn frame_bytes(kind: Kind, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_le_bytes();
    let mut bytes = length.to_vec();
    bytes.extend_from_slice(&[kind as u8, stream, 0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}

fn fixture_hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

fn base64(bytes: &[u8]) -> String {
    let text = serde_json::to_string(&enarx_contract::canonical::Base64(bytes.to_vec()));
    text.expect("text").trim_matches('"').to_owned()
}

/// The tenant against any peer. Before the verdict exactly one frame is written, and the verdict only accepts a report
/// on the values of the tenant's own end.
pub fn hostile_keep(script: &[u8]) {
    let mut script = Script(script);
    let contract = fixture::open();
    let (deployment, values) = fixture::smallest(&contract, b"application");
    let digest: [u8; 32] = Sha256::digest(deployment.encode().expect("it is legal")).into();
    let wanted = [
        Wanted::Fresh,
        Wanted::Running(digest),
        Wanted::Either(digest),
    ];
    let wanted = wanted[usize::from(script.byte()) % 3];
    let channel = fixture::channel(TENANT, 1);
    let nonce = [script.byte(); 32];
    let mut session = Session::attest(
        contract.clone(),
        channel.clone(),
        wanted,
        None,
        nonce,
        Moment(0),
    );
    // A third of the peers have the right report, as one would that is a Keep.
    let honest = script.byte() % 3 == 0;
    let provisioned = script.byte() & 1 == 1;
    let binding = enarx_session::binding::Binding {
        sequence: 1,
        nonce: &nonce,
        exporter: &channel.exporter,
        keep: &channel.keep,
        tenant: &channel.tenant,
        contract: contract.digest(),
        deployment: provisioned.then_some(&digest),
    };
    let report_data = if honest {
        binding.report_data()
    } else {
        [script.byte(); 64]
    };
    let mut written = Vec::new();
    let mut there = false;
    while !there && !script.is_empty() {
        let bytes = peer_frame(&mut script, Some(report_data));
        let mut input = bytes.as_slice();
        let count = usize::from(script.byte());
        let out = session.outgoing();
        let count = count.min(out.len());
        written.extend_from_slice(&out[..count]);
        session.sent(count);
        match session.receive(&mut input) {
            Ok(found) => there = found,
            Err(_) => break,
        }
    }
    written.extend_from_slice(session.outgoing());
    let count = session.outgoing().len();
    session.sent(count);
    assert!(session.outgoing().is_empty());
    let mut decoder = Decoder::new(End::Tenant);
    let mut input = written.as_slice();
    let frame = decoder
        .take(&mut input)
        .expect("our own")
        .expect("one frame");
    assert_eq!(frame.kind, Kind::Attest);
    assert!(input.is_empty(), "more than one frame before the verdict");
    let mut now = Moment(0);
    let mut session = match session.judge(&Marks, now, 1000) {
        Ok(session) => session,
        Err(refusal) => {
            assert!(!refusal.code().is_empty());
            return;
        }
    };
    assert!(honest && there, "a verdict without a right report");
    // After the verdict: whatever comes, no panic, no output twice, nothing once it has expired.
    let mut seen = [0u64; 2];
    let _ = match script.byte() % 2 {
        0 => session.release(&deployment, now),
        _ => session.attach(Streams::default(), now),
    };
    while !script.is_empty() {
        // Empty before the clock moves: everything sent from here on was decided at this moment.
        if !flush(&mut session, &mut decoder, now) {
            return;
        }
        match script.byte() % 8 {
            0 => {
                let taken = session.stdin(script.bytes(9), now);
                assert!(now < session.expires() || taken == 0);
            }
            1 => session.end_stdin(),
            2 => now = now.after(u64::from(script.byte()) * 8),
            3 => session.consumed(Output::Stdout, usize::from(script.byte()) << 10),
            4 => {
                let _ = session.reattest([9; 32], now);
                let _ = session.stop(1);
            }
            _ => {}
        }
        if let Some((part, offset, room)) = session.wanted(now) {
            assert!(now < session.expires());
            let value = &values[usize::from(part != Part::Application)];
            let from = usize::try_from(offset).expect("small");
            assert_eq!(session.supply(&value[from..][..room], now), Ok(room));
        }
        if !flush(&mut session, &mut decoder, now) {
            return;
        }
        let bytes = peer_frame(&mut script, Some(report_data));
        let mut input = bytes.as_slice();
        let mut judge = false;
        loop {
            match session.receive(&mut input, now) {
                Ok(None) => break,
                Ok(Some(Event::Output(output, bytes))) => {
                    seen[usize::from(output == Output::Stderr)] += bytes.len() as u64;
                }
                Ok(Some(Event::Evidence)) => judge = true,
                Ok(Some(Event::Receipt(_))) => panic!("nobody has the Keep's key"),
                Ok(Some(_)) => {}
                Err(_) => {
                    assert!(matches!(session.finish(), Err(Refusal::Truncated)));
                    return;
                }
            }
        }
        if judge && session.judge_again(&Marks, now).is_err() {
            return;
        }
    }
    let _ = session.finish();
}

/// Sends everything. Without a valid verdict, none of it is the tenant's data. False: the session is over.
fn flush(session: &mut Session<Released>, decoder: &mut Decoder, now: Moment) -> bool {
    let expired = now >= session.expires();
    loop {
        let Ok(out) = session.outgoing(now) else {
            return false;
        };
        let count = out.len();
        if count == 0 {
            return true;
        }
        let mut input = out;
        while let Some(frame) = decoder.take(&mut input).expect("our own frames") {
            let own = matches!(
                frame.kind,
                Kind::Data | Kind::Release | Kind::Blob | Kind::Start | Kind::Attach
            );
            assert!(
                !own || !expired,
                "{:?} after the verdict has expired",
                frame.kind
            );
        }
        session.sent(count);
    }
}

/// A Keep against any two peers of different tenants. Whatever they do, the Keep does not fail, what runs is what one of
/// them delivered, and only that one sees its output.
pub fn hostile_tenants(script: &[u8]) {
    let mut script = Script(script);
    let contract = fixture::open();
    let own = fixture::own(&contract);
    let mut keep = Keep::new(contract.clone(), fixture::key(KEEP), own, Moment(0));
    let mut now = Moment(0);
    let mut connections: [Option<Connection>; 2] = [None, None];
    let mut decoders = [Decoder::new(End::Keep), Decoder::new(End::Keep)];
    let mut owner: Option<usize> = None;
    let mut part: Vec<u8> = Vec::new();
    let (deployment, values) = fixture::smallest(&contract, b"application");
    let mut exited = false;
    while !script.is_empty() {
        let choice = script.byte();
        let index = usize::from(choice & 1);
        match choice >> 1 & 15 {
            0 => {
                if let Some(connection) = connections[index].take() {
                    keep.disconnect(connection, now);
                }
            }
            1 => now = now.after(u64::from(script.byte()) * 256),
            2 => {
                keep.write(Output::Stdout, &[choice; 300]);
            }
            3 => {
                let mut buffer = [0; 64];
                let _ = keep.read_stdin(&mut buffer);
            }
            4 if owner.is_some() && !exited => {
                exited = true;
                let exit = Exit {
                    kind: ExitKind::Exited,
                    code: 0,
                };
                let sealing = keep.exited(exit, now).expect("it runs");
                let signature = fixture::sign(KEEP, &sealing.signing_input);
                keep.seal(signature, None).expect("it ended");
            }
            5 => {
                let _ = keep.tick(now);
            }
            _ => {}
        }
        if connections[index].is_none() {
            let tenant = [TENANT, OTHER_TENANT][index];
            let exporter = fixture::exporter(choice | 1);
            let Ok(connection) = keep.connect(fixture::key(tenant), exporter, now) else {
                continue;
            };
            connections[index] = Some(connection);
            decoders[index] = Decoder::new(End::Keep);
        }
        let connection = connections[index].as_mut().expect("it is connected");
        let _ = connection.tick(&mut keep, now);
        let bytes = peer_frame(&mut script, None);
        let mut input = bytes.as_slice();
        let mut attest = None;
        loop {
            match connection.receive(&mut keep, &mut input, now) {
                Ok(None) | Err(_) => break,
                Ok(Some(event)) => match event {
                    keep::Event::Attest(data) => attest = Some(data),
                    keep::Event::Release(released) => {
                        assert_eq!(released, &deployment);
                        part.clear();
                    }
                    keep::Event::Part(_, bytes) => part.extend_from_slice(bytes),
                    keep::Event::PartComplete(which) => {
                        let value = &values[usize::from(which != Part::Application)];
                        assert_eq!(&std::mem::take(&mut part), value);
                    }
                    keep::Event::Start(started) => {
                        assert_eq!(started, &deployment);
                        assert_eq!(owner, None, "a second start");
                        owner = Some(index);
                    }
                    keep::Event::Handled
                    | keep::Event::Stop
                    | keep::Event::Attached
                    | keep::Event::Bye => {}
                },
            }
        }
        if let Some(data) = attest {
            if choice & 0x80 == 0 {
                let report = fixture::report_bytes(&contract, data, 1);
                connection
                    .evidence(&mut keep, Some(&report), now)
                    .expect("the right report");
            } else {
                connection.refuse(&mut keep, Refusal::Busy, now);
            }
        }
        if owner.is_some() && choice & 0x40 != 0 {
            keep.started(Started::default());
        }
        let out = connection.outgoing(&mut keep, now).to_vec();
        connection.sent(out.len());
        let mut input = out.as_slice();
        while let Some(frame) = decoders[index].take(&mut input).expect("our own frames") {
            if matches!(
                frame.kind,
                Kind::Data | Kind::Exit | Kind::Receipt | Kind::Started
            ) {
                assert_eq!(owner, Some(index), "output for somebody else");
            }
        }
    }
}
