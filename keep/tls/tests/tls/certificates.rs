// SPDX-License-Identifier: Apache-2.0

//! Ordinary TLS, against an independent peer: rustls over AWS-LC.

use enarx_tls::web::{Client, Clients, Clock, HTTP1, HTTP2, Server, Session, WebError};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SignatureAlgorithm, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Connection, Error, RootCertStore,
    ServerConfig, ServerConnection, SupportedProtocolVersion,
};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

/// 1 June 2026, in seconds since the epoch.
const NOW: u64 = 1_780_272_000;

/// An issuer.
struct Authority {
    certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap().der().to_vec();
        Self {
            certificate,
            issuer: Issuer::new(parameters, key),
        }
    }

    /// A certificate for a name, valid in these years, and its private key (PKCS #8).
    fn certify(
        &self,
        name: &str,
        algorithm: &'static SignatureAlgorithm,
        years: (i32, i32),
    ) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.not_before = date_time_ymd(years.0, 1, 1);
        parameters.not_after = date_time_ymd(years.1, 1, 1);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().to_vec(), key.serialize_der())
    }
}

/// A client of ours, with a clock.
fn client(issuers: &[&[u8]], now: Option<u64>) -> Result<Client, WebError> {
    let clock: Clock = Arc::new(move || now.map(Duration::from_secs));
    Client::new(issuers.iter().copied(), &[HTTP1], clock)
}

/// An independent client, which accepts what `root` has issued.
fn independent_client(root: &[u8], offered: &[&[u8]], name: &str) -> Connection {
    independent_client_with(root, offered, name, None)
}

/// The same, which sends a certificate if requested.
fn independent_client_with(
    root: &[u8],
    offered: &[&[u8]],
    name: &str,
    shown: Option<&(Vec<u8>, Vec<u8>)>,
) -> Connection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(root.to_vec())).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS12, &TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from(certificate.clone())];
            let key = PrivatePkcs8KeyDer::from(key.clone());
            config.with_client_auth_cert(chain, key.into()).unwrap()
        }
    };
    config.alpn_protocols = offered.iter().map(|it| it.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    client.into()
}

/// An independent server; with `asks`, for clients that send a certificate of that issuer.
fn independent_server(
    (certificate, key): &(Vec<u8>, Vec<u8>),
    versions: &[&'static SupportedProtocolVersion],
    asks: Option<&Authority>,
) -> Connection {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap();
    let config = match asks {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from(authority.certificate.clone());
            roots.add(root).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from(certificate.clone())];
    let key = PrivatePkcs8KeyDer::from(key.clone());
    let mut config = config.with_single_cert(chain, key.into()).unwrap();
    config.alpn_protocols = vec![HTTP1.to_vec()];
    ServerConnection::new(Arc::new(config)).unwrap().into()
}

/// Forwards bytes until neither has any; the errors of both.
fn pass(ours: &mut Session, other: &mut Connection) -> (Option<WebError>, Option<Error>) {
    let (mut our_error, mut other_error) = (None, None);
    loop {
        let mut to_other = Vec::new();
        ours.outgoing(&mut to_other);
        let mut to_us = Vec::new();
        while other.wants_write() {
            other.write_tls(&mut to_us).unwrap();
        }
        if to_other.is_empty() && to_us.is_empty() {
            return (our_error, other_error);
        }
        let mut rest = to_other.as_slice();
        while !rest.is_empty() && other_error.is_none() {
            other.read_tls(&mut rest).unwrap();
            other_error = other.process_new_packets().err();
        }
        let mut rest = to_us.as_slice();
        while !rest.is_empty() && our_error.is_none() {
            let before = rest.len();
            our_error = ours.receive(&mut rest).err();
            if rest.len() == before {
                break;
            }
        }
    }
}

/// Both ends send in both directions.
fn talk(ours: &mut Session, other: &mut Connection) {
    let sent: Vec<u8> = (0..251).cycle().take(40_000).collect();
    assert_eq!(pass(ours, other), (None, None));
    assert!(!ours.is_handshaking());
    let mut received = Vec::new();
    let mut at = 0;
    while received.len() < sent.len() {
        // The other end buffers no more than a record.
        let end = sent.len().min(at + 10_000);
        at += ours.write(&sent[at..end]);
        assert_eq!(pass(ours, other), (None, None));
        let mut piece = vec![0; sent.len()];
        let count = other.reader().read(&mut piece).unwrap_or(0);
        received.extend_from_slice(&piece[..count]);
    }
    assert!(received == sent);
    other.writer().write_all(b"and back").unwrap();
    other.send_close_notify();
    assert_eq!(pass(ours, other), (None, None));
    assert_eq!(ours.plaintext(), b"and back");
    ours.consume(4);
    assert_eq!(ours.plaintext(), b"back");
    ours.consume(4);
    assert!(ours.plaintext().is_empty() && ours.is_closed_by_peer());
    ours.close();
    assert_eq!(ours.write(b"late"), 0);
    assert_eq!(pass(ours, other), (None, None));
}

#[test]
fn a_server_has_keys_of_every_kind() {
    let authority = Authority::new();
    let kinds = [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ];
    for kind in kinds {
        let (certificate, key) = authority.certify("host.example", kind, (2020, 2030));
        let chain = [&*certificate, &*authority.certificate];
        let server = Server::new(&chain, &key, &[HTTP2, HTTP1]).unwrap();
        for (offered, agreed) in [
            (&[HTTP2, HTTP1][..], Some(HTTP2)),
            (&[HTTP1], Some(HTTP1)),
            (&[], None),
        ] {
            let mut ours = server.accept().unwrap();
            let mut other = independent_client(&authority.certificate, offered, "host.example");
            talk(&mut ours, &mut other);
            assert_eq!((ours.protocol(), other.alpn_protocol()), (agreed, agreed));
            assert_eq!(
                other.protocol_version(),
                Some(rustls::ProtocolVersion::TLSv1_3)
            );
        }
    }
}

#[test]
fn a_server_judges_clients_that_it_asks_for_certificates() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let kind = &rcgen::PKCS_ECDSA_P256_SHA256;
    let own = authority.certify("host.example", kind, (2020, 2030));
    let good = authority.certify("client.example", kind, (2020, 2030));
    let expired = authority.certify("client.example", kind, (2020, 2026));
    let foreign = stranger.certify("client.example", kind, (2020, 2030));
    for (required, shown, now, accepted) in [
        (true, Some(&good), Some(NOW), true),
        (false, Some(&good), Some(NOW), true),
        (false, None, Some(NOW), true),
        (true, None, Some(NOW), false),
        (true, Some(&expired), Some(NOW), false),
        (false, Some(&expired), Some(NOW), false),
        (false, Some(&foreign), Some(NOW), false),
        // Without a clock no certificate is valid.
        (true, Some(&good), None, false),
    ] {
        let clients = Clients {
            issuers: &[b"not readable", &authority.certificate],
            required,
            clock: Arc::new(move || now.map(Duration::from_secs)),
        };
        let server = Server::asking(&[&own.0], &own.1, &[], &clients).unwrap();
        let mut ours = server.accept().unwrap();
        let root = &authority.certificate;
        let mut other = independent_client_with(root, &[], "host.example", shown);
        if accepted {
            talk(&mut ours, &mut other);
        } else {
            let (our_error, other_error) = pass(&mut ours, &mut other);
            assert!(our_error.is_some(), "{required} {now:?}");
            // The other end does not learn that there is no clock.
            assert_eq!(other_error.is_some(), now.is_some(), "{our_error:?}");
            assert!(ours.is_handshaking(), "{our_error:?}");
        }
    }
    let none = Clients {
        issuers: &[b"not readable"],
        required: true,
        clock: Arc::new(|| None),
    };
    let refusal = Server::asking(&[&own.0], &own.1, &[], &none).unwrap_err();
    assert_eq!(refusal, WebError::NoIssuers);
}

#[test]
fn a_client_shows_its_certificate_to_a_server_that_asks() {
    let authority = Authority::new();
    let kind = &rcgen::PKCS_ECDSA_P256_SHA256;
    let own = authority.certify("client.example", kind, (2020, 2030));
    let (_, other) = authority.certify("client.example", kind, (2020, 2030));
    let host = authority.certify("host.example", kind, (2020, 2030));
    let silent = client(&[&authority.certificate], Some(NOW)).unwrap();
    let showing = silent.clone().showing(&[&own.0], &own.1).unwrap();
    assert_eq!(
        silent.clone().showing(&[&own.0], &other).unwrap_err(),
        WebError::Pair
    );
    for (ours, accepted) in [(showing, true), (silent, false)] {
        let mut session = ours.connect("host.example").unwrap();
        let mut server = independent_server(&host, &[&TLS13], Some(&authority));
        let (_, refused) = pass(&mut session, &mut server);
        assert_eq!(refused.is_none(), accepted, "{refused:?}");
    }
}

#[test]
fn an_invalid_identity_is_refused() {
    let authority = Authority::new();
    let kind = &rcgen::PKCS_ECDSA_P256_SHA256;
    let (certificate, key) = authority.certify("host.example", kind, (2020, 2030));
    let (_, other) = authority.certify("host.example", kind, (2020, 2030));
    let refusal = |chain: &[&[u8]], key: &[u8]| Server::new(chain, key, &[]).unwrap_err();
    assert_eq!(refusal(&[&certificate], &other), WebError::Pair);
    assert_eq!(
        refusal(&[&authority.certificate, &certificate], &key),
        WebError::Pair
    );
    assert_eq!(refusal(&[&certificate], &certificate), WebError::Key);
    assert_eq!(
        refusal(&[&certificate], &key[..key.len() - 1]),
        WebError::Key
    );
    assert_eq!(refusal(&[&certificate], &[]), WebError::Key);
    assert_eq!(refusal(&[b"no certificate"], &key), WebError::Chain);
    assert_eq!(refusal(&[], &key), WebError::Chain);
    assert_eq!(WebError::Pair.code(), "tls.pair");
}

#[test]
fn a_client_checks_issuer_name_and_time() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let kind = &rcgen::PKCS_ECDSA_P256_SHA256;
    let good = authority.certify("host.example", kind, (2020, 2030));
    let expired = authority.certify("host.example", kind, (2020, 2026));
    let early = authority.certify("host.example", kind, (2027, 2030));
    let address = authority.certify("127.0.0.1", kind, (2020, 2030));
    let foreign = stranger.certify("host.example", kind, (2020, 2030));
    let ours = client(&[b"not readable", &authority.certificate], Some(NOW)).unwrap();
    for (identity, name, accepted) in [
        (&good, "host.example", true),
        (&good, "other.example", false),
        (&good, "127.0.0.1", false),
        (&address, "127.0.0.1", true),
        (&address, "127.0.0.2", false),
        (&expired, "host.example", false),
        (&early, "host.example", false),
        (&foreign, "host.example", false),
    ] {
        let mut session = ours.connect(name).unwrap();
        let mut server = independent_server(identity, &[&TLS13], None);
        if accepted {
            talk(&mut session, &mut server);
            continue;
        }
        let (our_error, other_error) = pass(&mut session, &mut server);
        assert!(
            matches!(our_error, Some(WebError::Untrusted(_))),
            "{our_error:?}"
        );
        // The server is informed.
        assert!(
            matches!(other_error, Some(Error::AlertReceived(_))),
            "{other_error:?}"
        );
        assert_eq!(session.write(b"secret"), 0);
    }
    // Nothing is trusted without a clock, and without issuers.
    let blind = client(&[&authority.certificate], None).unwrap();
    let mut session = blind.connect("host.example").unwrap();
    let mut server = independent_server(&good, &[&TLS13], None);
    let (error, _) = pass(&mut session, &mut server);
    assert!(error.is_some() && session.write(b"secret") == 0);
    assert_eq!(client(&[], Some(NOW)).unwrap_err(), WebError::NoIssuers);
    assert_eq!(
        client(&[b"none"], Some(NOW)).unwrap_err(),
        WebError::NoIssuers
    );
    assert_eq!(ours.connect("no name").unwrap_err(), WebError::Name);
}

#[test]
fn refusing_and_untrusted_servers_are_distinguished() {
    let authority = Authority::new();
    let kind = &rcgen::PKCS_ECDSA_P256_SHA256;
    let good = authority.certify("host.example", kind, (2020, 2030));
    let ours = client(&[&authority.certificate], Some(NOW)).unwrap();
    // One that speaks an older version.
    let mut session = ours.connect("host.example").unwrap();
    let mut server = independent_server(&good, &[&TLS12], None);
    let (error, _) = pass(&mut session, &mut server);
    let alert = AlertDescription::ProtocolVersion.into();
    assert_eq!(error, Some(WebError::Alert(alert)));
    // One that requires a certificate, and says so after the handshake.
    let mut session = ours.connect("host.example").unwrap();
    let mut server = independent_server(&good, &[&TLS13], Some(&authority));
    let (error, _) = pass(&mut session, &mut server);
    let alert = AlertDescription::CertificateRequired.into();
    assert_eq!(error, Some(WebError::Alert(alert)));
    // One without TLS; the error stays.
    let mut session = ours.connect("host.example").unwrap();
    for _ in 0..2 {
        let error = session.receive(&mut &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]);
        assert!(matches!(error, Err(WebError::Protocol(_))), "{error:?}");
    }
}

#[test]
fn a_peer_that_completes_no_message_is_given_up() {
    let authority = Authority::new();
    let (certificate, key) =
        authority.certify("host.example", &rcgen::PKCS_ECDSA_P256_SHA256, (2020, 2030));
    let server = Server::new(&[&certificate], &key, &[HTTP1]).unwrap();
    // A handshake message that is announced and never complete.
    let mut session = server.accept().unwrap();
    let mut record = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
    record.resize(5 + 0x4000, 0);
    let mut taken = 0;
    let error = loop {
        if let Err(error) = session.receive(&mut record.as_slice()) {
            break error;
        }
        taken += record.len();
        assert!(taken < 1 << 20, "it goes on without end");
    };
    assert!(matches!(error, WebError::Protocol(_)), "{error:?}");
    // Empty records after the handshake, any number of them.
    let mut session = server.accept().unwrap();
    let mut other = independent_client(&authority.certificate, &[HTTP1], "host.example");
    assert_eq!(pass(&mut session, &mut other), (None, None));
    let mut count = 0;
    let error = loop {
        other.refresh_traffic_keys().unwrap();
        let (error, _) = pass(&mut session, &mut other);
        if let Some(error) = error {
            break error;
        }
        count += 1;
        assert!(count < 100_000, "it goes on without end");
    };
    assert!(matches!(error, WebError::Protocol(_)), "{error:?}");
}

#[test]
fn flipped_bits_end_a_connection() {
    let authority = Authority::new();
    let (certificate, key) =
        authority.certify("host.example", &rcgen::PKCS_ECDSA_P256_SHA256, (2020, 2030));
    let server = Server::new(&[&certificate], &key, &[HTTP1]).unwrap();
    let mut session = server.accept().unwrap();
    let mut other = independent_client(&authority.certificate, &[HTTP1], "host.example");
    assert_eq!(pass(&mut session, &mut other), (None, None));
    other.writer().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    other.write_tls(&mut bytes).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let error = session.receive(&mut bytes.as_slice());
    assert!(matches!(error, Err(WebError::Protocol(_))), "{error:?}");
    assert!(session.plaintext().is_empty());
}
