// SPDX-License-Identifier: Apache-2.0

//! Ordinary TLS 1.3 with certificates, for the application of a Keep: a server that shows a certificate, and a client that
//! checks one by its name and its issuer. No input and output, no files, no clock of its own.
//!
//! Nothing here proves to a peer that it talks to a Keep: certificates only contain their issuer's
//! statement. The host carries the bytes and can end a connection, but cannot read or change them.

mod error;
mod key;
mod session;

use crate::provider;
use key::PrivateKey;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, Error, RootCertStore, ServerConfig, ServerConnection,
};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use error::WebError;
pub use session::Session;

/// The name of HTTP/2 in ALPN (RFC 9113, section 3.2).
pub const HTTP2: &[u8] = b"h2";
/// The name of HTTP/1.1 in ALPN (RFC 7301, section 6).
pub const HTTP1: &[u8] = b"http/1.1";

/// The time since the UNIX epoch; `None` when it is not known, and then no certificate is accepted.
pub type Clock = Arc<dyn Fn() -> Option<Duration> + Send + Sync>;

/// The issuers that are readable.
fn roots<'a>(issuers: impl Iterator<Item = &'a [u8]>) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(issuers.map(CertificateDer::from));
    Arc::new(roots)
}

fn protocols(names: &[&[u8]]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.to_vec()).collect()
}

/// The servers' end: a certificate, and its private key.
#[derive(Clone, Debug)]
pub struct Server(Arc<ServerConfig>);

/// The clients whom a server asks for certificates.
#[derive(Clone)]
pub struct Clients<'a> {
    /// Issuers whose certificates are accepted, in DER. Unreadable ones are skipped.
    pub issuers: &'a [&'a [u8]],
    /// A client without a certificate is refused.
    pub required: bool,
    /// The time by which certificates are judged.
    pub clock: Clock,
}

/// The key of a certificate, and the chain that begins with it.
fn certified(chain: &[&[u8]], key: &[u8]) -> Result<CertifiedKey, WebError> {
    let key = PrivateKey::from_der(key).ok_or(WebError::Key)?;
    let chain = chain.iter();
    let chain = chain
        .map(|der| CertificateDer::from(der.to_vec()))
        .collect();
    let certified = CertifiedKey::new(chain, Arc::new(key));
    certified.keys_match().map_err(|error| match error {
        Error::InconsistentKeys(_) => WebError::Pair,
        _ => WebError::Chain,
    })?;
    Ok(certified)
}

impl Server {
    /// A server with a chain of certificates, its own first, and its private key; all of it DER. It offers these protocols,
    /// the first one that the client has, too. A client that names none has none. The caller wipes the key.
    ///
    /// # Errors
    /// [`WebError::Chain`], [`WebError::Key`], [`WebError::Pair`]; [`WebError::Tls`] if the CPU lacks
    /// required features.
    pub fn new(chain: &[&[u8]], key: &[u8], offered: &[&[u8]]) -> Result<Self, WebError> {
        Self::build(chain, key, offered, None)
    }

    /// The same, which asks its clients for certificates.
    ///
    /// # Errors
    /// As [`Self::new`]; [`WebError::NoIssuers`] if no issuer of them is readable.
    pub fn asking(
        chain: &[&[u8]],
        key: &[u8],
        offered: &[&[u8]],
        clients: &Clients<'_>,
    ) -> Result<Self, WebError> {
        Self::build(chain, key, offered, Some(clients))
    }

    fn build(
        chain: &[&[u8]],
        key: &[u8],
        offered: &[&[u8]],
        clients: Option<&Clients<'_>>,
    ) -> Result<Self, WebError> {
        let provider = provider::web()?;
        let certified = certified(chain, key)?;
        let (verifier, clock) = match clients {
            None => (WebPkiClientVerifier::no_client_auth(), None),
            Some(clients) => {
                let roots = roots(clients.issuers.iter().copied());
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
                let verifier = if clients.required {
                    verifier
                } else {
                    verifier.allow_unauthenticated()
                };
                let verifier = verifier.build().map_err(|_| WebError::NoIssuers)?;
                (verifier, Some(Arc::clone(&clients.clock)))
            }
        };
        // Without clients to judge, no time is asked for.
        let clock = clock.unwrap_or_else(|| Arc::new(|| None));
        let mut config = ServerConfig::builder_with_details(provider, Arc::new(Time(clock)))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| WebError::protocol(&error))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = protocols(offered);
        // Nothing of one connection is kept for another.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(Arc::new(config)))
    }

    /// The server's end of a connection.
    ///
    /// # Errors
    /// [`WebError::Protocol`] when the TLS library makes none.
    pub fn accept(&self) -> Result<Session, WebError> {
        let tls = ServerConnection::new(Arc::clone(&self.0));
        let tls = tls.map_err(|error| WebError::protocol(&error))?;
        Ok(Session::new(tls.into()))
    }
}

/// The clients' end: the issuers whose certificates are accepted.
#[derive(Clone, Debug)]
pub struct Client(Arc<ClientConfig>);

impl Client {
    /// A client that accepts certificates that these issuers vouch for (DER), at the time that `clock`
    /// tells. Unreadable issuers are skipped: no certificate of theirs is accepted.
    ///
    /// # Errors
    /// [`WebError::NoIssuers`] if none is left; [`WebError::Tls`] if the CPU lacks required features.
    pub fn new<'a>(
        issuers: impl Iterator<Item = &'a [u8]>,
        offered: &[&[u8]],
        clock: Clock,
    ) -> Result<Self, WebError> {
        let provider = provider::web()?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots(issuers), Arc::clone(&provider));
        let verifier = verifier.build().map_err(|_| WebError::NoIssuers)?;
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(Time(clock)))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| WebError::protocol(&error))?
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = protocols(offered);
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// The same client, which shows this identity to a server that asks for one: a chain of certificates, its own first, and
    /// its private key; all of it DER. The caller wipes the key.
    ///
    /// # Errors
    /// [`WebError::Chain`], [`WebError::Key`], [`WebError::Pair`].
    pub fn showing(mut self, chain: &[&[u8]], key: &[u8]) -> Result<Self, WebError> {
        let identity = SingleCertAndKey::from(certified(chain, key)?);
        Arc::make_mut(&mut self.0).client_auth_cert_resolver = Arc::new(identity);
        Ok(self)
    }

    /// The client's end of a connection to a server of this name, or address. Its first bytes are ready.
    ///
    /// # Errors
    /// [`WebError::Name`]; [`WebError::Protocol`] when the TLS library makes none.
    pub fn connect(&self, name: &str) -> Result<Session, WebError> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| WebError::Name)?;
        let tls = ClientConnection::new(Arc::clone(&self.0), name);
        let tls = tls.map_err(|error| WebError::protocol(&error))?;
        Ok(Session::new(tls.into()))
    }
}

/// The caller's clock, as rustls reads it.
struct Time(Clock);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        (self.0)().map(UnixTime::since_unix_epoch)
    }
}
