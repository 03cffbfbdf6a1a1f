// SPDX-License-Identifier: Apache-2.0

//! A Keep and a tenant, and the bytes between them.

use enarx_contract::Contract;
use enarx_session::deployment::{Deployment, Part};
use enarx_session::document::{Exit, ExitKind, Started};
use enarx_session::keep::{self, Connection, Event, Keep};
use enarx_session::tenant::{self, Identity, Released, Session, Streams, Unjudged, Wanted};
use enarx_session::{Moment, Refusal};
use enarx_session_drivers::fixture::{self, KEEP, Marks, Values};
use sha2::{Digest, Sha256};

/// A verdict is valid for an hour.
pub const MAX_AGE: u64 = 3_600_000;

/// A Keep with its runtime's parts of the application.
pub struct KeepSide {
    pub keep: Keep,
    pub now: Moment,
    /// Values of complete parts, in order.
    pub delivered: Values,
    /// The part that is not complete yet.
    open: Vec<u8>,
    pub started: bool,
    pub stopped: bool,
}

impl KeepSide {
    pub fn new(contract: Contract) -> Self {
        let own = fixture::own(&contract);
        Self {
            keep: Keep::new(contract, fixture::key(KEEP), own, Moment(0)),
            now: Moment(0),
            delivered: Vec::new(),
            open: Vec::new(),
            started: false,
            stopped: false,
        }
    }

    pub fn connect(&mut self, tenant: u8, connection: u8) -> Result<Connection, Refusal> {
        let exporter = fixture::exporter(connection);
        self.keep.connect(fixture::key(tenant), exporter, self.now)
    }

    /// Gives a connection its input, answers ATTEST with the correct report, and returns its output.
    pub fn serve(
        &mut self,
        connection: &mut Connection,
        mut input: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        let mut report_data = None;
        let mut result = Ok(());
        loop {
            match connection.receive(&mut self.keep, &mut input, self.now) {
                Ok(None) => break,
                Ok(Some(event)) => match event {
                    Event::Attest(data) => report_data = Some(data),
                    Event::Release(_) => {
                        self.delivered.clear();
                        self.open.clear();
                    }
                    Event::Part(_, bytes) => self.open.extend_from_slice(bytes),
                    Event::PartComplete(_) => self.delivered.push(std::mem::take(&mut self.open)),
                    Event::Start(_) => self.started = true,
                    Event::Stop => self.stopped = true,
                    Event::Handled | Event::Attached | Event::Bye => {}
                },
                Err(refusal) => result = Err(refusal),
            }
            if let Some(data) = report_data.take() {
                let contract = self.keep.contract().clone();
                let report = contract.terms().image.is_some();
                let report = report.then(|| fixture::report_bytes(&contract, data, 1));
                connection
                    .evidence(&mut self.keep, report.as_deref(), self.now)
                    .expect("a Keep of this contract");
            }
        }
        // The test fetches the last bytes of a refused connection.
        result?;
        Ok(drain(|count| {
            connection.sent(count);
            connection.outgoing(&mut self.keep, self.now).to_vec()
        }))
    }

    pub fn start(&mut self) {
        self.keep.started(Started::default());
    }

    /// Ends the application and completes its receipt.
    pub fn exit(&mut self, kind: ExitKind, code: u32) {
        let sealing = self
            .keep
            .exited(Exit { kind, code }, self.now)
            .expect("it ran");
        let signature = fixture::sign(KEEP, &sealing.signing_input);
        let contract = self.keep.contract().clone();
        let report = fixture::report_bytes(&contract, sealing.report_data, 1);
        self.keep.seal(signature, Some(&report)).expect("it ended");
    }
}

/// Takes everything that must be sent; `next` gets how much of the previous bytes was sent.
pub fn drain(mut next: impl FnMut(usize) -> Vec<u8>) -> Vec<u8> {
    let mut all = Vec::new();
    let mut count = 0;
    loop {
        let bytes = next(count);
        if bytes.is_empty() {
            return all;
        }
        count = bytes.len();
        all.extend(bytes);
    }
}

/// A tenant, from the verdict on.
pub struct TenantSide {
    pub session: Session<Released>,
    pub now: Moment,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit: Option<Exit>,
    pub receipt: bool,
    values: Values,
    /// True if output is confirmed as soon as it arrives.
    pub consumes: bool,
}

impl TenantSide {
    pub fn new(session: Session<Released>) -> Self {
        Self {
            session,
            now: Moment(0),
            stdout: Vec::new(),
            stderr: Vec::new(),
            exit: None,
            receipt: false,
            values: Vec::new(),
            consumes: true,
        }
    }

    pub fn release(&mut self, deployment: &Deployment, values: Values) {
        self.session
            .release(deployment, self.now)
            .expect("a Keep that is free");
        self.values = values;
    }

    pub fn release_again(&mut self, deployment: &Deployment, values: Values, streams: Streams) {
        self.session
            .release_again(deployment, streams, self.now)
            .expect("a Keep that is free, and nothing has run");
        self.values = values;
    }

    fn value(&self, part: Part) -> &[u8] {
        let secrets = self.values.len() - 2;
        let index = match part {
            Part::Application => 0,
            Part::Configuration => 1,
            Part::File(index) => 2 + index,
            // Two files before two secrets.
            Part::Secret(index) => 2 + secrets / 2 + index,
        };
        &self.values[index]
    }

    /// Gives the session its input, supplies what it requests, and returns its output.
    pub fn serve(&mut self, mut input: &[u8]) -> Result<Vec<u8>, Refusal> {
        loop {
            let consumed = match self.session.receive(&mut input, self.now)? {
                None => break,
                Some(tenant::Event::Output(output, bytes)) => {
                    let all = match output {
                        keep::Output::Stdout => &mut self.stdout,
                        keep::Output::Stderr => &mut self.stderr,
                    };
                    all.extend_from_slice(bytes);
                    Some((output, bytes.len()))
                }
                Some(tenant::Event::Exit(exit)) => {
                    self.exit = Some(exit);
                    None
                }
                Some(tenant::Event::Receipt(_)) => {
                    self.receipt = true;
                    None
                }
                Some(tenant::Event::Evidence) => {
                    self.session.judge_again(&Marks, self.now)?;
                    None
                }
                Some(
                    tenant::Event::Handled
                    | tenant::Event::Started(_)
                    | tenant::Event::Attached
                    | tenant::Event::OutputEnd(_)
                    | tenant::Event::Bye,
                ) => None,
            };
            if let Some((output, count)) = consumed
                && self.consumes
            {
                self.session.consumed(output, count);
            }
        }
        let mut output = Vec::new();
        loop {
            let bytes = self.session.outgoing(self.now)?.to_vec();
            self.session.sent(bytes.len());
            output.extend_from_slice(&bytes);
            if let Some((part, offset, room)) = self.session.wanted(self.now) {
                let from = usize::try_from(offset).expect("small");
                let bytes = self.value(part)[from..][..room].to_vec();
                assert_eq!(self.session.supply(&bytes, self.now)?, room);
            } else if bytes.is_empty() {
                return Ok(output);
            }
        }
    }
}

/// The session of a tenant with its data to send.
pub fn attest(
    contract: &Contract,
    tenant: u8,
    connection: u8,
    wanted: Wanted,
    known: Option<Identity>,
) -> Session<Unjudged> {
    let channel = fixture::channel(tenant, connection);
    let nonce = [connection ^ 0x5a; 32];
    Session::attest(contract.clone(), channel, wanted, known, nonce, Moment(0))
}

/// Takes a connection to the verdict.
pub fn judged(
    side: &mut KeepSide,
    tenant: u8,
    connection: u8,
    wanted: Wanted,
    known: Option<Identity>,
) -> Result<(Connection, TenantSide), Refusal> {
    let mut at_keep = side.connect(tenant, connection)?;
    let contract = side.keep.contract().clone();
    let mut session = attest(&contract, tenant, connection, wanted, known);
    let attest = session.outgoing().to_vec();
    session.sent(attest.len());
    let evidence = side.serve(&mut at_keep, &attest)?;
    assert!(session.receive(&mut evidence.as_slice())?, "no evidence");
    let session = session.judge(&Marks, Moment(0), MAX_AGE)?;
    Ok((at_keep, TenantSide::new(session)))
}

/// Carries everything between the two.
pub fn pump(
    side: &mut KeepSide,
    connection: &mut Connection,
    tenant: &mut TenantSide,
) -> Result<(), Refusal> {
    let mut idle = 0;
    while idle < 2 {
        let up = tenant.serve(&[])?;
        let down = side.serve(connection, &up)?;
        let back = tenant.serve(&down)?;
        let down = side.serve(connection, &back)?;
        let again = tenant.serve(&down)?;
        let last = side.serve(connection, &again)?;
        let rest = tenant.serve(&last)?;
        let end = side.serve(connection, &rest)?;
        tenant.serve(&end)?;
        let quiet = up.is_empty() && down.is_empty() && rest.is_empty() && end.is_empty();
        idle = if quiet { idle + 1 } else { 0 };
    }
    Ok(())
}

/// A Keep whose application runs, with its tenant attached.
pub fn running(contract: &Contract) -> (KeepSide, Connection, TenantSide, Deployment, [u8; 32]) {
    let mut side = KeepSide::new(contract.clone());
    let (mut connection, mut tenant) =
        judged(&mut side, fixture::TENANT, 1, Wanted::Fresh, None).expect("an honest Keep");
    let (deployment, values) = fixture::deployment(contract, b"application");
    tenant.release(&deployment, values);
    pump(&mut side, &mut connection, &mut tenant).expect("both are honest");
    assert!(side.started);
    side.start();
    let digest = Sha256::digest(deployment.encode().expect("it is legal")).into();
    (side, connection, tenant, deployment, digest)
}

/// Attaches the same tenant again over a new connection.
pub fn reattach(
    side: &mut KeepSide,
    digest: [u8; 32],
    connection: u8,
    identity: Identity,
    streams: Streams,
) -> Result<(Connection, TenantSide), Refusal> {
    let wanted = Wanted::Running(digest);
    let (mut at_keep, mut tenant) =
        judged(side, fixture::TENANT, connection, wanted, Some(identity))?;
    tenant.session.attach(streams, tenant.now)?;
    pump(side, &mut at_keep, &mut tenant)?;
    Ok((at_keep, tenant))
}
