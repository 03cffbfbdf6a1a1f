// SPDX-License-Identifier: Apache-2.0

//! One end of a connection, without input and output. The peer is not trusted until its key was checked, and the host
//! that carries the bytes never is: all it can do is end the connection.

use crate::key::ConnectionKey;
use crate::peer::{self, Admits, AnyKeep, Tenant};
use crate::records::{Records, Refused};
use crate::{Fault, Key, TlsError, provider};
use enarx_contract::PublicKey;
use enarx_session::binding::Exporter;
use enarx_session::{ALPN, EXPORTER_LABEL};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, ServerConfig,
    ServerConnection,
};
use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Most bytes that a connection keeps for its peer. A little more are kept once they are encrypted: 22 bytes for each record.
/// It keeps less than 64 KiB of the bytes that the peer sends.
pub const MAX_BUFFERED: usize = 256 << 10;

/// Most bytes that a handshake takes from the peer. The profile needs less than 2 KiB; up to 4 KiB more may have been
/// taken when the connection ends.
pub const MAX_HANDSHAKE: usize = 16 << 10;

/// A name for a configuration that requires one; it is not sent (RFC 6761, section 6.4).
const NAME: &str = "keep.invalid";

/// The facts that a completed handshake binds. Taken from the own connection, never from a peer's data.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The key of this end.
    pub own: PublicKey,
    /// The key of the other end.
    pub peer: PublicKey,
    /// The keying material of this connection (RFC 9266).
    pub exporter: Exporter,
}

/// One end of the connection: bytes in, bytes out.
pub struct Connection {
    records: Records,
    key: ConnectionKey,
    facts: Option<Facts>,
    /// Some plaintext has come, so the other end has completed the handshake too.
    heard: bool,
    failure: Option<TlsError>,
}

impl Connection {
    /// The tenant's end. Its first bytes are ready.
    ///
    /// # Errors
    /// [`TlsError::Cpu`]; [`TlsError::Handshake`] when the TLS library does not take the profile, or has no random numbers.
    pub fn tenant(key: &Key) -> Result<Self, TlsError> {
        let provider = provider::session()?;
        let key = ConnectionKey::new(key);
        let resolver = AlwaysResolvesClientRawPublicKeys::new(certified(&key));
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(NoClock))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| TlsError::handshake(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyKeep))
            .with_client_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.enable_early_data = false;
        let name = ServerName::try_from(NAME).map_err(|error| TlsError::handshake(&error))?;
        let tls = ClientConnection::new(Arc::new(config), name)
            .map_err(|error| TlsError::handshake(&error))?;
        Ok(Self::new(tls.into(), key))
    }

    /// The Keep's end, for a tenant whose key `admits` says true of.
    ///
    /// # Errors
    /// [`TlsError::Cpu`]; [`TlsError::Handshake`] when the TLS library does not take the profile.
    pub fn keep(
        key: &Key,
        admits: Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>,
    ) -> Result<Self, TlsError> {
        let provider = provider::session()?;
        let key = ConnectionKey::new(key);
        let admits: Admits = admits;
        let resolver = AlwaysResolvesServerRawPublicKeys::new(certified(&key));
        let mut config = ServerConfig::builder_with_details(provider, Arc::new(NoClock))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| TlsError::handshake(&error))?
            .with_client_cert_verifier(Arc::new(Tenant(admits)))
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        let tls =
            ServerConnection::new(Arc::new(config)).map_err(|error| TlsError::handshake(&error))?;
        Ok(Self::new(tls.into(), key))
    }

    fn new(tls: rustls::Connection, key: ConnectionKey) -> Self {
        Self {
            records: Records::new(tls, MAX_BUFFERED, MAX_HANDSHAKE),
            key,
            facts: None,
            heard: false,
            failure: None,
        }
    }

    /// Takes bytes of the peer from the front of `input`, as many as there is room for: none while [`Self::read`] has
    /// something to give. Bytes after the peer's close_notify are ignored.
    ///
    /// # Errors
    /// Why the connection is over: [`TlsError::Handshake`], [`TlsError::Alpn`], [`TlsError::Exporter`],
    /// [`TlsError::Tenant`], [`TlsError::Record`]; again at each later call. An alert for the peer may be among the
    /// outgoing bytes.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<(), TlsError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let result = self.take(input);
        if let Err(failure) = &result {
            self.failure = Some(failure.clone());
            // Nothing when the library has sent an alert already.
            self.records.tls.send_close_notify();
        }
        result
    }

    fn take(&mut self, input: &mut &[u8]) -> Result<(), TlsError> {
        loop {
            let goes_on = self.records.take(input).map_err(|refused| match refused {
                Refused::Library(error) => self.refusal(&error),
                Refused::Unreadable(error) => self.fault(Fault::library(&error)),
                Refused::Endless => self.fault(Fault::Endless),
            })?;
            if !goes_on {
                return Ok(());
            }
            if self.facts.is_none() && !self.records.tls.is_handshaking() {
                self.facts = Some(self.settle()?);
            }
            self.heard |= self.records.readable() > 0;
        }
    }

    /// The checks of a completed handshake.
    fn settle(&self) -> Result<Facts, TlsError> {
        if self.records.tls.alpn_protocol() != Some(ALPN) {
            return Err(TlsError::Alpn);
        }
        if !self.key.has_signed() {
            return Err(TlsError::Handshake(Fault::NotAsked));
        }
        let (peer, others) = self
            .records
            .tls
            .peer_certificates()
            .and_then(<[_]>::split_first)
            .ok_or(TlsError::Handshake(Fault::NoKey))?;
        let peer = peer::key(peer, others).map_err(|error| TlsError::handshake(&error))?;
        let mut material = Zeroizing::new([0; 32]);
        self.records
            .tls
            .export_keying_material(&mut material[..], EXPORTER_LABEL, Some(b""))
            .map_err(|_| TlsError::Exporter)?;
        Ok(Facts {
            own: self.key.public(),
            peer,
            exporter: Exporter::new(*material).map_err(|_| TlsError::Exporter)?,
        })
    }

    /// The name of the library's error.
    fn refusal(&self, error: &Error) -> TlsError {
        match error {
            Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
                TlsError::Tenant
            }
            // So a Keep refuses a key.
            Error::AlertReceived(AlertDescription::AccessDenied) if !self.is_keep() => {
                TlsError::Tenant
            }
            Error::NoApplicationProtocol
            | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => TlsError::Alpn,
            other => self.fault(other.into()),
        }
    }

    /// A fault of the other end, in the handshake or after it. A client is done with the handshake before the server has
    /// seen its key, so for the tenant it lasts until the Keep has said something.
    fn fault(&self, fault: Fault) -> TlsError {
        if self.heard || (self.is_keep() && self.facts.is_some()) {
            TlsError::Record(fault)
        } else {
            TlsError::Handshake(fault)
        }
    }

    fn is_keep(&self) -> bool {
        matches!(self.records.tls, rustls::Connection::Server(_))
    }

    /// Moves received plaintext to `buffer` and returns how many bytes; 0: none now.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        if self.facts.is_none() {
            return 0;
        }
        // It fails when there is nothing, which is no failure here.
        let count = self.records.tls.reader().read(buffer).unwrap_or(0);
        self.records.has_read(count);
        count
    }

    /// Takes plaintext for the peer and returns how many bytes, as many as there is room for. 0 before the handshake is
    /// complete and after the end of the connection.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        if self.facts.is_none() || self.failure.is_some() {
            return 0;
        }
        self.records.write(bytes)
    }

    /// Moves bytes for the peer to `buffer` and returns how many; 0: none.
    pub fn outgoing(&mut self, buffer: &mut [u8]) -> usize {
        let length = buffer.len();
        let mut rest = buffer;
        self.records.give(&mut rest);
        length - rest.len()
    }

    /// True if there are bytes for the peer.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        self.records.tls.wants_write()
    }

    /// The facts of the connection; `None` until the handshake is complete, and ALPN and exporter were checked. They stay
    /// when the connection ends.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref()
    }

    /// Tells the peer that this end is done. Bytes that were written before are still sent.
    pub fn close(&mut self) {
        self.records.close();
    }

    /// True if the peer has said that nothing more comes: then all that it wrote has been received. A connection that ends
    /// otherwise was cut.
    #[must_use]
    pub fn is_closed_by_peer(&self) -> bool {
        self.facts.is_some() && self.records.is_closed_by_peer()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("facts", &self.facts)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

/// The key of this end, as rustls takes it: in place of a certificate.
fn certified(key: &ConnectionKey) -> Arc<CertifiedKey> {
    let spki = CertificateDer::from(key.public().spki().to_vec());
    Arc::new(CertifiedKey::new(vec![spki], Arc::new(key.clone())))
}

/// A stopped clock. rustls asks for the time before it checks keys; raw keys have no validity period, and the Keep has
/// no clock that it could trust.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::ZERO))
    }
}
