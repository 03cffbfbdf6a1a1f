// SPDX-License-Identifier: Apache-2.0

//! A host in the test: a manager that speaks HTTP by hand over TLS on the loopback, so that it can misbehave in every
//! answer, and writes down whatever it sees.

use crate::chip::Chip;
use crate::keep::{Guest, Misbehaviour, Program, Rooms, relay_between};
use crate::record::Log;
use crate::{MEMORY, RUNTIME, unix_seconds};
use enarx_contract::canonical::{Base64, Hex, Name};
use enarx_contract::{
    Backend, Contract, Doors, Platform, Resources, Side, Tee, Terms, signing_input,
};
use enarx_manager_api::{
    KeepAnswer, KeepInfo, KeepState, Limits, NewKeep, Offer, PlatformOffer, Problem, Ready, VERSION,
};
use enarx_tls::Key;
use rcgen::{CertificateParams, PublicKeyData, SigningKey};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The name of a host that has not been given another one.
const NAME: &str = "host.example";

/// The token that the hosts here take.
pub const TOKEN: &str = "token-of-the-tests";

/// How the relay behaves.
#[derive(Clone)]
pub enum Relay {
    /// It passes bytes on.
    Honest,
    /// Junk in the same bytes as the 101.
    JunkWith101,
    /// Junk where the Keep's handshake should be.
    JunkAfter101,
    /// Another answer than 101.
    Status(&'static str),
    /// 101 to another protocol.
    OtherProtocol,
    /// 101, and then a byte of a handshake each second. With `paused` no second passes, but by tokio's clock.
    Drip {
        /// True for tests whose tenant is in the same process.
        paused: bool,
    },
    /// Ends the tenant's TLS with this key, and is a client of a genuine Keep: with the tenant's stolen key, or else under
    /// a contract of its own.
    Between(Key, Option<Key>),
    /// The tenant's bytes reach the Keep of an earlier contract.
    Earlier,
    /// The tenant's bytes reach the Keep of another tenant.
    Foreign,
    /// There is another server in the Keep's place.
    Server(Server),
    /// Flips a bit in the so manieth byte from the Keep.
    Flip(usize),
}

/// A TLS server that is not a Keep's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// It speaks another protocol by ALPN.
    OtherAlpn,
    /// It speaks none.
    NoAlpn,
    /// It shows a certificate in place of a bare key.
    Certificate,
    /// It chooses TLS 1.2.
    Tls12,
    /// It chooses AES-128.
    OtherSuite,
    /// It asks for X25519 alone.
    OtherGroup,
}

/// The point up to which a manager reads a request that it then drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing: the TCP connection is reset.
    Nothing,
    /// The TLS handshake.
    Handshake,
    /// A request, which it does as it was asked. It answers nothing.
    Request,
}

/// The trick that the manager plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// It keeps its word.
    Honest,
    /// It signs contracts with another key than its offer names.
    WrongSignature,
    /// It answers about another Keep.
    OtherKeep,
    /// Its Keep ends before it is ready.
    Ended,
    /// This is its whole answer to the request for its offer, and then it closes the connection.
    Offer(&'static str),
    /// Its answers come byte by byte.
    Slow,
    /// Its answers never end.
    Endless,
    /// It closes the connection after each answer.
    Closes,
    /// It ends the first so many connections without an answer; of those with a request, the first so many with the same.
    SendsAway(Heard, usize),
    /// It has no certificates.
    NoCollateral,
    /// It ends a Keep when it is asked for the third time.
    EndsLate,
}

/// A Keep that waits, according to the offer.
#[derive(Clone, Copy)]
pub enum Waiting {
    /// It waits to be claimed.
    Free,
    /// Its contract was changed before the host signed it.
    With(fn(&mut Terms)),
    /// Another tenant is faster: the claim is refused with this name.
    Refused(&'static str),
    /// The host's signature is another key's.
    Unsigned,
}

/// How the host behaves.
#[derive(Clone)]
pub struct Behaviour {
    /// Its name in its offer.
    pub name: &'static str,
    /// The Keeps that wait, in the order of the offer.
    pub ready: Vec<Waiting>,
    /// The platforms of its offer.
    pub platforms: Vec<PlatformOffer>,
    /// The trick of its relay.
    pub relay: Relay,
    /// The chip whose certificates it serves.
    pub collateral: Chip,
    /// The trick of its manager.
    pub manager: Manager,
}

/// A host.
pub struct Host {
    /// The record of everything that it saw.
    pub log: Log,
    /// Where its manager listens.
    pub address: SocketAddr,
    /// SHA-256 of its manager's certificate.
    pub pin: Hex<32>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    key: Key,
    behaviour: Behaviour,
    /// The trick of the relay by now.
    relay: Mutex<Relay>,
    guest: Mutex<Guest>,
    log: Log,
    contracts: Mutex<HashMap<String, Contract>>,
    /// The open contracts of the Keeps that wait.
    open: Vec<(Waiting, Contract)>,
    first: Mutex<Option<Contract>>,
}

struct Signer<'a>(&'a Key, Vec<u8>);

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.1
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.0.sign(message).expect("a signature");
        let signature = p256::ecdsa::Signature::from_slice(&signature.0).expect("r and s");
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

/// A host in a thread of its own, for tests that wait without a runtime.
pub struct HostThread {
    host: Host,
    /// Its runtime ends when this is dropped.
    _end: oneshot::Sender<()>,
}

impl HostThread {
    /// Starts a host.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(make: impl AsyncFnOnce() -> Host + Send + 'static) -> Self {
        let (sender, made) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                sender.send(make().await).expect("it is waited for");
                // The other end sends nothing: it goes.
                let _ = ended.await;
            });
        });
        let host = made.recv().expect("a host");
        Self { host, _end: end }
    }
}

impl Deref for HostThread {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self::new()
    }
}

impl Behaviour {
    /// It keeps its word.
    pub fn new() -> Self {
        let chip = Chip::new();
        Self {
            name: NAME,
            ready: Vec::new(),
            platforms: vec![chip.offer()],
            relay: Relay::Honest,
            collateral: chip,
            manager: Manager::Honest,
        }
    }
}

impl Host {
    /// An honest host, whose Keep runs this program and plays this trick.
    pub async fn with(program: Program, misbehaviour: Misbehaviour) -> Self {
        Self::start(Behaviour::new(), Chip::new(), program, misbehaviour).await
    }

    /// A host whose relay plays this trick.
    pub async fn with_relay(relay: Relay) -> Self {
        let behaviour = Behaviour {
            relay,
            ..Behaviour::new()
        };
        Self::behaving(behaviour).await
    }

    /// A host whose manager plays this trick.
    pub async fn with_manager(manager: Manager) -> Self {
        let behaviour = Behaviour {
            manager,
            ..Behaviour::new()
        };
        Self::behaving(behaviour).await
    }

    /// A host that gives the certificates of this chip.
    pub async fn giving(collateral: Chip) -> Self {
        let behaviour = Behaviour {
            collateral,
            ..Behaviour::new()
        };
        Self::behaving(behaviour).await
    }

    /// A host that offers its platform as one of this kind.
    pub async fn offering(tee: Tee, backend: Backend) -> Self {
        let platform = PlatformOffer {
            tee,
            backend,
            ..Chip::new().offer()
        };
        let behaviour = Behaviour {
            platforms: vec![platform],
            ..Behaviour::new()
        };
        Self::behaving(behaviour).await
    }

    /// A host that behaves like this, with a Keep.
    pub async fn behaving(behaviour: Behaviour) -> Self {
        Self::start(behaviour, Chip::new(), Program::Echo, Misbehaviour::None).await
    }

    /// A host that behaves like this, whose Keeps are on this chip, run this program and play this trick.
    pub async fn start(
        behaviour: Behaviour,
        chip: Chip,
        program: Program,
        misbehaviour: Misbehaviour,
    ) -> Self {
        let keep = Key::generate().expect("a key");
        Self::start_with_key(behaviour, chip, program, misbehaviour, keep).await
    }

    /// A host whose Keeps have this key.
    pub async fn start_with_key(
        behaviour: Behaviour,
        chip: Chip,
        program: Program,
        misbehaviour: Misbehaviour,
        keep: Key,
    ) -> Self {
        let key = Key::generate().expect("a key");
        let certificate = certificate(&key);
        let pin = Hex(Sha256::digest(&certificate).into());
        let private = PrivatePkcs8KeyDer::from(key.to_pkcs8().expect("a key").to_vec());
        let mut config = ServerConfig::builder_with_provider(enarx_tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(private))
            .expect("a certificate and its key");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let log = Log::default();
        let guest = Guest {
            chip,
            key: keep,
            program,
            misbehaviour,
            log: log.clone(),
            rooms: Rooms::default(),
            cuts: Arc::default(),
            deaf: Arc::default(),
        };
        let numbered = behaviour.ready.iter().zip(1..);
        let open = numbered.map(|(waiting, number)| (*waiting, open(*waiting, number, &key)));
        let shared = Arc::new(Shared {
            open: open.collect(),
            key,
            relay: Mutex::new(behaviour.relay.clone()),
            behaviour,
            guest: Mutex::new(guest),
            log: log.clone(),
            contracts: Mutex::default(),
            first: Mutex::default(),
        });
        let served = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let shared = served;
            // No test needs as many.
            for number in 0..64 {
                let Ok((tcp, _)) = listener.accept().await else {
                    return;
                };
                shared.log.connection();
                let away = match shared.behaviour.manager {
                    Manager::SendsAway(heard, first) if number < first => Some(heard),
                    _ => None,
                };
                if away == Some(Heard::Nothing) {
                    // Closed with a reset.
                    let _ = tcp.set_zero_linger();
                    continue;
                }
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else {
                        return;
                    };
                    if away == Some(Heard::Handshake) {
                        return;
                    }
                    let served = Box::pin(shared.connection(stream));
                    let _ = tokio::time::timeout(Duration::from_hours(2), served).await;
                });
            }
        });
        let host = Self {
            log,
            address,
            pin,
            shared,
            task,
        };
        if let Misbehaviour::Cut(frames) = misbehaviour {
            host.cut([frames]);
        }
        host
    }

    /// Cuts the next connections to Keeps after so many frames.
    pub fn cut(&self, frames: impl IntoIterator<Item = usize>) {
        let guest = self.shared.guest();
        guest.cuts.lock().expect("a lock").extend(frames);
    }

    /// Has the next connections served by a Keep of this key with this trick.
    pub fn replace(&self, key: Key, misbehaviour: Misbehaviour) {
        let mut guest = self.shared.guest.lock().expect("a lock");
        guest.key = key;
        guest.misbehaviour = misbehaviour;
    }

    /// Has the next connections to Keeps passed on in this way.
    ///
    /// # Panics
    /// If a thread of the host has panicked.
    pub fn pass_on(&self, relay: Relay) {
        *self.shared.relay.lock().expect("a lock") = relay;
    }

    /// The number of contracts that its Keeps were asked for.
    ///
    /// # Panics
    /// If a thread of the host has panicked.
    pub fn contracts(&self) -> usize {
        self.shared.contracts.lock().expect("a lock").len()
    }

    /// The key of its Keeps.
    pub fn key(&self) -> Key {
        self.shared.guest().key
    }

    /// Ends the manager: no further connection is taken.
    pub fn close(&self) {
        self.task.abort();
    }

    /// The line for `enarx deploy --to`.
    pub fn to(&self) -> String {
        format!("https://{}#sha256={}", self.address, self.pin)
    }
}

/// A certificate of this key, of its own making.
fn certificate(key: &Key) -> CertificateDer<'static> {
    let point = key.public().spki()[26..].to_vec();
    let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    parameters.serial_number = Some(1u64.into());
    let certificate = parameters
        .self_signed(&Signer(key, point))
        .expect("a certificate");
    certificate.der().clone()
}

/// An open contract that fits the order of the agent's tests, except for the changes of `waiting`.
fn open(waiting: Waiting, number: u8, key: &Key) -> Contract {
    let offer = Chip::new().offer();
    let mut terms = Terms {
        version: enarx_contract::VERSION,
        id: Hex([number; 16]),
        host: enarx_contract::Host {
            key: key.public(),
            name: Name::new(NAME).expect("a name"),
        },
        tenant: enarx_contract::Tenant::Open,
        platform: Platform {
            tee: offer.tee,
            backend: offer.backend,
            product: offer.product.clone(),
            guest_policy: offer.guest_policy,
            min_tcb: Some(crate::chip::floor()),
        },
        image: Some(crate::chip::image()),
        resources: Resources {
            vcpus: 1,
            memory: MEMORY,
        },
        doors: Doors::default(),
        times: enarx_contract::Times {
            not_before: unix_seconds() - 300,
            not_after: unix_seconds() + 100_000,
            unprovisioned_seconds: 100_000,
            detached_seconds_max: 3600,
            runtime_seconds_max: RUNTIME,
        },
        class: Name::new("default").expect("a name"),
    };
    if let Waiting::With(change) = waiting {
        change(&mut terms);
    }
    Contract::new(terms).expect("a contract")
}

/// A request.
struct Request {
    line: String,
    head: String,
    body: Vec<u8>,
}

fn json(status: &str, document: &impl Serialize) -> Vec<u8> {
    let body = serde_json::to_vec(document).expect("a document");
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend(body);
    answer
}

fn problem(status: &str, code: &str) -> Vec<u8> {
    let number = status[..3].parse().expect("a number");
    json(
        status,
        &Problem {
            title: status.to_owned(),
            status: number,
            detail: "no\u{1b}[2J".to_owned(),
            code: code.to_owned(),
            expected: None,
            actual: None,
            fix: None,
        },
    )
}

impl Shared {
    fn guest(&self) -> Guest {
        self.guest.lock().expect("a lock").clone()
    }

    async fn request(&self, stream: &mut TlsStream<TcpStream>) -> Option<Request> {
        let mut bytes = Vec::new();
        let end = loop {
            let found = bytes.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(end) = found {
                break end + 4;
            }
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).await.ok()?;
            if count == 0 || bytes.len() > 64 << 10 {
                return None;
            }
            self.log.bytes(&chunk[..count]);
            bytes.extend_from_slice(&chunk[..count]);
        };
        let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        let mut body = bytes[end..].to_vec();
        while body.len() < length.unwrap_or(0) {
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).await.ok()?;
            if count == 0 {
                return None;
            }
            self.log.bytes(&chunk[..count]);
            body.extend_from_slice(&chunk[..count]);
        }
        let line = head.lines().next()?.to_owned();
        Some(Request { line, head, body })
    }

    async fn connection(&self, mut stream: TlsStream<TcpStream>) -> Option<()> {
        loop {
            let request = self.request(&mut stream).await?;
            let line = request.line.strip_suffix(" HTTP/1.1")?.to_owned();
            self.log.request(&line);
            let is_sent_away = matches!(
                self.behaviour.manager,
                Manager::SendsAway(Heard::Request, first) if self.log.count(&line) <= first
            );
            if let Some(id) = line
                .strip_prefix("GET /v1/keeps/")
                .and_then(|rest| rest.strip_suffix("/session"))
            {
                if is_sent_away {
                    return None;
                }
                let known = self.contracts.lock().expect("a lock").get(id).cloned();
                return Box::pin(self.session(stream, &request, known?)).await;
            }
            let answer = self.answer(&line, &request);
            if is_sent_away {
                return None;
            }
            if self.behaviour.manager == Manager::Slow {
                for byte in answer {
                    stream.write_all(&[byte]).await.ok()?;
                    stream.flush().await.ok()?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                continue;
            }
            if self.behaviour.manager == Manager::Endless {
                // The length is not known before the end.
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
                loop {
                    stream.write_all(&[b' '; 4096]).await.ok()?;
                }
            }
            stream.write_all(&answer).await.ok()?;
            stream.flush().await.ok()?;
            if matches!(self.behaviour.manager, Manager::Closes | Manager::Offer(_)) {
                stream.shutdown().await.ok()?;
                return Some(());
            }
        }
    }

    fn info(&self, contract: &Contract) -> KeepInfo {
        let ended = self.behaviour.manager == Manager::Ended || self.guest().has_ended(contract);
        let mut id = contract.keep_id();
        if self.behaviour.manager == Manager::OtherKeep {
            id.0[0] ^= 1;
        }
        KeepInfo {
            id,
            contract: *contract.digest(),
            state: if ended {
                KeepState::Ended
            } else {
                KeepState::Ready
            },
            reason: ended.then(|| "keep.died\n".to_owned()),
            code: None,
            created: 0,
            ended: None,
        }
    }

    fn answer(&self, line: &str, request: &Request) -> Vec<u8> {
        if !request.head.contains(&format!("Bearer {TOKEN}\r\n")) {
            return problem("401 Unauthorized", "token");
        }
        if line == "GET /v1/offer" {
            return match self.behaviour.manager {
                Manager::Offer(answer) => answer.as_bytes().to_vec(),
                _ => json("200 OK", &self.offer()),
            };
        }
        if line.starts_with("GET /v1/collateral/") {
            if self.behaviour.manager == Manager::NoCollateral {
                return problem("404 Not Found", "collateral");
            }
            return json("200 OK", &self.behaviour.collateral.collateral());
        }
        if line == "POST /v1/keeps" {
            let asked: NewKeep = serde_json::from_slice(&request.body).expect("a request");
            let contract = Contract::decode(&asked.contract.0).expect("a contract");
            let tenant = match (contract.terms().tenant, asked.tenant_key) {
                (enarx_contract::Tenant::Named(key), None)
                | (enarx_contract::Tenant::Open, Some(key)) => key,
                other => panic!("{other:?}"),
            };
            contract
                .verify_tenant(&tenant, &asked.tenant_signature)
                .expect("signed");
            let waiting = self.open.iter().find(|(_, open)| *open == contract);
            if let Some((Waiting::Refused(code), _)) = waiting {
                return problem("409 Conflict", code);
            }
            let key = if self.behaviour.manager == Manager::WrongSignature {
                &self.guest().key
            } else {
                &self.key
            };
            let input = signing_input(Side::Host, contract.digest());
            let answer = KeepAnswer {
                keep: self.info(&contract),
                host_signature: key.sign(&input).expect("a signature"),
                commit_us: Some(u64::MAX),
            };
            let mut first = self.first.lock().expect("a lock");
            first.get_or_insert_with(|| contract.clone());
            let id = contract.keep_id().to_string();
            let mut contracts = self.contracts.lock().expect("a lock");
            contracts.insert(id, contract);
            return json("201 Created", &answer);
        }
        let id = line
            .split_once("/v1/keeps/")
            .and_then(|(_, rest)| rest.split('?').next());
        let contracts = self.contracts.lock().expect("a lock");
        match id.and_then(|id| contracts.get(id)) {
            Some(_)
                if line.starts_with("DELETE ")
                    && self.behaviour.manager == Manager::EndsLate
                    && self.log.count("DELETE ") < 3 =>
            {
                problem("507 Insufficient Storage", "store.full")
            }
            Some(contract) if line.starts_with("DELETE ") => {
                json("202 Accepted", &self.info(contract))
            }
            Some(contract) => json("200 OK", &self.info(contract)),
            None => problem("404 Not Found", "keep"),
        }
    }

    fn offer(&self) -> Offer {
        Offer {
            version: VERSION,
            key: self.key.public(),
            name: Name::new(self.behaviour.name).expect("a name"),
            platforms: self.behaviour.platforms.clone(),
            limits: Limits {
                vcpus: 4,
                memory: MEMORY,
                keeps: 4,
                runtime_seconds_max: 3600,
                detached_seconds_max: 3600,
            },
            doors: Doors::default(),
            classes: Vec::new(),
            ready: self.open.iter().map(|open| self.ready(open)).collect(),
        }
    }

    fn ready(&self, (waiting, contract): &(Waiting, Contract)) -> Ready {
        let input = signing_input(Side::Host, contract.digest());
        let key = match waiting {
            Waiting::Unsigned => self.guest().key,
            _ => self.key.clone(),
        };
        Ready {
            contract: Base64(contract.bytes().to_vec()),
            host_signature: key.sign(&input).expect("a signature"),
            class: contract.terms().class.clone(),
        }
    }

    async fn session(
        &self,
        mut stream: TlsStream<TcpStream>,
        request: &Request,
        contract: Contract,
    ) -> Option<()> {
        const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: enarx-session\r\n\r\n";
        let head = request.head.to_ascii_lowercase();
        assert!(head.contains("\r\nupgrade: enarx-session\r\n"), "{head}");
        assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
        let relay = self.relay.lock().expect("a lock").clone();
        let say = match &relay {
            Relay::JunkWith101 => format!("{SWITCH}SSH-2.0-OpenSSH_9.2\r\n"),
            Relay::Status(answer) => (*answer).to_owned(),
            Relay::OtherProtocol => SWITCH.replace("enarx-session", "websocket"),
            _ => SWITCH.to_owned(),
        };
        stream.write_all(say.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        let guest = self.guest();
        match &relay {
            Relay::Honest => {
                let recorded = Recorded::new(stream, self.log.clone(), None);
                guest.serve(recorded, contract).await;
            }
            Relay::Flip(at) => {
                let recorded = Recorded::new(stream, self.log.clone(), Some(*at));
                guest.serve(recorded, contract).await;
            }
            Relay::Earlier => {
                let first = self.first.lock().expect("a lock").clone()?;
                let recorded = Recorded::new(stream, self.log.clone(), None);
                let unused = Guest {
                    rooms: Rooms::default(),
                    ..guest
                };
                unused.serve(recorded, first).await;
            }
            Relay::Foreign => {
                let mut terms = contract.terms().clone();
                terms.tenant = enarx_contract::Tenant::Named(self.key.public());
                let contract = Contract::new(terms).expect("a contract");
                let recorded = Recorded::new(stream, self.log.clone(), None);
                guest.serve(recorded, contract).await;
            }
            Relay::Between(key, stolen) => {
                let recorded = Recorded::new(stream, self.log.clone(), None);
                let (tenant, contract) = if let Some(stolen) = stolen {
                    (stolen.clone(), contract)
                } else {
                    let own = Key::generate().expect("a key");
                    let mut terms = contract.terms().clone();
                    terms.tenant = enarx_contract::Tenant::Named(own.public());
                    (own, Contract::new(terms).expect("a contract"))
                };
                relay_between(recorded, key.clone(), tenant, guest, contract).await;
            }
            Relay::JunkAfter101 => {
                let mut hello = [0; 4096];
                let count = stream.read(&mut hello).await.ok()?;
                self.log.bytes(&hello[..count]);
                stream.write_all(&[b'x'; 4096]).await.ok()?;
                stream.flush().await.ok()?;
                rest(stream, &self.log).await;
            }
            Relay::Drip { paused } => {
                // A handshake record that never becomes complete.
                if *paused {
                    tokio::time::pause();
                }
                stream.write_all(&[0x16, 3, 3, 0x10, 0]).await.ok()?;
                for _ in 0..1000 {
                    stream.flush().await.ok()?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    stream.write_all(&[2]).await.ok()?;
                }
            }
            Relay::Server(server) => {
                let recorded = Recorded::new(stream, self.log.clone(), None);
                match server {
                    Server::OtherAlpn | Server::NoAlpn | Server::Certificate => {
                        other_server(recorded, *server, &self.key).await;
                    }
                    Server::Tls12 | Server::OtherSuite | Server::OtherGroup => {
                        other_hello(recorded, *server).await;
                    }
                }
            }
            Relay::JunkWith101 | Relay::Status(_) | Relay::OtherProtocol => {
                rest(stream, &self.log).await;
            }
        }
        Some(())
    }
}

/// Writes down what still comes, up to the end.
async fn rest(mut stream: TlsStream<TcpStream>, log: &Log) {
    let mut chunk = [0; 4096];
    while let Ok(count) = stream.read(&mut chunk).await {
        if count == 0 {
            return;
        }
        log.bytes(&chunk[..count]);
    }
}

/// A verifier that takes any client's key, as that of a server that does not care.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// A TLS server with most of a Keep's profile.
async fn other_server(mut stream: Recorded, kind: Server, key: &Key) {
    use rustls::server::AlwaysResolvesServerRawPublicKeys;
    use rustls::sign::CertifiedKey;
    let provider = enarx_tls::provider();
    let private = || {
        let private = PrivatePkcs8KeyDer::from(key.to_pkcs8().expect("a key").to_vec());
        PrivateKeyDer::Pkcs8(private)
    };
    let signer = provider
        .key_provider
        .load_private_key(private())
        .expect("a key");
    let spki = CertificateDer::from(key.public().spki().to_vec());
    let certified = CertifiedKey::new(vec![spki], signer);
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(Arc::new(AnyClient));
    let mut config = if kind == Server::Certificate {
        builder
            .with_single_cert(vec![certificate(key)], private())
            .expect("a certificate and its key")
    } else {
        builder.with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::new(
            certified,
        ))))
    };
    config.alpn_protocols = match kind {
        Server::OtherAlpn => vec![b"enarx-session/2".to_vec()],
        Server::NoAlpn => Vec::new(),
        _ => vec![b"enarx-session/1".to_vec()],
    };
    let mut server = rustls::ServerConnection::new(Arc::new(config)).expect("TLS");
    let mut result = Ok(());
    while result.is_ok() {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.unwrap_or(0);
        if count == 0 {
            return;
        }
        server
            .read_tls(&mut &chunk[..count])
            .expect("there is room");
        result = server.process_new_packets().map(drop);
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).expect("there is room");
        }
        let _ = stream.write_all(&answer).await;
        let _ = stream.flush().await;
    }
}

/// Answers a ClientHello with a ServerHello (RFC 8446 section 4.1.3) that chooses something that was not offered.
async fn other_hello(mut stream: Recorded, kind: Server) {
    /// The random of a ServerHello that asks for another key share: SHA-256 of `HelloRetryRequest`.
    const RETRY: &[u8] = b"HelloRetryRequest";
    const TLS_AES_128_GCM_SHA256: [u8; 2] = [0x13, 0x01];
    const TLS_AES_256_GCM_SHA384: [u8; 2] = [0x13, 0x02];
    const ECDHE_ECDSA_AES_256_GCM_SHA384: [u8; 2] = [0xc0, 0x2c];
    const SUPPORTED_VERSIONS_1_3: [u8; 6] = [0x00, 0x2b, 0x00, 0x02, 0x03, 0x04];
    const KEY_SHARE_X25519: [u8; 6] = [0x00, 0x33, 0x00, 0x02, 0x00, 0x1d];
    // Headers of record and handshake, version and random precede the session id, with its length.
    const SESSION: usize = 5 + 4 + 2 + 32;
    let mut hello = [0; 4096];
    let count = stream.read(&mut hello).await.unwrap_or(0);
    if count <= SESSION {
        return;
    }
    let name = &hello[SESSION..=SESSION + usize::from(hello[SESSION])];
    let (suite, extensions) = match kind {
        Server::Tls12 => (ECDHE_ECDSA_AES_256_GCM_SHA384, Vec::new()),
        Server::OtherSuite => (TLS_AES_128_GCM_SHA256, SUPPORTED_VERSIONS_1_3.to_vec()),
        _ => (
            TLS_AES_256_GCM_SHA384,
            [SUPPORTED_VERSIONS_1_3, KEY_SHARE_X25519].concat(),
        ),
    };
    let mut random: [u8; 32] = [7; 32];
    if kind == Server::OtherGroup {
        random = Sha256::digest(RETRY).into();
    }
    let mut body = [&[3, 3][..], &random, name, &suite, &[0]].concat();
    if !extensions.is_empty() {
        let length = u16::try_from(extensions.len()).expect("a few bytes");
        body.extend(length.to_be_bytes());
        body.extend(extensions);
    }
    let length = u16::try_from(body.len()).expect("a few bytes");
    let message = [&[2, 0][..], &length.to_be_bytes(), &body].concat();
    let record = [&[22, 3, 3][..], &(length + 4).to_be_bytes(), &message].concat();
    let _ = stream.write_all(&record).await;
    let _ = stream.flush().await;
    // The alert, and the end.
    while stream.read(&mut hello).await.unwrap_or(0) > 0 {}
}

/// A relay that records the tenant's bytes, and may flip a bit of the Keep's.
pub struct Recorded {
    stream: TlsStream<TcpStream>,
    log: Log,
    flip: Option<usize>,
    sent: usize,
}

impl Recorded {
    fn new(stream: TlsStream<TcpStream>, log: Log, flip: Option<usize>) -> Self {
        Self {
            stream,
            log,
            flip,
            sent: 0,
        }
    }
}

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.log.bytes(&buffer.filled()[before..]);
        result
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let mut bytes = bytes.to_vec();
        if let Some(at) = self.flip
            && let Some(byte) = at.checked_sub(self.sent).and_then(|at| bytes.get_mut(at))
        {
            *byte ^= 1;
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, &bytes);
        if let Poll::Ready(Ok(count)) = result {
            self.sent += count;
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
